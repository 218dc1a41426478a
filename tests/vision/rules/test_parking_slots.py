"""Illegal parking with the picture at hand: what a place looks like decides where the detector says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.vision.build import at, cleared, raised, track, zone
from vision.background import BackgroundState, learn_background
from vision.model import Box, Finding, Label, Picture, Track
from vision.motion import shrink
from vision.rule import AnyZone, ZoneState
from vision.rules.illegal_parking import RULE
from vision.sight import Sight
from vision.view import View

CAR: Box = (0.3, 0.4, 0.5, 0.6)
ZONE = zone(RULE, dwell_s=20)
RED, BLUE = (40.0, 40.0, 200.0), (200.0, 90.0, 40.0)
_NOISE = np.random.default_rng(1)
ROAD = _NOISE.normal(110, 4, (180, 320, 1)).repeat(3, 2)


def paint(picture: Picture, box: Box, colour: tuple[float, float, float], seed: int) -> Picture:
    """A thing with windows and wheels of its own in a box."""
    x1, y1, x2, y2 = round(box[0] * 320), round(box[1] * 180), round(box[2] * 320), round(box[3] * 180)
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0.2, 0.6, 1.0, 1.3], (4, 6)).repeat(-(-(y2 - y1) // 4), 0).repeat(-(-(x2 - x1) // 6), 1)
    body = np.array(colour) * blocks[: y2 - y1, : x2 - x1, None]
    result = picture.copy()
    result[y1:y2, x1:x2] = np.clip(body, 0, 255)
    return result


def street(*things: tuple[Box, tuple[float, float, float], int], light: float = 1.0) -> Picture:
    picture = np.clip(ROAD, 0, 255).astype(np.uint8)
    for box, colour, seed in things:
        picture = paint(picture, box, colour, seed)
    return np.asarray(np.clip(picture * light, 0, 255), np.uint8)


Scene = tuple[Sequence[Track], Picture]


def watch(
    story: Callable[[float], Scene | None],
    seconds: float,
    *,
    where: AnyZone = ZONE,
    from_s: float = 0.0,
    state: Any = None,
    timezone: str = "UTC",
) -> tuple[Any, list[Finding]]:
    """Two looks a second; the state goes through JSON now and then."""
    state = RULE.fresh() if state is None else state
    background, findings = BackgroundState(), list[Finding]()
    for index in range(int(seconds * 2) + 1):
        now_s = from_s + index / 2
        scene = story(now_s)
        if scene is None:
            continue
        tracks, picture = scene
        background = learn_background(background, shrink(picture), at(now_s))
        view = View(picture=picture, background=background.grey, learnt_at=background.learnt_at)
        if index % 20 == 0:
            state = RULE.load(RULE.dump(state))
        sight = Sight(at=at(now_s), tracks=tracks, view=view, timezone=timezone)
        state, found = RULE.step(state, sight, where)
        findings += found
    return state, findings


def parked(
    now_s: float,
    since_s: float,
    *,
    track_id: int = 1,
    box: Box = CAR,
    way: tuple[float, float] = (-0.3, 0.0),
) -> list[Track]:
    """It drives in for three seconds along `way`."""
    if now_s < since_s - 3:
        return []
    if now_s < since_s:
        share = (since_s - now_s) / 3
        x, y = way[0] * share, way[1] * share
        moving = (box[0] + x, box[1] + y, box[2] + x, box[3] + y)
        return [track(Label.VEHICLE, moving, track_id=track_id, born_s=since_s - 3, still_since_s=None)]
    still = since_s if now_s - since_s >= 1 else None
    return [track(Label.VEHICLE, box, track_id=track_id, born_s=since_s - 3, still_since_s=still)]


def seen(now_s: float, since_s: float, until_s: float = 1e9, *, hidden: bool = False, light: float = 1.0) -> Scene:
    there = since_s <= now_s < until_s
    picture = street((CAR, RED, 7), light=light) if there else street(light=light)
    tracks = parked(now_s, since_s) if now_s < until_s and not hidden else []
    return tracks, picture


def seconds(finding: Finding) -> float:
    return (finding.started_at - at(0)).total_seconds()


def test_a_car_that_the_detector_loses_while_its_place_looks_the_same_is_still_there() -> None:
    """By night, and the detector misses it for most of a minute; after that it is found under another track."""

    def story(now_s: float) -> Scene:
        tracks, picture = seen(now_s, 30, hidden=40 <= now_s < 55, light=0.5 if now_s > 42 else 1.0)
        return ([track(Label.VEHICLE, CAR, track_id=5, born_s=55)] if now_s >= 55 else tracks), picture

    _, findings = watch(story, 120)
    (up,) = raised(findings)
    assert seconds(up) == pytest.approx(30, abs=1) and not cleared(findings)
    assert up.detail["unseen_s"] > 10


def test_a_reported_car_is_neither_cleared_by_headlights_nor_reported_again() -> None:
    def story(now_s: float) -> Scene:
        tracks, picture = seen(now_s, 30, until_s=130, hidden=60 <= now_s < 75)
        if 60 <= now_s < 75:  # glare over the place: nothing is detected, and it looks like nothing known
            picture = paint(picture, (0.25, 0.35, 0.55, 0.65), (250.0, 250.0, 250.0), int(now_s))
        return tracks, picture

    _, findings = watch(story, 150)
    (up,), (down,) = raised(findings), cleared(findings)
    assert down.key == up.key and down.cleared_at is not None
    assert 134 <= (down.cleared_at - at(0)).total_seconds() <= 138


@pytest.mark.parametrize(("gap_s", "number"), [(0.0, 0), (6.0, 1)])
def test_a_track_carried_off_by_a_car_in_front_is_no_change_of_vehicles(gap_s: float, number: int) -> None:
    """At 40 s another track that was seen driving comes to rest where one stood from the start: at once, or `gap_s` later."""

    def story(now_s: float) -> Scene:
        if now_s < 40:
            return [track(Label.VEHICLE, CAR)], street((CAR, RED, 7))
        if now_s < 40 + gap_s:
            return [], street()
        taken_over = parked(now_s, 40 + gap_s, track_id=2)
        # wet road and headlights: it does not look as before
        return taken_over, paint(street((CAR, RED, 7)), (0.3, 0.4, 0.42, 0.6), (250.0, 250.0, 250.0), 3)

    assert len(raised(watch(story, 90)[1])) == number


def test_time_behind_a_bus_counts_is_marked_and_is_bounded() -> None:
    bus: Box = (0.1, 0.25, 0.8, 0.7)

    def story(now_s: float, bus_s: float) -> Scene:
        tracks, picture = seen(now_s, 30)
        if 35 <= now_s < 35 + bus_s:
            here = track(Label.VEHICLE, bus, track_id=9, born_s=33, still_since_s=36 if now_s >= 37 else None)
            return [here], paint(picture, bus, BLUE, 3)
        return tracks, picture

    _, findings = watch(lambda now_s: story(now_s, 25), 70)
    (up,) = raised(findings)
    assert seconds(up) == pytest.approx(30, abs=1) and up.detail["occluded_s"] == pytest.approx(25, abs=2)
    assert (up.raised_at - at(0)).total_seconds() == pytest.approx(60, abs=2)  # never while it cannot be seen
    short = zone(RULE, dwell_s=20, occluded_max_s=10, reopen_s=0)
    _, findings = watch(lambda now_s: story(now_s, 60), 60, where=short)
    assert raised(findings) == []


def test_the_same_car_back_in_its_place_is_the_same_episode_and_another_one_is_not() -> None:
    def story(now_s: float, colour: tuple[float, float, float], seed: int) -> Scene:
        if now_s < 70:
            return seen(now_s, 30, until_s=62)
        there = now_s >= 90
        return parked(now_s, 90, track_id=2), street((CAR, colour, seed)) if there else street()

    _, findings = watch(lambda now_s: story(now_s, RED, 7), 140)
    assert len(raised(findings)) == 1 and len(cleared(findings)) == 1
    _, findings = watch(lambda now_s: story(now_s, BLUE, 8), 140)
    assert len({finding.key for finding in raised(findings)}) == 2


WAITING: Box = (0.25, 0.5, 0.55, 0.75)
"""Of a car that stands before the lower half of the place."""


def changeover(now_s: float, away_s: float, first: int, second: int, until_s: float = 999.0) -> Scene:
    """The first car stands from 10 s to `away_s`; another waits before the place and hides it; when that has gone, a car
    drives in and stands from 10 s later on."""
    waits = away_s - 4 <= now_s < away_s + 8
    if now_s < away_s:
        tracks, cars = parked(now_s, 10) if not waits else [], [(CAR, RED, first)] if now_s >= 10 else []
    else:
        there = away_s + 10 <= now_s < until_s
        tracks = parked(now_s, away_s + 10, track_id=2) if now_s < until_s else []
        cars = [(CAR, RED, second)] if there else []
    if waits:
        still = away_s - 3 if now_s >= away_s - 2 else None
        tracks = [*tracks, track(Label.VEHICLE, WAITING, track_id=9, born_s=away_s - 6, still_since_s=still)]
        cars = [*cars, (WAITING, BLUE, 3)]
    return tracks, street(*cars)


def test_another_car_in_the_place_of_one_that_left_unseen_is_reported_and_counted_from_its_own_arrival() -> None:
    """What waits in front is not learnt as the look of the place, nor is the second car taken for the reported one."""
    _, findings = watch(lambda now_s: changeover(now_s, 40, 7, 8), 80)
    first, second = raised(findings)
    assert seconds(first) == pytest.approx(10, abs=1) and seconds(second) == pytest.approx(50, abs=1)
    assert [finding.key for finding in cleared(findings)] == [first.key]


def test_two_brief_stops_of_cars_that_follow_each_other_unseen_are_no_long_one() -> None:
    _, findings = watch(lambda now_s: changeover(now_s, 22, 7, 8, until_s=44), 70)
    assert findings == []


@pytest.mark.parametrize(("second", "number"), [(7, 1), (8, 2)])
def test_after_a_restart_another_car_is_found_where_a_reported_one_was_about_to_be_told_gone(
    second: int, number: int
) -> None:
    """It drove off two seconds before nobody looked for fifteen; the same one back in its place goes on as it was."""
    state, findings = watch(lambda now_s: seen(now_s, 10, until_s=40), 42)
    later = lambda now_s: (  # noqa: E731
        [track(Label.VEHICLE, CAR, track_id=77, born_s=57, still_since_s=57)],
        street((CAR, RED, second)),
    )
    _, after = watch(later, 40, from_s=57, state=RULE.load(RULE.dump(state)))
    assert len(raised(findings) + raised(after)) == number and len(cleared(after)) == number - 1


def test_a_thing_found_late_at_a_place_that_never_changed_was_there_from_the_start() -> None:
    """A vehicle that the detector sees for the first time after a minute, and something that is not a vehicle at all."""

    def story(now_s: float) -> Scene:
        here = [track(Label.VEHICLE, CAR, born_s=60, still_since_s=60 if now_s > 61 else None)] if now_s >= 60 else []
        return here, street((CAR, RED, 7))

    state, findings = watch(story, 120)
    assert findings == [] and state.slots[0].present
    assert RULE.status(state, ZONE).state is ZoneState.QUIET


def test_a_restart_in_the_middle_neither_resets_nor_repeats() -> None:
    state, findings = watch(lambda now_s: seen(now_s, 30), 40)
    assert findings == []
    # a minute later, with new track ids
    later = lambda now_s: ([track(Label.VEHICLE, CAR, track_id=77, born_s=100)], street((CAR, RED, 7)))  # noqa: E731
    _, findings = watch(later, 60, from_s=100, state=RULE.load(RULE.dump(state)))
    (up,) = raised(findings)
    assert seconds(up) == pytest.approx(30, abs=1) and (up.raised_at - at(0)).total_seconds() < 105


def row(now_s: float, leaves_s: float, *, count: int) -> Scene:
    """Cars one behind the other, stopping two seconds apart, driving on from `leaves_s`."""
    tracks: list[Track] = []
    for number in range(count):
        box = (0.6 - 0.22 * number, 0.4, 0.8 - 0.22 * number, 0.6)
        gone_s = leaves_s + number
        if now_s < gone_s:
            tracks += parked(now_s, 10 + 2 * number, track_id=number + 1, box=box)
        elif now_s < gone_s + 3:
            ahead = 0.1 * (now_s - gone_s) + 0.05
            moving = (box[0] + ahead, box[1], box[2] + ahead, box[3])
            tracks += [track(Label.VEHICLE, moving, track_id=number + 1, born_s=5, still_since_s=None)]
    return tracks, street()


@pytest.mark.parametrize("count", [2, 3])
def test_a_queue_that_waits_longer_than_allowed_and_drives_on_opens_nothing(count: int) -> None:
    _, findings = watch(lambda now_s: row(now_s, 55, count=count), 90)
    assert findings == []
    _, findings = watch(lambda now_s: row(now_s, 55, count=count), 90, where=zone(RULE, dwell_s=20, queue_hold_s=0))
    assert len(raised(findings)) == count


def test_a_row_that_never_moves_is_parked_in_the_end() -> None:
    _, findings = watch(lambda now_s: row(now_s, 999, count=3), 120)
    assert len(raised(findings)) == 3
    assert all(75 <= (found.raised_at - found.started_at).total_seconds() <= 82 for found in raised(findings))


def test_cars_that_stop_side_by_side_are_no_queue() -> None:
    def story(now_s: float) -> Scene:
        other = (0.3, 0.65, 0.5, 0.85)
        return [*parked(now_s, 10), *parked(now_s, 12, track_id=2, box=other)], street()

    _, findings = watch(story, 45)
    assert sorted(round((found.raised_at - found.started_at).total_seconds()) for found in findings) == [20, 20]


def test_hours_allow_and_limit() -> None:
    """The story begins at 16:00 in Shanghai on a Sunday."""

    def limit(**window: Any) -> list[Finding]:
        where = zone(RULE, dwell_s=20, hours=[window])
        return raised(watch(lambda now_s: seen(now_s, 30), 110, where=where, timezone="Asia/Shanghai")[1])

    (up,) = limit(days=["sun"], begins="15:00", ends="17:00", dwell_s=60)
    assert (up.raised_at - up.started_at).total_seconds() == pytest.approx(60, abs=1)
    assert limit(days=["sun"], begins="15:00", ends="17:00", allow=True) == []
    (up,) = limit(days=["mon"], begins="15:00", ends="17:00", allow=True)
    assert (up.raised_at - up.started_at).total_seconds() == pytest.approx(20, abs=1)
    (up,) = limit(
        days=["sat"], begins="22:00", ends="16:01", allow=True
    )  # over midnight, until a minute after the start
    assert seconds(up) == pytest.approx(60, abs=1) and up.detail["stopped_at"] < up.started_at.isoformat()


@pytest.mark.parametrize(("x", "inside"), [(0.30, True), (0.42, True), (0.56, False), (0.62, False)])
def test_the_ground_under_the_vehicle_decides_and_not_one_point(x: float, inside: bool) -> None:
    bay = zone(RULE, dwell_s=5, polygon=[[0.2, 0.3], [0.65, 0.3], [0.65, 0.9], [0.2, 0.9]])
    box = (x, 0.4, x + 0.2, 0.6)
    _, findings = watch(lambda now_s: (parked(now_s, 10, box=box), street()), 20, where=bay)
    assert bool(findings) is inside
