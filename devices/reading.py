"""A metric over time, the one way to ask for it: raw or averaged to a bucket, gaps said as gaps, never too many points.

Asked of the scope's views (`reading_seen`, `reading_hour_seen`): a worker asks in a transaction of scope '*'. The newest
value of each metric needs no query here: it stands in `device_state.metrics`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from kernel.db import Connection

if TYPE_CHECKING:  # observe.py names its observers, this one among them
    from devices.observe import Observation

MAX_POINTS = 500  # what a chart can show; the default
POINT_LIMIT = 5_000  # what may be asked for
HOUR_S = 3600.0
_HOURLY_FROM = timedelta(days=2)  # shorter spans are summed from raw readings, exact at both ends
_AHEAD = timedelta(days=2)  # no reading is measured so long after it was received (ingest.clock_tolerance_s)
_GAP_FACTOR = 3.0
_OF_PAUSES, _OF_TIME = 0.9, 0.75
_LATE_AFTER = timedelta(minutes=5)
# Buckets that people can read off an axis.
_LADDER_S = (
    *(1, 2, 3, 5, 10, 15, 20, 30),
    *(minutes * 60 for minutes in (1, 2, 3, 5, 10, 15, 20, 30)),
    *(hours * 3_600 for hours in (1, 2, 3, 4, 6, 12)),
    *(days * 86_400 for days in (1, 2, 7, 30)),
)


class SeriesError(Exception):
    """A series that is not served; `code`: bad_span, bad_bucket, too_many_points."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Point:
    """One reading, or the readings of one bucket that begins at `at`: mean, least, greatest and how many."""

    at: datetime
    value: float
    least: float
    greatest: float
    n: int
    first_at: datetime  # instants of the first and the last reading in it
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without readings that is longer than this device and metric usually pause."""

    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A metric from `from_at` to `to_at`, oldest first. `bucket_s` None: readings as they are."""

    metric: str
    bucket_s: float | None
    gap_s: float
    points: list[Point]
    gaps: list[Gap]


def query_series(
    connection: Connection,
    device_id: UUID,
    metric: str,
    from_at: datetime,
    to_at: datetime,
    bucket_s: float | None = None,
    *,
    now: datetime,
    offline_after_s: float,
    raw_from_at: datetime | None = None,
    timezone: str = "UTC",
    max_points: int = MAX_POINTS,
) -> Series:
    """The series in [from_at, to_at), by the devices' own instants.

    `bucket_s` None: raw when there are at most `max_points` readings, else the shortest readable bucket that fits; 0: raw
    and nothing else; more: buckets of so many seconds, which begin at local midnight when they divide a day. Before
    `raw_from_at` only hours are kept: a span that begins there is answered in buckets of whole hours. Late readings
    stand where they were measured. Raises SeriesError.
    """
    span_s = (to_at - from_at).total_seconds()
    if not 0 < span_s <= 100 * 366 * 86_400:
        raise SeriesError("bad_span", "the span must end after it begins, and be at most a century")
    kept_raw = raw_from_at is None or from_at >= raw_from_at
    if not bucket_s and kept_raw:
        limit = POINT_LIMIT if bucket_s == 0 else max_points
        points = _read_raw(connection, device_id, metric, from_at, to_at, limit + 1)
        if len(points) <= limit:
            return _make_series(metric, None, points, from_at, min(to_at, now), offline_after_s)
        if bucket_s == 0:
            raise SeriesError("too_many_points", f"more than {limit} readings: ask for less time or for a bucket")
    width_s = _find_width(bucket_s or None, span_s, kept_raw, max_points)
    hourly = width_s % HOUR_S == 0 and (not kept_raw or to_at - from_at >= _HOURLY_FROM)
    read = _read_hours if hourly else _read_buckets
    points = read(connection, device_id, metric, from_at, to_at, timedelta(seconds=width_s), _origin(timezone))
    return _make_series(metric, width_s, points, from_at, min(to_at, now), offline_after_s)


