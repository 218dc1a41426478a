"""Emergencies (平急转换): while a named one lasts, its set of limits holds. Entered and left by a person, with a reason.

One at a time: the database decides which of two comes first. Open incidents are counted anew both times (dispatch.relimit).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from dispatch.model import ActionRefused
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id

_COLUMNS = "id, name, reason, entered_at, entered_by, left_at, left_by, left_reason"


@dataclass(frozen=True, kw_only=True, slots=True)
class Emergency:
    """A time in which an emergency's limits hold; `left_at` None: it lasts."""

    id: UUID
    name: str
    reason: str
    entered_at: datetime
    entered_by: str
    left_at: datetime | None
    left_by: str | None
    left_reason: str


def enter_emergency(connection: Connection, name: str, reason: str, by: str, now: datetime) -> Emergency:
    """Begin one. The sets that limits know: `read_sets`; another name swaps nothing, but is on record.

    Raises ActionRefused: reason_required, bad_limit for a name that cannot be one, emergency_running.
    """
    name, reason = name.strip(), reason.strip()
    if not reason:
        raise ActionRefused("reason_required")
    if not name or name == "normal":
        raise ActionRefused("bad_limit", set_name=name)
    with connection.cursor(row_factory=class_row(Emergency)) as cursor:
        entered = cursor.execute(
            "INSERT INTO emergency_mode (id, name, reason, entered_at, entered_by) VALUES (%s, %s, %s, %s, %s)"
            f" ON CONFLICT ((left_at IS NULL)) WHERE left_at IS NULL DO NOTHING RETURNING {_COLUMNS}",
            (new_id(now), name, reason, now, by),
        ).fetchone()
    if entered is None:
        raise ActionRefused("emergency_running")
    write_audit(connection, now, actor=by, action="emergency_entered", subject=name, detail={"reason": reason})
    return entered


def leave_emergency(connection: Connection, reason: str, by: str, now: datetime) -> Emergency:
    """End the one that lasts.

    Raises ActionRefused: reason_required, no_emergency.
    """
    reason = reason.strip()
    if not reason:
        raise ActionRefused("reason_required")
    with connection.cursor(row_factory=class_row(Emergency)) as cursor:
        left = cursor.execute(
            "UPDATE emergency_mode SET left_at = %s, left_by = %s, left_reason = %s WHERE left_at IS NULL"
            f" RETURNING {_COLUMNS}",
            (now, by, reason),
        ).fetchone()
    if left is None:
        raise ActionRefused("no_emergency")
    write_audit(connection, now, actor=by, action="emergency_left", subject=left.name, detail={"reason": reason})
    return left


def read_emergencies(connection: Connection, limit: int = 50) -> Sequence[Emergency]:
    """The newest emergencies, the one that lasts first."""
    with connection.cursor(row_factory=class_row(Emergency)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM emergency_mode ORDER BY left_at IS NOT NULL, entered_at DESC LIMIT %s", (limit,)
        ).fetchall()


def read_sets(connection: Connection) -> list[str]:
    """The names of the emergencies that have limits of their own."""
    rows = connection.execute(
        "SELECT DISTINCT set_name FROM limit_rule WHERE set_name <> 'normal' ORDER BY set_name"
    ).fetchall()
    return [name for (name,) in rows]
