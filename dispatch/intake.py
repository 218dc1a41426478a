"""Reports become incidents: each opens one, or joins the one that is open for the same cause.

A partial unique index decides which, not a look beforehand, so any number of workers may do this at once. The reports of
a batch are taken in the order of their causes, so that two workers never wait for each other crosswise.
"""

import logging
from datetime import datetime
from uuid import UUID

import psycopg

from dispatch import store
from dispatch.action import call_operator, perform
from dispatch.model import (
    SYSTEM,
    Action,
    ActionRefused,
    Actor,
    Happening,
    Incident,
    Inputs,
    OperatorNeed,
    WaitingReport,
)
from dispatch.number import number_incidents
from dispatch.policy import dedup_key, files_by_itself, find_severity
from dispatch.recurrence import find_neighbour, is_placed_finding, reopen
from dispatch.row import lock_merged_target
from grid.locate import Locator
from grid.model import Place
from kernel.db import Connection
from kernel.ids import new_id
from kernel.settings import Settings
from kernel.types import IncidentState, Source

log = logging.getLogger(__name__)
OUTSIDE = "outside_district"
_TRIES = 5
# Somebody else holds what this report needs: it waits for the next round, the others do not.
_BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
)


def take_reports(
    connection: Connection, now: datetime, settings: Settings, locator: Locator | None = None, limit: int = 100
) -> int:
    """Look at up to `limit` waiting reports in this transaction; how many were taken.

    Every report ends at an incident or with a refusal: `outside_district`, or `failed: …` when taking it raised an
    error, which stops no other. While no grid is imported nothing can be placed, and all reports wait.
    """
    reports = store.claim_reports(connection, limit)
    if not reports:
        return 0
    locator = locator or Locator.load(connection)
    if not locator.codes:
        log.warning("%d reports wait: no grid is imported", len(reports))
        return 0
    store.wait_for_categories(connection, (report.category for report in reports if is_placed_finding(report)))
    taken = 0
    opened: dict[UUID, UUID] = {}
    for key, report, place in sorted(_place(locator, reports), key=lambda item: (item[0], item[1].received_at)):
        try:
            with connection.transaction():
                if place is None:
                    store.refuse_report(connection, report.id, OUTSIDE, now)
                    log.warning("report outside the district", extra={"report_id": report.id})
                else:
                    incident_id = _take(connection, report, place, key, now, settings)
                    if incident_id is not None:
                        opened[report.id] = incident_id
        except _BUSY as error:
            log.info("report waits: %s", error, extra={"report_id": report.id})
            continue
        except psycopg.OperationalError:
            raise  # the database is going: nothing was taken, everything waits
        except Exception as error:
            log.exception("report failed", extra={"report_id": report.id})
            store.refuse_report(connection, report.id, f"failed: {type(error).__name__}", now)
        taken += 1
    in_order = [opened[report.id] for report in reports if report.id in opened]
    number_incidents(connection, in_order, now, settings.city.timezone)
    return taken


def _place(locator: Locator, reports: list[WaitingReport]) -> list[tuple[str, WaitingReport, Place | None]]:
    found = [locator.locate(report.lon, report.lat) for report in reports]
    return [
        (dedup_key(report.dedup, report.category, place.cell_code, report.device_id) if place else "", report, place)
        for report, place in zip(reports, found, strict=True)
    ]


def _take(
    connection: Connection, report: WaitingReport, place: Place, key: str, now: datetime, settings: Settings
) -> UUID | None:
    """The new incident's id, or None when the report joined one."""
    for _ in range(_TRIES):
        incident = store.lock_open_incident(connection, key)
        # What happened before the last one of this cause was handled has been dealt with, however late it is told.
        incident = incident or store.lock_closed_incident(connection, key, report.occurred_at)
        incident = incident or lock_merged_target(connection, key)
        incident = incident or find_neighbour(connection, report, settings)
        incident = incident or reopen(connection, report, now, settings)
        if incident is not None:
            _join(connection, incident, report, place, now)
            return None
        incident_id = new_id(now)
        opened = store.insert_incident(
            connection, report, incident_id=incident_id, dedup_key=key, cell_code=place.cell_code,
            area_code=place.community_code, place=describe_place(report, place), now=now,
        )  # fmt: skip
        if opened:
            _open(connection, incident_id, report, place, now)
            return incident_id
    raise RuntimeError(f"the incident of {key} opens and ends faster than it can be found")


