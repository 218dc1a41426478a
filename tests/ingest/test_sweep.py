"""What happens without a message: absence, offline, answers to checks, housekeeping. Real PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from devices.alarm_store import take_message
from devices.kinds.camera import make_health
from devices.model import Device
from devices.quiet import Maintenance, add_maintenance, end_maintenance, shelve
from devices.rule_registry import RULE_TYPES
from devices.rule_store import RuleDraft, create_rule
from devices.rulebook import BookKeeper, Mode
from devices.store import read_state, set_device_enabled, set_device_settings
from ingest.batch import Memory, take_batch
from ingest.house import keep_house
from ingest.store import drop_readings, ensure_partitions, read_due
from ingest.sweep import Sweeper
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.settings import Settings
from tests.conftest import ON_TIMESCALE
from tests.ingest.test_batch import at, message, register, rows, take

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
DOOR = {"care": True, "silent_span_s": 60, "day_start": "00:00", "day_end": "00:00", "offline_after_s": 1000}


def pass_time(database: Database, settings: Settings, seconds: float, *, judge_absence: bool = True) -> int:
    with database.transaction() as connection:
        return Sweeper(settings).sweep(connection, at(seconds), judge_absence=judge_absence)


def status_of(database: Database, device: Device) -> str:
    with database.transaction() as connection:
        return str(read_state(connection, device.id).status)


def test_a_silent_door_becomes_one_report(database: Database, settings: Settings) -> None:
    register(database, "D1", "door_sensor", **DOOR)
    take(database, settings, message("door_sensor", "D1", "event", NOW, "o1", open=True))
    assert pass_time(database, settings, 59) == 0
    assert pass_time(database, settings, 61) == 1
    assert pass_time(database, settings, 62) == 0
    assert rows(database, "SELECT rule, category, occurred_at FROM report") == [("door_silent", "door_silent", at(61))]


def test_after_a_restart_absence_is_not_judged_until_the_grace_is_over(database: Database, settings: Settings) -> None:
    device = register(database, "D1", "door_sensor", **DOOR)
    take(database, settings, message("door_sensor", "D1", "event", NOW, "o1", open=True))
    assert pass_time(database, settings, 5000, judge_absence=False) == 0
    assert status_of(database, device) == "ok"
    # The opening that was waiting for us arrives within the grace.
    take(database, settings, message("door_sensor", "D1", "event", at(4990), "o2", open=True), now=at(5001))
    assert pass_time(database, settings, 5031) == 0


def test_a_device_not_heard_is_offline_until_it_speaks(database: Database, settings: Settings) -> None:
    device = register(database, "R1", "river_sluice", offline_after_s=30)
    never = register(database, "R2", "river_sluice", offline_after_s=30)
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "l1", level_m=1.0))
    pass_time(database, settings, 30)
    assert status_of(database, device) == "ok"
    pass_time(database, settings, 31)
    assert status_of(database, device) == "offline"
    assert status_of(database, never) == "unknown"
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "l2", level_m=1.0))
    assert status_of(database, device) == "ok"
    changed = rows(database, f"SELECT count(*) FROM change WHERE object_id = '{device.id}'")
    assert changed == [(4,)]  # registered, heard, offline, heard again


def test_a_device_that_is_switched_off_is_left_alone(database: Database, settings: Settings) -> None:
    register(database, "D1", "door_sensor", **DOOR)
    take(database, settings, message("door_sensor", "D1", "event", NOW, "o1", open=True))
    with database.transaction() as connection:
        set_device_enabled(connection, "D1", False, NOW)
    assert pass_time(database, settings, 61) == 0


def test_of_two_sweepers_one_sweeps(database: Database, settings: Settings) -> None:
    register(database, "D1", "door_sensor", **DOOR)
    take(database, settings, message("door_sensor", "D1", "event", NOW, "o1", open=True))
    with database.transaction() as first, database.transaction() as second:
        assert Sweeper(settings).sweep(first, at(61), judge_absence=True) == 1
        assert Sweeper(settings).sweep(second, at(61), judge_absence=True) == 0


def test_a_large_fleet_is_gone_round_in_slices(database: Database, settings: Settings) -> None:
    for number in range(7):
        register(database, f"R{number}", "river_sluice", offline_after_s=30)
        take(database, settings, message("river_sluice", f"R{number}", "telemetry", NOW, "l", level_m=1.0))
    sweeper = Sweeper(settings, slice_size=3)
    offline = []
    for _ in range(4):
        with database.transaction() as connection:
            sweeper.sweep(connection, at(60), judge_absence=True)
        offline.append(rows(database, "SELECT count(*) FROM device_state WHERE status = 'offline'")[0][0])
    assert offline[0] < 7 and offline[-1] == 7  # a slice of those that are due and one of the round after a start
    assert not sweeper.has_more


# ---------------------------------------------------------------- checks


@pytest.fixture
def ask(database: Database) -> Callable[..., UUID]:
    """Make an incident and ask a device to look again: ask(device, seconds after NOW)."""

    def make(device: Device, seconds: float, rule: str = "gate_fault") -> UUID:
        with database.transaction() as connection:
            return _ask(connection, device, at(seconds), rule)

    return make


def _ask(connection: Connection, device: Device, asked_at: datetime, rule: str) -> UUID:
    incident_id, check_id = new_id(asked_at), new_id(asked_at)
    connection.execute(
        "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat, opened_at)"
        " VALUES (%s, %s, 'gate_fault', 3, 'handled', %s, '', '', 0, 0, %s)",
        (incident_id, str(incident_id), str(incident_id), asked_at),
    )
    connection.execute(
        "INSERT INTO check_request (id, incident_id, kind, device_id, rule, requested_at, expires_at)"
        " VALUES (%s, %s, 'sensor', %s, %s, %s, %s)",
        (check_id, incident_id, device.id, rule, asked_at, asked_at + timedelta(seconds=60)),
    )
    return check_id


def verdict_of(database: Database, check_id: UUID) -> Any:
    return rows(database, f"SELECT verdict FROM check_request WHERE id = '{check_id}'")[0][0]


def gate(seconds: float, id: str, barrier: str = "closed", fault: bool = False) -> Any:
    return message("parking_gate", "G1", "state", at(seconds), id, barrier=barrier, fault=fault)


def test_a_gate_that_says_it_is_well_after_the_question_is_clear(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "G1", "parking_gate")
    take(database, settings, gate(-60, "a", fault=True))
    check_id = ask(device, -10)
    pass_time(database, settings, -9)
    assert verdict_of(database, check_id) is None  # nothing new was said yet
    take(database, settings, gate(-5, "b"))
    pass_time(database, settings, -4)
    assert verdict_of(database, check_id) == "clear"


def test_a_gate_whose_fault_is_still_there_is_not_clear(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "G1", "parking_gate")
    take(database, settings, gate(-60, "a", fault=True))
    check_id = ask(device, -10)
    take(database, settings, gate(-5, "b", fault=True))
    pass_time(database, settings, -4)
    assert verdict_of(database, check_id) is None  # it may be recovering
    pass_time(database, settings, 1)
    assert verdict_of(database, check_id) == "not_clear"


def test_a_gate_that_recovered_before_is_clear_when_the_question_is_about_to_expire(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "G1", "parking_gate")
    take(database, settings, gate(-60, "a", fault=True), gate(-30, "b"))
    check_id = ask(device, -10)
    pass_time(database, settings, 44)
    assert verdict_of(database, check_id) is None
    pass_time(database, settings, 46)
    assert verdict_of(database, check_id) == "clear"


def test_a_silent_gate_is_inconclusive_and_never_clear(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "G1", "parking_gate", offline_after_s=30)
    take(database, settings, gate(-60, "a", fault=True), gate(-50, "b"))
    check_id = ask(device, -10)
    pass_time(database, settings, 46)
    assert verdict_of(database, check_id) == "inconclusive"


def test_checks_are_answered_during_the_grace_too(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "G1", "parking_gate")
    check_id = ask(device, -10)
    take(database, settings, gate(-5, "a"))
    pass_time(database, settings, -4, judge_absence=False)
    assert verdict_of(database, check_id) == "clear"


def test_a_cameras_own_fault_is_checked_by_its_health(
    database: Database, settings: Settings, ask: Callable[..., UUID]
) -> None:
    device = register(database, "C1", "camera")
    check_id = ask(device, -10, rule="camera_fault")
    with database.transaction() as connection:
        take_message(
            connection,
            device,
            make_health(at(-2), frame_age_s=0.2, fps=5.0, luma=90.0, contrast=40.0, frozen_s=0.0),
            at(-2),
            "Asia/Shanghai",
        )
    pass_time(database, settings, -1)
    assert verdict_of(database, check_id) == "clear"


# ---------------------------------------------------------------- housekeeping


def test_old_messages_readings_and_dead_letters_go_and_new_ones_stay(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    old = NOW - timedelta(days=200)
    with database.transaction() as connection:
        ensure_partitions(connection, old.date(), days_ahead=0)
    for moment, id in ((old, "old"), (NOW, "new")):
        good = message("river_sluice", "R1", "telemetry", moment, id, level_m=1.0)
        bad = message("river_sluice", "R9", "telemetry", moment, id, level_m=1.0)
        take(database, settings, good._replace(received_at=moment), bad._replace(received_at=moment), now=moment)
    assert len(rows(database, "SELECT FROM reading")) == 2
    keep_house(database, NOW, settings, lambda: False)
    assert rows(database, "SELECT message_id FROM device_message") == [("new",)]
    assert rows(database, "SELECT received_at FROM dead_letter") == [(NOW,)]
    assert rows(database, "SELECT received_at FROM reading") == [(NOW,)]
    assert rows(database, f"SELECT to_regclass('reading_{old:%Y%m%d}')") == [(None,)]
    for ahead in range(4):
        day = NOW + timedelta(days=ahead)
        assert ON_TIMESCALE or rows(database, f"SELECT to_regclass('reading_{day:%Y%m%d}')") != [(None,)]


def test_readings_of_the_last_kept_day_are_kept(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=1.0))
    with database.transaction() as connection:
        drop_readings(connection, NOW.date())
    assert len(rows(database, "SELECT FROM reading")) == 1
    with database.transaction() as connection:
        drop_readings(connection, NOW.date() + timedelta(days=1))
    assert rows(database, "SELECT FROM reading") == []


# ---------------------------------------------------------------- rules that are data


def make_rule(database: Database, type_: str, name: str = "watched", mode: Mode = Mode.LIVE, **fields: Any) -> UUID:
    draft = RuleDraft.model_validate({"type": type_, "name": name, "title_zh": "规则", "title_en": "Rule", **fields})
    with database.transaction() as connection:
        return create_rule(connection, draft, "test", "", NOW, mode).id


def test_a_rule_is_taken_up_by_the_next_batch_and_the_next_sweep(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    sweeper, memory = Sweeper(settings), Memory()

    def tell(seconds: float, level_m: float) -> None:
        raw = message("river_sluice", "R1", "telemetry", at(seconds), f"m{seconds}", level_m=level_m)
        take_batch(database, [raw], at(seconds), settings.ingest, "Asia/Shanghai", memory)

    def sweep(seconds: float) -> int:
        with database.transaction() as connection:
            return sweeper.sweep(connection, at(seconds), judge_absence=True)

    tell(0, 1.5)
    assert sweep(1) == 0
    limit = {"metric": "level_m", "limit": 1.0}
    make_rule(database, "threshold", parameters=limit, category="rule_alarm", severity=2)
    tell(2, 1.5)
    assert rows(database, "SELECT rule, category, severity FROM report") == [("watched", "rule_alarm", 2)]
    tell(3, 1.6)
    assert len(rows(database, "SELECT FROM report")) == 1
    make_rule(database, "offline", "device_offline", parameters={"offline_after_s": 20})
    assert sweep(4) == 0
    assert sweep(24) == 1
    assert rows(database, "SELECT category FROM report WHERE rule = 'device_offline'") == [("device_offline",)]


def test_a_new_rule_finds_a_device_that_was_silent_before_it(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    sweeper = Sweeper(settings)
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=1.0))
    for seconds, expected in ((40, 0), (50, 1), (51, 0)):
        if seconds == 50:
            make_rule(database, "offline", "device_offline", parameters={"offline_after_s": 30})
        with database.transaction() as connection:
            assert sweeper.sweep(connection, at(seconds), judge_absence=True) == expected


def test_a_rule_in_monitor_leaves_findings_and_no_report(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    limit = {"metric": "level_m", "limit": 1.0}
    rule_id = make_rule(database, "threshold", mode=Mode.MONITOR, parameters=limit)
    for second, level_m in ((0, 1.5), (1, 1.6), (2, 0.5), (3, 1.5)):
        raw = message("river_sluice", "R1", "telemetry", at(second), f"m{second}", level_m=level_m)
        take(database, settings, raw, now=at(second))
    assert rows(database, "SELECT FROM report") == []
    found = rows(database, "SELECT rule_id, outcome, occurred_at, ended_at FROM rule_finding ORDER BY occurred_at")
    assert found == [(rule_id, "monitor", at(0), at(2)), (rule_id, "monitor", at(3), None)]


def test_a_shelved_alarm_is_reported_by_the_sweep_after_the_shelf_has_ended(
    database: Database, settings: Settings
) -> None:
    device = register(database, "R1", "river_sluice")
    with database.transaction() as connection:
        shelve(connection, device.id, "", "gauge is being cleaned", at(100), "engineer", NOW)
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=9.0))
    assert rows(database, "SELECT FROM report") == []
    assert rows(database, "SELECT rule, outcome FROM rule_finding") == [("river_level", "shelved")]
    assert pass_time(database, settings, 99) == 0
    assert pass_time(database, settings, 100) == 1
    assert pass_time(database, settings, 101) == 0
    assert rows(database, "SELECT rule, detail ->> 'held' FROM report") == [("river_level", "shelved")]


def test_an_alarm_held_back_by_maintenance_is_told_when_the_window_is_ended_early(
    database: Database, settings: Settings
) -> None:
    register(database, "R1", "river_sluice")
    window = Maintenance(
        id=new_id(NOW), kind="river_sluice", area_code="", device_id=None, reason="works", actor="engineer",
        from_at=NOW, until_at=at(3600),
    )  # fmt: skip
    with database.transaction() as connection:
        add_maintenance(connection, window, NOW)
    sweeper = Sweeper(settings)
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=9.0))
    with database.transaction() as connection:
        assert sweeper.sweep(connection, at(10), judge_absence=True) == 0
        assert end_maintenance(connection, window.id, at(11))
    with database.transaction() as connection:
        assert sweeper.sweep(connection, at(12), judge_absence=True) == 1


def test_children_of_a_silent_gateway_raise_nothing_and_the_gateway_does(
    database: Database, settings: Settings
) -> None:
    make_rule(database, "offline", "device_offline", parameters={"offline_after_s": 30})
    gateway = register(database, "G1", "gateway")
    children = [register(database, f"R{n}", "river_sluice") for n in range(3)]
    with database.transaction() as connection:
        connection.execute("UPDATE device SET parent_id = %s WHERE kind = 'river_sluice'", (gateway.id,))
    take(database, settings, message("gateway", "G1", "telemetry", NOW, "g", uptime_s=1))
    for child in children:
        take(database, settings, message("river_sluice", child.code, "telemetry", NOW, "a", level_m=1.0))
    for seconds in (20, 31, 32, 60):
        pass_time(database, settings, seconds)
    assert rows(database, "SELECT d.code FROM report r JOIN device d ON d.id = r.device_id") == [("G1",)]
    assert {status_of(database, child) for child in children} == {"offline"}


def test_time_in_which_nobody_listened_is_held_against_nobody(database: Database, settings: Settings) -> None:
    make_rule(database, "offline", "device_offline", parameters={"offline_after_s": 300})
    device = register(database, "R1", "river_sluice")
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=1.0))
    assert pass_time(database, settings, 0) == 0
    # The broker is away for an hour; the device, which reports every minute, has not found it again yet.
    for seconds in (100, 3500):
        assert pass_time(database, settings, seconds, judge_absence=False) == 0
    assert pass_time(database, settings, 3630) == 0
    assert status_of(database, device) == "ok"
    assert rows(database, "SELECT from_at, until_at FROM deaf_span") == [(at(0), at(3630))]
    # What is left of its own time after that is left to it, to the second.
    raised = [pass_time(database, settings, seconds) for seconds in (*range(3670, 3931, 40), 3930, 3931)]
    assert raised == [0] * (len(raised) - 1) + [1]


def test_a_device_is_looked_at_when_it_is_due_and_not_before(database: Database, settings: Settings) -> None:
    device = register(database, "R1", "river_sluice", offline_after_s=30)
    sweeper = Sweeper(settings)
    with database.transaction() as connection:  # the round after the start
        sweeper.sweep(connection, at(0), judge_absence=True)
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=1.0))
    assert rows(database, "SELECT due_at FROM device_state") == [(at(30),)]
    with database.transaction() as connection:
        assert read_due(connection, at(29), 10) == []
        assert [d.code for d, _ in read_due(connection, at(31), 10)] == ["R1"]
        set_device_settings(connection, "R1", {"offline_after_s": 10}, at(5))
        assert [d.code for d, _ in read_due(connection, at(6), 10)] == ["R1"]  # its settings may have moved it
        sweeper.sweep(connection, at(11), judge_absence=True)
        assert str(read_state(connection, device.id).status) == "offline"
        assert read_due(connection, at(10**6), 10) == []


def test_a_broken_data_rule_stops_no_other_and_is_a_dead_letter(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: object) -> Any:
        raise ZeroDivisionError("on purpose")

    register(database, "R1", "river_sluice")
    monkeypatch.setitem(RULE_TYPES, "threshold", replace(RULE_TYPES["threshold"], judge=explode))
    make_rule(database, "threshold", parameters={"metric": "level_m", "limit": 1.0})
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=9.0))
    assert rows(database, "SELECT rule FROM report") == [("river_level",)]
    assert rows(database, "SELECT reason, detail FROM dead_letter") == [
        ("rule_failed", "watched: ZeroDivisionError: on purpose")
    ]


def test_two_devices_that_agree_are_joined_by_the_sweep(database: Database, settings: Settings) -> None:
    first = register(database, "R1", "river_sluice")
    register(database, "R2", "river_sluice")
    condition = {"metric": "level_m", "limit": 2.0}
    parameters = {"first": condition, "other": "R2", "second": condition, "window_s": 30}
    make_rule(database, "combination", parameters=parameters, scope={"device": str(first.id)})
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=2.2))
    assert pass_time(database, settings, 1) == 0
    take(database, settings, message("river_sluice", "R2", "telemetry", at(5), "b", level_m=2.2), now=at(5))
    sweeper = Sweeper(settings)
    with database.transaction() as connection:
        assert sweeper.sweep(connection, at(6), judge_absence=True) == 1
    with database.transaction() as connection:
        assert sweeper.sweep(connection, at(7), judge_absence=True) == 0
    assert rows(database, "SELECT rule, device_id FROM report") == [("watched", first.id)]
    pass_time(database, settings, 40)
    assert rows(database, "SELECT alarms FROM device_state WHERE alarms <> '{}'") == []


def test_a_cameras_health_is_judged_by_data_rules_too(database: Database, settings: Settings) -> None:
    device = register(database, "C1", "camera")
    make_rule(database, "threshold", "slow_camera", parameters={"metric": "fps", "side": "lower", "limit": 3})
    with database.transaction() as connection:
        book = BookKeeper().current(connection)
        health = make_health(NOW, frame_age_s=0.2, fps=1.0, luma=90.0, contrast=40.0, frozen_s=0.0)
        take_message(connection, device, health, NOW, "Asia/Shanghai", book)
    assert rows(database, "SELECT rule, source FROM report") == [("slow_camera", "camera")]
