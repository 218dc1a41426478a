"""A dump goes back into an empty database with everything in it, on our own server and on TimescaleDB."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from gridwarden.cli import app
from ingest.store import ensure_partitions
from kernel.db import Database, DbRole, conninfo
from kernel.ids import new_id
from kernel.settings import DatabaseSettings, Settings
from tests.devices.test_reading import put_device, put_readings

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture
def copies(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """Two more databases on the same server."""
    monkeypatch.setenv("GRIDWARDEN_DATA_DIR", str(installation.data_dir))
    owner = conninfo(installation, DbRole.OWNER)
    names = [f"copy_{new_id(NOW).hex}" for _ in range(2)]
    with psycopg.connect(owner, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsns = [make_conninfo(owner, dbname=name, options="") for name in names]
    yield [installation.model_copy(update={"database": DatabaseSettings(dsn=dsn)}) for dsn in dsns]
    with psycopg.connect(owner, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str) -> str:
    monkeypatch.setenv("GRIDWARDEN_DATABASE__DSN", settings.database.dsn)
    result = CliRunner().invoke(app, ["db", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def read_all(settings: Settings) -> list[list[tuple[object, ...]]]:
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        return [
            connection.execute("SELECT * FROM reading ORDER BY measured_at").fetchall(),
            connection.execute("SELECT hour, sum(n), min(least) FROM reading_hour GROUP BY 1 ORDER BY 1").fetchall(),
            connection.execute("SELECT code, name FROM device").fetchall(),
            connection.execute("SELECT topic, device_code FROM dead_letter").fetchall(),
        ]


def test_a_dump_goes_back_into_an_empty_database(
    copies: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = copies
    run(monkeypatch, first, "migrate")
    with closing(Database(first, DbRole.WORKER)) as database, database.transaction() as connection:
        ensure_partitions(connection, NOW.date())
        device_id = put_device(connection)
        put_readings(connection, device_id, [(NOW - timedelta(minutes=7 * n), float(n)) for n in range(300)])
        connection.execute(
            "INSERT INTO dead_letter (id, topic, payload, payload_bytes, reason, detail, received_at)"
            " VALUES (%s, 'gridwarden/x/R1/event', '', 0, 'bad_payload', '', %s)",
            (new_id(NOW), NOW),
        )
    dump = tmp_path / "dump"
    run(monkeypatch, first, "backup", str(dump))
    run(monkeypatch, second, "restore", str(dump))
    assert read_all(second) == read_all(first) and len(read_all(second)[0]) == 300
    with closing(Database(second, DbRole.APP)) as database, database.transaction("330105") as connection:
        assert connection.execute("SELECT count(*) FROM reading_seen").fetchone() == (300,)  # rights came back too
    assert run(monkeypatch, second, "migrate").strip() == "nothing to do"
