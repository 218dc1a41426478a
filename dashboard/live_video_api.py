"""WS /api/v1/cameras/{id}/live?seat=&stream=main|sub: a camera's video with what the detector sees. docs/architecture.md says what it sends.

For everybody signed in who has the camera in scope, as its pictures are. Every opening is in the audit.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from uuid import UUID

import psycopg
from fastapi import APIRouter, WebSocket
from psycopg.types.json import Jsonb
from starlette.websockets import WebSocketDisconnect

from dashboard.admission import CLOSE_LATER, CLOSE_UNKNOWN, RECHECK_S, admit, end, hear_nothing, judge_session
from dashboard.context import Web, get_web
from dashboard.listener import CLOSE_RESTART
from dashboard.live_video import VideoRefused, Viewer
from dashboard.session import Session, User
from dashboard.store import JsonObject, write_json
from ingest.fragment import Opening
from kernel.audit import write_audit

log = logging.getLogger(__name__)
router = APIRouter()
CLOSE_CANNOT_PLAY, CLOSE_AWAY = 4415, 4503
_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Camera:
    """What is needed to open it; the addresses may hold passwords."""

    id: UUID
    code: str
    area_code: str
    url: str
    substream_url: str
    encoder: JsonObject

    def __repr__(self) -> str:
        return f"_Camera({self.code})"


@dataclass(frozen=True, slots=True)
class _Opened:
    """A stream that somebody looks at."""

    url: str
    stream: str
    viewer: Viewer


def _find_camera(web: Web, user: User, camera_id: str) -> _Camera | None:
    try:
        wanted = UUID(camera_id)
    except ValueError:
        return None
    with web.app_database.transaction(user.scope) as connection:
        row = connection.execute(
            "SELECT d.id, d.code, d.area_code, c.url, c.substream_url, c.encoder"
            " FROM camera c JOIN device d ON d.id = c.device_id WHERE d.id = %s AND d.enabled",
            (wanted,),
        ).fetchone()
    return _Camera(*row) if row else None


@router.websocket("/cameras/{camera_id}/live")
async def watch_camera(websocket: WebSocket, camera_id: str) -> None:
    """One viewer from the opening to the end."""
    session = await admit(websocket)
    if session is None:
        return
    web = get_web(websocket)
    try:
        camera = await asyncio.to_thread(_find_camera, web, session.user, camera_id)
        if camera is None:
            await websocket.close(CLOSE_UNKNOWN, "unknown_camera")
            return
        await asyncio.to_thread(note_opening, web, session.user, camera.code)
    except psycopg.Error:
        await websocket.close(CLOSE_LATER, "database_unavailable")
        return
    receiving = asyncio.create_task(hear_nothing(websocket))
    opening = asyncio.create_task(_open(web, camera, websocket.query_params.get("stream", "main")))
    try:
        await asyncio.wait([receiving, opening], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():  # the browser has gone, or said something
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await end(websocket, receiving.result())
            return
        try:
            opened = opening.result()
        except VideoRefused as refused:
            await _refuse(websocket, camera, refused)
            return
        await _watch(websocket, web, session, camera, opened, receiving)
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def _open(web: Web, camera: _Camera, wanted: str) -> _Opened:
    """The stream that was wanted, or the other one where the first cannot be played. Raises VideoRefused of the first that is not away."""
    streams = {"main": camera.url, "sub": camera.substream_url}
    order = ["sub", "main"] if wanted == "sub" and camera.substream_url else ["main", "sub"]
    if _is_hevc(camera.encoder, order[0]) and streams[order[1]] and not _is_hevc(camera.encoder, order[1]):
        order.reverse()  # known from the last time: no need to find out again
    first: VideoRefused | None = None
    for stream in order:
        url = streams[stream]
        if not url:
            continue
        try:
            return _Opened(url, stream, await web.video.watch(camera.id, stream, url))
        except VideoRefused as refused:
            if refused.code == "h265":
                await asyncio.to_thread(_note_encoder, web, camera, stream, {"codec": "hevc"})
            if first is None or first.away:  # what can be had as pictures is more than one that is away
                first = refused
            if refused.away and stream == "main":
                break  # a camera that is away is not asked twice
    assert first is not None
    raise first


def _is_hevc(encoder: JsonObject, stream: str) -> bool:
    return bool((encoder.get(stream) or {}).get("codec") == "hevc")


async def _refuse(websocket: WebSocket, camera: _Camera, refused: VideoRefused) -> None:
    fallback = None if refused.away else f"/api/v1/cameras/{camera.id}/live.mjpg"
    said = {"type": "refused", "code": refused.code, "fault": refused.fault or None, "fallback": fallback}
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await websocket.send_text(write_json(said))
    await end(websocket, CLOSE_AWAY if refused.away else CLOSE_CANNOT_PLAY)


async def _watch(
    websocket: WebSocket,
    web: Web,
    session: Session,
    camera: _Camera,
    opened: _Opened,
    receiving: asyncio.Task[int | None],
) -> None:
    viewer = opened.viewer

    def show(boxes: JsonObject) -> None:
        web.video.show_boxes(camera.id, opened.url, viewer, boxes)

    sending = asyncio.create_task(_send(websocket, viewer))
    checking = asyncio.create_task(_recheck(web, session, camera, opened))
    try:
        web.boxes.watch(camera.code, show)
        seen = web.video.read_opening(camera.id, opened.url)
        if seen is not None:
            await asyncio.to_thread(_note_encoder, web, camera, opened.stream, _describe(seen))
        done, _ = await asyncio.wait([sending, checking, receiving], return_when=asyncio.FIRST_COMPLETED)
        code = next((task.result() for task in done if task.exception() is None), None)
    finally:
        web.boxes.leave(camera.code, show)
        web.video.leave(camera.id, opened.url, viewer)
        for task in (sending, checking):
            task.cancel()
        await asyncio.gather(sending, checking, return_exceptions=True)
    if viewer.over is not None:
        await _refuse(websocket, camera, viewer.over)
    else:
        await end(websocket, code)


async def _send(websocket: WebSocket, viewer: Viewer) -> int | None:
    """Send until no more comes, waiting whenever the connection cannot take more."""
    while (data := await viewer.next()) is not None:
        if isinstance(data, bytes):
            await websocket.send_bytes(data)
        else:
            await websocket.send_text(data)
    return None if viewer.over is not None else CLOSE_RESTART


async def _recheck(web: Web, session: Session, camera: _Camera, opened: _Opened) -> int | None:
    """Ends when the session is over, its rights changed, or the camera left its scope or got another address."""
    loop = asyncio.get_running_loop()
    checked_s = loop.time()
    while True:
        await asyncio.sleep(_CHECK_S)
        web.video.check(camera.id, opened.url)
        if loop.time() - checked_s < RECHECK_S:
            continue
        checked_s = loop.time()
        try:
            code = await asyncio.to_thread(_judge, web, session, camera, opened)
        except psycopg.Error:
            continue  # nothing can be decided now; the next look will
        if code is not None:
            return code


def _judge(web: Web, session: Session, camera: _Camera, opened: _Opened) -> int | None:
    code = judge_session(web, session)
    if code is not None:
        return code
    found = _find_camera(web, session.user, str(camera.id))
    if found is None:
        return CLOSE_UNKNOWN
    return None if opened.url in (found.url, found.substream_url) else CLOSE_RESTART


def _describe(opening: Opening) -> JsonObject:
    return {"codec": "h264", "width": opening.width, "height": opening.height}


def _note_encoder(web: Web, camera: _Camera, stream: str, seen: JsonObject) -> None:
    """Keep what the stream was seen to be, so that the list of cameras can say it. Never in the way of watching."""
    known = {name: value for name, value in (camera.encoder.get(stream) or {}).items() if name != "seen_at"}
    if known == seen:
        return
    entry = {stream: {**seen, "seen_at": web.now().isoformat(timespec="seconds")}}
    try:
        with web.worker_database.transaction() as connection:
            connection.execute(
                "UPDATE camera SET encoder = encoder || %s WHERE device_id = %s", (Jsonb(entry), camera.id)
            )
    except psycopg.Error as error:
        log.warning("camera %s: its coding was not noted: %s", camera.code, error)


def note_opening(web: Web, user: User, code: str) -> None:
    """One line for each opening; a page that reconnects within a minute goes on with the opening it had.

    Raises psycopg.Error when the line could not be written: then nobody has opened anything.
    """
    now = web.now()

    def write() -> None:
        with web.app_database.transaction(user.scope) as connection:
            write_audit(connection, now, actor=user.name, action="live_view_opened", subject=code)

    web.openings.note((user.id, code), now, write)
