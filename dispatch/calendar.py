"""Working time: which days are workdays, when of them work is done, and counting in it.

Days go by the yearly table (the State Council's, with swapped weekends); a day that the table of a known year does not
name goes by the day of the week. A year without a table is an error, never a guess. Counting is exact: whole microseconds
and fractions, found by binary search in sums that are made once per calendar.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import Final
from zoneinfo import ZoneInfo

from kernel.types import LimitUnit

CHINA: Final = ZoneInfo("Asia/Shanghai")  # calendars are computed there, wherever instants are stored
DEFAULT_SHIFT: Final = ((480, 720), (840, 1080))  # 08:00–12:00 and 14:00–18:00
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
CONTINUOUS: Final = {LimitUnit.URGENT_HOUR: _HOUR_US, LimitUnit.DAY: _DAY_US}


class CalendarMissing(LookupError):
    """Working time of a year without a table was asked for; `year` says which."""

    def __init__(self, year: int) -> None:
        super().__init__(f"no calendar of working days for {year}")
        self.year = year


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Time that does not count (挂账), from the one instant until before the other; both aware."""

    from_at: datetime
    until_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftPlan:
    """The periods of work on every workday from `from_day` on, in minutes of the local day, ascending, not touching."""

    from_day: date
    periods: tuple[tuple[int, int], ...]


class ShiftError(ValueError):
    """Periods of work that overlap, are empty or leave the day; the text says which."""


