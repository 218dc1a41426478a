"""What TimescaleDB adds: a hypertable, compression, a continuous aggregate with its policy. That everything else works on
it as on our own server: GRIDWARDEN_TEST_ON=timescale with any tests. GRIDWARDEN_TEST_TIMESCALE_DSN: an owner's connection
to an empty database of a server that preloads timescaledb."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from devices.store import DeviceRecord, add_device
from ingest.house import read_storage, set_policy, sum_next_hour
from ingest.store import drop_readings, ensure_partitions
from kernel.db import Database, DbRole
from kernel.migration import check_schema
from kernel.settings import Settings
from tests.conftest import ON_TIMESCALE, TIMESCALE_DSN, make_timescale

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
DSN = TIMESCALE_DSN
pytestmark = [pytest.mark.timescale, pytest.mark.skipif(not DSN, reason="GRIDWARDEN_TEST_TIMESCALE_DSN is not set")]


@pytest.fixture
def timescale(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A migrated installation on the TimescaleDB server, empty."""
    yield request.getfixturevalue("settings") if ON_TIMESCALE else make_timescale(tmp_path)


def test_readings_are_a_hypertable_and_the_schema_is_known(timescale: Settings) -> None:
    check_schema(timescale, DbRole.WORKER)
    with psycopg.connect(DSN) as connection:
        rows = connection.execute("SELECT hypertable_name FROM timescaledb_information.hypertables").fetchall()
    assert rows == [("reading",)]


def test_readings_are_written_seen_in_scope_and_dropped_by_age(timescale: Settings) -> None:
    old = NOW - timedelta(days=200)
    with closing(Database(timescale, DbRole.WORKER)) as worker, closing(Database(timescale, DbRole.APP)) as app:
        with worker.transaction() as connection:
            record = DeviceRecord(
                code="r1", kind="river_sluice", name="r1", lon=120.17, lat=30.28, area_code="330105012001"
            )
            device = add_device(connection, record, NOW)
            ensure_partitions(connection, NOW.date())
            for moment in (old, NOW):
                connection.execute(
                    "INSERT INTO reading VALUES (%s, 'level_m', 1.5, %s, %s)", (device.id, moment, moment)
                )
        for scope, count in (("330105012", 2), ("330105013", 0), ("", 0)):
            with app.transaction(scope) as connection:
                assert connection.execute("SELECT count(*) FROM reading_seen").fetchone() == (count,), scope
        with app.transaction("*") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM reading")
        with worker.transaction() as connection:
            assert drop_readings(connection, (NOW - timedelta(days=90)).date()) == 1
            assert connection.execute("SELECT received_at FROM reading").fetchall() == [(NOW,)]


def put_levels(connection: psycopg.Connection[tuple[object, ...]], days: int) -> None:
    """A level every ten minutes for so many days until NOW."""
    record = DeviceRecord(code="r2", kind="river_sluice", name="r2", lon=120.17, lat=30.28, area_code="330105012001")
    device = add_device(connection, record, NOW)
    connection.execute(
        "INSERT INTO reading SELECT %s, 'level_m', 1.5, t, t FROM generate_series(%s::timestamptz, %s, '10 minutes') t",
        (device.id, NOW - timedelta(days=days), NOW - timedelta(minutes=10)),
    )


def count_hours(settings: Settings) -> tuple[object, ...] | None:
    with psycopg.connect(DSN) as connection:
        return connection.execute("SELECT count(*), sum(n)::int FROM reading_hour").fetchone()


def test_old_chunks_are_compressed_and_read_as_before(timescale: Settings) -> None:
    with closing(Database(timescale, DbRole.WORKER)) as worker, worker.transaction() as connection:
        put_levels(connection, 5)
    before = count_hours(timescale)
    with psycopg.connect(DSN, autocommit=True) as connection:
        jobs = connection.execute("SELECT config ->> 'compress_after' FROM timescaledb_information.jobs"
                                  " WHERE proc_name = 'policy_compression'").fetchall()  # fmt: skip
        assert jobs == [("2 days",)]
        packed = connection.execute("SELECT compress_chunk(c) FROM show_chunks('reading', %s::timestamptz) c",
                                    (NOW - timedelta(days=2),)).fetchall()  # fmt: skip
        assert len(packed) >= 3
        # A reading that comes late by its own clock stands in today's chunk; one that is replayed goes into a packed one.
        late = NOW - timedelta(days=4)
        connection.execute(
            "INSERT INTO reading SELECT device_id, metric, 2.5, measured_at, %s FROM reading LIMIT 1", (late,)
        )
        assert connection.execute("SELECT count(*) FROM reading WHERE value = 2.5").fetchone() == (1,)
    assert before == (120, 720) and count_hours(timescale) == (121, 721)


def test_hours_are_summed_by_the_server_and_outlive_the_raw_readings(timescale: Settings) -> None:
    with closing(Database(timescale, DbRole.WORKER)) as worker:
        with worker.transaction() as connection:
            put_levels(connection, 5)
            assert sum_next_hour(connection, NOW) == 0  # not ours to do here
        assert count_hours(timescale) == (120, 720)
        with psycopg.connect(DSN, autocommit=True) as connection:
            connection.execute("CALL refresh_continuous_aggregate('reading_hour', NULL, %s::timestamptz)", (NOW,))
        with worker.transaction() as connection:
            assert drop_readings(connection, (NOW - timedelta(days=2)).date()) == 3
            storage = read_storage(connection)
        assert storage.timescale and storage.oldest_day == (NOW - timedelta(days=2)).date()
        assert count_hours(timescale) == (120, 720)
        with psycopg.connect(DSN, autocommit=True) as connection:  # what the policy refreshes is what is still there
            connection.execute("CALL refresh_continuous_aggregate('reading_hour', %s::timestamptz, %s::timestamptz)",
                               (NOW - timedelta(days=2), NOW))  # fmt: skip
        assert count_hours(timescale) == (120, 720)


def test_the_refresh_never_looks_further_back_than_raw_readings_are_kept(timescale: Settings) -> None:
    with closing(Database(timescale, DbRole.WORKER)) as worker:
        with worker.transaction() as connection:
            set_policy(connection, 33)  # whatever it was before
        for days, changed, start in ((90, 1, "35 days"), (90, 0, "35 days"), (7, 1, "7 days")):
            with worker.transaction() as connection:
                assert set_policy(connection, days) == changed
            with psycopg.connect(DSN) as connection:
                found = connection.execute("SELECT config ->> 'start_offset' FROM timescaledb_information.jobs"
                                           " WHERE proc_name = 'policy_refresh_continuous_aggregate'").fetchall()  # fmt: skip
            assert found == [(start,)]
