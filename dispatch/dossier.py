"""An incident in full: everything that hangs on it, as JSON, and what the reader may do now."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import dict_row

from dispatch.model import Actor, IncidentView
from dispatch.row import find_incident, read_standing
from dispatch.shape import Row, person_of, text_of
from dispatch.transition import allowed_actions
from kernel.db import Connection


def read_dossier(connection: Connection, incident_id: UUID, now: datetime, actor: Actor | None) -> IncidentView:
    """What the detail of an incident has beyond its line in a list; `actions` are what `actor` may do now."""
    found: IncidentView = {
        "reports": _read_reports(connection, incident_id),
        "events": _read_events(connection, incident_id),
        "assignments": _read_assignments(connection, incident_id),
        "checks": _read_checks(connection, incident_id),
        "verifications": _read_verifications(connection, incident_id),
        "suspensions": _plain(_rows(connection, _SUSPENSIONS, incident_id)),
        "extension_requests": _plain(_rows(connection, _EXTENSIONS, incident_id)),
        "appeals": _plain(_rows(connection, _APPEALS, incident_id)),
        "summons": read_summons(connection, incident_id, now),
        "proofs": _plain(_rows(connection, _PROOFS, incident_id)),
        "kin": _plain(_rows(connection, _KIN, incident_id)),
    }
    found["evidence"] = _read_evidence(connection, found)
    found["actions"] = [] if actor is None else _read_actions(connection, incident_id, actor, now)
    return found


_SUSPENSIONS = "SELECT from_at, until_at, ended_at, reason FROM suspension WHERE incident_id = %(id)s ORDER BY from_at"
_EXTENSIONS = """
    SELECT a.display_name AS asked_by, x.asked_at, x.reason, x.state, x.value, d.display_name AS decided_by, x.decided_at,
           x.answer
    FROM extension x LEFT JOIN app_user a ON a.id = x.asked_by LEFT JOIN app_user d ON d.id = x.decided_by
    WHERE x.incident_id = %(id)s ORDER BY x.asked_at, x.id
"""
_APPEALS = """
    SELECT a.display_name AS asked_by, x.asked_at, x.reason, x.state, d.display_name AS decided_by, x.decided_at, x.answer
    FROM appeal x LEFT JOIN app_user a ON a.id = x.asked_by LEFT JOIN app_user d ON d.id = x.decided_by
    WHERE x.incident_id = %(id)s
"""
_PROOFS = (
    "SELECT evidence_id, score, doubts, judged_at FROM handling_proof WHERE incident_id = %(id)s ORDER BY judged_at"
)
_KIN = """
    SELECT k.id, k.number, k.state, k.category, k.place, CASE
               WHEN k.id = i.parent_id THEN 'parent' WHEN k.parent_id = i.id THEN 'child'
               WHEN k.id = i.merged_into THEN 'merged_into' WHEN k.merged_into = i.id THEN 'merged'
               WHEN k.id = i.split_from THEN 'split_from' ELSE 'split' END AS kinship
    FROM incident i JOIN incident k ON k.id <> i.id AND (k.id IN (i.parent_id, i.merged_into, i.split_from)
        OR k.parent_id = i.id OR k.merged_into = i.id OR k.split_from = i.id)
    WHERE i.id = %(id)s ORDER BY k.id LIMIT 200
"""


def _plain(rows: list[Row]) -> list[Row]:
    return [{name: text_of(value) for name, value in row.items()} for row in rows]


def _rows(connection: Connection, query: str, incident_id: UUID) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, {"id": incident_id}).fetchall()


def _read_reports(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT r.id, r.source, r.device_id, d.code, d.name, d.kind, r.rule, r.zone, r.occurred_at, r.received_at,
               r.evidence_ids, r.detail, r.reporter_id, r.incident_id, u.display_name AS reporter_name
        FROM report r LEFT JOIN device d ON d.id = r.device_id LEFT JOIN app_user u ON u.id = r.reporter_id
        WHERE r.incident_id = %(id)s OR r.incident_id IN (SELECT id FROM incident WHERE merged_into = %(id)s)
        ORDER BY r.received_at, r.id LIMIT 500
        """,
        incident_id,
    )
    return [
        {
            "id": str(row["id"]),
            "incident_id": str(row["incident_id"]),
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
            "reporter": person_of(row["reporter_id"], row["reporter_name"]),
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
            "user": person_of(row["user_id"], row["display_name"]),
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
    ids |= {asked["evidence_id"] for asked in view["verifications"] if asked["evidence_id"]}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id, kind, taken_at, width, height, lon, lat, mime, encode(sha256, 'hex') AS sha256, masked,"
            " deleted_at IS NOT NULL AS gone FROM evidence WHERE id = ANY (%s::uuid[]) ORDER BY taken_at, id",
            (sorted(ids),),
        ).fetchall()
    return [{name: text_of(value) for name, value in row.items()} for row in rows]


def _read_verifications(connection: Connection, incident_id: UUID) -> list[Row]:
    rows = _rows(
        connection,
        """
        SELECT v.user_id, u.display_name, v.asked_at, v.answer_by, v.ended_at, v.found, v.evidence_id, v.note
        FROM verification v JOIN app_user u ON u.id = v.user_id WHERE v.incident_id = %(id)s ORDER BY v.asked_at, v.id
        """,
        incident_id,
    )
    return [{"user": person_of(row.pop("user_id"), row.pop("display_name"))} | _plain([row])[0] for row in rows]


def read_summons(connection: Connection, incident_id: UUID, now: datetime) -> list[Row]:
    """`late`: not there by the time, or there after it."""
    rows = _rows(
        connection,
        """
        SELECT s.user_id, u.display_name, s.summoned_at, s.check_in_by, s.reason, s.checked_in_at, s.distance_m, s.score,
               s.remark
        FROM summons s JOIN app_user u ON u.id = s.user_id WHERE s.incident_id = %(id)s ORDER BY s.check_in_by, s.id
        """,
        incident_id,
    )
    return [
        {"user": person_of(row.pop("user_id"), row.pop("display_name"))}
        | {"late": (row["checked_in_at"] or now) > row["check_in_by"]}
        | _plain([row])[0]
        for row in rows
    ]


def _read_actions(connection: Connection, incident_id: UUID, actor: Actor, now: datetime) -> list[Row]:
    incident = find_incident(connection, incident_id)
    if incident is None:
        return []
    allowed = allowed_actions(incident, actor, read_standing(connection, incident), now)
    return [{"name": action.value, "needs": [need.value for need in needs]} for action, needs in allowed]
