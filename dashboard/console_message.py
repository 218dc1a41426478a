"""What the console shows of a message, and the test message that an engineer sends."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from dashboard.store import JsonObject
from devices.model import TopicKind, write_instant
from devices.registry import KINDS
from devices.store import is_device_code, read_devices_by_code
from ingest.decode import Decoded, Raw, check_device, decode, measure_depth
from kernel.db import Database
from kernel.settings import Settings

WAY_PREFIX = "gridwarden-console/"  # what other ways in than MQTT publish for the console
_RAW_CHARACTERS = 16_000
Direction = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One message as the broker delivered it."""

    topic: str
    payload: bytes  # the first `max_payload_bytes` of it
    payload_bytes: int
    received_at: datetime


def describe_messages(batch: Sequence[Seen], settings: Settings, database: Database) -> list[JsonObject]:
    """Each message as the console shows it; the database is asked once, for the devices that are named.

    Without the database what the messages themselves say is still shown, and that nobody could ask.
    """
    limits = settings.ingest
    results = [
        None if not _is_inward(seen.topic) else decode(Raw(seen.topic, seen.payload, seen.payload_bytes, seen.received_at), limits)
        for seen in batch
    ]  # fmt: skip
    codes = {result.address.device_code for result in results if isinstance(result, Decoded)}
    asked = True
    devices = {}
    if codes:
        try:
            with database.transaction() as connection:
                devices = read_devices_by_code(connection, codes)
        except psycopg.Error:
            asked = False
    entries = []
    for seen, result in zip(batch, results, strict=True):
        if result is None:
            entries.append(_describe_other(seen))
            continue
        entry = _entry(seen, "mqtt", "in")
        if isinstance(result, Decoded):
            entry["decoded"] = [_describe_decoded(result)]
            letter = check_device(result, devices.get(result.address.device_code)) if asked else None
            entry["detail"] = "" if asked else "database_unavailable"
        else:
            letter = result
        if letter is not None:
            entry |= {"refused": str(letter.reason), "detail": letter.detail}
        entries.append(entry)
    return entries


def _is_inward(topic: str) -> bool:
    """Whether a device writes to this topic; anything below a device that is not of the platform counts, to be refused."""
    if topic.startswith(WAY_PREFIX):
        return False
    return topic.rsplit("/", 1)[-1] not in ("receipt", "command") or topic.count("/") != 3


def _entry(seen: Seen, way: str, direction: Direction) -> JsonObject:
    entry: JsonObject = {
        "type": "message",
        "at": seen.received_at,
        "way": way,
        "direction": direction,
        "topic": seen.topic,
        "bytes": seen.payload_bytes,
        "decoded": None,
        "refused": None,
        "detail": "",
    }
    try:
        entry["raw"] = seen.payload.decode()[:_RAW_CHARACTERS]
    except UnicodeDecodeError:
        entry["raw"] = None
        entry["raw_hex"] = seen.payload[: _RAW_CHARACTERS // 2].hex()
    return entry


def _describe_decoded(result: Decoded) -> JsonObject:
    message = result.message
    return {
        "topic_kind": str(message.topic_kind),
        "id": message.id,
        "seq": message.seq,
        "measured_at": message.measured_at,
        "readings": result.kind.readings(message.payload),
        "fields": message.payload.model_dump(mode="json", exclude_none=True),
    }


def _describe_other(seen: Seen) -> JsonObject:
    """What the platform sent to the device, or what another way in tells of what it took."""
    if not seen.topic.startswith(WAY_PREFIX):
        return _entry(seen, "mqtt", "out")
    told = _read_told(seen.payload)
    entry = _entry(seen, _text(told, "way") or "unknown", "in")
    if told is None:
        return entry
    entry["raw"] = _text(told, "raw")
    raw_hex = _text(told, "raw_hex")
    if raw_hex:
        entry["raw_hex"] = raw_hex
    decoded = told.get("decoded")
    entry["decoded"] = decoded if isinstance(decoded, list) else None
    entry["refused"] = _text(told, "refused")
    entry["detail"] = _text(told, "detail") or ""
    if told.get("direction") == "out":
        entry["direction"] = "out"
    return entry


def _read_told(payload: bytes) -> JsonObject | None:
    if measure_depth(payload) > 32:
        return None
    try:
        told = json.loads(payload, parse_constant=lambda text: None)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _text(told: JsonObject | None, key: str) -> str | None:
    value = told.get(key) if told else None
    return value[:_RAW_CHARACTERS] if isinstance(value, str) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TestMessage:
    """A message that a device of this kind might send, marked as a test: checked and answered, nothing stored."""

    __test__ = False  # no test case, whatever its name

    id: str
    topic: str
    payload: JsonObject


def make_test_message(kind: str, code: str, now: datetime, rng: random.Random) -> TestMessage | None:
    """The kind's sample, telemetry where it has one; None for kinds that send nothing over MQTT."""
    if kind not in KINDS or not is_device_code(code):
        return None
    topic_kind = next((t for t in (TopicKind.TELEMETRY, TopicKind.STATE) if t in KINDS[kind].payloads), None)
    if topic_kind is None:
        return None
    payload = KINDS[kind].draw(rng, now, topic_kind) | {"at": write_instant(now), "test": True}
    payload["id"] = f"test-{payload['id']}"[:64]
    return TestMessage(id=str(payload["id"]), topic=f"gridwarden/{kind}/{code}/{topic_kind}", payload=payload)
