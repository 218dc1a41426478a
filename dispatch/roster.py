"""The SQL of people and assignments: who might go, who was offered what, and how that ended."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from dispatch.cost import Task, Worker
from dispatch.model import Actor, Incident, JsonObject, Outcome, Person
from kernel.db import Connection
from kernel.ids import new_id
from kernel.types import Role

_PLANNING = 4_715_202


def read_workers(
    connection: Connection, now: datetime, rest: timedelta, *, besides: UUID | None = None, unit_id: UUID | None = None
) -> list[Worker]:
    """Grid workers, or the people of a unit, with all that the choice looks at. The task `besides` is not counted.

    On duty is who says so and, where a roster has shifts for them from twelve hours ago to twelve hours ahead, is within
    one of them.
    """
    with connection.cursor(row_factory=class_row(Worker)) as cursor:
        return cursor.execute(
            """
            SELECT u.id AS user_id, u.display_name AS name, u.responsibility_grid_code, g.parent_code AS community_code,
                   u.scope, p.lon, p.lat,
                   u.on_duty AND (s.within OR s.within IS NULL) AS on_duty, coalesce(s.on_break, false) AS on_break,
                   CASE WHEN p.measured_at IS NOT NULL
                       THEN greatest(extract(epoch FROM %(now)s - p.measured_at), 0)::float8 END AS position_age_s,
                   coalesce(t.open_tasks, 0)::int AS open_tasks, coalesce(d.done, 0)::int AS done,
                   coalesce(t.areas <> ARRAY[g.parent_code], false) AS away,
                   coalesce(f.means, 'foot') AS means, coalesce(f.skills, '{}') AS skills,
                   coalesce(f.equipment, '{}') AS equipment, d.last_at + %(rest)s AS rest_until
            FROM app_user u
            LEFT JOIN staff_position p ON p.user_id = u.id
            LEFT JOIN staff_profile f ON f.user_id = u.id
            LEFT JOIN area g ON g.code = u.responsibility_grid_code
            LEFT JOIN (SELECT assignee_id, count(*) AS open_tasks, array_agg(DISTINCT area_code) AS areas FROM incident
                       WHERE state IN ('dispatched', 'accepted', 'on_site') AND id IS DISTINCT FROM %(besides)s
                       GROUP BY assignee_id) t ON t.assignee_id = u.id
            LEFT JOIN (SELECT actor_id, count(*) AS done, max(at) AS last_at FROM incident_event
                       WHERE action = 'handle' AND at > %(now)s - interval '12 hours' GROUP BY actor_id) d ON d.actor_id = u.id
            LEFT JOIN (SELECT user_id, bool_or(starts_at <= %(now)s AND ends_at > %(now)s) AS within,
                              bool_or(breaks @> %(now)s) AS on_break
                       FROM shift WHERE ends_at > %(now)s - interval '12 hours' AND starts_at < %(now)s + interval '12 hours'
                       GROUP BY user_id) s ON s.user_id = u.id
            WHERE NOT u.disabled AND CASE WHEN %(unit)s::uuid IS NULL THEN 'grid_worker' = ANY (u.roles)
                ELSE EXISTS (SELECT FROM unit_member m WHERE m.unit_id = %(unit)s AND m.user_id = u.id) END
            """,
            {"now": now, "rest": rest, "besides": besides, "unit": unit_id},
        ).fetchall()


def rested(worker: Worker, lon: float | None, lat: float | None) -> Worker:
    """The person at the beginning of a shift, at this place and with nothing to do."""
    return replace(
        worker, lon=lon, lat=lat, position_age_s=0.0, on_duty=True, on_break=False, rest_until=None, open_tasks=0, done=0,
        away=False,
    )  # fmt: skip


def read_tasks(connection: Connection, incidents: Sequence[Incident]) -> list[Task]:
    """Incidents as the choice sees them: their responsibility grid, what they need, who was asked in vain, who is
    proposed."""
    ids = [incident.id for incident in incidents]
    rows = connection.execute(
        """
        SELECT i.id, k.responsibility_grid_code, coalesce(n.skills, '{}'), coalesce(n.equipment, '{}'),
               ARRAY(SELECT DISTINCT a.user_id FROM assignment a WHERE a.incident_id = i.id
                     AND a.outcome IN ('refused', 'expired', 'sent_back')),
               coalesce(i.assignee_id, (i.proposal ->> 'user_id')::uuid)
        FROM incident i LEFT JOIN grid_cell k ON k.code = i.cell_code LEFT JOIN category_need n ON n.category = i.category
        WHERE i.id = ANY (%s)
        """,
        (ids,),
    ).fetchall()
    known = {row[0]: row[1:] for row in rows}
    found = []
    for incident in incidents:
        grid_code, skills, equipment, refused, held_by = known[incident.id]
        found.append(
            Task(
                id=incident.id, lon=incident.lon, lat=incident.lat, area_code=incident.area_code, grid_code=grid_code,
                severity=incident.severity, skills=frozenset(skills), equipment=frozenset(equipment),
                refused=frozenset(refused), held_by=held_by,
            )
        )  # fmt: skip
    return found


def sort_by_unit(connection: Connection, incidents: Sequence[Incident]) -> list[tuple[UUID, Incident]]:
    """Each incident with the unit that has it."""
    ids = [incident.id for incident in incidents]
    units: dict[UUID, UUID] = dict(
        connection.execute("SELECT id, unit_id FROM incident WHERE id = ANY (%s)", (ids,)).fetchall()
    )
    return [(units[incident.id], incident) for incident in incidents]


def read_cover(connection: Connection) -> dict[str, int]:
    """How many people on duty each community keeps."""
    return {str(code): int(least) for code, least in connection.execute("SELECT area_code, minimum FROM area_cover")}


def propose(connection: Connection, incident: Incident, user_id: UUID, name: str, reasons: list[JsonObject]) -> None:
    """Add to what the operator is proposed who would go; why the operator decides stays its first reason."""
    connection.execute(
        """
        UPDATE incident SET version = version + 1, proposal = proposal || jsonb_build_object('user_id', %s::text,
            'user_name', %s::text, 'reasons', jsonb_path_query_array(proposal, '$.reasons[0]') || %s)
        WHERE id = %s
        """,
        (str(user_id), name, Jsonb(reasons), incident.id),
    )


def may_plan(connection: Connection) -> bool:
    """Whether this transaction is the one that gives tasks to people: two at once would send the same person twice."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_PLANNING,)).fetchone()
    return bool(row and row[0])


