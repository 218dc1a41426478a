"""Decoding: any bytes at all end as a checked message or as a dead letter with its reason."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devices.kinds.river_sluice import RiverSluicePayload
from ingest import decode as decoding
from ingest.decode import DeadLetter, Decoded, Raw, Reason, clean_detail, decode, measure_depth, read_topic
from kernel.settings import IngestSettings

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LIMITS = IngestSettings()
TOPIC = "gridwarden/river_sluice/R-1/telemetry"
GOOD: dict[str, Any] = {"v": 1, "id": "m1", "seq": 4, "at": "2026-11-20T08:00:00.000Z", "level_m": 1.5}


def take(payload: bytes | str | dict[str, Any], topic: str = TOPIC) -> Decoded | DeadLetter:
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    data = payload.encode() if isinstance(payload, str) else payload
    return decode(Raw(topic, data[: LIMITS.max_payload_bytes], len(data), NOW), LIMITS)


def reason_of(result: Decoded | DeadLetter) -> Reason:
    assert isinstance(result, DeadLetter)
    return result.reason


def test_a_good_message_is_decoded_and_keeps_what_it_does_not_know() -> None:
    result = take({**GOOD, "rainfall_mm": 3.5})
    assert isinstance(result, Decoded)
    payload = result.message.payload
    assert isinstance(payload, RiverSluicePayload)
    assert (payload.level_m, result.message.seq, result.message.measured_at) == (1.5, 4, NOW)
    assert payload.model_extra == {"rainfall_mm": 3.5}
    assert (result.address.kind, result.address.device_code) == ("river_sluice", "R-1")


def test_an_instant_with_another_offset_becomes_utc() -> None:
    result = take({**GOOD, "at": "2026-11-20T16:00:00+08:00"})
    assert isinstance(result, Decoded)
    assert result.message.measured_at == NOW
    assert result.message.measured_at.tzinfo is UTC


BAD: dict[str, tuple[Any, Reason]] = {
    "empty": (b"", Reason.MALFORMED_JSON),
    "no JSON": (b"hello", Reason.MALFORMED_JSON),
    "two documents": (b"{}{}", Reason.MALFORMED_JSON),
    "no UTF-8": (b'{"id":"\xff"}', Reason.MALFORMED_JSON),
    "UTF-16": ('{"v":1}'.encode("utf-16"), Reason.MALFORMED_JSON),
    "a key twice": (b'{"v":1,"id":"a","id":"b","at":"2026-11-20T08:00:00Z","level_m":1}', Reason.MALFORMED_JSON),
    "an endless integer": (b'{"v":1,"id":"a","n":' + b"9" * 6000 + b"}", Reason.MALFORMED_JSON),
    "an array": (b"[]", Reason.NOT_AN_OBJECT),
    "a number": (b"17", Reason.NOT_AN_OBJECT),
    "null": (b"null", Reason.NOT_AN_OBJECT),
    "1 MB": (b'{"pad":"' + b"x" * 1_000_000 + b'"}', Reason.TOO_LARGE),
    "deep arrays": (b'{"a":' + b"[" * 30_000, Reason.TOO_DEEP),
    "deep objects": (b'{"a":' * 17 + b"1" + b"}" * 17, Reason.TOO_DEEP),
    "NaN": (json.dumps({**GOOD, "level_m": float("nan")}), Reason.NOT_FINITE),
    "Infinity in an unknown field": (json.dumps({**GOOD, "x": float("inf")}), Reason.NOT_FINITE),
    "a number beyond doubles": (b'{"v":1,"id":"a","at":"2026-11-20T08:00:00Z","level_m":1e999}', Reason.NOT_FINITE),
    "no version": ({k: v for k, v in GOOD.items() if k != "v"}, Reason.BAD_ENVELOPE),
    "a version as text": ({**GOOD, "v": "1"}, Reason.BAD_ENVELOPE),
    "a version as yes": ({**GOOD, "v": True}, Reason.BAD_ENVELOPE),
    "version 2": ({**GOOD, "v": 2}, Reason.UNKNOWN_VERSION),
    "no id": ({k: v for k, v in GOOD.items() if k != "id"}, Reason.BAD_ENVELOPE),
    "an id too long": ({**GOOD, "id": "x" * 65}, Reason.BAD_ENVELOPE),
    "an id with U+0000": ({**GOOD, "id": "a\x00b"}, Reason.BAD_ENVELOPE),
    "an id that ends in a line break": ({**GOOD, "id": "a\n"}, Reason.BAD_ENVELOPE),
    "half a surrogate as id": (b'{"v":1,"id":"\\ud800","at":"2026-11-20T08:00:00Z","level_m":1}', Reason.BAD_ENVELOPE),
    "a negative seq": ({**GOOD, "seq": -1}, Reason.BAD_ENVELOPE),
    "a seq beyond 64 bits": ({**GOOD, "seq": 2**63}, Reason.BAD_ENVELOPE),
    "an instant without offset": ({**GOOD, "at": "2026-11-20T08:00:00"}, Reason.BAD_ENVELOPE),
    "an instant as a number": ({**GOOD, "at": 1_795_000_000}, Reason.BAD_ENVELOPE),
    "an instant before the year 1": ({**GOOD, "at": "0001-01-01T00:00:00+14:00"}, Reason.BAD_ENVELOPE),
    "a mode that is none": ({**GOOD, "control_mode": "sideways"}, Reason.BAD_PAYLOAD),
    "a level as text": ({**GOOD, "level_m": "1.5"}, Reason.BAD_PAYLOAD),
    "a level as yes": ({**GOOD, "level_m": True}, Reason.BAD_PAYLOAD),
    "a level beyond any river": ({**GOOD, "level_m": 1e6}, Reason.BAD_PAYLOAD),
    "a level of 400 digits": (
        b'{"v":1,"id":"a","at":"2026-11-20T08:00:00Z","level_m":' + b"9" * 400 + b"}",
        Reason.BAD_PAYLOAD,
    ),
    "three hours ahead": ({**GOOD, "at": "2026-11-20T11:00:00Z"}, Reason.FUTURE_DATED),
    "the year 2038": ({**GOOD, "at": "2038-01-19T03:14:07Z"}, Reason.FUTURE_DATED),
    "the year 1970": ({**GOOD, "at": "1970-01-01T00:00:00Z"}, Reason.PAST_DATED),
    "another device's name": ({**GOOD, "device": "R-2"}, Reason.DEVICE_MISMATCH),
    "a name that is none": ({**GOOD, "device": 7}, Reason.BAD_ENVELOPE),
    "a year ago": ({**GOOD, "at": "2025-11-20T08:00:00Z"}, Reason.PAST_DATED),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_has_its_reason(name: str) -> None:
    payload, reason = BAD[name]
    assert reason_of(take(payload)) is reason


@pytest.mark.parametrize("at", ["1970-01-01T00:00:09Z", "2038-01-19T03:14:07Z", "2024-02-29T12:00:00Z"])
def test_an_event_is_never_refused_for_its_date(at: str) -> None:
    """A smoke alarm that was without power says 1970, and burns now."""
    result = take({**GOOD, "at": at}, "gridwarden/river_sluice/R-1/event")
    assert isinstance(result, Decoded)
    assert result.message.measured_at == result.raw.received_at
    for topic_kind in ("telemetry", "state"):
        assert isinstance(take({**GOOD, "at": at}, f"gridwarden/river_sluice/R-1/{topic_kind}"), DeadLetter)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "gridwarden/river_sluice/R-1",
        "gridwarden/river_sluice/R-1/telemetry/x",
        "gridwarden/river_sluice//telemetry",
        "gridwarden/river_sluice/R 1/telemetry",
        "gridwarden/river_sluice/河/telemetry",
        "gridwarden/river_sluice/R-1/receipt",
        "gridwarden/river_sluice/R-1/command",
        f"gridwarden/river_sluice/{'x' * 65}/telemetry",
        "other/river_sluice/R-1/telemetry",
    ],
)
def test_a_topic_that_no_device_writes_is_refused(topic: str) -> None:
    assert reason_of(take(GOOD, topic)) is Reason.BAD_TOPIC


def test_an_unknown_kind_is_refused_by_name_with_the_messages_id() -> None:
    result = take(GOOD, "gridwarden/toaster/T-1/event")
    assert isinstance(result, DeadLetter)
    assert (result.reason, result.message_id) == (Reason.UNKNOWN_KIND, "m1")


def test_the_id_is_known_to_the_refusing_receipt_whenever_it_could_be_read() -> None:
    for payload in ({**GOOD, "v": 3}, {**GOOD, "level_m": "x"}, {**GOOD, "at": "2030-01-01T00:00:00Z"}):
        result = take(payload)
        assert isinstance(result, DeadLetter)
        assert result.message_id == "m1"
    result = take(b"{")
    assert isinstance(result, DeadLetter)
    assert result.message_id is None


@pytest.mark.parametrize(
    ("payload", "depth"),
    [
        (b"{}", 1),
        (b'{"a":[{"b":1}]}', 3),
        (b'{"a":"[[[[{{{{"}', 1),
        (rb'{"a":"\"[[[["}', 1),
        (b"[[],[],[[]]]", 3),
        (b"1", 0),
    ],
)
def test_depth_counts_brackets_outside_of_strings(payload: bytes, depth: int) -> None:
    assert measure_depth(payload) == depth


@pytest.mark.parametrize("unit", [b'"\\', b'"', b"\\", b'\\"', b"[", b'["', b'{"a":"\\"'])
def test_no_payload_takes_long_to_measure(unit: bytes) -> None:
    payload = b'[["' + unit * (65_536 // len(unit))
    started = time.perf_counter()
    measure_depth(payload[:65_536])
    assert time.perf_counter() - started < 1.0


def test_details_are_what_the_database_can_keep() -> None:
    assert clean_detail("a\x00b\ud800c") == "a\N{REPLACEMENT CHARACTER}b?c"
    assert len(clean_detail("x" * 10_000)) == 500


@given(payload=st.binary(max_size=300), topic=st.one_of(st.just(TOPIC), st.text(max_size=60)))
def test_arbitrary_bytes_never_raise(payload: bytes, topic: str) -> None:
    result = take(payload, topic)
    if isinstance(result, DeadLetter):
        result.detail.encode()
        assert "\x00" not in result.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
near_messages = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1) | json_values,
        "id": st.just("m1") | json_values,
        "at": st.just("2026-11-20T08:00:00Z") | st.datetimes().map(lambda d: d.isoformat() + "Z") | json_values,
        "seq": st.integers() | json_values,
        "level_m": st.floats() | json_values,
        "status": st.sampled_from(["alarm", "normal"]) | json_values,
        "barrier": st.sampled_from(["open", "closed"]) | json_values,
        "open": st.booleans() | json_values,
        "frame_age_s": st.floats() | json_values,
        "voltage_v": st.integers() | json_values,
    },
)


@hypothesis_settings(max_examples=300)
@given(
    document=near_messages,
    kind=st.sampled_from(["camera", "door_sensor", "smoke_alarm", "river_sluice", "parking_gate"]),
    topic_kind=st.sampled_from(["telemetry", "event", "state", "reply"]),
)
def test_what_looks_like_a_message_is_decoded_whole_or_refused(
    document: dict[str, Any], kind: str, topic_kind: str
) -> None:
    result = take(document, f"gridwarden/{kind}/D-1/{topic_kind}")
    if isinstance(result, DeadLetter):
        assert result.reason in Reason
        return
    message = result.message
    assert abs(message.measured_at - NOW) <= timedelta(days=LIMITS.past_tolerance_days)
    for value in result.kind.readings(message.payload).values():
        assert value - value == 0.0  # finite


@given(st.text(max_size=80))
def test_any_topic_is_taken_apart_or_refused(topic: str) -> None:
    address = read_topic(topic)
    if address is not None:
        assert topic == f"gridwarden/{address.kind}/{address.device_code}/{address.topic_kind}"


def both_ways(payload: bytes, topic: str) -> tuple[Decoded | DeadLetter, Decoded | DeadLetter]:
    raw = Raw(topic, payload[: LIMITS.max_payload_bytes], len(payload), NOW)
    return decode(raw, LIMITS), decoding._decode_carefully(raw, read_topic(topic), LIMITS)


def agree(quick: Decoded | DeadLetter, careful: Decoded | DeadLetter) -> bool:
    if isinstance(quick, DeadLetter) or isinstance(careful, DeadLetter):
        return quick == careful
    same = quick.message.payload.model_dump() == careful.message.payload.model_dump()
    return same and quick.message._replace(payload=careful.message.payload) == careful.message


@hypothesis_settings(max_examples=400)
@given(
    document=near_messages,
    kind=st.sampled_from(["camera", "door_sensor", "smoke_alarm", "river_sluice", "parking_gate"]),
    topic_kind=st.sampled_from(["telemetry", "event", "state", "reply"]),
    blank=st.sampled_from(["", " ", "\n", "\t", "  "]),
    data=st.data(),
)
def test_the_quick_way_and_the_careful_way_give_the_same(
    document: dict[str, Any], kind: str, topic_kind: str, blank: str, data: st.DataObject
) -> None:
    text = json.dumps(document, separators=("," + blank, blank + ":" + blank))
    pieces = [
        '"level_m": 2.5, ',
        '"v" :1,',
        '"x":NaN,',
        '"x":-Infinity,',
        '"x":1e999,',
        '"at":"2026-11-20T08:00:00Z",',
        '"id"\n:"z",',
    ]
    for piece in data.draw(st.lists(st.sampled_from(pieces), max_size=2)):  # a key twice, a number without end
        text = text.replace("{", "{" + piece, 1)
    assert agree(*both_ways(text.encode(), f"gridwarden/{kind}/D-1/{topic_kind}"))


HIDDEN = {
    "a key twice": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "level_m": 9}',
    "a key twice, blanks before its colon": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m" : 1, "level_m" : 9}',
    "a key twice, a tab before its colon": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m"\t: 1, "level_m"\t: 9}',
    "a key twice, written in two ways": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "level_\\u006d": 9}',
    "an unknown key twice": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "x": 1, "x": 2}',
    "NaN where nobody looks": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "x": NaN}',
    "a number without end where nobody looks": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "x": 1e999}',
    "an endless integer where nobody looks": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "x": '
    + b"9" * 5000
    + b"}",
    "a key twice inside": b'{"v": 1, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "x": {"y": 1, "y": 2}}',
    "true as the version": b'{"v": true, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1}',
    "1.0 as the version": b'{"v": 1.0, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1}',
    "a version inside": b'{"v": true, "id": "a", "at": "2026-11-20T08:00:00Z", "level_m": 1, "x": {"v": 1, "w": 2}}',
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_quick_reading_passes_over_is_refused(name: str) -> None:
    quick, careful = both_ways(HIDDEN[name], TOPIC)
    assert isinstance(quick, DeadLetter), "the quick way took it"
    assert quick == careful


def test_an_ordinary_message_goes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the careful way")

    monkeypatch.setattr(decoding, "_decode_carefully", fail)
    for extra in ({}, {"rainfall_note": "heavy", "vendor_code": 7, "x": 0.5}, {"device": "R-1"}, {"test": True}):
        assert isinstance(take({**GOOD, **extra}), Decoded)
    assert isinstance(take(json.dumps(GOOD, separators=(",", ":"))), Decoded)


def test_a_clock_that_is_ahead_does_not_make_a_reading_newer_than_it_is() -> None:
    """Within the tolerance its own word counts; beyond, when it came; what is late is believed."""
    for said, counts in (
        ("2026-11-20T08:00:59Z", NOW + timedelta(seconds=59)),
        ("2026-11-20T09:00:00Z", NOW),
        ("2026-11-20T07:00:00Z", NOW - timedelta(hours=1)),
        ("2026-11-19T08:00:00Z", NOW - timedelta(days=1)),
    ):
        result = take({**GOOD, "at": said})
        assert isinstance(result, Decoded)
        assert result.message.measured_at == counts
        assert result.message.payload.at == datetime.fromisoformat(said)
