"""From the filing to the handling: who goes, and what they do there."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from dispatch import docket, limit_store, roster, store
from dispatch.model import Action, ActionRefused, OperatorNeed, Outcome, PushKind
from dispatch.step import (
    NOBODY,
    Effect,
    EffectOf,
    Step,
    find_person,
    lapse_extension,
    start_clock,
    stop_suspension,
    tell,
    use_photo,
    wait_for,
    where,
    withdraw,
)
from kernel.types import IncidentState

VERIFY_WITHIN = timedelta(minutes=30)  # then an operator is told that no answer came: the project's own value


def _ask_verification(step: Step) -> Effect:
    person = find_person(step, step.inputs.user_id)
    user_id = step.inputs.user_id
    assert user_id is not None  # find_person knows them
    docket.ask_verification(
        step.connection, step.incident.id, user_id, step.actor.user_id, step.now, step.now + VERIFY_WITHIN
    )
    tell(step, PushKind.VERIFY, user_id)
    return Effect(
        changes={"verifier_id": user_id, "needs_operator": None, "proposal": None},
        detail={"user_id": str(user_id), "user_name": person.actor.name},
    )


def _verify(step: Step) -> Effect:
    evidence_id, found = use_photo(step), bool(step.inputs.found)
    detail = {"found": found, "evidence_id": str(evidence_id), **where(step)}
    docket.end_verification(step.connection, step.incident.id, found, evidence_id, step.reason, step.now)
    if step.line.to is None:
        waits = wait_for(OperatorNeed.VERIFIED_FALSE, "void", {"code": "verified_false", "by": step.actor.name})
        return Effect(changes={"verifier_id": None, **waits}, detail=detail)
    filed = _file(step)
    return Effect(changes=filed.changes, detail=detail)


def _end_question(step: Step) -> dict[str, UUID | None]:
    """Whoever is asked to verify need not look any more."""
    if step.incident.verifier_id is None:
        return {}
    docket.end_verification(step.connection, step.incident.id, None, None, "", step.now)
    return {"verifier_id": None}


def _file(step: Step) -> Effect:
    changes = {**_end_question(step), "filed_at": step.now, **start_clock(step)}
    if not step.incident.auto_dispatch:
        changes |= wait_for(OperatorNeed.DISPATCH, "dispatch", {"code": "dispatched_by_hand"})
    return Effect(changes=changes)


def _void(step: Step) -> Effect:
    if docket.has_open_children(step.connection, step.incident.id):
        raise ActionRefused("open_children")
    return Effect(changes=end_life(step, "the incident was voided"))


def end_life(step: Step, why: str) -> dict[str, object]:
    """What ends with an incident that becomes void: task, checks, questions, suspension."""
    withdraw(step, Outcome.REASSIGNED)
    store.settle_checks(step.connection, step.incident.id, why, step.now)
    return {**_end_question(step), **lapse_extension(step), **stop_suspension(step), "ended_at": step.now}


def _dispatch(step: Step) -> Effect:
    person, user_id = find_person(step, step.inputs.user_id), step.inputs.user_id
    assert user_id is not None  # find_person knows them
    if step.incident.assignee_id == user_id:  # asked again: nothing is taken away
        roster.end_assignment(step.connection, step.incident.id, Outcome.REASSIGNED, step.now)
        roster.change_accepted(step.connection, step.incident.id, Outcome.REASSIGNED)
    else:
        withdraw(step, Outcome.REASSIGNED)
    reason = dict(step.inputs.detail) or {"reasons": [{"code": "by_operator"}], "others": []}
    roster.insert_assignment(step.connection, step.incident.id, user_id, reason, step.now)
    tell(step, PushKind.OFFERED, user_id)
    return Effect(
        changes={"assignee_id": user_id, "offered_at": step.now, **lapse_extension(step)},
        detail={"user_id": str(user_id), "user_name": person.actor.name, **reason},
    )


def _accept(step: Step) -> Effect:
    roster.end_assignment(step.connection, step.incident.id, Outcome.ACCEPTED, step.now)
    return Effect()


def _refuse(step: Step) -> Effect:
    withdraw(step, Outcome.REFUSED)
    return Effect(changes=NOBODY)


def _expire(step: Step) -> Effect:
    withdraw(step, Outcome.EXPIRED)
    return Effect(changes=NOBODY, detail={"user_id": str(step.incident.assignee_id)})


def _arrive(step: Step) -> Effect:
    return Effect(detail=where(step))


def _handle(step: Step) -> Effect:
    evidence_id = use_photo(step)
    return Effect(
        changes={"handled_at": step.now, "handler_id": step.actor.user_id, **lapse_extension(step)},
        detail={"evidence_id": str(evidence_id), **where(step)},
    )


def _send_back(step: Step) -> Effect:
    if step.line.to is IncidentState.REPORTED:
        waits = wait_for(OperatorNeed.SENT_BACK, "file", {"code": "sent_back"})
        return Effect(changes={"filed_at": None, **limit_store.NO_LIMIT, **waits})
    withdraw(step, Outcome.REASSIGNED if step.by_operator else Outcome.SENT_BACK)
    waits = wait_for(OperatorNeed.DISPATCH, "dispatch", {"code": "sent_back"}) if step.by_operator else {}
    return Effect(changes={**NOBODY, **lapse_extension(step), **waits})


def _acknowledge(step: Step) -> Effect:
    return Effect()  # `perform` notes the first operator who acted, and that is all there is to it


EFFECTS: Mapping[Action, EffectOf] = {
    Action.ASK_VERIFICATION: _ask_verification,
    Action.VERIFY: _verify,
    Action.FILE: _file,
    Action.VOID: _void,
    Action.DISPATCH: _dispatch,
    Action.ACCEPT: _accept,
    Action.REFUSE: _refuse,
    Action.EXPIRE: _expire,
    Action.ARRIVE: _arrive,
    Action.HANDLE: _handle,
    Action.SEND_BACK: _send_back,
    Action.ACKNOWLEDGE: _acknowledge,
}
