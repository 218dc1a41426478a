"""Door sensor (门磁) at the home of a person cared for (重点服务对象).

Rules: no opening over a set span of the day; frequent opening at night. Both judge only devices whose settings say
`care`, since an ordinary door is nobody's business.
"""

import random
from datetime import UTC, datetime, time, timedelta
from typing import Any

from pydantic import Field

from devices.model import (
    Alarm,
    DeviceKind,
    DeviceSettings,
    DeviceStatus,
    JsonState,
    Message,
    Metric,
    Payload,
    Percent,
    Rule,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_state_instant,
    seconds_between,
    write_instant,
)
from devices.window import find_next_start, find_window_start

_MOST_OPENINGS = 200  # kept for the night rule


class DoorSensorPayload(Payload):
    """Telemetry is the heartbeat; an event is one change of the door, sent when it changed and not again."""

    open: bool = Field(description="the door stands open / 门开")
    tamper: bool | None = Field(default=None, description="taken off the door / 防拆")
    battery_pct: Percent | None = None
    signal_dbm: float | None = Field(default=None, ge=-150, le=0)


class DoorSensorSettings(DeviceSettings):
    """Spans and windows are this project's own values; windows are the city's local time and may pass midnight.

    A day window that starts when it ends is the whole day.
    """

    offline_after_s: float = Field(default=3 * 3600.0, gt=0)
    care: bool = Field(default=False, description="the home of a person cared for, who has consented / 重点服务对象")
    day_start: time = time(6)
    day_end: time = time(22)
    silent_span_s: float = Field(default=10 * 3600.0, gt=0, description="no opening in the day window for so long")
    night_start: time = time(22)
    night_end: time = time(5)
    night_span_s: float = Field(default=3600.0, gt=0, description="openings are counted over this span")
    night_openings: int = Field(default=4, ge=1, le=_MOST_OPENINGS)


