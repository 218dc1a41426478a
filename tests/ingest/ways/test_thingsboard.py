"""ThingsBoard's documents: what they say, what our messages become of them, and that nothing else comes of nonsense."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ways import thingsboard as things
from ingest.ways.thingsboard import (
    Attributes,
    CallAnswer,
    DocumentError,
    Presence,
    Question,
    Telemetry,
    read_publication,
)

AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
MS = 1795161600000


@pytest.mark.parametrize(
    ("topic", "document", "items"),
    [
        ("v1/devices/me/telemetry", {"a": 1}, [Telemetry(None, {"a": 1}, None)]),
        ("v1/devices/me/telemetry", {"ts": MS, "values": {"a": 1}}, [Telemetry(None, {"a": 1}, AT)]),
        ("v1/devices/me/telemetry", [{"a": 1}, {"ts": MS, "values": {"b": 2}}],
         [Telemetry(None, {"a": 1}, None), Telemetry(None, {"b": 2}, AT)]),
        ("v1/devices/me/telemetry", {"values": 3, "ts": 1}, [Telemetry(None, {"values": 3, "ts": 1}, None)]),
        ("v1/devices/me/attributes", {"fw": "1"}, [Attributes(None, {"fw": "1"})]),
        ("v1/devices/me/attributes/request/7", {"clientKeys": "a,b"}, [Question(7, things.ATTRIBUTES_RESPONSE, ("a", "b"))]),
        ("v1/devices/me/rpc/response/12", {"ok": True}, [CallAnswer(None, 12, {"ok": True})]),
        ("v1/devices/me/rpc/request/3", {"method": "getTime"}, [Question(3, things.RPC_RESPONSE)]),
        ("v1/gateway/telemetry", {"A": [{"ts": MS, "values": {"a": 1}}], "B": [{"b": 2}]},
         [Telemetry("A", {"a": 1}, AT), Telemetry("B", {"b": 2}, None)]),
        ("v1/gateway/attributes", {"A": {"fw": "1"}}, [Attributes("A", {"fw": "1"})]),
        ("v1/gateway/connect", {"device": "A"}, [Presence("A", True)]),
        ("v1/gateway/disconnect", {"device": "A"}, [Presence("A", False)]),
        ("v1/gateway/rpc", {"device": "A", "id": 5, "data": {"ok": 1}}, [CallAnswer("A", 5, {"ok": 1})]),
    ],
)  # fmt: skip
def test_documented_forms(topic: str, document: Any, items: list[Any]) -> None:
    assert read_publication(topic, document) == items


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ts", "values", "device", "id", "data", "A", "../x", "clientKeys"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)
TOPICS = st.sampled_from(
    [things.TELEMETRY, things.ATTRIBUTES, things.RPC_RESPONSE + "1", things.RPC_REQUEST + "x", things.ATTRIBUTES_REQUEST + "2",
     "v1/gateway/telemetry", "v1/gateway/attributes", "v1/gateway/connect", "v1/gateway/rpc", "v1/gateway/claim", "else"]
)  # fmt: skip


@given(TOPICS, JSON)
def test_any_document_is_read_or_refused(topic: str, document: Any) -> None:
    try:
        items = read_publication(topic, document)
    except (DocumentError, KeyError):
        return
    for item in items:
        if isinstance(item, Telemetry):
            message = things.write_message("S1", item, AT)
            assert (message["v"], len(message["id"])) == (1, 32)


def test_the_repeat_of_a_dated_message_is_the_same_message() -> None:
    first, again, other = (
        things.write_message("S1", Telemetry(None, {"a": value}, AT), AT.replace(minute=minute))
        for value, minute in ((1, 1), (1, 2), (2, 1))
    )
    assert first == again
    assert other["id"] != first["id"]


def test_keys_of_our_envelope_are_not_the_devices() -> None:
    message = things.write_message(
        "S1", Telemetry(None, {"id": "x", "v": 7, "test": True, "at": 1, "status": "normal"}, AT), AT
    )
    assert {k: v for k, v in message.items() if k not in ("id", "at", "v")} == {"status": "normal"}


@pytest.mark.parametrize(
    ("body", "result", "detail"),
    [
        ({"result": "refused", "detail": "local"}, "refused", "local"),
        ({"result": "accepted"}, "accepted", ""),
        ({"success": False, "error": "jammed"}, "failed", "jammed"),
        ({"error": {"code": 5}}, "failed", "{'code': 5}"),
        ({"result": 17}, "done", ""),
        ("ok", "done", ""),
        (None, "done", ""),
    ],
)
def test_answers_to_calls(body: Any, result: str, detail: str) -> None:
    reply = things.write_reply("c-1", "n", 4, body, AT)
    assert (reply["command_id"], reply["nonce"], reply["result"], reply["detail"]) == ("c-1", "n", result, detail)
