"""Litter overflow: bins by the majority of looks, garbage by how long it lies."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vision.build import at, cleared, raised, sight, tell, track, updates, zone
from vision.model import Box, Category, Label, Presence, Track
from vision.rule import ZoneState
from vision.rules.litter_overflow import RULE
from vision.view import View

BIN = (0.3, 0.4, 0.36, 0.55)
BAG = (0.6, 0.5, 0.66, 0.56)
ZONE = zone(RULE, hold_s=10, stay_s=20)


def bin_seen(full: bool, track_id: int = 1) -> Track:
    return track(Label.BIN_OVERFLOW if full else Label.BIN, BIN, track_id=track_id)


def test_a_bin_that_overflows_is_raised_after_its_time_and_cleared_when_emptied() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [bin_seen(5 <= now_s < 40)], seconds=60)
    (up,), (down,) = raised(findings), cleared(findings)
    assert up.category is Category.BIN_OVERFLOW and down.key == up.key
    assert (up.started_at - at(0)).total_seconds() == pytest.approx(5, abs=0.5)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(15, abs=0.5)
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


@pytest.mark.parametrize(
    ("score", "behind", "number"), [(0.7, None, 1), (0.7, (0.2, 0.3, 0.5, 0.5), 0), (0.55, None, 0)]
)
def test_with_something_behind_it_a_bin_must_be_surer_to_overflow(
    score: float, behind: Box | None, number: int
) -> None:
    """A car behind a bin looks like what overflows; so does nothing at all, a little."""

    def story(now_s: float) -> Sequence[Track]:
        full = track(Label.BIN_OVERFLOW, BIN, score=score)
        return [full] if behind is None else [full, track(Label.VEHICLE, behind, track_id=2)]

    _, findings = tell(RULE, ZONE, story, seconds=40)
    assert len(raised(findings)) == number


@pytest.mark.parametrize(
    ("from_s", "who", "number"),
    [(5.0, (0.31, 0.3, 0.35, 0.52), 1), (9.5, (0.31, 0.3, 0.35, 0.52), 0), (9.5, (0.3, 0.39, 0.36, 0.55), 1)],
)
def test_somebody_who_stepped_behind_a_bin_is_not_what_it_holds(from_s: float, who: Box, number: int) -> None:
    """From 10 s to 35 s nobody is seen where somebody stood at the bin, which seems to overflow: before, or since. Whoever
    has the bin's own box was the bin, mistaken."""

    def story(now_s: float) -> Sequence[Track]:
        full = track(Label.BIN_OVERFLOW if from_s <= now_s < 36 else Label.BIN, BIN)
        missed_s = now_s - 10 if 10 <= now_s < 35 else 0.0
        gone = 14 < now_s < 35 or now_s > 40
        return [full] if gone else [full, track(Label.PERSON, who, track_id=2, missed_s=missed_s)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert len(raised(findings)) == number


def test_a_bin_that_was_hidden_for_long_must_be_seen_to_overflow_anew() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [] if 8 < now_s < 20 else [bin_seen(now_s > 2)]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    (up,) = raised(findings)
    assert (up.started_at - at(0)).total_seconds() == pytest.approx(20, abs=0.5)


def test_garbage_that_is_gone_is_not_hidden_by_what_stands_behind_it() -> None:
    """A car that waits behind the place is in nobody's way: what lies there next is another piece."""

    def story(now_s: float) -> Sequence[Track]:
        car = track(Label.VEHICLE, (0.5, 0.3, 0.9, 0.54), track_id=9)
        lies = 5 <= now_s < 17 or 30 <= now_s < 42
        piece = track(Label.GARBAGE, BAG, track_id=int(now_s) // 20, born_s=5 + now_s // 20 * 25, still_since_s=None)
        return [car, piece] if lies else [car]

    _, findings = tell(RULE, ZONE, story, seconds=60)
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
        return [bin_seen(False)] if now_s < 40 else [track(Label.GARBAGE, (0.301, 0.41, 0.359, 0.548), track_id=2)]

    _, findings = tell(RULE, ZONE, look, seconds=200)
    assert findings == []


def test_a_bag_that_was_once_taken_for_a_bin_does_not_shield_garbage_at_its_place() -> None:
    def look(now_s: float) -> list[Track]:
        if now_s < 8:
            return [bin_seen(False)]
        return [track(Label.GARBAGE, BIN, born_s=30, still_since_s=30, track_id=2)] if now_s >= 30 else []

    _, findings = tell(RULE, ZONE, look, seconds=60)
    assert [finding.category for finding in findings] == [Category.EXPOSED_GARBAGE]


def test_a_bag_far_from_the_bin_is_still_garbage_when_the_bin_is_known() -> None:
    def look(now_s: float) -> list[Track]:
        return [bin_seen(False)] + ([track(Label.GARBAGE, BAG, track_id=2)] if now_s >= 20 else [])

    _, findings = tell(RULE, ZONE, look, seconds=120)
    assert [finding.category for finding in findings] == [Category.EXPOSED_GARBAGE]


# ---- what the background says ----------------------------------------------------------------------------------


def painted(*things: Box, learnt_s: float = -60.0) -> View:
    """A grey road, and the things on it that the slow background does not know."""
    picture = np.full((360, 640, 3), 110, np.uint8)
    for x1, y1, x2, y2 in things:
        picture[round(y1 * 360) : round(y2 * 360), round(x1 * 640) : round(x2 * 640)] = 25
    return View(picture=picture, background=np.full((180, 320), 110, np.float32), learnt_at=at(learnt_s))


def bag(seen_s: float = 5.0, box: Box = BAG, track_id: int = 1, score: float = 0.8) -> Track:
    return track(Label.GARBAGE, box, born_s=seen_s, still_since_s=seen_s, track_id=track_id, score=score)


def test_garbage_that_the_background_knows_nothing_of_is_raised_in_its_time() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [bag()] if now_s >= 5 else [], seconds=40, view=lambda _: painted(BAG))
    (up,) = findings
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(25, abs=0.5)
    assert up.detail["background"] == "changed"


def test_a_manhole_that_the_detector_takes_for_garbage_is_never_raised() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [bag()] if now_s >= 5 else [], seconds=200, view=lambda _: painted())
    assert findings == []


