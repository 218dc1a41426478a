"""`gridwarden user …`"""

from typing import Annotated

import typer

from dashboard.session import Seat
from dashboard.users import add_user, find_user, make_login_link, read_users, set_roles
from gridwarden.session import open_session
from kernel.types import Role

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Log-in name.")],
    role: Annotated[list[Role], typer.Option(help="May be given several times.")],
    display_name: Annotated[str, typer.Option("--display", help="Name that people read.")] = "",
    scope: Annotated[str, typer.Option(help="'*' or division-code prefixes with commas, e.g. 330105012.")] = "*",
    grid: Annotated[str, typer.Option(help="Code of the responsibility grid of a grid worker.")] = "",
) -> None:
    """Add a person, and print a one-time link for the first log-in (no default password exists)."""
    with open_session() as session:
        user_id = add_user(
            session.connection,
            name=name,
            display_name=display_name,
            roles=role,
            scope=scope,
            responsibility_grid_code=grid or None,
            language=session.settings.city.language,
            now=session.now,
        )
        seat = Seat.PHONE if set(role) == {Role.GRID_WORKER} else Seat.WALL
        url = make_login_link(session.connection, user_id, seat, session.now, session.settings)
        minutes = session.settings.web.link_minutes
    print(f"added {name}\nlog in once, within {minutes:.0f} minutes: {url}")


@app.command()
def link(name: Annotated[str, typer.Argument()], seat: Annotated[Seat, typer.Option()] = Seat.WALL) -> None:
    """Print a new one-time log-in link for somebody."""
    with open_session() as session:
        user_id = find_user(session.connection, name)
        print(make_login_link(session.connection, user_id, seat, session.now, session.settings))


@app.command("list")
def list_users() -> None:
    """Everybody, with roles, scope and duty."""
    with open_session() as session:
        for user in read_users(session.connection):
            duty = "disabled" if user.disabled else "on duty" if user.on_duty else "off duty"
            print(f"{user.name:24} {','.join(user.roles):32} {user.scope:20} {duty}")


@app.command("role")
def change_roles(
    name: Annotated[str, typer.Argument()],
    role: Annotated[list[Role], typer.Option(help="The roles the person has from now on.")],
) -> None:
    """Set a person's roles; open sessions end."""
    with open_session() as session:
        set_roles(session.connection, find_user(session.connection, name), role, session.now)
    print(f"{name}: {', '.join(role)}")
