"""Simulated people use the public API as people's programs do: they wait out outages, repeat safely, and look first."""

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest

from kernel.types import LonLat
from simulators.account import Account, Platform, Refusal
from simulators.cause import draw_site
from simulators.district import distance_m
from simulators.staff import (
    ARRIVED_M,
    Desk,
    Journal,
    Manners,
    Worker,
    find_cause,
    find_photos,
    heading_between,
    shows_something,
    step_towards,
)

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
Asked = tuple[str, str, dict[str, str], bytes]


class Answering:
    """A platform of few words: canned answers by method and path, and what was asked. `away` refuses that many calls."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.away = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                path = self.path.removeprefix("/api/v1").split("?")[0]
                outer.asked.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}, body))
                if outer.away > 0:
                    outer.away -= 1
                    self.reply(503, {"code": "not_ready"})
                    return
                waiting = outer.answers.get((self.command, path), [(200, {})])
                self.reply(*(waiting.pop(0) if len(waiting) > 1 else waiting[0]))

            do_GET = do_POST = do_PATCH = do_any

            def reply(self, status: int, value: Any) -> None:
                content = b"" if status == 204 else value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "image/jpeg" if isinstance(value, bytes) else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.platform = Platform(url=f"http://127.0.0.1:{self.http.server_address[1]}")

    def paths(self, method: str = "POST") -> list[str]:
        return [path for asked_method, path, _, _ in self.asked if asked_method == method]


@pytest.fixture
def server() -> Iterator[Answering]:
    server = Answering()
    yield server
    server.http.shutdown()
    server.http.server_close()


def incident(**changes: Any) -> dict[str, Any]:
    value = {
        "id": "i1", "number": "20261120-000001", "version": 3, "state": "dispatched", "severity": 2, "lon": 120.17, "lat": 30.3,
        "category": {"id": "illegal_parking"}, "opened_at": NOW.isoformat(), "acknowledged_at": None, "needs_operator": None,
        "reports": [{"device": {"code": "CAM-01"}, "zone": "kerb"}], "evidence": [],
        "assignments": [{"offered_at": NOW.isoformat()}],
    }  # fmt: skip
    return value | changes


def picture() -> bytes:
    ok, coded = cv2.imencode(".jpg", draw_site("smoke", random.Random(1)))
    assert ok
    return bytes(coded)


class Street:
    """A world in which repairs are counted."""

    def __init__(self) -> None:
        self.repaired: list[tuple[str, str, str]] = []

    def repair(self, device: str, zone: str, category: str) -> None:
        self.repaired.append((device, zone, category))

    def photograph(self, device: str, zone: str, category: str) -> bytes:
        return picture()


# ---- an account


def test_a_call_waits_out_an_outage_and_repeats_with_the_same_key(server: Answering) -> None:
    server.away = 2
    server.answers["POST", "/reports"] = [(200, {"id": "r"})]

    async def run() -> Any:
        account = Account(server.platform, "desk", "wall")
        try:
            return await account.call("POST", "/reports", body={"category": "smoke"})
        finally:
            await account.close()

    assert asyncio.run(run()) == {"id": "r"}
    keys = [headers["idempotency-key"] for _, _, headers, _ in server.asked]
    assert len(keys) == 3 and len(set(keys)) == 1
    assert {headers["x-seat"] for _, _, headers, _ in server.asked} == {"wall"}


def test_a_refusal_carries_the_platforms_code(server: Answering) -> None:
    server.answers["POST", "/login/link"] = [(401, {"code": "bad_link", "title": "Used up"})]

    async def run() -> None:
        account = Account(server.platform, "desk", "wall")
        try:
            await account.sign_in("token")
        finally:
            await account.close()

    with pytest.raises(Refusal) as refusal:
        asyncio.run(run())
    assert (refusal.value.status, refusal.value.code) == (401, "bad_link")


def test_an_earlier_session_is_taken_up_before_a_link_is_used(server: Answering) -> None:
    server.answers["GET", "/me"] = [(200, {"name": "desk"}), (401, {"code": "signed_out"})]
    server.answers["POST", "/login/link"] = [(200, {"name": "desk"})]

    async def run() -> None:
        for _ in range(2):
            account = Account(server.platform, "desk", "wall")
            assert (await account.sign_in("token", {"gw_wall": "kept"}))["name"] == "desk"
            await account.close()

    asyncio.run(run())
    assert [path for _, path, _, _ in server.asked] == ["/me", "/me", "/login/link"]
    assert server.asked[0][2]["cookie"] == "gw_wall=kept"


def test_incidents_are_read_over_all_pages(server: Answering) -> None:
    server.answers["GET", "/incidents"] = [(200, {"items": [1, 2], "next": "c"}), (200, {"items": [3], "next": None})]

    async def run() -> list[Any]:
        account = Account(server.platform, "desk", "wall")
        try:
            return await account.incidents("state=all")
        finally:
            await account.close()

    assert asyncio.run(run()) == [1, 2, 3]


@pytest.mark.parametrize("status", [404, 409, 412])
def test_an_action_that_came_too_late_is_nothing_to_worry_about(server: Answering, status: int) -> None:
    server.answers["POST", "/incidents/i1/actions/accept"] = [(status, {"code": "version_conflict"})]

    async def run() -> Any:
        account = Account(server.platform, "w", "phone")
        try:
            return await account.act(incident(), "accept")
        finally:
            await account.close()

    assert asyncio.run(run()) is None
    assert server.asked[0][2]["if-match"] == "3"


# ---- a worker


def work(
    server: Answering, manners: Manners, until: str, journal: Journal | None = None, start: LonLat | None = None
) -> Street:
    """Let a worker work until a path was posted to; the street afterwards."""
    street = Street()

    async def run() -> None:
        account = Account(server.platform, "w", "phone")
        worker = Worker(account, start or LonLat(120.17, 30.3), street, manners, journal or Journal(), random.Random(1))
        task = asyncio.ensure_future(worker.run())
        deadline = asyncio.get_running_loop().time() + 25
        while until not in server.paths() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await account.close()

    asyncio.run(run())
    assert until in server.paths()
    return street


QUICK = Manners(speed_m_s=100.0, thinks_s=(0.0, 0.05))


def test_a_worker_goes_on_duty_shows_where_it_is_and_accepts_what_is_offered(server: Answering) -> None:
    server.answers["GET", "/incidents"] = [(200, {"items": [incident()], "next": None})]
    server.answers["POST", "/me/position"] = [(204, None)]
    work(server, QUICK, "/incidents/i1/actions/accept")
    assert json.loads(next(body for method, path, _, body in server.asked if method == "PATCH" and path == "/me")) == {
        "on_duty": True
    }
    assert "/me/position" in server.paths()


def test_a_worker_walks_there_puts_it_right_and_hands_in_a_photograph(server: Answering) -> None:
    on_way, there = incident(state="accepted"), incident(state="on_site")
    server.answers["GET", "/incidents"] = [(200, {"items": [on_way], "next": None})]
    server.answers["GET", "/incidents/i1"] = [(200, there)]
    server.answers["POST", "/evidence"] = [(200, {"id": "e1"})]
    street = work(server, QUICK, "/incidents/i1/actions/handle", start=LonLat(120.168, 30.3))
    assert street.repaired == [("CAM-01", "kerb", "illegal_parking")]
    order = [path for path in server.paths() if path != "/me/position"]
    assert order[:3] == ["/incidents/i1/actions/arrive", "/evidence", "/incidents/i1/actions/handle"]
    handled = json.loads(next(body for _, path, _, body in server.asked if path.endswith("/handle")))
    assert handled["evidence_id"] == "e1"
    assert distance_m(LonLat(handled["lon"], handled["lat"]), LonLat(120.17, 30.3)) <= ARRIVED_M
    upload = next(body for _, path, _, body in server.asked if path == "/evidence")
    assert b"\xff\xd8\xff" in upload and b"taken_at" in upload
    assert len([path for path in server.paths() if path == "/me/position"]) >= 3


def test_a_worker_who_refuses_gives_a_reason_once_and_then_accepts(server: Answering) -> None:
    server.answers["GET", "/incidents"] = [(200, {"items": [incident()], "next": None})]
    journal = Journal()
    work(server, Manners(thinks_s=(0.0, 0.05), refuses_first=True), "/incidents/i1/actions/accept", journal)
    assert journal.refused == ["i1"]
    refusals = [json.loads(body) for _, path, _, body in server.asked if path.endswith("/refuse")]
    assert len(refusals) == 1 and refusals[0]["reason"]


# ---- a desk


def decide(server: Answering, shown: dict[str, Any], until: str) -> list[dict[str, Any]]:
    """Let a desk decide about one incident until a path was posted to; what it posted there."""
    server.answers["GET", "/incidents"] = [(200, {"items": [shown], "next": None})]
    server.answers.setdefault(("GET", "/incidents/i1"), [(200, shown)])

    async def run() -> None:
        account = Account(server.platform, "desk", "wall")
        task = asyncio.ensure_future(Desk(account, Journal()).run())
        for _ in range(100):
            await asyncio.sleep(0.05)
            if until in server.paths():
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await account.close()

    asyncio.run(run())
    return [json.loads(body) for _, path, _, body in server.asked if path == until]


def photo(taken_at: datetime) -> dict[str, Any]:
    return {"id": "e1", "kind": "photo", "taken_at": taken_at.isoformat()}


def test_the_desk_says_clear_only_of_what_it_has_seen(server: Answering) -> None:
    server.answers["GET", "/evidence/e1"] = [(200, picture())]
    shown = incident(state="handled", needs_operator="check", evidence=[photo(NOW + timedelta(minutes=1))])
    checks = decide(server, shown, "/incidents/i1/actions/check")
    assert [check["verdict"] for check in checks] == ["clear"]


@pytest.mark.parametrize("why", ["none", "old", "blank", "broken"])
def test_the_desk_sends_back_what_it_cannot_see(server: Answering, why: str) -> None:
    blank = bytes(cv2.imencode(".jpg", np.full((100, 100, 3), 90, np.uint8))[1])
    server.answers["GET", "/evidence/e1"] = [
        (200, {"blank": blank, "broken": b"\xff\xd8 no picture"}.get(why, picture()))
    ]
    taken_at = NOW - timedelta(minutes=1) if why == "old" else NOW + timedelta(minutes=1)
    evidence = [] if why == "none" else [photo(taken_at)]
    checks = decide(
        server, incident(state="handled", needs_operator="check", evidence=evidence), "/incidents/i1/actions/check"
    )
    assert checks[0]["verdict"] == "not_clear"


def test_the_desk_leaves_to_cameras_what_waits_for_no_person(server: Answering) -> None:
    assert decide(server, incident(state="handled", needs_operator=None), "/incidents/i1/actions/check") == []


def test_the_desk_sends_somebody_when_nobody_accepted(server: Answering) -> None:
    server.answers["GET", "/incidents/i1/candidates"] = [(200, [
        {"user": {"id": "off"}, "on_duty": False, "distance_m": 1.0}, {"user": {"id": "far"}, "on_duty": True, "distance_m": 900.0},
        {"user": {"id": "near"}, "on_duty": True, "distance_m": 90.0},
    ])]  # fmt: skip
    sent = decide(server, incident(state="filed", needs_operator="nobody_accepted"), "/incidents/i1/actions/dispatch")
    assert sent[0] == {"user_id": "near"}


def test_the_desk_acknowledges_the_most_urgent(server: Answering) -> None:
    assert decide(server, incident(severity=1), "/incidents/i1/actions/acknowledge") != []


# ---- small things


def test_the_cause_is_the_newest_report_with_a_device() -> None:
    reports = [{"device": {"code": "A"}, "zone": "z1"}, {"device": {"code": "B"}, "zone": ""}, {"device": None}]
    assert find_cause({"reports": reports}) == ("B", "")
    assert find_cause({"reports": []}) == ("", "")


def test_photographs_of_an_earlier_round_do_not_count() -> None:
    offers = [{"offered_at": NOW.isoformat()}, {"offered_at": (NOW + timedelta(minutes=5)).isoformat()}]
    evidence = [
        photo(NOW + timedelta(minutes=2)),
        photo(NOW + timedelta(minutes=6)),
        {"id": "s", "kind": "snapshot", "taken_at": NOW.isoformat()},
    ]
    found = find_photos(incident(assignments=offers, evidence=evidence))
    assert [p["taken_at"] for p in found] == [(NOW + timedelta(minutes=6)).isoformat()]


@pytest.mark.parametrize("category", ["smoke", "river_level", "gate_fault", "door_silent"])
def test_drawn_photographs_show_something_and_differ(category: str) -> None:
    one, two = (draw_site(category, random.Random(seed)) for seed in (1, 2))
    ok, coded = cv2.imencode(".jpg", one)
    assert ok and shows_something(bytes(coded))
    assert np.abs(one.astype(int) - two.astype(int)).mean() > 5


def test_steps_lead_to_the_place_and_not_past_it() -> None:
    place, here = LonLat(120.18, 30.31), LonLat(120.17, 30.3)
    before_m = distance_m(here, place)
    for _ in range(200):
        here = step_towards(here, place, 12.0)
        left_m = distance_m(here, place)
        assert left_m <= before_m + 0.1
        before_m = left_m
        if left_m <= ARRIVED_M:
            break
    assert left_m <= ARRIVED_M
    assert heading_between(LonLat(120.17, 30.3), LonLat(120.18, 30.3)) == pytest.approx(90.0)
    assert heading_between(LonLat(120.17, 30.3), LonLat(120.17, 30.2)) == pytest.approx(180.0)
