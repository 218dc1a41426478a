"""Siren (警报器): sounds when it is told to, and says whether it does. No alarm rule of its own."""

import random
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from devices.interlock import judge_clock, judge_fault, judge_remote, measured_since
from devices.model import (
    CommandType,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    Metric,
    NoParameters,
    Payload,
    Percent,
    TopicKind,
    WhenOffline,
    draw_envelope,
    every_topic,
)


class SirenPayload(Payload):
    """Telemetry, event and state: whether it sounds."""

    sounding: bool = Field(description="鸣响中")
    fault: bool = Field(default=False, description="故障")
    control_mode: Literal["remote", "local"] | None = Field(default=None, description="远方就地")
    battery_pct: Percent | None = Field(default=None, description="电量")


class SirenSettings(DeviceSettings):
    """A siren reports about every minute."""

    offline_after_s: float = Field(default=300.0, gt=0)


class Sounding(NoParameters):
    """How long it shall sound; it stops by itself."""

    duration_s: int = Field(ge=1, le=300, description="鸣响时长")


def read_readings(payload: Payload) -> dict[str, float]:
    """Sounding, fault and local control as 1 or 0, and the battery."""
    if not isinstance(payload, SirenPayload):
        return {}
    found = {"sounding": float(payload.sounding), "fault": float(payload.fault)}
    if payload.control_mode is not None:
        found["local_control"] = float(payload.control_mode == "local")
    if payload.battery_pct is not None:
        found["battery_pct"] = payload.battery_pct
    return found


def read_status(payload: Payload) -> DeviceStatus | None:
    """The siren's own word about a fault."""
    if not isinstance(payload, SirenPayload):
        return None
    return DeviceStatus.FAULT if payload.fault else DeviceStatus.OK


def is_sounding(state: DeviceState, parameters: Sounding, since: datetime) -> bool:
    """It sounds."""
    del parameters
    return measured_since(state, "sounding", since) == 1


def is_silent(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """It does not sound."""
    del parameters
    return measured_since(state, "sounding", since) == 0


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A siren at rest."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    return envelope | {
        "sounding": False,
        "fault": False,
        "control_mode": "remote",
        "battery_pct": round(rng.uniform(60, 100), 0),
    }


KIND = DeviceKind(
    name="siren",
    title_zh="警报器",
    title_en="Siren",
    payloads=every_topic(SirenPayload),
    settings=SirenSettings,
    metrics=(
        Metric(name="sounding", unit="", title_zh="鸣响", title_en="Sounding"),
        Metric(name="fault", unit="", title_zh="故障", title_en="Fault"),
        Metric(name="local_control", unit="", title_zh="就地控制", title_en="Local control"),
        Metric(name="battery_pct", unit="%", title_zh="电量", title_en="Battery"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(),
    commands=(
        # A warning that comes minutes late is still a warning, an hour late it is a false alarm.
        CommandType(
            name="sound",
            title_zh="鸣响",
            title_en="Sound the siren",
            parameters=Sounding,
            verified=is_sounding,
            second_person=True,
            when_offline=WhenOffline.WAIT,
            interlocks=(judge_clock, judge_remote, judge_fault("fault")),
            expiry_s=300.0,
            verify_timeout_s=60.0,
        ),
        CommandType(
            name="stop_sounding",
            title_zh="停止鸣响",
            title_en="Silence the siren",
            parameters=NoParameters,
            verified=is_silent,
            when_offline=WhenOffline.WAIT,
            moving=False,
            halts=True,
            expiry_s=3600.0,
            verify_timeout_s=180.0,
        ),
    ),
    symbol="siren",
    sample=draw_sample,
)
