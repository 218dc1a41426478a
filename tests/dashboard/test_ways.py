"""Ways in over HTTPS: who may post, what is answered, what operators' platforms push; and the engineer's mappings."""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from devices.credential import issue_key, revoke_key
from devices.model import Device
from devices.store import DeviceRecord, add_device, read_state, set_device_enabled
from ingest.ways.station_store import bind_number
from kernel.db import Database
from kernel.settings import Settings
from tests.dashboard.conftest import Server, SignIn, serve

PAYLOADS = Path(__file__).parent.parent / "ingest" / "ways" / "payloads"
MAPPING = {
    "name": "vendor",
    "kind": "smoke_alarm",
    "fields": [{"from": "s", "to": "status", "states": {"0": "normal", "1": "alarm"}}],
    "id": "no",
}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def way_server(web_settings: Settings) -> Iterator[Server]:
    """A web process with the operators' ways on, and a small allowance."""
    ways = web_settings.ways.model_copy(update={"aep_token": "tel", "onenet_token": "abc123", "http_per_minute": 30})
    with serve(web_settings.model_copy(update={"ways": ways})) as running:
        yield running


@pytest.fixture
def client(way_server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{way_server.url}/api/v1", timeout=20)


def register(database: Database, code: str = "S1", parent: Device | None = None) -> tuple[Device, str]:
    record = DeviceRecord(code=code, kind="smoke_alarm", name=code, lon=120.17, lat=30.28, area_code="330105012001",
                          parent_id=parent.id if parent else None)  # fmt: skip
    with database.transaction() as connection:
        device = add_device(connection, record, now())
        return device, issue_key(connection, device, now())[1]


def message(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "id": f"m{number}", "at": now().isoformat(), "status": "normal", **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def count(database: Database, query: str) -> Any:
    with database.transaction() as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def test_a_message_is_stored_when_200_is_answered_and_a_repeat_is_answered_alike(
    client: httpx.Client, database: Database
) -> None:
    device, key = register(database)
    for _ in range(2):
        answer = client.post("/in/http", json=message(temperature_c=21.0), auth=("S1", key))
        assert (answer.status_code, answer.json()) == (200, {"taken": 1, "refused": []})
    with database.transaction() as connection:
        assert read_state(connection, device.id).metrics["temperature_c"]["value"] == 21.0
    assert count(database, "SELECT count(*) FROM device_message") == 1
    event = client.post("/in/http?topic=event", json=message(2, status="alarm"), headers=bearer(key))
    assert event.status_code == 200
    assert count(database, "SELECT count(*) FROM report") == 1


def test_an_array_says_for_each_what_was_wrong(client: httpx.Client, database: Database) -> None:
    gateway, key = register(database, "GW")
    register(database, "C1", parent=gateway)
    register(database, "X1")
    body = [
        message(1, device="C1"),
        message(2, status="melted"),
        message(3, device="X1"),
        message(4, at=(now() + timedelta(days=9)).isoformat()),
    ]
    answer = client.post("/in/http", json=body, headers=bearer(key)).json()
    assert answer["taken"] == 1
    assert [r["reason"] for r in answer["refused"]] == ["bad_payload", "future_dated", "not_allowed"]
    assert count(database, "SELECT count(*) FROM dead_letter") == 3
    assert count(database, "SELECT d.code FROM device_message m JOIN device d ON d.id = m.device_id") == "C1"


@pytest.mark.parametrize("body", [b"{broken", b"7", b"[1, 2]", b'"text"', b"\xff", b"[" * 500])
def test_nonsense_is_refused_with_words_and_kept(client: httpx.Client, database: Database, body: bytes) -> None:
    _, key = register(database)
    answer = client.post("/in/http", content=body, headers=bearer(key))
    assert answer.status_code == 422
    assert answer.json()["code"] == "refused"
    assert count(database, "SELECT count(*) FROM dead_letter") >= 1


def test_only_a_key_opens(client: httpx.Client, database: Database) -> None:
    device, key = register(database)
    register(database, "S2")
    for headers, code in (
        ({}, "no_key"),
        ({"Authorization": "Basic !!!"}, "no_key"),
        ({"Authorization": "Bearer nonsense"}, "wrong_key"),
        ({"Authorization": "Basic " + base64.b64encode(f"S2:{key}".encode()).decode()}, "wrong_key"),
    ):
        answer = client.post("/in/http", json=message(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
    with database.transaction() as connection:
        set_device_enabled(connection, device.code, False, now())
    assert client.post("/in/http", json=message(), headers=bearer(key)).json()["code"] == "disabled_device"
    with database.transaction() as connection:
        revoke_key(connection, device, 1, now())
    assert client.post("/in/http", json=message(), headers=bearer(key)).json()["code"] == "wrong_key"
    assert count(database, "SELECT count(*) FROM device_message") == 0


def test_who_tries_keys_or_sends_too_much_has_to_wait(client: httpx.Client, database: Database) -> None:
    _, key = register(database)
    body = [message(number) for number in range(25)]
    assert client.post("/in/http", json=body, headers=bearer(key)).status_code == 200
    late = client.post("/in/http", json=body, headers=bearer(key))
    assert (late.status_code, late.json()["code"]) == (429, "too_many_messages")
    assert int(late.headers["Retry-After"]) > 0
    codes = [client.post("/in/http", json=message(), headers=bearer("x")).status_code for _ in range(22)]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert client.post("/in/http", content=b"x" * 1_100_000, headers=bearer(key)).status_code in (413, 429)


def test_pushes_of_aep(client: httpx.Client, database: Database) -> None:
    device, _ = register(database)
    document = json.loads((PAYLOADS / "aep-service-data.json").read_text())
    document["timestamp"] = int(now().timestamp() * 1000)
    assert client.post("/in/aep", json=document).json()["code"] == "wrong_token"
    unknown = client.post("/in/aep?token=tel", json=document)  # 200: repeating changes nothing, and it is kept
    assert (unknown.status_code, unknown.json()["refused"][0]["reason"]) == (200, "unknown_device")
    with database.transaction() as connection:
        bind_number(connection, device, "aep", "860123456789012", now())
    for _ in range(2):
        assert client.post("/in/aep?token=tel", json=document).json() == {"taken": 1, "refused": []}
    assert count(database, "SELECT count(*) FROM report") == 1
    assert count(database, "SELECT count(*) FROM device_message") == 1
    broken = client.post("/in/aep?token=tel", json={"messageType": "dataReport"})
    assert (broken.status_code, broken.json()["refused"][0]["reason"]) == (200, "bad_payload")


def test_pushes_of_onenet(client: httpx.Client, database: Database) -> None:
    device, _ = register(database)

    def sign(nonce: str, text: str) -> str:
        return base64.b64encode(hashlib.md5(("abc123" + nonce + text).encode()).digest()).decode()

    asked = client.get("/in/onenet", params={"msg": "hello", "nonce": "n", "signature": sign("n", "hello")})
    assert (asked.status_code, asked.text) == (200, "hello")
    assert client.get("/in/onenet", params={"msg": "hello", "nonce": "n", "signature": "x"}).status_code == 403
    with database.transaction() as connection:
        bind_number(connection, device, "onenet", "2016617", now())
    point = {
        "type": 1,
        "dev_id": 2016617,
        "ds_id": "r",
        "at": int(now().timestamp() * 1000),
        "value": {"status": "alarm"},
    }
    text = json.dumps(point)
    body = f'{{"nonce": "n", "msg": {text}, "msg_signature": "{sign("n", text)}"}}'
    assert client.post("/in/onenet", content=body).json() == {"taken": 1, "refused": []}
    assert client.post("/in/onenet", content=body.replace("alarm", "normal")).json()["code"] == "wrong_token"
    assert count(database, "SELECT count(*) FROM report") == 1


def test_the_operators_ways_are_off_unless_set(server: Server) -> None:
    for path in ("/api/v1/in/aep?token=", "/api/v1/in/onenet"):
        answer = httpx.post(server.url + path, json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "way_is_off")


def test_an_engineer_previews_keeps_and_changes_a_mapping(sign_in: SignIn, server: Server, database: Database) -> None:
    engineer = sign_in("eng", roles=("engineer",))
    device, key = register(database)
    preview = engineer.post(
        "/api/v1/mappings/preview", json={"mapping": MAPPING, "payload": '{"s": 1, "no": 5}'}
    ).json()
    assert preview["problems"] == []
    assert (preview["messages"][0]["payload"]["status"], preview["messages"][0]["problem"]) == ("alarm", "")
    wrong = engineer.post("/api/v1/mappings/preview", json={"mapping": MAPPING, "payload": {"s": 3, "no": 5}}).json()
    assert wrong["problems"][0]["code"] == "unknown_state"
    assert engineer.post("/api/v1/mappings/preview", json={"mapping": MAPPING, "payload": "{"}).json()["problems"]
    made = engineer.post("/api/v1/mappings", json=MAPPING)
    assert made.status_code == 201
    assert engineer.post("/api/v1/mappings", json=MAPPING).json()["code"] == "name_taken"
    assert engineer.post("/api/v1/mappings", json={**MAPPING, "kind": "x"}).status_code == 422
    mapping_id = made.json()["id"]
    chosen = engineer.put(f"/api/v1/devices/{device.id}/mapping", json={"mapping_id": mapping_id})
    assert chosen.json()["mapping_id"] == mapping_id
    answer = httpx.post(f"{server.url}/api/v1/in/http", json={"s": 2, "no": 6}, headers=bearer(key))
    assert answer.status_code == 422  # 2 means nothing yet
    changed = {
        **MAPPING,
        "fields": [{"from": "s", "to": "status", "states": {"0": "normal", "1": "alarm", "2": "fault"}}],
    }
    assert engineer.put(f"/api/v1/mappings/{mapping_id}", json=changed).json()["version"] == 2
    assert [v["version"] for v in engineer.get(f"/api/v1/mappings/{mapping_id}/versions").json()] == [2, 1]
    replayed = engineer.post("/api/v1/dead-letters/replay", json={"reason": "not_mapped"})
    assert replayed.json()["taken"] == 1, replayed.text  # what could not be read before is read now
    assert count(database, "SELECT count(*) FROM dead_letter") == 0
    assert engineer.put(f"/api/v1/devices/{device.id}/mapping", json={"mapping_id": None}).json()["mapping_id"] is None


def test_an_engineer_binds_stations_and_numbers_within_their_scope(sign_in: SignIn, database: Database) -> None:
    engineer = sign_in("eng", roles=("engineer",), scope="330105012")
    stranger = sign_in("far", roles=("engineer",), scope="330105013")
    device, _ = register(database)
    path = f"/api/v1/devices/{device.id}"
    bound = engineer.post(f"{path}/stations", json={"address": "3301050001", "password": "1234", "level_base_m": 2.5})
    assert bound.json()["stations"] == [{"address": "3301050001", "level_base_m": 2.5}]
    assert "1234" not in bound.text
    assert engineer.post(f"{path}/stations", json={"address": "1", "password": "1234"}).json()["code"] == "bad_address"
    number = engineer.post(f"{path}/numbers", json={"way": "aep", "number": "860123456789012"})
    assert number.json()["numbers"] == [{"way": "aep", "number": "860123456789012"}]
    assert stranger.get(f"{path}/ways").status_code == 404
    with database.transaction() as connection:
        record = DeviceRecord(
            code="F1", kind="river_sluice", name="F1", lon=120.18, lat=30.28, area_code="330105013001"
        )
        far = add_device(connection, record, now())
    taken = stranger.post(f"/api/v1/devices/{far.id}/stations", json={"address": "3301050001", "password": "9999"})
    assert (taken.status_code, taken.json()["code"]) == (409, "address_taken")
    assert engineer.delete(f"{path}/stations/3301050001").json()["stations"] == []
    assert engineer.delete(f"{path}/numbers/aep/860123456789012").json()["numbers"] == []
    operator = sign_in("op", roles=("operator",))
    assert operator.get("/api/v1/mappings").status_code == 403
