"""Nouns of commands: their states with the table of allowed changes, a command, who acts, how they are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class CommandState(StrEnum):
    """Where a command stands."""

    REQUESTED = "requested"  # 已申请; waits for the second person
    APPROVED = "approved"  # 已批准; waits for its sending
    SENT = "sent"  # 已下发; may have reached the device
    ACKNOWLEDGED = "acknowledged"  # 已应答; the device executes
    VERIFIED = "verified"  # 已核实 by read-back
    REFUSED = "refused"  # 已拒绝 by an interlock or by the device
    EXPIRED = "expired"  # 已过期
    FAILED = "failed"  # 失败: the device says so, or the read-back does not show it
    CANCELLED = "cancelled"  # 已撤销


TRANSITIONS: Mapping[CommandState, frozenset[CommandState]] = {
    CommandState.REQUESTED: frozenset(
        {CommandState.APPROVED, CommandState.REFUSED, CommandState.EXPIRED, CommandState.CANCELLED}
    ),
    CommandState.APPROVED: frozenset(
        {CommandState.SENT, CommandState.REFUSED, CommandState.EXPIRED, CommandState.CANCELLED}
    ),
    # No way to cancelled: what was sent may be moving already, and is halted by a command of its own.
    CommandState.SENT: frozenset(
        {CommandState.ACKNOWLEDGED, CommandState.REFUSED, CommandState.FAILED, CommandState.EXPIRED}
    ),
    # To refused: a device may accept and find its own switch turned before it begins.
    CommandState.ACKNOWLEDGED: frozenset({CommandState.VERIFIED, CommandState.REFUSED, CommandState.FAILED}),
}
OPEN_STATES = tuple(TRANSITIONS)


class OutcomeCode(StrEnum):
    """Why a command ended as it did (`outcome.code`)."""

    DONE = "done"  # verified by read-back
    INTERLOCKED = "interlocked"  # an interlock was not ok; the command has which
    DEVICE_REFUSED = "device_refused"  # detail: the device's word
    DEVICE_FAILED = "device_failed"
    NOT_VERIFIED = "not_verified"  # answered, and the read-back did not show it in time
    NOT_APPROVED = "not_approved"  # no second person in time
    NOT_SENT = "not_sent"  # the device was not heard, or the broker not there, in time
    NO_REPLY = "no_reply"  # sent, and no answer in time: whether it was done is not known
    HALTED = "halted"  # cancelled by a halting command
    CANCELLED = "cancelled"  # by a person
    UNUSABLE = "unusable"  # the kind no longer has this command


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandActor:
    """Who acts. `user_id` None: a part of the system, or somebody at the command line."""

    name: str
    user_id: UUID | None = None


SYSTEM = CommandActor(name="system")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """The row `command`."""

    id: UUID
    device_id: UUID
    name: str
    parameters: dict[str, Any]
    reason: str
    state: CommandState
    second_person: bool
    moving: bool
    nonce: str
    requested_by_id: UUID | None
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    seq: int | None = None
    approved_by_id: UUID | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None
    sent_at: datetime | None = None
    attempts: int = 0
    next_send_at: datetime | None = None
    acknowledged_at: datetime | None = None
    answered_at: datetime | None = None
    verify_until: datetime | None = None
    ended_at: datetime | None = None
    interlocks: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """The state as it comes from the database is text."""
        object.__setattr__(self, "state", CommandState(self.state))


class CommandRefused(Exception):
    """What was asked cannot be done and nothing was written; `code` is stable, `params` fill its text.

    unknown_device, unknown_command, bad_parameters, reason_required, disabled_device, command_open, not_allowed_in_state,
    requester_may_not_approve, named_person_required, already_sent, unknown_lock, not_your_lock.
    """

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(f"{code} {params}" if params else code)
        self.code = code
        self.params = params
