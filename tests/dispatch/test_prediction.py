"""Predicted breach on generated incidents of which the truth is known."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from dispatch.calendar import CHINA, WorkCalendar
from dispatch.prediction import Expectation, Handling, Key, breach_risk, hour_class, learn
from kernel.types import LimitUnit

CALENDAR = WorkCalendar(frozenset({2026}), {})
MORNING = datetime(2026, 11, 20, 9, 0, tzinfo=CHINA)


def make(category: str, median_h: float, count: int, rng: random.Random, part: str = "morning") -> list[Handling]:
    return [
        Handling(category=category, hour_class=part, working=False, hours=median_h * math.exp(rng.gauss(0, 0.6)))
        for _ in range(count)
    ]


def risk_at(
    known: dict[Key, Expectation], hours: float, limit_h: float = 4.0, category: str = "bin_overflow"
) -> float | None:
    return breach_risk(
        known, category=category, limit_from=MORNING, due_at=MORNING + timedelta(hours=limit_h),
        now=MORNING + timedelta(hours=hours), value=limit_h, unit=LimitUnit.URGENT_HOUR, calendar=CALENDAR,
    )  # fmt: skip


def test_the_risk_is_as_often_right_as_it_says() -> None:
    """Learned from 400 incidents, asked about 2,000 others one hour after their filing."""
    rng = random.Random(5)
    known = learn(make("bin_overflow", 2.5, 400, rng))
    truth = [one.hours for one in make("bin_overflow", 2.5, 2000, rng) if one.hours > 1]
    for limit_h in (1.5, 3.0, 5.0):
        missed = sum(hours > limit_h for hours in truth) / len(truth)
        assert risk_at(known, 1.0, limit_h) == pytest.approx(missed, abs=0.05)


def test_the_risk_grows_while_nothing_happens_and_is_certain_when_overdue() -> None:
    known = learn(make("bin_overflow", 2.5, 100, random.Random(1)))
    risks = [risk_at(known, hours) for hours in (0, 1, 2, 3, 3.9, 4.1)]
    assert None not in risks
    assert risks == sorted(risks)  # type: ignore[type-var]
    assert risks[0] == pytest.approx(0.22, abs=0.06)
    assert risks[-1] == 1.0


def test_few_cases_lean_on_their_category_and_too_few_say_nothing() -> None:
    rng = random.Random(2)
    known = learn(
        [*make("bin_overflow", 2, 100, rng), *make("bin_overflow", 20, 2, rng, "night"), *make("smoke", 1, 5, rng)]
    )
    assert 2 < known["bin_overflow", "night", False].median_h < 4
    assert known["bin_overflow", "morning", False].p90_h > known["bin_overflow", "morning", False].median_h
    assert risk_at(known, 1, category="smoke") is None
    assert risk_at(known, 1, category="unknown") is None


def test_a_weekend_brings_a_limit_in_working_time_no_nearer() -> None:
    some = [Handling(category="dirty_road", hour_class="afternoon", working=True, hours=1 + k / 20) for k in range(40)]
    known = learn(some)
    friday = datetime(2026, 11, 20, 16, 0, tzinfo=CHINA)
    due = datetime(2026, 11, 23, 10, 0, tzinfo=CHINA)
    evening, sunday = (
        breach_risk(
            known, category="dirty_road", limit_from=friday, due_at=due, now=now, value=4, unit=LimitUnit.WORK_HOUR,
            calendar=CALENDAR,
        )
        for now in (datetime(2026, 11, 20, 18, 0, tzinfo=CHINA), datetime(2026, 11, 22, 12, 0, tzinfo=CHINA))
    )  # fmt: skip
    assert evening == sunday
    assert evening is not None


def test_the_parts_of_the_day_are_the_city_s() -> None:
    assert [hour_class(datetime(2026, 11, 20, hour, tzinfo=UTC)) for hour in (0, 4, 10, 16)] == [
        "morning", "afternoon", "evening", "night",
    ]  # fmt: skip
