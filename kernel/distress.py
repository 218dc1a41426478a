"""Saying that the disk is full through a database that can write nothing more: by an advisory lock, which is memory only.

Whoever cannot commit holds the lock (shared, so several may); whoever serves people looks whether it is held. It goes with
the connection that holds it, so nobody who was killed says it for ever.
"""

import contextlib

import psycopg

from kernel.db import Connection, DbRole, conninfo
from kernel.settings import Settings

_KEY = 4_715_201


class Distress:
    """What one worker says. Not shared between threads."""

    def __init__(self, settings: Settings) -> None:
        self._conninfo = conninfo(settings, DbRole.WORKER)
        self._held: psycopg.Connection[tuple[object, ...]] | None = None

    def call(self) -> None:
        """Say that the disk is full, until `end`. When even that does not work it is not said: then nothing can be read either."""
        if self._held is not None and not self._held.closed:
            return
        with contextlib.suppress(psycopg.Error):
            self._held = psycopg.connect(self._conninfo, autocommit=True)
            self._held.execute("SELECT pg_advisory_lock_shared(%s)", (_KEY,))

    def end(self) -> None:
        """Say it no longer."""
        if self._held is not None:
            self._held.close()
            self._held = None


def is_disk_full(connection: Connection) -> bool:
    """Whether somebody says so."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        (_KEY,),
    ).fetchone()
    return row == (True,)
