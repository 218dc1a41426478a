"""The whole way in and out: real Mosquitto, real PostgreSQL, ingest as a thread or as a process that is killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from ingest import mqtt, session
from ingest.client import find_login
from ingest.mqtt import Intake, client_ids
from ingest.run import may_judge_absence, run
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import field_login
from tests.ingest.test_batch import register, rows
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SECOND_SLOT = 7


@pytest.fixture
def online(database: Database, broker: Settings) -> Settings:
    """Settings with an empty database and a running broker that keeps a new, empty session for ingest."""
    for client_id in (
        *client_ids(broker),
        *client_ids(broker, SECOND_SLOT),
    ):  # the broker keeps a share for a slot that is away
        forgetting = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)
        forgetting.username_pw_set(*find_login(broker))
        forgetting.connect(broker.mqtt.host, broker.mqtt.port)
        forgetting.loop_start()
        wait_until(forgetting.is_connected, "a connection")
        forgetting.disconnect()
        forgetting.loop_stop()
    with intake_of(broker, database):
        pass
    return broker


class Field:
    """Devices in the field: one client that publishes for them and hears their receipts."""

    def __init__(self, settings: Settings) -> None:
        self.receipts: list[tuple[str, dict[str, Any]]] = []
        self.heard: dict[str, float] = {}
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(*field_login(settings))
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(2000)
        self._subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe("gridwarden/+/+/receipt", 1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._hear
        self.client.connect(settings.mqtt.host, settings.mqtt.port)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def _hear(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        body = json.loads(message.payload)
        self.receipts.append((message.topic, body))
        self.heard.setdefault(body["id"], time.monotonic())

    def send(self, topic: str, body: bytes | dict[str, Any]) -> None:
        self.client.publish(topic, body if isinstance(body, bytes) else json.dumps(body), qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def field(online: Settings) -> Iterator[Field]:
    devices = Field(online)
    yield devices
    devices.close()


def body(id: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "id": id, "at": datetime.now(UTC).isoformat(), **fields}


@contextlib.contextmanager
def ingesting(settings: Settings) -> Iterator[None]:
    """The ingest role in a thread of this process."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
    assert not thread.is_alive(), "ingest did not leave within 15 s"


@contextlib.contextmanager
def intake_of(settings: Settings, database: Database) -> Iterator[Intake]:
    intake = Intake(settings, database, Clock())
    intake.start()
    wait_until(lambda: intake.listening_since, "a subscription")
    try:
        yield intake
    finally:
        intake.stop()


def break_connections(intake: Intake) -> None:
    for lane in intake._lanes:
        assert lane.session._socket is not None
        lane.session._socket.shutdown(2)


def taken(database: Database) -> int:
    return int(rows(database, "SELECT count(*) FROM device_message")[0][0])


def test_mosquitto_pub_with_a_payload_raises_a_report_and_the_receipt_comes_after_it(
    online: Settings, database: Database, field: Field
) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    register(database, "S1", "smoke_alarm")
    user, key = field_login(online)
    command = ["mosquitto_pub", "-h", online.mqtt.host, "-p", str(online.mqtt.port), "-u", user, "-P", key, "-q", "1"]
    with ingesting(online):
        payload = json.dumps(body("a1", status="alarm"))
        subprocess.run([*command, "-t", "gridwarden/smoke_alarm/S1/event", "-m", payload], check=True, timeout=10)
        wait_until(lambda: "a1" in field.heard, "a receipt")
        assert [row[:2] for row in rows(database, "SELECT rule, category FROM report")] == [("smoke", "smoke")]
        topic, receipt = field.receipts[0]
        assert topic == "gridwarden/smoke_alarm/S1/receipt"
        assert set(receipt) == {"v", "id", "at"}


def test_a_repeat_is_answered_again_and_stored_once(online: Settings, database: Database, field: Field) -> None:
    register(database, "S1", "smoke_alarm")
    message = body("a1", status="alarm")
    with ingesting(online):
        for count in (1, 2, 3):
            field.send("gridwarden/smoke_alarm/S1/event", message)
            wait_until(lambda count=count: len(field.receipts) == count, f"receipt {count}")
    assert taken(database) == 1
    assert len(rows(database, "SELECT FROM report")) == 1


def test_telemetry_is_stored_and_gets_no_receipt(online: Settings, database: Database, field: Field) -> None:
    register(database, "R1", "river_sluice")
    with ingesting(online):
        field.send("gridwarden/river_sluice/R1/telemetry", body("t1", level_m=1.0))
        field.send("gridwarden/river_sluice/R1/event", body("e1", level_m=1.0))
        wait_until(lambda: "e1" in field.heard, "the event's receipt")
    assert list(field.heard) == ["e1"]
    assert taken(database) == 2


