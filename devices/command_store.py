"""The SQL of commands. `change_command` is the only function that writes a command's state."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from devices.command_model import (
    OPEN_STATES,
    TRANSITIONS,
    Command,
    CommandActor,
    CommandRefused,
    CommandState,
    OutcomeCode,
)
from devices.model import Device, Interlock
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id

CHANNEL = "gw_command"
_COLUMNS = (
    "id, device_id, name, parameters, reason, state, second_person, moving, nonce, seq, requested_by_id, requested_by,"
    " requested_at, approved_by_id, approved_by, approved_at, sent_at, attempts, next_send_at, acknowledged_at, answered_at,"
    " verify_until, expires_at, ended_at, interlocks, outcome"
)
_OPEN = "state IN ('requested', 'approved', 'sent', 'acknowledged')"  # as the partial indexes have it


def insert_command(connection: Connection, command: Command, device: Device, actor: CommandActor) -> bool:
    """Write a new command in state requested with its first event; False when the device has a moving one open."""
    values = asdict(command)
    values |= {
        "parameters": Jsonb(command.parameters),
        "interlocks": Jsonb(command.interlocks),
        "outcome": None,
        "state": CommandState.REQUESTED,
    }
    names = [name.strip() for name in _COLUMNS.split(",")]
    row = connection.execute(
        f"INSERT INTO command ({_COLUMNS}) VALUES ({', '.join(f'%({name})s' for name in names)})"
        " ON CONFLICT DO NOTHING RETURNING id",
        values,
    ).fetchone()
    if row is None:
        return False
    detail = {"reason": command.reason}
    _insert_event(connection, command.id, None, CommandState.REQUESTED, actor, detail, command.requested_at)
    note_change(connection, ChangeKind.COMMAND, command.id, device.area_code, command.requested_at)
    return True


def change_command(
    connection: Connection,
    command: Command,
    to: CommandState,
    actor: CommandActor,
    now: datetime,
    *,
    detail: Mapping[str, Any] | None = None,
    outcome: OutcomeCode | None = None,
    outcome_detail: str = "",
    columns: Mapping[str, Any] | None = None,
) -> Command:
    """Bring a command that the caller has locked into state `to`: row, event and the wall's change, in one transaction.

    `columns`: what else becomes true with it. An end state gets its instant and needs `outcome`.
    Raises CommandRefused (not_allowed_in_state).
    """
    if to not in TRANSITIONS.get(command.state, frozenset()):
        raise CommandRefused("not_allowed_in_state", state=str(command.state), to=str(to))
    values: dict[str, Any] = dict(columns or {})
    if to not in OPEN_STATES:
        assert outcome is not None
        values |= {"ended_at": now, "next_send_at": None}
        values["outcome"] = Jsonb({"code": str(outcome), "detail": outcome_detail})
    assignments = "".join(f", {name} = %({name})s" for name in values)
    with connection.cursor(row_factory=class_row(Command)) as cursor:
        changed = cursor.execute(
            f"UPDATE command SET state = %(state)s{assignments} WHERE id = %(id)s AND state = %(from)s"
            f" RETURNING {_COLUMNS}",
            {**values, "state": to, "id": command.id, "from": command.state},
        ).fetchone()
    if changed is None:
        raise CommandRefused("not_allowed_in_state", state="changed", to=str(to))
    _insert_event(connection, command.id, command.state, to, actor, detail or {}, now)
    note_change(connection, ChangeKind.COMMAND, command.id, _read_area(connection, command.device_id), now)
    return changed


def note_event(
    connection: Connection, command: Command, actor: CommandActor, now: datetime, detail: Mapping[str, Any]
) -> None:
    """Write down something to know about a command that changes no state, such as an answer after its end."""
    _insert_event(connection, command.id, command.state, command.state, actor, detail, now)
    note_change(connection, ChangeKind.COMMAND, command.id, _read_area(connection, command.device_id), now)


def set_sending(
    connection: Connection, command_id: UUID, next_send_at: datetime | None, *, attempts: int | None = None
) -> None:
    """When to look at a command's sending again; None: not before its device is heard or its state moves."""
    connection.execute(
        "UPDATE command SET next_send_at = %s, attempts = coalesce(%s, attempts) WHERE id = %s",
        (next_send_at, attempts, command_id),
    )


def set_interlocks(connection: Connection, command_id: UUID, interlocks: Sequence[Interlock]) -> None:
    """What the interlocks were found to be last."""
    connection.execute("UPDATE command SET interlocks = %s WHERE id = %s", (write_interlocks(interlocks), command_id))


def write_interlocks(interlocks: Sequence[Interlock]) -> Jsonb:
    """Interlocks as the row keeps them."""
    return Jsonb([asdict(interlock) for interlock in interlocks])


