"""The JSON of incidents, categories and candidates as models: for the OpenAPI schema and the types of the front ends.

Answers are built in dispatch/view.py; a test holds the two together.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dispatch.model import Need
from kernel.types import CheckKind, IncidentState, Light, LimitUnit, Source, Verdict

Instant = Annotated[str, Field(description="ISO 8601, UTC", examples=["2026-11-20T08:00:00.000Z"])]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PersonOut(_Body):
    id: str
    name: str


class CategoryOut(_Body):
    id: str
    zh: str
    en: str
    code: str
    standard: str
    named_person: bool
    check_kinds: list[CheckKind]


class AreaNames(_Body):
    street: str
    community: str
    grid: str


class ProposalOut(_Body):
    """What the system proposes next, and why; each reason has a `code` and what belongs to it."""

    action: str
    user_id: str | None = None
    user_name: str | None = None
    reasons: list[dict[str, Any]]


class LimitOut(_Body):
    """The limit of an incident, extensions included, and the rule that gave it."""

    value: float
    unit: LimitUnit
    rule: str
    condition: str


class IncidentOut(_Body):
    """An incident in a list."""

    id: str
    map_id: int
    number: str
    version: int
    state: IncidentState
    category: CategoryOut
    severity: int
    lon: float
    lat: float
    cell_code: str
    area_code: str
    place: str
    area: AreaNames
    opened_at: Instant
    filed_at: Instant | None
    handled_at: Instant | None
    ended_at: Instant | None
    limit_from: Instant | None
    due_at: Instant | None
    amber_at: Instant | None = Field(description="when 80 % of the counted time is used up")
    limit: LimitOut | None
    breach_risk: float | None = Field(description="0 to 1; null while too few such incidents are known")
    acknowledged_at: Instant | None
    light: Light | None
    report_count: int
    assignee: PersonOut | None
    handler: PersonOut | None
    offered_at: Instant | None
    needs_operator: str | None
    proposal: ProposalOut | None
    cover: str | None
    suspended_at: Instant | None = Field(description="the limit's clock stands since then")
    suspended_until: Instant | None
    supervision: int = Field(ge=0, le=3, description="0: none")
    level: int = Field(ge=1, le=4, description="L1 grid, L2 community, L3 street, L4 district")
    appeal: Literal["asked", "accepted", "rejected"] | None = Field(description="accepted: exempt from the statistics")
    extension_asked: bool
    extensions: int
    verifier: PersonOut | None = Field(description="who is asked to verify it before filing")
    parent_id: str | None
    merged_into: str | None
    split_from: str | None


class DeviceName(_Body):
    id: str
    code: str
    name: str
    kind: str


class ReportOut(_Body):
    id: str
    incident_id: str = Field(description="of a merged incident when the report stays with its story")
    source: Source
    device: DeviceName | None
    rule: str
    zone: str
    occurred_at: Instant
    received_at: Instant
    evidence_ids: list[str]
    detail: dict[str, Any]
    reporter: PersonOut | None


class EventOut(_Body):
    at: Instant
    action: str
    from_state: IncidentState | None
    to_state: IncidentState
    actor: str
    reason: str
    detail: dict[str, Any]


class AssignmentOut(_Body):
    user: PersonOut
    reason: dict[str, Any]
    offered_at: Instant
    answered_at: Instant | None
    outcome: str | None


class CheckOut(_Body):
    id: str
    kind: CheckKind
    device: DeviceName | None
    requested_at: Instant
    answered_at: Instant | None
    verdict: Verdict | None
    evidence_id: str | None
    detail: str


class EvidenceOut(_Body):
    id: str
    kind: str
    taken_at: Instant
    width: int
    height: int
    lon: float | None
    lat: float | None
    mime: str
    sha256: str = Field(description="of the file that is shown, hexadecimal")
    masked: bool = Field(description="heads and plates are covered, as far as the detector saw them")
    gone: bool = Field(description="its file was deleted by rule; what is known of it stays")


class VerificationOut(_Body):
    user: PersonOut
    asked_at: Instant
    answer_by: Instant
    ended_at: Instant | None
    found: bool | None
    evidence_id: str | None
    note: str


class SuspensionOut(_Body):
    from_at: Instant
    until_at: Instant
    ended_at: Instant | None
    reason: str


class AppealOut(_Body):
    asked_by: str | None
    asked_at: Instant
    reason: str
    state: Literal["asked", "accepted", "rejected"]
    decided_by: str | None
    decided_at: Instant | None
    answer: str


class ExtensionOut(_Body):
    asked_by: str | None
    asked_at: Instant
    reason: str
    state: Literal["asked", "granted", "refused", "lapsed"]
    value: float | None = Field(description="granted, in the limit's unit")
    decided_by: str | None
    decided_at: Instant | None
    answer: str


class SummonsOut(_Body):
    user: PersonOut
    summoned_at: Instant
    check_in_by: Instant
    reason: str
    checked_in_at: Instant | None
    distance_m: float | None
    late: bool
    score: int | None
    remark: str


class ProofOut(_Body):
    """How far the photograph of a handling is to be believed; each doubt has a `code` and a `weight`."""

    evidence_id: str
    score: float
    doubts: list[dict[str, Any]]
    judged_at: Instant


class KinOut(_Body):
    kinship: Literal["parent", "child", "merged_into", "merged", "split_from", "split"]
    id: str
    number: str
    state: IncidentState
    category: str
    place: str


class SimilarOut(_Body):
    """An incident that may be the same: of the same category, near, and not long before or after."""

    id: str
    number: str
    state: IncidentState
    category: str
    place: str
    distance_m: float
    opened_at: Instant
    ended_at: Instant | None
    report_count: int
    cover: str | None


class ActionOut(_Body):
    """An action that the reader may do now, and what it needs."""

    name: str
    needs: list[Need]


class IncidentDetail(IncidentOut):
    """An incident in full."""

    reports: list[ReportOut]
    events: list[EventOut]
    assignments: list[AssignmentOut]
    checks: list[CheckOut]
    verifications: list[VerificationOut]
    suspensions: list[SuspensionOut]
    extension_requests: list[ExtensionOut]
    appeals: list[AppealOut]
    summons: list[SummonsOut]
    proofs: list[ProofOut]
    kin: list[KinOut]
    evidence: list[EvidenceOut]
    actions: list[ActionOut]


class IncidentPage(_Body):
    items: list[IncidentOut]
    next: str | None = Field(description="cursor of the next page; null at the end")


class CandidateOut(_Body):
    user: PersonOut
    distance_m: float | None
    open_tasks: int
    on_duty: bool
    position_age_s: float | None
    chosen: bool
    reasons: list[str]


class CategoryFull(CategoryOut):
    older_standard: str | None
    older_code: str | None
    severity: int
    limit_value: float
    limit_unit: LimitUnit
    limit_source: str
    auto_file: bool
    auto_dispatch: bool
    dedup: Literal["cell", "device"]


class ActionIn(_Body):
    """What comes with an action; which of it is needed says `actions` of the incident."""

    reason: str = Field(default="", max_length=1000)
    note: str = Field(default="", max_length=2000)
    evidence_id: UUID | None = None
    lon: float | None = Field(default=None, ge=-180, le=180)
    lat: float | None = Field(default=None, ge=-90, le=90)
    accuracy_m: float | None = Field(default=None, ge=0)
    crs: str = Field(default="EPSG:4490", max_length=20)
    user_id: UUID | None = None
    verdict: Verdict | None = None
    reason_code: str = Field(default="", max_length=40, description="one of the action's, see GET /reason-codes")
    found: bool | None = Field(default=None, description="of a verification: it is as reported")
    until: AwareDatetime | None = Field(default=None, description="of a suspension or a summons")
    user_ids: list[UUID] = Field(default_factory=list, max_length=20, description="who is summoned")
    score: int | None = Field(default=None, ge=1, le=5)
    incident_id: UUID | None = Field(default=None, description="the other incident: parent, or the one to merge into")
    report_ids: list[UUID] = Field(default_factory=list, max_length=500, description="which reports are split off")
    value: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="of an extension; null: the whole limit"
    )
    condition: str = Field(
        default="", max_length=64, pattern=r"^[^\x00]*$", description="of a filing: see GET /limits; empty: none"
    )


class ReportIn(_Body):
    """Something wrong, said by a person or another system. `source_key` makes a repeat harmless."""

    category: str = Field(max_length=64)
    lon: float = Field(allow_inf_nan=False)
    lat: float = Field(allow_inf_nan=False)
    crs: str = Field(default="EPSG:4490", max_length=20)
    note: str = Field(default="", max_length=2000)
    place: str = Field(default="", max_length=200)
    evidence_ids: list[UUID] = Field(default_factory=list, max_length=20)
    source: Source | None = None
    source_key: str | None = Field(default=None, min_length=1, max_length=200)


class ReportAnswer(_Body):
    id: str
    incident_id: str | None = Field(description="null until dispatch has taken it")
