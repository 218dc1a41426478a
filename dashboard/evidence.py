"""Routes of evidence: a picture taken in, pictures and clips given out to those whose scope they are in, masked.

What lies behind a mask is opened by a role of its own, with a reason, once and within a minute; every opening is audited.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, File, Form, Query, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.idempotency import extend_claim
from dashboard.picture import (
    MIME,
    THUMBNAIL_WIDTHS,
    PictureError,
    find_file,
    new_path,
    read_picture,
    shrink,
    write_file,
)
from dashboard.session import User
from dashboard.staff import check_instant, convert_position
from dashboard.store import EvidenceRow, insert_evidence, read_evidence
from dashboard.users import area_of_user
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id
from kernel.types import Role

router = APIRouter(tags=["evidence"])
Unmasker = Annotated[User, Depends(require(Role.UNMASK))]
_CLIP = "clip"
_OPEN_FOR = timedelta(seconds=60)
_KEEP_FOR_EVER = "private, max-age=31536000, immutable"  # a picture never changes under its id


class EvidenceCreated(BaseModel):
    """The picture as it is kept."""

    id: UUID
    width: int
    height: int


def _area(connection: Connection, web: Web, user: User, lon: float | None, lat: float | None) -> str:
    """The area a picture belongs to: where it was taken, when that is in the person's scope, else the person's own."""
    if lon is not None and lat is not None:
        code = web.places.area_code_at(connection, lon, lat)
        row = connection.execute("SELECT gw_in_scope(%s)", (code,)).fetchone()
        if code and row == (True,):
            return code
    return area_of_user(user.scope, None)


@router.post("/evidence", status_code=201)
def take_evidence(
    user: CurrentUser,
    web: CurrentWeb,
    file: Annotated[UploadFile, File(description="JPEG, PNG or WebP")],
    taken_at: Annotated[AwareDatetime | None, Form()] = None,
    lon: Annotated[FiniteFloat | None, Form()] = None,
    lat: Annotated[FiniteFloat | None, Form()] = None,
    crs: Annotated[str, Form(max_length=20)] = "EPSG:4490",
) -> EvidenceCreated:
    """Keep a photograph: decoded, turned upright, encoded anew without its metadata."""
    now = web.now()
    limit = web.settings.evidence.max_upload_bytes
    content = file.file.read(limit + 1)
    if len(content) > limit:
        raise Problem(413, "too_large", "The picture is too large", limit_bytes=limit)
    if taken_at is not None:
        check_instant(taken_at, now)
    position = None if lon is None or lat is None else convert_position(lon, lat, crs)
    extend_claim(content + repr((taken_at, position)).encode())
    try:
        picture = read_picture(content, web.settings.evidence.max_pixels)
    except PictureError as error:
        raise Problem(422, error.code, str(error)) from None
    evidence_id = new_id(now)
    path = new_path(evidence_id, now)
    detail = {"source_sha256": picture.source_sha256.hex(), "source_format": picture.source_format}
    if picture.camera_time:
        detail["camera_time"] = picture.camera_time
    with web.transaction(user) as connection:
        # The file first: a file without a row is only waste, a row without a file is a broken picture.
        write_file(find_file(web.settings.evidence_dir, path), picture.jpeg)
        row = EvidenceRow(
            id=evidence_id,
            kind="photo",
            path=path,
            sha256=picture.sha256,
            mime=MIME,
            width=picture.width,
            height=picture.height,
            area_code=_area(connection, web, user, *(position or (None, None))),
            lon=position[0] if position else None,
            lat=position[1] if position else None,
            taken_at=taken_at or now,
            created_by=user.id,
            detail=detail,
        )
        insert_evidence(connection, row)
    return EvidenceCreated(id=evidence_id, width=picture.width, height=picture.height)


@router.get("/evidence/{evidence_id}", response_class=Response)
def show_evidence(
    evidence_id: UUID, user: CurrentUser, web: CurrentWeb, w: Annotated[int | None, Query(ge=1, le=4096)] = None
) -> Response:
    """A picture or clip of my scope, masked; with `w` a picture of about that width (160, 320, 480 or 960 px).

    A clip is MP4 and answers ranges; with `w` it is shown by the picture that goes with it.
    """
    with web.transaction(user) as connection:
        row = read_evidence(connection, evidence_id)
        if row is not None and row.kind == _CLIP and w is not None:
            row = _read_poster(connection, row)
    if row is None:
        raise Problem(404, "unknown_evidence", "There is no such picture in your scope")
    if row.deleted_at is not None:
        raise _gone()
    folder = web.settings.evidence_dir
    headers = {"Cache-Control": _KEEP_FOR_EVER, "Vary": "Cookie"}
    try:
        path = find_file(folder, row.path)
        if row.kind == _CLIP:
            return _send_file(path, row.mime, headers)
        width = next((width for width in THUMBNAIL_WIDTHS if w is not None and width >= w), None)
        if width is None or width >= row.width or row.mime != MIME:
            content = path.read_bytes()
        else:
            thumbnail = folder / "thumbnails" / f"{row.id}-{width}.jpg"
            if thumbnail.exists():
                content = thumbnail.read_bytes()
            else:
                content = shrink(path, width)
                write_file(thumbnail, content)
    except OSError:
        raise _gone() from None
    return Response(content, media_type=row.mime, headers=headers)


def _read_poster(connection: Connection, row: EvidenceRow) -> EvidenceRow | None:
    poster = row.detail.get("poster")
    return read_evidence(connection, UUID(poster)) if isinstance(poster, str) else None


def _gone() -> Problem:
    return Problem(410, "evidence_gone", "The picture's file is not there any more")


def _send_file(path: Path, mime: str, headers: dict[str, str]) -> Response:
    if not path.is_file():
        raise _gone()
    return FileResponse(path, media_type=mime, headers=headers)


# ---------------------------------------------------------------- what lies behind the masks


class UnmaskIn(BaseModel):
    """Why somebody must see faces or plates."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=4, max_length=500, pattern=r"^[^\x00]*$")
    ]


