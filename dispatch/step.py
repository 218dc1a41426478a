"""What the functions of dispatch/steps/ have in common: the step about to be done, its effect, and small things they share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatch import docket, limit_store, roster, store
from dispatch.calendar import CalendarMissing
from dispatch.model import (
    Action,
    ActionRefused,
    Actor,
    Happening,
    Incident,
    Inputs,
    JsonObject,
    OperatorNeed,
    Outcome,
    Person,
    PushKind,
    Who,
)
from dispatch.outbox import queue_push
from dispatch.policy import distance_m
from dispatch.transition import Standing, Transition, capacities, is_position
from kernel.db import Connection
from kernel.types import IncidentState

WITH_SOMEBODY = (IncidentState.DISPATCHED, IncidentState.ACCEPTED, IncidentState.ON_SITE)
NOBODY: Mapping[str, Any] = {"assignee_id": None, "offered_at": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Columns that an action sets besides the state, what it leaves in the log, and what the system then does to others."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    follow: tuple[tuple[UUID, Action], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One action about to be done: everything an effect may look at."""

    connection: Connection
    incident: Incident
    standing: Standing
    line: Transition
    actor: Actor
    inputs: Inputs
    now: datetime

    @property
    def by_operator(self) -> bool:
        """Whether it is done as an operator and not as the assignee."""
        mine = capacities(self.actor, self.standing) & self.line.by
        return Who.OPERATOR in mine and Who.ASSIGNEE not in mine

    @property
    def reason(self) -> str:
        """Why, as it stands in the log: the words, else the code."""
        return self.inputs.reason.strip() or self.inputs.reason_code or self.inputs.note.strip()


EffectOf = Callable[[Step], Effect]


def tell(step: Step, kind: PushKind, user_id: UUID | None) -> None:
    """Queue a push; nobody is told what they did themselves."""
    if user_id is not None and user_id != step.actor.user_id:
        queue_push(step.connection, kind, user_id, step.incident, step.incident.due_at, step.now)


def wait_for(need: OperatorNeed, action: str, *reasons: JsonObject) -> dict[str, Any]:
    """An operator must decide; what is proposed, and why."""
    return {"needs_operator": need, "proposal": {"action": action, "reasons": list(reasons)}}


def find_person(step: Step, user_id: UUID | None, *, on_duty: bool = True) -> Person:
    """Somebody who may be sent to this incident. Raises ActionRefused: unknown_user, user_out_of_scope, user_off_duty."""
    person = roster.read_person(step.connection, user_id) if user_id else None
    if person is None or not person.can_go:
        raise ActionRefused("unknown_user", user_id=str(user_id))
    if not person.actor.sees(step.incident.area_code):
        raise ActionRefused("user_out_of_scope", user_id=str(user_id))
    if on_duty and not person.on_duty:
        raise ActionRefused("user_off_duty", user_id=str(user_id))
    return person


def withdraw(step: Step, outcome: Outcome) -> None:
    """Take the task from whoever has it or is offered it."""
    if step.incident.state not in WITH_SOMEBODY:
        return
    roster.end_assignment(step.connection, step.incident.id, outcome, step.now)
    roster.change_accepted(step.connection, step.incident.id, outcome)
    tell(step, PushKind.WITHDRAWN, step.incident.assignee_id)


def lapse_extension(step: Step) -> dict[str, Any]:
    """Who asked for more time has the task no longer, or is done: nobody need decide."""
    if not step.incident.extension_asked:
        return {}
    docket.decide_extension(step.connection, step.incident.id, "lapsed", None, None, "", step.now)
    return {"extension_asked": False}


def start_clock(step: Step) -> dict[str, Any]:
    """The limit begins now. Raises ActionRefused: no_calendar."""
    try:
        limit = limit_store.start_limit(step.connection, step.incident, step.now, step.inputs.condition)
        return {"escalate_at": None, **limit}
    except CalendarMissing as error:
        raise ActionRefused("no_calendar", text=str(error)) from None


def count_again(step: Step, value: float | None = None) -> dict[str, Any]:
    """The limit with its pauses, and with another value if given. Raises ActionRefused: no_calendar."""
    incident = step.incident
    value = incident.counted_value if value is None else value
    if incident.limit_from is None or value is None or incident.counted_unit is None:
        return {}
    pauses = docket.read_pauses(step.connection, incident.id)
    department = limit_store.read_department(step.connection, incident.id)
    try:
        counted = limit_store.count_limit(
            step.connection, incident.limit_from, value, incident.counted_unit, pauses, department
        )
    except CalendarMissing as error:
        raise ActionRefused("no_calendar", text=str(error)) from None
    return {"limit_value": value, "escalate_at": None, **counted}


def stop_suspension(step: Step) -> dict[str, Any]:
    """An incident that ends while it is suspended is suspended no longer."""
    if step.incident.suspended_at is None:
        return {}
    docket.end_suspension(step.connection, step.incident.id, step.now)
    return {"suspended_at": None, "suspended_until": None}


def where(step: Step) -> JsonObject:
    """The actor's position and how far that is from the incident; empty when none came."""
    lon, lat = step.inputs.lon, step.inputs.lat
    if lon is None or lat is None or not is_position(lon, lat):
        return {}
    away_m = distance_m(lon, lat, step.incident.lon, step.incident.lat)
    accuracy_m = step.inputs.accuracy_m
    known = accuracy_m is not None and math.isfinite(accuracy_m)
    return {"lon": lon, "lat": lat, "accuracy_m": accuracy_m if known else None, "distance_m": round(away_m, 1)}


def use_photo(step: Step) -> UUID:
    """The photograph that came, bound to this incident for ever. Raises ActionRefused: photo_required, photo_used."""
    evidence_id, user_id = step.inputs.evidence_id, step.actor.user_id
    assert evidence_id is not None and user_id is not None  # the table wants a photograph, and of a person
    code = store.use_photo(step.connection, evidence_id, user_id, step.incident.id)
    if code is not None:
        raise ActionRefused(code, evidence_id=str(evidence_id))
    return evidence_id


def log_beside(
    step: Step, other: Incident, happening: Happening, detail: JsonObject, changes: Mapping[str, Any]
) -> None:
    """What this step means for another incident, which the step holds: an entry in its log, and no change of its state."""
    version = other.version + 1
    store.write_incident(step.connection, other.id, version, changes)
    store.log_event(
        step.connection, other, action=happening, from_state=other.state, to_state=other.state, actor=step.actor,
        version=version, now=step.now, reason=step.reason, detail=detail,
    )  # fmt: skip
    store.note_incident(step.connection, other, (), step.now)
