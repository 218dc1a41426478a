"""The vision worker: watches every enabled camera of the database with one detector, by vision/scheduler.py."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from ingest.capturing import CapturePool
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings
from kernel.types import Verdict
from vision.check import CheckDoubt
from vision.clip import start_masker
from vision.detect import Detector, open_detector
from vision.house import start_house
from vision.lettering import Lettering
from vision.live import LiveCamera, dump
from vision.record import Recorder, Studio
from vision.rehearsal import start_rehearsals
from vision.rule import AnyRule
from vision.rules import discover
from vision.scheduler import Scheduler
from vision.store import CameraRow, CheckRequest, answer_check, read_cameras, read_check_requests, read_states
from vision.telling import Teller

log = logging.getLogger(__name__)

PAUSE_S = 0.02
"""Between two rounds in which there was nothing to look at."""

OVERHEAD_S = 2.0
"""Time constant of the share of time that goes into everything but looking."""

POLL_S = 0.5
SICK_PAUSE = timedelta(seconds=5)
"""A camera whose picture broke our own code is left alone for this long."""

DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


def run(settings: Settings, stop: threading.Event) -> None:
    """Watch until `stop` is set.

    Raises ModelError, and RuleError or ImportError for a broken rule, before anything is opened.
    """
    rules = discover()
    detector = open_detector(settings.vision)
    clock = Clock.of(settings.clock)
    with closing(Database(settings, DbRole.WORKER)) as database:
        studio = Studio(settings=settings, lettering=Lettering(settings.evidence.font_dir))
        recorder = Recorder(database, studio, clock.now)
        recorder.start()
        inbox = Inbox(database, clock.now, settings.vision.reload_s)
        teller = Teller(settings)
        teller.start()
        worker = Worker(settings, detector, rules, recorder, inbox, clock.now, teller)
        inbox.start(stop)
        start_masker(settings, database, clock, partial(open_detector, settings.vision), stop)
        start_house(settings, database, clock.now, stop)
        start_rehearsals(settings, database, clock.now, stop)
        try:
            worker.run(stop)
        finally:
            worker.close()
            teller.close()
            recorder.close(timeout_s=5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What was read from the database. `saved` holds what the rules remembered, for cameras that are new here."""

    rows: Sequence[CameraRow]
    saved: Mapping[UUID, Mapping[tuple[str, str], Any]]
    checks: Sequence[CheckRequest]


