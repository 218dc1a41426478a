"""The SQL of parking as ingest needs it: lots, passages, sessions, statements, bindings, decisions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from devices.model import Device
from devices.parking.gate import Arrival, Decision, Lot
from devices.parking.session import DOUBLE_READ, MatchedBy, Passage, Session, SessionState
from devices.parking.statement import Bill, Statement
from devices.parking.tariff import Tariff
from kernel.db import Connection
from kernel.ids import new_id

_LOT = (
    "id, code, area_code, name, bays_total, deferred, entry, overdue_limit, pay_within_days,"
    " gate_bays_free, gate_bays_total, gate_bays_at"
)
_SESSION = "id, state, plate, colour, entered_at, left_at, ended_at, exit_id, exit_plate, matched_by, paid, fee_fen"
LotKey = tuple[str, str]  # (code as the gate names it, area code of the gate)


@dataclass(frozen=True, kw_only=True, slots=True)
class BayCount:
    """How many bays a gate counted, and when."""

    lot_id: UUID
    free: int
    total: int | None
    at: datetime


# ------------------------------------------------------------------------------------------------ lots


def make_lots(connection: Connection, gates: Mapping[LotKey, Device], now: datetime) -> dict[LotKey, Lot]:
    """The lots that these gates belong to; made where there is none yet, at the gate's position and without a tariff."""
    found = _read_lots(connection, list(gates))
    missing = [key for key in gates if key not in found]
    for key in sorted(missing):
        gate = gates[key]
        connection.execute(
            "INSERT INTO parking_lot (id, code, area_code, lon, lat, changed_at) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (new_id(now), *key, gate.lon, gate.lat, now),
        )
    return found | (_read_lots(connection, missing) if missing else {})


def _read_lots(connection: Connection, keys: Sequence[LotKey]) -> dict[LotKey, Lot]:
    with connection.cursor(row_factory=class_row(Lot)) as cursor:
        rows = cursor.execute(
            f"SELECT {_LOT} FROM parking_lot WHERE (code, area_code) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
            ([code for code, _ in keys], [area for _, area in keys]),
        ).fetchall()
    return {(lot.code, lot.area_code): lot for lot in rows}


def lock_lots(connection: Connection, lot_ids: Iterable[UUID]) -> None:
    """One transaction at a time changes a lot's sessions. Locked in one order, so that two never wait crosswise."""
    connection.execute("SELECT id FROM parking_lot WHERE id = ANY (%s) ORDER BY id FOR UPDATE", (sorted(set(lot_ids)),))


def set_bays(connection: Connection, counts: Sequence[BayCount]) -> None:
    """Keep what gates counted last; the same count again is written once a minute at most."""
    connection.execute(
        """
        UPDATE parking_lot l SET gate_bays_free = c.free, gate_bays_total = coalesce(c.total, l.gate_bays_total),
            gate_bays_at = c.at
        FROM unnest(%s::uuid[], %s::int[], %s::int[], %s::timestamptz[]) AS c (id, free, total, at)
        WHERE l.id = c.id AND (l.gate_bays_at IS NULL OR l.gate_bays_at < c.at)
          AND ((l.gate_bays_free, l.gate_bays_total) IS DISTINCT FROM (c.free, coalesce(c.total, l.gate_bays_total))
               OR l.gate_bays_at < c.at - interval '1 minute')
        """,
        ([c.lot_id for c in counts], [c.free for c in counts], [c.total for c in counts], [c.at for c in counts]),
    )


def count_free(connection: Connection, lot_id: UUID) -> int | None:
    """Bays free now: the gate's last count and what passed since, else all bays less the open sessions; None unknown."""
    row = connection.execute(
        """
        SELECT l.gate_bays_free - (SELECT count(*) FILTER (WHERE direction = 'in') - count(*) FILTER (WHERE direction = 'out')
                                   FROM parking_passage p WHERE p.lot_id = l.id AND p.at > l.gate_bays_at),
               l.bays_total - (SELECT count(*) FROM parking_session s WHERE s.lot_id = l.id AND s.ended_at IS NULL)
        FROM parking_lot l WHERE l.id = %s
        """,
        (lot_id,),
    ).fetchone()
    by_gate, by_sessions = row if row is not None else (None, None)
    found = by_gate if by_gate is not None else by_sessions
    return None if found is None else int(found)


def read_tariffs(connection: Connection, lot_id: UUID) -> list[tuple[datetime, Tariff]]:
    """The lot's tariffs with the instants from which they hold, oldest first."""
    rows = connection.execute(
        "SELECT valid_from, tariff FROM parking_tariff WHERE lot_id = %s ORDER BY valid_from", (lot_id,)
    ).fetchall()
    return [(valid_from, Tariff.model_validate(tariff)) for valid_from, tariff in rows]