def test_what_lay_there_before_the_background_was_known_needs_a_surer_detector_and_more_time() -> None:
    def lain(score: float) -> list[float]:
        _, findings = tell(
            RULE, ZONE, lambda _: [bag(0.0, score=score)], seconds=100, view=lambda _: painted(learnt_s=20)
        )
        return [(finding.raised_at - at(0)).total_seconds() for finding in findings]

    assert lain(0.45) == []
    assert lain(0.8) == [pytest.approx(60, abs=1)]


def test_a_place_whose_garbage_was_taken_for_background_has_the_detectors_word_alone() -> None:
    def story(now_s: float) -> Sequence[Track]:
        return [bag(0.0)] if now_s < 30 else [] if now_s < 50 else [bag(50.0, track_id=2)]

    # the heap was there when the background was learnt at 10 s: the same sort of heap again changes nothing
    _, findings = tell(RULE, ZONE, story, seconds=90, view=lambda _: painted(learnt_s=10))
    assert [(one.raised_at - at(0)).total_seconds() for one in raised(findings)] == [pytest.approx(70, abs=1)]


def test_garbage_is_not_garbage_while_somebody_stands_beside_it() -> None:
    def story(now_s: float) -> Sequence[Track]:
        owner = track(Label.PERSON, (0.67, 0.4, 0.70, 0.56), track_id=7)
        return [bag(), *([owner] if now_s < 60 else [])]

    _, findings = tell(RULE, ZONE, story, seconds=100)
    (up,) = findings
    assert 60 < (up.raised_at - at(0)).total_seconds() < 70


def test_garbage_counts_from_when_the_person_stopped_who_left_it() -> None:
    def story(now_s: float) -> Sequence[Track]:
        if 10 <= now_s < 12.5:
            return [track(Label.PERSON, (0.61, 0.4, 0.64, 0.57), track_id=7, born_s=5, still_since_s=10)]
        return [bag(13.0)] if now_s >= 13.5 else []

    _, (up,) = tell(RULE, ZONE, story, seconds=50)
    assert (up.started_at - at(0)).total_seconds() == pytest.approx(10, abs=0.1)


def test_people_walking_past_do_not_put_it_off_for_ever() -> None:
    def story(now_s: float) -> Sequence[Track]:
        walker = track(Label.PERSON, (0.67, 0.4, 0.70, 0.56), track_id=7, still_since_s=None)
        return [bag(), *([walker] if now_s % 4 < 2 else [])]

    _, findings = tell(RULE, ZONE, story, seconds=60)
    assert len(findings) == 1


# ---- growth and the dirty road ---------------------------------------------------------------------------------

GROUND = {"points": [[0.1, 0.9], [0.9, 0.9], [0.7, 0.3], [0.3, 0.3]], "metres": [[-4, 6], [4, 6], [5, 20], [-5, 20]]}
MEASURED = zone(RULE, hold_s=10, stay_s=20, ground=GROUND)


