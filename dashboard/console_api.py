"""WS /api/v1/devices/{id}/console and /api/v1/console?code=…, POST /api/v1/devices/{id}/test. For engineers and administrators."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, WebSocket
from pydantic import BaseModel

from dashboard.admission import CLOSE_LATER, CLOSE_UNKNOWN, RECHECK_S, admit, end, hear_nothing, judge_session
from dashboard.auth import CurrentWeb, require
from dashboard.console import ConsoleError, Viewer
from dashboard.console_message import make_test_message
from dashboard.context import Web, get_web
from dashboard.errors import Problem
from dashboard.listener import CLOSE_RESTART
from dashboard.session import Session, User
from dashboard.store import write_json
from devices.store import is_device_code, read_devices_by_code
from kernel.audit import write_audit
from kernel.types import Role

log = logging.getLogger(__name__)
router = APIRouter(tags=["devices"])
_ROLES = frozenset({Role.ENGINEER, Role.ADMIN})


class TestSent(BaseModel):
    """The test message as it was published; its receipt comes on `…/receipt` and is seen in the console."""

    __test__ = False  # no test case, whatever its name

    id: str
    topic: str
    payload: dict[str, Any]


@router.post("/devices/{device_id}/test")
def send_test(device_id: UUID, user: Annotated[User, Depends(require(*_ROLES))], web: CurrentWeb) -> TestSent:
    """Publish a message as the device might, marked as a test: checked and answered, nothing stored.

    404 `unknown_device`; 409 `not_mqtt` for kinds that send nothing over MQTT; 503 `broker_unreachable`.
    """
    with web.transaction(user) as connection:
        row = connection.execute("SELECT code, kind FROM device WHERE id = %s", (device_id,)).fetchone()
        if row is None:
            raise Problem(404, "unknown_device", "There is no such device in your scope")
        now = web.now()
        message = make_test_message(row[1], row[0], now, random.Random())
        if message is None:
            raise Problem(409, "not_mqtt", "A device of this kind sends nothing over MQTT", kind=row[1])
        write_audit(connection, now, actor=user.name, action="test_message_sent", subject=row[0])
    try:
        web.console.publish(message.topic, write_json(message.payload).encode())
    except ConsoleError as error:
        raise Problem(503, error.code, str(error), headers={"Retry-After": "2"}) from None
    return TestSent(id=message.id, topic=message.topic, payload=message.payload)


@router.websocket("/devices/{device_id}/console")
async def watch_device(websocket: WebSocket, device_id: str) -> None:
    """What a registered device sends and is sent."""

    def find_code(web: Web, user: User) -> str | None:
        try:
            wanted = UUID(device_id)
        except ValueError:
            return None
        with web.app_database.transaction(user.scope) as connection:
            row = connection.execute("SELECT code FROM device WHERE id = %s", (wanted,)).fetchone()
        return str(row[0]) if row else None

    await _serve(websocket, find_code)


@router.websocket("/console")
async def watch_code(websocket: WebSocket) -> None:
    """What comes under a code that may be registered or not: a device whose code was mistyped is found by this."""
    code = websocket.query_params.get("code", "")

    def find_code(web: Web, user: User) -> str | None:
        return code if is_device_code(code) and may_watch_code(web, user.scope, code) else None

    await _serve(websocket, find_code)


def may_watch_code(web: Web, scope: str, code: str) -> bool:
    """A registered device's messages are for whoever has it in scope; those of an unknown code for every engineer."""
    with web.worker_database.transaction() as connection:
        if not read_devices_by_code(connection, [code]):
            return True
    with web.app_database.transaction(scope) as connection:
        return bool(read_devices_by_code(connection, [code]))


FindCode = Callable[[Web, User], str | None]


async def _serve(websocket: WebSocket, find_code: FindCode) -> None:
    """One console from its opening to its end."""
    session = await admit(websocket, _ROLES)
    if session is None:
        return
    web = get_web(websocket)
    try:
        code = await asyncio.to_thread(find_code, web, session.user)
        if code is None:
            await websocket.close(CLOSE_UNKNOWN, "unknown_device")
            return
        viewer = web.console.watch(code)
    except psycopg.Error:
        await websocket.close(CLOSE_LATER, "database_unavailable")
        return
    except ConsoleError as error:
        await websocket.close(CLOSE_LATER, error.code)
        return
    try:
        close_code = await _show(websocket, web, session, viewer, find_code)
    finally:
        web.console.leave(code, viewer)
    await end(websocket, close_code)


async def _show(websocket: WebSocket, web: Web, session: Session, viewer: Viewer, find_code: FindCode) -> int | None:
    """Send until the browser goes, says something, or may no longer look; the close code, None when it is gone."""
    endings: list[asyncio.Task[int | None]] = [
        asyncio.create_task(_send(websocket, viewer)),
        asyncio.create_task(hear_nothing(websocket)),
        asyncio.create_task(_recheck(web, session, find_code)),
        asyncio.create_task(_end(viewer)),
    ]
    try:
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in endings:
            task.cancel()
        await asyncio.gather(*endings, return_exceptions=True)
    finished = next(iter(done))
    return None if finished.exception() is not None else finished.result()


async def _send(websocket: WebSocket, viewer: Viewer) -> int | None:
    while True:
        await websocket.send_text(await viewer.next())


async def _end(viewer: Viewer) -> int | None:
    await viewer.ended.wait()
    return CLOSE_RESTART


async def _recheck(web: Web, session: Session, find_code: FindCode) -> int | None:
    """Ends when the session is over, its rights changed, or the device left its scope."""
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            code = await asyncio.to_thread(_judge, web, session, find_code)
        except psycopg.Error:
            continue  # nothing can be decided now; the next look will
        if code is not None:
            return code


def _judge(web: Web, session: Session, find_code: FindCode) -> int | None:
    code = judge_session(web, session)
    if code is not None:
        return code
    return CLOSE_UNKNOWN if find_code(web, session.user) is None else None
