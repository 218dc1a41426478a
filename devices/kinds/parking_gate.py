"""Parking gate (道闸): barrier, faults, passages with plates. Rule: a fault, or the barrier open for too long.

Plates stay in the payload: they are personal data, and no metric, alarm or log repeats them.
"""

import random
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from devices.interlock import judge_clock, judge_fault, judge_fresh, judge_remote, judge_zone, measured_since, value_of
from devices.model import (
    Alarm,
    CommandType,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    Instant,
    Interlock,
    JsonState,
    Message,
    Metric,
    NoParameters,
    Payload,
    Percent,
    Relation,
    Rule,
    Situation,
    Text,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_state_instant,
    seconds_between,
    write_instant,
)


class Barrier(StrEnum):
    """Where the barrier stands."""

    OPEN = "open"
    CLOSED = "closed"
    MOVING = "moving"
    UNKNOWN = "unknown"


class ParkingGatePayload(Payload):
    """Telemetry and state: how the gate stands."""

    barrier: Barrier = Field(strict=False, description="杆状态")
    fault: bool = Field(default=False, description="the gate reports a fault / 故障")
    fault_code: Text = Field(default="", description="maker's code / 故障码")
    control_mode: Literal["remote", "local"] | None = Field(default=None, description="switch at the gate / 远方就地")
    vehicle_present: bool | None = Field(default=None, description="something is under the barrier / 杆下有车")
    barrier_held: bool | None = Field(default=None, description="held open / 常开")
    lot: Text = Field(default="", description="车场")
    lane: Text = Field(default="", description="车道")
    bays_free: int | None = Field(default=None, ge=0, le=1_000_000, description="空余泊位")
    bays_total: int | None = Field(default=None, ge=0, le=1_000_000, description="泊位总数")


class ParkingGateEvent(ParkingGatePayload):
    """A vehicle passed, the barrier moved or a fault came or went."""

    event: Literal["arrival", "passage", "barrier", "fault"] = Field(
        description="arrival: waits before the closed barrier / 等待抬杆; passage: drove through / 通过"
    )
    direction: Literal["in", "out"] | None = None
    plate: Text | None = Field(default=None, description="as read, perhaps wrongly / 车牌")
    plate_colour: Literal["blue", "green", "yellow", "white", "black", "other"] | None = None
    plate_confidence_pct: Percent | None = None
    entered_at: Instant | None = None
    left_at: Instant | None = None
    fee_fen: int | None = Field(default=None, ge=0, le=10**9, description="分")
    payment: Literal["none", "paid", "deferred", "unpaid"] | None = Field(
        default=None, description="deferred: 先离场后付费"
    )


class ParkingGateSettings(DeviceSettings):
    """`open_limit_s` is this project's own value."""

    offline_after_s: float = Field(default=300.0, gt=0)
    open_limit_s: float = Field(default=180.0, gt=0, description="barrier open longer than this: fault")
    command_fresh_s: float = Field(default=120.0, gt=0, description="older readings are not trusted for a command")
    lot: str = Field(default="", max_length=64, description="its car park, whatever it says itself / 所属车场")