def test_a_heap_that_grows_is_told_of_again_under_its_own_key_and_as_more_severe() -> None:
    small, large = (0.6, 0.6, 0.68, 0.66), (0.56, 0.54, 0.82, 0.7)

    def story(now_s: float) -> Sequence[Track]:
        return [bag(0.0, small if now_s < 60 else large)] if now_s < 150 else []

    _, findings = tell(RULE, MEASURED, story, seconds=180)
    (up,), (down,) = raised(findings), cleared(findings)
    more = updates(findings)
    assert more and {finding.key for finding in findings} == {up.key} and down.key == up.key
    assert up.severity is None and more[-1].severity == 2
    assert more[-1].detail["area_m2"] > 1.5 * up.detail["area_m2"]


def test_a_heap_of_one_size_is_told_of_once() -> None:
    rng = random.Random(5)

    def story(now_s: float) -> Sequence[Track]:
        slip = rng.uniform(-0.006, 0.006)
        return [bag(0.0, (0.6 + slip, 0.6, 0.68 - slip, 0.66 + slip))]

    _, findings = tell(RULE, MEASURED, story, seconds=200)
    assert len(findings) == 1


def test_many_pieces_all_over_the_zone_are_one_dirty_road() -> None:
    boxes = [(0.1 + 0.2 * i, 0.3 + 0.5 * (i % 2), 0.14 + 0.2 * i, 0.34 + 0.5 * (i % 2)) for i in range(5)]

    def story(now_s: float) -> Sequence[Track]:
        there = boxes if now_s < 60 else boxes[:1] if now_s < 90 else []
        return [bag(0.1 * i, box, track_id=i + 1) for i, box in enumerate(there)]

    _, findings = tell(RULE, ZONE, story, seconds=63)
    (up,) = raised(findings)
    assert up.category is Category.DIRTY_ROAD and up.detail["pieces"] == 5
    _, findings = tell(RULE, ZONE, story, seconds=120)
    assert next(finding.category for finding in cleared(findings)) is Category.DIRTY_ROAD
    judged = RULE.judge(RULE.fresh(), sight(story(0)), ZONE, Category.DIRTY_ROAD)
    assert judged is Presence.THERE
    assert RULE.judge(RULE.fresh(), sight(story(70)), ZONE, Category.DIRTY_ROAD) is Presence.GONE


def test_many_pieces_at_one_place_are_a_heap_and_no_dirty_road() -> None:
    boxes = [(0.5 + 0.05 * i, 0.5, 0.54 + 0.05 * i, 0.56) for i in range(4)]
    story = [bag(0.0, box, track_id=i + 1) for i, box in enumerate(boxes)]
    _, findings = tell(RULE, ZONE, lambda _: story, seconds=60)
    assert {finding.category for finding in findings} == {Category.EXPOSED_GARBAGE}


def test_only_bins_that_the_engineer_marked_are_judged() -> None:
    marked, elsewhere = zone(RULE, hold_s=10, bins=[[0.33, 0.5]]), zone(RULE, hold_s=10, bins=[[0.8, 0.8]])
    assert len(tell(RULE, marked, lambda _: [bin_seen(True)], seconds=30)[1]) == 1
    assert tell(RULE, elsewhere, lambda _: [bin_seen(True)], seconds=30)[1] == []


def test_an_overflowing_bin_unseen_for_minutes_is_no_second_finding_when_it_is_seen_again() -> None:
    _, findings = tell(RULE, ZONE, lambda now_s: [] if 30 < now_s < 330 else [bin_seen(now_s > 5)], seconds=360)
    assert len(findings) == 1


@settings(max_examples=15, deadline=None)
@given(
    looks=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.floats(0.2, 1.0), st.sampled_from([0.25, 1.0, 3.0, 400.0])),
        min_size=5,
        max_size=40,
    )
)
def test_whatever_is_seen_each_episode_is_raised_once_before_it_is_cleared_once(
    looks: list[tuple[bool, bool, float, float]],
) -> None:
    """Bins and bags come and go, scores waver, nobody looks for minutes: keys stay in order."""
    state, now_s, open_keys, done_keys = RULE.fresh(), 0.0, set(), set()
    quick = zone(RULE, hold_s=2, stay_s=2, clear_s=1)
    for full, lying, score, wait_s in looks:
        for _ in range(6):
            now_s += wait_s if wait_s > 100 else 0.5 * wait_s
            tracks = [bin_seen(full), *([bag(now_s - 1, score=score)] if lying else [])]
            state, findings = RULE.step(RULE.load(RULE.dump(state)), sight(tracks, now_s), quick)
            for finding in findings:
                if finding.cleared_at is not None:
                    assert finding.key in open_keys
                    open_keys.discard(finding.key)
                    done_keys.add(finding.key)
                elif finding.update:
                    assert finding.key in open_keys
                else:
                    assert finding.key not in open_keys | done_keys
                    open_keys.add(finding.key)
            assert (RULE.status(state, quick).state is ZoneState.RAISED) == bool(open_keys)
