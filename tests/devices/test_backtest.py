"""Back-tests: the same alarms that live running gave, counted; bounded; honest about what cannot be replayed."""

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devices.alarms import advance_device, advance_time
from devices.backtest import BackTest, back_test
from devices.model import Device, DeviceState, Message, TopicKind
from devices.registry import KINDS
from devices.rule_store import RuleDraft, RuleError, settle_draft
from devices.rulebook import AlarmRule, Mode, RuleBook
from devices.store import DeviceRecord, add_device
from kernel.db import Database
from tests.devices.rule_bench import ZONE

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
START = NOW - timedelta(days=5)


def draft(**more: Any) -> RuleDraft:
    base = {
        "name": "high_water", "type": "threshold", "title_zh": "高水位", "title_en": "High water",
        "parameters": {"metric": "level_m", "limit": 2.0, "hysteresis": 0.2}, "scope": {"kind": "river_sluice"},
    }  # fmt: skip
    return RuleDraft.model_validate({**base, **more})


def put(database: Database, code: str, kind: str = "river_sluice", **fields: Any) -> Device:
    with database.transaction() as connection:
        return add_device(connection, DeviceRecord(code=code, kind=kind, name=code, lon=1, lat=1, **fields), NOW)


def store(database: Database, device: Device, readings: list[tuple[datetime, dict[str, float]]]) -> None:
    with database.transaction() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO reading (device_id, metric, value, measured_at, received_at) VALUES (%s, %s, %s, %s, %s)",
            [(device.id, name, value, at, at) for at, values in readings for name, value in values.items()],
        )


def run(database: Database, asked: RuleDraft, days: float = 6, **bounds: Any) -> BackTest:
    with database.transaction("*") as connection:
        return back_test(connection, settle_draft(connection, asked), NOW, ZONE, days=days, **bounds)


