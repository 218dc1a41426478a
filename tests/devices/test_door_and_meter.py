"""Access doors and water meters: what raises, what ends, what is refused."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from devices.alarms import advance_device, advance_time
from devices.model import Alarm, Device, DeviceState, DeviceStatus, Message, TopicKind, write_instant
from devices.registry import KINDS

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
ONE_AT_NIGHT = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)  # 01:00 in Hangzhou
CITY = "Asia/Shanghai"


def device(kind: str, **settings: Any) -> Device:
    return Device(id=UUID(int=1), code="d", kind=kind, name="d", lon=120, lat=30, settings=settings)


def message(kind: str, at: datetime, **fields: Any) -> Message:
    topic = TopicKind.EVENT if "event" in fields else TopicKind.TELEMETRY
    body = {"v": 1, "id": f"{at.timestamp():.3f}", "at": write_instant(at), **fields}
    payload = KINDS[kind].payloads[topic].model_validate(body)
    return Message(topic_kind=topic, id=body["id"], seq=None, measured_at=at, received_at=at, payload=payload)


def run(one: Device, messages: Iterable[Message], state: DeviceState | None = None) -> tuple[DeviceState, list[Alarm]]:
    """Each message as a batch of its own, in the order given."""
    state, alarms = state or DeviceState(), []
    for told in messages:
        step = advance_device(KINDS[one.kind], one, state, [told], told.received_at, CITY)
        state, alarms = step.state, alarms + step.alarms
    return state, alarms


def said(alarms: Iterable[Alarm]) -> list[tuple[str, bool]]:
    return [(alarm.rule, alarm.raised) for alarm in alarms]


def door(second: float, **fields: Any) -> Message:
    return message("access_door", NOON + timedelta(seconds=second), **{"door": "closed", **fields})


def test_a_forced_door_raises_once_and_ends_when_it_is_closed() -> None:
    forced = {"event": "forced", "door": "open"}
    state, alarms = run(device("access_door"), [door(0, **forced), door(1, **forced), door(2, door="open"), door(9)])
    assert said(alarms) == [("access_forced", True), ("access_forced", False)]
    assert alarms[0].cause == alarms[1].cause and state.alarms == {}


def test_a_forced_opening_that_is_told_late_is_reported_all_the_same() -> None:
    _, alarms = run(device("access_door"), [door(60), door(0, event="forced", door="open")])
    assert said(alarms) == [("access_forced", True)]


def test_a_late_repeat_of_an_episode_that_is_over_is_no_new_one() -> None:
    forced = {"event": "forced", "door": "open"}
    _, alarms = run(device("access_door"), [door(0, **forced), door(60), door(5, **forced)])
    assert said(alarms) == [("access_forced", True), ("access_forced", False)]


def test_a_door_held_open_is_judged_as_time_passes_and_ends_when_it_closes() -> None:
    one = device("access_door", held_open_limit_s=60)
    state, alarms = run(one, [door(0, event="opened", door="open")])
    assert alarms == []
    kind = KINDS["access_door"]
    early = advance_time(kind, one, state, NOON + timedelta(seconds=60), CITY)
    assert early.alarms == []
    late = advance_time(kind, one, state, NOON + timedelta(seconds=61), CITY)
    assert said(late.alarms) == [("access_held_open", True)]
    again = advance_time(kind, one, late.state, NOON + timedelta(seconds=90), CITY)
    assert again.alarms == []
    _, closed = run(one, [door(100, event="closed")], late.state)
    assert said(closed) == [("access_held_open", False)]


def test_where_a_silent_door_stands_nobody_knows() -> None:
    one = device("access_door", held_open_limit_s=60, offline_after_s=100)
    state, _ = run(one, [door(0, event="opened", door="open")])
    silent = advance_time(KINDS["access_door"], one, state, NOON + timedelta(seconds=500), CITY)
    assert silent.alarms == [] and silent.state.status is DeviceStatus.OFFLINE


@pytest.mark.parametrize(
    "credential", ["330106199001011234", "33010619900101123X", "13812345678", "8613812345678", "张三", "a b"]
)
def test_a_credential_that_is_somebodys_number_or_name_is_refused(credential: str) -> None:
    with pytest.raises(ValidationError):
        door(0, event="opened", door="open", credential=credential)


def test_openings_can_be_counted_and_no_reading_names_anybody() -> None:
    opened = door(0, event="opened", door="open", credential="c-7f3a90e21b")
    readings = KINDS["access_door"].readings(opened.payload)
    assert readings["opened"] == 1.0 and readings["open"] == 1.0
    assert all(isinstance(value, float) for value in readings.values())


def test_an_open_housing_is_a_fault() -> None:
    state, _ = run(device("access_door"), [door(0, tamper=True)])
    assert state.status is DeviceStatus.FAULT


def meter(at: datetime, volume_m3: float, **fields: Any) -> Message:
    return message("water_meter", at, volume_m3=volume_m3, **fields)


def test_the_meters_own_flag_raises_until_it_is_gone() -> None:
    told = [(0, {"leak": True}), (1, {}), (2, {"leak": True, "burst": True}), (3, {"leak": False, "burst": False})]
    _, alarms = run(device("water_meter"), [meter(NOON + timedelta(hours=h), 10.0, **f) for h, f in told])
    assert said(alarms) == [("water_leak", True), ("water_leak", False)]


def night(flows_m3_h: Iterable[float], step_min: int = 15) -> list[Message]:
    """Readings from 01:00 on; each flow holds until the next one."""
    volume_m3, told = 100.0, [meter(ONE_AT_NIGHT, 100.0)]
    for number, flow in enumerate(flows_m3_h, 1):
        volume_m3 += flow * step_min / 60
        told.append(meter(ONE_AT_NIGHT + timedelta(minutes=step_min * number), volume_m3))
    return told


def test_water_that_runs_without_a_pause_for_two_hours_of_the_night_is_a_leak() -> None:
    _, alarms = run(device("water_meter"), night([0.02] * 7))
    assert alarms == []
    _, alarms = run(device("water_meter"), night([0.02] * 12 + [0.0, 0.02]))
    assert said(alarms) == [("water_night_flow", True), ("water_night_flow", False)]
    assert alarms[0].category == "water_leak"


def test_one_pause_in_the_night_is_a_household() -> None:
    _, alarms = run(device("water_meter"), night([0.02] * 6 + [0.0] + [0.02] * 7))
    assert alarms == []


def test_a_day_of_running_water_is_nobodys_business_here() -> None:
    told = [meter(NOON + timedelta(minutes=15 * n), 100 + n * 0.1) for n in range(40)]
    _, alarms = run(device("water_meter"), [m for m in told if m.measured_at < ONE_AT_NIGHT])
    assert alarms == []


def test_a_gap_or_a_new_meter_says_nothing_about_pauses() -> None:
    _, alarms = run(device("water_meter"), night([0.02] * 3, step_min=90))
    assert alarms == [], "readings ninety minutes apart"
    told = night([0.02] * 12)
    swapped = [*told[:5], *(meter(m.measured_at, m.payload.volume_m3 - 100) for m in told[5:])]  # type: ignore[attr-defined]
    _, alarms = run(device("water_meter"), swapped)
    assert alarms == []


@given(st.lists(st.sampled_from([0.0, 0.004, 0.02, 0.5]), min_size=1, max_size=15))
def test_a_night_raises_exactly_when_some_two_hours_have_no_pause(flows: list[float]) -> None:
    _, alarms = run(device("water_meter"), night(flows))
    runs = [flow > 0.005 for flow in flows[:15]]  # within 01:00 to 05:00
    wanted = any(all(runs[i : i + 8]) for i in range(len(runs) - 7))
    assert any(alarm.raised for alarm in alarms) == wanted
    raised = [alarm.raised for alarm in alarms]
    assert raised == [n % 2 == 0 for n in range(len(raised))], "never two in a row"


def test_reverse_flow_and_a_stuck_valve_are_faults_of_the_meter() -> None:
    for fields in ({"reverse_flow": True}, {"valve": "fault"}, {"tamper": True}):
        state, _ = run(device("water_meter"), [meter(NOON, 1.0, **fields)])
        assert state.status is DeviceStatus.FAULT
