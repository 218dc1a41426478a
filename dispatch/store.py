"""The SQL of incidents: rows locked, written and logged. How an incident reads as JSON is in dispatch/view.py."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from dispatch.model import (
    Actor,
    CheckRequest,
    Incident,
    ReportUpdate,
    WaitingReport,
)
from dispatch.row import find_incident as find_incident
from dispatch.row import lock_closed_findings as lock_closed_findings
from dispatch.row import lock_closed_incident as lock_closed_incident
from dispatch.row import lock_due_incidents as lock_due_incidents
from dispatch.row import lock_incident as lock_incident
from dispatch.row import lock_open_findings as lock_open_findings
from dispatch.row import lock_open_incident as lock_open_incident
from dispatch.row import read_standing as read_standing
from dispatch.row import wait_for_categories as wait_for_categories
from dispatch.view import read_incident as read_incident
from dispatch.view import read_incidents as read_incidents
from dispatch.view import read_page as read_page
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import CHANNEL as WAKE_CHANNEL
from kernel.types import CheckKind, IncidentState, Verdict

# ------------------------------------------------------------------------------------------------ incidents


def insert_incident(
    connection: Connection,
    report: WaitingReport,
    *,
    incident_id: UUID,
    dedup_key: str,
    cell_code: str,
    area_code: str,
    place: str,
    now: datetime,
) -> bool:
    """Open an incident for a report unless one is open for the same cause: then False, and nothing is written.

    A transaction that is opening one for the same cause is waited for. The number comes at the end of the transaction
    (dispatch.number); until then the id stands there.
    """
    row = connection.execute(
        """
        INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, place, lon, lat,
                              opened_at, cover_id)
        VALUES (%(id)s, %(number)s, %(category)s, %(severity)s, 'reported', %(dedup_key)s, %(cell)s, %(area)s, %(place)s,
                %(lon)s, %(lat)s, %(now)s, %(cover)s)
        ON CONFLICT (dedup_key) WHERE state NOT IN ('closed', 'void') DO NOTHING RETURNING id
        """,
        {
            "id": incident_id,
            "number": str(incident_id),
            "category": report.category,
            "severity": report.severity,
            "dedup_key": dedup_key,
            "cell": cell_code,
            "area": area_code,
            "place": place,
            "lon": report.lon,
            "lat": report.lat,
            "now": now,
            "cover": report.evidence_ids[0] if report.evidence_ids else None,
        },
    ).fetchone()
    return row is not None


def write_incident(connection: Connection, incident_id: UUID, version: int, changes: Mapping[str, Any]) -> None:
    """Set the columns in `changes` and the version. The caller holds the row's lock."""
    columns = {**changes, "version": version}
    connection.execute(
        sql.SQL("UPDATE incident SET {} WHERE id = {}").format(
            sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder()) for c in columns),
            sql.Placeholder(),
        ),
        [Jsonb(v) if isinstance(v, dict) else v for v in columns.values()] + [incident_id],
    )


def add_report(connection: Connection, incident_id: UUID, report: WaitingReport) -> None:
    """One more report: the severity becomes the worse of the two (1 is the most urgent), the cover its picture."""
    connection.execute(
        "UPDATE incident SET report_count = report_count + 1, severity = least(severity, %s),"
        " cover_id = coalesce(%s, cover_id) WHERE id = %s",
        (report.severity, report.evidence_ids[0] if report.evidence_ids else None, incident_id),
    )


def read_evidence_weight(connection: Connection, incident_id: UUID) -> tuple[int, int]:
    """The worst severity that a report said, and how many independent sources said it: devices, people, channels."""
    row = connection.execute(
        """
        SELECT coalesce(min(r.severity), 4),
               count(DISTINCT CASE WHEN r.source IN ('device', 'camera') THEN coalesce(r.device_id::text, r.source)
                                   WHEN r.source IN ('operator', 'grid_worker') THEN coalesce(r.reporter_id::text, r.source)
                                   ELSE r.source || coalesce(r.reporter_id::text, '') END)
        FROM report r WHERE r.incident_id = %(id)s
        """,
        {"id": incident_id},
    ).fetchone()
    assert row is not None  # an aggregate has its row
    return int(row[0]), int(row[1])


