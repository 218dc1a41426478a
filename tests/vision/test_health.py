"""Can a camera be believed: black, frozen, blocked, moved; and the motion gate beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.rtsp.media import EncodedFrames
from simulators.street.scene import Light, Person, Weather
from simulators.street.street import Street
from tests.vision.build import at
from vision.health import Blindness, Health, HealthState, confirm_view, measure_health
from vision.motion import MotionState, judge_motion, next_look_s, shrink
from vision.pace import PaceState, measure_pace

Picture = NDArray[np.uint8]
FROZEN_AFTER_S = 8.0


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(11)


def measure(
    pictures: list[Picture], every_s: float = 0.2, state: HealthState | None = None
) -> tuple[HealthState, Health]:
    state = state or HealthState()
    for index, picture in enumerate(pictures):
        state, health = measure_health(state, shrink(picture), at(index * every_s))
    return state, health


def coded(draw: Callable[[float], Picture], count: int) -> Iterator[tuple[Picture, bool]]:
    """Pictures after having been H.264, as a camera sends them, and whether each is a key frame."""
    media = EncodedFrames(draw, 5.0, (640, 360))
    decoder = av.CodecContext.create("h264", "r")
    for index in range(count):
        unit = media.next_unit(index / 5, key=False, repeat=False)
        packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in unit.nals))
        for frame in decoder.decode(packet):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), bool(frame.key_frame)


def measure_stream(draw: Callable[[float], Picture], count: int = 80) -> tuple[HealthState, Health]:
    state = HealthState()
    for index, (picture, key) in enumerate(coded(draw, count)):
        state, health = measure_health(state, shrink(picture), at(index / 5), key=key)
    return state, health


def test_a_street_by_day_night_and_in_rain_can_be_judged(street: Street) -> None:
    state, health = measure([street.render(index / 5) for index in range(5)])
    assert health.doubt(FROZEN_AFTER_S) is None
    for light, weather in ((Light.NIGHT, Weather.CLEAR), (Light.NIGHT, Weather.RAIN), (Light.DAY, Weather.RAIN)):
        other = Street(11, light=light, weather=weather)
        assert measure([other.render(9.0)], state=state)[1].doubt(FROZEN_AFTER_S) is None


def test_a_covered_lens_is_dark(street: Street) -> None:
    state, _ = measure([street.render(index / 5) for index in range(5)])
    covered = Street(11)
    covered.blackout = True
    assert measure([covered.render(9.0)], state=state)[1].blindness(FROZEN_AFTER_S) is Blindness.DARK


def test_another_view_is_a_moved_camera_and_a_smeared_one_is_blocked(street: Street) -> None:
    state, _ = measure([street.render(index / 5) for index in range(5)])
    turned = np.asarray(np.roll(street.render(9.0)[:, ::-1], 120, axis=0), np.uint8)
    assert measure([turned], state=state)[1].doubt(FROZEN_AFTER_S) is Blindness.MOVED
    smeared = np.asarray(cv2.GaussianBlur(street.render(9.0), (0, 0), 4), np.uint8)
    assert measure([smeared], state=state)[1].doubt(FROZEN_AFTER_S) is Blindness.BLURRED


def test_a_stream_that_repeats_one_picture_is_frozen_though_it_is_coded_anew_each_time(street: Street) -> None:
    still = street.render(3.0)
    _, health = measure_stream(lambda now_s: still)
    assert health.frozen_s > 10 and health.blindness(FROZEN_AFTER_S) is Blindness.FROZEN


@pytest.mark.parametrize("seed", [11, 12, 3])  # cameras with noise of 1.2, 1.1 and 2.2 levels
def test_an_empty_street_in_which_nothing_moves_is_not_frozen(seed: int) -> None:
    _, health = measure_stream(Street(seed).render)
    assert health.frozen_s < 1


def test_a_frozen_stream_that_goes_on_is_believed_again(street: Street) -> None:
    still = street.render(3.0)
    state, _ = measure_stream(lambda now_s: still)
    for index in range(3):  # key frames that are all different
        state, health = measure_health(state, shrink(street.render(99.0 + index)), at(30 + 2 * index))
    assert health.frozen_s == 0


def test_motion_is_a_person_and_not_the_noise_of_the_camera() -> None:
    quiet = Street(11)
    state = MotionState()
    calls = []
    for index in range(15):
        state, moved = judge_motion(state, shrink(quiet.render(index / 5)), at(index / 5))
        calls.append(moved)
    assert calls[0] and not any(calls[5:])
    place = quiet.places["square"]
    quiet.put("walker", Person(x_m=place.x_m, y_m=place.y_m, heading_rad=0.0))
    state, moved = judge_motion(state, shrink(quiet.render(3.2)), at(3.2))
    assert moved


def test_a_still_picture_is_looked_at_less_often_but_it_is_looked_at() -> None:
    lively = MotionState(moved_at=at(9.0))
    assert next_look_s(lively, at(10), fps=4, idle_fps=1) == 0.25
    assert next_look_s(lively, at(60), fps=4, idle_fps=1) == 1.0
    assert next_look_s(lively, at(60), fps=0.5, idle_fps=1) == 2.0


def watch_for(
    state: HealthState, pictures: Callable[[float], Picture], seconds: float, from_s: float, every_s: float = 1.0
) -> tuple[HealthState, list[tuple[float, Health]]]:
    """Measure from `from_s` on; the times count from there."""
    told: list[tuple[float, Health]] = []
    for index in range(int(seconds / every_s) + 1):
        state, health = measure_health(
            state, shrink(pictures(index * every_s)), at(from_s + index * every_s), key=False
        )
        told.append((index * every_s, health))
    return state, told


def first_s(told: list[tuple[float, Health]], holds: Callable[[Health], bool]) -> float | None:
    return next((now_s for now_s, health in told if holds(health)), None)


@pytest.fixture(scope="module")
def used_to(street: Street) -> HealthState:
    """A camera that has looked at its street for a while."""
    return measure([street.render(index / 5) for index in range(5)])[0]


def show(picture: Picture, now_s: float) -> Picture:
    """Always the same."""
    return picture


def shifted(picture: Picture, across: float, down: float = 0.0) -> Picture:
    height, width = picture.shape[:2]
    matrix = np.array([[1, 0, across * width], [0, 1, down * height]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize("across", [0.03, 0.08, 0.3])
def test_a_turned_camera_is_found_in_half_a_minute_and_stays_turned_until_it_is_back(
    street: Street, used_to: HealthState, across: float
) -> None:
    picture = street.render(9.0)
    state, told = watch_for(used_to, lambda now_s: shifted(picture, across), 90, 10)
    found_s = first_s(told, lambda health: health.moved)
    assert found_s is not None and 28 <= found_s <= 32
    assert told[-1][1].blindness(FROZEN_AFTER_S) is Blindness.MOVED  # it did not get used to it
    suspended_s = first_s(told, lambda health: health.blindness(99) is Blindness.MOVED)
    assert suspended_s is not None and suspended_s <= 4
    _, told = watch_for(state, lambda now_s: picture, 10, 101)
    back_s = first_s(told, lambda health: health.blindness(FROZEN_AFTER_S) is None)
    assert back_s is not None and back_s <= 3


def test_a_new_view_that_somebody_confirms_is_the_view(street: Street, used_to: HealthState) -> None:
    turned = shifted(street.render(9.0), 0.2)
    state, _ = watch_for(used_to, lambda now_s: turned, 40, 10)
    _, told = watch_for(confirm_view(state), lambda now_s: turned, 40, 51)
    assert all(health.blindness(99) is None for _, health in told)


def test_a_covered_and_a_blurred_lens_are_told_apart_and_end_by_themselves(
    street: Street, used_to: HealthState
) -> None:
    clear = street.render(9.0)
    noise = np.random.default_rng(1).normal(0, 2, clear.shape)
    hand = np.asarray(np.clip(cv2.GaussianBlur(clear, (0, 0), 60) * 0.3 + 60 + noise, 0, 255), np.uint8)
    soft = np.asarray(cv2.GaussianBlur(clear, (0, 0), 4), np.uint8)
    for picture, trouble in ((hand, Blindness.BLOCKED), (soft, Blindness.BLURRED)):
        state, told = watch_for(used_to, partial(show, picture), 40, 10)
        assert told[-1][1].lasting_s(trouble) == 40 and told[-1][1].blindness(99) is trouble
        assert not any(health.moved for _, health in told)
        _, told = watch_for(state, lambda now_s: clear, 5, 51)
        assert told[0][1].blindness(99) is None and told[0][1].lasting_s(trouble) == 0


def test_a_bus_that_fills_the_picture_for_twenty_seconds_is_no_fault(street: Street, used_to: HealthState) -> None:
    clear = street.render(9.0)
    bus = clear.copy()
    cv2.rectangle(bus, (0, 40), (640, 340), (60, 60, 190), -1)
    for x in range(20, 640, 90):
        cv2.rectangle(bus, (x, 70), (x + 70, 150), (40, 40, 40), -1)
    _, told = watch_for(used_to, lambda now_s: bus if now_s <= 20 else clear, 30, 10)
    assert not any(health.moved for _, health in told) and told[-1][1].doubt(99) is None
    assert max(health.lasting_s(Blindness.BLOCKED) for _, health in told) < 20  # the limit of the device's rule


def test_a_night_that_falls_rain_that_begins_and_headlights_are_no_fault() -> None:
    day, night = Street(3).render(9.0), Street(3, light=Light.NIGHT).render(9.0)
    rain = Street(3, weather=Weather.RAIN).render(9.0)

    def evening(now_s: float) -> Picture:
        share = min(1.0, now_s / 300)
        picture = (1 - share) * day + share * night
        if now_s % 20 < 3:  # somebody turns towards the camera
            cv2.circle(picture, (int(30 * (now_s % 20)) + 200, 200), 60, (255.0, 255.0, 255.0), -1)
        return np.asarray(picture, np.uint8)

    state, _ = measure([day] * 5)
    state, told = watch_for(state, evening, 360, 10, every_s=2.0)
    assert not any(health.blindness(9999) for _, health in told)
    state, _ = measure([day] * 5)
    _, told = watch_for(state, lambda now_s: rain, 60, 10)
    assert not any(health.doubt(9999) for _, health in told)


def test_a_clock_that_runs_wrong_is_told_and_a_new_connection_is_not() -> None:
    def run(stamps: Callable[[float], float], seconds: int = 70) -> float | None:
        state, error = PaceState(), None
        for second in range(seconds * 5):
            state, error = measure_pace(state, at(second / 5), stamps(second / 5))
        return error

    assert run(lambda now_s: 100 + now_s) == pytest.approx(0, abs=0.3)
    fast, slow = run(lambda now_s: 1.1 * now_s), run(lambda now_s: 0.9 * now_s)
    assert fast is not None and slow is not None and fast > 5 and slow < -5
    assert run(lambda now_s: now_s if now_s < 40 else now_s - 40) == pytest.approx(0, abs=0.3)
    assert run(lambda now_s: now_s, seconds=10) is None
