"""scripts/drill day: a simulated day of a district, and what is true of it afterwards (tests/drills/day.py)."""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dispatch.comparison import count_figures, describe, write_picture
from dispatch.history import read_cases, read_habits, read_staff
from dispatch.indicator_store import make_period, read_indicators
from dispatch.whatif import Habits, simulate
from kernel.db import Connection, Database, DbRole
from kernel.migration import migrate
from kernel.settings import Settings
from tests.drills.day import DAY, Day
from tests.drills.reliability import own_database, write_report
from tests.drills.verdict import Verdict

_OTHER = {"other_grid_s": 120.0, "busy_from": 2, "urgent_factor": 8.0}
_LIMITS_S = {"urgent_hour": 3600.0}


def judge(day: Day, verdict: Verdict) -> None:
    """What must hold of the day, by the rows alone."""
    with day.database.transaction() as connection:
        rows = connection.execute("SELECT source_key, incident_id, refusal, taken_at FROM report").fetchall()
        verdict.check("every report was taken", (key for key, _, _, taken in rows if taken is None))
        verdict.check(
            "every report has its incident", (f"{key}: {why}" for key, incident, why, _ in rows if incident is None)
        )
        verdict.check("no report is lost", () if len(rows) == len(day.cases) else (f"{len(rows)} of {len(day.cases)}",))
        states = connection.execute(
            "SELECT number, state, needs_operator, assignee_id IS NOT NULL, suspended_at IS NOT NULL FROM incident"
        ).fetchall()
        verdict.check(
            "every incident is closed, void, or open with a reason",
            (f"{number}: {state}" for number, state, need, held, stands in states
             if state not in ("closed", "void") and not (need or held or stands)),
        )  # fmt: skip
        verdict.check(
            "one offer for an incident at a time",
            (str(row[0]) for row in connection.execute(
                "SELECT incident_id FROM assignment WHERE outcome IS NULL GROUP BY 1 HAVING count(*) > 1")),
        )  # fmt: skip
        verdict.check(
            "one open incident for a place and cause",
            (str(row[0]) for row in connection.execute(
                "SELECT dedup_key FROM incident WHERE state NOT IN ('closed', 'void') GROUP BY 1 HAVING count(*) > 1")),
        )  # fmt: skip
        offers = connection.execute(
            """
            SELECT u.name, a.offered_at FROM assignment a JOIN app_user u ON u.id = a.user_id
            JOIN shift s ON s.user_id = a.user_id WHERE a.reason ->> 'others' IS NOT NULL
              AND (s.breaks @> a.offered_at OR a.offered_at < s.starts_at OR a.offered_at >= s.ends_at)
              AND NOT a.reason @> '{"reasons": [{"code": "by_operator"}]}' AND NOT a.reason @> '{"reasons": [{"code": "rework"}]}'
            """
        ).fetchall()
        verdict.check("nobody was offered a task on a break or outside the shift", (f"{n} {at}" for n, at in offers))
        unexplained = connection.execute(
            "SELECT incident_id FROM assignment WHERE jsonb_array_length(reason -> 'reasons') = 0"
        ).fetchall()
        verdict.check("every offer has its reasons", (str(row[0]) for row in unexplained))
        _count_by_hand(connection, day, verdict)
        counted = Counter(state for _, state, *_ in states)
    verdict.figures |= {
        "reports": len(rows),
        "incidents": len(states),
        **{f"incidents {k}": n for k, n in counted.items()},
    }
    verdict.figures |= dict(sorted(day.figures.items()))


