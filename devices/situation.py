"""The SQL behind interlocks: a device's situation with its related devices, people seen by cameras, and locks."""

from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from devices.alarms import is_heard, read_settings
from devices.interlock import CAMERA_FRESH_S, PRESENCE_S
from devices.model import CommandLock, Device, DeviceState, Presence, Relation, Situation
from devices.registry import KINDS
from devices.store import read_devices_by_code, read_states
from kernel.db import Connection

_PEOPLE_RULES = ["crowding"]  # of vision: the rule that counts people in a zone


def read_situation(connection: Connection, device: Device, now: datetime) -> Situation:
    """What the interlocks of the device's commands look at. Needs the rights of gw_worker: related devices may lie in
    another scope, and one that is not seen is judged as not known.

    Raises pydantic.ValidationError when the device's stored settings do not fit its kind.
    """
    kind = KINDS[device.kind]
    settings = read_settings(kind, device)
    codes = {code for group in settings.related.values() for code in group}
    others = read_devices_by_code(connection, codes) if codes else {}
    states = read_states(connection, [device.id, *(other.id for other in others.values() if other.enabled)])
    state = states.get(device.id, DeviceState())
    related = {
        relation: {code: states.get(others[code].id) if code in others else None for code in group}
        for relation, group in settings.related.items()
    }
    cameras = [others[code].id for code in settings.related.get(Relation.CAMERA, ()) if code in others]
    return Situation(
        settings=settings,
        state=state,
        heard=is_heard(kind, device, state, now),
        related=related,
        watched=read_watched(connection, cameras, now) if cameras else frozenset(),
        presences=read_presences(connection, cameras, now) if cameras else (),
        locks=read_locks(connection, device.id),
        now=now,
    )


def read_presences(connection: Connection, camera_ids: list[UUID], now: datetime) -> tuple[Presence, ...]:
    """Zones of these cameras in which people were seen within PRESENCE_S: counted at the rule's last look, in an episode
    that goes on, or reported."""
    rows = connection.execute(
        """
        SELECT d.code, v.zone, v.saved_at FROM vision_state v JOIN device d ON d.id = v.device_id
        WHERE v.device_id = ANY (%(cameras)s) AND v.rule = ANY (%(rules)s) AND v.saved_at >= %(since)s
          AND (v.state #>> '{state,raised_s}' IS NOT NULL OR coalesce((v.state #>> '{state,counts,-1,people}')::numeric, 0) > 0)
        UNION ALL
        SELECT d.code, r.zone, r.received_at FROM report r JOIN device d ON d.id = r.device_id
        WHERE r.device_id = ANY (%(cameras)s) AND r.rule = ANY (%(rules)s) AND r.received_at >= %(since)s
        ORDER BY 3 DESC
        """,
        {"cameras": camera_ids, "rules": _PEOPLE_RULES, "since": now - timedelta(seconds=PRESENCE_S)},
    ).fetchall()
    return tuple(Presence(camera=code, zone=zone, seen_at=at) for code, zone, at in rows)


def read_watched(connection: Connection, camera_ids: list[UUID], now: datetime) -> frozenset[str]:
    """Codes of those cameras whose people rule remembered what it saw within CAMERA_FRESH_S."""
    rows = connection.execute(
        "SELECT DISTINCT d.code FROM vision_state v JOIN device d ON d.id = v.device_id"
        " WHERE v.device_id = ANY (%s) AND v.rule = ANY (%s) AND v.saved_at >= %s",
        (camera_ids, _PEOPLE_RULES, now - timedelta(seconds=CAMERA_FRESH_S)),
    ).fetchall()
    return frozenset(code for (code,) in rows)


def read_locks(connection: Connection, device_id: UUID) -> tuple[CommandLock, ...]:
    """Open locks on the device, oldest first."""
    with connection.cursor(row_factory=class_row(CommandLock)) as cursor:
        return tuple(
            cursor.execute(
                "SELECT id, reason, locked_by_id, locked_by, locked_at FROM command_lock"
                " WHERE device_id = %s AND released_at IS NULL ORDER BY locked_at, id",
                (device_id,),
            ).fetchall()
        )
