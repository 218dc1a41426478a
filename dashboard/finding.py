"""Routes of findings: what cameras found, operators' judgements of it, and how right each camera was week by week."""

import base64
import binascii
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.errors import Problem
from dashboard.session import User
from kernel.audit import write_audit
from kernel.clock import to_local
from kernel.db import Connection
from kernel.types import Role
from vision.evaluation.interval import wilson

router = APIRouter(tags=["findings"])
Judge = Annotated[User, Depends(require(Role.OPERATOR, Role.ADMIN))]
Watcher = Annotated[User, Depends(require(Role.OPERATOR, Role.ENGINEER, Role.ADMIN))]
_MAX_WEEKS = 104


class Why(StrEnum):
    """Why a finding is right or wrong; stable codes."""

    AS_REPORTED = "as_reported"  # right
    NOTHING_THERE = "nothing_there"  # a shadow, a reflection, rain
    WRONG_OBJECT = "wrong_object"  # something is there, but not that
    ALLOWED_THERE = "allowed_there"  # it may stand there: loading, on duty, another rule
    MOVING = "moving"  # a queue, a jam, on its way
    ALREADY_KNOWN = "already_known"  # the same again
    BAD_PICTURE = "bad_picture"  # it cannot be told
    OTHER = "other"


class JudgementIn(BaseModel):
    """An operator's word on a finding."""

    model_config = ConfigDict(extra="forbid")

    right: bool
    why: Why = Why.AS_REPORTED
    note: str = Field(default="", max_length=1000, pattern=r"^[^\x00]*$")

    @model_validator(mode="after")
    def _check_why(self) -> "JudgementIn":
        if self.right != (self.why is Why.AS_REPORTED):
            raise ValueError("what is right is as_reported, and what is wrong has another reason")
        return self


class JudgementOut(BaseModel):
    """The newest judgement of a finding."""

    right: bool
    why: Why
    note: str
    by: str
    at: datetime


class CameraName(BaseModel):
    """A camera as it is named in lists."""

    id: UUID
    code: str
    name: str


class FindingOut(BaseModel):
    """Something that a camera found."""

    report_id: UUID
    incident_id: UUID | None
    camera: CameraName
    rule: str
    zone: str
    category: str
    occurred_at: datetime
    cover: UUID | None
    judgement: JudgementOut | None


class FindingPage(BaseModel):
    """Findings, the newest first."""

    items: list[FindingOut]
    next: str | None


class PrecisionRow(BaseModel):
    """How often one camera was right in one week, of what was judged; with the 95 % interval of Wilson (1927)."""

    camera: CameraName
    week: date = Field(description="Monday, in the city's time")
    found: int
    right: int
    wrong: int
    precision: float | None
    low: float | None
    high: float | None


class PrecisionTotal(BaseModel):
    """The same over all rows."""

    found: int
    right: int
    wrong: int
    precision: float | None
    low: float | None
    high: float | None


class Precision(BaseModel):
    """Precision by camera and week; what nobody judged counts as found only."""

    rows: list[PrecisionRow]
    total: PrecisionTotal


_FINDINGS = """
    SELECT r.id, r.incident_id, r.device_id, d.code, d.name, r.rule, r.zone, r.category, r.occurred_at,
           coalesce((r.detail #>> '{evidence,latest}')::uuid, r.evidence_ids[1]) AS cover,
           j.is_right, j.why, j.note, j.judge, j.judged_at
    FROM report r JOIN device d ON d.id = r.device_id LEFT JOIN finding_judgement j ON j.report_id = r.id
    WHERE r.source = 'camera' AND r.rule <> ''
"""


