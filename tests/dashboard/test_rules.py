"""Alarm rules over HTTP: made, tried on what is stored, watched, switched on; shelves, maintenance, load."""

from datetime import timedelta
from typing import Any

import pytest

from devices.rulebook import BookKeeper
from kernel.db import Database
from tests.dashboard.conftest import STREET_A, STREET_B, SignIn, now, open_incident, put_device

ENGINEER = ("engineer",)


def draft(**more: Any) -> dict[str, Any]:
    return {
        "name": "high_water", "type": "threshold", "title_zh": "高水位", "title_en": "High water",
        "parameters": {"metric": "level_m", "limit": 2.0}, "scope": {"kind": "river_sluice"}, **more,
    }  # fmt: skip


def store_levels(database: Database, code: str, levels: list[float], area_code: str = STREET_A + "001") -> None:
    """One reading an hour until now."""
    with database.transaction() as connection:
        device_id = put_device(connection, code, "river_sluice", area_code)
        began = now() - timedelta(hours=len(levels))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO reading (device_id, metric, value, measured_at, received_at) VALUES (%s, 'level_m', %s, %s, %s)",
                [(device_id, v, began + timedelta(hours=n), began + timedelta(hours=n)) for n, v in enumerate(levels)],
            )


def test_a_rule_goes_from_back_test_through_monitor_to_live_and_every_step_is_kept(
    database: Database, sign_in: SignIn
) -> None:
    client = sign_in("eng", ENGINEER)
    store_levels(database, "river-1", [1.0, 2.5, 2.6, 1.0, 2.5, 1.0])
    result = client.post("/api/v1/rules/back-test", json={"rule": draft(), "days": 2}).json()
    assert (result["alarms"], result["truncated"], result["devices"]) == (2, False, [{"code": "river-1", "count": 2}])
    assert sum(day["count"] for day in result["per_day"]) == 2 and sum(result["by_hour"]) == 2
    assert len(result["by_hour"]) == 24 and 2 <= len(result["per_day"]) <= 3

    made = client.post("/api/v1/rules", json=draft(reason="after the flood of June"))
    assert made.status_code == 201, made.text
    rule = made.json()
    assert (rule["mode"], rule["version"], rule["category"]) == ("off", 1, "rule_alarm")
    too_soon = client.post(f"/api/v1/rules/{rule['id']}/mode", json={"mode": "live"})
    assert (too_soon.status_code, too_soon.json()["code"]) == (409, "monitor_first")
    assert client.post(f"/api/v1/rules/{rule['id']}/mode", json={"mode": "monitor"}).status_code == 200
    live = client.post(f"/api/v1/rules/{rule['id']}/mode", json={"mode": "live", "reason": "a quiet week"}).json()
    assert (live["mode"], live["version"], live["reason"]) == ("live", 3, "a quiet week")

    changed = draft(parameters={"metric": "level_m", "limit": 2.2})
    assert client.put(f"/api/v1/rules/{rule['id']}", json=changed).json()["code"] == "reason_required"
    client.put(f"/api/v1/rules/{rule['id']}", json={**changed, "reason": "too many"})
    versions = client.get(f"/api/v1/rules/{rule['id']}/versions").json()
    assert [(v["version"], v["mode"]) for v in versions] == [(4, "live"), (3, "live"), (2, "monitor"), (1, "off")]
    assert [r["parameters"]["limit"] for r in client.get("/api/v1/rules").json()] == [2.2]
    assert client.get(f"/api/v1/rules/{rule['id']}/findings").json() == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"type": "nonsense"}, "unknown_type"),
        ({"parameters": {"metric": "level_m"}}, "bad_parameters"),
        ({"parameters": {"metric": "level_m", "limit": 1, "more": 2}}, "bad_parameters"),
        ({"parameters": {"metric": "colour", "limit": 1}}, "unknown_metric"),
        ({"scope": {"kind": "spaceship"}}, "unknown_kind"),
        ({"category": "nonsense"}, "unknown_category"),
        ({"type": "built_in", "parameters": {}}, "unknown_rule"),
        ({"type": "built_in", "name": "river_level", "parameters": {"level_limit_m": "deep"}}, "bad_parameters"),
        ({"type": "built_in", "name": "river_level", "scope": {}, "parameters": {}}, "kind_required"),
        ({"type": "none", "parameters": {"a": 1}}, "bad_parameters"),
        (
            {
                "type": "combination",
                "parameters": {"first": {"alarm": "a"}, "other": "R2", "second": {"alarm": "b"}},
            },
            "device_required",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_with_its_reason(
    sign_in: SignIn, change: dict[str, Any], code: str
) -> None:
    answer = sign_in("eng", ENGINEER).post("/api/v1/rules", json=draft(**change))
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def test_every_type_is_described_well_enough_to_draw_a_form(sign_in: SignIn) -> None:
    types = {t["name"]: t for t in sign_in("eng", ENGINEER).get("/api/v1/rule-types").json()}
    assert {"threshold", "rate_of_change", "no_data", "offline", "combination", "built_in", "none"} <= set(types)
    assert types["threshold"]["schema"]["properties"]["metric"]["x-choice"] == "metric"
    assert types["built_in"]["kinds"]["river_sluice"]["rules"][0]["name"] == "river_level"
    assert types["offline"]["category"] == "device_offline"


def test_who_answers_for_one_street_makes_rules_for_it_and_not_for_the_city(sign_in: SignIn) -> None:
    client = sign_in("eng", ENGINEER, scope=STREET_A)
    inside = {"scope": {"kind": "river_sluice", "area": STREET_A}}
    assert client.post("/api/v1/rules", json=draft(**inside)).status_code == 201
    for scope in ({}, {"kind": "river_sluice"}, {"area": STREET_B}):
        answer = client.post("/api/v1/rules", json=draft(scope=scope))
        assert (answer.status_code, answer.json()["code"]) == (403, "outside_scope"), answer.text
    boss = sign_in("boss", ENGINEER)
    wide = boss.post("/api/v1/rules", json=draft()).json()
    assert client.post(f"/api/v1/rules/{wide['id']}/mode", json={"mode": "monitor"}).status_code == 404
    assert len(client.get("/api/v1/rules").json()) == 2  # they read what acts on them


def test_operators_and_grid_workers_make_no_rules(sign_in: SignIn) -> None:
    for name, roles in (("lin", ("operator",)), ("wang", ("grid_worker",))):
        assert sign_in(name, roles).post("/api/v1/rules", json=draft()).status_code == 403


def test_a_back_test_sees_only_the_testers_area(database: Database, sign_in: SignIn) -> None:
    store_levels(database, "river-a", [1.0, 3.0, 1.0])
    store_levels(database, "river-b", [1.0, 3.0, 1.0], STREET_B + "001")
    client = sign_in("eng", ENGINEER, scope=STREET_A)
    result = client.post("/api/v1/rules/back-test", json={"rule": draft(), "days": 1}).json()
    assert result["devices"] == [{"code": "river-a", "count": 1}] and result["in_scope"] == 1


def test_rules_that_look_at_more_than_numbers_say_that_they_cannot_be_tested(sign_in: SignIn) -> None:
    smoke = draft(type="built_in", name="smoke", parameters={}, scope={"kind": "smoke_alarm"})
    answer = sign_in("eng", ENGINEER).post("/api/v1/rules/back-test", json={"rule": smoke, "days": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_replayable")


def test_a_shelf_needs_a_reason_and_an_end_and_can_be_taken_down(database: Database, sign_in: SignIn) -> None:
    client = sign_in("lin")
    with database.transaction() as connection:
        device_id = put_device(connection, "door-1")
    path = f"/api/v1/devices/{device_id}/shelf"
    until = (now() + timedelta(hours=2)).isoformat()
    assert client.post(path, json={"reason": " ", "until": until}).json()["code"] == "reason_required"
    gone = (now() - timedelta(hours=2)).isoformat()
    assert client.post(path, json={"reason": "r", "until": gone}).json()["code"] == "end_required"
    assert client.post(path, json={"rule": "door_night", "reason": "moving house", "until": until}).status_code == 201
    [shelf] = client.get(path).json()
    assert (shelf["rule"], shelf["reason"], shelf["actor"]) == ("door_night", "moving house", "lin")
    keeper = BookKeeper()
    with database.transaction() as connection:
        assert keeper.current(connection).has_quiets
    assert client.delete(path).status_code == 204
    assert client.get(path).json() == []
    with database.transaction() as connection:
        assert not keeper.current(connection).has_quiets
        actions = connection.execute("SELECT action FROM audit WHERE subject = 'door-1' ORDER BY at").fetchall()
    assert actions == [("alarm_shelved",), ("alarm_unshelved",)]


def test_a_maintenance_window_covers_its_scope_until_it_is_ended(database: Database, sign_in: SignIn) -> None:
    client = sign_in("eng", ENGINEER)
    with database.transaction() as connection:
        device_id = put_device(connection, "door-1")
    form = {"scope": {"area": STREET_A}, "to": (now() + timedelta(hours=3)).isoformat(), "reason": "power works"}
    window = client.post("/api/v1/maintenance", json=form).json()
    one = {**form, "scope": {"device": str(device_id)}}
    assert client.post("/api/v1/maintenance", json=one).status_code == 201
    assert {w["scope"]["area"] for w in client.get("/api/v1/maintenance").json()} == {STREET_A, STREET_A + "001"}
    assert client.delete(f"/api/v1/maintenance/{window['id']}").status_code == 204
    assert client.delete(f"/api/v1/maintenance/{window['id']}").status_code == 404
    assert len(client.get("/api/v1/maintenance").json()) == 1
    scoped = sign_in("street", ENGINEER, scope=STREET_B)
    assert scoped.post("/api/v1/maintenance", json=form).status_code == 403


def test_the_load_is_shown_and_a_flood_is_grouped(database: Database, sign_in: SignIn) -> None:
    client = sign_in("lin")
    assert client.get("/api/v1/flood").json()["active"] is False
    with database.transaction() as connection:
        ids = [open_incident(connection) for _ in range(12)]
    flood = client.get("/api/v1/flood").json()
    assert (flood["active"], flood["rate_per_10_min"], flood["limit"]) == (True, 12, 10)
    assert sorted(i for g in flood["groups"] for i in g["incident_ids"]) == sorted(str(i) for i in ids)
