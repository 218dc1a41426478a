"""Tracks: ids that stay, weak detections that carry on, things that rest."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vision.build import at, detections
from vision.model import Box, Label, Track
from vision.track import TrackerState, follow

Seen = tuple[Label, Box, float]


def run(looks: list[list[Seen]], every_s: float = 0.2) -> list[tuple[Track, ...]]:
    state, told = TrackerState(), []
    for index, seen in enumerate(looks):
        state, tracks = follow(state, detections(*seen), at(index * every_s))
        told.append(tracks)
    return told


def walker(index: int, *, step: float = 0.01, y: float = 0.5, score: float = 0.8) -> Seen:
    x = 0.1 + index * step
    return (Label.PERSON, (x, y, x + 0.04, y + 0.2), score)


def test_a_person_who_walks_keeps_one_id_and_is_told_from_the_second_look_on() -> None:
    told = run([[walker(index)] for index in range(40)])
    assert told[0] == () and {track.id for tracks in told[1:] for track in tracks} == {1}


def test_a_weak_detection_carries_on_a_track_but_begins_none() -> None:
    told = run([[walker(index, score=0.8 if index < 3 else 0.2)] for index in range(30)])
    assert [track.id for track in told[-1]] == [1] and told[-1][0].missed_s == 0
    assert run([[walker(index, score=0.2)] for index in range(30)])[-1] == ()


def test_a_person_lost_for_a_second_comes_back_with_the_same_id() -> None:
    told = run([[] if 10 <= index < 14 else [walker(index, step=0.005)] for index in range(30)])
    assert {track.id for tracks in told for track in tracks} == {1}
    assert told[12][0].missed_s == pytest.approx(0.6)


def test_a_person_gone_for_good_is_forgotten() -> None:
    told = run([[walker(index)] if index < 10 else [] for index in range(40)])
    assert told[-1] == ()


def test_two_people_who_cross_stay_two() -> None:
    looks = [[walker(index), walker(60 - index, y=0.52)] for index in range(61)]
    told = run(looks)
    assert {len(tracks) for tracks in told[1:]} == {2} and len({t.id for tracks in told for t in tracks}) == 2


def test_a_fast_car_at_two_looks_a_second_keeps_its_id() -> None:
    looks = [[(Label.VEHICLE, (0.12 * i, 0.4, 0.12 * i + 0.15, 0.55), 0.8)] for i in range(7)]
    assert {track.id for tracks in run(looks, every_s=0.5) for track in tracks} == {1}


def test_labels_of_other_families_are_never_one_track() -> None:
    box = (0.3, 0.3, 0.4, 0.5)
    told = run([[(Label.PERSON, box, 0.8), (Label.TWO_WHEELER, box, 0.8)] for _ in range(5)])
    assert {track.label for track in told[-1]} == {Label.PERSON, Label.TWO_WHEELER}


def test_a_bin_that_fills_stays_the_same_bin_and_two_labels_for_it_are_one() -> None:
    box = (0.3, 0.3, 0.36, 0.5)
    looks = [[(Label.BIN, box, 0.8)]] * 5 + [[(Label.BIN_OVERFLOW, box, 0.8), (Label.BIN, box, 0.5)]] * 5
    told = run(looks)
    assert [(track.id, track.label) for track in told[-1]] == [(1, Label.BIN_OVERFLOW)]


def test_a_second_box_inside_a_known_thing_becomes_no_track() -> None:
    whole, part = (0.2, 0.3, 0.5, 0.6), (0.25, 0.35, 0.4, 0.5)
    looks = [[(Label.VEHICLE, whole, 0.9)]] * 3 + [[(Label.VEHICLE, whole, 0.9), (Label.VEHICLE, part, 0.6)]] * 10
    assert len(run(looks)[-1]) == 1


def test_a_thing_that_stops_rests_since_it_stopped_though_its_box_trembles() -> None:
    rng = random.Random(1)

    def seen(index: int) -> Seen:
        x = min(0.1 + index * 0.02, 0.5)  # stops at look 20, 4.0 s
        dx, dy = (rng.uniform(-0.006, 0.006) for _ in range(2))
        return (Label.VEHICLE, (x + dx, 0.4 + dy, x + 0.2 + dx, 0.6 + dy), 0.8)

    told = run([[seen(index)] for index in range(60)])
    assert told[15][0].still_since_at is None
    still_since_at = told[-1][0].still_since_at
    assert still_since_at is not None and 3.4 <= (still_since_at - at(0)).total_seconds() <= 4.6


def test_a_car_that_creeps_does_not_rest() -> None:
    looks = [[(Label.VEHICLE, (0.1 + i * 0.008, 0.4, 0.3 + i * 0.008, 0.6), 0.8)] for i in range(60)]
    told = run(looks)
    assert all(
        track.still_since_at is None or (at(index * 0.2) - track.still_since_at).total_seconds() < 2
        for index, tracks in enumerate(told)
        for track in tracks
    )


@pytest.mark.parametrize(("first_x", "step"), [(1.0, 0.08), (0.8, 0.14), (0.72, 0.11)])
def test_a_car_that_passes_in_front_does_not_carry_off_the_track_of_one_that_stands(
    first_x: float, step: float
) -> None:
    """While it hides the other, one box is seen for both."""
    standing = (0.56, 0.30, 0.75, 0.45)

    def look(index: int) -> list[Seen]:
        x = first_x - (index - 15) * step
        passing = (x, 0.34, x + 0.2, 0.52)
        seen = [(Label.VEHICLE, passing, 0.9)] if index >= 15 and x > -0.2 else []
        return seen if index >= 15 and 0.40 < x < 0.70 else [*seen, (Label.VEHICLE, standing, 0.93)]

    told = run([look(index) for index in range(45)], every_s=0.33)
    before, after = told[12], told[-1]
    assert len(before) == len(after) == 1 and before[0].id == after[0].id
    assert after[0].still_since_at == before[0].still_since_at


def test_a_model_whose_scores_run_low_says_so_and_is_believed() -> None:
    state = TrackerState()
    for index in range(3):
        seen = detections(walker(index, score=0.3))
        state, tracks = follow(state, seen, at(index * 0.2), {Label.PERSON: 0.25})
    assert len(tracks) == 1


boxes = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.floats(0, 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(boxes, max_size=8), max_size=20))
def test_whatever_is_seen_no_id_is_told_twice_in_a_look_and_no_detection_feeds_two_tracks(
    looks: list[list[tuple[float, float, float, float, float]]],
) -> None:
    seen = [[(Label.PERSON, (x, y, x + w, y + h), score) for x, y, w, h, score in look] for look in looks]
    for tracks, look in zip(run(seen), seen, strict=True):
        assert len({track.id for track in tracks}) == len(tracks)
        assert sum(track.missed_s == 0 for track in tracks) <= len(look)
