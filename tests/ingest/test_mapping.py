"""A vendor's JSON mapped by data: fields, units, states, times, arrays; and clear words for what cannot be used."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from devices.store import DeviceRecord, add_device
from ingest.decode import DeadLetter, Decoded, Raw
from ingest.mapping import Code, Mapping, apply, check_message, parse_path
from ingest.mapping_store import (
    MappingBook,
    MappingError,
    add_mapping,
    change_mapping,
    read_mappings,
    read_versions,
    use_mapping,
)
from ingest.ways.raw import decode_all, find_raw_device
from kernel.db import Database
from kernel.settings import IngestSettings, Settings

NOW = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
SMOKE: dict[str, Any] = {
    "name": "vendor smoke",
    "kind": "smoke_alarm",
    "topic": {"path": "evt", "values": {"1": "event"}},
    "fields": [
        {"from": "evt", "to": "status", "states": {"0": "normal", "1": "alarm", "true": "alarm"}},
        {"from": "data.temp", "to": "temperature_c", "unit": "°F", "required": False},
        {"from": "data.bat", "to": "battery_pct", "scale": 0.5, "offset": 1, "required": False},
    ],
    "time": {"path": "ts", "format": "s"},
}


def mapping(**changed: Any) -> Mapping:
    return Mapping.model_validate({**SMOKE, **changed})


def one(found: Mapping, document: Any, device: str = "S1") -> dict[str, Any]:
    [message], problems = apply(found, document, device, NOW)
    assert problems == []
    return {"topic": str(message.topic_kind), **message.payload}


def codes(found: Mapping, document: Any) -> list[str]:
    messages, problems = apply(found, document, "S1", NOW)
    assert not messages or problems
    return [str(problem.code) for problem in problems]


def test_fields_states_units_and_time() -> None:
    message = one(mapping(), {"evt": 1, "ts": 1795161600, "data": {"temp": "212", "bat": 90}})
    assert message["topic"] == "event"
    assert message["at"] == "2026-11-20T08:00:00.000Z"
    assert (message["status"], message["temperature_c"], message["battery_pct"]) == ("alarm", 100.0, 46.0)
    assert check_message(mapping(), apply(mapping(), {"evt": 1, "ts": 1795161600}, "S1", NOW)[0][0]) == ""


def test_a_repeat_has_the_same_id_and_another_value_another() -> None:
    ids = [one(mapping(), {"evt": 0, "ts": 1795161600, "data": {"bat": b}})["id"] for b in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert one(mapping(id="no"), {"evt": 0, "ts": 1, "no": 77})["id"] == "77"


@pytest.mark.parametrize(
    ("time", "value", "at"),
    [
        ({"format": "ms"}, 1795161600123, "2026-11-20T08:00:00.123Z"),
        ({"format": "s"}, "1795161600", "2026-11-20T08:00:00.000Z"),
        ({"format": "iso"}, "2026-11-20T16:00:00+08:00", "2026-11-20T08:00:00.000Z"),
        ({"format": "iso", "zone": "Asia/Shanghai"}, "2026-11-20T16:00:00", "2026-11-20T08:00:00.000Z"),
        ({"format": "local"}, "2026-11-20 16:00:00", "2026-11-20T08:00:00.000Z"),
        ({"format": "local", "pattern": "%d/%m/%y %H:%M", "zone": "UTC"}, "20/11/26 08:00", "2026-11-20T08:00:00.000Z"),
    ],
)
def test_every_form_of_time(time: dict[str, str], value: Any, at: str) -> None:
    assert one(mapping(time={"path": "when", **time}), {"evt": 0, "when": value})["at"] == at


def test_without_a_time_it_counts_as_measured_when_it_came() -> None:
    assert one(mapping(time=None), {"evt": 0})["at"] == "2026-11-20T08:00:00.000Z"


def test_an_array_becomes_messages_that_may_look_at_the_whole() -> None:
    found = Mapping.model_validate(
        {
            "name": "logger", "kind": "river_sluice", "split": "head.items",
            "fields": [{"from": "v[0]", "to": "level_m", "unit": "cm"}, {"from": "$.head.volts", "to": "voltage_v", "unit": "mV"}],
            "constants": {"gate_number": 2}, "time": {"path": "t", "format": "s"}, "device": "$.head.id",
        }
    )  # fmt: skip
    document = {"head": {"id": "R1", "volts": 12900, "items": [{"t": 1795161600, "v": [123]}, {"t": 1795161660, "v": ["bad"]},
                                                              {"t": 1795161720, "v": [125]}, 7]}}  # fmt: skip
    messages, problems = apply(found, document, "GW", NOW, may_name=lambda code: code == "R1")
    assert [(m.device, m.payload["level_m"], m.payload["voltage_v"], m.payload["gate_number"]) for m in messages] == [
        ("R1", 1.23, 12.9, 2),
        ("R1", 1.25, 12.9, 2),
    ]
    assert [(p.code, p.element) for p in problems] == [(Code.NOT_A_NUMBER, 1), (Code.NOT_AN_OBJECT, 3)]
    assert apply(found, document, "GW", NOW)[1][0].code is Code.FOREIGN_DEVICE


@pytest.mark.parametrize(
    ("changed", "document", "code"),
    [
        ({}, {"evt": 7, "ts": 1}, "unknown_state"),
        ({}, {"ts": 1}, "missing"),
        ({}, {"evt": 0}, "bad_time"),
        ({}, {"evt": 0, "ts": "yesterday"}, "bad_time"),
        ({}, {"evt": 0, "ts": 1e300}, "bad_time"),
        ({}, {"evt": 0, "ts": 1, "data": {"temp": "hot"}}, "not_a_number"),
        ({}, {"evt": 0, "ts": 1, "data": {"bat": 1e308, "temp": 1e308}}, None),
        ({"id": "no"}, {"evt": 0, "ts": 1, "no": "a b"}, "bad_id"),
        ({"device": "who"}, {"evt": 0, "ts": 1, "who": "../x"}, "bad_device"),
        ({"split": "items"}, {"evt": 0}, "no_elements"),
        ({"split": "items"}, {"items": [{}] * 1001}, "too_many_elements"),
        ({}, 5, "not_an_object"),
        ({}, [5], "not_an_object"),
    ],
)
def test_what_cannot_be_used_has_a_stable_code(changed: dict[str, Any], document: Any, code: str | None) -> None:
    messages, problems = apply(mapping(**changed), document, "S1", NOW)
    assert [str(problem.code) for problem in problems] == ([code] if code else [])
    assert len(messages) == (0 if code else 1)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"kind": "toaster"}, "toaster"),
        ({"fields": [{"from": "a", "to": "no_such_field"}]}, "no_such_field"),
        ({"fields": [{"from": "a", "to": "status"}, {"from": "b", "to": "status"}]}, "twice"),
        ({"fields": [{"from": "a", "to": "at"}]}, "envelope"),
        ({"fields": [{"from": "a[", "to": "status"}]}, "no path"),
        ({"fields": [{"from": "a", "to": "temperature_c", "unit": "furlong"}]}, "furlong"),
        ({"time": {"path": "t", "zone": "Mars/Base"}}, "Mars"),
        ({"surprise": 1}, "surprise"),
        ({"topic": {"path": "a", "values": {"1": "shout"}}}, "shout"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_words(changed: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError) as refused:
        mapping(**changed)
    assert word in str(refused.value)


def test_paths() -> None:
    assert parse_path('a.b[2]["x.y"].c') == ("a", "b", 2, "x.y", "c")
    assert parse_path("$[0].a") == ("$", 0, "a")
    for wrong in ("", "a..b", "a[x]", ".a", "a.", "a b]", "$" * 3):
        with pytest.raises(ValueError, match="path"):
            parse_path(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["evt", "ts", "data", "temp", "bat", "no", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(
    JSON,
    st.sampled_from(
        [{}, {"id": "no"}, {"split": "data"}, {"device": "x"}, {"time": {"path": "ts", "format": "local"}}]
    ),
)
def test_any_document_is_mapped_or_refused(document: Any, changed: dict[str, Any]) -> None:
    apply(mapping(**changed), document, "S1", NOW)


def test_versions_follow_each_other_and_the_newest_is_in_force(database: Database) -> None:
    with database.transaction() as connection:
        device = add_device(
            connection, DeviceRecord(code="S1", kind="smoke_alarm", name="S1", lon=120.0, lat=30.0), NOW
        )
        first = add_mapping(connection, mapping(), "lin", NOW)
        use_mapping(connection, device, first.id, NOW)
    changed = mapping(fields=[{"from": "state", "to": "status"}], topic="telemetry", time=None)
    with database.transaction() as connection:
        second = change_mapping(connection, first.id, changed, "lin", NOW)
    assert (first.version, second.version) == (1, 2)
    with database.transaction() as connection:
        assert [(m.name, m.version) for m in read_mappings(connection)] == [("vendor smoke", 2)]
        assert [m.version for m in read_versions(connection, first.id)] == [2, 1]
        assert MappingBook.read(connection, ["S1", "S2"]).mappings == {"S1": changed}
    for call, code in (
        (lambda c: add_mapping(c, mapping(), "lin", NOW), "name_taken"),
        (lambda c: change_mapping(c, device.id, mapping(), "lin", NOW), "unknown_mapping"),
        (lambda c: change_mapping(c, first.id, mapping(name="other"), "lin", NOW), "name_changed"),
        (lambda c: use_mapping(c, device, device.id, NOW), "unknown_mapping"),
    ):
        with pytest.raises(MappingError) as refused, database.transaction() as connection:
            call(connection)
        assert refused.value.code == code


def test_raw_messages_are_read_through_their_devices_mappings(database: Database, settings: Settings) -> None:
    with database.transaction() as connection:
        device = add_device(
            connection, DeviceRecord(code="S1", kind="smoke_alarm", name="S1", lon=120.0, lat=30.0), NOW
        )
        use_mapping(connection, device, add_mapping(connection, mapping(split="items"), "lin", NOW).id, NOW)

    def raw(topic: str, text: bytes) -> Raw:
        return Raw(topic, text, len(text), NOW)

    items = b'{"items":[{"evt":0,"ts":1795161600},{"evt":9,"ts":1795161600},{"evt":1,"ts":1795161600}]}'
    with database.transaction() as connection:
        results = decode_all(
            connection,
            [
                raw("gridwarden/smoke_alarm/S1/raw", items),
                raw("gridwarden/smoke_alarm/S2/raw", items),
                raw("gridwarden/smoke_alarm/S1/raw", b"{nonsense"),
                raw(
                    "gridwarden/smoke_alarm/S1/telemetry",
                    b'{"v":1,"id":"x","at":"2026-11-20T08:00:00Z","status":"normal"}',
                ),
            ],
            IngestSettings(),
        )
    assert [type(r) for r in results] == [Decoded, Decoded, DeadLetter, DeadLetter, DeadLetter, Decoded]
    assert [str(r.reason) for r in results if isinstance(r, DeadLetter)] == [
        "not_mapped",
        "not_mapped",
        "malformed_json",
    ]
    assert find_raw_device("gridwarden/a/b/telemetry") is None
    assert find_raw_device("gridwarden/a/b#/raw") is None
    assert find_raw_device("gridwarden/vendor/S1@2/raw") == "S1"  # a broker's rewriting wrote a later key's log-in
    assert find_raw_device("gridwarden/vendor/S1@x/raw") is None
