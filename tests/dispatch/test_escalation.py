"""Smoke in a home: who is told, in what order, until somebody answers; against a real gateway on this machine."""

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.homes import ContactRecord, ContactRole, write_home
from devices.seal import Seal
from devices.store import read_device
from dispatch.escalation import Answer, Notice, NoticeState, Outcome, escalate, plan, read_notices, take_answer
from dispatch.model import Action, Actor
from dispatch.notice import ANSWER_WITHIN, deliver_notices, make_token, read_token
from dispatch.outbox import deliver_due
from kernel.settings import Settings
from kernel.types import Role
from tests.dispatch.build import NORTH, City

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STEP = timedelta(seconds=60)
PEOPLE = [
    (ContactRole.RESIDENT, "13800000001"),
    (ContactRole.NEIGHBOUR, "13800000002"),
    (ContactRole.COMMUNITY, "13800000003"),
]


# ---------------------------------------------------------------- the plan


def notices(*states: str, told_s: float = 0, answer: Answer | None = None) -> list[Notice]:
    """Steps in order; those told were told `told_s` ago, the last of them answered `answer`."""
    at = NOW - timedelta(seconds=told_s)
    told = [n for n, state in enumerate(states) if state in ("sent", "due")]
    return [
        Notice(
            id=UUID(int=n), position=n, role="resident", contact_id=UUID(int=n), state=NoticeState(state),
            due_at=at if n in told else None, sent_at=at if state == "sent" else None,
            answer=answer if told and n == told[-1] else None,
        )
        for n, state in enumerate(states)
    ]  # fmt: skip


def told_by(steps: list[Notice]) -> list[int]:
    return [n.position for n in plan(steps, step=STEP, now=NOW).tell]


def test_the_first_is_told_at_once_and_the_next_when_nobody_answered_in_time() -> None:
    assert told_by(notices("waiting", "waiting")) == [0]
    assert told_by(notices("sent", "waiting", told_s=59)) == []
    assert told_by(notices("sent", "waiting", told_s=60)) == [1]
    assert told_by(notices("failed", "waiting")) == [1]


def test_a_gateway_that_never_takes_it_does_not_hold_up_the_next_one() -> None:
    late = plan(notices("due", "waiting", told_s=60), step=STEP, now=NOW)
    assert [n.position for n in late.give_up] == [0] and [n.position for n in late.tell] == [1]


def test_who_is_safe_ends_it_and_who_needs_help_calls_everybody() -> None:
    assert plan(notices("sent", "waiting", answer=Answer.SAFE), step=STEP, now=NOW).outcome is Outcome.SAFE
    assert told_by(notices("sent", "waiting", "waiting", answer=Answer.HELP)) == [1, 2]
    assert plan(notices("sent", "failed", answer=Answer.HELP), step=STEP, now=NOW).outcome is Outcome.HELPED


def test_nobody_left_and_nobody_answered() -> None:
    assert plan(notices("sent", "sent", told_s=60), step=STEP, now=NOW).outcome is Outcome.UNANSWERED


_STATES = st.lists(st.sampled_from(list(NoticeState)), min_size=1, max_size=6)


@given(_STATES, st.floats(0, 200), st.none() | st.sampled_from(list(Answer)))
def test_a_plan_always_goes_on_or_ends(states: list[NoticeState], told_s: float, answer: Answer | None) -> None:
    steps = notices(*states, told_s=told_s, answer=answer)
    move = plan(steps, step=STEP, now=NOW)
    assert (move.outcome is None) != (move.next_at is None)
    assert move.next_at is None or move.next_at > NOW
    assert all(n.state is NoticeState.WAITING for n in move.tell)


# ---------------------------------------------------------------- with a gateway


