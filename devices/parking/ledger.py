"""What people see and decide about parking, with its SQL: lots, sessions, statements, bindings, misread exits.

Plates come out masked; `reveal_plates` is the one way to a whole one, and it is audited.
"""

from collections.abc import Mapping
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from devices.parking import store
from devices.parking.flow import replay_lot
from devices.parking.gate import Lot
from devices.parking.plate import clean_plate, is_plate, mask_plate
from devices.parking.session import SessionState
from devices.parking.statement import CHANGES, Bill, StatementState
from devices.parking.tariff import Tariff
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id

Row = dict[str, Any]


class ParkingError(Exception):
    """What was asked cannot be done, and nothing was written; `code` is stable."""

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code)
        self.code = code
        self.params = params


# ------------------------------------------------------------------------------------------------ lots


def read_lots(connection: Connection, now: datetime, lot_id: UUID | None = None) -> list[Row]:
    """Lots with their bays. `bays_free`: the gate's last count and what passed since, else all less the open sessions.

    `difference`: how many more bays the sessions leave free than the gate counts; not 0 when passages were missed.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            SELECT l.id, l.code AS lot, l.name, l.area_code, l.lon, l.lat, l.deferred, l.entry, l.overdue_limit,
                   l.pay_within_days, l.gate_bays_at, t.tariff, t.valid_from AS tariff_from, c.open_sessions, n.bays_total,
                   n.by_sessions, n.by_gate, coalesce(n.by_gate, n.by_sessions) AS bays_free,
                   n.by_sessions - n.by_gate AS difference, c.unmatched,
                   greatest(l.changed_at, l.gate_bays_at, p.last_at) AS updated_at
            FROM parking_lot l
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE s.ended_at IS NULL)::int AS open_sessions,
                       count(*) FILTER (WHERE s.state = 'unmatched')::int AS unmatched
                FROM parking_session s WHERE s.lot_id = l.id AND (s.ended_at IS NULL OR s.state = 'unmatched')) c
            CROSS JOIN LATERAL (
                SELECT (SELECT max(at) FROM parking_passage WHERE lot_id = l.id) AS last_at,
                       (count(*) FILTER (WHERE p.direction = 'in') - count(*) FILTER (WHERE p.direction = 'out'))::int AS since
                FROM parking_passage p WHERE p.lot_id = l.id AND p.at > l.gate_bays_at) p
            CROSS JOIN LATERAL (
                SELECT coalesce(l.bays_total, l.gate_bays_total) AS bays_total,
                       coalesce(l.bays_total, l.gate_bays_total) - c.open_sessions AS by_sessions,
                       l.gate_bays_free - p.since AS by_gate) n
            LEFT JOIN LATERAL (
                SELECT tariff, valid_from FROM parking_tariff WHERE lot_id = l.id AND valid_from <= %(now)s
                ORDER BY valid_from DESC LIMIT 1) t ON true
            WHERE %(lot)s::uuid IS NULL OR l.id = %(lot)s
            ORDER BY l.name, l.code, l.id
            """,
            {"now": now, "lot": lot_id},
        ).fetchall()


def write_lot(
    connection: Connection, lot_id: UUID, changes: Mapping[str, Any], tariff: Tariff | None, actor: str, now: datetime
) -> Row:
    """Change a lot's own fields (name, bays_total, deferred, entry, overdue_limit, pay_within_days), and from now on its tariff.

    Stays that began before keep the tariff that held then. Raises ParkingError (unknown_lot).
    """
    lot = _lock_lot(connection, lot_id)
    names = [n for n in ("name", "bays_total", "deferred", "entry", "overdue_limit", "pay_within_days") if n in changes]
    assignments = "".join(f", {name} = %({name})s" for name in names)
    connection.execute(
        f"UPDATE parking_lot SET changed_at = %(now)s{assignments} WHERE id = %(id)s",
        {**changes, "now": now, "id": lot_id},
    )
    if tariff is not None and tariff != (known[-1][1] if (known := store.read_tariffs(connection, lot_id)) else None):
        store.write_tariff(connection, lot_id, now, tariff, actor)
    detail = {**{name: changes[name] for name in names}, "tariff": tariff.model_dump() if tariff is not None else None}
    write_audit(connection, now, actor=actor, action="parking_lot_changed", subject=lot.code, detail=detail)
    [row] = read_lots(connection, now, lot_id)
    return row


