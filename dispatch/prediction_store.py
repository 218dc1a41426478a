"""How long incidents took, learned from what is stored and kept in `handling_time` for whoever reads incidents."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from dispatch.calendar import CalendarMissing, Pause
from dispatch.limit_store import read_calendar
from dispatch.prediction import Expectation, Handling, Key, hour_class, learn
from kernel.db import Connection
from kernel.types import LimitUnit

_LOCK = 4_715_203
_EVERY = timedelta(minutes=15)
_HISTORY = timedelta(days=90)
_MOST = 50_000  # of the newest: enough for every category, and read in a moment


def refresh_expectations(connection: Connection, now: datetime) -> bool:
    """Learn anew when the last time was a quarter of an hour ago, unless another worker is at it; whether it was done."""
    row = connection.execute(
        "SELECT pg_try_advisory_xact_lock(%s), max(computed_at) FROM handling_time", (_LOCK,)
    ).fetchone()
    if row is None or not row[0] or (row[1] is not None and row[1] > now - _EVERY):
        return False
    expected = learn(_read_handlings(connection, now))
    connection.execute("DELETE FROM handling_time")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO handling_time (category, hour_class, working, count, of_category, mean_log, sd_log, computed_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [(*key, one.count, one.of_category, one.mean_log, one.sd_log, now) for key, one in expected.items()],
        )
    return True


def read_expectations(connection: Connection) -> dict[Key, Expectation]:
    """What is expected of every category and part of the day; empty while nothing was learned."""
    rows = connection.execute(
        "SELECT category, hour_class, working, count, of_category, mean_log, sd_log FROM handling_time"
    ).fetchall()
    return {
        (category, part, working): Expectation(count=count, of_category=whole, mean_log=mean, sd_log=sd)
        for category, part, working, count, whole, mean, sd in rows
    }


def _read_handlings(connection: Connection, now: datetime) -> Iterator[Handling]:
    calendar = read_calendar(connection)
    rows = connection.execute(
        """
        SELECT i.category, i.limit_from, i.handled_at, i.limit_unit IN ('work_hour', 'workday'),
               coalesce((SELECT array_agg(ARRAY[s.from_at, s.ended_at]) FROM suspension s
                         WHERE s.incident_id = i.id AND s.ended_at IS NOT NULL), '{}')
        FROM incident i
        WHERE i.state IN ('handled', 'closed') AND i.handled_at > i.limit_from AND i.limit_unit IS NOT NULL
          AND i.ended_at > %(since)s ORDER BY i.ended_at DESC LIMIT %(most)s
        """,
        {"since": now - _HISTORY, "most": _MOST},
    ).fetchall()
    for category, limit_from, handled_at, working, stops in rows:
        pauses = [Pause(from_at=first, until_at=last) for first, last in stops]
        unit = LimitUnit.WORK_HOUR if working else LimitUnit.URGENT_HOUR
        try:
            hours = calendar.elapsed(limit_from, handled_at, unit, pauses)
        except CalendarMissing:
            continue  # of a year whose table has gone
        yield Handling(category=category, hour_class=hour_class(limit_from), working=working, hours=hours)
