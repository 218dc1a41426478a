"""SQL of what wall and phone look at: devices with their state, staff, pictures' rows.

Rows are limited by the transaction's scope: devices and evidence by row-level security, people by a condition here.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from devices.kinds.river_sluice import KIND as RIVER_KIND
from devices.water import describe_water
from kernel.db import Connection
from kernel.types import Role

STAFF_ROLES = (Role.GRID_WORKER, Role.HANDLING_DEPT)
JsonObject = dict[str, Any]
RIVER = RIVER_KIND.name


def write_json(value: object) -> str:
    """`value` as JSON text; instants become ISO 8601 in UTC, ids and codes text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFilter:
    """Which devices to list; what is None lets all through. `q`: part of code, name, serial or address, capitals or not.

    `after`: those behind this `map_id`, `limit` of them: a page of a long list.
    """

    kind: str | None = None
    status: str | None = None
    q: str | None = None
    parent: UUID | None = None
    after: int | None = None
    limit: int | None = None


def read_devices(
    connection: Connection,
    ids: Sequence[UUID] | None = None,
    wanted: DeviceFilter = DeviceFilter(),
    *,
    disabled_too: bool = False,
) -> list[JsonObject]:
    """Devices in use (all, or these), in the shape of DeviceView; with `disabled_too` those switched off as well."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT d.id, d.map_id, d.code, d.kind, d.name, d.lon, d.lat, d.cell_code, d.enabled, d.parent_id,
                   coalesce(s.status, 'unknown') AS status, coalesce(s.metrics, '{}') AS metrics,
                   coalesce(s.alarms, '{}') AS alarms, s.last_seen_at, s.clock_offset_s,
                   CASE WHEN c.device_id IS NOT NULL THEN jsonb_build_object(
                       'heading_deg', c.heading_deg, 'fov_deg', c.fov_deg, 'range_m', c.range_m,
                       'zones', coalesce(c.scene -> 'zones', '[]')) END AS camera,
                   d.settings ->> 'water_body' AS water_body
            FROM device d LEFT JOIN device_state s ON s.device_id = d.id LEFT JOIN camera c ON c.device_id = d.id
            WHERE (d.enabled OR %(disabled_too)s) AND (%(ids)s::uuid[] IS NULL OR d.id = ANY (%(ids)s))
                AND (%(kind)s::text IS NULL OR d.kind = %(kind)s) AND (%(parent)s::uuid IS NULL OR d.parent_id = %(parent)s)
                AND (%(status)s::text IS NULL OR coalesce(s.status, 'unknown') = %(status)s)
                AND (%(q)s::text IS NULL OR position(lower(%(q)s) IN lower(
                    concat_ws(' ', d.code, d.name, d.serial, d.building, d.floor, d.household, d.component_code))) > 0)
                AND (%(after)s::bigint IS NULL OR d.map_id > %(after)s)
            ORDER BY d.map_id LIMIT %(limit)s
            """,
            {"ids": None if ids is None else list(ids), "disabled_too": disabled_too, **asdict(wanted)},
        ).fetchall()
    for row in rows:
        body = row.pop("water_body")
        if row["kind"] == RIVER:
            row["water"] = describe_water(row["metrics"], body or "river")
    return rows


def read_device_changes(connection: Connection, since: datetime) -> list[tuple[datetime, UUID, str]]:
    """When and what: the live part (status, metrics) of devices whose state was written at `since` or later, as JSON text.

    The database's own text of the metrics: to read them only to write them again took the interpreter, a second's worth of
    a thousand devices at once, from the alarm that came meanwhile.
    """
    rows = connection.execute(
        """
        SELECT s.updated_at, d.id, s.status, s.metrics::text, s.last_seen_at
        FROM device_state s JOIN device d ON d.id = s.device_id WHERE s.updated_at >= %s AND d.enabled
        """,
        (since,),
    ).fetchall()
    return [
        (
            at,
            device_id,
            f'{{"id":"{device_id}","status":"{status}","metrics":{metrics},"last_seen_at":{write_json(seen_at)}}}',
        )
        for at, device_id, status, metrics, seen_at in rows
    ]


