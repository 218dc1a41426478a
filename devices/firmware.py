"""What a device says about its own firmware goes into the register, over what was written there by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from devices.model import read_field
from kernel.db import Connection

if TYPE_CHECKING:
    from devices.observe import Observation

_CHARACTERS = 200


def observe(connection: Connection, observation: Observation) -> None:
    """Note the firmware of devices whose newest message names another one than the register."""
    told: dict[UUID, str] = {}
    for device_id, messages in observation.messages.items():
        known = observation.devices[device_id].firmware
        newest_at = observation.states[device_id].measured_at
        for message in messages:
            if newest_at is not None and message.measured_at < newest_at:
                continue  # late: the device has said something since
            if "firmware" not in message.payload.model_fields_set:
                continue
            firmware = read_field(message.payload, "firmware")
            if isinstance(firmware, str) and firmware and firmware.isprintable():
                told[device_id] = firmware[:_CHARACTERS]
        if told.get(device_id) == known:
            del told[device_id]
    if told:
        ids = sorted(told)  # in one order, so that two workers never block each other for good
        connection.execute(
            """
            UPDATE device d SET firmware = v.firmware, changed_at = %s
            FROM (SELECT o.id, t.firmware FROM device o JOIN unnest(%s::uuid[], %s::text[]) AS t (id, firmware) USING (id)
                  WHERE o.firmware <> t.firmware ORDER BY o.id FOR NO KEY UPDATE OF o) AS v
            WHERE d.id = v.id
            """,
            (observation.now, ids, [told[device_id] for device_id in ids]),
        )
