"""Shelves and maintenance windows: alarms that are recorded and told later, or never, with who, why and until when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from devices.rulebook import touch_book
from kernel.db import Connection
from kernel.ids import new_id

_LONGEST = timedelta(days=31)
_FINDING_DAYS = 90
_DEAF_DAYS = 62  # longer than any device may be silent by its settings


class QuietError(ValueError):
    """A shelf or a window cannot be made; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """One device's rule kept quiet; `rule` '' means all of them."""

    id: UUID
    device_id: UUID
    rule: str
    reason: str
    actor: str
    from_at: datetime
    until_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """Everything in a scope kept quiet; '' and None mean any."""

    id: UUID
    kind: str
    area_code: str
    device_id: UUID | None
    reason: str
    actor: str
    from_at: datetime
    until_at: datetime


def _check(reason: str, from_at: datetime, until_at: datetime, now: datetime) -> None:
    if not reason.strip():
        raise QuietError("reason_required", "say why")
    if until_at <= from_at or until_at <= now:
        raise QuietError("end_required", "it ends after it begins, and in the future")
    if until_at - from_at > _LONGEST:
        raise QuietError("too_long", f"at most {_LONGEST.days} days: what is quiet for longer is a rule")


def shelve(
    connection: Connection, device_id: UUID, rule: str, reason: str, until_at: datetime, actor: str, now: datetime
) -> Shelf:
    """Keep one device's rule quiet until then; running roles take it up within a sweep.

    Raises QuietError (reason_required, end_required, too_long).
    """
    _check(reason, now, until_at, now)
    shelf = Shelf(
        id=new_id(now),
        device_id=device_id,
        rule=rule,
        reason=reason.strip(),
        actor=actor,
        from_at=now,
        until_at=until_at,
    )
    connection.execute(
        "INSERT INTO shelf (id, device_id, rule, reason, actor, from_at, until_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (shelf.id, device_id, rule, shelf.reason, actor, now, until_at),
    )
    touch_book(connection, now)
    return shelf


def unshelve(connection: Connection, device_id: UUID, now: datetime, rule: str | None = None) -> int:
    """End the device's shelves, or those of one rule ('' is the shelf of all rules); how many."""
    ended = connection.execute(
        "UPDATE shelf SET ended_at = %(now)s WHERE device_id = %(device)s AND ended_at IS NULL"
        " AND (%(rule)s::text IS NULL OR rule = %(rule)s)",
        {"now": now, "device": device_id, "rule": rule},
    ).rowcount
    if ended:
        touch_book(connection, now)
    return ended


def read_shelves(connection: Connection, device_id: UUID, now: datetime) -> list[Shelf]:
    """The device's shelves that have not ended."""
    with connection.cursor(row_factory=class_row(Shelf)) as cursor:
        return cursor.execute(
            "SELECT id, device_id, rule, reason, actor, from_at, until_at FROM shelf"
            " WHERE device_id = %s AND ended_at IS NULL AND until_at > %s ORDER BY until_at",
            (device_id, now),
        ).fetchall()


def add_maintenance(connection: Connection, window: Maintenance, now: datetime) -> None:
    """Keep a scope quiet for a while.

    Raises QuietError as `shelve`, and psycopg.errors.InsufficientPrivilege outside the transaction's scope.
    """
    _check(window.reason, window.from_at, window.until_at, now)
    connection.execute(
        "INSERT INTO maintenance (id, kind, area_code, device_id, reason, actor, from_at, until_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            window.id, window.kind, window.area_code, window.device_id, window.reason.strip(), window.actor,
            window.from_at, window.until_at,
        ),
    )  # fmt: skip
    touch_book(connection, now)


def end_maintenance(connection: Connection, maintenance_id: UUID, now: datetime) -> bool:
    """End a window before its time; False when there is none that has not ended."""
    ended = connection.execute(
        "UPDATE maintenance SET ended_at = %s WHERE id = %s AND ended_at IS NULL AND until_at > %s",
        (now, maintenance_id, now),
    ).rowcount
    if ended:
        touch_book(connection, now)
    return bool(ended)


def read_maintenance(connection: Connection, now: datetime) -> list[Maintenance]:
    """Windows that have not ended, with those that are to come."""
    with connection.cursor(row_factory=class_row(Maintenance)) as cursor:
        return cursor.execute(
            "SELECT id, kind, area_code, device_id, reason, actor, from_at, until_at FROM maintenance"
            " WHERE ended_at IS NULL AND until_at > %s ORDER BY from_at",
            (now,),
        ).fetchall()


def forget_quiets(connection: Connection, now: datetime) -> None:
    """Close what is over, so that the book stays short; drop old findings and old deaf spans."""
    connection.execute("UPDATE shelf SET ended_at = until_at WHERE ended_at IS NULL AND until_at <= %s", (now,))
    connection.execute("UPDATE maintenance SET ended_at = until_at WHERE ended_at IS NULL AND until_at <= %s", (now,))
    connection.execute("DELETE FROM deaf_span WHERE until_at < %s", (now - timedelta(days=_DEAF_DAYS),))
    connection.execute("DELETE FROM rule_finding WHERE received_at < %s", (now - timedelta(days=_FINDING_DAYS),))
