"""Alarm rules of the five kinds, stepped through time."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.alarms import advance_device, advance_time
from devices.kinds.camera import make_health
from devices.model import Alarm, Device, DeviceState, DeviceStatus, Message, TopicKind
from devices.registry import KINDS
from devices.window import find_window_start

ZONE = "Asia/Shanghai"
NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)  # 12:00 in Hangzhou


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Bench:
    """One device, its state so far and every alarm it gave."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = KINDS[kind]
        self.device = Device(id=UUID(int=1), code="D1", kind=kind, name="D1", lon=120.1, lat=30.2, settings=settings)
        self.state = DeviceState()
        self.alarms: list[Alarm] = []
        self._made = 0

    def make(self, measured_at: datetime, topic: TopicKind, fields: dict[str, Any]) -> Message:
        self._made += 1
        payload = self.kind.payloads[topic].model_validate(
            {"v": 1, "id": f"m{self._made}", "at": measured_at, **fields}
        )
        return Message(
            topic_kind=topic, id=payload.id, seq=None, measured_at=measured_at, received_at=measured_at, payload=payload
        )

    def take(self, *messages: Message, now: datetime | None = None) -> list[Alarm]:
        advance = advance_device(self.kind, self.device, self.state, messages, now or messages[-1].measured_at, ZONE)
        assert not advance.failures
        self.state = advance.state
        self.alarms += advance.alarms
        return advance.alarms

    def event(self, seconds: float, **fields: Any) -> list[Alarm]:
        return self.take(self.make(at(seconds), TopicKind.EVENT, fields))

    def tell(self, seconds: float, **fields: Any) -> list[Alarm]:
        return self.take(self.make(at(seconds), TopicKind.TELEMETRY, fields))

    def wait(self, seconds: float) -> list[Alarm]:
        advance = advance_time(self.kind, self.device, self.state, at(seconds), ZONE)
        assert not advance.failures
        self.state = advance.state
        self.alarms += advance.alarms
        return advance.alarms


def raised(alarms: Sequence[Alarm]) -> list[tuple[str, bool]]:
    return [(alarm.rule, alarm.raised) for alarm in alarms]


# ---------------------------------------------------------------- smoke alarm


def test_smoke_is_one_episode_from_alarm_to_recovery() -> None:
    bench = Bench("smoke_alarm")
    assert raised(bench.event(0, status="alarm", smoke_density_db_m=0.5)) == [("smoke", True)]
    assert bench.event(1, status="alarm") == []
    assert bench.tell(5, status="alarm") == []
    assert bench.state.status is DeviceStatus.ALARM
    assert raised(bench.event(60, status="recovered")) == [("smoke", False)]
    assert bench.alarms[0].cause == bench.alarms[1].cause
    assert bench.state.status is DeviceStatus.OK
    assert raised(bench.event(120, status="alarm")) == [("smoke", True)]
    assert bench.alarms[2].cause != bench.alarms[0].cause


@pytest.mark.parametrize("status", ["self_test", "low_battery", "normal", "recovered", "fault"])
def test_only_an_alarm_opens_anything(status: str) -> None:
    assert Bench("smoke_alarm").event(0, status=status) == []


@pytest.mark.parametrize(
    "fields", [{"status": "self_test"}, {"status": "low_battery"}, {"status": "alarm", "silenced": True}]
)
def test_a_self_test_a_flat_battery_or_a_silenced_horn_do_not_end_the_smoke(fields: dict[str, Any]) -> None:
    bench = Bench("smoke_alarm")
    bench.event(0, status="alarm")
    assert bench.event(10, **fields) == []
    assert "smoke" in bench.state.alarms


def test_a_smoke_alarm_that_comes_after_newer_news_is_still_reported_once() -> None:
    bench = Bench("smoke_alarm")
    bench.tell(30, status="normal")
    late = bench.event(10, status="alarm")
    assert raised(late) == [("smoke", True), ("smoke", False)]
    assert bench.state.alarms == {}
    assert bench.event(12, status="alarm") == []  # within the episode that is known by now


def test_a_late_alarm_of_a_known_episode_adds_nothing() -> None:
    bench = Bench("smoke_alarm")
    bench.event(10, status="alarm")
    assert bench.event(5, status="alarm") == []
    bench.event(60, status="recovered")
    assert bench.event(30, status="alarm") == []


def test_two_alarms_a_millisecond_apart_are_one() -> None:
    bench = Bench("smoke_alarm")
    one, two = (bench.make(at(s), TopicKind.EVENT, {"status": "alarm"}) for s in (0.001, 0.0))
    assert raised(bench.take(one, two)) == [("smoke", True)]


def test_an_alarm_taken_off_its_base_shows_as_a_fault() -> None:
    bench = Bench("smoke_alarm")
    bench.tell(0, status="normal", tamper=True)
    assert bench.state.status is DeviceStatus.FAULT


