"""Changes are numbered in commit order: a reader that goes on from its last number misses nothing."""

import threading
from datetime import UTC, datetime

from kernel.change import ChangeKind, forget_changes, note_change, number_changes, read_changes, read_last_seq
from kernel.db import Database
from kernel.ids import new_id

AREA = "330105012001"


def test_a_reader_beside_eight_writers_misses_nothing(database: Database) -> None:
    writers, each = 4, 40
    written: set[object] = set()
    lock = threading.Lock()
    done = threading.Event()
    seen: list[object] = []

    def write() -> None:
        for _ in range(each):
            now = datetime.now(UTC)
            object_id = new_id(now)
            with database.transaction("*") as connection:
                note_change(connection, ChangeKind.DEVICE, object_id, AREA, now)
            with lock:
                written.add(object_id)

    def read() -> None:
        last = 0
        while True:
            finishing = done.is_set()
            with database.transaction("*") as connection:
                number_changes(connection)
            with database.transaction("*") as connection:
                changes = read_changes(connection, last)
            for change in changes:
                assert change.seq == last + 1
                last = change.seq
                seen.append(change.object_id)
            if finishing and not changes:
                return

    reader = threading.Thread(target=read)
    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join(30)
    assert len(seen) == writers * each
    assert set(seen) == written


def test_a_change_that_commits_late_gets_a_later_number(database: Database) -> None:
    now = datetime.now(UTC)
    early, late = new_id(now), new_id(now)
    with database.transaction("*") as slow:
        note_change(slow, ChangeKind.DEVICE, late, AREA, now)
        with database.transaction("*") as quick:
            note_change(quick, ChangeKind.DEVICE, early, AREA, now)
        with database.transaction("*") as connection:
            assert number_changes(connection) == 1
    with database.transaction("*") as connection:
        assert number_changes(connection) == 1
        assert [change.object_id for change in read_changes(connection, 0)] == [early, late]


def test_a_scope_sees_only_its_changes_and_no_scope_sees_none(database: Database, app_database: Database) -> None:
    now = datetime.now(UTC)
    with database.transaction("*") as connection:
        note_change(connection, ChangeKind.DEVICE, new_id(now), "330105012001", now)
        note_change(connection, ChangeKind.DEVICE, new_id(now), "330105013001", now)
        number_changes(connection)
    for scope, count in (("330105012", 1), ("330105012,330105013", 2), ("*", 2), ("", 0), ("44", 0)):
        with app_database.transaction(scope) as connection:
            assert len(read_changes(connection, 0)) == count, scope


def test_forgetting_keeps_the_newest_number(database: Database) -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    with database.transaction("*") as connection:
        for _ in range(3):
            note_change(connection, ChangeKind.DEVICE, new_id(old), AREA, old)
        number_changes(connection)
        assert forget_changes(connection, datetime(2026, 1, 3, tzinfo=UTC)) == 2
        assert read_last_seq(connection) == 3
