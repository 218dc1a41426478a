"""The routes, in transactions of gw_app: what a person's scope hides does not exist."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from dispatch.api import make_router
from dispatch.model import Action, ActionRefused, Actor
from dispatch.schema import CandidateOut, CategoryFull, IncidentDetail, IncidentPage, SimilarOut, SummonsOut
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.types import Role
from tests.dispatch.build import NORTH, SOUTH, City, cell_centre, cell_code


class Web:
    """The router in an application of nothing else; who asks stands in a header."""

    def __init__(self, city: City, database: Database) -> None:
        self.city = city
        app = FastAPI()

        def get_actor(who: Annotated[str, Header()]) -> Actor:
            return next(a for a in city.people.values() if str(a.user_id) == who)

        def transaction(actor: Actor) -> AbstractContextManager[Connection]:
            return database.transaction(actor.scope)

        @app.exception_handler(ActionRefused)
        def answer(_: Request, refused: ActionRefused) -> JSONResponse:
            return JSONResponse({"code": refused.code, "params": refused.params}, refused.status)

        app.include_router(make_router(get_actor, transaction, city.settings), prefix="/api/v1")
        self.client = TestClient(app, raise_server_exceptions=True)

    def get(self, actor: Actor, path: str, **params: Any) -> Any:
        return self.client.get(f"/api/v1{path}", params=params, headers={"who": str(actor.user_id)})

    def post(self, actor: Actor, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(f"/api/v1{path}", json=body, headers={"who": str(actor.user_id), **headers})


@pytest.fixture
def web(city: City, app_database: Database) -> Iterator[Web]:
    # The routes read the real clock, so the city lives now.
    city.now = Clock().now()
    yield Web(city, app_database)


@pytest.fixture
def operator(web: Web) -> Actor:
    return web.city.add_person("值班长", Role.OPERATOR, scope=SOUTH)


@pytest.fixture
def worker(web: Web) -> Actor:
    return web.city.add_person("网格员甲", scope=SOUTH, at=cell_centre(0, 0))


def test_the_whole_way_over_http_in_one_s_own_scope(web: Web, operator: Actor, worker: Actor) -> None:
    lon, lat = cell_centre(0, 0)
    made = web.post(operator, "/reports", {"category": "bin_overflow", "lon": lon, "lat": lat, "note": "满了"})
    assert (made.status_code, made.json()["incident_id"]) == (201, None)
    web.city.turn()
    page = web.get(worker, "/incidents", assignee="me").json()
    IncidentPage.model_validate(page)
    (item,) = page["items"]
    path = f"/incidents/{item['id']}"
    for action in ("accept", "arrive"):
        assert web.post(worker, f"{path}/actions/{action}").status_code == 200
    photo = str(web.city.add_photo(worker))
    done = web.post(worker, f"{path}/actions/handle", {"evidence_id": photo, "lon": lon, "lat": lat})
    assert (done.status_code, done.json()["state"]) == (200, "handled")
    web.city.turn()
    seen = web.get(operator, path)
    IncidentDetail.model_validate(seen.json())
    assert seen.json()["reports"][0]["detail"] == {"note": "满了"}
    check = web.post(operator, f"{path}/actions/check", {"verdict": "clear"}, **{"If-Match": seen.headers["ETag"]})
    assert (check.status_code, check.json()["state"]) == (200, "closed")
    assert web.get(worker, "/incidents").json()["items"] == []
    assert len(web.get(worker, "/incidents", state="closed").json()["items"]) == 1


def test_another_area_s_incident_does_not_exist_on_any_route(web: Web, operator: Actor) -> None:
    """List, search, detail, look-alikes, summons, candidates, every action, and as the second incident of an action."""
    everywhere = web.city.add_person("全区", Role.OPERATOR)
    north, edge = (cell_centre(0, 1), cell_centre(0, 0))
    close = (north[0], (north[1] + edge[1]) / 2)
    web.city.report("heaped_junk", row=1, position=(close[0], close[1] + 0.0001))
    web.city.report("heaped_junk", row=0, position=(close[0], close[1] - 0.0001))  # 22 m away, in the other community
    web.city.take()
    theirs, mine = (next(i for i in web.city.incidents() if i["area_code"] == code) for code in (NORTH, SOUTH))
    assert [i["id"] for i in web.get(operator, "/incidents", state="all").json()["items"]] == [mine["id"]]
    assert web.get(operator, "/incidents", state="all", q=theirs["number"]).json()["items"] == []
    found = web.get(everywhere, "/incidents", state="all", q=theirs["number"][-6:]).json()["items"]
    assert [i["id"] for i in found] == [theirs["id"]]
    assert web.get(everywhere, "/incidents", q="100%_").json()["items"] == []
    path = f"/incidents/{theirs['id']}"
    for answer in (
        *(web.get(operator, path + part) for part in ("", "/candidates", "/similar", "/summons")),
        *(web.post(operator, f"{path}/actions/{action}", {"reason": "误报"}) for action in Action),
        *(
            web.post(
                operator, f"/incidents/{mine['id']}/actions/{action}", {"incident_id": theirs["id"], "reason": "同"}
            )
            for action in ("merge", "attach")
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_incident")
    # A look-alike across the border is offered to whoever sees both, and to nobody else.
    assert web.get(operator, f"/incidents/{mine['id']}/similar").json() == []
    (alike,) = web.get(everywhere, f"/incidents/{mine['id']}/similar").json()
    assert (SimilarOut.model_validate(alike).id, alike["distance_m"]) == (theirs["id"], pytest.approx(22.2, abs=0.3))


def test_reason_codes_come_by_action_and_one_alone_is_a_reason(web: Web, operator: Actor) -> None:
    codes = web.get(operator, "/reason-codes").json()
    assert "false_alarm" in codes["void"]
    web.city.report()
    web.city.take()
    path = f"/incidents/{web.city.incident()['id']}/actions/void"
    assert web.post(operator, path, {"reason_code": "nonsense"}).json()["code"] == "bad_reason_code"
    ended = web.post(operator, path, {"reason_code": "false_alarm"}).json()
    assert (ended["state"], ended["events"][-1]["detail"]["reason_code"]) == ("void", "false_alarm")


def test_an_operator_splits_and_merges_in_a_scoped_transaction(web: Web, operator: Actor) -> None:
    kept, moved = web.city.report(), web.city.report()
    web.city.take()
    path = f"/incidents/{web.city.incident()['id']}/actions/split"
    old = web.post(operator, path, {"report_ids": [str(moved)], "reason": "两件事"}).json()
    assert (old["report_count"], [report["id"] for report in old["reports"]]) == (1, [str(kept)])
    (kin,) = old["kin"]
    assert (kin["kinship"], kin["state"], kin["number"][-6:]) == ("split", "filed", "000002")
    again = web.post(operator, f"/incidents/{kin['id']}/actions/merge", {"incident_id": old["id"], "reason": "同"})
    assert (again.status_code, again.json()["state"]) == (200, "void")
    assert web.get(operator, f"/incidents/{old['id']}").json()["report_count"] == 2


def test_a_child_in_an_area_one_does_not_see_keeps_its_parent_open(web: Web, operator: Actor) -> None:
    everywhere = web.city.add_person("全区", Role.OPERATOR)
    for row in (0, 1):
        web.city.report(row=row)
    web.city.take()
    child, parent = (next(i["id"] for i in web.city.incidents() if i["area_code"] == code) for code in (NORTH, SOUTH))
    attach = web.post(everywhere, f"/incidents/{child}/actions/attach", {"incident_id": parent})
    assert attach.status_code == 200
    ended = web.post(operator, f"/incidents/{parent}/actions/void", {"reason": "误报"})
    assert (ended.status_code, ended.json()["code"]) == (409, "open_children")
    assert len(web.get(operator, "/incidents").json()["items"]) == 1  # and sees no more than before


def test_summons_are_listed_in_one_s_own_scope(web: Web, operator: Actor) -> None:
    police = web.city.add_person("交警", Role.HANDLING_DEPT, scope=SOUTH)
    web.city.report()
    web.city.take()
    path = f"/incidents/{web.city.incident()['id']}"
    until = (web.city.now + timedelta(minutes=30)).isoformat()
    body = {"user_ids": [str(police.user_id)], "until": until, "reason": "联合整治"}
    assert web.post(operator, f"{path}/actions/summon", body).status_code == 200
    (one,) = (SummonsOut.model_validate(s) for s in web.get(operator, f"{path}/summons").json())
    assert (one.user.name, one.late, one.checked_in_at) == ("交警", False, None)
    IncidentDetail.model_validate(web.get(police, path).json())


@pytest.mark.parametrize(
    ("action", "body", "headers", "status", "code"),
    [
        ("void", {}, {}, 422, "reason_required"),
        ("accept", {}, {}, 403, "not_your_task"),
        ("file", {}, {}, 409, "not_allowed_in_state"),
        ("close", {}, {}, 403, "not_your_role"),
        ("acknowledge", {}, {"If-Match": '"77"'}, 412, "version_conflict"),
        ("acknowledge", {}, {"If-Match": "nonsense"}, 412, "version_conflict"),
        ("dispatch", {"user_id": str(uuid4())}, {}, 422, "unknown_user"),
        ("acknowledge", {"lon": 5e9, "lat": 1}, {}, 422, None),
        ("acknowledge", {"lon": 1, "lat": 1, "crs": "EPSG:0"}, {}, 422, "unknown_crs"),
        ("acknowledge", {"surprise": 1}, {}, 422, None),
        ("explode", {}, {}, 422, None),
        ("acknowledge", {}, {"If-Match": "*"}, 200, None),
    ],
)
def test_what_is_refused_says_why(
    web: Web, operator: Actor, worker: Actor, action: str, body: Any, headers: Any, status: int, code: str | None
) -> None:
    web.city.report()
    web.city.turn()
    answer = web.post(operator, f"/incidents/{web.city.incident()['id']}/actions/{action}", body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.json().get("code") == code


def test_pages_follow_each_other_without_gap_or_double_while_new_ones_come(web: Web, operator: Actor) -> None:
    for k in range(8):
        web.city.pass_time(seconds=1)
        web.city.report(["bin_overflow", "crowding"][k // 4], column=k % 4)
        web.city.take()
    seen, cursor = [], None
    while True:
        page = web.get(operator, "/incidents", limit=3, **({"cursor": cursor} if cursor else {})).json()
        seen += [item["number"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
        web.city.pass_time(seconds=1)
        web.city.report("snow_ice", column=len(seen) % 4)
        web.city.take()
    assert [int(number[-6:]) for number in seen] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert web.get(operator, "/incidents", cursor="x").json()["code"] == "bad_cursor"


def test_candidates_come_with_reasons(web: Web, operator: Actor, worker: Actor) -> None:
    web.city.add_person("休", scope=SOUTH, on_duty=False)
    web.city.add_person("别处", scope=NORTH)
    web.city.report()
    web.city.take()
    found = web.get(operator, f"/incidents/{web.city.incident()['id']}/candidates").json()
    assert [CandidateOut.model_validate(c).user.name for c in found] == ["网格员甲", "休"]
    assert (found[0]["chosen"], found[0]["distance_m"]) == (True, 0.0)


def test_categories_come_with_both_generations_of_codes(web: Web, worker: Actor) -> None:
    found = [CategoryFull.model_validate(c) for c in web.get(worker, "/categories").json()]
    garbage = next(c for c in found if c.id == "exposed_garbage")
    assert (garbage.code, garbage.older_code, garbage.zh) == ("06010", "01-10", "暴露垃圾")


# ------------------------------------------------------------------------------------------------ reports


def form(**changes: Any) -> dict[str, Any]:
    lon, lat = cell_centre(1, 0)
    return {"category": "heaped_junk", "lon": lon, "lat": lat} | changes


def test_a_repeat_with_the_same_key_is_the_same_report(web: Web, operator: Actor) -> None:
    first = web.post(operator, "/reports", form(source="hotline", source_key="12345-77"))
    web.city.take()
    again = web.post(operator, "/reports", form(source="hotline", source_key="12345-77"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {"id": first.json()["id"], "incident_id": web.city.incident()["id"]}
    assert web.city.incident()["needs_operator"] == "verify"


def test_the_coordinate_system_is_named_and_kept(web: Web, operator: Actor) -> None:
    from grid.coordinates import from_cgcs2000

    lon, lat = from_cgcs2000(*cell_centre(1, 0), "gcj02")
    web.post(operator, "/reports", form(lon=lon, lat=lat, crs="GCJ-02"))
    web.city.take()
    assert web.city.incident()["cell_code"] == cell_code(1, 0)
    assert web.city.query("SELECT source_crs FROM report") == [("gcj02",)]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"lon": 116.4, "lat": 39.9}, 422, "outside_district"),
        ({"lat": cell_centre(1, 1)[1]}, 422, "outside_district"),  # in the district, but not in this operator's scope
        ({"lon": 500}, 422, "bad_position"),
        ({"crs": "mars"}, 422, "unknown_crs"),
        ({"category": "ufo"}, 422, "unknown_category"),
        ({"evidence_ids": [str(uuid4())]}, 422, "unknown_evidence"),
        ({"source": "camera"}, 403, "source_not_allowed"),
        ({"note": "x" * 2001}, 422, None),
        ({"lon": "NaN"}, 422, None),
    ],
)
def test_a_report_that_cannot_be_taken_says_why_and_leaves_nothing(
    web: Web, operator: Actor, changes: Any, status: int, code: str | None
) -> None:
    answer = web.post(operator, "/reports", form(**changes))
    assert answer.status_code == status, answer.text
    assert answer.json().get("code") == code
    assert web.city.query("SELECT count(*) FROM report") == [(0,)]


def test_a_grid_worker_reports_as_a_grid_worker_and_an_engineer_not_at_all(web: Web, worker: Actor) -> None:
    assert web.post(worker, "/reports", form()).status_code == 201
    assert web.city.query("SELECT source FROM report") == [("grid_worker",)]
    assert web.post(worker, "/reports", form(source="operator")).json()["code"] == "source_not_allowed"
    engineer = web.city.add_person("工程师", Role.ENGINEER)
    assert web.post(engineer, "/reports", form()).json()["code"] == "source_not_allowed"


def test_an_operator_dispatches_by_hand_in_a_scoped_transaction(web: Web, operator: Actor, worker: Actor) -> None:
    web.city.set_duty(worker, False)
    web.city.report()
    web.city.turn()
    web.city.set_duty(worker, True)
    path = f"/incidents/{web.city.incident()['id']}/actions/dispatch"
    assert web.post(operator, path, {"user_id": str(worker.user_id)}).json()["state"] == "dispatched"
    web.city.act(worker, Action.ACCEPT)
    assert UUID(web.city.incident()["assignee"]["id"]) == worker.user_id
