"""The nouns of vision: labels, detections, tracks and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Picture = NDArray[np.uint8]
"""A frame: (H, W, 3) uint8, BGR."""

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 as fractions of the picture's width and height."""

Point = tuple[float, float]
"""x, y as fractions of the picture's width and height."""


class Label(StrEnum):
    """What a detector may see, whatever its own class list says."""

    PERSON = "person"
    VEHICLE = "vehicle"
    TWO_WHEELER = "two_wheeler"
    BIN = "bin"
    BIN_OVERFLOW = "bin_overflow"
    GARBAGE = "garbage"


LABELS: tuple[Label, ...] = tuple(Label)
"""Index of a label in `Detections.labels`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """What was seen in one picture.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the picture; scores: (N,) float32, 0..1;
    labels: (N,) int64, index into LABELS.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    width_px: int
    height_px: int

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Detections:
        """Only those scored at least `score`."""
        keep = self.scores >= score
        return Detections(
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            width_px=self.width_px,
            height_px=self.height_px,
        )

    @staticmethod
    def empty(width_px: int, height_px: int) -> Detections:
        """Nothing seen."""
        return Detections(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            width_px=width_px,
            height_px=height_px,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One thing followed through time, as the rules see it.

    `still_since_at` is when it last came to rest (its birth if it was never seen moving), None while it
    moves. `missed_s` is the time since it was last really seen: 0 for one seen in this look.
    """

    id: int
    label: Label
    box: Box
    score: float
    born_at: datetime
    still_since_at: datetime | None
    missed_s: float

    @property
    def ground(self) -> Point:
        """Where it stands: the middle of the box's lower edge."""
        x1, _, x2, y2 = self.box
        return ((x1 + x2) / 2, y2)


class Category(StrEnum):
    """Categories that vision rules report; the values are those of the incident categories."""

    ILLEGAL_PARKING = "illegal_parking"
    BIN_OVERFLOW = "bin_overflow"
    EXPOSED_GARBAGE = "exposed_garbage"
    DIRTY_ROAD = "dirty_road"
    CROWDING = "crowding"
    RIVER_LEVEL = "river_level"


TITLES: dict[Category, tuple[str, str]] = {
    Category.ILLEGAL_PARKING: ("机动车乱停放", "Illegal parking"),
    Category.BIN_OVERFLOW: ("垃圾箱满溢", "Bin overflow"),
    Category.EXPOSED_GARBAGE: ("暴露垃圾", "Exposed garbage"),
    Category.DIRTY_ROAD: ("道路不洁", "Dirty road"),
    Category.CROWDING: ("人员聚集", "Crowding"),
    Category.RIVER_LEVEL: ("水位超限", "River level above its limit"),
}
"""In Chinese and English, as they are written on pictures."""


class Presence(StrEnum):
    """What one look of a closure check says about the place."""

    THERE = "there"
    GONE = "gone"
    HIDDEN = "hidden"
    """Something stands before the place, or what should be seen beside it (the bin) is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something a rule found, raised once (`cleared_at` None) and cleared once (the same `key`); told as an `update`
    in between when it grew.

    `key` names the episode and stays the same when it is cleared; `started_at` is when the cause began.
    """

    rule: str
    category: Category
    zone: str
    key: str
    started_at: datetime
    raised_at: datetime
    cleared_at: datetime | None
    box: Box
    score: float
    update: bool = False
    """Told again between raising and clearing: it grew. The same incident hears of it; nothing is pushed again."""
    severity: int | None = None
    """1 (worst) to 4; None: what its category says. An update may only make it worse."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What the rule measured, as JSON: `area_m2`, `people`, `level_m`, …"""
