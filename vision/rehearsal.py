"""Rehearsals: a scene tried on a camera's recordings before it is live, as if it had been watched by it then.

The page asks by a row of `rehearsal`. The vision role takes one at a time and gives it to a child process at the lowest priority,
which goes through the recordings with the same watching, rules and motion gate as live and writes how far it is. The row's
`heard_at` is its sign of life: one that is old was left by a process that died, and is taken up again, three times at most. A row
that is deleted ends its child. Findings are kept in the row, their masked pictures beside the evidence until the row goes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from ingest.fault import CaptureError
from ingest.footage import read_file
from ingest.recording import Segment, find_segments, folder_of
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.log import configure_log
from kernel.settings import Settings
from vision.detect import open_detector
from vision.evidence import Caption, draw_snapshot, write_whole
from vision.lettering import Lettering
from vision.mask import find_masks, mask_picture
from vision.model import TITLES, Detections, Finding, Label, Picture
from vision.rule import AnyRule, AnyZone
from vision.rules import discover
from vision.scene import Scene, SceneError, parse_scene
from vision.watch import Watch

log = logging.getLogger(__name__)

PAUSE_S = 1.0
TELL_S = 1.0
SILENT = timedelta(seconds=30)
MOST_ATTEMPTS = 3
KEEP = timedelta(days=1)
SWEEP_S = 600.0
MOST_FINDINGS = 300
MOST_PICTURES = 60
_DATABASE_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


class _Detects(Protocol):
    @property
    def strong_scores(self) -> dict[Label, float]: ...

    def detect(self, picture: Picture) -> Detections: ...


class Cancelled(Exception):
    """Nobody wants the rehearsal any more."""


def folder_of_pictures(settings: Settings, rehearsal_id: UUID) -> Path:
    """Where the pictures of its findings lie: `<number>.jpg`."""
    return settings.evidence_dir / "rehearsal" / str(rehearsal_id)


# ---- going through the recordings ----------------------------------------------------------------------------------


@dataclass
class Course:
    """How far a rehearsal is."""

    total_s: float
    seconds: float = 0.0
    looks: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """0 to 1."""
        return min(1.0, self.seconds / self.total_s) if self.total_s > 0 else 1.0

    def note(self, zone: AnyZone, finding: Finding) -> dict[str, Any] | None:
        """Keep a finding; the new entry when it was raised, None when an earlier one grew or is over."""
        known = self._open.get((zone.name, finding.key))
        if finding.cleared_at is not None or finding.update:
            if known is not None:
                known["cleared_at"] = finding.cleared_at.isoformat() if finding.cleared_at else known["cleared_at"]
            return None
        if len(self.findings) >= MOST_FINDINGS:
            return None
        entry = {
            "rule": finding.rule,
            "zone": zone.name,
            "category": finding.category.value,
            "started_at": finding.started_at.isoformat(),
            "raised_at": finding.raised_at.isoformat(),
            "cleared_at": None,
            "box": [round(float(value), 4) for value in finding.box],
            "score": round(float(finding.score), 3),
            "picture": None,
        }
        self.findings.append(entry)
        self._open[(zone.name, finding.key)] = entry
        return entry


def rehearse(
    scene: Scene,
    segments: Sequence[Segment],
    detector: _Detects,
    settings: Settings,
    rules: dict[str, AnyRule],
    *,
    tell: Callable[[Course], None] = lambda course: None,
    keep: Callable[[Picture, Detections, AnyZone, Finding], int | None] = lambda *_: None,
) -> Course:
    """Watch recordings, oldest first, as live. `tell` hears of the progress about once a second and may raise to end it;
    `keep` stores the picture of a finding and gives its number. A file that cannot be read is passed over."""
    course = Course(total_s=sum((each.ended_at - each.began_at).total_seconds() for each in segments))
    watch = Watch(scene=scene, rules=rules, strong_scores=detector.strong_scores, timezone=settings.city.timezone)
    fps, idle_fps = settings.vision.fps, settings.vision.idle_fps
    told_s = time.monotonic()
    before_s = 0.0
    for segment in segments:
        for at, key, picture in _frames(segment, fps):
            watch.judge(picture, at, key=key)
            if watch.blind is None and watch.is_due(at, fps=fps, idle_fps=idle_fps):
                detections = detector.detect(picture)
                look = watch.look(detections, at, watch.view(picture))
                course.looks += 1
                for zone, finding in look.findings:
                    entry = course.note(zone, finding)
                    if entry is not None:
                        entry["picture"] = keep(picture, detections, zone, finding)
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                course.seconds = before_s + (at - segment.began_at).total_seconds()
                tell(course)
        before_s += (segment.ended_at - segment.began_at).total_seconds()
        course.seconds = before_s
    return course


def _frames(segment: Segment, fps: float) -> Iterator[tuple[datetime, bool, Picture]]:
    try:
        for frame in read_file(segment.path, every_s=0.95 / fps):
            yield segment.began_at + timedelta(seconds=frame.at_s), frame.key, frame.picture
    except CaptureError as error:  # deleted meanwhile, or cut off by a power failure
        log.warning("a recording is passed over: %s", error)


# ---- the child -----------------------------------------------------------------------------------------------------


class _Job:
    """One rehearsal in the child process."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime], rehearsal_id: UUID) -> None:
        self._settings = settings
        self._database = database
        self._now = now
        self._id = rehearsal_id
        self._count = 0
        self._folder = folder_of_pictures(settings, rehearsal_id)
        self._lettering = Lettering(settings.evidence.font_dir)

    def run(self) -> None:
        """From the row to its end."""
        with self._database.transaction("*") as connection:
            row = connection.execute(
                "SELECT r.scene, r.minutes, r.requested_at, d.code FROM rehearsal r JOIN device d ON d.id = r.device_id"
                " WHERE r.id = %s",
                (self._id,),
            ).fetchone()
        if row is None:
            return
        scene_json, minutes, requested_at, code = row
        rules = dict(discover())
        try:
            scene = parse_scene(scene_json, rules)
        except SceneError:
            self._fail("scene_refused")
            return
        folder = folder_of(self._settings.data_dir, code)
        segments = find_segments(folder, requested_at - timedelta(minutes=minutes), requested_at)
        if not segments:
            self._fail("no_recordings")
            return
        detector = open_detector(self._settings.vision)
        course = rehearse(scene, segments, detector, self._settings, rules, tell=self._tell, keep=self._keep)
        if course.looks == 0:
            self._fail("unreadable")
            return
        self._write(course, "done")

    def _keep(self, picture: Picture, detections: Detections, zone: AnyZone, finding: Finding) -> int | None:
        if self._count >= MOST_PICTURES:
            return None
        title_zh, title_en = TITLES[finding.category]
        caption = Caption(
            title_zh=title_zh,
            title_en=title_en,
            place=zone.name,
            at=finding.raised_at,
            timezone=self._settings.city.timezone,
            language=self._settings.city.language,
        )
        masked = mask_picture(picture, find_masks(detections))
        jpeg = draw_snapshot(
            masked, boxes=(finding.box,), polygon=zone.polygon, caption=caption, lettering=self._lettering
        )
        write_whole(self._folder / f"{self._count}.jpg", jpeg)
        self._count += 1
        return self._count - 1

    def _tell(self, course: Course) -> None:
        with contextlib.suppress(*_DATABASE_AWAY):
            self._write(course, "running")

    def _write(self, course: Course, state: str) -> None:
        now = self._now()
        with self._database.transaction("*") as connection:
            written = connection.execute(
                "UPDATE rehearsal SET state = %(state)s, heard_at = %(now)s, progress = %(progress)s, seconds = %(seconds)s,"
                " looks = %(looks)s, findings = %(findings)s, ended_at = %(ended_at)s"
                " WHERE id = %(id)s AND state = 'running'",
                {
                    "id": self._id, "state": state, "now": now, "seconds": round(course.seconds, 1),
                    "progress": 1.0 if state == "done" else round(course.progress, 4), "looks": course.looks,
                    "findings": Jsonb(course.findings), "ended_at": now if state == "done" else None,
                },
            ).rowcount  # fmt: skip
        if not written:
            raise Cancelled

    def _fail(self, error: str) -> None:
        with self._database.transaction("*") as connection:
            _fail(connection, self._id, error, self._now())


