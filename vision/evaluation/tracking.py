"""How well things are followed: HOTA and IDF1 of tracks against the truth.

HOTA: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021: the geometric mean of
how well things are found (DetA) and how long they keep their number (AssA), averaged over overlaps of 0.05 to 0.95.
IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016: the F1 of boxes
under the best one-to-one pairing of true and found numbers, at an overlap of one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision.assignment import assign
from vision.heads import overlaps
from vision.model import Floats, Ints

ALPHAS = tuple(round(0.05 * step, 2) for step in range(1, 20))
IDF1_OVERLAP = 0.5
TINY = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """What is in one frame: numbers (N,) and boxes (N, 4) x1 y1 x2 y2, in any unit that both sides share."""

    ids: Ints
    boxes: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingScore:
    """All 0..1 but `switches`: how often a true thing was given another number (at an overlap of one half)."""

    hota: float
    det_a: float
    ass_a: float
    idf1: float
    switches: int


def score_tracking(truth: Sequence[Numbered], found: Sequence[Numbered]) -> TrackingScore:
    """Judge the tracks of as many frames as there are in the truth."""
    if len(truth) != len(found):
        raise ValueError(f"{len(truth)} frames of truth, {len(found)} of tracks")
    true_ids, found_ids = _renumber(truth), _renumber(found)
    true_count, found_count = _count(true_ids), _count(found_ids)
    tables = [overlaps(one.boxes, other.boxes) for one, other in zip(truth, found, strict=True)]
    det_a, ass_a, hota = _score_hota(true_ids, found_ids, true_count, found_count, tables)
    return TrackingScore(
        hota=hota,
        det_a=det_a,
        ass_a=ass_a,
        idf1=_score_idf1(true_ids, found_ids, true_count, found_count, tables),
        switches=_count_switches(true_ids, found_ids, tables),
    )


def read_mot(path: Path, frames: int, *, scale: float = 1.0) -> list[Numbered]:
    """Truth in the MOT challenge's format: frame (from 1), number, left, top, width, height, …; lengths over `scale`."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    result: list[Numbered] = []
    for frame in range(1, frames + 1):
        mine = rows[rows[:, 0] == frame]
        boxes = np.concatenate([mine[:, 2:4], mine[:, 2:4] + mine[:, 4:6]], axis=1) / scale
        result.append(Numbered(ids=mine[:, 1].astype(np.int64), boxes=boxes.astype(np.float32)))
    return result


def _score_hota(
    true_ids: list[Ints], found_ids: list[Ints], true_count: Ints, found_count: Ints, tables: Sequence[Floats]
) -> tuple[float, float, float]:
    """DetA, AssA and HOTA; the pairing prefers pairs of numbers that go together over the whole film."""
    together = np.zeros((len(true_count), len(found_count)))
    for mine, theirs, table in zip(true_ids, found_ids, tables, strict=True):
        union = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
        together[np.ix_(mine, theirs)] += np.where(union > TINY, table / np.maximum(union, TINY), 0.0)
    alike = together / np.maximum(true_count[:, None] + found_count[None, :] - together, TINY)
    matches = np.zeros((len(ALPHAS), len(true_count), len(found_count)))
    for mine, theirs, table in zip(true_ids, found_ids, tables, strict=True):
        pairs = assign(alike[np.ix_(mine, theirs)] * table)
        for index, alpha in enumerate(ALPHAS):
            for row, column in pairs:
                if table[row, column] >= alpha - 1e-9:
                    matches[index, mine[row], theirs[column]] += 1
    hits = matches.sum(axis=(1, 2))
    total_true, total_found = float(true_count.sum()), float(found_count.sum())
    det_a = hits / np.maximum(total_true + total_found - hits, 1.0)
    each = matches / np.maximum(true_count[:, None] + found_count[None, :] - matches, 1.0)
    ass_a = (matches * each).sum(axis=(1, 2)) / np.maximum(hits, 1.0)
    return float(det_a.mean()), float(ass_a.mean()), float(np.sqrt(det_a * ass_a).mean())


def _score_idf1(
    true_ids: list[Ints], found_ids: list[Ints], true_count: Ints, found_count: Ints, tables: Sequence[Floats]
) -> float:
    """The best one-to-one pairing of numbers; those left alone count as missed and as invented."""
    near = np.zeros((len(true_count), len(found_count)))
    for mine, theirs, table in zip(true_ids, found_ids, tables, strict=True):
        near[np.ix_(mine, theirs)] += table >= IDF1_OVERLAP
    hits = sum(near[row, column] for row, column in assign(near))
    boxes = float(true_count.sum() + found_count.sum())
    return float(2 * hits / boxes) if boxes else 0.0


def _count_switches(true_ids: list[Ints], found_ids: list[Ints], tables: Sequence[Floats]) -> int:
    """Changes of number of a true thing from one frame in which it is found to the next."""
    last: dict[int, int] = {}
    switches = 0
    for mine, theirs, table in zip(true_ids, found_ids, tables, strict=True):
        # as the CLEAR metrics do: a pair of the frame before is kept where it still fits
        kept = np.array([[last.get(int(row)) == int(column) for column in theirs] for row in mine], float)
        gain = np.where(table >= IDF1_OVERLAP, 1000.0 * kept.reshape(table.shape) + table, 0.0)
        for row, column in assign(gain):
            if table[row, column] < IDF1_OVERLAP:
                continue
            number, given = int(mine[row]), int(theirs[column])
            switches += last.get(number, given) != given
            last[number] = given
    return switches


def _renumber(frames: Sequence[Numbered]) -> list[Ints]:
    """The numbers of each frame, counted from 0 without gaps."""
    known: NDArray[np.int64] = np.unique(np.concatenate([frame.ids for frame in frames] or [np.zeros(0, np.int64)]))
    return [np.searchsorted(known, frame.ids).astype(np.int64) for frame in frames]


def _count(ids: Sequence[Ints]) -> Ints:
    every = np.concatenate([*ids, np.zeros(0, np.int64)])
    return np.bincount(every).astype(np.int64) if len(every) else np.zeros(0, np.int64)
