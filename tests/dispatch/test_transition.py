"""The table: everybody, every action, every state. What is not in the book is refused."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from dispatch.model import SYSTEM, Action, ActionRefused, Actor, Incident, Inputs, Need, Who
from dispatch.transition import (
    REASON_CODES,
    REOPEN_WITHIN,
    TRANSITIONS,
    Guard,
    Standing,
    allowed_actions,
    capacities,
    find_line,
    find_transitions,
    holds,
)
from kernel.types import IncidentState, LimitUnit, Role, Verdict

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
S = IncidentState
OPEN = ("reported", "filed", "dispatched", "accepted", "on_site", "handled")
WORK = OPEN[1:5]
# The book, written here a second time and on purpose not taken from the code: action → states, who, state then (None: stays).
BOOK: list[tuple[str, tuple[str, ...], set[str], str | None]] = [
    ("ask_verification", ("reported",), {"operator"}, None),
    ("verify", ("reported",), {"verifier"}, "filed"),
    ("file", ("reported",), {"operator", "system"}, "filed"),
    ("void", OPEN, {"operator"}, "void"),
    ("dispatch", ("filed",), {"operator", "system"}, "dispatched"),
    ("dispatch", ("dispatched", "accepted", "on_site"), {"operator"}, "dispatched"),
    ("accept", ("dispatched",), {"assignee"}, "accepted"),
    ("refuse", ("dispatched",), {"assignee"}, "filed"),
    ("expire", ("dispatched",), {"system"}, "filed"),
    ("arrive", ("accepted",), {"assignee"}, "on_site"),
    ("handle", ("on_site",), {"assignee"}, "handled"),
    ("send_back", ("accepted", "on_site"), {"assignee", "operator"}, "filed"),
    ("send_back", ("filed",), {"operator"}, "reported"),
    ("check", ("handled",), {"operator", "reporter"}, "closed"),
    ("close", ("handled",), {"system"}, "closed"),
    ("rework", ("handled",), {"operator", "system"}, "dispatched"),
    ("reopen", ("closed",), {"system", "operator", "reporter"}, "filed"),
    ("ask_extension", ("accepted", "on_site"), {"assignee"}, None),
    ("grant_extension", ("accepted", "on_site"), {"operator"}, None),
    ("refuse_extension", ("accepted", "on_site"), {"operator"}, None),
    ("suspend", WORK, {"operator"}, None),
    ("resume", WORK, {"operator", "system"}, None),
    ("supervise", OPEN, {"operator"}, None),
    ("escalate", ("reported", "handled"), {"operator"}, None),
    ("escalate", WORK, {"operator", "system"}, None),
    ("appeal", ("handled", "closed"), {"handler"}, None),
    ("accept_appeal", ("handled", "closed"), {"operator"}, None),
    ("reject_appeal", ("handled", "closed"), {"operator"}, None),
    ("summon", OPEN, {"operator"}, None),
    ("check_in", OPEN, {"summoned"}, None),
    ("rate", (*OPEN, "closed"), {"operator"}, None),
    ("attach", OPEN, {"operator"}, None),
    ("detach", OPEN, {"operator"}, None),
    ("merge", OPEN, {"operator"}, "void"),
    ("split", OPEN, {"operator"}, None),
    ("acknowledge", OPEN, {"operator"}, None),
]


def someone(number: int, *roles: Role) -> Actor:
    return Actor(user_id=UUID(int=number), name=f"p{number}", roles=frozenset(roles))


PEOPLE = {
    "operator": someone(1, Role.OPERATOR),
    "assignee": someone(2, Role.GRID_WORKER),
    "verifier": someone(3, Role.GRID_WORKER),
    "handler": someone(4, Role.GRID_WORKER),
    "reporter": someone(5, Role.GRID_WORKER),
    "summoned": someone(6, Role.HANDLING_DEPT),
    "stranger": someone(7, Role.GRID_WORKER),
    "engineer": someone(8, Role.ENGINEER),
    "system": SYSTEM,
}
STANDING = Standing(
    assignee_id=UUID(int=2), verifier_id=UUID(int=3), handlers=frozenset({UUID(int=4)}),
    reporters=frozenset({UUID(int=5)}), summoned=frozenset({UUID(int=6)}),
)  # fmt: skip
FULL = Inputs(
    reason="理由", evidence_id=UUID(int=9), lon=120.0, lat=30.0, user_id=UUID(int=2), verdict=Verdict.CLEAR, found=True,
    until=NOW + timedelta(days=1), user_ids=(UUID(int=6),), score=3, incident_id=UUID(int=10), report_ids=(UUID(int=11),),
)  # fmt: skip


def incident(state: IncidentState = S.FILED, **changes: Any) -> Incident:
    values: dict[str, Any] = {
        "id": UUID(int=99), "state": state, "lon": 120.0, "lat": 30.0, "opened_at": NOW, "named_person": False,
        "check_kinds": ["person", "reporter"], "limit_value": 4.0, "limit_unit": LimitUnit.URGENT_HOUR, "suspensions": 0,
        "extensions": 0, "extension_asked": False, "level": 1, "supervision": 0, "has_children": False,
        "has_open_children": False, "ended_at": NOW if state in (S.CLOSED, S.VOID) else None, "version": 1,
    }  # fmt: skip
    return Incident(**{field.name: None for field in fields(Incident)} | values | changes)


def ready_for(action: Action, state: IncidentState) -> Incident:
    """An incident whose facts let the action through, so that only who and when decide."""
    facts: dict[Action, dict[str, Any]] = {
        Action.GRANT_EXTENSION: {"extension_asked": True}, Action.REFUSE_EXTENSION: {"extension_asked": True},
        Action.RESUME: {"suspended_at": NOW}, Action.ACCEPT_APPEAL: {"appeal": "asked"},
        Action.REJECT_APPEAL: {"appeal": "asked"}, Action.DETACH: {"parent_id": UUID(int=10)},
    }  # fmt: skip
    return incident(state, **facts.get(action, {}))


def ask(one: Incident, action: Action, actor: Actor, **changes: Any) -> str:
    """The code of the refusal, or the state then."""
    try:
        line = find_line(one, STANDING, action, actor, replace(FULL, **changes), NOW)
    except ActionRefused as refused:
        return refused.code
    return (line.to or one.state).value


def test_the_whole_book_holds_and_nothing_else_does() -> None:
    wanted = {(a, s, who): to or s for a, states, people, to in BOOK for s in states for who in people}
    for action, state, who in product(Action, IncidentState, PEOPLE):
        got = ask(ready_for(action, state), action, PEOPLE[who])
        then = wanted.get((action.value, state.value, who))
        if then is not None:
            assert got == then, f"{action} by {who} in {state}"
        else:
            assert got in ("not_your_role", "not_your_task", "not_allowed_in_state"), (
                f"{action} by {who} in {state}: {got}"
            )


def test_what_is_offered_is_what_is_let_through() -> None:
    for state, (_who, actor) in product(IncidentState, PEOPLE.items()):
        for facts in (
            {},
            {"suspended_at": NOW},
            {"extension_asked": True},
            {"appeal": "asked"},
            {"parent_id": UUID(int=10)},
        ):
            one = incident(state, **facts)
            offered = {action for action, _ in allowed_actions(one, actor, STANDING, NOW)}
            assert offered == {action for action in Action if ask(one, action, actor) in list(IncidentState)}


def test_every_state_can_be_reached_and_every_open_one_left() -> None:
    reached, new = {S.REPORTED}, {S.REPORTED}
    while new:
        new = {line.to for line in TRANSITIONS if line.to and line.states & reached} - reached
        reached |= new
    assert reached == set(IncidentState)
    ends = {S.REPORTED: False} | dict.fromkeys(IncidentState, False)
    for state in IncidentState:
        ends[state] = any(line.to not in (None, state) for line in TRANSITIONS if state in line.states)
    assert [state for state, leaves in ends.items() if not leaves] == [S.VOID]


def test_between_lines_of_one_state_an_answer_decides_or_who_acts() -> None:
    for action in Action:
        for state in IncidentState:
            lines = find_transitions(action, state)
            answers = {(line.verdict, line.found) for line in lines}
            shared = any(a.by & b.by for a in lines for b in lines if a is not b)
            assert len(answers) == len(lines) or not shared, (action, state)
            assert len({line.by for line in lines if line.verdict or line.found is not None}) <= 1


def test_nothing_closes_but_from_handled_and_nothing_leads_out_of_void() -> None:
    assert all(line.states == {S.HANDLED} for line in TRANSITIONS if line.to is S.CLOSED)
    assert not any(S.VOID in line.states for line in TRANSITIONS)


def test_what_is_suspended_is_not_worked_on() -> None:
    refused = set()
    for action, state, actor in product(Action, (S.FILED, S.DISPATCHED, S.ACCEPTED, S.ON_SITE), PEOPLE.values()):
        if ask(incident(state, suspended_at=NOW), action, actor) == "suspended":
            refused.add(action.value)
    assert refused == {
        "dispatch", "accept", "expire", "arrive", "handle", "send_back", "ask_extension", "grant_extension", "refuse_extension",
        "suspend", "escalate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("action", "state", "who", "facts", "code"),
    [
        ("suspend", S.FILED, "operator", {"suspensions": 1}, "suspended_before"),
        ("resume", S.FILED, "operator", {}, "not_suspended"),
        ("ask_extension", S.ACCEPTED, "assignee", {"extension_asked": True}, "extension_asked"),
        ("ask_extension", S.ACCEPTED, "assignee", {"extensions": 2}, "no_more_extensions"),
        ("grant_extension", S.ACCEPTED, "operator", {}, "no_extension_asked"),
        ("appeal", S.CLOSED, "handler", {"appeal": "rejected"}, "appealed_before"),
        ("accept_appeal", S.CLOSED, "operator", {"appeal": "accepted"}, "no_appeal"),
        ("escalate", S.FILED, "operator", {"level": 4}, "highest_level"),
        ("attach", S.FILED, "operator", {"parent_id": UUID(int=10)}, "has_parent"),
        ("attach", S.FILED, "operator", {"has_children": True}, "has_children"),
        ("detach", S.FILED, "operator", {}, "no_parent"),
        ("merge", S.FILED, "operator", {"has_children": True}, "has_children"),
        ("check", S.HANDLED, "operator", {"has_open_children": True}, "open_children"),
        ("close", S.HANDLED, "system", {"has_open_children": True}, "open_children"),
        ("close", S.HANDLED, "system", {"named_person": True}, "named_person_required"),
        ("check", S.HANDLED, "reporter", {"named_person": True}, "reporter_may_not_check"),
        ("check", S.HANDLED, "reporter", {"check_kinds": ["person"]}, "reporter_may_not_check"),
        (
            "reopen",
            S.CLOSED,
            "operator",
            {"ended_at": NOW - REOPEN_WITHIN - timedelta(seconds=1)},
            "reopen_window_over",
        ),
        ("reopen", S.CLOSED, "system", {"ended_at": NOW - timedelta(days=300)}, "filed"),
    ],
)
def test_a_condition_that_does_not_hold_is_named(
    action: str, state: IncidentState, who: str, facts: dict[str, Any], code: str
) -> None:
    assert ask(incident(state, **facts), Action(action), PEOPLE[who]) == code


def test_whoever_handled_neither_checks_nor_decides_their_own_appeal() -> None:
    both = someone(4, Role.OPERATOR)
    assert ask(incident(S.HANDLED), Action.CHECK, both) == "handler_may_not_check"
    for action in (Action.ACCEPT_APPEAL, Action.REJECT_APPEAL):
        assert ask(incident(S.CLOSED, appeal="asked"), action, both) == "handler_may_not_check"


@pytest.mark.parametrize(
    ("action", "state", "who", "missing", "code"),
    [
        ("void", S.FILED, "operator", {"reason": " "}, "reason_required"),
        ("handle", S.ON_SITE, "assignee", {"evidence_id": None}, "photo_required"),
        ("handle", S.ON_SITE, "assignee", {"lat": float("nan")}, "position_required"),
        ("check_in", S.FILED, "summoned", {"lon": None}, "position_required"),
        ("dispatch", S.FILED, "operator", {"user_id": None}, "user_required"),
        ("check", S.HANDLED, "operator", {"verdict": None}, "verdict_required"),
        ("verify", S.REPORTED, "verifier", {"found": None}, "found_required"),
        ("suspend", S.FILED, "operator", {"until": None}, "until_required"),
        ("suspend", S.FILED, "operator", {"until": NOW}, "bad_until"),
        ("suspend", S.FILED, "operator", {"until": NOW + timedelta(days=367)}, "bad_until"),
        ("summon", S.FILED, "operator", {"user_ids": ()}, "users_required"),
        ("rate", S.FILED, "operator", {"score": None}, "score_required"),
        ("merge", S.FILED, "operator", {"incident_id": None}, "incident_required"),
        ("split", S.FILED, "operator", {"report_ids": ()}, "reports_required"),
        ("void", S.FILED, "operator", {"reason_code": "because"}, "bad_reason_code"),
        ("void", S.FILED, "operator", {"reason": "", "reason_code": "false_alarm"}, "void"),
    ],
)
def test_what_an_action_needs_is_asked_for(
    action: str, state: IncidentState, who: str, missing: dict[str, Any], code: str
) -> None:
    assert ask(incident(state), Action(action), PEOPLE[who], **missing) == code


def test_each_guard_and_each_need_is_used_and_each_capacity_is_somebody() -> None:
    assert {guard for line in TRANSITIONS for guard in line.guards} == set(Guard)
    assert {need for line in TRANSITIONS for need in line.needs} == set(Need)
    assert {who for line in TRANSITIONS for who in line.by} == set(Who)
    assert {who.value for actor in PEOPLE.values() for who in capacities(actor, STANDING)} == set(Who)
    assert all(isinstance(holds(guard, incident(), NOW), bool) for guard in Guard)
    assert set(REASON_CODES) <= set(Action)
