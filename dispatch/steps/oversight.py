"""What stands above the work: supervision, levels, appeals, and departments that are summoned."""

from collections.abc import Mapping

from dispatch import docket
from dispatch.model import Action, ActionRefused, OperatorNeed, PushKind
from dispatch.step import Effect, EffectOf, Step, find_person, tell, wait_for, where
from dispatch.transition import HIGHEST_SUPERVISION


def _supervise(step: Step) -> Effect:
    level = min(step.incident.supervision + 1, HIGHEST_SUPERVISION)
    tell(step, PushKind.SUPERVISED, step.incident.assignee_id)
    return Effect(changes={"supervision": level}, detail={"supervision": level})


def _escalate(step: Step) -> Effect:
    level = step.incident.level + 1
    return Effect(changes={"level": level}, detail={"level": level})


def _appeal(step: Step) -> Effect:
    docket.ask_appeal(step.connection, step.incident.id, step.actor.user_id, step.reason, step.now)
    # A closed incident waits for nobody: what is to be decided stands in `appeal`.
    if step.incident.ended_at is not None or step.incident.needs_operator is not None:
        return Effect(changes={"appeal": "asked"})
    why = {"code": "appeal", "by": step.actor.name, "said": step.reason}
    return Effect(changes={"appeal": "asked", **wait_for(OperatorNeed.APPEAL, "accept_appeal", why)})


def _decide_appeal(step: Step, answer: str) -> Effect:
    asked_by = docket.decide_appeal(
        step.connection, step.incident.id, answer, step.actor.user_id, step.reason, step.now
    )
    tell(step, PushKind.DECIDED, asked_by)
    settled = {"needs_operator": None, "proposal": None} if step.incident.needs_operator == OperatorNeed.APPEAL else {}
    return Effect(changes={"appeal": answer, **settled})


def _accept_appeal(step: Step) -> Effect:
    return _decide_appeal(step, "accepted")


def _reject_appeal(step: Step) -> Effect:
    return _decide_appeal(step, "rejected")


def _summon(step: Step) -> Effect:
    """Several departments at once, each to be there by the same time; another call may name others and another time."""
    until = step.inputs.until
    assert until is not None  # the table wants one
    people = []
    for user_id in dict.fromkeys(step.inputs.user_ids):
        person = find_person(step, user_id, on_duty=False)
        if docket.insert_summons(
            step.connection, step.incident.id, user_id, step.actor.user_id, until, step.reason, step.now
        ):
            tell(step, PushKind.SUMMONED, user_id)
            people.append({"user_id": str(user_id), "name": person.actor.name})
    return Effect(detail={"summoned": people, "check_in_by": until.isoformat()})


def _check_in(step: Step) -> Effect:
    user_id, at = step.actor.user_id, where(step)
    assert user_id is not None  # a person was summoned
    is_first = docket.check_in(
        step.connection, step.incident.id, user_id, at["lon"], at["lat"], at["distance_m"], step.now
    )
    return Effect(detail={**at, "again": not is_first})


def _rate(step: Step) -> Effect:
    user_id, score = step.inputs.user_id, step.inputs.score
    assert user_id is not None and score is not None  # the table wants both
    if not 1 <= score <= 5:
        raise ActionRefused("score_required")
    if not docket.rate_summons(
        step.connection, step.incident.id, user_id, score, step.actor.user_id, step.reason, step.now
    ):
        raise ActionRefused("not_summoned", user_id=str(user_id))
    return Effect(detail={"user_id": str(user_id), "score": score})


EFFECTS: Mapping[Action, EffectOf] = {
    Action.SUPERVISE: _supervise,
    Action.ESCALATE: _escalate,
    Action.APPEAL: _appeal,
    Action.ACCEPT_APPEAL: _accept_appeal,
    Action.REJECT_APPEAL: _reject_appeal,
    Action.SUMMON: _summon,
    Action.CHECK_IN: _check_in,
    Action.RATE: _rate,
}