def choose_bucket_s(span_s: float, max_points: int, least_s: float = 1.0) -> float:
    """The shortest readable bucket, at least `least_s`, of which `span_s` holds fewer than `max_points`."""
    for width_s in _LADDER_S:
        if width_s >= least_s and span_s / width_s <= max_points - 1:  # buckets are not aligned to the span: one more
            return float(width_s)
    day_s = 86_400.0
    return day_s * -(-span_s // (day_s * (max_points - 1)))


def _find_width(asked_s: float | None, span_s: float, kept_raw: bool, max_points: int) -> float:
    if asked_s is None:
        return choose_bucket_s(span_s, max_points, 1.0 if kept_raw else HOUR_S)
    if not 1 <= asked_s <= 366 * 86_400 or asked_s != int(asked_s):
        raise SeriesError("bad_bucket", "a bucket is a whole number of seconds, from 1 s to a year")
    if not kept_raw:
        asked_s = HOUR_S * -(-asked_s // HOUR_S)
    if span_s / asked_s > POINT_LIMIT:
        raise SeriesError("too_many_points", f"more than {POINT_LIMIT} buckets: ask for less time or wider buckets")
    return asked_s


def _origin(timezone: str) -> datetime:
    """A local midnight, from which buckets are counted."""
    return datetime(2000, 1, 1, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def _read_raw(
    connection: Connection, device_id: UUID, metric: str, from_at: datetime, to_at: datetime, limit: int
) -> list[Point]:
    rows = connection.execute(
        """
        SELECT measured_at, value FROM reading_seen
        WHERE device_id = %s AND metric = %s AND measured_at >= %s AND measured_at < %s AND received_at >= %s
        ORDER BY measured_at LIMIT %s
        """,
        (device_id, metric, from_at, to_at, from_at - _AHEAD, limit),
    ).fetchall()
    return [Point(at, value, value, value, 1, at, at) for at, value in rows]


def _read_buckets(
    connection: Connection,
    device_id: UUID,
    metric: str,
    from_at: datetime,
    to_at: datetime,
    width: timedelta,
    origin_at: datetime,
) -> list[Point]:
    rows = connection.execute(
        """
        SELECT date_bin(%s, measured_at, %s), avg(value), min(value), max(value), count(*),
               min(measured_at), max(measured_at)
        FROM reading_seen
        WHERE device_id = %s AND metric = %s AND measured_at >= %s AND measured_at < %s AND received_at >= %s
        GROUP BY 1 ORDER BY 1
        """,
        (width, origin_at, device_id, metric, from_at, to_at, from_at - _AHEAD),
    ).fetchall()
    return [Point(*row) for row in rows]


def _read_hours(
    connection: Connection,
    device_id: UUID,
    metric: str,
    from_at: datetime,
    to_at: datetime,
    width: timedelta,
    origin_at: datetime,
) -> list[Point]:
    """As `_read_buckets`, from the hourly sums: whole hours, the one in which `from_at` lies among them."""
    first_hour_at = from_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = connection.execute(
        """
        SELECT date_bin(%s, hour, %s), sum(total) / sum(n), min(least), max(greatest), sum(n)::bigint,
               min(first_at), max(last_at)
        FROM reading_hour_seen
        WHERE device_id = %s AND metric = %s AND hour >= %s AND hour < %s AND received_hour >= %s
        GROUP BY 1 ORDER BY 1
        """,
        (width, origin_at, device_id, metric, first_hour_at, to_at, first_hour_at - _AHEAD),
    ).fetchall()
    return [Point(*row) for row in rows]


def _make_series(
    metric: str, bucket_s: float | None, points: list[Point], from_at: datetime, to_at: datetime, offline_after_s: float
) -> Series:
    gap_s = find_gap_s(points, offline_after_s)
    return Series(
        metric=metric,
        bucket_s=bucket_s,
        gap_s=gap_s,
        points=points,
        gaps=find_gaps(points, from_at, to_at, gap_s),
    )


def find_gap_s(points: Sequence[Point], offline_after_s: float) -> float:
    """How long a pause is a gap: three times the usual one, `offline_after_s` at most.

    Usual is what nine pauses in ten do not exceed, and what three quarters of the time are made of: the first spares
    devices that report when something happens, the second those that report more often for a while, as a river station
    does in a flood. Of fewer than three pauses nothing can be said, and `offline_after_s` decides alone.
    """
    pauses = sorted(_pauses(points))
    if sum(count for _, count in pauses) < 3:
        return offline_after_s
    usual_s = max(
        _find_quantile([(pause_s, float(count)) for pause_s, count in pauses], _OF_PAUSES),
        _find_quantile([(pause_s, pause_s * count) for pause_s, count in pauses], _OF_TIME),
    )
    return min(offline_after_s, max(1.0, _GAP_FACTOR * usual_s))


def _find_quantile(weighted: Sequence[tuple[float, float]], share: float) -> float:
    """Of (value, weight) in order of value: the value at which `share` of the weight is reached."""
    needed, passed = share * sum(weight for _, weight in weighted), 0.0
    for value, weight in weighted:
        passed += weight
        if passed >= needed:
            return value
    return weighted[-1][0]  # rounding


def _pauses(points: Iterable[Point]) -> Iterable[tuple[float, int]]:
    """(length, how many) of the pauses between readings; within a bucket their mean stands for each."""
    last: Point | None = None
    for point in points:
        if point.n > 1:
            yield (point.last_at - point.first_at).total_seconds() / (point.n - 1), point.n - 1
        if last is not None:
            yield (point.first_at - last.last_at).total_seconds(), 1
        last = point


def find_gaps(points: Sequence[Point], from_at: datetime, to_at: datetime, gap_s: float) -> list[Gap]:
    """Pauses longer than `gap_s` between readings, before the first and after the last; all of it when there is none."""
    edges = [(from_at, from_at), *((p.first_at, p.last_at) for p in points), (to_at, to_at)]
    return [
        Gap(before[1], after[0]) for before, after in pairwise(edges) if (after[0] - before[1]).total_seconds() > gap_s
    ]


# ---------------------------------------------------------------- hours that got readings late


def observe(connection: Connection, observation: "Observation") -> None:
    """Remember the hours of readings that are committed long after they were received (an outage, a replay).

    Housekeeping sums an hour once, some time after its end; these hours it must sum again.
    """
    late_before = observation.now - _LATE_AFTER
    hours = {
        m.received_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        for messages in observation.messages.values()
        for m in messages
        if m.received_at < late_before
    }
    if hours:
        mark_late(connection, hours)


def mark_late(connection: Connection, hours: Iterable[datetime]) -> None:
    """Have these hours of receiving (their beginnings) summed again."""
    connection.execute("INSERT INTO reading_late (received_hour) SELECT unnest(%s::timestamptz[])", (sorted(hours),))


def series_json(series: Series, unit: str) -> dict[str, Any]:
    """The series as routes give it."""
    return {
        "metric": series.metric,
        "unit": unit,
        "bucket_s": series.bucket_s,
        "gap_s": series.gap_s,
        "points": [
            {"at": p.at, "value": p.value, "least": p.least, "greatest": p.greatest, "n": p.n} for p in series.points
        ],
        "gaps": [{"from": gap.from_at, "to": gap.to_at} for gap in series.gaps],
    }
