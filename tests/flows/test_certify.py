"""A device is put through its acceptance test against the running system: a good one passes, one that never repeats fails."""

import json
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import paho.mqtt.client as mqtt
import pytest

from dashboard.registration import NewDevice, register_device
from devices.credential import issue_key
from devices.store import read_device
from grid.locate import Locator
from kernel.db import Database, DbRole
from tests.drills.field import may_log_in
from tests.flows.conftest import System
from tests.waiting import wait_until


class ScriptedAlarm(threading.Thread):
    """A smoke alarm with a self-test every ten seconds and a heartbeat every three; `repeats` False: it says all once."""

    def __init__(self, system: System, login: tuple[str, str], code: str, *, repeats: bool) -> None:
        super().__init__(daemon=True)
        self.code, self.repeats = code, repeats
        self.waiting: dict[str, tuple[bytes, float, float]] = {}  # id: payload, next at, wait
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.seq = 0
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=code)
        self.client.username_pw_set(*login)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self.client.subscribe(f"gridwarden/smoke_alarm/{code}/receipt", qos=1)
        self.client.on_message = self.on_receipt
        self.client.connect(system.settings.mqtt.host, system.settings.mqtt.port)
        self.client.loop_start()

    def on_receipt(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self.lock:
            self.waiting.pop(json.loads(message.payload)["id"], None)

    def say(self, topic_kind: str) -> None:
        self.seq += 1
        body = {
            "v": 1,
            "id": f"{self.seq:06d}",
            "seq": self.seq,
            "at": datetime.now(UTC).isoformat(),
            "status": "self_test",
        }
        if topic_kind == "telemetry":
            body["status"] = "normal"
        payload = json.dumps(body).encode()
        if topic_kind == "event" and self.repeats:
            with self.lock:
                self.waiting[str(body["id"])] = (payload, time.monotonic() + 1.0, 1.0)
        self.client.publish(f"gridwarden/smoke_alarm/{self.code}/{topic_kind}", payload, qos=1)

    def run(self) -> None:
        began_s, events, beats = time.monotonic(), 0, 0
        while not self.stopped.wait(0.1):
            gone_s = time.monotonic() - began_s
            if gone_s >= events * 10:
                events += 1
                self.say("event")
            if gone_s >= beats * 3:
                beats += 1
                self.say("telemetry")
            with self.lock:
                for message_id, (payload, next_s, wait_s) in list(self.waiting.items()):
                    if time.monotonic() >= next_s:
                        self.waiting[message_id] = (payload, time.monotonic() + wait_s * 2, wait_s * 2)
                        self.client.publish(f"gridwarden/smoke_alarm/{self.code}/event", payload, qos=1)
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.drill
def test_a_good_device_passes_and_one_that_never_repeats_fails(system: System) -> None:
    logins = {}
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        locator = Locator.load(connection)
        for code in ("good-1", "mute-1"):
            new = NewDevice(code=code, kind="smoke_alarm", name=code, lon=120.1705, lat=30.2805)
            register_device(connection, new, locator, system.settings, now)
            logins[code] = issue_key(connection, read_device(connection, code), now)
    wait_until(lambda: all(may_log_in(system, login) for login in logins.values()), "the broker knows the log-ins", 30)
    devices = [
        ScriptedAlarm(system, logins["good-1"], "good-1", repeats=True),
        ScriptedAlarm(system, logins["mute-1"], "mute-1", repeats=False),
    ]
    for device in devices:
        device.start()
    runs = {}

    def certify(code: str) -> None:
        runs[code] = system.run("device", "certify", code, "--minutes", "0.7", timeout_s=150)

    threads = [threading.Thread(target=certify, args=(code,)) for code in logins]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(160)
    finally:
        for device in devices:
            device.stopped.set()
    good, mute = runs["good-1"], runs["mute-1"]
    assert "| 未收回执会重发 / Repeats until the receipt | 合格 / passed |" in good.stdout, good.stdout + good.stderr
    assert "| 断线自动重连 / Comes back when its connection is lost | 合格 / passed |" in good.stdout
    assert good.returncode == 0, good.stdout
    assert "| 未收回执会重发 / Repeats until the receipt | 不合格 / failed |" in mute.stdout, mute.stdout + mute.stderr
    assert mute.returncode == 1
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        rows = connection.execute("SELECT certify_until FROM device WHERE code = ANY (%s)", (list(logins),)).fetchall()
    assert rows == [(None,), (None,)], "receipts must flow again afterwards"
