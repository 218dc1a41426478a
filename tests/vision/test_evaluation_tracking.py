"""HOTA and IDF1 on cases small enough to be worked out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.assignment import assign
from vision.evaluation.tracking import Numbered, score_tracking

LEFT, RIGHT = (0.0, 0.0, 10.0, 20.0), (100.0, 0.0, 110.0, 20.0)


def frames(*each: dict[int, tuple[float, float, float, float]]) -> list[Numbered]:
    """One dict of number to box for each frame."""
    return [
        Numbered(ids=np.array(list(frame), np.int64), boxes=np.array(list(frame.values()), np.float32).reshape(-1, 4))
        for frame in each
    ]


def test_tracks_like_the_truth_are_perfect_whatever_their_numbers() -> None:
    score = score_tracking(frames(*[{1: LEFT, 2: RIGHT}] * 4), frames(*[{70: LEFT, 30: RIGHT}] * 4))
    assert (score.hota, score.det_a, score.ass_a, score.idf1) == pytest.approx((1, 1, 1, 1))
    assert score.switches == 0


def test_a_number_that_changes_half_way_costs_half_the_association() -> None:
    truth = frames(*[{1: LEFT}] * 4)
    score = score_tracking(truth, frames({5: LEFT}, {5: LEFT}, {6: LEFT}, {6: LEFT}))
    # each of the four boxes goes with a track that shares 2 of 4 boxes with its thing: 2 / (4 + 2 - 2)
    assert (score.det_a, score.ass_a) == pytest.approx((1.0, 0.5))
    assert score.hota == pytest.approx(0.5**0.5)
    assert score.idf1 == pytest.approx(2 * 2 / 8)
    assert score.switches == 1


def test_what_is_missed_and_what_is_invented_costs_detection() -> None:
    score = score_tracking(frames({1: LEFT}, {1: LEFT}), frames({5: LEFT, 6: RIGHT}, {}))
    assert score.det_a == pytest.approx(1 / 3)  # one hit, one missed, one invented
    assert score.ass_a == pytest.approx(1 / 2)  # 1 / (2 + 1 - 1)
    assert score.idf1 == pytest.approx(2 * 1 / 4)


def test_a_box_that_overlaps_by_half_counts_at_half_of_the_overlaps() -> None:
    score = score_tracking(frames({1: LEFT}), frames({5: (0.0, 0.0, 10.0, 10.0)}))
    assert score.hota == pytest.approx(10 / 19)  # at 0.05 to 0.50 of 0.05 to 0.95
    assert score.idf1 == pytest.approx(1.0)


@given(
    st.integers(1, 4).flatmap(
        lambda rows: st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), min_size=4, max_size=4), min_size=rows, max_size=rows
        )
    )
)
def test_the_pairing_is_as_good_as_the_best_of_all(values: list[list[float]]) -> None:
    gain = np.array(values)
    pairs = assign(gain)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(gain)
    best = max(
        sum(gain[row, column] for row, column in enumerate(order)) for order in permutations(range(4), len(gain))
    )
    assert sum(gain[row, column] for row, column in pairs) == pytest.approx(best)
    assert {(column, row) for row, column in assign(gain.T)} == set(pairs) or sum(
        gain[row, column] for column, row in assign(gain.T)
    ) == pytest.approx(best)
