"""A year's table of days from a CSV file into the database: checked first, all of it or nothing.

One line a day, `date,kind,name`: `2026-02-14,workday,春节调休`. `kind` is workday (班) or rest (休). Only days that differ
from the week, or that the notice names, need a line; all others are Monday to Friday work, Saturday and Sunday rest.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from dispatch.calendar import DEFAULT_SHIFT, ShiftPlan, WorkCalendar, check_shifts, days_of
from dispatch.model import JsonObject
from kernel.audit import write_audit
from kernel.db import Connection

_KINDS = {"workday": True, "班": True, "rest": False, "休": False}
_MOST_LINES = 400
_SOON_DAYS = 60


class CalendarError(ValueError):
    """A file or a shift that cannot be taken; the text says every line's problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarDay:
    """One named day."""

    day: date
    is_workday: bool
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarYear:
    """A year as the database has it. `swapped`: workdays on weekends; `rest`: days off that are no weekend."""

    year: int
    source: str
    workdays: int
    swapped: tuple[date, ...]
    rest: tuple[date, ...]


def parse_days(text: str, year: int) -> list[CalendarDay]:
    """The days of a year's CSV (with or without its heading), ascending.

    Raises CalendarError: another year, a double day, an unknown kind, a workday that is one anyway (a slip of the date is
    likelier than an idle line), no line at all.
    """
    problems: list[str] = []
    found: dict[date, CalendarDay] = {}
    lines = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"))) if any(cell.strip() for cell in row)]
    if lines and lines[0][0].strip().lower() in ("date", "日期"):
        del lines[0]
    if not 0 < len(lines) <= _MOST_LINES:
        raise CalendarError(f"{len(lines)} days: between 1 and {_MOST_LINES} are expected")
    for number, row in enumerate(lines, 1):
        cells = [cell.strip() for cell in row] + ["", ""]
        try:
            day, is_workday = date.fromisoformat(cells[0]), _KINDS[cells[1].lower()]
        except ValueError:
            problems.append(f"line {number}: {cells[0]!r} is no date (yyyy-mm-dd)")
            continue
        except KeyError:
            problems.append(f"line {number}: {cells[1]!r} is no kind (workday or rest)")
            continue
        if day.year != year:
            problems.append(f"line {number}: {day} is not of {year}")
        elif day in found:
            problems.append(f"line {number}: {day} is there twice")
        elif is_workday and day.weekday() < 5:
            problems.append(f"line {number}: {day} is a workday anyway")
        found[day] = CalendarDay(day=day, is_workday=is_workday, name=cells[2])
    if problems:
        raise CalendarError("; ".join(problems))
    return [found[day] for day in sorted(found)]


def write_year(
    connection: Connection, year: int, days: Sequence[CalendarDay], *, source: str, by: str, now: datetime
) -> bool:
    """Put a year's table in place of what is there; whether there was one. Open incidents: see `dispatch.relimit`."""
    _take_turns(connection)
    replaced = connection.execute("DELETE FROM calendar_year WHERE year = %s", (year,)).rowcount > 0
    connection.execute(
        "INSERT INTO calendar_year (year, source, changed_at, changed_by) VALUES (%s, %s, %s, %s)",
        (year, source, now, by),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO calendar_day (day, kind, name) VALUES (%s, %s, %s)",
            [(day.day, "workday" if day.is_workday else "rest", day.name) for day in days],
        )
    detail = {"source": source, "days": len(days), "replaced": replaced}
    write_audit(connection, now, actor=by, action="calendar_imported", subject=str(year), detail=detail)
    return replaced


def add_plain_years(connection: Connection, now: datetime, source: str) -> list[int]:
    """Give this year and the next, where they have no table, one of plain weeks: for simulated cities, which have no
    holidays. Which were added."""
    rows = connection.execute(
        "INSERT INTO calendar_year (year, source, changed_at, changed_by) SELECT y, %s, %s, %s"
        " FROM unnest(%s::int[]) y ON CONFLICT DO NOTHING RETURNING year",
        (source, now, source, [now.year, now.year + 1]),
    ).fetchall()
    return [year for (year,) in rows]


def write_shift(
    connection: Connection,
    department: str,
    from_day: date,
    periods: Sequence[tuple[int, int]] = DEFAULT_SHIFT,
    *,
    by: str,
    now: datetime,
) -> None:
    """Set a department's periods of work from a day on, in minutes of the day.

    Raises dispatch.calendar.ShiftError.
    """
    ordered = tuple(sorted(periods))
    check_shifts([ShiftPlan(from_day=from_day, periods=ordered)])
    _take_turns(connection)
    connection.execute("DELETE FROM work_shift WHERE department = %s AND from_day = %s", (department, from_day))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO work_shift (department, from_day, begins_min, ends_min) VALUES (%s, %s, %s, %s)",
            [(department, from_day, *period) for period in ordered],
        )
    detail = {"department": department, "from_day": str(from_day), "periods": ordered}
    write_audit(connection, now, actor=by, action="shift_set", subject=department, detail=detail)


def _take_turns(connection: Connection) -> None:
    """Whoever puts something in place of something else waits for whoever is at it."""
    connection.execute("SELECT FROM limit_version FOR UPDATE")


def read_shifts(connection: Connection) -> list[JsonObject]:
    """Every department's periods of work, in minutes of the day, by department and first day."""
    rows = connection.execute(
        "SELECT department, from_day, array_agg(ARRAY[begins_min, ends_min] ORDER BY begins_min) FROM work_shift"
        " GROUP BY department, from_day ORDER BY department, from_day"
    ).fetchall()
    return [{"department": name, "from_day": str(day), "periods": periods} for name, day, periods in rows]


def read_years(connection: Connection) -> list[CalendarYear]:
    """Every year that has a table."""
    years = connection.execute("SELECT year, source FROM calendar_year ORDER BY year").fetchall()
    days: dict[date, bool] = dict(connection.execute("SELECT day, kind = 'workday' FROM calendar_day").fetchall())
    calendar = WorkCalendar(frozenset(year for year, _ in years), days)
    return [
        CalendarYear(
            year=year,
            source=source,
            workdays=sum(map(calendar.is_workday, days_of(year))),
            swapped=tuple(d for d in sorted(days) if d.year == year and days[d] and d.weekday() >= 5),
            rest=tuple(d for d in sorted(days) if d.year == year and not days[d] and d.weekday() < 5),
        )
        for year, source in years
    ]


def missing_years(known: Sequence[int], today: date) -> list[int]:
    """Which years a limit that begins today or within sixty days may need and have no table."""
    wanted = {today.year, date.fromordinal(today.toordinal() + _SOON_DAYS).year}
    return sorted(wanted - set(known))
