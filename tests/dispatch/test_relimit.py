"""Limits, calendar and emergencies in the database; open incidents counted anew; indicators of what is stored."""

import csv
import io
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from dispatch import calendar_table, emergency, limit_store, relimit, unit
from dispatch.indicator_store import By, make_period, read_indicators, write_csv
from dispatch.limit_store import LimitRule
from dispatch.model import Action, ActionRefused, Actor
from dispatch.prediction_store import read_expectations, refresh_expectations
from kernel.db import Database
from kernel.ids import new_id
from kernel.types import LimitUnit, Role, Source
from tests.dispatch.build import City, cell_centre
from tests.waiting import wait_until

SHIPPED = ("calendar_year", "calendar_day", "work_shift", "limit_rule")


@pytest.fixture
def worker(city: City) -> Actor:
    return city.add_person("网格员甲", Role.GRID_WORKER, at=cell_centre(0, 0))


@pytest.fixture
def operator(city: City) -> Actor:
    return city.add_person("值班员", Role.OPERATOR, on_duty=False)


@pytest.fixture(autouse=True)
def shipped(database: Database) -> Iterator[None]:
    """What the migration shipped is there again afterwards."""
    with database.transaction() as connection:
        kept = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in SHIPPED}  # type: ignore[arg-type]
        limits = connection.execute("SELECT limit_value, limit_unit, limit_source, id FROM category").fetchall()
    yield
    with database.transaction() as connection, connection.cursor() as cursor:
        for table in reversed(SHIPPED):
            cursor.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
        for table, rows in kept.items():
            named = (
                [(row[0], *row[2:]) for row in rows] if table == "calendar_day" else rows
            )  # its year is made from it
            columns = "(day, kind, name)" if table == "calendar_day" else ""
            if named:
                places = ", ".join(["%s"] * len(named[0]))
                cursor.executemany(f"INSERT INTO {table} {columns} VALUES ({places})", named)  # type: ignore[arg-type]
        cursor.executemany(
            "UPDATE category SET limit_value = %s, limit_unit = %s, limit_source = %s WHERE id = %s", limits
        )


def set_limit(city: City, value: float, unit: LimitUnit, category: str = "bin_overflow", **more: Any) -> None:
    place = {"condition": "", "severity": 0, "set_name": "normal", **more}
    rule = LimitRule(category=category, value=value, unit=unit, source="test", **place)
    with city.database.transaction() as connection:
        limit_store.write_rule(connection, rule, "管理员", city.now)


def finish(city: City, worker: Actor, operator: Actor, incident_id: Any) -> None:
    """From filed to closed."""
    lon, lat = cell_centre(0, 0)
    city.act(operator, Action.DISPATCH, user_id=worker.user_id, incident_id=incident_id)
    city.act(worker, Action.ACCEPT, incident_id=incident_id)
    city.act(worker, Action.ARRIVE, incident_id=incident_id)
    city.act(worker, Action.HANDLE, evidence_id=city.add_photo(worker), lon=lon, lat=lat, incident_id=incident_id)
    city.act(operator, Action.CHECK, verdict="clear", incident_id=incident_id)


def recount(city: City) -> int:
    with city.database.transaction() as connection:
        return relimit.recount(connection, city.now)


def test_a_changed_limit_counts_open_incidents_anew_and_says_so_and_leaves_handled_ones(
    city: City, worker: Actor
) -> None:
    city.report(column=0)  # Friday 16:00, four work hours: Monday 10:00
    city.turn()
    city.handle(worker)
    city.report(column=1)
    city.take()
    set_limit(city, 1, LimitUnit.WORKDAY)
    recount(city)
    assert recount(city) == 0  # all are up to date
    open_one, handled = sorted(city.incidents(), key=lambda one: one["state"] == "handled")
    assert handled["due_at"] == "2026-11-23T02:00:00.000Z"
    assert (open_one["due_at"], open_one["amber_at"]) == ("2026-11-23T08:00:00.000Z", "2026-11-23T06:24:00.000Z")
    ((detail,),) = city.query("SELECT detail FROM incident_event WHERE action = 'limit_changed'")
    assert [(detail[k]["value"], detail[k]["unit"], detail[k]["due_at"]) for k in ("old", "new")] == [
        (4.0, "work_hour", "2026-11-23T02:00:00.000Z"), (1.0, "workday", "2026-11-23T08:00:00.000Z"),
    ]  # fmt: skip


