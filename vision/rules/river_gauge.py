"""水尺 river gauge: the water level read by camera from a staff gauge, and told when it stays above a limit.

Needs the picture and no detector. The staff (the zone's polygon) is unrolled into a strip, its lighting and its looks of some
seconds averaged: ripples and the staff's mirror image blur, the staff's own marks stay sharp. The water line is where the
strip changes its kind, by contrast, by marks and by how much it moves. A strip that does not part clearly gives no reading:
fog, a covered staff, a level off the staff are not water levels.
"""

from __future__ import annotations

import base64
import math
import statistics
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from vision.model import Box, Category, Finding, Picture, Point, Presence
from vision.rule import Parameters, Rule, Zone, ZoneState, ZoneStatus
from vision.sight import Sight

NAME = "river_gauge"
COLUMNS = 12
MIN_ROWS, MAX_ROWS = 40, 320
ROWS_PER_PX = 1.5
SCALE = 128.0
"""Of the strips as they are remembered: 16 bits for 0..255."""

GAP_S = 60.0
"""After a longer time without looks the strip is learnt anew."""

MIN_LOOKS = 4
EDGE_SHARE = 0.04
"""A change so near to an end of the strip may be the end of the staff."""

FLOORS = (0.03, 0.03, 0.03)
"""Variances of the three traits within one kind that are taken for nothing."""

MIN_GAIN = 0.9
"""By which the split must explain the strip better than no split, in nats a row."""

MIN_MARKS = 0.25
"""The staff must have this much more contrast (natural logarithm) than the water below."""

REFINE_M, SMOOTH_M = 0.3, 0.04
PERIOD_M = 0.1
"""The marks of a staff repeat every ten centimetres (five to the left, five to the right)."""

MAX_SPREAD_M = 0.1
"""Half of the readings must be so near to their median, or they say nothing together."""

RISE_M = 0.3
"""When the river has risen by this much since, it is told of again."""

Strip = NDArray[np.float32]
Rows = NDArray[np.float64]

Mark = tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)], float]


class GaugeParameters(Parameters):
    """Which height is where, and how high is too high."""

    marks: Annotated[tuple[Mark, ...], Field(min_length=2, max_length=12)]
    """[x, y, height in metres] of marks on the staff, two at least; three or more also take up the perspective."""
    limit_m: float
    hysteresis_m: Annotated[float, Field(ge=0, le=10)] = 0.1
    hold_s: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    smooth_s: Annotated[float, Field(ge=2, le=300)] = 10.0
    """The level is the median of the readings of so many seconds."""

    @model_validator(mode="after")
    def _check_marks(self) -> GaugeParameters:
        heights = [height_m for _, _, height_m in self.marks]
        if max(heights) - min(heights) < 0.1:
            raise PydanticCustomError("marks_close", "marks must lie at least 0.1 m apart")
        line = _axis(self.marks)
        along = [line.along((x, y)) for x, y, _ in self.marks]
        pairs = sorted(zip(along, heights, strict=True))
        if any(b[0] - a[0] < 0.005 for a, b in pairwise(pairs)):
            raise PydanticCustomError("marks_same", "two marks are at one place of the picture")
        steps = [b[1] - a[1] for a, b in pairwise(pairs)]
        if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
            raise PydanticCustomError("marks_order", "heights must rise from mark to mark along the staff")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One look's water line."""

    at_s: float
    level_m: float
    gain: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GaugeState:
    """What is remembered of one staff; times are seconds since the epoch.

    `mean`, `moved`: the averaged strip and how far its points move from it, (rows, COLUMNS) 16 bits in base64.
    """

    looked_s: float | None = None
    mean: str = ""
    moved: str = ""
    looks: int = 0
    readings: tuple[Reading, ...] = ()
    level_m: float | None = None
    read_s: float | None = None
    over_since_s: float | None = None
    under_since_s: float | None = None
    raised_s: float | None = None
    highest_m: float | None = None
    told_m: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """A line in the picture, upwards along the staff."""

    origin: Point
    ahead: Point

    def along(self, point: Point) -> float:
        return (point[0] - self.origin[0]) * self.ahead[0] + (point[1] - self.origin[1]) * self.ahead[1]

    def beside(self, point: Point) -> float:
        return (point[1] - self.origin[1]) * self.ahead[0] - (point[0] - self.origin[0]) * self.ahead[1]


