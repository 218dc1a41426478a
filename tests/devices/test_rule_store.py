"""Rules in the database: versions nobody can rewrite, a book that is reread when it moved, quiet times with an end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from devices.quiet import QuietError, forget_quiets, read_shelves, shelve, unshelve
from devices.rule_store import RuleDraft, RuleError, change_rule, create_rule, read_rules, read_versions, set_mode
from devices.rulebook import BookKeeper, Mode, RuleBook
from devices.store import DeviceRecord, add_device
from kernel.db import Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def draft(**more: Any) -> RuleDraft:
    base = {
        "name": "high_water", "type": "threshold", "title_zh": "高水位", "title_en": "High water",
        "parameters": {"metric": "level_m", "limit": 2.0},
    }  # fmt: skip
    return RuleDraft.model_validate({**base, **more})


def test_every_change_is_a_version_with_who_when_and_why(database: Database) -> None:
    with database.transaction() as connection:
        rule = create_rule(connection, draft(), "lin", "flood of June", NOW)
        set_mode(connection, rule.id, Mode.MONITOR, "lin", "", NOW + timedelta(hours=1))
        changed = draft(parameters={"metric": "level_m", "limit": 2.2})
        change_rule(connection, rule.id, changed, "wang", "too many", NOW + timedelta(hours=2))
        past = read_versions(connection, rule.id)
        [now] = read_rules(connection)
    assert [(v.version, v.mode, v.actor, v.reason) for v in past] == [
        (3, "monitor", "wang", "too many"),
        (2, "monitor", "lin", ""),
        (1, "off", "lin", "flood of June"),
    ]
    assert now == past[0] and now.body["parameters"]["limit"] == 2.2


@pytest.mark.parametrize("statement", ["UPDATE alarm_rule_version SET reason = ''", "DELETE FROM alarm_rule_version"])
def test_no_role_can_rewrite_the_past(database: Database, app_database: Database, statement: str) -> None:
    with database.transaction() as connection:
        create_rule(connection, draft(), "lin", "", NOW)
    for pool in (database, app_database):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), pool.transaction("*") as connection:
            connection.execute(statement)


def test_a_rule_that_changed_after_its_trial_is_tried_again_before_it_is_live(database: Database) -> None:
    with database.transaction() as connection:
        rule = create_rule(connection, draft(), "lin", "", NOW)
        set_mode(connection, rule.id, Mode.MONITOR, "lin", "", NOW)
        set_mode(connection, rule.id, Mode.OFF, "lin", "", NOW)
        change_rule(connection, rule.id, draft(parameters={"metric": "level_m", "limit": 1.0}), "lin", "lower", NOW)
        with pytest.raises(RuleError) as refused:
            set_mode(connection, rule.id, Mode.LIVE, "lin", "", NOW)
        assert refused.value.code == "monitor_first"
        set_mode(connection, rule.id, Mode.MONITOR, "lin", "", NOW)
        assert set_mode(connection, rule.id, Mode.LIVE, "lin", "", NOW).mode is Mode.LIVE


def test_the_book_is_read_again_when_it_moved_and_only_then(database: Database) -> None:
    keeper = BookKeeper()
    with database.transaction() as connection:
        first = keeper.current(connection)
        assert keeper.current(connection) is first
        create_rule(connection, draft(), "lin", "", NOW, Mode.LIVE)
        second = keeper.current(connection)
    assert second is not first
    with database.transaction() as connection:
        assert keeper.current(connection) is second


def test_a_row_that_no_longer_fits_is_left_out_and_the_others_act(database: Database) -> None:
    with database.transaction() as connection:
        broken = create_rule(connection, draft(name="broken"), "lin", "", NOW, Mode.LIVE)
        create_rule(connection, draft(), "lin", "", NOW, Mode.LIVE)
        connection.execute("UPDATE alarm_rule SET body = '{}' WHERE id = %s", (broken.id,))
        device = add_device(connection, DeviceRecord(code="R1", kind="river_sluice", name="R1", lon=1, lat=1), NOW)
        book = RuleBook.read(connection)
    assert [rule.name for rule in book.rules_of(device)] == ["river_level", "high_water"]


def test_a_rule_of_one_device_goes_with_it_wherever_it_is_moved(database: Database) -> None:
    with database.transaction() as connection:
        record = DeviceRecord(code="R1", kind="river_sluice", name="R1", lon=1, lat=1, area_code="330105012001")
        device = add_device(connection, record, NOW)
        create_rule(connection, draft(scope={"device": device.id}), "lin", "", NOW, Mode.LIVE)
        connection.execute("UPDATE device SET area_code = '330106001001'")
        book = RuleBook.read(connection)
        row = connection.execute("SELECT area_code FROM alarm_rule").fetchone()
    assert row == ("330105012001",)
    assert len(book.rules_of(device)) == 2


def test_shelves_end_by_themselves_or_by_hand_and_never_last_for_ever(database: Database) -> None:
    with database.transaction() as connection:
        device = add_device(connection, DeviceRecord(code="R1", kind="river_sluice", name="R1", lon=1, lat=1), NOW)
        for until, code in ((NOW, "end_required"), (NOW + timedelta(days=32), "too_long")):
            with pytest.raises(QuietError) as refused:
                shelve(connection, device.id, "", "cleaning", until, "lin", NOW)
            assert refused.value.code == code
        shelve(connection, device.id, "", "cleaning", NOW + timedelta(hours=1), "lin", NOW)
        shelve(connection, device.id, "river_level", "cleaning", NOW + timedelta(hours=2), "lin", NOW)
        later = NOW + timedelta(minutes=90)
        assert [shelf.rule for shelf in read_shelves(connection, device.id, later)] == ["river_level"]
        forget_quiets(connection, later)
        assert len(RuleBook.read(connection)._quiets_of[device.id]) == 1
        assert unshelve(connection, device.id, later) == 1
        assert read_shelves(connection, device.id, later) == []


def test_new_tables_with_a_place_force_row_level_security(database: Database) -> None:
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relname = ANY (%s) ORDER BY 1",
            (["alarm_rule", "alarm_rule_version", "rule_finding", "shelf", "maintenance"],),
        ).fetchall()
    assert len(rows) == 5
