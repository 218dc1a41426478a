"""Housekeeping: partitions ahead, old data dropped, hours summed. Small jobs, each in short transactions of its own.

Each job may be done by several processes at once, may be killed at any point, and fails alone: a disk that is full stops
whatever writes, and must not stop the job that frees it. So what drops comes first.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg

from devices.parking.store import forget_stays
from ingest.store import drop_readings, ensure_partitions, forget_dead_letters, forget_messages
from ingest.ways.thingsboard_store import forget_calls
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
HOUSE_S = 300.0
_AGAIN_S = 10.0
_SETTLE = timedelta(
    minutes=15
)  # after an hour's end, before it is summed; later commits say so (devices.reading.observe)
_CALLS_KEPT_DAYS = 90  # calls to devices of ThingsBoard's topics; the commands they carried expired within minutes
_HOUR = timedelta(hours=1)
_STEPS = 500  # hours that one round sums at most
_ROLLUP_LOCK = 4_715_102
_ROLLUP_TIMEOUT_MS = 600_000  # an hour of a large city is some hundred million readings


def run_house(settings: Settings, database: Database, clock: Clock, stop: threading.Event) -> None:
    """Keep house every five minutes until `stop`; for a thread of its own, since summing an hour may take long."""
    while not stop.is_set():
        done: dict[str, int] = {}
        try:
            done = keep_house(database, clock.now(), settings, stop.is_set)
        except Exception:
            log.exception("housekeeping failed")
        # A database that comes back on a disk that was full has little room: what drops must not wait for long.
        stop.wait(_AGAIN_S if "put_off" in done else HOUSE_S)


def keep_house(database: Database, now: datetime, settings: Settings, stopping: Callable[[], bool]) -> dict[str, int]:
    """One round of every job; what each did, without those that did nothing, and how many were `put_off`: they failed."""
    today = now.date()
    raw_before = today - timedelta(days=settings.database.reading_retention_days)
    hours_before = today - timedelta(days=settings.database.hour_retention_days)
    letters_before = now - timedelta(days=settings.ingest.dead_letter_days)
    # One day longer than what decode refuses as past-dated: a repeat of a forgotten message can no longer come in.
    messages_before = now - timedelta(days=settings.ingest.past_tolerance_days + 1)
    stays_before = now - timedelta(days=settings.parking.retention_days)
    calls_before = now - timedelta(days=_CALLS_KEPT_DAYS)
    jobs: tuple[tuple[str, Callable[[], int]], ...] = (
        ("readings_dropped", lambda: _run(database, lambda c: drop_raw(c, raw_before))),
        ("hours_dropped", lambda: _run(database, lambda c: drop_hours(c, hours_before))),
        ("dead_letters", lambda: _run(database, lambda c: forget_dead_letters(c, letters_before))),
        ("stays_forgotten", lambda: _repeat(database, lambda c: forget_stays(c, stays_before), stopping)),
        ("calls", lambda: _run(database, lambda c: forget_calls(c, calls_before))),
        ("messages", lambda: _repeat(database, lambda c: forget_messages(c, messages_before), stopping)),
        ("partitions_made", lambda: _run(database, lambda c: ensure_partitions(c, today))),
        ("policies_set", lambda: _run(database, lambda c: set_policy(c, settings.database.reading_retention_days))),
        ("hours_summed", lambda: _repeat(database, lambda c: sum_next_hour(c, now), stopping, _STEPS)),
        ("late_hours_summed", lambda: _repeat(database, sum_late_hour, stopping, _STEPS)),
    )
    done: dict[str, int] = {}
    for name, job in jobs:
        if stopping():
            break
        try:
            count = job()
        except psycopg.Error as error:
            log.warning("%s put off: %s", name, str(error).strip())
            done["put_off"] = done.get("put_off", 0) + 1
            continue
        if count:
            done[name] = count
    if done:
        log.info("kept house", extra=done)
    return done


def _run(database: Database, job: Callable[[Connection], int]) -> int:
    with database.transaction() as connection:
        return job(connection)


def _repeat(
    database: Database, job: Callable[[Connection], int], stopping: Callable[[], bool], most: int | None = None
) -> int:
    """A job in as many transactions as it has work for."""
    total = rounds = 0
    while not stopping() and (most is None or rounds < most):
        count = _run(database, job)
        if count == 0:
            break
        total, rounds = total + count, rounds + 1
    return total


def drop_raw(connection: Connection, before: date) -> int:
    """Drop raw readings received before that day (UTC); partitions or chunks that went. What was dropped is never summed again."""
    before_at = datetime(before.year, before.month, before.day, tzinfo=UTC)
    connection.execute(
        "UPDATE reading_rollup SET raw_from_at = %(at)s WHERE raw_from_at IS NULL OR raw_from_at < %(at)s",
        {"at": before_at},
    )
    return drop_readings(connection, before)


def drop_hours(connection: Connection, before: date) -> int:
    """Drop hourly sums received before that day, as far as whole partitions or chunks of them go; how many went."""
    row = connection.execute("SELECT gw_drop_hours(%s)", (before,)).fetchone()
    return int(row[0]) if row else 0


def set_policy(connection: Connection, raw_days: int) -> int:
    """Fit TimescaleDB's refresh of the hours to how long raw readings are kept; 1 when it was changed."""
    return int(connection.execute("SELECT gw_set_hour_policy(%s)", (raw_days,)).fetchone() == (True,))