def test_bad_messages_over_the_wire_are_dead_lettered_while_good_ones_arrive(
    online: Settings, database: Database, field: Field
) -> None:
    register(database, "R1", "river_sluice")
    topic = "gridwarden/river_sluice/R1/event"
    future = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    bad: list[tuple[str, str, bytes | dict[str, Any]]] = [
        ("malformed_json", topic, b'{"v": 1,'),
        ("too_large", topic, b'{"v":1,"id":"big","pad":"' + b"x" * 1_000_000 + b'"}'),
        ("too_deep", topic, b'{"v":1,"id":"deep","a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
        ("not_finite", topic, b'{"v":1,"id":"nan","at":"2026-11-20T08:00:00Z","level_m":NaN}'),
        ("bad_payload", topic, body("text", level_m="1.5")),
        ("future_dated", topic.replace("event", "state"), {**body("future", level_m=1.0), "at": future}),
        ("unknown_device", "gridwarden/river_sluice/R99/event", body("stranger", level_m=1.0)),
    ]
    with ingesting(online):
        for number, (_, where, what) in enumerate(bad):
            field.send(where, what)
            field.send(topic, body(f"good-{number}", level_m=1.0))
        wait_until(lambda: sum(i.startswith("good") for i in field.heard) == len(bad), "the good ones' receipts")
        wait_until(lambda: len(rows(database, "SELECT FROM dead_letter")) == len(bad), "the dead letters")
    found = rows(database, "SELECT reason, payload_bytes, length(payload) FROM dead_letter")
    assert sorted(reason for reason, _, _ in found) == sorted(reason for reason, _, _ in bad)
    assert {size: kept for reason, size, kept in found if reason == "too_large"} == {1_000_027: 65_536}
    refused = {answer["id"]: answer["refused"] for _, answer in field.receipts if "refused" in answer}
    assert refused == {"text": "bad_payload", "future": "future_dated", "stranger": "unknown_device"}


def test_what_was_sent_while_ingest_was_away_is_taken_when_it_is_back(
    online: Settings, database: Database, field: Field
) -> None:
    register(database, "R1", "river_sluice")
    with ingesting(online):
        field.send("gridwarden/river_sluice/R1/event", body("before", level_m=1.0))
        wait_until(lambda: "before" in field.heard, "a receipt")
    for number in range(3000):
        field.send("gridwarden/river_sluice/R1/telemetry", body(f"away-{number}", level_m=1.0))
    with ingesting(online):
        wait_until(lambda: taken(database) == 3001, "every message", 30)
        time.sleep(0.3)
    assert rows(database, "SELECT count(*), count(DISTINCT measured_at) FROM reading")[0][0] == 3001


def test_nothing_is_acknowledged_before_the_commit(
    online: Settings, database: Database, field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away: no receipt, no acknowledgement; memory stays bounded; then everything is drained."""
    register(database, "R1", "river_sluice")
    limits = online.ingest.model_copy(update={"batch_messages": 50})
    small = online.model_copy(update={"ingest": limits})
    away = threading.Event()
    away.set()
    genuine = mqtt.take_results
    acknowledged: list[int] = []
    write_pubacks = session.write_pubacks

    def take_results(*arguments: Any) -> Any:
        if away.is_set():
            raise psycopg.OperationalError("could not connect to server")
        return genuine(*arguments)

    def count_acks(mids: Sequence[int]) -> bytes:
        acknowledged.extend(mids)
        return write_pubacks(mids)

    monkeypatch.setattr(mqtt, "take_results", take_results)
    monkeypatch.setattr(session, "write_pubacks", count_acks)
    with intake_of(small, database) as intake:
        for number in range(1000):
            field.send("gridwarden/river_sluice/R1/event", body(f"e{number}", level_m=1.0))
        wait_until(lambda: intake.counts.retries > 2, "retries")
        assert acknowledged == []
        assert field.receipts == []
        assert intake.backlog <= 4 * 50
        away.clear()
        wait_until(lambda: len(field.heard) == 1000, "every receipt", 30)
    assert taken(database) == 1000
    assert 1000 <= len(acknowledged) < 1020  # with the lane's own marks


def test_acknowledgements_of_an_earlier_connection_are_dropped(
    online: Settings, database: Database, field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, "R1", "river_sluice")
    held, entered = threading.Event(), threading.Event()
    genuine = mqtt.take_results
    acknowledged: list[int] = []
    write_pubacks = session.write_pubacks

    def take_results(*arguments: Any) -> Any:
        entered.set()
        assert held.wait(60)
        return genuine(*arguments)

    def count_acks(mids: Sequence[int]) -> bytes:
        acknowledged.extend(mids)
        return write_pubacks(mids)

    monkeypatch.setattr(mqtt, "take_results", take_results)
    monkeypatch.setattr(session, "write_pubacks", count_acks)
    monkeypatch.setattr(mqtt, "_MARK_S", 3600.0)  # its own marks are acknowledged too
    with intake_of(online, database) as intake:
        field.send("gridwarden/river_sluice/R1/event", body("e1", level_m=1.0))
        assert entered.wait(30)
        first = intake.listening_since
        break_connections(intake)
        wait_until(lambda: intake.listening_since not in (None, first), "a new connection")
        wait_until(lambda: intake.counts.received == 2, "the redelivery")
        held.set()
        wait_until(lambda: intake.counts.batches == 2, "both deliveries")
    assert len(acknowledged) == 1  # only the delivery of this connection
    assert taken(database) == 1
    with intake_of(online, database) as again:
        time.sleep(0.5)
        assert again.counts.received == 0  # and it was acknowledged in truth


def test_absence_is_not_judged_while_disconnected_or_just_connected(online: Settings, database: Database) -> None:
    grace = online.model_copy(update={"ingest": online.ingest.model_copy(update={"restart_grace_s": 0.3})})
    with intake_of(grace, database) as intake:
        assert not may_judge_absence(intake, Clock(), grace)
        wait_until(lambda: may_judge_absence(intake, Clock(), grace), "the end of the grace")
        break_connections(intake)
        wait_until(lambda: not may_judge_absence(intake, Clock(), grace), "the break")


def test_two_workers_share_the_messages_and_take_each_once(online: Settings, database: Database, field: Field) -> None:
    for number in range(20):
        register(database, f"R{number}", "river_sluice")
    second = online.model_copy(update={"mqtt": online.mqtt.model_copy(update={"slot": SECOND_SLOT})})
    with intake_of(online, database) as one, intake_of(second, database) as two:
        for number in range(2000):
            field.send(f"gridwarden/river_sluice/R{number % 20}/event", body(f"e{number}", level_m=number / 1000))
        wait_until(lambda: len(field.heard) == 2000, "every receipt", 40)
        assert min(one.counts.taken, two.counts.taken) > 0
        assert one.counts.taken + two.counts.taken == 2000
    assert taken(database) == 2000


class Process:
    """Ingest as a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._env = {
            **os.environ,
            "GRIDWARDEN_CONFIG": "/nonexistent.toml",
            "GRIDWARDEN_DATA_DIR": str(settings.data_dir),
            "GRIDWARDEN_MQTT__PORT": str(settings.mqtt.port),
            "GRIDWARDEN_MQTT__EMBEDDED": "mosquitto",
            "GRIDWARDEN_INGEST__BATCH_MESSAGES": "100",
            "GRIDWARDEN_LOG__LEVEL": "error",
            "PYTHONPATH": str(ROOT),
        }
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "gridwarden.role", "ingest"], cwd=ROOT, env=self._env)

    def _obeys(self) -> bool:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def leave(self) -> int:
        wait_until(self._obeys, "a process that listens for SIGTERM")  # before that it would just end
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(12)


