"""Routes of evidence: a picture taken in, and given out to those whose scope it is in."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import AwareDatetime, BaseModel, FiniteFloat

from dashboard.auth import CurrentUser, CurrentWeb
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
from kernel.db import Connection
from kernel.ids import new_id

router = APIRouter(tags=["evidence"])
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
    """A picture of my scope, or with `w` one of about that width (160, 320, 480 or 960 px)."""
    with web.transaction(user) as connection:
        row = read_evidence(connection, evidence_id)
    if row is None:
        raise Problem(404, "unknown_evidence", "There is no such picture in your scope")
    folder = web.settings.evidence_dir
    try:
        path = find_file(folder, row.path)
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
        raise Problem(410, "evidence_gone", "The picture's file is not there any more") from None
    return Response(content, media_type=row.mime, headers={"Cache-Control": _KEEP_FOR_EVER, "Vary": "Cookie"})
