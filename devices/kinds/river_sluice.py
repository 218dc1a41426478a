"""River sluice station (闸站) with its gauges; elements as SL 651 and SZY 206 name them.

One rule: the river's level stands above its limit. Water classes (GB 3838) are not judged here.
"""

import random
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, model_validator

from devices.model import (
    Alarm,
    DeviceKind,
    DeviceSettings,
    JsonState,
    Message,
    Metric,
    Payload,
    Reply,
    Rule,
    TopicKind,
    draw_envelope,
    instant_text,
    read_state_instant,
    seconds_between,
    write_instant,
)


class RiverSluicePayload(Payload):
    """Telemetry and state. Levels are metres above the station's own datum."""

    level_m: float = Field(ge=-20, le=9000, description="river level / 河道水位")
    upstream_level_m: float | None = Field(default=None, ge=-20, le=9000, description="闸上水位")
    downstream_level_m: float | None = Field(default=None, ge=-20, le=9000, description="闸下水位")
    gate_number: int | None = Field(default=None, ge=1, le=999, description="闸门编号")
    gate_opening_m: float | None = Field(default=None, ge=0, le=50, description="闸门开度")
    open_holes: int | None = Field(default=None, ge=0, le=999, description="开启孔数")
    pumps_running: int | None = Field(default=None, ge=0, le=999, description="运行泵数")
    flow_m3_s: float | None = Field(default=None, ge=-10_000, le=100_000, description="流量")
    voltage_v: float | None = Field(default=None, ge=0, le=1000, description="电源电压")
    status_word: int | None = Field(default=None, ge=0, lt=2**32, description="状态字")
    ph: float | None = Field(default=None, ge=0, le=14)
    conductivity_us_cm: float | None = Field(default=None, ge=0, le=500_000, description="电导率")
    turbidity_ntu: float | None = Field(default=None, ge=0, le=100_000, description="浊度")
    ammonia_nitrogen_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="NH3-N 氨氮")
    dissolved_oxygen_mg_l: float | None = Field(default=None, ge=0, le=100, description="DO 溶解氧")
    codmn_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="CODMn 高锰酸盐指数")
    total_phosphorus_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="TP 总磷")


class RiverSluiceSettings(DeviceSettings):
    """The limit is the station's own; 2.5 m is only this project's example. `hold_s` helps against a noisy gauge."""

    offline_after_s: float = Field(default=900.0, gt=0)
    level_limit_m: float = Field(default=2.5, ge=-20, le=9000, description="alarm above this level / 警戒水位")
    hysteresis_m: float = Field(default=0.1, ge=0, description="over when so far below the limit")
    hold_s: float = Field(
        default=0.0, ge=0, description="above for so long, by at least two readings, before the alarm"
    )
    clear_hold_s: float = Field(default=0.0, ge=0, description="below for so long before it is over")

    @model_validator(mode="after")
    def _check(self) -> "RiverSluiceSettings":
        if self.hysteresis_m > 100:
            raise ValueError("hysteresis_m is more than any river moves")
        return self