class Gateway(BaseHTTPRequestHandler):
    """Keeps what it is told, and answers as it is told to."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.told.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.server.hold()  # type: ignore[attr-defined]
        status = self.server.answers.pop(0) if self.server.answers else 200  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextlib.contextmanager
def running_gateway() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.told, server.answers, server.hold = [], [], lambda: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def gateway() -> Iterator[Any]:
    with running_gateway() as server:
        yield server


class Home:
    """A home with a smoke alarm in a small city, and rounds of the dispatch role over it."""

    def __init__(self, city: City, url: str, **more: Any) -> None:
        self.city = city
        escalation = city.settings.escalation.model_copy(update={"url": url, "authorization": "Bearer t", **more})
        self.settings: Settings = city.settings.model_copy(update={"escalation": escalation})
        self.seal = Seal.of(city.settings.data_dir)
        city.add_device("smoke-1")

    def furnish(self, people: list[tuple[ContactRole, str]] = PEOPLE, code: str = "smoke-1") -> "Home":
        records = [
            ContactRecord(position=n, role=role, name=f"name {n}", phone=phone)
            for n, (role, phone) in enumerate(people, 1)
        ]
        with self.city.database.transaction() as connection:
            write_home(
                connection, read_device(connection, code), building="3 幢", floor="5", household="502", consent=None,
                contacts=records, seal=self.seal, actor="lin", now=self.city.now,
            )  # fmt: skip
        return self

    def burn(self) -> None:
        self.city.report("smoke", device="smoke-1", rule="smoke")
        self.city.turn()

    def round(self, seconds: float = 0) -> None:
        """Time passes; then what the role does once."""
        self.city.pass_time(seconds=seconds)
        with self.city.database.transaction() as connection:
            escalate(connection, self.city.now, self.settings)
        with httpx.Client() as client:
            deliver_notices(self.city.database, self.settings, self.seal, client, lambda: self.city.now)

    def answer(self, position: int, answer: Answer) -> bool:
        incident_id = UUID(self.city.incident()["id"])
        with self.city.database.transaction() as connection:
            notice = next(n for n in read_notices(connection, incident_id) if n.position == position)
            return take_answer(connection, notice.id, answer, ANSWER_WITHIN, self.city.now)

    def states(self) -> list[str]:
        return [row[0] for row in self.city.query("SELECT state FROM notice ORDER BY position")]

    def outcome(self) -> str | None:
        [(outcome,)] = self.city.query("SELECT outcome FROM escalation")
        return None if outcome is None else str(outcome)

    def story(self) -> list[tuple[str, str, str]]:
        """(role, state, answer or error) of each entry of the incident's log."""
        found = [e for e in self.city.incident()["events"] if e["action"] == "notice"]
        return [
            (e["detail"]["role"], e["detail"]["state"], e["detail"].get("answer") or e["detail"].get("error") or "")
            for e in found
        ]


@pytest.fixture
def home(city: City, gateway: Any) -> Home:
    return Home(city, f"http://127.0.0.1:{gateway.server_port}/notices").furnish()


def phones(gateway: Any) -> list[str]:
    return [body["phone"] for _, body in gateway.told]


def test_resident_then_neighbour_then_community_then_a_grid_worker(home: Home, gateway: Any) -> None:
    worker = home.city.add_person("陈师傅", grid="330103001002G0")
    home.city.add_person("far away", grid="330103001001G1", scope=NORTH)
    home.burn()
    home.round()
    assert phones(gateway) == ["13800000001"]
    home.round(59)
    assert len(gateway.told) == 1
    home.round(1)
    home.round(60)
    assert phones(gateway) == ["13800000001", "13800000002", "13800000003"]
    home.round(60)
    assert home.states() == ["sent"] * 4
    home.round(60)
    assert home.outcome() == "unanswered"
    assert [role for role, _, _ in home.story()] == ["resident", "neighbour", "community", "grid_worker"]
    # The incident was offered to this worker all the while: nothing waited for the telephone.
    assert home.city.incident()["assignee"]["id"] == str(worker.user_id)


