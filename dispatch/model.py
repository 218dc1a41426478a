"""Nouns of dispatch: who acts, what they bring, the rows they act on, and how they are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from kernel.types import IncidentState, LimitUnit, Role, Source, Verdict

JsonObject = dict[str, Any]
IncidentView = JsonObject  # the one JSON shape of an incident (docs/architecture.md, dispatch.schema)


class Action(StrEnum):
    """What can be done to an incident; transition.TRANSITIONS says when, by whom and with what."""

    ASK_VERIFICATION = "ask_verification"  # somebody is asked to look before filing
    VERIFY = "verify"  # 核实
    FILE = "file"  # 立案
    VOID = "void"  # 作废
    DISPATCH = "dispatch"  # 派遣
    ACCEPT = "accept"  # 接单
    REFUSE = "refuse"  # 拒单
    EXPIRE = "expire"  # nobody answered the offer in time
    ARRIVE = "arrive"  # 到场
    HANDLE = "handle"  # 处置完成
    CHECK = "check"  # 核查 by a person
    CLOSE = "close"  # 结案 after a camera's or sensor's clear check
    REWORK = "rework"  # 返工
    SEND_BACK = "send_back"  # 回退
    ACKNOWLEDGE = "acknowledge"  # seen by an operator
    REOPEN = "reopen"  # it came back, or was never put right, soon after the closure
    ASK_EXTENSION = "ask_extension"  # 延期
    GRANT_EXTENSION = "grant_extension"
    REFUSE_EXTENSION = "refuse_extension"
    SUSPEND = "suspend"  # 挂账: the limit's clock stands
    RESUME = "resume"
    SUPERVISE = "supervise"  # 督办
    ESCALATE = "escalate"  # 升级: L1 grid, L2 community, L3 street, L4 district
    APPEAL = "appeal"  # 申诉
    ACCEPT_APPEAL = "accept_appeal"
    REJECT_APPEAL = "reject_appeal"
    SUMMON = "summon"  # 吹哨
    CHECK_IN = "check_in"  # 报到
    RATE = "rate"  # of a summoned department
    ATTACH = "attach"  # becomes a child of another incident
    DETACH = "detach"
    MERGE = "merge"  # it is the same as another one, and ends in it
    SPLIT = "split"  # some of its reports are another incident


class Happening(StrEnum):
    """Entries of the log that are no action of anybody: they change no state."""

    OPEN = "open"  # the first report made the incident
    REPORT_ADDED = "report_added"  # one more report of the same cause
    FINDING_GREW = "finding_grew"  # what a camera found is larger or worse than it was
    FINDING_BACK = "finding_back"  # it had been gone for a while
    FINDING_CLEARED = "finding_cleared"  # a camera sees no more of what it found; that closes nothing
    CHECK_REQUESTED = "check_requested"  # a camera or sensor is asked to look again
    OPERATOR_NEEDED = "operator_needed"  # the system cannot go on by itself
    LIMIT_CHANGED = "limit_changed"  # a limit, the calendar or an emergency changed: counted anew (dispatch.relimit)
    NOTICE = "notice"  # somebody of the home, a neighbour or a grid worker was told, or answered (dispatch.escalation)
    MERGED_IN = "merged_in"  # another incident was the same as this one
    CHILD_ATTACHED = "child_attached"
    CHILD_DETACHED = "child_detached"
    UNIT_ASKED = "unit_asked"  # a handling unit is asked to take it (dispatch.unit)
    UNIT_ACCEPTED = "unit_accepted"
    UNIT_REFUSED = "unit_refused"
    UNIT_FEEDBACK = "unit_feedback"  # what the unit says about it
    PROOF_JUDGED = "proof_judged"  # how far the photograph of the handling is to be believed


class Who(StrEnum):
    """In what capacity somebody acts."""

    OPERATOR = "operator"
    ASSIGNEE = "assignee"  # the person to whom the incident is offered or assigned
    VERIFIER = "verifier"  # who is asked to verify it before filing
    HANDLER = "handler"  # who handled it, now or earlier
    REPORTER = "reporter"  # who reported it
    SUMMONED = "summoned"  # of a department that was summoned to it
    SYSTEM = "system"


class Need(StrEnum):
    """What an action must be given."""

    REASON = "reason"  # words, or one of the action's reason codes (transition.REASON_CODES)
    PHOTO = "photo"  # evidence_id of a photograph by the actor
    POSITION = "position"
    USER = "user"  # user_id: who shall go, or who is meant
    VERDICT = "verdict"
    FOUND = "found"  # whether it is as reported
    UNTIL = "until"  # an instant to come
    USERS = "users"  # user_ids: who is summoned
    SCORE = "score"  # 1 to 5
    INCIDENT = "incident"  # incident_id: the other incident
    REPORTS = "reports"  # report_ids of this incident


class Outcome(StrEnum):
    """How an offer of an incident to a person ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    REASSIGNED = "reassigned"  # somebody else was sent, or the incident ended, before or after the answer
    SENT_BACK = "sent_back"  # accepted, and given back
    REWORK = "rework"  # accepted and handled, and the check found it not clear


