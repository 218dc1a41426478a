"""Real servers for the tests: PostgreSQL from the runtime's own binaries, Mosquitto from the system."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from gridwarden.broker import find_mosquitto, prepare_broker, wait_for_broker
from gridwarden.postgres import prepare_postgres, wait_for_postgres
from kernel.db import Database, DbRole, conninfo
from kernel.migration import migrate
from kernel.settings import Settings

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real footage and photographs beside the checkout; tests that need them are skipped where they are absent."""
    if not (SHARED / "data").exists():
        pytest.skip(f"no {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(scope="session")
def installation() -> Iterator[Settings]:
    """Settings of a throw-away installation with a running PostgreSQL, migrated."""
    folder = Path(tempfile.mkdtemp(prefix="gw-test-"))
    settings = Settings(data_dir=folder / "data")
    server = prepare_postgres(settings)
    # Nothing here must outlive a crash of the machine, and flushing a thousand emptied tables takes long.
    command = [*server.command, "-c", "fsync=off", "-c", "full_page_writes=off"]
    process = subprocess.Popen(command, user=server.account, cwd="/", stderr=subprocess.DEVNULL)
    try:
        wait_for_postgres(settings)
        migrate(settings, datetime.now(UTC))
        yield settings
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(server.cluster_dir.parent if server.account else server.cluster_dir, ignore_errors=True)
        shutil.rmtree(server.socket_dir, ignore_errors=True)


_KEEP = {"schema_migration", "category", "change_counter"}


def empty_tables(settings: Settings) -> None:
    """Empty every table but what the migrations seeded."""
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
        names = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        ).fetchall()
        tables = ", ".join(f'"{name}"' for (name,) in names if name not in _KEEP)
        connection.execute(f"TRUNCATE {tables} CASCADE")  # type: ignore[arg-type]
        connection.execute("UPDATE change_counter SET last = 0")


@pytest.fixture
def settings(installation: Settings) -> Settings:
    """Settings of an installation whose database is migrated and empty (categories are seeded)."""
    empty_tables(installation)
    return installation


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Connections as gw_worker: sees every row."""
    with contextlib.closing(Database(settings, DbRole.WORKER)) as pool:
        yield pool


@pytest.fixture
def app_database(settings: Settings) -> Iterator[Database]:
    """Connections as gw_app: sees what the transaction's scope allows."""
    with contextlib.closing(Database(settings, DbRole.APP)) as pool:
        yield pool


@pytest.fixture(scope="session")
def broker(installation: Settings) -> Iterator[Settings]:
    """The same installation with a running Mosquitto on a free port (settings.mqtt says where)."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (scripts/setup --dev installs it)")
    mqtt = installation.mqtt.model_copy(update={"port": free_port(), "embedded": "mosquitto"})
    settings = installation.model_copy(update={"mqtt": mqtt})
    prepared = prepare_broker(settings)
    process = subprocess.Popen(prepared.command, stderr=subprocess.DEVNULL, env={**os.environ})
    try:
        wait_for_broker(settings)
        yield settings
    finally:
        process.terminate()
        process.wait(10)
