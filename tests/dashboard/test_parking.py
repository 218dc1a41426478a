"""Parking over HTTP: who may see what, masked plates, statements, misread exits, bindings."""

from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import httpx
import pytest

from devices.parking import flow, store
from devices.parking.session import Passage
from devices.store import read_device
from dispatch.notice import make_token
from kernel.db import Database
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, open_incident, put_device

AREA = STREET_A + "001"


class Lot:
    """A lot in street A with one gate, and cars that drive through it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.began = now() - timedelta(hours=6)
        with database.transaction() as connection:
            put_device(connection, "gate-1", "parking_gate", AREA)
            self.gate = read_device(connection, "gate-1")
            self.lot = store.make_lots(connection, {("P1", AREA): self.gate}, self.began)["P1", AREA]

    def drive(self, direction: Literal["in", "out"], plate: str, minute: float, paid: str | None = None) -> None:
        at = self.began + timedelta(minutes=minute)
        passage = Passage(id=uuid4(), device_id=self.gate.id, direction=direction, plate=plate, at=at, paid=paid)
        with self.database.transaction() as connection:
            flow.take_passages(connection, self.lot, [passage], now())


@pytest.fixture
def lot(database: Database) -> Lot:
    return Lot(database)


def priced(engineer: httpx.Client, lot: Lot) -> None:
    """From the start on, as no board would do it: the test's stays began before this call."""
    body = {
        "name": "天水停车场",
        "bays_total": 20,
        "tariff": {"free_min": 0, "fen_per_hour": 500, "daily_cap_fen": 3000},
    }
    assert engineer.patch(f"/api/v1/parking/lots/{lot.lot.id}", json=body).status_code == 200
    with lot.database.transaction() as connection:
        connection.execute(
            "INSERT INTO parking_tariff SELECT lot_id, %s, tariff, set_by FROM parking_tariff", (lot.began,)
        )


