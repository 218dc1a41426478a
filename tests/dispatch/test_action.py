"""However people act, alone or two at once: no state but by the table, no change lost, the log one unbroken story."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.model import SYSTEM, Action, ActionRefused, Actor
from dispatch.transition import TRANSITIONS
from kernel.types import OPEN_STATES, Role, Source, Verdict
from tests.dispatch.build import City, cell_centre

_LEADS = {(line.action.value, state.value): set() for line in TRANSITIONS for state in line.states}
for _line in TRANSITIONS:
    for _state in _line.states:
        _LEADS[_line.action.value, _state.value].add((_line.to or _state).value)


def full_inputs(city: City, actor: Actor, target: Actor, **more: Any) -> dict[str, Any]:
    """Everything an action could need, so that only who and when decide."""
    lon, lat = cell_centre(0, 0)
    photo = city.add_photo(actor) if actor.user_id else None
    return {
        "reason": "理由", "evidence_id": photo, "lon": lon, "lat": lat, "user_id": target.user_id, "verdict": Verdict.CLEAR,
        "found": True, "until": city.now + timedelta(days=1), "user_ids": (target.user_id,), "score": 4, **more,
    }  # fmt: skip


def check_story(city: City, incident_id: UUID) -> dict[str, Any]:
    """The log has every version once, each entry begins where the last one ended, and the table leads there."""
    (view,) = [city.read(UUID(one["id"])) for one in city.incidents() if one["id"] == str(incident_id)]
    events = view["events"]
    states = [(event["from_state"], event["to_state"]) for event in events]
    assert states[0] == (None, "reported")
    assert [came for came, _ in states[1:]] == [went for _, went in states[:-1]]
    assert states[-1][1] == view["state"]
    assert [event["detail"]["version"] for event in events] == list(range(1, view["version"] + 1))
    for event in events:
        if event["action"] in set(Action):
            assert event["to_state"] in _LEADS[event["action"], event["from_state"]], event
        else:
            assert event["from_state"] in (None, event["to_state"]), event
    assert (view["ended_at"] is None) == (view["state"] in OPEN_STATES)
    assert (view["assignee"] is not None) or view["state"] in ("reported", "filed", "void")
    assert sum(a["outcome"] is None for a in view["assignments"]) == (view["state"] == "dispatched")
    assert (view["suspended_at"] is not None) == any(s["ended_at"] is None for s in view["suspensions"])
    assert view["extension_asked"] == any(x["state"] == "asked" for x in view["extension_requests"])
    assert len(view["suspensions"]) <= 1 and view["extensions"] <= 2
    return view


@pytest.mark.parametrize("seed", range(5))
def test_however_people_act_the_log_is_one_unbroken_story(city: City, seed: int) -> None:
    chance = random.Random(seed)
    operator, first, second = city.add_person("值班长", Role.OPERATOR), city.add_person("甲"), city.add_person("乙")
    city.report("illegal_parking", Source.CITIZEN if seed % 2 else Source.CAMERA, reporter=second)
    city.take()
    incident_id = UUID(city.incident()["id"])
    for _ in range(60):
        city.pass_time(seconds=chance.uniform(0, 400))
        if chance.random() < 0.2:
            city.advance()
            continue
        actor = chance.choice([SYSTEM, operator, operator, first, second])
        action = chance.choice([a for a in Action if a not in (Action.VOID, Action.MERGE) or chance.random() < 0.1])
        target = chance.choice([first, second])
        more = {"verdict": chance.choice(list(Verdict)), "found": chance.random() < 0.5}
        inputs = full_inputs(city, actor, target, **more)
        if chance.random() < 0.2:
            inputs.pop(chance.choice(list(inputs)))
        try:
            city.act(actor, action, incident_id=incident_id, **inputs)
        except ActionRefused:
            pass
    check_story(city, incident_id)


_OPERATOR_DOES = (
    "file", "dispatch", "check", "rework", "send_back", "suspend", "resume", "supervise", "escalate", "summon", "rate",
    "grant_extension", "refuse_extension", "reopen", "ask_verification", "void",
)  # fmt: skip
_WORKER_DOES = (
    "accept", "arrive", "handle", "refuse", "send_back", "ask_extension", "check_in", "verify", "appeal", "check", "file",
)  # fmt: skip
_steps = st.lists(st.tuples(st.sampled_from(_OPERATOR_DOES), st.sampled_from(_WORKER_DOES)), min_size=6, max_size=10)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_steps)
def test_of_two_who_act_at_once_one_is_told_and_nothing_is_lost(city: City, steps: list[tuple[str, str]]) -> None:
    people = city.people
    operator = people.get("值班长") or city.add_person("值班长", Role.OPERATOR)
    worker = people.get("甲") or city.add_person("甲", at=cell_centre(0, 0))
    category = f"{len(city.incidents()) % 5}"
    city.report(["illegal_parking", "bin_overflow", "snow_ice", "damaged_road", "crowding"][int(category)], column=1)
    city.turn()
    incident_id = UUID(city.incidents("open")[0]["id"])
    done = 0

    def ask(actor: Actor, action: Action, version: int, together: threading.Barrier) -> str:
        inputs = full_inputs(city, actor, worker)
        together.wait(30)
        try:
            city.act(actor, action, version, incident_id=incident_id, **inputs)
        except ActionRefused as refused:
            return refused.code
        except psycopg.errors.LockNotAvailable:
            return "busy"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        # The steps of a life, so that random ones meet every state; then the random ones.
        for first, second in [("acknowledge", "accept"), ("supervise", "arrive"), ("escalate", "handle"), *steps]:
            city.pass_time(seconds=30)
            view = city.read(incident_id)
            barrier = threading.Barrier(2)
            both = [
                pool.submit(ask, operator, Action(first), view["version"], barrier),
                pool.submit(ask, worker, Action(second), view["version"], barrier),
            ]
            answers = [one.result(60) for one in both]
            assert answers.count("done") <= 1  # both had seen the same version
            assert "done" in answers or "version_conflict" not in answers
            done += answers.count("done")
    view = check_story(city, incident_id)
    assert sum(event["action"] in (*_OPERATOR_DOES, *_WORKER_DOES, "acknowledge") for event in view["events"]) >= done
    for one in city.incidents("open"):
        city.act(operator, Action.VOID, incident_id=UUID(one["id"]), reason="完")


def test_the_database_keeps_the_log_and_refuses_a_state_that_it_does_not_tell_of(city: City) -> None:
    city.report()
    city.take()
    with pytest.raises(psycopg.errors.CheckViolation, match="the log does not tell"):
        city.query("UPDATE incident SET state = 'closed' RETURNING id")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        city.query("UPDATE incident_event SET reason = '' RETURNING id")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        city.query("DELETE FROM incident_event RETURNING id")
    assert city.incident()["state"] == "filed"
