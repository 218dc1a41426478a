"""What the pages ask for: devices and readings, staff, the map, push, health."""

import json
from datetime import timedelta
from typing import Any

import pytest

from dashboard.openapi import PATH, describe_api
from dashboard.users import add_user
from grid.model import Feature
from grid.store import replace_features
from kernel.db import Database
from kernel.ids import new_id
from kernel.settings import Settings
from tests.dashboard.conftest import (
    STREET_A,
    Server,
    SignIn,
    now,
    open_incident,
    put_device,
    serve,
    tell_state,
    user_id_of,
)

HERE = {"lon": 120.17, "lat": 30.28, "accuracy_m": 9.5, "heading_deg": 80}


def test_a_device_shows_its_newest_values_in_utc(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "door-1")
        tell_state(connection, device_id, battery_pct=81.5)
    client = sign_in()
    [device] = client.get("/api/v1/devices").json()
    assert device["id"] == str(device_id) and device["status"] == "ok" and device["camera"] is None
    assert device["metrics"]["battery_pct"]["value"] == 81.5 and device["last_seen_at"].endswith("Z")
    shown = client.get(f"/api/v1/devices/{device_id}").json()
    assert {name: shown[name] for name in device} == device


def test_readings_are_thinned_to_what_a_chart_can_show(server: Server, database: Database, sign_in: SignIn) -> None:
    began = now() - timedelta(hours=23)
    with database.transaction() as connection:
        device_id = put_device(connection, "door-1")
        rows = [(device_id, "battery_pct", 50 + n % 7, began + timedelta(seconds=30 * n)) for n in range(2_700)]
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO reading (device_id, metric, value, measured_at, received_at) VALUES (%s, %s, %s, %s, %s)",
                [(*row, row[3]) for row in rows],
            )
    client = sign_in()
    body = client.get(f"/api/v1/devices/{device_id}/readings", params={"metric": "battery_pct"}).json()
    assert body["unit"] == "%" and 400 <= len(body["points"]) <= 501
    assert body["points"] == sorted(body["points"], key=lambda point: point["at"])
    assert {point["least"] for point in body["points"][1:-1]} <= set(range(50, 57))
    recent = client.get(f"/api/v1/devices/{device_id}/readings", params={"metric": "battery_pct", "hours": 0.6}).json()
    assert body["bucket_s"] == 180 and recent["bucket_s"] is None and recent["points"][0]["n"] == 1
    unknown = client.get(f"/api/v1/devices/{device_id}/readings", params={"metric": "colour"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_metric")
    assert "battery_pct" in unknown.json()["params"]["metrics"]


def test_staff_are_listed_with_duty_position_and_open_tasks(
    server: Server, database: Database, sign_in: SignIn, cells: None
) -> None:
    worker = sign_in("chen", ("grid_worker",), STREET_A, on_duty=True, display_name="陈师傅")
    with database.transaction() as connection:
        open_incident(connection, state="accepted", assignee_id=user_id_of(worker))
        add_user(connection, name="boss", roles=["handling_dept"], scope=STREET_A, now=now())
    worker.post("/api/v1/me/position", json=HERE | {"measured_at": now().isoformat()})
    client = sign_in("lin")
    chen, boss = client.get("/api/v1/users").json()
    assert chen["name"] == "陈师傅" and chen["open_tasks"] == 1 and (chen["lon"], chen["lat"]) == (120.17, 30.28)
    assert boss["on_duty"] is False and boss["lon"] is None
    assert [person["name"] for person in client.get("/api/v1/users?role=handling_dept").json()] == ["boss"]
    with database.transaction() as connection:
        assert connection.execute("SELECT area_code FROM staff_position").fetchone() == (STREET_A + "001",)


def test_an_older_position_does_not_move_anybody_back(server: Server, database: Database, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",), on_duty=True)
    measured_at = now()
    for lon, at in ((120.17, measured_at), (120.99, measured_at - timedelta(seconds=20))):
        assert (
            worker.post("/api/v1/me/position", json=HERE | {"lon": lon, "measured_at": at.isoformat()}).status_code
            == 204
        )
    with database.transaction() as connection:
        assert connection.execute("SELECT lon FROM staff_position").fetchone() == (120.17,)


def test_positions_that_cannot_be_are_refused(server: Server, sign_in: SignIn, subtests: pytest.Subtests) -> None:
    worker = sign_in("chen", ("grid_worker",), on_duty=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"lon": 500}, "bad_position"),
        ({"crs": "mars"}, "unknown_crs"),
        ({"measured_at": "2099-01-01T00:00:00Z"}, "future_dated"),
        ({"accuracy_m": -1}, "invalid_request"),
        ({"heading_deg": 700}, "invalid_request"),
    ]
    for change, code in wrong:
        with subtests.test(str(change)):
            answer = worker.post("/api/v1/me/position", json=HERE | {"measured_at": now().isoformat()} | change)
            assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_position_of_a_chinese_map_service_is_moved_to_where_it_is(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    worker = sign_in("chen", ("grid_worker",), on_duty=True)
    worker.post("/api/v1/me/position", json=HERE | {"crs": "gcj02", "measured_at": now().isoformat()})
    with database.transaction() as connection:
        row = connection.execute("SELECT lon, lat FROM staff_position").fetchone()
    assert row is not None and 0.003 < 120.17 - row[0] < 0.006 and 0.001 < row[1] - 30.28 < 0.004


def test_language_and_duty_are_mine_to_change(server: Server, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",))
    me = worker.patch("/api/v1/me", json={"language": "en", "on_duty": True}).json()
    assert (me["language"], me["on_duty"]) == ("en", True) and me == worker.get("/api/v1/me").json()
    assert worker.patch("/api/v1/me", json={"roles": ["admin"]}).status_code == 422
    assert worker.patch("/api/v1/me", json={"language": "tlh"}).status_code == 422


def test_the_map_is_sent_small_and_only_when_it_changed(
    server: Server, database: Database, sign_in: SignIn, cells: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.map_layers._CHECK_EVERY_S", 0.0)
    client = sign_in()
    summary = client.get("/api/v1/map").json()
    assert {layer["name"]: layer["features"] for layer in summary["layers"]} == {"cell": 2}
    assert summary["bounds"] == [120.165, 30.27, 120.185, 30.29]
    first = client.get(summary["layers"][0]["url"])
    assert first.headers["content-encoding"] == "gzip" and first.headers["content-type"] == "application/geo+json"
    assert len(first.json()["features"]) == 2
    etag = first.headers["etag"]
    again = client.get(summary["layers"][0]["url"], headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    plain = client.get("/api/v1/map/cell.geojson", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.json() == first.json()
    assert client.get("/api/v1/map/road.geojson").json()["features"] == []
    with database.transaction() as connection:
        wkb = bytes.fromhex("0102000000020000000000000000005E400000000000003E409A99999999195E409A99999999193E40")
        replace_features(connection, [Feature(id=new_id(now()), layer="road", name="武林路", geom_wkb=wkb)])
    road = client.get("/api/v1/map/road.geojson").json()["features"]
    assert road[0]["properties"]["name"] == "武林路"


def test_schemas_are_open_to_whoever_builds_devices(server: Server) -> None:
    answer = server.client().get("/api/v1/schemas/smoke_alarm.json")
    assert answer.status_code == 200 and answer.json()["title"] == "smoke_alarm"


def test_dead_letters_are_paged_for_engineers(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        for n in range(5):
            connection.execute(
                "INSERT INTO dead_letter (id, topic, payload, payload_bytes, reason, detail, received_at)"
                " VALUES (%s, 'gridwarden/x/y/event', %s, 2, 'malformed_json', '', %s)",
                (new_id(now() + timedelta(seconds=n)), b"{\xff" if n else b"{", now()),
            )
    client = sign_in(roles=("engineer",))
    first = client.get("/api/v1/dead-letters?limit=3").json()
    second = client.get(f"/api/v1/dead-letters?limit=3&cursor={first['next']}").json()
    assert [len(first["items"]), len(second["items"]), second["next"]] == [3, 2, None]
    assert first["items"][0]["payload_text"] is None and second["items"][-1]["payload_text"] == "{"


def test_push_subscriptions_are_only_taken_for_public_services(
    server: Server, database: Database, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in("chen", ("grid_worker",))
    keys = {"p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA", "auth": "tBHItJI5svbpez7KI4CCXg"}
    for endpoint, reason in (("http://push.example/1", "not_https"), ("https://127.0.0.1/1", "not_public")):
        answer = client.post("/api/v1/push/subscriptions", json={"endpoint": endpoint, "keys": keys})
        assert answer.json()["code"] == "push_endpoint_refused" and answer.json()["params"] == {"reason": reason}
    monkeypatch.setattr("dashboard.push.check_endpoint", lambda _: None)
    endpoint = "https://push.example/1"
    body = {"endpoint": endpoint, "keys": keys, "expirationTime": None}
    assert client.post("/api/v1/push/subscriptions", json=body).status_code == 204
    other = sign_in("wang", ("grid_worker",))
    assert other.post("/api/v1/push/subscriptions", json=body).status_code == 204  # the same phone, another person
    with database.transaction() as connection:
        rows = connection.execute("SELECT user_id, channel FROM push_subscription").fetchall()
    assert rows == [(user_id_of(other), "web_push")]
    for person, left in ((client, 1), (other, 0)):
        person.request("DELETE", "/api/v1/push/subscriptions", json={"endpoint": endpoint})
        with database.transaction() as connection:
            assert connection.execute("SELECT count(*) FROM push_subscription").fetchone() == (left,)
    assert len(client.get("/api/v1/push/key").json()["key"]) == 87


def test_a_receipt_is_for_ones_own_messages(server: Server, database: Database, sign_in: SignIn) -> None:
    worker, other = sign_in("chen", ("grid_worker",)), sign_in("wang", ("grid_worker",))
    push_id = new_id(now())
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO push_outbox (id, user_id, kind, body, queued_at, next_attempt_at)"
            " VALUES (%s, %s, 'offered', '{}', %s, %s)",
            (push_id, user_id_of(worker), now(), now()),
        )
    assert other.post(f"/api/v1/push/{push_id}/receipt").json()["code"] == "unknown_push"
    assert worker.post(f"/api/v1/push/{push_id}/receipt").status_code == 204
    assert worker.post(f"/api/v1/push/{push_id}/receipt").status_code == 204


def test_health_tells_alive_from_ready(server: Server, broker: Settings) -> None:
    client = server.client()
    assert client.get("/healthz").json() == {"status": "ok"}
    lonely = client.get("/readyz")  # no broker listens at this installation's port
    checks = lonely.json()["checks"]
    assert lonely.status_code == 503 and checks["database"]["ok"] and checks["hub"]["ok"] and not checks["broker"]["ok"]
    with serve(server.settings.model_copy(update={"mqtt": broker.mqtt})) as running:
        ready = running.client().get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_metrics_count_by_template_and_are_for_this_machine_and_engineers(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in(roles=("engineer",))
    with database.transaction() as connection:
        incident_id = open_incident(connection)
        device_id = put_device(connection, "door-1")
    client.get(f"/api/v1/incidents/{incident_id}")
    text = client.get("/metrics").text
    assert 'gridwarden_incidents{state="filed"} 1.0' in text and "gridwarden_database_up 1.0" in text
    assert 'route="/api/v1/incidents/{incident_id}"' in text and str(incident_id) not in text
    assert 'gridwarden_devices{kind="door_sensor",status="unknown"} 1.0' in text and str(device_id) not in text
    far = {"X-Forwarded-For": "203.0.113.1"}
    assert server.client(**far).get("/metrics").status_code == 403
    assert client.get("/metrics", headers=far).status_code == 200


def test_the_written_description_of_the_api_is_the_programs_own() -> None:
    described = json.loads(describe_api())
    assert json.loads(PATH.read_text("utf-8")) == described, (
        "run `gridwarden openapi` (dashboard.openapi.write_openapi)"
    )
    answers = described["components"]["schemas"]
    assert {"IncidentDetail", "DeviceView", "StaffView", "Me", "MapSummary", "ProblemBody"} <= set(answers)
