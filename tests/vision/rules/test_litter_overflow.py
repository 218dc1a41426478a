"""Litter overflow: bins by the majority of looks, garbage by how long it lies."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.vision.build import at, cleared, raised, sight, tell, track, zone
from vision.model import Category, Label, Presence, Track
from vision.rules.litter_overflow import RULE

BIN = (0.3, 0.4, 0.36, 0.55)
BAG = (0.6, 0.5, 0.66, 0.56)
ZONE = zone(RULE, hold_s=10, stay_s=20)


def bin_seen(full: bool, track_id: int = 1) -> Track:
    return track(Label.BIN_OVERFLOW if full else Label.BIN, BIN, track_id=track_id)


def test_a_bin_that_overflows_is_raised_after_its_time_and_cleared_when_emptied() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [bin_seen(5 <= now_s < 40)], seconds=60)
    (up,), (down,) = raised(findings), cleared(findings)
    assert up.category is Category.BIN_OVERFLOW and down.key == up.key
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(18, abs=2.5)
    assert down.cleared_at is not None and 40 < (down.cleared_at - at(0)).total_seconds() < 46


def test_a_bin_that_overflows_twice_is_two_episodes() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [bin_seen(now_s % 40 < 25)], seconds=79)
    assert len(raised(findings)) == 2 and len({finding.key for finding in raised(findings)}) == 2


def test_a_half_full_bin_that_now_and_then_looks_full_opens_nothing() -> None:
    rng = random.Random(4)
    _, findings = tell(RULE, ZONE, lambda now_s: [bin_seen(rng.random() < 0.3)], seconds=300)
    assert findings == []


def test_a_full_bin_that_now_and_then_looks_half_full_is_raised_once() -> None:
    rng = random.Random(4)
    _, findings = tell(RULE, ZONE, lambda now_s: [bin_seen(rng.random() < 0.85)], seconds=300)
    assert len(findings) == 1


def test_a_bin_that_looks_much_larger_with_bags_beside_it_is_the_same_bin() -> None:
    grown = (0.3, 0.35, 0.44, 0.58)

    def story(now_s: float) -> Sequence[Track]:
        if now_s < 10:
            return [bin_seen(False)]
        return [track(Label.BIN_OVERFLOW, grown), track(Label.GARBAGE, (0.37, 0.5, 0.44, 0.58), track_id=2)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert [finding.category for finding in findings] == [Category.BIN_OVERFLOW]
    assert (findings[0].raised_at - at(0)).total_seconds() < 25


def test_a_bin_hidden_for_a_while_stays_the_same_episode() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [] if 30 < now_s < 50 else [bin_seen(now_s > 5)], seconds=80)
    assert len(findings) == 1


def test_garbage_that_lies_long_enough_is_exposed_garbage() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [track(Label.GARBAGE, BAG, born_s=5, still_since_s=5)] if 6 <= now_s < 50 else []

    _, findings = tell(RULE, ZONE, story, seconds=70)
    (up,), (down,) = raised(findings), cleared(findings)
    assert up.category is Category.EXPOSED_GARBAGE and down.key == up.key
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(25, abs=0.5)


def test_a_bag_set_down_and_taken_up_again_opens_nothing() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [track(Label.GARBAGE, BAG, born_s=5, still_since_s=5)] if 6 <= now_s < 22 else []

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert findings == []


def test_garbage_that_is_seen_in_few_looks_opens_nothing() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [track(Label.GARBAGE, BAG, born_s=0, still_since_s=0)] if now_s % 3 < 0.3 else []

    _, findings = tell(RULE, ZONE, story, seconds=90)
    assert findings == []


def test_garbage_at_the_foot_of_an_overflowing_bin_belongs_to_the_bin() -> None:
    beside = (0.37, 0.5, 0.41, 0.56)

    def story(now_s: float) -> Sequence[Track]:
        return [bin_seen(True), track(Label.GARBAGE, beside, track_id=2)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert [finding.category for finding in findings] == [Category.BIN_OVERFLOW]


def test_a_heap_that_is_seen_as_two_is_reported_once_and_a_second_heap_elsewhere_is_reported() -> None:
    beside, elsewhere = (0.67, 0.51, 0.72, 0.57), (0.2, 0.7, 0.26, 0.76)

    def story(now_s: float) -> Sequence[Track]:
        boxes = (BAG, beside, elsewhere)
        return [track(Label.GARBAGE, box, track_id=i) for i, box in enumerate(boxes)] if now_s < 60 else []

    _, findings = tell(RULE, ZONE, story, seconds=80)
    assert len(raised(findings)) == len(cleared(findings)) == 2


def test_a_bin_that_the_detector_is_unsure_of_is_not_called_overflowing() -> None:
    unsure = track(Label.BIN_OVERFLOW, BIN, score=0.33)
    _, findings = tell(RULE, ZONE, lambda now_s: [unsure], seconds=60)
    assert findings == []


def test_garbage_beside_a_bin_that_is_not_full_is_exposed_garbage() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [bin_seen(False), track(Label.GARBAGE, (0.37, 0.5, 0.41, 0.56), track_id=2)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert [finding.category for finding in findings] == [Category.EXPOSED_GARBAGE]


def test_a_check_says_emptied_only_of_a_bin_that_is_seen() -> None:
    state = RULE.fresh()
    assert RULE.judge(state, sight([bin_seen(True)]), ZONE, Category.BIN_OVERFLOW) is Presence.THERE
    assert RULE.judge(state, sight([bin_seen(False)]), ZONE, Category.BIN_OVERFLOW) is Presence.GONE
    assert RULE.judge(state, sight([]), ZONE, Category.BIN_OVERFLOW) is Presence.HIDDEN


def test_a_check_of_garbage_is_not_disturbed_by_an_overflowing_bin() -> None:
    bag = track(Label.GARBAGE, BAG, track_id=2)
    assert RULE.judge(RULE.fresh(), sight([bin_seen(True)]), ZONE, Category.EXPOSED_GARBAGE) is Presence.GONE
    assert RULE.judge(RULE.fresh(), sight([bin_seen(True), bag]), ZONE, Category.EXPOSED_GARBAGE) is Presence.THERE


def test_a_known_bin_that_is_mistaken_for_garbage_in_the_dark_opens_nothing() -> None:
    def look(now_s: float) -> list[Track]:
        return [bin_seen(False)] if now_s < 20 else [track(Label.GARBAGE, (0.301, 0.41, 0.359, 0.548), track_id=2)]

    _, findings = tell(RULE, ZONE, look, seconds=120)
    assert findings == []


def test_a_bag_far_from_the_bin_is_still_garbage_when_the_bin_is_known() -> None:
    def look(now_s: float) -> list[Track]:
        return [bin_seen(False)] + ([track(Label.GARBAGE, BAG, track_id=2)] if now_s >= 20 else [])

    _, findings = tell(RULE, ZONE, look, seconds=120)
    assert [finding.category for finding in findings] == [Category.EXPOSED_GARBAGE]
