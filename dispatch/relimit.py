"""Limits counted anew when something changed that they depend on: a limit, the calendar, a shift, the emergency, how
severe the incident is, which unit handles it. Openly: what was and what is stands in the incident's log.

Whoever changes such a thing changes only that; `limit_version` moves with it, and the dispatch role brings every open
incident up to it, in batches, whatever areas they lie in. What is handled keeps its limit: it was judged by it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from dispatch import docket, limit_store, store
from dispatch.action import perform
from dispatch.calendar import CalendarMissing
from dispatch.limits import Limit
from dispatch.model import SYSTEM, Action, ActionRefused, Happening, Incident, Inputs, JsonObject, OperatorNeed
from dispatch.shape import text_of
from kernel.db import Connection
from kernel.types import LimitUnit

log = logging.getLogger(__name__)
_SEEN = "%(version)s || ':' || i.severity || ':' || i.condition || ':' || coalesce(u.code, '')"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Counted:
    """What the limit of an open incident was counted from. `base` is the rule's value, `value` with extensions."""

    id: UUID
    severity: int
    condition: str
    department: str
    limit_from: datetime
    base: float
    value: float
    unit: str
    rule: str
    due_at: datetime
    amber_at: datetime | None


def recount(connection: Connection, now: datetime, limit: int = 100) -> int:
    """Count anew what is not up to date, up to `limit` incidents, in this transaction; how many were looked at.

    An incident that somebody else holds, or whose clock stands, is left for later.
    """
    version = limit_store.read_version(connection)
    found = _lock_outdated(connection, version, limit)
    for counted in found:
        seen = limit_store.see_limit(version, counted.severity, counted.condition, counted.department)
        incident = store.lock_incident(connection, counted.id)
        assert incident is not None  # locked a moment ago
        _recount(connection, incident, counted, seen, now)
    return len(found) + _file_waiting(connection, version, now, limit)


def _lock_outdated(connection: Connection, version: UUID, limit: int) -> list[_Counted]:
    query = f"""
        SELECT i.id, i.severity, i.condition, coalesce(u.code, '') AS department, i.limit_from, i.limit_base AS base,
               i.limit_value AS value, i.limit_unit AS unit, i.limit_rule AS rule, i.due_at, i.amber_at
        FROM incident i LEFT JOIN unit u ON u.id = i.unit_id AND i.unit_state <> 'refused'
        WHERE i.state IN ('filed', 'dispatched', 'accepted', 'on_site') AND i.suspended_at IS NULL
          AND i.limit_from IS NOT NULL AND i.limit_base > 0 AND i.due_at IS NOT NULL
          AND i.limit_seen IS DISTINCT FROM {_SEEN}
        ORDER BY i.id LIMIT %(limit)s FOR UPDATE OF i SKIP LOCKED
    """
    with connection.cursor(row_factory=class_row(_Counted)) as cursor:
        return cursor.execute(query, {"version": str(version), "limit": limit}).fetchall()


def _recount(connection: Connection, incident: Incident, old: _Counted, seen: str, now: datetime) -> None:
    rule = limit_store.find_limit(connection, incident.category, old.condition, old.severity)
    # An extension is a share of the limit: of a limit half as long it adds half as much.
    new = Limit(value=rule.value * (old.value / old.base), unit=rule.unit, rule=rule.rule)
    try:
        pauses = docket.read_pauses(connection, old.id)
        counted = limit_store.count_limit(connection, old.limit_from, new.value, new.unit, pauses, old.department)
    except CalendarMissing as error:
        log.warning("limit stays as it was: %s", error, extra={"incident_id": old.id})
        store.write_incident(connection, old.id, incident.version, {"limit_seen": seen})
        return
    columns = {
        "limit_base": rule.value, "limit_value": new.value, "limit_unit": new.unit, "limit_rule": new.rule,
        "limit_seen": seen, "escalate_at": None, **counted,
    }  # fmt: skip
    before = _tell(old.value, old.unit, old.rule, old.due_at)
    after = _tell(new.value, new.unit, new.rule, counted["due_at"])
    if before == after:
        store.write_incident(connection, old.id, incident.version, columns)
        return
    version = incident.version + 1
    store.write_incident(connection, old.id, version, columns)
    store.log_event(
        connection, incident, action=Happening.LIMIT_CHANGED, from_state=incident.state, to_state=incident.state,
        actor=SYSTEM, version=version, now=now, detail={"old": before, "new": after},
    )  # fmt: skip
    store.note_incident(connection, incident, (incident.assignee_id,), now)


def _tell(value: float, unit: str, rule: str, due_at: datetime) -> JsonObject:
    told: dict[str, Any] = {"value": value, "unit": LimitUnit(unit).value, "rule": rule, "due_at": text_of(due_at)}
    return told


def _file_waiting(connection: Connection, version: UUID, now: datetime, limit: int) -> int:
    """File what waits for a calendar, when one has come."""
    waiting = store.lock_due_incidents(
        connection,
        "i.state = 'reported' AND i.needs_operator = %(need)s AND i.limit_seen IS DISTINCT FROM %(version)s",
        {"need": OperatorNeed.NO_CALENDAR, "version": str(version)},
        limit,
    )
    for incident in waiting:
        try:
            perform(connection, incident, Action.FILE, SYSTEM, Inputs(), now)
        except ActionRefused:
            store.write_incident(connection, incident.id, incident.version, {"limit_seen": str(version)})
    return len(waiting)