@dataclass(frozen=True, slots=True)
class WorkCalendar:
    """Workdays and shifts, ready to count with. `days`: what the tables name, True for a workday, and `years`: the years
    that have a table. The plan of the latest `from_day` holds; before the first one, the first."""

    years: frozenset[int]
    days: Mapping[date, bool]
    shifts: Sequence[ShiftPlan] = (ShiftPlan(from_day=date.min, periods=DEFAULT_SHIFT),)
    zone: ZoneInfo = CHINA
    # Of every period of work, ascending, in microseconds since 1970 and of work since the first one.
    _begins: list[int] = field(init=False, repr=False, compare=False)
    _before: list[int] = field(init=False, repr=False, compare=False)
    _after: list[int] = field(init=False, repr=False, compare=False)
    # Of every workday: work before it, and its own.
    _day_before: list[int] = field(init=False, repr=False, compare=False)
    _day_total: list[int] = field(init=False, repr=False, compare=False)
    # Of every year: work until its end.
    _until_year: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ShiftError."""
        plans = sorted(self.shifts, key=lambda plan: plan.from_day)
        check_shifts(plans)
        begins: list[int] = []
        lengths: list[int] = []
        totals: list[int] = []
        until_year: dict[int, int] = {}
        worked = 0
        for year in sorted(self.years):
            for day in days_of(year):
                if not self.is_workday(day):
                    continue
                periods = _plan_of(plans, day).periods
                for first_min, last_min in periods:
                    start, end = self._instant(day, first_min), self._instant(day, last_min)
                    begins.append(start)
                    lengths.append(end - start)
                totals.append(sum(lengths[len(lengths) - len(periods) :]))
                worked += totals[-1]
            until_year[year] = worked
        after = list(accumulate(lengths))
        set_once = object.__setattr__
        set_once(self, "_begins", begins)
        set_once(self, "_after", after)
        set_once(self, "_before", [end - length for end, length in zip(after, lengths, strict=True)])
        day_after = list(accumulate(totals))
        set_once(self, "_day_before", [end - total for end, total in zip(day_after, totals, strict=True)])
        set_once(self, "_day_total", totals)
        set_once(self, "_until_year", until_year)

    def is_workday(self, day: date) -> bool:
        """Whether work is done on that day.

        Raises CalendarMissing.
        """
        if day.year not in self.years:
            raise CalendarMissing(day.year)
        return self.days.get(day, day.weekday() < 5)

    def workday_hours(self, instant: datetime) -> float:
        """How long work is done on a workday, by the shifts that hold then."""
        plans = sorted(self.shifts, key=lambda plan: plan.from_day)
        return sum(last - first for first, last in _plan_of(plans, self.local(instant).date()).periods) / 60

    def local(self, instant: datetime) -> datetime:
        """The instant on the calendar's wall clock."""
        return instant.astimezone(self.zone)

    def add(self, start: datetime, value: float, unit: LimitUnit, pauses: Iterable[Pause] = ()) -> datetime:
        """The first instant at which `value` units after `start` have been counted; in UTC.

        Four work hours from 08:00 end at 12:00, not at 14:00. A workday is a day's whole working time, wherever in the
        day it begins. Time in `pauses` does not count; one that begins when all is used up changes nothing.
        Raises CalendarMissing when a year on the way has no table, ValueError for a value that is not positive.
        """
        if not value > 0 or value == float("inf"):
            raise ValueError(f"a limit of {value} {unit}")
        begin = _us_of(start)
        amount = Fraction(value).limit_denominator(1_000_000)
        due = self._add(begin, amount, unit)
        for pause_begin, pause_end in _merge(pauses, begin):
            if pause_begin >= due:
                break
            amount += self._count(pause_begin, pause_end, unit)
            due = self._add(begin, amount, unit)
        return _EPOCH + due * _US

    def elapsed(self, start: datetime, end: datetime, unit: LimitUnit, pauses: Iterable[Pause] = ()) -> float:
        """Units counted between the two instants, 0.0 when the second is not later; time in `pauses` left out.

        Raises CalendarMissing.
        """
        begin, stop = _us_of(start), _us_of(end)
        if stop <= begin:
            return 0.0
        counted = self._count(begin, stop, unit)
        for pause_begin, pause_end in _merge(pauses, begin):
            if pause_begin < stop:
                counted -= self._count(pause_begin, min(pause_end, stop), unit)
        return float(counted)

    # ------------------------------------------------------------------------------------------------ in microseconds

    def _instant(self, day: date, minute: int) -> int:
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        return (midnight.astimezone(UTC) - _EPOCH) // _US + minute * 60_000_000

    def _year_of(self, us: int) -> int:
        return self.local(_EPOCH + us * _US).year

    def _known_until(self, year: int) -> int:
        """The last year of the unbroken row of known years that begins with this one.

        Raises CalendarMissing.
        """
        if year not in self.years:
            raise CalendarMissing(year)
        while year + 1 in self.years:
            year += 1
        return year

    def _worked(self, us: int) -> int:
        """Work until an instant of a known year, since the beginning of the calendar."""
        k = bisect_right(self._begins, us) - 1
        return min(self._before[k] + us - self._begins[k], self._after[k]) if k >= 0 else 0

    def _in_days(self, worked: int) -> Fraction:
        """The same in workdays: whole ones, and the share of the one that has begun."""
        d = max(0, bisect_right(self._day_before, worked) - 1)
        return d + Fraction(worked - self._day_before[d], self._day_total[d]) if self._day_total else Fraction(0)

    def _count(self, begin: int, stop: int, unit: LimitUnit) -> Fraction:
        if unit in CONTINUOUS:
            return Fraction(stop - begin, CONTINUOUS[unit])
        if stop <= begin:
            return Fraction(0)
        first, last = self._year_of(begin), self._year_of(stop - 1)
        known = self._known_until(first)
        if known < last:
            raise CalendarMissing(known + 1)
        from_work, to_work = self._worked(begin), self._worked(stop)
        if unit is LimitUnit.WORK_HOUR:
            return Fraction(to_work - from_work, _HOUR_US)
        return self._in_days(to_work) - self._in_days(from_work)

    def _add(self, begin: int, amount: Fraction, unit: LimitUnit) -> int:
        if unit in CONTINUOUS:
            return begin + round(amount * CONTINUOUS[unit])
        known = self._known_until(self._year_of(begin))
        worked = self._worked(begin)
        if unit is LimitUnit.WORK_HOUR:
            target = worked + round(amount * _HOUR_US)
        else:
            days = self._in_days(worked) + amount
            d = ceil(days) - 1
            if d >= len(self._day_total):
                raise CalendarMissing(known + 1)
            target = self._day_before[d] + round((days - d) * self._day_total[d])
        if target > self._until_year[known]:
            raise CalendarMissing(known + 1)
        k = bisect_left(self._after, target)
        return self._begins[k] + target - self._before[k]


def check_shifts(plans: Sequence[ShiftPlan]) -> None:
    """Raises ShiftError when there is no plan, or one whose periods are empty, overlap, touch or leave the day."""
    if not plans:
        raise ShiftError("no shift at all")
    for plan in plans:
        ends = -1
        for first_min, last_min in plan.periods:
            if not ends < first_min < last_min <= 1440:
                raise ShiftError(f"periods of the shift from {plan.from_day}: {plan.periods}")
            ends = last_min
        if not plan.periods:
            raise ShiftError(f"the shift from {plan.from_day} has no period")


def _plan_of(plans: Sequence[ShiftPlan], day: date) -> ShiftPlan:
    k = bisect_right([plan.from_day for plan in plans], day) - 1
    return plans[max(0, k)]


def days_of(year: int) -> Iterable[date]:
    """Every day of a year, in order."""
    first = date(year, 1, 1).toordinal()
    return (date.fromordinal(n) for n in range(first, date(year + 1, 1, 1).toordinal()))


def _us_of(instant: datetime) -> int:
    return (instant.astimezone(UTC) - _EPOCH) // _US


def _merge(pauses: Iterable[Pause], begin: int) -> list[tuple[int, int]]:
    """Pauses after `begin`, ascending, those that overlap joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((max(begin, _us_of(p.from_at)), _us_of(p.until_at)) for p in pauses):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