# ---------------------------------------------------------------- door sensor


@pytest.mark.parametrize(
    ("local", "start", "end", "began"),
    [
        ("12:00", "06:00", "22:00", "06:00"),
        ("06:00", "06:00", "22:00", "06:00"),
        ("22:00", "06:00", "22:00", None),
        ("05:59", "06:00", "22:00", None),
        ("23:00", "22:00", "05:00", "22:00"),
        ("04:59", "22:00", "05:00", "22:00 the day before"),
        ("05:00", "22:00", "05:00", None),
        ("03:00", "06:00", "06:00", "06:00 the day before"),
    ],
)
def test_daily_windows_hold_their_start_and_not_their_end(local: str, start: str, end: str, began: str | None) -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC).date()
    clock = [datetime.strptime(text, "%H:%M").time() for text in (local, start, end)]
    instant = datetime.combine(day, clock[0], tzinfo=UTC) - timedelta(hours=8)
    found = find_window_start(instant, clock[1], clock[2], ZONE)
    if began is None:
        assert found is None
    else:
        assert found is not None
        wanted_day = day - timedelta(days=1) if "before" in began else day
        assert found.strftime("%H:%M") == began[:5]
        assert found.date() == wanted_day


def test_a_door_not_opened_for_its_span_is_reported_and_the_next_opening_ends_it() -> None:
    bench = Bench("door_sensor", care=True, silent_span_s=600)
    bench.event(0, open=True)
    bench.event(5, open=False)
    assert bench.wait(599) == []
    bench.tell(600, open=False)
    assert raised(bench.wait(601)) == [("door_silent", True)]
    assert bench.wait(700) == []
    assert bench.alarms[0].detail["silent_s"] == 601
    assert raised(bench.event(800, open=True)) == [("door_silent", False)]
    assert bench.wait(1399) == []
    assert raised(bench.wait(1401)) == [("door_silent", True)]


def test_time_before_the_device_was_first_seen_does_not_count() -> None:
    bench = Bench("door_sensor", care=True, silent_span_s=600)
    assert bench.wait(0) == []
    bench.tell(0, open=False)
    assert bench.wait(599) == []
    assert raised(bench.wait(600)) == [("door_silent", True)]


def test_silence_counts_from_the_start_of_the_day_window_and_not_through_the_night() -> None:
    bench = Bench(
        "door_sensor", care=True, silent_span_s=7200, day_start="11:00", day_end="14:00", offline_after_s=86_400
    )
    bench.event(-8 * 3600, open=True)  # 04:00
    assert bench.wait(3599) == []  # 12:59:59
    assert raised(bench.wait(3600)) == [("door_silent", True)]  # 13:00, two hours into the window
    assert bench.alarms[0].cause == "2026-11-20T03:00:00.000Z"


def test_outside_the_day_window_nobody_is_silent() -> None:
    bench = Bench("door_sensor", care=True, silent_span_s=60, day_start="06:00", day_end="12:00")
    bench.tell(0, open=False)
    assert bench.wait(3600) == []


def test_a_second_silent_day_is_a_second_report() -> None:
    bench = Bench(
        "door_sensor", care=True, silent_span_s=3600, day_start="11:00", day_end="13:30", offline_after_s=10**6
    )
    bench.tell(-10, open=False)
    assert raised(bench.wait(3600)) == [("door_silent", True)]
    assert bench.wait(24 * 3600 - 60) == []
    assert raised(bench.wait(24 * 3600)) == [("door_silent", True)]
    assert bench.alarms[0].cause != bench.alarms[1].cause


def test_a_sensor_that_is_not_heard_says_nothing_about_its_person() -> None:
    bench = Bench("door_sensor", care=True, silent_span_s=600, offline_after_s=300)
    bench.tell(0, open=False)
    assert bench.wait(700) == []
    assert bench.state.status is DeviceStatus.OFFLINE


def test_an_ordinary_door_is_not_watched() -> None:
    bench = Bench("door_sensor", silent_span_s=60, night_start="00:00", night_end="23:59", night_openings=1)
    bench.event(0, open=True)
    assert bench.wait(3600) == []


def test_an_opening_whose_event_was_lost_is_seen_in_the_heartbeat() -> None:
    bench = Bench("door_sensor", care=True, silent_span_s=600)
    bench.tell(0, open=False)
    bench.tell(590, open=True)
    assert bench.wait(650) == []


NIGHT = {"care": True, "night_start": "11:00", "night_end": "14:00", "night_openings": 3, "night_span_s": 600}


