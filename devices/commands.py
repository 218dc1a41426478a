"""Commands to devices: request, second person, interlocks, sending, answers, read-back. Here what people do:
request, approve, cancel. devices/command_sending.py sends, devices/command_answer.py takes what devices say.

Each function is one step of a command's life inside the caller's transaction; `devices.command_store.change_command`
writes every state.
"""

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from devices.command_model import (
    SYSTEM,
    Command,
    CommandActor,
    CommandRefused,
    CommandState,
    OutcomeCode,
)
from devices.command_store import (
    change_command,
    insert_command,
    lock_command,
    lock_open,
    set_interlocks,
    wake_sender,
    write_interlocks,
)
from devices.interlock import judge_all
from devices.model import (
    CommandType,
    Device,
    Interlock,
    Situation,
)
from devices.registry import KINDS
from devices.situation import read_situation
from devices.store import read_device
from kernel.db import Connection
from kernel.ids import new_id


def find_command_type(device: Device, name: str) -> CommandType:
    """The kind's command of this name. Raises CommandRefused (unknown_command)."""
    kind = KINDS.get(device.kind)
    for command_type in kind.commands if kind is not None else ():
        if command_type.name == name:
            return command_type
    raise CommandRefused("unknown_command", name=name, kind=device.kind)


def judge_command(
    connection: Connection, device: Device, command_type: CommandType, parameters: BaseModel | None, now: datetime
) -> tuple[Interlock, ...]:
    """The command's interlocks as they are now. `connection` needs gw_worker's rights (see `read_situation`)."""
    try:
        return judge_in(device, command_type, read_situation(connection, device, now), parameters)
    except ValidationError:
        return (Interlock(code="settings_valid", ok=False),)


def judge_in(
    device: Device, command_type: CommandType, situation: Situation, parameters: BaseModel | None
) -> tuple[Interlock, ...]:
    found = judge_all(command_type, situation, parameters)
    return found if device.enabled else (Interlock(code="device_enabled", ok=False), *found)


# ---------------------------------------------------------------- people


def request_command(
    connection: Connection,
    device: Device,
    name: str,
    parameters: Mapping[str, Any],
    *,
    actor: CommandActor,
    reason: str,
    now: datetime,
    look: Connection | None = None,
) -> Command:
    """Ask for a command. It comes back requested (a second person must approve), approved, or refused when an interlock
    is not ok: that too is on record.

    `look`: a connection with gw_worker's rights when `connection` has a person's scope only.
    Raises CommandRefused (disabled_device, unknown_command, bad_parameters, reason_required, command_open), and then
    nothing was written and the transaction can go on.
    """
    command_type = find_command_type(device, name)
    if not device.enabled:
        raise CommandRefused("disabled_device")
    if not reason.strip():
        raise CommandRefused("reason_required")
    checked = check_parameters(command_type, parameters)
    interlocks = judge_command(look or connection, device, command_type, checked, now)
    command = Command(
        id=new_id(now),
        device_id=device.id,
        name=name,
        parameters=checked.model_dump(mode="json"),
        reason=reason.strip(),
        state=CommandState.REQUESTED,
        second_person=command_type.second_person,
        moving=command_type.moving,
        nonce=secrets.token_hex(16),
        requested_by_id=actor.user_id,
        requested_by=actor.name,
        requested_at=now,
        expires_at=now + timedelta(seconds=command_type.expiry_s),
        interlocks=[asdict(interlock) for interlock in interlocks],
    )
    if not insert_command(connection, command, device, actor):
        raise CommandRefused("command_open")
    if not all_ok(interlocks):
        return refuse_interlocked(connection, command, interlocks, SYSTEM, now)
    if command_type.halts:
        _halt_others(connection, command, actor, now)
    if command_type.second_person:
        return command
    return _approve(connection, command, SYSTEM, now)


