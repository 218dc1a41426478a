"""The limit's clock: more time asked for and decided, stopped for a while and started again."""

from collections.abc import Mapping
from dataclasses import replace

from dispatch import docket
from dispatch.model import Action, ActionRefused, OperatorNeed, PushKind
from dispatch.step import Effect, EffectOf, Step, count_again, tell, wait_for
from kernel.types import IncidentState


def _ask_extension(step: Step) -> Effect:
    docket.ask_extension(step.connection, step.incident.id, step.actor.user_id, step.reason, step.now)
    why = {"code": "extension_asked", "by": step.actor.name, "said": step.reason}
    return Effect(changes={"extension_asked": True, **wait_for(OperatorNeed.EXTENSION, "grant_extension", why)})


def _settle(step: Step, need: OperatorNeed) -> dict[str, None]:
    """The decision that was waited for is made; what else an operator is waited for stays."""
    return {"needs_operator": None, "proposal": None} if step.incident.needs_operator == need else {}


def _grant_extension(step: Step) -> Effect:
    """At most one more original limit; the whole of it when no value is said."""
    incident = step.incident
    original = docket.read_original(step.connection, incident.id)
    if original is None or incident.counted_value is None:
        raise ActionRefused("no_extension_asked")
    value = original if step.inputs.value is None else step.inputs.value
    if not 0 < value <= original:
        raise ActionRefused("bad_extension", value=value, most=original, unit=incident.counted_unit)
    asked_by = docket.decide_extension(
        step.connection, incident.id, "granted", value, step.actor.user_id, step.reason, step.now
    )
    counted = count_again(step, incident.counted_value + value)
    tell(step, PushKind.DECIDED, asked_by)
    return Effect(
        changes={
            "extension_asked": False, "extensions": incident.extensions + 1, **counted,
            **_settle(step, OperatorNeed.EXTENSION),
        },
        detail={"value": value, "unit": incident.counted_unit, "due_before": str(incident.due_at), "due_at": str(counted["due_at"])},
    )  # fmt: skip


def _refuse_extension(step: Step) -> Effect:
    asked_by = docket.decide_extension(
        step.connection, step.incident.id, "refused", None, step.actor.user_id, step.reason, step.now
    )
    tell(step, PushKind.DECIDED, asked_by)
    return Effect(changes={"extension_asked": False, **_settle(step, OperatorNeed.EXTENSION)})


def _suspend(step: Step) -> Effect:
    until = step.inputs.until
    assert until is not None  # the table wants one
    docket.begin_suspension(step.connection, step.incident.id, until, step.reason, step.now)
    return Effect(
        changes={"suspended_at": step.now, "suspended_until": until, "suspensions": step.incident.suspensions + 1},
        detail={"until": until.isoformat()},
    )


def _resume(step: Step) -> Effect:
    """The clock runs again: since now, or since the suspension ended by itself. An offer is open anew."""
    incident = step.incident
    assert incident.suspended_until is not None  # the guard saw that it is suspended
    at = min(step.now, incident.suspended_until)
    docket.end_suspension(step.connection, incident.id, at)
    try:
        counted = count_again(step)
    except ActionRefused:
        # A year without a calendar does not keep it suspended; when one comes the limit is counted (dispatch.relimit).
        counted = {"limit_seen": ""}
    due_at = counted.get("due_at", incident.due_at)
    changes = {"suspended_at": None, "suspended_until": None, **counted}
    if incident.state is IncidentState.DISPATCHED:
        changes["offered_at"] = step.now
        tell(
            replace(step, incident=replace(incident, due_at=due_at)),
            PushKind.OFFERED,
            incident.assignee_id,
        )
    return Effect(changes=changes, detail={"due_before": str(incident.due_at), "due_at": str(due_at)})


EFFECTS: Mapping[Action, EffectOf] = {
    Action.ASK_EXTENSION: _ask_extension,
    Action.GRANT_EXTENSION: _grant_extension,
    Action.REFUSE_EXTENSION: _refuse_extension,
    Action.SUSPEND: _suspend,
    Action.RESUME: _resume,
}