def _count_by_hand(connection: Connection, day: Day, verdict: Verdict) -> None:
    """Limits of urgent hours and days, and the indicators, from the log alone, in the plainest way."""
    events: dict[Any, list[tuple[str, str, datetime]]] = {}
    for incident_id, action, to_state, at in connection.execute(
        "SELECT incident_id, action, to_state, at FROM incident_event ORDER BY at, id"
    ):
        events.setdefault(incident_id, []).append((action, to_state, at))
    rows = connection.execute(
        """
        SELECT i.id, i.number, i.opened_at, i.filed_at, i.due_at, i.handled_at, i.ended_at, i.state, c.limit_value, c.limit_unit
        FROM incident i JOIN category c ON c.id = i.category
        """
    ).fetchall()
    wrong, hand = [], Counter[str]()
    until = day.now
    for id_, number, opened_at, filed_at, due_at, handled_at, ended_at, state, value, unit in rows:
        story = events[id_]
        filed = [at for action, to, at in story if to == "filed" and action in ("file", "open", "verify")]
        if filed_at is not None and (not filed or filed[0] != filed_at):
            wrong.append(f"{number}: filed at {filed_at}, by the log {filed[:1]}")
        if (
            filed_at is not None
            and unit in _LIMITS_S
            and due_at != filed_at + timedelta(seconds=value * _LIMITS_S[unit])
        ):
            wrong.append(f"{number}: due {due_at}, counted {filed_at} + {value} {unit}")
        done = [at for action, _, at in story if action == "handle"]
        is_void = state == "void"
        hand["reported"] += opened_at < until
        hand["filed"] += filed_at is not None
        hand["valid"] += not is_void
        due = filed_at is not None and not is_void and due_at is not None and due_at < until
        hand["due"] += due
        hand["due_closed"] += due and state == "closed"
        hand["due_closed_on_time"] += due and state == "closed" and ended_at <= due_at
        hand["due_handled_on_time"] += due and bool(done) and handled_at is not None and done[-1] <= due_at
        hand["closed"] += state == "closed"
        hand["closed_reworked"] += state == "closed" and len(done) > 1
    verdict.check("limits agree with a count by hand", wrong)
    said = read_indicators(connection, make_period(DAY, until, until))["total"]["counts"]
    verdict.check(
        "indicators agree with a count by hand",
        (f"{name}: {said[name]}, by hand {count}" for name, count in hand.items() if said[name] != count),
    )
    verdict.figures["handled within the limit"] = f"{hand['due_handled_on_time']} of {hand['due']} due"


def replay(day: Day, verdict: Verdict, picture: Path) -> None:
    """What if the same day had had other weights?"""
    end = DAY + timedelta(days=1)
    with day.database.transaction() as connection:
        cases = read_cases(connection, DAY, end)
        staff, _ = read_staff(connection, DAY, end)
        habits = read_habits(connection, DAY, end, Habits())
        waits = connection.execute(
            """
            SELECT extract(epoch FROM min(v.at) - i.filed_at)::float8 FROM incident i JOIN incident_event v ON v.incident_id = i.id
            WHERE v.action = 'arrive' AND i.filed_at < %s GROUP BY i.id, i.filed_at
            """,
            (end,),
        ).fetchall()
    present = day.settings.assignment
    runs = {
        name: simulate(cases, staff, policy, habits, end + timedelta(hours=10))
        for name, policy in (("present", present), ("other", present.model_copy(update=_OTHER)))
    }
    figures = {name: describe(count_figures(run, end + timedelta(hours=10))) for name, run in runs.items()}
    verdict.figures["response in the day itself, median"] = f"{statistics.median(wait for (wait,) in waits):.0f} s"
    for name, said in figures.items():
        verdict.figures[f"what if, {name}"] = ", ".join(f"{key} {value}" for key, value in said.items())
    verdict.figures["the other policy"] = ", ".join(f"assignment.{key} = {value}" for key, value in _OTHER.items())
    write_picture(
        picture, runs, end + timedelta(hours=10), f"{len(cases)} incidents, {len(staff)} people, a simulated day"
    )


def main() -> int:
    """Run the day; exit status 0 when every criterion holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--reports", type=int, default=10_000)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gw-day-"))
    with own_database(folder):
        settings = Settings(data_dir=folder / "database")
        migrate(settings, datetime.now(UTC))
        with closing(Database(settings, DbRole.WORKER)) as database:
            began = time.monotonic()
            day = Day(database, settings, options.reports, options.people, options.seed)
            day.run()
            took_s = time.monotonic() - began
            verdict = Verdict()
            judge(day, verdict)
            verdict.check("the day took less than ten minutes", () if took_s < 600 else (f"{took_s:.0f} s",))
            replay(day, verdict, options.report.with_suffix(".html"))
    shutil.rmtree(folder, ignore_errors=True)
    write_report("day", verdict, took_s, options.report)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
