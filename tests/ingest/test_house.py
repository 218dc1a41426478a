"""Housekeeping: hourly sums that never lose or double a reading, retention, jobs that fail alone. Real PostgreSQL."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devices.reading import mark_late
from ingest.house import drop_hours, drop_raw, keep_house, read_storage, run_house, sum_late_hour, sum_next_hour
from ingest.store import ensure_partitions
from kernel.clock import Clock
from kernel.db import Connection, Database, DbRole, conninfo
from kernel.settings import Settings
from tests.conftest import ON_TIMESCALE, empty_tables
from tests.devices.test_reading import put_device, put_readings
from tests.ingest.test_batch import count, level, register, rows, take

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
native = pytest.mark.skipif(ON_TIMESCALE, reason="TimescaleDB sums by itself")
HOUR = timedelta(hours=1)


def sum_all(database: Database, now: datetime) -> int:
    """Sum whatever can be summed; how many hours."""
    total = 0
    for job in (lambda c: sum_next_hour(c, now), sum_late_hour):
        while True:
            with database.transaction() as connection:
                if not job(connection):
                    break
            total += 1
    return total


HOURS = """
    SELECT device_id, metric, hour, sum(n)::bigint, round(sum(total)::numeric, 6), min(least), max(greatest),
           min(first_at), max(last_at) FROM reading_hour GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
TRUTH = """
    SELECT device_id, metric, date_trunc('hour', measured_at), count(*), round(sum(value)::numeric, 6), min(value),
           max(value), min(measured_at), max(measured_at) FROM reading GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def test_hours_say_what_readings_say_before_and_after_they_are_summed(database: Database) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, [(NOW - timedelta(minutes=7 * n), n % 13) for n in range(400)])
    truth = rows(database, TRUTH)
    assert rows(database, HOURS) == truth
    summed = sum_all(database, NOW)
    assert summed == (0 if ON_TIMESCALE else 46) and rows(database, HOURS) == truth
    assert sum_all(database, NOW) == 0


@native
def test_an_hour_is_summed_a_quarter_of_an_hour_after_its_end(database: Database) -> None:
    with database.transaction() as connection:
        put_readings(connection, put_device(connection), [(NOW - timedelta(minutes=10), 1.0)])
    assert sum_all(database, NOW + timedelta(minutes=14)) == 0
    assert sum_all(database, NOW + timedelta(minutes=15)) == 1
    with database.transaction() as connection:
        assert read_storage(connection).summed_until_at == NOW


@native
def test_what_is_committed_long_after_it_was_received_is_summed_again(database: Database, settings: Settings) -> None:
    """As after an outage of the database: received at eight, committed at eleven."""
    register(database, "R1", "river_sluice")
    take(database, settings, level("a", -600, 1.0)._replace(received_at=NOW - timedelta(minutes=2)))
    assert sum_all(database, NOW + 3 * HOUR) == 3
    late = level("b", -540, 3.0)._replace(received_at=NOW - timedelta(minutes=1))
    take(database, settings, late, now=NOW + 3 * HOUR)
    assert rows(database, "SELECT n FROM reading_hour") == [(1,)]  # not in the sums yet
    assert sum_all(database, NOW + 3 * HOUR) == 1
    assert rows(database, HOURS) == rows(database, TRUTH) and rows(database, "SELECT FROM reading_late") == []


def test_what_is_committed_soon_marks_no_hour(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    take(database, settings, level("a", -600, 1.0), now=NOW + timedelta(minutes=4))
    assert rows(database, "SELECT FROM reading_late") == []


@native
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(0, 30), st.integers(-120, 5)),
            st.tuples(st.just("sum"), st.integers(0, 40), st.just(0)),
            st.tuples(st.just("killed"), st.integers(0, 40), st.just(0)),
        ),
        max_size=30,
    )
)
def test_any_order_of_taking_summing_and_being_killed_gives_the_same_hours(
    database: Database, settings: Settings, steps: list[tuple[str, int, int]]
) -> None:
    """`take`: received so many quarters of an hour after NOW, measured so many minutes off, committed at the end of time so far."""
    empty_tables(settings)
    now = NOW
    with database.transaction() as connection:
        device_id = put_device(connection)
    for index, (step, quarters, minutes) in enumerate(steps):
        moment = NOW + quarters * timedelta(minutes=15)
        now = max(now, moment)
        if step == "take":
            with database.transaction() as connection:
                measured_at = moment + timedelta(minutes=minutes)
                put_readings(connection, device_id, [(measured_at, float(index))], moment - measured_at)
                if moment < now - timedelta(minutes=5):
                    mark_late(connection, [moment.replace(minute=0)])
        elif step == "sum":
            sum_all(database, now)
        else:
            with pytest.raises(RuntimeError), database.transaction() as connection:
                sum_next_hour(connection, now)
                sum_late_hour(connection)
                raise RuntimeError("killed")
    sum_all(database, now + 2 * HOUR)
    assert rows(database, HOURS) == rows(database, TRUTH)


@native
def test_of_two_processes_one_sums(database: Database) -> None:
    with database.transaction() as connection:
        put_readings(connection, put_device(connection), [(NOW - 3 * HOUR, 1.0)])
    with database.transaction() as first, database.transaction() as second:
        assert sum_next_hour(first, NOW) == 1
        assert sum_next_hour(second, NOW) == 0


@native
def test_a_clock_that_was_years_ahead_does_no_harm_once_it_is_right(database: Database) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, [(NOW - 3 * HOUR, 1.0)])
    sum_all(database, NOW)
    with database.transaction() as connection:
        connection.execute("UPDATE reading_rollup SET until_at = '2038-01-19T04:00Z'")
    with database.transaction() as connection:
        put_readings(connection, device_id, [(NOW + timedelta(minutes=5), 2.0)])
    sum_all(database, NOW + 2 * HOUR)
    assert rows(database, HOURS) == rows(database, TRUTH)


def test_raw_readings_go_by_their_age_and_hours_stay(database: Database, settings: Settings) -> None:
    old = NOW - timedelta(days=100)
    with database.transaction() as connection:
        ensure_partitions(connection, old.date(), days_ahead=0)
        ensure_partitions(connection, NOW.date(), days_ahead=0)
        device_id = put_device(connection)
        put_readings(connection, device_id, [(old, 7.0), (NOW - 3 * HOUR, 8.0)])
    sum_everything(database, settings)
    keep_house(database, NOW, settings, lambda: False)
    assert rows(database, "SELECT value FROM reading") == [(8.0,)]
    assert rows(database, "SELECT greatest FROM reading_hour ORDER BY 1") == [(7.0,), (8.0,)]
    with database.transaction() as connection:  # chunks of hours hold ten days on TimescaleDB, a month on ours
        drop_hours(connection, (NOW - timedelta(days=60)).date())
    assert rows(database, "SELECT greatest FROM reading_hour ORDER BY 1") == [(8.0,)]


def sum_everything(database: Database, settings: Settings) -> None:
    if ON_TIMESCALE:
        with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
            connection.execute("CALL refresh_continuous_aggregate('reading_hour', NULL, %s::timestamptz)", (NOW,))
    else:
        sum_all(database, NOW)


@native
def test_an_hour_whose_readings_were_dropped_is_not_summed_again(database: Database) -> None:
    old = NOW - timedelta(days=10)
    with database.transaction() as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, [(old, 7.0)])
    sum_all(database, NOW)
    with database.transaction() as connection:
        drop_raw(connection, (NOW - timedelta(days=5)).date())
    with database.transaction() as connection:  # a dead letter of that hour, replayed
        put_readings(connection, device_id, [(old + timedelta(minutes=1), 9.0)])
        mark_late(connection, [old])
    sum_all(database, NOW)
    assert rows(database, "SELECT n, greatest FROM reading_hour") == [(1, 7.0)]
    assert rows(database, "SELECT FROM reading_late") == []


@contextmanager
def refuse(settings: Settings, function: str) -> Iterator[None]:
    """gw_worker may not call this for a while: a job that fails, as on a full disk."""
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
        connection.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM gw_worker")  # type: ignore[arg-type]
        try:
            yield
        finally:
            connection.execute(f"GRANT EXECUTE ON FUNCTION {function} TO gw_worker")  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["gw_make_reading_partition(date)", "gw_drop_hours(date)"])
def test_a_job_that_fails_stops_no_other(database: Database, settings: Settings, broken: str) -> None:
    old = NOW - timedelta(days=200)
    with database.transaction() as connection:
        put_readings(connection, put_device(connection), [(old, 7.0)])
        connection.execute(
            "INSERT INTO dead_letter (id, topic, payload, payload_bytes, reason, detail, received_at)"
            " VALUES (gen_random_uuid(), 't', '', 0, 'bad_topic', '', %s)",
            (old,),
        )
    with refuse(settings, broken):
        done = keep_house(database, NOW, settings, lambda: False)
    assert done["dead_letters"] == 1 and done["put_off"] == 1
    assert rows(database, "SELECT FROM reading") == []


def test_what_frees_room_comes_before_what_needs_it(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the first job that writes fails; by then old partitions must be gone."""
    calls: list[str] = []

    def note(name: str) -> Any:
        def job(connection: Connection, *rest: object) -> int:
            calls.append(name)
            raise psycopg.errors.DiskFull("no space left on device")

        return job

    for name in ("drop_raw", "drop_hours", "forget_dead_letters", "ensure_partitions", "sum_next_hour"):
        monkeypatch.setattr(f"ingest.house.{name}", note(name))
    assert keep_house(database, NOW, settings, lambda: False)["put_off"] == 5
    assert calls == ["drop_raw", "drop_hours", "forget_dead_letters", "ensure_partitions", "sum_next_hour"]