def test_a_door_opened_often_at_night_is_one_report_until_it_rests() -> None:
    bench = Bench("door_sensor", **NIGHT)
    assert bench.event(0, open=True) == []
    assert bench.event(10, open=False) == []
    assert bench.event(100, open=True) == []
    assert raised(bench.event(200, open=True)) == [("door_night", True)]
    assert bench.event(300, open=True) == []
    assert bench.wait(899) == []
    assert raised(bench.wait(901)) == [("door_night", False)]
    assert bench.event(1000, open=True) == []


def test_openings_spread_wider_than_the_span_are_an_ordinary_night() -> None:
    bench = Bench("door_sensor", **NIGHT)
    for seconds in (0, 350, 700, 1050):
        assert bench.event(seconds, open=True) == []


def test_openings_by_day_do_not_count_for_the_night() -> None:
    bench = Bench("door_sensor", **{**NIGHT, "night_start": "12:01"})
    assert bench.event(0, open=True) == []
    assert bench.event(70, open=True) == []
    assert bench.event(80, open=True) == []
    assert raised(bench.event(90, open=True)) == [("door_night", True)]


def test_a_heartbeat_of_an_open_door_is_no_opening() -> None:
    bench = Bench("door_sensor", **NIGHT)
    for seconds in range(0, 100, 10):
        assert bench.tell(seconds, open=True) == []


@given(order=st.permutations(range(4)))
def test_openings_count_in_whatever_order_they_come(order: list[int]) -> None:
    bench = Bench("door_sensor", **NIGHT)
    for n in order:
        bench.event(n * 100, open=True)
    assert [alarm.raised for alarm in bench.alarms] == [True]


# ---------------------------------------------------------------- river sluice


def test_the_river_above_its_limit_is_reported_and_ends_below_the_hysteresis() -> None:
    bench = Bench("river_sluice", level_limit_m=2.0, hysteresis_m=0.2)
    assert bench.tell(0, level_m=2.0) == []
    assert raised(bench.tell(10, level_m=2.01)) == [("river_level", True)]
    assert bench.tell(20, level_m=1.81) == []
    assert bench.tell(25, level_m=2.5) == []
    assert raised(bench.tell(30, level_m=1.79)) == [("river_level", False)]
    assert bench.alarms[0].detail == {"level_m": 2.01, "level_limit_m": 2.0}


def test_one_high_reading_is_not_enough_where_a_hold_is_set() -> None:
    bench = Bench("river_sluice", level_limit_m=2.0, hold_s=60)
    assert bench.tell(0, level_m=2.4) == []
    assert bench.tell(30, level_m=1.9) == []
    assert bench.tell(60, level_m=2.4) == []
    assert bench.wait(300) == []  # nothing new was measured
    assert raised(bench.tell(120, level_m=2.4)) == [("river_level", True)]
    assert bench.alarms[0].cause == "2026-11-20T04:01:00.000Z"


def test_a_level_measured_before_the_newest_is_ignored() -> None:
    bench = Bench("river_sluice", level_limit_m=2.0)
    bench.tell(100, level_m=1.0)
    assert bench.tell(50, level_m=9.0) == []


def test_within_a_batch_the_rule_sees_levels_in_order_of_measurement() -> None:
    bench = Bench("river_sluice", level_limit_m=2.0)
    later, earlier = (bench.make(at(s), TopicKind.TELEMETRY, {"level_m": m}) for s, m in ((20, 1.0), (10, 2.5)))
    assert raised(bench.take(later, earlier)) == [("river_level", True), ("river_level", False)]


# ---------------------------------------------------------------- parking gate


def test_a_gate_open_too_long_is_reported_between_messages_and_ends_when_closed() -> None:
    bench = Bench("parking_gate", open_limit_s=60)
    bench.event(0, event="barrier", barrier="open")
    assert bench.wait(60) == []
    assert raised(bench.wait(61)) == [("gate_fault", True)]
    assert bench.state.status is DeviceStatus.FAULT
    assert bench.alarms[0].detail["reason"] == "open_too_long"
    assert bench.wait(100) == []
    assert raised(bench.event(120, event="barrier", barrier="closed")) == [("gate_fault", False)]


def test_a_gate_that_works_is_left_alone() -> None:
    bench = Bench("parking_gate", open_limit_s=60)
    for start in range(0, 600, 50):
        bench.event(start, event="passage", barrier="open", direction="in")
        bench.wait(start + 20)
        bench.event(start + 30, event="barrier", barrier="closed")
        bench.wait(start + 45)
    assert bench.alarms == []


def test_a_fault_is_reported_at_once_and_is_one_episode_with_the_open_barrier() -> None:
    bench = Bench("parking_gate", open_limit_s=60)
    assert raised(bench.event(0, event="fault", barrier="open", fault=True, fault_code="E07")) == [("gate_fault", True)]
    assert bench.alarms[0].detail == {"reason": "fault", "fault_code": "E07"}
    assert bench.wait(90) == []
    assert bench.tell(100, barrier="open", fault=False) == []
    assert raised(bench.tell(110, barrier="closed")) == [("gate_fault", False)]


