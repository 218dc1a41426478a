"""What was, read for what-if questions: the incidents of a span as cases, the people as they were rostered, how they answered."""

import statistics
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from dispatch import roster
from dispatch.cost import Task
from dispatch.whatif import Case, Habits, Span, Staff
from kernel.db import Connection

_WORK_S = 600.0  # where nobody's work was ever timed
_LIMIT = timedelta(hours=8)  # where an incident had none


def read_cases(connection: Connection, since: datetime, until: datetime) -> list[Case]:
    """Incidents filed in the span that somebody went to or was to go to, with the work's own length where it was timed."""
    rows = connection.execute(
        """
        SELECT i.id, i.lon, i.lat, i.area_code, k.responsibility_grid_code, i.severity, i.filed_at, i.due_at,
               coalesce(n.skills, '{}'), coalesce(n.equipment, '{}'), coalesce(n.people, 1),
               extract(epoch FROM (SELECT max(h.at) FROM incident_event h WHERE h.incident_id = i.id AND h.action = 'handle')
                   - (SELECT max(h.at) FROM incident_event h WHERE h.incident_id = i.id AND h.action = 'arrive'))::float8
        FROM incident i LEFT JOIN grid_cell k ON k.code = i.cell_code LEFT JOIN category_need n ON n.category = i.category
        WHERE i.filed_at >= %s AND i.filed_at < %s AND (i.state <> 'void' OR EXISTS (
            SELECT FROM assignment a WHERE a.incident_id = i.id))
        ORDER BY i.filed_at, i.id
        """,
        (since, until),
    ).fetchall()
    timed = [row[-1] for row in rows if row[-1] is not None and row[-1] > 0]
    usual_s = statistics.median(timed) if timed else _WORK_S
    return [
        Case(
            task=Task(
                id=id_, lon=lon, lat=lat, area_code=area_code, grid_code=grid_code, severity=severity,
                skills=frozenset(skills), equipment=frozenset(equipment), people=people,
            ),
            filed_at=filed_at,
            due_at=due_at or filed_at + _LIMIT,
            work_s=work_s if work_s is not None and work_s > 0 else usual_s,
        )
        for id_, lon, lat, area_code, grid_code, severity, filed_at, due_at, skills, equipment, people, work_s in rows
    ]  # fmt: skip


def read_staff(connection: Connection, since: datetime, until: datetime) -> tuple[list[Staff], bool]:
    """Everybody with a shift in the span; without any roster everybody who was asked in it, on duty all the time.

    Each begins at the middle of their responsibility grid, or where they were last seen. The second value says whether a
    roster was there.
    """
    shifts: dict[UUID, list[Span]] = {}
    breaks: dict[UUID, list[Span]] = {}
    for user_id, starts_at, ends_at, pauses in connection.execute(
        "SELECT user_id, starts_at, ends_at, breaks FROM shift WHERE ends_at > %s AND starts_at < %s ORDER BY starts_at",
        (since, until),
    ):
        shifts.setdefault(user_id, []).append((starts_at, ends_at))
        breaks.setdefault(user_id, []).extend((pause.lower, pause.upper) for pause in pauses)
    asked = connection.execute(
        "SELECT DISTINCT user_id FROM assignment WHERE offered_at >= %s AND offered_at < %s", (since, until)
    ).fetchall()
    middles = {
        str(code): (lon, lat)
        for code, lon, lat in connection.execute(
            "SELECT responsibility_grid_code, avg(lon), avg(lat) FROM grid_cell"
            " WHERE responsibility_grid_code IS NOT NULL GROUP BY 1"
        )
    }
    found = []
    for worker in roster.read_workers(connection, since, timedelta()):
        spans = shifts.get(worker.user_id) if shifts else [(since, until)]
        if not spans or (not shifts and (worker.user_id,) not in asked):
            continue
        lon, lat = middles.get(worker.responsibility_grid_code or "", (worker.lon, worker.lat))
        found.append(
            Staff(
                worker=roster.rested(worker, lon, lat), shifts=tuple(spans), breaks=tuple(breaks.get(worker.user_id, ())),
            )
        )  # fmt: skip
    return found, bool(shifts)


def read_habits(connection: Connection, since: datetime, until: datetime, assumed: Habits) -> Habits:
    """How offers of the span ended, the rest as `assumed`. Too few offers (below 20) say nothing."""
    row = connection.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE outcome = 'refused'), count(*) FILTER (WHERE outcome = 'expired'),
               avg(extract(epoch FROM answered_at - offered_at)) FILTER (WHERE outcome NOT IN ('expired', 'reassigned'))
        FROM assignment WHERE offered_at >= %s AND offered_at < %s AND answered_at IS NOT NULL
        """,
        (since, until),
    ).fetchone()
    if row is None or row[0] < 20:
        return assumed
    count, refused, silent, answer_s = row
    return replace(
        assumed,
        refused=refused / count,
        silent=silent / count,
        answer_s=float(answer_s) if answer_s else assumed.answer_s,
    )
