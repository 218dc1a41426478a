"""Models: every head becomes the same Detections, and one that does not fit is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.detect import Colour, Description, Detector, Letterbox, ModelError, letterbox, read_description
from vision.heads import Head, decode_end_to_end, decode_yolo, decode_yolox, suppress, yolox_grid
from vision.model import LABELS, Label

DESCRIPTION = """
head = "yolo26-e2e"
input_width = 128
input_height = 64
classes = ["person", "", "vehicle"]
"""


def write_model(folder: Path, output: np.ndarray, *, height: int = 64, width: int = 128) -> Path:
    """A network that always answers `output`, plus a whisper of its input so that nothing is cut away."""
    given_ = ops.parameter([1, 3, height, width], np.float32, name="images")
    whisper = ops.multiply(ops.reduce_mean(given_, np.array([1, 2, 3]), keep_dims=False), np.float32(0))
    result = ops.add(ops.constant(output.astype(np.float32)), ops.reshape(whisper, np.array([1, 1, 1]), False))
    path = folder / "model.xml"
    ov.save_model(ov.Model([result], [given_], "scripted"), path, compress_to_fp16=False)
    return path


def test_an_end_to_end_head_gives_boxes_in_pixels_of_the_picture(tmp_path: Path) -> None:
    rows = np.zeros((1, 4, 6))
    rows[0, 0] = [32, 16, 64, 48, 0.9, 2]
    rows[0, 1] = [0, 0, 10, 10, 0.8, 1]  # a class nobody wants
    rows[0, 2] = [0, 0, 10, 10, 0.01, 0]  # too weak
    rows[0, 3] = [50, 50, 40, 40, 0.9, 0]  # inside out
    path = write_model(tmp_path, rows)
    path.with_suffix(".toml").write_text(DESCRIPTION)
    detector = Detector(path)
    found = detector.detect(np.zeros((360, 640, 3), np.uint8))
    # 640x360 in 128x64: ratio 64/360, 114 px wide, 7 px of border left and right
    assert detector.labels == {Label.PERSON, Label.VEHICLE}
    assert [LABELS[index] for index in found.labels] == [Label.VEHICLE]
    np.testing.assert_allclose(found.boxes[0], np.array([25, 16, 57, 48]) * 360 / 64, atol=0.5)
    assert found.scores[0] == pytest.approx(0.9)


def test_the_bundled_model_loads_and_knows_every_label() -> None:
    path = Path(__file__).resolve().parents[2] / "vision" / "models" / "bundled.onnx"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert Detector(path).labels == set(Label)


def test_the_public_coco_yolox_is_recognised_without_a_description(shared_data: Path) -> None:
    path = shared_data / "models" / "yolox_nano_coco_416.onnx"
    if not path.is_file():
        pytest.skip(f"no {path}")
    detector = Detector(path)
    assert detector.labels == {Label.PERSON, Label.VEHICLE, Label.TWO_WHEELER}
    assert detector.description.colour is Colour.BGR and detector.description.head is Head.YOLOX


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (DESCRIPTION.replace("yolo26-e2e", "yolo"), "needs 7 rows"),
        (DESCRIPTION.replace("yolo26-e2e", "yolox"), "needs 8 columns"),
        (DESCRIPTION.replace("yolo26-e2e", "yolo99"), "head"),
        (DESCRIPTION.replace("128", "100"), "input_width"),
        (DESCRIPTION.replace('"person"', '"persn"'), "classes"),
        (DESCRIPTION + "extra = 1\n", "extra"),
        ("head = ", "model.toml"),
    ],
)
def test_a_model_that_does_not_fit_its_description_is_refused_with_the_reason(
    description: str, reason: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path, np.zeros((1, 5, 6)))
    path.with_suffix(".toml").write_text(description)
    with pytest.raises(ModelError, match=reason):
        Detector(path)


def test_a_missing_or_broken_or_undescribed_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        Detector(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(ModelError, match="not a readable"):
        Detector(broken)
    with pytest.raises(ModelError, match="no description"):
        Detector(write_model(tmp_path, np.zeros((1, 5, 6))))
    with pytest.raises(ModelError):
        read_description(tmp_path / "none.toml")


def test_a_yolo_head_is_read_by_columns() -> None:
    output = np.zeros((1, 6, 3), np.float32)
    output[0, :, 1] = [50, 40, 20, 10, 0.2, 0.7]
    boxes, scores, classes = decode_yolo(output, 0.5, (64, 64))
    assert boxes.tolist() == [[40, 35, 60, 45]] and classes.tolist() == [1]
    assert scores[0] == pytest.approx(0.7)


def test_a_yolox_head_is_decoded_by_its_grid() -> None:
    cells, strides = yolox_grid((64, 96))
    assert len(cells) == 8 * 12 + 4 * 6 + 2 * 3
    output = np.zeros((1, len(cells), 7), np.float32)
    row = 8 * 12 + 1 * 6 + 2  # stride 16, cell x 2, y 1
    output[0, row] = [0.5, 0.25, np.log(2), 0, 0.8, 0.1, 0.5]
    boxes, scores, classes = decode_yolox(output, 0.3, (64, 96))
    assert boxes.tolist() == [[40 - 16, 20 - 8, 40 + 16, 20 + 8]] and classes.tolist() == [1]
    assert scores[0] == pytest.approx(0.4) and strides[row, 0] == 16


def test_an_end_to_end_head_drops_the_weak() -> None:
    output = np.array([[[0, 0, 5, 5, 0.9, 1], [0, 0, 5, 5, 0.1, 1]]], np.float32)
    assert len(decode_end_to_end(output, 0.5, (64, 64))[1]) == 1


def test_suppression_keeps_the_best_of_each_heap_and_never_mixes_groups() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.5, 0.9, 0.4, 0.3], np.float32)
    assert suppress(boxes, scores, np.array([0, 0, 1, 0]), 0.5).tolist() == [1, 2, 3]


@given(st.integers(16, 1200), st.integers(16, 1200), st.sampled_from(list(Letterbox)))
def test_a_picture_of_any_shape_fits_into_the_input_and_back(width: int, height: int, place: Letterbox) -> None:
    picture = np.full((height, width, 3), 7, np.uint8)
    canvas, ratio, (left, top) = letterbox(picture, (96, 160), place, 114)
    assert canvas.shape == (96, 160, 3)
    inside = np.argwhere((canvas == 7).all(axis=2))
    (y1, x1), (y2, x2) = inside.min(axis=0), inside.max(axis=0) + 1
    assert (x1, y1) == (left, top)
    assert abs((x2 - left) / ratio - width) <= 1 / ratio and abs((y2 - top) / ratio - height) <= 1 / ratio


def test_channels_and_scale_reach_the_network_as_described(tmp_path: Path) -> None:
    """A network that answers the mean of its first channel as a score tells what it was given."""
    images = ops.parameter([1, 3, 64, 64], np.float32, name="images")
    first = ops.reshape(
        ops.reduce_mean(ops.split(images, 1, 3).output(0), np.array([1, 2, 3])), np.array([1, 1, 1]), False
    )
    ends = ops.constant(np.array([[[0, 0, 32, 32]]], np.float32))
    kind = ops.constant(np.zeros((1, 1, 1), np.float32))
    path = tmp_path / "probe.xml"
    ov.save_model(ov.Model([ops.concat([ends, first, kind], 2)], [images], "probe"), path, compress_to_fp16=False)
    picture = cv2.merge([np.full((64, 64), level, np.uint8) for level in (51, 102, 204)])  # B, G, R
    for colour, expected in ((Colour.BGR, 51 / 255), (Colour.RGB, 204 / 255)):
        description = Description(
            head=Head.YOLO26_E2E, input_width=64, input_height=64, colour=colour, classes=(Label.PERSON,)
        )
        score = Detector(path, description=description).detect(np.asarray(picture)).scores[0]
        assert score == pytest.approx(expected, abs=0.01)
