"""Rate of change, missing metrics, patterns of persons cared for, meters and forecasts."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from devices.kinds import water_meter
from devices.model import DeviceStatus
from devices.rule_registry import RULE_TYPES, find_rule_types
from devices.rules.trend import fit_days_left
from tests.devices.rule_bench import NOON, Bench, at, make_device, make_rule, told

HOUR, DAY = 3600.0, 86_400.0
HOME: dict[str, Any] = {"in_home": True, "consent_until": NOON + timedelta(days=365)}


def test_every_type_is_found_by_its_file_and_describes_its_parameters() -> None:
    assert find_rule_types() == RULE_TYPES
    for rule_type in RULE_TYPES.values():
        assert rule_type.parameters.model_json_schema()["type"] == "object"
        assert rule_type.title_zh and rule_type.title_en


# ---------------------------------------------------------------- rate of change


def test_a_level_that_rises_too_far_within_the_span_raises_once_and_ends_when_it_is_steady() -> None:
    parameters = {"metric": "level_m", "direction": "rising", "change": 0.5, "within_s": 600}
    bench = Bench(make_rule("rate_of_change", parameters=parameters))
    for second, value in ((0, 1.0), (300, 1.2), (590, 1.45)):
        assert bench.tell(second, level_m=value) == []
    assert told(bench.tell(600, level_m=1.5)) == [("watched", True)]
    assert bench.tell(700, level_m=1.6) == []
    assert told(bench.tell(1500, level_m=1.6)) == [("watched", False)]


def test_the_same_rise_over_a_longer_time_raises_nothing_nor_does_a_fall() -> None:
    parameters = {"metric": "level_m", "direction": "rising", "change": 0.5, "within_s": 600}
    bench = Bench(make_rule("rate_of_change", parameters=parameters))
    for hour in range(10):
        assert bench.tell(hour * 700, level_m=1.0 + hour * 0.3) == []
    assert bench.tell(7000, level_m=0.1) == []


def test_a_quick_reporter_keeps_few_points() -> None:
    parameters = {"metric": "level_m", "change": 0.5, "within_s": 600}
    bench = Bench(make_rule("rate_of_change", parameters=parameters))
    for second in range(2000):
        bench.tell(second, level_m=1.0)
    assert len(bench.state.rule_state["watched@rate_of_change"]["points"]) <= 121


# ---------------------------------------------------------------- no data


def test_one_metric_that_stops_coming_is_said_while_the_device_is_still_heard() -> None:
    bench = Bench(make_rule("no_data", parameters={"metric": "ph", "after_s": 600}))
    bench.tell(0, level_m=1.0, ph=7.0)
    bench.tell(500, level_m=1.0)
    assert bench.wait(599) == []
    assert told(bench.wait(600)) == [("watched", True)]
    assert bench.state.status is DeviceStatus.FAULT
    assert bench.wait(601) == []
    assert told(bench.tell(700, level_m=1.0, ph=7.1)) == [("watched", False)]


def test_a_device_that_is_silent_altogether_is_not_said_metric_by_metric() -> None:
    bench = Bench(make_rule("no_data", parameters={"metric": "ph", "after_s": 600}))
    bench.tell(0, level_m=1.0, ph=7.0)
    assert bench.wait(5000) == []
    assert bench.state.status is DeviceStatus.OFFLINE


# ---------------------------------------------------------------- persons cared for


def test_no_opening_over_the_day_span_raises_and_an_opening_ends_it() -> None:
    rule = make_rule("no_event", parameters={"span_s": 4 * HOUR, "day_start": "06:00", "day_end": "22:00"})
    bench = Bench(rule, device=make_device("door_sensor", **HOME))
    bench.tell(-5 * HOUR, event=True, open=True)  # 07:00
    bench.tell(-2 * HOUR, open=False)
    assert bench.wait(-HOUR - 1) == []
    assert told(bench.wait(-HOUR)) == [("watched", True)]
    assert told(bench.tell(0, event=True, open=True)) == [("watched", False)]


def test_without_consent_nothing_about_a_person_is_judged_or_kept() -> None:
    rule = make_rule("no_event", parameters={"span_s": HOUR})
    device = make_device("door_sensor", in_home=True, consent_until=at(1800))
    bench = Bench(rule, device=device)
    bench.tell(0, event=True, open=True)
    assert "watched@no_event" in bench.state.rule_state
    assert bench.wait(1800) == []
    assert "watched@no_event" not in bench.state.rule_state
    assert bench.wait(2 * HOUR) == []


def test_many_openings_at_night_raise_once_and_a_quiet_span_ends_it() -> None:
    rule = make_rule("many_events", parameters={"events": 3, "span_s": 1800})
    bench = Bench(rule, device=make_device("door_sensor", **HOME))
    night = 12 * HOUR
    bench.tell(night, event=True, open=True)
    bench.tell(night + 600, event=True, open=True)
    assert told(bench.tell(night + 1200, event=True, open=True)) == [("watched", True)]
    assert bench.tell(night + 1300, event=True, open=True) == []
    bench.tell(night + 1400, open=False)
    assert bench.wait(night + 3100) == []
    assert told(bench.wait(night + 3101)) == [("watched", False)]


def test_openings_by_day_do_not_count() -> None:
    rule = make_rule("many_events", parameters={"events": 2, "span_s": 1800})
    bench = Bench(rule, device=make_device("door_sensor", **HOME))
    for second in range(0, 1000, 100):
        assert bench.tell(second, event=True, open=True) == []


METER = make_device("water_meter", **HOME)


def meter(bench: Bench, hours: float, volume_m3: float) -> list[tuple[str, bool]]:
    return told(bench.tell(hours * HOUR, volume_m3=volume_m3))


def test_a_day_with_almost_no_water_raises_and_using_some_ends_it() -> None:
    assert "volume_m3" in {metric.name for metric in water_meter.KIND.metrics}
    bench = Bench(make_rule("low_use", parameters={"floor": 0.02, "span_s": DAY}), device=METER)
    for hour in range(24):
        assert meter(bench, hour, 5.0) == []  # a whole day is not known yet
    assert meter(bench, 24, 5.005) == [("watched", True)]
    assert meter(bench, 25, 5.01) == []
    assert meter(bench, 26, 5.05) == [("watched", False)]


def test_a_meter_that_was_exchanged_starts_anew() -> None:
    bench = Bench(make_rule("low_use", parameters={"floor": 0.02, "span_s": DAY}), device=METER)
    for hour in range(20):
        meter(bench, hour, 5.0 + hour)
    for hour in range(20, 43):
        assert meter(bench, hour, 0.001) == []
    assert meter(bench, 45, 0.001) == [("watched", True)]


# ---------------------------------------------------------------- forecasts


def test_a_battery_that_falls_steadily_is_forecast_to_the_day() -> None:
    line = [(day, 80.0 - 2 * day) for day in range(15)]
    assert fit_days_left([(float(x), y) for x, y in line], 10.0) == pytest.approx(21.0)
    assert fit_days_left([(0.0, 50.0), (1.0, 50.0)], 10.0) is None
    assert fit_days_left([(0.0, 12.0), (1.0, 8.0)], 10.0) == 0.0


def test_a_battery_that_will_last_less_than_a_month_raises_and_a_new_one_ends_it() -> None:
    rule = make_rule("trend", parameters={"floor": 10, "days_left": 30, "observed_days": 14})
    bench = Bench(rule, device=make_device("smoke_alarm"))
    for day in range(25):
        bench.tell(day * DAY, status="normal", battery_pct=100 - day)
        bench.tell(day * DAY + HOUR, status="normal", battery_pct=100 - day)
    assert bench.alarms == []
    for day in range(25, 65):
        bench.tell(day * DAY, status="normal", battery_pct=100 - day)
    assert told(bench.alarms) == [("watched", True)]
    assert bench.alarms[0].detail["days_left"] == pytest.approx(30, abs=1)
    assert bench.state.status is DeviceStatus.FAULT
    assert told(bench.tell(65 * DAY, status="normal", battery_pct=100)) == [("watched", False)]
    assert len(bench.state.rule_state["watched@trend"]["points"]) <= 61


# ---------------------------------------------------------------- two devices


def combination(**parameters: object) -> Bench:
    first = {"metric": "level_m", "limit": 2.0}
    second = {"metric": "level_m", "limit": 1.0}
    full = {"first": first, "other": "D2", "second": second, "window_s": 60, **parameters}
    device = make_device()
    return Bench(make_rule("combination", parameters=full, device_id=device.id), device=device)


def tell_other(bench: Bench, seconds: float, value: float) -> None:
    other = Bench(device=make_device(code="D2"))
    other.tell(seconds, level_m=value)
    bench.peers = {"D2": other.state}


@pytest.mark.parametrize("first_comes", ["this", "other"])
def test_two_devices_that_agree_within_the_window_raise_whoever_came_first(first_comes: str) -> None:
    bench = combination()
    if first_comes == "this":
        bench.tell(0, level_m=2.5)
        assert bench.wait(1) == []
        tell_other(bench, 50, 1.5)
    else:
        tell_other(bench, 0, 1.5)
        bench.wait(1)
        bench.tell(50, level_m=2.5)
    assert told(bench.wait(51)) == [("watched", True)]
    assert bench.wait(55) == []
    assert told(bench.wait(130)) == [("watched", False)]


def test_two_devices_that_agree_too_far_apart_raise_nothing() -> None:
    bench = combination()
    bench.tell(0, level_m=2.5)
    for second in range(1, 62):
        assert bench.wait(second) == []
    tell_other(bench, 62, 1.5)
    assert bench.wait(63) == bench.wait(64) == []
    assert bench.state.due_at is not None and bench.state.due_at > at(200)  # only the silence is left to wait for


def test_a_combination_may_be_about_alarms_of_both() -> None:
    bench = combination(first={"alarm": "river_level"}, second={"alarm": "river_level"})
    bench.tell(0, level_m=3.0)
    other = Bench(device=make_device(code="D2"))
    other.tell(0, level_m=3.0)
    bench.peers = {"D2": other.state}
    assert told(bench.wait(1)) == [("watched", True)]


def test_a_device_that_is_not_there_agrees_with_nothing() -> None:
    bench = combination()
    bench.tell(0, level_m=2.5)
    assert bench.wait(1) == []


def test_a_rule_with_a_device_is_for_that_device_only() -> None:
    rule = make_rule("threshold", parameters={"metric": "level_m", "limit": 1.0}, device_id=UUID(int=99))
    assert Bench(rule).tell(0, level_m=2.0) == []
