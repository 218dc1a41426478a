"""Every error is a problem with a stable code, and none of them tells what is inside."""

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from dashboard.run import make_server
from dashboard.users import add_user
from kernel.db import Database
from kernel.settings import Settings
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, open_incident, put_device

MEDIA_TYPE = "application/problem+json"


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE and answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    assert set(body) == {"type", "title", "status", "code", "params"}
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:gridwarden:problem:{code}")
    return body


WRONG_REQUESTS = [
    ("GET", "/api/v1/nothing", 404, "not_found"),
    ("GET", "/api/nothing/at/all", 404, "not_found"),
    ("DELETE", "/api/v1/me", 405, "method_not_allowed"),
    ("GET", "/api/v1/incidents/not-an-id", 422, "invalid_request"),
    ("GET", "/api/v1/incidents/00000000-0000-0000-0000-000000000000", 404, "unknown_incident"),
    ("GET", "/api/v1/devices/00000000-0000-0000-0000-000000000000", 404, "unknown_device"),
    ("GET", "/api/v1/evidence/00000000-0000-0000-0000-000000000000", 404, "unknown_evidence"),
    ("GET", "/api/v1/incidents?state=other", 422, "invalid_request"),
    ("GET", "/api/v1/incidents?cursor=%27;--", 422, "bad_cursor"),
    ("GET", "/api/v1/map/dragons.geojson", 404, "unknown_layer"),
    ("GET", "/api/v1/map/%00.geojson", 422, "invalid_value"),
    ("GET", "/api/v1/schemas/dragon.json", 404, "unknown_kind"),
]


def test_errors_have_one_shape(server: Server, sign_in: SignIn, subtests: pytest.Subtests) -> None:
    client = sign_in()
    for method, path, status, code in WRONG_REQUESTS:
        with subtests.test(path):
            assert_problem(client.request(method, path), status, code)


CLOSED_PATHS = [
    "/me",
    "/incidents",
    "/devices",
    "/map",
    "/categories",
    "/users",
    "/dead-letters",
    "/push/key",
    "/map/cell.geojson",
]


def test_strangers_see_nothing(server: Server, subtests: pytest.Subtests) -> None:
    client = server.client()
    for path in CLOSED_PATHS:
        with subtests.test(path):
            assert_problem(client.get(f"/api/v1{path}"), 401, "not_signed_in")


def test_a_wrong_value_is_named_and_never_repeated(server: Server) -> None:
    answer = server.client().post("/api/v1/login", json={"name": "lin", "password": "s3cret" * 100})
    body = assert_problem(answer, 422, "invalid_request")
    assert body["params"]["fields"] == [{"where": ["body", "password"], "reason": "string_too_long"}]
    assert "s3cret" not in answer.text


NO_POSITIONS = [
    b"",
    b"{",
    b"null",
    b"[" * 50_000,
    b'{"lon": NaN, "lat": 1, "measured_at": "2026-01-01T00:00:00Z"}',
    b'{"lon": 1e999, "lat": 1, "measured_at": "2026-01-01T00:00:00Z"}',
    b'{"lon": 1, "lat": 1, "measured_at": "2026-01-01T00:00:00"}',
    b'{"lon": "\\ud800"}',
    b"\xff\xfe",
]


def test_bodies_that_are_no_position_are_refused(server: Server, sign_in: SignIn, subtests: pytest.Subtests) -> None:
    client = sign_in()
    for content in NO_POSITIONS:
        with subtests.test(content[:30].decode("latin-1")):
            answer = client.post("/api/v1/me/position", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422) and answer.headers["content-type"] == MEDIA_TYPE
    assert client.get("/api/v1/me").status_code == 200


def test_a_body_that_grows_too_large_is_cut_off(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post("/api/v1/reports", content=b"x" * 1_100_000, headers=headers), 413, "too_large")
    drip = (b"x" * 100_000 for _ in range(20))
    assert_problem(client.post("/api/v1/reports", content=drip, headers=headers), 413, "too_large")
    drip = (b"x" * 100_000 for _ in range(20))
    keyed = client.post("/api/v1/reports", content=drip, headers=headers | {"Idempotency-Key": "k"})
    assert_problem(keyed, 413, "too_large")


def test_nul_characters_are_a_wrong_value_and_no_crash(server: Server, sign_in: SignIn, cells: None) -> None:
    report = {"category": "exposed_garbage", "lon": 120.17, "lat": 30.28, "note": "a\x00b"}
    answer = sign_in().post("/api/v1/reports", json=report)
    assert answer.status_code == 422 and answer.headers["content-type"] == MEDIA_TYPE


