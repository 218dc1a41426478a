"""Many openings, or other events of a metric, in the night: a pattern of persons cared for (重点服务对象)."""

from datetime import datetime, time, timedelta

from pydantic import Field

from devices.model import JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Span, Turn
from devices.rules.no_event import is_event
from devices.window import find_window_start

_MOST_EVENTS = 200


class ManyEventsParameters(Parameters):
    """The window is the city's local time and may pass midnight; one that starts when it ends is the whole day."""

    metric: MetricName = "open"
    events: int = Field(default=4, ge=1, le=_MOST_EVENTS, description="so many / 次数")
    span_s: Span = Field(default=3600.0, description="within so many seconds / 时间窗（秒）")
    window_start: time = time(22)
    window_end: time = time(5)


def judge(state: JsonState, moment: Moment, p: ManyEventsParameters) -> tuple[JsonState, Turn | None]:
    """`events` within `span_s`, all in the window, raise; a span without one ends it. Late events count where they belong."""
    events = [datetime.fromisoformat(text) for text in state.get("events", [])]
    began_at = read_state_instant(state, "began_at")
    if moment.passing:
        if began_at is None or (events and seconds_between(events[-1], moment.now) <= p.span_s):
            return state, None
        new = {k: v for k, v in state.items() if k not in ("began_at", "events")}
        return new, Turn(False, began_at, moment.now, {"metric": p.metric})
    at, value = moment.at, moment.readings.get(p.metric)
    happened = is_event(state, moment, p.metric)
    seen_at = read_state_instant(state, "seen_at")
    new = {**state}
    if value is not None and (seen_at is None or at >= seen_at):
        new |= {"seen_at": instant_text(at), "value": value}
    inside = find_window_start(at, p.window_start, p.window_end, moment.timezone) is not None
    if not happened or at in events or not inside:
        return new, None
    newest_at = max([at, *events])
    span = timedelta(seconds=p.span_s)
    events = sorted(e for e in [*events, at] if newest_at - e <= span)[-_MOST_EVENTS:]
    new["events"] = [instant_text(e) for e in events]
    if began_at is not None or len(events) < p.events:
        return new, None
    new["began_at"] = instant_text(events[0])
    detail = {"metric": p.metric, "events": len(events), "span_s": p.span_s}
    return new, Turn(True, events[0], newest_at, detail)


def find_due(state: JsonState, moment: Moment, p: ManyEventsParameters) -> datetime | None:
    """When the last event of an episode is a span ago."""
    if "began_at" not in state:
        return None
    events = state.get("events", [])
    return datetime.fromisoformat(events[-1]) + timedelta(seconds=p.span_s) if events else moment.now


TYPE = RuleType(
    name="many_events",
    title_zh="短时间多次事件（如夜间频繁开门）",
    title_en="Many events in a window (such as doors at night)",
    parameters=ManyEventsParameters,
    judge=judge,
    due=find_due,
    timed=True,
    metrics=lambda p: frozenset({p.metric}),
    category="door_night",
    severity=2,
    needs_consent=True,
)
