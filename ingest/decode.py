"""From the bytes of one MQTT message to a checked message, or to a dead letter with its reason. Nothing raises.

Two ways with one result. The quick one lets the payload's model read the bytes and then proves, by counting a few
characters, that nothing was in them which that reading passes over: doubled keys, numbers without end, depth. What it
cannot prove goes the careful way, which alone knows the reasons. A test holds them to the same answer.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import ValidationError

from devices.model import Device, DeviceKind, Message, Payload, TopicKind
from devices.registry import KINDS
from devices.store import is_device_code
from kernel.settings import IngestSettings

_ENVELOPE = frozenset(Payload.model_fields)
_ID = re.compile(r"[!-~]{1,64}")
# Runs to the end when a string is not closed: always one pass, whatever the bytes are.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
_DETAIL_CHARACTERS = 500
_TOPICS_KEPT = 100_000
_PLAIN = (str, bool, type(None))


class Reason(StrEnum):
    """Why a message could not be used. Stable: other systems read these."""

    MALFORMED_JSON = "malformed_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    NOT_FINITE = "not_finite"
    BAD_TOPIC = "bad_topic"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_DEVICE = "unknown_device"
    DISABLED_DEVICE = "disabled_device"
    KIND_MISMATCH = "kind_mismatch"
    DEVICE_MISMATCH = "device_mismatch"
    UNKNOWN_VERSION = "unknown_version"
    BAD_ENVELOPE = "bad_envelope"
    BAD_PAYLOAD = "bad_payload"
    FUTURE_DATED = "future_dated"
    PAST_DATED = "past_dated"
    RULE_FAILED = "rule_failed"
    NOT_MAPPED = "not_mapped"  # a vendor's own message that its mapping cannot read, or that has none
    NOT_ALLOWED = "not_allowed"  # the sender did not prove who it is, or speaks for another's device


class Raw(NamedTuple):
    """What came from the broker. `payload` may be cut; `payload_bytes` is the length it had."""

    topic: str
    payload: bytes
    payload_bytes: int
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A topic taken apart. The kind may be one that nobody knows."""

    kind: str
    device_code: str
    topic_kind: TopicKind


class Decoded(NamedTuple):
    """A message that is right in itself; whether its device exists is for the database to say."""

    raw: Raw
    address: Address
    kind: DeviceKind
    message: Message


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A message that cannot be used. `address` and `message_id` where they could be read, for the refusing receipt."""

    raw: Raw
    reason: Reason
    detail: str
    address: Address | None = None
    message_id: str | None = None


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


_addresses: dict[str, Address] = {}


def read_topic(topic: str) -> Address | None:
    """gridwarden/<kind>/<device>/<telemetry|event|state|reply>, or None. Remembers those it has taken apart."""
    address = _addresses.get(topic)
    if address is None and (address := _take_apart(topic)) is not None:
        if len(_addresses) >= _TOPICS_KEPT:
            _addresses.clear()
        _addresses[topic] = address
    return address


def _take_apart(topic: str) -> Address | None:
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != "gridwarden" or parts[3] not in TopicKind.__members__.values():
        return None
    if not is_device_code(parts[1]) or not is_device_code(parts[2]):
        return None
    return Address(kind=parts[1], device_code=parts[2], topic_kind=TopicKind(parts[3]))


def decode(raw: Raw, limits: IngestSettings) -> Decoded | DeadLetter:
    """Check topic, size, depth, JSON, envelope, the kind's fields, the device named in it and the date, in this order."""
    address = read_topic(raw.topic)
    if address is not None and (kind := KINDS.get(address.kind)) is not None:
        payload = _read_quickly(raw, kind.payloads[address.topic_kind], limits)
        if payload is not None:
            late = (raw.received_at - payload.at).total_seconds()
            named = payload.device is None or payload.device == address.device_code
            if named and -limits.clock_tolerance_s <= late <= limits.past_tolerance_days * 86_400:
                return Decoded(raw, address, kind, _make_message(payload, kind, address.topic_kind, raw, payload.at))
    return _decode_carefully(raw, address, limits)


