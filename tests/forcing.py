"""An incident put into a state without living up to it. The database wants the log to tell of it, so the log does."""

from datetime import UTC, datetime
from uuid import UUID

from kernel.db import Connection
from kernel.ids import new_id


def force_state(connection: Connection, incident_id: UUID, state: str, at: datetime | None = None) -> None:
    """Write the state and its entry in the log. An end without `at` keeps no instant of its end."""
    now = at or datetime.now(UTC)
    row = connection.execute("SELECT state, version FROM incident WHERE id = %s FOR UPDATE", (incident_id,)).fetchone()
    assert row is not None
    connection.execute(
        "INSERT INTO incident_event (id, incident_id, at, action, from_state, to_state, actor, detail)"
        " VALUES (%s, %s, %s, 'forced', %s, %s, 'test', jsonb_build_object('version', %s::int))",
        (new_id(now), incident_id, now, row[0], state, row[1] + 1),
    )
    connection.execute(
        "UPDATE incident SET state = %s, version = %s, ended_at = coalesce(%s, ended_at) WHERE id = %s",
        (state, row[1] + 1, at, incident_id),
    )