def live(device: Device, rule: AlarmRule, readings: list[tuple[datetime, dict[str, float]]]) -> list[datetime]:
    """The alarms of the same readings as messages, with time looked at every minute."""
    kind, state, raised = KINDS[device.kind], DeviceState(), []
    book = RuleBook((rule,))
    moments = sorted(
        [(at, values) for at, values in readings]
        + [(START + timedelta(minutes=n), None) for n in range(int((NOW - START).total_seconds() // 60) + 1)],
        key=lambda item: (item[0], item[1] is None),
    )
    for number, (at, values) in enumerate(moments):
        if values is None:
            advance = advance_time(kind, device, state, at, ZONE, book)
        else:
            payload = kind.payloads[TopicKind.TELEMETRY].model_validate(
                {"v": 1, "id": f"m{number}", "at": at, **values}
            )
            message = Message(
                topic_kind=TopicKind.TELEMETRY, id=payload.id, seq=None, measured_at=at, received_at=at, payload=payload
            )
            advance = advance_device(kind, device, state, [message], at, ZONE, book)
        state = advance.state
        raised += [a.occurred_at for a in advance.alarms if a.raised and a.rule == rule.name]
    return raised


RULES = [
    draft(),
    draft(type="rate_of_change", parameters={"metric": "level_m", "change": 1.0, "within_s": 7200}),
    draft(type="offline", parameters={"offline_after_s": 9000}),
    draft(type="no_data", parameters={"metric": "ph", "after_s": 9000}),
    draft(window={"start": "09:00", "end": "17:00"}, damping={"changes": 3, "span_s": 40_000}),
    draft(type="built_in", name="river_level", parameters={"level_limit_m": 1.7}),
]


@pytest.mark.parametrize("asked", RULES, ids=lambda d: f"{d.type}{'_windowed' if d.window else ''}")
def test_a_back_test_counts_what_live_running_would_have_raised(database: Database, asked: RuleDraft) -> None:
    rng = random.Random(7)
    device = put(database, "R1")
    readings: list[tuple[datetime, dict[str, float]]] = []
    at = START
    while (at := at + timedelta(minutes=rng.choice([15, 30, 30, 60, 240]))) < NOW:
        values = {"level_m": round(rng.uniform(1.0, 2.6), 2)}
        if rng.random() < 0.4:
            values["ph"] = 7.0
        readings.append((at, values))
    store(database, device, readings)
    with database.transaction() as connection:
        settled = settle_draft(connection, asked)
    rule = AlarmRule(
        id=settled.id, name=settled.name, kind=settled.kind, area_code="", device_id=None, mode=Mode.LIVE, version=1,
        body=settled.body,
    )  # fmt: skip
    expected = live(device, rule, readings)
    result = run(database, asked)
    assert result.alarms == len(expected) > 0
    assert result.looked_at == result.in_scope == 1 and not result.truncated
    by_day = {day: count for day, count in result.per_day if count}
    local = [t.astimezone(UTC) + timedelta(hours=8) for t in expected]
    assert by_day == {day: len(list(group)) for day, group in itertools.groupby(t.date() for t in local)}
    assert result.by_hour == [sum(t.hour == hour for t in local) for hour in range(24)]


def test_a_pair_of_devices_is_replayed_in_the_order_of_their_readings(database: Database) -> None:
    first, second = put(database, "R1"), put(database, "R2")
    store(database, first, [(START + timedelta(hours=n), {"level_m": 3.0 if n in (5, 20) else 1.0}) for n in range(40)])
    near = START + timedelta(hours=5, seconds=30)
    store(
        database,
        second,
        [(START, {"level_m": 1.0}), (near, {"level_m": 3.0}), (near + timedelta(hours=1), {"level_m": 1.0})],
    )
    condition = {"metric": "level_m", "limit": 2.0}
    parameters = {"first": condition, "other": "R2", "second": condition, "window_s": 60}
    result = run(database, draft(type="combination", parameters=parameters, scope={"device": first.id}))
    assert result.alarms == 1 and result.devices == [("R1", 1)]


def test_doors_without_an_opening_by_day_are_found_in_what_is_stored(database: Database) -> None:
    device = put(database, "D1", "door_sensor", settings={"care": True})
    noon = datetime(2026, 11, 18, 4, 0, tzinfo=UTC)
    opened = [noon - timedelta(hours=5), noon + timedelta(days=1)]  # 07:00 and next day's noon
    heartbeats = [(START + timedelta(hours=n, minutes=1), {"open": 0.0}) for n in range(120)]
    store(database, device, sorted(heartbeats + [(at, {"open": 1.0}) for at in opened], key=lambda r: r[0]))
    asked = draft(type="no_event", name="quiet_home", parameters={"span_s": 10 * 3600.0}, scope={"kind": "door_sensor"})
    days = {day.isoformat(): count for day, count in run(database, asked).per_day}
    assert days["2026-11-18"] == 1 and days["2026-11-17"] == 1 and days["2026-11-16"] == 1


def test_more_than_may_be_read_is_said_to_be_truncated(database: Database) -> None:
    for number in range(3):
        device = put(database, f"R{number}")
        store(database, device, [(START + timedelta(minutes=n), {"level_m": 1.0}) for n in range(100)])
    result = run(database, draft(), max_readings=150)
    assert result.truncated and 0 < result.looked_at < 3
    ticks = itertools.count()
    slow = run(database, draft(), max_s=1.5, clock_s=lambda: float(next(ticks)))
    assert slow.truncated and slow.looked_at < 3


@pytest.mark.parametrize(
    "asked",
    [
        draft(type="built_in", name="smoke", parameters={}, scope={"kind": "smoke_alarm"}),
        draft(type="none", parameters={}),
    ],
)
def test_what_is_not_made_of_stored_numbers_is_refused(database: Database, asked: RuleDraft) -> None:
    with pytest.raises(RuleError) as refused:
        run(database, asked)
    assert refused.value.code == "not_replayable"
