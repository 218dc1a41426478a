"""The live socket: WS /api/v1/live?seat=wall|phone&since=<number>. What it says is in docs/architecture.md."""

import asyncio
import json
import logging
from uuid import UUID

import psycopg
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from dashboard.admission import CLOSE_LATER, CLOSE_MISUSED, admit, end
from dashboard.context import Web, get_web
from dashboard.listener import Audience, Socket
from dashboard.session import Session
from dashboard.staff import WATCHERS
from dashboard.tasks import confirm_task

log = logging.getLogger(__name__)
router = APIRouter()
_MAX_MESSAGE = 4_000


@router.websocket("/live")
async def serve_live(websocket: WebSocket) -> None:
    """One socket from its opening to its end."""
    session = await admit(websocket)
    if session is not None:
        await _serve(websocket, get_web(websocket), session)


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
    await end(websocket, socket.close_code)


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
