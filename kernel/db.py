"""Connections to PostgreSQL: who connects as whom, the scope of a transaction, and waking by NOTIFY."""

import hashlib
import logging
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from kernel.secret import read_secret
from kernel.settings import Settings

log = logging.getLogger(__name__)
Connection = psycopg.Connection[tuple[Any, ...]]


class DbRole(StrEnum):
    """Database log-ins. `app` sees rows in its scope only; `worker` sees all rows; `owner` migrates."""

    OWNER = "gw_owner"
    APP = "gw_app"
    WORKER = "gw_worker"


def socket_dir(data_dir: Path) -> Path:
    """Folder of the embedded server's socket. Short, because a socket's path may have 107 bytes at most."""
    return Path("/tmp") / f"gridwarden-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"


def conninfo(settings: Settings, role: DbRole) -> str:
    """Connection string for `role`: from the settings when given, else to the embedded server."""
    given = {
        DbRole.OWNER: settings.database.dsn,
        DbRole.APP: settings.database.app_dsn,
        DbRole.WORKER: settings.database.worker_dsn,
    }[role]
    options = (
        f"-c statement_timeout={int(settings.database.statement_timeout_s * 1000)}"
        f" -c lock_timeout={int(settings.database.lock_timeout_s * 1000)}"
        " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
    )
    extra: dict[str, Any] = {"options": options, "connect_timeout": 5, "application_name": f"gridwarden-{role}"}
    if given:
        return make_conninfo(given, **extra)
    login = {"user": role.value, "password": read_secret(settings.data_dir, role.value)}
    if settings.database.dsn:
        return make_conninfo(settings.database.dsn, **login, **extra)
    return make_conninfo(host=str(socket_dir(settings.data_dir)), dbname="gridwarden", **login, **extra)


def _check(connection: Connection) -> None:
    """Ask a connection whether it lives, when something came on it that nobody waits for: a server that leaves says so.

    Asking each time costs a round trip, and on a busy machine that is most of what a short transaction takes.
    """
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    if readable:
        ConnectionPool.check_connection(connection)


class Database:
    """A pool of connections for one role. Every use is a transaction with its scope set, or nothing."""

    def __init__(self, settings: Settings, role: DbRole, *, wait_s: float = 10.0) -> None:
        """Connects in the background; `wait_s`: how long a transaction may wait for a connection."""
        self._conninfo = conninfo(settings, role)
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=settings.database.pool_size,
            open=True,
            timeout=wait_s,
            # Give up soon: whoever asks next starts anew at once, instead of waiting for a pause that has doubled.
            reconnect_timeout=2.0,
            check=_check,
            kwargs={"autocommit": True},  # `transaction` begins and ends them itself
            name=role.value,
        )

    @contextmanager
    def transaction(self, scope: str = "") -> Iterator[Connection]:
        """One transaction. `scope` is '*' or division-code prefixes with commas; it means nothing to a worker.

        psycopg.Rollback raised inside leaves it without an error, and nothing of it stays.
        """
        begin = sql.SQL("BEGIN; SELECT set_config('gw.scope', {}, true)").format(scope)
        with self._pool.connection() as connection:  # rolls back when something was raised
            connection.execute(begin)
            try:
                yield connection
            except psycopg.Rollback as left:
                if left.transaction is not None:  # meant for a block inside, which is over
                    raise
                connection.rollback()
            else:
                connection.commit()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def listen(self, channel: str, woken: threading.Event, stop: threading.Event) -> threading.Thread:
        """Set `woken` at each NOTIFY on `channel` until `stop`; reconnects by itself. Polling stays the safety net."""
        thread = threading.Thread(
            target=self._listen, args=(channel, woken, stop), name=f"listen-{channel}", daemon=True
        )
        thread.start()
        return thread

    def _listen(self, channel: str, woken: threading.Event, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    connection.execute(f'LISTEN "{channel}"')
                    while not stop.is_set():
                        for _ in connection.notifies(timeout=1.0, stop_after=1):
                            woken.set()
            except psycopg.Error as error:
                log.warning("listening on %s interrupted: %s", channel, error)
                stop.wait(1.0)
