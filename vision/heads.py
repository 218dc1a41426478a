"""From a network's raw output to boxes: one pure function per kind of head.

Every function returns boxes (N, 4) x1 y1 x2 y2 in pixels of the network's input, scores (N,) and class
indices (N,) of the network's own class list.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

import cv2
import numpy as np

from vision.model import Floats, Ints

Raw = tuple[Floats, Floats, Ints]

YOLOX_STRIDES = (8, 16, 32)


class Head(StrEnum):
    """The tensor layouts that are understood."""

    YOLO26_E2E = "yolo26-e2e"
    """(1, N, 6): x1 y1 x2 y2 score class, already one box per thing."""
    YOLO = "yolo"
    """(1, 4 + classes, N): cx cy w h, then one score per class (ultralytics v8 to 12)."""
    YOLOX = "yolox"
    """(1, N, 5 + classes): offsets not yet decoded, objectness, class scores (Megvii YOLOX)."""


def decode_end_to_end(output: Floats, min_score: float, input_hw: tuple[int, int]) -> Raw:
    """(1, N, 6) rows of x1 y1 x2 y2 score class."""
    rows = output[0]
    rows = rows[rows[:, 4] >= min_score]
    return rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int64)


def decode_yolo(output: Floats, min_score: float, input_hw: tuple[int, int]) -> Raw:
    """(1, 4 + classes, N) columns of cx cy w h and class scores."""
    columns = output[0]
    best = np.maximum.reduce(columns[4:])
    keep = np.flatnonzero(best >= min_score)
    kept = columns[:, keep]
    classes = kept[4:].argmax(axis=0).astype(np.int64, copy=False)
    return _corners(kept[:4].T), best[keep].astype(np.float32, copy=False), classes


def decode_yolox(output: Floats, min_score: float, input_hw: tuple[int, int]) -> Raw:
    """(1, N, 5 + classes) rows whose offsets are relative to a grid of strides 8, 16 and 32.

    Source of the decoding: YOLOX, `demo_postprocess` (Megvii, Apache-2.0).
    """
    rows = output[0]
    # a class score is at most 1: most rows are left out by their objectness, without a look at their classes
    likely = np.flatnonzero(rows[:, 4] >= min_score)
    rows = rows[likely]
    scores = rows[:, 4] * rows[:, 5:].max(axis=1) if len(rows) else rows[:, 4]
    keep = scores >= min_score
    rows, likely = rows[keep], likely[keep]
    cells, strides = yolox_grid(input_hw)
    centres = (rows[:, :2] + cells[likely]) * strides[likely]
    # exp of a broken network's output must not become infinite
    sizes = np.exp(np.clip(rows[:, 2:4], -10.0, 10.0)) * strides[likely]
    boxes = _corners(np.concatenate([centres, sizes], axis=1))
    return boxes, scores[keep].astype(np.float32), rows[:, 5:].argmax(axis=1).astype(np.int64)


@lru_cache(maxsize=8)
def yolox_grid(input_hw: tuple[int, int]) -> tuple[Floats, Floats]:
    """Cell of every row (N, 2) as x y, and its stride (N, 1) in pixels."""
    cells: list[Floats] = []
    strides: list[Floats] = []
    for stride in YOLOX_STRIDES:
        rows, columns = input_hw[0] // stride, input_hw[1] // stride
        y, x = np.mgrid[0:rows, 0:columns]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
        strides.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


def _corners(centres: Floats) -> Floats:
    half = centres[:, 2:4] / 2
    return np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1, dtype=np.float32)


DECODERS: dict[Head, Callable[[Floats, float, tuple[int, int]], Raw]] = {
    Head.YOLO26_E2E: decode_end_to_end,
    Head.YOLO: decode_yolo,
    Head.YOLOX: decode_yolox,
}


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every pair: (N, 4) and (M, 4) boxes give (N, M)."""
    # few calls, each over both axes: with a dozen boxes the calls are what costs
    one, other = first[:, None], second[None]
    sides = np.minimum(one[..., 2:], other[..., 2:])
    sides -= np.maximum(one[..., :2], other[..., :2])
    np.maximum(sides, 0, out=sides)
    inner = sides[..., 0] * sides[..., 1]
    sides_1, sides_2 = first[:, 2:] - first[:, :2], second[:, 2:] - second[:, :2]
    whole = (sides_1[:, 0] * sides_1[:, 1])[:, None] + sides_2[:, 0] * sides_2[:, 1]
    whole -= inner
    return np.asarray(inner / np.maximum(whole, 1e-9, out=whole), np.float32)


def suppress(boxes: Floats, scores: Floats, groups: Ints, max_overlap: float) -> Ints:
    """Greedy non-maximum suppression inside each group; indices kept, best score first."""
    sides = boxes.copy()  # as corner, width and height
    sides[:, 2:] -= boxes[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(sides, scores, groups.astype(np.int32), -1.0, max_overlap)  # type: ignore[arg-type]
    return np.array(kept, np.int64).reshape(-1)
