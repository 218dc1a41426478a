"""The SQL of time limits: the calendar, the rules that give limits, the emergency that swaps them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from dispatch import limits
from dispatch.calendar import Pause, ShiftPlan, WorkCalendar
from dispatch.limits import Limit
from dispatch.model import ActionRefused, Incident
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.types import LimitUnit

NORMAL = "normal"
NO_LIMIT: dict[str, Any] = {
    "limit_from": None, "limit_base": None, "limit_value": None, "limit_unit": None, "limit_rule": "", "due_at": None,
    "amber_at": None,
}  # fmt: skip
"""The columns of an incident whose filing was taken back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitRule:
    """A limit as it is set. `condition` "" and `severity` 0 stand for any; `set_name` is "normal" or an emergency's name."""

    category: str
    condition: str
    severity: int
    set_name: str
    value: float
    unit: LimitUnit
    source: str


# ------------------------------------------------------------------------------------------------ the calendar


def read_calendar(connection: Connection, department: str = "") -> WorkCalendar:
    """The calendar as it is now, with the shifts of a department (its code), or everybody's where it has none.

    Read anew only when it was changed: ask as often as you like.
    """
    key = (read_version(connection), department)
    kept = _kept.get(key)
    if kept is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        kept = _kept[key] = _load_calendar(connection, department)
    return kept


def read_version(connection: Connection) -> UUID:
    """Moves with every change of the calendar, the shifts, the limits and the emergency."""
    row = connection.execute("SELECT id FROM limit_version").fetchone()
    assert row is not None  # the migration wrote it
    return UUID(str(row[0]))


_MOST_KEPT = 200
_kept: dict[tuple[UUID, str], WorkCalendar] = {}  # a version's calendar never changes; a double reading is harmless


def _load_calendar(connection: Connection, department: str) -> WorkCalendar:
    years = connection.execute("SELECT year FROM calendar_year").fetchall()
    days = connection.execute("SELECT day, kind = 'workday' FROM calendar_day").fetchall()
    rows = connection.execute(
        "SELECT from_day, begins_min, ends_min FROM work_shift WHERE department = %(own)s OR department = ''"
        " AND NOT EXISTS (SELECT FROM work_shift WHERE department = %(own)s) ORDER BY from_day, begins_min",
        {"own": department},
    ).fetchall()
    plans = {from_day: [(a, b) for day, a, b in rows if day == from_day] for from_day, _, _ in rows}
    shifts = [ShiftPlan(from_day=from_day, periods=tuple(periods)) for from_day, periods in plans.items()]
    known = frozenset(year for (year,) in years)
    return WorkCalendar(known, dict(days), shifts) if shifts else WorkCalendar(known, dict(days))


def read_department(connection: Connection, incident_id: UUID) -> str:
    """The code of the unit that handles the incident, whose shifts count; "" for none."""
    row = connection.execute(
        "SELECT u.code FROM incident i JOIN unit u ON u.id = i.unit_id WHERE i.id = %s AND i.unit_state <> 'refused'",
        (incident_id,),
    ).fetchone()
    return str(row[0]) if row else ""


# ------------------------------------------------------------------------------------------------ which limit


def find_limit(connection: Connection, category: str, condition: str = "", severity: int = 0) -> Limit:
    """The limit that holds now for such an incident.

    The set of the emergency that lasts goes before the normal one, then what names the condition, then what names the
    severity, then the category's own. Raises KeyError for an unknown category.
    """
    row = connection.execute(
        """
        SELECT value, unit, concat_ws(' · ', nullif(set_name, 'normal'), nullif(condition, ''),
                                      'severity ' || nullif(severity, 0), source)
        FROM (SELECT set_name, condition, severity, value, unit, source FROM limit_rule
              WHERE category = %(category)s AND condition IN ('', %(condition)s) AND severity IN (0, %(severity)s)
                AND (set_name = 'normal' OR set_name = (SELECT name FROM emergency_mode WHERE left_at IS NULL))
              UNION ALL SELECT 'normal', '', 0, limit_value, limit_unit, limit_source FROM category
              WHERE id = %(category)s) AS rule
        ORDER BY set_name = 'normal', condition = '', severity = 0 LIMIT 1
        """,
        {"category": category, "condition": condition, "severity": severity},
    ).fetchone()
    if row is None:
        raise KeyError(category)
    return Limit(value=row[0], unit=LimitUnit(row[1]), rule=row[2])


