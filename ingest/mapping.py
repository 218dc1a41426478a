"""A vendor's own JSON as our messages, by data: which path becomes which field, in what unit, and what its states mean.

Pure: `apply` reads a document and gives messages and problems; nothing is looked up and no clock is read. A mapping is
edited in the console with a live preview, kept in versions (`ingest.mapping_store`), and used by every way in.

A path names a value: `data.level`, `items[0].v`, `data["a.b"]`. It starts at the element when the document is split into
elements (`split`), else at the document; `$` in front starts at the document in any case (`$.header.time`).
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from devices.model import TopicKind, write_instant
from devices.registry import KINDS
from devices.store import is_device_code

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_STEP = re.compile(r'(?:^|\.)(?P<name>[^.\[\]"$]+)|\[(?P<index>\d{1,6})\]|(?:^|\.)?\["(?P<quoted>[^"]+)"\]')
_MOST_ELEMENTS = 1000
_MISSING = object()
_EARLIEST_S, _LATEST_S = -2_000_000_000.0, 8_000_000_000.0  # 1906 to 2223: what is beyond is no time of a message

# (said in, wanted in) -> (factor, added afterwards)
_UNITS: dict[tuple[str, str], tuple[float, float]] = {
    ("mm", "m"): (0.001, 0.0),
    ("cm", "m"): (0.01, 0.0),
    ("m", "mm"): (1000.0, 0.0),
    ("mV", "V"): (0.001, 0.0),
    ("°F", "°C"): (5 / 9, -160 / 9),
    ("K", "°C"): (1.0, -273.15),
    ("L/s", "m³/s"): (0.001, 0.0),
    ("m³/h", "m³/s"): (1 / 3600, 0.0),
    ("mS/cm", "µS/cm"): (1000.0, 0.0),
    ("µg/L", "mg/L"): (0.001, 0.0),
    ("L", "m³"): (0.001, 0.0),
    ("permille", "%"): (0.1, 0.0),
    ("fraction", "%"): (100.0, 0.0),
    ("yuan", "fen"): (100.0, 0.0),
}


class Code(StrEnum):
    """What can be wrong with a document under a mapping. Stable."""

    NOT_AN_OBJECT = "not_an_object"
    NO_ELEMENTS = "no_elements"
    TOO_MANY_ELEMENTS = "too_many_elements"
    MISSING = "missing"
    NOT_A_NUMBER = "not_a_number"
    UNKNOWN_STATE = "unknown_state"
    BAD_TIME = "bad_time"
    BAD_ID = "bad_id"
    BAD_DEVICE = "bad_device"
    FOREIGN_DEVICE = "foreign_device"
    BAD_MESSAGE = "bad_message"


def parse_path(path: str) -> tuple[str | int, ...]:
    """The steps of a path; `$` as the first step means: from the document's root.

    Raises ValueError.
    """
    steps: list[str | int] = []
    rest = path
    if rest.startswith("$"):
        steps.append("$")
        rest = rest[1:].removeprefix(".")
    at = 0
    while at < len(rest):
        found = _STEP.match(rest, at)
        if found is None or found.end() == at or rest.startswith("."):
            raise ValueError(f'{path!r} is no path: write a.b, a[0].b or a["x.y"]')
        name = found["name"] or found["quoted"]
        steps.append(name if name is not None else int(found["index"]))
        at = found.end()
    if not steps or len(steps) > 20:
        raise ValueError("a path has 1 to 20 steps")
    return tuple(steps)


def _check_path(path: str) -> str:
    parse_path(path)
    return path


Path = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_path)]
Scalar = str | bool | int | float | None


class FieldMapping(BaseModel):
    """One of our fields: where it comes from and what is done to it, in this order: states, number, unit, scale, offset."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    source: Path = Field(alias="from", description="path in the vendor's JSON / 来源路径")
    target: str = Field(alias="to", pattern=r"^[a-z][a-z0-9_]{0,63}$", description="our field / 本平台字段")
    scale: float = Field(default=1.0, description="multiplied with / 倍率")
    offset: float = Field(default=0.0, description="added after that / 偏移")
    unit: str = Field(default="", max_length=20, description="the vendor's unit, when it is not ours / 单位")
    as_: Literal["value", "number", "integer", "text", "boolean"] = Field(default="value", alias="as")
    states: dict[str, Scalar] = Field(default={}, max_length=100, description="vendor's value -> ours / 状态对照")
    otherwise: Scalar = Field(default=None, description="for a value that `states` does not name; null refuses it")
    required: bool = Field(default=True, description="false: may be missing / 可缺")

    @property
    def is_number(self) -> bool:
        """Whether arithmetic is asked for."""
        return self.as_ in ("number", "integer") or self.scale != 1.0 or self.offset != 0.0 or bool(self.unit)


