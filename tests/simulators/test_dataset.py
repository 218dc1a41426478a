"""The rendered data set: its layout, its split, its labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from simulators.dataset import (
    CLASSES,
    DEMO_SEEDS_END,
    TRAIN_SEEDS,
    VAL_SEEDS,
    label_lines,
    street_seeds,
    write_dataset,
)
from simulators.street import TruthBox


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset")
    photos = out / "photos"
    for part in ("train", "valid"):
        for kind in ("images", "labels"):
            (photos / part / kind).mkdir(parents=True)
        cv2.imwrite(str(photos / part / "images" / "0.jpg"), np.full((60, 80, 3), 90, np.uint8))
        (photos / part / "labels" / "0.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    write_dataset(out / "set", seed=3, count=24, val_fraction=0.25, photos=photos)
    return out / "set"


def test_demo_training_and_validation_never_share_a_street() -> None:
    train, val = street_seeds(1, "train", 3000), street_seeds(1, "val", 3000)
    assert all(seed in TRAIN_SEEDS for seed in train)
    assert all(seed in VAL_SEEDS for seed in val)
    assert DEMO_SEEDS_END <= TRAIN_SEEDS.start < TRAIN_SEEDS.stop <= VAL_SEEDS.start
    assert len(set(train)) > 2990


def test_the_parts_have_the_asked_numbers_and_a_label_file_for_every_picture(written: Path) -> None:
    for part, count in (("train", 18), ("val", 6)):
        pictures = sorted((written / "images" / part).glob(f"{part}-*.jpg"))
        labels = sorted((written / "labels" / part).glob(f"{part}-*.txt"))
        assert [p.stem for p in pictures] == [p.stem for p in labels]
        assert len(pictures) == count
        assert cv2.imread(str(pictures[0])).shape == (360, 640, 3)


def test_labels_lie_inside_the_picture_and_name_known_classes(written: Path) -> None:
    seen = set()
    for file in (written / "labels" / "train").glob("train-*.txt"):
        for line in file.read_text().splitlines():
            index, x, y, w, h = (float(value) for value in line.split())
            seen.add(int(index))
            assert x - w / 2 + 1e-5 >= 0
            assert x + w / 2 <= 1 + 1e-5
            assert y - h / 2 + 1e-5 >= 0
            assert y + h / 2 <= 1 + 1e-5
            assert w > 0
            assert h > 0
    assert {0, 1} <= seen <= set(range(len(CLASSES)))


def test_the_description_and_the_conditions_fit_the_pictures(written: Path) -> None:
    text = (written / "data.yaml").read_text()
    assert [f"  {index}: {name}" in text for index, name in enumerate(CLASSES)] == [True] * len(CLASSES)
    rows = [line.split(",") for line in (written / "conditions.csv").read_text().splitlines()]
    assert rows[0] == ["picture", "street_seed", "light", "weather"]
    assert len(rows) == 25
    seeds = {row[0].split("-")[0]: int(row[1]) for row in rows[1:]}
    assert seeds["train"] in TRAIN_SEEDS
    assert seeds["val"] in VAL_SEEDS


def test_photographs_become_garbage_and_keep_their_split(written: Path) -> None:
    for part in ("train", "photos_val"):
        label = (written / "labels" / part / "photo-0.txt").read_text().split()
        assert label == ["5", "0.5", "0.5", "0.25", "0.5"]
        assert (written / "images" / part / "photo-0.jpg").exists()


def test_the_same_seed_writes_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_dataset(tmp_path / name, seed=seed, count=3, val_fraction=0.0, size=(320, 180))
    names = [f"images/train/train-{index:06d}.jpg" for index in range(3)]
    assert [(tmp_path / "a" / n).read_bytes() for n in names] == [(tmp_path / "b" / n).read_bytes() for n in names]
    assert [(tmp_path / "a" / n).read_bytes() for n in names] != [(tmp_path / "c" / n).read_bytes() for n in names]


def box(label: str, x1: float, y1: float, x2: float, y2: float, visible: float = 1.0) -> TruthBox:
    return TruthBox(name="n", label=label, x1=x1, y1=y1, x2=x2, y2=y2, visible_fraction=visible)


def test_hand_bags_hidden_things_and_specks_are_not_labelled() -> None:
    boxes = [
        box("hand_bag", 10, 10, 40, 40),
        box("person", 10, 10, 40, 90, visible=0.2),
        box("person", 10, 10, 13, 16),
        box("vehicle", 64, 36, 128, 72),
    ]
    assert label_lines(boxes, 640, 360) == ["1 0.150000 0.150000 0.100000 0.100000"]


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.1), (5, 1.0), (5, -0.1)])
def test_nonsense_is_refused(tmp_path: Path, count: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="count"):
        write_dataset(tmp_path, seed=1, count=count, val_fraction=fraction)


def test_missing_photographs_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_dataset(tmp_path / "out", seed=1, count=1, photos=tmp_path / "nowhere")
