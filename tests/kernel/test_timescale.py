"""The same migrations and the same code on TimescaleDB. GRIDWARDEN_TEST_TIMESCALE_DSN: an owner's connection to an empty
database of a server that preloads timescaledb."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from devices.store import DeviceRecord, add_device
from ingest.store import drop_readings, ensure_partitions
from kernel.db import Database, DbRole
from kernel.migration import check_schema, migrate
from kernel.settings import DatabaseSettings, Settings

DSN = os.environ.get("GRIDWARDEN_TEST_TIMESCALE_DSN", "")
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
pytestmark = [pytest.mark.timescale, pytest.mark.skipif(not DSN, reason="GRIDWARDEN_TEST_TIMESCALE_DSN is not set")]


@pytest.fixture(scope="module")
def timescale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A migrated installation on the TimescaleDB server; its schema is dropped first."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
    with psycopg.connect(DSN, autocommit=True) as connection:  # a dropped extension wants a new connection
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    settings = Settings(data_dir=Path(tmp_path_factory.mktemp("timescale")), database=DatabaseSettings(dsn=DSN))
    assert migrate(settings, NOW)
    yield settings


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
