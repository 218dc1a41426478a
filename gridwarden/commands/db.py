"""`gridwarden db …`"""

import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from gridwarden.postgres import find_binaries
from gridwarden.supervise import database_running
from kernel.db import DbRole, conninfo
from kernel.migration import read_migrations
from kernel.settings import load_settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Bring the database to this version."""
    settings = load_settings()
    with database_running(settings) as applied:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to do")


@app.command()
def status() -> None:
    """Say which migrations are applied, how readings are stored and how large the tables are."""
    settings = load_settings()
    with database_running(settings), psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        if connection.execute("SELECT to_regclass('schema_migration')").fetchone() == (None,):
            print("empty: run `gridwarden db migrate`")
            raise typer.Exit(1)
        known: dict[str, datetime] = dict(
            connection.execute("SELECT name, applied_at FROM schema_migration").fetchall()
        )
        for migration in read_migrations():
            print(
                f"{migration.name}  {known[migration.name]:%Y-%m-%d %H:%M}"
                if migration.name in known
                else f"{migration.name}  waiting"
            )
        row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
        print(f"readings: TimescaleDB {row[0]} hypertable" if row else "readings: native daily partitions")
        for name, rows, size in connection.execute(
            "SELECT relname, n_live_tup, pg_size_pretty(pg_total_relation_size(relid)) FROM pg_stat_user_tables"
            " ORDER BY pg_total_relation_size(relid) DESC LIMIT 8"
        ):
            print(f"  {name:24} ~{rows} rows  {size}")


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="Where to write the dump.")]) -> None:
    """Write the database to FILE (pg_dump's custom format). Pictures in the evidence directory are files: copy them beside it."""
    settings = load_settings()
    with database_running(settings):
        _run_tool("pg_dump", "--format=custom", f"--file={file}")
    print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


@app.command()
def restore(file: Annotated[Path, typer.Argument(exists=True, help="A dump made by `db backup`.")]) -> None:
    """Put a dump into an empty database; refuses one that holds tables."""
    settings = load_settings()
    with database_running(settings):
        with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
            row = connection.execute("SELECT count(*) FROM incident").fetchone() if _has_tables(connection) else (0,)
            if row and row[0]:
                print(f"refused: the database holds {row[0]} incidents; restore into an empty one")
                raise typer.Exit(1)
            timescale = connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
            connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
        with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:  # a dropped extension wants a new one
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute("GRANT USAGE ON SCHEMA public TO gw_app, gw_worker")
            if timescale is not None:
                connection.execute("CREATE EXTENSION timescaledb")
                connection.execute("SELECT timescaledb_pre_restore()")
        _run_tool(
            "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={_parts().get('dbname', 'gridwarden')}", str(file)
        )
        if timescale is not None:
            with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
                connection.execute("SELECT timescaledb_post_restore()")
    print(f"restored {file}")


def _has_tables(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return connection.execute("SELECT to_regclass('incident')").fetchone() != (None,)


def _parts() -> dict[str, object]:
    return dict(psycopg.conninfo.conninfo_to_dict(conninfo(load_settings(), DbRole.OWNER)))


def _run_tool(name: str, *arguments: str) -> None:
    """Run a PostgreSQL client program with the password in the environment, where no process list shows it."""
    parts = _parts()
    env = {**os.environ, "PGOPTIONS": "-c statement_timeout=0"}
    for key in ("host", "port", "dbname", "user", "password"):
        if parts.get(key):
            env["PGDATABASE" if key == "dbname" else f"PG{key.upper()}"] = str(parts[key])
    subprocess.run([_find_tool(name), *arguments], env=env, check=True)


def _find_tool(name: str) -> Path:
    """The client program of the server's own version where there is one, else ours: a newer one's dump does not go into an
    older server."""
    with psycopg.connect(conninfo(load_settings(), DbRole.OWNER)) as connection:
        major = connection.info.server_version // 10_000
    own = Path(f"/usr/lib/postgresql/{major}/bin") / name
    return own if load_settings().database.dsn and own.exists() else find_binaries() / name
