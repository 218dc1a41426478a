"""What the workflow does by itself: suspensions end, questions run out, limits passed raise the level, photographs are judged."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

from dispatch import docket, limit_store, photograph, policy, proof, store
from dispatch.action import call_operator, perform
from dispatch.calendar import CalendarMissing
from dispatch.limits import due_at, share_used
from dispatch.model import SYSTEM, Action, Happening, Incident, Inputs, OperatorNeed
from kernel.db import Connection
from kernel.settings import Settings

log = logging.getLogger(__name__)
_Task = Callable[[Connection, Incident, datetime, Settings], None]

SUSPENSION_OVER = "i.suspended_until <= %(now)s AND i.state NOT IN ('closed', 'void')"
QUESTION_OVER = """
    i.state = 'reported' AND i.verifier_id IS NOT NULL
    AND EXISTS (SELECT FROM verification v WHERE v.incident_id = i.id AND v.ended_at IS NULL AND v.answer_by <= %(now)s)
"""
LIMIT_PASSED = """
    coalesce(i.escalate_at, i.due_at) < %(now)s AND i.level < 4 AND i.suspended_at IS NULL
    AND i.state IN ('filed', 'dispatched', 'accepted', 'on_site')
"""
_PICTURES = 5  # judged in one round: each takes its time, and all that the round has touched is locked meanwhile
_BY_LEVEL = {2: policy.ESCALATE_AT[1], 3: policy.ESCALATE_AT[2]}  # at this share of the limit the next level is reached


def keep_up(connection: Connection, now: datetime, settings: Settings, limit: int = 100) -> int:
    """One round in this transaction, of up to `limit` incidents of each sort; how many were touched.

    An incident that somebody else holds is left for the next round; one that fails is logged and stops no other.
    """
    rounds: tuple[tuple[str, Mapping[str, Any], _Task], ...] = (
        (SUSPENSION_OVER, {"now": now}, _resume),
        (QUESTION_OVER, {"now": now}, _ask_operator),
        (LIMIT_PASSED, {"now": now}, _escalate),
        (store.PHOTO_UNJUDGED, {}, _judge),
    )
    touched = 0
    for where, parameters, task in rounds:
        most = min(limit, _PICTURES) if task is _judge else limit
        for incident in store.lock_due_incidents(connection, where, parameters, most):
            try:
                with connection.transaction():
                    task(connection, incident, now, settings)
            except psycopg.OperationalError:
                raise
            except Exception:
                log.exception("incident failed", extra={"incident_id": incident.id})
                continue
            touched += 1
    return touched


def _resume(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    perform(connection, incident, Action.RESUME, SYSTEM, Inputs(detail={"code": "suspension_over"}), now)


def _ask_operator(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Nobody looked in time: the operator decides, or asks somebody else."""
    docket.end_verification(connection, incident.id, None, None, "", now)
    store.write_incident(connection, incident.id, incident.version, {"verifier_id": None})
    proposal = {"action": "ask_verification", "reasons": [{"code": "verification_unanswered"}]}
    call_operator(connection, incident, OperatorNeed.VERIFY, proposal, now, SYSTEM)


def _escalate(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """One level at a time, each with its entry in the log, up to what the share of the limit says."""
    limit_from, value, unit = incident.limit_from, incident.counted_value, incident.counted_unit
    if limit_from is None or value is None or unit is None:
        return
    calendar = limit_store.read_calendar(connection, limit_store.read_department(connection, incident.id))
    pauses = docket.read_pauses(connection, incident.id)
    try:
        used = share_used(limit_from, now, value, unit, calendar, pauses)
        while incident.level < policy.level_at(used):
            detail = {"code": "limit_passed", "used": round(used, 3)}
            incident = perform(connection, incident, Action.ESCALATE, SYSTEM, Inputs(detail=detail), now)
        share = _BY_LEVEL.get(incident.level)
        following = due_at(limit_from, value * share, unit, calendar, pauses) if share else None
    except CalendarMissing:
        following = now + timedelta(days=1)
    connection.execute("UPDATE incident SET escalate_at = %s WHERE id = %s", (following, incident.id))


def _judge(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Below the threshold an operator decides; else the check of the category goes on as it would."""
    try:
        with connection.transaction():
            judged = photograph.judge_handling(connection, incident, settings.evidence_dir, now)
    except psycopg.OperationalError:
        raise
    except Exception:  # a picture that no decoder likes must not hold the incident for ever
        log.exception("photograph not judged", extra={"incident_id": incident.id})
        judged = photograph.keep_unreadable(connection, incident, now)
    if judged is None:
        return
    evidence_id, shown = judged
    if shown.is_enough:
        return
    reasons = [{"code": "proof_doubted", "score": shown.score}, *proof.quote(shown.doubts)]
    version = incident.version + 1
    store.log_event(
        connection, incident, action=Happening.PROOF_JUDGED, from_state=incident.state, to_state=incident.state,
        actor=SYSTEM, version=version, now=now,
        detail={"evidence_id": str(evidence_id), "score": shown.score, "doubts": proof.quote(shown.doubts)},
    )  # fmt: skip
    proposal = {"action": "check", "reasons": reasons}
    store.write_incident(connection, incident.id, version, {"needs_operator": OperatorNeed.CHECK, "proposal": proposal})
    store.note_incident(connection, incident, (), now)
