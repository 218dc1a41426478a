"""Judges a detector on a YOLO data set, through the same OpenVINO path that the product runs (`gridwarden vision evaluate`).

Average precision is COCO's: boxes matched greedily by score, precision made monotone and read at 101 recalls,
over overlaps 0.50 to 0.95. Where the data set has `conditions.csv` the scenes are also judged by light and weather.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.detect import Detector
from vision.heads import overlaps
from vision.model import LABELS
from vision.training.dataset import DataSet, DataSetError

Floats = NDArray[np.float32]

OVERLAPS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One picture's truth and what was found; boxes x1 y1 x2 y2 in its pixels, labels index LABELS."""

    stem: str
    true_boxes: Floats
    true_labels: NDArray[np.int64]
    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]


def match(true_boxes: Floats, boxes: Floats, scores: Floats, least_overlap: float) -> NDArray[np.bool_]:
    """Which found boxes (in the given order) hit a true box that no better-scored one has hit before."""
    hit = np.zeros(len(boxes), bool)
    if not len(true_boxes) or not len(boxes):
        return hit
    table = overlaps(boxes, true_boxes)
    free = np.ones(len(true_boxes), bool)
    for index in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, table[index], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= least_overlap:
            free[best] = False
            hit[index] = True
    return hit


def average_precision(hits: NDArray[np.bool_], scores: Floats, true_count: int) -> float | None:
    """Area under the precision-recall curve, read at 101 recalls; None when there was nothing to find."""
    if true_count == 0:
        return None
    if not len(hits):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    recall = right / true_count
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    read = np.where(places < len(precision), precision[np.minimum(places, len(precision) - 1)], 0.0)
    return float(read.mean())


def judge(looks: Sequence[Look], score: float) -> dict[str, dict[str, float | int | None]]:
    """Per label: count, ap50, ap50_95, and precision and recall at `score` and overlap 0.5; and their means."""
    found = {str(label): _judge_label(looks, index, score) for index, label in enumerate(LABELS)}
    mean: dict[str, float | int | None] = {"count": sum(int(row["count"] or 0) for row in found.values())}
    for key in ("ap50", "ap50_95"):
        values = [value for row in found.values() if (value := row[key]) is not None]
        mean[key] = float(np.mean(values)) if values else None
    return {**found, "mean": mean}


def _judge_label(looks: Sequence[Look], index: int, score: float) -> dict[str, float | int | None]:
    scores = [look.scores[look.labels == index] for look in looks]
    every = np.concatenate(scores) if scores else np.zeros(0, np.float32)
    count = sum(int((look.true_labels == index).sum()) for look in looks)
    values: list[float | None] = []
    sure_hits = 0
    for least in OVERLAPS:
        hits = [
            match(look.true_boxes[look.true_labels == index], look.boxes[look.labels == index], own, least)
            for look, own in zip(looks, scores, strict=True)
        ]
        flat = np.concatenate(hits) if hits else np.zeros(0, bool)
        values.append(average_precision(flat, every, count))
        if least == OVERLAPS[0]:
            sure_hits = int(flat[every >= score].sum())
    sure = int((every >= score).sum())
    known = [value for value in values if value is not None]
    return {
        "count": count,
        "ap50": values[0],
        "ap50_95": float(np.mean(known)) if known else None,
        "precision": sure_hits / sure if sure else None,
        "recall": sure_hits / count if count else None,
    }


def false_alarms(looks: Sequence[Look], score: float) -> dict[str, float | int]:
    """How much is found, at that score, in pictures where nothing is to be found."""
    empty = [look for look in looks if not len(look.true_boxes)]
    found = sum(int((look.scores >= score).sum()) for look in empty)
    return {"empty_pictures": len(empty), "found_in_them": found}


