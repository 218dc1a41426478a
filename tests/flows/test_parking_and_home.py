"""On a running system: a bound car leaves first and pays later; smoke in a home is told, and answered by the link."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devices.credential import issue_key
from devices.model import TopicKind
from devices.parking import flow, store
from devices.parking.session import Passage
from devices.parking.tariff import Tariff
from devices.store import read_device
from gridwarden.broker import find_mosquitto
from kernel.db import Database, DbRole
from simulators.fleet import DeviceSpec, Fleet, Login
from tests.flows.conftest import System, running_system
from tests.waiting import wait_until

GATE, SMOKE = "flow-gate", "flow-smoke"


class Gateway(BaseHTTPRequestHandler):
    """The city's SMS gateway: keeps what it is told."""

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture(scope="module")
def gateway() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.told = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def town(gateway: Any) -> Iterator[System]:
    """A running installation that knows the gateway."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    url = f"http://127.0.0.1:{gateway.server_port}/sms"
    with running_system(GRIDWARDEN_ESCALATION__URL=url, GRIDWARDEN_ESCALATION__STEP_S="3600") as system:
        yield system


def start_device(system: System, code: str, kind: str) -> Fleet:
    added = system.run("device", "add", code, kind, "--lon", "120.1715", "--lat", "30.2815")
    assert added.returncode == 0, added.stderr
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        user, key = issue_key(connection, read_device(connection, code), now, timedelta(hours=1))
    mqtt = system.settings.mqtt
    login = Login(host=mqtt.host, port=mqtt.port, username=user, password=key)
    fleet = Fleet([DeviceSpec(code=code, kind=kind, telemetry_s=1.0)], login, seed=7)
    fleet.start()
    wait_until(lambda: fleet.is_connected, f"the log-in of {code} is good", 30)
    return fleet


@pytest.fixture(scope="module")
def operator(town: System) -> Iterator[httpx.Client]:
    added = town.run("user", "add", "lin", "--role", "operator")
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None, added.stderr
    with httpx.Client(base_url=f"{town.settings.public_url}/api/v1", timeout=20) as client:
        assert client.post("/login/link", json={"token": token[1], "seat": "wall"}).is_success
        yield client


def device_of(client: httpx.Client, code: str) -> dict[str, Any]:
    return next(dict(device) for device in client.get("/devices").json() if device["code"] == code)


def furnish_lot(system: System) -> None:
    """The gate's lot has a tariff since yesterday, and one car came two hours ago."""
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction() as connection:
        gate = read_device(connection, GATE)
        key = ("flow-lot", gate.area_code)
        lot = store.make_lots(connection, {key: gate}, now)[key]
        store.write_tariff(connection, lot.id, now - timedelta(days=1), Tariff(), "test")
        came_at = now - timedelta(minutes=119)
        entry = Passage(id=uuid4(), device_id=gate.id, direction="in", plate="浙A8K2Q6", at=came_at)
        flow.take_passages(connection, lot, [entry], now)


def test_a_bound_car_read_wrongly_has_its_barrier_opened_and_its_charge_follows(
    town: System, operator: httpx.Client
) -> None:
    fleet = start_device(town, GATE, "parking_gate")
    try:
        furnish_lot(town)
        assert operator.post("/parking/bindings", json={"plate": "浙A·8K2Q6"}).status_code == 201
        gate_id = device_of(operator, GATE)["id"]
        wait_until(lambda: device_of(operator, GATE)["last_seen_at"], "the gate is heard", 30)
        car = {"direction": "out", "plate": "浙ABK2Q6", "lot": "flow-lot", "barrier": "closed"}
        fleet.send(GATE, TopicKind.EVENT, event="arrival", **car)

        def states() -> list[str]:
            return [c["state"] for c in operator.get(f"/devices/{gate_id}/commands").json()["recent"]]

        wait_until(lambda: states() == ["verified"], "the barrier opened, and was seen to be open", 30)
        firmware = fleet.devices[GATE].firmware
        assert firmware is not None and len(firmware.executed) == 1
        fleet.send(GATE, TopicKind.EVENT, event="passage", **car | {"barrier": "open"})

        def stays() -> list[tuple[Any, ...]]:
            items = operator.get("/parking/sessions").json()["items"]
            return [(s["state"], s["matched_by"], s["amount_fen"], s["payment"], s["plate"]) for s in items]

        wanted = ("left", "similar", 1000, "unpaid", "浙A·**2Q6")
        wait_until(lambda: wanted in stays(), "the stay ended and is owed for", 30)
        [decision] = operator.get("/parking/decisions").json()
        assert (decision["code"], decision["opened"]) == ("bound_plate", True)
    finally:
        fleet.stop()


def test_smoke_in_a_home_is_told_and_the_answer_calls_the_neighbour(
    town: System, operator: httpx.Client, gateway: Any
) -> None:
    fleet = start_device(town, SMOKE, "smoke_alarm")
    try:
        contacts = [
            {"order": 1, "role": "resident", "name": "王阿姨", "phone": "13800000001"},
            {"order": 2, "role": "neighbour", "name": "李强", "phone": "13800000002"},
        ]
        home = {"building": "3 幢", "household": "502", "contacts": contacts}
        smoke_id = device_of(operator, SMOKE)["id"]
        assert operator.put(f"/devices/{smoke_id}/home", json=home).json()["consent_state"] == "missing"
        fleet.alarm_smoke(SMOKE)
        wait_until(lambda: gateway.told, "the resident is told", 30)
        assert [notice["phone"] for notice in gateway.told] == ["13800000001"]
        url = gateway.told[0]["answer_url"]
        assert 'value="help"' in httpx.get(url).text
        assert httpx.post(url, data={"answer": "help"}).status_code == 200
        wait_until(lambda: len(gateway.told) == 2, "the neighbour is told", 30)
        assert gateway.told[1]["role"] == "neighbour"
        [incident] = operator.get("/incidents").json()["items"]
        events = operator.get(f"/incidents/{incident['id']}").json()["events"]
        said = [(e["detail"]["role"], e["detail"]["state"]) for e in events if e["action"] == "notice"]
        assert said[:2] == [("resident", "sent"), ("resident", "answered")]
        assert incident["category"]["id"] == "smoke" and incident["state"] != "closed", "its own way goes on"
    finally:
        fleet.stop()
