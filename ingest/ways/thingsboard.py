"""ThingsBoard's device topics: what a publication says, and our messages from it. Pure; the listener stands beside it.

Topics and payloads as its MQTT API has them (thingsboard.io/docs/reference/mqtt-api and …/gateway-mqtt-api):
telemetry is {"key": value}, {"ts": milliseconds, "values": {…}} or an array of these; attributes {"key": value}; a gateway's
documents have its children's names around theirs. A child's name is its device's code here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from devices.model import Payload, TopicKind, write_instant
from devices.store import is_device_code
from ingest.mapping import make_message_id

ME = "v1/devices/me/"
GATEWAY = "v1/gateway/"
TELEMETRY, ATTRIBUTES = ME + "telemetry", ME + "attributes"
RPC_REQUEST, RPC_RESPONSE = ME + "rpc/request/", ME + "rpc/response/"
ATTRIBUTES_REQUEST, ATTRIBUTES_RESPONSE = ME + "attributes/request/", ME + "attributes/response/"
GATEWAY_RPC = GATEWAY + "rpc"
# What a client may listen to; other filters are refused.
SUBSCRIPTIONS = frozenset(
    {RPC_REQUEST + "+", RPC_RESPONSE + "+", ATTRIBUTES, ATTRIBUTES_RESPONSE + "+", GATEWAY_RPC, GATEWAY + "attributes",
     GATEWAY + "attributes/response"}
)  # fmt: skip
_ENVELOPE = frozenset(Payload.model_fields)
_FIRMWARE = ("fw_version", "current_fw_version", "firmware_version", "firmwareVersion", "firmware")
_LATEST_MS = 8_000_000_000_000


class DocumentError(ValueError):
    """The document has not the form that its topic wants."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Values of one instant (None: when they came). `child`: of a gateway's child, else of the log-in's own device.

    `document` is the vendor's own JSON, for a device that has a mapping.
    """

    child: str | None
    values: dict[str, Any]
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a device says of itself."""

    child: str | None
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Presence:
    """A gateway says that a child came or went."""

    child: str
    present: bool


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """The answer to a call (rpc) by its number."""

    child: str | None
    number: int
    body: Any


@dataclass(frozen=True, slots=True)
class Question:
    """A device asks: for attributes (`keys` None: for all), or it calls us, which we do not answer to."""

    number: int
    topic: str
    keys: tuple[str, ...] | None = None


Item = Telemetry | Attributes | Presence | CallAnswer | Question


def read_publication(topic: str, document: Any) -> list[Item]:
    """What a publication says, in its order.

    Raises DocumentError (a form that the topic does not have) and KeyError (a topic that nobody serves).
    """
    if topic == TELEMETRY:
        return list(_read_telemetry(None, document))
    if topic == ATTRIBUTES:
        return [Attributes(None, _object(document))]
    if topic.startswith(RPC_RESPONSE):
        return [CallAnswer(None, _number(topic[len(RPC_RESPONSE) :]), document)]
    if topic.startswith(RPC_REQUEST):
        return [Question(_number(topic[len(RPC_REQUEST) :]), RPC_RESPONSE)]
    if topic.startswith(ATTRIBUTES_REQUEST):
        return [Question(_number(topic[len(ATTRIBUTES_REQUEST) :]), ATTRIBUTES_RESPONSE, _keys(document))]
    if topic.startswith(GATEWAY):
        return _read_gateway(topic[len(GATEWAY) :], _object(document))
    raise KeyError(topic)


def _read_gateway(name: str, document: dict[str, Any]) -> list[Item]:
    if name == "telemetry":
        return [item for child, part in document.items() for item in _read_telemetry(_child(child), part)]
    if name == "attributes":
        return [Attributes(_child(child), _object(part)) for child, part in document.items()]
    if name in ("connect", "disconnect"):
        return [Presence(_child(document.get("device")), name == "connect")]
    if name == "rpc":
        number = document.get("id")
        if type(number) is not int:
            raise DocumentError("id: the number of the call is wanted")
        return [CallAnswer(_child(document.get("device")), number, document.get("data"))]
    raise KeyError(GATEWAY + name)


