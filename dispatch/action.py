"""Doing an action: the table is asked, the row written, the log extended, people told. Nothing else writes a state."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from psycopg import errors

from dispatch import row, store
from dispatch.model import SYSTEM, Action, ActionRefused, Actor, Happening, Incident, Inputs, JsonObject, OperatorNeed
from dispatch.step import EffectOf, Step
from dispatch.steps import closing, handling, kinship, oversight, timing
from dispatch.transition import find_line
from kernel.db import Connection

_EFFECTS: Mapping[Action, EffectOf] = {
    **handling.EFFECTS, **closing.EFFECTS, **timing.EFFECTS, **oversight.EFFECTS, **kinship.EFFECTS,
}  # fmt: skip


def perform(
    connection: Connection, incident: Incident, action: Action, actor: Actor, inputs: Inputs, now: datetime
) -> Incident:
    """Do `action` to an incident whose row the caller has locked; the incident as it is then.

    Raises ActionRefused, and then nothing has been written.
    """
    try:
        with connection.transaction():
            return _perform(connection, incident, action, actor, inputs, now)
    except errors.UniqueViolation as error:
        if error.diag.constraint_name != "incident_open_dedup":
            raise
        raise ActionRefused("other_open") from None


def _perform(
    connection: Connection, incident: Incident, action: Action, actor: Actor, inputs: Inputs, now: datetime
) -> Incident:
    standing = store.read_standing(connection, incident)
    line = find_line(incident, standing, action, actor, inputs, now)
    step = Step(
        connection=connection, incident=incident, standing=standing, line=line, actor=actor, inputs=inputs, now=now
    )
    effect = _EFFECTS[action](step)
    # A request for more time is still to be decided when its task only goes on.
    still_asked = incident.extension_asked and effect.changes.get("extension_asked", True)
    settled = {"needs_operator": None, "proposal": None} if line.to and not still_asked else {}
    seen = {}
    if step.by_operator and incident.acknowledged_at is None:
        seen = {"acknowledged_at": now, "acknowledged_by": actor.user_id}
    to_state = line.to or incident.state
    changes = {"state": to_state, **settled, **seen, **effect.changes}
    version = incident.version + 1
    coded = {"reason_code": inputs.reason_code} if inputs.reason_code else {}
    store.write_incident(connection, incident.id, version, changes)
    store.log_event(
        connection, incident, action=action, from_state=incident.state, to_state=to_state, actor=actor,
        version=version, now=now, reason=step.reason, detail={**inputs.detail, **coded, **effect.detail},
    )  # fmt: skip
    store.note_incident(connection, incident, (incident.assignee_id, changes.get("assignee_id")), now)
    for other_id, following in effect.follow:
        other = row.lock_other(connection, other_id)
        assert other is not None  # made in this transaction
        try:
            perform(connection, other, following, SYSTEM, Inputs(), now)
        except ActionRefused as refused:
            proposal = {"action": following.value, "reasons": [{"code": refused.code, **refused.params}]}
            call_operator(connection, other, OperatorNeed.NO_CALENDAR, proposal, now, SYSTEM)
    # The incident's own limit is counted_value and counted_unit here; the category's keeps its name.
    named = {{"limit_value": "counted_value", "limit_unit": "counted_unit"}.get(n, n): v for n, v in changes.items()}
    return replace(incident, version=version, **{n: v for n, v in named.items() if n in Incident.__slots__})


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