class TimeMapping(BaseModel):
    """When it was measured. `local` is a wall clock's text such as 2026-11-20 16:00:00 in `zone`."""

    model_config = _MODEL

    path: Path
    format: Literal["iso", "ms", "s", "local"] = "iso"
    pattern: str = Field(default="%Y-%m-%d %H:%M:%S", max_length=60, description="of `local`, as strptime has it")
    zone: str = Field(default="Asia/Shanghai", max_length=60)

    @model_validator(mode="after")
    def _check(self) -> "TimeMapping":
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no time zone {self.zone!r}") from None
        return self


class TopicMapping(BaseModel):
    """Which of our topics a message belongs to, by a value in it."""

    model_config = _MODEL

    path: Path
    values: dict[str, TopicKind] = Field(max_length=50)
    otherwise: TopicKind = TopicKind.TELEMETRY


class Mapping(BaseModel):
    """How a vendor's document becomes messages of one kind of device."""

    model_config = _MODEL

    name: str = Field(pattern=r"^[^\x00-\x1f]{1,80}$")
    kind: str
    topic: TopicKind | TopicMapping = TopicKind.TELEMETRY
    split: Path | None = Field(default=None, description="path of an array; each element is a message / 拆分数组")
    fields: tuple[FieldMapping, ...] = Field(default=(), max_length=100)
    constants: dict[str, Scalar] = Field(default={}, max_length=50, description="our field -> fixed value / 固定值")
    time: TimeMapping | None = Field(default=None, description="none: when it came / 无则取接收时刻")
    id: Path | None = Field(default=None, description="the vendor's message number; none: made from the content")
    device: Path | None = Field(default=None, description="code of the child device it is about / 子设备编码")

    @model_validator(mode="after")
    def _check(self) -> "Mapping":
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(KINDS)}")
        targets = [f.target for f in self.fields] + list(self.constants)
        double = {target for target in targets if targets.count(target) > 1}
        if double:
            raise ValueError(f"fields: {', '.join(sorted(double))} is set twice")
        envelope = {"v", "id", "seq", "at", "device", "test"} & set(targets)
        if envelope:
            raise ValueError(f"fields: {', '.join(sorted(envelope))} belongs to the envelope; use time, id and device")
        known = {name for model in kind.payloads.values() for name in model.model_fields}
        unknown = set(targets) - known
        if unknown:
            raise ValueError(f"fields: a {self.kind} has no {', '.join(sorted(unknown))}")
        for one in self.fields:
            if one.unit:
                find_conversion(self.kind, one)
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Mapped:
    """One message of ours: for whom, on which topic, and the JSON with its envelope."""

    device: str
    topic_kind: TopicKind
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something of the document that could not be used. `element` counts from 0; `path` says where."""

    code: Code
    path: str = ""
    element: int = 0
    detail: str = ""

    def __str__(self) -> str:
        return f"element {self.element}: {self.code} {self.path} {self.detail}".rstrip()


class _ProblemError(Exception):
    def __init__(self, code: Code, path: str, detail: str = "") -> None:
        super().__init__(detail)
        self.code, self.path, self.detail = code, path, detail[:200]


def find_conversion(kind: str, one: FieldMapping) -> tuple[float, float]:
    """Factor and offset from the vendor's unit to ours. Raises ValueError when there is none."""
    wanted = next(
        (m.unit for m in KINDS[kind].metrics if m.name == one.target), "fen" if one.target.endswith("_fen") else ""
    )
    if one.unit == wanted:
        return 1.0, 0.0
    found = _UNITS.get((one.unit, wanted))
    if found is None:
        raise ValueError(f"fields: no way from {one.unit!r} to {wanted or 'a number without a unit'} for {one.target}")
    return found


def apply(
    mapping: Mapping,
    document: Any,
    device: str,
    received_at: datetime,
    *,
    may_name: Callable[[str], bool] = lambda code: False,
) -> tuple[list[Mapped], list[Problem]]:
    """The messages of a document, and what could not be used; an element with a problem gives no message.

    `device`: code of the device that sent it; `may_name` says whose else it may speak for (a gateway's children).
    An id that the vendor does not give is made from the content, so a repeat of a dated message is the same message.
    """
    elements, problems = _split(mapping, document)
    messages: list[Mapped] = []
    for number, element in enumerate(elements):
        try:
            messages.append(_map_element(mapping, document, element, device, received_at, may_name))
        except _ProblemError as error:
            problems.append(Problem(code=error.code, path=error.path, element=number, detail=error.detail))
    return messages, problems


def check_message(mapping: Mapping, message: Mapped) -> str:
    """What the kind's own model says against a mapped message; '' when nothing."""
    try:
        KINDS[mapping.kind].payloads[message.topic_kind].model_validate(message.payload)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in found[:5])
    return ""


def _split(mapping: Mapping, document: Any) -> tuple[list[Any], list[Problem]]:
    if mapping.split is None:
        return (document, []) if isinstance(document, list) and len(document) <= _MOST_ELEMENTS else ([document], [])
    elements = _find(mapping.split, document, document)
    if not isinstance(elements, list):
        return [], [Problem(code=Code.NO_ELEMENTS, path=mapping.split, detail="no array there")]
    if len(elements) > _MOST_ELEMENTS:
        return [], [Problem(code=Code.TOO_MANY_ELEMENTS, path=mapping.split, detail=str(len(elements)))]
    return elements, []


