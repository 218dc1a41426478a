"""What is set about people besides their log-in: skills and means, rosters with breaks, needs of categories, cover of areas."""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

from dispatch.cost import Means
from kernel.db import Connection
from kernel.ids import new_id

_COLUMNS = ("user", "day", "from", "to", "breaks")
Span = tuple[datetime, datetime]


class RosterError(Exception):
    """A roster or what is set about people cannot be; every line that is wrong is told. Nothing was stored."""


def write_profile(
    connection: Connection, user_name: str, means: Means, skills: Sequence[str], equipment: Sequence[str]
) -> None:
    """How somebody gets about, what they can do and have with them. Raises RosterError for an unknown person."""
    row = connection.execute(
        """
        INSERT INTO staff_profile (user_id, means, skills, equipment)
        SELECT id, %s, %s, %s FROM app_user WHERE name = %s
        ON CONFLICT (user_id) DO UPDATE SET means = excluded.means, skills = excluded.skills, equipment = excluded.equipment
        RETURNING user_id
        """,
        (means, list(skills), list(equipment), user_name),
    ).fetchone()
    if row is None:
        raise RosterError(f"没有 {user_name} / there is no {user_name}")


def write_need(connection: Connection, category: str, skills: Sequence[str], equipment: Sequence[str]) -> None:
    """What whoever goes to a category must know and have. Raises RosterError for an unknown category."""
    row = connection.execute(
        """
        INSERT INTO category_need (category, skills, equipment) SELECT id, %s, %s FROM category WHERE id = %s
        ON CONFLICT (category) DO UPDATE SET skills = excluded.skills, equipment = excluded.equipment RETURNING category
        """,
        (list(skills), list(equipment), category),
    ).fetchone()
    if row is None:
        raise RosterError(f"没有类别 {category} / there is no category {category}")


def write_cover(connection: Connection, community: str, minimum: int) -> None:
    """So many on duty stay in the community; 0 takes it away. Raises RosterError for an unknown community."""
    if connection.execute("SELECT FROM area WHERE code = %s AND level = 'community'", (community,)).fetchone() is None:
        raise RosterError(f"没有社区 {community} / there is no community {community}")
    if minimum == 0:
        connection.execute("DELETE FROM area_cover WHERE area_code = %s", (community,))
        return
    connection.execute(
        "INSERT INTO area_cover (area_code, minimum) VALUES (%s, %s)"
        " ON CONFLICT (area_code) DO UPDATE SET minimum = excluded.minimum",
        (community, minimum),
    )


def import_roster(connection: Connection, path: Path, zone: str, now: datetime) -> int:
    """Shifts from CSV (UTF-8): user, day (2026-11-20), from and to (08:00), breaks ("12:00-12:45 15:00-15:10" or empty), in
    the city's time; a `to` before `from` is the next morning's. They replace those users' shifts of those days.

    Raises RosterError naming every line that is wrong; then nothing was stored.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {str(name): UUID(str(id_)) for name, id_ in connection.execute("SELECT name, id FROM app_user")}
    shifts: list[tuple[UUID, date, Span, list[Span]]] = []
    wrong = []
    for number, row in enumerate(rows, 2):
        try:
            shifts.append((known[(row["user"] or "").strip()], *_read_shift(row, ZoneInfo(zone))))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            wrong.append(f"第 {number} 行 / line {number}: {error}")
    if wrong or not shifts:
        raise RosterError(
            "\n".join(wrong)
            or f"没有班次，列应为 {','.join(_COLUMNS)} / no shift; the columns are {','.join(_COLUMNS)}"
        )
    for user_id, day, _, _ in shifts:
        began = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
        connection.execute(
            "DELETE FROM shift WHERE user_id = %s AND starts_at >= %s AND starts_at < %s",
            (user_id, began, began + timedelta(days=1)),
        )
    for user_id, _, (starts_at, ends_at), breaks in shifts:
        connection.execute(
            "INSERT INTO shift (id, user_id, starts_at, ends_at, breaks) VALUES (%s, %s, %s, %s, %s::text::tstzmultirange)"
            " ON CONFLICT (user_id, starts_at) DO UPDATE SET ends_at = excluded.ends_at, breaks = excluded.breaks",
            (new_id(now), user_id, starts_at, ends_at, _ranges(breaks)),
        )
    return len(shifts)


def _read_shift(row: Mapping[str, str], zone: ZoneInfo) -> tuple[date, Span, list[Span]]:
    day = date.fromisoformat(row["day"].strip())
    starts_at, ends_at = _span(row["from"], row["to"], day, zone)
    breaks = []
    for pause in (row.get("breaks") or "").split():
        began, _, ended = pause.partition("-")
        since, until = _span(began, ended, day, zone)
        if since < starts_at:  # after midnight, of a night's shift
            since, until = since + timedelta(days=1), until + timedelta(days=1)
        if not starts_at <= since < until <= ends_at:
            raise ValueError(f"休息 {pause} 不在班次内 / the break {pause} is not within the shift")
        breaks.append((since, until))
    return day, (starts_at, ends_at), breaks


def _span(since: str, until: str, day: date, zone: ZoneInfo) -> Span:
    began = datetime.combine(day, time.fromisoformat(since.strip()), zone)
    ended = datetime.combine(day, time.fromisoformat(until.strip()), zone)
    if ended <= began:
        ended = datetime.combine(day + timedelta(days=1), time.fromisoformat(until.strip()), zone)
    return began.astimezone(UTC), ended.astimezone(UTC)


def _ranges(spans: Sequence[Span]) -> str:
    return "{" + ",".join(f'["{began.isoformat()}","{ended.isoformat()}")' for began, ended in spans) + "}"
