"""Clips that may be shown: a copy in which heads and plates are covered, made apart from the looking.

The capture cuts a clip without decoding it (the original). Here a detector passes over it some times a second, every
frame is covered with what was seen before and after it, and the copy becomes the evidence. Whoever does this is a thread
at low priority; any number of processes may, and a killed one leaves a clip that another takes up.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from uuid import UUID

import av
import av.error
import cv2
import numpy as np
import psycopg
from av.video.frame import VideoFrame
from psycopg.rows import class_row
from psycopg_pool import PoolTimeout

from ingest.recording import find_segments, folder_of
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.settings import Settings
from vision.evidence import Original, Shown, keep_original, make_private, write_evidence
from vision.findings import change_clip, fail_clip
from vision.mask import find_masks, mask_picture
from vision.model import Box, Detections, Picture

log = logging.getLogger(__name__)

LOOKS_PER_S = 6.0
MOST_UNSEEN = 10
"""Pictures from one look to the next at most, whatever rate a file claims: they wait in memory."""
MAX_WIDTH_PX = 1280
MAX_SECONDS = 120.0
CRF = "25"
CLAIM = timedelta(minutes=5)
"""A clip that somebody began to mask so long ago is taken up by another."""
LATE = timedelta(seconds=75)
"""A clip whose seconds are over for so long comes no more from the capture. By then the recording's minute is finished."""
PAUSE_S = 2.0
NICE = 15
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""The disk's fault, not the clip's: it waits, and is taken up again after `CLAIM`."""


class _Detects(Protocol):
    def detect(self, picture: Picture) -> Detections: ...


class ClipError(Exception):
    """A clip that cannot be masked; the text is a stable code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A masked copy as it was written."""

    seconds: float
    width: int
    height: int
    frames: int
    looks: int


def mask_clip(source: Path, target: Path, detector: _Detects) -> Copy:
    """Write a masked copy of a video, H.264 without sound, at most 1280 pixels wide.

    Raises ClipError: masking_failed (nothing that could be decoded), no_encoder; OSError when the disk takes no more.
    """
    try:
        with av.open(str(source)) as given, av.open(str(target), "w", format="mp4", options=_FLAGS) as made:
            if not given.streams.video:
                raise ClipError("masking_failed")
            return _copy(given, made, detector)
    except av.error.FFmpegError as error:
        if error.errno in DISK_FULL:
            raise OSError(error.errno, "no room for the masked copy") from error
        raise ClipError(
            "no_encoder" if isinstance(error, av.error.EncoderNotFoundError) else "masking_failed"
        ) from error


_FLAGS = {"movflags": "+faststart"}


def _copy(given: av.container.InputContainer, made: av.container.OutputContainer, detector: _Detects) -> Copy:
    source = given.streams.video[0]
    source.thread_type = "NONE"
    rate = float(source.average_rate or 25)
    step = min(MOST_UNSEEN, max(1, round(rate / LOOKS_PER_S)))
    out: av.VideoStream | None = None
    time_base = Fraction(1, 90_000)
    first_s, last_s, frames, looks = 0.0, 0.0, 0, 0
    for group, masks in _group(given, detector, step):
        looks += 1
        for at_s, picture in group:
            if out is None:
                first_s = at_s
                height, width = picture.shape[:2]
                out = made.add_stream("libx264", rate=round(rate) or 25, options={"crf": CRF, "preset": "veryfast"})
                out.width, out.height, out.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
                out.codec_context.time_base = time_base
                out.thread_count = 1
            covered = mask_picture(picture, masks)[: out.height, : out.width]
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(covered), format="bgr24")
            frame.pts, frame.time_base = round((at_s - first_s) / time_base), time_base
            made.mux(out.encode(frame))
            last_s, frames = at_s, frames + 1
    if out is None:
        raise ClipError("masking_failed")
    made.mux(out.encode(None))
    seconds = last_s - first_s + 1 / max(rate, 1.0)
    return Copy(seconds=round(seconds, 2), width=out.width, height=out.height, frames=frames, looks=looks)


def _group(
    given: av.container.InputContainer, detector: _Detects, step: int
) -> Iterator[tuple[list[tuple[float, Picture]], tuple[Box, ...]]]:
    """Frames from one look of the detector up to the next, with what either saw: what moves in between is covered."""
    group: list[tuple[float, Picture]] = []
    before: tuple[Box, ...] = ()
    first_s: float | None = None
    for frame in given.decode(video=0):
        at_s = float(frame.time if frame.time is not None else 0.0)
        first_s = at_s if first_s is None else first_s
        if at_s - first_s > MAX_SECONDS:
            break
        picture = _shrink(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
        if len(group) == step or not group:
            after = find_masks(detector.detect(picture))
            if group:
                yield group, _join(before, after)
            group, before = [], after
        group.append((at_s, picture))
    if group:
        yield group, _join(before, find_masks(detector.detect(group[-1][1])))


def _join(before: tuple[Box, ...], after: tuple[Box, ...]) -> tuple[Box, ...]:
    """Both, and what lies between two of about one size that lie close: the same one on its way."""
    ways = tuple(
        (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
        for a in before
        for b in after
        if _near(a, b)
    )
    return (*before, *after, *ways)


def _near(first: Box, second: Box) -> bool:
    for low in (0, 1):
        one, other = first[low + 2] - first[low], second[low + 2] - second[low]
        moved = abs(first[low] + first[low + 2] - second[low] - second[low + 2]) / 2
        if moved > max(one, other) or max(one, other) > 2 * min(one, other):
            return False
    return True


def _shrink(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    if width <= MAX_WIDTH_PX:
        return picture
    size = (MAX_WIDTH_PX, round(height * MAX_WIDTH_PX / width / 2) * 2)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


# ------------------------------------------------------------------------------------------------ the work


@dataclass(frozen=True, kw_only=True, slots=True)
class CutClip:
    """A clip that lies on the disk and waits to be masked."""

    id: UUID
    report_id: UUID
    path: str
    from_at: datetime
    until_at: datetime
    area_code: str
    lon: float
    lat: float
    poster: str | None


class Masker:
    """Masks clips one after the other. The detector is made when the first clip comes, and kept."""

    def __init__(
        self, settings: Settings, database: Database, now: Callable[[], datetime], make_detector: Callable[[], _Detects]
    ) -> None:
        self._settings = settings
        self._database = database
        self._now = now
        self._make_detector = make_detector
        self._detector: _Detects | None = None

    def start(self, stop: threading.Event) -> threading.Thread:
        """Mask until `stop`, in a thread that lets all others go first."""
        thread = threading.Thread(target=self._run, args=(stop,), name="vision-clips", daemon=True)
        thread.start()
        return thread

    def _run(self, stop: threading.Event) -> None:
        with contextlib.suppress(OSError, AttributeError):  # of this thread alone, where the system knows such a thing
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not stop.is_set():
            try:
                busy = self.work()
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
                log.warning("clips wait for the database: %s", str(error).strip())
                busy = False
            except Exception:  # a thread that ends in silence would promise clips for ever
                log.exception("clips cannot be masked")
                busy = False
            if not busy:
                stop.wait(PAUSE_S)

    def work(self) -> bool:
        """Give up what can't come any more and mask one clip; False when there was none."""
        with self._database.transaction("*") as connection:
            give_up(connection, self._settings, self._now())
            clip = claim_clip(connection, self._now())
        if clip is None:
            return False
        if self._detector is None:
            self._detector = self._make_detector()  # without a model the clip waits
        try:
            self._mask(clip, self._detector)
        except (psycopg.Error, PoolTimeout):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                log.error("a clip waits to be masked: %s", error, extra={"clip_id": clip.id})
                return False
            # whatever a decoder or detector stumbles over would stop it again each time
            code = str(error) if isinstance(error, ClipError) else "masking_failed"
            log.warning("clip not masked: %s", error, extra={"clip_id": clip.id})
            (self._settings.originals_dir / clip.path).unlink(missing_ok=True)
            with self._database.transaction("*") as connection:
                fail_clip(connection, clip.id, code, self._now())
        return True

    def _mask(self, clip: CutClip, detector: _Detects) -> None:
        source = self._settings.originals_dir / clip.path
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        beside = source.with_name(f".{clip.id}.masked.mp4")
        try:
            copy = mask_clip(source, beside, detector)
            content = beside.read_bytes()
        finally:
            beside.unlink(missing_ok=True)
        with self._database.transaction("*") as connection:
            original = Original(
                path=clip.path, sha256=digest, mime="video/mp4", width=copy.width, height=copy.height, masks=()
            )
            kept = self._settings.evidence.keep_originals
            save_clip(
                connection, self._settings.evidence_dir, clip, copy, content, original if kept else None, self._now()
            )
        if not kept:
            source.unlink(missing_ok=True)