def _find(path: str, document: Any, element: Any) -> Any:
    value = element
    for step in parse_path(path):
        if step == "$":
            value = document
        elif isinstance(step, str) and isinstance(value, dict):
            value = value.get(step, _MISSING)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return _MISSING
    return value


def _map_element(
    mapping: Mapping,
    document: Any,
    element: Any,
    device: str,
    received_at: datetime,
    may_name: Callable[[str], bool],
) -> Mapped:
    if not isinstance(element, dict):
        raise _ProblemError(Code.NOT_AN_OBJECT, "", f"an object is wanted, not {type(element).__name__}")
    code = device if mapping.device is None else _read_device(mapping.device, document, element, device, may_name)
    fields: dict[str, Any] = dict(mapping.constants)
    for one in mapping.fields:
        value = _find(one.source, document, element)
        if value is _MISSING or value is None:
            if one.required:
                raise _ProblemError(Code.MISSING, one.source)
            continue
        fields[one.target] = _convert(mapping.kind, one, value)
    topic_kind = _choose_topic(mapping, document, element)
    at = received_at if mapping.time is None else _read_time(mapping.time, _find(mapping.time.path, document, element))
    body = {"at": write_instant(at), **fields}
    message_id = _make_id(code, topic_kind, body) if mapping.id is None else _read_id(mapping.id, document, element)
    return Mapped(device=code, topic_kind=topic_kind, payload={"v": 1, "id": message_id, **body})


def _read_device(path: str, document: Any, element: Any, device: str, may_name: Callable[[str], bool]) -> str:
    value = _find(path, document, element)
    code = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not is_device_code(code):
        raise _ProblemError(Code.BAD_DEVICE, path, "no code of a device")
    if code != device and not may_name(code):
        raise _ProblemError(Code.FOREIGN_DEVICE, path, f"{device} may not speak for {code}")
    return code


def _choose_topic(mapping: Mapping, document: Any, element: Any) -> TopicKind:
    if isinstance(mapping.topic, TopicKind):
        return mapping.topic
    key = _as_key(_find(mapping.topic.path, document, element))
    return mapping.topic.values.get(key, mapping.topic.otherwise)


def _as_key(value: Any) -> str:
    """A vendor's value as the tables of a mapping name it: true, 1, 1.5, text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _convert(kind: str, one: FieldMapping, value: Any) -> Any:
    if one.states:
        key = _as_key(value)
        if key in one.states:
            return one.states[key]
        if one.otherwise is None:
            raise _ProblemError(Code.UNKNOWN_STATE, one.source, f"{key!r} is none of {', '.join(one.states)}")
        return one.otherwise
    if one.is_number:
        return _read_number(kind, one, value)
    if one.as_ == "text":
        return _as_key(value)
    if one.as_ == "boolean":
        return _as_key(value).lower() in ("true", "1", "yes", "on")
    return value


def _read_number(kind: str, one: FieldMapping, value: Any) -> float | int:
    if isinstance(value, bool):
        value = int(value)
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if one.unit:
        factor, added = find_conversion(kind, one)
        number = number * factor + added
    number = number * one.scale + one.offset
    if not math.isfinite(number):
        raise _ProblemError(Code.NOT_A_NUMBER, one.source, f"{value!r:.40}")
    return round(number) if one.as_ == "integer" else round(number, 9)


def _read_time(time: TimeMapping, value: Any) -> datetime:
    try:
        if time.format in ("ms", "s"):
            seconds = float(value) / (1000 if time.format == "ms" else 1)
            if not _EARLIEST_S < seconds < _LATEST_S:
                raise ValueError
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        if not isinstance(value, str) or len(value) > 60:
            raise ValueError
        if time.format == "local":
            instant = datetime.strptime(value, time.pattern).replace(tzinfo=ZoneInfo(time.zone))
        else:
            instant = datetime.fromisoformat(value)
            if instant.tzinfo is None:
                instant = instant.replace(tzinfo=ZoneInfo(time.zone))
        return instant.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        shown = "nothing" if value is _MISSING else f"{value!r:.40}"
        raise _ProblemError(Code.BAD_TIME, time.path, f"{shown} is no time written as {time.format}") from None


def _read_id(path: str, document: Any, element: Any) -> str:
    value = _find(path, document, element)
    text = _as_key(value)
    if not re.fullmatch(r"[!-~]{1,64}", text):
        raise _ProblemError(Code.BAD_ID, path, "1 to 64 printable ASCII characters are wanted")
    return text


def _make_id(device: str, topic_kind: TopicKind, body: Dict[str, Any]) -> str:
    return make_message_id(device, str(topic_kind), json.dumps(body, sort_keys=True, ensure_ascii=False))


def make_message_id(*parts: str) -> str:
    """An id from what a message says: 32 hexadecimal digits, the same for the same parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\x00")
    return digest.hexdigest()[:32]
