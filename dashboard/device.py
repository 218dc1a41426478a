"""Routes about devices: the list, readings, a camera's picture, messages that could not be used, payload schemas."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from dashboard.auth import CurrentSession, CurrentUser, CurrentWeb, require
from dashboard.camera import BOUNDARY, Picture, multipart_picture
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import Session, User, read_rights
from dashboard.store import JsonObject, read_camera_url, read_dead_letters, read_devices, read_points
from dashboard.view import DeviceView
from devices.registry import KINDS, describe_schema
from kernel.types import Role

router = APIRouter(tags=["devices"])
_MAX_POINTS = 500
_RECHECK_S = 15.0


class Point(BaseModel):
    """A span of time: mean, least and greatest value. Spans are as short as leaves at most 500 of them."""

    at: datetime
    value: float
    least: float
    greatest: float


class Readings(BaseModel):
    """A metric over time, oldest first."""

    metric: str
    unit: str
    span_s: float
    points: list[Point]


class DeadLetterView(BaseModel):
    """A message that could not be used; the first 2,000 bytes of it in base64, and as text where it is text."""

    id: UUID
    topic: str
    payload_base64: str
    payload_text: str | None
    payload_bytes: int
    reason: str
    detail: str
    received_at: datetime


class DeadLetterPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    items: list[DeadLetterView]
    next: UUID | None


@router.get("/devices", response_model=list[DeviceView])
def list_devices(user: CurrentUser, web: CurrentWeb) -> list[JsonObject]:
    """Devices of my scope with the newest that is known about them."""
    with web.transaction(user) as connection:
        return read_devices(connection)


@router.get("/devices/{device_id}", response_model=DeviceView)
def show_device(device_id: UUID, user: CurrentUser, web: CurrentWeb) -> JsonObject:
    """One device."""
    return _find_device(device_id, user, web)


def _find_device(device_id: UUID, user: User, web: Web) -> JsonObject:
    with web.transaction(user) as connection:
        found = read_devices(connection, [device_id])
    if not found:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return found[0]


@router.get("/devices/{device_id}/readings")
def list_readings(
    device_id: UUID,
    user: CurrentUser,
    web: CurrentWeb,
    metric: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")],
    hours: Annotated[float, Query(gt=0, le=24 * 90)] = 24.0,
) -> Readings:
    """What a device measured in the last `hours`."""
    device = _find_device(device_id, user, web)
    metrics = {m.name: m for m in KINDS[device["kind"]].metrics} if device["kind"] in KINDS else {}
    if metric not in metrics:
        raise Problem(404, "unknown_metric", "This kind of device has no such metric", metrics=sorted(metrics))
    span = timedelta(seconds=max(1.0, round(hours * 3600 / _MAX_POINTS)))
    with web.transaction(user) as connection:
        rows = read_points(connection, device_id, metric, web.now() - timedelta(hours=hours), span)
    points = [Point(at=at, value=mean, least=least, greatest=greatest) for at, mean, least, greatest in rows]
    return Readings(metric=metric, unit=metrics[metric].unit, span_s=span.total_seconds(), points=points)


def _find_url(camera_id: UUID, user: User, web: Web) -> str:
    with web.transaction(user) as connection:
        url = read_camera_url(connection, camera_id)
    if url is None:
        raise Problem(404, "unknown_camera", "There is no such camera in your scope")
    return url


@router.get("/cameras/{camera_id}/still.jpg", response_class=Response)
async def show_still(camera_id: UUID, user: CurrentUser, web: CurrentWeb) -> Response:
    """The camera's picture of this moment. 503 `camera_unreachable`."""
    url = await asyncio.to_thread(_find_url, camera_id, user, web)
    pictures = web.cameras.watch(camera_id, url)
    try:
        picture = await anext(pictures)
    finally:
        await pictures.aclose()
    headers = {"Cache-Control": "no-store", "X-Received-At": picture.received_at.isoformat()}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/cameras/{camera_id}/live.mjpg", response_class=StreamingResponse)
async def show_live(camera_id: UUID, session: CurrentSession, web: CurrentWeb) -> StreamingResponse:
    """The camera's pictures as they come, for an `<img>`. 503 `camera_unreachable` when there is none to begin with."""
    url = await asyncio.to_thread(_find_url, camera_id, session.user, web)
    pictures = web.cameras.watch(camera_id, url)
    first = await anext(pictures)
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


@router.get("/dead-letters")
def list_dead_letters(
    user: Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))],
    web: CurrentWeb,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeadLetterPage:
    """Messages that could not be used, and why."""
    with web.transaction(user) as connection:
        letters = read_dead_letters(connection, cursor, limit + 1)
    items = [
        DeadLetterView(
            id=letter.id,
            topic=letter.topic,
            payload_base64=base64.b64encode(letter.payload).decode(),
            payload_text=_as_text(letter.payload),
            payload_bytes=letter.payload_bytes,
            reason=letter.reason,
            detail=letter.detail,
            received_at=letter.received_at,
        )
        for letter in letters[:limit]
    ]
    return DeadLetterPage(items=items, next=items[-1].id if len(letters) > limit else None)


def _as_text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


@router.get("/schemas/{kind}.json")
def show_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of what a kind of device may send; open to whoever builds devices."""
    if kind not in KINDS:
        raise Problem(404, "unknown_kind", "There is no such kind of device", kinds=sorted(KINDS))
    return describe_schema(KINDS[kind])
