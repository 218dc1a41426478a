"""The engineers' page of messages that could not be used."""

import json
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from ingest.batch import take_batch
from ingest.decode import Raw
from kernel.db import Database
from tests.dashboard.conftest import Server, SignIn, now, put_device

URL = "/api/v1/dead-letters"


@pytest.fixture
def engineer(sign_in: SignIn) -> httpx.Client:
    """Somebody who may look."""
    return sign_in("gao", ("engineer",))


def put_letters(server: Server, database: Database, code: str, count: int, note: str = "") -> None:
    """Messages of a device that is not registered."""
    raws = []
    for number in range(count):
        body = {"v": 1, "id": f"m{number}", "at": now().isoformat(), "level_m": 1.0, "note": note}
        payload = json.dumps(body).encode()
        raws.append(
            Raw(f"gridwarden/river_sluice/{code}/telemetry", payload[:65_536], len(payload), now() - timedelta(hours=1))
        )
    take_batch(database, raws, now(), server.settings.ingest, "Asia/Shanghai")


def test_letters_are_browsed_by_reason_and_device_page_by_page(
    server: Server, database: Database, engineer: httpx.Client
) -> None:
    put_letters(server, database, "R1", 3)
    put_letters(server, database, "R2", 2)
    assert [(row["reason"], row["count"]) for row in engineer.get(f"{URL}/summary").json()] == [("unknown_device", 5)]
    first = engineer.get(URL, params={"device": "R1", "limit": 2}).json()
    rest = engineer.get(URL, params={"device": "R1", "limit": 2, "cursor": first["next"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
    letter = first["items"][0]
    assert letter["device_code"] == "R1" and '"level_m": 1.0' in letter["payload_text"] and letter["replayable"]
    assert engineer.get(URL, params={"reason": "bad_payload"}).json()["items"] == []


def test_one_letter_and_then_the_others_are_taken_once_the_device_is_there(
    server: Server, database: Database, engineer: httpx.Client
) -> None:
    put_letters(server, database, "R1", 3)
    one = engineer.get(URL).json()["items"][0]["id"]
    assert engineer.post(f"{URL}/{one}/replay").json() == {"replayed": 1, "taken": 0, "repeated": 0, "dead": 1}
    assert engineer.get(URL).json()["items"][0]["replays"] == 1
    with database.transaction() as connection:
        put_device(connection, "R1", "river_sluice")
    assert engineer.post(f"{URL}/{one}/replay").json()["taken"] == 1
    body = engineer.post(f"{URL}/replay", json={"reason": "unknown_device", "device": "R1", "limit": 100}).json()
    assert body == {"replayed": 2, "taken": 2, "repeated": 0, "dead": 0}
    assert engineer.get(f"{URL}/summary").json() == []
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (3,)
        actions = connection.execute("SELECT actor, action FROM audit WHERE subject = 'dead_letter'").fetchall()
    assert actions == [("gao", "dead_letters_replayed")] * 3


def test_a_letter_that_cannot_be_replayed_says_why(server: Server, database: Database, engineer: httpx.Client) -> None:
    put_letters(server, database, "R1", 1, note="x" * 70_000)
    letter = engineer.get(URL).json()["items"][0]
    assert letter["replayable"] is False and letter["payload_bytes"] > 65_536
    answer = engineer.post(f"{URL}/{letter['id']}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "payload_cut")
    answer = engineer.post(f"{URL}/{uuid4()}/replay")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_dead_letter")


def test_old_letters_are_emptied(server: Server, database: Database, engineer: httpx.Client) -> None:
    put_letters(server, database, "R1", 2)
    assert engineer.delete(URL, params={"before": (now() - timedelta(hours=2)).isoformat()}).json() == {"deleted": 0}
    assert engineer.delete(URL, params={"before": now().isoformat()}).json() == {"deleted": 2}
    assert engineer.delete(URL, params={"before": "2026-11-20T08:00:00"}).status_code == 422


def test_others_may_neither_look_nor_replay_nor_empty(sign_in: SignIn) -> None:
    client = sign_in("lin", ("operator",))
    answers = [
        client.get(URL),
        client.get(f"{URL}/summary"),
        client.post(f"{URL}/replay", json={}),
        client.post(f"{URL}/{uuid4()}/replay"),
        client.delete(URL, params={"before": now().isoformat()}),
    ]
    assert {answer.status_code for answer in answers} == {403}
