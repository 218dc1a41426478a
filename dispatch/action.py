"""Doing an action: the table is asked, the row written, the log extended, people told. Nothing else writes a state."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatch import limits, roster, store
from dispatch.model import (
    Action,
    ActionRefused,
    Actor,
    Happening,
    Incident,
    Inputs,
    JsonObject,
    Need,
    OperatorNeed,
    Outcome,
    PushKind,
    Who,
)
from dispatch.outbox import queue_push
from dispatch.policy import TRANSITIONS, Transition, capacities, distance_m, find_transitions
from kernel.db import Connection
from kernel.types import IncidentState

_WITH_SOMEBODY = (IncidentState.DISPATCHED, IncidentState.ACCEPTED, IncidentState.ON_SITE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Columns that an action sets besides the state, and what it leaves in the log."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One action about to be done: everything an effect may look at."""

    connection: Connection
    incident: Incident
    line: Transition
    actor: Actor
    inputs: Inputs
    now: datetime

    @property
    def by_operator(self) -> bool:
        """Whether it is done as an operator and not as the assignee."""
        mine = capacities(self.actor, self.incident.assignee_id) & self.line.by
        return Who.OPERATOR in mine and Who.ASSIGNEE not in mine


def perform(
    connection: Connection, incident: Incident, action: Action, actor: Actor, inputs: Inputs, now: datetime
) -> Incident:
    """Do `action` to an incident whose row the caller has locked; the incident as it is then.

    Raises ActionRefused, and then nothing has been written.
    """
    with connection.transaction():
        line = _find_line(connection, incident, action, actor, inputs)
        step = Step(connection=connection, incident=incident, line=line, actor=actor, inputs=inputs, now=now)
        effect = _EFFECTS[action](step)
        settled = {"needs_operator": None, "proposal": None} if line.to else {}
        seen = {}
        if step.by_operator and incident.acknowledged_at is None:
            seen = {"acknowledged_at": now, "acknowledged_by": actor.user_id}
        to_state = line.to or incident.state
        changes = {"state": to_state, **settled, **seen, **effect.changes}
        version = incident.version + 1
        store.write_incident(connection, incident.id, version, changes)
        store.log_event(
            connection, incident, action=action, from_state=incident.state, to_state=to_state, actor=actor,
            version=version, now=now, reason=inputs.reason.strip() or inputs.note.strip(),
            detail={**inputs.detail, **effect.detail},
        )  # fmt: skip
        store.note_incident(connection, incident, (incident.assignee_id, changes.get("assignee_id")), now)
    known = {name: value for name, value in changes.items() if name in Incident.__slots__}
    return replace(incident, version=version, **known)


def call_operator(
    connection: Connection, incident: Incident, need: OperatorNeed, proposal: JsonObject, now: datetime, actor: Actor
) -> Incident:
    """The system cannot go on by itself: say why, and what it proposes. The state stays."""
    version = incident.version + 1
    store.write_incident(connection, incident.id, version, {"needs_operator": need, "proposal": proposal})
    store.log_event(
        connection, incident, action=Happening.OPERATOR_NEEDED, from_state=incident.state, to_state=incident.state,
        actor=actor, version=version, now=now, reason=need, detail={"proposal": proposal},
    )  # fmt: skip
    store.note_incident(connection, incident, (incident.assignee_id,), now)
    return replace(incident, version=version, needs_operator=need)


# ------------------------------------------------------------------------------------------------ may it be done?


def _find_line(connection: Connection, incident: Incident, action: Action, actor: Actor, inputs: Inputs) -> Transition:
    """The table's line for this action.

    Raises ActionRefused.
    """
    mine = capacities(actor, incident.assignee_id)
    able = frozenset[Who]().union(*(line.by for line in TRANSITIONS if line.action is action))
    if not able & mine:
        raise ActionRefused("not_your_task" if Who.ASSIGNEE in able else "not_your_role", action=action.value)
    here = find_transitions(action, incident.state)
    if not here:
        raise ActionRefused("not_allowed_in_state", action=action.value, state=incident.state.value)
    lines = [line for line in here if line.by & mine]
    if not lines:
        raise ActionRefused("not_your_role", action=action.value)
    if action is Action.CLOSE and incident.named_person:
        raise ActionRefused("named_person_required")
    if action is Action.CHECK and actor.user_id in store.read_handlers(connection, incident.id):
        raise ActionRefused("handler_may_not_check")
    if Need.VERDICT in lines[0].needs:
        lines = [line for line in lines if line.verdict == inputs.verdict]
        if not lines:
            raise ActionRefused("verdict_required")
    _check_needs(lines[0].needs, inputs)
    return lines[0]