def test_an_emergency_swaps_the_set_while_it_lasts_and_only_one_can(city: City, worker: Actor) -> None:
    city.report("road_collapse", Source.OPERATOR)
    city.take()
    before = city.incident()["due_at"]
    with city.database.transaction() as connection:
        emergency.enter_emergency(connection, "flood", "台风", "值班长", city.now)
    with pytest.raises(ActionRefused, match="emergency_running"):
        with city.database.transaction() as connection:
            emergency.enter_emergency(connection, "snow", "雪", "值班长", city.now)
    recount(city)
    assert (city.incident()["limit"]["value"], city.incident()["limit"]["rule"]) == (1.0, "flood · own value")
    with city.database.transaction() as connection:
        emergency.leave_emergency(connection, "过境", "值班长", city.now)
    recount(city)
    assert city.incident()["due_at"] == before
    audit = city.query("SELECT action, subject, actor FROM audit ORDER BY action")
    assert audit == [("emergency_entered", "flood", "值班长"), ("emergency_left", "flood", "值班长")]


def test_of_two_who_enter_an_emergency_at_once_one_does(city: City) -> None:
    refused: list[str] = []

    def enter() -> None:
        try:
            with city.database.transaction() as connection:
                connection.execute("SET LOCAL lock_timeout = '120s'")  # a busy machine may keep the first one long
                emergency.enter_emergency(connection, "snow", "雪", "乙", city.now)
        except ActionRefused as error:
            refused.append(error.code)

    with city.database.transaction() as connection:
        emergency.enter_emergency(connection, "flood", "台风", "甲", city.now)
        other = threading.Thread(target=enter)
        other.start()
        waits = (
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO emergency_mode%%'"
        )
        wait_until(lambda: city.query(waits + " AND %s", True), "the other one waits for the first")
    other.join(60)
    assert refused == ["emergency_running"]


def test_a_suspension_and_an_extension_outlive_a_change_of_the_limit(
    city: City, worker: Actor, operator: Actor
) -> None:
    city.report("crowding")  # half an hour
    city.turn()
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ASK_EXTENSION, reason="要设备")
    city.act(operator, Action.GRANT_EXTENSION, value=0.25)
    city.pass_time(minutes=10)
    city.act(operator, Action.SUSPEND, reason="等勘验", until=city.now + timedelta(days=1))
    set_limit(city, 1, LimitUnit.URGENT_HOUR, "crowding")
    assert recount(city) == 0  # its clock stands
    city.pass_time(minutes=60)
    city.act(operator, Action.RESUME)
    recount(city)
    # Twice half as long with the extension's half on top, and the hour of the suspension: 1.5 h + 1 h after 08:00 UTC.
    assert city.incident()["due_at"] == "2026-11-20T10:30:00.000Z"


def test_the_narrowest_limit_holds_and_growth_in_severity_counts_anew(city: City, worker: Actor) -> None:
    set_limit(city, 3, LimitUnit.URGENT_HOUR, severity=2)
    set_limit(city, 2, LimitUnit.URGENT_HOUR, condition="school")
    with city.database.transaction() as connection:
        found = [limit_store.find_limit(connection, "bin_overflow", c, s).value for c, s in
                 (("", 3), ("", 2), ("school", 2), ("elsewhere", 2))]  # fmt: skip
    assert found == [4, 3, 2, 3]
    city.report(column=0)
    city.take()
    city.query("UPDATE incident SET severity = 2 RETURNING id")
    recount(city)
    assert city.incident()["due_at"] == "2026-11-20T11:00:00.000Z"


def test_a_filing_condition_decides_which_limit_holds(city: City, operator: Actor) -> None:
    city.report("dirty_road", Source.CITIZEN)
    city.take()
    filed = city.act(operator, Action.FILE, condition="main_road")
    assert (filed["limit"]["condition"], filed["limit"]["value"]) == ("main_road", 1.0)
    assert recount(city) == 0