def test_a_gate_that_went_silent_while_open_is_offline_and_not_stuck() -> None:
    bench = Bench("parking_gate", open_limit_s=60, offline_after_s=30)
    bench.event(0, event="barrier", barrier="open")
    assert bench.wait(61) == []
    assert bench.state.status is DeviceStatus.OFFLINE


def test_no_plate_gets_into_an_alarm() -> None:
    bench = Bench("parking_gate", open_limit_s=60)
    bench.event(0, event="passage", barrier="open", fault=True, direction="in", plate="浙A12345")
    assert "浙A12345" not in repr(bench.alarms) + repr(bench.state)


# ---------------------------------------------------------------- camera


FINE = {"frame_age_s": 0.1, "fps": 5.0, "luma": 110.0, "contrast": 45.0, "frozen_s": 0.0}


@pytest.mark.parametrize(
    ("trouble", "reason", "delay_s"),
    [
        ({"frame_age_s": 20.0}, "gone", 0),
        ({"frame_age_s": None}, "gone", 0),
        ({"frozen_s": 31.0}, "frozen", 0),
        ({"luma": 3.0, "contrast": 1.5}, "black", 5),
        ({"covered_s": 20.0}, "covered", 0),
        ({"blurred_s": 20.0}, "blurred", 0),
        ({"moved_s": 30.0}, "moved", 0),
        ({"fps": 0.4}, "slow", 20),
        ({"clock_error_s": -5.5}, "clock", 0),
    ],
)
def test_a_camera_in_trouble_is_reported_once_and_recovers(trouble: dict[str, Any], reason: str, delay_s: int) -> None:
    bench = Bench("camera")
    bench.take(make_health(at(0), **FINE))
    for second in range(10, 40):
        bench.take(make_health(at(second), **{**FINE, **trouble}))
    assert [(a.raised, a.detail["reason"], a.occurred_at) for a in bench.alarms] == [(True, reason, at(10 + delay_s))]
    for second in range(40, 46):
        bench.take(make_health(at(second), **FINE))
    assert [alarm.raised for alarm in bench.alarms] == [True, False]


def test_a_dark_picture_with_contrast_is_night_and_not_a_fault() -> None:
    bench = Bench("camera")
    for second in range(60):
        bench.take(make_health(at(second), **{**FINE, "luma": 9.0, "contrast": 14.0}))
    assert bench.alarms == []


def test_headlights_that_blind_for_a_moment_are_no_fault() -> None:
    bench = Bench("camera")
    for second in range(60):
        black = second % 6 < 3
        bench.take(make_health(at(second), **({**FINE, "luma": 2.0, "contrast": 1.0} if black else FINE)))
    assert bench.alarms == []


def test_a_camera_without_frames_is_offline_and_was_heard_when_its_last_frame_came() -> None:
    bench = Bench("camera")
    bench.take(make_health(at(0), **FINE))
    bench.take(make_health(at(40), frame_age_s=39.0))
    assert bench.state.status is DeviceStatus.OFFLINE
    assert bench.state.last_seen_at == at(1)


# ---------------------------------------------------------------- every kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_rules_remember_survives_json(kind: str) -> None:
    bench, straight = Bench(kind), Bench(kind)
    rng = random.Random(3)
    for second in range(0, 400, 20):
        topic = rng.choice((TopicKind.TELEMETRY, TopicKind.STATE))
        fields = {k: v for k, v in bench.kind.draw(rng, at(second), topic).items() if k not in ("v", "id", "seq", "at")}
        for one in (bench, straight):
            one.take(one.make(at(second), topic, fields))
        kept = json.loads(json.dumps([bench.state.rule_state, bench.state.alarms, bench.state.metrics]))
        bench.state = replace(bench.state, rule_state=kept[0], alarms=kept[1], metrics=kept[2])
    assert bench.state == straight.state
    assert bench.alarms == straight.alarms


def test_a_device_never_heard_is_unknown_and_not_offline() -> None:
    bench = Bench("parking_gate")
    bench.wait(10**6)
    assert bench.state.status is DeviceStatus.UNKNOWN


def test_settings_that_do_not_fit_are_a_failure_and_no_crash() -> None:
    bench = Bench("river_sluice", level_limit_m="high")
    payload = bench.make(at(0), TopicKind.TELEMETRY, {"level_m": 9.0})
    advance = advance_device(bench.kind, bench.device, bench.state, [payload], at(0), ZONE)
    assert [failure.rule for _, failure in advance.failures] == ["settings"]
    assert advance.state.metrics["level_m"]["value"] == 9.0