def _check_needs(needs: tuple[Need, ...], inputs: Inputs) -> None:
    if Need.REASON in needs and not inputs.reason.strip():
        raise ActionRefused("reason_required")
    if Need.PHOTO in needs and inputs.evidence_id is None:
        raise ActionRefused("photo_required")
    if Need.POSITION in needs and not _is_position(inputs.lon, inputs.lat):
        raise ActionRefused("position_required")
    if Need.USER in needs and inputs.user_id is None:
        raise ActionRefused("user_required")


def _is_position(lon: float | None, lat: float | None) -> bool:
    # A NaN compares false and is refused with the rest.
    return lon is not None and lat is not None and -180 <= lon <= 180 and -90 <= lat <= 90


# ------------------------------------------------------------------------------------------------ what it does


def _tell(step: Step, kind: PushKind, user_id: UUID | None) -> None:
    """Queue a push; nobody is told what they did themselves."""
    if user_id is not None and user_id != step.actor.user_id:
        queue_push(step.connection, kind, user_id, step.incident, step.incident.due_at, step.now)


def _withdraw(step: Step, outcome: Outcome) -> None:
    """Take the task from whoever has it or is offered it."""
    if step.incident.state not in _WITH_SOMEBODY:
        return
    roster.end_assignment(step.connection, step.incident.id, outcome, step.now)
    roster.change_accepted(step.connection, step.incident.id, outcome)
    _tell(step, PushKind.WITHDRAWN, step.incident.assignee_id)


def _file(step: Step) -> Effect:
    try:
        due_at = limits.due_at(step.now, step.incident.limit_value, step.incident.limit_unit)
    except limits.CalendarMissing as error:
        raise ActionRefused("no_calendar", text=str(error)) from None
    changes = {"filed_at": step.now, "limit_from": step.now, "due_at": due_at}
    if not step.incident.auto_dispatch:
        changes |= _wait_for(OperatorNeed.DISPATCH, "dispatch", {"code": "dispatched_by_hand"})
    return Effect(changes=changes)


def _wait_for(need: OperatorNeed, action: str, *reasons: JsonObject) -> dict[str, Any]:
    return {"needs_operator": need, "proposal": {"action": action, "reasons": list(reasons)}}


def _void(step: Step) -> Effect:
    _withdraw(step, Outcome.REASSIGNED)
    store.settle_checks(step.connection, step.incident.id, "the incident was voided", step.now)
    return Effect(changes={"ended_at": step.now})


def _dispatch(step: Step) -> Effect:
    user_id = step.inputs.user_id
    person = roster.read_person(step.connection, user_id) if user_id else None
    if person is None or user_id is None or not person.can_go:
        raise ActionRefused("unknown_user", user_id=str(user_id))
    if not person.actor.sees(step.incident.area_code):
        raise ActionRefused("user_out_of_scope", user_id=str(user_id))
    if not person.on_duty:
        raise ActionRefused("user_off_duty", user_id=str(user_id))
    if step.incident.assignee_id == user_id:  # asked again: nothing is taken away
        roster.end_assignment(step.connection, step.incident.id, Outcome.REASSIGNED, step.now)
        roster.change_accepted(step.connection, step.incident.id, Outcome.REASSIGNED)
    else:
        _withdraw(step, Outcome.REASSIGNED)
    reason = dict(step.inputs.detail) or {"reasons": [{"code": "by_operator"}], "others": []}
    roster.insert_assignment(step.connection, step.incident.id, user_id, reason, step.now)
    _tell(step, PushKind.OFFERED, user_id)
    return Effect(
        changes={"assignee_id": user_id, "offered_at": step.now},
        detail={"user_id": str(user_id), "user_name": person.actor.name, **reason},
    )


def _accept(step: Step) -> Effect:
    roster.end_assignment(step.connection, step.incident.id, Outcome.ACCEPTED, step.now)
    return Effect()


_NOBODY: dict[str, Any] = {"assignee_id": None, "offered_at": None}


def _refuse(step: Step) -> Effect:
    _withdraw(step, Outcome.REFUSED)
    return Effect(changes=_NOBODY)


