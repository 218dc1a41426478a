"""No opening, or no other event of a metric, over a span of the day: a pattern of persons cared for (重点服务对象)."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from pydantic import Field

from devices.model import JsonState, instant_text, read_state_instant, seconds_between, write_instant
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Span, Turn
from devices.window import find_next_start, find_window_start


class NoEventParameters(Parameters):
    """Windows are the city's local time and may pass midnight; one that starts when it ends is the whole day."""

    metric: MetricName = "open"
    span_s: Span = Field(default=10 * 3600.0, description="no event for so long / 无事件时长（秒）")
    day_start: time = time(6)
    day_end: time = time(22)


def is_event(state: JsonState, moment: Moment, metric: str) -> bool:
    """A value above 0 that an event told, or that follows one of 0: the event's own message was lost, or is not known."""
    value = moment.readings.get(metric)
    if value is None or value <= 0:
        return False
    return bool(moment.is_event) or (state.get("value") is not None and state["value"] <= 0)


def judge(state: JsonState, moment: Moment, p: NoEventParameters) -> tuple[JsonState, Turn | None]:
    """No event in the window for `span_s` raises, an event ends it. Judged only while the device is heard."""
    if moment.passing:
        return _judge_silence(state, moment, p)
    at = moment.at
    new: JsonState = {"first_seen_at": instant_text(at), **state}
    happened = is_event(state, moment, p.metric)
    seen_at = read_state_instant(state, "seen_at")
    if p.metric in moment.readings and (seen_at is None or at >= seen_at):
        new |= {"seen_at": instant_text(at), "value": moment.readings[p.metric]}
    if not happened:
        return new, None
    new["event_at"] = instant_text(max(at, read_state_instant(state, "event_at") or at))
    silent_from = read_state_instant(state, "silent_from")
    if silent_from is None or at < silent_from:
        return new, None
    del new["silent_from"]
    return new, Turn(False, silent_from, at, {"metric": p.metric})


def _judge_silence(state: JsonState, moment: Moment, p: NoEventParameters) -> tuple[JsonState, Turn | None]:
    first_seen_at, heard_at = read_state_instant(state, "first_seen_at"), moment.state.last_seen_at
    window_start = find_window_start(moment.now, p.day_start, p.day_end, moment.timezone)
    if first_seen_at is None or heard_at is None or window_start is None:
        return state, None
    if seconds_between(heard_at, moment.now) > moment.silent_after_s:
        return state, None
    if p.day_start == p.day_end:
        window_start = first_seen_at
    event_at = read_state_instant(state, "event_at")
    silent_from = max(first_seen_at, window_start.astimezone(UTC), event_at or first_seen_at)
    known_from = read_state_instant(state, "silent_from")
    silent_s = seconds_between(silent_from, moment.now)
    if silent_s < p.span_s or (known_from is not None and silent_from <= known_from):
        return state, None
    detail: dict[str, Any] = {"metric": p.metric, "silent_s": round(silent_s, 1), "span_s": p.span_s}
    if event_at is not None:
        detail["event_at"] = write_instant(event_at)
    return {**state, "silent_from": instant_text(silent_from)}, Turn(True, silent_from, moment.now, detail)


def find_due(state: JsonState, moment: Moment, p: NoEventParameters) -> datetime | None:
    """When the span without an event is over at the earliest: in the window of now, or in the next one."""
    first_seen_at = read_state_instant(state, "first_seen_at")
    if first_seen_at is None:
        return None
    span = timedelta(seconds=p.span_s)
    known_from = read_state_instant(state, "silent_from")
    counted_from = max(first_seen_at, read_state_instant(state, "event_at") or first_seen_at)
    if p.day_start == p.day_end:
        return counted_from + span if known_from is None or counted_from > known_from else None
    window_start = find_window_start(moment.now, p.day_start, p.day_end, moment.timezone)
    if window_start is not None:
        silent_from = max(counted_from, window_start.astimezone(UTC))
        if known_from is None or silent_from > known_from:
            return silent_from + span
    return find_next_start(moment.now, p.day_start, moment.timezone) + span


TYPE = RuleType(
    name="no_event",
    title_zh="长时间无事件（如白天未开门）",
    title_en="No event over a day span (such as no door opening)",
    parameters=NoEventParameters,
    judge=judge,
    due=find_due,
    timed=True,
    metrics=lambda p: frozenset({p.metric}),
    category="door_silent",
    severity=1,
    needs_consent=True,
)
