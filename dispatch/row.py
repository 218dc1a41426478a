"""The SQL that reads rows of incidents, locked or not. Writing them is in dispatch/store.py.

Who holds an incident waits for another one only in the order of their causes (dispatch.intake). Every other second lock
is taken at once or not at all, so that nobody waits in a circle.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from dispatch.model import Incident, WaitingReport
from dispatch.transition import Standing
from kernel.db import Connection
from kernel.types import IncidentState

_FINDINGS_LOCK = 4_715_201

_INCIDENT = """
    SELECT i.id, i.number, i.category, i.severity, i.state, i.cell_code, i.area_code, i.place, i.lon, i.lat, i.opened_at,
           i.filed_at, i.handled_at, i.ended_at, i.due_at, i.assignee_id, i.offered_at, i.handler_id, i.needs_operator,
           i.acknowledged_at, i.version, i.dedup_key, i.limit_from, i.verifier_id, i.suspended_at, i.suspended_until,
           i.suspensions, i.extension_asked, i.extensions, i.supervision, i.level, i.appeal, i.parent_id, i.merged_into,
           i.limit_value AS counted_value, i.limit_unit AS counted_unit,
           EXISTS (SELECT FROM incident k WHERE k.parent_id = i.id) AS has_children,
           EXISTS (SELECT FROM incident k WHERE k.parent_id = i.id AND k.state NOT IN ('closed', 'void')) AS has_open_children,
           c.auto_dispatch, c.named_person, c.check_kinds, c.limit_value, c.limit_unit, c.name_zh, c.name_en
    FROM incident i JOIN category c ON c.id = i.category
"""


def lock_incident(connection: Connection, incident_id: UUID) -> Incident | None:
    """The incident, locked until the transaction ends; None when there is none in the transaction's scope."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(_INCIDENT + " WHERE i.id = %s FOR UPDATE OF i", (incident_id,)).fetchone()
    return _typed(found) if found else None


def find_incident(connection: Connection, incident_id: UUID) -> Incident | None:
    """The incident without a lock, for looking only."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(_INCIDENT + " WHERE i.id = %s", (incident_id,)).fetchone()
    return _typed(found) if found else None


def lock_open_incident(connection: Connection, dedup_key: str) -> Incident | None:
    """The open incident of this cause, locked; None when there is none."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(
            _INCIDENT + " WHERE i.dedup_key = %s AND i.state NOT IN ('closed', 'void') FOR UPDATE OF i", (dedup_key,)
        ).fetchone()
    return _typed(found) if found else None


