"""The SQL of people and assignments: who might go, who was offered what, and how that ended."""

from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from dispatch.model import Actor, Candidate, Incident, JsonObject, Outcome, Person
from kernel.db import Connection
from kernel.ids import new_id
from kernel.types import Role


def read_candidates(connection: Connection, incident: Incident, now: datetime) -> list[Candidate]:
    """Grid workers whose scope covers the incident, with duty, newest position, open tasks and earlier refusals."""
    with connection.cursor(row_factory=class_row(Candidate)) as cursor:
        return cursor.execute(
            """
            SELECT u.id AS user_id, u.display_name AS name, u.on_duty, u.responsibility_grid_code, p.lon, p.lat,
                   greatest(extract(epoch FROM %(now)s - p.measured_at), 0)::float8 AS position_age_s,
                   (SELECT count(*) FROM incident t WHERE t.assignee_id = u.id AND t.id <> %(incident)s
                    AND t.state IN ('dispatched', 'accepted', 'on_site'))::int AS open_tasks,
                   EXISTS (SELECT FROM assignment a WHERE a.incident_id = %(incident)s AND a.user_id = u.id
                           AND a.outcome IN ('refused', 'expired', 'sent_back')) AS refused_before
            FROM app_user u LEFT JOIN staff_position p ON p.user_id = u.id
            WHERE 'grid_worker' = ANY (u.roles) AND NOT u.disabled AND (u.scope = '*' OR %(area)s::text ^@ ANY (string_to_array(u.scope, ',')))
            """,
            {"now": now, "incident": incident.id, "area": incident.area_code},
        ).fetchall()


def read_responsibility_grid(connection: Connection, cell_code: str) -> str | None:
    """Code of the responsibility grid that the cell belongs to."""
    row = connection.execute("SELECT responsibility_grid_code FROM grid_cell WHERE code = %s", (cell_code,)).fetchone()
    return str(row[0]) if row and row[0] else None


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
                                   AND action IN ('dispatch', 'file', 'check', 'rework') AND actor_id IS NOT NULL),
                                  '-infinity')
        """,
        {"id": incident_id},
    ).fetchone()
    return int(row[0]) if row else 0
