"""Smoke alarm (烟感), as NB-IoT models report: status, battery, temperature, signal.

An alarm opens an incident; its repeats don't open another; the device's own recovery ends the episode, but never closes
the incident (a named person does). A self-test opens nothing.
"""

import random
from datetime import datetime, timedelta
from enum import StrEnum
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
    Text,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_state_instant,
    write_instant,
)


class SmokeStatus(StrEnum):
    """What the alarm says about itself."""

    NORMAL = "normal"
    ALARM = "alarm"
    RECOVERED = "recovered"
    SELF_TEST = "self_test"
    LOW_BATTERY = "low_battery"
    FAULT = "fault"


_CLEAR = frozenset({SmokeStatus.NORMAL, SmokeStatus.RECOVERED})


class SmokeAlarmPayload(Payload):
    """Telemetry, event and state have the same fields."""

    status: SmokeStatus = Field(strict=False)
    imei: str | None = Field(default=None, pattern=r"^\d{14,16}$")
    iccid: str | None = Field(default=None, pattern=r"^[0-9A-Fa-f]{19,20}$")
    firmware: Text | None = None
    smoke_density_db_m: float | None = Field(default=None, ge=0, le=50, description="optical density, dB/m / 烟雾浓度")
    temperature_c: float | None = Field(default=None, ge=-60, le=300)
    battery_pct: Percent | None = None
    signal_dbm: float | None = Field(default=None, ge=-150, le=0)
    tamper: bool | None = Field(default=None, description="taken off its base / 防拆")
    silenced: bool | None = Field(default=None, description="the horn was silenced; the smoke is not gone / 消音")


class SmokeAlarmSettings(DeviceSettings):
    """NB-IoT alarms sleep: once a day is usual."""

    offline_after_s: float = Field(default=26 * 3600.0, gt=0)


def step_smoke(
    state: JsonState, message: Message | None, now: datetime, settings: SmokeAlarmSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """One episode from the first `alarm` to `recovered` or `normal`.

    An alarm that comes after a newer message (two workers, a redelivery) is still reported, since it burned: unless it
    lies in the episode that is already known.
    """
    del now, settings, timezone
    if message is None or not isinstance(message.payload, SmokeAlarmPayload):
        return state, []
    status, at = message.payload.status, message.measured_at
    seen_at = read_state_instant(state, "seen_at")
    if seen_at is not None and at < seen_at:
        return _take_late(state, message)
    alarms: list[Alarm] = []
    new = {**state, "seen_at": instant_text(at)}
    if status is SmokeStatus.ALARM and not state.get("active"):
        new |= {"active": True, "began_at": instant_text(at)}
        new.pop("ended_at", None)
        alarms.append(_smoke(at, raised=True, occurred_at=at, payload=message.payload))
    elif status in _CLEAR and state.get("active"):
        began_at = read_state_instant(state, "began_at") or at
        new |= {"active": False, "ended_at": instant_text(at)}
        alarms.append(_smoke(began_at, raised=False, occurred_at=at, payload=message.payload))
    return new, alarms


def _take_late(state: JsonState, message: Message) -> tuple[JsonState, list[Alarm]]:
    payload, at = message.payload, message.measured_at
    if not isinstance(payload, SmokeAlarmPayload) or payload.status is not SmokeStatus.ALARM:
        return state, []
    began_at, ended_at = read_state_instant(state, "began_at"), read_state_instant(state, "ended_at")
    if state.get("active"):
        return state, []  # the same fire, told twice
    if began_at is not None and ended_at is not None and began_at <= at <= ended_at:
        return state, []
    seen_at = read_state_instant(state, "seen_at") or at
    new = {**state, "began_at": instant_text(at), "ended_at": instant_text(seen_at)}
    return new, [
        _smoke(at, raised=True, occurred_at=at, payload=payload),
        _smoke(at, raised=False, occurred_at=seen_at, payload=payload),
    ]


def _smoke(began_at: datetime, *, raised: bool, occurred_at: datetime, payload: SmokeAlarmPayload) -> Alarm:
    detail: dict[str, Any] = {"status": str(payload.status)}
    for name in ("smoke_density_db_m", "temperature_c", "battery_pct"):
        if (value := getattr(payload, name)) is not None:
            detail[name] = value
    return Alarm(
        rule="smoke",
        category="smoke",
        cause=write_instant(began_at),
        raised=raised,
        occurred_at=occurred_at,
        detail=detail,
    )


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric."""
    names = ("smoke_density_db_m", "temperature_c", "battery_pct", "signal_dbm")
    return {n: float(v) for n in names if (v := getattr(payload, n, None)) is not None}


def read_status(payload: Payload) -> DeviceStatus | None:
    """A fault, a flat battery or an alarm taken off its base is the device's own trouble."""
    if not isinstance(payload, SmokeAlarmPayload):
        return None
    if payload.tamper or payload.status in (SmokeStatus.FAULT, SmokeStatus.LOW_BATTERY):
        return DeviceStatus.FAULT
    return DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """An alarm at rest."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    return envelope | {
        "status": "normal",
        "imei": f"86{rng.randrange(10**13):013d}",
        "firmware": "1.4.2",
        "smoke_density_db_m": round(rng.uniform(0.0, 0.03), 3),
        "temperature_c": round(rng.uniform(15, 27), 1),
        "battery_pct": round(rng.uniform(60, 100), 0),
        "signal_dbm": round(rng.uniform(-105, -70), 0),
        "tamper": False,
        "silenced": False,
    }


KIND = DeviceKind(
    name="smoke_alarm",
    title_zh="烟感",
    title_en="Smoke alarm",
    payloads=every_topic(SmokeAlarmPayload),
    settings=SmokeAlarmSettings,
    metrics=(
        Metric(name="smoke_density_db_m", unit="dB/m", title_zh="烟雾浓度", title_en="Smoke density"),
        Metric(name="temperature_c", unit="°C", title_zh="温度", title_en="Temperature"),
        Metric(name="battery_pct", unit="%", title_zh="电量", title_en="Battery"),
        Metric(name="signal_dbm", unit="dBm", title_zh="信号", title_en="Signal"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(Rule(name="smoke", category="smoke", title_zh="烟感报警", title_en="Smoke alarm", step=step_smoke),),
    symbol="smoke",
    sample=draw_sample,
)
