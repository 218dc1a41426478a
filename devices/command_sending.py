"""Sending commands: the interlocks are judged in the transaction of every sending, and `sent` is committed first.

What is sent is sent again until it is answered or expired: a restart at any point neither loses a command nor, since a
device executes an id once, repeats it.
"""

import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from devices.command_model import SYSTEM, Command, CommandRefused, CommandState, OutcomeCode
from devices.command_store import (
    change_command,
    draw_seq,
    lock_due,
    lock_silent,
    note_event,
    resend_after,
    set_interlocks,
    set_sending,
    write_interlocks,
)
from devices.commands import all_ok, check_parameters, find_command_type, judge_in, read_device_of, refuse_interlocked
from devices.model import Device, Interlock, WhenOffline, write_instant
from devices.situation import read_situation
from kernel.db import Connection

log = logging.getLogger(__name__)
_ABSENT_RETRY = timedelta(seconds=5)  # the device's being heard wakes the sender sooner
_REPLY_GRACE = timedelta(seconds=10)  # an answer given in time may still be on its way
_HOPELESS = timedelta(seconds=120)  # even when we cannot tell whether answers wait somewhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A command to be published after the commit."""

    topic: str
    payload: bytes
    expires_at: datetime


def take_due(connection: Connection, now: datetime, limit: int = 100) -> list[Outgoing]:
    """Commands to publish once this transaction is committed, each with its interlocks judged in it."""
    outgoing = []
    for command in lock_due(connection, now, limit):
        try:
            with connection.transaction():
                ready = _send(connection, command, now)
        except psycopg.OperationalError:
            raise
        except Exception:  # one command's fault holds up no other
            log.exception("command %s cannot be sent", command.id)
            set_sending(connection, command.id, now + timedelta(seconds=30))
            continue
        if ready is not None:
            outgoing.append(ready)
    return outgoing


def _send(connection: Connection, command: Command, now: datetime) -> Outgoing | None:
    if command.expires_at <= now:
        set_sending(connection, command.id, None)  # `end_silent` says so
        return None
    device = read_device_of(connection, command.device_id)
    try:
        command_type = find_command_type(device, command.name)
        parameters = check_parameters(command_type, command.parameters)
    except CommandRefused as error:
        _drop(connection, command, error, now)
        return None
    situation = read_situation(connection, device, now)
    if command_type.when_offline is WhenOffline.WAIT and not situation.heard and device.enabled:
        set_sending(connection, command.id, now + _ABSENT_RETRY)
        return None
    interlocks = judge_in(device, command_type, situation, parameters)
    if not all_ok(interlocks):
        _withhold(connection, command, interlocks, now)
        return None
    attempts = command.attempts + 1
    if command.state is CommandState.APPROVED:
        columns = {
            "seq": draw_seq(connection, device.id),
            "sent_at": now,
            "attempts": attempts,
            "next_send_at": now + resend_after(attempts),
            "expires_at": min(command.expires_at, now + timedelta(seconds=command_type.ack_timeout_s)),
            "interlocks": write_interlocks(interlocks),
        }
        if command_type.when_offline is WhenOffline.WAIT:
            columns["expires_at"] = command.expires_at
        command = change_command(connection, command, CommandState.SENT, SYSTEM, now, columns=columns)
    else:
        set_sending(connection, command.id, now + resend_after(attempts), attempts=attempts)
    return write_command(command, device, now)


def _drop(connection: Connection, command: Command, error: CommandRefused, now: datetime) -> None:
    """What was never sent is refused; what was sent waits for its answer or its end."""
    if command.state is CommandState.APPROVED:
        change_command(
            connection,
            command,
            CommandState.REFUSED,
            SYSTEM,
            now,
            detail={"error": error.code},
            outcome=OutcomeCode.UNUSABLE,
            outcome_detail=error.code,
        )
    else:
        set_sending(connection, command.id, None)


def _withhold(connection: Connection, command: Command, interlocks: tuple[Interlock, ...], now: datetime) -> None:
    """An interlock is not ok at the moment of sending.

    A command that was sent before may have been executed already: it is not sent again, and waits for its answer or end.
    """
    if command.state is CommandState.APPROVED:
        refuse_interlocked(connection, command, interlocks, SYSTEM, now)
        return
    set_sending(connection, command.id, None)
    set_interlocks(connection, command.id, interlocks)
    codes = [interlock.code for interlock in interlocks if not interlock.ok]
    note_event(connection, command, SYSTEM, now, {"not_sent_again": codes})


def write_command(command: Command, device: Device, now: datetime) -> Outgoing:
    """The message to the device."""
    body = {
        "v": 1,
        "id": str(command.id),
        "seq": command.seq,
        "nonce": command.nonce,
        "at": write_instant(now),
        "expires_at": write_instant(command.expires_at),
        "name": command.name,
        "parameters": command.parameters,
    }
    topic = f"gridwarden/{device.kind}/{device.code}/command"
    return Outgoing(topic=topic, payload=json.dumps(body).encode(), expires_at=command.expires_at)


def end_silent(connection: Connection, now: datetime, *, hears_all: bool, limit: int = 500) -> int:
    """End the commands whose time is over; how many.

    `hears_all`: messages come without a break and none waits behind us. Otherwise an answer may lie in a queue (we were
    restarted, the broker was away), and its absence says nothing until much later.
    """
    commands = lock_silent(connection, now, now - (_REPLY_GRACE if hears_all else _HOPELESS), limit)
    for command in commands:
        to, code = {
            CommandState.REQUESTED: (CommandState.EXPIRED, OutcomeCode.NOT_APPROVED),
            CommandState.APPROVED: (CommandState.EXPIRED, OutcomeCode.NOT_SENT),
            CommandState.SENT: (CommandState.EXPIRED, OutcomeCode.NO_REPLY),
            CommandState.ACKNOWLEDGED: (CommandState.FAILED, OutcomeCode.NOT_VERIFIED),
        }[command.state]
        change_command(connection, command, to, SYSTEM, now, detail={"code": str(code)}, outcome=code)
    return len(commands)
