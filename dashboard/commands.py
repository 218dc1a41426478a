"""Routes of commands to devices: what a device can be told, asking for it, the second person, locks (docs/commands-to-devices.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dashboard.auth import CurrentWeb, require
from dashboard.errors import Problem
from dashboard.session import User
from dashboard.store import JsonObject, write_json
from devices.command_lock import add_lock, release_lock
from devices.command_model import CommandActor, CommandRefused
from devices.command_store import read_command_views
from devices.commands import approve_command, cancel_command, judge_command, request_command
from devices.model import Device
from devices.registry import KINDS
from devices.situation import read_locks
from devices.store import DeviceError, read_device
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.types import Role

router = APIRouter(tags=["commands"])
Operator = Annotated[User, Depends(require(Role.OPERATOR))]
Watcher = Annotated[User, Depends(require(Role.OPERATOR, Role.ENGINEER, Role.ADMIN))]
LockKeeper = Annotated[User, Depends(require(Role.OPERATOR, Role.ENGINEER, Role.ADMIN))]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
_STATUS = {
    "unknown_device": 404,
    "unknown_command": 404,
    "unknown_lock": 404,
    "bad_parameters": 422,
    "reason_required": 422,
    "requester_may_not_approve": 403,
    "named_person_required": 403,
    "not_your_lock": 403,
}  # everything else: 409
_RECENT = timedelta(minutes=10)


class InterlockView(BaseModel):
    """One condition as it was found. `code` is translated by who shows it, `params` fill the text."""

    code: str
    ok: bool
    params: dict[str, Any]


class PersonView(BaseModel):
    """Somebody; without an id a part of the system, or somebody at the command line."""

    id: UUID | None
    name: str


class CommandDevice(BaseModel):
    """The device of a command."""

    id: UUID
    code: str
    name: str
    kind: str


class OutcomeView(BaseModel):
    """Why a command ended."""

    code: str
    detail: str


class CommandEventView(BaseModel):
    """A step of a command, or (in the same state as before) something to know about it."""

    at: datetime
    state: str
    actor: str
    detail: dict[str, Any]


class CommandView(BaseModel):
    """A command in full."""

    id: UUID
    device: CommandDevice
    name: str
    parameters: dict[str, Any]
    reason: str
    state: Literal[
        "requested", "approved", "sent", "acknowledged", "verified", "refused", "expired", "failed", "cancelled"
    ]
    second_person: bool
    seq: int | None
    attempts: int
    requested_by: PersonView
    requested_at: datetime
    approved_by: PersonView | None
    approved_at: datetime | None
    sent_at: datetime | None
    acknowledged_at: datetime | None
    verify_until: datetime | None
    ended_at: datetime | None
    expires_at: datetime
    interlocks: list[InterlockView]
    outcome: OutcomeView | None
    events: list[CommandEventView]


class CommandTypeView(BaseModel):
    """Something the device can be told, with its interlocks of this moment (the worst case until parameters are chosen)."""

    name: str
    title_zh: str
    title_en: str
    description: dict[str, Any] = Field(alias="schema")  # of the parameters
    second_person: bool
    when_offline: str
    expiry_s: float
    interlocks: list[InterlockView]
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class LockView(BaseModel):
    """A lock on a device."""

    id: UUID
    reason: str
    locked_by_id: UUID | None
    locked_by: str
    locked_at: datetime


class DeviceCommands(BaseModel):
    """What a device can be told, what it was told, and who has locked it."""

    available: list[CommandTypeView]
    recent: list[CommandView]
    locks: list[LockView]


class CommandIn(BaseModel):
    """A command to ask for."""

    name: Annotated[str, StringConstraints(max_length=100)]
    parameters: dict[str, Any] = {}
    reason: Reason


class ReasonIn(BaseModel):
    """Why."""

    reason: Reason


@router.get("/devices/{device_id}/commands", response_model=None, responses={200: {"model": DeviceCommands}})
def list_device_commands(
    device_id: UUID, user: Watcher, web: CurrentWeb, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> Response:
    """What the device can be told now, and what it was told."""
    with _refusals(), web.transaction(user) as connection:
        device = _find_device(connection, device_id)
        recent = read_command_views(connection, device_id=device_id, limit=limit)
        locks = read_locks(connection, device_id)
    now = web.now()
    with web.worker_database.transaction() as look:
        available = [
            {
                "name": command.name,
                "title_zh": command.title_zh,
                "title_en": command.title_en,
                "schema": command.parameters.model_json_schema(),
                "second_person": command.second_person,
                "when_offline": command.when_offline,
                "expiry_s": command.expiry_s,
                "interlocks": [
                    {"code": i.code, "ok": i.ok, "params": i.params}
                    for i in judge_command(look, device, command, None, now)
                ],
            }
            for command in KINDS[device.kind].commands
        ]
    shown = [{name: getattr(lock, name) for name in LockView.model_fields} for lock in locks]
    return _answer({"available": available, "recent": recent, "locks": shown})


@router.post(
    "/devices/{device_id}/commands", status_code=201, response_model=None, responses={201: {"model": CommandView}}
)
def ask(device_id: UUID, body: CommandIn, user: Operator, web: CurrentWeb) -> Response:
    """Ask for a command. It comes back `refused` when an interlock is not ok, `requested` when a second person must approve."""
    with _refusals(), web.transaction(user) as connection, web.worker_database.transaction() as look:
        device, now = _find_device(connection, device_id), web.now()
        command = request_command(
            connection,
            device,
            body.name,
            body.parameters,
            actor=_actor(user),
            reason=body.reason,
            now=now,
            look=look,
        )
        detail = {"device": device.code, "name": body.name, "parameters": command.parameters, "reason": body.reason}
        _audit(connection, user, "command_requested", command.id, now, detail | {"state": str(command.state)})
        return _answer(_show(connection, command.id), 201)


@router.get("/commands", response_model=None, responses={200: {"model": list[CommandView]}})
def list_commands(
    user: Watcher,
    web: CurrentWeb,
    state: Literal["open", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> Response:
    """Commands in my scope, newest first. `open` includes those that ended in the last ten minutes."""
    with web.transaction(user) as connection:
        since = web.now() - _RECENT
        return _answer(read_command_views(connection, open_only=state == "open", since=since, limit=limit))


@router.get("/commands/{command_id}", response_model=None, responses={200: {"model": CommandView}})
def show_command(command_id: UUID, user: Watcher, web: CurrentWeb) -> Response:
    """One command."""
    with _refusals(), web.transaction(user) as connection:
        return _answer(_show(connection, command_id))


@router.post("/commands/{command_id}/approve", response_model=None, responses={200: {"model": CommandView}})
def approve(command_id: UUID, user: Operator, web: CurrentWeb) -> Response:
    """Be the second person. Whoever asked may not; the interlocks are judged again, and may refuse the command."""
    with _refusals(), web.transaction(user) as connection, web.worker_database.transaction() as look:
        command = approve_command(connection, command_id, _actor(user), web.now(), look=look)
        _audit(connection, user, "command_approved", command_id, web.now(), {"state": str(command.state)})
        return _answer(_show(connection, command_id))


@router.post("/commands/{command_id}/cancel", response_model=None, responses={200: {"model": CommandView}})
def cancel(command_id: UUID, body: ReasonIn, user: Operator, web: CurrentWeb) -> Response:
    """Take back a command that was not sent yet. 409 `already_sent` otherwise: halt the device instead."""
    with _refusals(), web.transaction(user) as connection:
        cancel_command(connection, command_id, _actor(user), body.reason, web.now())
        _audit(connection, user, "command_cancelled", command_id, web.now(), {"reason": body.reason})
        return _answer(_show(connection, command_id))


@router.post("/devices/{device_id}/locks", status_code=201, response_model=None, responses={201: {"model": LockView}})
def lock(device_id: UUID, body: ReasonIn, user: LockKeeper, web: CurrentWeb) -> Response:
    """Lock the device: while somebody works at it nothing that is not a halt may be sent to it."""
    with _refusals(), web.transaction(user) as connection:
        device, now = _find_device(connection, device_id), web.now()
        added = add_lock(connection, device, _actor(user), body.reason, now)
        _audit(connection, user, "device_locked", added.id, now, {"device": device.code, "reason": body.reason})
        return _answer({name: getattr(added, name) for name in LockView.model_fields}, 201)


@router.delete("/devices/{device_id}/locks/{lock_id}", status_code=204)
def unlock(device_id: UUID, lock_id: UUID, user: LockKeeper, web: CurrentWeb) -> None:
    """Take off a lock: who put it on, or an administrator."""
    with _refusals(), web.transaction(user) as connection:
        device, now = _find_device(connection, device_id), web.now()
        release_lock(connection, device, lock_id, _actor(user), now, anybodys=Role.ADMIN in user.roles)
        _audit(connection, user, "device_unlocked", lock_id, now, {"device": device.code})


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except CommandRefused as refused:
        status = _STATUS.get(refused.code, 409)
        raise Problem(status, refused.code, str(refused), **refused.params) from None


def _actor(user: User) -> CommandActor:
    return CommandActor(name=user.display_name, user_id=user.id)


def _find_device(connection: Connection, device_id: UUID) -> Device:
    row = connection.execute("SELECT code FROM device WHERE id = %s", (device_id,)).fetchone()
    try:
        device = read_device(connection, row[0]) if row else None
    except DeviceError:
        device = None
    if device is None or device.kind not in KINDS:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return device


def _show(connection: Connection, command_id: UUID) -> JsonObject:
    found = read_command_views(connection, ids=[command_id])
    if not found:
        raise Problem(404, "unknown_command", "There is no such command in your scope")
    return found[0]


def _answer(value: object, status: int = 200) -> Response:
    return Response(write_json(value), status, media_type=JSONResponse.media_type)


def _audit(
    connection: Connection, user: User, action: str, subject: UUID, now: datetime, detail: dict[str, Any]
) -> None:
    write_audit(connection, now, actor=user.name, action=action, subject=str(subject), detail=detail)
