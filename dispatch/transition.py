"""The whole life of an incident in one table: who may do what in which state, with what, and what it leads to.

`TRANSITIONS` decides; nothing else in the project decides about a state. The diagram and the table in docs/workflow.md
are written from it (dispatch/diagram.py). Everything here is pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from dispatch.model import Action, ActionRefused, Actor, Incident, Inputs, Need, Who
from kernel.types import OPEN_STATES, CheckKind, IncidentState, Role, Verdict

_S = IncidentState
REOPEN_WITHIN = timedelta(days=7)  # of the closure, by a person: the project's own value
LONGEST_SUSPENSION = timedelta(days=366)  # at most a year (DOMAIN)
MOST_EXTENSIONS = 2  # each at most one more original limit (DOMAIN)
HIGHEST_LEVEL = 4  # L4, the district
HIGHEST_SUPERVISION = 3

REASON_CODES: Mapping[Action, tuple[str, ...]] = {
    Action.SEND_BACK: (
        "not_our_duty", "wrong_place", "wrong_category", "no_access", "needs_equipment", "needs_department", "unsafe", "other",
    ),
    Action.REFUSE: ("busy", "too_far", "not_our_duty", "needs_equipment", "other"),
    Action.VOID: ("false_alarm", "nothing_there", "not_our_business", "duplicate", "test", "other"),
}  # fmt: skip
"""Reasons that can be counted. Words alone are a reason too; for these actions a code may stand beside or instead of them."""


class Guard(StrEnum):
    """A condition besides the state. The value is the code of the refusal when it doesn't hold."""

    NOT_SUSPENDED = "suspended"
    SUSPENDED = "not_suspended"
    NEVER_SUSPENDED = "suspended_before"
    NO_EXTENSION_ASKED = "extension_asked"
    EXTENSION_ASKED = "no_extension_asked"
    EXTENSIONS_LEFT = "no_more_extensions"
    NO_APPEAL = "appealed_before"
    APPEAL_ASKED = "no_appeal"
    LEVEL_LEFT = "highest_level"
    NO_PARENT = "has_parent"
    HAS_PARENT = "no_parent"
    NO_CHILDREN = "has_children"
    CHILDREN_ENDED = "open_children"
    IN_WINDOW = "reopen_window_over"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Who is what to an incident, besides what their roles say. `handlers`: everybody who ever handled it."""

    assignee_id: UUID | None = None
    verifier_id: UUID | None = None
    handlers: frozenset[UUID] = frozenset()
    reporters: frozenset[UUID] = frozenset()
    summoned: frozenset[UUID] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One line of the table. `to` None: the state stays. `verdict`, `found`: the answer for which this line holds."""

    action: Action
    by: frozenset[Who]
    states: frozenset[IncidentState]
    to: IncidentState | None
    needs: tuple[Need, ...] = ()
    guards: tuple[Guard, ...] = ()
    verdict: Verdict | None = None
    found: bool | None = None


def _line(
    action: Action,
    by: Iterable[Who],
    states: Iterable[IncidentState],
    to: IncidentState | None,
    *needs: Need,
    guards: Iterable[Guard] = (),
    while_suspended: bool = False,
    verdict: Verdict | None = None,
    found: bool | None = None,
) -> Transition:
    """Whoever suspends an incident stops the work on it: a line holds during that only when it says so."""
    work = frozenset(states) & frozenset(_WORK)
    stands = (Guard.NOT_SUSPENDED,) if work and not while_suspended else ()
    return Transition(
        action=action, by=frozenset(by), states=frozenset(states), to=to, needs=needs, guards=(*stands, *guards),
        verdict=verdict, found=found,
    )  # fmt: skip


_WORK = (_S.FILED, _S.DISPATCHED, _S.ACCEPTED, _S.ON_SITE)  # in these an incident can be suspended
_DONE = (_S.HANDLED, _S.CLOSED)
_OPERATOR, _ASSIGNEE, _SYSTEM = (Who.OPERATOR,), (Who.ASSIGNEE,), (Who.SYSTEM,)
_OPERATOR_SYSTEM = (Who.OPERATOR, Who.SYSTEM)
_CHECKER = (Who.OPERATOR, Who.REPORTER)
_ENDED_CHILDREN = (Guard.CHILDREN_ENDED,)