class Opening(BaseModel):
    """Where the original can be fetched, once, by the person who asked."""

    url: str
    expires_at: datetime


@router.post("/evidence/{evidence_id}/unmask", status_code=201)
def unmask_evidence(evidence_id: UUID, body: UnmaskIn, user: Unmasker, web: CurrentWeb) -> Opening:
    """Ask for the original of a masked picture or clip of my scope. The asking is audited, and so is the opening."""
    now = web.now()
    with web.transaction(user) as connection:
        row = read_evidence(connection, evidence_id)
    if row is None:
        raise Problem(404, "unknown_evidence", "There is no such picture in your scope")
    token = secrets.token_urlsafe(32)
    expires_at = now + _OPEN_FOR
    # The worker's connection: where originals lie is hidden from everything that serves people.
    with web.worker_database.transaction() as connection:
        kept = connection.execute("SELECT FROM evidence_original WHERE evidence_id = %s", (evidence_id,)).fetchone()
        if kept is None:
            raise Problem(409, "no_original", "No original is kept of this picture")
        connection.execute(
            "INSERT INTO evidence_opening (token_hash, evidence_id, user_id, reason, created_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (_hash(token), evidence_id, user.id, body.reason, now, expires_at),
        )
        write_audit(
            connection, now, actor=user.name, action="unmask_asked", subject=str(evidence_id),
            detail={"reason": body.reason},
        )  # fmt: skip
    return Opening(url=f"/api/v1/evidence/originals/{token}", expires_at=expires_at)


@router.get("/evidence/originals/{token}", response_class=Response)
def open_original(token: Annotated[str, Field(max_length=100)], user: Unmasker, web: CurrentWeb) -> Response:
    """The original behind a mask: once, within a minute, to the person who asked for it and still has it in scope."""
    now = web.now()
    with web.worker_database.transaction() as connection:
        row = connection.execute(
            """
            SELECT p.evidence_id, p.user_id, p.reason, p.expires_at, p.opened_at, o.path, o.mime
            FROM evidence_opening p LEFT JOIN evidence_original o ON o.evidence_id = p.evidence_id
            WHERE p.token_hash = %s FOR UPDATE OF p
            """,
            (_hash(token),),
        ).fetchone()
        if row is None or row[1] != user.id:
            raise Problem(404, "unknown_opening", "Ask for the picture first")
        evidence_id, _, reason, expires_at, opened_at, path, mime = row
        if opened_at is not None:
            raise Problem(410, "opening_used", "This was opened before; ask again")
        if expires_at <= now:
            raise Problem(410, "opening_expired", "The time to open this is over; ask again")
        if path is None:
            raise _gone()
        with web.app_database.transaction(user.scope) as scoped:  # it, or the person, may have gone elsewhere meanwhile
            if read_evidence(scoped, evidence_id) is None:
                raise Problem(404, "unknown_evidence", "There is no such picture in your scope")
        connection.execute("UPDATE evidence_opening SET opened_at = %s WHERE token_hash = %s", (now, _hash(token)))
        write_audit(
            connection, now, actor=user.name, action="unmasked", subject=str(evidence_id), detail={"reason": reason}
        )
    try:
        content = find_file(web.settings.originals_dir, path).read_bytes()
    except OSError:
        raise _gone() from None
    headers = {"Cache-Control": "no-store", "Content-Disposition": "inline", "Vary": "Cookie"}
    return Response(content, media_type=mime, headers=headers)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