def read_summary(connection: Connection) -> JsonObject:
    """What is being watched, for the empty queue: {"devices", "cameras", "offline", "last_closed_at"}."""
    row = connection.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE d.kind = 'camera'), count(*) FILTER (WHERE s.status = 'offline'),
               (SELECT max(ended_at) FROM incident WHERE state = 'closed')
        FROM device d LEFT JOIN device_state s ON s.device_id = d.id WHERE d.enabled
        """
    ).fetchone()
    devices, cameras, offline, closed_at = row if row else (0, 0, 0, None)
    return {"devices": devices, "cameras": cameras, "offline": offline, "last_closed_at": closed_at}


def read_staff(
    connection: Connection, ids: Sequence[UUID] | None = None, roles: Sequence[Role] = STAFF_ROLES
) -> list[JsonObject]:
    """People with one of `roles` who belong to the transaction's scope, in the shape of StaffView.

    Somebody belongs where their responsibility grid is, else where their own scope begins. Off duty, no position.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            SELECT u.id, u.map_id, u.display_name AS name, u.roles, u.on_duty,
                   p.lon, p.lat, p.accuracy_m, p.heading_deg, p.measured_at,
                   (SELECT count(*) FROM incident i WHERE i.assignee_id = u.id
                       AND i.state IN ('dispatched', 'accepted', 'on_site')) AS open_tasks
            FROM app_user u LEFT JOIN staff_position p ON p.user_id = u.id AND u.on_duty
            WHERE NOT u.disabled AND u.roles && %(roles)s AND (%(ids)s::uuid[] IS NULL OR u.id = ANY (%(ids)s))
              AND gw_in_scope(coalesce(u.responsibility_grid_code, replace(split_part(u.scope, ',', 1), '*', '')))
            ORDER BY u.map_id
            """,
            {"ids": None if ids is None else list(ids), "roles": [role.value for role in roles]},
        ).fetchall()


def read_staff_changes(connection: Connection, since: datetime) -> list[tuple[datetime, JsonObject]]:
    """When and what: positions of people on duty, in scope, that came at `since` or later."""
    rows = connection.execute(
        """
        SELECT p.received_at, u.id, p.lon, p.lat, p.accuracy_m, p.heading_deg, p.measured_at
        FROM staff_position p JOIN app_user u ON u.id = p.user_id
        WHERE p.received_at >= %s AND u.on_duty AND NOT u.disabled
          AND gw_in_scope(coalesce(u.responsibility_grid_code, replace(split_part(u.scope, ',', 1), '*', '')))
        """,
        (since,),
    ).fetchall()
    names = ("id", "lon", "lat", "accuracy_m", "heading_deg", "measured_at")
    return [(at, dict(zip(names, rest, strict=True))) for at, *rest in rows]


def write_position(
    connection: Connection, user_id: UUID, position: JsonObject, area_code: str, received_at: datetime
) -> bool:
    """Keep somebody's newest position; False off duty. A position older than the one kept changes nothing.

    `position`: lon, lat, accuracy_m, heading_deg, measured_at.
    """
    row = connection.execute("SELECT on_duty FROM app_user WHERE id = %s FOR SHARE", (user_id,)).fetchone()
    if row is None or not row[0]:
        return False
    connection.execute(
        """
        INSERT INTO staff_position (user_id, lon, lat, accuracy_m, heading_deg, area_code, measured_at, received_at)
        VALUES (%(user_id)s, %(lon)s, %(lat)s, %(accuracy_m)s, %(heading_deg)s, %(area_code)s, %(measured_at)s, %(received_at)s)
        ON CONFLICT (user_id) DO UPDATE SET lon = excluded.lon, lat = excluded.lat, accuracy_m = excluded.accuracy_m,
            heading_deg = excluded.heading_deg, area_code = excluded.area_code, measured_at = excluded.measured_at,
            received_at = excluded.received_at
        WHERE staff_position.measured_at < excluded.measured_at
        """,
        {**position, "user_id": user_id, "area_code": area_code, "received_at": received_at},
    )
    return True


def read_camera_url(connection: Connection, device_id: UUID) -> str | None:
    """A camera's address, for opening only: it may hold a password. None when it is not in scope or not in use."""
    row = connection.execute(
        "SELECT c.url FROM camera c JOIN device d ON d.id = c.device_id WHERE c.device_id = %s AND d.enabled",
        (device_id,),
    ).fetchone()
    return str(row[0]) if row else None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceRow:
    """A picture's row. `path` is below the evidence directory."""

    id: UUID
    kind: str
    path: str
    sha256: bytes
    mime: str
    width: int
    height: int
    area_code: str
    lon: float | None
    lat: float | None
    taken_at: datetime
    created_by: UUID | None
    detail: JsonObject
    masked: bool = False
    deleted_at: datetime | None = None


def insert_evidence(connection: Connection, row: EvidenceRow) -> None:
    """Store a picture's row; its file must be in place before."""
    connection.execute(
        """
        INSERT INTO evidence (id, kind, path, sha256, mime, width, height, area_code, lon, lat, taken_at, created_by, detail)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (row.id, row.kind, row.path, row.sha256, row.mime, row.width, row.height, row.area_code, row.lon, row.lat,
         row.taken_at, row.created_by, Jsonb(row.detail)),
    )  # fmt: skip


def read_evidence(connection: Connection, evidence_id: UUID) -> EvidenceRow | None:
    """A picture's row; None when it does not exist or is not in scope."""
    with connection.cursor(row_factory=class_row(EvidenceRow)) as cursor:
        return cursor.execute(
            "SELECT id, kind, path, sha256, mime, width, height, area_code, lon, lat, taken_at, created_by, detail,"
            " masked, deleted_at FROM evidence WHERE id = %s",
            (evidence_id,),
        ).fetchone()
