"""Operators' push forms, from payloads written after their public documentation."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ways.push import PushError, check_onenet_url, read_aep, read_onenet

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "abc123"


def load(name: str) -> Any:
    return json.loads((PAYLOADS / name).read_text("utf-8"))


def sign(nonce: str, text: str) -> str:
    return base64.b64encode(hashlib.md5((TOKEN + nonce + text).encode()).digest()).decode()


def test_aep_with_the_products_own_fields() -> None:
    [pushed] = read_aep(load("aep-service-data.json"))
    assert pushed.numbers == ["860123456789012", "acf7baaee65e431eadfb8f5fe50e8b81"]
    assert pushed.values == {"status": "alarm", "battery_pct": 88, "temperature_c": 30}
    assert pushed.at == datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def test_aep_with_the_devices_own_bytes() -> None:
    document = load("aep-app-data.json")
    [pushed] = read_aep(document)
    assert pushed.values == {"evt": 1, "t": 305}
    assert pushed.document["data"] == {"evt": 1, "t": 305}
    document["payload"]["APPdata"] = base64.b64encode(b"\x01\xff").decode()
    assert read_aep(document)[0].values == {"hex": "01ff"}


def test_aep_other_messages_say_nothing_and_broken_ones_are_refused() -> None:
    assert read_aep({"messageType": "deviceOnlineOfflineReport", "deviceId": "d"}) == []
    for document, code in (
        ([], "not_an_object"),
        ({"messageType": "dataReport"}, "no_payload"),
        ({"messageType": "dataReport", "payload": {}, "IMEI": "undefined"}, "no_device"),
        ({"messageType": "dataReport", "IMEI": "1", "payload": {"APPdata": "%%"}}, "bad_base64"),
    ):
        with pytest.raises(PushError) as refused:
            read_aep(document)
        assert refused.value.code == code


def test_onenet_proves_its_address() -> None:
    query = {"msg": "hello", "nonce": "12345678", "signature": sign("12345678", "hello").replace("+", " ")}
    assert check_onenet_url(TOKEN, query) == "hello"
    assert check_onenet_url("other", query) is None
    assert check_onenet_url(TOKEN, {}) is None


def test_onenet_points_are_read_and_its_signature_is_over_msg_as_it_stands() -> None:
    text = (PAYLOADS / "onenet-points.json").read_text("utf-8")
    body = text.replace("SIGNATURE", sign("abcdefgh", text[text.index("[") : text.rindex("]") + 1])).encode()
    first, second = read_onenet(TOKEN, body)
    assert first.numbers == ["860123456789012", "2016617"]
    assert first.values == {"temperature_c": 21.5}
    assert first.at == datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
    assert second.values == {"status": "normal", "battery_pct": 90}  # a value that is an object is its fields
    for wrong in (body.replace(b"21.5", b"99.5"), body.replace(b"abcdefgh", b"abcdefgi")):
        with pytest.raises(PushError) as refused:
            read_onenet(TOKEN, wrong)
        assert refused.value.code == "bad_signature"


def test_onenet_msg_may_be_a_text() -> None:
    said = json.dumps({"type": 1, "dev_id": 5, "ds_id": "level_m", "at": 1795161600000, "value": 1.2})
    body = json.dumps({"nonce": "n", "msg_signature": sign("n", said), "msg": said}).encode()
    assert [one.values for one in read_onenet(TOKEN, body)] == [{"level_m": 1.2}]
    encrypted = json.dumps({"nonce": "n", "msg_signature": "x", "enc_msg": "…"}).encode()
    with pytest.raises(PushError) as refused:
        read_onenet(TOKEN, encrypted)
    assert refused.value.code == "encrypted"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bodies_are_refused_and_never_raise_anything_else(body: bytes) -> None:
    with pytest.raises(PushError):
        read_onenet(TOKEN, body)


@given(st.dictionaries(st.sampled_from(["messageType", "payload", "IMEI", "deviceId", "timestamp"]), st.sampled_from(
    ["dataReport", "x", 1, None, {}, {"APPdata": "e30="}, {"APPdata": 3}, {"serviceData": {}}, 1e400])))  # fmt: skip
def test_arbitrary_aep_documents_are_read_or_refused(document: dict[str, Any]) -> None:
    try:
        read_aep(document)
    except PushError as error:
        assert error.code