def test_what_nobody_expected_tells_an_id_and_nothing_else(
    web_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    router = APIRouter()

    @router.get("/broken")
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    from tests.dashboard.conftest import free_port

    settings = web_settings.model_copy(update={"web": web_settings.web.model_copy(update={"port": free_port()})})
    stop = threading.Event()
    running = make_server(settings, stop, extra_routers=[router])
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
        answer = httpx.get(f"http://127.0.0.1:{settings.web.port}/broken")
    finally:
        stop.set()
        thread.join(10)
    body = assert_problem(answer, 500, "internal_error")
    assert "swordfish" not in answer.text and answer.headers["x-content-type-options"] == "nosniff"
    logged = [record for record in caplog.records if getattr(record, "error_id", None) == body["params"]["error_id"]]
    assert len(logged) == 1 and "swordfish" in str(logged[0].exc_info)


def test_every_answer_carries_the_headers_that_keep_a_page_small(server: Server) -> None:
    client = server.client()
    for path in ("/login", "/wall", "/api/v1/me", "/healthz", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "object-src 'none'" in policy and "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and "camera=(self)" in headers["permissions-policy"]
        assert "server" not in headers


def test_pages_come_from_the_build(server: Server, database: Database, sign_in: SignIn) -> None:
    client = server.client()
    assert "<title>wall</title>" in client.get("/wall").text and "<title>index</title>" in client.get("/login").text
    script = client.get("/assets/wall-1234.js")
    assert script.headers["content-encoding"] == "gzip" and "immutable" in script.headers["cache-control"]
    assert "export const words" in script.text
    again = client.get("/assets/wall-1234.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304
    worker = client.get("/sw.js")
    assert worker.headers["cache-control"] == "no-cache" and worker.headers["content-type"].startswith(
        "text/javascript"
    )
    assert client.get("/").headers["location"] == "/login"
    assert sign_in("lin").get("/").headers["location"] == "/wall"
    assert sign_in("chen", ("grid_worker",)).get("/").headers["location"] == "/phone"


OTHER_FILES = (
    "/secret.pem",
    "/assets/../secret.pem",
    "/assets/%2e%2e/secret.pem",
    "/..%2f..%2fetc/passwd",
    "/assets/%00",
    "/fonts/..%2f..%2fwall.html",
    "/.env",
    "/etc/passwd",
)


def test_no_other_file_is_served(server: Server, subtests: pytest.Subtests) -> None:
    client = server.client()
    for path in OTHER_FILES:
        with subtests.test(path):
            assert client.get(path).status_code == 404


def test_without_a_build_the_page_says_what_to_do(web_settings: Settings, tmp_path: Path) -> None:
    from tests.dashboard.conftest import serve

    missing = web_settings.web.model_copy(update={"dist_dir": tmp_path / "nowhere"})
    with serve(web_settings.model_copy(update={"web": missing})) as running:
        answer = running.client().get("/wall")
    assert answer.status_code == 503 and "scripts/setup" in answer.text and "尚未构建" in answer.text


def test_a_street_sees_its_own_and_not_its_neighbours(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        own, other = open_incident(connection, STREET_A + "001"), open_incident(connection, STREET_B + "001")
        put_device(connection, "door-a")
        device_b = put_device(connection, "door-b", area_code=STREET_B + "001")
        add_user(connection, name="far", roles=["grid_worker"], scope=STREET_B, now=now())
        add_user(connection, name="near", roles=["grid_worker"], scope=STREET_A + "001", now=now())
    client = sign_in(scope=STREET_A)
    assert [item["id"] for item in client.get("/api/v1/incidents").json()["items"]] == [str(own)]
    assert client.get(f"/api/v1/incidents/{own}").status_code == 200
    assert_problem(client.get(f"/api/v1/incidents/{other}"), 404, "unknown_incident")
    void = client.post(f"/api/v1/incidents/{other}/actions/void", json={"reason": "no"})
    assert_problem(void, 404, "unknown_incident")
    assert_problem(client.get(f"/api/v1/incidents/{other}/candidates"), 404, "unknown_incident")
    assert [device["code"] for device in client.get("/api/v1/devices").json()] == ["door-a"]
    assert_problem(client.get(f"/api/v1/devices/{device_b}"), 404, "unknown_device")
    assert [person["name"] for person in client.get("/api/v1/users").json()] == ["near"]
    everybody = sign_in("chief", scope="*")
    assert len(everybody.get("/api/v1/incidents").json()["items"]) == 2
    assert [person["name"] for person in everybody.get("/api/v1/users").json()] == ["far", "near"]


def test_an_incident_is_changed_in_the_version_that_was_seen(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    with database.transaction() as connection:
        incident_id = open_incident(connection)
    client = sign_in()
    path = f"/api/v1/incidents/{incident_id}/actions/void"
    stale = client.post(path, json={"reason": "double"}, headers={"If-Match": '"99"'})
    assert_problem(stale, 412, "version_conflict")
    seen = client.get(f"/api/v1/incidents/{incident_id}").headers["etag"]
    assert client.post(path, json={"reason": "double"}, headers={"If-Match": seen}).json()["state"] == "void"
