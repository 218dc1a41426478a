"""Two devices that say the same thing within a window: smoke here and heat next door, water high and the gate shut.

Each device remembers when its own condition held last; the first one's sweep joins the two, so the answer comes within a
sweep's second and never needs both devices in one transaction.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from devices.model import DeviceState, JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleName, RuleType, Span, Turn


class Condition(Parameters):
    """An alarm of the device that is active, or a metric beyond a limit."""

    alarm: RuleName | None = Field(default=None, description="name of a rule / 规则名")
    metric: MetricName | None = None
    side: Literal["upper", "lower"] = "upper"
    limit: float | None = Field(default=None, ge=-1e12, le=1e12)

    @model_validator(mode="after")
    def _check(self) -> "Condition":
        if (self.alarm is None) == (self.metric is None) or (self.metric is None) != (self.limit is None):
            raise ValueError("a condition is either an alarm, or a metric with its limit")
        return self


class CombinationParameters(Parameters):
    """The rule's scope names the first device; `other` is the code of the second."""

    first: Condition
    other: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="code of the other device / 另一设备编码")
    second: Condition
    window_s: Span = Field(default=60.0, description="both within so many seconds / 时间窗（秒）")


def holds_now(condition: Condition, metrics: dict[str, Any], active: Any) -> bool:
    """Whether the newest that is known of a device meets the condition."""
    if condition.alarm is not None:
        return condition.alarm in active
    value = metrics.get(condition.metric or "", {}).get("value")
    if value is None or condition.limit is None:
        return False
    return bool(value > condition.limit if condition.side == "upper" else value < condition.limit)


def judge(state: JsonState, moment: Moment, p: CombinationParameters) -> tuple[JsonState, Turn | None]:
    """Raised when both held within `window_s` of each other, over when that is no longer so."""
    if not moment.passing:
        if not _holds_in_message(p.first, moment):
            return state, None
        held_at = max(moment.at, read_state_instant(state, "held_at") or moment.at)
        return {**state, "held_at": instant_text(held_at), "asks": True}, None
    other = moment.peers.get(p.other)
    first_at = _last_held(p.first, moment.state, read_state_instant(state, "held_at"), moment.now)
    second_at = _last_held(p.second, other, _met_at(p.second, other), moment.now) if other is not None else None
    both = (
        first_at is not None
        and second_at is not None
        and max(seconds_between(first_at, moment.now), seconds_between(second_at, moment.now)) <= p.window_s
    )
    began_at = read_state_instant(state, "began_at")
    asks = first_at is not None and seconds_between(first_at, moment.now) <= p.window_s
    new: JsonState = {**state, "asks": asks}
    if first_at is not None:
        new["held_at"] = instant_text(first_at)
    if both == (began_at is not None):
        return (new if new != state else state), None
    if began_at is not None:
        del new["began_at"]
        return new, Turn(False, began_at, moment.now, {"other": p.other})
    new["began_at"] = instant_text(moment.now)
    return new, Turn(True, moment.now, moment.now, {"other": p.other, "window_s": p.window_s})


def _holds_in_message(condition: Condition, moment: Moment) -> bool:
    if condition.alarm is not None:
        return condition.alarm in moment.active
    return holds_now(condition, {name: {"value": value} for name, value in moment.readings.items()}, {})


def _last_held(condition: Condition, state: DeviceState, known_at: datetime | None, now: datetime) -> datetime | None:
    """`now` for an alarm that is active; a metric held when it was measured."""
    if condition.alarm is not None:
        return now if condition.alarm in state.alarms else known_at
    met_at = _met_at(condition, state)
    return max((t for t in (known_at, met_at) if t is not None), default=None)


def _met_at(condition: Condition, state: DeviceState) -> datetime | None:
    if condition.metric is None or not holds_now(condition, state.metrics, state.alarms):
        return None
    return read_state_instant(state.metrics.get(condition.metric, {}), "at")


def find_due(state: JsonState, moment: Moment, p: CombinationParameters) -> datetime | None:
    """At every sweep while the first device's condition held within the window: the other may join at any moment."""
    del p
    if state.get("asks") or "began_at" in state:
        return moment.now + timedelta(seconds=1)
    return None


def seed(state: DeviceState, p: CombinationParameters) -> JsonState:
    """An alarm that is active, a value that is beyond the limit: looked at from the start."""
    return {"asks": True} if holds_now(p.first, state.metrics, state.alarms) else {}


TYPE = RuleType(
    name="combination",
    title_zh="两设备组合",
    title_en="Combination of two devices",
    parameters=CombinationParameters,
    judge=judge,
    due=find_due,
    timed=True,
    metrics=lambda p: frozenset({p.first.metric} if p.first.metric else ()),
    peers=lambda p: (p.other,),
    seed=seed,
)