def sum_next_hour(connection: Connection, now: datetime) -> int:
    """Sum the next hour of receiving that is over; 1, or 0 when none is or somebody else is at it."""
    if not _may_sum(connection):
        return 0
    row = connection.execute("SELECT until_at, raw_from_at FROM reading_rollup").fetchone()
    last_at = _floor(now - _SETTLE)
    if row is None:
        hour_at = _find_first_hour(connection, last_at)
    elif row[0] > now + _HOUR:
        hour_at = _set_back(connection, last_at)
    else:
        hour_at = row[0] if row[1] is None else max(row)
    if hour_at is None or hour_at + _HOUR > last_at:
        return 0
    _sum(connection, hour_at)
    connection.execute(
        "INSERT INTO reading_rollup (until_at) VALUES (%s) ON CONFLICT (one) DO UPDATE SET until_at = excluded.until_at",
        (hour_at + _HOUR,),
    )
    return 1


def sum_late_hour(connection: Connection) -> int:
    """Sum one hour anew that got readings after it had been summed; 1, or 0 when there is none."""
    if not _may_sum(connection):
        return 0
    row = connection.execute(
        """
        DELETE FROM reading_late WHERE received_hour = (
            SELECT l.received_hour FROM reading_late l, reading_rollup r WHERE l.received_hour < r.until_at
            ORDER BY l.received_hour LIMIT 1)
        RETURNING received_hour,
                  received_hour >= coalesce((SELECT raw_from_at FROM reading_rollup), '-infinity') AS whole
        """
    ).fetchone()
    if row is None:
        return 0
    if row[1]:  # else its other readings are gone: what stands is the better sum
        _sum(connection, row[0])
    return 1


def _may_sum(connection: Connection) -> bool:
    """Whether hours are summed here (not on TimescaleDB, which does it itself), and by this transaction."""
    if connection.execute("SELECT to_regclass('reading_partial')").fetchone() == (None,):
        return False
    if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_ROLLUP_LOCK,)).fetchone() != (True,):
        return False
    connection.execute(f"SET LOCAL statement_timeout = {_ROLLUP_TIMEOUT_MS}")
    return True


