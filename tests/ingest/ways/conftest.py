"""Ways in that listen on free ports against a real PostgreSQL and a real Mosquitto."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from devices.credential import issue_key
from devices.model import Device
from devices.store import DeviceRecord, add_device, read_state
from ingest.store import ensure_partitions
from ingest.ways.listening import Ways
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import empty_tables, free_port
from tests.waiting import wait_until


@dataclass
class Site:
    """Listening ways in, and the database behind them."""

    settings: Settings
    database: Database
    ways: Ways

    def register(self, code: str, kind: str = "smoke_alarm", parent: Device | None = None) -> tuple[Device, str]:
        """A device and its key."""
        now = datetime.now(UTC)
        record = DeviceRecord(code=code, kind=kind, name=code, lon=120.17, lat=30.28, area_code="330105012001",
                              parent_id=parent.id if parent else None)  # fmt: skip
        with self.database.transaction() as connection:
            device = add_device(connection, record, now)
            return device, issue_key(connection, device, now)[1]

    def metrics(self, device: Device) -> dict[str, Any]:
        """The newest values by metric."""
        with self.database.transaction() as connection:
            return {name: metric["value"] for name, metric in read_state(connection, device.id).metrics.items()}

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database answers."""
        with self.database.transaction() as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def reasons(self) -> list[str]:
        """Reasons of all dead letters."""
        return [reason for (reason,) in self.rows("SELECT reason FROM dead_letter ORDER BY id")]


def ways_settings(broker: Settings, **changed: Any) -> Settings:
    """Settings with both listeners on free ports."""
    ways = broker.ways.model_copy(
        update={"thingsboard_port": free_port(), "sl651_port": free_port(), "frame_timeout_s": 0.3, **changed}
    )
    return broker.model_copy(update={"ways": ways})


@contextlib.contextmanager
def open_site(settings: Settings, database: Database) -> Iterator[Site]:
    """Ways in, listening."""
    ways = Ways(settings, database, Clock.of(settings.clock))
    ways.start()
    try:
        for port in (settings.ways.thingsboard_port, settings.ways.sl651_port):
            wait_until(lambda port=port: _answers(port), "a listener")  # type: ignore[misc]
        yield Site(settings, database, ways)
    finally:
        ways.stop()


def _answers(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def site(broker: Settings, database: Database) -> Iterator[Site]:
    """Both listeners, an empty database, partitions for today."""
    empty_tables(broker)
    with contextlib.suppress(psycopg.Error), database.transaction() as connection:
        ensure_partitions(connection, datetime.now(UTC).date())
    with open_site(ways_settings(broker), database) as running:
        yield running
