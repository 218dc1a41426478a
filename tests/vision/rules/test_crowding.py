"""Crowding: a number of people for a time, with hysteresis."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.vision.build import at, cleared, raised, sight, tell, track, updates, zone
from vision.ground import Metres
from vision.model import Category, Finding, Label, Presence, Track
from vision.rule import ZoneState
from vision.rules.crowding import RULE, CrowdingParameters
from vision.view import View

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


def test_a_weak_box_between_two_people_is_no_third_one() -> None:
    ghost = track(Label.PERSON, (0.315, 0.41, 0.345, 0.61), track_id=9, score=0.3)
    left, right = ((x, 0.4, x + 0.03, 0.6) for x in (0.3, 0.33))
    pair = [track(Label.PERSON, box, track_id=i) for i, box in enumerate((left, right))]
    three = zone(RULE, limit=3, hold_s=5)
    assert tell(RULE, three, lambda _: [*pair, ghost], seconds=20)[1] == []
    beside = track(Label.PERSON, (0.36, 0.41, 0.39, 0.61), track_id=9, score=0.3)
    assert len(tell(RULE, three, lambda _: [*pair, beside], seconds=20)[1]) == 1


def test_a_group_one_short_of_its_limit_is_no_crowd_for_the_weak_boxes_between_its_people() -> None:
    row = [(0.3 + 0.03 * i, 0.4, 0.33 + 0.03 * i, 0.6) for i in range(5)]
    four = [track(Label.PERSON, box, track_id=i, score=0.7) for i, box in enumerate(row[:4])]
    between = [
        track(Label.PERSON, (x1 + 0.015, y1 + 0.01, x2 + 0.015, y2), track_id=10 + i, score=0.25)
        for i, (x1, y1, x2, y2) in enumerate(row[:3])
    ]
    assert tell(RULE, ZONE, lambda _: [*four, *between[:2]], seconds=40)[1] == []
    five = track(Label.PERSON, row[4], track_id=4, score=0.7)
    (up,) = tell(RULE, ZONE, lambda _: [*four, five, *between[:1]], seconds=40)[1]
    assert up.detail["people"] == 5


def test_a_count_that_reaches_the_limit_only_in_its_peaks_is_no_crowd() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return people(6 if now_s % 8 < 3 else 4)

    assert tell(RULE, ZONE, story, seconds=120)[1] == []
    assert len(raised(tell(RULE, ZONE, lambda now_s: people(6 if now_s % 8 < 6 else 4), seconds=120)[1])) == 1


def test_a_crowd_that_comes_after_a_count_that_long_wavered_is_told_in_its_time() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return people(6 if now_s >= 80 else 5 if now_s % 2 < 1 else 4)

    (up,) = raised(tell(RULE, ZONE, story, seconds=110, every_s=0.5)[1])
    assert 0 < (up.raised_at - at(80)).total_seconds() <= 12


def test_a_crowd_began_when_its_people_came_and_not_when_they_were_counted() -> None:
    # one after the other, and those who walk up are seen late and weakly: the fifth is there at 20 s
    def story(now_s: float) -> Sequence[Track]:
        come = people(max(0, min(7, int((now_s - 18) / 0.5) + 1)))
        return [one for one in come if now_s - 18 - 0.5 * one.id >= 1.0]

    (up,) = raised(tell(RULE, ZONE, story, seconds=45)[1])
    assert (up.started_at - at(20)).total_seconds() == pytest.approx(0, abs=1.0)
    assert (up.raised_at - up.started_at).total_seconds() >= 10


def test_a_crowd_did_not_begin_with_those_who_had_stood_there_before() -> None:
    (up,) = raised(tell(RULE, ZONE, lambda now_s: people(4 if now_s < 30 else 6), seconds=60)[1])
    assert (up.started_at - at(30)).total_seconds() == pytest.approx(0, abs=1.5)


def test_somebody_who_walked_on_under_another_number_counts_once() -> None:
    gone = track(Label.PERSON, (0.6, 0.4, 0.63, 0.6), track_id=20, still_since_s=None, missed_s=0.4)
    assert tell(RULE, ZONE, lambda _: [*people(4), gone], seconds=40)[1] == []


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


# ---- on the ground ---------------------------------------------------------------------------------------------

GROUND = {"points": [[0.1, 0.9], [0.9, 0.9], [0.7, 0.2], [0.3, 0.2]], "metres": [[-4, 6], [4, 6], [5, 24], [-5, 24]]}
SQUARE = zone(RULE, limit=6, hold_s=5, clear_s=5, limit_per_m2=1.0, ground=GROUND, polygon=GROUND["points"])


def standing(places: Sequence[Metres], velocity: Metres = (0.0, 0.0), now_s: float = 0.0) -> list[Track]:
    """People at places on the ground of SQUARE, all walking alike."""
    assert SQUARE.ground is not None
    found = []
    for number, (east, north) in enumerate(places):
        seen = SQUARE.ground.show((east + velocity[0] * now_s, north + velocity[1] * now_s))
        assert seen is not None
        x, y = seen
        still_s = 0.0 if velocity == (0.0, 0.0) else None
        found.append(track(Label.PERSON, (x - 0.01, y - 0.1, x + 0.01, y), track_id=number, still_since_s=still_s))
    return found


def grid(count: int, gap_m: float) -> list[Metres]:
    side = math.ceil(math.sqrt(count))
    return [(gap_m * (i % side) - 1, 11 + gap_m * (i // side)) for i in range(count)]


def test_a_crowd_has_people_per_square_metre_and_a_dense_one_is_counted_as_at_least() -> None:
    (loose,) = tell(RULE, SQUARE, lambda _: standing(grid(9, 1.8)), seconds=10)[1]
    assert SQUARE.ground is not None
    area_m2 = SQUARE.ground.area_m2(SQUARE.polygon)
    assert loose.detail["people"] == 9 and loose.detail["at_least"] is False
    assert loose.detail["density_per_m2"] == pytest.approx(9 / (area_m2 or 0), abs=0.01)
    (dense,) = tell(RULE, SQUARE, lambda _: standing(grid(25, 0.5)), seconds=10)[1]
    assert dense.detail["at_least"] is True and dense.detail["near_per_m2"] > 2


def test_few_people_pressed_together_are_a_crowd_where_the_zone_has_a_density() -> None:
    five = zone(RULE, limit=20, hold_s=5, limit_per_m2=0.5, ground=GROUND, polygon=GROUND["points"])
    assert len(tell(RULE, five, lambda _: standing(grid(5, 0.4)), seconds=20)[1]) == 1
    assert tell(RULE, five, lambda _: standing(grid(5, 2.5)), seconds=20)[1] == []


def test_a_crowd_of_twice_the_limit_makes_the_same_finding_worse() -> None:
    _, findings = tell(RULE, SQUARE, lambda now_s: standing(grid(7, 1.8) if now_s < 20 else grid(16, 1.2)), seconds=40)
    (up,) = raised(findings)
    (more,) = updates(findings)
    assert more.key == up.key and up.severity is None and more.severity == 1
    assert more.detail["people"] == 16


def test_a_count_is_at_least_where_the_background_shows_more_people_than_the_detector_tells_apart() -> None:
    def story(covered: bool) -> list[Finding]:
        background = np.full((180, 320), 110, np.float32)
        picture = np.full((360, 640, 3), 110, np.uint8)
        if covered:
            picture[100:300, 200:440] = 30
        view = View(picture=picture, background=background, learnt_at=at(-60))
        return tell(RULE, SQUARE, lambda _: standing(grid(7, 1.8)), seconds=10, view=lambda _: view)[1]

    assert [finding.detail["at_least"] for finding in (*story(False), *story(True))] == [False, True]


@settings(max_examples=15, deadline=None)
@given(speed_m_s=st.floats(0.6, 2.0), bearing_deg=st.floats(0, 359))
def test_a_crowd_that_walks_has_a_speed_and_a_bearing(speed_m_s: float, bearing_deg: float) -> None:
    turn = math.radians(bearing_deg)
    velocity = (speed_m_s * math.sin(turn), speed_m_s * math.cos(turn))
    state, _ = tell(RULE, SQUARE, lambda now_s: standing(grid(4, 0.8), velocity, now_s), seconds=1.5, every_s=0.2)
    flow = RULE.status(state, SQUARE).detail["flow"]
    assert flow["speed_m_s"] == pytest.approx(speed_m_s, rel=0.05) and flow["order"] > 0.95
    assert (flow["bearing_deg"] - bearing_deg + 180) % 360 == pytest.approx(180, abs=3)


def test_people_milling_about_have_no_direction() -> None:
    def story(now_s: float) -> Sequence[Track]:
        one, other = standing(grid(4, 0.8), (1.0, 0.0), now_s), standing(grid(4, 0.8), (-1.0, 0.0), now_s)
        return [*one[:2], *other[2:]]

    state, _ = tell(RULE, SQUARE, story, seconds=1.5, every_s=0.2)
    flow = RULE.status(state, SQUARE).detail["flow"]
    assert flow["bearing_deg"] is None and flow["order"] < 0.1


def test_without_a_ground_plane_the_direction_is_one_of_the_picture() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [track(Label.PERSON, (0.2 + 0.1 * now_s, 0.4, 0.23 + 0.1 * now_s, 0.6), track_id=1, still_since_s=None)]

    state, _ = tell(RULE, ZONE, story, seconds=2)
    status = RULE.status(state, ZONE)
    assert status.state is ZoneState.QUIET and status.value == 1 and status.detail["density_per_m2"] is None
    assert status.detail["flow"]["picture_deg"] == 90
    assert status.detail["flow"]["speed_share_s"] == pytest.approx(0.1, rel=0.05)