def test_what_the_gateway_is_told(home: Home, gateway: Any) -> None:
    home.burn()
    home.round()
    [(headers, body)] = gateway.told
    assert headers["Authorization"] == "Bearer t" and headers["Idempotency-Key"] == body["notice_id"]
    assert (body["role"], body["name"], body["language"], body["place"]) == (
        "resident",
        "name 1",
        "zh-CN",
        "3 幢 5 502",
    )
    assert "16:00" in body["text"] and body["answer_url"] in body["text"]
    token = body["answer_url"].rsplit("/", 1)[1]
    assert read_token(home.settings.data_dir, token) == UUID(body["notice_id"])


def test_who_answers_that_all_is_well_stops_the_calls_but_not_the_incident(home: Home, gateway: Any) -> None:
    home.city.add_person("陈师傅", grid="330103001002G0")
    home.burn()
    home.round()
    assert home.answer(1, Answer.SAFE)
    home.round(600)
    assert len(gateway.told) == 1 and home.outcome() == "safe"
    assert home.states() == ["sent", "skipped", "skipped", "skipped"]
    assert home.story()[-1] == ("resident", "answered", "safe")
    assert home.city.incident()["state"] == "dispatched"


def test_who_asks_for_help_has_everybody_called_at_once(home: Home, gateway: Any) -> None:
    home.city.add_person("陈师傅", grid="330103001002G0")
    home.burn()
    home.round()
    assert home.answer(1, Answer.HELP)
    home.round(1)
    assert sorted(phones(gateway)) == [phone for _, phone in PEOPLE]
    home.round(60)
    assert home.outcome() == "helped"


def test_help_may_be_asked_for_after_all_was_well_but_not_the_other_way_round(home: Home, gateway: Any) -> None:
    home.burn()
    home.round()
    assert home.answer(1, Answer.SAFE)
    home.round(1)
    assert home.outcome() == "safe"
    assert home.answer(1, Answer.HELP)
    home.round(1)
    assert len(gateway.told) == 3 and home.outcome() is None
    assert home.answer(1, Answer.SAFE), "understood, and changes nothing"
    home.round(61)
    assert home.outcome() == "helped"


def test_an_answer_is_taken_for_a_day(home: Home, gateway: Any) -> None:
    home.burn()
    home.round()
    home.city.pass_time(hours=24, seconds=1)
    assert not home.answer(1, Answer.HELP)
    assert not home.answer(2, Answer.SAFE), "who was never told cannot answer"


def test_a_gateway_that_stumbles_is_tried_again_with_the_same_notice(home: Home, gateway: Any) -> None:
    gateway.answers[:] = [503, 500]
    home.burn()
    home.round()
    assert home.states()[0] == "due"
    home.round(0.9)
    assert len(gateway.told) == 1, "not before its turn"
    home.round(0.2)
    home.round(2)
    assert len({body["notice_id"] for _, body in gateway.told}) == 1 and len(gateway.told) == 3
    assert home.states()[0] == "sent"


def test_a_gateway_that_is_away_costs_no_more_than_its_step(city: City) -> None:
    with running_gateway() as server:
        url = f"http://127.0.0.1:{server.server_port}/"
    home = Home(city, url, timeout_s=2, max_attempts=2).furnish()
    city.add_person("陈师傅", grid="330103001002G0")
    home.burn()
    for _ in range(12):
        home.round(1)
    assert home.states() == ["failed", "failed", "failed", "sent"]
    assert home.story()[0] == ("resident", "failed", "gateway: ConnectError")


