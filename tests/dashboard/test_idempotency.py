"""A request sent again with its key: the same answer, and nothing done twice."""

import threading
from typing import Any

import httpx
import pytest

from kernel.db import Database
from tests.dashboard.conftest import Server, SignIn

pytestmark = pytest.mark.usefixtures("cells")
REPORT = {"category": "exposed_garbage", "lon": 120.17, "lat": 30.28, "note": "桶边有垃圾"}


def send(client: httpx.Client, key: str, body: dict[str, Any] = REPORT) -> httpx.Response:
    return client.post("/api/v1/reports", json=body, headers={"Idempotency-Key": key})


def count_reports(database: Database) -> int:
    with database.transaction() as connection:
        row = connection.execute("SELECT count(*) FROM report").fetchone()
    return int(row[0]) if row else -1


def test_a_repeat_gets_the_first_answer(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in()
    first, second = send(client, "k1"), send(client, "k1")
    assert first.status_code == 201, first.text
    assert (second.status_code, second.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers and second.headers["idempotency-replayed"] == "true"
    assert count_reports(database) == 1
    assert send(client, "k2").json() != first.json() and count_reports(database) == 2


def test_the_same_key_for_another_request_is_refused(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in()
    send(client, "k1")
    other = send(client, "k1", REPORT | {"note": "另一处"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert count_reports(database) == 1


def test_keys_belong_to_their_people(server: Server, database: Database, sign_in: SignIn) -> None:
    assert send(sign_in("lin"), "k1").json() != send(sign_in("wang"), "k1").json()
    assert count_reports(database) == 2


def test_many_at_the_same_moment_do_it_once(server: Server, database: Database, sign_in: SignIn) -> None:
    cookie = sign_in().cookies["gw_wall"]
    answers: list[httpx.Response] = []
    start = threading.Barrier(8)

    def run() -> None:
        client = server.client()
        client.cookies.set("gw_wall", cookie)
        start.wait()
        answers.append(send(client, "k1"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count_reports(database) == 1


def test_what_was_refused_may_be_tried_again(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in()
    refused = send(client, "k1", REPORT | {"category": "dragons"})
    assert refused.status_code == 422
    assert send(client, "k1").status_code == 201


def test_done_but_never_answered_is_not_done_again(server: Server, database: Database, sign_in: SignIn) -> None:
    """As after a kill between the commit and the answer."""
    client = sign_in()
    send(client, "k1")
    with database.transaction() as connection:
        connection.execute("UPDATE idempotency SET status = 0, body = 'null'")
    again = send(client, "k1")
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_lost")
    assert count_reports(database) == 1


@pytest.mark.parametrize("key", ["x" * 201, "\x01"])
def test_a_key_that_cannot_be_one_is_refused(server: Server, sign_in: SignIn, key: str) -> None:
    assert send(sign_in(), key).json()["code"] == "idempotency_key_invalid"


def test_strangers_leave_no_keys(server: Server, database: Database) -> None:
    assert send(server.client(), "k1").status_code == 401
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM idempotency").fetchone() == (0,)