def give_up(connection: Connection, settings: Settings, now: datetime) -> int:
    """Settle clips that the capture did not give, because it or we died: what lies there complete is taken, else what the
    recording has of those seconds, and the rest failed."""
    rows = connection.execute(
        """
        SELECT c.id, c.report_id, c.path, c.from_at, c.until_at, c.error, d.code
        FROM clip c JOIN device d ON d.id = c.device_id
        WHERE c.state = 'wanted' AND c.until_at < %s ORDER BY c.id LIMIT 10 FOR UPDATE OF c SKIP LOCKED
        """,
        (now - LATE,),
    ).fetchall()
    for clip_id, report_id, path, from_at, until_at, error, code in rows:
        target = settings.originals_dir / path
        if target.is_file() or cut_recording(folder_of(settings.data_dir, code), from_at, until_at, target):
            connection.execute("UPDATE clip SET state = 'cut', error = '' WHERE id = %s", (clip_id,))
            change_clip(connection, report_id, "cut", "", clip_id, now)
        else:
            fail_clip(connection, clip_id, error or "interrupted", now)
    return len(rows)


def cut_recording(folder: Path, from_at: datetime, until_at: datetime, target: Path) -> bool:
    """Take a clip out of the recorded minute that has most of it, without decoding; False when none has its middle."""
    middle_at = from_at + (until_at - from_at) / 2
    found = find_segments(folder, middle_at, middle_at + timedelta(milliseconds=1))
    if not found:
        return False
    segment = found[-1]
    from_s = (from_at - segment.began_at).total_seconds()
    until_s = (until_at - segment.began_at).total_seconds()
    beside = target.with_name(f".{target.name}")
    try:
        make_private(target.parent.parent.parent.parent, target.parent)
        with av.open(str(segment.path)) as given, av.open(str(beside), "w", format="mp4") as made:
            _remux(given, made, from_s, until_s)
        beside.chmod(0o600)
        beside.replace(target)
    except (av.error.FFmpegError, OSError, ClipError) as error:
        log.warning("recording %s gives no clip: %s", segment.path.name, error)
        beside.unlink(missing_ok=True)
        return False
    return True


