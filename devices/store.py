"""The SQL of devices, cameras and their states."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from devices.model import Device, DeviceState, DeviceStatus
from devices.registry import KINDS
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id

DEVICE_COLUMNS = "id, code, kind, name, lon, lat, source_crs, cell_code, area_code, settings, enabled, parent_id, in_home, consent_until, firmware, certify_until"
"""Of the table `device`, as `Device` takes them; their names are no other table's that it is joined with."""


class DeviceError(ValueError):
    """A device cannot be registered or changed as asked; `code` is stable, the text says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceRecord:
    """What is said about a device when it is registered. Position in degrees, CGCS2000."""

    code: str  # the name in its topics: [A-Za-z0-9_.-]{1,64}
    kind: str
    name: str
    lon: float
    lat: float
    source_crs: str = "EPSG:4490"
    cell_code: str = ""
    area_code: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    parent_id: UUID | None = None  # the gateway it hangs on
    source_lon: float | None = None  # as given, in source_crs; None: the same as lon and lat
    source_lat: float | None = None
    component_code: str = ""
    owner_unit: str = ""
    competent_unit: str = ""
    maintenance_unit: str = ""
    maker: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    building: str = ""
    floor: str = ""
    household: str = ""


TEXT_FIELDS = (
    "component_code", "owner_unit", "competent_unit", "maintenance_unit", "maker", "model", "serial", "firmware",
    "building", "floor", "household",
)  # fmt: skip
"""What the register holds in words: columns of `device` and fields of DeviceRecord."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """What a device of kind camera has besides. `url` may hold a password: never log or send it."""

    device_id: UUID
    url: str
    scene: dict[str, Any]
    heading_deg: float | None
    fov_deg: float | None
    range_m: float | None

    def __repr__(self) -> str:
        return f"Camera(device_id={self.device_id!r})"


def add_device(connection: Connection, record: DeviceRecord, now: datetime) -> Device:
    """Register a device.

    Raises DeviceError (bad_code, unknown_kind, bad_position, bad_text, bad_settings, code_taken).
    """
    _check_record(record)
    device_id = new_id(now)
    values = {
        "id": device_id,
        "code": record.code,
        "kind": record.kind,
        "name": record.name,
        "lon": record.lon,
        "lat": record.lat,
        "source_crs": record.source_crs,
        "source_lon": record.lon if record.source_lon is None else record.source_lon,
        "source_lat": record.lat if record.source_lat is None else record.source_lat,
        "cell_code": record.cell_code,
        "area_code": record.area_code,
        "settings": Jsonb(record.settings),
        "enabled": record.enabled,
        "parent_id": record.parent_id,
        **{name: getattr(record, name) for name in TEXT_FIELDS},
        "created_at": now,
        "changed_at": now,
    }
    row = connection.execute(
        f"INSERT INTO device ({', '.join(values)}) VALUES ({', '.join(f'%({name})s' for name in values)})"
        " ON CONFLICT (code) DO NOTHING RETURNING id",
        values,
    ).fetchone()
    if row is None:
        raise DeviceError("code_taken", f"a device {record.code} exists already")
    connection.execute("INSERT INTO device_state (device_id, updated_at) VALUES (%s, %s)", (device_id, now))
    note_change(connection, ChangeKind.DEVICE, device_id, record.area_code, now)
    return read_device(connection, record.code)


def add_camera(
    connection: Connection,
    record: DeviceRecord,
    url: str,
    now: datetime,
    *,
    scene: Mapping[str, Any] | None = None,
    heading_deg: float | None = None,
    fov_deg: float | None = None,
    range_m: float | None = None,
) -> Device:
    """Register a camera; `url` and `scene` are checked by those who use them (ingest.address, vision.scene).

    Raises DeviceError as `add_device`, and not_a_camera.
    """
    if record.kind != "camera":
        raise DeviceError("not_a_camera", f"{record.code} is a {record.kind}, not a camera")
    device = add_device(connection, record, now)
    connection.execute(
        "INSERT INTO camera (device_id, url, scene, heading_deg, fov_deg, range_m) VALUES (%s, %s, %s, %s, %s, %s)",
        (device.id, url, Jsonb(dict(scene) if scene is not None else {"zones": []}), heading_deg, fov_deg, range_m),
    )
    return device


def _check_record(record: DeviceRecord) -> None:
    if not is_device_code(record.code):
        raise DeviceError("bad_code", f"{record.code!r}: a device code is 1 to 64 of A-Z a-z 0-9 _ . -")
    if record.kind not in KINDS:
        raise DeviceError("unknown_kind", f"{record.kind!r} is none of {', '.join(KINDS)}")
    if not (-180 <= record.lon <= 180 and -90 <= record.lat <= 90):  # a NaN compares false, and is refused with it
        raise DeviceError("bad_position", f"{record.lon}, {record.lat} is no longitude and latitude")
    check_texts({"name": record.name, **{name: getattr(record, name) for name in TEXT_FIELDS}})
    check_settings(record.kind, record.settings)


def check_texts(texts: Mapping[str, str]) -> None:
    """Raises DeviceError (bad_text) for a text of more than 200 characters, or with controls, marks of writing direction
    or line ends in it. Rare and new Han characters and full-width spaces are fine."""
    for name, text in texts.items():
        if len(text) > 200 or any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text):
            raise DeviceError("bad_text", f"{name}: at most 200 characters, no control characters: {text[:40]!r}")


def is_device_code(text: str) -> bool:
    """Whether `text` may stand in a topic as a device's name."""
    return 1 <= len(text) <= 64 and text.isascii() and all(c.isalnum() or c in "_.-" for c in text)


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Raises DeviceError (bad_settings) naming the first one that does not fit the kind."""
    try:
        KINDS[kind].settings.model_validate(dict(settings))
    except ValueError as error:
        raise DeviceError("bad_settings", f"settings of a {kind}: {error}") from None


def write_changes(connection: Connection, device_id: UUID, values: Mapping[str, Any], now: datetime) -> None:
    """Write columns of a device's row; the values are checked by the caller."""
    columns = {**values, "changed_at": now}
    connection.execute(
        f"UPDATE device SET {', '.join(f'{name} = %({name})s' for name in columns)} WHERE id = %(device_id)s",
        {**columns, "device_id": device_id},
    )