def lock_closed_incident(connection: Connection, dedup_key: str, occurred_at: datetime) -> Incident | None:
    """The newest closed incident of this cause if what occurred at `occurred_at` came before its handling; locked."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(
            _INCIDENT
            + " WHERE i.dedup_key = %s AND i.state = 'closed' ORDER BY i.ended_at DESC LIMIT 1 FOR UPDATE OF i",
            (dedup_key,),
        ).fetchone()
    if found is None or found.handled_at is None or not found.opened_at <= occurred_at < found.handled_at:
        return None
    return _typed(found)


def lock_due_incidents(connection: Connection, where: str, parameters: Mapping[str, Any], limit: int) -> list[Incident]:
    """Incidents for which `where` holds (over i, c and the assignee a), the most urgent first.

    Locked; those that somebody else holds are left for the next time.
    """
    query = (
        _INCIDENT.replace("FROM incident i", "FROM incident i LEFT JOIN app_user a ON a.id = i.assignee_id")
        + f" WHERE {where} ORDER BY i.severity, i.opened_at, i.id LIMIT %(limit)s FOR UPDATE OF i SKIP LOCKED"
    )
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(query, {**parameters, "limit": limit}).fetchall()
    return [_typed(row) for row in found]


def _typed(row: Incident) -> Incident:
    """The row with its state as the enumeration: psycopg gives text."""
    return replace(row, state=IncidentState(row.state))


def read_standing(connection: Connection, incident: Incident) -> Standing:
    """Who is what to the incident. By the log and not by `handler_id`: after rework another may have handled it last."""
    rows = connection.execute(
        """
        SELECT 'handler', actor_id FROM incident_event WHERE incident_id = %(id)s AND action = 'handle'
        UNION SELECT 'handler', m.user_id FROM incident u JOIN unit_member m USING (unit_id)
            WHERE u.id = %(id)s AND u.unit_state = 'accepted'  -- 监管分离: a whole unit has handled it, none of it checks
        UNION SELECT 'reporter', reporter_id FROM report WHERE incident_id = %(id)s
        UNION SELECT 'summoned', user_id FROM summons WHERE incident_id = %(id)s
        """,
        {"id": incident.id},
    ).fetchall()
    found: dict[str, set[UUID]] = {"handler": set(), "reporter": set(), "summoned": set()}
    for what, user_id in rows:
        if user_id is not None:
            found[what].add(user_id)
    return Standing(
        assignee_id=incident.assignee_id,
        verifier_id=incident.verifier_id,
        handlers=frozenset(found["handler"]),
        reporters=frozenset(found["reporter"]),
        summoned=frozenset(found["summoned"]),
    )


def lock_other(connection: Connection, incident_id: UUID) -> Incident | None:
    """A second incident beside one that is held: locked at once, None when there is none in scope.

    Raises psycopg.errors.LockNotAvailable when somebody else holds it: whoever asked asks again.
    """
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(_INCIDENT + " WHERE i.id = %s FOR UPDATE OF i NOWAIT", (incident_id,)).fetchone()
    return _typed(found) if found else None


def take_incident(connection: Connection, incident_id: UUID) -> Incident | None:
    """The incident, locked; None when somebody else holds it or there is none."""
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(_INCIDENT + " WHERE i.id = %s FOR UPDATE OF i SKIP LOCKED", (incident_id,)).fetchone()
    return _typed(found) if found else None


def lock_merged_target(connection: Connection, dedup_key: str) -> Incident | None:
    """The open incident in which the newest one of this cause was merged, locked; None when there is none.

    Raises psycopg.errors.LockNotAvailable when somebody else holds it.
    """
    row = connection.execute(
        "SELECT merged_into FROM incident WHERE dedup_key = %s AND merged_into IS NOT NULL ORDER BY ended_at DESC LIMIT 1",
        (dedup_key,),
    ).fetchone()
    target = lock_other(connection, row[0]) if row else None
    return target if target is not None and target.state not in (IncidentState.CLOSED, IncidentState.VOID) else None


# ------------------------------------------------------------------------------------------------ findings of cameras


def wait_for_categories(connection: Connection, categories: Iterable[str]) -> None:
    """Let those who open incidents for cameras' findings of these categories do so one after the other.

    Before any incident is locked, and in one order: whoever waits here holds nothing that another one here waits for.
    """
    for category in sorted(set(categories)):
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_FINDINGS_LOCK, category))


def lock_open_findings(connection: Connection, category: str, lon: float, lat: float, reach_m: float) -> list[Incident]:
    """Open incidents of the category about as near as `reach_m` that a camera's placed zone reported, locked."""
    lat_reach = reach_m / 110_000
    lon_reach = lat_reach / max(0.05, math.cos(math.radians(lat)))
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(
            _INCIDENT
            + """
            WHERE i.category = %(category)s AND i.state NOT IN ('closed', 'void')
              AND i.lat BETWEEN %(lat)s - %(lat_reach)s AND %(lat)s + %(lat_reach)s
              AND i.lon BETWEEN %(lon)s - %(lon_reach)s AND %(lon)s + %(lon_reach)s
              AND EXISTS (SELECT FROM report r WHERE r.incident_id = i.id AND r.source = 'camera'
                          AND r.detail @> '{"placed": true}')
            ORDER BY i.id LIMIT 20 FOR UPDATE OF i NOWAIT
            """,
            {"category": category, "lon": lon, "lat": lat, "lon_reach": lon_reach, "lat_reach": lat_reach},
        ).fetchall()
    return [_typed(row) for row in found]


def lock_closed_findings(
    connection: Connection, report: WaitingReport, since: datetime
) -> list[tuple[Incident, list[list[float]]]]:
    """Incidents closed since then that the same camera's rule reported for the same zone, locked, the newest first;
    with the boxes of those reports."""
    which = {"device": report.device_id, "rule": report.rule, "zone": report.zone}
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        found = cursor.execute(
            _INCIDENT
            + """
            WHERE i.category = %(category)s AND i.state = 'closed' AND i.ended_at >= %(since)s AND NOT c.named_person
              AND EXISTS (SELECT FROM report r WHERE r.incident_id = i.id AND r.source = 'camera'
                          AND r.device_id = %(device)s AND r.rule = %(rule)s AND r.zone = %(zone)s)
            ORDER BY i.ended_at DESC LIMIT 5 FOR UPDATE OF i NOWAIT
            """,
            {**which, "category": report.category, "since": since},
        ).fetchall()
    result = []
    for row in found:
        boxes = connection.execute(
            "SELECT detail -> 'box' FROM report WHERE incident_id = %(id)s AND device_id = %(device)s"
            " AND rule = %(rule)s AND zone = %(zone)s AND jsonb_typeof(detail -> 'box') = 'array' LIMIT 100",
            {**which, "id": row.id},
        ).fetchall()
        result.append((_typed(row), [box for (box,) in boxes]))
    return result