def _read_telemetry(child: str | None, document: Any) -> list[Telemetry]:
    if isinstance(document, list):
        return [item for part in document for item in _read_telemetry(child, _object(part))]
    document = _object(document)
    if isinstance(document.get("values"), dict) and set(document) <= {"ts", "values"}:
        return [Telemetry(child, document["values"], _read_instant(document["ts"]) if "ts" in document else None)]
    if not document:
        raise DocumentError("no values")
    return [Telemetry(child, document, None)]


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise DocumentError(f"an object is wanted, not {type(document).__name__}")
    return document


def _child(name: Any) -> str:
    if not isinstance(name, str) or not is_device_code(name):
        raise DocumentError("a child's name is not the code of a device")
    return name


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise DocumentError(f"{text[:20]!r} is no number")
    return int(text)


def _keys(document: Any) -> tuple[str, ...] | None:
    keys = _object(document).get("clientKeys")
    return tuple(keys.split(",")) if isinstance(keys, str) and keys else None


def _read_instant(ts: Any) -> datetime:
    if type(ts) not in (int, float) or not 0 <= ts <= _LATEST_MS:
        raise DocumentError("ts: milliseconds since 1970 are wanted")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts)


def find_document(topic: str, document: Any, child: str | None) -> Any:
    """The part of a publication that a device's own mapping reads: all of it, or a gateway's child's part."""
    return document if child is None else document[child]


def write_message(code: str, item: Telemetry, received_at: datetime) -> dict[str, Any]:
    """Our message of a device without a mapping, whose keys are our fields. The repeat of a dated one has the same id.

    Keys that our envelope has are left out: a device that knows nothing of it means something else by them.
    """
    at = write_instant(item.at or received_at)
    values = {key: value for key, value in item.values.items() if key not in _ENVELOPE}
    said = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return {"v": 1, "id": make_message_id("thingsboard", code, at, said), "at": at, **values}


def find_firmware(values: Mapping[str, Any]) -> str | None:
    """What a device's attributes say of its firmware."""
    found = next((values[name] for name in _FIRMWARE if isinstance(values.get(name), str)), None)
    return found[:100].replace("\x00", "") if found else None


def write_call(number: int, command: Mapping[str, Any], child: str | None) -> tuple[str, bytes]:
    """Topic and payload of one of our commands, as a call that the device knows."""
    call = {"method": command.get("name"), "params": command.get("parameters", {})}
    if child is None:
        return f"{RPC_REQUEST}{number}", json.dumps(call).encode()
    return GATEWAY_RPC, json.dumps({"device": child, "data": {"id": number, **call}}).encode()


def write_reply(command_id: str, nonce: str, number: int, body: Any, now: datetime) -> dict[str, Any]:
    """A device's answer to a call as our reply. {"result": "refused"} and the like, {"success": false} and {"error": …} count;
    everything else means that it is done."""
    result, detail = "done", ""
    if isinstance(body, dict):
        if body.get("result") in ("accepted", "done", "refused", "failed"):
            result = str(body["result"])
        elif body.get("success") is False or body.get("error"):
            result = "failed"
        detail = str(body.get("detail") or body.get("error") or "")[:200].replace("\x00", "")
    reply_id = make_message_id("rpc", str(number), command_id, result, detail)
    return {"v": 1, "id": reply_id, "at": write_instant(now), "command_id": command_id, "nonce": nonce,
            "result": result, "detail": detail}  # fmt: skip


def name_topic(kind: str, code: str, topic_kind: TopicKind) -> str:
    """Our topic."""
    return f"gridwarden/{kind}/{code}/{topic_kind}"
