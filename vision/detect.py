"""The detector: an ONNX file and its description, run by OpenVINO, every head becoming `Detections`.

Beside `<model>.onnx` lies `<model>.toml`:

    head = "yolo26-e2e"          # or "yolo", "yolox": see vision/heads.py for the tensor layouts
    input_width = 448            # pixels
    input_height = 256
    colour = "rgb"               # or "bgr": order of the three input channels
    scale = 0.00392156862745098  # the input is the pixel value times this
    letterbox = "center"         # or "top-left": where the picture lies in the input
    pad = 114                    # grey value of the border
    min_score = 0.05             # nothing below is handed on (the tracker uses weak ones)
    max_overlap = 0.6            # for heads that need suppression
    strong_scores = { person = 0.35 }  # optional: score from which a thing is believed, where it is not the usual
    classes = ["person", "vehicle", "two_wheeler", "bin", "bin_overflow", "garbage"]

`classes` names, for each output index of the network, a canonical label or "" for "not wanted".
"""

from __future__ import annotations

import threading
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import openvino as ov
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vision.heads import DECODERS, Head, suppress
from vision.model import LABELS, Detections, Floats, Ints, Label, Picture

COCO_CLASS_COUNT = 80
COCO_LABELS = {
    0: Label.PERSON,
    1: Label.TWO_WHEELER,
    2: Label.VEHICLE,
    3: Label.TWO_WHEELER,
    5: Label.VEHICLE,
    7: Label.VEHICLE,
}
"""COCO's class index to ours: person; bicycle and motorcycle; car, bus and truck."""


class ModelError(Exception):
    """A model that cannot be used; the text says why."""


class Colour(StrEnum):
    """Order of the input channels."""

    RGB = "rgb"
    BGR = "bgr"


class Letterbox(StrEnum):
    """Where the scaled picture lies in the network's input."""

    CENTER = "center"
    TOP_LEFT = "top-left"


def _label_or_none(value: object) -> object:
    return None if value == "" else value


