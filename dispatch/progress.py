"""What goes on by itself: offers run out, incidents are offered, closures are checked, answers are acted on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from dispatch import policy, roster, store
from dispatch.action import call_operator, perform
from dispatch.model import SYSTEM, Action, Actor, CheckRequest, Considered, Happening, Incident, Inputs, JsonObject
from dispatch.model import OperatorNeed as Need
from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import CheckKind, Verdict

log = logging.getLogger(__name__)
_SHOWN = 10  # of the others considered, in the reason that is kept
_Task = Callable[[Connection, Incident, datetime, Settings], None]


def advance(connection: Connection, now: datetime, settings: Settings, limit: int = 100) -> int:
    """One round in this transaction, of up to `limit` incidents of each sort; how many were touched.

    An incident that another worker or a person holds at this moment is left for the next round; one that fails is
    logged and stops no other.
    """
    offered_before = now - timedelta(seconds=settings.dispatch.accept_timeout_s)
    rounds: tuple[tuple[str, Mapping[str, Any], _Task], ...] = (
        (store.OFFERS_RUN_OUT, {"offered_before": offered_before}, _expire),
        (store.WAITS_FOR_SOMEBODY, {}, _offer),
        (store.CHECK_CAN_BE_DECIDED, {"now": now}, _decide_check),
        (store.WAITS_FOR_CHECK, {}, _request_check),
    )
    touched = 0
    for where, parameters, task in rounds:
        for incident in store.lock_due_incidents(connection, where, parameters, limit):
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


# ------------------------------------------------------------------------------------------------ assignment


def consider(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> list[Considered]:
    """Everybody who might go to this incident, the best first, with the reasons."""
    return policy.choose(
        roster.read_candidates(connection, incident, now),
        grid_code=roster.read_responsibility_grid(connection, incident.cell_code),
        lon=incident.lon,
        lat=incident.lat,
        position_max_age_s=settings.dispatch.position_max_age_s,
    )


def _expire(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    perform(connection, incident, Action.EXPIRE, SYSTEM, Inputs(), now)


def _offer(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Offer it to the best person, or say that there is none."""
    considered = consider(connection, incident, now, settings)
    refusals = roster.count_refusals(connection, incident.id)
    if refusals >= settings.dispatch.max_offers:
        proposal = _propose(considered, {"code": "nobody_accepted", "offers": refusals})
        call_operator(connection, incident, Need.NOBODY_ACCEPTED, proposal, now, SYSTEM)
    elif considered and considered[0].chosen:
        best = considered[0].candidate
        inputs = Inputs(user_id=best.user_id, detail=explain(considered))
        perform(connection, incident, Action.DISPATCH, SYSTEM, inputs, now)
    elif incident.needs_operator is None:
        proposal = _propose(considered, {"code": "nobody_available"})
        call_operator(connection, incident, Need.NOBODY_AVAILABLE, proposal, now, SYSTEM)


def explain(considered: Sequence[Considered]) -> JsonObject:
    """Why this person, and why not the others, as kept with the assignment and shown."""
    return {
        "reasons": _reasons(considered[0]) if considered else [],
        "others": [
            {
                "user_id": str(other.candidate.user_id),
                "name": other.candidate.name,
                "codes": list(other.codes),
                "distance_m": _rounded(other.distance_m),
                "open_tasks": other.candidate.open_tasks,
            }
            for other in considered[1 : _SHOWN + 1]
        ],
    }


def _reasons(one: Considered) -> list[JsonObject]:
    reasons: list[JsonObject] = [{"code": code} for code in one.codes]
    if one.distance_m is not None:
        reasons.append({"code": "distance", "distance_m": _rounded(one.distance_m)})
    reasons.append({"code": "open_tasks", "count": one.candidate.open_tasks})
    return reasons


def _rounded(distance_m: float | None) -> float | None:
    return None if distance_m is None else round(distance_m, 1)


def _propose(considered: Sequence[Considered], why: JsonObject) -> JsonObject:
    """Send the first one on duty, though perhaps asked before; nobody in particular when nobody is on duty."""
    proposal: JsonObject = {"action": "dispatch", "reasons": [why]}
    first = next((one for one in considered if one.candidate.on_duty), None)
    if first is not None:
        proposal |= {"user_id": str(first.candidate.user_id), "user_name": first.candidate.name}
        proposal["reasons"] += _reasons(first)
    return proposal


# ------------------------------------------------------------------------------------------------ closure checks


def _request_check(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Ask the first of the category's checkers that can look: cameras or sensors that reported it, else a person."""
    for kind in policy.check_kinds(incident.check_kinds, incident.named_person):
        targets = [] if kind is CheckKind.PERSON else store.read_check_targets(connection, incident.id, kind)
        if not targets:
            continue
        timeout = timedelta(seconds=settings.dispatch.check_timeout_s)
        for target in targets:
            store.insert_check_request(connection, incident.id, kind, target, now, timeout)
        version = incident.version + 1
        store.write_incident(connection, incident.id, version, {})
        store.log_event(
            connection, incident, action=Happening.CHECK_REQUESTED, from_state=incident.state, to_state=incident.state,
            actor=SYSTEM, version=version, now=now, detail={"kind": kind, "device_ids": [str(t[0]) for t in targets]},
        )  # fmt: skip
        store.note_incident(connection, incident, (), now)
        return
    code = "named_person" if incident.named_person else "person_checks"
    _leave_check(connection, incident, {"code": code}, now)


def _leave_check(connection: Connection, incident: Incident, reason: JsonObject, now: datetime) -> None:
    proposal = {"action": "check", "reasons": [reason]}
    call_operator(connection, incident, Need.CHECK, proposal, now, SYSTEM)


def _decide_check(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Act on the answers: not clear for one is not clear; clear only when all are; all else is left to a person."""
    requests = store.read_open_checks(connection, incident.id)
    not_clear = next((r for r in requests if r.verdict == Verdict.NOT_CLEAR), None)
    doubtful = next((r for r in requests if r.verdict == Verdict.INCONCLUSIVE), None)
    late = next((r for r in requests if r.answered_at is None and r.expires_at <= now), None)
    if not_clear is not None:
        inputs = Inputs(reason="check_not_clear", detail=_quote(not_clear))
        perform(connection, incident, Action.REWORK, _checker(not_clear), inputs, now)
    elif doubtful is not None or late is not None:
        code, request = ("check_inconclusive", doubtful) if doubtful else ("check_unanswered", late)
        store.settle_checks(connection, incident.id, "no answer in time", now)
        _leave_check(connection, incident, {"code": code, **(_quote(request) if request else {})}, now)
    elif requests and all(r.verdict == Verdict.CLEAR for r in requests):
        perform(connection, incident, Action.CLOSE, _checker(requests[-1]), Inputs(detail=_quote(requests[-1])), now)


def _checker(request: CheckRequest) -> Actor:
    """Part of the system as it is named in the log: "camera 天水-07"."""
    return Actor(user_id=None, name=f"{request.kind} {request.device_name}")


def _quote(request: CheckRequest) -> JsonObject:
    return {
        "check_id": str(request.id),
        "device_id": str(request.device_id),
        "device": request.device_name,
        "verdict": request.verdict,
        "evidence_id": str(request.evidence_id) if request.evidence_id else None,
        "said": request.detail,
    }
