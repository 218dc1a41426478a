"""Crowding: a number of people for a time, with hysteresis."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from tests.vision.build import at, cleared, raised, sight, tell, track, zone
from vision.model import Category, Label, Presence, Track
from vision.rules.crowding import RULE, CrowdingParameters

ZONE = zone(RULE, limit=5, hold_s=10, clear_s=5)


def people(count: int, missed: int = 0) -> list[Track]:
    return [
        track(Label.PERSON, (0.1 + i * 0.05, 0.4, 0.13 + i * 0.05, 0.6), track_id=i, missed_s=0.3 if i < missed else 0)
        for i in range(count)
    ]


def test_a_crowd_that_stays_is_raised_once_and_cleared_once() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: people(6 if 5 <= now_s < 40 else 1), seconds=70)
    (up,), (down,) = raised(findings), cleared(findings)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(16, abs=1.5)
    assert up.category is Category.CROWDING and down.key == up.key
    assert down.cleared_at is not None and 45 <= (down.cleared_at - at(0)).total_seconds() <= 48


def test_people_passing_through_open_nothing() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: people(7 if now_s % 20 < 8 else 2), seconds=120)
    assert findings == []


def test_single_misses_of_the_detector_neither_delay_nor_end_a_crowd() -> None:
    rng = random.Random(3)
    _, findings = tell(RULE, ZONE, lambda now_s: people(6 - (rng.random() < 0.25) * 2), seconds=60)
    (up,) = findings
    assert (up.raised_at - at(0)).total_seconds() < 14


def test_a_number_that_wavers_between_the_limits_does_not_raise_again_and_again() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: people(5 if now_s < 20 or now_s % 20 < 10 else 4), seconds=120)
    assert len(findings) == 1


def test_single_ghosts_of_the_detector_make_no_crowd() -> None:
    quick = zone(RULE, limit=5, hold_s=0)
    _, findings = tell(RULE, quick, lambda now_s: people(6 if now_s % 2 == 1 else 4), seconds=60)
    assert findings == []


def test_a_person_lost_for_a_moment_still_counts() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: people(5, missed=2), seconds=20)
    assert len(findings) == 1


def test_people_whose_feet_are_outside_do_not_count() -> None:
    narrow = zone(RULE, limit=2, hold_s=5, polygon=[[0.5, 0.1], [0.9, 0.1], [0.9, 0.5], [0.5, 0.5]])

    def story(now_s: float) -> Sequence[Track]:
        return [track(Label.PERSON, (0.6, 0.2, 0.65, 0.7), track_id=i) for i in range(4)]

    _, findings = tell(RULE, narrow, story, seconds=30)
    assert findings == []


def test_a_check_is_clear_when_few_are_left() -> None:
    assert RULE.judge(RULE.fresh(), sight(people(4)), ZONE, Category.CROWDING) is Presence.THERE
    assert RULE.judge(RULE.fresh(), sight(people(2)), ZONE, Category.CROWDING) is Presence.GONE


def test_a_clearing_limit_above_the_raising_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="clear_below"):
        CrowdingParameters(limit=4, clear_below=5)