def test_a_calendar_that_comes_files_what_waited_for_it(city: City, operator: Actor) -> None:
    city.now = city.now.replace(year=2190)
    city.report("dirty_road", Source.OPERATOR, reporter=operator)
    city.take()
    recount(city)
    assert (city.incident()["state"], recount(city)) == ("reported", 0)
    days = calendar_table.parse_days("日期,类型,名称\n2190-11-21,班,调休\n2190-11-22,rest,\n", 2190)
    with city.database.transaction() as connection:
        calendar_table.write_year(connection, 2190, days, source="notice", by="管理员", now=city.now)
    recount(city)
    # 20 November 2190 is a Saturday, the 21st a Sunday that is worked.
    assert (city.incident()["state"], city.incident()["due_at"]) == ("filed", "2190-11-21T02:00:00.000Z")


def test_a_department_s_shifts_hold_instead_of_everybody_s(city: City) -> None:
    with city.database.transaction() as connection:
        night = [(0, 240), (1200, 1440)]
        calendar_table.write_shift(connection, "night", date(2026, 1, 1), night, by="管理员", now=city.now)
        calendars = [limit_store.read_calendar(connection, name) for name in ("night", "unknown")]
        again = limit_store.read_calendar(connection, "night")
    dues = [one.local(one.add(city.now, 5, LimitUnit.WORK_HOUR)).isoformat()[:16] for one in calendars]
    assert dues == ["2026-11-23T01:00", "2026-11-23T11:00"]
    assert again is calendars[0]  # nothing changed: it was not read again


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "0 days"), ("2026-13-01,rest,", "no date"), ("2026-01-01,holiday,", "no kind"), ("2025-01-01,rest,", "not of 2026"),
     ("2026-01-01,rest,\n2026-01-01,rest,", "twice"), ("2026-01-05,workday,", "workday anyway")],
)  # fmt: skip
def test_a_table_with_a_slip_is_refused_whole(text: str, problem: str) -> None:
    with pytest.raises(calendar_table.CalendarError, match=problem):
        calendar_table.parse_days(text, 2026)


def test_the_shipped_tables_have_as_many_workdays_as_the_notices_give(database: Database) -> None:
    with database.transaction() as connection:
        years = {year.year: year for year in calendar_table.read_years(connection)}
    # 2025: 261 weekdays less 18 of them off, and 5 weekends worked; 2026: 261 less 19, and 6.
    assert [(years[y].workdays, len(years[y].rest), len(years[y].swapped)) for y in (2025, 2026)] == [
        (248, 18, 5), (248, 19, 6),
    ]  # fmt: skip
    assert calendar_table.missing_years([2025, 2026], date(2026, 11, 1)) == []
    assert calendar_table.missing_years([2025, 2026], date(2026, 11, 2)) == [2027]


def test_indicators_of_a_stored_day_by_hand(city: City, worker: Actor, operator: Actor, app_database: Database) -> None:
    begun = city.now
    for column in range(3):  # half an hour each
        city.report("crowding", Source.OPERATOR, column=column, reporter=operator)
    city.report("crowding", Source.CITIZEN, column=3)  # waits for verification
    city.take()
    city.pass_time(minutes=10)
    handled, late, voided = [i["id"] for i in city.incidents() if i["state"] == "filed"]
    city.act(operator, Action.VOID, reason="误报", incident_id=voided)
    for minutes, one in ((0, handled), (60, late)):
        city.pass_time(minutes=minutes)
        finish(city, worker, operator, one)
    period = make_period(begun, begun + timedelta(hours=5), city.now)
    with app_database.transaction("3301") as connection:
        answer = read_indicators(connection, period, By.PERSON)
    assert answer["total"]["counts"] == {
        "reported": 4, "valid": 3, "filed": 3, "due": 2, "due_closed": 2, "due_closed_on_time": 1,
        "due_handled_on_time": 1, "due_raw": 2, "due_raw_handled_on_time": 1, "exempt": 0, "closed": 2,
        "closed_dispatched": 2, "closed_rightly_dispatched": 2, "closed_wrongly_dispatched": 0, "closed_reworked": 0,
    }  # fmt: skip
    assert {row["name"]["zh"]: row["rates"]["closure_rate"] for row in answer["rows"]} == {
        "（无）": None,
        "网格员甲": 1.0,
    }
    table = list(csv.reader(io.StringIO(write_csv(answer, "zh-CN").removeprefix("\ufeff"))))
    assert (table[0][2], table[-1][1:4]) == ("结案率", ["合计", "1.0000", "0.5000"])
    with app_database.transaction("330199") as connection:  # another district sees nothing
        assert read_indicators(connection, period, By.CATEGORY)["total"]["counts"]["reported"] == 0


