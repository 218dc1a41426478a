"""What devices say moves commands: answers, and readings that show that something was done."""

import hmac
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from devices.command_model import OPEN_STATES, SYSTEM, Command, CommandActor, CommandState, OutcomeCode
from devices.command_store import (
    change_command,
    lock_open,
    note_event,
    read_commands,
    read_open,
    set_sending,
    wake_sender,
)
from devices.commands import check_parameters, find_command_type
from devices.model import Device, DeviceState, Message, Reply, TopicKind
from devices.registry import KINDS
from kernel.audit import write_audit
from kernel.db import Connection

if TYPE_CHECKING:  # observe.py names its observers, this one among them
    from devices.observe import Observation

log = logging.getLogger(__name__)
_DEVICE = CommandActor(name="device")


def observe(connection: Connection, observation: "Observation") -> None:
    """Let answers and read-backs of one batch move the commands they belong to."""
    commandable = [
        device_id for device_id in observation.messages if KINDS[observation.devices[device_id].kind].commands
    ]
    if not commandable:
        return
    replies = [
        (device_id, message, message.payload)
        for device_id in commandable
        for message in observation.messages[device_id]
        if message.topic_kind is TopicKind.REPLY and isinstance(message.payload, Reply)
    ]
    answered = {found for _, _, reply in replies if (found := _read_id(reply.command_id)) is not None}
    moving = {
        command.id
        for command in read_open(connection, commandable)
        if command.id in answered or _is_moved(command, observation)
    }
    # Only what this batch moves is locked: the sender passes by what somebody holds, and would come back later.
    commands = {command.id: command for command in lock_open(connection, ids=moving)} if moving else {}
    if replies:
        commands = _take_replies(connection, observation, replies, commands)
    for command in commands.values():
        if command.state is CommandState.ACKNOWLEDGED and _is_verified(command, observation):
            change_command(
                connection, command, CommandState.VERIFIED, SYSTEM, observation.now, outcome=OutcomeCode.DONE
            )
        elif _is_waiting(command, observation.now):
            set_sending(connection, command.id, observation.now)
            wake_sender(connection)


def _is_moved(command: Command, observation: "Observation") -> bool:
    """Whether readings alone move the command, or the device's being heard does."""
    return _is_waiting(command, observation.now) or _is_verified(command, observation)


def _is_waiting(command: Command, now: datetime) -> bool:
    """Whether it waits for a device that is heard now."""
    due_at = command.next_send_at
    waits = command.state in (CommandState.APPROVED, CommandState.SENT)
    return waits and due_at is not None and due_at - now > timedelta(seconds=1)


def _is_verified(command: Command, observation: "Observation") -> bool:
    if command.state is not CommandState.ACKNOWLEDGED or command.answered_at is None:
        return False
    command_type = find_command_type(observation.devices[command.device_id], command.name)
    state: DeviceState = observation.states.get(command.device_id, DeviceState())
    parameters = check_parameters(command_type, command.parameters)
    return command_type.verified(state, parameters, command.answered_at)


def _take_replies(
    connection: Connection,
    observation: "Observation",
    replies: list[tuple[UUID, Message, Reply]],
    commands: dict[UUID, Command],
) -> dict[UUID, Command]:
    wanted = {found for _, _, reply in replies if (found := _read_id(reply.command_id)) is not None}
    ended = read_commands(connection, wanted - set(commands))
    for device_id, message, reply in sorted(replies, key=lambda item: (item[1].measured_at, item[1].seq or 0)):
        command_id = _read_id(reply.command_id)
        command = commands.get(command_id) or ended.get(command_id) if command_id is not None else None
        if command is None or not _is_genuine(command, device_id, reply):
            _refuse_reply(connection, observation.devices[device_id], reply, observation.now)
        elif command.id in commands:
            commands[command.id] = _take_reply(connection, command, message, reply, observation)
        else:
            note_event(connection, command, _DEVICE, observation.now, _describe(reply) | {"late": True})
    return commands


def _is_genuine(command: Command, device_id: UUID, reply: Reply) -> bool:
    sent = command.sent_at is not None  # before its sending nobody could know the nonce
    return sent and command.device_id == device_id and hmac.compare_digest(command.nonce, reply.nonce)


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _describe(reply: Reply) -> dict[str, Any]:
    return {"result": reply.result} | ({"detail": reply.detail} if reply.detail else {})


def _refuse_reply(connection: Connection, device: Device, reply: Reply, now: datetime) -> None:
    """An answer to no command of this device, or with another nonce: it changes nothing and is written down."""
    log.warning("an answer of %s was refused", device.code, extra={"command_id": reply.command_id})
    write_audit(
        connection,
        now,
        actor=f"device {device.code}",
        action="command_reply_refused",
        subject=reply.command_id,
        detail={"device": device.code, "result": reply.result},
    )


def _take_reply(
    connection: Connection, command: Command, message: Message, reply: Reply, observation: "Observation"
) -> Command:
    now, detail = observation.now, _describe(reply)
    if command.state not in OPEN_STATES:
        note_event(connection, command, _DEVICE, now, detail | {"late": True})
        return command
    if reply.result in ("accepted", "done"):
        if command.state is CommandState.ACKNOWLEDGED:
            if reply.result == "done":
                note_event(connection, command, _DEVICE, now, detail)
            return command
        command_type = find_command_type(observation.devices[command.device_id], command.name)
        columns = {
            "acknowledged_at": now,
            "answered_at": message.measured_at,
            "verify_until": now + timedelta(seconds=command_type.verify_timeout_s),
            "next_send_at": None,
        }
        return change_command(
            connection, command, CommandState.ACKNOWLEDGED, _DEVICE, now, detail=detail, columns=columns
        )
    to = CommandState.REFUSED if reply.result == "refused" else CommandState.FAILED
    outcome = OutcomeCode.DEVICE_REFUSED if reply.result == "refused" else OutcomeCode.DEVICE_FAILED
    return change_command(
        connection, command, to, _DEVICE, now, detail=detail, outcome=outcome, outcome_detail=reply.detail
    )
