"""`gridwarden user …`"""

from typing import Annotated

import typer
from dashboard.users import UserRecord, add_user, make_login_link, read_users, set_roles

from gridwarden.supervise import database_running
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import load_settings
from kernel.types import Role

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Log-in name.")],
    role: Annotated[list[Role], typer.Option(help="May be given several times.")],
    display_name: Annotated[
        str, typer.Option("--display", help="Name that people read; default: the log-in name.")
    ] = "",
    scope: Annotated[str, typer.Option(help="'*' or division-code prefixes with commas, e.g. 330105012.")] = "*",
    grid: Annotated[str, typer.Option(help="Code of the responsibility grid of a grid worker.")] = "",
    link: Annotated[bool, typer.Option(help="Print a one-time log-in link.")] = True,
) -> None:
    """Add a person, and print a one-time link for the first log-in (no default password exists)."""
    settings = load_settings()
    now = Clock.of(settings.clock).now()
    with database_running(settings):
        database = Database(settings, DbRole.WORKER)
        with database.transaction("*") as connection:
            user = add_user(
                connection,
                UserRecord(name=name, display_name=display_name or name, roles=tuple(role), scope=scope,
                           responsibility_grid_code=grid or None),
                now,
            )  # fmt: skip
            seat = "phone" if set(role) == {Role.GRID_WORKER} else "wall"
            url = make_login_link(connection, user, seat, settings, now) if link else ""
        database.close()
    print(f"added {name}" + (f"\nlog in once, within {settings.web.link_minutes:.0f} minutes: {url}" if url else ""))


@app.command("list")
def list_users() -> None:
    """Everybody, with roles, scope and duty."""
    settings = load_settings()
    with database_running(settings):
        database = Database(settings, DbRole.WORKER)
        with database.transaction("*") as connection:
            for user in read_users(connection):
                duty = "on duty" if user.on_duty else "off duty"
                print(f"{user.name:24} {','.join(user.roles):32} {user.scope:20} {duty}")
        database.close()


@app.command("role")
def change_roles(
    name: Annotated[str, typer.Argument()],
    role: Annotated[list[Role], typer.Option(help="The roles the person has from now on.")],
) -> None:
    """Set a person's roles; open sessions end."""
    settings = load_settings()
    with database_running(settings):
        database = Database(settings, DbRole.WORKER)
        with database.transaction("*") as connection:
            set_roles(connection, name, tuple(role), Clock.of(settings.clock).now())
        database.close()
    print(f"{name}: {', '.join(role)}")
