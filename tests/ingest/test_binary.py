"""Rows put together by hand come out of PostgreSQL as they went in."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest.binary import count_microseconds, write_message_rows, write_reading_rows
from ingest.store import copy_readings, insert_messages
from kernel.db import Database
from tests.ingest.test_batch import rows

NOW = datetime(2026, 11, 20, 8, 0, 0, 123456, tzinfo=UTC)
instants = st.datetimes(datetime(1950, 1, 1), datetime(2150, 1, 1), timezones=st.just(UTC))
values = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20),
    st.floats(allow_nan=False),
    max_size=4,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings=st.lists(st.tuples(values, instants, instants), min_size=1, max_size=6))
def test_readings_come_out_as_they_went_in(
    database: Database, readings: list[tuple[dict[str, float], datetime, datetime]]
) -> None:
    device = uuid4()
    with database.transaction() as connection:
        copy_readings(connection, write_reading_rows(device, readings))
    found = rows(
        database,
        f"SELECT metric, value, measured_at, received_at FROM reading WHERE device_id = '{device}' ORDER BY ctid",
    )
    expected = [(name, value, at, received) for said, at, received in readings for name, value in said.items()]
    assert sorted(found) == sorted(expected)


def test_messages_are_new_once_in_either_way_of_inserting(database: Database) -> None:
    one, two = UUID(int=1), UUID(int=2)
    first = {one: {"a": "event", "b" * 64: "telemetry"}, two: {"a": "reply"}}
    with database.transaction() as connection:
        fresh = insert_messages(connection, first, NOW, expect_repeats=False)
    assert fresh in (None, {device: set(messages) for device, messages in first.items()})  # None says all of them
    assert rows(database, "SELECT * FROM device_message ORDER BY 1, 2") == [
        (one, "a", "event", NOW),
        (one, "b" * 64, "telemetry", NOW),
        (two, "a", "reply", NOW),
    ]
    second = {one: {"a": "event", "c": "event"}, two: {"a": "reply"}}
    for expect_repeats in (False, True):
        with database.transaction() as connection:
            fresh = insert_messages(connection, second, NOW, expect_repeats=expect_repeats)
        assert fresh == {one: set() if expect_repeats else {"c"}, two: set()}
    assert len(rows(database, "SELECT FROM device_message")) == 4


def test_rows_of_one_device_are_in_the_order_of_their_ids() -> None:
    """Two workers with the same messages wait for each other rather than block each other for good."""
    ids = {"b": "event", "a": "event", "c": "event"}
    made = write_message_rows(uuid4(), ids, NOW)
    assert [row[26:27] for row in made] == [b"a", b"b", b"c"]


@given(instants)
def test_microseconds_count_from_2000(instant: datetime) -> None:
    assert datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=count_microseconds(instant)) == instant