def _lock_lot(connection: Connection, lot_id: UUID) -> Lot:
    with connection.cursor(row_factory=class_row(Lot)) as cursor:
        lot = cursor.execute(
            "SELECT id, code, area_code, name, bays_total, deferred, entry, overdue_limit, pay_within_days,"
            " gate_bays_free, gate_bays_total, gate_bays_at FROM parking_lot WHERE id = %s FOR UPDATE",
            (lot_id,),
        ).fetchone()
    if lot is None:
        raise ParkingError("unknown_lot")
    return lot


# ------------------------------------------------------------------------------------------------ sessions

_SESSIONS = """
    SELECT s.id, l.id AS lot_id, l.code AS lot, l.name AS lot_name, s.state, s.plate, s.exit_plate, s.colour, s.entered_at,
           s.left_at, s.ended_at, s.matched_by, t.amount_fen, t.due_at, t.issued_at,
           CASE WHEN t.state = 'unpaid' AND t.due_at < %(now)s THEN 'overdue' ELSE t.state END AS payment
    FROM parking_session s JOIN parking_lot l ON l.id = s.lot_id LEFT JOIN parking_statement t ON t.session_id = s.id
"""
# Conditions on a session (s) and its statement (t), by the state that is asked for.
_STATES = {
    "unpaid": "t.state = 'unpaid' AND t.due_at >= %(now)s",
    "overdue": "t.state = 'unpaid' AND t.due_at < %(now)s",
} | {state: f"t.state = '{state}'" for state in ("paid", "disputed", "cancelled")}


def read_stays(
    connection: Connection,
    now: datetime,
    *,
    lot_id: UUID | None = None,
    state: SessionState | StatementState | None = None,
    q: str = "",
    before: UUID | None = None,
    limit: int = 100,
) -> list[Row]:
    """Sessions, the newest first, masked. `state`: of the session, or of its statement; `q`: part of a plate."""
    conditions = ["true"]
    if lot_id is not None:
        conditions.append("s.lot_id = %(lot)s")
    if state is not None:
        conditions.append(_STATES.get(state, "s.state = %(state)s"))
    if q:
        conditions.append("(position(%(q)s IN s.plate) > 0 OR position(%(q)s IN coalesce(s.exit_plate, '')) > 0)")
    if before is not None:
        conditions.append(
            "(coalesce(s.entered_at, s.left_at), s.id) <"
            " (SELECT coalesce(b.entered_at, b.left_at), b.id FROM parking_session b WHERE b.id = %(before)s)"
        )
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"{_SESSIONS} WHERE {' AND '.join(conditions)}"
            " ORDER BY coalesce(s.entered_at, s.left_at) DESC, s.id DESC LIMIT %(limit)s",
            {"now": now, "lot": lot_id, "state": state, "q": clean_plate(q), "before": before, "limit": limit},
        ).fetchall()
    return [_mask(row) for row in rows]


def read_stay(connection: Connection, session_id: UUID, now: datetime) -> Row:
    """One session, masked, with what happened to its statement. Raises ParkingError (unknown_session)."""
    row = _find(connection, session_id, now)
    with connection.cursor(row_factory=dict_row) as cursor:
        events = cursor.execute(
            "SELECT e.at, e.from_state, e.to_state, e.amount_fen, e.actor, e.reason FROM parking_statement_event e"
            " JOIN parking_statement t ON t.id = e.statement_id WHERE t.session_id = %s ORDER BY e.at, e.id",
            (session_id,),
        ).fetchall()
    return _mask(row) | {"events": events}


def _find(connection: Connection, session_id: UUID, now: datetime) -> Row:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(f"{_SESSIONS} WHERE s.id = %(id)s", {"id": session_id, "now": now}).fetchone()
    if row is None:
        raise ParkingError("unknown_session")
    return row


