"""Thresholds with hysteresis and hold times, against a slow reading of the same words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.rule_bench import Bench, at, level, make_rule, told


def test_a_level_above_its_limit_is_one_alarm_until_it_is_well_below() -> None:
    bench = Bench(make_rule("threshold", parameters=level(hysteresis=0.2)))
    assert bench.tell(0, level_m=1.9) == []
    assert told(bench.tell(10, level_m=2.1)) == [("watched", True)]
    assert bench.tell(20, level_m=2.6) == bench.tell(30, level_m=1.85) == []
    assert told(bench.tell(40, level_m=1.79)) == [("watched", False)]
    assert bench.alarms[0].cause == bench.alarms[1].cause


def test_a_lower_limit_is_the_mirror_of_an_upper() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0, side="lower", hysteresis=0.1)))
    assert told(bench.tell(0, level_m=0.9)) == [("watched", True)]
    assert bench.tell(10, level_m=1.05) == []
    assert told(bench.tell(20, level_m=1.2)) == [("watched", False)]


def test_a_peak_shorter_than_the_hold_time_raises_nothing_and_the_alarm_is_dated_from_its_beginning() -> None:
    bench = Bench(make_rule("threshold", parameters=level(hold_s=30)))
    assert bench.tell(0, level_m=2.5) == bench.tell(20, level_m=1.0) == bench.tell(25, level_m=2.5) == []
    assert told(bench.tell(60, level_m=2.5)) == [("watched", True)]
    assert bench.alarms[0].cause == "2026-11-20T04:00:25.000Z"


def test_two_readings_a_millisecond_apart_are_one_alarm_in_either_order() -> None:
    for first, second in ((0.0, 0.001), (0.001, 0.0)):
        bench = Bench(make_rule("threshold", parameters=level()))
        bench.tell(1, measured=first, level_m=2.5)
        bench.tell(1, measured=second, level_m=2.6)
        assert told(bench.alarms) == [("watched", True)]


def test_a_reading_that_comes_late_changes_nothing() -> None:
    bench = Bench(make_rule("threshold", parameters=level()))
    bench.tell(100, level_m=1.0)
    assert bench.tell(101, measured=50, level_m=9.0) == []
    assert bench.state.metrics["level_m"]["value"] == 1.0


def test_the_alarm_carries_the_rules_category_and_severity() -> None:
    bench = Bench(make_rule("threshold", parameters=level(), category="river_pollution", severity=2))
    [alarm] = bench.tell(0, level_m=3.0)
    assert (alarm.category, alarm.severity) == ("river_pollution", 2)
    assert alarm.detail["limit"] == 2.0


def speaks(value: float, active: bool, p: dict[str, Any]) -> bool:
    """Whether a value is for the other state."""
    return bool(value < p["limit"] - p["hysteresis"] if active else value > p["limit"])


def judge_slowly(values: list[tuple[int, float]], p: dict[str, Any]) -> list[tuple[int, bool]]:
    """The same rule, said by looking back over all readings at each of them: slow and plain."""
    active, turned, out = False, 0, []
    for index, (second, _) in enumerate(values):
        run = index
        while run >= turned and speaks(values[run][1], active, p):
            run -= 1
        if run == index:
            continue
        since = values[run + 1][0]
        if second - since >= (p["clear_hold_s"] if active else p["hold_s"]):
            active, turned = not active, index + 1
            out.append((second, active))
    return out


@given(
    steps=st.lists(st.tuples(st.integers(1, 40), st.floats(0, 4).map(lambda v: round(v, 1))), max_size=60),
    hysteresis=st.sampled_from([0.0, 0.3, 1.0]),
    hold_s=st.sampled_from([0.0, 20.0, 60.0]),
    clear_hold_s=st.sampled_from([0.0, 30.0]),
)
def test_hysteresis_and_hold_do_what_the_slow_reference_does_and_never_raise_twice(
    steps: list[tuple[int, float]], hysteresis: float, hold_s: float, clear_hold_s: float
) -> None:
    parameters = level(hysteresis=hysteresis, hold_s=hold_s, clear_hold_s=clear_hold_s)
    bench = Bench(make_rule("threshold", parameters=parameters))
    values, second = [], 0
    for wait_s, value in steps:
        second += wait_s
        values.append((second, value))
        bench.tell(second, level_m=value)
    out = [(alarm.occurred_at, alarm.raised) for alarm in bench.alarms]
    assert out == [(at(s), raised) for s, raised in judge_slowly(values, parameters)]
    assert all(a.raised != b.raised for a, b in zip(bench.alarms, bench.alarms[1:], strict=False))


@pytest.mark.parametrize("value", [2.0, 1.8])
def test_exactly_at_a_limit_nothing_turns(value: float) -> None:
    bench = Bench(make_rule("threshold", parameters=level(hysteresis=0.2)))
    if value < 2.0:
        bench.tell(0, level_m=3.0)
    assert bench.tell(1, level_m=value) == []
