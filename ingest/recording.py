"""The last hour of a camera on disk: a minute to a file, remuxed, never decoded; the oldest goes when the time or the room is over.

Recording is a convenience and watching is not: packets are handed over a whole group of pictures at a time, a disk that is slow
costs groups, and one that is full stops the recording until there is room again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import shutil
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av.error

from ingest.packets import LONGEST_GOP_BYTES, CodedPacket, Mp4File

log = logging.getLogger(__name__)

SEGMENT_S = 60.0
NAME_FORMAT = "%Y%m%dT%H%M%SZ"
MOST_WAITING_BYTES = 12_000_000
"""Of one camera, in memory, when the disk is slow; groups that come then are left out."""
RETRY_S = 30.0
IDLE_S = 2 * SEGMENT_S
"""Nothing came for so long: the camera is gone, and the file in hand is finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One file of a recording and the time that it covers."""

    path: Path
    began_at: datetime
    ended_at: datetime


def folder_of(data_dir: Path, code: str) -> Path:
    """Where the recordings of the camera `code` lie: under its code, unless that is no name for a folder."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", code)
    return data_dir / "recordings" / (name if name.strip(".") else f"_{name}")


def find_segments(folder: Path, from_at: datetime, until_at: datetime) -> list[Segment]:
    """The finished files with pictures of that time, oldest first. The present minute is not among them yet."""
    return [each for each in list_segments(folder) if each.began_at < until_at and each.ended_at > from_at]


def list_segments(folder: Path) -> list[Segment]:
    """All finished files of a camera, oldest first."""
    found: list[Segment] = []
    for path in sorted(folder.glob("[0-9]*.mp4")):
        try:
            began_at = datetime.strptime(path.name[:16], NAME_FORMAT).replace(tzinfo=UTC)
            ended_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (OSError, ValueError):  # gone since, or not ours
            continue
        found.append(Segment(path=path, began_at=began_at, ended_at=max(ended_at, began_at)))
    return found


class Recording:
    """One camera's recording. `put` belongs to the capture's thread and never waits; the rest happens in a thread of its own."""

    def __init__(self, folder: Path, *, minutes: float, limit_bytes: int, spare_bytes: int) -> None:
        """`limit_bytes`: all files of this camera together; `spare_bytes`: what must stay free on the disk."""
        self._folder = folder
        self._keep = timedelta(minutes=minutes)
        self._limit_bytes = limit_bytes
        self._spare_bytes = spare_bytes
        self._group: list[CodedPacket] = []
        self._group_bytes = 0
        self._queue: queue.SimpleQueue[list[CodedPacket] | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._file: Mp4File | None = None
        self._last: CodedPacket | None = None
        self._began_at = datetime.min.replace(tzinfo=UTC)
        self._stopped_s: float | None = None
        self.left_out = 0
        """Groups of pictures that were not recorded: the disk was full or slow."""
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)

    @property
    def stopped(self) -> bool:
        """The disk was full, or failed, when last tried."""
        return self._stopped_s is not None

    def start(self) -> None:
        """Begin; files that an earlier life left unfinished are put under their names."""
        self._thread.start()

    def put(self, packet: CodedPacket) -> None:
        """One more packet."""
        if self._group and (packet.key or packet.run != self._group[-1].run or self._group_bytes > LONGEST_GOP_BYTES):
            self._hand_over()
        self._group.append(packet)
        self._group_bytes += len(packet.data)

    def _hand_over(self) -> None:
        group, size, self._group, self._group_bytes = self._group, self._group_bytes, [], 0
        with self._lock:
            if self._waiting_bytes + size > MOST_WAITING_BYTES:
                self.left_out += 1
                return
            self._waiting_bytes += size
        self._queue.put(group)

    def close(self, timeout_s: float = 2.0) -> None:
        """Finish the file in hand. Called when the capture's thread puts no more."""
        if self._group:
            self._hand_over()
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self._salvage()
        ended = False
        while not ended:
            try:
                group = self._queue.get(timeout=IDLE_S)
            except queue.Empty:
                group = []
            ended = group is None
            with self._lock:
                self._waiting_bytes -= sum(len(packet.data) for packet in group or ())
            try:
                if group:
                    self._record(group)
                else:
                    self._finish()
            except (OSError, av.error.FFmpegError, ValueError) as error:
                self._give_up(error)

    def _record(self, group: list[CodedPacket]) -> None:
        if self._stopped_s is not None and time.monotonic() - self._stopped_s < RETRY_S:
            self.left_out += 1
            return
        first = group[0]
        if self._file is not None and self._last is not None:
            far = (first.received_at - self._began_at).total_seconds() >= SEGMENT_S
            if first.shape != self._last.shape or first.run != self._last.run or (first.key and far):
                self._finish()
        if self._file is None:
            if not first.key:
                return
            self._sweep(first.received_at)
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if shutil.disk_usage(self._folder).free < self._spare_bytes:
                raise OSError("the disk is full")
            self._began_at = first.received_at
            self._file = Mp4File(self._folder / f"{first.received_at:{NAME_FORMAT}}.mp4", first, in_fragments=True)
        self._file.write(group)
        self._last = group[-1]
        if self._stopped_s is not None:
            log.info("recording into %s goes on", self._folder.name)
            self._stopped_s = None

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._last is not None:
            file.finish()
            ended_s = self._last.received_at.timestamp()
            os.utime(file.path, (ended_s, ended_s))

    def _give_up(self, error: Exception) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.discard()
        self.left_out += 1
        if self._stopped_s is None:
            log.warning("recording into %s stops: %s", self._folder.name, error)
        self._stopped_s = time.monotonic()

    def _sweep(self, now: datetime) -> None:
        """Delete what is too old or too much."""
        segments = list_segments(self._folder)
        sizes = {each.path: _size_of(each.path) for each in segments}
        total = sum(sizes.values())
        for each in segments:
            if each.ended_at >= now - self._keep and total <= self._limit_bytes:
                break
            each.path.unlink(missing_ok=True)
            total -= sizes[each.path]

    def _salvage(self) -> None:
        for part in self._folder.glob(".*.mp4.part"):
            name = part.name.removeprefix(".").removesuffix(".part")
            if part.stat().st_size > 10_000:
                part.replace(self._folder / name)
            else:
                part.unlink(missing_ok=True)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sweep_all(data_dir: Path, minutes: float, now: datetime) -> None:
    """Delete what is older than `minutes` of every camera, captured still or not, finished or left by a process that died."""
    oldest_at = now - timedelta(minutes=minutes)
    for folder in (data_dir / "recordings").glob("*"):
        for each in list_segments(folder):
            if each.ended_at < oldest_at:
                each.path.unlink(missing_ok=True)
        for part in folder.glob(".*.mp4.part"):  # their time is the file system's; one in hand is younger than that
            with contextlib.suppress(FileNotFoundError):  # finished since
                if part.stat().st_mtime < time.time() - max(minutes * 60, 2 * IDLE_S):
                    part.unlink()
