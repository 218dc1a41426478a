"""The live hub: one thread numbers and reads changes, one does what is due every second, one loop hands it to the sockets.

Changes are numbered once for everybody (kernel/change.py). What one scope may see is read once for all its sockets. A
socket that joins is put into its audience before its snapshot is read, and what is published meanwhile waits for it, so
nothing falls between the snapshot and the first delta. Telemetry is not numbered: once a second the newest is sent.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from dashboard.feed import Delta, read_deltas, read_live, read_snapshot
from dashboard.listener import CLOSE_RESTART, CLOSE_REVOKED, CLOSE_SLOW, Audience, Socket
from dashboard.metrics import Metrics
from dashboard.session import forget_sessions, read_rights
from dashboard.store import JsonObject, write_json
from dashboard.tasks import read_tasks
from dispatch.flood import load_json, read_flood
from kernel.change import CHANNEL, forget_changes, number_changes, read_last_seq, read_oldest_seq
from kernel.db import Database
from kernel.distress import is_disk_full
from kernel.types import Role

log = logging.getLogger(__name__)
_POLL_S = 0.25
_LIVE_S = 1.0
_PING_S = 5.0
_RECHECK_S = 5.0
_FORGET_S = 600.0
_MAX_RESUME = 2_000  # a socket farther behind gets a snapshot, which is smaller then
_SNAPSHOT_AGE_S = 1.0


class Hub:
    """All sockets of this process and the threads that feed them."""

    def __init__(
        self,
        app_database: Database,
        worker_database: Database,
        now: Callable[[], datetime],
        metrics: Metrics,
        model: Path | None = None,
    ) -> None:
        """`model`: the detector's file, told in the snapshots."""
        self._model = model
        self._app_database = app_database
        self._worker_database = worker_database
        self._now = now
        self._metrics = metrics
        self._audiences: dict[Audience, set[Socket]] = {}
        self._lock = threading.Lock()  # over _audiences: the loop writes, the thread reads its keys
        self._cursor = -1
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._threads = [
            threading.Thread(target=self._run, name="hub", daemon=True),
            threading.Thread(target=self._run_rounds, name="hub-rounds", daemon=True),
        ]
        self._snapshots: dict[Audience, tuple[float, int, str]] = {}
        self._snapshot_turns = asyncio.Semaphore(3)
        self._loads: dict[Audience, JsonObject] = {}  # alarm load, told with the pings
        self._live_since: dict[Audience, datetime] = {}
        self._live_sent: dict[Audience, dict[tuple[str, UUID], datetime]] = {}
        self.degraded_since: datetime | None = None
        self._disk_full = False
        self.ticked_s = time.monotonic()

    # ------------------------------------------------------------------ the loop's side

    def start(self) -> None:
        """Begin; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._worker_database.listen(CHANNEL, self._woken, self._stop)
        for thread in self._threads:
            thread.start()
        self._pinging = asyncio.create_task(self._ping_on())

    def stop(self) -> None:
        """End the thread and ask every socket to come back later."""
        self._stop.set()
        if self._pinging is not None:
            self._pinging.cancel()
        self._woken.set()
        for socket in self._sockets():
            socket.close(CLOSE_RESTART)

    def _sockets(self) -> list[Socket]:
        return [socket for sockets in self._audiences.values() for socket in sockets]

    def add(self, socket: Socket) -> None:
        """Put a socket into its audience: from now on it misses nothing."""
        with self._lock:
            self._audiences.setdefault(socket.audience, set()).add(socket)
        self._metrics.sockets.inc()

    def remove(self, socket: Socket) -> None:
        """Forget a socket that has ended."""
        with self._lock:
            sockets = self._audiences.get(socket.audience, set())
            if socket in sockets:
                self._metrics.sockets.dec()
                if socket.close_code == CLOSE_SLOW:
                    self._metrics.dropped.inc()
            sockets.discard(socket)
            if not sockets:
                self._audiences.pop(socket.audience, None)
                self._snapshots.pop(socket.audience, None)

    def revoke(self, token_hash: bytes) -> None:
        """Close the sockets of a session that has ended. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close_where, lambda s: s.token_hash == token_hash, CLOSE_REVOKED)

    def _close_where(self, chosen: Callable[[Socket], bool], code: int) -> None:
        for socket in self._sockets():
            if chosen(socket):
                socket.close(code)

    async def join(self, socket: Socket, since: int | None) -> None:
        """Send what the socket needs to be up to date: the deltas after `since` when they are still kept, else all.

        Raises psycopg.Error when the database does not answer.
        """
        await self._first_round()
        if since is not None:
            resumed = await asyncio.to_thread(self._read_resume, socket.audience, since)
            if resumed is not None:
                seq, deltas = resumed
                for delta in deltas:
                    socket.offer(delta.text, counted=False)
                if not deltas:
                    socket.offer(_ping_text(self._now(), seq), counted=False)
                self._join_done(socket, seq)
                socket.wants_full = True  # telemetry of the time between was not kept
                return
        seq, text = await self._snapshot(socket.audience)
        socket.offer(text, counted=False)
        self._join_done(socket, seq)

    async def _first_round(self) -> None:
        """Wait until changes are being read: a snapshot from before would miss what the first round skips."""
        for _ in range(50):
            if self._cursor >= 0:
                return
            await asyncio.sleep(0.1)
        raise psycopg.OperationalError("the live hub has no database yet")

    def _join_done(self, socket: Socket, seq: int) -> None:
        socket.seq, socket.joining = seq, False
        for delta in socket.held:
            self._hand(socket, delta)
        socket.held.clear()

    async def _snapshot(self, audience: Audience) -> tuple[int, str]:
        async with self._snapshot_turns:
            kept = self._snapshots.get(audience)
            # One taken before a change was published would miss it: a socket joins after that publication.
            if kept and time.monotonic() - kept[0] < _SNAPSHOT_AGE_S and kept[1] >= self._cursor:
                return kept[1], kept[2]
            began_s = time.monotonic()
            seq, text = await asyncio.to_thread(self._read_snapshot, audience)
            self._snapshots[audience] = (began_s, seq, text)
            return seq, text

    def _read_snapshot(self, audience: Audience) -> tuple[int, str]:
        with self._app_database.transaction(audience.scope) as connection:
            return read_snapshot(connection, audience.sees_staff, self._now(), self._model)

    def _read_resume(self, audience: Audience, since: int) -> tuple[int, list[Delta]] | None:
        with self._worker_database.transaction() as connection:
            oldest, last = read_oldest_seq(connection), read_last_seq(connection)
        if not (since == last or oldest - 1 <= since < last) or last - since > _MAX_RESUME:
            return None
        with self._app_database.transaction(audience.scope) as connection:
            deltas = read_deltas(connection, since, audience.sees_staff, self._now())
        return max([last, *(delta.seq for delta in deltas)]), deltas

    def _hand(self, socket: Socket, delta: Delta) -> None:
        if socket.joining:
            socket.held.append(delta)
        elif delta.seq > socket.seq:
            socket.offer(delta.text)
            socket.seq = delta.seq

    def _publish(self, read: dict[Audience, list[Delta]], last: int, done: threading.Event) -> None:
        for audience, deltas in read.items():
            for socket in self._audiences.get(audience, ()):
                for delta in deltas:
                    self._hand(socket, delta)
                if not socket.joining:
                    socket.seq = max(socket.seq, last)
        self._cursor = max(self._cursor, last)
        done.set()

    def _publish_live(self, read: dict[Audience, tuple[str, str | None]]) -> None:
        """Per audience what changed, and all of it for those who lagged or came back."""
        for audience, (changed, everything) in read.items():
            for socket in self._audiences.get(audience, ()):
                if socket.joining:
                    socket.wants_full = True
                elif socket.texts:
                    socket.wants_full = True  # still busy with older things: the newest will do, later
                elif socket.wants_full and everything is not None:
                    socket.wants_full = False
                    if everything:
                        socket.offer(everything)
                elif changed and not socket.wants_full:
                    socket.offer(changed)

    def _publish_tasks(self, tasks: Iterable[tuple[UUID, UUID, str]]) -> None:
        for push_id, user_id, text in tasks:
            for socket in self._sockets():
                if socket.user_id == user_id and not socket.joining and push_id not in socket.told:
                    socket.told.add(push_id)
                    socket.offer(text)

    async def _ping_on(self) -> None:
        """Pings come from the loop, so that they go on while the database does not answer."""
        while True:
            await asyncio.sleep(_PING_S)
            now = self._now()
            for socket in self._sockets():
                if not socket.joining:
                    load = self._loads.get(socket.audience)
                    socket.offer(_ping_text(now, socket.seq, self.degraded_since, load))

    def _set_degraded(self, since: datetime | None) -> None:
        self.degraded_since = since
        text = write_json({"type": "degraded", "since": since})
        for socket in self._sockets():
            socket.offer(text)

    # ------------------------------------------------------------------ the thread's side

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # the loop closed between the question and the call
                self._stop.set()

    def _run(self) -> None:
        """Changes, as soon as they are committed: nothing that takes longer may stand in their way."""
        while not self._stop.is_set():
            self._woken.wait(_POLL_S)
            self._woken.clear()
            began_s = time.monotonic()
            if self._try(self._tick):
                self.ticked_s = time.monotonic()
                self._metrics.change_lag_s.set(self.ticked_s - began_s)
                self._judge()

    def _run_rounds(self) -> None:
        """What is done every second or less often: reading a thousand devices' telemetry takes tens of milliseconds."""
        due_s = {"live": 0.0, "load": 0.0, "distress": 0.0, "recheck": 0.0, "forget": 0.0}
        while not self._stop.wait(_POLL_S):
            self._try(lambda: self._do_rounds(due_s))

    def _do_rounds(self, due_s: dict[str, float]) -> None:
        if self._due(due_s, "live", _LIVE_S):
            self._tick_live()
        if self._due(due_s, "load", _PING_S):
            self._tick_load()
        if self._due(due_s, "distress", _LIVE_S):
            self._look_for_distress()
        if self._due(due_s, "recheck", _RECHECK_S):
            self._recheck()
        if self._due(due_s, "forget", _FORGET_S):
            self._forget()

    def _try(self, do: Callable[[], None]) -> bool:
        """Whether it went well; a database that is away is said to the people, anything else to the log."""
        try:
            do()
        except psycopg.Error as error:
            self._fail(error)
            return False
        except Exception:
            log.exception("the hub's round failed")
            self._stop.wait(1.0)
            return False
        return True

    @staticmethod
    def _due(due_s: dict[str, float], name: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < due_s[name]:
            return False
        due_s[name] = now_s + every_s
        return True

    def _judge(self) -> None:
        """After a round that went well: all is well, unless those who write say that the disk is full."""
        if self._disk_full and self.degraded_since is None:
            log.warning("the database's disk is full: what is there can be read")
            self._post(self._set_degraded, self._now())
        elif not self._disk_full and self.degraded_since is not None:
            log.info("the database answers again")
            self._post(self._set_degraded, None)

    def _look_for_distress(self) -> None:
        with self._worker_database.transaction() as connection:
            self._disk_full = is_disk_full(connection)

    def _fail(self, error: psycopg.Error) -> None:
        if self.degraded_since is None:
            log.warning("no database for the live hub: %s", error)
            self._post(self._set_degraded, self._now())
        self._stop.wait(0.5)

    def _tick(self) -> None:
        """Number what was committed, and read it once for each audience."""
        with self._worker_database.transaction() as connection:
            number_changes(connection)
            last = read_last_seq(connection)  # true of everybody's numbers once this is committed
        if self._cursor < 0:
            self._cursor = last  # the first round; nobody has joined before it
        elif last < self._cursor:
            self._restart(last)
        if last > self._cursor:
            # Only now, after `last` was read: a socket that joins later reads a snapshot that has all of it.
            with self._lock:
                audiences = list(self._audiences)
            read = {audience: self._read_audience(audience) for audience in audiences}
            done = threading.Event()
            self._post(self._publish, read, last, done)
            done.wait(5.0)
        self._tick_tasks()

    def _tick_tasks(self) -> None:
        with self._lock:
            users = {socket.user_id for sockets in self._audiences.values() for socket in sockets}
        if users:
            with self._worker_database.transaction() as connection:
                tasks = read_tasks(connection, users, self._now())
            if tasks:
                self._post(self._publish_tasks, tasks)

    def _restart(self, last: int) -> None:
        """The database was restored from before: what the sockets have is of a time that never was."""
        self._cursor = last
        self._post(self._close_where, lambda _: True, CLOSE_RESTART)

    def _read_audience(self, audience: Audience) -> list[Delta]:
        with self._app_database.transaction(audience.scope) as connection:
            deltas = read_deltas(connection, self._cursor, audience.sees_staff, self._now())
        self._metrics.deltas.inc(len(deltas))
        return deltas

    def _tick_live(self) -> None:
        now = self._now()
        with self._lock:
            wanted = {
                audience: any(socket.wants_full and not socket.texts for socket in sockets)
                for audience, sockets in self._audiences.items()
            }
        read: dict[Audience, tuple[str, str | None]] = {}
        for audience in set(self._live_since) - set(wanted):
            del self._live_since[audience], self._live_sent[audience]
        for audience, in_full in wanted.items():
            # Rows carry the instant before their commit, so a little of the past is read again and what was sent left out.
            since = self._live_since.get(audience, now) - timedelta(seconds=10)
            with self._app_database.transaction(audience.scope) as connection:
                changed = read_live(connection, since, audience.sees_staff, self._live_sent.get(audience, {}))
                everything = read_live(connection, None, audience.sees_staff, {}) if in_full else None
            self._live_since[audience] = now
            self._live_sent[audience] = changed.sent
            read[audience] = (changed.text(now), everything.text(now) if everything else None)
        if read:
            self._post(self._publish_live, read)

    def _tick_load(self) -> None:
        with self._lock:
            audiences = [audience for audience in self._audiences if audience.sees_staff]
        loads: dict[Audience, JsonObject] = {}
        for audience in audiences:
            with self._app_database.transaction(audience.scope) as connection:
                loads[audience] = load_json(read_flood(connection, self._now(), grouped=False))
        self._loads = loads

    def _recheck(self) -> None:
        with self._lock:
            hashes = {socket.token_hash for sockets in self._audiences.values() for socket in sockets}
        if hashes:
            with self._worker_database.transaction() as connection:
                rights = read_rights(connection, hashes, self._now())
            self._post(self._apply_rights_to, hashes, rights)

    def _apply_rights_to(self, hashes: set[bytes], rights: dict[bytes, tuple[str, frozenset[Role]]]) -> None:
        for socket in self._sockets():
            found = rights.get(socket.token_hash)
            if socket.token_hash not in hashes:
                continue  # it came after the question was asked
            if found is None:
                socket.close(CLOSE_REVOKED)
            elif found != (socket.audience.scope, socket.roles):
                socket.close(CLOSE_RESTART)  # it comes back with the rights of now

    def _forget(self) -> None:
        with self._worker_database.transaction() as connection:
            forget_changes(connection, self._now())
            forget_sessions(connection, self._now())


def _ping_text(now: datetime, seq: int, degraded_since: datetime | None = None, load: JsonObject | None = None) -> str:
    return write_json({"type": "ping", "at": now, "seq": seq, "degraded_since": degraded_since, "flood": load})
