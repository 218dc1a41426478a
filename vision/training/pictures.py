"""The pictures of data sets held in memory, and the changes made to them while training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.model import LABELS, Label
from vision.training.dataset import DataSet, DataSetError

Boxes = NDArray[np.float32]
"""(N, 5): class, x1, y1, x2, y2 in pixels of the network's input."""

PAD = 114
LEAST_LEFT = 0.35
LEAST_SIDE_PX = 3.0


@dataclass(slots=True)
class Pictures:
    """All pictures of a part, letterboxed to one size (N, H, W, 3) uint8 BGR, and their boxes."""

    pixels: NDArray[np.uint8]
    boxes: list[Boxes]
    real: NDArray[np.bool_]
    """Which are photographs (their names begin with photo-)."""

    def __len__(self) -> int:
        return len(self.boxes)


Teacher = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Says what else is in a picture (H, W, 3): rows as `DataSet.read` gives them."""


def load_pictures(
    sets: Sequence[DataSet], width: int, height: int, *, limit: int | None = None, teacher: Teacher | None = None
) -> Pictures:
    """The training parts of all sets. `teacher` adds what a set has no labels for: a person on a photograph of garbage
    would otherwise be learnt to be none.

    Raises DataSetError when there is nothing, or a picture that is none.
    """
    files = [(file, data) for data in sets for file in data.training_files()][:limit]
    pixels = np.full((len(files), height, width, 3), PAD, np.uint8)
    boxes: list[Boxes] = []
    for index, (file, data) in enumerate(files):
        picture = cv2.imread(str(file))
        if picture is None:
            raise DataSetError(f"{file} is no picture")
        rows = data.read(file)
        if teacher is not None and data.known != frozenset(Label):
            told = teacher(np.asarray(picture, np.uint8))
            unlabelled = [LABELS.index(label) for label in Label if label not in data.known]
            rows = np.concatenate([rows, told[np.isin(told[:, 0], unlabelled)]])
        ratio = min(height / picture.shape[0], width / picture.shape[1])
        size = (round(picture.shape[1] * ratio), round(picture.shape[0] * ratio))
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        way = cv2.INTER_AREA if ratio < 0.6 else cv2.INTER_LINEAR
        pixels[index, top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=way)
        centre, half = rows[:, 1:3] * size + [left, top], rows[:, 3:5] * size / 2
        boxes.append(np.concatenate([rows[:, :1], centre - half, centre + half], axis=1).astype(np.float32))
    real = np.array([file.name.startswith("photo-") for file, _ in files])
    return Pictures(pixels, boxes, real)


def change(picture: NDArray[np.uint8], boxes: Boxes, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Boxes]:
    """Mirrors, moves, scales and recolours one picture at random; boxes that nearly leave it are dropped."""
    height, width = picture.shape[:2]
    out, kept = picture, boxes.copy()
    if rng.random() < 0.5:
        out = np.ascontiguousarray(out[:, ::-1])
        kept[:, [1, 3]] = width - kept[:, [3, 1]]
    if rng.random() < 0.6:
        scale = float(rng.uniform(0.75, 1.4))
        dx, dy = (float(v) for v in rng.uniform(-0.12, 0.12, 2) * [width, height])
        move = np.array([[scale, 0, dx + (1 - scale) * width / 2], [0, scale, dy + (1 - scale) * height / 2]])
        out = np.asarray(cv2.warpAffine(out, move, (width, height), borderValue=(PAD, PAD, PAD)), dtype=np.uint8)
        kept = _move_boxes(kept, scale, float(move[0, 2]), float(move[1, 2]), width, height)
    if rng.random() < 0.7:
        out = np.asarray(cv2.LUT(out, _curves(rng)), dtype=np.uint8)
    return out, kept


def _move_boxes(boxes: Boxes, scale: float, dx: float, dy: float, width: int, height: int) -> Boxes:
    moved = boxes.copy()
    moved[:, [1, 3]] = moved[:, [1, 3]] * scale + dx
    moved[:, [2, 4]] = moved[:, [2, 4]] * scale + dy
    whole = np.maximum((moved[:, 3] - moved[:, 1]) * (moved[:, 4] - moved[:, 2]), 1e-6)
    moved[:, [1, 3]] = np.clip(moved[:, [1, 3]], 0, width)
    moved[:, [2, 4]] = np.clip(moved[:, [2, 4]], 0, height)
    wide, high = moved[:, 3] - moved[:, 1], moved[:, 4] - moved[:, 2]
    keep = (wide * high / whole > LEAST_LEFT) & (np.minimum(wide, high) >= LEAST_SIDE_PX)
    return np.asarray(moved[keep])


def _curves(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A look-up table (1, 256, 3): gamma for all channels, a gain for each."""
    levels = np.linspace(0, 1, 256) ** rng.uniform(0.75, 1.35)
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)
    return np.clip(levels[:, None] * gains[None, :] * 255, 0, 255).astype(np.uint8).reshape(1, 256, 3)
