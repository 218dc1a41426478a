"""Forecasts of synthetic waters: right where the method can be, and honest about the error where it cannot."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.forecast import STEP_S, TooLittleDataError, forecast_level
from devices.reading import Point

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STEPS = np.arange(288)  # two days


def record(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", end_at: datetime = NOW) -> list[Point]:
    """Means of ten minutes, the last of which begins ten minutes before `end_at`."""
    first_at = end_at - timedelta(seconds=STEP_S * len(values))
    points = []
    for index, value in enumerate(values):
        at = first_at + timedelta(seconds=STEP_S * index)
        points.append(Point(at, float(value), float(value), float(value), 10, at, at + timedelta(seconds=540)))
    return points


def test_still_water_stays() -> None:
    forecast = forecast_level(record(np.full(288, 1.5)), 6, NOW)
    assert len(forecast.points) == 36 and forecast.points[0].at == NOW
    assert forecast.points[-1].at == NOW + timedelta(hours=5, minutes=50)
    for point in forecast.points:
        assert point.value == pytest.approx(1.5, abs=1e-3) and point.low < 1.5 < point.high
    assert forecast.mean_absolute_error == pytest.approx(0.0, abs=1e-6)


def test_a_steady_rise_goes_on_for_a_while_and_beats_saying_as_now() -> None:
    forecast = forecast_level(record(1.0 + 0.01 * STEPS), 6, NOW)
    last = 1.0 + 0.01 * 287
    assert last + 0.05 <= forecast.points[5].value <= last + 0.061  # an hour ahead: six centimetres
    assert last + 0.15 < forecast.points[-1].value <= last + 0.37  # damped, never steeper than it was
    assert forecast.mean_absolute_error < 0.5 * forecast.persistence_error


def test_noise_of_the_gauge_is_not_taken_for_a_trend() -> None:
    noise = np.random.default_rng(3).normal(0, 0.02, 288)
    forecast = forecast_level(record(1.5 + noise), 6, NOW)
    assert all(abs(point.value - 1.5) < 0.05 for point in forecast.points)
    assert forecast.mean_absolute_error < forecast.persistence_error


def test_the_error_shown_is_the_error_it_then_makes() -> None:
    rng = np.random.default_rng(11)
    shown, made, within, counted = [], [], 0, 0
    for _ in range(40):
        walk = 2.0 + np.cumsum(rng.normal(0, 0.01, 288 + 18))
        forecast = forecast_level(record(walk[:288]), 3, NOW)
        for point, truth in zip(forecast.points, walk[288:], strict=True):
            shown.append(point.error)
            made.append(abs(point.value - truth))
            within += point.low <= truth <= point.high
            counted += 1
    assert 0.7 < np.mean(made) / np.mean(shown) < 1.4
    assert 0.65 < within / counted < 0.95  # it says four of five


def test_a_tide_that_the_method_cannot_know_is_shown_as_a_wide_interval() -> None:
    tide = 1.5 + 0.5 * np.sin(2 * np.pi * STEPS / 74.5)
    forecast = forecast_level(record(tide), 6, NOW)
    assert forecast.points[-1].high - forecast.points[-1].low > 0.5
    assert forecast.mean_absolute_error > 0.1


def test_intervals_never_narrow_further_ahead() -> None:
    flood = 1.2 + 1.5 * np.exp(-(((STEPS - 250) / 30) ** 2))
    widths = [p.high - p.low for p in forecast_level(record(flood), 6, NOW).points]
    widths_low = [p.value - p.low for p in forecast_level(record(flood), 6, NOW).points]
    assert all(after >= before - 1e-3 for before, after in pairwise(widths))
    assert all(width >= 0.0099 for width in widths_low)


@pytest.mark.parametrize(("steps", "hours", "enough"), [(84, 6, True), (83, 6, False), (54, 1, True), (53, 1, False)])
def test_too_short_a_record_is_said_with_what_is_needed(steps: int, hours: float, enough: bool) -> None:
    points = record(np.full(steps, 1.0))
    if enough:
        assert forecast_level(points, hours, NOW).steps == steps
    else:
        with pytest.raises(TooLittleDataError) as refused:
            forecast_level(points, hours, NOW)
        assert (refused.value.has, refused.value.needs) == (steps, steps + 1)


def test_a_record_that_ended_long_ago_gives_no_forecast() -> None:
    with pytest.raises(TooLittleDataError) as refused:
        forecast_level(record(np.full(288, 1.0), NOW - timedelta(hours=1)), 6, NOW)
    assert refused.value.has == 0


def test_small_holes_are_filled_and_a_large_one_begins_the_record_anew() -> None:
    points = record(1.0 + 0.01 * STEPS)
    holes = [p for index, p in enumerate(points) if index % 10 not in (3, 4, 5)]
    assert forecast_level(holes, 6, NOW).steps == 288
    broken = points[:150] + points[160:]
    assert forecast_level(broken, 6, NOW).steps == 128


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-20, 9000, width=32), min_size=84, max_size=160), st.floats(0.1, 6))
def test_any_record_gives_finite_numbers_in_order(values: list[float], hours: float) -> None:
    for point in forecast_level(record(np.array(values)), hours, NOW).points:
        assert np.isfinite([point.low, point.value, point.high, point.error]).all()
        assert point.low < point.value < point.high
