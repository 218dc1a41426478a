"""Dead letters: looked through, tried again after a fix, emptied. Real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from devices.store import set_device_enabled
from ingest.dead_letter import Letter, Replay, count_letters, empty_letters, read_letters, replay_letters
from ingest.decode import Raw
from kernel.db import Database
from kernel.settings import Settings
from tests.ingest.test_batch import at, count, message, register, rows, take

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=5)


def level(code: str, id: str, seconds: float, **fields: Any) -> Raw:
    return message("river_sluice", code, "telemetry", at(seconds), id, **{"level_m": 1.0, **fields})


def replay(database: Database, settings: Settings, now: datetime = LATER, **which: Any) -> Replay:
    return replay_letters(database, now, settings.ingest, settings.city.timezone, **which)


def letters(database: Database, **which: Any) -> list[Letter]:
    with database.transaction() as connection:
        asked = {"reason": None, "device_code": None, "before": None, "limit": 100, **which}
        return read_letters(connection, **asked)


def test_letters_are_counted_and_filtered_newest_first(database: Database, settings: Settings) -> None:
    take(database, settings, *(level("R1", f"m{n}", n) for n in range(3)), level("R2", "m", 0))
    register(database, "R3", "river_sluice")
    take(database, settings, level("R3", "m", 0, level_m="high"), now=at(1))
    with database.transaction() as connection:
        assert [(c.reason, c.count) for c in count_letters(connection)] == [("unknown_device", 4), ("bad_payload", 1)]
    assert len(letters(database)) == 5
    assert [one.reason for one in letters(database, limit=1)] == ["bad_payload"]
    of_one = letters(database, device_code="R1", reason="unknown_device")
    assert {one.topic for one in of_one} == {"gridwarden/river_sluice/R1/telemetry"} and len(of_one) == 3
    assert letters(database, device_code="R1", before=of_one[0].id) == of_one[1:]
    assert letters(database, device_code="R1", reason="bad_payload") == []


def test_after_the_device_is_registered_its_messages_are_taken_where_they_belong(
    database: Database, settings: Settings
) -> None:
    take(
        database, settings, level("R1", "a", -60, level_m=1.5), level("R1", "b", -30, level_m=1.7), level("R9", "c", 0)
    )
    register(database, "R1", "river_sluice")
    assert replay(database, settings, reason="unknown_device") == Replay(replayed=3, taken=2, repeated=0, dead=1)
    assert rows(database, "SELECT value, measured_at, received_at FROM reading ORDER BY 1") == [
        (1.5, at(-60), NOW),
        (1.7, at(-30), NOW),
    ]
    assert [(one.device_code, one.replays, one.replayed_at) for one in letters(database)] == [("R9", 1, LATER)]


def test_a_message_that_the_device_sent_again_meanwhile_is_not_taken_twice(
    database: Database, settings: Settings
) -> None:
    take(database, settings, level("R1", "a", 0))
    register(database, "R1", "river_sluice")
    take(database, settings, level("R1", "a", 0))
    assert replay(database, settings) == Replay(replayed=1, taken=0, repeated=1, dead=0)
    assert count(database, "SELECT count(*) FROM reading") == 1 and letters(database) == []
    assert replay(database, settings) == Replay()


def test_what_still_cannot_be_used_stays_with_the_reason_it_has_now(database: Database, settings: Settings) -> None:
    take(database, settings, level("R1", "a", 0))
    register(database, "R1", "smoke_alarm")
    with database.transaction() as connection:
        set_device_enabled(connection, "R1", False, NOW)
    (before,) = letters(database)
    assert before.reason == "unknown_device"
    assert replay(database, settings).dead == 1
    (after,) = letters(database)
    assert (after.id, after.reason, after.replays, after.payload) == (before.id, "kind_mismatch", 1, before.payload)


def test_a_message_is_judged_by_the_time_at_which_it_came(database: Database, settings: Settings) -> None:
    """Twenty days later it is still no message from the past."""
    take(database, settings, level("R1", "a", -15 * 86_400))
    register(database, "R1", "river_sluice")
    assert replay(database, settings, now=NOW + timedelta(days=20)).taken == 1


def test_the_state_is_not_set_back_by_what_is_replayed(database: Database, settings: Settings) -> None:
    take(database, settings, level("R1", "old", -60, level_m=1.0))
    register(database, "R1", "river_sluice")
    take(database, settings, level("R1", "new", 0, level_m=2.0))
    replay(database, settings)
    (metrics,) = rows(database, "SELECT metrics -> 'level_m' ->> 'value' FROM device_state")[0]
    assert float(metrics) == 2.0


def test_a_letter_whose_end_was_cut_off_is_not_replayed(database: Database, settings: Settings) -> None:
    register(database, "R1", "river_sluice")
    long = level("R1", "a", 0, note="x" * 70_000)
    take(database, settings, long._replace(payload=long.payload[:65_536]))
    (letter,) = letters(database)
    assert letter.reason == "too_large" and not letter.replayable and len(letter.payload) == 2_000
    assert replay(database, settings) == Replay() and replay(database, settings, ids=[letter.id]) == Replay()


def test_a_frame_that_never_became_a_message_is_kept_as_it_is(database: Database, settings: Settings) -> None:
    take(database, settings, Raw("sl651/0012345678", b"~~", 2, NOW))
    (letter,) = letters(database)
    assert not letter.replayable and not letter.cut and replay(database, settings) == Replay()
    assert letters(database) == [letter]


def test_one_letter_can_be_chosen_and_a_limit_be_set(database: Database, settings: Settings) -> None:
    take(database, settings, *(level("R1", f"m{n}", n) for n in range(5)))
    register(database, "R1", "river_sluice")
    chosen: UUID = letters(database)[0].id
    assert replay(database, settings, ids=[chosen]).taken == 1
    assert chosen not in {one.id for one in letters(database)}
    assert replay(database, settings, limit=3).taken == 3 and len(letters(database)) == 1
    assert replay(database, settings, device_code="R2") == Replay()


def test_hundreds_are_replayed_in_chunks_and_those_that_fail_do_not_come_round_again(
    database: Database, settings: Settings
) -> None:
    take(database, settings, *(level("R1" if n % 2 else "R2", f"m{n}", n) for n in range(450)))
    register(database, "R1", "river_sluice")
    assert replay(database, settings) == Replay(replayed=450, taken=225, repeated=0, dead=225)
    assert {one.replays for one in letters(database, limit=500)} == {1}


def test_what_a_rule_breaks_on_becomes_one_letter_again_and_ends(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(database, settings, level("R1", "a", 0))
    register(database, "R1", "river_sluice")

    def fail(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ingest.batch._write_readings", lambda new: fail() if new else [])
    assert replay(database, settings).dead == 1
    assert [one.reason for one in letters(database)] == ["rule_failed"]
    monkeypatch.undo()
    assert replay(database, settings).taken == 1 and letters(database) == []


def test_letters_are_emptied_by_their_age(database: Database, settings: Settings) -> None:
    take(database, settings, level("R1", "old", 0)._replace(received_at=at(-86_400)), level("R1", "new", 0))
    with database.transaction() as connection:
        assert empty_letters(connection, NOW - timedelta(hours=1)) == 1
    assert [one.received_at for one in letters(database)] == [NOW]
