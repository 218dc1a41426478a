"""What goes wrong in a batch: poison among thousands, a full disk, two workers at the same devices, clocks that are off."""

import random
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devices.store import read_state
from ingest import batch as batches
from ingest.batch import Memory, take_batch
from ingest.decode import Raw
from kernel.db import Database, DbRole, conninfo
from kernel.settings import Settings
from tests.ingest.test_batch import NOW, at, count, level, message, register, rows, smoke, take


def test_a_test_message_is_checked_and_answered_and_nothing_is_stored(database: Database, settings: Settings) -> None:
    register(database, "S1", "smoke_alarm")
    outcome = take(
        database,
        settings,
        message("smoke_alarm", "S1", "event", NOW, "t1", status="alarm", test=True),
        message("smoke_alarm", "S1", "telemetry", NOW, "t2", battery_pct=50.0, status="normal", test=True),
        message("smoke_alarm", "S1", "event", NOW, "t3", status="on fire", test=True),
    )
    assert [receipt.write(NOW) for receipt in outcome.receipts] == [
        {"v": 1, "id": "t1", "at": "2026-11-20T08:00:00.000Z", "test": True},
        {"v": 1, "id": "t2", "at": "2026-11-20T08:00:00.000Z", "test": True},
        {"v": 1, "id": "t3", "at": "2026-11-20T08:00:00.000Z", "refused": "bad_payload"},
    ]
    assert (outcome.taken, outcome.repeated, outcome.reports, outcome.dead) == (0, 0, 0, 1)
    for table in ("device_message", "reading", "report"):
        assert count(database, f"SELECT count(*) FROM {table}") == 0
    assert rows(database, "SELECT status, last_seen_at FROM device_state") == [("unknown", None)]


def test_a_message_that_names_another_device_is_refused_and_audited(database: Database, settings: Settings) -> None:
    register(database, "S1", "smoke_alarm")
    register(database, "S2", "smoke_alarm")
    wrong = [message("smoke_alarm", "S1", "event", NOW, f"w{n}", status="alarm", device="S2") for n in range(3)]
    right = message("smoke_alarm", "S1", "event", NOW, "r", status="normal", device="S1")
    outcome = take(database, settings, *wrong, right)
    assert (outcome.taken, outcome.dead, outcome.reports) == (1, 3, 0)
    assert rows(database, "SELECT DISTINCT reason FROM dead_letter") == [("device_mismatch",)]
    audited = rows(
        database, "SELECT actor, action, subject, detail ->> 'reason' FROM audit WHERE action = 'message_refused'"
    )
    assert audited == [("ingest", "message_refused", "gridwarden/smoke_alarm/S1/event", "device_mismatch")]


def poison_at(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, bad: set[str], size: int) -> int:
    """Take `size` messages of which those with ids in `bad` break the transaction; how many transactions it took."""
    genuine, transactions = batches.observe, 0
    database_transaction = Database.transaction

    def observe(connection: Any, observation: Any) -> None:
        if any(m.id in bad for messages in observation.messages.values() for m in messages):
            connection.execute("SELECT 1 / 0")
        genuine(connection, observation)

    def transaction(self: Database, scope: str = "") -> Any:
        nonlocal transactions
        transactions += 1
        return database_transaction(self, scope)

    monkeypatch.setattr(batches, "observe", observe)
    monkeypatch.setattr(Database, "transaction", transaction)
    raws = [
        message("river_sluice", f"R{n % 10}", "event", at(n / 1000 - 60), f"m{n}", level_m=1.0) for n in range(size)
    ]
    outcome = take(database, settings, *raws)
    monkeypatch.undo()
    assert (outcome.taken, outcome.dead) == (size - len(bad), len(bad))
    assert sorted(r.message_id for r in outcome.receipts) == sorted(f"m{n}" for n in range(size))
    assert {r.message_id for r in outcome.receipts if r.refused} == bad
    return transactions


