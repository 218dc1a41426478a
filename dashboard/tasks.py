"""Tasks for people with an open socket: the push channel "websocket", read from the outbox that dispatch fills.

A task is sent again at each reconnection until the phone's receipt comes; the phone knows it by its `push_id`.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from dashboard.store import write_json
from kernel.db import Connection

_KEEP = timedelta(minutes=30)  # older ones are seen in the list of tasks anyway


def read_tasks(connection: Connection, user_ids: Collection[UUID], now: datetime) -> list[tuple[UUID, UUID, str]]:
    """(push id, person, message) of what these people have not confirmed, oldest first.

    Only people on duty, and only what is still true: an offer that went to somebody else is no task any more.
    """
    if not user_ids:
        return []
    rows = connection.execute(
        """
        SELECT o.id, o.user_id, o.incident_id, o.kind FROM push_outbox o JOIN app_user u ON u.id = o.user_id LEFT JOIN incident i ON i.id = o.incident_id
        WHERE o.user_id = ANY (%s) AND o.received_at IS NULL AND o.id >= %s AND u.on_duty AND NOT u.disabled
          AND CASE WHEN o.kind = 'decided' THEN true
              WHEN o.kind IN ('notice', 'supervised', 'summoned') THEN i.state NOT IN ('closed', 'void')
              WHEN o.kind = 'verify' THEN coalesce(i.verifier_id = u.id, false)
              ELSE coalesce(i.assignee_id = u.id AND i.state = 'dispatched', false) <> (o.kind = 'withdrawn') END
        ORDER BY o.id LIMIT 1000
        """,
        (list(user_ids), _first_id(now - _KEEP)),
    ).fetchall()
    return [
        (
            push_id,
            user_id,
            write_json({"type": "task", "incident_id": incident_id, "kind": kind, "push_id": push_id}),
        )
        for push_id, user_id, incident_id, kind in rows
    ]


def _first_id(instant: datetime) -> UUID:
    """The least UUIDv7 of an instant: the primary key finds the newest rows of a table that only grows."""
    return UUID(int=int(instant.timestamp() * 1000) << 80)


def confirm_task(connection: Connection, push_id: UUID, user_id: UUID, now: datetime) -> bool:
    """The phone has it. False when there is no such task of this person; confirming twice changes nothing."""
    row = connection.execute(
        "UPDATE push_outbox SET received_at = coalesce(received_at, %s) WHERE id = %s AND user_id = %s RETURNING id",
        (now, push_id, user_id),
    ).fetchone()
    return row is not None
