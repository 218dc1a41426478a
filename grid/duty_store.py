"""The duty rules of the database, and their way out to a table and back."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from psycopg.rows import class_row

from grid.duty import DutyRule, check_rules
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id

COLUMNS = (
    "category",
    "component_kind",
    "place_prefix",
    "surface",
    "owner",
    "competent_dept",
    "handling_dept",
    "source",
)


class DutyRefusedError(ValueError):
    """A table of rules was refused; the text says every reason."""


def read_duty_rules(connection: Connection) -> list[DutyRule]:
    """Every rule, by its conditions."""
    with connection.cursor(row_factory=class_row(DutyRule)) as cursor:
        return cursor.execute(
            "SELECT category, component_kind, place_prefix, surface, owner, competent_dept, handling_dept, source"
            " FROM duty_rule ORDER BY category, component_kind, place_prefix, surface, owner"
        ).fetchall()


def replace_duty_rules(connection: Connection, rules: Sequence[DutyRule], now: datetime, actor: str) -> int:
    """Put these rules in the place of all; how many. What there was is in the audit."""
    before = [asdict(rule) for rule in read_duty_rules(connection)]
    write_audit(connection, now, actor=actor, action="duty_rules_replaced", detail={"before": before})
    connection.execute("DELETE FROM duty_rule")
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO duty_rule (id, category, component_kind, place_prefix, surface, owner, competent_dept, handling_dept,
                                   source, changed_at)
            VALUES (%(id)s, %(category)s, %(component_kind)s, %(place_prefix)s, %(surface)s, %(owner)s, %(competent_dept)s,
                    %(handling_dept)s, %(source)s, %(now)s)
            """,
            [{**asdict(rule), "id": new_id(now), "now": now} for rule in rules],
        )
    return len(rules)


def import_duty_rules(connection: Connection, path: Path, now: datetime, actor: str) -> int:
    """Read a CSV (UTF-8 or GB 18030) and put it in the place of all rules; how many.

    Raises DutyRefusedError, and nothing is changed.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030", "replace")
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DutyRefusedError(f"缺少列 {', '.join(missing)} / columns are missing: {', '.join(missing)}")
    categories = [row[0] for row in connection.execute("SELECT id FROM category").fetchall()]
    rules, wrong = check_rules(list(reader), categories)
    if wrong:
        raise DutyRefusedError("\n".join(wrong))
    with connection.transaction():
        connection.execute("LOCK TABLE duty_rule IN EXCLUSIVE MODE")  # two tables at once: the later one stands whole
        return replace_duty_rules(connection, rules, now, actor)


def export_duty_rules(connection: Connection, path: Path) -> int:
    """Write every rule as CSV (UTF-8 with a mark, which spreadsheets need); how many."""
    rules = read_duty_rules(connection)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(rule) for rule in rules)
    return len(rules)
