"""Working time against a slow reference that counts minute by minute, and by hand."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.calendar import CHINA, CalendarMissing, Pause, ShiftError, ShiftPlan, WorkCalendar
from dispatch.limits import amber_at, due_at, share_used
from kernel.types import LimitUnit

MINUTE = timedelta(minutes=1)
_2026 = {date(2026, 2, 14): True, date(2026, 2, 28): True, **{date(2026, 2, d): False for d in range(15, 24)},
         date(2026, 1, 1): False, date(2026, 1, 2): False, date(2026, 1, 4): True}  # fmt: skip
CITY = WorkCalendar(frozenset({2025, 2026}), _2026)


def at(text: str) -> datetime:
    """An instant on Hangzhou's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=CHINA)


# ------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    ("begins", "value", "unit", "due"),
    [
        ("2026-11-20 16:00", 4, LimitUnit.WORK_HOUR, "2026-11-23 10:00"),  # two hours on Friday, two on Monday
        ("2026-11-20 11:00", 1, LimitUnit.WORK_HOUR, "2026-11-20 12:00"),  # not 14:00: used up at noon
        ("2026-11-20 11:00", 2, LimitUnit.WORK_HOUR, "2026-11-20 15:00"),  # the break does not count
        ("2026-11-20 22:00", 2, LimitUnit.WORK_HOUR, "2026-11-23 10:00"),  # begins with Monday's work
        ("2026-11-20 10:30", 1, LimitUnit.WORKDAY, "2026-11-23 10:30"),
        ("2026-11-21 09:00", 1, LimitUnit.WORKDAY, "2026-11-23 18:00"),  # filed on a Saturday: Monday's whole day
        ("2026-02-13 17:00", 2, LimitUnit.WORK_HOUR, "2026-02-14 09:00"),  # a Saturday that is swapped is worked
        ("2026-02-14 17:00", 2, LimitUnit.WORK_HOUR, "2026-02-24 09:00"),  # nine days of Spring Festival
        ("2025-12-31 17:00", 2, LimitUnit.WORK_HOUR, "2026-01-04 09:00"),  # over the year's end, to a swapped Sunday
        ("2026-11-20 23:00", 2, LimitUnit.URGENT_HOUR, "2026-11-21 01:00"),
        ("2026-11-20 23:00", 2, LimitUnit.DAY, "2026-11-22 23:00"),
    ],
)
def test_limits_counted_by_hand(begins: str, value: float, unit: LimitUnit, due: str) -> None:
    assert due_at(at(begins), value, unit, CITY) == at(due)


def test_a_suspension_stops_the_clock_for_its_working_time_only() -> None:
    night = Pause(
        from_at=at("2026-11-19 17:00"), until_at=at("2026-11-20 09:00")
    )  # one hour before, one after the night
    assert due_at(at("2026-11-19 16:00"), 4, LimitUnit.WORK_HOUR, CITY, [night]) == at("2026-11-20 12:00")
    later = Pause(from_at=at("2026-11-20 12:00"), until_at=at("2026-11-25 12:00"))  # begins when all is used up
    assert due_at(at("2026-11-19 16:00"), 4, LimitUnit.WORK_HOUR, CITY, [night, later]) == at("2026-11-20 12:00")


def test_amber_comes_at_80_percent_of_the_counted_time_and_not_of_the_wall_clock_s() -> None:
    begins = at("2026-11-20 16:00")  # due on Monday at 10:00; 3.2 of the four hours are used at 09:12
    assert amber_at(begins, 4, LimitUnit.WORK_HOUR, CITY) == at("2026-11-23 09:12")
    assert share_used(begins, at("2026-11-22 12:00"), 4, LimitUnit.WORK_HOUR, CITY) == 0.5  # the whole weekend long


def test_a_year_without_a_table_is_an_error_and_a_gap_between_known_years_too() -> None:
    with pytest.raises(CalendarMissing, match="2027"):
        due_at(at("2026-12-31 17:00"), 2, LimitUnit.WORK_HOUR, CITY)
    with pytest.raises(CalendarMissing, match="2024"):
        due_at(at("2024-12-31 17:00"), 2, LimitUnit.WORK_HOUR, CITY)
    gap = WorkCalendar(frozenset({2024, 2026}), {})
    with pytest.raises(CalendarMissing, match="2025"):
        due_at(at("2024-12-31 17:00"), 3, LimitUnit.WORKDAY, gap)
    with pytest.raises(CalendarMissing, match="2025"):
        share_used(at("2024-12-31 17:00"), at("2026-01-05 17:00"), 3, LimitUnit.WORKDAY, gap)


