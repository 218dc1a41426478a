"""Several ingest processes: silence is judged only when every one of them has taken what waited for it."""

from datetime import UTC, datetime, timedelta

from ingest.store import have_others_caught_up, note_slot
from kernel.db import Database

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SINCE, NOTED_SINCE = NOW - timedelta(seconds=4), NOW - timedelta(minutes=10)


def ask(database: Database, slot: int = 0) -> bool:
    with database.transaction() as connection:
        return have_others_caught_up(connection, slot, SINCE, NOTED_SINCE)


def note(database: Database, slot: int, caught_up_at: datetime | None, at: datetime = NOW) -> None:
    with database.transaction() as connection:
        note_slot(connection, slot, caught_up_at, at)


def test_a_process_alone_waits_for_nobody(database: Database) -> None:
    note(database, 0, None)
    assert ask(database)


def test_one_that_is_behind_or_does_not_know_holds_the_others_back(database: Database) -> None:
    note(database, 1, NOW)
    assert ask(database)
    note(database, 1, NOW - timedelta(seconds=30))
    assert not ask(database)
    note(database, 1, None)
    assert not ask(database)


def test_one_that_died_holds_the_others_back_until_it_is_given_up(database: Database) -> None:
    note(database, 1, NOW - timedelta(minutes=5), at=NOW - timedelta(minutes=5))
    assert not ask(database)
    note(database, 1, NOW - timedelta(minutes=11), at=NOW - timedelta(minutes=11))
    assert ask(database)
