"""The training pictures: letterboxed once, changed at random, their boxes with them; and a run that resumes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.model import LABELS, Label
from vision.training.dataset import DataSetError, read_dataset
from vision.training.pictures import PAD, change, load_pictures

CLASSES = {str(label): str(label) for label in LABELS}


def write_picture(folder: Path, name: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    """A dark picture with one white box, labelled."""
    width, height = size
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
    picture = np.full((height, width, 3), 20, np.uint8)
    x1, y1, x2, y2 = box
    picture[y1:y2, x1:x2] = 255
    cv2.imwrite(str(folder / "images" / "train" / f"{name}.jpg"), picture)
    row = f"3 {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
    (folder / "labels" / "train" / f"{name}.txt").write_text(row)


def white_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    x, y, w, h = cv2.boundingRect((picture.min(axis=2) > 190).astype(np.uint8))
    return x, y, x + w, y + h


@pytest.mark.parametrize("size", [(640, 360), (300, 416), (416, 312)])
def test_pictures_are_letterboxed_and_their_boxes_move_along(tmp_path: Path, size: tuple[int, int]) -> None:
    write_picture(tmp_path, "photo-one", size, (60, 100, 180, 200))
    pictures = load_pictures([read_dataset(tmp_path, CLASSES)], 512, 288)
    assert pictures.pixels.shape == (1, 288, 512, 3)
    assert pictures.real.tolist() == [True]
    assert pictures.boxes[0][0, 0] == 3
    assert np.allclose(pictures.boxes[0][0, 1:], white_box(pictures.pixels[0]), atol=2)


def test_a_changed_picture_and_its_box_stay_together(tmp_path: Path) -> None:
    write_picture(tmp_path, "scene", (512, 288), (200, 100, 300, 180))
    pictures = load_pictures([read_dataset(tmp_path, CLASSES)], 512, 288)
    rng = np.random.default_rng(1)
    places = set()
    for _ in range(40):
        picture, found = change(pictures.pixels[0], pictures.boxes[0], rng)
        assert len(found) == 1
        bright = (picture.min(axis=2).astype(int) > 1.4 * PAD).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(bright)
        assert np.allclose(found[0, 1:], (x, y, x + w, y + h), atol=3)
        places.add((x, y, w, h))
    assert len(places) > 20


def test_a_box_that_leaves_the_picture_is_dropped(tmp_path: Path) -> None:
    write_picture(tmp_path, "scene", (512, 288), (0, 0, 14, 12))
    pictures = load_pictures([read_dataset(tmp_path, CLASSES)], 512, 288)
    rng = np.random.default_rng(2)
    counts = {len(change(pictures.pixels[0], pictures.boxes[0], rng)[1]) for _ in range(60)}
    assert counts == {0, 1}


def test_a_training_run_goes_on_where_it_was_stopped_and_exports(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", reason="the extra `train` is not installed")
    from vision.detect import Detector
    from vision.training.export import export
    from vision.training.train import Plan, train

    for index in range(4):
        write_picture(tmp_path, f"scene-{index}", (512, 288), (50 * index, 60, 50 * index + 90, 150))
    data = (read_dataset(tmp_path, CLASSES),)
    train(Plan(data=data, out=tmp_path / "run", epochs=1, batch=2))
    checkpoint = train(Plan(data=data, out=tmp_path / "run", epochs=2, batch=2))
    assert export(checkpoint, tmp_path / "model.onnx", [Label.GARBAGE]) == 2
    detector = Detector(tmp_path / "model.onnx")
    assert detector.labels == {Label.GARBAGE}
    detector.detect(np.zeros((360, 640, 3), np.uint8))
    train(Plan(data=data, out=tmp_path / "next", epochs=1, batch=2, start=tmp_path / "model.pt"))


def test_classes_called_otherwise_are_mapped_or_left_out_and_the_other_layout_is_read(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part / "images").mkdir(parents=True)
        (tmp_path / part / "labels").mkdir()
        cv2.imwrite(str(tmp_path / part / "images" / "a.jpg"), np.zeros((40, 60, 3), np.uint8))
        (tmp_path / part / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("names: [dog, 垃圾]\n")
    with pytest.raises(DataSetError, match="not known here: dog, 垃圾"):
        read_dataset(tmp_path)
    data = read_dataset(tmp_path, {"dog": "", "垃圾": "garbage"})
    assert data.known == {Label.GARBAGE}
    (picture,) = data.files("val")
    assert data.read(picture).tolist() == [[LABELS.index(Label.GARBAGE), *np.float32([0.2, 0.2, 0.1, 0.1])]]
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.2\n")
    with pytest.raises(DataSetError, match=r"a\.txt:1: not a box"):
        load_pictures([data], 64, 64)


def test_a_teacher_adds_only_what_the_data_set_does_not_label(tmp_path: Path) -> None:
    write_picture(tmp_path, "street", (512, 288), (200, 100, 300, 180))
    data = read_dataset(tmp_path, {"a": "", "b": "", "c": "", "full": "garbage"})
    told = np.array([[0, 0.5, 0.5, 0.1, 0.1], [LABELS.index(Label.GARBAGE), 0.1, 0.1, 0.1, 0.1]], np.float32)
    pictures = load_pictures([data], 512, 288, teacher=lambda _: told)
    assert sorted(pictures.boxes[0][:, 0].tolist()) == [0, LABELS.index(Label.GARBAGE)]


def test_without_a_validation_part_the_same_pictures_are_set_aside_when_more_come(tmp_path: Path) -> None:
    for index in range(40):
        write_picture(tmp_path, f"p{index}", (64, 48), (5, 5, 30, 30))
    few = read_dataset(tmp_path, CLASSES)
    aside = {file.name for file in few.files("val")}
    assert aside and not aside & {file.name for file in few.training_files()}
    write_picture(tmp_path, "later", (64, 48), (5, 5, 30, 30))
    assert aside <= {file.name for file in read_dataset(tmp_path, CLASSES).files("val")}
