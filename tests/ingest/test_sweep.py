"""What happens without a message: absence, offline, answers to checks, housekeeping. Real PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from devices.alarms import take_message
from devices.kinds.camera import make_health
from devices.model import Device
from devices.store import read_state, set_device_enabled
from ingest.store import drop_readings, ensure_partitions
from ingest.sweep import Sweeper, keep_house
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.settings import Settings
from tests.ingest.test_batch import at, message, register, rows, take

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
DOOR = {"care": True, "silent_span_s": 60, "day_start": "00:00", "day_end": "00:00", "offline_after_s": 1000}


def pass_time(database: Database, settings: Settings, seconds: float, *, judge_absence: bool = True) -> int:
    with database.transaction() as connection:
        return Sweeper(settings).sweep(connection, at(seconds), all_kinds=True, judge_absence=judge_absence)


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
        assert Sweeper(settings).sweep(first, at(61), all_kinds=True, judge_absence=True) == 1
        assert Sweeper(settings).sweep(second, at(61), all_kinds=True, judge_absence=True) == 0


def test_a_large_fleet_is_gone_round_in_slices(database: Database, settings: Settings) -> None:
    for number in range(7):
        register(database, f"R{number}", "river_sluice", offline_after_s=30)
        take(database, settings, message("river_sluice", f"R{number}", "telemetry", NOW, "l", level_m=1.0))
    sweeper = Sweeper(settings, slice_size=3)
    offline = []
    for _ in range(4):
        with database.transaction() as connection:
            sweeper.sweep(connection, at(60), all_kinds=True, judge_absence=True)
        offline.append(rows(database, "SELECT count(*) FROM device_state WHERE status = 'offline'")[0][0])
    assert offline == [3, 6, 7, 7]


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
        take(database, settings, replace(good, received_at=moment), replace(bad, received_at=moment), now=moment)
    assert len(rows(database, "SELECT FROM reading")) == 2
    keep_house(database, NOW, settings, lambda: False)
    assert rows(database, "SELECT message_id FROM device_message") == [("new",)]
    assert rows(database, "SELECT received_at FROM dead_letter") == [(NOW,)]
    assert rows(database, "SELECT received_at FROM reading") == [(NOW,)]
    assert rows(database, f"SELECT to_regclass('reading_{old:%Y%m%d}')") == [(None,)]
    for ahead in range(4):
        day = NOW + timedelta(days=ahead)
        assert rows(database, f"SELECT to_regclass('reading_{day:%Y%m%d}')") != [(None,)]


def test_readings_of_the_last_kept_day_are_kept(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    take(database, settings, message("river_sluice", "R1", "telemetry", NOW, "a", level_m=1.0))
    with database.transaction() as connection:
        drop_readings(connection, NOW.date())
    assert len(rows(database, "SELECT FROM reading")) == 1
    with database.transaction() as connection:
        drop_readings(connection, NOW.date() + timedelta(days=1))
    assert rows(database, "SELECT FROM reading") == []