def bin_confusion(looks: Sequence[Look], score: float) -> dict[str, int]:
    """How bins that are not full and bins that are were taken: right, for the other, or missed."""
    names = {LABELS.index(label): str(label) for label in LABELS if str(label).startswith("bin")}
    counts = {f"{one} taken for {other}": 0 for one in names.values() for other in [*names.values(), "nothing"]}
    for look in looks:
        sure = look.scores >= score
        bins = sure & np.isin(look.labels, list(names))
        for box, label in zip(look.true_boxes, look.true_labels, strict=True):
            if int(label) not in names:
                continue
            table = overlaps(box[None, :], look.boxes[bins])[0]
            close = table >= 0.5
            taken = "nothing"
            if close.any():
                best = np.where(close, look.scores[bins], -1.0).argmax()
                taken = names[int(look.labels[bins][best])]
            counts[f"{names[int(label)]} taken for {taken}"] += 1
    return counts


def look_at(detector: Detector, data: DataSet, part: str, limit: int | None = None) -> list[Look]:
    """Runs the detector over a part. Raises DataSetError when it has no pictures, or one that is none."""
    known = [LABELS.index(label) for label in data.known]
    looks = []
    for file in data.files(part)[:limit]:
        picture = cv2.imread(str(file))
        if picture is None:
            raise DataSetError(f"{file} is no picture")
        height, width = picture.shape[:2]
        rows = data.read(file)
        middle, half = rows[:, 1:3] * [width, height], rows[:, 3:5] * [width, height] / 2
        found = detector.detect(np.asarray(picture, dtype=np.uint8))
        told = np.isin(found.labels, known)  # of what is not labelled nothing is known
        looks.append(
            Look(
                stem=file.stem,
                true_boxes=np.concatenate([middle - half, middle + half], axis=1).astype(np.float32),
                true_labels=rows[:, 0].astype(np.int64),
                boxes=found.boxes[told],
                scores=found.scores[told],
                labels=found.labels[told],
            )
        )
    return looks


def read_conditions(data: Path) -> dict[str, tuple[str, str]]:
    """Light and weather by picture name, from conditions.csv; empty when the data set has none."""
    path = data / "conditions.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["picture"]: (row["light"], row["weather"]) for row in csv.DictReader(file)}


def evaluate(
    model: Path, data: DataSet, part: str = "val", score: float = 0.4, limit: int | None = None
) -> dict[str, object]:
    """The whole report, ready for JSON; of classes that the data set does not label nothing is counted."""
    looks = look_at(Detector(model), data, part, limit)
    report: dict[str, object] = {
        "model": model.name,
        "pictures": len(looks),
        "score": score,
        "classes": judge(looks, score),
        "false_alarms": false_alarms(looks, score),
        "bin_confusion": bin_confusion(looks, score),
    }
    conditions = read_conditions(data.folder)
    slices = {}
    for place, values in (("light", 0), ("weather", 1)):
        for value in sorted({conditions[look.stem][values] for look in looks if look.stem in conditions}):
            chosen = [look for look in looks if look.stem in conditions and conditions[look.stem][values] == value]
            slices[f"{place} {value}"] = {"pictures": len(chosen), "classes": judge(chosen, score)}
    if slices:
        report["slices"] = slices
    return report


def table(classes: dict[str, dict[str, float | int | None]]) -> str:
    """The rows of the classes that occur, as a Markdown table."""

    def cell(value: float | int | None) -> str:
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    columns = ("count", "ap50", "ap50_95", "precision", "recall")
    lines = ["| class | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in classes.items():
        if row["count"]:
            lines.append(f"| {name} | " + " | ".join(cell(row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def render(report: dict[str, object]) -> str:
    """The report for a person: a row for each class, then what else was counted."""
    lines = [table(report["classes"])]  # type: ignore[arg-type]
    lines += [f"{key}: {report[key]}" for key in ("pictures", "false_alarms", "bin_confusion")]
    for name, part in dict(report.get("slices", {})).items():  # type: ignore[call-overload]
        mean = part["classes"]["mean"]
        lines.append(
            f"{name}: {part['pictures']} pictures, mean ap50 {mean['ap50']:.3f}, ap50-95 {mean['ap50_95']:.3f}"
        )
    return "\n".join(lines)