def read_person(connection: Connection, user_id: UUID) -> Person | None:
    """A person as an actor, with duty; None when unknown or disabled."""
    row = connection.execute(
        "SELECT display_name, roles, scope, on_duty FROM app_user WHERE id = %s AND NOT disabled", (user_id,)
    ).fetchone()
    if row is None:
        return None
    name, roles, scope, on_duty = row
    actor = Actor(user_id=user_id, name=name, roles=frozenset(Role(role) for role in roles), scope=scope)
    return Person(actor=actor, on_duty=on_duty)


def end_assignment(connection: Connection, incident_id: UUID, outcome: Outcome, now: datetime) -> None:
    """The offer that nobody has answered yet ends like this."""
    connection.execute(
        "UPDATE assignment SET outcome = %s, answered_at = %s WHERE incident_id = %s AND outcome IS NULL",
        (outcome, now, incident_id),
    )


def change_accepted(connection: Connection, incident_id: UUID, outcome: Outcome) -> None:
    """What was accepted came to another end: reassigned, sent back, rework."""
    connection.execute(
        "UPDATE assignment SET outcome = %s WHERE incident_id = %s AND outcome = 'accepted'", (outcome, incident_id)
    )


def insert_assignment(
    connection: Connection, incident_id: UUID, user_id: UUID, reason: JsonObject, now: datetime
) -> None:
    """Offer the incident to a person."""
    connection.execute(
        "INSERT INTO assignment (id, incident_id, user_id, reason, offered_at) VALUES (%s, %s, %s, %s, %s)",
        (new_id(now), incident_id, user_id, Jsonb(reason), now),
    )


def count_refusals(connection: Connection, incident_id: UUID) -> int:
    """How many offers were refused, ran out or were given back since an operator last sent somebody."""
    row = connection.execute(
        """
        SELECT count(*) FROM assignment WHERE incident_id = %(id)s AND outcome IN ('refused', 'expired', 'sent_back')
        AND offered_at > coalesce((SELECT max(at) FROM incident_event WHERE incident_id = %(id)s
                                   AND action IN ('dispatch', 'file', 'check', 'rework', 'reopen', 'verify') AND actor_id IS NOT NULL),
                                  '-infinity')
        """,
        {"id": incident_id},
    ).fetchone()
    return int(row[0]) if row else 0
