"""People: adding them, their roles, one-time log-in links. The command line and the log-in pages call these."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import errors

from dashboard.password import hash_password
from dashboard.session import Seat, hash_token
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id
from kernel.settings import Settings
from kernel.types import Role


class UserError(ValueError):
    """A person cannot be added or changed like this; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserRow:
    """One person as the command line lists them."""

    id: UUID
    name: str
    display_name: str
    roles: tuple[Role, ...]
    scope: str
    responsibility_grid_code: str | None
    on_duty: bool
    disabled: bool


def area_of_user(scope: str, responsibility_grid_code: str | None) -> str:
    """The division code a person belongs to: the responsibility grid, else the first of the scope, '' for everywhere."""
    return responsibility_grid_code or ("" if scope == "*" else scope.split(",")[0])


def _check_scope(scope: str) -> str:
    parts = [part.strip() for part in scope.split(",")]
    if scope != "*" and not all(part.isdigit() and 2 <= len(part) <= 18 for part in parts):
        raise UserError(f"scope {scope!r} is neither '*' nor division codes with commas between")
    return "*" if scope == "*" else ",".join(parts)


def _check_roles(roles: Collection[Role | str]) -> list[str]:
    try:
        found = [Role(role).value for role in roles]
    except ValueError as error:
        raise UserError(f"{error}; roles are {', '.join(Role)}") from None
    if not found:
        raise UserError("a person needs at least one role")
    return sorted(set(found))


def add_user(
    connection: Connection,
    *,
    name: str,
    roles: Collection[Role | str],
    scope: str,
    now: datetime,
    display_name: str = "",
    password: str | None = None,
    responsibility_grid_code: str | None = None,
    language: str = "zh-CN",
    on_duty: bool = False,
) -> UUID:
    """Add a person; without a password they sign in by one-time links only.

    Raises UserError for a name taken, an unknown role or a scope that is none; WeakPassword.
    """
    name = name.strip()
    if not name or len(name) > 64 or not name.isprintable():
        raise UserError("a name has 1 to 64 printable characters")
    user_id = new_id(now)
    password_hash = hash_password(password, name) if password is not None else None
    scope = _check_scope(scope)
    try:
        with connection.transaction():
            connection.execute(
                """
                INSERT INTO app_user (id, name, display_name, password_hash, roles, scope, responsibility_grid_code,
                                      language, on_duty, duty_changed_at, created_at)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (user_id, name, display_name or name, password_hash, _check_roles(roles), scope,
                 responsibility_grid_code, language, on_duty, now if on_duty else None, now),
            )  # fmt: skip
    except errors.UniqueViolation:
        raise UserError(f"the name {name!r} is taken") from None
    note_change(connection, ChangeKind.USER, user_id, area_of_user(scope, responsibility_grid_code), now)
    write_audit(connection, now, actor="command line", action="user_added", subject=name)
    return user_id


def read_users(connection: Connection) -> list[UserRow]:
    """Everybody, by name."""
    rows = connection.execute(
        "SELECT id, name, display_name, roles, scope, responsibility_grid_code, on_duty, disabled"
        " FROM app_user ORDER BY name"
    ).fetchall()
    return [
        UserRow(
            id=row[0],
            name=row[1],
            display_name=row[2],
            roles=tuple(Role(role) for role in row[3]),
            scope=row[4],
            responsibility_grid_code=row[5],
            on_duty=row[6],
            disabled=row[7],
        )
        for row in rows
    ]


def find_user(connection: Connection, name: str) -> UUID:
    """The id behind a name. Raises UserError when there is none."""
    row = connection.execute("SELECT id FROM app_user WHERE name = %s", (name,)).fetchone()
    if row is None:
        raise UserError(f"nobody is called {name!r}")
    return UUID(str(row[0]))


def set_roles(connection: Connection, user_id: UUID, roles: Collection[Role | str], now: datetime) -> None:
    """Give a person these roles and no others. Open sockets notice within seconds."""
    row = connection.execute(
        "UPDATE app_user SET roles = %s WHERE id = %s RETURNING scope, responsibility_grid_code",
        (_check_roles(roles), user_id),
    ).fetchone()
    if row is None:
        raise UserError(f"no person {user_id}")
    note_change(connection, ChangeKind.USER, user_id, area_of_user(*row), now)


def set_disabled(connection: Connection, user_id: UUID, disabled: bool, now: datetime) -> None:
    """Shut a person out (their sessions end) or let them in again."""
    row = connection.execute(
        "UPDATE app_user SET disabled = %s, on_duty = on_duty AND NOT %s WHERE id = %s"
        " RETURNING scope, responsibility_grid_code",
        (disabled, disabled, user_id),
    ).fetchone()
    if row is None:
        raise UserError(f"no person {user_id}")
    if disabled:
        connection.execute("DELETE FROM session WHERE user_id = %s", (user_id,))
        connection.execute("DELETE FROM login_link WHERE user_id = %s", (user_id,))
    note_change(connection, ChangeKind.USER, user_id, area_of_user(*row), now)


def set_password(connection: Connection, user_id: UUID, password: str) -> None:
    """A new password; every session of the person ends. Raises UserError, WeakPassword."""
    row = connection.execute("SELECT name FROM app_user WHERE id = %s", (user_id,)).fetchone()
    if row is None:
        raise UserError(f"no person {user_id}")
    connection.execute(
        "UPDATE app_user SET password_hash = %s WHERE id = %s", (hash_password(password, row[0]), user_id)
    )
    connection.execute("DELETE FROM session WHERE user_id = %s", (user_id,))


def make_login_link(connection: Connection, user_id: UUID, seat: Seat | str, now: datetime, settings: Settings) -> str:
    """An address that signs this person in once. The token is in the fragment, which no server and no proxy logs."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO login_link (token_hash, user_id, expires_at) VALUES (%s, %s, %s)",
        (hash_token(token), user_id, now + timedelta(minutes=settings.web.link_minutes)),
    )
    return f"{settings.public_url}/login?seat={Seat(seat).value}#{token}"
