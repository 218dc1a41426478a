"""Registering devices and keeping their states, on a real PostgreSQL; and the registry of kinds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import devices.kinds
from devices.alarm_store import take_message
from devices.kinds.camera import make_health
from devices.model import Device, DeviceState, DeviceStatus, instant_text
from devices.registry import KINDS, find_kinds
from devices.store import (
    DeviceError,
    DeviceRecord,
    add_camera,
    add_device,
    lock_states,
    read_camera,
    read_device,
    read_devices,
    read_devices_by_code,
    read_state,
    save_states,
    set_device_settings,
)
from kernel.db import Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
RECORD = DeviceRecord(code="C-1", kind="camera", name="天水-07", lon=120.17, lat=30.28, area_code="330105012001")
FINE: dict[str, Any] = {"frame_age_s": 0.1, "fps": 5.0, "luma": 110.0, "contrast": 45.0, "frozen_s": 0.0}


def add(database: Database, record: DeviceRecord) -> Device:
    with database.transaction() as connection:
        return add_device(connection, record, NOW)


def test_a_device_comes_back_as_it_was_registered(database: Database) -> None:
    record = replace(RECORD, code="R-1", kind="river_sluice", settings={"level_limit_m": 3.2}, source_crs="gcj02")
    added = add(database, record)
    with database.transaction() as connection:
        assert read_device(connection, "R-1") == added
        assert read_devices(connection) == [added]
        assert read_devices(connection, "camera") == []
        assert read_devices_by_code(connection, ["R-1", "R-2"]) == {"R-1": added}
        assert read_state(connection, added.id).status is DeviceStatus.UNKNOWN
    assert (added.settings, added.source_crs, added.area_code) == ({"level_limit_m": 3.2}, "gcj02", "330105012001")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"code": "a/b"}, "bad_code"),
        ({"code": "+"}, "bad_code"),
        ({"code": "河"}, "bad_code"),
        ({"code": ""}, "bad_code"),
        ({"kind": "toaster"}, "unknown_kind"),
        ({"lat": 91.0}, "bad_position"),
        ({"lon": float("nan")}, "bad_position"),
        ({"settings": {"gone_s": -1}}, "bad_settings"),
        ({"settings": {"colour": "red"}}, "bad_settings"),
    ],
)
def test_a_device_that_cannot_be_is_refused_with_a_code(database: Database, change: dict[str, Any], code: str) -> None:
    with pytest.raises(DeviceError) as refusal:
        add(database, replace(RECORD, **change))
    assert refusal.value.code == code
    with database.transaction() as connection:
        assert read_devices(connection) == []


def test_a_code_is_given_once(database: Database) -> None:
    add(database, RECORD)
    with pytest.raises(DeviceError) as refusal:
        add(database, replace(RECORD, kind="smoke_alarm"))
    assert refusal.value.code == "code_taken"


def test_settings_are_checked_before_they_are_replaced(database: Database) -> None:
    add(database, RECORD)
    with database.transaction() as connection:
        assert set_device_settings(connection, "C-1", {"gone_s": 20}, NOW).settings == {"gone_s": 20}
    with pytest.raises(DeviceError), database.transaction() as connection:
        set_device_settings(connection, "C-1", {"gone_s": "soon"}, NOW)
    with pytest.raises(DeviceError), database.transaction() as connection:
        set_device_settings(connection, "nobody", {}, NOW)
    with database.transaction() as connection:
        assert read_device(connection, "C-1").settings == {"gone_s": 20}


def test_a_cameras_address_is_kept_and_never_shown(database: Database) -> None:
    with database.transaction() as connection:
        device = add_camera(connection, RECORD, "rtsp://user:secret@10.0.0.7/1", NOW, heading_deg=90.0)
        camera = read_camera(connection, device.id)
    assert camera is not None
    assert (camera.url, camera.scene, camera.heading_deg) == ("rtsp://user:secret@10.0.0.7/1", {"zones": []}, 90.0)
    assert "secret" not in repr(camera)
    with pytest.raises(DeviceError), database.transaction() as connection:
        add_camera(connection, replace(RECORD, code="S-1", kind="smoke_alarm"), "rtsp://x/1", NOW)


def test_states_written_together_come_back_as_they_were(database: Database) -> None:
    added = [add(database, replace(RECORD, code=f"C-{n}")) for n in range(3)]
    states = {
        device.id: DeviceState(
            metrics={"fps": {"value": 4.5 + n, "at": instant_text(NOW)}},
            status=DeviceStatus.FAULT,
            alarms={"camera_fault": {"cause": "它坏了", "category": "camera_fault", "raised_at": instant_text(NOW)}},
            rule_state={"camera_fault": {"active": True}},
            last_seen_at=NOW - timedelta(microseconds=n),
            measured_at=None,
        )
        for n, device in enumerate(added)
    }
    with database.transaction() as connection:
        save_states(connection, states, NOW)
        assert lock_states(connection, states) == states


def test_a_device_registered_by_other_means_gets_its_state_when_it_is_first_locked(database: Database) -> None:
    device = add(database, RECORD)
    with database.transaction() as connection:
        connection.execute("DELETE FROM device_state")
        assert lock_states(connection, [device.id]) == {device.id: DeviceState()}


def test_two_transactions_take_turns_at_one_device(database: Database) -> None:
    device = add(database, RECORD)
    with database.transaction() as first:
        lock_states(first, [device.id])
        with pytest.raises(psycopg.errors.LockNotAvailable), database.transaction() as second:
            second.execute("SET LOCAL lock_timeout = '200ms'")
            lock_states(second, [device.id])


def test_camera_health_becomes_state_report_and_recovery(database: Database) -> None:
    device = add(database, RECORD)
    moments = [NOW + timedelta(seconds=s) for s in range(30)]

    def tell(at: datetime, **health: Any) -> tuple[DeviceState, list[Any]]:
        with database.transaction() as connection:
            return take_message(connection, device, make_health(at, **{**FINE, **health}), at, "Asia/Shanghai")

    assert tell(moments[0])[0].status is DeviceStatus.OK
    black = [tell(at, luma=2.0, contrast=1.0) for at in moments[1:9]]
    assert [len(reports) for _, reports in black] == [0, 0, 0, 0, 0, 1, 0, 0]
    assert black[-1][0].status is DeviceStatus.FAULT
    fine = [tell(at) for at in moments[9:16]]
    assert fine[-1][0].alarms == {}
    with database.transaction() as connection:
        found = connection.execute("SELECT source, category, rule, detail ->> 'reason' FROM report").fetchall()
        changes = connection.execute("SELECT count(*) FROM change WHERE object_id = %s", (device.id,)).fetchone()
    assert found == [("camera", "camera_fault", "camera_fault", "black")]
    assert changes == (4,)  # registered, well, black, well again


def test_a_device_of_a_kind_that_is_gone_is_an_error_of_its_own(database: Database) -> None:
    device = Device(id=uuid4(), code="x", kind="toaster", name="", lon=0, lat=0)
    with database.transaction() as connection, pytest.raises(KeyError):
        take_message(connection, device, make_health(NOW, **FINE), NOW, "Asia/Shanghai")


# ---------------------------------------------------------------- the registry


def test_every_kind_is_found_by_its_file() -> None:
    files = {path.stem for path in Path(devices.kinds.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(KINDS) == files >= {"camera", "gateway", "smoke_alarm"}


def test_the_categories_of_every_rule_are_in_the_database(database: Database) -> None:
    with database.transaction() as connection:
        known = {row[0] for row in connection.execute("SELECT id FROM category").fetchall()}
    assert {rule.category for kind in KINDS.values() for rule in kind.rules} <= known


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import nothing_of_this_name", ImportError),
        ("KIND = 3", TypeError),
        ("from devices.kinds.camera import KIND", TypeError),
    ],
)
def test_a_file_that_is_no_kind_stops_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]
) -> None:
    (tmp_path / f"kind_{uuid4().hex}.py").write_text(text)  # a module is imported once under one name
    monkeypatch.setattr(devices.kinds, "__path__", [*devices.kinds.__path__, str(tmp_path)])
    with pytest.raises(error):
        find_kinds()


@pytest.mark.parametrize("name", ["a\nb", "a\u0000", "a\u202eb", "a\u2028b", "x" * 201])
def test_a_name_with_controls_or_without_end_is_refused(database: Database, name: str) -> None:
    record = DeviceRecord(code="n1", kind="smoke_alarm", name=name, lon=120.17, lat=30.28)
    with database.transaction("*") as connection, pytest.raises(DeviceError) as refused:
        add_device(connection, record, datetime.now(UTC))
    assert refused.value.code == "bad_text"


def test_a_name_may_have_rare_characters_and_full_width_spaces(database: Database) -> None:
    record = DeviceRecord(code="n1", kind="smoke_alarm", name="𠮷祥里\u30007号楼(东)", lon=120.17, lat=30.28)
    with database.transaction("*") as connection:
        assert add_device(connection, record, datetime.now(UTC)).name == record.name
