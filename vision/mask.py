"""Faces and plates covered by geometry: where a head or a plate must be, given the boxes of people and vehicles.

No face or plate is looked for: the upper part of each person, the lower part of each vehicle and every two-wheeler with
who sits on it are pixelated, of all detections of a look, the weak ones too (large vehicles must be less weak: what is
near is seen well, and a faint box over half of the picture would hide what the picture is to show). What the detector does not see is not
covered: a mask is a precaution, not a proof (docs/decisions/0018-masks-by-geometry.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from vision.model import LABELS, Box, Detections, Label, Picture

HEAD_SHARE: Final = 0.24
"""Of a person's height: head and neck with room for a box drawn too high or too low."""
HEAD_ABOVE: Final = 0.05
HEAD_BESIDE: Final = 0.10
PLATE_FROM: Final = 0.42
"""Plates lie in the lower part of a vehicle seen from the front or behind (of lorries low, of cars higher)."""
RIDER_ABOVE: Final = 0.35
"""A box around a bicycle may leave out who rides it."""
SMALL, LARGE = 0.02, 0.15
"""Shares of the picture: vehicles up to the first are taken at any score, from the second on at `LARGE_SCORE`."""
LARGE_SCORE: Final = 0.3
BLOCK_PX: Final = 8
BLOCKS_ACROSS: Final = 4
"""A masked place has at most so many blocks along its shorter side: nothing can be read from so few."""


def find_masks(detections: Detections) -> tuple[Box, ...]:
    """What to cover in the picture that was looked at, as fractions of it."""
    size = np.array([detections.width_px, detections.height_px] * 2, np.float32)
    found: list[Box] = []
    for box, score, index in zip(detections.boxes / size, detections.scores, detections.labels, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        label, weight = LABELS[int(index)], ((x2 - x1) * (y2 - y1) - SMALL) / (LARGE - SMALL)
        if label is not Label.PERSON and score < LARGE_SCORE * min(1.0, max(0.0, weight)):
            continue
        mask = _cover(label, (x1, y1, x2, y2))
        if mask is not None:
            found.append(_clip(mask))
    return tuple(found)


def _cover(label: Label, box: Box) -> Box | None:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    if label is Label.PERSON:
        beside = HEAD_BESIDE * width
        return (x1 - beside, y1 - HEAD_ABOVE * height, x2 + beside, y1 + HEAD_SHARE * height)
    if label is Label.VEHICLE:
        return (x1, y1 + PLATE_FROM * height, x2, y2)
    if label is Label.TWO_WHEELER:
        return (x1, y1 - RIDER_ABOVE * height, x2, y2)
    return None


def _clip(box: Box) -> Box:
    x1, y1, x2, y2 = (round(min(1.0, max(0.0, value)), 4) for value in box)
    return (x1, y1, x2, y2)


def mask_picture(picture: Picture, masks: Sequence[Box]) -> Picture:
    """A copy of a BGR picture (H, W, 3) with these places pixelated; the picture itself when there are none."""
    if not masks:
        return picture
    height, width = picture.shape[:2]
    covered = picture.copy()
    for x1, y1, x2, y2 in masks:
        left, top = max(0, int(x1 * width)), max(0, int(y1 * height))
        right, bottom = min(width, int(np.ceil(x2 * width))), min(height, int(np.ceil(y2 * height)))
        if right - left < 1 or bottom - top < 1:
            continue
        covered[top:bottom, left:right] = _pixelate(picture[top:bottom, left:right])
    return covered


def _pixelate(place: Picture) -> Picture:
    height, width = place.shape[:2]
    block_px = max(BLOCK_PX, -(-min(width, height) // BLOCKS_ACROSS))
    few = (max(1, width // block_px), max(1, height // block_px))
    small = cv2.resize(place, few, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
