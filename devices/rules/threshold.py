"""A metric beyond a limit: with hysteresis, and with times for which it must hold."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from devices.model import JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Seconds, Turn, is_late


class ThresholdParameters(Parameters):
    """Limit and hysteresis are in the metric's unit."""

    metric: MetricName
    side: Literal["upper", "lower"] = Field(default="upper", description="upper: alarm above the limit / 上限、下限")
    limit: float = Field(ge=-1e12, le=1e12, description="alarm beyond this value / 限值")
    hysteresis: float = Field(default=0.0, ge=0, le=1e12, description="over when so far back within the limit / 回差")
    hold_s: Seconds = Field(default=0.0, description="beyond for so long, by two readings at least / 持续时间（秒）")
    clear_hold_s: Seconds = Field(default=0.0, description="within for so long before it is over / 恢复持续时间（秒）")


def is_turning(active: bool, value: float, p: ThresholdParameters) -> bool:
    """Whether one value speaks for the other state than the present one."""
    sign = 1.0 if p.side == "upper" else -1.0
    if active:
        return sign * value < sign * p.limit - p.hysteresis
    return sign * value > sign * p.limit


def judge(state: JsonState, moment: Moment, p: ThresholdParameters) -> tuple[JsonState, Turn | None]:
    """Beyond the limit for `hold_s` raises, back by the hysteresis for `clear_hold_s` ends it. Late readings are ignored.

    Time is measured between readings only: that none came says nothing about the value.
    """
    value, at = moment.readings.get(p.metric), moment.at
    if moment.passing or value is None or is_late(state, at):
        return state, None
    active = bool(state.get("active"))
    new: JsonState = {**state, "seen_at": instant_text(at)}
    if not is_turning(active, value, p):
        new.pop("turning_at", None)
        return new, None
    turning_at = read_state_instant(state, "turning_at") or at
    if seconds_between(turning_at, at) < (p.clear_hold_s if active else p.hold_s):
        new["turning_at"] = instant_text(turning_at)
        return new, None
    new.pop("turning_at", None)
    new["active"] = not active
    if not active:
        new["began_at"] = instant_text(turning_at)
    began_at: datetime = read_state_instant(new, "began_at") or at
    detail = {"metric": p.metric, "value": value, "limit": p.limit, "side": p.side}
    return new, Turn(not active, began_at, at, detail)


TYPE = RuleType(
    name="threshold",
    title_zh="阈值（带回差和持续时间）",
    title_en="Threshold with hysteresis and hold time",
    parameters=ThresholdParameters,
    judge=judge,
    metrics=lambda p: frozenset({p.metric}),
)