class Inbox:
    """Reads cameras and check requests in a thread of its own, so that a slow database never delays a look."""

    def __init__(self, database: Database, now: Callable[[], datetime], reload_s: float) -> None:
        self._database = database
        self._now = now
        self._reload_s = reload_s
        self._lock = threading.Lock()
        self._news: News | None = None
        self._rows: Sequence[CameraRow] = ()
        self._saved: dict[UUID, Mapping[tuple[str, str], Any]] = {}
        self._read_s: float | None = None

    def start(self, stop: threading.Event) -> None:
        """Read on until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name="vision-inbox", daemon=True).start()

    def take(self) -> News | None:
        """The newest news; None when nothing was read since."""
        with self._lock:
            news, self._news = self._news, None
            return news

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.read()
            except DATABASE_AWAY as error:
                log.warning("waiting for the database: %s", str(error).strip())
            except Exception:  # an odd row must not end the reading
                log.exception("cameras cannot be read")
            stop.wait(POLL_S)

    def read(self) -> None:
        """Read once."""
        with self._database.transaction("*") as connection:
            if self._read_s is None or time.monotonic() - self._read_s >= self._reload_s:
                self._rows = read_cameras(connection)
                self._read_s = time.monotonic()
                ids = {row.device.id for row in self._rows}
                self._saved = {
                    key: self._saved[key] if key in self._saved else read_states(connection, key) for key in ids
                }
            checks = read_check_requests(connection)
            for request in checks:
                if request.device_id not in self._saved:
                    answer_check(
                        connection, request.id, Verdict.INCONCLUSIVE, CheckDoubt.NO_SUCH_CAMERA, None, self._now()
                    )
        with self._lock:
            self._news = News(rows=self._rows, saved=self._saved, checks=checks)


class Worker:
    """All cameras are judged in this one thread; the scheduler says which the detector looks at."""

    def __init__(
        self,
        settings: Settings,
        detector: Detector,
        rules: Mapping[str, AnyRule],
        recorder: Recorder,
        inbox: Inbox,
        now: Callable[[], datetime],
        teller: Teller | None = None,
    ) -> None:
        self._settings = settings
        self._pool = CapturePool(settings)
        self._teller = teller
        self._detector = detector
        self._rules = rules
        self._recorder = recorder
        self._inbox = inbox
        self._now = now
        self._cameras: dict[UUID, LiveCamera] = {}
        self._sick_until: dict[UUID, datetime] = {}
        self.scheduler: Scheduler[UUID] = Scheduler(side_by_side=detector.batch)
        self._overhead = 0.0
        self._round_s: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            news = self._inbox.take()
            if news is not None:
                self.take(news)
            if not self.round():
                stop.wait(PAUSE_S)

    def close(self) -> None:
        """Hand over what is known, and let go of the cameras."""
        for camera in self._cameras.values():
            writing = camera.collect(self._detector, self._now(), leaving=True)
            if writing is not None:
                self._recorder.put(writing)
            camera.close()
        self._cameras.clear()
        self._pool.close()

    def take(self, news: News) -> None:
        """Take up cameras that came, changed or went, and checks asked for."""
        wanted = {row.device.id: row for row in news.rows}
        kept: dict[UUID, Mapping[tuple[str, str], Any]] = {}
        for device_id, camera in list(self._cameras.items()):
            row = wanted.get(device_id)
            if row is not None and row.url == camera.row.url and row.scene == camera.row.scene:
                camera.update(row)
                continue
            kept[device_id] = dump(camera.watch) | camera.casebook.dump()
            camera.close()
            del self._cameras[device_id]
        for device_id, row in wanted.items():
            if device_id not in self._cameras:
                log.info("camera %s: watching", row.device.code)
                saved = kept.get(device_id, news.saved.get(device_id, {}))
                self._cameras[device_id] = LiveCamera(
                    row, saved, self._rules, self._settings, self._now, self._pool, self._teller
                )
        for request in news.checks:
            asked = self._cameras.get(request.device_id)
            if asked is not None:
                asked.ask(request, self._now())

    def round(self) -> bool:
        """One turn over all cameras and one look of the detector; True when it looked."""
        began_s = time.monotonic()
        self.scheduler.drop(self.scheduler.keys() - set(self._cameras))
        for device_id, camera in list(self._cameras.items()):
            if not self._is_sick(device_id):
                self._guard(device_id, camera, partial(self._prepare, device_id, camera, began_s))
        chosen = self.scheduler.pick(began_s, self._detector.batch)
        looking_s = time.monotonic()
        looked = self._look(chosen) if chosen else 0
        ended_s = time.monotonic()
        for device_id, camera in list(self._cameras.items()):
            if not self._is_sick(device_id):
                self._guard(device_id, camera, partial(self._collect, device_id, camera, ended_s))
        self._charge(looked, ended_s - looking_s, began_s, time.monotonic())
        return bool(looked)

    def _prepare(self, device_id: UUID, camera: LiveCamera, now_s: float) -> None:
        judged = camera.prepare()
        self.scheduler.want(device_id, camera.wish(), now_s)
        if camera.pending is None:
            self.scheduler.withdraw(device_id)
        elif judged:
            self.scheduler.offer(device_id, now_s)

    def _look(self, chosen: Sequence[UUID]) -> int:
        """Look at the pending pictures of these cameras, side by side; how many."""
        pictures = [pending[0] for key in chosen if (pending := self._cameras[key].pending) is not None]
        found = self._detector.detect_many(pictures)
        for key, detections in zip(chosen, found, strict=True):
            camera = self._cameras[key]
            self._guard(key, camera, partial(camera.see, self._detector, detections))
            self.scheduler.done(key, time.monotonic())
        return len(chosen)

    def _collect(self, device_id: UUID, camera: LiveCamera, now_s: float) -> None:
        camera.rates = (
            self.scheduler.looks_per_s(device_id, now_s),
            self.scheduler.skipped_per_s(device_id, now_s),
        )
        writing = camera.collect(self._detector, self._now())
        if writing is not None:
            self._recorder.put(writing)

    def _charge(self, looked: int, took_s: float, began_s: float, ended_s: float) -> None:
        """Tell the scheduler what looking costs and what it leaves no time for."""
        if self._round_s is not None and ended_s > self._round_s:
            elsewhere = max(0.0, (ended_s - began_s - took_s) / (ended_s - self._round_s))
            weight = min(1.0, (ended_s - self._round_s) / OVERHEAD_S)
            self._overhead += weight * (min(1.0, elsewhere) - self._overhead)
        self._round_s = ended_s
        self.scheduler.charge(looked, took_s, self._overhead)

    def _is_sick(self, device_id: UUID) -> bool:
        sick_until = self._sick_until.get(device_id)
        return sick_until is not None and self._now() < sick_until

    def _guard(self, device_id: UUID, camera: LiveCamera, act: Callable[[], None]) -> None:
        """One camera's picture must not end the watching of the others."""
        try:
            act()
        except Exception:
            log.exception("camera %s: cannot be judged", camera.row.device.code)
            camera.pending = None
            if device_id in self.scheduler.keys():  # noqa: SIM118
                self.scheduler.withdraw(device_id)
            self._sick_until[device_id] = self._now() + SICK_PAUSE
