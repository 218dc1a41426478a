"""What rules may ask of a picture: what a place looks like, and what has changed there."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from simulators.street.scene import Garbage, GarbageKind, Light, Person, Vehicle, VehicleKind, Weather
from simulators.street.street import Street
from tests.vision.build import at
from vision.background import BackgroundState, learn_background
from vision.model import Box, Picture
from vision.motion import shrink
from vision.slots import ALIKE, SAME
from vision.view import Patch, View, likeness, structure

SEEDS = (3, 11)


def with_car(
    seed: int, look: int | None, light: Light = Light.DAY, weather: Weather = Weather.CLEAR
) -> tuple[Street, Box]:
    street = Street(seed, light=light, weather=weather)
    bay = street.places["bay"]
    car = Vehicle(x_m=bay.x_m, y_m=bay.y_m, heading_rad=bay.heading_rad, look=look or 1, kind=VehicleKind.SEDAN)
    street.put("car", car)
    (truth,) = [box for box in street.truth(0.0) if box.name == "car"]
    if look is None:
        street.remove("car")
    return street, (truth.x1 / 640, truth.y1 / 360, truth.x2 / 640, truth.y2 / 360)


def patch_of(seed: int, look: int | None, box: Box | None = None, **conditions: object) -> Patch:
    street, place = with_car(seed, look, **conditions)  # type: ignore[arg-type]
    found = View(picture=street.render(9.0)).patch(box or place)
    assert found is not None
    return found


def lit(picture: Picture) -> Picture:
    """As headlights do it: a bright pool over half of the picture."""
    rows, columns = np.mgrid[0:360, 0:640]
    pool = 90 * np.exp(-(((columns - 200) / 260) ** 2 + ((rows - 200) / 160) ** 2))
    return np.asarray(np.clip(picture + pool[:, :, None], 0, 255), np.uint8)


def learnt(street: Street, seconds: int = 22) -> BackgroundState:
    state = BackgroundState()
    for second in range(seconds):
        state = learn_background(state, shrink(street.render(float(second))), at(second))
    return state


def view_of(street: Street, state: BackgroundState, now_s: float) -> View:
    return View(picture=street.render(now_s), background=state.grey, learnt_at=state.learnt_at)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_car_is_known_again_in_other_light_and_is_not_the_bare_road(seed: int) -> None:
    _, box = with_car(seed, 7)
    day = patch_of(seed, 7)
    for light, weather in ((Light.NIGHT, Weather.CLEAR), (Light.DUSK, Weather.CLEAR)):
        assert likeness(day, patch_of(seed, 7, box, light=light, weather=weather)) > ALIKE
    assert likeness(day, patch_of(seed, None, box)) < ALIKE - 0.2
    assert likeness(day, patch_of(seed, 8, box)) < SAME
    street, _ = with_car(seed, 7)
    bright = View(picture=lit(street.render(9.0))).patch(box)
    assert bright is not None and likeness(day, bright) > ALIKE
    assert structure(day) > 0.1


def test_a_patch_survives_as_json_and_a_place_too_small_has_none() -> None:
    patch = patch_of(11, 7)
    adapter = TypeAdapter(Patch)
    assert adapter.validate_json(adapter.dump_json(patch)) == patch
    assert len(adapter.dump_json(patch)) < 450
    assert View(picture=np.zeros((360, 640, 3), np.uint8)).patch((0.5, 0.5, 0.503, 0.6)) is None


def test_what_is_set_down_is_changed_for_minutes_and_what_passes_or_only_lights_up_is_not() -> None:
    street = Street(11)
    state = learnt(street)
    assert state.learnt_at == at(20)
    spot = street.places["litter_spot"]
    street.put("bag", Garbage(x_m=spot.x_m, y_m=spot.y_m, kind=GarbageKind.BAGS, look=3))
    (bag,) = [box for box in street.truth(23.0) if box.name == "bag"]
    place = (bag.x1 / 640, bag.y1 / 360, bag.x2 / 640, bag.y2 / 360)
    outline = [(place[0], place[1]), (place[2], place[1]), (place[2], place[3]), (place[0], place[3])]
    for second in range(23, 323, 5):  # five minutes
        state = learn_background(state, shrink(street.render(float(second))), at(second))
    view = view_of(street, state, 330.0)
    there = view.changed(place)
    assert there is not None and there > 0.3 and view.changed(outline) == pytest.approx(there, abs=0.2)
    elsewhere = (0.02, 0.02, 0.2, 0.2)
    assert view.changed(elsewhere) == pytest.approx(0.0, abs=0.02)
    street.remove("bag")
    assert view_of(street, state, 331.0).changed(place) == pytest.approx(0.0, abs=0.05)
    bright = dataclasses.replace(view_of(street, state, 331.0), picture=lit(street.render(331.0)))
    changed = bright.changed((0.2, 0.4, 0.5, 0.8))
    assert changed is not None and changed < 0.1


def test_somebody_who_passes_while_the_background_is_learnt_is_not_part_of_it() -> None:
    street = Street(11)
    square = street.places["square"]
    state = BackgroundState()
    for second in range(22):
        if second < 8:
            street.put("walker", Person(x_m=square.x_m, y_m=square.y_m, heading_rad=0.0))
        else:
            street.remove("walker")
        state = learn_background(state, shrink(street.render(float(second))), at(second))
    whole = view_of(street, state, 30.0).changed((0, 0, 1, 1))
    assert whole == pytest.approx(0.0, abs=0.01)


def test_nothing_is_said_before_the_background_is_known_and_it_is_learnt_anew_in_another_light() -> None:
    street = Street(11)
    state = learnt(street, 10)
    assert view_of(street, state, 11.0).changed((0, 0, 1, 1)) is None
    state = learnt(street)
    other = np.asarray(255 - street.render(3.0)[::-1], np.uint8)
    for second in range(23, 120):
        state = learn_background(state, shrink(other), at(second))
    assert state.learnt_at is not None and state.learnt_at > at(80)
    known = View(picture=other, background=state.grey, learnt_at=state.learnt_at)
    assert known.changed((0, 0, 1, 1)) == 0.0


def test_a_view_does_not_change_with_the_size_of_the_picture() -> None:
    street, box = with_car(11, 7)
    small = street.render(9.0)
    large = np.asarray(cv2.resize(small, (1280, 720)), np.uint8)
    one, two = View(picture=small).patch(box), View(picture=large).patch(box)
    assert one is not None and two is not None and likeness(one, two) > 0.9
    assert replace(one, colour=(60.0, 0.0)) != one and likeness(one, replace(one, colour=(60.0, 0.0))) < 0.7


def test_what_stood_there_while_the_background_was_learnt_is_forgotten_once_its_place_is_bare() -> None:
    street, box = with_car(11, 5)
    state = BackgroundState()
    for second in range(22):
        state = learn_background(state, shrink(street.render(float(second))), at(second), [box])
    street.remove("car")
    for second in range(22, 30):
        state = learn_background(state, shrink(street.render(float(second))), at(second))
    gone = view_of(street, state, 30.0).changed(box)
    assert gone is not None and gone > 0.2
    for second in range(30, 42):
        state = learn_background(state, shrink(street.render(float(second))), at(second))
    healed = view_of(street, state, 42.0).changed(box)
    assert healed is not None and healed < 0.05


def test_a_clock_that_is_set_back_while_the_background_is_learnt_does_not_keep_it_from_being_learnt() -> None:
    state, grey = BackgroundState(), np.full((180, 320), 90, np.uint8)
    for second in (3600.0, *range(30)):
        state = learn_background(state, grey, at(second))
    assert state.grey is not None and not state.collected
