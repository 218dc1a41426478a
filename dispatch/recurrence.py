"""One finding, one incident, for what cameras see: neighbouring views of the same ground, what comes back after its
closure, and what becomes of a finding afterwards. None of it pushes anything: people are told of incidents, once.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

import psycopg

from dispatch import store
from dispatch.action import perform
from dispatch.model import (
    SYSTEM,
    Action,
    ActionRefused,
    Actor,
    Happening,
    Incident,
    Inputs,
    JsonObject,
    ReportUpdate,
    WaitingReport,
)
from dispatch.policy import distance_m, same_place
from dispatch.row import take_incident
from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import OPEN_STATES, Source

log = logging.getLogger(__name__)
_LOGGED = {
    "grew": Happening.FINDING_GREW,
    "cleared": Happening.FINDING_CLEARED,
    "back": Happening.FINDING_BACK,
}


def find_neighbour(connection: Connection, report: WaitingReport, settings: Settings) -> Incident | None:
    """The open incident of this category that another view of the same ground opened, locked; None when there is none.

    Only between findings whose zones say where they lie on the ground. Findings of one category wait for each other
    here, so that two cameras that see the same at the same moment cannot both open one.
    """
    reach_m = settings.dispatch.same_ground_m
    if not reach_m or not is_placed_finding(report) or report.dedup != "cell":
        return None
    found = store.lock_open_findings(connection, report.category, report.lon, report.lat, reach_m)
    near = [(distance_m(report.lon, report.lat, one.lon, one.lat), one) for one in found]
    near = [(away_m, one) for away_m, one in near if away_m <= reach_m]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def is_placed_finding(report: WaitingReport) -> bool:
    """Whether a camera's rule reported it for a zone with a position of its own."""
    return report.source == Source.CAMERA and bool(report.rule) and report.detail.get("placed") is True


def reopen(connection: Connection, report: WaitingReport, now: datetime, settings: Settings) -> Incident | None:
    """The incident of the same finding that was closed a short while ago, opened again; None when there is none.

    The same: reported by the same camera's rule for the same zone, at a place that overlaps. What a named person had
    to close is never opened by a camera alone, and what was voided was no incident.
    """
    if not settings.dispatch.reopen_s or report.source != Source.CAMERA or not report.rule or report.device_id is None:
        return None
    since = now - timedelta(seconds=settings.dispatch.reopen_s)
    for incident, boxes in store.lock_closed_findings(connection, report, since):
        mine = report.detail.get("box")
        if mine is not None and boxes and not any(same_place(mine, box) for box in boxes):
            continue
        try:
            with connection.transaction():
                detail = {"report_id": str(report.id), "closed_at": str(incident.ended_at)}
                again = perform(connection, incident, Action.REOPEN, SYSTEM, Inputs(detail=detail), now)
        except (ActionRefused, psycopg.errors.UniqueViolation):  # meanwhile another one was opened for its cell
            return None
        log.info("incident opened again", extra={"incident_id": incident.id, "report_id": report.id})
        return again
    return None


def take_updates(connection: Connection, now: datetime, limit: int = 100) -> int:
    """Tell incidents what became of their findings, in this transaction; how many updates were taken.

    Growth makes an open incident more urgent and gives it the newer picture; that a camera sees no more of it is
    written down and closes nothing. An update of a report that is not taken yet waits for it.
    """
    updates, taken = store.claim_updates(connection, limit), 0
    held: set[UUID] = set()  # by somebody else: waiting here, with others held, could be waiting in a circle
    for update in updates:
        incident = None if update.incident_id in held else take_incident(connection, update.incident_id)
        if incident is None:
            held.add(update.incident_id)  # what follows there waits too, so that the story keeps its order
            continue
        _take_update(connection, incident, update, now)
        taken += 1
    return taken


def _take_update(connection: Connection, incident: Incident, update: ReportUpdate, now: datetime) -> None:
    happening = _LOGGED.get(update.kind)
    version = incident.version + 1 if happening else incident.version
    changes: JsonObject = {}
    if update.kind == "grew" and incident.state in OPEN_STATES:
        if update.severity is not None and update.severity < incident.severity:
            changes["severity"] = update.severity
        if update.evidence_id is not None:
            changes["cover_id"] = update.evidence_id
    if happening is not None:
        store.write_incident(connection, incident.id, version, changes)
        name = f"{update.source} {update.device_name}" if update.device_name else str(update.source)
        store.log_event(
            connection, incident, action=happening, from_state=incident.state, to_state=incident.state,
            actor=Actor(user_id=None, name=name), version=version, now=now,
            detail={
                "report_id": str(update.report_id), "at": update.at.isoformat(), "severity": update.severity,
                "evidence_id": str(update.evidence_id) if update.evidence_id else None, **update.detail,
            },
        )  # fmt: skip
    store.mark_update(connection, update.id, now)
    store.note_incident(connection, incident, (), now)
