"""What goes on by itself: offers run out, incidents are offered, closures are checked, answers are acted on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from dispatch import policy, roster, store
from dispatch.action import call_operator, perform
from dispatch.assign import Considered, Plan, plan
from dispatch.model import SYSTEM, Action, Actor, CheckRequest, Happening, Incident, Inputs, JsonObject
from dispatch.model import OperatorNeed as Need
from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import CheckKind, Verdict

log = logging.getLogger(__name__)
_UNIT_ANSWERS_IN = timedelta(minutes=30)  # the project's own value
_SHOWN = 10  # of the others considered, in the reason that is kept
_Task = Callable[[Connection, Incident, datetime, Settings], None]
_Offer = Callable[[Connection, Incident, Sequence[Considered], datetime, Settings], None]


def advance(connection: Connection, now: datetime, settings: Settings, limit: int = 100) -> int:
    """One round in this transaction, of up to `limit` incidents of each sort; how many were touched.

    An incident that another worker or a person holds at this moment is left for the next round; one that fails is
    logged and stops no other.
    """
    offered_before = now - timedelta(seconds=settings.dispatch.accept_timeout_s)
    touched = _do_each(
        connection, store.OFFERS_RUN_OUT, {"offered_before": offered_before}, _expire, now, settings, limit
    )
    touched += _assign(connection, now, settings, limit)
    silence = {"unit_asked_before": now - _UNIT_ANSWERS_IN}
    touched += _do_each(connection, store.UNIT_SILENT, silence, _tell_of_silence, now, settings, limit)
    touched += _do_each(connection, store.CHECK_CAN_BE_DECIDED, {"now": now}, _decide_check, now, settings, limit)
    return touched + _do_each(connection, store.WAITS_FOR_CHECK, {}, _request_check, now, settings, limit)


def _do_each(
    connection: Connection,
    where: str,
    parameters: Mapping[str, Any],
    task: _Task,
    now: datetime,
    settings: Settings,
    limit: int,
) -> int:
    incidents = store.lock_due_incidents(connection, where, parameters, limit)
    return sum(_try(connection, one, partial(task, connection, one, now, settings)) for one in incidents)


def _try(connection: Connection, incident: Incident, task: Callable[[], None]) -> bool:
    """Do it, whole or not at all; whether it was done. A failure is logged, but for a database that is gone."""
    try:
        with connection.transaction():
            task()
    except psycopg.OperationalError:
        raise
    except Exception:
        log.exception("incident failed", extra={"incident_id": incident.id})
        return False
    return True


# ------------------------------------------------------------------------------------------------ assignment


def consider(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> list[Considered]:
    """Everybody who might go to this incident, the best first, with the reasons: as if nothing else waited."""
    return _plan(connection, [incident], now, settings, besides=incident.id).explain(0)


def _plan(
    connection: Connection,
    incidents: Sequence[Incident],
    now: datetime,
    settings: Settings,
    *,
    besides: UUID | None = None,
    unit_id: UUID | None = None,
) -> Plan:
    policy = settings.assignment
    return plan(
        roster.read_tasks(connection, incidents),
        roster.read_workers(connection, now, timedelta(seconds=policy.rest_s), besides=besides, unit_id=unit_id),
        policy,
        now,
        position_max_age_s=settings.dispatch.position_max_age_s,
        cover=roster.read_cover(connection),
    )


def _assign(connection: Connection, now: datetime, settings: Settings, limit: int) -> int:
    """Give all that wait to people at once; how many were touched. One transaction at a time does so."""
    if not roster.may_plan(connection):
        return 0
    waiting = store.lock_due_incidents(connection, store.WAITS_FOR_SOMEBODY, {}, limit)
    waiting += store.lock_due_incidents(connection, store.NOBODY_WAS_THERE, {}, limit)
    by_hand = store.lock_due_incidents(connection, store.WAITS_FOR_PROPOSAL, {}, limit)
    touched = _give(
        connection, [*((one, _offer) for one in waiting), *((one, _suggest) for one in by_hand)], now, settings
    )
    of_unit: dict[UUID, list[Incident]] = {}
    crews = store.lock_due_incidents(connection, store.WAITS_FOR_CREW, {}, limit)
    for unit_id, incident in roster.sort_by_unit(connection, crews):
        of_unit.setdefault(unit_id, []).append(incident)
    for unit_id, those in of_unit.items():
        touched += _give(connection, [(one, _offer) for one in those], now, settings, unit_id)
    return touched


def _give(
    connection: Connection,
    those: Sequence[tuple[Incident, _Offer]],
    now: datetime,
    settings: Settings,
    unit_id: UUID | None = None,
) -> int:
    """Plan for all of them together, then offer each; how many came through."""
    if not those:
        return 0
    found = _plan(connection, [incident for incident, _ in those], now, settings, unit_id=unit_id)
    row = {task.id: k for k, task in enumerate(found.tasks)}
    return sum(
        _try(
            connection,
            incident,
            partial(offer, connection, incident, found.explain(row[incident.id], _SHOWN), now, settings),
        )
        for incident, offer in those
    )


def _tell_of_silence(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    proposal: JsonObject = {"action": "dispatch", "reasons": [{"code": "unit_silent"}]}
    call_operator(connection, incident, Need.UNIT_REFUSED, proposal, now, SYSTEM)


def _expire(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    perform(connection, incident, Action.EXPIRE, SYSTEM, Inputs(), now)


def _offer(
    connection: Connection, incident: Incident, considered: Sequence[Considered], now: datetime, settings: Settings
) -> None:
    """Offer it to the one planned, or say that there is none."""
    refusals = roster.count_refusals(connection, incident.id)
    if refusals >= settings.dispatch.max_offers:
        proposal = _propose(considered, {"code": "nobody_accepted", "offers": refusals})
        call_operator(connection, incident, Need.NOBODY_ACCEPTED, proposal, now, SYSTEM)
    elif considered and considered[0].chosen:
        best = considered[0].worker
        inputs = Inputs(user_id=best.user_id, detail=explain(considered))
        perform(connection, incident, Action.DISPATCH, SYSTEM, inputs, now)
    elif incident.needs_operator is None:
        proposal = _propose(considered, {"code": "nobody_available"})
        call_operator(connection, incident, Need.NOBODY_AVAILABLE, proposal, now, SYSTEM)


def _suggest(
    connection: Connection, incident: Incident, considered: Sequence[Considered], now: datetime, settings: Settings
) -> None:
    """Propose the one planned to the operator who sends people to this category by hand."""
    if considered and considered[0].chosen:
        best = considered[0]
        roster.propose(connection, incident, best.worker.user_id, best.worker.name, _reasons(best))
        store.note_incident(connection, incident, (), now)


def explain(considered: Sequence[Considered]) -> JsonObject:
    """Why this person, and why not the others, as kept with the assignment and shown."""
    return {
        "reasons": _reasons(considered[0]) if considered else [],
        "others": [
            {
                "user_id": str(other.worker.user_id),
                "name": other.worker.name,
                "codes": list(other.codes),
                "distance_m": _rounded(other.distance_m),
                "open_tasks": other.worker.open_tasks,
            }
            for other in considered[1:]
        ],
    }


def _reasons(one: Considered) -> list[JsonObject]:
    reasons: list[JsonObject] = [{"code": code} for code in one.codes]
    if one.distance_m is not None:
        reasons.append({"code": "distance", "distance_m": _rounded(one.distance_m)})
    reasons.append({"code": "open_tasks", "count": one.worker.open_tasks})
    return reasons


def _rounded(distance_m: float | None) -> float | None:
    return None if distance_m is None else round(distance_m, 1)


def _propose(considered: Sequence[Considered], why: JsonObject) -> JsonObject:
    """Send the first one on duty, though perhaps asked before; nobody in particular when nobody is on duty."""
    proposal: JsonObject = {"action": "dispatch", "reasons": [why]}
    first = next((one for one in considered if one.worker.on_duty), None)
    if first is not None:
        proposal |= {"user_id": str(first.worker.user_id), "user_name": first.worker.name}
        proposal["reasons"] += _reasons(first)
    return proposal


# ------------------------------------------------------------------------------------------------ closure checks


def _request_check(connection: Connection, incident: Incident, now: datetime, settings: Settings) -> None:
    """Ask the first of the category's checkers that can look: cameras or sensors that reported it, else a person."""
    for kind in policy.check_kinds(incident.check_kinds, incident.named_person):
        targets = (
            []
            if kind in (CheckKind.PERSON, CheckKind.REPORTER)
            else store.read_check_targets(connection, incident.id, kind)
        )
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
