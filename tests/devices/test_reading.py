"""Series of readings from a real database (GRIDWARDEN_TEST_ON=timescale: from TimescaleDB): points, buckets, gaps."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.reading import (
    Gap,
    Point,
    Series,
    SeriesError,
    choose_bucket_s,
    find_gap_s,
    find_gaps,
    query_series,
)
from devices.store import DeviceRecord, add_device
from ingest.store import ensure_partitions
from kernel.db import Connection, Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
AREA = "330105012001"


def put_device(connection: Connection, code: str = "R1", area_code: str = AREA) -> UUID:
    record = DeviceRecord(code=code, kind="river_sluice", name=code, lon=120.17, lat=30.28, area_code=area_code)
    return add_device(connection, record, NOW).id


def put_readings(
    connection: Connection, device_id: UUID, readings: Sequence[tuple[datetime, float]], delay: timedelta = timedelta()
) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY reading FROM STDIN") as copy:
        for measured_at, value in readings:
            copy.write_row((device_id, "level_m", value, measured_at, measured_at + delay))


def every(step_s: float, count: int, from_at: datetime) -> list[tuple[datetime, float]]:
    return [(from_at + timedelta(seconds=step_s * index), float(index)) for index in range(count)]


def ask(
    connection: Connection, device_id: UUID, from_at: datetime, to_at: datetime = NOW, *rest: Any, **more: Any
) -> Series:
    more = {"now": NOW, "offline_after_s": 900.0, **more}
    return query_series(connection, device_id, "level_m", from_at, to_at, *rest, **more)


def test_few_readings_come_as_they_are_and_in_order(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(60, 60, NOW - timedelta(hours=1))[::-1])
        series = ask(connection, device_id, NOW - timedelta(hours=1))
    assert (series.bucket_s, len(series.points), series.gaps) == (None, 60, [])
    assert [point.value for point in series.points] == [float(n) for n in range(60)]


def test_many_readings_are_averaged_to_a_bucket_that_keeps_the_extremes(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(10, 8640, NOW - timedelta(days=1)))
        series = ask(connection, device_id, NOW - timedelta(days=1))
    assert series.bucket_s == 180 and len(series.points) == 480 and series.gaps == []
    first = series.points[0]
    assert (first.at, first.value, first.least, first.greatest, first.n) == (NOW - timedelta(days=1), 8.5, 0, 17, 18)
    assert sum(point.n for point in series.points) == 8640


def test_a_bucket_that_is_asked_for_is_given_and_days_begin_at_local_midnight(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(600, 144 * 5, NOW - timedelta(days=5)))
        hour = ask(connection, device_id, NOW - timedelta(hours=6), NOW, 3600)
        days = ask(connection, device_id, NOW - timedelta(days=5), NOW, 86_400, timezone="Asia/Shanghai")
    assert hour.bucket_s == 3600 and [point.n for point in hour.points] == [6] * 6
    assert {point.at.hour for point in days.points} == {16}  # midnight in Shanghai
    assert sum(point.n for point in days.points) == 720


def test_days_from_hourly_sums_say_the_same_as_days_from_readings(database: Database) -> None:
    from_at = datetime(2026, 11, 10, tzinfo=UTC)
    readings = [(at, value % 97) for at, value in every(600, 1440, from_at)]
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, readings)
        hourly = ask(connection, device_id, from_at, from_at + timedelta(days=10), 86_400)
    assert hourly.bucket_s == 86_400 and hourly.gaps == []
    for day, point in enumerate(hourly.points):
        values = [value for _, value in readings[day * 144 : day * 144 + 144]]
        assert (point.least, point.greatest, point.n) == (min(values), max(values), 144)
        assert point.value == pytest.approx(sum(values) / 144)


def test_a_reading_that_came_a_day_late_stands_where_it_was_measured(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        ensure_partitions(connection, NOW.date(), days_ahead=1)
        put_readings(connection, device_id, every(600, 6, NOW - timedelta(days=3)))
        put_readings(connection, device_id, [(NOW - timedelta(days=3, minutes=-5), 100.0)], timedelta(hours=24))
        raw = ask(connection, device_id, NOW - timedelta(days=3), NOW - timedelta(days=3, hours=-1))
        hours = ask(connection, device_id, NOW - timedelta(days=3), NOW, 3600)
    assert [point.value for point in raw.points][:3] == [0.0, 100.0, 1.0]
    assert (hours.points[0].n, hours.points[0].greatest) == (7, 100.0)


def test_a_span_from_before_raw_readings_were_kept_is_answered_in_hours(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(600, 12, NOW - timedelta(hours=2)))
        asked = {"raw_from_at": NOW - timedelta(hours=1)}
        for bucket_s in (None, 0, 60, 3600):
            series = ask(connection, device_id, NOW - timedelta(hours=2), NOW, bucket_s, **asked)
            assert (series.bucket_s, [p.n for p in series.points]) == (3600, [6, 6]), bucket_s
        assert ask(connection, device_id, NOW - timedelta(minutes=59), NOW, **asked).bucket_s is None


def test_a_silence_is_a_gap_in_raw_readings_and_in_buckets(database: Database) -> None:
    began = NOW - timedelta(hours=10)
    readings = [(at, v) for at, v in every(60, 600, began) if not 100 <= v < 130]
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, readings)
        hole = Gap(began + timedelta(minutes=99), began + timedelta(minutes=130))
        for bucket_s in (0, 300, 600):
            series = ask(connection, device_id, began, NOW, bucket_s)
            assert series.gaps == [hole], bucket_s
            assert series.gap_s == pytest.approx(180, rel=0.2)


def test_silence_before_the_first_and_after_the_last_reading_is_a_gap_but_the_future_is_none(
    database: Database,
) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(60, 10, NOW - timedelta(hours=1)))
        series = ask(connection, device_id, NOW - timedelta(hours=2), NOW + timedelta(hours=5))
        nothing = ask(connection, device_id, NOW - timedelta(days=9), NOW - timedelta(days=8))
    assert series.gaps == [
        Gap(NOW - timedelta(hours=2), NOW - timedelta(hours=1)),
        Gap(NOW - timedelta(minutes=51), NOW),
    ]
    assert nothing.points == [] and nothing.gaps == [Gap(NOW - timedelta(days=9), NOW - timedelta(days=8))]


def test_an_unanswerable_question_is_refused_with_a_code(database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(1, 5001, NOW - timedelta(hours=2)))
        day = NOW - timedelta(days=1)
        for code, arguments in (
            ("bad_span", (NOW, NOW)),
            ("bad_span", (NOW, day)),
            ("bad_bucket", (day, NOW, 0.5)),
            ("bad_bucket", (day, NOW, 90.5)),
            ("too_many_points", (day, NOW, 0)),
            ("too_many_points", (day, NOW, 10)),
        ):
            with pytest.raises(SeriesError) as refused:
                ask(connection, device_id, *arguments)
            assert refused.value.code == code


def test_only_devices_in_scope_are_read(database: Database, app_database: Database) -> None:
    with database.transaction("*") as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, every(600, 600, NOW - timedelta(days=4)))
    for scope, count in ((AREA[:9], 1), ("330199", 0), ("", 0)):
        with app_database.transaction(scope) as connection:
            raw = ask(connection, device_id, NOW - timedelta(days=4), NOW - timedelta(days=4, minutes=-10), 0)
            hours = ask(connection, device_id, NOW - timedelta(days=4), NOW, 86_400)
            assert (len(raw.points), bool(hours.points)) == (count, bool(count)), scope


# ---------------------------------------------------------------- without a database


def reading(seconds: float) -> Point:
    at = NOW + timedelta(seconds=seconds)
    return Point(at, 0.0, 0.0, 0.0, 1, at, at)


def test_a_device_that_reports_by_chance_has_few_gaps() -> None:
    import random

    rng = random.Random(5)
    moments, seconds = [], 0.0
    for _ in range(2000):
        seconds += rng.expovariate(1 / 600)
        moments.append(reading(seconds))
    gap_s = find_gap_s(moments, 86_400)
    assert len(find_gaps(moments, NOW, moments[-1].at, gap_s)) < 10


def test_a_station_that_reports_more_often_in_a_flood_has_no_gaps_before_and_after_it() -> None:
    quiet = [reading(300.0 * n) for n in range(200)]
    flood = [reading(60_000.0 + n) for n in range(7_200)]
    after = [reading(67_200.0 + 300.0 * n) for n in range(60)]
    points = [*quiet, *flood, *after]
    assert find_gaps(points, NOW, points[-1].at, find_gap_s(points, 3_600)) == []


@given(st.lists(st.floats(0, 1e6), min_size=0, max_size=50), st.floats(1, 1e6))
def test_gaps_and_readings_together_leave_no_longer_pause_unsaid(seconds: list[float], offline_after_s: float) -> None:
    points = [reading(s) for s in sorted(seconds)]
    gap_s = find_gap_s(points, offline_after_s)
    assert 1.0 <= gap_s <= max(1.0, offline_after_s)
    to_at = NOW + timedelta(seconds=1e6)
    gaps = find_gaps(points, NOW, to_at, gap_s)
    edges = sorted([NOW, to_at, *(p.at for p in points)])
    long = [(a, b) for a, b in pairwise(edges) if (b - a).total_seconds() > gap_s]
    assert [(gap.from_at, gap.to_at) for gap in gaps] == long


@given(st.floats(1, 3e9), st.integers(10, 5000))
def test_a_bucket_is_never_so_short_that_there_are_too_many(span_s: float, max_points: int) -> None:
    width_s = choose_bucket_s(span_s, max_points)
    assert span_s / width_s <= max_points - 1 and width_s >= 1
