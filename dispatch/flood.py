"""Alarm flood (ISA-18.2): more alarms than the operators on duty can answer; then they are shown in groups, none dropped.

A flood begins above 10 new incidents in 10 minutes for one operator and ends when there are fewer than 5, the standard's own figures.
A group is a gateway whose devices raise together while it is itself in trouble, or small enough to be one cause; else a cell.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from kernel.db import Connection

WINDOW = timedelta(minutes=10)
LIMIT_PER_OPERATOR = 10
END_PER_OPERATOR = 5
_LOOK_BACK = timedelta(hours=2)
_ONE_CAUSE = 50  # devices: a well gateway that carries more of them explains nothing
_MOST = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """An incident of late, with what it hangs on. `is_open`: it still is."""

    id: UUID
    opened_at: datetime
    is_open: bool
    cell_code: str
    place: str
    gateway_id: UUID | None
    gateway_name: str
    gateway_status: str
    gateway_children: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Incidents that are shown as one. `by`: gateway or cell; `key`: its device id or its code."""

    by: str
    key: str
    title: str
    incident_ids: tuple[UUID, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flood:
    """How the load stands. `limit` and `per_operator`: incidents in 10 minutes; `since_at`: when the flood began."""

    active: bool
    since_at: datetime | None
    rate_per_10_min: int
    operators: int
    per_operator: float
    limit: int
    groups: tuple[Group, ...]


def find_flood_start(opened_ats: Sequence[datetime], now: datetime, operators: int) -> datetime | None:
    """When the flood that is on began; None when there is none. `opened_ats` in order. Pure.

    The rate only rises when an incident opens and only falls when one is ten minutes old: those instants are looked at.
    """
    begin, end = LIMIT_PER_OPERATOR * max(operators, 1), END_PER_OPERATOR * max(operators, 1)
    since_at: datetime | None = None
    first = 0
    for last, at in enumerate(opened_ats):
        while at - opened_ats[first] >= WINDOW:
            first += 1
            if since_at is not None and last - first < end:
                since_at = None
        if since_at is None and last - first + 1 > begin:
            since_at = at
    in_window = sum(1 for at in opened_ats if now - at < WINDOW)
    return since_at if in_window >= end else None


def group(incidents: Sequence[Opened]) -> tuple[Group, ...]:
    """Every incident in exactly one group, the largest first. Pure."""
    by_gateway: dict[UUID, list[Opened]] = defaultdict(list)
    for one in incidents:
        if one.gateway_id is not None and (
            one.gateway_status in ("offline", "fault", "alarm") or one.gateway_children <= _ONE_CAUSE
        ):
            by_gateway[one.gateway_id].append(one)
    shared = {key: found for key, found in by_gateway.items() if len(found) > 1}
    grouped = {one.id for found in shared.values() for one in found}
    by_cell: dict[str, list[Opened]] = defaultdict(list)
    for one in incidents:
        if one.id not in grouped:
            by_cell[one.cell_code].append(one)
    groups = [
        Group(by="gateway", key=str(key), title=found[0].gateway_name, incident_ids=tuple(one.id for one in found))
        for key, found in shared.items()
    ]
    groups += [
        Group(by="cell", key=code, title=_name_cell(found), incident_ids=tuple(one.id for one in found))
        for code, found in by_cell.items()
    ]
    return tuple(sorted(groups, key=lambda g: (-len(g.incident_ids), g.by, g.key)))


def _name_cell(found: Sequence[Opened]) -> str:
    places = {one.place for one in found}
    return places.pop() if len(places) == 1 else found[0].cell_code


def read_flood(connection: Connection, now: datetime, *, grouped: bool = True) -> Flood:
    """How the load stands for the operators of the transaction's scope; groups (if asked for) only while there is a flood."""
    operators = _count_operators(connection)
    ats = [
        row[0]
        for row in connection.execute(
            "SELECT opened_at FROM incident WHERE opened_at > %s AND opened_at <= %s ORDER BY opened_at DESC LIMIT %s",
            (now - _LOOK_BACK, now, _MOST),
        ).fetchall()
    ][::-1]
    since_at = find_flood_start(ats, now, operators)
    rate = sum(1 for at in ats if now - at < WINDOW)
    return Flood(
        active=since_at is not None,
        since_at=since_at,
        rate_per_10_min=rate,
        operators=operators,
        per_operator=round(rate / max(operators, 1), 1),
        limit=LIMIT_PER_OPERATOR,
        groups=group(_read_opened(connection, since_at - WINDOW)) if since_at is not None and grouped else (),
    )


def _count_operators(connection: Connection) -> int:
    """Operators on duty; one at least, since somebody looks at the wall."""
    row = connection.execute(
        "SELECT count(*) FROM app_user WHERE 'operator' = ANY (roles) AND on_duty AND NOT disabled"
    ).fetchone()
    return max(1, int(row[0])) if row else 1


def _read_opened(connection: Connection, since_at: datetime) -> list[Opened]:
    """Incidents that are open and were opened since."""
    with connection.cursor(row_factory=class_row(Opened)) as cursor:
        return cursor.execute(
            """
            SELECT i.id, i.opened_at, true AS is_open, i.cell_code, i.place, g.id AS gateway_id,
                   coalesce(g.name, '') AS gateway_name, coalesce(s.status, '') AS gateway_status,
                   coalesce((SELECT count(*) FROM device c WHERE c.parent_id = g.id), 0)::int AS gateway_children
            FROM incident i
            LEFT JOIN LATERAL (
                SELECT d.parent_id FROM report r JOIN device d ON d.id = r.device_id
                WHERE r.incident_id = i.id ORDER BY r.received_at LIMIT 1) f ON true
            LEFT JOIN device g ON g.id = f.parent_id
            LEFT JOIN device_state s ON s.device_id = g.id
            WHERE i.opened_at > %s AND i.state NOT IN ('closed', 'void')
            ORDER BY i.opened_at LIMIT %s
            """,
            (since_at, _MOST),
        ).fetchall()


def load_json(flood: Flood) -> dict[str, Any]:
    """The load without its groups: `active`, `since`, `rate_per_10_min`, `operators`, `per_operator`, `limit`."""
    return {
        "active": flood.active,
        "since": flood.since_at.isoformat() if flood.since_at is not None else None,
        "rate_per_10_min": flood.rate_per_10_min,
        "operators": flood.operators,
        "per_operator": flood.per_operator,
        "limit": flood.limit,
    }


def flood_json(flood: Flood) -> dict[str, Any]:
    """The load as JSON, and `groups`: `by`, `key`, `title`, `count`, `incident_ids`."""
    return load_json(flood) | {
        "groups": [
            {
                "by": g.by,
                "key": g.key,
                "title": g.title,
                "count": len(g.incident_ids),
                "incident_ids": [str(one) for one in g.incident_ids],
            }
            for g in flood.groups
        ],
    }
