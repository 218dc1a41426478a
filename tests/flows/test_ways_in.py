"""A device that speaks ThingsBoard's topics and a river station that speaks SL 651 raise incidents on a running system."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import paho.mqtt.client as paho
import pytest

from tests.conftest import free_port
from tests.flows.conftest import System, running_system
from tests.ingest.ways.frames import extra_report
from tests.waiting import wait_until

THINGS, STATIONS = "GRIDWARDEN_WAYS__THINGSBOARD_PORT", "GRIDWARDEN_WAYS__SL651_PORT"
PLACE = ("--lon", "120.1715", "--lat", "30.2815")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(**{THINGS: str(free_port()), STATIONS: str(free_port())}) as running:
        yield running


@pytest.fixture(scope="module")
def operator(system: System) -> Iterator[httpx.Client]:
    added = system.run("user", "add", "operator-1", "--role", "operator", "--role", "engineer")
    assert added.returncode == 0, added.stderr
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None
    with httpx.Client(base_url=f"{system.settings.public_url}/api/v1", timeout=10) as client:
        assert client.post("/login/link", json={"token": token[1], "seat": "wall"}).is_success
        yield client


def add_device(system: System, code: str, kind: str) -> str:
    """Register a device; its key."""
    added = system.run("device", "add", code, kind, *PLACE)
    assert added.returncode == 0, added.stderr
    key = re.search(r"key (\S+)", added.stdout)
    assert key is not None, added.stdout
    return key[1]


def open_categories(operator: httpx.Client) -> dict[str, str]:
    """Category -> cell of the open incidents."""
    answer = operator.get("/incidents", params={"state": "open"})
    answer.raise_for_status()
    return {incident["category"]["id"]: incident["cell_code"] for incident in answer.json()["items"]}


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])
def test_a_device_of_thingsboards_topics_raises_an_incident(
    system: System, operator: httpx.Client, version: paho.MQTTProtocolVersion
) -> None:
    token = add_device(system, f"tb-{int(version)}", "smoke_alarm")
    acknowledged = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
    client.username_pw_set(token)
    client.on_publish = lambda *_: acknowledged.set()
    client.connect("127.0.0.1", int(system.env[THINGS]))
    client.loop_start()
    try:
        client.publish("v1/devices/me/attributes", json.dumps({"fw_version": "2.1.7"}), qos=1)
        acknowledged.clear()
        client.publish("v1/devices/me/telemetry", json.dumps({"status": "alarm", "temperature_c": 41.5}), qos=1)
        assert acknowledged.wait(10)
        wait_until(lambda: "smoke" in open_categories(operator), "an incident of smoke", 30)
    finally:
        client.disconnect()
        client.loop_stop()
    assert open_categories(operator)["smoke"] == "330105012001005"
    [device] = [d for d in operator.get("/devices").json() if d["code"] == f"tb-{int(version)}"]
    wait_until(lambda: _read_status(operator, device["id"]) == "alarm", "the device shows its alarm", 30)


def _read_status(operator: httpx.Client, device_id: str) -> str:
    return str(operator.get(f"/devices/{device_id}").json()["status"])


def test_a_command_reaches_a_device_of_thingsboards_topics_and_is_answered(
    system: System, operator: httpx.Client
) -> None:
    token = add_device(system, "sluice-tb", "river_sluice")
    calls: list[dict[str, object]] = []
    subscribed, acknowledged = threading.Event(), threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(token)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_publish = lambda *_: acknowledged.set()

    def answer(_: object, __: object, message: paho.MQTTMessage) -> None:
        calls.append(json.loads(message.payload))
        client.publish(message.topic.replace("request", "response"), json.dumps({"result": "done"}), qos=1)

    client.on_message = answer
    client.connect("127.0.0.1", int(system.env[THINGS]))
    client.loop_start()
    try:
        client.subscribe("v1/devices/me/rpc/request/+", qos=1)
        client.publish("v1/devices/me/telemetry", json.dumps({"level_m": 1.2, "gate_opening_m": 0.4}), qos=1)
        assert subscribed.wait(10)
        assert acknowledged.wait(10)
        asked = system.run("device", "command", "sluice-tb", "stop_gate", "--reason", "drill")
        assert asked.returncode == 0, asked.stdout + asked.stderr
        [device] = [d for d in operator.get("/devices").json() if d["code"] == "sluice-tb"]

        def state() -> str:
            [command] = operator.get(f"/devices/{device['id']}/commands").json()["recent"]
            return str(command["state"])

        wait_until(lambda: state() in ("acknowledged", "verified"), "the command is answered", 30)
    finally:
        client.disconnect()
        client.loop_stop()
    assert calls == [{"method": "stop_gate", "params": {}}]


def test_a_stream_of_sl651_raises_an_incident_and_is_confirmed_again_when_it_repeats(
    system: System, operator: httpx.Client
) -> None:
    add_device(system, "sluice-1", "river_sluice")
    bound = system.run("device", "bind-station", "sluice-1", "3301050001", "--password", "1234")
    assert bound.returncode == 0, bound.stderr
    local = datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")) - timedelta(seconds=70)
    frame = extra_report(local)
    with socket.create_connection(("127.0.0.1", int(system.env[STATIONS])), timeout=10) as line:
        line.sendall(b"\x00AT+CIPSEND\r\n" + frame)
        first = line.recv(100)
        line.sendall(frame)
        again = line.recv(100)
    for confirmed in (first, again):
        # 7E7E, station, centre, password, 33, downward 8 bytes, STX, serial 0007, time 6, ESC, CRC 2
        assert confirmed[:16].hex().upper() == "7E7E3301050001051234338008020007"
        assert confirmed[22] == 0x1B
        assert len(confirmed) == 25
    wait_until(lambda: "river_level" in open_categories(operator), "an incident of the river's level", 30)
    assert open_categories(operator)["river_level"] == "330105012001005"
    [incident] = [
        i
        for i in operator.get("/incidents", params={"state": "open"}).json()["items"]
        if i["category"]["id"] == "river_level"
    ]
    assert len(operator.get(f"/incidents/{incident['id']}").json()["reports"]) == 1


def test_a_vendors_own_json_is_mapped_on_every_way(system: System, operator: httpx.Client, tmp_path: Path) -> None:
    key = add_device(system, "vendor-1", "smoke_alarm")
    mapping = {
        "name": "vendor smoke 1",
        "kind": "smoke_alarm",
        "topic": {"path": "evt", "values": {"1": "event"}},
        "fields": [
            {"from": "evt", "to": "status", "states": {"0": "normal", "1": "alarm", "2": "self_test"}},
            {"from": "d.tempF", "to": "temperature_c", "unit": "°F", "required": False},
        ],
        "time": {"path": "ts", "format": "ms"},
        "id": "no",
    }
    preview = operator.post(
        "/mappings/preview", json={"mapping": mapping, "payload": {"evt": 0, "no": 1, "ts": 1795000000000}}
    )
    assert preview.is_success, preview.text
    assert preview.json()["messages"][0]["payload"]["status"] == "normal"
    created = operator.post("/mappings", json=mapping)
    assert created.status_code == 201, created.text
    [device] = [d for d in operator.get("/devices").json() if d["code"] == "vendor-1"]
    chosen = operator.put(f"/devices/{device['id']}/mapping", json={"mapping_id": created.json()["id"]})
    assert chosen.is_success, chosen.text

    def post(number: int, event: int) -> httpx.Response:
        document = {"evt": event, "no": number, "ts": int(datetime.now(UTC).timestamp() * 1000), "d": {"tempF": 70}}
        return httpx.post(f"{system.settings.public_url}/api/v1/in/http", json=document,
                          headers={"Authorization": f"Bearer {key}"}, timeout=10)  # fmt: skip

    assert post(1, 0).json() == {"taken": 1, "refused": []}
    assert post(1, 0).json() == {"taken": 1, "refused": []}  # a repeat is known, and answered like the first
    refused = post(2, 9)
    assert refused.status_code == 422
    assert "unknown_state" in refused.text
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set("vendor-1", key)
    client.connect("127.0.0.1", system.settings.mqtt.port)
    client.loop_start()
    document = {"evt": 2, "no": 3, "ts": int(datetime.now(UTC).timestamp() * 1000), "d": {"tempF": 212}}
    client.publish("gridwarden/smoke_alarm/vendor-1/raw", json.dumps(document), qos=1).wait_for_publish(10)
    wait_until(
        lambda: (
            operator.get(f"/devices/{device['id']}").json()["metrics"].get("temperature_c", {}).get("value") == 100.0
        ),
        "the temperature that came on the raw topic",
        30,
    )
    client.disconnect()
    client.loop_stop()
