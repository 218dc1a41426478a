"""`gridwarden dispatch …`"""

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from dispatch.cost import Means
from dispatch.staffing import import_roster, write_cover, write_need, write_profile
from dispatch.unit import UnitKind, write_member, write_unit
from gridwarden.session import open_session
from kernel.settings import AssignmentSettings, load_settings

app = typer.Typer(no_args_is_help=True)
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_TAIL = timedelta(hours=12)  # so long what was filed in the span may still be worked on


@app.callback()
def dispatch() -> None:
    """Who goes, and who handles."""


@app.command()
def whatif(
    policy: Annotated[Path, typer.Option(exists=True, help="TOML with the `assignment.*` settings that differ.")],
    since: Annotated[
        datetime | None, typer.Option("--from", formats=_DATES, help="Beginning, the city's time.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=_DATES, help="End, not included.")] = None,
    scenario: Annotated[int | None, typer.Option(help="Instead of what was: a day made up from this seed.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="Of the scenario: incidents.")] = 2_000,
    people: Annotated[int, typer.Option(min=1, help="Of the scenario: people.")] = 100,
    picture: Annotated[Path | None, typer.Option(help="Also write the comparison as a page, FILE.html.")] = None,
) -> None:
    """Replay a span, or a made-up day, under the present policy and under another, and compare them."""
    import numpy as np

    from dispatch.comparison import count_figures, describe, write_picture
    from dispatch.history import read_cases, read_habits, read_staff
    from dispatch.scenario import make_cases, make_staff
    from dispatch.whatif import Habits, simulate

    settings = load_settings()
    notes = []
    cover: dict[str, int] = {}
    assumed = Habits(accept_timeout_s=settings.dispatch.accept_timeout_s, max_offers=settings.dispatch.max_offers)
    if scenario is not None:
        rng = np.random.default_rng(scenario)
        began = datetime(2026, 11, 20, tzinfo=UTC)
        world, staff, habits = make_cases(rng, cases, began), make_staff(rng, people, began), assumed
        end = began + timedelta(days=1)
        subject = f"scenario {scenario}: {cases} incidents, {people} people, one day"
    elif since is None or until is None:
        raise typer.BadParameter("say --from and --to, or --scenario")
    else:
        from dispatch.roster import read_cover

        zone = ZoneInfo(settings.city.timezone)
        began, end = (at.replace(tzinfo=zone).astimezone(UTC) for at in (since, until))
        with open_session() as session:
            world = read_cases(session.connection, began, end)
            staff, rostered = read_staff(session.connection, began, end)
            habits = read_habits(session.connection, began, end, assumed)
            cover = read_cover(session.connection)
        if not rostered:
            notes.append(
                "没有排班：期间被派过单的人视为全程在岗 · no roster: whoever was asked counts as on duty all the time"
            )
        subject = f"{since:%Y-%m-%d %H:%M} – {until:%Y-%m-%d %H:%M}: {len(world)} incidents, {len(staff)} people"
    if not world or not staff:
        print(f"{subject}: nothing to replay")
        raise typer.Exit(1)
    now = settings.assignment
    runs = {
        name: simulate(world, staff, weights, habits, end + _TAIL, cover=cover)
        for name, weights in (("present", now), (policy.stem, _read_policy(policy, now)))
    }
    figures = {name: describe(count_figures(run, end + _TAIL)) for name, run in runs.items()}
    print(json.dumps({"subject": subject, "notes": notes, **figures}, indent=2, ensure_ascii=False))
    if picture is not None:
        write_picture(picture, runs, end + _TAIL, subject, notes)


def _read_policy(file: Path, now: AssignmentSettings) -> AssignmentSettings:
    """The present weights with those of the file.

    Raises pydantic.ValidationError for an unknown or impossible one.
    """
    said = tomllib.loads(file.read_text("utf-8"))
    return AssignmentSettings.model_validate({**now.model_dump(), **said.get("assignment", said)})


@app.command()
def unit(
    code: Annotated[str, typer.Argument(help="A short name of its own.")],
    name: Annotated[str, typer.Argument(help="As the duty rules call it.")],
    kind: Annotated[UnitKind, typer.Option()] = UnitKind.DEPARTMENT,
    scope: Annotated[str, typer.Option(help="'*', or division-code prefixes with commas: where it handles.")] = "*",
    assigns_itself: Annotated[
        bool, typer.Option("--assigns-itself", help="What it accepts is given to its people by the plan.")
    ] = False,
) -> None:
    """Add or change a handling unit."""
    with open_session() as session:
        write_unit(session.connection, code, name, kind, scope, session.now, assigns_itself=assigns_itself)
    print(f"{code}: {name}")


@app.command()
def member(
    unit_code: Annotated[str, typer.Argument()],
    user: Annotated[str, typer.Argument(help="The log-in name.")],
    leads: Annotated[bool, typer.Option("--leads", help="Answers for the unit and sends its people.")] = False,
) -> None:
    """Make somebody one of a unit's people."""
    with open_session() as session:
        write_member(session.connection, unit_code, user, leads=leads)
    print(f"{unit_code}: {user}{' leads' if leads else ''}")


@app.command()
def profile(
    user: Annotated[str, typer.Argument(help="The log-in name.")],
    means: Annotated[Means, typer.Option(help="How they get about.")] = Means.FOOT,
    skill: Annotated[list[str] | None, typer.Option(help="What they can do; several times.")] = None,
    equipment: Annotated[list[str] | None, typer.Option(help="What they have with them; several times.")] = None,
) -> None:
    """Say how somebody gets about, what they can do and have with them."""
    with open_session() as session:
        write_profile(session.connection, user, means, skill or [], equipment or [])
    print(f"{user}: {means}, {skill or []}, {equipment or []}")


@app.command()
def need(
    category: Annotated[str, typer.Argument()],
    skill: Annotated[list[str] | None, typer.Option(help="Several times.")] = None,
    equipment: Annotated[list[str] | None, typer.Option(help="Several times.")] = None,
) -> None:
    """Say what whoever goes to a category must know and have."""
    with open_session() as session:
        write_need(session.connection, category, skill or [], equipment or [])
    print(f"{category}: {skill or []}, {equipment or []}")


@app.command()
def cover(
    community: Annotated[str, typer.Argument(help="12-digit code.")],
    minimum: Annotated[int, typer.Argument(min=0, help="People on duty who stay there; 0: no cover.")],
) -> None:
    """Say how many people a community keeps."""
    with open_session() as session:
        write_cover(session.connection, community, minimum)
    print(f"{community}: {minimum}")


@app.command()
def roster(
    file: Annotated[Path, typer.Argument(exists=True, help="CSV: user,day,from,to,breaks.")],
) -> None:
    """Import shifts with their breaks."""
    with open_session() as session:
        count = import_roster(session.connection, file, session.settings.city.timezone, session.now)
    print(f"{count} shifts")
