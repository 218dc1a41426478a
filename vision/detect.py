"""The detector: a picture goes in, every kind of network's answer becomes `Detections`.

Which models there are and what must be known of them is in vision/registry.py, what runs them in vision/network.py.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from kernel.settings import VisionSettings
from vision.heads import DECODERS, Head, suppress
from vision.model import LABELS, Detections, Floats, Ints, Label, Picture
from vision.network import load_network
from vision.registry import Colour, Description, Letterbox, ModelError, read_description

__all__ = [
    "Colour",
    "Description",
    "Detector",
    "Letterbox",
    "ModelError",
    "letterbox",
    "open_detector",
    "read_description",
]

MAX_CANDIDATES = 300
"""Before doubles are suppressed; a picture has fewer things."""


class Detector:
    """One model, ready to look; `detect` may be called from several threads, one at a time runs."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        device: str = "CPU",
        precision: str = "auto",
        batch: int = 0,
        description: Description | None = None,
    ) -> None:
        """Load and check `path`; `batch` 0: what suits the device.

        Raises ModelError when the file is missing, is no network, or does not fit its description.
        """
        self._network = load_network(
            path, device=device, threads=threads, precision=precision, batch=batch, description=description
        )
        self.path = path
        self.name = path.name
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.description = self._network.description
        self._canvases = self._network.canvases
        self.batch = len(self._canvases)
        """As many pictures as are best given to `detect_many` at once."""
        self._lock = threading.Lock()
        wanted = self.description
        self._placed: list[tuple[int, int]] = [(0, 0)] * self.batch
        self._labels = np.array([-1 if label is None else LABELS.index(label) for label in wanted.classes], np.int64)

    @property
    def labels(self) -> frozenset[Label]:
        """The labels this model can see."""
        return frozenset(label for label in self.description.classes if label is not None)

    @property
    def strong_scores(self) -> dict[Label, float]:
        """From which score a thing of a label is believed, where the description says so."""
        return self.description.strong_scores

    def detect(self, picture: Picture) -> Detections:
        """What is in one BGR picture (H, W, 3)."""
        return self.detect_many([picture])[0]

    def detect_many(self, pictures: Sequence[Picture]) -> list[Detections]:
        """What is in each of several pictures, of whatever sizes; they are given to the network `batch` at a time."""
        with self._lock:
            result: list[Detections] = []
            for start in range(0, len(pictures), self.batch):
                result += self._look(pictures[start : start + self.batch])
            return result

    def _look(self, pictures: Sequence[Picture]) -> list[Detections]:
        places = [self._place(index, picture) for index, picture in enumerate(pictures)]
        outputs = self._network.infer(len(pictures))
        return [
            self._read(output, picture, *place)
            for output, picture, place in zip(outputs, pictures, places, strict=True)
        ]

    def _place(self, index: int, picture: Picture) -> tuple[float, tuple[int, int]]:
        """Put the picture into one of the canvases; the ratio and the shift."""
        wanted, canvas, shape = self.description, self._canvases[index], picture.shape[:2]
        if self._placed[index] != shape:
            canvas[:] = wanted.pad
            self._placed[index] = shape
        return letterbox_into(canvas, picture, wanted.letterbox)

    def _read(self, output: Floats, picture: Picture, ratio: float, shift: tuple[int, int]) -> Detections:
        wanted, (height, width) = self.description, picture.shape[:2]
        boxes, scores, classes = DECODERS[wanted.head](
            output, wanted.min_score, (wanted.input_height, wanted.input_width)
        )
        boxes, scores, labels = self._canonical(boxes, scores, classes)
        boxes = (boxes - np.array([*shift, *shift], np.float32)) / np.float32(ratio)
        np.maximum(boxes, np.float32(0), out=boxes)
        np.minimum(boxes, np.array([width, height, width, height], np.float32), out=boxes)
        return Detections(boxes=boxes, scores=scores, labels=labels, width_px=width, height_px=height)

    def _canonical(self, boxes: Floats, scores: Floats, classes: Ints) -> tuple[Floats, Floats, Ints]:
        labels = self._labels.take(classes, mode="clip")  # what a broken network says is sorted out below
        wanted = (classes >= 0) & (classes < len(self._labels)) & (labels >= 0)
        wanted &= np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not wanted.all():
            boxes, scores, labels = boxes[wanted], scores[wanted], labels[wanted]
        if self.description.head is not Head.YOLO26_E2E and len(scores) > 1:
            if len(scores) > MAX_CANDIDATES:
                best = np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES]
                boxes, scores, labels = boxes[best], scores[best], labels[best]
            kept = suppress(boxes, scores, labels, self.description.max_overlap)
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        return boxes, scores, labels


def open_detector(settings: VisionSettings, model: Path | None = None) -> Detector:
    """The detector of the settings, or `model` on the device of the settings. Raises ModelError."""
    return Detector(
        model or settings.model,
        threads=settings.threads,
        device=settings.device,
        precision=settings.precision,
        batch=settings.batch,
    )


def letterbox(
    picture: Picture, input_hw: tuple[int, int], place: Letterbox, pad: int
) -> tuple[Picture, float, tuple[int, int]]:
    """The picture scaled into `input_hw` keeping its shape; also the ratio and the x, y shift in pixels."""
    canvas = np.full((*input_hw, 3), pad, np.uint8)
    ratio, shift = letterbox_into(canvas, picture, place)
    return canvas, ratio, shift


def letterbox_into(canvas: Picture, picture: Picture, place: Letterbox) -> tuple[float, tuple[int, int]]:
    """Scale the picture into a canvas whose border is painted already; the ratio and the x, y shift in pixels."""
    height, width = picture.shape[:2]
    ratio = min(canvas.shape[0] / height, canvas.shape[1] / width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    left, top = 0, 0
    if place is Letterbox.CENTER:
        left, top = (canvas.shape[1] - size[0]) // 2, (canvas.shape[0] - size[1]) // 2
    window = canvas[top : top + size[1], left : left + size[0]]
    if size == (width, height):
        window[:] = picture
    else:
        cv2.resize(picture, size, dst=window, interpolation=cv2.INTER_LINEAR)
    return ratio, (left, top)
