"""Numbered, forward-only SQL files, applied under an advisory lock, with checksums that must not change afterwards."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from kernel.db import DbRole, conninfo
from kernel.secret import read_secret
from kernel.settings import Settings

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 4_715_001  # any fixed number: one migration at a time


class MigrationError(RuntimeError):
    """The database and the migrations of this version do not fit together; the text says how."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name and SQL."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files in order of their numbers, which start at 1 and have no gap."""
    found = [Migration(int(p.stem[:4]), p.stem, p.read_text("utf-8")) for p in sorted(folder.glob("[0-9]*.sql"))]
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migration numbers have a gap or a double: {[m.name for m in found]}")
    return found


def migrate(settings: Settings, now: datetime) -> list[str]:
    """Bring the database to this version; names of the files applied, in order. Safe with many callers at once.

    Raises MigrationError when an applied file has changed or the database is newer than this program.
    """
    applied: list[str] = []
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET lock_timeout = 0")
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        _make_roles(connection, settings)
        _use_timescale(connection)
        known = _read_applied(connection)
        migrations = read_migrations()
        _check(known, migrations)
        for migration in migrations:
            if migration.number in known:
                continue
            with connection.transaction():
                connection.execute(sql.SQL(migration.text))
                connection.execute(
                    "INSERT INTO schema_migration (number, name, checksum, applied_at) VALUES (%s, %s, %s, %s)",
                    (migration.number, migration.name, migration.checksum, now),
                )
            applied.append(migration.name)
    return applied


def check_schema(settings: Settings, role: DbRole) -> None:
    """Refuse to run on a schema that this program does not know.

    Raises MigrationError naming what to do.
    """
    with psycopg.connect(conninfo(settings, role), autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('schema_migration')").fetchone() == (None,):
            raise MigrationError("the database is empty: run `gridwarden db migrate`")
        known = _read_applied(connection)
    migrations = read_migrations()
    _check(known, migrations)
    if len(known) < len(migrations):
        raise MigrationError(
            f"the database lacks {len(migrations) - len(known)} migrations: run `gridwarden db migrate`"
        )


def _check(known: dict[int, tuple[str, str]], migrations: list[Migration]) -> None:
    newer = sorted(set(known) - {m.number for m in migrations})
    if newer:
        raise MigrationError(f"the database has migrations {newer} of a newer version: install that version")
    for migration in migrations:
        if migration.number in known and known[migration.number][1] != migration.checksum:
            raise MigrationError(f"migration {migration.name} was changed after it was applied")


def _read_applied(connection: psycopg.Connection[tuple[object, ...]]) -> dict[int, tuple[str, str]]:
    if connection.execute("SELECT to_regclass('schema_migration')").fetchone() == (None,):
        connection.execute(
            "CREATE TABLE schema_migration (number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL)"
        )
        connection.execute("GRANT SELECT ON schema_migration TO gw_app, gw_worker")
    rows = connection.execute("SELECT number, name, checksum FROM schema_migration").fetchall()
    return {int(str(number)): (str(name), str(checksum)) for number, name, checksum in rows}


def _make_roles(connection: psycopg.Connection[tuple[object, ...]], settings: Settings) -> None:
    """gw_app and gw_worker with this installation's passwords, unless their own DSN is set (then they exist)."""
    for role, given in ((DbRole.APP, settings.database.app_dsn), (DbRole.WORKER, settings.database.worker_dsn)):
        exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role.value,)).fetchone()
        if given and exists is not None:
            continue
        verb = "ALTER" if exists is not None else "CREATE"
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD {}").format(
                sql.SQL(verb), sql.Identifier(role.value), sql.Literal(read_secret(settings.data_dir, role.value))
            )
        )
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(sql.Identifier(role.value)))


def _use_timescale(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Take TimescaleDB when the server offers it and has it preloaded; without it native partitions serve."""
    offered = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    preloaded = connection.execute("SELECT current_setting('shared_preload_libraries') LIKE '%timescaledb%'").fetchone()
    if offered is not None and preloaded == (True,):
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
