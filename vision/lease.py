"""Which cameras this process watches, where several share a database: each camera is one process's at a time.

A lease is an advisory lock in a session of its own: it ends with the session, so a process that is killed lets go at once, and
one whose machine is lost as soon as the server notices (`_NOTICE`, half a minute). Nobody has to compare clocks. Who comes
second stands by, and takes over what becomes free.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from uuid import UUID

import psycopg

from kernel.db import Connection, DbRole, conninfo
from kernel.settings import Settings

log = logging.getLogger(__name__)

_CLASS = 1_986_622_317
"""Of the locks: first of two numbers; the second is made from the camera's id."""

_NOTICE = (
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)


class Leases:
    """The leases of one process. `hold` is for one thread; any may `close`."""

    def __init__(self, settings: Settings) -> None:
        self._conninfo = conninfo(settings, DbRole.WORKER)
        self._connection: Connection | None = None
        self._held: set[UUID] = set()
        self._lock = threading.Lock()
        self._closed = False

    def hold(self, wanted: Iterable[UUID]) -> set[UUID]:
        """Those of `wanted` that are ours: what was, and what is free; whatever else was ours is let go.

        Raises psycopg.OperationalError while the database is away. All are lost with the session, and taken anew with the next.
        """
        with self._lock:
            if self._closed:
                return set()
            wanted = set(wanted)
            try:
                return self._hold(self._connect(), wanted)
            except psycopg.Error:
                self._drop()
                raise

    def _hold(self, connection: Connection, wanted: set[UUID]) -> set[UUID]:
        gone = list(self._held - wanted)
        connection.execute("SELECT pg_advisory_unlock(%s, hashtext(id)) FROM unnest(%s::text[]) id", (_CLASS, gone))
        self._held -= set(gone)
        rows = connection.execute(
            "SELECT id FROM unnest(%s::text[]) id WHERE pg_try_advisory_lock(%s, hashtext(id))",
            (sorted(wanted - self._held), _CLASS),
        ).fetchall()
        taken = {UUID(row[0]) for row in rows}
        self._held |= taken
        if len(self._held) < len(wanted) and (taken or gone):
            log.info("%d of %d cameras are watched here, the others by another process", len(self._held), len(wanted))
        return set(self._held)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._held = set()
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self._connection.execute(_NOTICE)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection, self._held = None, set()

    def close(self) -> None:
        """Let go of all."""
        with self._lock:
            self._closed = True
            self._drop()
