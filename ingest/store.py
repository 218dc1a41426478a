"""The SQL of taking messages in: what was taken, readings, dead letters, answers to checks, housekeeping."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row

from devices.model import Device, DeviceState
from devices.store import DEVICE_COLUMNS, read_devices_by_code, read_devices_by_id, read_states
from ingest.binary import HEADER, TRAILER, write_message_rows
from ingest.decode import DeadLetter
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import CHANNEL
from kernel.types import Verdict

_KEPT_BYTES = 65_536  # of a dead letter's payload
_SWEEP_LOCK = 4_715_101
_FEW = 8  # devices are read at once rather than compared first, messages inserted rather than copied
_DEVICES_KEPT = 200_000
_NOBODY = ("", None)


# device -> {message id: topic kind}
MessageKeys = Mapping[UUID, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRequest:
    """A closure check that waits for a sensor's answer."""

    id: UUID
    device_id: UUID
    rule: str
    requested_at: datetime
    expires_at: datetime


def insert_messages(
    connection: Connection, messages: MessageKeys, received_at: datetime, *, expect_repeats: bool
) -> dict[UUID, set[str]] | None:
    """Remember that these messages were taken; the ids of those that are new, by device, or None when all of them are.

    Without `expect_repeats` they are copied in, which is twice as quick as asking row by row, and asked about only when the
    copy hits one that is known; a few are asked about at once. Either way they go in by device and id, so that two workers never block each other for good.
    """
    if not messages:
        return None
    if not expect_repeats and sum(map(len, messages.values())) > _FEW:
        rows = [row for device in sorted(messages) for row in write_message_rows(device, messages[device], received_at)]
        try:
            with connection.transaction():
                _copy(connection, "device_message (device_id, message_id, topic_kind, received_at)", rows)
        except UniqueViolation:
            pass
        else:
            return None
    return _insert_unknown(connection, messages, received_at)


def _insert_unknown(connection: Connection, messages: MessageKeys, received_at: datetime) -> dict[UUID, set[str]]:
    rows = [
        (device, message, messages[device][message])
        for device in sorted(messages)
        for message in sorted(messages[device])
    ]
    devices, ids, kinds = zip(*rows, strict=True)
    found = connection.execute(
        """
        INSERT INTO device_message (device_id, message_id, topic_kind, received_at)
        SELECT m.device_id, m.message_id, m.topic_kind, %s
        FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS m (device_id, message_id, topic_kind)
        ON CONFLICT DO NOTHING RETURNING device_id, message_id
        """,
        (received_at, list(devices), list(ids), list(kinds)),
    ).fetchall()
    fresh: dict[UUID, set[str]] = {device: set() for device in messages}
    for device, message in found:
        fresh[device].add(message)
    return fresh


def copy_readings(connection: Connection, rows: Sequence[bytes]) -> None:
    """Append readings, rows of `write_reading_rows`. No staging: which messages are new has been decided before."""
    if rows:
        _copy(connection, "reading (device_id, metric, value, measured_at, received_at)", rows)


def _copy(connection: Connection, target: LiteralString, rows: Sequence[bytes]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(HEADER + b"".join(rows) + TRAILER)


class DeviceCache:
    """Devices by their codes, read again only when their rows have changed since."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Device]] = {}

    def read(self, connection: Connection, codes: Collection[str]) -> dict[str, Device]:
        """Those of `codes` that are registered, as this transaction sees them."""
        if len(codes) < _FEW:
            return read_devices_by_code(connection, codes)
        rows = connection.execute(
            "SELECT code, id::text || ' ' || xmin::text FROM device WHERE code = ANY (%s)", (list(codes),)
        ).fetchall()
        versions: dict[str, str] = dict(rows)
        stale = [code for code, version in versions.items() if self._known.get(code, _NOBODY)[0] != version]
        if stale:
            if len(self._known) > _DEVICES_KEPT:
                self._known.clear()
                stale = list(versions)
            for code in stale:
                self._known.pop(code, None)
            # Changed between the two statements: kept under the older version, and so read again by the next batch.
            for code, device in read_devices_by_code(connection, stale).items():
                self._known[code] = (versions[code], device)
        return {code: self._known[code][1] for code in versions if code in self._known}


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


def note_refusals(connection: Connection, letters: Sequence[DeadLetter], now: datetime) -> None:
    """Write into the audit that a log-in named another device in its messages; once a batch for each topic."""
    for topic, letter in {letter.raw.topic: letter for letter in letters}.items():
        detail = {"reason": letter.reason, "text": letter.detail, "message_id": letter.message_id}
        write_audit(connection, now, actor="ingest", action="message_refused", subject=topic, detail=detail)


def take_sweep_turn(connection: Connection) -> bool:
    """Whether this transaction is the one that sweeps; several ingest processes take turns."""
    return connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_SWEEP_LOCK,)).fetchone() == (True,)


def note_slot(connection: Connection, slot: int, caught_up_at: datetime | None, now: datetime) -> None:
    """Say how far this ingest process has caught up; None: it does not know."""
    connection.execute(
        "INSERT INTO ingest_slot (slot, caught_up_at, noted_at) VALUES (%s, %s, %s)"
        " ON CONFLICT (slot) DO UPDATE SET caught_up_at = EXCLUDED.caught_up_at, noted_at = EXCLUDED.noted_at",
        (slot, caught_up_at, now),
    )


def have_others_caught_up(connection: Connection, slot: int, since: datetime, noted_since: datetime) -> bool:
    """Whether every other ingest process heard since `noted_since` has caught up to `since`.

    One that died keeps its share of the messages at the broker: silence of its devices is not judged until it is back, or
    given up for not having been heard since `noted_since`.
    """
    row = connection.execute(
        "SELECT FROM ingest_slot WHERE slot <> %s AND noted_at >= %s AND (caught_up_at IS NULL OR caught_up_at < %s) LIMIT 1",
        (slot, noted_since, since),
    ).fetchone()
    return row is None


def read_watched(connection: Connection, after: UUID | None, limit: int) -> list[tuple[Device, DeviceState]]:
    """Enabled devices that were ever heard, with their states, not locked; by id, those behind `after`."""
    return _read_with_states(
        connection,
        "s.last_seen_at IS NOT NULL AND (%(after)s::uuid IS NULL OR d.id > %(after)s) ORDER BY d.id LIMIT %(limit)s",
        {"after": after, "limit": limit},
    )


def read_due(connection: Connection, now: datetime, limit: int) -> list[tuple[Device, DeviceState]]:
    """Enabled devices that time alone may have changed, the longest due first, with their states, not locked."""
    return _read_with_states(
        connection, "s.due_at <= %(now)s ORDER BY s.due_at LIMIT %(limit)s", {"now": now, "limit": limit}
    )


def _read_with_states(
    connection: Connection, where: LiteralString, parameters: dict[str, Any]
) -> list[tuple[Device, DeviceState]]:
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        devices = cursor.execute(
            f"SELECT {DEVICE_COLUMNS} FROM device_state s JOIN device d ON d.id = s.device_id WHERE d.enabled AND {where}",
            parameters,
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
    by_id = {device.id: device for device in read_devices_by_id(connection, {check.device_id for check in checks})}
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
