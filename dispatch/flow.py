"""The functions that join decisions and rows. A report's way through dispatch is these calls:

take_reports (report → incident, filed) · take_updates (what became of it) · advance (offered, expired, checked) · act (what people do).
"""

from datetime import datetime
from uuid import UUID

from dispatch import docket, dossier, store
from dispatch.action import perform
from dispatch.intake import take_reports
from dispatch.model import Action, ActionRefused, Actor, Incident, IncidentView, Inputs, JsonObject
from dispatch.number import number_incidents
from dispatch.progress import advance as _advance
from dispatch.progress import consider
from dispatch.recurrence import take_updates
from dispatch.upkeep import keep_up
from kernel.db import Connection
from kernel.settings import Settings

__all__ = ["act", "advance", "candidates", "read_summons", "take_reports", "take_updates"]


def act(
    connection: Connection,
    incident_id: UUID,
    action: Action,
    actor: Actor,
    inputs: Inputs,
    now: datetime,
    expected_version: int | None = None,
    timezone: str = "Asia/Shanghai",
) -> IncidentView:
    """Do what a person (or a drill) asks, in this transaction; the incident in full as `actor` sees it then.

    `timezone` decides the date in the number of an incident that is split off. Raises ActionRefused: unknown_incident,
    version_conflict, and whatever the table, its guards and its needs refuse (docs/workflow.md); LockNotAvailable when a
    second incident that the action is about is held by somebody else.
    """
    incident = store.lock_incident(connection, incident_id)
    _check_seen(incident, actor)
    assert incident is not None
    if expected_version is not None and expected_version != incident.version:
        raise ActionRefused("version_conflict", version=incident.version, expected=expected_version)
    perform(connection, incident, action, actor, inputs, now)
    if action is Action.SPLIT:
        number_incidents(connection, docket.read_unnumbered(connection, incident_id), now, timezone)
    view = store.read_incident(connection, incident_id, now=now, actor=actor)
    assert view is not None
    return view


def advance(connection: Connection, now: datetime, settings: Settings, limit: int = 100) -> int:
    """What goes on by itself, in this transaction, of up to `limit` incidents of each sort; how many were touched."""
    return keep_up(connection, now, settings, limit) + _advance(connection, now, settings, limit)


def candidates(
    connection: Connection, incident_id: UUID, actor: Actor, now: datetime, settings: Settings
) -> list[JsonObject]:
    """Who might go, the best first, with the codes why or why not (dispatch.assign).

    Raises ActionRefused: unknown_incident.
    """
    incident = store.find_incident(connection, incident_id)
    _check_seen(incident, actor)
    assert incident is not None
    return [
        {
            "user": {"id": str(one.worker.user_id), "name": one.worker.name},
            "distance_m": None if one.distance_m is None else round(one.distance_m, 1),
            "open_tasks": one.worker.open_tasks,
            "on_duty": one.worker.on_duty,
            "position_age_s": one.worker.position_age_s,
            "chosen": one.chosen,
            "reasons": list(one.codes),
        }
        for one in consider(connection, incident, now, settings)
    ]


def read_summons(connection: Connection, incident_id: UUID, now: datetime) -> list[JsonObject]:
    """Who was summoned to an incident in the transaction's scope.

    Raises ActionRefused: unknown_incident.
    """
    if store.find_incident(connection, incident_id) is None:
        raise ActionRefused("unknown_incident")
    return dossier.read_summons(connection, incident_id, now)


def _check_seen(incident: Incident | None, actor: Actor) -> None:
    # The database hides rows outside a person's scope; whoever calls with a connection that sees all is held to it here.
    if incident is None or not actor.sees(incident.area_code):
        raise ActionRefused("unknown_incident")
