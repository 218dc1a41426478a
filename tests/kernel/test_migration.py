"""Migrations: numbered, unchanging, refused when the database is newer."""

from datetime import UTC, datetime

import psycopg
import pytest

from kernel import migration
from kernel.db import DbRole, conninfo
from kernel.migration import Migration, MigrationError, check_schema, migrate
from kernel.settings import Settings

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_a_second_run_has_nothing_to_do(settings: Settings) -> None:
    assert migrate(settings, NOW) == []
    check_schema(settings, DbRole.APP)


def test_a_changed_file_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = migration.read_migrations()
    changed = [Migration(first.number, first.name, first.text + "\n-- changed"), *rest]
    monkeypatch.setattr(migration, "read_migrations", lambda: changed)
    with pytest.raises(MigrationError, match="was changed"):
        check_schema(settings, DbRole.WORKER)


def test_a_newer_database_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "read_migrations", list)
    with pytest.raises(MigrationError, match="newer version"):
        check_schema(settings, DbRole.WORKER)


def test_no_log_in_of_the_system_bypasses_row_level_security(settings: Settings) -> None:
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        rows = connection.execute(
            "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname IN ('gw_app', 'gw_worker') ORDER BY 1"
        ).fetchall()
    assert rows == [("gw_app", False), ("gw_worker", False)]


@pytest.mark.parametrize(
    "table", ["device", "camera", "device_state", "evidence", "incident", "incident_event", "report", "change"]
)
def test_tables_with_a_place_force_row_level_security(settings: Settings, table: str) -> None:
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        row = connection.execute(
            "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = %s", (table,)
        ).fetchone()
    assert row == (True, True)