def only(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/parking/sessions", params=query)
    assert answer.status_code == 200, answer.text
    [stay] = answer.json()["items"]
    return dict(stay)


def test_a_lot_shows_its_bays_to_everybody_in_its_scope(lot: Lot, sign_in: SignIn) -> None:
    engineer = sign_in("eng", ("engineer",))
    priced(engineer, lot)
    lot.drive("in", "浙A8K2Q6", 0)
    [shown] = sign_in("worker", ("grid_worker",), STREET_A).get("/api/v1/parking/lots").json()
    assert (shown["lot"], shown["name"], shown["bays_total"], shown["bays_free"], shown["open_sessions"]) == (
        "P1", "天水停车场", 20, 19, 1,
    )  # fmt: skip
    assert shown["tariff"]["fen_per_hour"] == 500 and shown["difference"] is None
    elsewhere = sign_in("far", ("operator",), STREET_B)
    assert elsewhere.get("/api/v1/parking/lots").json() == []
    assert elsewhere.get("/api/v1/parking/sessions").json()["items"] == []


def test_only_engineers_change_a_lot_and_only_operators_see_sessions(lot: Lot, sign_in: SignIn) -> None:
    operator, engineer = sign_in("lin"), sign_in("eng", ("engineer",))
    path = f"/api/v1/parking/lots/{lot.lot.id}"
    assert operator.patch(path, json={"name": "x"}).status_code == 403
    assert engineer.get("/api/v1/parking/sessions").status_code == 403
    assert engineer.patch(f"/api/v1/parking/lots/{uuid4()}", json={"name": "x"}).json()["code"] == "unknown_lot"
    odd = engineer.patch(path, json={"tariff": {"fen_per_hour": 500, "step_min": 7}})
    assert (odd.status_code, odd.json()["code"]) == (422, "invalid_request")


def test_plates_are_masked_and_the_whole_one_needs_a_reason_that_is_kept(
    lot: Lot, sign_in: SignIn, database: Database
) -> None:
    lot.drive("in", "浙A8K2Q6", 0)
    client = sign_in("lin")
    stay = only(client)
    assert stay["plate"] == "浙A·**2Q6" and stay["state"] == "open"
    path = f"/api/v1/parking/sessions/{stay['id']}/plate"
    assert client.post(path, json={}).status_code == 422
    shown = client.post(path, json={"reason": "车主来电核对"}, headers={"Idempotency-Key": "k1"})
    assert shown.json() == {"plate": "浙A8K2Q6", "exit_plate": None}
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM idempotency").fetchone() == (0,), "no copy is kept"
        [(actor, detail)] = connection.execute(
            "SELECT actor, detail FROM audit WHERE action = 'plate_revealed'"
        ).fetchall()
    assert actor == "lin" and detail["reason"] == "车主来电核对"
    far = sign_in("far", ("operator",), STREET_B)
    assert far.post(path, json={"reason": "curious"}).status_code == 404


def test_a_search_by_plate_is_audited_and_not_for_a_single_letter(
    lot: Lot, sign_in: SignIn, database: Database
) -> None:
    lot.drive("in", "浙A8K2Q6", 0)
    lot.drive("in", "浙B12345", 1)
    client = sign_in("lin")
    assert only(client, q="a·8k2")["plate"] == "浙A·**2Q6"
    assert client.get("/api/v1/parking/sessions", params={"q": "A"}).json()["code"] == "search_too_short"
    with database.transaction() as connection:
        [(detail,)] = connection.execute("SELECT detail FROM audit WHERE action = 'plate_searched'").fetchall()
    assert detail == {"characters": 4, "found": 1}, "how much was asked for, not whom"


def test_pages_of_sessions_follow_each_other(lot: Lot, sign_in: SignIn) -> None:
    for n in range(5):
        lot.drive("in", f"浙A8000{n}", n)
    client = sign_in("lin")
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/parking/sessions", params=query).json()
        seen += [stay["plate"][-1] for stay in page["items"]]
        cursor = page["next"]
    assert seen == ["4", "3", "2", "1", "0"] and cursor is None


def test_a_statement_is_paid_disputed_and_never_moved_where_it_cannot_go(lot: Lot, sign_in: SignIn) -> None:
    priced(sign_in("eng", ("engineer",)), lot)
    lot.drive("in", "浙A8K2Q6", 0)
    lot.drive("out", "浙A8K2Q6", 90, "unpaid")
    client = sign_in("lin")
    stay = only(client, state="unpaid")
    assert stay["amount_fen"] == 1000 and stay["payment"] == "unpaid"
    path = f"/api/v1/parking/sessions/{stay['id']}/state"
    disputed = client.post(path, json={"state": "disputed", "reason": "says he left earlier"}).json()
    assert disputed["payment"] == "disputed" and disputed["events"][-1]["actor"] == "lin"
    assert client.post(path, json={"state": "cancelled", "reason": "he is right"}).status_code == 200
    refused = client.post(path, json={"state": "paid", "reason": "no"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_allowed_in_state")
    assert client.post(path, json={"state": "overdue", "reason": "no"}).status_code == 422
    lot.drive("in", "浙B12345", 100)
    free = only(client, state="open")
    assert (
        client.post(path.replace(stay["id"], free["id"]), json={"state": "paid", "reason": "no"}).json()["code"]
        == "no_statement"
    )


def test_what_was_not_paid_in_time_is_overdue(lot: Lot, sign_in: SignIn, database: Database) -> None:
    priced(sign_in("eng", ("engineer",)), lot)
    lot.drive("in", "浙A8K2Q6", 0)
    lot.drive("out", "浙A8K2Q6", 90, "unpaid")
    with database.transaction() as connection:
        connection.execute("UPDATE parking_statement SET due_at = %s", (now() - timedelta(seconds=1),))
    client = sign_in("lin")
    assert only(client, state="overdue")["payment"] == "overdue"
    assert client.get("/api/v1/parking/sessions", params={"state": "unpaid"}).json()["items"] == []


def test_an_operator_brings_a_misread_exit_to_its_entry(lot: Lot, sign_in: SignIn) -> None:
    for minute, plate in ((0, "浙A81234"), (1, "浙A81235")):
        lot.drive("in", plate, minute)
    lot.drive("out", "浙A81239", 60)
    client = sign_in("lin")
    unmatched = only(client, state="unmatched")
    entries = client.get(f"/api/v1/parking/sessions/{unmatched['id']}/entries").json()
    assert len(entries) == 2 and entries[0]["likeness"] > 0.8
    path = f"/api/v1/parking/sessions/{unmatched['id']}/match"
    stray = client.post(path, json={"entry_id": str(uuid4()), "reason": "on the picture"})
    assert (stray.status_code, stray.json()["code"]) == (422, "unknown_entry")
    answer = client.post(path, json={"entry_id": entries[0]["id"], "reason": "on the picture"})
    assert answer.status_code == 200 and answer.json()["matched_by"] == "person"
    assert client.get("/api/v1/parking/sessions", params={"state": "unmatched"}).json()["items"] == []


def test_bindings_are_masked_end_and_hold_within_the_scope_of_who_made_them(lot: Lot, sign_in: SignIn) -> None:
    client = sign_in("lin", scope=STREET_A)
    path = "/api/v1/parking/bindings"
    made = client.post(path, json={"plate": "浙A·8K2Q6", "reference": "u-1"})
    assert made.status_code == 201
    [binding] = client.get(path).json()
    assert (binding["plate"], binding["area_code"], binding["bound_by"]) == ("浙A·**2Q6", STREET_A, "lin")
    assert client.post(path, json={"plate": "浙A8K2Q6"}).json()["code"] == "binding_taken"
    assert client.post(path, json={"plate": "hello"}).json()["code"] == "bad_plate"
    assert client.post(path, json={"plate": "浙B12345", "area_code": STREET_B}).json()["code"] == "outside_scope"
    assert client.post(path, json={"plate": "浙B12345", "area_code": ""}).json()["code"] == "outside_scope"
    assert client.post(path, json={"plate": "浙B12345", "card": "6222"}).status_code == 422
    late = (now() - timedelta(days=1)).isoformat()
    assert client.post(path, json={"plate": "浙B12345", "ends_at": late}).json()["code"] == "bad_end"
    assert client.delete(f"{path}/{made.json()['id']}").status_code == 204
    assert client.delete(f"{path}/{made.json()['id']}").status_code == 404
    assert client.get(path).json() == []


# ---------------------------------------------------------------- homes and answers


def test_a_home_is_kept_masked_and_its_contacts_are_shown_for_a_reason(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "smoke-1", "smoke_alarm")
    client = sign_in("lin")
    path = f"/api/v1/devices/{device_id}/home"
    assert client.get(path).json()["consent_state"] == "not_needed"
    body = {
        "building": "3 幢", "floor": "5", "household": "502",
        "consent": {
            "given_by": "王阿姨", "given_at": now().isoformat(), "purpose": "独居照看",
            "ends_at": (now() + timedelta(days=20)).isoformat(),
        },
        "contacts": [{"order": 1, "role": "resident", "name": "王阿姨", "phone": "13812345678"}],
    }  # fmt: skip
    home = client.put(path, json=body).json()
    assert home["in_home"] and home["consent_state"] == "ends_soon"
    [contact] = home["contacts"]
    assert (contact["name"], contact["phone"]) == ("王**", "138****78")
    # What came masked goes back without name and number, and they stay.
    kept = client.put(path, json=body | {"contacts": [{"id": contact["id"], "order": 2, "role": "resident"}]}).json()
    assert kept["contacts"][0]["order"] == 2 and len(kept["consents"]) == 1
    shown = client.post(f"{path}/contacts", json={"reason": "回访"}, headers={"Idempotency-Key": "k1"}).json()
    assert (shown[0]["name"], shown[0]["phone"]) == ("王阿姨", "13812345678")
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM idempotency").fetchone() == (0,), "no unsealed copy is kept"
        rows = connection.execute("SELECT action FROM audit ORDER BY id").fetchall()
    assert [r for (r,) in rows if r.startswith(("home", "contacts"))] == [
        "home_changed",
        "home_changed",
        "contacts_revealed",
    ]
    [ending] = client.get("/api/v1/consents/ending").json()
    assert (ending["code"], ending["consent"]) == ("smoke-1", "ends_soon")
    assert client.get("/api/v1/consents/ending", params={"within_days": 10}).json() == []
    far = sign_in("far", ("operator",), STREET_B)
    assert far.get(path).status_code == 404 and far.get("/api/v1/consents/ending").json() == []
    assert sign_in("worker", ("grid_worker",)).get(path).status_code == 403


def escalate_one(database: Database, settings: Any) -> tuple[UUID, str]:
    """An escalation whose first contact was told: the notice, and the last part of its link."""
    with database.transaction() as connection:
        device_id = put_device(connection, "smoke-1", "smoke_alarm")
        incident_id = open_incident(connection, category="smoke")
        notice_id = uuid4()
        at: datetime = now()
        connection.execute(
            "INSERT INTO escalation (incident_id, device_id, started_at, next_at) VALUES (%s, %s, %s, %s)",
            (incident_id, device_id, at, at),
        )
        connection.execute(
            "INSERT INTO notice (id, incident_id, position, role, contact_id, state, due_at, sent_at)"
            " VALUES (%s, %s, 1, 'resident', %s, 'sent', %s, %s)",
            (notice_id, incident_id, uuid4(), at, at),
        )
    return incident_id, make_token(settings.data_dir, notice_id)


def test_a_resident_answers_by_the_link_without_signing_in(server: Server, database: Database, sign_in: SignIn) -> None:
    incident_id, token = escalate_one(database, server.settings)
    stranger = server.client()
    page = stranger.get(f"/answer/{token}")
    assert page.status_code == 200 and 'value="help"' in page.text
    notices = f"/api/v1/incidents/{incident_id}/notices"
    assert sign_in("lin").get(notices).json()[0]["answer"] is None, "looking at the page answers nothing"
    said = stranger.post(f"/answer/{token}", data={"answer": "safe"})
    assert said.status_code == 200 and "Received" in said.text
    assert sign_in("mo").get(notices).json()[0]["answer"] == "safe"
    assert stranger.post(f"/answer/{token}", data={"answer": "burn"}).status_code == 422
    for bad in (token[:-3], "x", "%00"):
        assert stranger.get(f"/answer/{bad}").status_code == 404
        assert stranger.post(f"/answer/{bad}", data={"answer": "help"}).status_code == 404


def test_the_gateway_passes_an_answer_on(server: Server, database: Database, sign_in: SignIn) -> None:
    incident_id, token = escalate_one(database, server.settings)
    gateway = server.client()
    assert gateway.post("/api/v1/answers", json={"token": token, "answer": "help"}).status_code == 204
    wrong = gateway.post("/api/v1/answers", json={"token": "x", "answer": "help"})
    assert (wrong.status_code, wrong.json()["code"]) == (404, "answer_invalid")
    detail = sign_in("lin").get(f"/api/v1/incidents/{incident_id}").json()
    assert [e["detail"]["answer"] for e in detail["events"] if e["action"] == "notice"] == ["help"]
    far = sign_in("far", ("operator",), STREET_B)
    assert far.get(f"/api/v1/incidents/{incident_id}/notices").json() == []
