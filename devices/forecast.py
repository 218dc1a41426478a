"""The level of a river for the next hours: Holt's linear trend, damped, with the error it would have had until now.

Method: exponential smoothing of level and trend with a damped trend (Gardner and McKenzie 1985, Management Science
31(10); Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 8.2) on means of ten minutes.
Error: rolling origin (Tashman 2000, Int. J. of Forecasting 16): from every past instant of the record the same method,
with parameters chosen by what was known at that instant only, forecasts what followed; the mean of the absolute errors
and their quantiles per step ahead are what is shown. It knows nothing of rain, tides or gates: a flood that begins
after the last reading is not in it, and the interval cannot be wider than what the record went through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from devices.reading import Point

Floats = NDArray[np.float64]
STEP_S = 600
TRAINED_ON = timedelta(days=2)  # what is looked at; a day of it must be there for six hours ahead
MAX_HOURS = 12.0
_LEARNING = 36  # steps before the first forecast that is judged: six hours
_JUDGED = 12  # errors that each step ahead must have
_FILLED = 3  # so many missing steps in a row are filled by a straight line; more begin the record anew
_LOW, _HIGH = 0.1, 0.9  # the interval holds four of five past errors
_RESOLUTION_M = 0.01  # gauges read centimetres: no interval is narrower

# Weights of level and trend and damping. Trends are damped within hours (0.98 per ten minutes: half after six hours).
_ALPHA, _BETA, _PHI = (
    grid.ravel()
    for grid in np.meshgrid([0.3, 0.5, 0.8, 1.0], [0.0, 0.05, 0.1, 0.2, 0.4], [0.8, 0.9, 0.95, 0.98], indexing="ij")
)


class TooLittleDataError(Exception):
    """The record is too short or too old to say anything; `has` and `needs` count steps of ten minutes."""

    def __init__(self, has: int, needs: int) -> None:
        super().__init__(f"{has} steps of ten minutes without a break, {needs} are needed")
        self.has = has
        self.needs = needs


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """One step ahead. Four of five past errors of this step lay between `low` and `high`; `error` is their mean size."""

    at: datetime
    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """The next hours. `mean_absolute_error`: over all steps; `persistence_error`: had one said "as now" instead."""

    points: list[ForecastPoint]
    mean_absolute_error: float
    persistence_error: float
    from_at: datetime
    to_at: datetime
    steps: int


def forecast_level(points: Sequence[Point], hours: float, now: datetime) -> Forecast:
    """Forecast from means of ten minutes (buckets of `STEP_S`, oldest first) for `hours` ahead of the last one.

    Raises TooLittleDataError when the unbroken record that ends at most half an hour ago is too short for that far.
    """
    ahead = max(1, round(min(hours, MAX_HOURS) * 3600 / STEP_S))
    needs = _LEARNING + ahead + _JUDGED
    record = _find_record(points, now)
    if len(record) < needs:
        raise TooLittleDataError(len(record), needs)
    # The last bucket may still be filling; it stands for its middle as the others do.
    values = record_values(record)
    forecasts, errors = _roll(values, ahead)
    last_at = record[-1].at
    low, high = np.nanquantile(errors, [_LOW, _HIGH], axis=0)
    sizes = np.nanmean(np.abs(errors), axis=0)
    low, high = np.minimum(low, -_RESOLUTION_M), np.maximum(high, _RESOLUTION_M)
    # Errors do not shrink further ahead; where few were seen, chance says so.
    low, high = np.minimum.accumulate(low), np.maximum.accumulate(high)
    return Forecast(
        points=[
            ForecastPoint(
                last_at + timedelta(seconds=STEP_S * (step + 1)),
                round(float(forecasts[step]), 4),
                round(float(forecasts[step] + low[step]), 4),
                round(float(forecasts[step] + high[step]), 4),
                round(float(sizes[step]), 4),
            )
            for step in range(ahead)
        ],
        mean_absolute_error=round(float(np.mean(sizes)), 4),
        persistence_error=round(_persistence_error(values, ahead), 4),
        from_at=record[0].at,
        to_at=last_at,
        steps=len(values),
    )


def _find_record(points: Sequence[Point], now: datetime) -> list[Point]:
    """The buckets since the last long break; none when the last one is old."""
    if not points or (now - points[-1].at).total_seconds() > 3 * STEP_S:
        return []
    start = 0
    for index in range(1, len(points)):
        if (points[index].at - points[index - 1].at).total_seconds() > (_FILLED + 1) * STEP_S:
            start = index
    return list(points[start:])


def record_values(record: Sequence[Point]) -> Floats:
    """One value per step, missing ones on the straight line between their neighbours."""
    origin_at = record[0].at
    steps = np.array([(p.at - origin_at).total_seconds() / STEP_S for p in record])
    values = np.array([p.value for p in record])
    filled: Floats = np.interp(np.arange(round(steps[-1]) + 1), steps, values)
    return filled


def _smooth(values: Floats) -> tuple[Floats, Floats]:
    """Level and trend after each value for every choice of parameters; both (values, choices)."""
    levels = np.empty((len(values), len(_ALPHA)))
    trends = np.empty_like(levels)
    level, trend = np.full(len(_ALPHA), values[0]), np.zeros(len(_ALPHA))
    levels[0], trends[0] = level, trend
    for index, value in enumerate(values[1:], 1):
        expected = level + _PHI * trend
        level_before, level = level, _ALPHA * value + (1 - _ALPHA) * expected
        trend = _BETA * (level - level_before) + (1 - _BETA) * _PHI * trend
        levels[index], trends[index] = level, trend
    return levels, trends


def _roll(values: Floats, ahead: int) -> tuple[Floats, Floats]:
    """(forecast of the next `ahead` steps, errors (origins, ahead) of the past ones; NaN where nothing followed yet)."""
    count = len(values)
    levels, trends = _smooth(values)
    reach = np.cumsum(_PHI[None, :] ** np.arange(1, ahead + 1)[:, None], axis=0)  # (ahead, choices)
    # (origins, ahead, choices): what would have been said at each origin
    said = levels[:, None, :] + trends[:, None, :] * reach[None, :, :]
    steps = np.arange(count)[:, None] + np.arange(1, ahead + 1)[None, :]  # (origins, ahead): what it was said about
    came = np.where(steps < count, values[np.minimum(steps, count - 1)], np.nan)
    missed = came[:, :, None] - said
    best = _choose(np.abs(missed), steps, count)
    origins = np.arange(_LEARNING, count)
    errors = missed[origins, :, best[origins]]
    return said[count - 1, :, best[count - 1]], errors


def _choose(sizes: NDArray[np.float64], steps: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At each origin the choice whose errors were least, of those whose outcome was known then."""
    origins, ahead, choices = sizes.shape
    known = np.zeros((count + ahead, choices))  # by the step at which the outcome became known
    flat = np.nan_to_num(sizes.reshape(origins * ahead, choices))
    np.add.at(known, steps.reshape(-1), flat)
    best: NDArray[np.int64] = np.argmin(np.cumsum(known[:count], axis=0), axis=1)
    return best


def _persistence_error(values: Floats, ahead: int) -> float:
    """Mean absolute error of "it stays as it is" over the same origins and steps."""
    per_step = [
        np.mean(np.abs(values[_LEARNING + step :] - values[_LEARNING : len(values) - step]))
        for step in range(1, ahead + 1)
    ]
    return float(np.mean(per_step))
