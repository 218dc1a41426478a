"""Routes of limits, calendar, emergencies and indicators: who may, and what comes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated

import pytest
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from dispatch.model import ActionRefused, Actor
from dispatch.time_api import IndicatorsOut, make_time_router
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.types import Role
from tests.dispatch.build import NORTH, SOUTH, City

WEEK = {"from": "2026-11-16T00:00:00+08:00", "to": "2126-11-23T00:00:00+08:00"}
LIMIT = {"category": "smoke", "condition": "school", "value": 0.25, "unit": "urgent_hour", "source": "test"}


@pytest.fixture
def client(city: City, app_database: Database) -> Iterator[TestClient]:
    """The routes in an application of nothing else; who asks stands in a header."""
    city.now = Clock().now()
    app = FastAPI()

    def get_actor(who: Annotated[str, Header()]) -> Actor:
        return next(a for a in city.people.values() if str(a.user_id) == who)

    def transaction(actor: Actor) -> AbstractContextManager[Connection]:
        return app_database.transaction(actor.scope)

    @app.exception_handler(ActionRefused)
    def answer(_: Request, refused: ActionRefused) -> JSONResponse:
        return JSONResponse({"code": refused.code}, refused.status)

    app.include_router(make_time_router(get_actor, transaction, city.settings))
    with TestClient(app) as client:
        yield client


def head(actor: Actor) -> dict[str, str]:
    return {"who": str(actor.user_id)}


def test_indicators_are_of_one_s_own_scope_and_groups_add_up(client: TestClient, city: City) -> None:
    everywhere, south = city.add_person("甲", Role.OPERATOR), city.add_person("乙", Role.OPERATOR, scope=SOUTH)
    city.report(column=0, row=0)
    city.report(column=1, row=1)
    city.take()
    period = {"from": (city.now.isoformat()[:10] + "T00:00:00+00:00"), "to": "", "by": "area", "area": "330103001"}
    period["to"] = period["from"].replace(period["from"][:4], str(int(period["from"][:4]) + 1))
    found = {}
    for actor in (everywhere, south):
        answer = client.get("/indicators", params=period, headers=head(actor))
        IndicatorsOut.model_validate(answer.json())
        found[actor.name] = {row["key"]: row["counts"]["reported"] for row in answer.json()["rows"]}
        assert answer.json()["total"]["counts"]["reported"] == sum(found[actor.name].values())
    assert found == {"甲": {NORTH: 1, SOUTH: 1}, "乙": {SOUTH: 1}}
    table = client.get("/indicators.csv", params={**period, "language": "en"}, headers=head(south))
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0].startswith("\ufeffarea,name,Closure rate,")


def test_what_holds_for_the_whole_city_is_changed_by_its_administrators_only(client: TestClient, city: City) -> None:
    admin = city.add_person("管", Role.ADMIN)
    others = [
        city.add_person("街", Role.ADMIN, scope=SOUTH),
        city.add_person("长", Role.OPERATOR),
        city.add_person("员"),
    ]
    bodies = {"/limits": LIMIT, "/calendar/2191": {"csv": "2191-01-01,rest,元旦", "source": "x"},
              "/shifts": {"from_day": "2191-01-01", "periods": [[480, 720]]}}  # fmt: skip
    for path, body in bodies.items():
        assert [client.put(path, json=body, headers=head(other)).status_code for other in others] == [403, 403, 403]
    assert client.get("/limits", headers=head(others[2])).status_code == 403
    place = {"category": "smoke", "condition": "school"}
    assert client.put("/limits", json=LIMIT, headers=head(admin)).status_code == 204
    rules = client.get("/limits", headers=head(others[1])).json()
    assert [r["value"] for r in rules if r["category"] == "smoke"] == [0.5, 0.25]
    assert client.delete("/limits", params=place, headers=head(admin)).status_code == 204
    assert client.delete("/limits", params=place, headers=head(admin)).json() == {"code": "unknown_limit"}
    refused = client.put("/calendar/2191", json={"csv": "2191-02-30,rest,", "source": "x"}, headers=head(admin))
    assert (refused.status_code, refused.json()) == (422, {"code": "bad_calendar"})
    assert client.put("/limits", json={**LIMIT, "category": "none"}, headers=head(admin)).json() == {
        "code": "unknown_category"
    }
    assert [year["year"] for year in client.get("/calendar", headers=head(admin)).json()["years"]][:2] == [2025, 2026]


def test_an_emergency_is_entered_and_left_with_reasons(client: TestClient, city: City) -> None:
    leader = city.add_person("值班长", Role.OPERATOR)
    enter = {"name": "flood", "reason": "台风红色预警"}
    assert client.post("/emergencies", json={**enter, "reason": " "}, headers=head(leader)).json() == {
        "code": "reason_required"
    }
    assert client.post("/emergencies", json=enter, headers=head(leader)).status_code == 201
    assert client.post("/emergencies", json=enter, headers=head(leader)).json() == {"code": "emergency_running"}
    assert (
        client.post("/emergencies/leave", json={"reason": "解除"}, headers=head(leader)).json()["left_by"] == "值班长"
    )
    answer = client.get("/emergencies", headers=head(leader)).json()
    assert answer["sets"] == ["flood", "snow"]
    assert [(one["name"], one["left_reason"]) for one in answer["items"]] == [("flood", "解除")]


def test_a_period_that_is_none_is_refused(client: TestClient, city: City) -> None:
    leader = city.add_person("值班长", Role.OPERATOR)
    assert client.get("/indicators", params=WEEK, headers=head(leader)).json() == {"code": "bad_period"}