def approve_command(
    connection: Connection, command_id: UUID, actor: CommandActor, now: datetime, *, look: Connection | None = None
) -> Command:
    """The second person says yes; the interlocks are judged again, and one that is not ok refuses the command.

    Raises CommandRefused (unknown_command, named_person_required, requester_may_not_approve, not_allowed_in_state).
    """
    command = lock_command(connection, command_id)
    if actor.user_id is None:
        raise CommandRefused("named_person_required")
    if actor.user_id == command.requested_by_id:
        raise CommandRefused("requester_may_not_approve")
    if command.state is not CommandState.REQUESTED or command.expires_at <= now:
        raise CommandRefused("not_allowed_in_state", state=str(command.state), to=str(CommandState.APPROVED))
    device = read_device_of(connection, command.device_id)
    command_type = find_command_type(device, command.name)
    parameters = check_parameters(command_type, command.parameters)
    interlocks = judge_command(look or connection, device, command_type, parameters, now)
    if not all_ok(interlocks):
        return refuse_interlocked(connection, command, interlocks, actor, now)
    set_interlocks(connection, command.id, interlocks)
    return _approve(connection, command, actor, now)


def cancel_command(
    connection: Connection, command_id: UUID, actor: CommandActor, reason: str, now: datetime
) -> Command:
    """Take back a command that was not sent yet.

    Raises CommandRefused (unknown_command, reason_required, already_sent, not_allowed_in_state).
    """
    command = lock_command(connection, command_id)
    if not reason.strip():
        raise CommandRefused("reason_required")
    if command.state in (CommandState.SENT, CommandState.ACKNOWLEDGED):
        raise CommandRefused("already_sent", state=str(command.state))
    return change_command(
        connection,
        command,
        CommandState.CANCELLED,
        actor,
        now,
        detail={"reason": reason.strip()},
        outcome=OutcomeCode.CANCELLED,
        outcome_detail=reason.strip(),
    )


def check_parameters(command_type: CommandType, parameters: Mapping[str, Any]) -> BaseModel:
    try:
        return command_type.parameters.model_validate(dict(parameters))
    except ValidationError as error:
        fields = [{"where": [str(part) for part in e["loc"]], "reason": e["type"]} for e in error.errors()]
        raise CommandRefused("bad_parameters", fields=fields) from None


def all_ok(interlocks: tuple[Interlock, ...]) -> bool:
    return all(interlock.ok for interlock in interlocks)


def _approve(connection: Connection, command: Command, actor: CommandActor, now: datetime) -> Command:
    columns: dict[str, Any] = {"approved_at": now, "next_send_at": now}
    if command.second_person:
        columns |= {"approved_by_id": actor.user_id, "approved_by": actor.name}
    approved = change_command(connection, command, CommandState.APPROVED, actor, now, columns=columns)
    wake_sender(connection)
    return approved


def refuse_interlocked(
    connection: Connection, command: Command, interlocks: tuple[Interlock, ...], actor: CommandActor, now: datetime
) -> Command:
    codes = [interlock.code for interlock in interlocks if not interlock.ok]
    return change_command(
        connection,
        command,
        CommandState.REFUSED,
        actor,
        now,
        detail={"interlocks": codes},
        outcome=OutcomeCode.INTERLOCKED,
        outcome_detail=", ".join(codes),
        columns={"interlocks": write_interlocks(interlocks)},
    )


def _halt_others(connection: Connection, halting: Command, actor: CommandActor, now: datetime) -> None:
    """A halt sent before a movement that still waits would leave the movement for afterwards."""
    for command in lock_open(connection, device_ids=[halting.device_id]):
        if command.id != halting.id and command.state in (CommandState.REQUESTED, CommandState.APPROVED):
            change_command(
                connection,
                command,
                CommandState.CANCELLED,
                actor,
                now,
                detail={"halted_by": str(halting.id)},
                outcome=OutcomeCode.HALTED,
            )


def read_device_of(connection: Connection, device_id: UUID) -> Device:
    row = connection.execute("SELECT code FROM device WHERE id = %s", (device_id,)).fetchone()
    if row is None:
        raise CommandRefused("unknown_device")
    return read_device(connection, row[0])
