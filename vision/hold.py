"""Incidents whose pictures and clips are kept whatever their age: an appeal, a lawsuit."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from kernel.audit import write_audit
from kernel.db import Connection


class HoldError(Exception):
    """A hold that cannot be placed or lifted; the text says why."""


def place_hold(connection: Connection, number: str, reason: str, until_at: datetime | None, now: datetime) -> None:
    """Keep what belongs to the incident of that number until `until_at`, or until it is lifted; a later word counts.

    Raises HoldError.
    """
    if not reason.strip():
        raise HoldError("a hold needs its reason")
    if until_at is not None and until_at <= now:
        raise HoldError("that day is over")
    incident_id = _find(connection, number)
    connection.execute(
        """
        INSERT INTO evidence_hold (incident_id, reason, placed_by, placed_at, until_at)
        VALUES (%(id)s, %(reason)s, 'command line', %(now)s, %(until)s)
        ON CONFLICT (incident_id) DO UPDATE SET reason = excluded.reason, placed_at = excluded.placed_at,
            until_at = excluded.until_at
        """,
        {"id": incident_id, "reason": reason.strip(), "now": now, "until": until_at},
    )
    detail = {"reason": reason.strip(), "until_at": until_at.isoformat() if until_at else None}
    write_audit(connection, now, actor="command line", action="evidence_held", subject=number, detail=detail)


def lift_hold(connection: Connection, number: str, now: datetime) -> None:
    """End a hold. Raises HoldError when there is none."""
    deleted = connection.execute(
        "DELETE FROM evidence_hold WHERE incident_id = %s", (_find(connection, number),)
    ).rowcount
    if not deleted:
        raise HoldError(f"{number} is not held")
    write_audit(connection, now, actor="command line", action="evidence_hold_lifted", subject=number)


def _find(connection: Connection, number: str) -> UUID:
    row = connection.execute("SELECT id FROM incident WHERE number = %s", (number,)).fetchone()
    if row is None:
        raise HoldError(f"there is no incident {number}")
    return UUID(str(row[0]))
