"""Incidents that belong together: parent and child, the same one twice, two in one."""

from collections.abc import Mapping
from uuid import UUID

from dispatch import docket, row, store
from dispatch.model import Action, ActionRefused, Happening, Incident
from dispatch.step import Effect, EffectOf, Step, log_beside
from dispatch.steps.handling import end_life
from kernel.ids import new_id
from kernel.types import OPEN_STATES, IncidentState


def _lock_other(step: Step, incident_id: UUID | None) -> Incident:
    """The other incident, in the actor's scope too. Raises ActionRefused: same_incident, unknown_incident."""
    assert incident_id is not None  # the table wants one, or the row has one
    if incident_id == step.incident.id:
        raise ActionRefused("same_incident")
    other = row.lock_other(step.connection, incident_id)
    if other is None or not step.actor.sees(other.area_code):
        raise ActionRefused("unknown_incident")
    return other


def _refuse_children(step: Step) -> None:
    if docket.has_children(step.connection, step.incident.id):
        raise ActionRefused("has_children")


def _attach(step: Step) -> Effect:
    """One level only: a parent has no parent, and a child no children."""
    _refuse_children(step)
    parent = _lock_other(step, step.inputs.incident_id)
    if parent.state not in OPEN_STATES:
        raise ActionRefused("other_ended")
    if parent.parent_id is not None:
        raise ActionRefused("has_parent")
    log_beside(
        step,
        parent,
        Happening.CHILD_ATTACHED,
        {"incident_id": str(step.incident.id), "number": step.incident.number},
        {},
    )
    return Effect(changes={"parent_id": parent.id}, detail={"incident_id": str(parent.id), "number": parent.number})


def _detach(step: Step) -> Effect:
    parent = _lock_other(step, step.incident.parent_id)
    log_beside(
        step,
        parent,
        Happening.CHILD_DETACHED,
        {"incident_id": str(step.incident.id), "number": step.incident.number},
        {},
    )
    return Effect(changes={"parent_id": None}, detail={"incident_id": str(parent.id), "number": parent.number})


def _merge(step: Step) -> Effect:
    """This one ends in the other. Its reports stay with its story; the other counts them and shows them."""
    _refuse_children(step)
    target = _lock_other(step, step.inputs.incident_id)
    if target.state not in OPEN_STATES:
        raise ActionRefused("other_ended")
    docket.adopt_reports(step.connection, step.incident.id, target.id)
    ended = end_life(step, "the incident was merged into another one")
    log_beside(
        step, target, Happening.MERGED_IN, {"incident_id": str(step.incident.id), "number": step.incident.number},
        {"severity": min(target.severity, step.incident.severity), **_add_reports(step, target)},
    )  # fmt: skip
    return Effect(
        changes={**ended, "merged_into": target.id, "parent_id": None},
        detail={"incident_id": str(target.id), "number": target.number},
    )


def _add_reports(step: Step, target: Incident) -> dict[str, int]:
    row_ = step.connection.execute(
        "SELECT (SELECT report_count FROM incident WHERE id = %s) + (SELECT report_count FROM incident WHERE id = %s)",
        (target.id, step.incident.id),
    ).fetchone()
    return {"report_count": int(row_[0])} if row_ else {}


def _split(step: Step) -> Effect:
    """Some of its reports are another incident: opened, and filed when this one was. At least one report stays."""
    wanted = list(dict.fromkeys(step.inputs.report_ids))
    new = new_id(step.now)
    docket.insert_split(step.connection, new, step.incident.id, wanted, step.now)
    if docket.move_reports(step.connection, step.incident.id, wanted, new) != len(wanted):
        raise ActionRefused("unknown_report")
    if docket.count_reports(step.connection, step.incident.id) == 0:
        raise ActionRefused("last_report")
    # What was merged into it still counts.
    left = docket.read_report_count(step.connection, step.incident.id) - len(wanted)
    step.connection.execute("UPDATE incident SET report_count = %s WHERE id = %s", (len(wanted), new))
    opened = row.lock_other(step.connection, new)
    if opened is None:  # the reports lie in another area than the operator's
        raise ActionRefused("unknown_report")
    reports = [str(report_id) for report_id in wanted]
    store.log_event(
        step.connection, opened, action=Happening.OPEN, from_state=None, to_state=opened.state, actor=step.actor,
        version=opened.version, now=step.now, reason=step.reason,
        detail={"split_from": str(step.incident.id), "number": step.incident.number, "report_ids": reports},
    )  # fmt: skip
    store.note_incident(step.connection, opened, (), step.now)
    was_filed = step.incident.state is not IncidentState.REPORTED
    return Effect(
        changes={"report_count": left},
        detail={"incident_id": str(new), "report_ids": reports},
        follow=((new, Action.FILE),) if was_filed else (),
    )


EFFECTS: Mapping[Action, EffectOf] = {
    Action.ATTACH: _attach,
    Action.DETACH: _detach,
    Action.MERGE: _merge,
    Action.SPLIT: _split,
}