def step_silent(
    state: JsonState, message: Message | None, now: datetime, settings: DoorSensorSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """No opening in the day window for `silent_span_s` raises, an opening ends it.

    Counted from the last opening, the window's start or the first message ever, whichever is latest. Judged only when
    time passes, and only while the sensor is heard: a sensor that is away says nothing about its person.
    """
    if message is None:
        return _judge_silence(state, now, settings, timezone)
    if not isinstance(message.payload, DoorSensorPayload):
        return state, []
    at = message.measured_at
    new: JsonState = {"first_seen_at": instant_text(at), **state}
    opening = message.payload.open and message.topic_kind is TopicKind.EVENT
    seen_at = read_state_instant(state, "seen_at")
    if seen_at is None or at >= seen_at:
        # A heartbeat that finds the door open after it was closed: the opening's own event was lost.
        opening = opening or (message.payload.open and state.get("open") is False)
        new |= {"seen_at": instant_text(at), "open": message.payload.open}
    if not opening:
        return new, []
    opened_at = max(at, read_state_instant(state, "opened_at") or at)
    new["opened_at"] = instant_text(opened_at)
    silent_from = read_state_instant(state, "silent_from")
    if silent_from is None or at < silent_from:
        return new, []
    del new["silent_from"]
    return new, [_silent(silent_from, raised=False, occurred_at=at, detail={})]


def _judge_silence(
    state: JsonState, now: datetime, settings: DoorSensorSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    first_seen_at, seen_at = read_state_instant(state, "first_seen_at"), read_state_instant(state, "seen_at")
    if first_seen_at is None or seen_at is None or not settings.care:
        return state, []
    if seconds_between(seen_at, now) > settings.silent_after_s:
        return state, []
    window_start = find_window_start(now, settings.day_start, settings.day_end, timezone)
    if window_start is None:
        return state, []
    if settings.day_start == settings.day_end:
        window_start = first_seen_at
    opened_at = read_state_instant(state, "opened_at")
    silent_from = max(first_seen_at, window_start.astimezone(first_seen_at.tzinfo), opened_at or first_seen_at)
    silent_s = seconds_between(silent_from, now)
    known_from = read_state_instant(state, "silent_from")
    # A new day window without an opening is a new episode: yesterday's may have been closed by a visit.
    if silent_s < settings.silent_span_s or (known_from is not None and silent_from <= known_from):
        return state, []
    detail: dict[str, Any] = {"silent_s": round(silent_s, 1), "silent_span_s": settings.silent_span_s}
    if opened_at is not None:
        detail["opened_at"] = write_instant(opened_at)
    new = {**state, "silent_from": instant_text(silent_from)}
    return new, [_silent(silent_from, raised=True, occurred_at=now, detail=detail)]


def find_silence_due(state: JsonState, now: datetime, settings: DoorSensorSettings, timezone: str) -> datetime | None:
    """When the span without an opening is over at the earliest: in the window of now, or in the next one."""
    first_seen_at = read_state_instant(state, "first_seen_at")
    if first_seen_at is None or not settings.care:
        return None
    span = timedelta(seconds=settings.silent_span_s)
    known_from = read_state_instant(state, "silent_from")
    counted_from = max(first_seen_at, read_state_instant(state, "opened_at") or first_seen_at)
    if settings.day_start == settings.day_end:
        return counted_from + span if known_from is None or counted_from > known_from else None
    window_start = find_window_start(now, settings.day_start, settings.day_end, timezone)
    if window_start is not None:
        silent_from = max(counted_from, window_start.astimezone(UTC))
        if known_from is None or silent_from > known_from:
            return silent_from + span
    return find_next_start(now, settings.day_start, timezone) + span


def _silent(silent_from: datetime, *, raised: bool, occurred_at: datetime, detail: dict[str, Any]) -> Alarm:
    cause = write_instant(silent_from)
    return Alarm(
        rule="door_silent", category="door_silent", cause=cause, raised=raised, occurred_at=occurred_at, detail=detail
    )


def step_night(
    state: JsonState, message: Message | None, now: datetime, settings: DoorSensorSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """`night_openings` openings within `night_span_s`, all in the night window, raise; a span without one ends it."""
    openings = [datetime.fromisoformat(text) for text in state.get("openings", [])]
    began_at = read_state_instant(state, "began_at")
    if message is None:
        if began_at is None or (openings and seconds_between(openings[-1], now) <= settings.night_span_s):
            return state, []
        ended = {key: value for key, value in state.items() if key not in ("began_at", "openings")}
        return ended, [_night(began_at, raised=False, occurred_at=now, detail={})]
    if not isinstance(message.payload, DoorSensorPayload) or not settings.care:
        return state, []
    at = message.measured_at
    opening = message.payload.open and message.topic_kind is TopicKind.EVENT
    if (
        not opening
        or at in openings
        or find_window_start(at, settings.night_start, settings.night_end, timezone) is None
    ):
        return state, []
    newest_at = max([at, *openings])
    span = timedelta(seconds=settings.night_span_s)
    openings = sorted(o for o in [*openings, at] if newest_at - o <= span)[-_MOST_OPENINGS:]
    new: JsonState = {**state, "openings": [instant_text(o) for o in openings]}
    if began_at is not None or len(openings) < settings.night_openings:
        return new, []
    new["began_at"] = instant_text(openings[0])
    detail = {"openings": len(openings), "night_span_s": settings.night_span_s}
    return new, [_night(openings[0], raised=True, occurred_at=newest_at, detail=detail)]


def find_night_due(state: JsonState, now: datetime, settings: DoorSensorSettings, timezone: str) -> datetime | None:
    """When the last opening of an episode is a span ago."""
    del timezone
    if "began_at" not in state:
        return None
    openings = state.get("openings", [])
    return datetime.fromisoformat(openings[-1]) + timedelta(seconds=settings.night_span_s) if openings else now


def _night(began_at: datetime, *, raised: bool, occurred_at: datetime, detail: dict[str, Any]) -> Alarm:
    cause = write_instant(began_at)
    return Alarm(
        rule="door_night", category="door_night", cause=cause, raised=raised, occurred_at=occurred_at, detail=detail
    )


def read_readings(payload: Payload) -> dict[str, float]:
    """The door as 1 (open) or 0, battery and signal."""
    names = ("open", "battery_pct", "signal_dbm")
    return {n: float(v) for n in names if (v := getattr(payload, n, None)) is not None}


def read_status(payload: Payload) -> DeviceStatus | None:
    """A sensor taken off its door is broken."""
    if not isinstance(payload, DoorSensorPayload):
        return None
    return DeviceStatus.FAULT if payload.tamper else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A heartbeat of a closed door; as an event, an opening."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    return envelope | {
        "open": topic_kind is TopicKind.EVENT,
        "tamper": False,
        "battery_pct": round(rng.uniform(60, 100), 0),
        "signal_dbm": round(rng.uniform(-100, -65), 0),
    }


KIND = DeviceKind(
    name="door_sensor",
    title_zh="门磁",
    title_en="Door sensor",
    payloads=every_topic(DoorSensorPayload),
    settings=DoorSensorSettings,
    metrics=(
        Metric(name="open", unit="", title_zh="门开", title_en="Door open"),
        Metric(name="battery_pct", unit="%", title_zh="电量", title_en="Battery"),
        Metric(name="signal_dbm", unit="dBm", title_zh="信号", title_en="Signal"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(
        Rule(
            name="door_silent",
            category="door_silent",
            title_zh="长时未开门",
            title_en="Door not opened",
            step=step_silent,
            timed=True,
            due=find_silence_due,
            needs_consent=True,
        ),
        Rule(
            name="door_night",
            category="door_night",
            title_zh="夜间频繁开门",
            title_en="Door opened often at night",
            step=step_night,
            timed=True,
            due=find_night_due,
            needs_consent=True,
        ),
    ),
    symbol="door",
    sample=draw_sample,
)
