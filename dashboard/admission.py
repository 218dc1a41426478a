"""What every socket begins with: accepted, of our own pages, of somebody signed in; and how it is closed.

Close codes: 4401 not signed in or revoked · 4403 foreign origin or role · 4404 unknown · 1012 come back · 1013 no database yet · 1008 nonsense.
"""

import asyncio
import contextlib

import psycopg
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from dashboard.auth import find_session
from dashboard.context import Web, get_web
from dashboard.limits import is_own_origin
from dashboard.listener import CLOSE_RESTART, CLOSE_REVOKED
from dashboard.session import Session, read_rights
from kernel.types import Role

CLOSE_LATER, CLOSE_FOREIGN, CLOSE_MISUSED, CLOSE_UNKNOWN = 1013, 4403, 1008, 4404
RECHECK_S = 15.0
"""How often it is asked anew whether somebody may still look."""
_CLOSE_WAIT_S = 2.0


async def admit(websocket: WebSocket, roles: frozenset[Role] | None = None) -> Session | None:
    """Accept the socket; the session of whoever opened it, None when it was closed: a stranger's, or of none of `roles`.

    Accepted first: a page cannot see why an upgrade was refused, but it sees a close code.
    """
    web = get_web(websocket)
    await websocket.accept()
    if not is_own_origin(websocket, web.settings.public_url):
        await websocket.close(CLOSE_FOREIGN, "foreign_origin")
        return None
    try:
        session = await asyncio.to_thread(find_session, websocket, web.worker_database, web.now())
    except psycopg.Error:
        await websocket.close(CLOSE_LATER, "database_unavailable")
        return None
    if session is None:
        await websocket.close(CLOSE_REVOKED, "not_signed_in")
        return None
    if roles is not None and session.user.roles.isdisjoint(roles):
        await websocket.close(CLOSE_FOREIGN, "not_your_role")
        return None
    return session


async def end(websocket: WebSocket, code: int | None) -> None:
    """Close it; None: the browser has gone."""
    if code is None or websocket.application_state is WebSocketState.DISCONNECTED:
        return
    # A browser that does not read does not answer a close either: a moment, then the connection is cut by leaving.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(websocket.close(code), _CLOSE_WAIT_S)


async def hear_nothing(websocket: WebSocket) -> int | None:
    """For sockets that take no messages: whoever sends one is shown out. Ends when the browser goes."""
    try:
        await websocket.receive_text()
    except (WebSocketDisconnect, KeyError, RuntimeError):
        return None
    return CLOSE_MISUSED


def judge_session(web: Web, session: Session) -> int | None:
    """The close code when the session is over or its rights changed. Raises psycopg.Error when nothing can be decided now."""
    with web.worker_database.transaction() as connection:
        rights = read_rights(connection, [session.token_hash], web.now()).get(session.token_hash)
    if rights is None:
        return CLOSE_REVOKED
    return CLOSE_RESTART if rights != (session.user.scope, session.user.roles) else None