def wake_sender(connection: Connection) -> None:
    """Let the sender look as soon as this transaction is committed."""
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def draw_seq(connection: Connection, device_id: UUID) -> int:
    """The device's next command number; the counter's row is locked until the transaction ends."""
    row = connection.execute(
        "INSERT INTO command_counter AS c (device_id, last) VALUES (%s, 1)"
        " ON CONFLICT (device_id) DO UPDATE SET last = c.last + 1 RETURNING last",
        (device_id,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def lock_command(connection: Connection, command_id: UUID) -> Command:
    """The command, locked until the transaction ends. Raises CommandRefused (unknown_command)."""
    with connection.cursor(row_factory=class_row(Command)) as cursor:
        found = cursor.execute(f"SELECT {_COLUMNS} FROM command WHERE id = %s FOR UPDATE", (command_id,)).fetchone()
    if found is None:
        raise CommandRefused("unknown_command", id=str(command_id))
    return found


def lock_due(connection: Connection, now: datetime, limit: int) -> list[Command]:
    """Commands to be sent (again) now that nobody else is at, oldest first, locked."""
    return _read(
        connection,
        "state IN ('approved', 'sent') AND next_send_at <= %(now)s ORDER BY requested_at LIMIT %(limit)s"
        " FOR UPDATE SKIP LOCKED",
        {"now": now, "limit": limit},
    )


def lock_silent(connection: Connection, now: datetime, answered_by: datetime, limit: int) -> list[Command]:
    """Commands whose time is over, locked: not sent by `now`; sent or answered, and silent at `answered_by`."""
    return _read(
        connection,
        "(state IN ('requested', 'approved') AND expires_at <= %(now)s"
        " OR state = 'sent' AND expires_at <= %(answered_by)s"
        " OR state = 'acknowledged' AND verify_until <= %(answered_by)s)"
        " ORDER BY requested_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
        {"now": now, "answered_by": answered_by, "limit": limit},
    )


def lock_open(
    connection: Connection, *, device_ids: Collection[UUID] | None = None, ids: Collection[UUID] | None = None
) -> list[Command]:
    """Those of these devices, or of `ids`, that are open; locked in one order, so that two callers never block each other
    for good."""
    values = {"devices": None if device_ids is None else list(device_ids), "ids": None if ids is None else list(ids)}
    return _read(
        connection,
        f"{_OPEN} AND (device_id = ANY (%(devices)s::uuid[]) OR id = ANY (%(ids)s::uuid[])) ORDER BY id FOR UPDATE",
        values,
    )


def read_open(connection: Connection, device_ids: Collection[UUID]) -> list[Command]:
    """Open commands of these devices, not locked."""
    return _read(connection, f"{_OPEN} AND device_id = ANY (%(ids)s)", {"ids": list(device_ids)})


def is_any_due(connection: Connection, now: datetime) -> bool:
    """Whether a command is due, be it that somebody else holds it."""
    row = connection.execute(
        f"SELECT EXISTS (SELECT FROM command WHERE {_OPEN} AND state IN ('approved', 'sent') AND next_send_at <= %s)",
        (now,),
    ).fetchone()
    return row == (True,)


def read_commands(connection: Connection, ids: Collection[UUID]) -> dict[UUID, Command]:
    """Those of `ids` that exist, by id."""
    found = _read(connection, "id = ANY (%(ids)s)", {"ids": list(ids)})
    return {command.id: command for command in found}


def _read(connection: Connection, condition: str, values: Mapping[str, Any]) -> list[Command]:
    with connection.cursor(row_factory=class_row(Command)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM command WHERE {condition}", values).fetchall()


def _insert_event(
    connection: Connection,
    command_id: UUID,
    from_state: CommandState | None,
    state: CommandState,
    actor: CommandActor,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    connection.execute(
        "INSERT INTO command_event (id, command_id, at, from_state, state, actor_id, actor, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (new_id(now), command_id, now, from_state, state, actor.user_id, actor.name, Jsonb(dict(detail))),
    )


def _read_area(connection: Connection, device_id: UUID) -> str:
    row = connection.execute("SELECT area_code FROM device WHERE id = %s", (device_id,)).fetchone()
    return str(row[0]) if row else ""


def read_command_views(
    connection: Connection,
    *,
    ids: Collection[UUID] | None = None,
    device_id: UUID | None = None,
    open_only: bool = False,
    since: datetime | None = None,
    limit: int = 200,
) -> list[dict[str, Any]]:
    """Commands that the transaction's scope may see, newest first, in the one JSON shape (docs/commands-to-devices.md)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            f"""
            SELECT c.id, jsonb_build_object('id', d.id, 'code', d.code, 'name', d.name, 'kind', d.kind) AS device,
                   c.name, c.parameters, c.reason, c.state, c.second_person, c.seq, c.attempts,
                   jsonb_build_object('id', c.requested_by_id, 'name', c.requested_by) AS requested_by, c.requested_at,
                   CASE WHEN c.approved_by IS NOT NULL
                       THEN jsonb_build_object('id', c.approved_by_id, 'name', c.approved_by) END AS approved_by,
                   c.approved_at, c.sent_at, c.acknowledged_at, c.verify_until, c.ended_at, c.expires_at, c.interlocks,
                   c.outcome, e.events
            FROM command c JOIN device d ON d.id = c.device_id
            CROSS JOIN LATERAL (
                SELECT coalesce(jsonb_agg(jsonb_build_object('at', at, 'state', state, 'actor', actor, 'detail', detail)
                    ORDER BY n), '[]') AS events
                FROM command_event WHERE command_id = c.id) e
            WHERE (%(ids)s::uuid[] IS NULL OR c.id = ANY (%(ids)s))
              AND (%(device)s::uuid IS NULL OR c.device_id = %(device)s)
              AND (NOT %(open)s OR c.{_OPEN} OR c.ended_at >= %(since)s)
            ORDER BY c.requested_at DESC, c.id DESC LIMIT %(limit)s
            """,
            {
                "ids": None if ids is None else list(ids),
                "device": device_id,
                "open": open_only,
                "since": since,
                "limit": limit,
            },
        ).fetchall()


def resend_after(attempts: int) -> timedelta:
    """How long to wait for an answer after the `attempts`th sending: 1, 2, 4 … 30 s."""
    return timedelta(seconds=min(30.0, 2.0 ** min(attempts - 1, 10)))