TRANSITIONS: tuple[Transition, ...] = (
    # ---- before filing
    _line(Action.ASK_VERIFICATION, _OPERATOR, (_S.REPORTED,), None, Need.USER),
    # It is so: that is the condition of filing, so it is filed. It is not so: an operator voids it, or asks again.
    _line(Action.VERIFY, (Who.VERIFIER,), (_S.REPORTED,), _S.FILED, Need.FOUND, Need.PHOTO, Need.POSITION, found=True),
    _line(Action.VERIFY, (Who.VERIFIER,), (_S.REPORTED,), None, Need.FOUND, Need.PHOTO, Need.POSITION, found=False),
    _line(Action.FILE, _OPERATOR_SYSTEM, (_S.REPORTED,), _S.FILED),
    # A false alarm can come to light at any time, also after somebody went there. Never without a reason.
    _line(Action.VOID, _OPERATOR, OPEN_STATES, _S.VOID, Need.REASON, guards=_ENDED_CHILDREN, while_suspended=True),
    # ---- who goes
    _line(Action.DISPATCH, _OPERATOR_SYSTEM, (_S.FILED,), _S.DISPATCHED, Need.USER),
    # Reassignment: an operator may send somebody else while nobody has handled it. The system does so only after
    # the offer was refused, expired or sent back, that is from `filed`.
    _line(Action.DISPATCH, _OPERATOR, (_S.DISPATCHED, _S.ACCEPTED, _S.ON_SITE), _S.DISPATCHED, Need.USER),
    _line(Action.ACCEPT, _ASSIGNEE, (_S.DISPATCHED,), _S.ACCEPTED),
    _line(Action.REFUSE, _ASSIGNEE, (_S.DISPATCHED,), _S.FILED, Need.REASON, while_suspended=True),
    _line(Action.EXPIRE, _SYSTEM, (_S.DISPATCHED,), _S.FILED),
    _line(Action.ARRIVE, _ASSIGNEE, (_S.ACCEPTED,), _S.ON_SITE),
    _line(Action.HANDLE, _ASSIGNEE, (_S.ON_SITE,), _S.HANDLED, Need.PHOTO, Need.POSITION),
    _line(
        Action.SEND_BACK, (Who.ASSIGNEE, Who.OPERATOR), (_S.ACCEPTED, _S.ON_SITE), _S.FILED, Need.REASON,
        while_suspended=True,
    ),
    # A filing that should not have been: back to verification, which takes the time limit away with it.
    _line(Action.SEND_BACK, _OPERATOR, (_S.FILED,), _S.REPORTED, Need.REASON),
    # ---- closing
    _line(Action.CHECK, _CHECKER, (_S.HANDLED,), _S.CLOSED, Need.VERDICT, guards=_ENDED_CHILDREN, verdict=Verdict.CLEAR),
    # Rework goes to the person who handled it: they know the place, and accept anew.
    _line(Action.CHECK, _CHECKER, (_S.HANDLED,), _S.DISPATCHED, Need.VERDICT, verdict=Verdict.NOT_CLEAR),
    # Inconclusive is not clear: the incident stays open and a person must look again.
    _line(Action.CHECK, _CHECKER, (_S.HANDLED,), None, Need.VERDICT, verdict=Verdict.INCONCLUSIVE),
    # Only after a camera or sensor looked again and found it clear; refused for categories of a named person.
    _line(Action.CLOSE, _SYSTEM, (_S.HANDLED,), _S.CLOSED, guards=_ENDED_CHILDREN),
    _line(Action.REWORK, _OPERATOR_SYSTEM, (_S.HANDLED,), _S.DISPATCHED, Need.REASON),
    # The system: a camera's finding that comes back at its place within `dispatch.reopen_s` (dispatch.recurrence).
    _line(Action.REOPEN, _SYSTEM, (_S.CLOSED,), _S.FILED),
    _line(Action.REOPEN, _CHECKER, (_S.CLOSED,), _S.FILED, Need.REASON, guards=(Guard.IN_WINDOW,)),
    # ---- time
    _line(
        Action.ASK_EXTENSION, _ASSIGNEE, (_S.ACCEPTED, _S.ON_SITE), None, Need.REASON,
        guards=(Guard.NO_EXTENSION_ASKED, Guard.EXTENSIONS_LEFT),
    ),
    _line(Action.GRANT_EXTENSION, _OPERATOR, (_S.ACCEPTED, _S.ON_SITE), None, guards=(Guard.EXTENSION_ASKED,)),
    _line(
        Action.REFUSE_EXTENSION, _OPERATOR, (_S.ACCEPTED, _S.ON_SITE), None, Need.REASON, guards=(Guard.EXTENSION_ASKED,)
    ),
    _line(Action.SUSPEND, _OPERATOR, _WORK, None, Need.REASON, Need.UNTIL, guards=(Guard.NEVER_SUSPENDED,)),
    _line(Action.RESUME, _OPERATOR_SYSTEM, _WORK, None, guards=(Guard.SUSPENDED,), while_suspended=True),
    # ---- oversight
    _line(Action.SUPERVISE, _OPERATOR, OPEN_STATES, None, Need.REASON, while_suspended=True),
    _line(Action.ESCALATE, _OPERATOR, OPEN_STATES, None, Need.REASON, guards=(Guard.LEVEL_LEFT,), while_suspended=True),
    _line(Action.ESCALATE, _SYSTEM, _WORK, None, guards=(Guard.LEVEL_LEFT,)),
    _line(Action.APPEAL, (Who.HANDLER,), _DONE, None, Need.REASON, guards=(Guard.NO_APPEAL,)),
    _line(Action.ACCEPT_APPEAL, _OPERATOR, _DONE, None, Need.REASON, guards=(Guard.APPEAL_ASKED,)),
    _line(Action.REJECT_APPEAL, _OPERATOR, _DONE, None, Need.REASON, guards=(Guard.APPEAL_ASKED,)),
    # ---- several departments
    _line(Action.SUMMON, _OPERATOR, OPEN_STATES, None, Need.USERS, Need.UNTIL, Need.REASON, while_suspended=True),
    _line(Action.CHECK_IN, (Who.SUMMONED,), OPEN_STATES, None, Need.POSITION, while_suspended=True),
    _line(Action.RATE, _OPERATOR, (*OPEN_STATES, _S.CLOSED), None, Need.USER, Need.SCORE, while_suspended=True),
    # ---- kinship
    _line(
        Action.ATTACH, _OPERATOR, OPEN_STATES, None, Need.INCIDENT, guards=(Guard.NO_PARENT, Guard.NO_CHILDREN),
        while_suspended=True,
    ),
    _line(Action.DETACH, _OPERATOR, OPEN_STATES, None, guards=(Guard.HAS_PARENT,), while_suspended=True),
    _line(
        Action.MERGE, _OPERATOR, OPEN_STATES, _S.VOID, Need.INCIDENT, guards=(Guard.NO_CHILDREN,), while_suspended=True
    ),
    _line(Action.SPLIT, _OPERATOR, OPEN_STATES, None, Need.REPORTS, Need.REASON, while_suspended=True),
    # Says "seen" and silences the blinking; it changes nothing about what must be done.
    _line(Action.ACKNOWLEDGE, _OPERATOR, OPEN_STATES, None, while_suspended=True),
)  # fmt: skip


