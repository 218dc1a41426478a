"""The way in when things go wrong, over a real broker: alarms pass a backlog by, memory stays bounded, a full disk ends."""

import contextlib
import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from devices.model import TopicKind
from ingest import mqtt
from ingest.decode import Decoded
from ingest.run import may_judge_absence
from kernel.clock import Clock
from kernel.db import Database
from kernel.distress import is_disk_full
from kernel.settings import Settings
from tests.ingest.test_batch import count, register, rows
from tests.ingest.test_batch_hard import full_disk  # noqa: F401 - a fixture
from tests.ingest.test_mqtt import Field, body, field, intake_of, online, taken, wait_until  # noqa: F401 - fixtures


def with_limits(settings: Settings, **changed: Any) -> Settings:
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=changed)})


def test_an_alarm_passes_a_backlog_of_telemetry_by(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sent last, behind everything that waited while nobody was there, and taken first."""
    register(database, "R1", "river_sluice")
    register(database, "S1", "smoke_alarm")
    for number in range(3000):
        field.send("gridwarden/river_sluice/R1/telemetry", body(f"t{number}", level_m=1.0))
    field.send("gridwarden/smoke_alarm/S1/event", body("alarm", status="alarm"))
    wait_until(lambda: not field.client._out_messages, "the broker has them all")
    genuine = mqtt.take_results
    before_alarm: list[int] = []  # how many batches of telemetry had been committed when the alarm was
    batches: list[int] = []

    def take_slowly(database: Database, results: Any, *rest: Any) -> Any:
        outcome = genuine(database, results, *rest)
        if any(isinstance(r, Decoded) and r.message.topic_kind is TopicKind.TELEMETRY for r in results):
            batches.append(len(results))
            time.sleep(0.05)
        else:
            before_alarm.append(len(batches))
        return outcome

    monkeypatch.setattr(mqtt, "take_results", take_slowly)
    with intake_of(with_limits(online, batch_messages=100), database) as intake:
        wait_until(lambda: "alarm" in field.heard, "the alarm's receipt")
        wait_until(lambda: intake.counts.taken == 3001, "the rest", 40)
    assert len(batches) >= 30
    assert before_alarm[0] < 20
    assert count(database, "SELECT count(*) FROM report") == 1


def test_large_messages_are_bounded_by_their_bytes_while_the_database_is_away(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(database, "R1", "river_sluice")
    away = threading.Event()
    away.set()
    genuine = mqtt.take_results

    def take_results(*arguments: Any) -> Any:
        if away.is_set():
            raise psycopg.OperationalError("could not connect to server")
        return genuine(*arguments)

    monkeypatch.setattr(mqtt, "take_results", take_results)
    with intake_of(with_limits(online, queue_bytes=1_000_000, batch_messages=20), database) as intake:
        for number in range(300):
            field.send("gridwarden/river_sluice/R1/event", body(f"e{number}", level_m=1.0, pad="x" * 30_000))
        wait_until(lambda: intake.counts.retries > 2, "retries")
        lane = intake._happened
        wait_until(lambda: lane._queue.room() <= 0, "a full queue")
        wait_until(lambda: lane.backlog + 20 >= intake.counts.received, "a worker that holds one batch")
        received = intake.counts.received
        time.sleep(0.5)
        assert intake.counts.received <= received + 1  # reading has stopped; one may have been on its way
        assert lane._queue.held_bytes < 1_000_000 + 300_000  # what one read brings may go over it
        assert intake.trouble == "database_away"
        assert field.receipts == []
        away.clear()
        wait_until(lambda: len(field.heard) == 300, "every receipt", 30)
        assert intake.trouble is None
    assert taken(database) == 300


def test_a_full_disk_is_said_and_ends_by_itself(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    full_disk: Any,  # noqa: F811
) -> None:
    register(database, "S1", "smoke_alarm")
    with intake_of(online, database) as intake:
        field.send("gridwarden/smoke_alarm/S1/event", body("a1", status="alarm"))
        wait_until(lambda: intake.trouble == "disk_full", "the trouble")
        with database.transaction() as connection:
            wait_until(lambda: is_disk_full(connection), "the word of it")
        assert field.receipts == []
        full_disk()
        wait_until(lambda: "a1" in field.heard, "the receipt", 20)
        assert intake.trouble is None
        with database.transaction() as connection:
            assert not is_disk_full(connection)
    assert rows(database, "SELECT category FROM report") == [("smoke",)]


def test_connections_that_break_under_load_lose_and_double_nothing(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
) -> None:
    """Three times in the middle: everything is taken, once."""
    register(database, "R1", "river_sluice")
    with intake_of(with_limits(online, batch_messages=50), database) as intake:
        for number in range(1000):
            field.send("gridwarden/river_sluice/R1/event", body(f"e{number}", level_m=1.0))
            if number % 300 == 150:
                for lane in intake._lanes:
                    if (connection := lane.session._socket) is not None:
                        with contextlib.suppress(OSError):  # it ended in this moment
                            connection.shutdown(2)
        wait_until(lambda: len(field.heard) == 1000, "every receipt", 40)
    assert taken(database) == 1000
    assert count(database, "SELECT count(*) FROM reading") == 1000


class QuickBroker:
    """A session whose messages are back before `publish` is, as they can be on a busy machine; or never, when it `loses`."""

    connection = 1

    def __init__(self, lane: mqtt.Lane) -> None:
        self.lane, self.loses, self.sent = lane, False, 0

    def publish(self, messages: list[tuple[str, bytes]], *, qos: int = 1) -> bool:
        self.sent += len(messages)
        if not self.loses:
            self.lane._receive([(topic.encode(), payload, len(payload), 0) for topic, payload in messages], 1)
            self.lane._take(self.lane._queue.take(100, 0.0))
        return True

    def wake(self) -> None: ...

    def acknowledge(self, mids: list[int], connection: int) -> None: ...


@pytest.fixture
def quick(online: Settings, database: Database) -> QuickBroker:  # noqa: F811
    lane = mqtt.make_measured_lane(online, database, Clock())
    broker = QuickBroker(lane)
    lane.session = broker  # type: ignore[assignment]
    return broker


def test_a_mark_that_is_back_before_its_sending_returns_is_followed_by_the_next(quick: QuickBroker) -> None:
    """Else silence would never be judged again on this connection."""
    marks = []
    for _ in range(3):
        quick.lane.mark()
        marks.append(quick.lane.caught_up_at)
    assert quick.sent == len(set(marks)) == 3


def test_a_lost_mark_is_followed_by_another_after_a_while(quick: QuickBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    quick.loses = True
    quick.lane.mark()
    quick.lane.mark()
    assert quick.sent == 1
    monkeypatch.setattr(mqtt, "_MARK_LOST_S", 0.0)
    quick.loses = False
    quick.lane.mark()
    assert quick.lane.caught_up_at is not None


def test_nobody_is_called_silent_while_messages_wait_for_the_database(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(database, "R1", "river_sluice")
    away = threading.Event()
    away.set()
    genuine = mqtt.take_results

    def take_results(*arguments: Any) -> Any:
        if away.is_set():
            raise psycopg.OperationalError("could not connect to server")
        return genuine(*arguments)

    monkeypatch.setattr(mqtt, "take_results", take_results)
    monkeypatch.setattr("ingest.run._BEHIND", timedelta(seconds=2))
    settings = with_limits(online, restart_grace_s=0.0)
    with intake_of(settings, database) as intake:
        wait_until(lambda: may_judge_absence(intake, Clock(), settings), "the first marks")
        field.send("gridwarden/river_sluice/R1/telemetry", body("t", level_m=1.0))
        wait_until(lambda: not may_judge_absence(intake, Clock(), settings), "the wait to count")
        away.clear()
        wait_until(lambda: may_judge_absence(intake, Clock(), settings), "the commit", 20)


def test_nobody_is_called_silent_while_a_backlog_waits_in_the_broker(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(database, "R1", "river_sluice")
    genuine = mqtt.take_results

    def take_slowly(*arguments: Any) -> Any:
        time.sleep(0.05)  # batches small and quick: no message waits for long once it is here
        return genuine(*arguments)

    monkeypatch.setattr(mqtt, "take_results", take_slowly)
    monkeypatch.setattr("ingest.run._BEHIND", timedelta(seconds=2))
    settings = with_limits(online, restart_grace_s=0.0, batch_messages=20)
    with intake_of(settings, database):
        pass  # the broker keeps the session from now on
    for number in range(2000):
        field.send("gridwarden/river_sluice/R1/event", body(f"e{number}", level_m=1.0))
    wait_until(lambda: not field.client._out_messages, "the broker has them all")
    with intake_of(settings, database) as intake:
        early = []
        while count(database, "SELECT count(*) FROM device_message") < 2000:
            early.append(may_judge_absence(intake, Clock(), settings))
            time.sleep(0.02)
        assert not any(early)
        wait_until(lambda: may_judge_absence(intake, Clock(), settings), "it has caught up")