def _mask(row: Row) -> Row:
    exit_plate = row["exit_plate"]
    return row | {
        "plate": mask_plate(row["plate"]),
        "exit_plate": mask_plate(exit_plate) if exit_plate is not None else None,
    }


def reveal_plates(connection: Connection, session_id: UUID, actor: str, reason: str, now: datetime) -> Row:
    """The plates of one session in full; who looked and why is kept. Raises ParkingError (unknown_session)."""
    row = _find(connection, session_id, now)
    detail = {"reason": reason, "plate": mask_plate(row["plate"])}
    write_audit(connection, now, actor=actor, action="plate_revealed", subject=str(session_id), detail=detail)
    return {"plate": row["plate"], "exit_plate": row["exit_plate"]}


# ------------------------------------------------------------------------------------------------ decisions of people


def change_statement(
    connection: Connection, session_id: UUID, to: StatementState, actor: str, reason: str, now: datetime
) -> Row:
    """Set a statement paid, disputed, unpaid again or cancelled; from then on nothing that gates say changes it.

    Raises ParkingError (unknown_session, no_statement, not_allowed_in_state).
    """
    _find(connection, session_id, now)
    row = connection.execute(
        "SELECT id, state, amount_fen FROM parking_statement WHERE session_id = %s FOR UPDATE", (session_id,)
    ).fetchone()
    if row is None:
        raise ParkingError("no_statement")
    statement_id, state, amount_fen = row
    if to not in CHANGES[StatementState(state)]:
        raise ParkingError("not_allowed_in_state", state=state, to=str(to))
    connection.execute(
        "UPDATE parking_statement SET state = %s, by_person = true, updated_at = %s WHERE id = %s",
        (to, now, statement_id),
    )
    change = Bill(amount_fen=amount_fen, state=to, reason=reason)
    store.log_statement(connection, statement_id, state, change, actor, now)
    return read_stay(connection, session_id, now)


def read_entries(connection: Connection, session_id: UUID, now: datetime, limit: int = 20) -> list[Row]:
    """Stays that an unmatched exit may belong to: inside when it left, the most alike plate first, masked.

    Raises ParkingError (unknown_session).
    """
    exit_row = _find(connection, session_id, now)
    if exit_row["left_at"] is None:
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"{_SESSIONS} WHERE s.lot_id = %(lot)s AND s.entered_at < %(at)s AND s.id <> %(id)s"
            " AND (s.ended_at IS NULL OR s.ended_at > %(at)s) ORDER BY s.entered_at DESC LIMIT 2000",
            {"lot": exit_row["lot_id"], "at": exit_row["left_at"], "id": session_id, "now": now},
        ).fetchall()
    read = exit_row["exit_plate"] or ""
    alike = [(round(SequenceMatcher(None, read, row["plate"]).ratio(), 3), row) for row in rows]
    alike.sort(key=lambda one: one[0], reverse=True)
    return [_mask(row) | {"likeness": likeness} for likeness, row in alike[:limit]]


def decide_exit(
    connection: Connection, session_id: UUID, entry_id: UUID | None, actor: str, reason: str, now: datetime
) -> Row:
    """A person says to which entry an exit belongs, or to none; the lot is replayed with that. The stay that has the exit.

    Raises ParkingError (unknown_session, no_exit, unknown_entry).
    """
    lot_row = connection.execute("SELECT lot_id FROM parking_session WHERE id = %s", (session_id,)).fetchone()
    if lot_row is None:
        raise ParkingError("unknown_session")
    lot = _lock_lot(connection, lot_row[0])
    row = connection.execute(
        "SELECT s.exit_id, p.at FROM parking_session s JOIN parking_passage p ON p.id = s.exit_id WHERE s.id = %s",
        (session_id,),
    ).fetchone()
    if row is None:
        raise ParkingError("no_exit")
    exit_id, left_at = row
    if entry_id is not None:
        found = connection.execute(
            "SELECT FROM parking_passage WHERE id = %s AND lot_id = %s AND direction = 'in' AND at < %s",
            (entry_id, lot.id, left_at),
        ).fetchone()
        if found is None:
            raise ParkingError("unknown_entry")
    connection.execute(
        "INSERT INTO parking_choice (exit_id, lot_id, entry_id, decided_by, decided_at, reason) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (exit_id) DO UPDATE SET entry_id = EXCLUDED.entry_id, decided_by = EXCLUDED.decided_by,"
        " decided_at = EXCLUDED.decided_at, reason = EXCLUDED.reason",
        (exit_id, lot.id, entry_id, actor, now, reason),
    )
    detail = {"reason": reason, "entry": str(entry_id) if entry_id else None}
    write_audit(connection, now, actor=actor, action="parking_exit_decided", subject=str(exit_id), detail=detail)
    replay_lot(connection, lot, left_at, now)
    holder = connection.execute("SELECT id FROM parking_session WHERE exit_id = %s", (exit_id,)).fetchone()
    assert holder is not None  # an exit is always somebody's
    return read_stay(connection, holder[0], now)


