"""Writing what the cameras found: in a thread of its own, so that a slow database never delays a look.

Per camera and transaction: evidence, reports and the rules' state together. After a kill, either the report is there
and the state knows it, or neither is and the rule raises again, under the same key.

What waits while the database is away or the disk is full is bounded: pictures are let go before findings ever are, and the
report says which are missing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from devices.alarm_store import take_message
from kernel.db import Connection, Database
from vision.casebook import Later, Raised, Updated
from vision.findings import Studio as Studio
from vision.findings import settle_clip, write_answer, write_report, write_update
from vision.live import Writing
from vision.store import save_states

log = logging.getLogger(__name__)

RETRY_S = 1.0
WAITING_BYTES = 128_000_000
"""Of pictures that wait to be written, of all cameras together."""

DISK_PATIENCE_S = 60.0
"""A finding whose pictures cannot be written (the disk is full) is reported without them after this long."""


class Recorder:
    """Takes writings from the scheduler and brings them into the database, each camera's in order."""

    def __init__(
        self, database: Database, studio: Studio, now: Callable[[], datetime], waiting_bytes: int = WAITING_BYTES
    ) -> None:
        self._database = database
        self._studio = studio
        self._now = now
        self._waiting_bytes = waiting_bytes
        self._waiting: dict[UUID, Writing] = {}
        self._disk_s: dict[UUID, float] = {}
        """Since when a camera's pictures cannot be written."""
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
            self._bound()
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
                self._bound()
                if self._closing:
                    return
                until_s = time.monotonic() + RETRY_S  # not at each new writing: every attempt draws its pictures
                while not self._closing and (left_s := until_s - time.monotonic()) > 0:
                    self._changed.wait(left_s)

    def _bound(self) -> None:
        """Let pictures go until what waits fits; those of the camera that has most first."""
        sizes = {key: weigh(writing) for key, writing in self._waiting.items()}
        while sum(sizes.values()) > self._waiting_bytes:
            most = max(sizes, key=lambda key: sizes[key])
            others = sum(sizes.values()) - sizes[most]
            self._waiting[most] = lighten(self._waiting[most], max(0, self._waiting_bytes - others))
            log.warning("camera %s: pictures of findings that wait were let go", self._waiting[most].device.code)
            sizes[most] = weigh(self._waiting[most])

    def _write(self, writing: Writing) -> bool:
        """True when written, or when it never can be."""
        key = writing.device.id
        if time.monotonic() - self._disk_s.get(key, time.monotonic()) > DISK_PATIENCE_S:
            writing = lighten(writing, 0)
        try:
            with self._database.transaction("*") as connection:
                self._write_files(connection, writing)
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as error:
            log.warning("camera %s: not written yet: %s", writing.device.code, str(error).strip())
            if isinstance(error, OSError):
                self._disk_s.setdefault(key, time.monotonic())
            return False
        except (
            Exception
        ):  # a camera removed meanwhile, a scene that dispatch does not know: it must not stop the others
            log.exception("camera %s: cannot be written, given up", writing.device.code)
        self._disk_s.pop(key, None)
        return True

    def _write_files(self, connection: Connection, writing: Writing) -> None:
        """In the caller's transaction. What fails before its commit leaves no file: it will be written again."""
        written = self._studio.written
        written.clear()
        try:
            write(connection, writing, self._studio, self._now())
        except BaseException:
            for path in written:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise


def weigh(writing: Writing) -> int:
    """Bytes of the pictures in it."""
    answered = sum(item.picture.nbytes for item in writing.answered if item.picture is not None)
    return answered + sum(map(_size, writing.raised)) + sum(map(_size, writing.updated))


def _size(item: Raised | Updated) -> int:
    first = item.first if isinstance(item, Raised) else None
    return (0 if item.picture is None else item.picture.nbytes) + (0 if first is None else len(first.jpeg))


def lighten(writing: Writing, most_bytes: int) -> Writing:
    """With fewer pictures, so that it weighs no more than `most_bytes`: those of updates go first, the oldest first, then
    those of answered checks, and those in which something was found last. Everything else stays."""
    too_many = weigh(writing) - most_bytes
    updated: list[Updated] = []
    for change in writing.updated:
        drop = too_many > 0 and change.picture is not None
        too_many -= _size(change) if drop else 0
        if not drop:
            updated.append(change)
        elif change.kind is not Later.LATEST:  # which is nothing but a picture
            updated.append(replace(change, picture=None))
    answered = []
    for answer in writing.answered:
        drop = too_many > 0 and answer.picture is not None
        too_many -= answer.picture.nbytes if drop and answer.picture is not None else 0
        answered.append(replace(answer, picture=None) if drop else answer)
    raised = []
    for item in writing.raised:
        drop = too_many > 0 and _size(item) > 0
        too_many -= _size(item) if drop else 0
        raised.append(replace(item, picture=None, first=None) if drop else item)
    return replace(writing, updated=tuple(updated), answered=tuple(answered), raised=tuple(raised))


def merge(earlier: Writing | None, later: Writing) -> Writing:
    """Both in one: every report and answer, the newest state and health; of growths and later pictures of one finding the
    newest."""
    if earlier is None:
        return later
    newest = {_subject(item): item for item in (*earlier.updated, *later.updated)}
    return replace(
        later,
        raised=(*earlier.raised, *later.raised),
        updated=tuple(item for item in (*earlier.updated, *later.updated) if newest[_subject(item)] is item),
        clips=(*earlier.clips, *later.clips),
        answered=(*earlier.answered, *later.answered),
        states=later.states if later.states is not None else earlier.states,
        health=later.health or earlier.health,
    )


def _subject(item: Updated) -> tuple[object, ...]:
    once = item.at if item.kind is Later.CLEARED else None  # what is over, back and over again is told each time
    return (item.zone.name, item.finding.rule, item.finding.key, item.kind, once)


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