def _read_quickly(raw: Raw, model: type[Payload], limits: IngestSettings) -> Payload | None:
    """The payload, when it is certain that the careful way would give the same; None: take that way."""
    text = raw.payload
    if (
        raw.payload_bytes > limits.max_payload_bytes
        or text.count(b"{") + text.count(b"[") > limits.max_depth
        or b"NaN" in text
        or b"Infinity" in text
        or (b'"v": 1,' not in text and b'"v":1,' not in text)  # the model takes true for 1
    ):
        return None
    try:
        payload = model.__pydantic_validator__.validate_json(text)
    except ValidationError:
        return None
    extra = payload.__pydantic_extra__
    if extra and not all(map(_is_plain, extra.values())):
        return None
    # Every key stands before `":`, if no blank comes between; so as many of these as there are fields, and no key is double.
    if text.count(b'":') != len(payload.__pydantic_fields_set__):
        return None
    if b'" ' in text or b'"\n' in text or b'"\t' in text or b'"\r' in text:
        return None
    assert isinstance(payload, Payload)
    return payload


def _is_plain(value: object) -> bool:
    """Whether an unknown field's value is one that both ways read alike."""
    return type(value) in _PLAIN or (type(value) in (int, float) and -1e15 < value < 1e15)  # type: ignore[operator]


def _decode_carefully(raw: Raw, address: Address | None, limits: IngestSettings) -> Decoded | DeadLetter:
    message_id: str | None = None
    try:
        if address is None:
            raise _RefusedError(Reason.BAD_TOPIC, f"not a device's topic: {raw.topic}")
        document = _read_document(raw, limits)
        message_id = _read_id(document)
        kind = KINDS.get(address.kind)
        if kind is None:
            raise _RefusedError(Reason.UNKNOWN_KIND, f"{address.kind} is none of {', '.join(KINDS)}")
        payload = _read_payload(document, kind.payloads[address.topic_kind])
        if payload.device is not None and payload.device != address.device_code:
            raise _RefusedError(Reason.DEVICE_MISMATCH, f"names the device {payload.device}")
        measured_at = find_measured_at(payload.at, raw.received_at, address.topic_kind, limits)
    except _RefusedError as refused:
        return DeadLetter(
            raw=raw, reason=refused.reason, detail=clean_detail(str(refused)), address=address, message_id=message_id
        )
    return Decoded(raw, address, kind, _make_message(payload, kind, address.topic_kind, raw, measured_at))


def check_device(decoded: Decoded, device: Device | None) -> DeadLetter | None:
    """Refuse a message whose device is unknown, switched off or of another kind; None when all is well."""
    code = decoded.address.device_code
    if device is None:
        reason, detail = Reason.UNKNOWN_DEVICE, f"no device {code} is registered"
    elif device.kind != decoded.kind.name:
        reason, detail = Reason.KIND_MISMATCH, f"{code} is a {device.kind}, its topic says {decoded.kind.name}"
    elif not device.enabled:
        reason, detail = Reason.DISABLED_DEVICE, f"{code} is switched off"
    else:
        return None
    return refuse(decoded, reason, detail)


def refuse(decoded: Decoded, reason: Reason, detail: str) -> DeadLetter:
    """The dead letter of a message that was right in itself."""
    return DeadLetter(
        raw=decoded.raw,
        reason=reason,
        detail=clean_detail(detail),
        address=decoded.address,
        message_id=decoded.message.id,
    )


