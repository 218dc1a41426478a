"""Can a camera be believed: black, frozen, blocked, moved; and the motion gate beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.rtsp.media import EncodedFrames
from simulators.street.scene import Light, Person, Weather
from simulators.street.street import Street
from tests.vision.build import at
from vision.health import Blindness, Health, HealthState, measure_health
from vision.motion import MotionState, judge_motion, next_look_s, shrink

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
    smeared = np.asarray(cv2.GaussianBlur(street.render(9.0), (0, 0), 12), np.uint8)
    assert measure([smeared], state=state)[1].doubt(FROZEN_AFTER_S) is Blindness.BLOCKED


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
