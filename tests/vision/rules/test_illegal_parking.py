"""Illegal parking: by place and wall clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vision.build import at, cleared, raised, sight, tell, track, zone
from vision.model import Category, Label, Presence, Track
from vision.rules.illegal_parking import RULE

CAR = (0.3, 0.4, 0.5, 0.6)
ZONE = zone(RULE, dwell_s=10)


def car(
    now_s: float, *, arrived_s: float, track_id: int = 1, box: tuple[float, float, float, float] = CAR
) -> list[Track]:
    """A car that drives in from the left and stands from `arrived_s` on."""
    if now_s < arrived_s - 3:
        return []
    if now_s < arrived_s:
        shift = (now_s - arrived_s) * 0.3
        moving = (box[0] + shift, box[1], box[2] + shift, box[3])
        return [track(Label.VEHICLE, moving, track_id=track_id, born_s=arrived_s - 3, still_since_s=None)]
    still = arrived_s if now_s - arrived_s >= 1 else None
    return [track(Label.VEHICLE, box, track_id=track_id, born_s=arrived_s - 3, still_since_s=still)]


def test_a_car_that_stays_longer_than_allowed_is_raised_once_and_cleared_once() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return car(now_s, arrived_s=5) if now_s < 30 else []

    _, findings = tell(RULE, ZONE, story, seconds=50)
    (up,), (down,) = raised(findings), cleared(findings)
    assert (up.started_at - at(0)).total_seconds() == pytest.approx(5, abs=0.5)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(15, abs=0.5)
    assert down.key == up.key and down.raised_at == up.raised_at
    assert down.cleared_at is not None and 35 <= (down.cleared_at - at(0)).total_seconds() <= 36
    assert up.category is Category.ILLEGAL_PARKING and up.zone == "zone"


@pytest.mark.parametrize("every_s", [0.1, 0.33, 1.0])
def test_the_wall_clock_counts_and_not_the_frames(every_s: float) -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: car(now_s, arrived_s=6), seconds=40, every_s=every_s)
    (up,) = raised(findings)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(16, abs=1.2)


def test_a_car_that_moves_on_before_the_time_opens_nothing() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: car(now_s, arrived_s=5) if now_s < 14 else [], seconds=40)
    assert findings == []


def test_a_queue_that_moves_up_opens_nothing_though_the_place_is_never_empty_for_long() -> None:
    """Every 7 s another car takes the place at the stop line."""

    def story(now_s: float) -> Sequence[Track]:
        turn = int((now_s - 5) // 7)
        if now_s < 5:
            return []
        arrived_s = 5 + turn * 7
        if now_s - arrived_s < 1:  # rolls in
            shift = (now_s - arrived_s - 1) * 0.3
            box = (CAR[0] + shift, CAR[1], CAR[2] + shift, CAR[3])
            return [track(Label.VEHICLE, box, track_id=turn, born_s=arrived_s - 5, still_since_s=None)]
        still = arrived_s + 1.0
        return [
            track(
                Label.VEHICLE,
                CAR,
                track_id=turn,
                born_s=arrived_s - 5,
                still_since_s=still if now_s - still >= 1 else None,
            )
        ]

    _, findings = tell(RULE, ZONE, story, seconds=80)
    assert findings == []


def test_traffic_that_passes_the_same_place_again_and_again_opens_nothing() -> None:
    """A stream of cars, each seen for a moment under an id of its own."""

    def story(now_s: float) -> Sequence[Track]:
        number = int(now_s)
        return [track(Label.VEHICLE, CAR, track_id=number, born_s=number, still_since_s=None)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert findings == []


def test_another_track_id_does_not_begin_the_time_anew() -> None:
    def story(now_s: float) -> Sequence[Track]:
        if now_s < 5:
            return []
        piece = int((now_s - 5) // 3)
        born_s = 5 + piece * 3
        still = born_s if now_s - born_s >= 1 else None
        return [track(Label.VEHICLE, CAR, track_id=piece, born_s=born_s, still_since_s=still)]

    _, findings = tell(RULE, ZONE, story, seconds=25)
    (up,) = raised(findings)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(15, abs=1)


def test_a_person_walking_in_front_does_not_begin_the_time_anew() -> None:
    def story(now_s: float) -> Sequence[Track]:
        if 9 <= now_s < 12:
            return [track(Label.PERSON, (0.35, 0.3, 0.48, 0.65), track_id=9, still_since_s=None)]
        return car(now_s, arrived_s=5)

    _, findings = tell(RULE, ZONE, story, seconds=25)
    (up,) = raised(findings)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(15, abs=0.5)


def test_a_bus_that_hides_a_reported_car_for_a_while_does_not_end_the_episode() -> None:
    def story(now_s: float) -> Sequence[Track]:
        if 20 <= now_s < 45:
            return [track(Label.VEHICLE, (0.1, 0.2, 0.8, 0.7), track_id=7, born_s=19, still_since_s=None)]
        return car(now_s, arrived_s=5)

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert len(findings) == 1


def test_what_stood_there_when_watching_began_is_known_and_not_reported() -> None:
    story = lambda now_s: [track(Label.VEHICLE, CAR, still_since_s=0 if now_s >= 1 else None)]  # noqa: E731
    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert findings == []
    _, findings = tell(RULE, zone(RULE, dwell_s=10, include_present=True), story, seconds=60)
    assert len(findings) == 1


def test_a_car_beside_the_zone_is_not_its_business() -> None:
    narrow = zone(RULE, dwell_s=10, polygon=[[0.6, 0.3], [0.9, 0.3], [0.9, 0.9], [0.6, 0.9]])
    _, findings = tell(RULE, narrow, lambda now_s: car(now_s, arrived_s=5), seconds=40)
    assert findings == []


def test_nothing_is_concluded_from_a_time_in_which_nobody_looked() -> None:
    """The stream is lost for a minute: the reported car is not called gone, and not reported again."""

    def story(now_s: float) -> Sequence[Track] | None:
        if 20 <= now_s < 80:
            return None
        # the detector needs a moment to find it again
        return [] if 80 <= now_s < 82 else car(now_s, arrived_s=5)

    _, findings = tell(RULE, ZONE, story, seconds=110)
    assert len(findings) == 1


def test_a_car_that_came_in_a_long_time_without_looks_stands_since_it_was_seen() -> None:
    def story(now_s: float) -> Sequence[Track] | None:
        if 10 <= now_s < 1000:
            return None
        return [] if now_s < 10 else [track(Label.VEHICLE, CAR, born_s=1000, still_since_s=1000)]

    _, findings = tell(RULE, ZONE, story, seconds=1030)
    (up,) = raised(findings)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(1010, abs=0.5)


def test_a_car_seen_before_and_after_a_long_time_without_looks_may_be_another_one() -> None:
    def story(now_s: float) -> Sequence[Track] | None:
        if 10 <= now_s < 1000:
            return None
        return car(now_s, arrived_s=5) if now_s < 10 else [track(Label.VEHICLE, CAR, track_id=2, born_s=1000)]

    _, findings = tell(RULE, ZONE, story, seconds=1030)
    (up,) = raised(findings)
    assert (up.raised_at - at(0)).total_seconds() > 1007


def test_something_seen_there_only_now_and_then_opens_nothing() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return car(now_s, arrived_s=5) if now_s % 3 < 0.6 else []

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert findings == []


def test_two_cars_side_by_side_are_two_episodes() -> None:
    other = (0.3, 0.65, 0.5, 0.85)

    def story(now_s: float) -> Sequence[Track]:
        return [*car(now_s, arrived_s=5), *car(now_s, arrived_s=8, track_id=2, box=other)]

    _, findings = tell(RULE, ZONE, story, seconds=30)
    assert len({finding.key for finding in findings}) == len(findings) == 2


def test_a_check_sees_a_standing_car_and_not_one_that_drives_through_or_was_always_there() -> None:
    state, _ = tell(RULE, ZONE, lambda now_s: [], seconds=10)
    standing = [track(Label.VEHICLE, CAR, still_since_s=1)]
    passing = [track(Label.VEHICLE, CAR, still_since_s=None)]
    assert RULE.judge(state, sight(standing), ZONE, Category.ILLEGAL_PARKING) is Presence.THERE
    assert RULE.judge(state, sight(passing), ZONE, Category.ILLEGAL_PARKING) is Presence.GONE
    always, _ = tell(RULE, ZONE, lambda now_s: standing, seconds=10)
    assert RULE.judge(always, sight(standing), ZONE, Category.ILLEGAL_PARKING) is Presence.GONE


def test_a_check_does_not_call_a_place_empty_that_something_hides() -> None:
    state, findings = tell(RULE, ZONE, lambda now_s: car(now_s, arrived_s=5), seconds=20)
    assert len(findings) == 1
    bus = [track(Label.VEHICLE, (0.1, 0.2, 0.8, 0.7), track_id=7, still_since_s=None)]
    assert RULE.judge(state, sight(bus), ZONE, Category.ILLEGAL_PARKING) is Presence.HIDDEN


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.7), st.floats(0, 0.7), st.integers(0, 3), st.booleans(), st.booleans()), max_size=60
    )
)
def test_whatever_is_seen_an_episode_is_raised_once_and_cleared_after_it(
    looks: list[tuple[float, float, int, bool, bool]],
) -> None:
    def story(now_s: float) -> Sequence[Track]:
        index = round(now_s)
        if index >= len(looks):
            return []
        x, y, number, still, empty = looks[index]
        if empty:
            return []
        box = (round(x, 1), round(y, 1), round(x, 1) + 0.2, round(y, 1) + 0.2)
        return [track(Label.VEHICLE, box, track_id=number, still_since_s=now_s - 2 if still else None)]

    _, findings = tell(RULE, zone(RULE, dwell_s=3, include_present=True), story, seconds=80, every_s=1.0)
    seen: set[str] = set()
    for finding in findings:
        assert (finding.key in seen) == (finding.cleared_at is not None)
        seen.add(finding.key)
    assert len(cleared(findings)) == len(raised(findings)) == len(seen)
