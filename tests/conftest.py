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

from devices.credential import make_password
from dispatch.calendar_table import add_plain_years
from gridwarden.broker import access_dir, find_mosquitto, prepare_broker, wait_for_broker
from gridwarden.postgres import prepare_postgres, remove_postgres, wait_for_postgres
from kernel.db import Database, DbRole, conninfo
from kernel.migration import migrate
from kernel.settings import DatabaseSettings, Settings

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


TIMESCALE_DSN = os.environ.get("GRIDWARDEN_TEST_TIMESCALE_DSN", "")
# Run any test on that server instead of our own: GRIDWARDEN_TEST_ON=timescale pytest tests/ingest tests/devices …
ON_TIMESCALE = os.environ.get("GRIDWARDEN_TEST_ON") == "timescale"


def make_timescale(folder: Path) -> Settings:
    """A migrated installation on the TimescaleDB server; what its database held is dropped."""
    with psycopg.connect(TIMESCALE_DSN, autocommit=True) as connection:
        connection.execute("DROP EXTENSION IF EXISTS timescaledb CASCADE")
    with psycopg.connect(TIMESCALE_DSN, autocommit=True) as connection:  # a dropped extension wants a new connection
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    settings = Settings(data_dir=folder / "data", database=DatabaseSettings(dsn=TIMESCALE_DSN))
    migrate(settings, datetime.now(UTC))
    return settings


@pytest.fixture(scope="session")
def installation() -> Iterator[Settings]:
    """Settings of a throw-away installation with a running PostgreSQL, migrated."""
    folder = Path(tempfile.mkdtemp(prefix="gw-test-"))
    if ON_TIMESCALE:
        yield make_timescale(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return
    settings = Settings(data_dir=folder / "data")
    server = prepare_postgres(settings)
    # Nothing here must outlive a crash of the machine, and flushing a thousand emptied tables takes long.
    command = [*server.command, "-c", "fsync=off", "-c", "full_page_writes=off"]
    process = subprocess.Popen(command, user=server.account, cwd="/", stderr=subprocess.DEVNULL)
    try:
        wait_for_postgres(settings)
        migrate(settings, datetime.now(UTC))
        with psycopg.connect(conninfo(settings, DbRole.WORKER)) as connection:
            add_plain_years(connection, datetime.now(UTC), "test")  # in whatever year the tests run
        yield settings
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
        remove_postgres(settings)


_KEEP = {
    "schema_migration", "category", "change_counter", "calendar_year", "calendar_day", "limit_version", "work_shift",
    "limit_rule",
}  # fmt: skip


def empty_tables(settings: Settings) -> None:
    """Empty every table but what the migrations seeded."""
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as connection:
        names = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        ).fetchall()
        tables = ", ".join(f'"{name}"' for (name,) in names if name not in _KEEP)
        connection.execute(f"TRUNCATE {tables} CASCADE")  # type: ignore[arg-type]
        if ON_TIMESCALE:  # what was summed outlives the readings
            connection.execute(
                "SELECT drop_chunks(view_name::regclass, timestamptz '9999-01-01')"
                " FROM timescaledb_information.continuous_aggregates"
            )
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


FIELD_LOGIN = ("field", "all devices of a test")


def field_login(settings: Settings) -> tuple[str, str]:
    """User and key on the `broker` fixture that may speak for every device; a real installation has no such log-in."""
    assert f"user {FIELD_LOGIN[0]}\n" in (access_dir(settings) / "acl").read_text(), "not the broker fixture's settings"
    return FIELD_LOGIN


def add_field_login(settings: Settings) -> None:
    """Let `field_login` in, as a gateway of everything."""
    user, key = FIELD_LOGIN
    folder = access_dir(settings)
    with (folder / "passwords").open("a") as passwords:
        passwords.write(f"{user}:{make_password(key)}\n")
    acl = (folder / "acl").read_text()
    ways_in = "".join(f"topic write gridwarden/+/+/{kind}\n" for kind in ("telemetry", "event", "state", "reply"))
    ways_out = "".join(f"topic read gridwarden/+/+/{kind}\n" for kind in ("receipt", "command"))
    (folder / "acl").write_text(f"user {user}\n{ways_in}{ways_out}\n{acl}")


@pytest.fixture(scope="session")
def broker(installation: Settings) -> Iterator[Settings]:
    """The same installation with a running Mosquitto on a free port (settings.mqtt says where)."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (scripts/setup --dev installs it)")
    mqtt = installation.mqtt.model_copy(update={"port": free_port(), "embedded": "mosquitto"})
    settings = installation.model_copy(update={"mqtt": mqtt})
    prepared = prepare_broker(settings)
    add_field_login(settings)
    process = subprocess.Popen(prepared.command, stderr=subprocess.DEVNULL, env={**os.environ})
    try:
        wait_for_broker(settings)
        yield settings
    finally:
        process.terminate()
        process.wait(10)
