"""The SQL of vision: cameras to watch, what the rules remember, reports with their evidence, closure checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from devices.model import Device
from kernel.db import Connection
from kernel.types import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraRow:
    """A camera that is to be watched. `url` may hold a password."""

    device: Device
    url: str
    scene: Any
    view_confirmed_at: datetime | None = None

    def __repr__(self) -> str:
        return f"CameraRow({self.device.code})"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRequest:
    """Dispatch asks whether the cause of an incident is gone from a camera's zone."""

    id: UUID
    device_id: UUID
    rule: str
    zone: str
    category: str
    requested_at: datetime
    expires_at: datetime


def read_cameras(connection: Connection) -> list[CameraRow]:
    """Every enabled camera, by code."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT d.id, d.code, d.kind, d.name, d.lon, d.lat, d.source_crs, d.cell_code, d.area_code, d.settings,
                   d.enabled, c.url, c.scene, c.view_confirmed_at
            FROM device d JOIN camera c ON c.device_id = d.id
            WHERE d.enabled ORDER BY d.code
            """
        ).fetchall()
    result = []
    for row in rows:
        of_camera = {name: row.pop(name) for name in ("url", "scene", "view_confirmed_at")}
        result.append(CameraRow(device=Device(**row), **of_camera))
    return result


def read_states(connection: Connection, device_id: UUID) -> dict[tuple[str, str], Any]:
    """What the rules of one camera remember, by zone and rule."""
    rows = connection.execute(
        "SELECT zone, rule, state FROM vision_state WHERE device_id = %s", (device_id,)
    ).fetchall()
    return {(str(zone), str(rule)): state for zone, rule, state in rows}


def save_states(connection: Connection, device_id: UUID, states: Mapping[tuple[str, str], Any], now: datetime) -> None:
    """Write what the rules of one camera remember, and forget zones that are no more."""
    keys = list(states)
    zones, rules = [zone for zone, _ in keys], [rule for _, rule in keys]
    connection.execute(
        """
        INSERT INTO vision_state (device_id, zone, rule, state, saved_at)
        SELECT %(device)s, zone, rule, state, %(now)s
        FROM unnest(%(zones)s::text[], %(rules)s::text[], %(states)s::jsonb[]) AS given (zone, rule, state)
        ON CONFLICT (device_id, zone, rule) DO UPDATE SET state = EXCLUDED.state, saved_at = EXCLUDED.saved_at
        """,
        {
            "device": device_id,
            "now": now,
            "zones": zones,
            "rules": rules,
            "states": [Jsonb(states[key]) for key in keys],
        },
    )
    connection.execute(
        """
        DELETE FROM vision_state WHERE device_id = %(device)s AND (zone, rule) NOT IN (
            SELECT * FROM unnest(%(zones)s::text[], %(rules)s::text[]))
        """,
        {"device": device_id, "zones": zones, "rules": rules},
    )


def read_check_requests(connection: Connection) -> Sequence[CheckRequest]:
    """Camera checks nobody has answered, oldest first."""
    with connection.cursor(row_factory=class_row(CheckRequest)) as cursor:
        return cursor.execute(
            """
            SELECT c.id, c.device_id, c.rule, c.zone, i.category, c.requested_at, c.expires_at
            FROM check_request c JOIN incident i ON i.id = c.incident_id
            WHERE c.kind = 'camera' AND c.answered_at IS NULL
            ORDER BY c.requested_at LIMIT 500
            """
        ).fetchall()


def answer_check(
    connection: Connection,
    check_id: UUID,
    verdict: Verdict,
    detail: str,
    evidence_id: UUID | None,
    now: datetime,
) -> bool:
    """Answer one check; False when somebody answered it before."""
    return (
        connection.execute(
            """
            UPDATE check_request SET answered_at = %(now)s, verdict = %(verdict)s, detail = %(detail)s,
                   evidence_id = %(evidence)s
            WHERE id = %(id)s AND answered_at IS NULL
            """,
            {"id": check_id, "verdict": verdict, "detail": detail, "evidence": evidence_id, "now": now},
        ).rowcount
        == 1
    )