def _remux(
    given: av.container.InputContainer, made: av.container.OutputContainer, from_s: float, until_s: float
) -> None:
    source = given.streams.video[0]
    base = source.time_base or Fraction(1, 90_000)
    if from_s > 0:
        given.seek(int(from_s / base), stream=source)  # to the key picture before
    out = made.add_stream_from_template(source)
    offset: int | None = None
    for packet in given.demux(source):
        if packet.dts is None or packet.pts is None:
            continue
        if packet.pts * base > until_s:
            break
        offset = packet.dts if offset is None else offset
        packet.dts, packet.pts = packet.dts - offset, packet.pts - offset
        packet.stream = out
        made.mux(packet)
    if offset is None:
        raise ClipError("nothing_kept")


def claim_clip(connection: Connection, now: datetime) -> CutClip | None:
    """Take the oldest clip that waits to be masked, for `CLAIM` from now."""
    with connection.cursor(row_factory=class_row(CutClip)) as cursor:
        return cursor.execute(
            """
            UPDATE clip SET claimed_at = %(now)s FROM report r, device d
            WHERE clip.id = (
                SELECT id FROM clip WHERE state = 'cut' AND (claimed_at IS NULL OR claimed_at < %(before)s)
                ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
              AND r.id = clip.report_id AND d.id = clip.device_id
            RETURNING clip.id, clip.report_id, clip.path, clip.from_at, clip.until_at, r.area_code, d.lon, d.lat,
                      r.detail #>> '{evidence,threshold}' AS poster
            """,
            {"now": now, "before": now - CLAIM},
        ).fetchone()


def save_clip(
    connection: Connection,
    evidence_dir: Path,
    clip: CutClip,
    copy: Copy,
    content: bytes,
    original: Original | None,
    now: datetime,
) -> bool:
    """Make the masked copy the evidence; False when somebody else had masked it meanwhile."""
    row = connection.execute(
        "UPDATE clip SET state = 'saved', error = '', ended_at = %s WHERE id = %s AND state = 'cut' RETURNING id",
        (now, clip.id),
    ).fetchone()
    if row is None:
        return False
    shown = Shown(
        id=clip.id,
        kind="clip",
        mime="video/mp4",
        suffix=".mp4",
        content=content,
        width=copy.width,
        height=copy.height,
        taken_at=clip.from_at,
        masked=True,
        area_code=clip.area_code,
        lon=clip.lon,
        lat=clip.lat,
        detail={
            "moment": "clip",
            "seconds": copy.seconds,
            "until_at": clip.until_at.isoformat(),
            "poster": clip.poster,
            "frames": copy.frames,
            "looks": copy.looks,
        },
    )
    write_evidence(connection, evidence_dir, shown)
    if original is not None:
        keep_original(connection, clip.id, original, now)
    connection.execute(
        "UPDATE report SET evidence_ids = evidence_ids || %s::uuid WHERE id = %s", (clip.id, clip.report_id)
    )
    change_clip(connection, clip.report_id, "saved", "", clip.id, now)
    return True


def start_masker(
    settings: Settings, database: Database, clock: Clock, make_detector: Callable[[], _Detects], stop: threading.Event
) -> threading.Thread:
    """The thread of the vision role that masks clips."""
    return Masker(settings, database, clock.now, make_detector).start(stop)
