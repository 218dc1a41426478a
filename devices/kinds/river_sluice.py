"""River sluice station (闸站) with its gauges; elements as SL 651 and SZY 206 name them.

One rule: the river's level stands above its limit. Water classes (GB 3838): devices/water.py.
"""

import random
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from devices.interlock import (
    age_of,
    judge_clock,
    judge_fault,
    judge_fresh,
    judge_remote,
    judge_zone,
    measured_since,
    value_of,
)
from devices.model import (
    Alarm,
    CommandType,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    Interlock,
    JsonState,
    Message,
    Metric,
    NoParameters,
    Payload,
    Relation,
    Rule,
    Situation,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_field,
    read_numbers,
    read_state_instant,
    seconds_between,
    write_instant,
)
from devices.water import WaterBody

READ_BACK_TOLERANCE_M = 0.02


class RiverSluicePayload(Payload):
    """Telemetry and state. Levels are metres above the station's own datum."""

    level_m: float | None = Field(default=None, ge=-20, le=9000, description="river level / 河道水位")
    upstream_level_m: float | None = Field(default=None, ge=-20, le=9000, description="闸上水位")
    downstream_level_m: float | None = Field(default=None, ge=-20, le=9000, description="闸下水位")
    gate_number: int | None = Field(default=None, ge=1, le=999, description="闸门编号")
    gate_opening_m: float | None = Field(default=None, ge=0, le=50, description="闸门开度")
    open_holes: int | None = Field(default=None, ge=0, le=999, description="开启孔数")
    pumps_running: int | None = Field(default=None, ge=0, le=999, description="运行泵数")
    flow_m3_s: float | None = Field(default=None, ge=-10_000, le=100_000, description="流量")
    control_mode: Literal["remote", "local"] | None = Field(default=None, description="switch at the gate / 远方就地")
    gate_moving: bool | None = Field(default=None, description="启闭中")
    gate_fault: bool | None = Field(default=None, description="启闭机故障")
    voltage_v: float | None = Field(default=None, ge=0, le=1000, description="电源电压")
    status_word: int | None = Field(default=None, ge=0, lt=2**32, description="状态字")
    ph: float | None = Field(default=None, ge=0, le=14)
    conductivity_us_cm: float | None = Field(default=None, ge=0, le=500_000, description="电导率")
    turbidity_ntu: float | None = Field(default=None, ge=0, le=100_000, description="浊度")
    ammonia_nitrogen_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="NH3-N 氨氮")
    dissolved_oxygen_mg_l: float | None = Field(default=None, ge=0, le=100, description="DO 溶解氧")
    codmn_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="CODMn 高锰酸盐指数")
    total_phosphorus_mg_l: float | None = Field(default=None, ge=0, le=10_000, description="TP 总磷")
    rain_today_mm: float | None = Field(
        default=None, ge=0, le=10_000, description="PJ 当前降水量, since the day's start"
    )
    rain_total_mm: float | None = Field(default=None, ge=0, le=1_000_000, description="PT 降水量累计值")
    rain_5min_mm: float | None = Field(default=None, ge=0, le=1000, description="DRP 5 分钟降水量")
    water_temperature_c: float | None = Field(default=None, ge=-20, le=60, description="水温")


