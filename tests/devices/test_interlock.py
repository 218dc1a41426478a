"""Interlocks: each by itself, without a database."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.interlock import judge_all
from devices.kinds.parking_gate import ParkingGateSettings
from devices.kinds.river_sluice import GateOpening, RiverSluiceSettings
from devices.model import (
    CommandLock,
    CommandType,
    DeviceState,
    DeviceStatus,
    NoParameters,
    Presence,
    Relation,
    Situation,
    instant_text,
)
from devices.registry import KINDS

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands-to-devices.md").read_text("utf-8")
ORDINARY = {
    "upstream_level_m": 1.4, "downstream_level_m": 1.2, "gate_opening_m": 0.3, "local_control": 0.0, "gate_fault": 0.0,
}  # fmt: skip


def state(metrics: Mapping[str, float], age_s: float = 5.0, **more: Any) -> DeviceState:
    at = instant_text(NOW - timedelta(seconds=age_s))
    values = {name: {"value": value, "at": at} for name, value in metrics.items()}
    return DeviceState(metrics=values, status=DeviceStatus.OK, last_seen_at=NOW - timedelta(seconds=1), **more)


def situation(metrics: Mapping[str, float] = ORDINARY, **changes: Any) -> Situation:
    ordinary = Situation(
        settings=RiverSluiceSettings(),
        state=state(metrics),
        heard=True,
        related={},
        watched=frozenset(),
        presences=(),
        locks=(),
        now=NOW,
    )
    return replace(ordinary, **changes)


def command(kind: str, name: str) -> CommandType:
    return next(found for found in KINDS[kind].commands if found.name == name)


SET_OPENING = command("river_sluice", "set_gate_opening")


def blocking(where: Situation, opening_m: float | None = 0.8, what: CommandType = SET_OPENING) -> list[str]:
    parameters = GateOpening(opening_m=opening_m) if opening_m is not None else None
    return [interlock.code for interlock in judge_all(what, where, parameters) if not interlock.ok]


def test_ordinary_water_stands_in_nobodys_way() -> None:
    assert blocking(situation()) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"local_control": 1.0}, "remote_control"),
        ({"gate_fault": 1.0}, "no_fault"),
        ({"upstream_level_m": 3.4}, "level_difference"),
    ],
)
def test_what_the_station_says_blocks(change: dict[str, float], code: str) -> None:
    assert blocking(situation({**ORDINARY, **change})) == [code]


def test_a_gate_may_be_closed_however_high_the_water_stands() -> None:
    high = situation({**ORDINARY, "upstream_level_m": 9.0})
    assert blocking(high, 0.1) == [] and blocking(high, 0.4) == ["level_difference"]


@pytest.mark.parametrize("missing", ["upstream_level_m", "downstream_level_m", "gate_opening_m"])
def test_what_is_not_known_is_not_ok(missing: str) -> None:
    known = {name: value for name, value in ORDINARY.items() if name != missing}
    assert "readings_fresh" in blocking(situation(known))


@pytest.mark.parametrize(("age_s", "ok"), [(119.0, True), (121.0, False), (-29.0, True), (-31.0, False)])
def test_readings_too_old_or_from_the_future_are_not_trusted(age_s: float, ok: bool) -> None:
    assert (blocking(situation(state=state(ORDINARY, age_s))) == []) is ok


@pytest.mark.parametrize(("offset_s", "ok"), [(0.4, True), (-29.0, True), (31.0, False), (-3600.0, False)])
def test_a_clock_that_is_off_blocks(offset_s: float, ok: bool) -> None:
    off = state(ORDINARY, clock={"offset_s": offset_s})
    assert (blocking(situation(state=off)) == []) is ok


def test_a_device_that_is_not_heard_blocks_what_does_not_wait() -> None:
    silent = situation(heard=False)
    assert blocking(silent) == ["device_heard"]
    assert "device_heard" not in blocking(silent, None, command("siren", "stop_sounding"))


def test_a_lock_blocks_everything_but_a_halt() -> None:
    lock = CommandLock(id=uuid4(), reason="检修", locked_by_id=None, locked_by="lin", locked_at=NOW)
    locked = situation(locks=(lock,))
    assert blocking(locked) == ["no_maintenance_lock"]
    assert blocking(locked, None, command("river_sluice", "stop_gate")) == []


def test_the_gate_cannot_be_asked_to_open_farther_than_it_goes() -> None:
    assert blocking(situation(), 5.1) == ["opening_possible"]


@pytest.mark.parametrize(
    ("upstream", "ok"),
    [
        (state({"gate_opening_m": 0.0}), True),
        (state({"gate_opening_m": 0.4}), False),
        (state({"gate_opening_m": 0.0}, age_s=500.0), False),
        (state({}), False),
        (None, False),
    ],
)
def test_closing_waits_for_the_gate_upstream(upstream: DeviceState | None, ok: bool) -> None:
    where = situation(related={Relation.UPSTREAM_GATE: {"SL-UP": upstream}})
    assert (blocking(where, 0.1) == []) is ok
    assert blocking(where, 0.8) == [], "opening wider does not depend on it"
    assert (blocking(where, None) == []) is ok, "before the target is chosen the worst is shown"


def camera(status: DeviceStatus = DeviceStatus.OK) -> DeviceState:
    return DeviceState(status=status, last_seen_at=NOW)


def test_people_in_the_zone_block_until_they_have_been_gone_for_a_while() -> None:
    def seen(ago_s: float, code: str = "CAM-1") -> list[str]:
        presence = Presence(camera=code, zone="闸前", seen_at=NOW - timedelta(seconds=ago_s))
        related = {Relation.CAMERA: {"CAM-1": camera()}}
        return blocking(situation(related=related, watched=frozenset({"CAM-1"}), presences=(presence,)))

    assert seen(29.0) == ["nobody_in_zone"] and seen(31.0) == [] and seen(1.0, "CAM-2") == []


@pytest.mark.parametrize("status", [DeviceStatus.FAULT, DeviceStatus.OFFLINE, DeviceStatus.UNKNOWN])
def test_a_camera_that_does_not_see_is_not_nobody(status: DeviceStatus) -> None:
    related: dict[Relation, Any] = {Relation.CAMERA: {"CAM-1": camera(status)}}
    assert blocking(situation(related=related, watched=frozenset({"CAM-1"}))) == ["zone_watched"]
    assert blocking(situation(related={Relation.CAMERA: {"CAM-1": camera()}})) == ["zone_watched"]
    assert blocking(situation(related={Relation.CAMERA: {"CAM-1": None}})) == ["zone_watched"]


@pytest.mark.parametrize(
    ("present", "watched", "ok"), [(0.0, False, True), (1.0, False, False), (None, False, False), (None, True, True)]
)
def test_a_barrier_comes_down_on_nothing(present: float | None, watched: bool, ok: bool) -> None:
    metrics = {"fault": 0.0, "local_control": 0.0} | ({} if present is None else {"vehicle_present": present})
    related: dict[Relation, Any] = {Relation.CAMERA: {"CAM-1": camera()}} if watched else {}
    where = situation(
        settings=ParkingGateSettings(), state=state(metrics), related=related, watched=frozenset({"CAM-1"})
    )
    close = command("parking_gate", "close_barrier")
    found = [i.code for i in judge_all(close, where, NoParameters()) if not i.ok]
    assert found == ([] if ok else ["vehicle_clear"])


metric_values = st.dictionaries(
    st.sampled_from([*ORDINARY, "pumps_running", "fault", "vehicle_present", "sounding"]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(metrics=metric_values, age_s=st.floats(-1e5, 1e5), opening_m=st.floats(0, 50), heard=st.booleans())
def test_whatever_the_readings_every_interlock_answers_with_a_code_that_is_documented(
    metrics: dict[str, float], age_s: float, opening_m: float, heard: bool
) -> None:
    for kind in ("river_sluice", "parking_gate", "siren"):
        for what in KINDS[kind].commands:
            parameters = GateOpening(opening_m=opening_m) if what.name == "set_gate_opening" else None
            where = situation(state=state(metrics, age_s), heard=heard, settings=KINDS[kind].settings())
            for interlock in judge_all(what, where, parameters):
                assert f"`{interlock.code}`" in PAGE


def test_every_command_is_documented_with_its_second_person_and_times() -> None:
    for kind in KINDS.values():
        for what in kind.commands:
            row = next(line for line in PAGE.splitlines() if f"`{what.name}`" in line and what.title_zh in line)
            assert (" yes " in row) is what.second_person
            assert f" {what.expiry_s:.0f} s" in row and f" {what.verify_timeout_s:.0f} s" in row
