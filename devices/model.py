"""What a device kind is made of: payloads, metrics, settings, messages, alarms, rules; and a device and its state."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple
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
    device: str | None = Field(
        default=None, max_length=64, description="the topic's device, for a cross-check / 设备号"
    )
    test: bool | None = Field(default=None, description="true: checked and answered, nothing stored / 测试报文")


class Reply(Payload):
    """Answer to a command on `…/command`."""

    command_id: str = Field(pattern=r"^[!-~]{1,64}$", description="the command's id / 命令号")
    nonce: str = Field(default="", max_length=64, description="the command's nonce, given back / 随机数")
    result: Literal["accepted", "done", "refused", "failed"] = Field(description="what came of it / 结果")
    detail: Text = ""


class Relation(StrEnum):
    """What another device is to one that is commanded (`settings.related`)."""

    UPSTREAM_GATE = "upstream_gate"  # 上游闸
    CAMERA = "camera"  # watches the place where something moves


class DeviceSettings(BaseModel):
    """Thresholds of one device (`device.settings`); each kind adds its own. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    offline_after_s: float = Field(default=300.0, gt=0, description="not heard for so long: offline")
    related: dict[Relation, tuple[str, ...]] = Field(
        default={}, description="codes of the devices that interlocks of its commands look at / 关联设备"
    )
    report_period_s: float | None = Field(
        default=None,
        gt=0,
        le=31 * 86400,
        description="it reports so often; then `missed_reports` decide, not offline_after_s",
    )
    missed_reports: int = Field(default=3, ge=1, le=1000, description="so many reports that did not come: offline")

    @property
    def silent_after_s(self) -> float:
        """Not heard for so long: offline. A sleeping device is judged by its own period where that is known."""
        return self.offline_after_s if self.report_period_s is None else self.report_period_s * self.missed_reports


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number that a device measures; `name` ends in its unit where it has one."""

    name: str
    unit: str  # as shown, e.g. m, °C, %; empty for counts and yes/no (1/0)
    title_zh: str
    title_en: str


class Message(NamedTuple):
    """One message, decoded and checked. `measured_at` is the device's own clock, `received_at` ours.

    A named tuple, since it is made in a third of the time of a frozen dataclass, thousands of times a second.
    """

    topic_kind: TopicKind
    id: str
    seq: int | None
    measured_at: datetime
    received_at: datetime
    payload: Payload
    readings: Mapping[str, float] | None = None  # the kind's, of the payload, where they were read already


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """An episode of something wrong began (`raised`) or ended. `cause` names the episode and never changes within it."""

    rule: str
    category: str
    cause: str
    raised: bool
    occurred_at: datetime
    detail: dict[str, Any] = field(default_factory=dict)
    severity: int | None = None  # None: the category's own


# (state, message or None when time passed, now, the device's settings, city's time zone) -> (state, alarms)
Step = Callable[[JsonState, Message | None, datetime, Any, str], tuple[JsonState, list[Alarm]]]
# (state, now, settings, time zone) -> the earliest instant at which a step without a message may do something
Due = Callable[[JsonState, datetime, Any, str], datetime | None]


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
    needs_consent: bool = False  # watches a person: in a home not judged without their consent on record
    due: Due | None = None  # of a timed rule: when time alone may change something; None: any moment


class WhenOffline(StrEnum):
    """What becomes of a command whose device is not heard."""

    WAIT = "wait"  # for the device, until the command expires
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interlock:
    """One condition of a command as it was found. `code` is stable; `params` fill its text (docs/commands-to-devices.md)."""

    code: str
    ok: bool
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """A camera saw people in a zone, last at `seen_at`."""

    camera: str
    zone: str
    seen_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLock:
    """Somebody works at the device: nothing may move until the lock is taken off (挂牌上锁)."""

    id: UUID
    reason: str
    locked_by_id: UUID | None
    locked_by: str
    locked_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What interlocks look at, as it is at `now`. A related device that is not registered has no state (None)."""

    settings: Any  # the kind's own DeviceSettings
    state: "DeviceState"
    heard: bool
    related: Mapping[Relation, Mapping[str, "DeviceState | None"]]
    watched: frozenset[str]  # cameras that looked for people a moment ago
    presences: tuple[Presence, ...]
    locks: tuple[CommandLock, ...]
    now: datetime


