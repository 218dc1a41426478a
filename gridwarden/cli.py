"""The command line. Commands are thin: they read settings, call one function of a package and print what it says."""

import sys
from typing import Annotated, NoReturn

import typer

from gridwarden.commands import bench, calendar, db, device, dispatch, doctor, grid, limit, run, sim, user, vision

app = typer.Typer(
    name="gridwarden",
    help="Gridwarden (网格卫士): sensors and cameras to incidents, dispatch and checked closure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(run.up)
app.command("run")(run.run)
app.command("demo")(run.demo)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.add_typer(db.app, name="db", help="The database.")
app.add_typer(grid.app, name="grid", help="Areas, cells, components.")
app.add_typer(calendar.app, name="calendar", help="Workdays, shifts.")
app.add_typer(limit.app, name="limit", help="Time limits, emergencies, indicators.")
app.add_typer(dispatch.app, name="dispatch", help="Who goes, and who handles.")
app.add_typer(device.app, name="device", help="The device registry.")
app.add_typer(user.app, name="user", help="People and their roles.")
app.add_typer(sim.app, name="sim", help="Simulators, against any installation by its addresses.")
app.add_typer(vision.app, name="vision", help="Detection: files and streams through the pipeline, models.")


def main(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> NoReturn:
    """Run a command. Errors that a person can mend are one line on standard error and exit status 2."""
    try:
        app(arguments)
    except Exception as error:
        if not _explain(error):
            raise
    sys.exit(2)


def _explain(error: Exception) -> bool:
    """Print an error that a person can mend; False for one that only a developer can."""
    from psycopg import OperationalError
    from pydantic import ValidationError

    from gridwarden.errors import FRIENDLY  # imported for an error only: it brings in every package

    if isinstance(error, ValidationError):
        for problem in error.errors():
            where = "__".join(str(part).upper() for part in problem["loc"])
            print(f"gridwarden: setting {where}: {problem['msg']}", file=sys.stderr)
    elif isinstance(error, OperationalError):
        print(f"gridwarden: the database does not answer: {str(error).strip()}", file=sys.stderr)
        print("  start it with `gridwarden up`, or look with `gridwarden doctor`", file=sys.stderr)
    elif isinstance(error, FRIENDLY):
        print(f"gridwarden: {error}", file=sys.stderr)
    else:
        return False
    return True
