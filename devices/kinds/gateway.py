"""Gateway (网关): other devices hang on it and speak through its log-in; it reports about itself.

A gateway that is silent is offline as any device is (`offline_after_s`); its children are then expected to be silent too.
"""

import random
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from devices.model import (
    DeviceKind,
    DeviceSettings,
    DeviceStatus,
    Metric,
    Payload,
    Percent,
    Text,
    TopicKind,
    draw_envelope,
    every_topic,
)


class GatewayPayload(Payload):
    """Telemetry, event and state have the same fields."""

    uptime_s: float | None = Field(default=None, ge=0, lt=10**10, description="since its last start / 运行时长")
    children_online: int | None = Field(default=None, ge=0, lt=10**6, description="devices it hears / 在线子设备数")
    signal_dbm: float | None = Field(default=None, ge=-150, le=0, description="its uplink / 上行信号强度")
    cpu_pct: Percent | None = None
    on_battery: bool | None = Field(default=None, description="runs on its battery: mains is gone / 市电中断")
    fault: bool | None = Field(default=None, description="it says that it is broken / 故障")
    firmware: Text | None = None


class GatewaySettings(DeviceSettings):
    """A gateway reports every minute or oftener."""


_METRICS = ("uptime_s", "children_online", "signal_dbm", "cpu_pct")


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric; mains as 1 or 0."""
    found = {name: float(value) for name in _METRICS if (value := getattr(payload, name, None)) is not None}
    on_battery = getattr(payload, "on_battery", None)
    return found if on_battery is None else {**found, "on_battery": float(on_battery)}


def read_status(payload: Payload) -> DeviceStatus | None:
    """Its own fault is the gateway's trouble; running on battery is not yet."""
    if not isinstance(payload, GatewayPayload) or payload.fault is None:
        return None
    return DeviceStatus.FAULT if payload.fault else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A gateway at work."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    return envelope | {
        "uptime_s": float(rng.randrange(3600, 30 * 86400)),
        "children_online": rng.randrange(1, 60),
        "signal_dbm": round(rng.uniform(-95, -60), 0),
        "cpu_pct": round(rng.uniform(3, 40), 1),
        "on_battery": False,
        "fault": False,
        "firmware": "2.3.0",
    }


KIND = DeviceKind(
    name="gateway",
    title_zh="网关",
    title_en="Gateway",
    payloads=every_topic(GatewayPayload),
    settings=GatewaySettings,
    metrics=(
        Metric(name="uptime_s", unit="s", title_zh="运行时长", title_en="Uptime"),
        Metric(name="children_online", unit="", title_zh="在线子设备", title_en="Children online"),
        Metric(name="signal_dbm", unit="dBm", title_zh="信号", title_en="Signal"),
        Metric(name="cpu_pct", unit="%", title_zh="处理器", title_en="Processor"),
        Metric(name="on_battery", unit="", title_zh="电池供电", title_en="On battery"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(),
    symbol="gateway",
    sample=draw_sample,
)