def test_one_poison_among_thousands_costs_a_few_transactions(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        register(database, f"R{n}", "river_sluice")
    transactions = poison_at(database, settings, monkeypatch, {"m1234"}, 2000)
    assert transactions <= 2 * 11 + 2  # two for each halving of 2,000, not 2,000
    assert count(database, "SELECT count(*) FROM reading") == 1999
    assert rows(database, "SELECT reason FROM dead_letter") == [("rule_failed",)]


def test_any_poison_is_set_aside_and_nothing_else(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        register(database, f"R{n}", "river_sluice")
    poison_at(database, settings, monkeypatch, {"m0", "m1", "m57", "m119"}, 120)
    assert count(database, "SELECT count(*) FROM device_message") == 116


@pytest.fixture
def full_disk(settings: Settings) -> Any:
    """PostgreSQL answers as it does when it cannot extend a file, until the fixture's function is called."""
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION be_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
        )
        connection.execute("CREATE TRIGGER full_disk BEFORE INSERT ON device_message EXECUTE FUNCTION be_full()")

        def make_room() -> None:
            connection.execute("DROP TRIGGER IF EXISTS full_disk ON device_message")

        try:
            yield make_room
        finally:
            make_room()
            connection.execute("DROP FUNCTION be_full()")


def test_a_full_disk_is_no_messages_fault_and_nothing_is_set_aside(
    database: Database, settings: Settings, full_disk: Any
) -> None:
    device = register(database, "S1", "smoke_alarm")
    for _ in range(2):
        with pytest.raises(psycopg.errors.DiskFull):
            take(database, settings, smoke("m1", "alarm"))
    assert count(database, "SELECT count(*) FROM dead_letter") == 0
    with database.transaction() as connection:
        assert read_state(connection, device.id).alarms == {}  # what was there can still be read
    full_disk()
    assert take(database, settings, smoke("m1", "alarm")).reports == 1


def test_two_workers_at_the_same_devices_neither_block_each_other_nor_lose_a_state(
    database: Database, settings: Settings
) -> None:
    """Each takes half of every device's messages, and both some that the other has too."""
    for n in range(12):
        register(database, f"R{n}", "river_sluice", level_limit_m=5.0)
    rng = random.Random(3)
    sent = [
        message("river_sluice", f"R{n % 12}", "telemetry", at(n / 10 - 100), f"m{n}", level_m=n / 1000, ph=7.0)
        for n in range(720)
    ]
    failures: list[BaseException] = []

    def work(share: list[Raw]) -> None:
        memory = Memory()
        try:
            while share:
                part, share = share[:40], share[40:]
                while True:
                    try:
                        take_batch(database, part, NOW, settings.ingest, settings.city.timezone, memory)
                        break
                    except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable) as error:
                        failures.append(error)
        except BaseException as error:
            failures.append(error)

    shares = [[raw for n, raw in enumerate(sent) if n % 2 == half or n % 7 == 0] for half in (0, 1)]
    for share in shares:
        rng.shuffle(share)
    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert failures == []
    assert count(database, "SELECT count(*) FROM device_message") == 720
    assert count(database, "SELECT count(*) FROM reading") == 2 * 720
    newest = rows(
        database,
        "SELECT d.code, (s.metrics -> 'level_m' ->> 'value')::float FROM device_state s"
        " JOIN device d ON d.id = s.device_id ORDER BY d.code",
    )
    assert dict(newest) == {f"R{n}": (708 + n) / 1000 for n in range(12)}


def test_a_device_that_changes_between_batches_is_seen_as_it_is(database: Database, settings: Settings) -> None:
    """Devices are remembered from batch to batch, but only as long as their rows are the same."""
    memory = Memory()
    devices = [register(database, f"S{n}", "smoke_alarm") for n in range(20)]

    def send(mark: str) -> tuple[int, int]:
        raws = [message("smoke_alarm", f"S{n}", "event", NOW, mark, status="normal") for n in range(21)]
        outcome = take_batch(database, raws, NOW, settings.ingest, settings.city.timezone, memory)
        return outcome.taken, outcome.dead

    assert send("a") == (20, 1)
    with database.transaction() as connection:
        connection.execute("UPDATE device SET enabled = false WHERE id = %s", (devices[3].id,))
    assert send("b") == (19, 2)
    register(database, "S20", "smoke_alarm")
    with database.transaction() as connection:
        connection.execute("UPDATE device SET enabled = true WHERE id = %s", (devices[3].id,))
    assert send("c") == (21, 0)
    with database.transaction() as connection:
        connection.execute("DELETE FROM device_state WHERE device_id = %s", (devices[5].id,))
        connection.execute("DELETE FROM device WHERE id = %s", (devices[5].id,))
    assert send("d") == (20, 1)


def test_repeats_in_a_batch_of_new_messages_are_found_in_either_way(database: Database, settings: Settings) -> None:
    memory = Memory()
    register(database, "R1", "river_sluice")

    def send(*ids: str) -> tuple[int, int]:
        raws = [level(i, -int(i), 1.0) for i in ids]
        outcome = take_batch(database, raws, NOW, settings.ingest, settings.city.timezone, memory)
        return outcome.taken, outcome.repeated

    assert send("1", "2", "3") == (3, 0)
    assert send("3", "4") == (1, 1)
    assert memory.expect_repeats > 0
    assert send("4", "5", "5") == (1, 2)
    assert send("6") == (1, 0)
    assert count(database, "SELECT count(*) FROM reading") == 6