def log_event(
    connection: Connection,
    incident: Incident,
    *,
    action: str,
    to_state: IncidentState,
    from_state: IncidentState | None,
    actor: Actor,
    version: int,
    now: datetime,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append to the incident's log. `version`, kept in the detail, orders entries of one instant."""
    connection.execute(
        """
        INSERT INTO incident_event (id, incident_id, at, action, from_state, to_state, actor_id, actor, reason, detail)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            new_id(now), incident.id, now, action, from_state, to_state, actor.user_id, actor.name, reason,
            Jsonb({**(detail or {}), "version": version}),
        ),
    )  # fmt: skip


def note_incident(connection: Connection, incident: Incident, people: Iterable[UUID | None], now: datetime) -> None:
    """Tell the wall, the phones and the dispatcher that this incident and these people's tasks changed."""
    note_change(connection, ChangeKind.INCIDENT, incident.id, incident.area_code, now)
    for user_id in sorted({person for person in people if person is not None}):
        note_change(connection, ChangeKind.USER, user_id, incident.area_code, now)
    connection.execute("SELECT pg_notify(%s, '')", (WAKE_CHANNEL,))


# ------------------------------------------------------------------------------------------------ reports


def claim_reports(connection: Connection, limit: int) -> list[WaitingReport]:
    """The reports that wait longest, locked; those another worker holds are left to it."""
    with connection.cursor(row_factory=class_row(WaitingReport)) as cursor:
        return cursor.execute(
            """
            SELECT r.id, r.source, r.source_key, r.category, r.device_id, r.rule, r.zone, r.lon, r.lat, r.severity,
                   r.detail, r.evidence_ids, r.reporter_id, r.occurred_at, r.received_at, c.auto_file, c.dedup,
                   d.code AS device_code, d.name AS device_name, u.display_name AS reporter_name
            FROM report r JOIN category c ON c.id = r.category
            LEFT JOIN device d ON d.id = r.device_id LEFT JOIN app_user u ON u.id = r.reporter_id
            WHERE r.taken_at IS NULL ORDER BY r.received_at, r.id LIMIT %s FOR UPDATE OF r SKIP LOCKED
            """,
            (limit,),
        ).fetchall()


def place_report(
    connection: Connection, report_id: UUID, incident_id: UUID, cell_code: str, area_code: str, now: datetime
) -> None:
    """Dispatch has looked: this report belongs to that incident."""
    connection.execute(
        "UPDATE report SET incident_id = %s, cell_code = %s, area_code = %s, taken_at = %s WHERE id = %s",
        (incident_id, cell_code, area_code, now, report_id),
    )


def refuse_report(connection: Connection, report_id: UUID, refusal: str, now: datetime) -> None:
    """Dispatch has looked, and no incident comes of it; the report is kept with the reason."""
    connection.execute("UPDATE report SET refusal = %s, taken_at = %s WHERE id = %s", (refusal, now, report_id))


# ------------------------------------------------------------------------------------------------ findings of cameras


def claim_updates(connection: Connection, limit: int) -> list[ReportUpdate]:
    """What became of reports that have their incident, oldest first, locked; what another worker holds is left to it."""
    connection.execute(
        "UPDATE report_update u SET taken_at = u.at FROM report r WHERE u.taken_at IS NULL AND r.id = u.report_id"
        " AND r.incident_id IS NULL AND r.refusal IS NOT NULL"
    )
    with connection.cursor(row_factory=class_row(ReportUpdate)) as cursor:
        return cursor.execute(
            """
            SELECT u.id, u.report_id, r.incident_id, u.kind, u.at, u.severity, u.evidence_id, u.detail, r.source,
                   d.name AS device_name
            FROM report_update u JOIN report r ON r.id = u.report_id LEFT JOIN device d ON d.id = r.device_id
            WHERE u.taken_at IS NULL AND r.incident_id IS NOT NULL
            ORDER BY r.incident_id, u.at, u.id LIMIT %s FOR UPDATE OF u SKIP LOCKED
            """,
            (limit,),
        ).fetchall()


def mark_update(connection: Connection, update_id: UUID, now: datetime) -> None:
    """The incident has been told."""
    connection.execute("UPDATE report_update SET taken_at = %s WHERE id = %s", (now, update_id))


# ------------------------------------------------------------------------------------------------ evidence and checks


def use_photo(connection: Connection, evidence_id: UUID, user_id: UUID, incident_id: UUID) -> str | None:
    """Bind a photograph of this person to this incident, once and for ever; the code why not, or None.

    A photograph that was already shown for a handling, of this incident or another, proves nothing new.
    """
    row = connection.execute(
        "SELECT detail ? 'handled_incident' FROM evidence WHERE id = %s AND kind = 'photo' AND created_by = %s FOR UPDATE",
        (evidence_id, user_id),
    ).fetchone()
    if row is None:
        return "photo_required"
    if row[0]:
        return "photo_used"
    connection.execute(
        "UPDATE evidence SET detail = detail || jsonb_build_object('handled_incident', %s::text) WHERE id = %s",
        (str(incident_id), evidence_id),
    )
    return None


def read_check_targets(connection: Connection, incident_id: UUID, kind: CheckKind) -> list[tuple[UUID, str, str]]:
    """Devices that reported the incident and can look again, with rule and zone, the first reporter first.

    For a camera check those whose vision rule reported; for a sensor check every device, a camera's health included.
    """
    rows = connection.execute(
        """
        SELECT r.device_id, r.rule, r.zone FROM report r JOIN device d ON d.id = r.device_id
        WHERE r.incident_id = %(id)s AND d.enabled AND r.source = ANY (%(sources)s)
        GROUP BY r.device_id, r.rule, r.zone ORDER BY min(r.received_at) LIMIT 8
        """,
        {"id": incident_id, "sources": ["camera"] if kind is CheckKind.CAMERA else ["device", "camera"]},
    ).fetchall()
    return [(UUID(str(device_id)), rule, zone) for device_id, rule, zone in rows]


def insert_check_request(
    connection: Connection,
    incident_id: UUID,
    kind: CheckKind,
    target: tuple[UUID, str, str],
    now: datetime,
    timeout: timedelta,
) -> None:
    """Ask a camera or sensor to look again; vision or ingest answers the row."""
    connection.execute(
        "INSERT INTO check_request (id, incident_id, kind, device_id, rule, zone, requested_at, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (new_id(now), incident_id, kind, *target, now, now + timeout),
    )


def read_open_checks(connection: Connection, incident_id: UUID) -> list[CheckRequest]:
    """Requests that dispatch has not acted on, answered or not, oldest first."""
    with connection.cursor(row_factory=class_row(CheckRequest)) as cursor:
        return cursor.execute(
            """
            SELECT q.id, q.incident_id, q.kind, q.device_id, d.name AS device_name, q.rule, q.zone, q.requested_at,
                   q.expires_at, q.answered_at, q.verdict, q.evidence_id, q.detail
            FROM check_request q JOIN device d ON d.id = q.device_id
            WHERE q.incident_id = %s AND q.taken_at IS NULL ORDER BY q.requested_at, q.id
            """,
            (incident_id,),
        ).fetchall()


def settle_checks(connection: Connection, incident_id: UUID, unanswered: str, now: datetime) -> None:
    """Dispatch has acted: answers are taken, and who has not answered need not; `unanswered` says why."""
    connection.execute(
        "UPDATE check_request SET taken_at = %s WHERE incident_id = %s AND taken_at IS NULL AND answered_at IS NOT NULL",
        (now, incident_id),
    )
    connection.execute(
        "UPDATE check_request SET taken_at = %s, answered_at = %s, verdict = %s, detail = %s"
        " WHERE incident_id = %s AND taken_at IS NULL",
        (now, now, Verdict.INCONCLUSIVE, unanswered, incident_id),
    )


# ------------------------------------------------------------------------------------------------ waiting work

OFFERS_RUN_OUT = "i.state = 'dispatched' AND i.suspended_at IS NULL AND (i.offered_at <= %(offered_before)s OR a.disabled OR NOT a.on_duty)"
"""Offers without an answer in time, and offers to people who went off duty before they answered."""

_NO_UNIT = "i.suspended_at IS NULL AND (i.unit_id IS NULL OR i.unit_state = 'refused')"

WAITS_FOR_SOMEBODY = f"i.state = 'filed' AND c.auto_dispatch AND i.needs_operator IS NULL AND {_NO_UNIT}"
"""Filed incidents that go to somebody now and for whom nobody was looked for yet. What a unit handles, the unit gives."""

NOBODY_WAS_THERE = f"""
    i.state = 'filed' AND c.auto_dispatch AND {_NO_UNIT} AND i.needs_operator = 'nobody_available'
        AND EXISTS (SELECT FROM app_user u WHERE u.on_duty AND NOT u.disabled AND 'grid_worker' = ANY (u.roles)
            AND (u.scope = '*' OR i.area_code ^@ ANY (string_to_array(u.scope, ',')))
            AND NOT EXISTS (SELECT FROM assignment t WHERE t.incident_id = i.id AND t.user_id = u.id
                            AND t.outcome IN ('refused', 'expired', 'sent_back')))
"""
"""Those for whom nobody was there, and now perhaps somebody is."""

WAITS_FOR_PROPOSAL = f"""
    i.state = 'filed' AND i.needs_operator IN ('dispatch', 'unit_refused') AND {_NO_UNIT} AND (NOT i.proposal ? 'user_id'
        OR NOT EXISTS (SELECT FROM app_user u WHERE u.id = (i.proposal ->> 'user_id')::uuid AND u.on_duty AND NOT u.disabled))
"""
"""Dispatched by hand: the operator has nobody proposed yet, or somebody who has gone home."""

WAITS_FOR_CREW = """
    i.state = 'filed' AND i.suspended_at IS NULL AND i.needs_operator IS NULL AND i.unit_state = 'accepted'
    AND EXISTS (SELECT FROM unit n WHERE n.id = i.unit_id AND n.assigns_itself)
"""
"""Accepted by a unit whose people are sent by the plan."""

UNIT_SILENT = """
    i.state = 'filed' AND i.suspended_at IS NULL AND i.needs_operator IS NULL AND i.unit_state = 'asked'
    AND i.unit_asked_at <= %(unit_asked_before)s
"""
"""A unit was asked and has said nothing."""

_NO_OPEN_CHILD = "NOT EXISTS (SELECT FROM incident k WHERE k.parent_id = i.id AND k.state NOT IN ('closed', 'void'))"

PHOTO_UNJUDGED = """
    i.state = 'handled' AND EXISTS (SELECT FROM incident_event v JOIN evidence e ON e.id = (v.detail ->> 'evidence_id')::uuid
        WHERE v.incident_id = i.id AND v.action = 'handle' AND v.at >= i.handled_at
        AND NOT EXISTS (SELECT FROM handling_proof p WHERE p.evidence_id = e.id))
"""
"""Handled, and nobody has looked how far its photograph is to be believed."""

WAITS_FOR_CHECK = f"""
    i.state = 'handled' AND i.needs_operator IS NULL AND NOT ({PHOTO_UNJUDGED}) AND {_NO_OPEN_CHILD}
    AND NOT EXISTS (SELECT FROM check_request q WHERE q.incident_id = i.id AND q.taken_at IS NULL)
"""

CHECK_CAN_BE_DECIDED = f"""
    i.state = 'handled' AND {_NO_OPEN_CHILD} AND EXISTS (SELECT FROM check_request q WHERE q.incident_id = i.id AND q.taken_at IS NULL
        AND (q.answered_at IS NOT NULL OR q.expires_at <= %(now)s))
"""