def test_several_processes_keep_house_at_once(database: Database, settings: Settings) -> None:
    rng = random.Random(2)
    with database.transaction() as connection:
        device_id = put_device(connection)
        readings = [(NOW - timedelta(minutes=rng.randrange(60 * 72)), rng.random()) for _ in range(500)]
        put_readings(connection, device_id, readings)
    truth = rows(database, TRUTH)
    threads = [
        threading.Thread(target=keep_house, args=(database, NOW, settings, lambda: False), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sum_all(database, NOW)
    assert rows(database, HOURS) == truth
    assert count(database, "SELECT count(*) FROM reading") == 500


def test_the_house_thread_leaves_when_told(database: Database, settings: Settings) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run_house, args=(settings, database, Clock(), stop), daemon=True)
    thread.start()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_storage_says_its_partitions_and_what_has_none(database: Database) -> None:
    with database.transaction() as connection:
        ensure_partitions(connection, NOW.date(), days_ahead=1)
        put_readings(connection, put_device(connection), [(NOW, 1.0), (NOW - timedelta(days=400), 1.0)])
    with database.transaction() as connection:
        storage = read_storage(connection)
    assert storage.timescale == ON_TIMESCALE and storage.unplaced == (not ON_TIMESCALE)
    assert storage.oldest_day is not None and storage.oldest_day <= NOW.date() <= (storage.newest_day or NOW.date())
    assert storage.raw_bytes > 0
