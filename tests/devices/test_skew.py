"""A device's clock is measured by the messages it sends anyway."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devices.model import DeviceState
from devices.skew import WINDOW_S, observe_clock

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def listen(lags_s: list[float], every_s: float = 60.0, clock: dict[str, Any] | None = None) -> dict[str, Any]:
    clock, at = clock or {}, START if not clock else datetime.fromisoformat(clock["window_at"]) + timedelta(seconds=60)
    for lag_s in lags_s:
        clock = observe_clock(clock, lag_s, at)
        at += timedelta(seconds=every_s)
    return clock


@pytest.mark.parametrize("offset_s", [0.0, 3600.0, -3600.0, 12.5])
def test_the_offset_is_found_under_delays_of_the_network(offset_s: float) -> None:
    rng = random.Random(1)
    clock = listen([offset_s + rng.expovariate(1.0) + 0.05 for _ in range(60)])
    assert clock["offset_s"] == pytest.approx(offset_s, abs=0.3)
    assert DeviceState(clock=clock).clock_offset_s == clock["offset_s"]


def test_readings_kept_back_for_a_day_do_not_make_the_clock_look_wrong() -> None:
    lags_s = [0.1] * 5 + [86_400.0 - n for n in range(200)] + [0.1]
    assert listen(lags_s, every_s=1.0)["offset_s"] == 0.1


def test_a_clock_that_was_set_right_is_known_to_be_right_within_two_windows() -> None:
    wrong = listen([-3600.0] * 20)
    assert wrong["offset_s"] == -3600.0
    right = listen([0.2] * int(2 * WINDOW_S / 60 + 2), clock=wrong)
    assert right["offset_s"] == 0.2


def test_a_clock_that_jumps_ahead_is_known_at_once() -> None:
    assert listen([0.2] * 3 + [-600.0], every_s=1.0)["offset_s"] == -600.0


def test_nothing_is_known_before_the_first_message_and_an_ordinary_one_changes_nothing() -> None:
    assert DeviceState().clock_offset_s is None
    clock = listen([0.2])
    assert observe_clock(clock, 0.9, START + timedelta(seconds=1)) is clock