def test_killed_again_and_again_under_load_it_stores_every_receipted_message_once(
    online: Settings, database: Database, field: Field
) -> None:
    for number in range(10):
        register(database, f"R{number}", "river_sluice", level_limit_m=5.0)
    ingest = Process(online)
    try:
        wait_until(lambda: bool(field.send("gridwarden/river_sluice/R0/event", body("ready", level_m=1.0)) or field.heard),
                   "the first receipt", 20)  # fmt: skip
        sent = 0
        for _ in range(3):
            stop_at = time.monotonic() + 1.0
            while time.monotonic() < stop_at:
                # Now and then R0 is in flood for one message: an episode to be reported once, whatever happens.
                level_m = 9.0 if sent % 200 == 100 else 1.0
                field.send(f"gridwarden/river_sluice/R{sent % 10}/event", body(f"e{sent}", level_m=level_m))
                sent += 1
                if sent % 20 == 0:
                    time.sleep(0.01)
            ingest.kill()
            ingest.start()
        wait_until(lambda: len(field.heard) == sent + 1, f"{sent} receipts", 60)
    finally:
        status = ingest.leave()
    assert status == 0
    stored = {row[0] for row in rows(database, "SELECT message_id FROM device_message")}
    assert stored == set(field.heard)
    assert rows(database, "SELECT count(*) FROM reading") == [(sent + 1,)]
    floods = sum(n % 200 == 100 for n in range(sent))
    assert floods > 0
    assert rows(database, "SELECT count(*) FROM report") == [(floods,)]
    doubled = rows(database, "SELECT device_id, measured_at FROM reading GROUP BY 1, 2 HAVING count(*) > 1")
    assert doubled == []


def test_sigterm_during_load_loses_nothing_and_leaves_within_ten_seconds(
    online: Settings, database: Database, field: Field
) -> None:
    register(database, "R1", "river_sluice")
    ingest = Process(online)
    wait_until(lambda: bool(field.send("gridwarden/river_sluice/R1/event", body("ready", level_m=1.0)) or field.heard),
               "the first receipt", 20)  # fmt: skip
    for number in range(2000):
        field.send("gridwarden/river_sluice/R1/telemetry", body(f"t{number}", level_m=1.0))
    started = time.monotonic()
    assert ingest.leave() == 0
    assert time.monotonic() - started < 10
    ingest.start()
    try:
        wait_until(lambda: taken(database) == 2001, "every message", 30)
    finally:
        assert ingest.leave() == 0
