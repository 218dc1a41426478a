"""Access door (门禁) of a building: who opened it how, forced or held open, tampered with.

A person is a pseudonymous credential number at most: a text that looks like an identity card or a telephone number is
refused, and so is everything that a face reader might send besides it (it is not kept). Rules: the door forced; the
door held open for too long.
"""

import random
import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

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


class Door(StrEnum):
    """Where the door stands."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


_PERSONAL = re.compile(
    r"\d{17}[\dXx]|\d{15}|(?:\+?86)?1[3-9]\d{9}"
)  # identity cards of both generations, mobile phones


def _refuse_personal(text: str) -> str:
    if _PERSONAL.fullmatch(text):
        raise ValueError("a credential is a pseudonym, not an identity card or a telephone number")
    return text


Credential = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$"), AfterValidator(_refuse_personal)]


class AccessDoorPayload(Payload):
    """Telemetry is the heartbeat, state a change of condition."""

    door: Door = Field(strict=False, description="门状态")
    locked: bool | None = Field(default=None, description="the lock holds / 已上锁")
    tamper: bool | None = Field(default=None, description="the reader's housing is open / 防拆")
    fault: bool = Field(default=False, description="the controller reports a fault / 故障")
    firmware: Text | None = None
    battery_pct: Percent | None = None
    signal_dbm: float | None = Field(default=None, ge=-150, le=0)


class AccessDoorEvent(AccessDoorPayload):
    """One happening at the door. `refused`: somebody asked in vain; `forced`: opened without a release."""

    event: Literal["opened", "closed", "refused", "forced", "tamper"]
    method: Literal["card", "face", "button", "remote", "code", "key"] | None = Field(
        default=None, description="how it was released / 开门方式"
    )
    credential: Credential | None = Field(default=None, description="pseudonym, never a name or number / 假名凭证号")


class AccessDoorSettings(DeviceSettings):
    """`held_open_limit_s` is this project's own value."""

    offline_after_s: float = Field(default=600.0, gt=0)
    held_open_limit_s: float = Field(default=120.0, gt=0, description="open for longer than this: held open")


