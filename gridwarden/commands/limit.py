"""`gridwarden limit …`"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from dispatch.calendar import CHINA
from dispatch.emergency import enter_emergency, leave_emergency, read_emergencies, read_sets
from dispatch.indicator_store import By, make_period, read_indicators, write_csv
from dispatch.limit_store import NORMAL, LimitRule, read_rules, write_rule
from gridwarden.session import open_session
from kernel.types import LimitUnit

app = typer.Typer(no_args_is_help=True)
_BY = "command line"
_DAY = ["%Y-%m-%d"]


@app.command("list")
def list_limits(category: Annotated[str, typer.Option(help="This one only.")] = "") -> None:
    """Every limit: the categories' own, and those by condition, severity and emergency."""
    with open_session() as session:
        rules = [rule for rule in read_rules(session.connection) if category in ("", rule.category)]
    for rule in rules:
        narrow = " ".join(
            [f"set {rule.set_name}"] * (rule.set_name != NORMAL)
            + [f"condition {rule.condition}"] * bool(rule.condition)
            + [f"severity {rule.severity}"] * bool(rule.severity)
        )
        print(f"{rule.category:22} {rule.value:>7g} {rule.unit:12} {narrow:34} {rule.source}")


@app.command("set")
def set_limit(
    category: Annotated[str, typer.Argument()],
    value: Annotated[float, typer.Argument()],
    unit: Annotated[LimitUnit, typer.Argument()],
    source: Annotated[str, typer.Option(help="Where the figure comes from.")],
    condition: Annotated[str, typer.Option(help="Filing condition; empty: any.")] = "",
    severity: Annotated[int, typer.Option(min=0, max=4, help="0: any.")] = 0,
    set_name: Annotated[str, typer.Option("--set", help="The emergency during which it holds.")] = NORMAL,
) -> None:
    """Set a limit. Open incidents are counted anew by the dispatch role."""
    rule = LimitRule(
        category=category, condition=condition, severity=severity, set_name=set_name, value=value, unit=unit, source=source
    )  # fmt: skip
    with open_session() as session:
        write_rule(session.connection, rule, _BY, session.now)
    print(f"{category}: {value:g} {unit}")


@app.command()
def emergency(
    name: Annotated[str, typer.Argument(help="The set of limits; none: say which emergency lasts.")] = "",
    reason: Annotated[str, typer.Option()] = "",
    leave: Annotated[bool, typer.Option("--leave", help="Leave the one that lasts.")] = False,
) -> None:
    """Enter or leave an emergency, or say which one lasts."""
    with open_session() as session:
        if leave:
            print(f"left {leave_emergency(session.connection, reason, _BY, session.now).name}")
        elif name:
            print(f"entered {enter_emergency(session.connection, name, reason, _BY, session.now).name}")
        else:
            newest = read_emergencies(session.connection, 1)
            lasts = newest and newest[0].left_at is None
            print(
                f"in emergency {newest[0].name} since {newest[0].entered_at:%Y-%m-%d %H:%M} UTC" if lasts else "normal"
            )
            print(f"sets of limits: {', '.join(read_sets(session.connection))}")


@app.command()
def indicators(
    from_day: Annotated[datetime, typer.Option("--from", formats=_DAY, help="The first day.")],
    to_day: Annotated[datetime, typer.Option("--to", formats=_DAY, help="The day after the last one.")],
    by: Annotated[By | None, typer.Option(help="One line for each.")] = None,
    area: Annotated[str, typer.Option(help="Division code that areas begin with.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write a table for a spreadsheet.")] = None,
) -> None:
    """Indicators of a period, in days of the city's time."""
    with open_session() as session:
        period = make_period(from_day.replace(tzinfo=CHINA), to_day.replace(tzinfo=CHINA), session.now)
        answer = read_indicators(session.connection, period, by, area)
        language = session.settings.city.language
    if csv is not None:
        csv.write_text(write_csv(answer, language), "utf-8")
    for row in [*answer["rows"], {"key": "*", "name": {"zh": "合计", "en": "all"}, **answer["total"]}]:
        print(f"{row['key']}  {row['name']['en' if language == 'en' else 'zh']}")
        for one in answer["indicators"]:
            rate, counts = row["rates"][one["id"]], row["counts"]
            share = "     –" if rate is None else f"{rate:6.1%}"
            print(f"  {one['id']:28} {share}  {counts[one['numerator']]} of {counts[one['denominator']]}")
