"""Commands over HTTP: what a device can be told, two people, refusals, locks, scopes, and the wall that sees it all."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import websockets

from kernel.db import Database
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, put_device, tell_state

OPENING = {"name": "set_gate_opening", "parameters": {"opening_m": 0.8}, "reason": "防汛预降"}


@pytest.fixture
def sluice(database: Database) -> UUID:
    """A sluice that has just been heard, with little difference in level."""
    with database.transaction() as connection:
        device_id = put_device(connection, "SL-1", "river_sluice")
        levels = {"upstream_level_m": 1.4, "downstream_level_m": 1.2, "gate_opening_m": 0.2}
        tell_state(connection, device_id, **levels, local_control=0.0, pumps_running=0.0)
    return device_id


def ask(client: httpx.Client, device_id: UUID, body: dict[str, Any] = OPENING) -> dict[str, Any]:
    answer = client.post(f"/api/v1/devices/{device_id}/commands", json=body)
    assert answer.status_code == 201, answer.text
    command: dict[str, Any] = answer.json()
    return command


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_device_says_what_it_can_be_told_and_what_stands_in_the_way(sign_in: SignIn, sluice: UUID) -> None:
    lin = sign_in("lin")
    found = lin.get(f"/api/v1/devices/{sluice}/commands").json()
    by_name = {command["name"]: command for command in found["available"]}
    assert set(by_name) == {"set_gate_opening", "stop_gate", "start_pumps", "stop_pumps"}
    opening = by_name["set_gate_opening"]
    assert opening["second_person"] and opening["schema"]["properties"]["opening_m"]["minimum"] == 0
    codes = {interlock["code"]: interlock["ok"] for interlock in opening["interlocks"]}
    assert codes["device_heard"] and codes["level_difference"] and codes["no_maintenance_lock"]
    assert found["recent"] == [] and found["locks"] == []


def test_a_second_person_approves_and_nobody_approves_alone(sign_in: SignIn, sluice: UUID) -> None:
    lin, zhou = sign_in("lin"), sign_in("zhou")
    command = ask(lin, sluice)
    assert command["state"] == "requested" and command["reason"] == "防汛预降"
    assert command["requested_by"]["name"] and command["approved_by"] is None
    alone = lin.post(f"/api/v1/commands/{command['id']}/approve")
    assert problem(alone) == (403, "requester_may_not_approve")
    approved = zhou.post(f"/api/v1/commands/{command['id']}/approve").json()
    assert approved["state"] == "approved"
    assert [event["state"] for event in approved["events"]] == ["requested", "approved"]
    again = zhou.post(f"/api/v1/commands/{command['id']}/approve")
    assert problem(again) == (409, "not_allowed_in_state")


def test_an_interlock_refuses_on_record(sign_in: SignIn, sluice: UUID, database: Database) -> None:
    lin = sign_in("lin")
    with database.transaction() as connection:
        tell_state(connection, sluice, upstream_level_m=3.4)
    command = ask(lin, sluice)
    assert command["state"] == "refused" and command["outcome"] == {"code": "interlocked", "detail": "level_difference"}
    found = next(interlock for interlock in command["interlocks"] if not interlock["ok"])
    assert found == {"code": "level_difference", "ok": False, "params": {"difference_m": 2.2, "limit_m": 1.5}}


def test_the_interlocks_are_judged_again_when_the_second_person_approves(
    sign_in: SignIn, sluice: UUID, database: Database
) -> None:
    lin, zhou = sign_in("lin"), sign_in("zhou")
    command = ask(lin, sluice)
    with database.transaction() as connection:
        tell_state(connection, sluice, local_control=1.0)
    approved = zhou.post(f"/api/v1/commands/{command['id']}/approve").json()
    assert approved["state"] == "refused" and approved["outcome"]["detail"] == "remote_control"


def test_a_lock_keeps_everything_still_but_a_halt_and_is_its_owners(sign_in: SignIn, sluice: UUID) -> None:
    lin, zhou, admin = sign_in("lin"), sign_in("zhou"), sign_in("chen", roles=("admin",))
    lock = lin.post(f"/api/v1/devices/{sluice}/locks", json={"reason": "水下检修"}).json()
    assert ask(zhou, sluice)["outcome"]["detail"] == "no_maintenance_lock"
    assert ask(zhou, sluice, {"name": "stop_gate", "reason": "stop"})["state"] == "approved"
    assert zhou.get(f"/api/v1/devices/{sluice}/commands").json()["locks"][0]["reason"] == "水下检修"
    assert problem(zhou.delete(f"/api/v1/devices/{sluice}/locks/{lock['id']}")) == (403, "not_your_lock")
    assert admin.delete(f"/api/v1/devices/{sluice}/locks/{lock['id']}").status_code == 204
    assert ask(zhou, sluice)["state"] == "requested"


def test_one_movement_at_a_time_and_a_halt_cancels_what_waits(sign_in: SignIn, sluice: UUID) -> None:
    lin = sign_in("lin")
    first = ask(lin, sluice)
    second = lin.post(f"/api/v1/devices/{sluice}/commands", json=OPENING)
    assert problem(second) == (409, "command_open")
    ask(lin, sluice, {"name": "stop_gate", "reason": "stop"})
    halted = lin.get(f"/api/v1/commands/{first['id']}").json()
    assert halted["state"] == "cancelled" and halted["outcome"]["code"] == "halted"


def test_a_command_can_be_taken_back_until_it_is_sent(sign_in: SignIn, sluice: UUID, database: Database) -> None:
    lin = sign_in("lin")
    first = ask(lin, sluice)
    assert problem(lin.post(f"/api/v1/commands/{first['id']}/cancel", json={"reason": " "})) == (422, "invalid_request")
    cancelled = lin.post(f"/api/v1/commands/{first['id']}/cancel", json={"reason": "不必了"}).json()
    assert cancelled["state"] == "cancelled" and cancelled["outcome"]["detail"] == "不必了"
    second = ask(lin, sluice, {"name": "start_pumps", "parameters": {"pumps": 1}, "reason": "排涝"})
    with database.transaction() as connection:
        connection.execute("UPDATE command SET state = 'sent', sent_at = %s WHERE id = %s", (now(), second["id"]))
    late = lin.post(f"/api/v1/commands/{second['id']}/cancel", json={"reason": "不"})
    assert problem(late) == (409, "already_sent")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({**OPENING, "parameters": {"opening_m": -1}}, (422, "bad_parameters")),
        ({**OPENING, "parameters": {"opening_m": 1, "force": True}}, (422, "bad_parameters")),
        ({**OPENING, "name": "explode"}, (404, "unknown_command")),
        ({**OPENING, "reason": ""}, (422, "invalid_request")),
    ],
)
def test_nonsense_writes_nothing(
    sign_in: SignIn, sluice: UUID, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    lin = sign_in("lin")
    assert problem(lin.post(f"/api/v1/devices/{sluice}/commands", json=body)) == expected
    assert lin.get("/api/v1/commands?state=all").json() == []


def test_commands_are_the_operators_of_the_place(sign_in: SignIn, sluice: UUID) -> None:
    lin, engineer = sign_in("lin", scope=STREET_A), sign_in("engineer", roles=("engineer",))
    worker, elsewhere = sign_in("worker", roles=("grid_worker",)), sign_in("zhao", scope=STREET_B)
    command = ask(lin, sluice)
    path = f"/api/v1/devices/{sluice}/commands"
    assert problem(engineer.post(path, json=OPENING)) == (403, "not_your_role")
    assert problem(worker.get(path)) == (403, "not_your_role")
    assert problem(elsewhere.post(path, json=OPENING)) == (404, "unknown_device")
    assert problem(elsewhere.post(f"/api/v1/commands/{command['id']}/approve")) == (404, "unknown_command")
    assert elsewhere.get("/api/v1/commands").json() == []
    assert [found["id"] for found in engineer.get("/api/v1/commands").json()] == [command["id"]]


def test_the_gate_upstream_counts_even_in_another_operators_street(sign_in: SignIn, database: Database) -> None:
    with database.transaction() as connection:
        upstream = put_device(connection, "SL-UP", "river_sluice", STREET_B + "001")
        tell_state(connection, upstream, gate_opening_m=0.6)
        device_id = put_device(connection, "SL-DOWN", "river_sluice")
        tell_state(connection, device_id, upstream_level_m=1.4, downstream_level_m=1.2, gate_opening_m=0.5)
        connection.execute(
            "UPDATE device SET settings = %s WHERE id = %s",
            (json.dumps({"related": {"upstream_gate": ["SL-UP"]}}), device_id),
        )
    lin = sign_in("lin", scope=STREET_A)
    closing = {**OPENING, "parameters": {"opening_m": 0.1}}
    command = ask(lin, device_id, closing)
    assert command["outcome"]["detail"] == "upstream_gate_closed"
    with database.transaction() as connection:
        tell_state(connection, upstream, gate_opening_m=0.0)
    assert ask(lin, device_id, closing)["state"] == "requested"


def test_a_request_that_is_sent_again_asks_once(sign_in: SignIn, sluice: UUID) -> None:
    lin = sign_in("lin")
    answers = [
        lin.post(f"/api/v1/devices/{sluice}/commands", json=OPENING, headers={"Idempotency-Key": "one"})
        for _ in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(lin.get("/api/v1/commands").json()) == 1


def test_who_did_what_is_audited(sign_in: SignIn, sluice: UUID, database: Database) -> None:
    lin, zhou = sign_in("lin"), sign_in("zhou")
    command = ask(lin, sluice)
    zhou.post(f"/api/v1/commands/{command['id']}/approve")
    with database.transaction() as connection:
        rows = connection.execute("SELECT actor, action, subject FROM audit ORDER BY at, id").fetchall()
    rows = [row for row in rows if row[1].startswith("command_")]
    assert rows == [("lin", "command_requested", command["id"]), ("zhou", "command_approved", command["id"])]


def test_the_log_of_a_command_cannot_be_changed(app_database: Database, database: Database) -> None:
    for pool in (app_database, database):
        for statement in ("UPDATE command_event SET actor = ''", "DELETE FROM command_event", "DELETE FROM command"):
            with pytest.raises(Exception, match="permission denied"), pool.transaction("*") as connection:
                connection.execute(statement)


def test_the_database_itself_refuses_a_movement_without_a_second_person(
    sign_in: SignIn, sluice: UUID, database: Database
) -> None:
    command = ask(sign_in("lin"), sluice)
    with pytest.raises(Exception, match="check constraint"), database.transaction() as connection:
        connection.execute("UPDATE command SET state = 'sent' WHERE id = %s", (command["id"],))
    with pytest.raises(Exception, match="check constraint"), database.transaction() as connection:
        connection.execute(
            "UPDATE command SET approved_by = 'lin', approved_by_id = requested_by_id WHERE id = %s", (command["id"],)
        )


def test_the_wall_sees_a_command_move_and_a_phone_does_not(server: Server, sign_in: SignIn, sluice: UUID) -> None:
    lin, worker = sign_in("lin"), sign_in("worker", roles=("grid_worker",))

    def cookie(client: httpx.Client) -> str:
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())

    async def watch() -> tuple[list[str], list[dict[str, Any]]]:
        wall_url, phone_url = server.live_url + "?seat=wall", server.live_url + "?seat=phone"
        origin = server.settings.public_url
        async with (
            websockets.connect(wall_url, origin=origin, additional_headers={"Cookie": cookie(lin)}) as wall,  # type: ignore[arg-type]
            websockets.connect(phone_url, origin=origin, additional_headers={"Cookie": cookie(worker)}) as phone,  # type: ignore[arg-type]
        ):
            assert json.loads(await wall.recv())["commands"] == []
            await phone.recv()
            command = await asyncio.to_thread(ask, lin, sluice)
            path = f"/api/v1/commands/{command['id']}/cancel"
            states: list[str] = []
            while "cancelled" not in states:
                message = json.loads(await asyncio.wait_for(wall.recv(), 20))
                for change in message.get("changes", []):
                    if change["kind"] == "command":
                        states.append(change["data"]["state"])
                        if states == ["requested"]:
                            await asyncio.to_thread(lin.post, path, json={"reason": "x"})
            heard = []
            with pytest.raises(TimeoutError):
                while True:
                    heard += json.loads(await asyncio.wait_for(phone.recv(), 1.0)).get("changes", [])
            return states, heard

    states, heard = asyncio.run(watch())
    assert states == ["requested", "cancelled"]
    assert [change for change in heard if change["kind"] == "command"] == []


def test_a_command_that_ended_stays_in_sight_for_a_while(sign_in: SignIn, sluice: UUID, database: Database) -> None:
    lin = sign_in("lin")
    command = ask(lin, sluice)
    lin.post(f"/api/v1/commands/{command['id']}/cancel", json={"reason": "x"})
    assert len(lin.get("/api/v1/commands").json()) == 1
    with database.transaction() as connection:
        connection.execute("UPDATE command SET ended_at = %s", (now() - timedelta(hours=1),))
    assert lin.get("/api/v1/commands").json() == []
    assert len(lin.get("/api/v1/commands?state=all").json()) == 1
