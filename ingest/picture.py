"""Newest pictures through memory that two processes share: one writes and never waits, one reads and never sees half a picture.

A file in memory holds three slots that are written in turn and one for the newest key picture. Every slot has a number that is
odd while it is written and grows with each writing; a reader that finds it changed has copied nothing of use and tries again.
"""

from __future__ import annotations

import mmap
import struct
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ingest.rtsp import Frame

_COUNTS = struct.Struct("<QQ")  # pictures written so far, and key pictures
_SLOT = struct.Struct("<QQqqIII")  # lock, seq, received and pts in µs, width, height, key
_HEAD_BYTES = 64
_TURNS = 3
_NO_PTS = -(2**63)
_TRIES = 4


def memory_folder() -> Path:
    """A new folder of our own for shared pictures: in memory where the system has such a place."""
    place = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="gridwarden-", dir=place if place.is_dir() else None))


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedFrame:
    """As ingest.rtsp.Frame, copied out of shared memory."""

    seq: int
    received_at: datetime
    pts_s: float | None
    key: bool
    image: NDArray[np.uint8]

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, BGR."""
        return self.image


class PictureWriter:
    """The writing side. Pictures wider than `width_limit` are made narrower. For one thread at a time."""

    def __init__(self, folder: Path, name: str, width_limit: int) -> None:
        self._folder = folder
        self._name = name
        self._width_limit = width_limit
        self._reformatter = VideoReformatter()
        self._memory: mmap.mmap | None = None
        self._number = 0
        self._size = (0, 0)
        self._count = self._key_count = 0
        self._locks = [0] * (_TURNS + 1)
        self.path: Path | None = None
        """The file in use; another one whenever the size changes."""

    def write(self, frame: Frame, *, newest: bool) -> None:
        """Convert a picture and offer it: as the newest, and as the newest key picture if it is one."""
        width, height = self._fit(frame.video_frame)
        if (width, height) != self._size or self._memory is None:
            self._make(width, height)
        memory = self._memory
        assert memory is not None
        made = self._reformatter.reformat(
            frame.video_frame,
            width,
            height,
            "bgr24",
            interpolation="AREA" if width != frame.video_frame.width else None,
        )
        plane = made.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        if newest:
            self._put(memory, self._count % _TURNS, frame, rows)
            self._count += 1
        if frame.key:
            self._put(memory, _TURNS, frame, rows)
            self._key_count += 1
        _COUNTS.pack_into(memory, 0, self._count, self._key_count)

    def _fit(self, frame: VideoFrame) -> tuple[int, int]:
        if frame.width <= self._width_limit:
            return frame.width, frame.height
        return self._width_limit, max(2, round(frame.height * self._width_limit / frame.width / 2) * 2)

    def close(self) -> None:
        """Leave no file behind that no reader took up."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _make(self, width: int, height: int) -> None:
        self.close()
        self._number += 1
        path = self._folder / f"{self._name}-{self._number}"
        slot_bytes = _HEAD_BYTES + width * height * 3
        with path.open("wb+") as file:
            path.chmod(0o600)
            file.truncate(_HEAD_BYTES + (_TURNS + 1) * slot_bytes)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._size = (width, height)
        self._count = self._key_count = 0
        self._locks = [0] * (_TURNS + 1)
        self.path = path

    def _put(self, memory: mmap.mmap, slot: int, frame: Frame, rows: NDArray[np.uint8]) -> None:
        width, height = self._size
        begin = _HEAD_BYTES + slot * (_HEAD_BYTES + width * height * 3)
        pts_us = _NO_PTS if frame.pts_s is None else round(frame.pts_s * 1e6)
        fields = (frame.seq, _to_us(frame.received_at), pts_us, width, height, int(frame.key))
        _SLOT.pack_into(memory, begin, self._locks[slot] + 1, *fields)
        target = np.frombuffer(memory, np.uint8, width * height * 3, begin + _HEAD_BYTES)
        target.reshape(height, width * 3)[:] = rows
        self._locks[slot] += 2
        _SLOT.pack_into(memory, begin, self._locks[slot], *fields)


class PictureReader:
    """The reading side of one file. Takes the file's name away: nothing is left when both sides are gone."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when it is not there."""
        with path.open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        path.unlink(missing_ok=True)
        self._slot_bytes = (len(self._memory) - _HEAD_BYTES) // (_TURNS + 1)

    @property
    def counts(self) -> tuple[int, int]:
        """How many newest and how many key pictures were written: whether looking again is of use."""
        newest, keys = _COUNTS.unpack_from(self._memory, 0)
        return int(newest), int(keys)

    def newest(self) -> SharedFrame | None:
        """The newest picture."""
        for _ in range(_TRIES):
            count = self.counts[0]
            if count == 0:
                return None
            found = self._take((count - 1) % _TURNS)
            if found is not None:
                return found
        return None

    def newest_key(self) -> SharedFrame | None:
        """The newest key picture."""
        for _ in range(_TRIES if self.counts[1] else 0):
            found = self._take(_TURNS)
            if found is not None:
                return found
        return None

    def _take(self, slot: int) -> SharedFrame | None:
        begin = _HEAD_BYTES + slot * self._slot_bytes
        before = _SLOT.unpack_from(self._memory, begin)
        lock, seq, received_us, pts_us, width, height, key = before
        if lock % 2 or lock == 0:
            return None
        flat = np.frombuffer(self._memory, np.uint8, width * height * 3, begin + _HEAD_BYTES)
        image = flat.reshape(height, width, 3).copy()
        if _SLOT.unpack_from(self._memory, begin) != before:
            return None
        return SharedFrame(
            seq=seq,
            received_at=_from_us(received_us),
            pts_s=None if pts_us == _NO_PTS else pts_us / 1e6,
            key=bool(key),
            image=image,
        )


def _to_us(instant: datetime) -> int:
    return round(instant.timestamp() * 1e6)


def _from_us(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1e6, UTC)
