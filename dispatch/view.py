"""How an incident reads as JSON: one shape everywhere, for lists, the live wall, phones and answers to actions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from dispatch.model import Actor, IncidentView
from dispatch.policy import allowed_actions, light
from kernel.db import Connection
from kernel.types import IncidentState

Row = dict[str, Any]

_LIST = """
    SELECT i.id, i.map_id, i.number, i.version, i.state, i.category, i.severity, i.lon, i.lat, i.cell_code, i.area_code,
           i.place, i.opened_at, i.filed_at, i.handled_at, i.ended_at, i.limit_from, i.due_at, i.acknowledged_at,
           i.report_count, i.offered_at, i.needs_operator, i.proposal, i.assignee_id, i.handler_id,
           a.display_name AS assignee_name, h.display_name AS handler_name,
           s.name AS street, m.name AS community, g.name AS grid, i.cover_id AS cover
    FROM incident i
    LEFT JOIN app_user a ON a.id = i.assignee_id LEFT JOIN app_user h ON h.id = i.handler_id
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
) -> list[IncidentView]:
    """Incidents that the transaction's scope may see, the newest first.

    With `ids` those (of any state; unknown ones are left out), else those of `state` ("open", "closed", "all"), of one
    assignee if given, opened before the incident `before`. `now` decides the lights.
    Raises KeyError for another `state`.
    """
    conditions = ["i.id = ANY (%(ids)s)"] if ids is not None else [_WHICH[state]]
    if assignee_id is not None:
        conditions.append("i.assignee_id = %(assignee)s")
    if before is not None:
        conditions.append("i.id < %(before)s")
    query = f"{_LIST} WHERE {' AND '.join(conditions)} ORDER BY i.id DESC LIMIT %(limit)s"
    parameters = {
        "ids": list(ids) if ids is not None else None,
        "assignee": assignee_id,
        "before": before,
        "limit": limit,
    }
    categories = _read_categories(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, parameters).fetchall()
    return [_present(row, categories, now) for row in rows]


def read_page(
    connection: Connection,
    *,
    now: datetime,
    state: str,
    assignee_id: UUID | None,
    before: UUID | None,
    limit: int,
) -> tuple[list[IncidentView], UUID | None]:
    """A page of `read_incidents`, and the `before` of the next one or None at the end."""
    found = read_incidents(connection, now=now, state=state, assignee_id=assignee_id, before=before, limit=limit + 1)
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
    view["reports"] = _read_reports(connection, incident_id)
    view["events"] = _read_events(connection, incident_id)
    view["assignments"] = _read_assignments(connection, incident_id)
    view["checks"] = _read_checks(connection, incident_id)
    view["evidence"] = _read_evidence(connection, view)
    view["actions"] = _read_actions(connection, view, actor) if actor is not None else []
    return view


def read_handlers(connection: Connection, incident_id: UUID) -> set[UUID]:
    """Everybody who ever handled the incident: none of them checks it."""
    rows = connection.execute(
        "SELECT DISTINCT actor_id FROM incident_event WHERE incident_id = %s AND action = 'handle'", (incident_id,)
    ).fetchall()
    return {UUID(str(row[0])) for row in rows if row[0] is not None}


