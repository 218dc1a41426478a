"""The live socket: WS /api/v1/live?seat=wall|phone&since=<number>. What it says is in docs/architecture.md."""

import asyncio
import contextlib
import json
import logging
from uuid import UUID

import psycopg
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from dashboard.auth import find_session
from dashboard.context import Web, get_web
from dashboard.limits import is_own_origin
from dashboard.listener import CLOSE_REVOKED, Audience, Socket
from dashboard.session import Session
from dashboard.staff import WATCHERS
from dashboard.tasks import confirm_task

log = logging.getLogger(__name__)
router = APIRouter()
CLOSE_LATER, CLOSE_FOREIGN, CLOSE_MISUSED = 1013, 4403, 1008
_MAX_MESSAGE = 4_000
_CLOSE_WAIT_S = 2.0


@router.websocket("/live")
async def serve_live(websocket: WebSocket) -> None:
    """One socket from its opening to its end."""
    web = get_web(websocket)
    # Accepted first: a page cannot see why an upgrade was refused, but it sees a close code.
    await websocket.accept()
    if not is_own_origin(websocket, web.settings.public_url):
        await websocket.close(CLOSE_FOREIGN, "foreign_origin")
        return
    try:
        session = await asyncio.to_thread(find_session, websocket, web.worker_database, web.now())
    except psycopg.Error:
        await websocket.close(CLOSE_LATER, "database_unavailable")
        return
    if session is None:
        await websocket.close(CLOSE_REVOKED, "not_signed_in")
        return
    await _serve(websocket, web, session)


async def _serve(websocket: WebSocket, web: Web, session: Session) -> None:
    user = session.user
    socket = Socket(
        audience=Audience(user.scope, not user.roles.isdisjoint(WATCHERS)),
        user_id=user.id,
        roles=user.roles,
        token_hash=session.token_hash,
    )
    web.hub.add(socket)
    tasks = [
        asyncio.create_task(_send(websocket, socket)),
        asyncio.create_task(_receive(websocket, socket, web)),
        asyncio.create_task(socket.closing.wait()),
    ]
    try:
        await _join(websocket, socket, web)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        web.hub.remove(socket)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if socket.close_code is not None:
        # A browser that does not read does not answer a close either: a moment, then the connection is cut by leaving.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(websocket.close(socket.close_code), _CLOSE_WAIT_S)


async def _join(websocket: WebSocket, socket: Socket, web: Web) -> None:
    text = websocket.query_params.get("since", "")
    since = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    try:
        await web.hub.join(socket, since)
    except psycopg.Error as error:
        log.warning("a socket could not join: %s", error)
        socket.close(CLOSE_LATER)


async def _send(websocket: WebSocket, socket: Socket) -> None:
    """Send what is queued, waiting whenever the connection cannot take more.

    What is being sent still counts as queued: a connection that takes nothing more is known by it.
    """
    while True:
        if not socket.texts:
            socket.ready.clear()
            await socket.ready.wait()
            continue
        text, cost = socket.texts.popleft()
        await websocket.send_text(text)
        socket.queued_bytes -= cost


async def _receive(websocket: WebSocket, socket: Socket, web: Web) -> None:
    """Take what the browser says: receipts of tasks, nothing else. Ends when the browser goes."""
    while True:
        try:
            text = await websocket.receive_text()
        except (WebSocketDisconnect, KeyError, RuntimeError):  # gone, or it sent bytes
            return
        push_id = _read_receipt(text)
        if push_id is None:
            socket.close(CLOSE_MISUSED)
            return
        try:
            await asyncio.to_thread(_confirm, web, push_id, socket.user_id)
        except psycopg.Error as error:
            log.warning("a receipt was not kept: %s", error)  # the task is sent again at the next connection


def _confirm(web: Web, push_id: UUID, user_id: UUID) -> None:
    with web.worker_database.transaction() as connection:
        confirm_task(connection, push_id, user_id, web.now())


def _read_receipt(text: str) -> UUID | None:
    if len(text) > _MAX_MESSAGE:
        return None
    try:
        message = json.loads(text)
        return UUID(message["push_id"]) if message["type"] == "receipt" else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
