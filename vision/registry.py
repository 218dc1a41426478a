"""The models that can be run, and what must be known of each beside its weights.

Understood are ONNX networks (ours, ultralytics', Megvii's YOLOX) through OpenVINO, and ultralytics' own `.pt` and
`.engine` files where the extra `train` is installed. Beside `<model>.onnx` may lie `<model>.toml`, either whole:

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
    rendered_only = true         # optional: it was trained on rendered scenes and knows no real street
    classes = ["person", "vehicle", "two_wheeler", "bin", "bin_overflow", "garbage"]

or, for a model that says itself what it is, only what is to be different, and the class map by the model's names:

    class_map = { car = "vehicle", "trash bag" = "garbage" }

`classes` names, for each output index of the network, a canonical label or "" for "not wanted". Without either, names
that are ours or COCO's are understood.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vision.heads import YOLOX_STRIDES, Head
from vision.model import Label

COCO_CLASS_COUNT = 80
COCO_NAMES = {
    "person": Label.PERSON,
    "bicycle": Label.TWO_WHEELER,
    "car": Label.VEHICLE,
    "motorcycle": Label.TWO_WHEELER,
    "bus": Label.VEHICLE,
    "truck": Label.VEHICLE,
}
COCO_LABELS = {
    0: Label.PERSON,
    1: Label.TWO_WHEELER,
    2: Label.VEHICLE,
    3: Label.TWO_WHEELER,
    5: Label.VEHICLE,
    7: Label.VEHICLE,
}
"""COCO's class index to ours: person; bicycle and motorcycle; car, bus and truck."""

KNOWN_NAMES: dict[str, Label] = {label.value: label for label in Label} | COCO_NAMES

OPENVINO_SUFFIXES = (".onnx", ".xml")
ULTRALYTICS_SUFFIXES = (".pt", ".engine")
SUFFIXES = OPENVINO_SUFFIXES + ULTRALYTICS_SUFFIXES


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
    rendered_only: bool = False
    classes: Annotated[tuple[Annotated[Label | None, BeforeValidator(_label_or_none)], ...], Field(min_length=1)]


def read_description(path: Path) -> Description:
    """The description in a TOML file; ModelError says which field is wrong."""
    return _check(path, _read_toml(path))


def is_rendered_only(path: Path) -> bool:
    """Does the description beside a model say that it knows rendered scenes only? Cheap: the model is not loaded."""
    try:
        return bool(_read_toml(path.with_suffix(".toml")).get("rendered_only", False))
    except ModelError:
        return False


def find_description(path: Path, said: Mapping[str, Any] | None) -> Description:
    """How the model at `path` is to be used.

    `said`: what the model says of itself (fields of Description, and `names`, its classes), None when it says nothing.
    Raises ModelError.
    """
    beside = path.with_suffix(".toml")
    written = _read_toml(beside) if beside.is_file() else {}
    if "head" in written:
        return _check(beside, written)
    if said is None:
        if written:
            raise ModelError(f"{beside}: head: it must be said, the model does not say what it is")
        raise ModelError(f"{path}: no description {beside.name} beside it, and its shape is not a known one")
    fields = dict(said)
    names = fields.pop("names", None)
    class_map = written.pop("class_map", {})
    if names is not None and "classes" not in written:
        fields["classes"] = map_names(names, class_map, path)
    return _check(beside if written else path, fields | written)


def map_names(names: Mapping[int, str], class_map: Mapping[str, str], path: Path) -> list[str]:
    """A canonical label, or "", for each class of a model that names its own. Raises ModelError when none is known."""
    unknown = sorted(set(class_map) - set(names.values()))
    if unknown:
        raise ModelError(
            f"{path.with_suffix('.toml')}: class_map names {unknown[0]!r}, which is no class of the model"
            f" (it has: {_listed(names)})"
        )
    known = {name: label.value for name, label in KNOWN_NAMES.items()} | dict(class_map)
    labels = [known.get(names.get(index, ""), "") for index in range(max(names) + 1)]
    if not any(labels):
        raise ModelError(
            f"{path}: none of its classes is known ({_listed(names)}): say in {path.with_suffix('.toml').name}"
            ' what they are: class_map = { "its name" = "one of ' + ", ".join(Label) + '" }'
        )
    return labels


def read_ultralytics(metadata: Mapping[str, str], shape_in: list[int], shape_out: list[int]) -> dict[str, Any] | None:
    """What an ultralytics export says of itself in its ONNX metadata, as fields of Description, None without such.

    `shape_in`, `shape_out`: -1 where a side is open. Raises ModelError for one that does not detect.
    """
    if "names" not in metadata or "task" not in metadata:
        return None
    if metadata["task"] != "detect":
        raise ModelError(f"it is an ultralytics model for the task {metadata['task']!r}, wanted is 'detect'")
    try:
        names = {int(index): str(name) for index, name in ast.literal_eval(metadata["names"]).items()}
        size = ast.literal_eval(metadata.get("imgsz", "[640, 640]"))
        height, width = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    except (ValueError, SyntaxError, AttributeError, TypeError, IndexError):
        raise ModelError("its ultralytics metadata cannot be read (names, imgsz)") from None
    if len(shape_in) == 4 and shape_in[2] > 0 and shape_in[3] > 0:
        height, width = shape_in[2], shape_in[3]
    return describe_ultralytics(names, height, width, shape_out)


def describe_ultralytics(names: Mapping[int, str], height: int, width: int, shape_out: list[int]) -> dict[str, Any]:
    """Fields of Description of an ultralytics detector whose first output has the shape `shape_out`."""
    finished = len(shape_out) == 3 and shape_out[2] == 6 and shape_out[1] != 4 + len(names)
    return {
        "head": Head.YOLO26_E2E if finished else Head.YOLO,
        "input_width": width,
        "input_height": height,
        "names": dict(names),
    }


def read_yolox(shape_in: list[int], shape_out: list[int]) -> dict[str, Any] | None:
    """The public YOLOX COCO networks carry no description but an unmistakable shape; None for any other."""
    if min([*shape_in, *shape_out], default=-1) < 0 or len(shape_in) != 4 or len(shape_out) != 3:
        return None
    _, channels, height, width = shape_in
    wanted = sum((height // stride) * (width // stride) for stride in YOLOX_STRIDES)
    if channels != 3 or shape_out[2] != 5 + COCO_CLASS_COUNT or shape_out[1] != wanted:
        return None
    return {
        "head": Head.YOLOX,
        "input_width": width,
        "input_height": height,
        "colour": Colour.BGR,
        "scale": 1.0,
        "letterbox": Letterbox.TOP_LEFT,
        "strong_scores": dict(YOLOX_STRONG_SCORES),
        "classes": [COCO_LABELS.get(index) for index in range(COCO_CLASS_COUNT)],
    }


YOLOX_STRONG_SCORES: dict[Label, float] = {Label.PERSON: 0.5}
"""The usual one half, chosen without looking at any of the footage that judges us."""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: {error}") from None


def _check(path: Path, fields: Mapping[str, Any]) -> Description:
    try:
        return Description.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: {where}: {first['msg']}") from None


def _listed(names: Mapping[int, str]) -> str:
    shown = [repr(name) for name in list(names.values())[:12]]
    return ", ".join(shown) + (f", … {len(names)} in all" if len(names) > 12 else "")
