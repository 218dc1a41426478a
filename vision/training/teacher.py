"""A detector that labels what a data set has no labels for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision.detect import Detector
from vision.model import Label
from vision.training.pictures import Teacher

BELIEVED = 0.5


def make_teacher(model: Path) -> Teacher:
    """What the model is sure of (score 0.5 or its own `strong_scores`). Raises ModelError as Detector does."""
    detector = Detector(model)
    least = np.array([detector.strong_scores.get(label, BELIEVED) for label in Label], np.float32)

    def tell(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = detector.detect(picture)
        sure = found.scores >= least[found.labels]
        boxes = found.boxes[sure] / np.array([found.width_px, found.height_px] * 2, np.float32)
        middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        rows = np.concatenate([found.labels[sure, None].astype(np.float32), middle, size], axis=1)
        return np.asarray(rows, np.float32)

    return tell
