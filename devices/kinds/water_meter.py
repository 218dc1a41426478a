"""Water meter (水表), as NB-IoT models report: a cumulative volume, flow, battery, valve.

Rules: the meter's own leak or burst flag; water that runs through the whole of a night window without a pause, which no
household does and a leak always does. The second watches a home and needs the consent of who lives there.
"""

import random
from datetime import datetime, time, timedelta
from typing import Any, Literal

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
    Text,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_state_instant,
    seconds_between,
    write_instant,
)
from devices.window import find_window_start


class WaterMeterPayload(Payload):
    """Telemetry, event and state have the same fields. `volume_m3` counts up for the meter's whole life."""

    volume_m3: float = Field(ge=0, le=100_000_000, description="cumulative, net of reverse flow / 累计用量")
    flow_m3_h: float | None = Field(default=None, ge=-10_000, le=10_000, description="negative: backwards / 瞬时流量")
    reverse_m3: float | None = Field(default=None, ge=0, le=100_000_000, description="cumulative backwards / 反向累计")
    leak: bool | None = Field(default=None, description="the meter's own leak flag / 漏水标志")
    burst: bool | None = Field(default=None, description="flow above the meter's own limit / 爆管标志")
    reverse_flow: bool | None = Field(default=None, description="water runs backwards / 反流")
    tamper: bool | None = Field(default=None, description="taken off, or a magnet near it / 拆卸、强磁")
    valve: Literal["open", "closed", "fault"] | None = Field(default=None, description="阀门")
    battery_pct: Percent | None = None
    battery_v: float | None = Field(default=None, ge=0, le=20)
    temperature_c: float | None = Field(default=None, ge=-60, le=120)
    signal_dbm: float | None = Field(default=None, ge=-150, le=0)
    firmware: Text | None = None


class WaterMeterSettings(DeviceSettings):
    """NB-IoT meters report once a day, dense data included. Windows are the city's local time; values are our own."""

    offline_after_s: float = Field(default=50 * 3600.0, gt=0)
    night_start: time = time(1)
    night_end: time = time(5)
    night_flow_m3_h: float = Field(default=0.005, gt=0, description="more than this all night is a leak")
    night_hold_s: float = Field(default=2 * 3600.0, gt=0, description="running for so long within the window")
    night_gap_s: float = Field(default=3600.0, gt=0, description="readings further apart say nothing about a pause")


