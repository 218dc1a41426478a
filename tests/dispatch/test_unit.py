"""Handling units, and who is there: rosters, breaks, skills, cover, as the running dispatch sees them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dispatch import flow, unit
from dispatch.cost import Means
from dispatch.model import Action, ActionRefused, Actor
from dispatch.staffing import RosterError, import_roster, write_cover, write_need, write_profile
from dispatch.unit import UnitError, UnitKind, write_member, write_unit
from dispatch.unit_api import UnitPage, make_unit_router
from grid.duty import DutyRule
from grid.duty_store import replace_duty_rules
from kernel.db import Connection, Database, DbRole
from kernel.settings import ClockSettings
from kernel.types import Role, Verdict
from tests.dispatch.build import SOUTH, City, cell_centre


@pytest.fixture
def operator(city: City) -> Actor:
    return city.add_person("值班长", Role.OPERATOR)


@pytest.fixture
def crew(city: City, operator: Actor) -> dict[str, Any]:
    """A contractor with its head and one worker, and a grid worker nearer than both."""
    city.add_person("网格员", at=cell_centre(0, 0))
    head, worker = city.add_person("队长", Role.HANDLING_DEPT), city.add_person("保洁员", Role.HANDLING_DEPT)
    with city.database.transaction() as connection:
        unit_id = write_unit(connection, "hw", "环卫保洁作业单位", UnitKind.CONTRACTOR, SOUTH[:9], city.now)
        write_unit(connection, "far", "别区的单位", UnitKind.PROPERTY, "330104", city.now)
        write_member(connection, "hw", "队长", leads=True)
        write_member(connection, "hw", "保洁员")
        with pytest.raises(UnitError):
            write_member(connection, "hw", "值班长")
        connection.execute("UPDATE category SET auto_dispatch = false WHERE id = 'bin_overflow'")
    yield {"id": unit_id, "head": head, "worker": worker}
    with city.database.transaction() as connection:
        connection.execute("UPDATE category SET auto_dispatch = true WHERE id = 'bin_overflow'")


def call(city: City, what: Any, *arguments: Any) -> Any:
    with city.database.transaction() as connection:
        return what(connection, UUID(city.incident()["id"]), *arguments, city.now)


def refused(code: str) -> Any:
    return pytest.raises(ActionRefused, match=f"^{code}")


def test_a_unit_is_asked_accepts_sends_its_crew_and_none_of_it_checks(
    city: City, operator: Actor, crew: dict[str, Any]
) -> None:
    head, worker = crew["head"], crew["worker"]
    city.report()
    city.turn()
    rule = DutyRule(
        category="bin_overflow", competent_dept="区城市管理局", handling_dept="环卫保洁作业单位", source="试"
    )
    with city.database.transaction() as connection:
        replace_duty_rules(connection, [rule], city.now, "test")
        suggested = unit.suggest_units(connection, UUID(city.incident()["id"]))
    assert [(one["name"], one["by_rule"]) for one in suggested] == [("环卫保洁作业单位", True)]
    with refused("not_your_role"):
        call(city, unit.ask_unit, crew["id"], head, "")
    call(city, unit.ask_unit, crew["id"], operator, "箱满")
    with refused("unit_not_asked"):
        call(city, unit.send_crew, worker.user_id, head)
    with refused("not_your_unit"):
        call(city, unit.answer_unit, True, worker, "")
    call(city, unit.answer_unit, True, head, "")
    city.advance()
    assert city.incident()["state"] == "filed"  # its head sends, nobody else
    with city.database.transaction() as connection:
        page = unit.read_page(connection, crew["id"], head, city.now)
    assert [(one["name"], one["leads"]) for one in page["people"]] == [("队长", True), ("保洁员", False)]
    assert [(held["unit_state"], held["incident"]["state"]) for held in page["incidents"]] == [("accepted", "filed")]
    with refused("unknown_user"):
        call(city, unit.send_crew, city.people["网格员"].user_id, head)
    call(city, unit.send_crew, worker.user_id, head)
    call(city, unit.note_feedback, worker, "需要第二辆车")
    city.handle(worker)
    both = city.add_person("队长兼受理", Role.OPERATOR, Role.HANDLING_DEPT)
    with city.database.transaction() as connection:
        write_member(connection, "hw", "队长兼受理")
    with refused("handler_may_not_check"):
        city.act(both, Action.CHECK, verdict=Verdict.CLEAR)
    assert city.act(operator, Action.CHECK, verdict=Verdict.CLEAR)["state"] == "closed"
    story = city.story()
    assert [name for name in story if name.startswith("unit_")] == ["unit_asked", "unit_accepted", "unit_feedback"]
    told = set(city.query("SELECT u.name, o.kind FROM push_outbox o JOIN app_user u ON u.id = o.user_id"))
    assert {("队长", "unit_asked"), ("保洁员", "offered")} <= told


def test_a_refusal_or_silence_comes_back_to_the_operator_and_a_unit_may_assign_itself(
    city: City, operator: Actor, crew: dict[str, Any]
) -> None:
    city.report()
    city.turn()
    far = city.query("SELECT id FROM unit WHERE code = 'far'")[0][0]
    with refused("unit_out_of_area"):
        call(city, unit.ask_unit, far, operator, "")
    call(city, unit.ask_unit, crew["id"], operator, "")
    with refused("reason_required"):
        call(city, unit.answer_unit, False, crew["head"], " ")
    call(city, unit.answer_unit, False, crew["head"], "不属本单位")
    assert city.incident()["needs_operator"] == "unit_refused"
    call(city, unit.ask_unit, crew["id"], operator, "按职责清单")
    city.pass_time(minutes=29)
    city.advance()
    assert city.incident()["needs_operator"] is None
    city.pass_time(minutes=1)
    city.advance()
    assert city.incident()["proposal"]["reasons"] == [{"code": "unit_silent"}]
    with city.database.transaction() as connection:
        connection.execute("UPDATE unit SET assigns_itself = true WHERE code = 'hw'")
    call(city, unit.ask_unit, crew["id"], operator, "")
    call(city, unit.answer_unit, True, crew["head"], "")
    city.advance()
    assert city.incident()["assignee"]["name"] in ("队长", "保洁员")


def test_units_are_seen_where_they_serve(city: City, crew: dict[str, Any]) -> None:
    web = Database(city.settings, DbRole.APP)
    try:
        for scope, names in (
            (SOUTH, {"环卫保洁作业单位"}),
            ("330104001", {"别区的单位"}),
            ("3301", {"环卫保洁作业单位", "别区的单位"}),
        ):
            with web.transaction(scope) as connection:
                assert {one["name"] for one in unit.read_units(connection)} == names
                assert connection.execute("SELECT count(*) FROM unit_member").fetchone() == (
                    0 if scope == "330104001" else 2,
                )
    finally:
        web.close()


def test_breaks_shifts_skills_and_cover_decide_and_waiting_incidents_are_given_together(
    city: City, tmp_path: Path
) -> None:
    near, far = city.add_person("近", at=cell_centre(0, 0)), city.add_person("远", at=cell_centre(3, 0))
    roster = tmp_path / "roster.csv"
    roster.write_text(
        "user,day,from,to,breaks\n近,2026-11-20,08:00,20:00,15:30-16:30\n谁,2026-11-20,08:00,20:00,\n", "utf-8"
    )
    with city.database.transaction() as connection, pytest.raises(RosterError, match="3"):
        import_roster(connection, roster, "Asia/Shanghai", city.now)
    roster.write_text(
        "user,day,from,to,breaks\n近,2026-11-20,08:00,20:00,15:30-16:30\n远,2026-11-20,22:00,06:00,02:00-02:30\n",
        "utf-8",
    )
    with city.database.transaction() as connection:
        assert (
            import_roster(connection, roster, "Asia/Shanghai", city.now) == 2
        )  # 16:00 in Hangzhou: on a break; not yet there
    city.report()
    city.turn()
    waiting = city.incident()
    assert (waiting["state"], waiting["needs_operator"]) == ("filed", "nobody_available")
    with city.database.transaction() as connection:
        found = flow.candidates(
            connection, UUID(waiting["id"]), city.add_person("长", Role.OPERATOR), city.now, city.settings
        )
    assert {one["user"]["name"]: one["reasons"] for one in found} == {"近": ["on_break"], "远": ["off_duty"]}
    city.pass_time(minutes=30)
    city.move(near, *cell_centre(0, 0))
    city.turn()
    assert city.incident()["assignee"]["name"] == "近"
    with city.database.transaction() as connection:
        connection.execute("DELETE FROM shift")
        write_profile(connection, "远", Means.CAR, ["electrics"], [])
        write_need(connection, "damaged_road", ["electrics"], [])
        write_cover(connection, SOUTH, 0)
        with pytest.raises(RosterError):
            write_cover(connection, "nowhere", 1)
    city.move(far, *cell_centre(3, 0))
    city.report("damaged_road", column=0)
    city.report("exposed_garbage", column=3)
    city.turn()
    sent = {i["category"]["id"]: (i["assignee"] or {}).get("name") for i in city.incidents()}
    city.query("DELETE FROM category_need RETURNING 1")
    assert sent == {"bin_overflow": "近", "damaged_road": "远", "exposed_garbage": "近"}


def test_what_is_dispatched_by_hand_has_somebody_proposed_who_stays_proposed(city: City, crew: dict[str, Any]) -> None:
    city.report()
    city.turn()
    proposal = city.incident()["proposal"]
    assert (proposal["user_name"], proposal["reasons"][0]) == ("网格员", {"code": "dispatched_by_hand"})
    version = city.incident()["version"]
    city.add_person("更近", at=cell_centre(0, 0))
    city.turn()
    assert (city.incident()["proposal"], city.incident()["version"]) == (proposal, version)
    city.set_duty(city.people["网格员"], False)
    city.turn()
    assert city.incident()["proposal"]["user_name"] == "更近"


def test_a_unit_answers_over_the_web_with_the_rights_of_its_people(
    city: City, operator: Actor, crew: dict[str, Any]
) -> None:
    web = Database(city.settings, DbRole.APP)

    @contextmanager
    def transaction(actor: Actor) -> Iterator[Connection]:
        with web.transaction(actor.scope) as connection:
            yield connection

    asking = {"actor": operator}
    app = FastAPI()
    settings = city.settings.model_copy(
        update={"clock": ClockSettings(offset_s=(city.now - datetime.now(UTC)).total_seconds())}
    )
    app.include_router(make_unit_router(lambda: asking["actor"], transaction, settings))
    city.report()
    city.turn()
    try:
        with TestClient(app) as client:
            of_it = f"/incidents/{city.incident()['id']}/unit"
            assert client.get("/units").json()[0]["open_incidents"] == 0
            assert client.post(of_it, json={"unit_id": str(crew["id"]), "reason": "箱满"}).json()["state"] == "filed"
            asking["actor"] = crew["head"]
            assert client.get("/units", params={"mine": True}).json()[0]["open_incidents"] == 1
            assert client.post(of_it + "/answer", json={"accepted": True}).status_code == 200
            sent = client.post(of_it + "/crew", json={"user_id": str(crew["worker"].user_id)}).json()
            asking["actor"] = crew["worker"]
            assert client.post(of_it + "/feedback", json={"text": "在路上"}).status_code == 200
            page = client.get(f"/units/{crew['id']}").json()
            UnitPage.model_validate(page)
    finally:
        web.close()
    assert sent["assignee"]["name"] == "保洁员"
    assert sent["assignments"][-1]["reason"]["reasons"] == [{"code": "by_unit", "unit": "环卫保洁作业单位"}]
    assert [(one["name"], one["open_tasks"]) for one in page["people"]] == [("队长", 0), ("保洁员", 1)]
    assert city.story()[-2:] == ["dispatch", "unit_feedback"]
