"""Dead letters: looking through them, trying them again after what was wrong has been mended, emptying them.

A replay takes a message as if it had come when it came: its own instant of receiving counts, for its date and for where
its readings are stored. What can be used now goes the ordinary way (`take_batch`) and its letter is deleted; what cannot
stays, with the reason it has now. Trying twice, or a crash between the two, takes a message once: it is known by its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from devices.store import read_devices_by_code
from ingest.batch import take_batch
from ingest.decode import DeadLetter, Decoded, Raw, check_device, clean_detail
from ingest.ways.raw import decode_all
from kernel.db import Connection, Database
from kernel.settings import IngestSettings

_COLUMNS: LiteralString = (
    "id, topic, device_code, substr(payload, 1, 2000) AS payload, payload_bytes, length(payload) AS kept_bytes, reason,"
    " detail, received_at, replays, replayed_at"
)
_CHUNK = 200
_OURS = "gridwarden/"  # what came another way and never became a message of ours is kept to be read, not replayed


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """A message that could not be used. `payload`: its first 2,000 bytes; `kept_bytes`: how much of it is stored."""

    id: UUID
    topic: str
    device_code: str
    payload: bytes
    payload_bytes: int
    kept_bytes: int
    reason: str
    detail: str
    received_at: datetime
    replays: int
    replayed_at: datetime | None

    @property
    def replayable(self) -> bool:
        """Whether it can be tried again: all of it was kept, and it is a message on a topic of ours."""
        return not self.cut and self.topic.startswith(_OURS)

    @property
    def cut(self) -> bool:
        """Whether only its beginning was kept."""
        return self.kept_bytes < self.payload_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasonCount:
    """How many letters a reason has."""

    reason: str
    count: int
    newest_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came of a replay: letters tried, messages taken now, known before, and letters that remain."""

    replayed: int = 0
    taken: int = 0
    repeated: int = 0
    dead: int = 0

    def __add__(self, other: "Replay") -> "Replay":
        return Replay(
            replayed=self.replayed + other.replayed,
            taken=self.taken + other.taken,
            repeated=self.repeated + other.repeated,
            dead=self.dead + other.dead,
        )


def read_letters(
    connection: Connection, *, reason: str | None, device_code: str | None, before: UUID | None, limit: int
) -> list[Letter]:
    """Newest first, those behind the cursor `before`."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(
            f"""
            SELECT {_COLUMNS} FROM dead_letter
            WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
              AND (%(code)s::text IS NULL OR device_code = %(code)s) AND (%(before)s::uuid IS NULL OR id < %(before)s)
            ORDER BY id DESC LIMIT %(limit)s
            """,
            {"reason": reason, "code": device_code, "before": before, "limit": limit},
        ).fetchall()


def read_letter(connection: Connection, letter_id: UUID) -> Letter | None:
    """One letter, or None."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM dead_letter WHERE id = %s", (letter_id,)).fetchone()


def count_letters(connection: Connection) -> list[ReasonCount]:
    """How many of each reason, the most frequent first."""
    with connection.cursor(row_factory=class_row(ReasonCount)) as cursor:
        return cursor.execute(
            "SELECT reason, count(*) AS count, max(received_at) AS newest_at FROM dead_letter"
            " GROUP BY reason ORDER BY count DESC, reason"
        ).fetchall()


def empty_letters(connection: Connection, before: datetime) -> int:
    """Delete what was received before that instant; how many."""
    return connection.execute("DELETE FROM dead_letter WHERE received_at < %s", (before,)).rowcount


def replay_letters(
    database: Database,
    now: datetime,
    limits: IngestSettings,
    timezone: str,
    *,
    ids: Sequence[UUID] | None = None,
    reason: str | None = None,
    device_code: str | None = None,
    limit: int = 1_000,
) -> Replay:
    """Try letters again, the oldest first: these, or those of a reason and a device; those that are not `replayable` are left.

    Raises psycopg.Error when the database is away: what was done is done, the rest is as it was.
    """
    total, after = Replay(), None
    with database.transaction() as connection:  # letters that the replay itself makes are not tried again
        row = connection.execute("SELECT id FROM dead_letter ORDER BY id DESC LIMIT 1").fetchone()
    while row is not None and total.replayed < limit:
        with database.transaction() as connection:
            letters = _read_chunk(
                connection, ids, reason, device_code, (after, row[0]), min(_CHUNK, limit - total.replayed)
            )
        if not letters:
            break
        after = letters[-1][0]
        total += _replay_chunk(database, letters, now, limits, timezone)
    return total


def _read_chunk(
    connection: Connection,
    ids: Sequence[UUID] | None,
    reason: str | None,
    device_code: str | None,
    between: tuple[UUID | None, UUID],
    limit: int,
) -> list[tuple[UUID, Raw]]:
    query: LiteralString = """
        SELECT id, topic, payload, payload_bytes, received_at FROM dead_letter
        WHERE length(payload) = payload_bytes AND starts_with(topic, %(ours)s) AND (%(ids)s::uuid[] IS NULL OR id = ANY (%(ids)s))
          AND (%(reason)s::text IS NULL OR reason = %(reason)s)
          AND (%(code)s::text IS NULL OR device_code = %(code)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
          AND id <= %(last)s
        ORDER BY id LIMIT %(limit)s
        """
    parameters = {
        "ours": _OURS,
        "ids": None if ids is None else list(ids),
        "reason": reason,
        "code": device_code,
        "after": between[0],
        "last": between[1],
        "limit": limit,
    }
    return [
        (letter_id, Raw(topic, bytes(payload), size, received_at))
        for letter_id, topic, payload, size, received_at in connection.execute(query, parameters).fetchall()
    ]


def _replay_chunk(
    database: Database, letters: Sequence[tuple[UUID, Raw]], now: datetime, limits: IngestSettings, timezone: str
) -> Replay:
    good: list[tuple[UUID, list[Raw]]] = []
    bad: list[tuple[UUID, DeadLetter]] = []
    with database.transaction() as connection:
        # A vendor's own message may become several of ours, or, its mapping not mended, none.
        results = [(letter_id, decode_all(connection, [raw], limits)) for letter_id, raw in letters]
        codes = {one.address.device_code for _, of in results for one in of if isinstance(one, Decoded)}
        devices = read_devices_by_code(connection, codes)
        for letter_id, of in results:
            checked = [
                check_device(one, devices.get(one.address.device_code)) if isinstance(one, Decoded) else one
                for one in of
            ]
            refused = next((letter for letter in checked if letter is not None), None)
            if refused is None:
                good.append((letter_id, [one.raw for one in of]))
            else:
                bad.append((letter_id, refused))
        _keep(connection, bad, now)
    if not good:
        return Replay(replayed=len(letters), dead=len(bad))
    # Whatever it cannot use after all it stores as a new letter, so the old ones may go in any case.
    outcome = take_batch(database, [raw for _, raws in good for raw in raws], now, limits, timezone)
    with database.transaction() as connection:
        connection.execute("DELETE FROM dead_letter WHERE id = ANY (%s)", ([letter_id for letter_id, _ in good],))
    return Replay(replayed=len(letters), taken=outcome.taken, repeated=outcome.repeated, dead=len(bad) + outcome.dead)


def _keep(connection: Connection, letters: Sequence[tuple[UUID, DeadLetter]], now: datetime) -> None:
    if not letters:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE dead_letter SET reason = %s, detail = %s, replays = replays + 1, replayed_at = %s WHERE id = %s",
            [(letter.reason, clean_detail(letter.detail), now, letter_id) for letter_id, letter in letters],
        )
