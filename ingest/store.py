"""The SQL of taking messages in: what was taken, readings, dead letters, answers to checks, housekeeping."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from devices.model import Device, DeviceState
from devices.store import read_states
from ingest.decode import DeadLetter
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import CHANNEL
from kernel.types import Verdict

_KEPT_BYTES = 65_536  # of a dead letter's payload
_SWEEP_LOCK = 4_715_101


@dataclass(frozen=True, slots=True)
class Taken:
    """Key of one message."""

    device_id: UUID
    message_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured number."""

    device_id: UUID
    metric: str
    value: float
    measured_at: datetime
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRequest:
    """A closure check that waits for a sensor's answer."""

    id: UUID
    device_id: UUID
    rule: str
    requested_at: datetime
    expires_at: datetime


def insert_messages(connection: Connection, messages: Iterable[tuple[Taken, str]], received_at: datetime) -> set[Taken]:
    """Remember these messages (key, topic kind); those that are new. Inserted in one order: two workers don't deadlock."""
    rows = sorted(messages, key=lambda row: (row[0].device_id, row[0].message_id))
    if not rows:
        return set()
    found = connection.execute(
        """
        INSERT INTO device_message (device_id, message_id, topic_kind, received_at)
        SELECT m.device_id, m.message_id, m.topic_kind, %s
        FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS m (device_id, message_id, topic_kind)
        ON CONFLICT DO NOTHING RETURNING device_id, message_id
        """,
        (
            received_at,
            [taken.device_id for taken, _ in rows],
            [taken.message_id for taken, _ in rows],
            [topic_kind for _, topic_kind in rows],
        ),
    ).fetchall()
    return {Taken(device_id, message_id) for device_id, message_id in found}


def copy_readings(connection: Connection, readings: Sequence[Reading]) -> None:
    """Append readings. No staging: which messages are new has been decided before."""
    if not readings:
        return
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY reading (device_id, metric, value, measured_at, received_at) FROM STDIN (FORMAT BINARY)"
        ) as copy,
    ):
        copy.set_types(["uuid", "text", "float8", "timestamptz", "timestamptz"])
        for r in readings:
            copy.write_row((r.device_id, r.metric, r.value, r.measured_at, r.received_at))


def insert_dead_letters(connection: Connection, letters: Sequence[DeadLetter], now: datetime) -> None:
    """Keep what could not be used, with its reason."""
    rows = [
        (
            new_id(now),
            letter.raw.topic.replace("\x00", ""),
            letter.raw.payload[:_KEPT_BYTES],
            letter.raw.payload_bytes,
            letter.reason,
            letter.detail,
            letter.raw.received_at,
        )
        for letter in letters
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO dead_letter (id, topic, payload, payload_bytes, reason, detail, received_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                rows,
            )


def take_sweep_turn(connection: Connection) -> bool:
    """Whether this transaction is the one that sweeps; several ingest processes take turns."""
    return connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_SWEEP_LOCK,)).fetchone() == (True,)


def read_watched(
    connection: Connection, kinds: Sequence[str], after: UUID | None, limit: int
) -> list[tuple[Device, DeviceState]]:
    """Enabled devices of these kinds that were ever heard, with their states, not locked; by id, those behind `after`."""
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        devices = cursor.execute(
            "SELECT d.id, d.code, d.kind, d.name, d.lon, d.lat, d.source_crs, d.cell_code, d.area_code, d.settings, d.enabled, d.parent_id"
            " FROM device d JOIN device_state s ON s.device_id = d.id"
            " WHERE d.enabled AND d.kind = ANY (%(kinds)s) AND s.last_seen_at IS NOT NULL"
            " AND (%(after)s::uuid IS NULL OR d.id > %(after)s) ORDER BY d.id LIMIT %(limit)s",
            {"kinds": list(kinds), "after": after, "limit": limit},
        ).fetchall()
    states = read_states(connection, [device.id for device in devices])
    return [(device, states[device.id]) for device in devices if device.id in states]


def read_waiting_checks(connection: Connection) -> list[tuple[CheckRequest, Device]]:
    """Sensor checks that nobody has answered, locked for this transaction. A camera is the sensor of its own faults."""
    with connection.cursor(row_factory=class_row(CheckRequest)) as cursor:
        checks = cursor.execute(
            "SELECT c.id, c.device_id, c.rule, c.requested_at, c.expires_at FROM check_request c"
            " WHERE c.answered_at IS NULL AND c.kind = 'sensor'"
            " ORDER BY c.requested_at LIMIT 500 FOR UPDATE OF c SKIP LOCKED"
        ).fetchall()
    if not checks:
        return []
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        devices = cursor.execute(
            "SELECT id, code, kind, name, lon, lat, source_crs, cell_code, area_code, settings, enabled, parent_id"
            " FROM device WHERE id = ANY (%s)",
            ([check.device_id for check in checks],),
        ).fetchall()
    by_id = {device.id: device for device in devices}
    return [(check, by_id[check.device_id]) for check in checks]


def answer_check(connection: Connection, check_id: UUID, verdict: Verdict, detail: str, now: datetime) -> None:
    """Write a verdict once, and wake dispatch."""
    connection.execute(
        "UPDATE check_request SET answered_at = %s, verdict = %s, detail = %s WHERE id = %s AND answered_at IS NULL",
        (now, verdict, detail, check_id),
    )
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def ensure_partitions(connection: Connection, today: date, days_ahead: int = 3) -> int:
    """Make the daily partitions of `reading` for today and the next days; how many were made. 0 on TimescaleDB."""
    made = 0
    for ahead in range(days_ahead + 1):
        row = connection.execute("SELECT gw_make_reading_partition(%s)", (today + timedelta(days=ahead),)).fetchone()
        made += row == (True,)
    return made


def drop_readings(connection: Connection, before: date) -> int:
    """Drop readings received before that day (UTC) by whole partitions or chunks; how many were dropped."""
    row = connection.execute("SELECT gw_drop_readings(%s)", (before,)).fetchone()
    return int(row[0]) if row else 0


def forget_messages(connection: Connection, before: datetime, limit: int = 20_000) -> int:
    """Forget which messages were taken before that instant, `limit` at most; how many.

    Only safe for messages older than what `ingest.past_tolerance_days` refuses, else a repeat would count twice.
    """
    return connection.execute(
        "DELETE FROM device_message WHERE ctid = ANY (ARRAY("
        "SELECT ctid FROM device_message WHERE received_at < %s LIMIT %s))",
        (before, limit),
    ).rowcount


def forget_dead_letters(connection: Connection, before: datetime) -> int:
    """Delete dead letters received before that instant; how many."""
    return connection.execute("DELETE FROM dead_letter WHERE received_at < %s", (before,)).rowcount