def step_gate(
    state: JsonState, message: Message | None, now: datetime, settings: ParkingGateSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """A fault raises at once, an open barrier after `open_limit_s`; closed without fault ends it.

    That the barrier is still open is judged between messages too, but only while the gate is heard: when it went silent
    after opening nobody knows.
    """
    del timezone
    if message is None:
        seen_at = read_state_instant(state, "seen_at")
        if seen_at is None or seconds_between(seen_at, now) > settings.silent_after_s:
            return state, []
        return _judge(state, now, settings)
    payload = message.payload
    seen_at = read_state_instant(state, "seen_at")
    if not isinstance(payload, ParkingGatePayload) or (seen_at is not None and message.measured_at < seen_at):
        return state, []
    new: JsonState = {**state, "seen_at": instant_text(message.measured_at), "fault": payload.fault}
    new["fault_code"] = payload.fault_code
    if payload.barrier is Barrier.OPEN:
        new.setdefault("open_at", instant_text(message.measured_at))
    elif payload.barrier is Barrier.CLOSED:
        new.pop("open_at", None)
    return _judge(new, message.measured_at, settings)


def find_open_due(state: JsonState, now: datetime, settings: ParkingGateSettings, timezone: str) -> datetime | None:
    """When the barrier that stands open has stood open for too long."""
    del now, timezone
    open_at = read_state_instant(state, "open_at")
    if open_at is None or state.get("active"):
        return None
    return open_at + timedelta(seconds=settings.open_limit_s)


def _judge(state: JsonState, at: datetime, settings: ParkingGateSettings) -> tuple[JsonState, list[Alarm]]:
    open_at = read_state_instant(state, "open_at")
    open_s = seconds_between(open_at, at) if open_at is not None else 0.0
    fault = bool(state.get("fault"))
    active = bool(state.get("active"))
    # Once raised for being open too long it ends when the barrier comes down, not when a setting is raised.
    wrong = fault or (open_at is not None and (active or open_s > settings.open_limit_s))
    if wrong == active:
        return state, []
    began_at = at if not active else (read_state_instant(state, "began_at") or at)
    detail: dict[str, Any] = {"reason": "fault" if fault else "open_too_long"}
    if wrong and fault:
        detail["fault_code"] = state.get("fault_code", "")
    elif wrong:
        detail |= {"open_s": round(open_s, 1), "open_limit_s": settings.open_limit_s}
        began_at = open_at or at
    else:
        detail = {}
    alarm = Alarm(
        rule="gate_fault",
        category="gate_fault",
        cause=write_instant(began_at),
        raised=wrong,
        occurred_at=at,
        detail=detail,
    )
    return {**state, "active": wrong, "began_at": instant_text(began_at)}, [alarm]


def read_readings(payload: Payload) -> dict[str, float]:
    """Barrier and fault as 1 or 0, and free bays."""
    if not isinstance(payload, ParkingGatePayload):
        return {}
    found = {"fault": float(payload.fault)}
    if payload.barrier in (Barrier.OPEN, Barrier.CLOSED):
        found["barrier_open"] = float(payload.barrier is Barrier.OPEN)
    if payload.control_mode is not None:
        found["local_control"] = float(payload.control_mode == "local")
    for name in ("bays_free", "bays_total", "vehicle_present", "barrier_held"):
        if (value := getattr(payload, name)) is not None:
            found[name] = float(value)
    return found


def read_status(payload: Payload) -> DeviceStatus | None:
    """The gate's own word about a fault."""
    if not isinstance(payload, ParkingGatePayload):
        return None
    return DeviceStatus.FAULT if payload.fault else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A gate at rest; as an event, one car that passes."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    bays_total = 120
    message = envelope | {
        "barrier": "closed",
        "fault": False,
        "control_mode": "remote",
        "vehicle_present": False,
        "barrier_held": False,
        "lot": "P1",
        "lane": "1",
        "bays_free": rng.randrange(bays_total),
        "bays_total": bays_total,
    }
    if topic_kind is TopicKind.EVENT:
        plate = "浙A" + "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(5))
        message |= {"event": "passage", "direction": rng.choice(("in", "out")), "plate": plate, "plate_colour": "blue"}
        message |= {"plate_confidence_pct": round(rng.uniform(85, 99), 1), "barrier": "open"}
    return message


def judge_vehicle(situation: Situation, parameters: NoParameters | None) -> Interlock | None:
    """Nothing is under the barrier. A gate that cannot tell needs a camera that looks."""
    del parameters
    present = value_of(situation.state, "vehicle_present")
    if present is None and situation.related.get(Relation.CAMERA):
        return None
    return Interlock(code="vehicle_clear", ok=present == 0, params={"known": present is not None})


def is_open(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """The barrier stands open."""
    del parameters
    return measured_since(state, "barrier_open", since) == 1


def is_held_open(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """The barrier stands open and says that it stays so, where it says anything about it."""
    held = value_of(state, "barrier_held")
    return is_open(state, parameters, since) and (held is None or measured_since(state, "barrier_held", since) == 1)


def is_closed(state: DeviceState, parameters: NoParameters, since: datetime) -> bool:
    """The barrier stands closed."""
    del parameters
    return measured_since(state, "barrier_open", since) == 0


_GROUND = (judge_clock, judge_remote, judge_fault("fault"))
_COMMANDS = (
    CommandType(
        name="open_barrier",
        title_zh="抬杆",
        title_en="Open the barrier",
        parameters=NoParameters,
        verified=is_open,
        interlocks=_GROUND,
        expiry_s=15.0,
        ack_timeout_s=10.0,
        verify_timeout_s=30.0,
    ),
    CommandType(
        name="hold_open",
        title_zh="常开",
        title_en="Hold the barrier open",
        parameters=NoParameters,
        verified=is_held_open,
        interlocks=_GROUND,
        expiry_s=60.0,
        ack_timeout_s=10.0,
        verify_timeout_s=30.0,
    ),
    CommandType(
        name="close_barrier",
        title_zh="落杆",
        title_en="Close the barrier",
        parameters=NoParameters,
        verified=is_closed,
        interlocks=(
            judge_fresh(lambda situation: float(situation.settings.command_fresh_s), "fault"),
            *_GROUND,
            judge_vehicle,
            judge_zone,
        ),
        expiry_s=15.0,
        ack_timeout_s=10.0,
        verify_timeout_s=30.0,
    ),
)


KIND = DeviceKind(
    name="parking_gate",
    title_zh="道闸",
    title_en="Parking gate",
    payloads=every_topic(ParkingGatePayload, event=ParkingGateEvent),
    settings=ParkingGateSettings,
    metrics=(
        Metric(name="barrier_open", unit="", title_zh="杆抬起", title_en="Barrier open"),
        Metric(name="fault", unit="", title_zh="故障", title_en="Fault"),
        Metric(name="local_control", unit="", title_zh="就地控制", title_en="Local control"),
        Metric(name="vehicle_present", unit="", title_zh="杆下有车", title_en="Vehicle under the barrier"),
        Metric(name="barrier_held", unit="", title_zh="常开", title_en="Held open"),
        Metric(name="bays_free", unit="", title_zh="空余泊位", title_en="Free bays"),
        Metric(name="bays_total", unit="", title_zh="泊位总数", title_en="Bays"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(
        Rule(
            name="gate_fault",
            category="gate_fault",
            title_zh="道闸故障",
            title_en="Gate fault",
            step=step_gate,
            timed=True,
            due=find_open_due,
            status=DeviceStatus.FAULT,
        ),
    ),
    commands=_COMMANDS,
    symbol="gate",
    sample=draw_sample,
)
