"""What follows a batch of messages inside its transaction: commands that a reply or a reading answers, parking sessions.

Observers see fresh messages only, in the order of their instants, with the devices' states after the rules ran. Each is
`observe(connection, observation) -> None`; it looks at the kinds it cares for and returns at once when there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from devices import command_answer, firmware, reading
from devices.model import Device, DeviceState, Message
from devices.parking import flow as parking
from kernel.db import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One batch, as taken: devices by id, their new messages, their states after them."""

    devices: Mapping[UUID, Device]
    messages: Mapping[UUID, Sequence[Message]]
    states: Mapping[UUID, DeviceState]
    now: datetime


Observer = Callable[[Connection, Observation], None]
OBSERVERS: tuple[Observer, ...] = (reading.observe, command_answer.observe, parking.observe, firmware.observe)


def observe(connection: Connection, observation: Observation) -> None:
    """Let every observer look, in the caller's transaction."""
    for observer in OBSERVERS:
        observer(connection, observation)