def step_forced(
    state: JsonState, message: Message | None, now: datetime, settings: AccessDoorSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """A `forced` event raises; the door seen closed later ends it. A forced opening told late is reported all the same."""
    del now, settings, timezone
    if message is None or not isinstance(message.payload, AccessDoorPayload):
        return state, []
    at, payload = message.measured_at, message.payload
    seen_at = read_state_instant(state, "seen_at")
    late = seen_at is not None and at < seen_at
    forced = isinstance(payload, AccessDoorEvent) and payload.event == "forced"
    began_at = read_state_instant(state, "began_at")
    new: JsonState = state if late else {**state, "seen_at": instant_text(at)}
    if forced and began_at is None:
        ended_at = read_state_instant(state, "ended_at")
        if ended_at is not None and at <= ended_at:
            return new, []  # lies in an episode that is over
        raised = _alarm("access_forced", at, raised=True, occurred_at=at)
        return {**new, "began_at": instant_text(at)}, [raised]
    if began_at is not None and not late and payload.door is Door.CLOSED and at > began_at:
        new = {name: value for name, value in new.items() if name != "began_at"} | {"ended_at": instant_text(at)}
        return new, [_alarm("access_forced", began_at, raised=False, occurred_at=at)]
    return new, []


def step_held_open(
    state: JsonState, message: Message | None, now: datetime, settings: AccessDoorSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """Open without a break for `held_open_limit_s` raises, closed ends it.

    Judged between messages too, but only while the door is heard: where it stands when it went silent nobody knows.
    """
    del timezone
    if message is None:
        seen_at = read_state_instant(state, "seen_at")
        if seen_at is None or seconds_between(seen_at, now) > settings.silent_after_s:
            return state, []
        return _judge_held(state, now, settings)
    payload, at = message.payload, message.measured_at
    seen_at = read_state_instant(state, "seen_at")
    if not isinstance(payload, AccessDoorPayload) or (seen_at is not None and at < seen_at):
        return state, []
    new: JsonState = {**state, "seen_at": instant_text(at)}
    if payload.door is Door.OPEN:
        new.setdefault("open_at", instant_text(at))
    elif payload.door is Door.CLOSED:
        new.pop("open_at", None)
    return _judge_held(new, at, settings)


def find_held_due(state: JsonState, now: datetime, settings: AccessDoorSettings, timezone: str) -> datetime | None:
    """When the door that stands open has stood open for too long."""
    del now, timezone
    open_at = read_state_instant(state, "open_at")
    if open_at is None or "began_at" in state:
        return None
    return open_at + timedelta(seconds=settings.held_open_limit_s)


def _judge_held(state: JsonState, at: datetime, settings: AccessDoorSettings) -> tuple[JsonState, list[Alarm]]:
    open_at, began_at = read_state_instant(state, "open_at"), read_state_instant(state, "began_at")
    if open_at is None:
        if began_at is None:
            return state, []
        closed = {name: value for name, value in state.items() if name != "began_at"}
        return closed, [_alarm("access_held_open", began_at, raised=False, occurred_at=at)]
    open_s = seconds_between(open_at, at)
    if began_at is not None or open_s <= settings.held_open_limit_s:
        return state, []
    detail = {"open_s": round(open_s, 1), "open_limit_s": settings.held_open_limit_s}
    alarm = _alarm("access_held_open", open_at, raised=True, occurred_at=at, **detail)
    return {**state, "began_at": instant_text(open_at)}, [alarm]


def _alarm(rule: str, began_at: datetime, *, raised: bool, occurred_at: datetime, **detail: Any) -> Alarm:
    cause = write_instant(began_at)
    return Alarm(rule=rule, category=rule, cause=cause, raised=raised, occurred_at=occurred_at, detail=detail)


def read_readings(payload: Payload) -> dict[str, float]:
    """Door, battery and signal; one opening, refusal or forcing as 1, so that they can be counted."""
    if not isinstance(payload, AccessDoorPayload):
        return {}
    found: dict[str, float] = {}
    if payload.door is not Door.UNKNOWN:
        found["open"] = float(payload.door is Door.OPEN)
    for name in ("battery_pct", "signal_dbm"):
        if (value := getattr(payload, name)) is not None:
            found[name] = float(value)
    if isinstance(payload, AccessDoorEvent) and payload.event in ("opened", "refused", "forced"):
        found[payload.event] = 1.0
    return found


def read_status(payload: Payload) -> DeviceStatus | None:
    """A fault, or a housing that is open, is the device's own trouble."""
    if not isinstance(payload, AccessDoorPayload):
        return None
    return DeviceStatus.FAULT if payload.fault or payload.tamper else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A closed door; as an event, somebody who came in."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    message = envelope | {"door": "closed", "locked": True, "tamper": False, "fault": False}
    message |= {"signal_dbm": round(rng.uniform(-90, -55), 0)}
    if topic_kind is TopicKind.EVENT:
        message |= {"event": "opened", "door": "open", "locked": False}
        message |= {"method": rng.choice(("card", "face")), "credential": f"c-{rng.getrandbits(40):010x}"}
    return message


KIND = DeviceKind(
    name="access_door",
    title_zh="门禁",
    title_en="Access door",
    payloads=every_topic(AccessDoorPayload, event=AccessDoorEvent),
    settings=AccessDoorSettings,
    metrics=(
        Metric(name="open", unit="", title_zh="门开", title_en="Door open"),
        Metric(name="opened", unit="", title_zh="开门次数", title_en="Openings"),
        Metric(name="refused", unit="", title_zh="拒绝次数", title_en="Refusals"),
        Metric(name="forced", unit="", title_zh="强行打开", title_en="Forced"),
        Metric(name="battery_pct", unit="%", title_zh="电量", title_en="Battery"),
        Metric(name="signal_dbm", unit="dBm", title_zh="信号", title_en="Signal"),
    ),
    readings=read_readings,
    status=read_status,
    rules=(
        Rule(
            name="access_forced",
            category="access_forced",
            title_zh="门禁强行打开",
            title_en="Door forced",
            step=step_forced,
        ),
        Rule(
            name="access_held_open",
            category="access_held_open",
            title_zh="门禁长时未关",
            title_en="Door held open",
            step=step_held_open,
            timed=True,
            due=find_held_due,
        ),
    ),
    symbol="access",
    sample=draw_sample,
)
