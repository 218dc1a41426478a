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
from ingest.decoding import Decode
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings
from kernel.types import Verdict
from vision.check import CheckDoubt
from vision.clip import start_masker
from vision.detect import Detector, open_detector
from vision.house import start_house
from vision.lease import Leases
from vision.lettering import Lettering
from vision.live import LiveCamera, dump
from vision.model import Detections, Picture
from vision.record import Recorder, Studio
from vision.rehearsal import start_rehearsals
from vision.rule import AnyRule
from vision.rules import discover
from vision.scheduler import Scheduler
from vision.store import CameraRow, CheckRequest, answer_check, read_cameras, read_check_requests, read_states
from vision.telling import Teller
from vision.thrift import Thrift, judge_load

log = logging.getLogger(__name__)

PAUSE_S = 0.02
"""Between two rounds in which there was nothing to look at."""

OVERHEAD_S = 2.0
"""Time constant of the share of time that goes into everything but looking."""

POLL_S = 0.5
SICK_PAUSE = timedelta(seconds=5)
"""A camera whose picture broke our own code is left alone for this long."""

THRIFT_S = 1.0
DETECTOR_PATIENCE_S = 60.0

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
        leases = Leases(settings)
        inbox = Inbox(database, clock.now, settings.vision.reload_s, leases)
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
            leases.close()  # last: who takes over reads what was written


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What was read from the database. `saved` holds what the rules remembered, for cameras that are new here."""

    rows: Sequence[CameraRow]
    saved: Mapping[UUID, Mapping[tuple[str, str], Any]]
    checks: Sequence[CheckRequest]


class Inbox:
    """Reads cameras and check requests in a thread of its own, so that a slow database never delays a look."""

    def __init__(
        self, database: Database, now: Callable[[], datetime], reload_s: float, leases: Leases | None = None
    ) -> None:
        """`leases`: which cameras are ours; None: all are, nobody else is there."""
        self._database = database
        self._now = now
        self._reload_s = reload_s
        self._leases = leases
        self._known: set[UUID] = set()
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
                rows = read_cameras(connection)
                self._known = {row.device.id for row in rows}
                ids = self._known if self._leases is None else self._leases.hold(self._known)
                self._rows = [row for row in rows if row.device.id in ids]
                self._read_s = time.monotonic()
                self._saved = {
                    key: self._saved[key] if key in self._saved else read_states(connection, key) for key in ids
                }
            checks = read_check_requests(connection)
            for request in checks:
                if request.device_id not in self._known:
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
        self._kept: dict[UUID, Mapping[tuple[str, str], Any]] = {}
        """What cameras remembered that are being opened anew."""
        self._failing_s: float | None = None
        """Since when the detector has failed at every picture."""
        self._thrift = Thrift()
        self._thrift_s = 0.0
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
        for device_id, camera in self._cameras.items():
            self._guard(device_id, camera, partial(self._hand_over, camera))
            camera.close()
        self._cameras.clear()
        self._pool.close()

    def _hand_over(self, camera: LiveCamera) -> None:
        writing = camera.collect(self._detector, self._now(), leaving=True)
        if writing is not None:
            self._recorder.put(writing)

    def take(self, news: News) -> None:
        """Take up cameras that came, changed or went, and checks asked for."""
        wanted = {row.device.id: row for row in news.rows}
        for device_id, camera in list(self._cameras.items()):
            row = wanted.get(device_id)
            if row is not None and row.url == camera.row.url and row.scene == camera.row.scene:
                self._guard(device_id, camera, partial(camera.update, row))
                continue
            self._guard(device_id, camera, partial(self._keep, device_id, camera))
            camera.close()
            del self._cameras[device_id]
        self._kept = {key: value for key, value in self._kept.items() if key in wanted}
        for device_id, row in wanted.items():
            if device_id not in self._cameras and not self._is_sick(device_id):
                self._open(row, self._kept.get(device_id, news.saved.get(device_id, {})))
        for request in news.checks:
            asked = self._cameras.get(request.device_id)
            if asked is not None:
                self._guard(request.device_id, asked, partial(asked.ask, request, self._now()))

    def _keep(self, device_id: UUID, camera: LiveCamera) -> None:
        self._kept[device_id] = dump(camera.watch) | camera.casebook.dump()

    def _open(self, row: CameraRow, saved: Mapping[tuple[str, str], Any]) -> None:
        """Begin to watch a camera. One that cannot be is tried again after a while; the others are watched."""
        device_id = row.device.id
        try:
            camera = LiveCamera(row, saved, self._rules, self._settings, self._now, self._pool, self._teller)
        except Exception:
            log.exception("camera %s: cannot be watched", row.device.code)
            self._sick_until[device_id] = self._now() + SICK_PAUSE
            return
        log.info("camera %s: watching", row.device.code)
        self._cameras[device_id] = camera
        self._kept.pop(device_id, None)

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
        self._save_decoding(ended_s)
        return bool(looked)

    def _save_decoding(self, now_s: float) -> None:
        """Once a second: decode more or less, by load."""
        if now_s - self._thrift_s < THRIFT_S:
            return
        self._thrift_s = now_s
        before, self._thrift = self._thrift.saving, judge_load(self._thrift, self.scheduler.load, now_s)
        if self._thrift.saving != before:
            log.warning("the detector %s", "cannot keep up: less is decoded" if not before else "keeps up again")
        for device_id, camera in list(self._cameras.items()):
            if not self._is_sick(device_id):
                granted_s = self.scheduler.granted_s(device_id)
                self._guard(device_id, camera, partial(camera.save_decoding, self._thrift.saving, granted_s))

    def _prepare(self, device_id: UUID, camera: LiveCamera, now_s: float) -> None:
        judged = camera.prepare()
        self.scheduler.want(device_id, camera.wish(), now_s)
        if camera.pending is None:
            self.scheduler.withdraw(device_id)
        elif judged:
            self.scheduler.offer(device_id, now_s)

    def _look(self, chosen: Sequence[UUID]) -> int:
        """Look at the pending pictures of these cameras, side by side; how many."""
        pictures = {key: pending[0] for key in chosen if (pending := self._cameras[key].pending) is not None}
        for key, detections in self._detect(pictures).items():
            camera = self._cameras[key]
            self._guard(key, camera, partial(camera.see, self._detector, detections))
            self.scheduler.done(key, time.monotonic())
        return len(pictures)

    def _detect(self, pictures: Mapping[UUID, Picture]) -> dict[UUID, Detections]:
        """What is in the pictures; a camera whose picture the detector stumbles over is left alone for a while.

        Raises what the detector raised when it has failed at every picture for `DETECTOR_PATIENCE_S`: a new process may do better.
        """
        try:
            found = dict(zip(pictures, self._detector.detect_many(list(pictures.values())), strict=True))
        except Exception:
            log.exception("the detector failed; each picture is tried alone")
            found = {}
            for key, picture in pictures.items():
                self._guard(key, self._cameras[key], partial(self._detect_one, key, picture, found))
            now_s = time.monotonic()
            if not found and self._failing_s is not None and now_s - self._failing_s > DETECTOR_PATIENCE_S:
                raise
            self._failing_s = None if found else self._failing_s or now_s
            return found
        if pictures:
            self._failing_s = None
        return found

    def _detect_one(self, key: UUID, picture: Picture, found: dict[UUID, Detections]) -> None:
        (found[key],) = self._detector.detect_many([picture])

    def _collect(self, device_id: UUID, camera: LiveCamera, now_s: float) -> None:
        looks = self.scheduler.looks_per_s(device_id, now_s)
        skipped = self.scheduler.skipped_per_s(device_id, now_s)
        if self._thrift.saving and camera.decode is Decode.KEY and camera.watch.scene.zones and not camera.watch.blind:
            # pictures that were not decoded did not wait, and were wanted all the same
            skipped = max(skipped, self.scheduler.wanted_per_s(device_id) - looks)
        camera.rates = (looks, skipped)
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
