"""What a device kind is made of: payloads, metrics, settings, messages, alarms, rules; and a device and its state."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

JsonState = dict[str, Any]  # what a rule remembers; must survive a round trip through JSON


class TopicKind(StrEnum):
    """Last part of a topic that a device writes to."""

    TELEMETRY = "telemetry"  # measured values, at intervals; may be lost
    EVENT = "event"  # something happened; repeated by the device until the receipt
    STATE = "state"  # the device's condition when it changes; repeated like an event
    REPLY = "reply"  # the answer to a command; repeated like an event


class DeviceStatus(StrEnum):
    """How a device stands, as the wall shows it."""

    OK = "ok"
    ALARM = "alarm"  # one of its alarm rules is active
    FAULT = "fault"  # the device itself is broken
    OFFLINE = "offline"  # not heard for longer than its settings allow
    UNKNOWN = "unknown"  # never heard


def _read_instant(value: object) -> datetime:
    """An ISO 8601 text with an offset, as UTC. Numbers are refused: seconds and milliseconds look alike."""
    if isinstance(value, datetime):
        instant = value
    elif isinstance(value, str) and len(value) <= 40:
        instant = datetime.fromisoformat(value)
    else:
        raise ValueError("an instant is an ISO 8601 text such as 2026-11-20T08:00:00.000Z")
    if instant.tzinfo is None:
        raise ValueError("an instant needs its offset from UTC, such as a closing Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("an instant lies within the years 1 to 9999") from None


Instant = Annotated[
    datetime,
    BeforeValidator(_read_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-20T08:00:00.000Z"]}),
]
# Neither PostgreSQL's text nor its jsonb holds U+0000.
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
Percent = Annotated[float, Field(ge=0, le=100)]


def write_instant(instant: datetime) -> str:
    """`instant` as the JSON writes it: UTC, milliseconds, a closing Z."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Payload(BaseModel):
    """The envelope that every message has; a kind adds its fields. Unknown fields are kept, wrong types refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    v: Literal[1] = Field(description="version of the envelope / 信封版本")
    id: str = Field(pattern=r"^[!-~]{1,64}$", description="unique for this device; a repeat keeps it / 消息号")
    seq: int | None = Field(default=None, ge=0, lt=2**63, description="counts up from the device's start / 序号")
    at: Instant = Field(description="when it was measured or happened / 采样时刻")


class Reply(Payload):
    """Answer to a command on `…/command`."""

    command_id: str = Field(pattern=r"^[!-~]{1,64}$", description="the command's id / 命令号")
    result: Literal["done", "refused", "failed"] = Field(description="what came of it / 结果")
    detail: Text = ""


class DeviceSettings(BaseModel):
    """Thresholds of one device (`device.settings`); each kind adds its own. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    offline_after_s: float = Field(default=300.0, gt=0, description="not heard for so long: offline")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number that a device measures; `name` ends in its unit where it has one."""

    name: str
    unit: str  # as shown, e.g. m, °C, %; empty for counts and yes/no (1/0)
    title_zh: str
    title_en: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message, decoded and checked. `measured_at` is the device's own clock, `received_at` ours."""

    topic_kind: TopicKind
    id: str
    seq: int | None
    measured_at: datetime
    received_at: datetime
    payload: Payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """An episode of something wrong began (`raised`) or ended. `cause` names the episode and never changes within it."""

    rule: str
    category: str
    cause: str
    raised: bool
    occurred_at: datetime
    detail: dict[str, Any] = field(default_factory=dict)


# (state, message or None when time passed, now, the device's settings, city's time zone) -> (state, alarms)
Step = Callable[[JsonState, Message | None, datetime, Any, str], tuple[JsonState, list[Alarm]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An alarm rule. `step` is pure; a state of {} means that nothing has been seen yet.

    `timed` rules are also stepped without a message about every second, because they judge what did not come.
    """

    name: str
    category: str
    title_zh: str
    title_en: str
    step: Step
    timed: bool = False
    status: DeviceStatus = DeviceStatus.ALARM  # what the device shows while the rule is active


def received_at_of(message: Message) -> datetime:
    """The ordinary answer to "when was the device heard last": when its message came."""
    return message.received_at


def no_status(payload: Payload) -> DeviceStatus | None:
    """The ordinary answer of a kind whose payloads say nothing about the device's own health."""
    del payload
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceKind:
    """Everything that is particular to one kind of device."""

    name: str
    title_zh: str
    title_en: str
    payloads: Mapping[TopicKind, type[Payload]]
    settings: type[DeviceSettings]
    metrics: tuple[Metric, ...]
    readings: Callable[[Any], dict[str, float]]  # numbers in a payload, by metric name
    rules: tuple[Rule, ...]
    symbol: str  # name of the map symbol
    sample: Callable[[random.Random, datetime, TopicKind], dict[str, Any]]  # an ordinary message, with envelope
    status: Callable[[Any], DeviceStatus | None] = no_status  # None: the payload does not say
    heard_at: Callable[[Message], datetime | None] = received_at_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A registered device. Position in degrees, CGCS2000; `source_crs` is what it was given in."""

    id: UUID
    code: str
    kind: str
    name: str
    lon: float
    lat: float
    source_crs: str = "EPSG:4490"
    cell_code: str = ""
    area_code: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    parent_id: UUID | None = None  # the gateway it hangs on


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceState:
    """The newest that is known about a device: the row `device_state`.

    metrics: {name: {"value": float, "at": instant}}; alarms: {rule: {"cause", "raised_at", "category"}} now active;
    rule_state: {rule: its state}, and under "" what the device last said about its own health.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    status: DeviceStatus = DeviceStatus.UNKNOWN
    alarms: dict[str, Any] = field(default_factory=dict)
    rule_state: dict[str, JsonState] = field(default_factory=dict)
    last_seen_at: datetime | None = None
    measured_at: datetime | None = None


def read_state_instant(state: JsonState, key: str) -> datetime | None:
    """The instant that a rule wrote under `key` with `instant_text`, or None."""
    text = state.get(key)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def instant_text(instant: datetime) -> str:
    """`instant` for a rule's state, to the microsecond, so that comparing what comes back is exact."""
    return instant.astimezone(UTC).isoformat()


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Seconds from `earlier` to `later`, negative when they are the other way round."""
    return (later - earlier) / timedelta(seconds=1)


def draw_envelope(rng: random.Random, at: datetime) -> dict[str, Any]:
    """Envelope fields of a sample message."""
    return {"v": 1, "id": f"{rng.getrandbits(64):016x}", "seq": rng.randrange(1_000_000), "at": write_instant(at)}