# ------------------------------------------------------------------------------------------------ passages, sessions


def insert_passages(connection: Connection, lot_id: UUID, passages: Sequence[Passage], now: datetime) -> None:
    """Keep what gates saw; what is known already stays as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO parking_passage (id, lot_id, device_id, direction, plate, colour, confidence_pct, at, paid, fee_fen,"
            " received_at) VALUES (%(id)s, %(lot)s, %(device_id)s, %(direction)s, %(plate)s, %(colour)s, %(confidence_pct)s,"
            " %(at)s, %(paid)s, %(fee_fen)s, %(now)s) ON CONFLICT DO NOTHING",
            [asdict(passage) | {"lot": lot_id, "now": now} for passage in passages],
        )


def read_passages(connection: Connection, lot_id: UUID, since: datetime) -> list[Passage]:
    """The lot's passages from that instant on."""
    with connection.cursor(row_factory=class_row(Passage)) as cursor:
        return cursor.execute(
            "SELECT id, device_id, direction, plate, at, colour, confidence_pct, paid, fee_fen FROM parking_passage"
            " WHERE lot_id = %s AND at >= %s ORDER BY at, id",
            (lot_id, since),
        ).fetchall()


def read_choices(connection: Connection, exit_ids: Collection[UUID]) -> dict[UUID, UUID | None]:
    """What people decided about these exits."""
    rows = connection.execute(
        "SELECT exit_id, entry_id FROM parking_choice WHERE exit_id = ANY (%s)", (list(exit_ids),)
    ).fetchall()
    return dict(rows)


def read_sessions(connection: Connection, lot_id: UUID, since: datetime) -> list[Session]:
    """Whoever was inside at some time since that instant, or had left less than a double reading before."""
    return _read_sessions(
        connection, "lot_id = %s AND (ended_at IS NULL OR ended_at >= %s)", (lot_id, since - DOUBLE_READ)
    )


def read_inside(connection: Connection, lot_id: UUID) -> list[Session]:
    """Whoever is inside."""
    return _read_sessions(connection, "lot_id = %s AND ended_at IS NULL", (lot_id,))


def _read_sessions(connection: Connection, condition: str, values: Sequence[object]) -> list[Session]:
    rows = connection.execute(f"SELECT {_SESSION} FROM parking_session WHERE {condition}", values).fetchall()
    return [
        Session(
            id=row[0],
            state=SessionState(row[1]),
            plate=row[2],
            colour=row[3],
            entered_at=row[4],
            left_at=row[5],
            ended_at=row[6],
            exit_id=row[7],
            exit_plate=row[8],
            matched_by=MatchedBy(row[9]) if row[9] else None,
            paid=row[10],
            fee_fen=row[11],
        )
        for row in rows
    ]


def write_sessions(
    connection: Connection, lot: Lot, changed: Sequence[Session], vanished: Collection[UUID], now: datetime
) -> None:
    """Store what a replay found."""
    if vanished:
        connection.execute("DELETE FROM parking_session WHERE id = ANY (%s)", (list(vanished),))
    if not changed:
        return
    names = [name.strip() for name in _SESSION.split(",")]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO parking_session ({_SESSION}, lot_id, area_code, updated_at)"
            f" VALUES ({', '.join(f'%({name})s' for name in names)}, %(lot)s, %(area)s, %(now)s)"
            f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{n} = EXCLUDED.{n}' for n in [*names[1:], 'updated_at'])}",
            [asdict(session) | {"lot": lot.id, "area": lot.area_code, "now": now} for session in changed],
        )


# ------------------------------------------------------------------------------------------------ statements, bindings


def read_statements(connection: Connection, session_ids: Collection[UUID]) -> dict[UUID, Statement]:
    """Statements of these sessions, by session."""
    with connection.cursor(row_factory=class_row(Statement)) as cursor:
        rows = cursor.execute(
            "SELECT id, session_id, amount_fen, state, due_at, by_person FROM parking_statement WHERE session_id = ANY (%s)",
            (list(session_ids),),
        ).fetchall()
    return {statement.session_id: statement for statement in rows}


def write_bill(
    connection: Connection, lot: Lot, session_id: UUID, plate: str, known: Statement | None, bill: Bill, due_at: datetime,
    now: datetime,
) -> None:  # fmt: skip
    """Issue a statement or change one that no person has settled, with its event."""
    statement_id = known.id if known is not None else new_id(now)
    connection.execute(
        """
        INSERT INTO parking_statement (id, session_id, lot_id, area_code, plate, amount_fen, state, issued_at, due_at, updated_at)
        VALUES (%(id)s, %(session)s, %(lot)s, %(area)s, %(plate)s, %(amount)s, %(state)s, %(now)s, %(due)s, %(now)s)
        ON CONFLICT (session_id) DO UPDATE SET amount_fen = EXCLUDED.amount_fen, state = EXCLUDED.state, updated_at = %(now)s
        """,
        {
            "id": statement_id, "session": session_id, "lot": lot.id, "area": lot.area_code, "plate": plate,
            "amount": bill.amount_fen, "state": bill.state, "due": due_at, "now": now,
        },
    )  # fmt: skip
    from_state = known.state if known is not None else None
    log_statement(connection, statement_id, from_state, bill, "parking", now)


