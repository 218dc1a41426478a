"""How a detector is judged, and that the bundled one deserves to be shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simulators.dataset import CLASSES, write_dataset
from vision.detect import Detector, read_description
from vision.model import LABELS
from vision.training.dataset import DataSetError, read_dataset
from vision.training.evaluate import Look, average_precision, bin_confusion, evaluate, false_alarms, judge, match

MODELS = Path(__file__).resolve().parents[2] / "vision" / "models"
PERSON, BIN, OVERFLOW = (LABELS.index(name) for name in ("person", "bin", "bin_overflow"))


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def look(
    true: list[tuple[int, tuple[float, float, float, float]]],
    found: list[tuple[int, float, tuple[float, float, float, float]]],
) -> Look:
    return Look(
        stem="one",
        true_boxes=boxes(*[box for _, box in true]),
        true_labels=np.array([label for label, _ in true], np.int64),
        boxes=boxes(*[box for _, _, box in found]),
        scores=np.array([score for _, score, _ in found], np.float32),
        labels=np.array([label for label, _, _ in found], np.int64),
    )


def test_a_true_box_is_hit_once_and_by_the_best_scored() -> None:
    found = boxes((0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60))
    hits = match(boxes((0, 0, 10, 10)), found, np.array([0.5, 0.9, 0.8], np.float32), 0.5)
    assert hits.tolist() == [False, True, False]


def test_average_precision_of_small_cases_worked_out_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert average_precision(np.array([True, True]), scores[:2], 2) == pytest.approx(1.0)
    # right, wrong, right of two: precision 1 up to recall 0.5 (51 readings), then 2/3 (50 readings)
    assert average_precision(np.array([True, False, True]), scores, 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # one of two found: precision 1 up to recall 0.5, then nothing
    assert average_precision(np.array([True]), scores[:1], 2) == pytest.approx(51 / 101)
    assert average_precision(np.array([], bool), np.array([], np.float32), 3) == 0.0
    assert average_precision(np.array([False]), scores[:1], 0) is None


def test_the_order_of_scores_counts_and_not_the_order_of_rows() -> None:
    hits, scores = np.array([False, True]), np.array([0.2, 0.9], np.float32)
    assert average_precision(hits, scores, 1) == pytest.approx(1.0)
    assert average_precision(hits, scores[::-1].copy(), 1) == pytest.approx(0.5)


def test_loose_boxes_count_at_low_overlap_only() -> None:
    rows = judge([look([(PERSON, (0, 0, 10, 20))], [(PERSON, 0.9, (0, 0, 10, 14))])], 0.4)
    assert rows["person"]["ap50"] == pytest.approx(1.0)
    assert rows["person"]["ap50_95"] == pytest.approx(0.5)  # overlap 0.7: right at 0.50 to 0.70
    assert rows["vehicle"]["ap50"] is None
    assert rows["mean"] == {"count": 1, "ap50": pytest.approx(1.0), "ap50_95": pytest.approx(0.5)}


def test_a_box_of_the_wrong_class_is_no_hit() -> None:
    rows = judge([look([(BIN, (0, 0, 10, 10))], [(OVERFLOW, 0.9, (0, 0, 10, 10))])], 0.4)
    assert rows["bin"]["ap50"] == 0.0
    assert rows["bin"]["recall"] == 0.0
    assert rows["bin_overflow"]["precision"] == 0.0


def test_bins_taken_for_each_other_and_missed_ones_are_told_apart() -> None:
    counts = bin_confusion(
        [
            look([(BIN, (0, 0, 10, 10))], [(OVERFLOW, 0.9, (0, 0, 10, 10)), (BIN, 0.5, (0, 0, 10, 10))]),
            look([(OVERFLOW, (0, 0, 10, 10))], [(OVERFLOW, 0.3, (0, 0, 10, 10))]),
            look([(BIN, (0, 0, 10, 10))], [(BIN, 0.8, (0, 0, 10, 9))]),
        ],
        0.4,
    )
    assert {name: count for name, count in counts.items() if count} == {
        "bin taken for bin_overflow": 1,
        "bin_overflow taken for nothing": 1,
        "bin taken for bin": 1,
    }


def test_false_alarms_are_counted_in_empty_pictures_only() -> None:
    looks = [
        look([], [(PERSON, 0.9, (0, 0, 10, 10)), (PERSON, 0.2, (0, 0, 10, 10))]),
        look([(PERSON, (0, 0, 10, 10))], [(BIN, 0.9, (50, 50, 60, 60))]),
        look([], []),
    ]
    assert false_alarms(looks, 0.4) == {"empty_pictures": 2, "found_in_them": 1}


def test_the_bundled_model_is_small_and_fits_its_description() -> None:
    assert sum(file.stat().st_size for file in MODELS.iterdir()) < 12_000_000
    description = read_description(MODELS / "bundled.toml")
    assert tuple(str(label) for label in description.classes) == CLASSES
    assert Detector(MODELS / "bundled.onnx").labels == frozenset(LABELS)
    assert "AGPL-3.0" in (MODELS / "README.md").read_text(encoding="utf-8")


def test_the_bundled_model_finds_what_stands_in_streets_it_has_never_seen(tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=20_261_120, count=49, val_fraction=48 / 49)
    report = evaluate(MODELS / "bundled.onnx", read_dataset(tmp_path), "val", 0.4)
    rows = report["classes"]
    assert isinstance(rows, dict)
    assert rows["mean"]["count"] > 300
    assert rows["mean"]["ap50"] > 0.8
    for name in CLASSES:
        assert rows[name]["ap50"] > 0.6, name


def test_the_command_line_prints_a_table_and_writes_the_same_numbers_as_json(tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=4, count=5, val_fraction=0.8, size=(320, 180))
    command = [sys.executable, "-c", "from gridwarden.cli import main; main()", "vision", "evaluate", str(tmp_path)]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "report.json")],
        capture_output=True,
        text=True,
        check=True,
        cwd=MODELS.parents[1],
        env={**os.environ, "PYTHONPATH": str(MODELS.parents[1])},
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pictures"] == 4
    assert f"| mean | {report['classes']['mean']['count']} |" in done.stdout
    assert "light " in done.stdout


def test_a_data_set_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no pictures"):
        read_dataset(tmp_path)