def step_level(
    state: JsonState, message: Message | None, now: datetime, settings: RiverSluiceSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """Above the limit for `hold_s` raises; below limit less hysteresis for `clear_hold_s` ends it. Late readings are ignored.

    Measured between readings only: that no reading came says nothing about the water.
    """
    del now, timezone
    if message is None or not isinstance(message.payload, RiverSluicePayload):
        return state, []
    level_m, at = message.payload.level_m, message.measured_at
    seen_at = read_state_instant(state, "seen_at")
    if seen_at is not None and at < seen_at:
        return state, []
    new: JsonState = {**state, "seen_at": instant_text(at)}
    active = bool(state.get("active"))
    if active:
        turning, hold_s = level_m < settings.level_limit_m - settings.hysteresis_m, settings.clear_hold_s
    else:
        turning, hold_s = level_m > settings.level_limit_m, settings.hold_s
    if not turning:
        new.pop("turning_at", None)
        return new, []
    turning_at = read_state_instant(state, "turning_at") or at
    if seconds_between(turning_at, at) < hold_s:
        new["turning_at"] = instant_text(turning_at)
        return new, []
    new.pop("turning_at", None)
    new["active"] = not active
    if not active:
        new["began_at"] = instant_text(turning_at)
    began_at = read_state_instant(new, "began_at") or at
    detail = {"level_m": level_m, "level_limit_m": settings.level_limit_m}
    return new, [
        Alarm(
            rule="river_level",
            category="river_level",
            cause=write_instant(began_at),
            raised=not active,
            occurred_at=at,
            detail=detail,
        )
    ]


_METRICS = (
    Metric(name="level_m", unit="m", title_zh="河道水位", title_en="River level"),
    Metric(name="upstream_level_m", unit="m", title_zh="闸上水位", title_en="Upstream level"),
    Metric(name="downstream_level_m", unit="m", title_zh="闸下水位", title_en="Downstream level"),
    Metric(name="gate_opening_m", unit="m", title_zh="闸门开度", title_en="Gate opening"),
    Metric(name="open_holes", unit="", title_zh="开启孔数", title_en="Open holes"),
    Metric(name="pumps_running", unit="", title_zh="运行泵数", title_en="Pumps running"),
    Metric(name="flow_m3_s", unit="m³/s", title_zh="流量", title_en="Flow"),
    Metric(name="voltage_v", unit="V", title_zh="电压", title_en="Voltage"),
    Metric(name="ph", unit="", title_zh="pH", title_en="pH"),
    Metric(name="conductivity_us_cm", unit="µS/cm", title_zh="电导率", title_en="Conductivity"),
    Metric(name="turbidity_ntu", unit="NTU", title_zh="浊度", title_en="Turbidity"),
    Metric(name="ammonia_nitrogen_mg_l", unit="mg/L", title_zh="氨氮", title_en="Ammonia nitrogen"),
    Metric(name="dissolved_oxygen_mg_l", unit="mg/L", title_zh="溶解氧", title_en="Dissolved oxygen"),
    Metric(name="codmn_mg_l", unit="mg/L", title_zh="高锰酸盐指数", title_en="CODMn"),
    Metric(name="total_phosphorus_mg_l", unit="mg/L", title_zh="总磷", title_en="Total phosphorus"),
)


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric."""
    return {m.name: float(v) for m in _METRICS if (v := getattr(payload, m.name, None)) is not None}


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A station at ordinary water."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    if topic_kind is TopicKind.REPLY:
        return envelope | {"command_id": f"{rng.getrandbits(32):08x}", "result": "done"}
    level_m = rng.uniform(1.2, 1.6)
    return envelope | {
        "level_m": round(level_m, 3),
        "upstream_level_m": round(level_m + rng.uniform(0.0, 0.05), 3),
        "downstream_level_m": round(level_m - rng.uniform(0.1, 0.4), 3),
        "gate_number": 1,
        "gate_opening_m": round(rng.uniform(0.0, 0.6), 2),
        "open_holes": 1,
        "pumps_running": 0,
        "flow_m3_s": round(rng.uniform(0.5, 4.0), 2),
        "voltage_v": round(rng.uniform(12.2, 13.6), 1),
        "ph": round(rng.uniform(6.8, 7.8), 2),
        "dissolved_oxygen_mg_l": round(rng.uniform(5.0, 8.5), 2),
        "ammonia_nitrogen_mg_l": round(rng.uniform(0.1, 1.2), 2),
        "turbidity_ntu": round(rng.uniform(5, 40), 1),
    }


KIND = DeviceKind(
    name="river_sluice",
    title_zh="闸站",
    title_en="River sluice",
    payloads={
        TopicKind.TELEMETRY: RiverSluicePayload,
        TopicKind.EVENT: RiverSluicePayload,
        TopicKind.STATE: RiverSluicePayload,
        TopicKind.REPLY: Reply,
    },
    settings=RiverSluiceSettings,
    metrics=_METRICS,
    readings=read_readings,
    rules=(
        Rule(
            name="river_level",
            category="river_level",
            title_zh="水位超限",
            title_en="Level above its limit",
            step=step_level,
        ),
    ),
    symbol="sluice",
    sample=draw_sample,
)