def at_clock(code: str, id: str, seconds: float, ahead_s: float, **fields: Any) -> Raw:
    """A message received at `seconds`, of a device whose clock is ahead by `ahead_s`."""
    raw = message("river_sluice", code, "telemetry", at(seconds + ahead_s), id, **fields)
    return raw._replace(received_at=at(seconds))


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_a_clock_an_hour_off_loses_no_reading_and_is_shown(
    database: Database, settings: Settings, ahead_s: float
) -> None:
    device = register(database, "R1", "river_sluice", level_limit_m=2.0)
    for n in range(5):
        take(database, settings, at_clock("R1", f"m{n}", n, ahead_s, level_m=1.0), now=at(n))
    outcome = take(database, settings, at_clock("R1", "high", 5, ahead_s, level_m=3.0), now=at(5))
    assert outcome.reports == 1
    with database.transaction() as connection:
        state = read_state(connection, device.id)
    assert state.metrics["level_m"]["value"] == 3.0
    assert state.clock_offset_s == pytest.approx(-ahead_s, abs=0.01)
    assert rows(database, "SELECT clock_offset_s FROM device_state") == [(pytest.approx(-ahead_s, abs=0.01),)]
    assert count(database, "SELECT count(*) FROM reading") == 6
    assert count(database, f"SELECT count(*) FROM reading WHERE measured_at > '{at(6).isoformat()}'") == 0


def test_a_clock_that_is_set_back_does_not_freeze_the_device(database: Database, settings: Settings) -> None:
    """An hour ahead, then right: what comes after is newer, and a flood is not missed."""
    device = register(database, "R1", "river_sluice", level_limit_m=2.0)
    take(database, settings, at_clock("R1", "m1", 0, 3600.0, level_m=1.0), now=at(0))
    outcome = take(database, settings, at_clock("R1", "m2", 60, 0.0, level_m=3.0), now=at(60))
    assert outcome.reports == 1
    with database.transaction() as connection:
        assert read_state(connection, device.id).metrics["level_m"]["value"] == 3.0


def test_what_a_clock_far_ahead_sent_at_once_is_taken_in_its_own_order(database: Database, settings: Settings) -> None:
    device = register(database, "S1", "smoke_alarm")
    raws = [
        message("smoke_alarm", "S1", "event", at(3600 + n), f"{9 - n}", status=status)
        for n, status in enumerate(["alarm", "normal", "alarm", "recovered"])
    ]
    take(database, settings, *raws)
    with database.transaction() as connection:
        assert read_state(connection, device.id).alarms == {}


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_two_sessions_that_interleave_at_random_end_in_the_state_of_a_sorted_replay(
    database: Database, settings: Settings, data: st.DataObject
) -> None:
    """Alarms pass telemetry by on a way of their own, and either may come late, twice or in pieces."""
    mark = uuid4().hex[:10]
    for name in ("x" + mark, "y" + mark):
        register(database, name, "smoke_alarm")
    times = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True))
    kinds = [data.draw(st.sampled_from(["event", "telemetry"])) for _ in times]

    def send(to: str, n: int, topic: str) -> Raw:
        return message(
            "smoke_alarm", to, topic, at(n - 60), f"m{n}", status="normal", battery_pct=float(n), temperature_c=n / 2
        )

    ways = [[(n, k) for n, k in zip(times, kinds, strict=True) if k == kind] for kind in ("event", "telemetry")]
    ways = [data.draw(st.permutations(way)) for way in ways]
    while any(ways):
        way = data.draw(st.sampled_from([way for way in ways if way]))
        size = data.draw(st.integers(1, len(way)))
        take(database, settings, *(send("x" + mark, n, kind) for n, kind in way[:size]))
        if data.draw(st.booleans()):
            take(database, settings, *(send("x" + mark, n, kind) for n, kind in way[:size]))  # delivered again
        del way[:size]
    for n, kind in sorted(zip(times, kinds, strict=True)):
        take(database, settings, send("y" + mark, n, kind))
    found = rows(
        database,
        "SELECT s.metrics, s.status, s.measured_at FROM device_state s JOIN device d ON d.id = s.device_id"
        f" WHERE d.code IN ('x{mark}', 'y{mark}')",
    )
    assert found[0] == found[1]


def test_a_thousand_alarms_in_one_batch_are_a_thousand_reports(database: Database, settings: Settings) -> None:
    for n in range(1000):
        register_quickly(database, f"S{n}") if n else register(database, "S0", "smoke_alarm")
    began = time.monotonic()
    raws = [
        message("smoke_alarm", f"S{n}", "event", NOW - timedelta(seconds=1), "a", status="alarm") for n in range(1000)
    ]
    outcome = take(database, settings, *raws, *raws[:100])
    assert (outcome.taken, outcome.repeated, outcome.reports) == (1000, 100, 1000)
    assert time.monotonic() - began < 30


def register_quickly(database: Database, code: str) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO device (id, code, kind, name, lon, lat, source_crs, created_at, changed_at)"
            " VALUES (gen_random_uuid(), %s, 'smoke_alarm', '', 120.1, 30.2, 'EPSG:4490', %s, %s)",
            (code, NOW, NOW),
        )
