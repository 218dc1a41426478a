"""The push forms of operators' NB-IoT platforms, and what they say: which device, which values, when. Pure.

Field by field from public sources, see each function. A form that could not be sourced is not here.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

AEP, ONENET = "aep", "onenet"
_LATEST_MS = 8_000_000_000_000
_DATA_POINT = 1


class PushError(ValueError):
    """The platform's message has not the documented form; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """One report of one device. `numbers`: under what the platform knows it, the best first. `document`: for its mapping."""

    numbers: list[str]
    values: dict[str, Any]
    at: datetime | None
    document: dict[str, Any]


def read_aep(document: Any) -> list[Pushed]:
    """China Telecom's AEP (CTWing), 订阅推送, "设备数据变化通知": {"messageType": "dataReport", "IMEI", "deviceId",
    "timestamp" ms, "payload": {"APPdata": base64} or the product's own fields (also in "serviceData"), …}.

    Source: ctwing.cn help 订阅管理 (dyts/103), as its pushes stand recorded in public programs. Other message types (on and off
    line, commands' answers) say nothing that is measured and are taken without effect. Raises PushError.
    """
    if not isinstance(document, dict):
        raise PushError("not_an_object", "an object is wanted")
    if document.get("messageType") != "dataReport":
        return []
    payload = document.get("payload")
    if not isinstance(payload, dict):
        raise PushError("no_payload", "payload: an object is wanted")
    values = payload
    if isinstance(payload.get("APPdata"), str):
        values = _decode_app_data(payload["APPdata"])
    elif isinstance(payload.get("serviceData"), dict):
        values = payload["serviceData"]
    numbers = [
        v for key in ("IMEI", "deviceId") if isinstance(v := document.get(key), str) and v not in ("", "undefined")
    ]
    if not numbers:
        raise PushError("no_device", "neither IMEI nor deviceId")
    return [
        Pushed(
            numbers=numbers,
            values=values,
            at=_read_ms(document.get("timestamp")),
            document={**document, "data": values},
        )
    ]


def _decode_app_data(text: str) -> dict[str, Any]:
    """The device's own bytes: JSON as it stands, anything else as hexadecimal digits under `hex`."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise PushError("bad_base64", "payload.APPdata is no base64") from None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"hex": data.hex()}


def check_onenet_url(token: str, query: Mapping[str, str]) -> str | None:
    """China Mobile's OneNET, "URL验证": what to answer to its GET when signature = base64(md5(token + nonce + msg)), else None.

    Source: open.iot.10086.cn/doc/nb-iot/book/manual/httppush/develop-manual.html. A + of the base64 comes as a blank.
    """
    message = query.get("msg", "")
    signature = query.get("signature", "").replace(" ", "+")
    wanted = _sign(token, query.get("nonce", ""), message)
    return message if hmac.compare_digest(wanted.encode(), signature.encode()) else None


def read_onenet(token: str, body: bytes) -> list[Pushed]:
    """OneNET, "数据接收": {"msg": {…} or […], "nonce", "msg_signature"}; each message {"type": 1, "dev_id", "ds_id", "at" ms, "value"},
    for NB-IoT with "imei". Types 2 (on and off line) and 7 (answers) are taken without effect.

    Source: the same page; that the signature is over the text of `msg` as it stands, from the platform's published receivers.
    Encrypted pushes (`enc_msg`) are refused: they are set to plain in OneNET's page. Raises PushError.
    """
    try:
        text = body.decode()
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PushError("malformed_json", "no JSON") from None
    if not isinstance(document, dict):
        raise PushError("not_an_object", "an object is wanted")
    if "enc_msg" in document:
        raise PushError("encrypted", "set the push to plain text (明文)")
    message = document.get("msg")
    said = message if isinstance(message, str) else _find_text(text, "msg")
    wanted = _sign(token, str(document.get("nonce", "")), said)
    if not hmac.compare_digest(wanted.encode(), str(document.get("msg_signature", "")).encode()):
        raise PushError("bad_signature", "msg_signature is not that of this token")
    if isinstance(message, str):
        try:
            message = json.loads(message)
        except (ValueError, RecursionError):
            raise PushError("malformed_json", "msg holds no JSON") from None
    items = message if isinstance(message, list) else [message]
    return [_read_point(item) for item in items if isinstance(item, dict) and item.get("type") == _DATA_POINT]


def _find_text(text: str, key: str) -> str:
    """The value of a key of the outermost object, as it was written."""
    decoder = json.JSONDecoder()
    at = text.index("{") + 1
    while True:
        at = _skip(text, at, " \t\r\n,")
        if text[at] == "}":
            return ""
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at, " \t\r\n:")
        _, end = decoder.raw_decode(text, at)
        if name == key:
            return text[at:end]
        at = end


def _skip(text: str, at: int, blanks: str) -> int:
    while text[at] in blanks:
        at += 1
    return at


def _read_point(item: dict[str, Any]) -> Pushed:
    numbers = [str(item[key]) for key in ("imei", "dev_id") if isinstance(item.get(key), str | int) and item[key] != ""]
    if not numbers:
        raise PushError("no_device", "neither imei nor dev_id")
    value = item.get("value")
    values = value if isinstance(value, dict) else {str(item.get("ds_id", "")): value}
    return Pushed(numbers=numbers, values=values, at=_read_ms(item.get("at")), document=item)


def _read_ms(value: Any) -> datetime | None:
    if type(value) not in (int, float) or not 0 < value < _LATEST_MS:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)


def _sign(token: str, nonce: str, message: str) -> str:
    return base64.b64encode(hashlib.md5(f"{token}{nonce}{message}".encode(), usedforsecurity=False).digest()).decode()