def _set_back(connection: Connection, last_at: datetime) -> datetime:
    """The clock was ahead and is right again: summing goes on behind the last hour before now that has sums."""
    row = connection.execute(
        "SELECT max(received_hour) FROM reading_partial WHERE received_hour < %s", (last_at,)
    ).fetchone()
    found = row[0] + _HOUR if row and row[0] is not None else _find_first_hour(connection, last_at)
    hour_at = found or last_at
    connection.execute("UPDATE reading_rollup SET until_at = %s", (hour_at,))
    return hour_at


def _find_first_hour(connection: Connection, last_at: datetime) -> datetime | None:
    row = connection.execute("SELECT min(received_at) FROM reading").fetchone()
    return min(_floor(row[0]), last_at) if row and row[0] is not None else None


def _floor(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _sum(connection: Connection, hour_at: datetime) -> None:
    """Replace the sums of the readings received in the hour that begins at `hour_at`."""
    connection.execute("SELECT gw_make_hour_partition(%s)", (hour_at.date(),))
    connection.execute("DELETE FROM reading_partial WHERE received_hour = %s", (hour_at,))
    connection.execute(
        """
        INSERT INTO reading_partial
            (device_id, metric, hour, received_hour, n, total, least, greatest, first_at, last_at)
        SELECT device_id, metric, date_bin('1 hour', measured_at, timestamptz '2000-01-01 00:00Z'), %(hour_at)s,
               count(*), sum(value), min(value), max(value), min(measured_at), max(measured_at)
        FROM reading WHERE received_at >= %(hour_at)s AND received_at < %(end_at)s GROUP BY 1, 2, 3
        """,
        {"hour_at": hour_at, "end_at": hour_at + _HOUR},
    )


# ---------------------------------------------------------------- how it stands


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """How readings are stored. Days and instants are None where there is nothing yet."""

    timescale: bool
    parts: int  # partitions or chunks of raw readings
    oldest_day: date | None
    newest_day: date | None
    summed_until_at: datetime | None  # None on TimescaleDB too, where unsummed hours are added when asked
    raw_bytes: int
    hour_bytes: int
    unplaced: bool  # readings stand in the default partition: their day has none


def read_storage(connection: Connection) -> Storage:
    """How readings are stored at this moment; needs no rights on them but gw_worker's."""
    timescale = connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is not None
    row = connection.execute(_CHUNKS if timescale else _PARTITIONS).fetchone()
    summed_here = connection.execute("SELECT to_regclass('reading_partial')").fetchone() != (None,)
    hours = connection.execute(_HOUR_PARTITIONS if summed_here else _HOUR_CHUNKS).fetchone()
    until = connection.execute("SELECT until_at FROM reading_rollup").fetchone()
    parts, oldest, newest, size = row or (0, None, None, 0)
    return Storage(
        timescale=timescale,
        parts=int(parts),
        oldest_day=oldest,
        newest_day=newest,
        summed_until_at=until[0] if until else None,
        raw_bytes=int(size or 0),
        hour_bytes=int(hours[0] or 0) if hours else 0,
        unplaced=not timescale and connection.execute("SELECT FROM reading_default LIMIT 1").fetchone() is not None,
    )


_CHUNKS = """
    SELECT count(*), min(range_start)::date, (max(range_end) - interval '1 second')::date, hypertable_size('reading')
    FROM timescaledb_information.chunks WHERE hypertable_name = 'reading'
"""
_PARTITIONS = """
    SELECT count(*) FILTER (WHERE day IS NOT NULL), min(day), max(day), sum(pg_total_relation_size(relid))::bigint
    FROM (SELECT relid, CASE WHEN relid::text ~ '^reading_[0-9]{8}$'
                             THEN to_date(right(relid::text, 8), 'YYYYMMDD') END AS day
          FROM pg_partition_tree('reading') WHERE isleaf) AS part
"""
_HOUR_PARTITIONS = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('reading_partial')"
_HOUR_CHUNKS = """
    SELECT sum(hypertable_size(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
           ::regclass))::bigint FROM timescaledb_information.continuous_aggregates
"""
