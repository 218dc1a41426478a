"""A metric that moves too far in a span of time."""

from typing import Literal

from pydantic import Field

from devices.model import JsonState, instant_text, read_state_instant
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Span, Turn, is_late

_MOST_POINTS = 120


class RateParameters(Parameters):
    """`change` is in the metric's unit."""

    metric: MetricName
    direction: Literal["rising", "falling", "either"] = Field(default="either", description="上升、下降、任一")
    change: float = Field(gt=0, le=1e12, description="so far / 变化量")
    within_s: Span = Field(description="within so many seconds / 时间窗（秒）")
    clear_share: float = Field(default=0.5, ge=0, lt=1, description="over below this share of the change / 恢复比例")


def judge(state: JsonState, moment: Moment, p: RateParameters) -> tuple[JsonState, Turn | None]:
    """The newest value against the least and the greatest of the span raises; ends below `clear_share` of it.

    At most 120 points (seconds since 1970, value) are kept: of quicker readings one per 1/120 of the span.
    """
    value, at = moment.readings.get(p.metric), moment.at
    if moment.passing or value is None or is_late(state, at):
        return state, None
    at_s = at.timestamp()
    points = [point for point in state.get("points", []) if at_s - point[0] <= p.within_s]
    moved = _find_change([v for _, v in points], value, p)
    if not points or at_s - points[-1][0] >= p.within_s / _MOST_POINTS:
        points.append([at_s, value])
    new: JsonState = {**state, "seen_at": instant_text(at), "points": points}
    active = bool(state.get("active"))
    if active == (moved >= p.change * (p.clear_share if active else 1.0)):
        return new, None
    new["active"] = not active
    if not active:
        new["began_at"] = instant_text(at)
    began_at = read_state_instant(new, "began_at") or at
    detail = {"metric": p.metric, "value": value, "moved": round(moved, 6), "change": p.change, "within_s": p.within_s}
    return new, Turn(not active, began_at, at, detail)


def _find_change(values: list[float], value: float, p: RateParameters) -> float:
    if not values:
        return 0.0
    rise, fall = value - min(values), max(values) - value
    return {"rising": rise, "falling": fall, "either": max(rise, fall)}[p.direction]


TYPE = RuleType(
    name="rate_of_change",
    title_zh="变化率",
    title_en="Rate of change",
    parameters=RateParameters,
    judge=judge,
    metrics=lambda p: frozenset({p.metric}),
)