def text_of(value: Any) -> Any:
    """Instants as ISO 8601 in UTC with milliseconds, ids as text, the rest as it is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    return value


def _person(user_id: UUID | None, name: str | None) -> Row | None:
    return None if user_id is None else {"id": str(user_id), "name": name or ""}


def _read_categories(connection: Connection) -> dict[str, Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id, name_zh AS zh, name_en AS en, code, standard, named_person, check_kinds FROM category"
        ).fetchall()
    return {row["id"]: row for row in rows}


def _present(row: Row, categories: dict[str, Row], now: datetime) -> IncidentView:
    # The limit is one for handling: its clock stands while the check is awaited, and for ever at the end.
    stopped = (row["handled_at"] or row["ended_at"]) if row["state"] in ("handled", "closed", "void") else None
    lamp = light(row["limit_from"], row["due_at"], stopped or now)
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
        "acknowledged_at": text_of(row["acknowledged_at"]),
        "light": lamp.value if lamp else None,
        "report_count": row["report_count"],
        "assignee": _person(row["assignee_id"], row["assignee_name"]),
        "handler": _person(row["handler_id"], row["handler_name"]),
        "offered_at": text_of(row["offered_at"]),
        "needs_operator": row["needs_operator"],
        "proposal": row["proposal"],
        "cover": text_of(row["cover"]),
    }


def _rows(connection: Connection, query: str, incident_id: UUID) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, {"id": incident_id}).fetchall()


def _read_reports(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT r.id, r.source, r.device_id, d.code, d.name, d.kind, r.rule, r.zone, r.occurred_at, r.received_at,
               r.evidence_ids, r.detail, r.reporter_id, u.display_name AS reporter_name
        FROM report r LEFT JOIN device d ON d.id = r.device_id LEFT JOIN app_user u ON u.id = r.reporter_id
        WHERE r.incident_id = %(id)s ORDER BY r.received_at, r.id LIMIT 500
        """,
        incident_id,
    )
    return [
        {
            "id": str(row["id"]),
            "source": row["source"],
            "device": None
            if row["code"] is None
            else {"id": str(row["device_id"]), "code": row["code"], "name": row["name"], "kind": row["kind"]},
            "rule": row["rule"],
            "zone": row["zone"],
            "occurred_at": text_of(row["occurred_at"]),
            "received_at": text_of(row["received_at"]),
            "evidence_ids": [str(evidence_id) for evidence_id in row["evidence_ids"]],
            "detail": row["detail"],
            "reporter": _person(row["reporter_id"], row["reporter_name"]),
        }
        for row in rows
    ]


def _read_events(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT at, action, from_state, to_state, actor, reason, detail FROM incident_event WHERE incident_id = %(id)s
        ORDER BY (detail ->> 'version')::int, at, id
        """,
        incident_id,
    )
    return [{**row, "at": text_of(row["at"])} for row in rows]


def _read_assignments(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT s.user_id, u.display_name, s.reason, s.offered_at, s.answered_at, s.outcome
        FROM assignment s JOIN app_user u ON u.id = s.user_id WHERE s.incident_id = %(id)s ORDER BY s.offered_at, s.outcome IS NULL, s.id
        """,
        incident_id,
    )
    return [
        {
            "user": _person(row["user_id"], row["display_name"]),
            "reason": row["reason"],
            "offered_at": text_of(row["offered_at"]),
            "answered_at": text_of(row["answered_at"]),
            "outcome": row["outcome"],
        }
        for row in rows
    ]


def _read_checks(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT q.id, q.kind, q.device_id, d.code, d.name, d.kind AS device_kind, q.requested_at, q.answered_at, q.verdict,
               q.evidence_id, q.detail
        FROM check_request q LEFT JOIN device d ON d.id = q.device_id
        WHERE q.incident_id = %(id)s ORDER BY q.requested_at, q.id
        """,
        incident_id,
    )
    return [
        {
            "id": str(row["id"]),
            "kind": row["kind"],
            "device": None
            if row["code"] is None
            else {"id": str(row["device_id"]), "code": row["code"], "name": row["name"], "kind": row["device_kind"]},
            "requested_at": text_of(row["requested_at"]),
            "answered_at": text_of(row["answered_at"]),
            "verdict": row["verdict"],
            "evidence_id": text_of(row["evidence_id"]),
            "detail": row["detail"],
        }
        for row in rows
    ]


def _read_evidence(connection: Connection, view: IncidentView) -> list[Row]:
    """Every picture that a report, a handling or a check brought, in the order of taking."""
    ids = {evidence_id for report in view["reports"] for evidence_id in report["evidence_ids"]}
    ids |= {event["detail"]["evidence_id"] for event in view["events"] if event["detail"].get("evidence_id")}
    ids |= {check["evidence_id"] for check in view["checks"] if check["evidence_id"]}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id, kind, taken_at, width, height, lon, lat, mime, encode(sha256, 'hex') AS sha256, masked,"
            " deleted_at IS NOT NULL AS gone FROM evidence WHERE id = ANY (%s::uuid[]) ORDER BY taken_at, id",
            (sorted(ids),),
        ).fetchall()
    return [{name: text_of(value) for name, value in row.items()} for row in rows]


def _read_actions(connection: Connection, view: IncidentView, actor: Actor) -> list[Row]:
    # By the log and not by `handler`: after rework another person may have handled it last, and neither may check.
    assignee = UUID(view["assignee"]["id"]) if view["assignee"] else None
    handlers = read_handlers(connection, UUID(view["id"]))
    allowed = allowed_actions(IncidentState(view["state"]), actor, assignee, handlers)
    return [{"name": action.value, "needs": [need.value for need in needs]} for action, needs in allowed]
