"""How an incident reads as JSON: one shape everywhere, for lists, the live wall, phones and answers to actions."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row

from dispatch.calendar import WorkCalendar
from dispatch.dossier import read_dossier
from dispatch.limit_store import read_calendar
from dispatch.limits import stand_light
from dispatch.model import Actor, IncidentView
from dispatch.policy import clock_stands_at
from dispatch.prediction import Expectation, Key, breach_risk
from dispatch.prediction_store import read_expectations
from dispatch.shape import Row, person_of
from dispatch.shape import text_of as text_of
from kernel.db import Connection
from kernel.types import LimitUnit

_LIST = """
    SELECT i.id, i.map_id, i.number, i.version, i.state, i.category, i.severity, i.lon, i.lat, i.cell_code, i.area_code,
           i.place, i.opened_at, i.filed_at, i.handled_at, i.ended_at, i.limit_from, i.due_at, i.acknowledged_at,
           i.condition, i.limit_value, i.limit_unit, i.limit_rule, i.amber_at,
           i.report_count, i.offered_at, i.needs_operator, i.proposal, i.assignee_id, i.handler_id,
           i.suspended_at, i.suspended_until, i.supervision, i.level, i.appeal, i.extension_asked, i.extensions,
           i.parent_id, i.merged_into, i.split_from, i.verifier_id, v.display_name AS verifier_name,
           a.display_name AS assignee_name, h.display_name AS handler_name,
           CASE WHEN s.valid_from <= i.opened_at THEN s.name ELSE gw_area_name(left(i.area_code, 9), i.opened_at) END AS street,
           CASE WHEN m.valid_from <= i.opened_at THEN m.name ELSE gw_area_name(i.area_code, i.opened_at) END AS community,
           CASE WHEN k.valid_from <= i.opened_at AND k.responsibility_grid_code IS NULL THEN NULL
               WHEN k.valid_from <= i.opened_at AND g.valid_from <= i.opened_at THEN g.name
               ELSE gw_area_name(gw_cell_grid(i.cell_code, i.opened_at), i.opened_at) END AS grid, i.cover_id AS cover
    FROM incident i
    LEFT JOIN app_user a ON a.id = i.assignee_id LEFT JOIN app_user h ON h.id = i.handler_id
    LEFT JOIN app_user v ON v.id = i.verifier_id
    LEFT JOIN area m ON m.code = i.area_code LEFT JOIN area s ON s.code = m.parent_code
    LEFT JOIN grid_cell k ON k.code = i.cell_code LEFT JOIN area g ON g.code = k.responsibility_grid_code
