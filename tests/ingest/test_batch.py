"""Batches against a real PostgreSQL: taken once, states, reports, dead letters, poison."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devices.model import Device
from devices.registry import KINDS
from devices.store import DeviceRecord, add_device, read_state, set_device_enabled
from ingest.batch import Outcome, take_batch
from ingest.decode import Raw
from ingest.store import ensure_partitions
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import ON_TIMESCALE

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def register(database: Database, code: str, kind: str, **settings: Any) -> Device:
    with database.transaction() as connection:
        record = DeviceRecord(
            code=code, kind=kind, name=code, lon=120.17, lat=30.28, area_code="330103001001", settings=settings
        )
        return add_device(connection, record, NOW)


def message(kind: str, code: str, topic: str, measured_at: datetime, id: str, **fields: Any) -> Raw:
    body = {"v": 1, "id": id, "at": measured_at.isoformat(), **fields}
    payload = json.dumps(body).encode()
    return Raw(f"gridwarden/{kind}/{code}/{topic}", payload, len(payload), NOW)


def smoke(id: str, status: str, seconds: float = 0.0) -> Raw:
    return message("smoke_alarm", "S1", "event", at(seconds), id, status=status)


def level(id: str, seconds: float, level_m: float) -> Raw:
    return message("river_sluice", "R1", "telemetry", at(seconds), id, level_m=level_m)


def take(database: Database, settings: Settings, *raws: Raw, now: datetime = NOW) -> Outcome:
    return take_batch(database, raws, now, settings.ingest, settings.city.timezone)


def count(database: Database, query: str) -> int:
    with database.transaction() as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def test_a_smoke_alarm_becomes_one_report_with_place_and_receipt(database: Database, settings: Settings) -> None:
    device = register(database, "S1", "smoke_alarm")
    outcome = take(database, settings, smoke("m1", "alarm"))
    assert (outcome.taken, outcome.reports, outcome.dead) == (1, 1, 0)
    assert [(r.topic, r.message_id, r.refused) for r in outcome.receipts] == [
        ("gridwarden/smoke_alarm/S1/receipt", "m1", None)
    ]
    found = rows(
        database, "SELECT source, category, device_id, rule, source_key, lon, lat, area_code, severity FROM report"
    )
    key = "S1:smoke:2026-11-20T08:00:00.000Z"
    assert found == [("device", "smoke", device.id, "smoke", key, 120.17, 30.28, "330103001001", 1)]
    with database.transaction() as connection:
        state = read_state(connection, device.id)
    assert state.status == "alarm"
    assert state.alarms["smoke"]["cause"] == "2026-11-20T08:00:00.000Z"
    assert count(database, "SELECT count(*) FROM change WHERE kind = 'device'") == 2  # registered, alarm


def test_redelivery_and_duplicates_change_nothing(database: Database, settings: Settings) -> None:
    register(database, "S1", "smoke_alarm")
    register(database, "R1", "river_sluice")
    batch = [smoke("m1", "alarm"), smoke("m1", "alarm"), level("l1", 0, 1.0)]
    first = take(database, settings, *batch)
    before = rows(database, "SELECT * FROM device_state ORDER BY device_id")
    again = take(database, settings, *batch, now=at(60))
    assert (first.taken, first.repeated, first.reports) == (2, 1, 1)
    assert (again.taken, again.repeated, again.reports) == (0, 3, 0)
    assert rows(database, "SELECT * FROM device_state ORDER BY device_id") == before
    assert count(database, "SELECT count(*) FROM reading") == 1
    assert [r.message_id for r in again.receipts] == ["m1", "m1"]  # a repeat is answered again


def test_repeated_alarms_within_an_episode_are_one_report(database: Database, settings: Settings) -> None:
    register(database, "S1", "smoke_alarm")
    take(database, settings, smoke("m1", "alarm", -30))
    take(database, settings, smoke("m2", "alarm", -20), smoke("m3", "alarm", -10))
    take(database, settings, smoke("m4", "recovered", -5))
    assert count(database, "SELECT count(*) FROM report") == 1
    take(database, settings, smoke("m5", "alarm", 0))
    assert count(database, "SELECT count(*) FROM report") == 2


@pytest.mark.skipif(ON_TIMESCALE, reason="names native partitions")
def test_readings_keep_both_times_and_go_to_the_day_they_came(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    with database.transaction() as connection:
        ensure_partitions(connection, NOW.date(), days_ahead=1)
        assert ensure_partitions(connection, NOW.date(), days_ahead=1) == 0
    take(database, settings, level("l1", -3600, 1.25))
    assert rows(database, "SELECT metric, value, measured_at, received_at, tableoid::regclass::text FROM reading") == [
        ("level_m", 1.25, at(-3600), NOW, "reading_20261120")
    ]


@pytest.mark.skipif(ON_TIMESCALE, reason="names native partitions")
def test_readings_from_before_their_partition_move_into_it(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    late_day = NOW + timedelta(days=400)
    raw = level("l1", 400 * 86_400, 1.0)
    take(database, settings, Raw(raw.topic, raw.payload, raw.payload_bytes, late_day), now=late_day)
    assert rows(database, "SELECT tableoid::regclass::text FROM reading") == [("reading_default",)]
    with database.transaction() as connection:
        assert ensure_partitions(connection, late_day.date(), days_ahead=0) == 1
    assert rows(database, "SELECT tableoid::regclass::text, value FROM reading") == [("reading_20271225", 1.0)]


def test_bad_messages_are_kept_with_their_reason_and_disturb_no_good_one(
    database: Database, settings: Settings
) -> None:
    register(database, "S1", "smoke_alarm")
    register(database, "R1", "river_sluice")
    register(database, "OFF", "smoke_alarm")
    with database.transaction() as connection:
        set_device_enabled(connection, "OFF", False, NOW)

    def raw(payload: bytes, topic: str = "gridwarden/river_sluice/R1/telemetry") -> Raw:
        return Raw(topic, payload[: settings.ingest.max_payload_bytes], len(payload), NOW)

    bad = {
        "malformed_json": raw(b'{"v": 1, "id": '),
        "not_an_object": raw(b"[1]"),
        "too_large": raw(b'{"v":1,"pad":"' + b"x" * 1_000_000 + b'"}'),
        "too_deep": raw(b'{"v":1,"a":' + b"[" * 40 + b"]" * 40 + b"}"),
        "not_finite": raw(b'{"v":1,"id":"n","at":"2026-11-20T08:00:00Z","level_m":NaN}'),
        "bad_topic": raw(b"{}", "gridwarden/river_sluice/R1/nonsense"),
        "unknown_kind": message("toaster", "R1", "event", NOW, "k1"),
        "unknown_device": message("smoke_alarm", "S9", "event", NOW, "u1", status="alarm"),
        "disabled_device": message("smoke_alarm", "OFF", "event", NOW, "d1", status="alarm"),
        "kind_mismatch": message("smoke_alarm", "R1", "event", NOW, "x1", status="alarm"),
        "unknown_version": raw(b'{"v":2,"id":"v2","at":"2026-11-20T08:00:00Z","level_m":1}'),
        "bad_envelope": raw(b'{"v":1,"id":"","at":"2026-11-20T08:00:00Z","level_m":1}'),
        "bad_payload": level("p1", 0, "high"),  # type: ignore[arg-type]
        "future_dated": level("f1", 3 * 3600, 9.0),
        "past_dated": level("o1", -400 * 86_400, 9.0),
    }
    good = [smoke("g1", "alarm"), level("g2", 0, 9.0)]
    mixed = [*bad.values(), *good]
    random.Random(7).shuffle(mixed)
    outcome = take(database, settings, *mixed)
    assert (outcome.taken, outcome.reports, outcome.dead) == (2, 2, len(bad))
    kept = rows(database, "SELECT reason, topic, payload, payload_bytes FROM dead_letter")
    assert {reason: (topic, bytes(payload), size) for reason, topic, payload, size in kept} == {
        reason: (r.topic, r.payload, r.payload_bytes) for reason, r in bad.items()
    }
    refused = {r.message_id: r.refused for r in outcome.receipts if r.refused}
    assert refused == {
        "k1": "unknown_kind",
        "u1": "unknown_device",
        "d1": "disabled_device",
        "x1": "kind_mismatch",
        "v2": "unknown_version",
        "p1": "bad_payload",
        "f1": "future_dated",
        "o1": "past_dated",
    }


def test_a_message_that_the_database_refuses_is_set_aside_and_the_batch_goes_on(
    database: Database, settings: Settings
) -> None:
    register(database, "S1", "smoke_alarm")
    register(database, "R1", "river_sluice")
    with database.transaction() as connection:
        connection.execute("UPDATE category SET id = 'smoke_away' WHERE id = 'smoke'")
    try:
        outcome = take(database, settings, level("a", 0, 1.0), smoke("poison", "alarm"), level("b", 1, 9.0))
    finally:
        with database.transaction() as connection:
            connection.execute("UPDATE category SET id = 'smoke' WHERE id = 'smoke_away'")
    assert (outcome.taken, outcome.reports, outcome.dead) == (2, 1, 1)
    reason, detail = rows(database, "SELECT reason, detail FROM dead_letter")[0]
    assert reason == "rule_failed"
    assert "ForeignKeyViolation" in detail
    assert {r.message_id: r.refused for r in outcome.receipts} == {"poison": "rule_failed"}


def test_a_rule_that_raises_stops_neither_its_message_nor_the_other_rules(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, "D1", "door_sensor", care=True, night_openings=1, night_start="00:00", night_end="23:59")

    def explode(*_: object) -> Any:
        raise RuntimeError("a fault in a rule")

    kind = KINDS["door_sensor"]
    broken = (replace(kind.rules[0], step=explode), *kind.rules[1:])
    monkeypatch.setitem(KINDS, "door_sensor", replace(kind, rules=broken))
    outcome = take(database, settings, message("door_sensor", "D1", "event", NOW, "o1", open=True))
    assert (outcome.taken, outcome.reports, outcome.dead) == (1, 1, 1)
    assert rows(database, "SELECT rule FROM report") == [("door_night",)]
    assert rows(database, "SELECT reason, detail FROM dead_letter") == [
        ("rule_failed", "door_silent: RuntimeError: a fault in a rule")
    ]


def test_an_older_value_never_overwrites_a_newer_one(database: Database, settings: Settings) -> None:
    device = register(database, "R1", "river_sluice")
    take(database, settings, level("new", 0, 2.0))
    take(database, settings, level("old", -600, 9.9))
    with database.transaction() as connection:
        state = read_state(connection, device.id)
    assert state.metrics["level_m"]["value"] == 2.0
    assert state.measured_at == NOW
    assert count(database, "SELECT count(*) FROM report") == 0  # a level of ten minutes ago is no news
    assert count(database, "SELECT count(*) FROM reading") == 2


def test_a_database_that_is_set_up_wrongly_is_no_messages_fault(database: Database, settings: Settings) -> None:
    register(database, "S1", "smoke_alarm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest.batch.take_decoded", raise_undefined_table)
        with pytest.raises(psycopg.errors.UndefinedTable):
            take(database, settings, smoke("m1", "alarm"))
    assert rows(database, "SELECT FROM dead_letter") == []


def raise_undefined_table(*_: object) -> None:
    raise psycopg.errors.UndefinedTable("relation does not exist")


def test_nothing_is_kept_when_the_database_goes_away_in_the_middle(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, "S1", "smoke_alarm")

    def go_away(*_: object) -> None:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr("ingest.batch.save_states", go_away)
    with pytest.raises(psycopg.OperationalError):
        take(database, settings, smoke("m1", "alarm"))
    monkeypatch.undo()
    assert count(database, "SELECT count(*) FROM device_message") == 0
    assert take(database, settings, smoke("m1", "alarm")).reports == 1


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_in_any_batches_with_repeats_ends_in_the_state_of_a_sorted_replay(
    database: Database, settings: Settings, data: st.DataObject
) -> None:
    code = f"R{uuid4().hex}"
    ordered = code + "s"
    for name in (code, ordered):
        register(database, name, "river_sluice", level_limit_m=1e3)
    times = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=12, unique=True))

    def reading(to: str, n: int) -> Raw:
        fields = {"level_m": n / 10} | ({"ph": n / 10} if n % 3 == 0 else {})
        return message("river_sluice", to, "telemetry", at(n - 50), f"m{n}", **fields)

    sent = data.draw(st.permutations(times + data.draw(st.lists(st.sampled_from(times), max_size=4))))
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        take(database, settings, *(reading(code, n) for n in sent[:size]))
        sent = sent[size:]
    for n in sorted(times):
        take(database, settings, reading(ordered, n))
    found = rows(
        database,
        f"SELECT s.metrics, s.status, s.measured_at FROM device_state s JOIN device d ON d.id = s.device_id"
        f" WHERE d.code IN ('{code}', '{ordered}')",
    )
    assert found[0] == found[1]
    counts = rows(
        database,
        f"SELECT count(*) FROM reading r JOIN device d ON d.id = r.device_id WHERE d.code IN ('{code}', '{ordered}')"
        " GROUP BY r.device_id",
    )
    assert counts[0] == counts[1]