def start_limit(
    connection: Connection, incident: Incident, limit_from: datetime, condition: str = "", department: str = ""
) -> dict[str, Any]:
    """The columns of an incident whose limit begins now. `condition` is the filing's, "" the one that is there already;
    `department` (a unit's code) says whose shifts count.

    Raises CalendarMissing.
    """
    row = connection.execute("SELECT condition FROM incident WHERE id = %s", (incident.id,)).fetchone()
    condition = condition.strip() or (row[0] if row else "")
    version = read_version(connection)  # first: what changes while this is read is seen as changed afterwards
    limit = find_limit(connection, incident.category, condition, incident.severity)
    return {
        "condition": condition,
        "limit_from": limit_from,
        "limit_base": limit.value,
        "limit_value": limit.value,
        "limit_unit": limit.unit,
        "limit_rule": limit.rule,
        "limit_seen": see_limit(version, incident.severity, condition, department),
        **count_limit(connection, limit_from, limit.value, limit.unit, (), department),
    }


def count_limit(
    connection: Connection,
    limit_from: datetime,
    value: float,
    unit: LimitUnit,
    pauses: Iterable[Pause] = (),
    department: str = "",
) -> dict[str, Any]:
    """The columns due_at and amber_at of a limit of so much, extensions included, with the pauses that have ended.

    Raises CalendarMissing.
    """
    ended = tuple(pauses)
    calendar = read_calendar(connection, department) if Limit(value=value, unit=unit).is_working else None
    return {
        "due_at": limits.due_at(limit_from, value, unit, calendar, ended),
        "amber_at": limits.amber_at(limit_from, value, unit, calendar, ended),
    }


def see_limit(version: UUID, severity: int, condition: str, department: str) -> str:
    """What a limit was counted with, as kept in incident.limit_seen: another text there means to count it anew."""
    return f"{version}:{severity}:{condition}:{department}"


# ------------------------------------------------------------------------------------------------ rules


def read_rules(connection: Connection) -> list[LimitRule]:
    """Every limit, the categories' own ones included, by category and set."""
    with connection.cursor(row_factory=class_row(LimitRule)) as cursor:
        return cursor.execute(
            "SELECT * FROM (SELECT category, condition, severity, set_name, value, unit, source FROM limit_rule"
            " UNION ALL SELECT id, '', 0, 'normal', limit_value, limit_unit, limit_source FROM category) AS every"
            " ORDER BY category, set_name <> 'normal', set_name, condition, severity"
        ).fetchall()


def write_rule(connection: Connection, rule: LimitRule, by: str, now: datetime) -> None:
    """Set a limit, and write into the audit what it was. The dispatch role counts open incidents anew (dispatch.relimit).

    Raises ActionRefused: bad_limit, unknown_category.
    """
    if not 0 < rule.value < 100_000 or not rule.set_name or not 0 <= rule.severity <= 4:
        raise ActionRefused("bad_limit", value=rule.value, unit=rule.unit, severity=rule.severity)
    if connection.execute("SELECT FROM category WHERE id = %s FOR UPDATE", (rule.category,)).fetchone() is None:
        raise ActionRefused("unknown_category", category=rule.category)
    old = next((one for one in read_rules(connection) if _place_of(one) == _place_of(rule)), None)
    detail = {"old": asdict(old) if old else None, "new": asdict(rule)}
    write_audit(connection, now, actor=by, action="limit_set", subject=rule.category, detail=detail)
    if not rule.condition and not rule.severity and rule.set_name == NORMAL:
        connection.execute(
            "UPDATE category SET limit_value = %s, limit_unit = %s, limit_source = %s WHERE id = %s",
            (rule.value, rule.unit, rule.source, rule.category),
        )
        return
    connection.execute(
        """
        INSERT INTO limit_rule (category, condition, severity, set_name, value, unit, source, changed_at, changed_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (category, condition, severity, set_name) DO UPDATE SET value = excluded.value, unit = excluded.unit,
            source = excluded.source, changed_at = excluded.changed_at, changed_by = excluded.changed_by
        """,
        (
            rule.category, rule.condition, rule.severity, rule.set_name, rule.value, rule.unit, rule.source, now, by,
        ),
    )  # fmt: skip


def delete_rule(connection: Connection, rule: LimitRule, by: str, now: datetime) -> None:
    """Take a narrower limit away; its value, unit and source say nothing here. The category's own cannot go.

    Raises ActionRefused: unknown_limit.
    """
    row = connection.execute(
        "DELETE FROM limit_rule WHERE category = %s AND condition = %s AND severity = %s AND set_name = %s"
        " RETURNING value, unit, source",
        _place_of(rule),
    ).fetchone()
    if row is None:
        raise ActionRefused("unknown_limit", category=rule.category)
    old = asdict(replace(rule, value=row[0], unit=LimitUnit(row[1]), source=row[2]))
    write_audit(connection, now, actor=by, action="limit_set", subject=rule.category, detail={"old": old, "new": None})


def _place_of(rule: LimitRule) -> tuple[str, str, int, str]:
    return rule.category, rule.condition, rule.severity, rule.set_name