def describe_place(report: WaitingReport, place: Place) -> str:
    """Words for the place: the reporter's own, else the device's name, else the names of the areas."""
    said = report.detail.get("place")
    if isinstance(said, str) and said.strip():
        return said.strip()[:200]
    return report.device_name or " ".join(n for n in (place.street_name, place.community_name, place.grid_name) if n)


def name_reporter(report: WaitingReport) -> Actor:
    """Who said it, for the log: a person, "camera 天水-07", "sensor 天水-s1", or the source."""
    if report.reporter_name is not None:
        return Actor(user_id=report.reporter_id, name=report.reporter_name)
    kind = "sensor" if report.source == Source.DEVICE else report.source
    return Actor(user_id=None, name=f"{kind} {report.device_name}" if report.device_name else report.source)


def _open(connection: Connection, incident_id: UUID, report: WaitingReport, place: Place, now: datetime) -> None:
    store.place_report(connection, report.id, incident_id, place.cell_code, place.community_code, now)
    incident = store.lock_incident(connection, incident_id)
    assert incident is not None  # inserted just now
    store.log_event(
        connection, incident, action=Happening.OPEN, from_state=None, to_state=incident.state,
        actor=name_reporter(report), version=incident.version, now=now,
        detail={"report_id": str(report.id), "source": report.source, "source_key": report.source_key},
    )  # fmt: skip
    store.note_incident(connection, incident, (), now)
    log.info("incident opened", extra={"report_id": report.id, "incident_id": incident_id, "category": report.category})
    _file(connection, incident, report, now)


def _file(connection: Connection, incident: Incident, report: WaitingReport, now: datetime) -> None:
    if not files_by_itself(report.source, report.auto_file):
        proposal = {"action": "file", "reasons": [{"code": "verify_first", "source": report.source}]}
        call_operator(connection, incident, OperatorNeed.VERIFY, proposal, now, SYSTEM)
        return
    try:
        perform(connection, incident, Action.FILE, SYSTEM, Inputs(), now)
    except ActionRefused as refused:
        proposal = {"action": "file", "reasons": [{"code": refused.code, **refused.params}]}
        call_operator(connection, incident, OperatorNeed.NO_CALENDAR, proposal, now, SYSTEM)


def _join(connection: Connection, incident: Incident, report: WaitingReport, place: Place, now: datetime) -> None:
    store.place_report(connection, report.id, incident.id, place.cell_code, place.community_code, now)
    store.add_report(connection, incident.id, report)
    severity = min(incident.severity, find_severity(*store.read_evidence_weight(connection, incident.id)))
    version = incident.version + 1
    store.write_incident(connection, incident.id, version, {"severity": severity})
    store.log_event(
        connection, incident, action=Happening.REPORT_ADDED, from_state=incident.state, to_state=incident.state,
        actor=name_reporter(report), version=version, now=now,
        detail={
            "report_id": str(report.id), "source": report.source, "source_key": report.source_key,
            **({"severity": severity} if severity < incident.severity else {}),
        },
    )  # fmt: skip
    store.note_incident(connection, incident, (), now)
    log.info("report joined", extra={"report_id": report.id, "incident_id": incident.id})
    waits_for_proof = incident.state is IncidentState.REPORTED and (
        incident.needs_operator == OperatorNeed.VERIFY or incident.verifier_id is not None
    )
    if waits_for_proof and files_by_itself(report.source, report.auto_file):
        # A device or an inspector says the same as the caller: that is the verification.
        again = store.lock_incident(connection, incident.id)
        assert again is not None
        _file(connection, again, report, now)