"""
_WHICH = {
    "open": "i.state NOT IN ('closed', 'void')",
    "closed": "i.state IN ('closed', 'void')",
    "all": "true",
}


def read_incidents(
    connection: Connection,
    *,
    now: datetime,
    ids: Sequence[UUID] | None = None,
    state: str = "open",
    assignee_id: UUID | None = None,
    before: UUID | None = None,
    limit: int | None = None,
    words: str = "",
) -> list[IncidentView]:
    """Incidents that the transaction's scope may see, the newest first.

    With `ids` those (of any state; unknown ones are left out), else those of `state` ("open", "closed", "all"), of one
    assignee if given, opened before the incident `before`, with `words` in number, place or category. `now` decides the
    lights.
    Raises KeyError for another `state`.
    """
    conditions = ["i.id = ANY (%(ids)s)"] if ids is not None else [_WHICH[state]]
    if assignee_id is not None:
        conditions.append("i.assignee_id = %(assignee)s")
    if before is not None:
        conditions.append("i.id < %(before)s")
    if words:
        conditions.append(
            "(i.number LIKE %(words)s OR i.place ILIKE %(words)s OR i.category IN"
            " (SELECT id FROM category WHERE name_zh LIKE %(words)s OR name_en ILIKE %(words)s))"
        )
    query = f"{_LIST} WHERE {' AND '.join(conditions)} ORDER BY i.id DESC LIMIT %(limit)s"
    parameters = {
        "ids": list(ids) if ids is not None else None,
        "assignee": assignee_id,
        "before": before,
        "limit": limit,
        "words": "%" + re.sub(r"([\\%_])", r"\\\1", words) + "%",
    }
    categories = _read_categories(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, parameters).fetchall()
    expected = read_expectations(connection)
    calendar = read_calendar(connection) if expected else None
    return [
        {**_present(row, categories, now), "breach_risk": _predict(row, expected, calendar, now) if calendar else None}
        for row in rows
    ]


def read_page(
    connection: Connection,
    *,
    now: datetime,
    state: str,
    assignee_id: UUID | None,
    before: UUID | None,
    limit: int,
    words: str = "",
) -> tuple[list[IncidentView], UUID | None]:
    """A page of `read_incidents`, and the `before` of the next one or None at the end."""
    found = read_incidents(
        connection, now=now, state=state, assignee_id=assignee_id, before=before, limit=limit + 1, words=words
    )
    page = found[:limit]
    return page, UUID(page[-1]["id"]) if len(found) > limit else None


def read_incident(
    connection: Connection, incident_id: UUID, *, now: datetime, actor: Actor | None = None
) -> IncidentView | None:
    """One incident in full; `actions` are what `actor` may do now. None when the scope of the transaction hides it."""
    found = read_incidents(connection, now=now, ids=[incident_id])
    if not found:
        return None
    view = found[0]
    return view | read_dossier(connection, incident_id, now, actor)


def _read_categories(connection: Connection) -> dict[str, Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id, name_zh AS zh, name_en AS en, code, standard, named_person, check_kinds FROM category"
        ).fetchall()
    return {row["id"]: row for row in rows}


def _present(row: Row, categories: dict[str, Row], now: datetime) -> IncidentView:
    stopped = clock_stands_at(row["state"], row["handled_at"], row["ended_at"], row["suspended_at"])
    lamp = stand_light(row["amber_at"], row["due_at"], stopped or now)
    return {
        "id": str(row["id"]),
        "map_id": row["map_id"],
        "number": row["number"],
        "version": row["version"],
        "state": row["state"],
        "category": categories[row["category"]],
        "severity": row["severity"],
        "lon": row["lon"],
        "lat": row["lat"],
        "cell_code": row["cell_code"],
        "area_code": row["area_code"],
        "place": row["place"],
        "area": {"street": row["street"] or "", "community": row["community"] or "", "grid": row["grid"] or ""},
        "opened_at": text_of(row["opened_at"]),
        "filed_at": text_of(row["filed_at"]),
        "handled_at": text_of(row["handled_at"]),
        "ended_at": text_of(row["ended_at"]),
        "limit_from": text_of(row["limit_from"]),
        "due_at": text_of(row["due_at"]),
        "amber_at": text_of(row["amber_at"]),
        "limit": _present_limit(row),
        "acknowledged_at": text_of(row["acknowledged_at"]),
        "light": lamp.value if lamp else None,
        "report_count": row["report_count"],
        "assignee": person_of(row["assignee_id"], row["assignee_name"]),
        "handler": person_of(row["handler_id"], row["handler_name"]),
        "offered_at": text_of(row["offered_at"]),
        "needs_operator": row["needs_operator"],
        "proposal": row["proposal"],
        "cover": text_of(row["cover"]),
        "suspended_at": text_of(row["suspended_at"]),
        "suspended_until": text_of(row["suspended_until"]),
        "supervision": row["supervision"],
        "level": row["level"],
        "appeal": row["appeal"],
        "extension_asked": row["extension_asked"],
        "extensions": row["extensions"],
        "verifier": person_of(row["verifier_id"], row["verifier_name"]),
        "parent_id": text_of(row["parent_id"]),
        "merged_into": text_of(row["merged_into"]),
        "split_from": text_of(row["split_from"]),
    }


def _predict(row: Row, expected: Mapping[Key, Expectation], calendar: WorkCalendar, now: datetime) -> float | None:
    """How likely the limit is to be missed; None where none runs or nothing can be said."""
    if row["state"] in ("handled", "closed", "void") or row["due_at"] is None or row["limit_unit"] is None:
        return None
    risk = breach_risk(
        expected, category=row["category"], limit_from=row["limit_from"], due_at=row["due_at"],
        now=row["suspended_at"] or now, value=row["limit_value"], unit=LimitUnit(row["limit_unit"]), calendar=calendar,
    )  # fmt: skip
    return None if risk is None else round(risk, 2)


def _present_limit(row: Row) -> Row | None:
    if row["limit_value"] is None:
        return None
    names = {"value": "limit_value", "unit": "limit_unit", "rule": "limit_rule", "condition": "condition"}
    return {name: row[column] for name, column in names.items()}
