"""Time limits: when an incident is due, when it turns amber, how much of its limit is used.

`urgent_hour` and `day` run continuously; `work_hour` and `workday` count the working time of a calendar
(dispatch.calendar). A year that is missing there is an error, never a guess. docs/time-limits.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dispatch.calendar import CONTINUOUS, CalendarMissing, Pause, WorkCalendar
from kernel.types import Light, LimitUnit

__all__ = ["AMBER_FROM", "CalendarMissing", "Limit", "Pause", "amber_at", "due_at", "share_used", "stand_light"]

AMBER_FROM = 0.8  # of the limit (DOMAIN: lights)
_NONE = WorkCalendar(years=frozenset(), days={})


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How long, and which rule says so: the set, what narrows it, and where the figure comes from."""

    value: float
    unit: LimitUnit
    rule: str = ""

    @property
    def is_working(self) -> bool:
        """Whether working time alone counts."""
        return self.unit not in CONTINUOUS


def due_at(
    limit_from: datetime,
    value: float,
    unit: LimitUnit,
    calendar: WorkCalendar | None = None,
    pauses: Iterable[Pause] = (),
) -> datetime:
    """The instant at which a limit of `value` units that began at `limit_from` is used up, in UTC.

    `pauses` do not count; one that still lasts has no end, so whoever suspends counts anew at the resumption.
    Raises CalendarMissing when work hours or workdays reach a year without a table, ValueError for a value that is not
    positive.
    """
    return (calendar or _NONE).add(limit_from, value, LimitUnit(unit), pauses)


def amber_at(
    limit_from: datetime,
    value: float,
    unit: LimitUnit,
    calendar: WorkCalendar | None = None,
    pauses: Iterable[Pause] = (),
) -> datetime:
    """The instant at which 80 % of it are used up, of the counted time and not of the wall clock's.

    Raises as `due_at`.
    """
    return due_at(limit_from, value * AMBER_FROM, unit, calendar, pauses)


def share_used(
    limit_from: datetime,
    at: datetime,
    value: float,
    unit: LimitUnit,
    calendar: WorkCalendar | None = None,
    pauses: Iterable[Pause] = (),
) -> float:
    """How much of the limit is used at `at`: 0.0 at the beginning, 1.0 when due, more beyond.

    Raises CalendarMissing.
    """
    return (calendar or _NONE).elapsed(limit_from, at, LimitUnit(unit), pauses) / value


def stand_light(amber: datetime | None, due: datetime | None, at: datetime) -> Light | None:
    """The light at `at`: green to 80 % of the limit, amber to 100 %, red beyond; None while no limit runs."""
    if due is None:
        return None
    if at > due:
        return Light.RED
    return Light.AMBER if amber is not None and at > amber else Light.GREEN
