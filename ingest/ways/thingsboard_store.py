"""The SQL of ThingsBoard's way in: attributes that devices tell, and calls that were handed to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from devices.model import Device
from ingest.ways.thingsboard import find_firmware
from kernel.db import Connection

_MOST_ATTRIBUTES = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A command that was handed to a device under a number of its own."""

    number: int
    command_id: str
    nonce: str


def save_attributes(connection: Connection, device: Device, values: Mapping[str, Any], now: datetime) -> None:
    """Keep the newest of each attribute, and the firmware's version where it says it. Beyond 200 names nothing is kept."""
    rows = [(name[:100].replace("\x00", ""), Jsonb(value)) for name, value in list(values.items())[:_MOST_ATTRIBUTES]]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO device_attribute (device_id, name, value, changed_at) SELECT %s, %s, %s, %s"
            " WHERE (SELECT count(*) FROM device_attribute WHERE device_id = %s) < %s"
            " ON CONFLICT (device_id, name) DO UPDATE SET value = EXCLUDED.value, changed_at = EXCLUDED.changed_at",
            [(device.id, name, value, now, device.id, _MOST_ATTRIBUTES) for name, value in rows],
        )
    firmware = find_firmware(values)
    if firmware is not None:
        connection.execute(
            "UPDATE device SET firmware = %s, changed_at = %s WHERE id = %s AND firmware <> %s",
            (firmware, now, device.id, firmware),
        )


def read_attributes(connection: Connection, device_id: UUID, names: Sequence[str] | None) -> dict[str, Any]:
    """What the device told, all of it or some."""
    rows = connection.execute(
        "SELECT name, value FROM device_attribute WHERE device_id = %s AND (%s::text[] IS NULL OR name = ANY (%s))",
        (device_id, names if names is None else list(names), names if names is None else list(names)),
    ).fetchall()
    return dict(rows)


def begin_call(connection: Connection, device: Device, command_id: str, nonce: str, now: datetime) -> int | None:
    """A number for handing this command to the device; None when that was done before.

    Committed before anything is sent: a device of this kind cannot tell a repeat, so it gets a command once or not at all.
    """
    row = connection.execute(
        "INSERT INTO rpc_call (device_id, command_id, nonce, called_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (device_id, command_id) DO NOTHING RETURNING number",
        (device.id, command_id, nonce, now),
    ).fetchone()
    return row[0] if row else None


def end_call(connection: Connection, device_id: UUID, number: int, now: datetime) -> Call | None:
    """The call that the device answers; None when it was never called so."""
    with connection.cursor(row_factory=class_row(Call)) as cursor:
        return cursor.execute(
            "UPDATE rpc_call SET answered_at = coalesce(answered_at, %s) WHERE number = %s AND device_id = %s"
            " RETURNING number, command_id, nonce",
            (now, number, device_id),
        ).fetchone()


def forget_calls(connection: Connection, before: datetime) -> int:
    """Delete calls made before that instant; how many. Commands expire within minutes, so months are safe."""
    return connection.execute("DELETE FROM rpc_call WHERE called_at < %s", (before,)).rowcount
