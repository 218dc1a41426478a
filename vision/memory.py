"""The last minutes of one camera as small pictures in memory: how a finding began can be shown when it is raised.

Bounded by bytes, not by time: when it is full, the picture goes whose absence leaves the smallest hole for its age. So
the last half minute is kept at about one picture a second, and the last hour at some.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import cv2
import numpy as np

from vision.model import Box, Picture

EVERY = timedelta(seconds=1)
MAX_WIDTH_PX = 960
QUALITY = 80
NEAR_S = 2.0
NEAR_SHARE = 0.1
"""A picture is of an instant if it is no further from it than this, or than this share of the instant's age."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One look's picture: JPEG without masks, and what must be covered in it."""

    at: datetime
    jpeg: bytes
    masks: tuple[Box, ...]

    def picture(self) -> Picture:
        """(H, W, 3) uint8, BGR."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)


class Memory:
    """Pictures of one camera, oldest first. Not shared between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: list[Kept] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Of all pictures kept."""
        return self._bytes

    def add(self, picture: Picture, masks: tuple[Box, ...], at: datetime) -> bool:
        """Keep it, unless one was kept less than a second ago (or the clock was set back: then what is ahead goes)."""
        while self._kept and self._kept[-1].at > at:
            self._bytes -= len(self._kept.pop().jpeg)
        if self._kept and at - self._kept[-1].at < EVERY:
            return False
        height, width = picture.shape[:2]
        if width > MAX_WIDTH_PX:
            size = (MAX_WIDTH_PX, max(1, round(height * MAX_WIDTH_PX / width)))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            return False
        self._kept.append(Kept(at=at, jpeg=encoded.tobytes(), masks=masks))
        self._bytes += len(self._kept[-1].jpeg)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._bytes -= len(self._kept.pop(self._least(at)).jpeg)
        return True

    def _least(self, now: datetime) -> int:
        """Index of the picture whose absence matters least; the newest is never it."""
        kept = self._kept
        if len(kept) == 2:
            return 0

        def hole(index: int) -> float:
            gap_s = (kept[index + 1].at - kept[index - 1].at).total_seconds()
            return gap_s / (1.0 + (now - kept[index].at).total_seconds())

        inner = min(range(1, len(kept) - 1), key=hole)
        # The oldest has no picture before it: it goes when all else would be thinner for its age than a tenth.
        return inner if hole(inner) < NEAR_SHARE else 0

    def find(self, at: datetime, now: datetime) -> Kept | None:
        """The picture nearest to `at`; None when none was kept near enough."""
        nearest = min(self._kept, key=lambda kept: abs(kept.at - at), default=None)
        if nearest is None:
            return None
        limit_s = max(NEAR_S, NEAR_SHARE * (now - at).total_seconds())
        return nearest if abs((nearest.at - at).total_seconds()) <= limit_s else None