def step_leak(
    state: JsonState, message: Message | None, now: datetime, settings: WaterMeterSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """The meter's flag: `leak` or `burst` raises, both gone ends it. A message that says neither changes nothing."""
    del now, settings, timezone
    if message is None or not isinstance(message.payload, WaterMeterPayload):
        return state, []
    payload, at = message.payload, message.measured_at
    seen_at = read_state_instant(state, "seen_at")
    if (payload.leak is None and payload.burst is None) or (seen_at is not None and at < seen_at):
        return state, []
    new: JsonState = {**state, "seen_at": instant_text(at)}
    wrong, began_at = bool(payload.leak or payload.burst), read_state_instant(state, "began_at")
    if wrong and began_at is None:
        detail = {"flag": "burst" if payload.burst else "leak", "volume_m3": payload.volume_m3}
        alarm = _alarm("water_leak", at, raised=True, occurred_at=at, **detail)
        return {**new, "began_at": instant_text(at)}, [alarm]
    if not wrong and began_at is not None:
        del new["began_at"]
        return new, [_alarm("water_leak", began_at, raised=False, occurred_at=at)]
    return new, []


def step_night_flow(
    state: JsonState, message: Message | None, now: datetime, settings: WaterMeterSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """Water running without a pause for `night_hold_s` within one night window raises; a pause at any hour ends it.

    Flow is the rise of `volume_m3` between two readings at most `night_gap_s` apart. A reading that comes late, or a
    counter that went back (a new meter), starts anew.
    """
    del now
    if message is None or not isinstance(message.payload, WaterMeterPayload):
        return state, []
    at, volume_m3 = message.measured_at, message.payload.volume_m3
    last_at = read_state_instant(state, "at")
    if last_at is not None and at <= last_at:
        return state, []
    new: JsonState = {**state, "at": instant_text(at), "volume_m3": volume_m3}
    began_at, running_from = read_state_instant(state, "began_at"), read_state_instant(state, "running_from")
    if last_at is None or seconds_between(last_at, at) > settings.night_gap_s or volume_m3 < state["volume_m3"]:
        new.pop("running_from", None)
        return new, []
    flow_m3_h = (volume_m3 - state["volume_m3"]) / (seconds_between(last_at, at) / 3600.0)
    if flow_m3_h <= settings.night_flow_m3_h:
        new.pop("running_from", None)
        new.pop("began_at", None)
        ended = [] if began_at is None else [_alarm("water_night_flow", began_at, raised=False, occurred_at=at)]
        return new, ended
    window_start = find_window_start(at, settings.night_start, settings.night_end, timezone)
    if window_start is None:
        new.pop("running_from", None)
        return new, []
    running_from = max(running_from or last_at, window_start.astimezone(last_at.tzinfo))
    new["running_from"] = instant_text(running_from)
    running_s = seconds_between(running_from, at)
    if began_at is not None or running_s < settings.night_hold_s:
        return new, []
    new["began_at"] = instant_text(running_from)
    detail = {"running_s": round(running_s), "flow_m3_h": round(flow_m3_h, 4)}
    return new, [_alarm("water_night_flow", running_from, raised=True, occurred_at=at, **detail)]


def _alarm(rule: str, began_at: datetime, *, raised: bool, occurred_at: datetime, **detail: Any) -> Alarm:
    cause = write_instant(began_at)
    return Alarm(rule=rule, category="water_leak", cause=cause, raised=raised, occurred_at=occurred_at, detail=detail)


_NUMBERS = ("volume_m3", "flow_m3_h", "reverse_m3", "battery_pct", "battery_v", "temperature_c", "signal_dbm")


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric; the valve as 1 (open) or 0."""
    found = {n: float(v) for n in _NUMBERS if (v := getattr(payload, n, None)) is not None}
    if isinstance(payload, WaterMeterPayload) and payload.valve in ("open", "closed"):
        found["valve_open"] = float(payload.valve == "open")
    return found


def read_status(payload: Payload) -> DeviceStatus | None:
    """Taken off, running backwards or with a stuck valve, the meter itself needs somebody."""
    if not isinstance(payload, WaterMeterPayload):
        return None
    wrong = payload.tamper or payload.reverse_flow or payload.valve == "fault"
    return DeviceStatus.FAULT if wrong else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A household meter in ordinary use."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    return envelope | {
        "volume_m3": round(rng.uniform(50, 900), 3),
        "flow_m3_h": round(rng.choice((0.0, 0.0, rng.uniform(0.05, 0.6))), 3),
        "leak": False,
        "burst": False,
        "reverse_flow": False,
        "valve": "open",
        "battery_v": round(rng.uniform(3.4, 3.65), 2),
        "temperature_c": round(rng.uniform(8, 22), 1),
        "signal_dbm": round(rng.uniform(-110, -75), 0),
    }


KIND = DeviceKind(
    name="water_meter",
    title_zh="水表",
    title_en="Water meter",
    payloads=every_topic(WaterMeterPayload),
    settings=WaterMeterSettings,
    metrics=(
        Metric(name="volume_m3", unit="m³", title_zh="累计用量", title_en="Volume"),
        Metric(name="flow_m3_h", unit="m³/h", title_zh="瞬时流量", title_en="Flow"),
        Metric(name="reverse_m3", unit="m³", title_zh="反向累计", title_en="Reverse volume"),
        Metric(name="valve_open", unit="", title_zh="阀门开", title_en="Valve open"),
        Metric(name="battery_pct", unit="%", title_zh="电量", title_en="Battery"),
        Metric(name="battery_v", unit="V", title_zh="电池电压", title_en="Battery voltage"),
        Metric(name="temperature_c", unit="°C", title_zh="水温", title_en="Temperature"),
        Metric(name="signal_dbm", unit="dBm", title_zh="信号", title_en="Signal"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(
        Rule(name="water_leak", category="water_leak", title_zh="漏水标志", title_en="Leak flag", step=step_leak),
        Rule(
            name="water_night_flow",
            category="water_leak",
            title_zh="夜间持续用水",
            title_en="Water running all night",
            step=step_night_flow,
            needs_consent=True,
        ),
    ),
    symbol="meter",
    sample=draw_sample,
)