def step(state: GaugeState, sight: Sight, zone: Zone[GaugeParameters]) -> tuple[GaugeState, tuple[Finding, ...]]:
    """One look at one staff."""
    if sight.view is None:
        return state, ()
    now_s = sight.at.timestamp()
    if state.looked_s is not None and now_s - state.looked_s > GAP_S:
        state = replace(state, mean="", moved="", looks=0, readings=())
    strip, heights_m = unroll(sight.view.picture, zone)
    state, mean, moved = _blend(state, strip, now_s, zone.parameters.smooth_s)
    reading = read_level(mean, moved, heights_m) if state.looks >= MIN_LOOKS else None
    state = _take(state, reading, now_s, zone.parameters.smooth_s)
    return _decide(state, zone, now_s)


# ---- reading ---------------------------------------------------------------------------------------------------


def unroll(picture: Picture, zone: Zone[GaugeParameters]) -> tuple[Strip, Rows]:
    """The staff as a strip, (rows, COLUMNS) grey from its upper end downwards, and each row's height in metres."""
    height_px, width_px = picture.shape[:2]
    size = (float(width_px), float(height_px))
    marks = [(x * size[0], y * size[1], height_m) for x, y, height_m in zone.parameters.marks]
    axis = _axis(marks)
    corners = [(x * size[0], y * size[1]) for x, y in zone.polygon]
    ends = [axis.along(corner) for corner in corners]
    sides = [axis.beside(corner) for corner in corners]
    length_px = max(ends) - min(ends)
    count = int(np.clip(round(length_px * ROWS_PER_PX), MIN_ROWS, MAX_ROWS))
    along = np.linspace(max(ends), min(ends), count)
    middle, half = (max(sides) + min(sides)) / 2, (max(sides) - min(sides)) / 2
    across = middle + 0.9 * half * np.linspace(-1, 1, COLUMNS)
    x = axis.origin[0] + along[:, None] * axis.ahead[0] - across[None, :] * axis.ahead[1]
    y = axis.origin[1] + along[:, None] * axis.ahead[1] + across[None, :] * axis.ahead[0]
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    strip = cv2.remap(
        grey, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(strip, np.float32), _heights(marks, axis, along)


def read_level(mean: Strip, moved: Strip, heights_m: Rows) -> tuple[float, float] | None:
    """The height of the water line in metres, and how clear it is (nats a row); None when the strip does not part."""
    traits = _traits(mean, moved)
    rows = len(traits)
    edge = max(4, round(EDGE_SHARE * rows))
    count = np.arange(1, rows)
    total, square = np.cumsum(traits, axis=0), np.cumsum(traits**2, axis=0)
    above = square[:-1] / count[:, None] - (total[:-1] / count[:, None]) ** 2
    left = (rows - count)[:, None]
    below = (square[-1] - square[:-1]) / left - ((total[-1] - total[:-1]) / left) ** 2
    whole = square[-1] / rows - (total[-1] / rows) ** 2
    floors = np.array(FLOORS)
    split = count * np.log(np.maximum(above, 0) + floors).sum(axis=1) + (rows - count) * np.log(
        np.maximum(below, 0) + floors
    ).sum(axis=1)
    gain = (rows * np.log(whole + floors).sum() - split) / (2 * rows)
    gain[: edge - 1] = -math.inf
    gain[rows - edge :] = -math.inf
    best = int(gain.argmax())
    line = best + 1
    if gain[best] < MIN_GAIN or traits[:line, 0].mean() - traits[line:, 0].mean() < MIN_MARKS:
        return None
    return _find_line(mean, heights_m, line), float(gain[best])


def _find_line(mean: Strip, heights_m: Rows, line: int) -> float:
    """The height where the staff's contrast has fallen to half, near the split.

    The split alone lies too low: a hand's breadth of staff still shows through the water, and logarithms see it well.
    """
    row_m = abs(float(heights_m[0] - heights_m[-1])) / (len(heights_m) - 1)
    reach, smooth = max(3, round(REFINE_M / row_m)), max(1, round(SMOOTH_M / row_m))
    first, last = max(0, line - reach), min(len(mean), line + reach)
    # what runs along the staff (its edge, a shadow's edge) says nothing of where the water is: only its marks do
    plain = cv2.blur(mean, (1, max(3, round(PERIOD_M / row_m))), borderType=cv2.BORDER_REPLICATE)
    contrast = cv2.blur((mean - plain).std(axis=1)[:, None], (1, smooth), borderType=cv2.BORDER_REPLICATE)[:, 0]
    half = (float(np.median(contrast[first : line - smooth])) + float(np.median(contrast[line + smooth : last]))) / 2
    for row in range(last - 1, first, -1):
        if contrast[row - 1] >= half > contrast[row]:
            share = (contrast[row - 1] - half) / max(contrast[row - 1] - contrast[row], 1e-6)
            return float(heights_m[row - 1] + share * (heights_m[row] - heights_m[row - 1]))
    return float((heights_m[line - 1] + heights_m[line]) / 2)


def _traits(mean: Strip, moved: Strip) -> Rows:
    """(rows, 3), all logarithms and free of the light: contrast across the staff, contrast along it, movement."""
    light = cv2.blur(mean, (COLUMNS, 9)).mean(axis=1, keepdims=True) + 8.0
    across = mean.std(axis=1) / light[:, 0]
    along = np.abs(np.gradient(mean, axis=0)).mean(axis=1) / light[:, 0]
    sway = moved.mean(axis=1) / light[:, 0]
    return np.stack([np.log(across + 0.01), np.log(along + 0.005), np.log(sway + 0.01)], axis=1).astype(np.float64)


def _axis(marks: tuple[tuple[float, float, float], ...] | list[tuple[float, float, float]]) -> _Axis:
    """The straight line through the marks, pointing to the higher ones."""
    points = np.array([(x, y) for x, y, _ in marks])
    middle = points.mean(axis=0)
    _, _, directions = np.linalg.svd(points - middle)
    ahead = directions[0]
    heights = np.array([height_m for _, _, height_m in marks])
    if float(((points - middle) @ ahead) @ (heights - heights.mean())) < 0:
        ahead = -ahead
    return _Axis(origin=(float(middle[0]), float(middle[1])), ahead=(float(ahead[0]), float(ahead[1])))


def _heights(marks: list[tuple[float, float, float]], axis: _Axis, along: Rows) -> Rows:
    """Heights at places along the staff: in proportion between two marks, in perspective from three on.

    A line seen in perspective: h = (a u + b) / (c u + 1), least squares over the marks.
    """
    places = np.array([axis.along((x, y)) for x, y, _ in marks])
    heights = np.array([height_m for _, _, height_m in marks])
    scale = float(np.abs(places).max())
    u = places / scale
    if len(marks) == 2:
        slope, base = np.polyfit(u, heights, 1)
        return np.asarray(slope * along / scale + base)
    rows = np.stack([u, np.ones_like(u), -u * heights], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(rows, heights, rcond=None)
    v = along / scale
    return np.asarray((a * v + b) / np.maximum(c * v + 1, 1e-3))


def _blend(state: GaugeState, strip: Strip, now_s: float, smooth_s: float) -> tuple[GaugeState, Strip, Strip]:
    """The averaged strip and its movement with this look in it."""
    mean, moved = _unpack(state.mean, strip.shape), _unpack(state.moved, strip.shape)
    if mean is None or moved is None or state.looked_s is None:
        mean, moved, looks = strip, np.zeros_like(strip), 1
    else:
        # the light of the whole strip may change between two looks: a lamp, a cloud, the camera's gain
        strip = strip * float((np.median(mean) + 4) / (np.median(strip) + 4))
        weight = max(1 - math.exp(-max(0.0, now_s - state.looked_s) / (smooth_s / 2)), 1 / (state.looks + 1))
        moved = moved + weight * (np.abs(strip - mean) - moved)
        mean, looks = mean + weight * (strip - mean), state.looks + 1
    state = replace(state, looked_s=now_s, looks=min(looks, 1000), mean=_pack(mean), moved=_pack(moved))
    return state, mean, moved


def _pack(strip: Strip) -> str:
    return base64.b64encode(np.clip(strip * SCALE, 0, 65_535).astype("<u2").tobytes()).decode()


def _unpack(text: str, shape: tuple[int, ...]) -> Strip | None:
    """None when it was remembered from another strip."""
    values = np.frombuffer(base64.b64decode(text), "<u2")
    if values.size == 0 or values.size != math.prod(shape):
        return None
    return np.asarray(values.reshape(shape) / SCALE, np.float32)


# ---- deciding --------------------------------------------------------------------------------------------------


def _take(state: GaugeState, found: tuple[float, float] | None, now_s: float, smooth_s: float) -> GaugeState:
    """The readings of the last seconds and the level they give together; a level that can't be read grows old."""
    readings = tuple(one for one in state.readings if now_s - one.at_s <= smooth_s)
    if found is not None:
        level_m, gain = found
        readings = (*readings, Reading(at_s=now_s, level_m=round(level_m, 4), gain=round(gain, 2)))
    state = replace(state, readings=readings)
    if len(readings) < MIN_LOOKS:
        return state
    level_m = statistics.median(one.level_m for one in readings)
    spread_m = statistics.median(abs(one.level_m - level_m) for one in readings)
    if spread_m > MAX_SPREAD_M:
        return state  # they do not agree
    return replace(state, level_m=level_m, read_s=now_s)


def _decide(state: GaugeState, zone: Zone[GaugeParameters], now_s: float) -> tuple[GaugeState, tuple[Finding, ...]]:
    parameters, level_m = zone.parameters, state.level_m
    if level_m is None or state.read_s != now_s:
        return state, ()
    if level_m >= parameters.limit_m:
        state = replace(state, under_since_s=None, over_since_s=state.over_since_s or now_s)
    elif state.raised_s is None:
        return replace(state, over_since_s=None, highest_m=None), ()
    elif level_m >= parameters.limit_m - parameters.hysteresis_m:
        return replace(state, under_since_s=None), ()
    else:
        state = replace(state, under_since_s=state.under_since_s or now_s)
    state = replace(state, highest_m=level_m if state.highest_m is None else max(state.highest_m, level_m))
    if state.raised_s is None:
        if now_s - (state.over_since_s or now_s) < parameters.hold_s:
            return state, ()
        state = replace(state, raised_s=now_s, told_m=level_m)
        return state, (_tell(state, zone, None),)
    if state.under_since_s is not None and now_s - state.under_since_s >= parameters.hold_s:
        finding = _tell(state, zone, datetime.fromtimestamp(now_s, UTC))
        state = replace(state, raised_s=None, over_since_s=None, under_since_s=None, highest_m=None, told_m=None)
        return state, (finding,)
    if state.told_m is not None and level_m >= state.told_m + RISE_M:
        state = replace(state, told_m=level_m)
        return state, (replace(_tell(state, zone, None), update=True),)
    return state, ()


def judge(state: GaugeState, sight: Sight, zone: Zone[GaugeParameters], category: Category) -> Presence:
    """By the level of the last looks; one that cannot be read says nothing."""
    if state.level_m is None or state.read_s is None or sight.at.timestamp() - state.read_s > zone.parameters.smooth_s:
        return Presence.HIDDEN
    below = state.level_m < zone.parameters.limit_m - zone.parameters.hysteresis_m
    return Presence.GONE if below else Presence.THERE


def status(state: GaugeState, zone: Zone[GaugeParameters]) -> ZoneStatus:
    """`value` is the level in metres while it can be read."""
    fresh = state.read_s is not None and state.looked_s is not None
    fresh = fresh and (state.looked_s or 0.0) - (state.read_s or 0.0) <= zone.parameters.smooth_s
    stands = ZoneState.QUIET
    if state.raised_s is not None:
        stands = ZoneState.RAISED
    elif state.over_since_s is not None:
        stands = ZoneState.WATCHING
    level_m = state.level_m if fresh and state.level_m is not None else None
    detail = {"level_m": None if level_m is None else round(level_m, 2), "limit_m": zone.parameters.limit_m}
    return ZoneStatus(state=stands, value=detail["level_m"], detail=detail)


def brief(state: GaugeState) -> GaugeState:
    """Without the averaged strip, 20 kB that some looks bring back."""
    return replace(state, mean="", moved="", looks=0)


def _tell(state: GaugeState, zone: Zone[GaugeParameters], cleared_at: datetime | None) -> Finding:
    over_s, raised_s = state.over_since_s or 0.0, state.raised_s or 0.0
    xs, ys = [x for x, _ in zone.polygon], [y for _, y in zone.polygon]
    box: Box = (min(xs), min(ys), max(xs), max(ys))
    gains = [one.gain for one in state.readings]
    return Finding(
        rule=NAME,
        category=Category.RIVER_LEVEL,
        zone=zone.name,
        key=f"{int(over_s * 1000):x}",
        started_at=datetime.fromtimestamp(over_s, UTC),
        raised_at=datetime.fromtimestamp(raised_s, UTC),
        cleared_at=cleared_at,
        box=box,
        # a gain of 0.9 is the least that counts, 3 is as clear as day
        score=min(1.0, statistics.fmean(gains) / 3.0) if gains else 0.0,
        detail={
            "level_m": round(state.level_m or 0.0, 2),
            "highest_m": round(state.highest_m or state.level_m or 0.0, 2),
            "limit_m": zone.parameters.limit_m,
        },
    )


RULE = Rule(
    name=NAME,
    title_zh="水尺水位",
    title_en="River gauge",
    labels=frozenset(),
    parameters=GaugeParameters,
    state=GaugeState,
    fresh=GaugeState,
    step=step,
    judge=judge,
    status=status,
    brief=brief,
    on_ground=False,
)
