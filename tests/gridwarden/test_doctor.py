"""The doctor is right about what is stopped, missing or unreachable, and says how to mend it."""

import socket
from datetime import UTC, datetime
from pathlib import Path

from devices.credential import issue_key
from devices.store import DeviceRecord, add_camera, add_device
from gridwarden.doctor import (
    Finding,
    Level,
    check_broker,
    check_calendar,
    check_cameras,
    check_database,
    check_logins,
    check_model,
    check_ways,
    examine,
)
from kernel.db import Database
from kernel.settings import Settings, WaysSettings
from tests.conftest import free_port

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


def test_a_running_database_and_broker_are_well(settings: Settings, broker: Settings) -> None:
    assert levels(check_database(settings)) == {"database": Level.OK}
    assert levels(check_broker(broker)) == {"broker": Level.OK}


def test_a_stopped_database_is_named_with_the_command_that_starts_it(settings: Settings, tmp_path: Path) -> None:
    [finding] = check_database(settings.model_copy(update={"data_dir": tmp_path}))
    assert finding.level is Level.FAIL
    assert "does not answer" in finding.says
    assert "gridwarden up" in finding.mend


def test_a_year_without_a_table_of_workdays_is_told_sixty_days_before(settings: Settings) -> None:
    found = []
    for day in (
        datetime(2200, 10, 30, tzinfo=UTC),
        datetime(2199, 11, 30, tzinfo=UTC),
        datetime(2026, 6, 1, tzinfo=UTC),
    ):
        offset_s = (day - datetime.now(UTC)).total_seconds()
        clock = settings.clock.model_copy(update={"offset_s": offset_s})
        found += check_calendar(settings.model_copy(update={"clock": clock}))
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL, Level.OK]
    assert "2199, 2200" in found[1].says
    assert "gridwarden calendar import" in found[1].mend


def test_a_stopped_broker_is_named_with_its_address(settings: Settings) -> None:
    mqtt = settings.mqtt.model_copy(update={"port": free_port()})
    finding = check_broker(settings.model_copy(update={"mqtt": mqtt}))[-1]
    assert finding.level is Level.FAIL
    assert f"127.0.0.1:{mqtt.port}" in finding.says


def test_a_broker_that_refuses_our_log_in_is_not_called_well(broker: Settings) -> None:
    mqtt = broker.mqtt.model_copy(update={"password": "wrong"})
    finding = check_broker(broker.model_copy(update={"mqtt": mqtt}))[-1]
    assert finding.level is Level.FAIL
    assert "refuses the log-in" in finding.says


def test_devices_without_a_key_of_their_own_or_their_gateways_are_counted(
    settings: Settings, database: Database
) -> None:
    with database.transaction("*") as connection:
        gateway = add_device(connection, DeviceRecord(code="G1", kind="gateway", name="G1", lon=120, lat=30), NOW)
        child = DeviceRecord(code="C1", kind="smoke_alarm", name="C1", lon=120, lat=30, parent_id=gateway.id)
        add_device(connection, child, NOW)
    [finding] = check_logins(settings)
    assert finding.level is Level.WARN and "2 of 2" in finding.says
    with database.transaction("*") as connection:
        issue_key(connection, gateway, NOW)
    assert levels(check_logins(settings)) == {"log-ins": Level.OK}


def test_a_missing_model_and_one_that_is_no_model_are_told_apart(settings: Settings, tmp_path: Path) -> None:
    def check(path: Path) -> Finding:
        vision = settings.vision.model_copy(update={"model": path})
        return check_model(settings.model_copy(update={"vision": vision}))[0]

    missing = check(tmp_path / "none.onnx")
    assert missing.level is Level.FAIL
    assert "no model at" in missing.says
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    assert check(broken).level is Level.FAIL
    assert "cannot be used" in check(broken).says


def test_the_bundled_model_loads_and_its_limits_are_said(settings: Settings) -> None:
    [finding] = check_model(settings)
    assert finding.level is Level.WARN
    assert "rendered scenes only" in finding.says


def test_a_camera_that_nobody_can_reach_is_named_without_its_password(settings: Settings, database: Database) -> None:
    camera = settings.camera.model_copy(update={"allowed_networks": ("127.0.0.0/8",), "open_timeout_s": 2.0})
    record = DeviceRecord(code="cam-9", kind="camera", name="武林路口", lon=120.17, lat=30.28)
    with database.transaction("*") as connection:
        add_camera(connection, record, f"rtsp://user:hush@127.0.0.1:{free_port()}/x", NOW)
    [finding] = check_cameras(settings.model_copy(update={"camera": camera}))
    assert finding.level is Level.FAIL
    assert "武林路口 (cam-9)" in finding.says
    assert "refused" in finding.says
    assert "hush" not in finding.says


def test_a_whole_examination_says_something_about_everything(settings: Settings) -> None:
    checks = {finding.check for finding in examine(settings)}
    assert {"disk", "clock", "database", "broker", "model", "cameras", "web"} <= checks


def test_ways_in_that_are_open_by_setting_must_answer() -> None:
    silent = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ways = WaysSettings(thingsboard_port=listener.getsockname()[1], sl651_port=silent)
        found = check_ways(Settings(ways=ways))
    assert [finding.level for finding in found] == [Level.OK, Level.FAIL]
    assert f"127.0.0.1:{silent}" in found[1].says
    assert check_ways(Settings()) == []