def test_a_case_that_two_units_were_asked_to_handle_was_wrongly_dispatched(
    city: City, worker: Actor, operator: Actor
) -> None:
    units = {code: new_id(city.now) for code in ("cg", "jj")}
    for code, unit_id in units.items():
        city.query("INSERT INTO unit (id, code, name, kind, scope, created_at) VALUES (%s, %s, %s, 'department', '*', %s)"
                   " RETURNING id", unit_id, code, code, city.now)  # fmt: skip
    city.query("INSERT INTO unit_member (unit_id, user_id) VALUES (%s, %s) RETURNING 1", units["jj"], worker.user_id)
    city.report("illegal_parking", column=0)
    city.report("illegal_parking", column=1)
    city.take()
    first, second = (UUID(one["id"]) for one in city.incidents())
    with city.database.transaction() as connection:
        for incident_id, code in ((first, "cg"), (first, "jj"), (second, "jj")):
            unit.ask_unit(connection, incident_id, units[code], operator, "", city.now)
    for one in (first, second):
        finish(city, worker, operator, one)
    with city.database.transaction() as connection:
        answer = read_indicators(
            connection, make_period(city.now, city.now + timedelta(days=1), city.now), By.DEPARTMENT
        )
    assert [(row["key"], row["counts"]["closed_dispatched"], row["rates"]["dispatch_accuracy"]) for row in answer["rows"]] == [
        ("jj", 2, 0.5)
    ]  # fmt: skip


def test_an_empty_or_endless_period_is_refused(city: City) -> None:
    for days in (0, -1, 401):
        with pytest.raises(ActionRefused, match="bad_period"):
            make_period(city.now, city.now + timedelta(days=days), city.now)


def test_what_was_learned_is_kept_and_predicts(city: City, worker: Actor) -> None:
    city.report("crowding")
    city.take()
    assert city.incident()["breach_risk"] is None  # nothing is known yet
    city.query(
        "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat, opened_at,"
        " limit_from, limit_unit, handled_at, ended_at, limit_value) SELECT gen_random_uuid(), n::text, 'crowding', 2, 'handled',"
        " n::text, '330103001002001', '330103001002', 120, 30, %s, %s, 'urgent_hour', %s, %s, 0.5"
        " FROM generate_series(1, 30) n RETURNING id",
        city.now - timedelta(days=2), city.now - timedelta(days=2), city.now - timedelta(days=2, minutes=-40),
        city.now - timedelta(days=2, minutes=-41),
    )  # fmt: skip
    with city.database.transaction() as connection:
        assert refresh_expectations(connection, city.now)
        assert not refresh_expectations(connection, city.now + timedelta(minutes=14))
        known = read_expectations(connection)["crowding", "afternoon", False]
    assert known.count == 30
    assert 0.6 < known.median_h < 0.72
    risks = []
    for minutes in (0, 20, 11):
        city.pass_time(minutes=minutes)
        risks.append(next(i for i in city.incidents() if i["state"] == "filed")["breach_risk"])
    assert 0.5 < risks[0] < risks[1] < risks[2] == 1.0


def test_nobody_can_leave_an_emergency_that_is_not(city: City) -> None:
    with pytest.raises(ActionRefused, match="no_emergency"):
        with city.database.transaction() as connection:
            emergency.leave_emergency(connection, "…", "值班长", city.now)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        city.query("DELETE FROM emergency_mode RETURNING id")
