"""Indicators of what is stored: the cases of a period read, counted and grouped; as JSON and as CSV."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.rows import kwargs_row

from dispatch.indicators import COUNTS, INDICATORS, Case, Period, Tally, tally
from dispatch.model import ActionRefused, JsonObject
from dispatch.shape import text_of
from kernel.db import Connection

GRID = "grid"
"""The department of whoever belongs to no unit: the grid workers, who verify, persuade and hand over."""
_BATCH = 5_000


class By(StrEnum):
    """What groups are made of: with an area of nine digits or more communities, else streets."""

    CATEGORY = "category"
    AREA = "area"
    DEPARTMENT = "department"
    PERSON = "person"


_CASES = """
    SELECT i.category, i.area_code, coalesce(own.code, theirs.code, CASE WHEN p.id IS NULL THEN '' ELSE 'grid' END)
               AS department, coalesce(p.id::text, '') AS person,
           i.opened_at AS reported_at, i.filed_at, i.due_at, i.handled_at,
           CASE WHEN i.state = 'closed' THEN i.ended_at END AS closed_at, i.state = 'void' AS is_void,
           i.suspended_at IS NOT NULL AS is_suspended, coalesce(i.appeal = 'accepted', false) AS is_exempt,
           coalesce(sent.departments, '{}') AS departments, coalesce(again.reworks, 0)::int AS reworks
    FROM incident i
    LEFT JOIN unit own ON own.id = i.unit_id AND i.unit_state <> 'refused'
    LEFT JOIN app_user p ON p.id = coalesce(i.handler_id, i.assignee_id)
    LEFT JOIN LATERAL (SELECT min(u.code) AS code FROM unit_member m JOIN unit u ON u.id = m.unit_id
                       WHERE m.user_id = p.id) AS theirs ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(DISTINCT d.code) AS departments FROM (
            SELECT coalesce((SELECT min(u.code) FROM unit_member m JOIN unit u ON u.id = m.unit_id
                             WHERE m.user_id = a.user_id), 'grid') AS code
            FROM assignment a WHERE a.incident_id = i.id
            UNION SELECT u.code FROM incident_event e JOIN unit u ON u.id::text = e.detail ->> 'unit_id'
            WHERE e.incident_id = i.id AND e.action = 'unit_asked') AS d
        WHERE i.state = 'closed') AS sent ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS reworks FROM incident_event e
        WHERE i.state = 'closed' AND e.incident_id = i.id AND e.from_state = 'handled' AND e.to_state = 'dispatched'
        ) AS again ON true
    WHERE i.merged_into IS NULL AND i.area_code ^@ %(area)s
      AND (i.opened_at >= %(from)s AND i.opened_at < %(until)s OR i.due_at >= %(from)s AND i.due_at < %(until)s
           OR i.ended_at >= %(from)s AND i.ended_at < %(until)s)
"""


def read_cases(connection: Connection, period: Period, area: str = "") -> Iterator[Case]:
    """The cases of a period, reported, due or ended in it, whose area begins with `area`, as far as the transaction sees.

    What was merged into another is no case of its own. That grid workers went before a unit is no wrong dispatch.
    """
    parameters = {"area": area, "from": period.from_at, "until": period.until_at}
    with connection.cursor("cases", row_factory=kwargs_row(_make_case)) as cursor:
        cursor.itersize = _BATCH
        yield from cursor.execute(_CASES, parameters)


def _make_case(**row: Any) -> Case:
    units = frozenset(row.pop("departments"))
    return Case(**row, departments=units - {GRID} or units)


def read_indicators(connection: Connection, period: Period, by: By | None = None, area: str = "") -> JsonObject:
    """Counts and rates of all, and of each group if `by` says so; the names of the groups beside their keys."""
    total, groups = tally(read_cases(connection, period, area), period, _group_by(by, area) if by else None)
    names = _read_names(connection, by, [str(key) for key in groups]) if by else {}
    rows = [
        {"key": str(key), "name": names.get(str(key), {"zh": str(key), "en": str(key)}), **_present(group)}
        for key, group in sorted(groups.items(), key=lambda item: str(item[0]))
    ]
    return {
        "from": text_of(period.from_at), "to": text_of(period.until_at), "as_of": text_of(period.as_of),
        "area": area, "by": by.value if by else None, "total": _present(total), "rows": rows,
        "indicators": [{"id": one.id, "zh": one.zh, "en": one.en, "numerator": one.numerator,
                        "denominator": one.denominator} for one in INDICATORS],
    }  # fmt: skip


def _group_by(by: By, area: str) -> Callable[[Case], str]:
    if by is By.CATEGORY:
        return lambda case: case.category
    if by is By.DEPARTMENT:
        return lambda case: case.department
    if by is By.PERSON:
        return lambda case: case.person
    digits = 12 if len(area) >= 9 else 9
    return lambda case: case.area_code[:digits]


def _present(group: Tally) -> JsonObject:
    return {"counts": dict(group.counts), "rates": group.rates}


_NOBODY = {"zh": "（无）", "en": "(none)"}
_NAMES = {
    By.CATEGORY: "SELECT id, name_zh, name_en FROM category WHERE id = ANY (%s)",
    By.AREA: "SELECT code, name, name FROM area WHERE code = ANY (%s)",
    By.DEPARTMENT: "SELECT code, name, name FROM unit WHERE code = ANY (%s)",
    By.PERSON: "SELECT id::text, display_name, display_name FROM app_user WHERE id::text = ANY (%s)",
}


def _read_names(connection: Connection, by: By, keys: list[str]) -> dict[str, dict[str, str]]:
    rows = connection.execute(_NAMES[by], (keys,)).fetchall()
    names = {key: {"zh": zh, "en": en} for key, zh, en in rows}
    return {GRID: {"zh": "网格员", "en": "Grid workers"}, "": _NOBODY, **names}


def write_csv(answer: JsonObject, language: str) -> str:
    """The same for a spreadsheet: a line for each group and one for all; rates as shares, empty where there is none.

    Begins with a byte order mark, without which Excel takes Chinese for something else.
    """
    lang = "en" if language == "en" else "zh"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    heads = [one["en"] if lang == "en" else one["zh"] for one in answer["indicators"]]
    writer.writerow([answer["by"] or "", {"zh": "名称", "en": "name"}[lang], *heads, *COUNTS])
    every = {"key": "*", "name": {"zh": "合计", "en": "all"}, **answer["total"]}
    for row in [*answer["rows"], every]:
        rates = [row["rates"][one.id] for one in INDICATORS]
        writer.writerow(
            [
                _plain(row["key"]), _plain(row["name"][lang]), *("" if rate is None else f"{rate:.4f}" for rate in rates),
                *(row["counts"][name] for name in COUNTS),
            ]
        )  # fmt: skip
    return "\ufeff" + out.getvalue()


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def make_period(from_at: datetime, until_at: datetime, now: datetime) -> Period:
    """The period as seen now, or at its end when that is over.

    Raises ActionRefused: bad_period, for one that is empty or longer than 400 days.
    """
    if not 0 < (until_at - from_at).total_seconds() <= 400 * 86_400:
        raise ActionRefused("bad_period")
    return Period(from_at=from_at, until_at=until_at, as_of=min(now, until_at))
