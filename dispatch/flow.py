"""The functions that join decisions and rows. A report's way through dispatch is these calls:

take_reports (report → incident, filed) · take_updates (what became of it) · advance (offered, expired, checked) · act (what people do).
"""

from datetime import datetime
from uuid import UUID

from dispatch import store
from dispatch.action import perform
from dispatch.intake import take_reports
from dispatch.model import Action, ActionRefused, Actor, Incident, IncidentView, Inputs, JsonObject
from dispatch.progress import advance, consider
from dispatch.recurrence import take_updates
from kernel.db import Connection
from kernel.settings import Settings

__all__ = ["act", "advance", "candidates", "take_reports", "take_updates"]


def act(
    connection: Connection,
    incident_id: UUID,
    action: Action,
    actor: Actor,
    inputs: Inputs,
    now: datetime,
    expected_version: int | None = None,
) -> IncidentView:
    """Do what a person (or a drill) asks, in this transaction; the incident in full as `actor` sees it then.

    Raises ActionRefused: unknown_incident, version_conflict, not_your_role, not_your_task, not_allowed_in_state,
    reason_required, photo_required, photo_used, position_required, user_required, unknown_user, user_off_duty,
    user_out_of_scope, verdict_required, handler_may_not_check, named_person_required, no_calendar.
    """
    incident = store.lock_incident(connection, incident_id)
    _check_seen(incident, actor)
    assert incident is not None
    if expected_version is not None and expected_version != incident.version:
        raise ActionRefused("version_conflict", version=incident.version, expected=expected_version)
    perform(connection, incident, action, actor, inputs, now)
    view = store.read_incident(connection, incident_id, now=now, actor=actor)
    assert view is not None
    return view


def candidates(
    connection: Connection, incident_id: UUID, actor: Actor, now: datetime, settings: Settings
) -> list[JsonObject]:
    """Who might go, the best first, with the codes why or why not (dispatch.policy.choose).

    Raises ActionRefused: unknown_incident.
    """
    incident = store.find_incident(connection, incident_id)
    _check_seen(incident, actor)
    assert incident is not None
    return [
        {
            "user": {"id": str(one.candidate.user_id), "name": one.candidate.name},
            "distance_m": None if one.distance_m is None else round(one.distance_m, 1),
            "open_tasks": one.candidate.open_tasks,
            "on_duty": one.candidate.on_duty,
            "position_age_s": one.candidate.position_age_s,
            "chosen": one.chosen,
            "reasons": list(one.codes),
        }
        for one in consider(connection, incident, now, settings)
    ]


def _check_seen(incident: Incident | None, actor: Actor) -> None:
    # The database hides rows outside a person's scope; whoever calls with a connection that sees all is held to it here.
    if incident is None or not actor.sees(incident.area_code):
        raise ActionRefused("unknown_incident")
