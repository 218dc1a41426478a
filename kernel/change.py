"""Changes for the wall and the phones, numbered in commit order.

Whoever changes a row that people watch writes a `change` without a number in the same transaction. One sequencer (an
advisory lock elects it) gives numbers to what has been committed. A sequence drawn at insert would let a reader skip a
row that commits late: `seq > last` over such numbers missed a third of the rows with eight writers when tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from kernel.db import Connection
from kernel.ids import new_id

CHANNEL = "gw_change"
_LOCK = 4_715_002


class ChangeKind(StrEnum):
    """What changed; the hub reads the object anew by its id."""

    INCIDENT = "incident"
    DEVICE = "device"
    USER = "user"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change."""

    seq: int
    kind: ChangeKind
    object_id: UUID
    area_code: str


def note_change(connection: Connection, kind: ChangeKind, object_id: UUID, area_code: str, now: datetime) -> None:
    """Say, in the caller's transaction, that this object changed."""
    connection.execute(
        "INSERT INTO change (id, kind, object_id, area_code, at) VALUES (%s, %s, %s, %s, %s) RETURNING pg_notify(%s, '')",
        (new_id(now), kind, object_id, area_code, now, CHANNEL),
    )


def note_changes(connection: Connection, kind: ChangeKind, objects: Sequence[tuple[UUID, str]], now: datetime) -> None:
    """As `note_change`, for many objects (id, area code) at once."""
    if not objects:
        return
    connection.execute(
        "INSERT INTO change (id, kind, object_id, area_code, at)"
        " SELECT c.id, %s, c.object_id, c.area_code, %s FROM unnest(%s::uuid[], %s::uuid[], %s::text[])"
        " AS c (id, object_id, area_code)",
        (kind, now, [new_id(now) for _ in objects], [object_id for object_id, _ in objects], [a for _, a in objects]),
    )
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def number_changes(connection: Connection, limit: int = 5000) -> int:
    """Number what has been committed, in this transaction; how many. 0 too when another sequencer is at it.

    The counter's row lock makes two sequencers take turns even if the advisory lock is lost with its connection.
    """
    if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone() != (True,):
        return 0
    row = connection.execute(
        """
        WITH counter AS (SELECT last FROM change_counter FOR UPDATE),
        waiting AS (
            SELECT id, row_number() OVER (ORDER BY id) AS n FROM change WHERE seq IS NULL ORDER BY id LIMIT %s),
        numbered AS (
            UPDATE change c SET seq = counter.last + waiting.n FROM waiting, counter WHERE c.id = waiting.id RETURNING c.seq),
        moved AS (
            UPDATE change_counter SET last = (SELECT max(seq) FROM numbered) WHERE EXISTS (SELECT FROM numbered))
        SELECT count(*) FROM numbered
        """,
        (limit,),
    ).fetchone()
    return int(row[0]) if row is not None else 0


def read_last_seq(connection: Connection) -> int:
    """The newest number given."""
    row = connection.execute("SELECT last FROM change_counter").fetchone()
    return int(row[0]) if row else 0


def read_oldest_seq(connection: Connection) -> int:
    """The oldest number still kept: a reader behind it needs a new snapshot. 0 when nothing is kept."""
    row = connection.execute("SELECT min(seq) FROM change").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def read_changes(connection: Connection, after: int, limit: int = 2000) -> Sequence[Change]:
    """Numbered changes after `after`, in order, that the transaction's scope may see."""
    rows = connection.execute(
        "SELECT seq, kind, object_id, area_code FROM change WHERE seq > %s ORDER BY seq LIMIT %s", (after, limit)
    ).fetchall()
    return [Change(seq, ChangeKind(kind), object_id, area_code) for seq, kind, object_id, area_code in rows]


def forget_changes(connection: Connection, now: datetime, keep: timedelta = timedelta(hours=24)) -> int:
    """Delete numbered changes older than `keep`, always leaving the newest one; how many."""
    return connection.execute(
        "DELETE FROM change WHERE seq IS NOT NULL AND at < %s AND seq < (SELECT last FROM change_counter)",
        (now - keep,),
    ).rowcount
