"""One metric that stops coming while the device itself is still heard."""

from datetime import datetime, timedelta

from pydantic import Field

from devices.model import DeviceState, DeviceStatus, JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Span, Turn


class NoDataParameters(Parameters):
    """A device that is silent altogether is the business of a rule of type `offline`."""

    metric: MetricName
    after_s: Span = Field(description="no value for so long / 无数据时长（秒）")


def judge(state: JsonState, moment: Moment, p: NoDataParameters) -> tuple[JsonState, Turn | None]:
    """No value for `after_s` raises while the device is heard; the next value ends it. By the platform's clock."""
    came_at = read_state_instant(state, "came_at")
    if not moment.passing:
        if p.metric not in moment.readings:
            return (state, None) if came_at is not None else ({"came_at": instant_text(moment.now)}, None)
        began_at = read_state_instant(state, "began_at")
        new: JsonState = {"came_at": instant_text(max(came_at or moment.now, moment.now))}
        return new, Turn(False, began_at, moment.now, {"metric": p.metric}) if began_at else None
    if came_at is None or "began_at" in state or not _is_heard(moment):
        return state, None
    silent_s = seconds_between(moment.heard_from(came_at), moment.now)
    if silent_s < p.after_s:
        return state, None
    detail = {"metric": p.metric, "silent_s": round(silent_s, 1), "after_s": p.after_s}
    return {**state, "began_at": instant_text(came_at)}, Turn(True, came_at, moment.now, detail)


def _is_heard(moment: Moment) -> bool:
    seen_at = moment.state.last_seen_at
    return seen_at is not None and seconds_between(moment.heard_from(seen_at), moment.now) <= moment.silent_after_s


def find_due(state: JsonState, moment: Moment, p: NoDataParameters) -> datetime | None:
    """When the metric is missing for long enough."""
    came_at = read_state_instant(state, "came_at")
    if came_at is None or "began_at" in state:
        return None
    return moment.heard_from(came_at) + timedelta(seconds=p.after_s)


def seed(state: DeviceState, p: NoDataParameters) -> JsonState:
    """What the device said before the rule was made counts."""
    came_at = read_state_instant(state.metrics.get(p.metric, {}), "at") or state.last_seen_at
    return {"came_at": instant_text(came_at)} if came_at is not None else {}


TYPE = RuleType(
    name="no_data",
    title_zh="无数据（单项指标）",
    title_en="No data of one metric",
    parameters=NoDataParameters,
    judge=judge,
    due=find_due,
    timed=True,
    metrics=lambda p: frozenset({p.metric}),
    seed=seed,
    status=DeviceStatus.FAULT,
    severity=3,
)
