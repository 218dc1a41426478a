"""Any process may be killed at any time: nothing acknowledged is lost, nothing is doubled, the wall catches up."""

import asyncio
import json
import re
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import httpx
import paho.mqtt.client as mqtt
import pytest
import websockets

from dashboard.registration import NewDevice, register_device
from grid.locate import Locator
from kernel.db import Database, DbRole
from tests.flows.conftest import System
from tests.waiting import wait_until

COUNT = 36
VICTIMS = ("ingest", "dispatch", "web", "broker", "postgres", "vision")


class RepeatingDevices:
    """Smoke alarms as their firmware contract asks: an alarm is repeated until its receipt comes."""

    def __init__(self, system: System, login: tuple[str, str]) -> None:
        user, key = login
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="kill-drill")
        self.client.username_pw_set(user, key)
        self.client.reconnect_delay_set(0.2, 1)
        self.client.on_connect = lambda *_: self.client.subscribe("gridwarden/+/+/receipt", qos=1)
        self.client.on_message = self.on_receipt
        self.waiting: dict[str, dict[str, object]] = {}
        self.receipted: set[str] = set()
        self.lock = threading.Lock()
        self.client.connect_async(system.settings.mqtt.host, system.settings.mqtt.port)
        self.client.loop_start()

    def on_receipt(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        code = message.topic.split("/")[2]
        with self.lock:
            event = self.waiting.pop(code, None)
            if event is not None:
                assert json.loads(message.payload)["id"] == event["id"]
                self.receipted.add(code)

    def alarm(self, code: str) -> None:
        event = {
            "v": 1,
            "id": f"{code}-1",
            "seq": 1,
            "at": datetime.now(UTC).isoformat(),
            "status": "alarm",
            "battery_pct": 90,
        }
        with self.lock:
            self.waiting[code] = event
        self.send(code, event)

    def send(self, code: str, event: dict[str, object]) -> None:
        self.client.publish(f"gridwarden/smoke_alarm/{code}/event", json.dumps(event), qos=1)

    def repeat(self) -> None:
        with self.lock:
            waiting = dict(self.waiting)
        for code, event in waiting.items():
            self.send(code, event)


class Wall(threading.Thread):
    """A wall: one socket, resumed by number; what it shows."""

    def __init__(self, system: System, cookie: str) -> None:
        super().__init__(daemon=True)
        self.url = system.settings.public_url.replace("http", "ws") + "/api/v1/live?seat=wall"
        self.origin, self.cookie = system.settings.public_url, cookie
        self.incidents: dict[str, str] = {}
        self.seq: int | None = None
        self.connections = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        asyncio.run(self.watch())

    async def watch(self) -> None:
        while not self.stopped.is_set():
            try:
                since = "" if self.seq is None else f"&since={self.seq}"
                async with websockets.connect(
                    self.url + since, origin=self.origin, additional_headers={"Cookie": self.cookie}, max_size=None
                ) as socket:
                    self.connections += 1
                    while not self.stopped.is_set():
                        self.take(json.loads(await asyncio.wait_for(socket.recv(), 12)))
            except (OSError, TimeoutError, websockets.WebSocketException):
                await asyncio.sleep(0.3)

    def take(self, message: dict[str, object]) -> None:
        if message["type"] == "snapshot":
            self.incidents = {incident["id"]: incident["state"] for incident in message["incidents"]}  # type: ignore[attr-defined]
            self.seq = message["seq"]  # type: ignore[assignment]
        elif message["type"] == "delta":
            assert self.seq is None or message["seq"] > self.seq, "a delta came twice"  # type: ignore[operator]
            self.seq = message["seq"]  # type: ignore[assignment]
            for change in message["changes"]:  # type: ignore[attr-defined]
                if change["kind"] == "incident" and change["data"]:
                    self.incidents[change["id"]] = change["data"]["state"]


def register_smoke_alarms(system: System, gateway: str) -> list[str]:
    """COUNT smoke alarms over the nine cells, all on one gateway."""
    codes = [f"kill-{number:03d}" for number in range(COUNT)]
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        locator = Locator.load(connection)
        for number, code in enumerate(codes):
            lon, lat = 120.1705 + 0.001 * (number % 3), 30.2805 + 0.001 * (number // 3 % 3)
            new = NewDevice(code=code, kind="smoke_alarm", name=code, lon=lon, lat=lat, parent=gateway)
            register_device(connection, new, locator, system.settings, now)
    system.wait_for_child(codes[-1])
    return codes


@pytest.mark.drill
def test_every_process_is_killed_in_turn_while_alarms_come(system: System) -> None:
    added = system.run("user", "add", "kill-operator", "--role", "operator")
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None, added.stderr
    login = system.add_gateway("kill-gateway")
    codes = register_smoke_alarms(system, login[0])
    with httpx.Client(base_url=f"{system.settings.public_url}/api/v1", timeout=10) as operator:
        operator.post("/login/link", json={"token": token[1], "seat": "wall"}).raise_for_status()
        wall = Wall(system, "; ".join(f"{name}={value}" for name, value in operator.cookies.items()))
        wall.start()
        devices = RepeatingDevices(system, login)
        try:
            wait_until(lambda: wall.connections, "the wall connects", 30)
            for number, code in enumerate(codes):
                devices.alarm(code)
                if number % 6 == 3:
                    system.kill(VICTIMS[number // 6])
                time.sleep(0.2)
                devices.repeat()
            wait_until(
                lambda: devices.repeat() or not devices.waiting, f"receipts; missing: {sorted(devices.waiting)}", 40
            )
        finally:
            devices.client.loop_stop()
        assert devices.receipted == set(codes)
        wait_until(system.is_ready, "the system is ready again", 30)
        stored = check_database(system, codes)
        wait_until(lambda: stored <= set(wall.incidents), "the wall has caught up by itself", 30)
        assert wall.connections >= 2  # the web server was among the killed
        wall.stopped.set()


def check_database(system: System, codes: list[str]) -> set[str]:
    """One message, one report, one incident for each receipted alarm; the incidents' ids."""
    with closing(Database(system.settings, DbRole.WORKER)) as database:

        def count(query: str) -> int:
            with database.transaction("*") as connection:
                row = connection.execute(query, (codes,)).fetchone()  # type: ignore[call-overload]
                return int(row[0])

        of_devices = "WHERE device_id IN (SELECT id FROM device WHERE code = ANY (%s))"
        wait_until(
            lambda: count(f"SELECT count(*) FROM report {of_devices} AND incident_id IS NOT NULL") == COUNT,
            "incidents of all reports",
            30,
        )
        assert count(f"SELECT count(*) FROM device_message {of_devices}") == COUNT
        assert count(f"SELECT count(*) FROM report {of_devices}") == COUNT
        assert count(f"SELECT count(DISTINCT incident_id) FROM report {of_devices}") == COUNT
        with database.transaction("*") as connection:
            rows = connection.execute(
                "SELECT DISTINCT r.incident_id::text FROM report r JOIN device d ON d.id = r.device_id WHERE d.code = ANY (%s)",
                (codes,),
            ).fetchall()
        return {row[0] for row in rows}