class NoParameters(BaseModel):
    """A command that takes none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# (situation, parameters or None while they are not chosen: then the worst case) -> as found, or None when it does not apply
Judge = Callable[[Situation, Any], Interlock | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandType:
    """Something a kind of device can be told to do. `interlocks` and `verified` are pure.

    `verified(state, parameters, since)`: the read-back, measured at or after `since` on the device's own clock, shows that
    it was done. Not heard (`when_offline` refuse) and a lock on the device are judged for every command, and need not stand
    among `interlocks`.
    """

    name: str
    title_zh: str
    title_en: str
    parameters: type[BaseModel]
    verified: Callable[["DeviceState", Any, datetime], bool]
    interlocks: tuple[Judge, ...] = ()
    second_person: bool = False
    when_offline: WhenOffline = WhenOffline.REFUSE
    moving: bool = True  # one of these at a time on a device
    halts: bool = False  # cancels what was asked for and not sent yet; allowed under a lock
    expiry_s: float = 300.0  # from the request to the sending
    ack_timeout_s: float = 30.0  # from the sending to the first answer; the device is told to refuse it later than that
    verify_timeout_s: float = 120.0  # from the first answer to the read-back


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
    sample: Callable[[random.Random, datetime, TopicKind], dict[str, Any]]  # an ordinary message, no reply
    status: Callable[[Any], DeviceStatus | None] = no_status  # None: the payload does not say
    commands: tuple[CommandType, ...] = ()
    heard_at: Callable[[Message], datetime | None] = received_at_of

    def draw(self, rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
        """An ordinary message of any topic, with its envelope."""
        if topic_kind is TopicKind.REPLY:
            return draw_envelope(rng, now) | {"command_id": f"{rng.getrandbits(32):08x}", "result": "done"}
        return self.sample(rng, now, topic_kind)


def every_topic(payload: type[Payload], *, event: type[Payload] | None = None) -> Mapping[TopicKind, type[Payload]]:
    """The payload models of a kind: the same for telemetry, state and events unless `event` is another; replies are alike."""
    return {
        TopicKind.TELEMETRY: payload,
        TopicKind.EVENT: event or payload,
        TopicKind.STATE: payload,
        TopicKind.REPLY: Reply,
    }


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
    firmware: str = ""  # as the device said last, until then as it was registered
    in_home: bool = False  # belongs to a household
    consent_until: datetime | None = None  # until when who lives there has consented; None: no consent on record
    certify_until: datetime | None = None  # until then its first receipts are withheld: it is put to the test


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
    due_at: datetime | None = None  # before then time alone changes nothing; None: it never does
    clock: dict[str, Any] = field(default_factory=dict)  # how far the device's clock is off: devices/skew.py

    @property
    def clock_offset_s(self) -> float | None:
        """Seconds that the device's clock is behind ours, negative when ahead; None while not known."""
        value = self.clock.get("offset_s")
        return float(value) if value is not None else None


def order_of(message: Message) -> tuple[datetime, datetime, int, str]:
    """What sorts messages by when they were measured; those of a clock that is ahead, which count as measured when they
    came, by its own time among themselves."""
    return message.measured_at, message.payload.at, -1 if message.seq is None else message.seq, message.id


def sort_messages(messages: Sequence[Message]) -> Sequence[Message]:
    """In the order in which they were measured; as they are when they stand in it already, which is the ordinary case."""
    if all(earlier.measured_at < later.measured_at for earlier, later in pairwise(messages)):
        return messages
    return sorted(messages, key=order_of)


def read_numbers(payload: Payload, names: Collection[str]) -> dict[str, float]:
    """Those of `names` that the payload says, as numbers; yes is 1, no is 0."""
    said = payload.__dict__
    found: dict[str, float] = {}
    for name in payload.__pydantic_fields_set__:  # few are said of many that could be
        if name in names and (value := said.get(name)) is not None:
            found[name] = float(value)
    return found


def read_field(payload: Payload, name: str) -> Any:
    """A field that the payload says, also one its kind does not know; else None. (`getattr` with a default takes twenty
    times as long for a name that is not there.)"""
    return getattr(payload, name) if name in payload.__pydantic_fields_set__ else None


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