def clean_detail(text: str) -> str:
    """`text` as the database can keep it: no U+0000, no lone surrogates, not endless."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return text[:_DETAIL_CHARACTERS]


def read_json(raw: Raw, limits: IngestSettings) -> tuple[Any, DeadLetter | None]:
    """The JSON of a payload, of whatever type, with the checks of size, depth and numbers; or its dead letter."""
    try:
        return _read_any(raw, limits), None
    except _RefusedError as refused:
        return None, DeadLetter(raw=raw, reason=refused.reason, detail=clean_detail(str(refused)))


def _read_document(raw: Raw, limits: IngestSettings) -> dict[str, Any]:
    document = _read_any(raw, limits)
    if not isinstance(document, dict):
        raise _RefusedError(Reason.NOT_AN_OBJECT, f"a JSON object is wanted, not {type(document).__name__}")
    return document


def _read_any(raw: Raw, limits: IngestSettings) -> Any:
    if raw.payload_bytes > limits.max_payload_bytes:
        raise _RefusedError(Reason.TOO_LARGE, f"{raw.payload_bytes} bytes, {limits.max_payload_bytes} are allowed")
    if measure_depth(raw.payload) > limits.max_depth:
        raise _RefusedError(Reason.TOO_DEEP, f"nested deeper than {limits.max_depth}")
    try:
        return _DECODER.decode(raw.payload.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError, and an integer of thousands of digits
        raise _RefusedError(Reason.MALFORMED_JSON, str(error)) from None


def measure_depth(payload: bytes) -> int:
    """How deep brackets nest outside of strings, at most; found without parsing, so that no parser can be overrun."""
    opening = payload.count(b"{") + payload.count(b"[")
    if opening <= 2:
        return opening
    depth = deepest = 0
    for byte in _STRING.sub(b"", payload):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _read_constant(text: str) -> float:
    raise _RefusedError(Reason.NOT_FINITE, f"{text} is no number")


def _read_float(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise _RefusedError(Reason.NOT_FINITE, f"{text[:40]} is too large for a number")
    return value


def _read_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _RefusedError(Reason.MALFORMED_JSON, "a key stands twice in one object")
    return document


_DECODER = json.JSONDecoder(parse_constant=_read_constant, parse_float=_read_float, object_pairs_hook=_read_pairs)


def _read_id(document: Mapping[str, Any]) -> str | None:
    value = document.get("id")
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _read_payload(document: dict[str, Any], model: type[Payload]) -> Payload:
    version = document.get("v")
    if type(version) is not int:  # True equals 1, and 1.0 does too
        raise _RefusedError(Reason.BAD_ENVELOPE, "v: the integer 1 is wanted")
    if version != 1:
        raise _RefusedError(Reason.UNKNOWN_VERSION, f"version {str(version)[:20]}, this platform knows 1")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        in_envelope = any(p["loc"] and p["loc"][0] in _ENVELOPE for p in problems)
        text = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:5])
        raise _RefusedError(Reason.BAD_ENVELOPE if in_envelope else Reason.BAD_PAYLOAD, text) from None


def _make_message(
    payload: Payload, kind: DeviceKind, topic_kind: TopicKind, raw: Raw, measured_at: datetime
) -> Message:
    try:
        readings = kind.readings(payload)
    except Exception:  # the batch will come upon it again, and sets the message aside
        readings = None
    return Message(
        topic_kind=topic_kind,
        id=payload.id,
        seq=payload.seq,
        measured_at=measured_at,
        received_at=raw.received_at,
        payload=payload,
        readings=readings,
    )


def find_measured_at(
    said_at: datetime, received_at: datetime, topic_kind: TopicKind, limits: IngestSettings
) -> datetime:
    """When a message was measured, by a clock that can be trusted.

    A message cannot come before it was measured. One that is ahead by more than the clock's tolerance proves that the
    device's clock is wrong, and counts as measured when it came; else a clock that is set back later would make the
    device's newer readings look old for as long as it had been ahead. One that is late is believed: readings are kept back
    and sent later, and a single message cannot say whether that or the clock is the reason.
    An event is never refused for its date: a smoke alarm that was without power says 1970, and burns now.
    Raises a refusal (future_dated, past_dated) for other messages beyond what the settings allow.
    """
    ahead = said_at - received_at
    tolerance = timedelta(seconds=limits.future_tolerance_s), timedelta(days=limits.past_tolerance_days)
    if topic_kind is TopicKind.EVENT and not -tolerance[1] <= ahead <= tolerance[0]:
        return received_at
    if ahead > tolerance[0]:
        raise _RefusedError(
            Reason.FUTURE_DATED,
            f"dated {ahead.total_seconds():.0f} s ahead, {limits.future_tolerance_s:.0f} s are allowed",
        )
    if -ahead > tolerance[1]:
        raise _RefusedError(
            Reason.PAST_DATED, f"dated {-ahead.days} days ago, {limits.past_tolerance_days:g} are allowed"
        )
    return received_at if ahead > timedelta(seconds=limits.clock_tolerance_s) else said_at