class RiverSluiceSettings(DeviceSettings):
    """The limit is the station's own; 2.5 m is only this project's example. `hold_s` helps against a noisy gauge."""

    offline_after_s: float = Field(default=900.0, gt=0)
    level_limit_m: float = Field(default=2.5, ge=-20, le=9000, description="alarm above this level / 警戒水位")
    hysteresis_m: float = Field(default=0.1, ge=0, description="over when so far below the limit")
    hold_s: float = Field(
        default=0.0, ge=0, description="above for so long, by at least two readings, before the alarm"
    )
    clear_hold_s: float = Field(default=0.0, ge=0, description="below for so long before it is over")
    water_body: WaterBody = Field(default="river", description="whose phosphorus limits count (GB 3838) / 水体类型")
    gate_limit_m: float = Field(default=5.0, gt=0, le=50, description="the gate opens so far at most / 最大开度")
    level_difference_limit_m: float = Field(default=1.5, gt=0, description="above to below: no wider opening beyond it")
    upstream_open_limit_m: float = Field(default=0.05, ge=0, description="an upstream gate counts as open above this")
    command_fresh_s: float = Field(default=120.0, gt=0, description="older readings are not trusted for a command")

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
    if message is None or not isinstance(message.payload, RiverSluicePayload) or message.payload.level_m is None:
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
    Metric(name="local_control", unit="", title_zh="就地控制", title_en="Local control"),
    Metric(name="gate_moving", unit="", title_zh="闸门启闭中", title_en="Gate moving"),
    Metric(name="gate_fault", unit="", title_zh="启闭机故障", title_en="Gate drive fault"),
    Metric(name="voltage_v", unit="V", title_zh="电压", title_en="Voltage"),
    Metric(name="ph", unit="", title_zh="pH", title_en="pH"),
    Metric(name="conductivity_us_cm", unit="µS/cm", title_zh="电导率", title_en="Conductivity"),
    Metric(name="turbidity_ntu", unit="NTU", title_zh="浊度", title_en="Turbidity"),
    Metric(name="ammonia_nitrogen_mg_l", unit="mg/L", title_zh="氨氮", title_en="Ammonia nitrogen"),
    Metric(name="dissolved_oxygen_mg_l", unit="mg/L", title_zh="溶解氧", title_en="Dissolved oxygen"),
    Metric(name="codmn_mg_l", unit="mg/L", title_zh="高锰酸盐指数", title_en="CODMn"),
    Metric(name="total_phosphorus_mg_l", unit="mg/L", title_zh="总磷", title_en="Total phosphorus"),
    Metric(name="rain_today_mm", unit="mm", title_zh="当前降水量", title_en="Rain today"),
    Metric(name="rain_total_mm", unit="mm", title_zh="降水量累计", title_en="Rain, running total"),
    Metric(name="rain_5min_mm", unit="mm", title_zh="5分钟降水量", title_en="Rain in 5 minutes"),
    Metric(name="water_temperature_c", unit="°C", title_zh="水温", title_en="Water temperature"),
)


_NAMES = frozenset(metric.name for metric in _METRICS)


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric."""
    found = read_numbers(payload, _NAMES)
    mode = read_field(payload, "control_mode")
    return found if mode is None else found | {"local_control": float(mode == "local")}


def read_status(payload: Payload) -> DeviceStatus | None:
    """The drive's own word about a fault, where the station says it."""
    fault = read_field(payload, "gate_fault")
    return None if fault is None else DeviceStatus.FAULT if fault else DeviceStatus.OK


class GateOpening(NoParameters):
    """Where the gate shall stand."""

    opening_m: float = Field(ge=0, le=50, description="目标开度")


class Pumps(NoParameters):
    """How many pumps shall run."""

    pumps: int = Field(ge=1, le=99, description="运行泵数")


def judge_opening(situation: Situation, parameters: GateOpening | None) -> Interlock | None:
    """The target is one that this gate can take."""
    if parameters is None:
        return None
    most_m = situation.settings.gate_limit_m
    return Interlock(
        code="opening_possible",
        ok=parameters.opening_m <= most_m,
        params={"opening_m": parameters.opening_m, "limit_m": most_m},
    )


def judge_level_difference(situation: Situation, parameters: GateOpening | None) -> Interlock | None:
    """Not opened wider while the water stands much higher above the gate than below it."""
    opening_m = value_of(situation.state, "gate_opening_m")
    if parameters is not None and opening_m is not None and parameters.opening_m <= opening_m:
        return None
    upstream_m, downstream_m = (value_of(situation.state, f"{side}_level_m") for side in ("upstream", "downstream"))
    limit_m = situation.settings.level_difference_limit_m
    if upstream_m is None or downstream_m is None:
        return Interlock(code="level_difference", ok=False, params={"difference_m": None, "limit_m": limit_m})
    difference_m = round(abs(upstream_m - downstream_m), 3)
    params = {"difference_m": difference_m, "limit_m": limit_m}
    return Interlock(code="level_difference", ok=difference_m <= limit_m, params=params)


