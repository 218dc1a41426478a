"""Reports become incidents: one for each cause, whoever takes them, and a bad one stops no other."""

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from dispatch import flow, intake
from dispatch.model import Action, Actor
from grid.locate import Locator
from kernel.types import Role, Source, Verdict
from tests.dispatch.build import NORTH, SOUTH, City, cell_centre, cell_code


def run_together(*functions: Any) -> list[Any]:
    """Run at the same time; results or raise the first error."""
    ready, results, errors = threading.Barrier(len(functions)), [None] * len(functions), []

    def call(k: int, function: Any) -> None:
        ready.wait()
        try:
            results[k] = function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]
    return results


def test_reports_of_one_cause_are_one_incident_and_all_are_kept(city: City) -> None:
    for _ in range(3):
        city.report("bin_overflow", column=1)
    city.report("exposed_garbage", column=1)
    city.report("bin_overflow", column=2)
    assert city.take() == 5
    found = sorted((i["category"]["id"], i["cell_code"], i["report_count"]) for i in city.incidents())
    assert found == [
        ("bin_overflow", cell_code(1, 0), 3), ("bin_overflow", cell_code(2, 0), 1), ("exposed_garbage", cell_code(1, 0), 1),
    ]  # fmt: skip


def test_two_smoke_alarms_in_one_cell_are_two_incidents(city: City) -> None:
    for code in ("s1", "s2", "s1"):
        city.devices.get(code) or city.add_device(code)
        city.report("smoke", Source.DEVICE, device=code)
    city.take()
    assert sorted(i["report_count"] for i in city.incidents()) == [1, 2]


def test_a_worse_report_makes_the_incident_more_urgent_and_a_milder_one_does_not(city: City) -> None:
    city.report(severity=3)
    city.take()
    city.report(severity=1)
    city.take()
    city.report(severity=4)
    city.take()
    assert city.incident()["severity"] == 1


def test_the_cover_is_the_picture_of_the_newest_report_that_has_one(city: City) -> None:
    person = city.add_person("甲")
    first, second = city.add_photo(person, "snapshot"), city.add_photo(person, "snapshot")
    covers = []
    for pictures in ((), (first,), (second, first), ()):
        city.report(evidence_ids=pictures)
        city.take()
        covers.append(city.incident()["cover"])
    assert covers == [None, str(first), str(second), str(second)]


def test_cell_and_area_are_the_position_s_and_not_the_report_s(city: City) -> None:
    lon, lat = cell_centre(2, 1)
    report_id = city.report(position=(lon + 0.0004, lat - 0.0004))
    city.take()
    assert city.query("SELECT cell_code, area_code FROM report WHERE id = %s", report_id) == [(cell_code(2, 1), NORTH)]
    assert city.incident()["area"]["community"] == "仓桥社区"


def test_a_report_outside_the_district_is_kept_with_its_refusal_and_disturbs_nothing(city: City) -> None:
    outside = city.report(position=(116.40, 39.90))
    city.report(column=1)
    assert city.take() == 2
    assert city.query("SELECT refusal, cell_code, incident_id FROM report WHERE id = %s", outside) == [
        ("outside_district", "", None)
    ]
    assert city.incident()["cell_code"] == cell_code(1, 0)
    assert city.take() == 0


def test_without_a_grid_reports_wait_instead_of_being_refused(city: City) -> None:
    city.report()
    with city.database.transaction() as connection:
        assert flow.take_reports(connection, city.now, city.settings, Locator([])) == 0
    assert city.take() == 1
    assert len(city.incidents()) == 1