class OperatorNeed(StrEnum):
    """Why a person at the wall must decide (incident.needs_operator)."""

    VERIFY = "verify"  # a public report, to be verified before filing
    SENT_BACK = "sent_back"  # an operator took the filing back
    DISPATCH = "dispatch"  # this category is dispatched by hand, or an operator took the task back
    NOBODY_AVAILABLE = "nobody_available"  # nobody on duty who was not asked yet; tried again by itself
    NOBODY_ACCEPTED = "nobody_accepted"  # as many were asked as may be
    CHECK = "check"  # a person must check the closure
    NO_CALENDAR = "no_calendar"  # the time limit counts work days of a year whose calendar is missing
    VERIFIED_FALSE = "verified_false"  # whoever looked found nothing of the sort
    EXTENSION = "extension"  # more time is asked for
    APPEAL = "appeal"  # somebody appeals
    UNIT_REFUSED = "unit_refused"  # the handling unit that was asked does not take it


class PushKind(StrEnum):
    """What a phone is told."""

    OFFERED = "offered"
    REWORK = "rework"
    WITHDRAWN = "withdrawn"  # somebody else does it, or it is void
    NOTICE = "notice"  # no task: nobody of the home answers, look after them
    VERIFY = "verify"  # look whether it is as reported
    SUPERVISED = "supervised"  # it is watched from above
    SUMMONED = "summoned"  # your department must check in there
    UNIT_ASKED = "unit_asked"  # your unit is asked to handle it
    DECIDED = "decided"  # your request for more time, or your appeal, was decided


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts: a person with roles and a scope ('*' or division-code prefixes), or without an id part of the system."""

    user_id: UUID | None
    name: str
    roles: frozenset[Role] = frozenset()
    scope: str = "*"

    @property
    def is_system(self) -> bool:
        return self.user_id is None

    def sees(self, area_code: str) -> bool:
        """Whether the area lies in this actor's scope; as gw_in_scope decides in the database."""
        return self.scope == "*" or any(p and area_code.startswith(p) for p in self.scope.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody who may be sent."""

    actor: Actor
    on_duty: bool

    @property
    def can_go(self) -> bool:
        """Grid workers and handling departments are sent; operators are not."""
        return bool(self.actor.roles & {Role.GRID_WORKER, Role.HANDLING_DEPT})


SYSTEM = Actor(user_id=None, name="dispatch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What came with an action. Positions are CGCS2000 degrees."""

    reason: str = ""
    note: str = ""
    evidence_id: UUID | None = None
    lon: float | None = None
    lat: float | None = None
    accuracy_m: float | None = None
    user_id: UUID | None = None
    verdict: Verdict | None = None
    reason_code: str = ""
    found: bool | None = None
    until: datetime | None = None
    user_ids: tuple[UUID, ...] = ()
    score: int | None = None
    incident_id: UUID | None = None
    report_ids: tuple[UUID, ...] = ()
    value: float | None = None  # of an extension, in the limit's unit; None: the whole original limit
    condition: str = ""  # of a filing (立案条件): its limit may depend on it; "" leaves what is there
    detail: Mapping[str, Any] = field(default_factory=dict)  # only from the system: goes into the log


_STATUS = {
    "unknown_incident": 404,
    "unknown_category": 422,
    "unknown_evidence": 422,
    "unknown_user": 422,
    "unknown_crs": 422,
    "bad_position": 422,
    "bad_cursor": 422,
    "outside_district": 422,
    "user_off_duty": 422,
    "user_out_of_scope": 422,
    "reason_required": 422,
    "photo_required": 422,
    "photo_used": 422,
    "position_required": 422,
    "user_required": 422,
    "verdict_required": 422,
    "not_your_role": 403,
    "not_your_task": 403,
    "source_not_allowed": 403,
    "handler_may_not_check": 403,
    "named_person_required": 403,
    "version_conflict": 412,
    "not_allowed_in_state": 409,
    "no_calendar": 409,
    "bad_limit": 422,
    "bad_calendar": 422,
    "bad_period": 422,
    "unknown_limit": 404,
    "emergency_running": 409,
    "no_emergency": 409,
    "bad_reason_code": 422,
    "found_required": 422,
    "until_required": 422,
    "bad_until": 422,
    "users_required": 422,
    "score_required": 422,
    "incident_required": 422,
    "reports_required": 422,
    "bad_extension": 422,
    "unknown_report": 422,
    "not_summoned": 422,
    "same_incident": 422,
    "suspended": 409,
    "not_suspended": 409,
    "suspended_before": 409,
    "extension_asked": 409,
    "no_extension_asked": 409,
    "no_more_extensions": 409,
    "appealed_before": 409,
    "no_appeal": 409,
    "highest_level": 409,
    "has_parent": 409,
    "no_parent": 409,
    "has_children": 409,
    "open_children": 409,
    "other_ended": 409,
    "other_open": 409,
    "reopen_window_over": 409,
    "reporter_may_not_check": 403,
    "last_report": 409,
    "unknown_unit": 422,
    "unit_out_of_area": 422,
    "not_your_unit": 403,
    "unit_not_asked": 409,
}


class ActionRefused(Exception):
    """The action is not allowed as asked; nothing was changed. `code` is stable, `params` fill a translated sentence."""

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code if not params else f"{code} {params}")
        self.code = code
        self.params = params
        self.status = _STATUS[code]


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """A row of `incident` with what its category says, locked by whoever holds it. Immutable: writing gives a new one."""

    id: UUID
    number: str
    category: str
    severity: int
    state: IncidentState
    cell_code: str
    area_code: str
    place: str
    lon: float
    lat: float
    opened_at: datetime
    filed_at: datetime | None
    handled_at: datetime | None
    ended_at: datetime | None
    due_at: datetime | None
    assignee_id: UUID | None
    offered_at: datetime | None
    handler_id: UUID | None
    needs_operator: str | None
    acknowledged_at: datetime | None
    version: int
    dedup_key: str
    limit_from: datetime | None
    verifier_id: UUID | None
    suspended_at: datetime | None
    suspended_until: datetime | None
    suspensions: int
    extension_asked: bool
    extensions: int
    supervision: int
    level: int
    appeal: str | None
    parent_id: UUID | None
    merged_into: UUID | None
    has_children: bool
    has_open_children: bool
    counted_value: float | None  # its limit as it is counted, extensions included
    counted_unit: LimitUnit | None
    # of the category
    auto_dispatch: bool
    named_person: bool
    check_kinds: list[str]
    limit_value: float
    limit_unit: LimitUnit
    name_zh: str
    name_en: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingReport:
    """A report that dispatch has not looked at, with what its category and device say."""

    id: UUID
    source: Source
    source_key: str
    category: str
    device_id: UUID | None
    rule: str
    zone: str
    lon: float
    lat: float
    severity: int
    detail: JsonObject
    evidence_ids: list[UUID]
    reporter_id: UUID | None
    occurred_at: datetime
    received_at: datetime
    auto_file: bool
    dedup: str
    device_code: str | None
    device_name: str | None
    reporter_name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportUpdate:
    """What became of a report that has its incident. `kind`: grew, latest, cleared, back, clip."""

    id: UUID
    report_id: UUID
    incident_id: UUID
    kind: str
    at: datetime
    severity: int | None
    evidence_id: UUID | None
    detail: JsonObject
    source: Source
    device_name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRequest:
    """A request to a camera or sensor to look again, and its answer."""

    id: UUID
    incident_id: UUID
    kind: str
    device_id: UUID
    device_name: str
    rule: str
    zone: str
    requested_at: datetime
    expires_at: datetime
    answered_at: datetime | None
    verdict: Verdict | None
    evidence_id: UUID | None
    detail: str