def find_transitions(action: Action, state: IncidentState) -> tuple[Transition, ...]:
    """The lines for this action in this state; several only when an answer or the capacity decides between them."""
    return tuple(line for line in TRANSITIONS if line.action is action and state in line.states)


def capacities(actor: Actor, standing: Standing) -> frozenset[Who]:
    """In what capacities `actor` can act on an incident to which people stand like this."""
    if actor.user_id is None:
        return frozenset({Who.SYSTEM})
    me = actor.user_id
    held = (
        (Who.OPERATOR, bool(actor.roles & {Role.OPERATOR, Role.ADMIN})),
        (Who.ASSIGNEE, me == standing.assignee_id),
        (Who.VERIFIER, me == standing.verifier_id),
        (Who.HANDLER, me in standing.handlers),
        (Who.REPORTER, me in standing.reporters),
        (Who.SUMMONED, me in standing.summoned),
    )
    return frozenset(who for who, is_held in held if is_held)


def holds(guard: Guard, incident: Incident, now: datetime) -> bool:
    """Whether the condition is met."""
    match guard:
        case Guard.NOT_SUSPENDED:
            return incident.suspended_at is None
        case Guard.SUSPENDED:
            return incident.suspended_at is not None
        case Guard.NEVER_SUSPENDED:
            return incident.suspensions == 0
        case Guard.NO_EXTENSION_ASKED:
            return not incident.extension_asked
        case Guard.EXTENSION_ASKED:
            return incident.extension_asked
        case Guard.EXTENSIONS_LEFT:
            return incident.extensions < MOST_EXTENSIONS
        case Guard.NO_APPEAL:
            return incident.appeal is None
        case Guard.APPEAL_ASKED:
            return incident.appeal == "asked"
        case Guard.LEVEL_LEFT:
            return incident.level < HIGHEST_LEVEL
        case Guard.NO_PARENT:
            return incident.parent_id is None
        case Guard.HAS_PARENT:
            return incident.parent_id is not None
        case Guard.NO_CHILDREN:
            return not incident.has_children
        case Guard.CHILDREN_ENDED:
            return not incident.has_open_children
        case Guard.IN_WINDOW:
            return incident.ended_at is not None and now <= incident.ended_at + REOPEN_WITHIN


