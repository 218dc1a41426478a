"""What a type of data-defined alarm rule is made of; the types themselves are the files in devices/rules.

A type judges numbers by metric, not payloads, so that stored readings can be replayed through it exactly as they came.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from devices.model import Device, DeviceKind, DeviceState, DeviceStatus, JsonState, Message, read_state_instant

MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", json_schema_extra={"x-choice": "metric"})]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Seconds = Annotated[float, Field(ge=0, le=31 * 86400.0)]
Span = Annotated[float, Field(gt=0, le=31 * 86400.0)]


class Parameters(BaseModel):
    """Parameters of a type; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DailyWindow(Parameters):
    """Only in this part of the day, the city's local time; it may pass midnight. Equal ends are the whole day."""

    start: time
    end: time


class Damping(Parameters):
    """So many beginnings and ends within a span are flapping: then one alarm stands until it has been quiet for a span."""

    changes: int = Field(ge=2, le=100, description="次数")
    span_s: Span = Field(description="时间窗（秒）")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What a rule may look at: a message, or with none of its numbers that time passed.

    `at` is the instant that is judged: the message's own, or `now`. `is_event`: None when it is not known, as of a stored
    reading. `peers` and `parent` are there only when time passes. `silent_after_s` and `heard_from` are the book's:
    when a device counts as silent, and its last message moved by what nobody could hear.
    """

    device: Device
    kind: DeviceKind
    state: DeviceState
    at: datetime
    now: datetime
    timezone: str
    silent_after_s: float
    message: Message | None = None
    passing: bool = False  # time passed, nothing came
    readings: Mapping[str, float] = field(default_factory=dict)
    is_event: bool | None = None
    active: Mapping[str, Any] = field(default_factory=dict)  # alarms of the device by rule, the kind's own first
    peers: Mapping[str, DeviceState] = field(default_factory=dict)  # by code
    parent: "Parent | None" = None
    heard_from: Callable[[datetime], datetime] = lambda last_seen_at: last_seen_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Parent:
    """The gateway a device hangs on: when it was heard last, and how long it may be silent."""

    code: str
    last_seen_at: datetime | None
    silent_after_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """An episode began or ended; `began_at` is its name and stays the same until its end."""

    raised: bool
    began_at: datetime
    occurred_at: datetime
    detail: Mapping[str, Any]


Judge = Callable[[JsonState, Moment, Any], tuple[JsonState, Turn | None]]
TypeDue = Callable[[JsonState, Moment, Any], datetime | None]


def never_due(state: JsonState, moment: Moment, parameters: Any) -> datetime | None:
    """Of types that judge messages only."""
    del state, moment, parameters
    return None


def no_metrics(parameters: Any) -> frozenset[str]:
    """Of types that apply to every kind."""
    del parameters
    return frozenset()


def no_peers(parameters: Any) -> tuple[str, ...]:
    """Of types that look at one device only."""
    del parameters
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleType:
    """A type of rule. `judge` is pure; a state of {} means that nothing was seen yet, `seed` makes a better one."""

    name: str
    title_zh: str
    title_en: str
    parameters: type[Parameters]
    judge: Judge
    due: TypeDue = never_due
    timed: bool = False
    metrics: Callable[[Any], frozenset[str]] = no_metrics  # a rule acts on the kinds that measure all of these
    peers: Callable[[Any], tuple[str, ...]] = no_peers  # codes of other devices that it looks at
    seed: Callable[[DeviceState, Any], JsonState] | None = None
    status: DeviceStatus = DeviceStatus.ALARM  # what the device shows while the rule is active
    category: str = "rule_alarm"  # offered for new rules
    severity: int | None = None
    needs_consent: bool = False  # watches a person
    damping: Damping | None = None  # unless the rule has its own


def is_late(state: JsonState, at: datetime) -> bool:
    """Whether something newer was judged before."""
    seen_at = read_state_instant(state, "seen_at")
    return seen_at is not None and at < seen_at