def test_one_report_that_fails_stops_no_other(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = city.report(detail={"place": "poison"})
    city.report(column=1)
    city.report(column=2)
    honest = intake.describe_place

    def fail(report: Any, place: Any) -> str:
        if report.detail.get("place") == "poison":
            raise ZeroDivisionError("poison")
        return honest(report, place)

    monkeypatch.setattr(intake, "describe_place", fail)
    assert city.take() == 3
    assert city.query("SELECT refusal FROM report WHERE id = %s", bad) == [("failed: ZeroDivisionError",)]
    assert sorted(i["number"] for i in city.incidents()) == ["20261120-000001", "20261120-000002"]


def test_numbers_have_no_gap_although_a_transaction_failed(city: City) -> None:
    city.report(column=0)
    city.take()
    city.report(column=1)
    with pytest.raises(RuntimeError, match="power"), city.database.transaction() as connection:
        flow.take_reports(connection, city.now, city.settings, city.locator)
        raise RuntimeError("power")
    city.report(column=2)
    city.take()
    assert sorted(i["number"][-2:] for i in city.incidents()) == ["01", "02", "03"]


def test_a_report_of_what_was_handled_already_joins_the_closed_incident(city: City) -> None:
    """A camera that was cut off tells late what another had told."""
    worker, operator = city.add_person("甲"), city.add_person("值班长", Role.OPERATOR)
    city.report("bin_overflow", Source.OPERATOR, reporter=operator)
    city.turn()
    seen_at = city.now + timedelta(seconds=5)
    city.pass_time(minutes=5)
    city.handle(worker)
    city.act(operator, Action.CHECK, verdict=Verdict.CLEAR)
    city.pass_time(minutes=5)
    city.report("bin_overflow", occurred_at=seen_at)
    city.turn()
    late = city.incident()
    assert (late["state"], late["report_count"], late["events"][-1]["action"]) == ("closed", 2, "report_added")
    city.report("bin_overflow")  # and what happens now is new
    city.turn()
    assert sorted(i["state"] for i in city.incidents()) == ["closed", "dispatched"]


# ------------------------------------------------------------------------------------------------ at the same time


def test_two_workers_at_once_make_one_incident_for_each_cause(city: City) -> None:
    for k in range(120):
        city.report("bin_overflow", column=k % 4, row=k % 2)

    def work() -> int:
        taken = 0
        while count := city.take(limit=7):
            taken += count
        return taken

    taken = run_together(work, work, work)
    assert sum(taken) == 120
    assert sum(t > 0 for t in taken) >= 2  # they did share the work
    incidents = city.incidents()
    assert len({i["cell_code"] for i in incidents}) == len(incidents) == 4
    assert sum(i["report_count"] for i in incidents) == 120
    numbers = sorted(int(i["number"][-6:]) for i in incidents)
    assert numbers == [1, 2, 3, 4]
    # Every report's own entry is in the log, in versions without a gap.
    for versions in city.query(
        "SELECT array_agg((detail->>'version')::int ORDER BY (detail->>'version')::int) FROM incident_event GROUP BY incident_id"
    ):
        assert versions[0] == list(range(1, len(versions[0]) + 1))


def test_a_cause_that_another_worker_is_opening_is_waited_for_and_joined(city: City) -> None:
    """The second worker meets the first one's uncommitted incident: only the unique index can tell it."""
    city.report("bin_overflow")
    first_inserted, second_done = threading.Event(), threading.Event()

    def first() -> None:
        with city.database.transaction() as connection:
            flow.take_reports(connection, city.now, city.settings, city.locator)
            first_inserted.set()
            # Long enough for the second to reach the index; it cannot finish before this commits.
            assert not second_done.wait(0.7)

    def second() -> None:
        first_inserted.wait(10)
        city.report("bin_overflow")
        assert city.take() == 1
        second_done.set()

    run_together(first, second)
    assert city.incident()["report_count"] == 2


def test_workers_that_meet_crosswise_do_not_lock_each_other_out(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has the reports of the cells 0 and 3, the other of 3 and 0; each dawdles between its two."""
    for column in (0, 3, 3, 0):
        city.pass_time(seconds=1)
        city.report("bin_overflow", column=column)
    honest = intake._take

    def dawdle(*arguments: Any) -> UUID | None:
        taken = honest(*arguments)
        time.sleep(0.3)
        return taken

    monkeypatch.setattr(intake, "_take", dawdle)
    assert run_together(lambda: city.take(limit=2), lambda: city.take(limit=2)) == [2, 2]
    assert [i["report_count"] for i in city.incidents()] == [2, 2]


def test_two_dispatchers_at_once_send_one_person(city: City) -> None:
    for k in range(4):
        city.add_person(f"网格员{k}", at=cell_centre(k, 0))
    for column in range(4):
        city.report(column=column)
    city.take()
    run_together(city.advance, city.advance, city.advance)
    assert {i["state"] for i in city.incidents()} == {"dispatched"}
    assert city.query("SELECT incident_id, count(*) FROM assignment GROUP BY 1 HAVING count(*) <> 1") == []
    assert city.query("SELECT count(*) FROM push_outbox") == [(4,)]


def test_two_people_who_act_at_once_do_not_both_win(city: City) -> None:
    worker, operator = city.add_person("甲"), city.add_person("值班长", Role.OPERATOR)
    city.report()
    city.turn()
    incident_id = UUID(city.incident()["id"])

    def attempt(actor: Actor, action: Action) -> str:
        from dispatch.model import ActionRefused

        try:
            return str(city.act(actor, action, reason="理由", incident_id=incident_id, version=3)["state"])
        except ActionRefused as refused:
            return refused.code

    results = run_together(lambda: attempt(worker, Action.ACCEPT), lambda: attempt(operator, Action.VOID))
    assert sorted(results) in (["accepted", "version_conflict"], ["version_conflict", "void"])


def test_a_person_who_holds_the_incident_delays_its_report_and_no_other(city: City, database: Any) -> None:
    city.report(column=0)
    city.take()
    city.report(column=0)
    city.report(column=1)
    incident_id = city.incidents()[0]["id"]
    with database.transaction() as holder:
        holder.execute("SELECT FROM incident WHERE id = %s FOR UPDATE", (incident_id,))
        with city.database.transaction() as connection:
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            assert flow.take_reports(connection, city.now, city.settings, city.locator) == 1
    assert city.take() == 1
    assert sorted(i["report_count"] for i in city.incidents()) == [1, 2]


def test_a_lost_database_loses_nothing(city: City) -> None:
    city.report()

    def lose() -> None:
        with city.database.transaction() as connection:
            flow.take_reports(connection, city.now, city.settings, city.locator)
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(psycopg.OperationalError):
        lose()
    assert city.incidents() == []
    assert city.take() == 1
    assert [i["area_code"] for i in city.incidents()] == [SOUTH]
