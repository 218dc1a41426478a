"""Locks (挂牌上锁): who works at a device keeps everybody else from moving it until the lock is taken off."""

from datetime import datetime
from uuid import UUID

from devices.command_model import CommandActor, CommandRefused
from devices.model import CommandLock, Device
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id


def add_lock(connection: Connection, device: Device, actor: CommandActor, reason: str, now: datetime) -> CommandLock:
    """Lock the device. Several people may: each lock holds until it is taken off."""
    lock = CommandLock(id=new_id(now), reason=reason, locked_by_id=actor.user_id, locked_by=actor.name, locked_at=now)
    connection.execute(
        "INSERT INTO command_lock (id, device_id, reason, locked_by_id, locked_by, locked_at)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (lock.id, device.id, reason, actor.user_id, actor.name, now),
    )
    note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)
    return lock


def release_lock(
    connection: Connection, device: Device, lock_id: UUID, actor: CommandActor, now: datetime, *, anybodys: bool
) -> None:
    """Take a lock off. Raises CommandRefused (unknown_lock, not_your_lock unless `anybodys`)."""
    row = connection.execute(
        "SELECT locked_by_id FROM command_lock WHERE id = %s AND device_id = %s AND released_at IS NULL FOR UPDATE",
        (lock_id, device.id),
    ).fetchone()
    if row is None:
        raise CommandRefused("unknown_lock")
    if row[0] != actor.user_id and not anybodys:
        raise CommandRefused("not_your_lock")
    connection.execute(
        "UPDATE command_lock SET released_by_id = %s, released_by = %s, released_at = %s WHERE id = %s",
        (actor.user_id, actor.name, now, lock_id),
    )
    note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)