def set_device_settings(connection: Connection, code: str, settings: Mapping[str, Any], now: datetime) -> Device:
    """Replace the device's settings; running roles take them up within seconds.

    Raises DeviceError (unknown_device, bad_settings).
    """
    device = read_device(connection, code)
    check_settings(device.kind, settings)
    connection.execute(
        "UPDATE device SET settings = %s, changed_at = %s WHERE id = %s", (Jsonb(dict(settings)), now, device.id)
    )
    note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)
    return read_device(connection, code)


def set_device_enabled(connection: Connection, code: str, enabled: bool, now: datetime) -> Device:
    """Switch a device on or off; messages of one that is off are dead-lettered.

    Raises DeviceError (unknown_device).
    """
    device = read_device(connection, code)
    connection.execute("UPDATE device SET enabled = %s, changed_at = %s WHERE id = %s", (enabled, now, device.id))
    note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)
    return read_device(connection, code)


def set_certify_until(connection: Connection, device: Device, until_at: datetime | None, now: datetime) -> None:
    """Withhold the device's first receipts until then (None: no more), so that it has to repeat its messages."""
    connection.execute(
        "UPDATE device SET certify_until = %s, changed_at = %s WHERE id = %s", (until_at, now, device.id)
    )


def read_device(connection: Connection, code: str) -> Device:
    """The device with this code.

    Raises DeviceError (unknown_device).
    """
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        device = cursor.execute(f"SELECT {DEVICE_COLUMNS} FROM device WHERE code = %s", (code,)).fetchone()
    if device is None:
        raise DeviceError("unknown_device", f"no device {code!r}")
    return device


def read_devices(connection: Connection, kind: str | None = None) -> list[Device]:
    """All devices, or those of one kind, by code."""
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        return cursor.execute(
            f"SELECT {DEVICE_COLUMNS} FROM device WHERE %(kind)s::text IS NULL OR kind = %(kind)s ORDER BY code",
            {"kind": kind},
        ).fetchall()


def read_devices_by_code(connection: Connection, codes: Iterable[str]) -> dict[str, Device]:
    """Those of `codes` that exist, by code."""
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        found = cursor.execute(f"SELECT {DEVICE_COLUMNS} FROM device WHERE code = ANY (%s)", (list(codes),)).fetchall()
    return {device.code: device for device in found}


def read_devices_by_id(connection: Connection, device_ids: Collection[UUID]) -> list[Device]:
    """Those of `device_ids` that exist."""
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        return cursor.execute(
            f"SELECT {DEVICE_COLUMNS} FROM device WHERE id = ANY (%s)", (list(device_ids),)
        ).fetchall()