def _fail(connection: Any, rehearsal_id: UUID, error: str, now: datetime) -> None:
    connection.execute(
        "UPDATE rehearsal SET state = 'failed', error = %s, ended_at = %s WHERE id = %s AND state IN ('waiting', 'running')",
        (error, now, rehearsal_id),
    )


def _yield_to_others() -> None:
    os.nice(19)
    with contextlib.suppress(OSError, AttributeError):  # not on every system
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(incoming: IO[str]) -> int:
    """The child: one rehearsal, until it is over, cancelled, or `incoming` ends because the parent has gone."""
    settings = Settings.model_validate_json(incoming.readline())
    rehearsal_id = UUID(incoming.readline().strip())
    configure_log("vision", settings.log.level)
    _yield_to_others()

    def leave_with_parent() -> None:
        incoming.read()
        os._exit(3)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    clock = Clock.of(settings.clock)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        try:
            _Job(settings, database, clock.now, rehearsal_id).run()
        except Cancelled:
            log.info("rehearsal cancelled", extra={"rehearsal": str(rehearsal_id)})
    return 0


# ---- the desk ------------------------------------------------------------------------------------------------------


class RehearsalDesk:
    """Takes rehearsals that wait, one at a time, until `stop`."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._database = database
        self._now = now
        self._swept_s = -SWEEP_S

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        while not stop.wait(PAUSE_S):
            try:
                rehearsal_id = self.claim()
                if rehearsal_id is not None:
                    self._attend(rehearsal_id, stop)
                if time.monotonic() - self._swept_s >= SWEEP_S:
                    self._swept_s = time.monotonic()
                    self.sweep()
            except _DATABASE_AWAY as error:
                log.warning("rehearsals wait for the database: %s", str(error).strip())
            except Exception:  # a rehearsal must not end the watching
                log.exception("rehearsals cannot be attended to")

    def claim(self) -> UUID | None:
        """The next one to do, marked as ours; one that was left behind too often is given up."""
        now = self._now()
        with self._database.transaction("*") as connection:
            connection.execute(
                "UPDATE rehearsal SET state = 'failed', error = 'interrupted', ended_at = %(now)s"
                " WHERE state = 'running' AND heard_at < %(silent_at)s AND attempts >= %(most)s",
                {"now": now, "silent_at": now - SILENT, "most": MOST_ATTEMPTS},
            )
            row = connection.execute(
                "UPDATE rehearsal SET state = 'running', attempts = attempts + 1, heard_at = %(now)s, progress = 0,"
                " findings = '[]' WHERE id = (SELECT id FROM rehearsal WHERE state = 'waiting'"
                " OR (state = 'running' AND heard_at < %(silent_at)s) ORDER BY requested_at LIMIT 1"
                " FOR UPDATE SKIP LOCKED) RETURNING id",
                {"now": now, "silent_at": now - SILENT},
            ).fetchone()
        return UUID(str(row[0])) if row else None

    def _attend(self, rehearsal_id: UUID, stop: threading.Event) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "vision.rehearsal"], stdin=subprocess.PIPE, text=True, process_group=0
        )
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(f"{self._settings.model_dump_json()}\n{rehearsal_id}\n")
            process.stdin.flush()
        while process.poll() is None and not stop.wait(0.2):
            pass
        interrupted = process.poll() is None
        if interrupted:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        now = self._now()
        with self._database.transaction("*") as connection:
            if interrupted:  # it is taken up again by the next life, and that costs it no attempt
                connection.execute(
                    "UPDATE rehearsal SET state = 'waiting', attempts = attempts - 1 WHERE id = %s AND state = 'running'",
                    (rehearsal_id,),
                )
            elif code != 0:
                log.error("rehearsal ended with status %d", code, extra={"rehearsal": str(rehearsal_id)})
                _fail(connection, rehearsal_id, "crashed", now)

    def sweep(self) -> None:
        """Forget rehearsals of yesterday, and pictures without a row."""
        with self._database.transaction("*") as connection:
            connection.execute("DELETE FROM rehearsal WHERE requested_at < %s", (self._now() - KEEP,))
            known = {str(row[0]) for row in connection.execute("SELECT id FROM rehearsal").fetchall()}
        root = self._settings.evidence_dir / "rehearsal"
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


def start_rehearsals(
    settings: Settings, database: Database, now: Callable[[], datetime], stop: threading.Event
) -> None:
    """Attend to rehearsals in a thread until `stop`."""
    desk = RehearsalDesk(settings, database, now)
    threading.Thread(target=desk.run, args=(stop,), name="rehearsals", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.stdin))
