"""Rehearsals of a scene on the last hour's recordings: asked for here, done by the vision role (vision/rehearsal.py)."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field

from dashboard.auth import CurrentWeb
from dashboard.errors import Problem
from dashboard.scene import Engineer, check_scene, find_camera
from kernel.audit import write_audit
from kernel.ids import new_id
from vision.rehearsal import folder_of_pictures

router = APIRouter(tags=["cameras"])
_MOST_OPEN = 3


class RehearsalBody(BaseModel):
    """A scene to be tried on the last `minutes` of recordings."""

    model_config = ConfigDict(extra="forbid")
    scene: dict[str, Any]
    minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 60


class RehearsalCreated(BaseModel):
    """It waits for the vision role."""

    id: UUID


class RehearsedFinding(BaseModel):
    """What the scene would have found. `picture`: the address of its masked picture, null beyond the first sixty."""

    rule: str
    zone: str
    category: str
    started_at: datetime
    raised_at: datetime
    cleared_at: datetime | None
    box: list[float]
    score: float
    picture: str | None


class RehearsalView(BaseModel):
    """How far it is. `seconds` of recordings gone through; `error`: no_recordings, unreadable, scene_refused, interrupted, crashed."""

    id: UUID
    state: Literal["waiting", "running", "done", "failed"]
    progress: float
    seconds: float
    looks: int
    minutes: int
    requested_by: str
    requested_at: datetime
    ended_at: datetime | None
    findings: list[RehearsedFinding]
    error: str | None


@router.post("/cameras/{camera_id}/rehearsals", status_code=201)
def start_rehearsal(camera_id: UUID, body: RehearsalBody, user: Engineer, web: CurrentWeb) -> RehearsalCreated:
    """Ask for one. 422 `scene_refused`; 409 `too_many_rehearsals` when three of this camera are not over."""
    check_scene(body.scene)
    now = web.now()
    with web.transaction(user) as connection:
        code, _ = find_camera(connection, camera_id, lock=True)
        row = connection.execute(
            "SELECT count(*) FROM rehearsal WHERE device_id = %s AND state IN ('waiting', 'running')", (camera_id,)
        ).fetchone()
        if row is not None and row[0] >= _MOST_OPEN:
            raise Problem(409, "too_many_rehearsals", "Others of this camera are not over yet", limit=_MOST_OPEN)
        rehearsal_id = new_id(now)
        connection.execute(
            "INSERT INTO rehearsal (id, device_id, scene, minutes, requested_by, requested_at) VALUES (%s, %s, %s, %s, %s, %s)",
            (rehearsal_id, camera_id, Jsonb(body.scene), body.minutes, user.name, now),
        )
        detail = {"minutes": body.minutes}
        write_audit(connection, now, actor=user.name, action="rehearsal_started", subject=code, detail=detail)
    return RehearsalCreated(id=rehearsal_id)


@router.get("/cameras/{camera_id}/rehearsals/{rehearsal_id}")
def show_rehearsal(camera_id: UUID, rehearsal_id: UUID, user: Engineer, web: CurrentWeb) -> RehearsalView:
    """How far it is and what it found so far. 404 `unknown_rehearsal`: never asked for, cancelled, or a day old."""
    with web.transaction(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT id, state, progress, seconds, looks, minutes, requested_by, requested_at, ended_at, findings, error"
            " FROM rehearsal WHERE id = %s AND device_id = %s",
            (rehearsal_id, camera_id),
        ).fetchone()
    if row is None:
        raise Problem(404, "unknown_rehearsal", "There is no such rehearsal")
    base = f"/api/v1/cameras/{camera_id}/rehearsals/{rehearsal_id}/pictures"
    for finding in row["findings"]:
        number = finding["picture"]
        finding["picture"] = None if number is None else f"{base}/{number}.jpg"
    return RehearsalView(**row)


@router.get("/cameras/{camera_id}/rehearsals/{rehearsal_id}/pictures/{number}.jpg", response_class=FileResponse)
def show_rehearsed_picture(
    camera_id: UUID, rehearsal_id: UUID, number: int, user: Engineer, web: CurrentWeb
) -> FileResponse:
    """The picture of one finding, masked."""
    with web.transaction(user) as connection:
        row = connection.execute(
            "SELECT FROM rehearsal WHERE id = %s AND device_id = %s", (rehearsal_id, camera_id)
        ).fetchone()
    path = folder_of_pictures(web.settings, rehearsal_id) / f"{number}.jpg"
    if row is None or not path.is_file():
        raise Problem(404, "unknown_picture", "There is no such picture")
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


@router.delete("/cameras/{camera_id}/rehearsals/{rehearsal_id}", status_code=204, response_class=Response)
def cancel_rehearsal(camera_id: UUID, rehearsal_id: UUID, user: Engineer, web: CurrentWeb) -> Response:
    """Cancel it, or forget what it found; gone already is fine."""
    with web.transaction(user) as connection:
        find_camera(connection, camera_id)
        connection.execute("DELETE FROM rehearsal WHERE id = %s AND device_id = %s", (rehearsal_id, camera_id))
    return Response(status_code=204)