def read_camera(connection: Connection, device_id: UUID) -> Camera | None:
    """What the camera has besides its device row."""
    with connection.cursor(row_factory=class_row(Camera)) as cursor:
        return cursor.execute(
            "SELECT device_id, url, scene, heading_deg, fov_deg, range_m FROM camera WHERE device_id = %s", (device_id,)
        ).fetchone()


def read_states(connection: Connection, device_ids: Iterable[UUID]) -> dict[UUID, DeviceState]:
    """States of these devices that have one, not locked."""
    return _read_states(connection, list(device_ids), "")


def read_state(connection: Connection, device_id: UUID) -> DeviceState:
    """The device's state; the empty one when it was never heard."""
    return _read_states(connection, [device_id], "").get(device_id, DeviceState())


def lock_states(connection: Connection, device_ids: Iterable[UUID]) -> dict[UUID, DeviceState]:
    """States of these devices, locked until the transaction ends; made where missing, so that there is something to lock.

    Locked in one order, so that two callers never block each other for good.
    """
    wanted = sorted(set(device_ids))
    found = _read_states(connection, wanted, "FOR UPDATE")
    missing = [device_id for device_id in wanted if device_id not in found]
    if missing:
        connection.execute(
            "INSERT INTO device_state (device_id, updated_at) SELECT unnest(%s::uuid[]), '-infinity' ON CONFLICT DO NOTHING",
            (missing,),
        )
        found = _read_states(connection, wanted, "FOR UPDATE")
    return found


def lock_free_states(connection: Connection, device_ids: Iterable[UUID]) -> dict[UUID, DeviceState]:
    """As `lock_states`, leaving out those that somebody else is at."""
    return _read_states(connection, sorted(set(device_ids)), "FOR UPDATE SKIP LOCKED")


def _read_states(connection: Connection, device_ids: Sequence[UUID], lock: str) -> dict[UUID, DeviceState]:
    if not device_ids:
        return {}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT device_id, metrics, status, alarms, rule_state, last_seen_at, measured_at, due_at, clock FROM device_state"
            f" WHERE device_id = ANY (%s) ORDER BY device_id {lock}",
            (list(device_ids),),
        ).fetchall()
    return {
        row["device_id"]: DeviceState(
            metrics=row["metrics"],
            status=DeviceStatus(row["status"]),
            alarms=row["alarms"],
            rule_state=row["rule_state"],
            last_seen_at=row["last_seen_at"],
            measured_at=row["measured_at"],
            due_at=row["due_at"],
            clock=row["clock"],
        )
        for row in rows
    }


def save_state(connection: Connection, device_id: UUID, state: DeviceState, now: datetime) -> None:
    """Write one device's state."""
    save_states(connection, {device_id: state}, now)


def save_states(connection: Connection, states: Mapping[UUID, DeviceState], now: datetime) -> None:
    """Write the states of many devices at once, in one order; as one JSON text, which is the quickest way in."""
    if not states:
        return
    rows = [
        {
            "device_id": str(device_id),
            "metrics": state.metrics,
            "status": state.status,
            "alarms": state.alarms,
            "rule_state": state.rule_state,
            "last_seen_at": state.last_seen_at.isoformat() if state.last_seen_at else None,
            "measured_at": state.measured_at.isoformat() if state.measured_at else None,
            "due_at": state.due_at.isoformat() if state.due_at else None,
            "clock": state.clock,
        }
        for device_id, state in sorted(states.items(), key=lambda item: item[0])
    ]
    connection.execute(
        """
        INSERT INTO device_state
            (device_id, metrics, status, alarms, rule_state, last_seen_at, measured_at, due_at, clock, updated_at)
        SELECT device_id, metrics, status, alarms, rule_state, last_seen_at, measured_at, due_at, clock, %s
        FROM jsonb_to_recordset(%s) AS row (device_id uuid, metrics jsonb, status text, alarms jsonb, rule_state jsonb,
                                            last_seen_at timestamptz, measured_at timestamptz, due_at timestamptz,
                                            clock jsonb)
        ON CONFLICT (device_id) DO UPDATE SET metrics = EXCLUDED.metrics, status = EXCLUDED.status,
            alarms = EXCLUDED.alarms, rule_state = EXCLUDED.rule_state, last_seen_at = EXCLUDED.last_seen_at,
            measured_at = EXCLUDED.measured_at, due_at = EXCLUDED.due_at, clock = EXCLUDED.clock, updated_at = EXCLUDED.updated_at
        """,
        (now, Jsonb(rows)),
    )