# ------------------------------------------------------------------------------------------------ bindings, barriers


def read_bindings(connection: Connection, now: datetime, limit: int = 500) -> list[Row]:
    """Plates that may leave first and pay later, masked, the newest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id, plate, area_code, reference, bound_at, ends_at, bound_by FROM plate_binding"
            " WHERE ended_at IS NULL AND (ends_at IS NULL OR ends_at > %s) ORDER BY bound_at DESC, id LIMIT %s",
            (now, limit),
        ).fetchall()
    return [row | {"plate": mask_plate(row["plate"])} for row in rows]


def add_binding(
    connection: Connection,
    *,
    plate: str,
    area_code: str,
    reference: str,
    ends_at: datetime | None,
    actor: str,
    now: datetime,
) -> UUID:
    """Bind a plate in an area ('' everywhere). Raises ParkingError (bad_plate, binding_taken, bad_end)."""
    cleaned = clean_plate(plate)
    if not is_plate(cleaned):
        raise ParkingError("bad_plate")
    if ends_at is not None and ends_at <= now:
        raise ParkingError("bad_end")
    binding_id = new_id(now)
    connection.execute(  # one that ran out makes room
        "UPDATE plate_binding SET ended_at = ends_at WHERE plate = %s AND area_code = %s AND ended_at IS NULL AND ends_at <= %s",
        (cleaned, area_code, now),
    )
    row = connection.execute(
        "INSERT INTO plate_binding (id, plate, area_code, reference, bound_at, ends_at, bound_by)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id",
        (binding_id, cleaned, area_code, reference, now, ends_at, actor),
    ).fetchone()
    if row is None:
        raise ParkingError("binding_taken")
    detail = {"plate": mask_plate(cleaned), "area_code": area_code}
    write_audit(connection, now, actor=actor, action="plate_bound", subject=str(binding_id), detail=detail)
    return binding_id


def end_binding(connection: Connection, binding_id: UUID, actor: str, now: datetime) -> None:
    """The plate pays before it leaves from now on. Raises ParkingError (unknown_binding)."""
    row = connection.execute(
        "UPDATE plate_binding SET ended_at = %s WHERE id = %s AND ended_at IS NULL RETURNING plate", (now, binding_id)
    ).fetchone()
    if row is None:
        raise ParkingError("unknown_binding")
    detail = {"plate": mask_plate(row[0])}
    write_audit(connection, now, actor=actor, action="plate_unbound", subject=str(binding_id), detail=detail)


def read_decisions(connection: Connection, lot_id: UUID | None, limit: int = 100) -> list[Row]:
    """For whom barriers were opened or not, and why: the newest first, masked."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT b.id, b.lot_id, b.device_id, b.at, b.direction, b.plate, b.opened, b.code, b.session_id, b.command_id"
            " FROM barrier_decision b WHERE %(lot)s::uuid IS NULL OR b.lot_id = %(lot)s ORDER BY b.at DESC, b.id DESC LIMIT %(limit)s",
            {"lot": lot_id, "limit": limit},
        ).fetchall()
    return [row | {"plate": mask_plate(row["plate"])} for row in rows]
