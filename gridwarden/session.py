"""What a command works with: the settings, the running database, the time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from gridwarden.supervise import database_running
from kernel.clock import Clock
from kernel.db import Connection, Database, DbRole
from kernel.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Session:
    """One command's transaction, committed at its end, and the settings and time it goes by."""

    connection: Connection
    settings: Settings
    now: datetime


@contextmanager
def open_session() -> Iterator[Session]:
    """Settings read, database running (started for the command when it is not), one transaction as gw_worker."""
    settings = load_settings()
    with database_running(settings), closing(Database(settings, DbRole.WORKER)) as database:
        with database.transaction("*") as connection:
            yield Session(connection, settings, Clock.of(settings.clock).now())