def test_without_a_gateway_a_grid_worker_of_the_cell_is_told_at_once(city: City) -> None:
    home = Home(city, "").furnish()
    first = city.add_person("first", grid="330103001002G0", at=(120.1705, 30.2805))
    second = city.add_person("second", grid="330103001002G0")
    home.burn()
    assert city.incident()["assignee"]["id"] == str(first.user_id)
    home.round()
    assert home.states() == ["failed", "failed", "failed", "sent"]
    assert [entry[2] for entry in home.story()] == ["no_gateway"] * 3 + [""]
    pushes = city.query("SELECT user_id, kind FROM push_outbox WHERE kind = 'notice'")
    assert pushes == [(second.user_id, "notice")], "whoever has the incident knows already"
    # It is true for as long as the incident is open, whoever has it.
    deliver_due(city.database, [], city.now)
    [(error,)] = city.query("SELECT error FROM push_outbox WHERE kind = 'notice'")
    assert error is None
    lin = city.add_person("lin", Role.OPERATOR)
    city.act(lin, Action.VOID, reason="a test")
    city.pass_time(seconds=10)
    deliver_due(city.database, [], city.now)
    [(error,)] = city.query("SELECT error FROM push_outbox WHERE kind = 'notice'")
    assert error == "superseded"


def test_with_nobody_on_duty_the_log_says_so(city: City) -> None:
    home = Home(city, "").furnish([])
    home.burn()
    home.round()
    assert home.story() == [("grid_worker", "failed", "nobody_on_duty")] and home.outcome() == "unanswered"


def test_an_alarm_that_is_in_no_home_calls_nobody(city: City) -> None:
    home = Home(city, "")
    home.burn()
    home.round()
    assert city.query("SELECT * FROM escalation") == []


def test_an_incident_that_ended_calls_nobody_any_more(home: Home, gateway: Any) -> None:
    lin: Actor = home.city.add_person("lin", Role.OPERATOR)
    home.burn()
    home.round()
    home.city.act(lin, Action.VOID, reason="false alarm")
    home.round(61)
    assert home.outcome() == "incident_ended" and len(gateway.told) == 1
    assert not home.story()[1:]


def test_repeats_of_the_alarm_and_rounds_of_two_workers_call_nobody_twice(home: Home, gateway: Any) -> None:
    home.burn()
    home.city.report("smoke", device="smoke-1", rule="smoke")
    home.city.turn()
    for _ in range(3):
        home.round()
    assert phones(gateway) == ["13800000001"]


def test_a_contact_taken_off_the_list_is_passed_over(home: Home, gateway: Any) -> None:
    home.burn()
    with home.city.database.transaction() as connection:
        escalate(connection, home.city.now, home.settings)
        connection.execute("DELETE FROM home_contact WHERE position = 1")
    home.round()
    home.round()
    assert phones(gateway) == ["13800000002"] and home.story()[0] == ("resident", "failed", "contact_gone")


def test_no_name_and_no_number_is_in_the_log(home: Home, gateway: Any) -> None:
    home.burn()
    home.round()
    home.answer(1, Answer.HELP)
    home.round(1)
    text = json.dumps(home.city.incident(), default=str)
    assert "1380000000" not in text and "name 1" not in text


def test_a_token_is_of_one_notice_and_of_this_installation(settings: Settings) -> None:
    notice_id = UUID(int=5)
    token = make_token(settings.data_dir, notice_id)
    assert read_token(settings.data_dir, token) == notice_id
    forged = [token[:-1] + ("A" if token[-1] != "A" else "B"), token[1:], "", "x" * 43, "é", token + "AAAA", "=" * 7]
    # The last character of 32 bytes in base64 carries two bits that count for nothing.
    assert [read_token(settings.data_dir, text) for text in forged[1:]] == [None] * 6
    assert read_token(settings.data_dir, make_token(settings.data_dir, UUID(int=6))) != notice_id


def test_a_slow_gateway_is_called_for_several_homes_at_once(city: City, gateway: Any) -> None:
    together = threading.Barrier(4)
    gateway.hold = lambda: together.wait(20)  # answers nobody before four are there
    home = Home(city, f"http://127.0.0.1:{gateway.server_port}/", timeout_s=25)
    home.furnish()
    for column in range(1, 4):
        code = f"smoke-{column + 1}"
        city.add_device(code, column=column)
        home.furnish(code=code)
        city.report("smoke", device=code, rule="smoke", column=column)
    home.burn()
    home.round()
    assert len(gateway.told) == 4 and home.states().count("sent") == 4
