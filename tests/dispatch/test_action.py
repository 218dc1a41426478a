"""Every action in every state by everybody: what is not in the book is refused and changes nothing."""

import random
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from dispatch.model import SYSTEM, Action, ActionRefused, Actor
from kernel.types import OPEN_STATES, IncidentState, Role, Verdict
from tests.dispatch.build import City, cell_centre

S = IncidentState
# The book, written here a second time and on purpose not taken from the code: (action, state) → (who, state then).
OPERATOR, ASSIGNEE, SYSTEM_ACTS = "operator", "assignee", "system"
BOOK: dict[tuple[str, str], tuple[set[str], str]] = {
    ("file", "reported"): ({OPERATOR, SYSTEM_ACTS}, "filed"),
    ("dispatch", "filed"): ({OPERATOR, SYSTEM_ACTS}, "dispatched"),
    ("dispatch", "dispatched"): ({OPERATOR}, "dispatched"),
    ("dispatch", "accepted"): ({OPERATOR}, "dispatched"),
    ("dispatch", "on_site"): ({OPERATOR}, "dispatched"),
    ("accept", "dispatched"): ({ASSIGNEE}, "accepted"),
    ("refuse", "dispatched"): ({ASSIGNEE}, "filed"),
    ("expire", "dispatched"): ({SYSTEM_ACTS}, "filed"),
    ("arrive", "accepted"): ({ASSIGNEE}, "on_site"),
    ("handle", "on_site"): ({ASSIGNEE}, "handled"),
    ("check", "handled"): ({OPERATOR}, "closed"),
    ("close", "handled"): ({SYSTEM_ACTS}, "closed"),
    ("rework", "handled"): ({OPERATOR, SYSTEM_ACTS}, "dispatched"),
    ("send_back", "accepted"): ({ASSIGNEE, OPERATOR}, "filed"),
    ("send_back", "on_site"): ({ASSIGNEE, OPERATOR}, "filed"),
    ("send_back", "filed"): ({OPERATOR}, "reported"),
    ("reopen", "closed"): ({SYSTEM_ACTS}, "filed"),
}
for _state in ("reported", "filed", "dispatched", "accepted", "on_site", "handled"):
    BOOK[("void", _state)] = ({OPERATOR}, "void")
    BOOK[("acknowledge", _state)] = ({OPERATOR}, _state)

_WITH_ASSIGNEE = (S.DISPATCHED, S.ACCEPTED, S.ON_SITE, S.HANDLED)


def force_state(city: City, incident_id: UUID, state: IncidentState, assignee: Actor) -> None:
    """Put the incident into a state as its life would have, without living it."""
    held = assignee.user_id if state in _WITH_ASSIGNEE else None
    city.query(
        "UPDATE incident SET state = %s, assignee_id = %s, handler_id = %s, needs_operator = NULL WHERE id = %s RETURNING id",
        state, held, held if state is S.HANDLED else None, incident_id,
    )  # fmt: skip
    city.query("DELETE FROM assignment WHERE incident_id = %s RETURNING id", incident_id)


def full_inputs(city: City, actor: Actor, target: Actor) -> dict[str, Any]:
    """Everything an action could need, so that only who and when decide."""
    lon, lat = cell_centre(0, 0)
    photo = city.add_photo(actor) if actor.user_id else None
    return {
        "reason": "理由", "evidence_id": photo, "lon": lon, "lat": lat, "user_id": target.user_id, "verdict": Verdict.CLEAR,
    }  # fmt: skip


def test_the_whole_book_holds_and_nothing_else_does(city: City) -> None:
    assignee, target = city.add_person("甲"), city.add_person("乙")
    people = {
        OPERATOR: city.add_person("值班长", Role.OPERATOR), ASSIGNEE: assignee, "stranger": city.add_person("丙"),
        "engineer": city.add_person("工程师", Role.ENGINEER), SYSTEM_ACTS: SYSTEM,
    }  # fmt: skip
    city.report("illegal_parking")
    city.take()
    incident_id = UUID(city.incident()["id"])
    for action, state, (who, actor) in product(Action, IncidentState, people.items()):
        force_state(city, incident_id, state, assignee)
        allowed, then = BOOK.get((action.value, state.value), (set(), ""))
        inputs = full_inputs(city, actor, target)
        before = city.query("SELECT version, state FROM incident")
        events = city.query("SELECT count(*) FROM incident_event")
        case = f"{action} by {who} in {state}"
        try:
            view = city.act(actor, action, incident_id=incident_id, **inputs)
        except ActionRefused as refused:
            assert who not in allowed, f"{case}: {refused}"
            assert refused.code in ("not_your_role", "not_your_task", "not_allowed_in_state"), case
            assert city.query("SELECT version, state FROM incident") == before, case
            assert city.query("SELECT count(*) FROM incident_event") == events, case
        else:
            assert who in allowed, case
            assert view["state"] == then, case
            assert city.query("SELECT version FROM incident") == [(before[0][0] + 1,)], case


@pytest.mark.parametrize("seed", range(12))
def test_however_people_act_the_log_is_one_unbroken_story(city: City, seed: int) -> None:
    chance = random.Random(seed)
    actors = [SYSTEM, city.add_person("值班长", Role.OPERATOR), city.add_person("甲"), city.add_person("乙")]
    city.report("illegal_parking")
    city.take()
    incident_id = UUID(city.incident()["id"])
    for _ in range(40):
        city.pass_time(seconds=chance.uniform(0, 200))
        if chance.random() < 0.2:
            city.advance()
            continue
        actor, action = chance.choice(actors), chance.choice(list(Action))
        inputs = full_inputs(city, actor, chance.choice(actors[2:])) | {"verdict": chance.choice(list(Verdict))}
        if chance.random() < 0.2:
            inputs.pop(chance.choice(list(inputs)))
        try:
            city.act(actor, action, incident_id=incident_id, **inputs)
        except ActionRefused:
            pass
    view = city.incident()
    states = [(event["from_state"], event["to_state"]) for event in view["events"]]
    assert states[0] == (None, "reported")
    assert [came for came, _ in states[1:]] == [went for _, went in states[:-1]]  # each begins where the last ended
    assert states[-1][1] == view["state"]
    assert [e["detail"]["version"] for e in view["events"]] == list(range(1, view["version"] + 1))
    assert (view["ended_at"] is None) == (view["state"] in OPEN_STATES)
    assert (view["assignee"] is not None) or view["state"] in ("reported", "filed", "void")
    assert sum(a["outcome"] is None for a in view["assignments"]) == (view["state"] == "dispatched")
