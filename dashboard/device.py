"""Routes about devices beside the register: a camera's picture, payload schemas."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from dashboard.auth import CurrentSession, CurrentUser, CurrentWeb, require
from dashboard.camera import BOUNDARY, Picture, encode_jpeg, multipart_picture
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.live_video_api import note_opening
from dashboard.session import Session, User, read_rights
from dashboard.store import read_camera_url
from devices.registry import KINDS, describe_schema
from ingest.outlet import outlet_path
from ingest.poster import take_poster
from kernel.types import Role
from vision.health import take_view

router = APIRouter(tags=["devices"])
_RECHECK_S = 15.0


def _find_url(camera_id: UUID, user: User, web: Web) -> str:
    with web.transaction(user) as connection:
        url = read_camera_url(connection, camera_id)
    if url is None:
        raise Problem(404, "unknown_camera", "There is no such camera in your scope")
    return url


def _note_opening(camera_id: UUID, user: User, web: Web) -> None:
    with web.app_database.transaction(user.scope) as connection:
        row = connection.execute("SELECT code FROM device WHERE id = %s", (camera_id,)).fetchone()
    if row is not None:
        note_opening(web, user, str(row[0]))


@router.get("/cameras/{camera_id}/still.jpg", response_class=Response)
async def show_still(camera_id: UUID, user: CurrentUser, web: CurrentWeb, kept: bool = False) -> Response:
    """The camera's picture of this moment. 503 `camera_unreachable`.

    `kept`: its newest key picture at once, some seconds old at most (`X-Received-At`, `X-Age-Ms`); 204 where none is at hand.
    """
    url = await asyncio.to_thread(_find_url, camera_id, user, web)
    if kept:
        return await asyncio.to_thread(_show_poster, camera_id, url, user, web)
    pictures = web.cameras.watch(camera_id, url)
    try:
        picture = await anext(pictures)
    finally:
        await pictures.aclose()
    await asyncio.to_thread(_note_opening, camera_id, user, web)
    headers = {"Cache-Control": "no-store", "X-Received-At": picture.received_at.isoformat()}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


def _show_poster(camera_id: UUID, url: str, user: User, web: Web) -> Response:
    found = take_poster(outlet_path(web.settings.data_dir, url))
    headers = {"Cache-Control": "no-store"}
    if found is None:
        return Response(status_code=204, headers=headers)
    frame, received_at = found
    _note_opening(camera_id, user, web)
    headers["X-Received-At"] = received_at.isoformat()
    headers["X-Age-Ms"] = str(max(0, round((web.now() - received_at).total_seconds() * 1000)))
    return Response(encode_jpeg(frame), media_type="image/jpeg", headers=headers)


class TaughtView(BaseModel):
    """The view that a camera shows now, as a preset of its scene holds it (64 by 36 edge strengths)."""

    view: str


@router.get("/cameras/{camera_id}/view")
async def take_camera_view(
    camera_id: UUID, user: Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))], web: CurrentWeb
) -> TaughtView:
    """The view of this moment, to be taught as a preset. 503 `camera_unreachable`."""
    url = await asyncio.to_thread(_find_url, camera_id, user, web)
    pictures = web.cameras.watch(camera_id, url)
    try:
        picture = await anext(pictures)
    finally:
        await pictures.aclose()

    def read() -> str:
        image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
        return take_view(np.asarray(image, np.uint8))

    return TaughtView(view=await asyncio.to_thread(read))


@router.get("/cameras/{camera_id}/live.mjpg", response_class=StreamingResponse)
async def show_live(camera_id: UUID, session: CurrentSession, web: CurrentWeb) -> StreamingResponse:
    """The camera's pictures as they come, for an `<img>`. 503 `camera_unreachable` when there is none to begin with."""
    url = await asyncio.to_thread(_find_url, camera_id, session.user, web)
    pictures = web.cameras.watch(camera_id, url)
    first = await anext(pictures)
    await asyncio.to_thread(_note_opening, camera_id, session.user, web)
    stream = _stream(first, pictures, session, web)
    return StreamingResponse(
        stream, media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}", headers={"Cache-Control": "no-store"}
    )


async def _stream(
    first: Picture, pictures: AsyncGenerator[Picture, None], session: Session, web: Web
) -> AsyncIterator[bytes]:
    """The pictures, for as long as the viewer may see them."""
    loop = asyncio.get_running_loop()
    checked_s = loop.time()
    try:
        yield multipart_picture(first)
        async for picture in pictures:
            yield multipart_picture(picture)
            if loop.time() - checked_s > _RECHECK_S:
                checked_s = loop.time()
                if not await asyncio.to_thread(_still_allowed, session, web):
                    return
    finally:
        await pictures.aclose()


def _still_allowed(session: Session, web: Web) -> bool:
    with web.worker_database.transaction() as connection:
        rights = read_rights(connection, [session.token_hash], web.now())
    return rights.get(session.token_hash) == (session.user.scope, session.user.roles)


@router.get("/schemas/{kind}.json")
def show_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of what a kind of device may send; open to whoever builds devices."""
    if kind not in KINDS:
        raise Problem(404, "unknown_kind", "There is no such kind of device", kinds=sorted(KINDS))
    return describe_schema(KINDS[kind])
