"""The closure: checked, reworked, closed, and opened again."""

from collections.abc import Mapping
from dataclasses import replace

from dispatch import docket, roster, store
from dispatch.model import Action, ActionRefused, JsonObject, OperatorNeed, Outcome, PushKind
from dispatch.step import NOBODY, Effect, EffectOf, Step, start_clock, tell, wait_for
from kernel.types import IncidentState


def _check(step: Step) -> Effect:
    evidence_id = step.inputs.evidence_id
    detail = {"verdict": step.line.verdict, "evidence_id": str(evidence_id) if evidence_id else None}
    if step.line.to is IncidentState.CLOSED:
        return replace(_close(step), detail=detail)
    if step.line.to is IncidentState.DISPATCHED:
        return replace(_rework(step), detail=detail)
    store.settle_checks(step.connection, step.incident.id, "a person checks", step.now)
    return Effect(changes=wait_for(OperatorNeed.CHECK, "check", {"code": "check_inconclusive"}), detail=detail)


def _close(step: Step) -> Effect:
    if docket.has_open_children(step.connection, step.incident.id):
        raise ActionRefused("open_children")
    store.settle_checks(step.connection, step.incident.id, "the incident was closed", step.now)
    return Effect(changes={"ended_at": step.now})


def _rework(step: Step) -> Effect:
    """Back to the same person, with the picture of what is still wrong and the words for it."""
    store.settle_checks(step.connection, step.incident.id, "the incident went back to work", step.now)
    handler_id = step.incident.handler_id
    assert handler_id is not None  # a handled incident has its handler
    roster.change_accepted(step.connection, step.incident.id, Outcome.REWORK)
    shown = step.inputs.evidence_id or step.inputs.detail.get("evidence_id")
    why: JsonObject = {"code": "rework", "evidence_id": str(shown) if shown else None, "note": step.reason}
    reason = {"reasons": [why], "others": []}
    roster.insert_assignment(step.connection, step.incident.id, handler_id, reason, step.now)
    tell(step, PushKind.REWORK, handler_id)
    detail = {"evidence_id": str(shown)} if shown else {}
    return Effect(changes={"assignee_id": handler_id, "offered_at": step.now, "handled_at": None}, detail=detail)


def _reopen(step: Step) -> Effect:
    again = {"handled_at": None, "ended_at": None, "handler_id": None, "acknowledged_at": None, "acknowledged_by": None}
    changes = {"filed_at": step.now, **start_clock(step), **NOBODY, **again}  # the limit runs anew
    if not step.incident.auto_dispatch:
        changes |= wait_for(OperatorNeed.DISPATCH, "dispatch", {"code": "dispatched_by_hand"})
    return Effect(changes=changes)


EFFECTS: Mapping[Action, EffectOf] = {
    Action.CHECK: _check,
    Action.CLOSE: _close,
    Action.REWORK: _rework,
    Action.REOPEN: _reopen,
}