def log_statement(
    connection: Connection, statement_id: UUID, from_state: str | None, bill: Bill, actor: str, now: datetime
) -> None:
    """Append to the statement's log."""
    connection.execute(
        "INSERT INTO parking_statement_event (id, statement_id, at, from_state, to_state, amount_fen, actor, reason)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (new_id(now), statement_id, now, from_state, bill.state, bill.amount_fen, actor, bill.reason),
    )


def read_bound(
    connection: Connection, wanted: Sequence[tuple[str, datetime]], area_code: str
) -> set[tuple[str, datetime]]:
    """Those (plate, instant) of `wanted` that were bound there and then."""
    if not wanted:
        return set()
    rows = connection.execute(
        """
        SELECT w.plate, w.at FROM unnest(%s::text[], %s::timestamptz[]) AS w (plate, at)
        WHERE EXISTS (SELECT FROM plate_binding b WHERE b.plate = w.plate AND %s::text ^@ b.area_code AND b.bound_at <= w.at
                      AND w.at < least(coalesce(b.ends_at, 'infinity'), coalesce(b.ended_at, 'infinity')))
        """,
        ([plate for plate, _ in wanted], [at for _, at in wanted], area_code),
    ).fetchall()
    return {(plate, at) for plate, at in rows}


def count_overdue(connection: Connection, plate: str, now: datetime) -> int:
    """How many statements of this plate are overdue, in all lots."""
    row = connection.execute(
        "SELECT count(*) FROM parking_statement WHERE plate = %s AND state = 'unpaid' AND due_at < %s", (plate, now)
    ).fetchone()
    return int(row[0]) if row else 0


def insert_decision(
    connection: Connection, lot: Lot, arrival: Arrival, decision: Decision, command_id: UUID | None, now: datetime
) -> None:
    """Keep for whom a barrier was opened or not, and why."""
    connection.execute(
        "INSERT INTO barrier_decision (id, lot_id, area_code, device_id, at, direction, plate, opened, code, session_id,"
        " command_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            new_id(now), lot.id, lot.area_code, arrival.device_id, arrival.at, arrival.direction, arrival.plate,
            decision.opened, decision.code, decision.session.id if decision.session else None, command_id,
        ),
    )  # fmt: skip


def write_tariff(connection: Connection, lot_id: UUID, valid_from: datetime, tariff: Tariff, set_by: str) -> None:
    """A tariff from that instant on. Raises psycopg.errors.UniqueViolation for a second one of the same instant."""
    connection.execute(
        "INSERT INTO parking_tariff (lot_id, valid_from, tariff, set_by) VALUES (%s, %s, %s, %s)",
        (lot_id, valid_from, Jsonb(tariff.model_dump()), set_by),
    )


def forget_stays(connection: Connection, before: datetime, limit: int = 5_000) -> int:
    """Delete stays that ended (or, never having ended, began) before that instant, with all that names their plates.

    A stay that somebody still owes for is kept. `limit` at most in one go; how many rows went.
    """
    gone = connection.execute(
        """
        DELETE FROM parking_session WHERE id IN (
            SELECT s.id FROM parking_session s
            WHERE coalesce(s.ended_at, s.entered_at) < %(before)s
              AND NOT EXISTS (SELECT FROM parking_statement t WHERE t.session_id = s.id AND t.state IN ('unpaid', 'disputed'))
            LIMIT %(limit)s)
        """,
        {"before": before, "limit": limit},
    ).rowcount
    for query in (
        "DELETE FROM parking_statement t WHERE t.updated_at < %(before)s AND t.state IN ('paid', 'cancelled')"
        " AND NOT EXISTS (SELECT FROM parking_session s WHERE s.id = t.session_id)",
        "DELETE FROM parking_choice c WHERE c.decided_at < %(before)s",
        "DELETE FROM parking_passage p WHERE p.id IN (SELECT id FROM parking_passage WHERE at < %(before)s LIMIT %(limit)s)",
        "DELETE FROM barrier_decision b WHERE b.id IN (SELECT id FROM barrier_decision WHERE at < %(before)s LIMIT %(limit)s)",
        "DELETE FROM plate_binding b WHERE coalesce(b.ended_at, b.ends_at) < %(before)s",
    ):
        gone += connection.execute(query, {"before": before, "limit": limit}).rowcount
    return gone