@router.get("/findings")
def list_findings(
    user: Watcher,
    web: CurrentWeb,
    camera: UUID | None = None,
    judged: bool | None = None,
    cursor: Annotated[str | None, Query(max_length=60)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> FindingPage:
    """What the cameras of my scope found; with `judged` only what was judged already, or what was not."""
    before = None if cursor is None else _read_cursor(cursor)
    with web.transaction(user) as connection, connection.cursor(row_factory=dict_row) as rows:
        found = rows.execute(
            _FINDINGS
            + """
            AND (%(camera)s::uuid IS NULL OR r.device_id = %(camera)s)
            AND (%(judged)s::boolean IS NULL OR (j.report_id IS NOT NULL) = %(judged)s)
            AND (%(before)s::uuid IS NULL OR r.id < %(before)s)
            ORDER BY r.id DESC LIMIT %(limit)s
            """,
            {"camera": camera, "judged": judged, "before": before, "limit": limit + 1},
        ).fetchall()
    page = [_show(row) for row in found[:limit]]
    more = len(found) > limit
    return FindingPage(items=page, next=_write_cursor(page[-1].report_id) if more else None)


@router.get("/findings/precision")
def show_precision(user: Watcher, web: CurrentWeb, weeks: Annotated[int, Query(ge=1, le=_MAX_WEEKS)] = 8) -> Precision:
    """How right each camera was, by the weeks of the city's time, this one included."""
    zone = web.settings.city.timezone
    today = to_local(web.now(), zone).date()
    monday = today - timedelta(days=today.weekday() + 7 * (weeks - 1))
    with web.transaction(user) as connection:
        rows = connection.execute(
            """
            SELECT r.device_id, d.code, d.name, date_trunc('week', r.occurred_at AT TIME ZONE %(zone)s)::date AS week,
                   count(*), count(*) FILTER (WHERE j.is_right), count(*) FILTER (WHERE NOT j.is_right)
            FROM report r JOIN device d ON d.id = r.device_id LEFT JOIN finding_judgement j ON j.report_id = r.id
            WHERE r.source = 'camera' AND r.rule <> '' AND r.occurred_at >= (%(monday)s::date)::timestamp AT TIME ZONE %(zone)s
            GROUP BY 1, 2, 3, 4 ORDER BY week DESC, d.code
            """,
            {"zone": zone, "monday": monday},
        ).fetchall()
    shown = [
        PrecisionRow(
            camera=CameraName(id=device_id, code=code, name=name),
            week=week,
            **_rate(found, right, wrong),
        )
        for device_id, code, name, week, found, right, wrong in rows
    ]
    total = _rate(*(sum(getattr(row, name) for row in shown) for name in ("found", "right", "wrong")))
    return Precision(rows=shown, total=PrecisionTotal(**total))


@router.get("/findings/{report_id}")
def show_finding(report_id: UUID, user: CurrentUser, web: CurrentWeb) -> FindingOut:
    """One finding of my scope."""
    with web.transaction(user) as connection:
        return _read(connection, report_id)


@router.put("/findings/{report_id}/judgement")
def judge_finding(report_id: UUID, body: JudgementIn, user: Judge, web: CurrentWeb) -> JudgementOut:
    """Say whether a finding is right; a later word takes the place of an earlier one, and both are in the audit."""
    now = web.now()
    with web.transaction(user) as connection:
        finding = _read(connection, report_id)
        connection.execute(
            """
            INSERT INTO finding_judgement (report_id, is_right, why, note, judged_by, judge, judged_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (report_id) DO UPDATE SET is_right = excluded.is_right, why = excluded.why,
                note = excluded.note, judged_by = excluded.judged_by, judge = excluded.judge,
                judged_at = excluded.judged_at
            """,
            (report_id, body.right, body.why, body.note.strip(), user.id, user.display_name, now),
        )
        write_audit(
            connection,
            now,
            actor=user.name,
            action="finding_judged",
            subject=str(report_id),
            detail={
                "right": body.right,
                "why": body.why.value,
                "camera": finding.camera.code,
                "before": finding.judgement.model_dump(mode="json") if finding.judgement else None,
            },
        )
    return JudgementOut(right=body.right, why=body.why, note=body.note.strip(), by=user.display_name, at=now)


def _read(connection: Connection, report_id: UUID) -> FindingOut:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_FINDINGS + " AND r.id = %s", (report_id,)).fetchone()
    if row is None:
        raise Problem(404, "unknown_finding", "There is no such finding in your scope")
    return _show(row)


def _show(row: dict[str, Any]) -> FindingOut:
    judgement = None
    if row["judged_at"] is not None:
        judgement = JudgementOut(
            right=row["is_right"], why=Why(row["why"]), note=row["note"], by=row["judge"], at=row["judged_at"]
        )
    return FindingOut(
        report_id=row["id"],
        incident_id=row["incident_id"],
        camera=CameraName(id=row["device_id"], code=row["code"], name=row["name"]),
        rule=row["rule"],
        zone=row["zone"],
        category=row["category"],
        occurred_at=row["occurred_at"],
        cover=row["cover"],
        judgement=judgement,
    )


def _rate(found: int, right: int, wrong: int) -> dict[str, Any]:
    judged = right + wrong
    low, high = wilson(right, judged) if judged else (None, None)
    return {
        "found": found,
        "right": right,
        "wrong": wrong,
        "precision": right / judged if judged else None,
        "low": low,
        "high": high,
    }


def _write_cursor(report_id: UUID) -> str:
    return base64.urlsafe_b64encode(report_id.bytes).decode().rstrip("=")


def _read_cursor(text: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        raise Problem(422, "bad_cursor", "This is no cursor of ours") from None