@pytest.mark.parametrize("periods", [(), ((540, 500),), ((0, 600), (600, 700)), ((0, 600), (500, 700)), ((600, 1441),)])
def test_a_shift_that_cannot_be_is_refused(periods: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ShiftError):
        WorkCalendar(frozenset({2026}), {}, [ShiftPlan(from_day=date(2026, 1, 1), periods=periods)])


# ------------------------------------------------------------------------------------------------ minute by minute


def weigh_minute(calendar: WorkCalendar, plans: list[ShiftPlan], minute: datetime, unit: LimitUnit) -> Fraction:
    """How many units this minute counts, as one would say it to a child."""
    if unit in (LimitUnit.URGENT_HOUR, LimitUnit.DAY):
        return Fraction(1, 60 if unit is LimitUnit.URGENT_HOUR else 1440)
    local = minute.astimezone(CHINA)
    if not calendar.days.get(local.date(), local.weekday() < 5):
        return Fraction(0)
    plan = [p for p in plans if p.from_day <= local.date()][-1]
    of_day = local.hour * 60 + local.minute
    if not any(first <= of_day < last for first, last in plan.periods):
        return Fraction(0)
    return Fraction(1, 60 if unit is LimitUnit.WORK_HOUR else sum(last - first for first, last in plan.periods))


def count_slowly(
    calendar: WorkCalendar,
    plans: list[ShiftPlan],
    start: datetime,
    value: Fraction,
    unit: LimitUnit,
    pauses: list[Pause],
) -> datetime:
    """Minute after minute until the value is reached, and then the part of the last minute that it takes."""
    counted, minute = Fraction(0), start
    while True:
        weight = weigh_minute(calendar, plans, minute, unit)
        if any(pause.from_at <= minute < pause.until_at for pause in pauses):
            weight = Fraction(0)
        if counted + weight >= value:
            return minute + MINUTE * float((value - counted) / weight)
        counted, minute = counted + weight, minute + MINUTE


starts = st.integers(0, 25 * 1440).map(lambda n: datetime(2025, 12, 20, tzinfo=UTC) + n * MINUTE)
cuts = st.lists(st.integers(0, 48), min_size=2, max_size=6, unique=True).map(sorted)
shifts = cuts.map(lambda c: tuple((30 * c[k], 30 * c[k + 1]) for k in range(0, len(c) - 1, 2)))
days = st.dictionaries(st.dates(date(2025, 12, 20), date(2026, 1, 25)), st.booleans(), max_size=12)
breaks = st.lists(st.tuples(st.integers(-600, 9000), st.integers(0, 4000)), max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=starts, first=shifts, second=shifts, named=days, quarters=st.integers(1, 18), unit=st.sampled_from(LimitUnit),
       stops=breaks)  # fmt: skip
def test_the_fast_count_is_the_slow_one(
    start: datetime, first: tuple[tuple[int, int], ...], second: tuple[tuple[int, int], ...], named: dict[date, bool],
    quarters: int, unit: LimitUnit, stops: list[tuple[int, int]],
) -> None:  # fmt: skip
    plans = [ShiftPlan(from_day=date(2000, 1, 1), periods=first), ShiftPlan(from_day=date(2026, 1, 5), periods=second)]
    calendar = WorkCalendar(frozenset({2025, 2026}), named, plans)
    pauses = [Pause(from_at=start + a * MINUTE, until_at=start + (a + b) * MINUTE) for a, b in stops]
    value = Fraction(quarters, 4)
    due = due_at(start, float(value), unit, calendar, pauses)
    slow = count_slowly(calendar, plans, start, value, unit, pauses)
    assert abs(due - slow) <= timedelta(microseconds=2)
    used = share_used(start, due, float(value), unit, calendar, pauses)
    assert used == pytest.approx(1.0, abs=1e-6)
