"""Which models are understood, and how one that does not fit is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from vision.detect import Detector, ModelError
from vision.heads import Head
from vision.model import Label
from vision.registry import is_rendered_only

NAMES = "{0: 'person', 1: 'car', 2: 'trash bag'}"


def write_export(folder: Path, shape: tuple[int, int, int], metadata: dict[str, str]) -> Path:
    """A network with ultralytics' metadata, as OpenVINO reads it from an ONNX export."""
    given = ops.parameter([1, 3, 64, 128], np.float32, name="images")
    whisper = ops.reshape(ops.multiply(ops.reduce_mean(given, [1, 2, 3], False), np.float32(0)), [1, 1, 1], False)
    model = ov.Model([ops.add(ops.constant(np.zeros(shape, np.float32)), whisper)], [given], "export")
    for key, value in metadata.items():
        model.set_rt_info(value, ["framework", key])
    path = folder / "export.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(("shape", "head"), [((1, 7, 40), Head.YOLO), ((1, 300, 6), Head.YOLO26_E2E)])
def test_an_ultralytics_export_says_itself_what_it_is(tmp_path: Path, shape: tuple[int, int, int], head: Head) -> None:
    path = write_export(tmp_path, shape, {"names": NAMES, "task": "detect", "imgsz": "[64, 128]"})
    detector = Detector(path)
    assert (detector.description.head, detector.description.input_width) == (head, 128)
    assert detector.labels == {Label.PERSON, Label.VEHICLE}
    assert len(detector.sha256) == 64 and not detector.description.rendered_only


def test_a_class_map_beside_it_says_what_its_other_classes_are(tmp_path: Path) -> None:
    path = write_export(tmp_path, (1, 7, 40), {"names": NAMES, "task": "detect"})
    path.with_suffix(".toml").write_text(
        'min_score = 0.2\nrendered_only = true\nclass_map = { "trash bag" = "garbage" }\n'
    )
    detector = Detector(path)
    assert detector.labels == {Label.PERSON, Label.VEHICLE, Label.GARBAGE}
    assert detector.description.min_score == 0.2 and is_rendered_only(path)


@pytest.mark.parametrize(
    ("metadata", "toml", "reason"),
    [
        ({"names": NAMES, "task": "segment"}, "", "task 'segment'"),
        ({"names": "{0: 'cat', 1: 'dog', 2: 'emu'}", "task": "detect"}, "", "none of its classes is known"),
        ({"names": NAMES, "task": "detect"}, 'class_map = { cart = "bin" }', "'cart'"),
        ({"names": NAMES, "task": "detect"}, 'class_map = { car = "lorry" }', "classes"),
        ({"names": "{0: 'person'}", "task": "detect"}, "", "needs 5 rows"),
        ({"names": "nonsense", "task": "detect"}, "", "metadata cannot be read"),
        ({}, 'class_map = { car = "vehicle" }', "head"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, metadata: dict[str, str], toml: str, reason: str
) -> None:
    path = write_export(tmp_path, (1, 7, 40), metadata)
    if toml:
        path.with_suffix(".toml").write_text(toml + "\n")
    with pytest.raises(ModelError, match=reason):
        Detector(path)


def test_a_device_or_form_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_export(tmp_path, (1, 7, 40), {"names": NAMES, "task": "detect"})
    with pytest.raises(ModelError, match=r"vision\.device 'cuda:0'"):
        Detector(path, device="cuda:0")
    (tmp_path / "some.pt").write_bytes(b"no model")
    with pytest.raises(
        ModelError, match="extra `train`" if importlib.util.find_spec("torch") is None else "cannot load"
    ):
        Detector(tmp_path / "some.pt")
    (tmp_path / "some.tflite").write_bytes(b"")
    with pytest.raises(ModelError, match=r"a model is one of \.onnx"):
        Detector(tmp_path / "some.tflite")


def test_pictures_of_several_cameras_and_sizes_are_looked_at_side_by_side_as_alone() -> None:
    path = Path(__file__).resolve().parents[2] / "vision" / "models" / "bundled.onnx"
    rng = np.random.default_rng(3)
    sizes = [(360, 640), (480, 640), (1080, 1920), (360, 640), (288, 352)]
    pictures = [
        np.kron(rng.integers(0, 255, (h // 24, w // 32, 3)), np.ones((24, 32, 1))).astype(np.uint8) for h, w in sizes
    ]
    alone = Detector(path)
    together = Detector(path, threads=2)
    assert (alone.batch, together.batch) == (1, 2)
    for picture, found in zip(pictures, together.detect_many(pictures), strict=True):
        expected = alone.detect(picture)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert (found.width_px, found.height_px) == (picture.shape[1], picture.shape[0])