def _expire(step: Step) -> Effect:
    _withdraw(step, Outcome.EXPIRED)
    return Effect(changes=_NOBODY, detail={"user_id": str(step.incident.assignee_id)})


def _where(step: Step) -> JsonObject:
    """The actor's position and how far that is from the incident; empty when none came."""
    lon, lat = step.inputs.lon, step.inputs.lat
    if lon is None or lat is None or not _is_position(lon, lat):
        return {}
    away_m = distance_m(lon, lat, step.incident.lon, step.incident.lat)
    accuracy_m = step.inputs.accuracy_m
    known = accuracy_m is not None and math.isfinite(accuracy_m)
    return {"lon": lon, "lat": lat, "accuracy_m": accuracy_m if known else None, "distance_m": round(away_m, 1)}


def _arrive(step: Step) -> Effect:
    return Effect(detail=_where(step))


def _handle(step: Step) -> Effect:
    evidence_id, handler_id = step.inputs.evidence_id, step.actor.user_id
    assert evidence_id is not None and handler_id is not None  # _check_needs, and the assignee is a person
    code = store.use_photo(step.connection, evidence_id, handler_id, step.incident.id)
    if code is not None:
        raise ActionRefused(code, evidence_id=str(evidence_id))
    return Effect(
        changes={"handled_at": step.now, "handler_id": handler_id},
        detail={"evidence_id": str(evidence_id), **_where(step)},
    )


def _check(step: Step) -> Effect:
    verdict = step.line.verdict
    evidence_id = step.inputs.evidence_id
    detail = {"verdict": verdict, "evidence_id": str(evidence_id) if evidence_id else None}
    if step.line.to is IncidentState.CLOSED:
        return replace(_close(step), detail=detail)
    if step.line.to is IncidentState.DISPATCHED:
        return replace(_rework(step), detail=detail)
    store.settle_checks(step.connection, step.incident.id, "a person checks", step.now)
    return Effect(changes=_wait_for(OperatorNeed.CHECK, "check", {"code": "check_inconclusive"}), detail=detail)


def _close(step: Step) -> Effect:
    store.settle_checks(step.connection, step.incident.id, "the incident was closed", step.now)
    return Effect(changes={"ended_at": step.now})


def _rework(step: Step) -> Effect:
    store.settle_checks(step.connection, step.incident.id, "the incident went back to work", step.now)
    handler_id = step.incident.handler_id
    assert handler_id is not None  # a handled incident has its handler
    roster.change_accepted(step.connection, step.incident.id, Outcome.REWORK)
    reason = {"reasons": [{"code": "rework"}], "others": []}
    roster.insert_assignment(step.connection, step.incident.id, handler_id, reason, step.now)
    _tell(step, PushKind.REWORK, handler_id)
    return Effect(changes={"assignee_id": handler_id, "offered_at": step.now, "handled_at": None})


def _send_back(step: Step) -> Effect:
    if step.line.to is IncidentState.REPORTED:
        waits = _wait_for(OperatorNeed.SENT_BACK, "file", {"code": "sent_back"})
        return Effect(changes={"filed_at": None, "limit_from": None, "due_at": None, **waits})
    _withdraw(step, Outcome.REASSIGNED if step.by_operator else Outcome.SENT_BACK)
    waits = _wait_for(OperatorNeed.DISPATCH, "dispatch", {"code": "sent_back"}) if step.by_operator else {}
    return Effect(changes={**_NOBODY, **waits})


def _reopen(step: Step) -> Effect:
    again = {"handled_at": None, "ended_at": None, "handler_id": None, "acknowledged_at": None, "acknowledged_by": None}
    filed = _file(step)  # the limit runs anew
    return Effect(changes={**filed.changes, **_NOBODY, **again})


def _acknowledge(step: Step) -> Effect:
    return Effect()  # `perform` notes the first operator who acted, and that is all there is to it


_EFFECTS: dict[Action, Callable[[Step], Effect]] = {
    Action.FILE: _file,
    Action.VOID: _void,
    Action.DISPATCH: _dispatch,
    Action.ACCEPT: _accept,
    Action.REFUSE: _refuse,
    Action.EXPIRE: _expire,
    Action.ARRIVE: _arrive,
    Action.HANDLE: _handle,
    Action.CHECK: _check,
    Action.CLOSE: _close,
    Action.REWORK: _rework,
    Action.SEND_BACK: _send_back,
    Action.ACKNOWLEDGE: _acknowledge,
    Action.REOPEN: _reopen,
}
