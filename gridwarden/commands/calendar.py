"""`gridwarden calendar …`"""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from dispatch.calendar import CHINA
from dispatch.calendar_table import (
    CalendarError,
    missing_years,
    parse_days,
    read_shifts,
    read_years,
    write_shift,
    write_year,
)
from gridwarden.session import open_session

app = typer.Typer(no_args_is_help=True)
_BY = "command line"


@app.command("list")
def list_years() -> None:
    """The years that have a table, with their days off and swapped weekends, and the shifts."""
    with open_session() as session:
        years, shifts = read_years(session.connection), read_shifts(session.connection)
    for year in years:
        print(f"{year.year}  {year.workdays} workdays  {year.source}")
        print(f"      off     {' '.join(f'{day:%m-%d}' for day in year.rest)}")
        print(f"      swapped {' '.join(f'{day:%m-%d}' for day in year.swapped)}")
    for shift in shifts:
        periods = " ".join(f"{_clock(first)}-{_clock(last)}" for first, last in shift["periods"])
        print(f"{shift['department'] or 'everybody':16} from {shift['from_day']}  {periods}")


@app.command()
def check() -> None:
    """Is there a table for this year and for the one that comes within sixty days? Exit 1 when one is missing."""
    with open_session() as session:
        years = read_years(session.connection)
        missing = missing_years([year.year for year in years], session.now.astimezone(CHINA).date())
    for year in missing:
        print(f"{year}: no table; limits in work hours and workdays that reach into it wait for an operator")
    if missing:
        raise typer.Exit(1)
    print(f"tables of {', '.join(str(year.year) for year in years)}")


@app.command("import")
def import_year(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV: date,kind,name; kind workday or rest.")
    ],
    year: Annotated[int, typer.Option(help="Which year's table it is.")],
    source: Annotated[str, typer.Option(help="The notice it is from.")],
) -> None:
    """Put a year's table in place of what is there. Open incidents are counted anew by the dispatch role."""
    days = parse_days(file.read_text("utf-8-sig"), year)
    with open_session() as session:
        replaced = write_year(session.connection, year, days, source=source, by=_BY, now=session.now)
        (known,) = [one for one in read_years(session.connection) if one.year == year]
    print(f"{year} {'replaced' if replaced else 'added'}: {known.workdays} workdays, {len(known.rest)} weekdays off,")
    print(f"  {len(known.swapped)} weekend days of work")


@app.command()
def shift(
    periods: Annotated[list[str], typer.Argument(help="08:00-12:00 14:00-18:00")],
    department: Annotated[str, typer.Option(help="Code of the unit; empty: everybody who has none of their own.")] = "",
    from_day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day.")] = datetime(2000, 1, 1),
) -> None:
    """Set when a department works on workdays."""
    spans = [_parse_period(period) for period in periods]
    day: date = from_day.date()
    with open_session() as session:
        write_shift(session.connection, department, day, spans, by=_BY, now=session.now)
    print(f"{department or 'everybody'} from {day}: {' '.join(periods)}")


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _parse_period(text: str) -> tuple[int, int]:
    try:
        first, last = ([int(part) for part in clock.split(":")] for clock in text.split("-"))
        if not all(len(clock) == 2 and 0 <= clock[1] < 60 for clock in (first, last)):
            raise ValueError(text)
    except ValueError:
        raise CalendarError(f"{text!r} is no period such as 08:00-12:00") from None
    return first[0] * 60 + first[1], last[0] * 60 + last[1]