def find_line(
    incident: Incident, standing: Standing, action: Action, actor: Actor, inputs: Inputs, now: datetime
) -> Transition:
    """The table's line for this action as asked.

    Raises ActionRefused: not_your_task, not_your_role, not_allowed_in_state, named_person_required,
    handler_may_not_check, reporter_may_not_check, verdict_required, found_required, what a guard says, what is needed.
    """
    mine = capacities(actor, standing)
    able = frozenset[Who]().union(*(line.by for line in TRANSITIONS if line.action is action))
    if not able & mine:
        raise ActionRefused(
            "not_your_role" if able <= {Who.OPERATOR, Who.SYSTEM} else "not_your_task", action=action.value
        )
    here = find_transitions(action, incident.state)
    if not here:
        raise ActionRefused("not_allowed_in_state", action=action.value, state=incident.state.value)
    lines = [line for line in here if line.by & mine]
    if not lines:
        raise ActionRefused("not_your_role", action=action.value)
    hindrance = find_hindrance(action, incident, standing, actor, mine)
    if hindrance:
        raise ActionRefused(hindrance)
    line = _find_answer(lines, inputs)
    for guard in line.guards:
        if not holds(guard, incident, now):
            raise ActionRefused(guard.value)
    check_needs(line, inputs, now)
    return line


def find_hindrance(
    action: Action, incident: Incident, standing: Standing, actor: Actor, mine: frozenset[Who]
) -> str | None:
    """Who may not decide although their role would let them: whoever handled never checks (监管分离)."""
    decides = action in (Action.CHECK, Action.ACCEPT_APPEAL, Action.REJECT_APPEAL)
    if decides and actor.user_id in standing.handlers:
        return "handler_may_not_check"
    if action is Action.CLOSE and incident.named_person:
        return "named_person_required"
    if action is Action.CHECK and Who.OPERATOR not in mine:
        may = CheckKind.REPORTER in incident.check_kinds and not incident.named_person
        return None if may else "reporter_may_not_check"
    return None


def _find_answer(lines: list[Transition], inputs: Inputs) -> Transition:
    first = lines[0]
    if Need.VERDICT in first.needs:
        lines = [line for line in lines if line.verdict == inputs.verdict]
        if not lines:
            raise ActionRefused("verdict_required")
    if Need.FOUND in first.needs:
        lines = [line for line in lines if line.found is inputs.found]
        if not lines:
            raise ActionRefused("found_required")
    return lines[0]


def check_needs(line: Transition, inputs: Inputs, now: datetime) -> None:
    """Raises ActionRefused for what is needed and missing, and for a reason code that the action doesn't know."""
    codes = REASON_CODES.get(line.action, ())
    if inputs.reason_code and inputs.reason_code not in codes:
        raise ActionRefused("bad_reason_code", codes=list(codes))
    given = {
        Need.REASON: bool(inputs.reason.strip() or inputs.reason_code),
        Need.PHOTO: inputs.evidence_id is not None,
        Need.POSITION: is_position(inputs.lon, inputs.lat),
        Need.USER: inputs.user_id is not None,
        Need.VERDICT: inputs.verdict is not None,
        Need.FOUND: inputs.found is not None,
        Need.UNTIL: inputs.until is not None,
        Need.USERS: bool(inputs.user_ids),
        Need.SCORE: inputs.score is not None,
        Need.INCIDENT: inputs.incident_id is not None,
        Need.REPORTS: bool(inputs.report_ids),
    }
    for need in line.needs:
        if not given[need]:
            raise ActionRefused(f"{need}_required")
    if Need.UNTIL in line.needs and inputs.until is not None and not now < inputs.until <= now + LONGEST_SUSPENSION:
        raise ActionRefused("bad_until", until=str(inputs.until))


def is_position(lon: float | None, lat: float | None) -> bool:
    """Whether these are degrees. A NaN compares false and is refused with the rest."""
    return lon is not None and lat is not None and -180 <= lon <= 180 and -90 <= lat <= 90


def allowed_actions(
    incident: Incident, actor: Actor, standing: Standing, now: datetime
) -> list[tuple[Action, tuple[Need, ...]]]:
    """What `actor` may do now and what each action needs, in the order of the table."""
    mine = capacities(actor, standing)
    found: dict[Action, tuple[Need, ...]] = {}
    for line in TRANSITIONS:
        if incident.state not in line.states or not line.by & mine:
            continue
        if find_hindrance(line.action, incident, standing, actor, mine):
            continue
        # A child that is open forbids the clear verdict, not the others: the check itself stays offered.
        if all(holds(guard, incident, now) for guard in line.guards):
            found.setdefault(line.action, line.needs)
    return list(found.items())