def judge_upstream_gate(situation: Situation, parameters: GateOpening | None) -> Interlock | None:
    """Upstream is closed before downstream (common practice): not closed further while an upstream gate stands open."""
    gates = situation.related.get(Relation.UPSTREAM_GATE, {})
    opening_m = value_of(situation.state, "gate_opening_m")
    if not gates or (parameters is not None and opening_m is not None and parameters.opening_m >= opening_m):
        return None
    settings = situation.settings
    for code, state in gates.items():
        upstream_m = value_of(state, "gate_opening_m") if state is not None else None
        age_s = age_of(state, "gate_opening_m", situation.now) if state is not None else None
        known = age_s is not None and age_s <= settings.command_fresh_s
        if not known or upstream_m is None or upstream_m > settings.upstream_open_limit_m:
            params = {
                "gate": code,
                "opening_m": upstream_m if known else None,
                "limit_m": settings.upstream_open_limit_m,
            }
            return Interlock(code="upstream_gate_closed", ok=False, params=params)
    return Interlock(code="upstream_gate_closed", ok=True, params={"gates": sorted(gates)})


def is_opening_reached(state: DeviceState, parameters: GateOpening, since: datetime) -> bool:
    """The gate stands where it shall."""
    opening_m = measured_since(state, "gate_opening_m", since)
    return opening_m is not None and abs(opening_m - parameters.opening_m) <= READ_BACK_TOLERANCE_M


def is_halted(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """The gate does not move."""
    del parameters
    return measured_since(state, "gate_moving", since) == 0


def are_pumps_running(state: DeviceState, parameters: Pumps, since: datetime) -> bool:
    """As many pumps run as shall."""
    return measured_since(state, "pumps_running", since) == parameters.pumps


def are_pumps_stopped(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """No pump runs."""
    del parameters
    return measured_since(state, "pumps_running", since) == 0


def _fresh_limit_s(situation: Situation) -> float:
    return float(situation.settings.command_fresh_s)


_GROUND = (judge_clock, judge_remote, judge_fault("gate_fault"))
_COMMANDS = (
    CommandType(
        name="set_gate_opening",
        title_zh="调节闸门开度",
        title_en="Set the gate's opening",
        parameters=GateOpening,
        second_person=True,
        verified=is_opening_reached,
        verify_timeout_s=600.0,
        interlocks=(
            judge_fresh(_fresh_limit_s, "gate_opening_m", "upstream_level_m", "downstream_level_m"),
            *_GROUND,
            judge_opening,
            judge_level_difference,
            judge_upstream_gate,
            judge_zone,
        ),
    ),
    CommandType(
        name="stop_gate",
        title_zh="闸门急停",
        title_en="Stop the gate",
        parameters=NoParameters,
        verified=is_halted,
        moving=False,
        halts=True,
        expiry_s=60.0,
        verify_timeout_s=60.0,
    ),
    CommandType(
        name="start_pumps",
        title_zh="开泵",
        title_en="Start pumps",
        parameters=Pumps,
        verified=are_pumps_running,
        interlocks=(judge_fresh(_fresh_limit_s, "pumps_running"), judge_clock, judge_remote, judge_zone),
    ),
    CommandType(
        name="stop_pumps",
        title_zh="停泵",
        title_en="Stop pumps",
        parameters=NoParameters,
        verified=are_pumps_stopped,
        interlocks=(judge_clock, judge_remote),
    ),
)


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A station at ordinary water."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    level_m = rng.uniform(1.2, 1.6)
    return envelope | {
        "level_m": round(level_m, 3),
        "upstream_level_m": round(level_m + rng.uniform(0.0, 0.05), 3),
        "downstream_level_m": round(level_m - rng.uniform(0.1, 0.4), 3),
        "gate_number": 1,
        "gate_opening_m": round(rng.uniform(0.0, 0.6), 2),
        "open_holes": 1,
        "pumps_running": 0,
        "control_mode": "remote",
        "gate_moving": False,
        "gate_fault": False,
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
    payloads=every_topic(RiverSluicePayload),
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
    status=read_status,
    commands=_COMMANDS,
    symbol="sluice",
    sample=draw_sample,
)
