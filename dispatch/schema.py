"""The JSON of incidents, categories and candidates as models: for the OpenAPI schema and the types of the front ends.

Answers are built in dispatch/view.py; a test holds the two together.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

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
    acknowledged_at: Instant | None
    light: Light | None
    report_count: int
    assignee: PersonOut | None
    handler: PersonOut | None
    offered_at: Instant | None
    needs_operator: str | None
    proposal: ProposalOut | None
    cover: str | None


class DeviceName(_Body):
    id: str
    code: str
    name: str
    kind: str


class ReportOut(_Body):
    id: str
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


class ActionOut(_Body):
    """An action that the reader may do now, and what it needs."""

    name: str
    needs: list[Literal["reason", "photo", "position", "user", "verdict"]]


class IncidentDetail(IncidentOut):
    """An incident in full."""

    reports: list[ReportOut]
    events: list[EventOut]
    assignments: list[AssignmentOut]
    checks: list[CheckOut]
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
