"""A transaction commits at its end, and leaves nothing when it is left otherwise."""

import psycopg
import pytest

from kernel.db import Database


def count(database: Database) -> int:
    with database.transaction("*") as connection:
        row = connection.execute("SELECT count(*) FROM ingest_slot").fetchone()
        return int(row[0]) if row else 0


def insert(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute("INSERT INTO ingest_slot (slot, noted_at) VALUES (7, '2026-11-21T08:00Z')")


def test_what_was_done_is_there_when_the_block_has_ended(database: Database) -> None:
    with database.transaction() as connection:
        insert(connection)
    assert count(database) == 1


def test_an_error_leaves_nothing_and_reaches_the_caller(database: Database) -> None:
    with pytest.raises(ValueError, match="no"), database.transaction() as connection:
        insert(connection)
        raise ValueError("no")
    assert count(database) == 0


def test_a_rollback_leaves_nothing_and_no_error(database: Database) -> None:
    with database.transaction() as connection:
        insert(connection)
        raise psycopg.Rollback
    assert count(database) == 0


def test_a_savepoint_inside_is_rolled_back_alone(database: Database) -> None:
    with database.transaction() as connection:
        insert(connection)
        with connection.transaction() as inner:
            connection.execute("DELETE FROM ingest_slot")
            raise psycopg.Rollback(inner)
    assert count(database) == 1


def test_the_scope_ends_with_its_transaction(database: Database) -> None:
    with database.transaction("3301") as connection:
        assert connection.execute("SELECT current_setting('gw.scope', true)").fetchone() == ("3301",)
    with database.transaction() as connection:
        assert connection.execute("SELECT current_setting('gw.scope', true)").fetchone() == ("",)