class Description(BaseModel):
    """What must be known of a model beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Head
    input_width: Annotated[int, Field(ge=64, le=4096, multiple_of=32)]
    input_height: Annotated[int, Field(ge=64, le=4096, multiple_of=32)]
    colour: Colour = Colour.RGB
    scale: Annotated[float, Field(gt=0)] = 1 / 255
    letterbox: Letterbox = Letterbox.CENTER
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    min_score: Annotated[float, Field(gt=0, lt=1)] = 0.05
    max_overlap: Annotated[float, Field(gt=0, le=1)] = 0.6
    strong_scores: dict[Label, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    classes: Annotated[tuple[Annotated[Label | None, BeforeValidator(_label_or_none)], ...], Field(min_length=1)]


def read_description(path: Path) -> Description:
    """The description in a TOML file; ModelError says which field is wrong."""
    try:
        return Description.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {where}: {first['msg']}") from None


def recognise_yolox(model: ov.Model) -> Description | None:
    """The description of a public COCO YOLOX file, told by its shape alone; None if it is another."""
    shape_in, shape_out = model.input(0).partial_shape, model.output(0).partial_shape
    if shape_in.is_dynamic or shape_out.is_dynamic or len(shape_in) != 4 or len(shape_out) != 3:
        return None
    _, channels, height, width = (int(size.get_length()) for size in shape_in)
    _, rows, columns = (int(size.get_length()) for size in shape_out)
    wanted = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    if channels != 3 or columns != 5 + COCO_CLASS_COUNT or rows != wanted:
        return None
    return Description(
        head=Head.YOLOX,
        input_width=width,
        input_height=height,
        colour=Colour.BGR,
        scale=1.0,
        letterbox=Letterbox.TOP_LEFT,
        # YOLOX-nano is sure of what it sees and unsure of lamp posts; chosen on PETS 2009 S2.L1
        strong_scores={Label.PERSON: 0.6},
        classes=tuple(COCO_LABELS.get(index) for index in range(COCO_CLASS_COUNT)),
    )


class Detector:
    """One model, compiled for the CPU; `detect` may be called from several threads, one at a time runs."""

    def __init__(self, path: Path, *, threads: int = 1, description: Description | None = None) -> None:
        """Load and check `path`.

        Raises ModelError when the file is missing, is no network, or does not fit its description.
        """
        if not path.is_file():
            raise ModelError(f"{path}: there is no such model file")
        core = ov.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ModelError(f"{path}: not a readable ONNX network ({_first_line(error)})") from None
        self.path = path
        self.description = description or _find_description(path, model)
        _check_fit(path, model, self.description)
        self._request = _compile(core, model, self.description, threads).create_infer_request()
        self._lock = threading.Lock()
        self._labels = np.array(
            [-1 if label is None else LABELS.index(label) for label in self.description.classes], np.int64
        )

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
        height, width = picture.shape[:2]
        wanted = self.description
        canvas, ratio, shift = letterbox(
            picture, (wanted.input_height, wanted.input_width), wanted.letterbox, wanted.pad
        )
        with self._lock:
            self._request.infer([canvas[None]])
            output = np.array(self._request.get_output_tensor(0).data, np.float32)
        boxes, scores, classes = DECODERS[wanted.head](
            output, wanted.min_score, (wanted.input_height, wanted.input_width)
        )
        boxes, scores, labels = self._canonical(boxes, scores, classes)
        boxes = (boxes - np.array([*shift, *shift], np.float32)) / ratio
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(boxes, 0, limits).astype(np.float32)
        return Detections(boxes=boxes, scores=scores, labels=labels, width_px=width, height_px=height)

    def _canonical(self, boxes: Floats, scores: Floats, classes: Ints) -> tuple[Floats, Floats, Ints]:
        known = (classes >= 0) & (classes < len(self._labels)) & np.isfinite(boxes).all(axis=1)
        boxes, scores, classes = boxes[known], scores[known], classes[known]
        labels = self._labels[classes]
        wanted = (labels >= 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores, labels = boxes[wanted], scores[wanted], labels[wanted]
        if self.description.head is not Head.YOLO26_E2E:
            keep = suppress(boxes, scores, labels, self.description.max_overlap)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        return boxes, scores, labels


def letterbox(
    picture: Picture, input_hw: tuple[int, int], place: Letterbox, pad: int
) -> tuple[Picture, float, tuple[int, int]]:
    """The picture scaled into `input_hw` keeping its shape; also the ratio and the x, y shift in pixels."""
    height, width = picture.shape[:2]
    ratio = min(input_hw[0] / height, input_hw[1] / width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scaled = picture if size == (width, height) else cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    left, top = 0, 0
    if place is Letterbox.CENTER:
        left, top = (input_hw[1] - size[0]) // 2, (input_hw[0] - size[1]) // 2
    canvas = np.full((*input_hw, 3), pad, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas, ratio, (left, top)


def _find_description(path: Path, model: ov.Model) -> Description:
    beside = path.with_suffix(".toml")
    if beside.is_file():
        return read_description(beside)
    recognised = recognise_yolox(model)
    if recognised is None:
        raise ModelError(f"{path}: no description {beside.name} beside it, and its shape is not a known one")
    return recognised


def _check_fit(path: Path, model: ov.Model, wanted: Description) -> None:
    if len(model.inputs) != 1 or len(model.outputs) < 1:
        raise ModelError(f"{path}: needs one input and an output, has {len(model.inputs)} inputs")
    try:
        model.reshape([1, 3, wanted.input_height, wanted.input_width])
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the network does not take pictures of {wanted.input_width}x{wanted.input_height}"
            f" ({_first_line(error)})"
        ) from None
    shape = model.output(0).partial_shape
    if shape.is_dynamic or len(shape) != 3:
        raise ModelError(f"{path}: the output has the shape {shape}, expected three fixed dimensions")
    sizes = tuple(int(size.get_length()) for size in shape)
    count = len(wanted.classes)
    expected = {
        Head.YOLO26_E2E: (sizes[2], 6, "columns"),
        Head.YOLO: (sizes[1], 4 + count, "rows"),
        Head.YOLOX: (sizes[2], 5 + count, "columns"),
    }[wanted.head]
    if expected[0] != expected[1]:
        raise ModelError(
            f"{path}: head {wanted.head} with {count} classes needs {expected[1]} {expected[2]},"
            f" the network gives {sizes}"
        )


def _compile(core: ov.Core, model: ov.Model, wanted: Description, threads: int) -> ov.CompiledModel:
    # Type, order and scale are made part of the network: OpenVINO does them faster than numpy can.
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(
        ov.preprocess.ColorFormat.BGR
    )
    steps.input().model().set_layout(ov.Layout("NCHW"))
    prepare = steps.input().preprocess().convert_element_type(ov.Type.f32)
    if wanted.colour is Colour.RGB:
        prepare = prepare.convert_color(ov.preprocess.ColorFormat.RGB)
    if wanted.scale != 1.0:
        prepare.scale(1 / wanted.scale)
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(max(1, threads)),
        "ENABLE_CPU_PINNING": "NO",
    }
    try:
        return core.compile_model(steps.build(), "CPU", options)
    except RuntimeError as error:
        raise ModelError(f"the network cannot be compiled for the CPU ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
