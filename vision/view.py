"""The picture of one look, as far as rules may ask about it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.background import Mask, find_changes
from vision.model import Box, Picture, Point
from vision.motion import THUMBNAIL, Grey, Grey32, shrink

PATCH_SIZE = 16
PATCH_SCALE = 32.0
"""Stored values are this many per unit of local contrast."""

FLAT_LEVELS = 8.0
"""Contrast in grey levels that is taken for none: bare asphalt and noise."""

PLAIN_ENERGY = 0.05
"""Added to both sides of a comparison, so that two plain places are alike whatever their noise."""

MIN_PATCH_PX = 6
COLOUR_FREE = 12.0
COLOUR_SPAN = 40.0
COLOUR_WEIGHT = 0.5
"""A colour further off than `COLOUR_FREE` (of Lab's a and b) takes up to this much of the likeness."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """What a place looks like: its structure with the light taken out, and its colour. About 350 bytes of JSON.

    `cells`: base64 of 16 by 16 signed bytes, the grey values less their surroundings' mean over their contrast;
    `colour`: mean a and b of Lab, 0 is grey; `luma`: mean brightness, 0..255.
    """

    cells: str
    colour: tuple[float, float]
    luma: float


def likeness(first: Patch, second: Patch) -> float:
    """0 (another thing) to 1 (the same): structure first, colour as far as there is light to see it."""
    one, two = _cells(first), _cells(second)
    energy = float((one * one).mean() + (two * two).mean()) / 2
    shape = (float((one * two).mean()) + PLAIN_ENERGY) / (energy + PLAIN_ENERGY)
    gap = float(np.hypot(first.colour[0] - second.colour[0], first.colour[1] - second.colour[1]))
    light = float(np.clip(min(first.luma, second.luma) / 60.0, 0.0, 1.0))
    colour = 1.0 - COLOUR_WEIGHT * light * float(np.clip((gap - COLOUR_FREE) / COLOUR_SPAN, 0.0, 1.0))
    return float(np.clip(shape, 0.0, 1.0)) * colour


def structure(patch: Patch) -> float:
    """How much there is to recognise: the mean square of the local contrast."""
    cells = _cells(patch)
    return float((cells * cells).mean())


@dataclass(frozen=True, kw_only=True)
class View:
    """A picture, (H, W, 3) uint8 BGR, and what is known of the place without what came lately.

    Places are fractions of its width and height. `background`: the slow background, a grey thumbnail (180, 320), None
    while it is being learnt; `learnt_at`: since when it is known. What came before that instant is part of it, so
    about such a thing `changed` says nothing.
    """

    picture: Picture
    background: Grey32 | None = None
    learnt_at: datetime | None = None
    small: Grey | None = None
    """The picture's thumbnail, where somebody has made it already."""

    def patch(self, box: Box) -> Patch | None:
        """What the place looks like now; None when it is too small to say."""
        height, width = self.picture.shape[:2]
        x1, y1 = max(0, round(box[0] * width)), max(0, round(box[1] * height))
        x2, y2 = min(width, round(box[2] * width)), min(height, round(box[3] * height))
        if x2 - x1 < MIN_PATCH_PX or y2 - y1 < MIN_PATCH_PX:
            return None
        small = cv2.resize(self.picture[y1:y2, x1:x2], (PATCH_SIZE, PATCH_SIZE), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
        mean = cv2.GaussianBlur(grey, (0, 0), 2.5)
        spread = cv2.GaussianBlur((grey - mean) ** 2, (0, 0), 4.0)
        cells = (grey - mean) / (np.sqrt(spread) + FLAT_LEVELS)
        packed = np.clip(np.round(cells * PATCH_SCALE), -127, 127).astype(np.int8)
        lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1, 3).mean(axis=0)
        return Patch(
            cells=base64.b64encode(packed.tobytes()).decode(),
            colour=(round(float(lab[1]) - 128, 1), round(float(lab[2]) - 128, 1)),
            luma=round(float(grey.mean()), 1),
        )

    def changed(self, place: Box | Sequence[Point]) -> float | None:
        """Share 0..1 of a box or polygon that differs from the slow background; None while that is being learnt.

        A change of light alone (dusk, a lamp, headlights on the road) is little; a thing set down stays changed for half
        an hour. Asked of something that was there before `learnt_at`, it says 0: the thing is background.
        """
        mask = self._changes
        if mask is None:
            return None
        where = _draw_place(place)
        total = int(where.sum())
        return float((mask & where).sum()) / total if total else None

    def brighter(self, box: Box) -> float | None:
        """By how many grey levels a place is brighter than its slow background; None while that is being learnt."""
        if self.background is None:
            return None
        where = _draw_place(box) > 0
        return float(self.thumbnail[where].mean() - self.background[where].mean())

    @cached_property
    def thumbnail(self) -> Grey:
        """Grey, (180, 320)."""
        return shrink(self.picture) if self.small is None else self.small

    @cached_property
    def _changes(self) -> Mask | None:
        return None if self.background is None else find_changes(self.background, self.thumbnail)


def _draw_place(place: Box | Sequence[Point]) -> NDArray[np.uint8]:
    width, height = THUMBNAIL
    canvas = np.zeros((height, width), np.uint8)
    points: list[Point] = []
    for corner in place:
        if isinstance(corner, int | float):
            break
        points.append((float(corner[0]), float(corner[1])))
    else:
        outline = np.array([[round(x * width), round(y * height)] for x, y in points], np.int32)
        cv2.fillPoly(canvas, [outline], 1)
        return canvas
    x1, y1, x2, y2 = (float(value) for value in place if isinstance(value, int | float))
    left, top = int(np.clip(x1 * width, 0, width - 1)), int(np.clip(y1 * height, 0, height - 1))
    right, bottom = (
        int(np.clip(np.ceil(x2 * width), left + 1, width)),
        int(np.clip(np.ceil(y2 * height), top + 1, height)),
    )
    canvas[top:bottom, left:right] = 1
    return canvas


def _cells(patch: Patch) -> Grey32:
    return np.frombuffer(base64.b64decode(patch.cells), np.int8).astype(np.float32) / PATCH_SCALE
