"""Writing what the cameras found: in a thread of its own, so that a slow database never delays a look.

Per camera and transaction: evidence, reports and the rules' state together. After a kill, either the report is there
and the state knows it, or neither is and the rule raises again, under the same key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from devices.alarm_store import take_message
from kernel.db import Connection, Database
from vision.findings import Studio as Studio
from vision.findings import settle_clip, write_answer, write_report, write_update
from vision.live import Writing
from vision.store import save_states

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Recorder:
    """Takes writings from the scheduler and brings them into the database, each camera's in order."""

    def __init__(self, database: Database, studio: Studio, now: Callable[[], datetime]) -> None:
        self._database = database
        self._studio = studio
        self._now = now
        self._waiting: dict[UUID, Writing] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="vision-recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, writing: Writing) -> None:
        """Hand over; returns at once. While the database is away, newest state and health count, and every report."""
        with self._changed:
            self._waiting[writing.device.id] = merge(self._waiting.get(writing.device.id), writing)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, as far as that is possible in `timeout_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch, self._waiting = list(self._waiting.values()), {}
            failed = [writing for writing in batch if not self._write(writing)]
            if not failed:
                continue
            with self._changed:
                for writing in failed:
                    later = self._waiting.get(writing.device.id)
                    self._waiting[writing.device.id] = merge(writing, later) if later else writing
                if self._closing:
                    return
                self._changed.wait(RETRY_S)

    def _write(self, writing: Writing) -> bool:
        """True when written, or when it never can be."""
        try:
            with self._database.transaction("*") as connection:
                write(connection, writing, self._studio, self._now())
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as error:
            log.warning("camera %s: not written yet: %s", writing.device.code, str(error).strip())
            return False
        except (
            Exception
        ):  # a camera removed meanwhile, a scene that dispatch does not know: it must not stop the others
            log.exception("camera %s: cannot be written, given up", writing.device.code)
        return True


def merge(earlier: Writing | None, later: Writing) -> Writing:
    """Both in one: every report and answer, the newest state and health."""
    if earlier is None:
        return later
    return replace(
        later,
        raised=(*earlier.raised, *later.raised),
        updated=(*earlier.updated, *later.updated),
        clips=(*earlier.clips, *later.clips),
        answered=(*earlier.answered, *later.answered),
        states=later.states if later.states is not None else earlier.states,
        health=later.health or earlier.health,
    )


def write(connection: Connection, writing: Writing, studio: Studio, now: datetime) -> None:
    """One camera's writing, in the caller's transaction."""
    for item in writing.raised:
        write_report(connection, item, studio, now)
    for updated in writing.updated:
        write_update(connection, updated, studio, now)
    for done in writing.clips:
        settle_clip(connection, done, now)
    for answered in writing.answered:
        write_answer(connection, answered, studio, now)
    if writing.states is not None:
        save_states(connection, writing.device.id, writing.states, now)
    if writing.health is not None:
        book = studio.rules.current(connection)
        take_message(connection, writing.device, writing.health, now, studio.settings.city.timezone, book)
