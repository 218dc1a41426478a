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
    """What can be done to an incident; policy.TRANSITIONS says when, by whom and with what."""

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
    REOPEN = "reopen"  # what a camera found came back soon after the closure


class Happening(StrEnum):
    """Entries of the log that are no action of anybody: they change no state."""

    OPEN = "open"  # the first report made the incident
    REPORT_ADDED = "report_added"  # one more report of the same cause
    FINDING_GREW = "finding_grew"  # what a camera found is larger or worse than it was
    FINDING_BACK = "finding_back"  # it had been gone for a while
    FINDING_CLEARED = "finding_cleared"  # a camera sees no more of what it found; that closes nothing
    CHECK_REQUESTED = "check_requested"  # a camera or sensor is asked to look again
    OPERATOR_NEEDED = "operator_needed"  # the system cannot go on by itself
    NOTICE = "notice"  # somebody of the home, a neighbour or a grid worker was told, or answered (dispatch.escalation)


class Who(StrEnum):
    """In what capacity somebody acts."""

    OPERATOR = "operator"
    ASSIGNEE = "assignee"  # the person to whom the incident is offered or assigned
    SYSTEM = "system"


class Need(StrEnum):
    """What an action must be given."""

    REASON = "reason"
    PHOTO = "photo"  # evidence_id of a photograph by the actor
    POSITION = "position"
    USER = "user"  # user_id: who shall go
    VERDICT = "verdict"


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


class PushKind(StrEnum):
    """What a phone is told."""

    OFFERED = "offered"
    REWORK = "rework"
    WITHDRAWN = "withdrawn"  # somebody else does it, or it is void
    NOTICE = "notice"  # no task: nobody of the home answers, look after them


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
class Candidate:
    """A person who might go. `position_age_s` and the position are None when none was ever sent."""

    user_id: UUID
    name: str
    on_duty: bool
    responsibility_grid_code: str | None
    lon: float | None
    lat: float | None
    position_age_s: float | None
    open_tasks: int
    refused_before: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Considered:
    """A candidate as the choice saw them: how far, and the codes why chosen or why not."""

    candidate: Candidate
    distance_m: float | None
    chosen: bool
    codes: tuple[str, ...]


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
