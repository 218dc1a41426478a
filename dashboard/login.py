"""Signing in and out, and what a person may say about themselves: language and duty."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from dashboard.auth import Attempt, CurrentSession, CurrentWeb, address_of, check_password, use_login_link
from dashboard.context import Web
from dashboard.session import Seat, User, clear_cookie, create_session, end_session, read_session, set_cookie
from dashboard.users import area_of_user
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.types import Role

router = APIRouter(tags=["people"])
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]


class PasswordLogin(BaseModel):
    """Name and password, and the seat whose cookie is wanted."""

    name: Name
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    seat: Seat = Seat.WALL


class LinkLogin(BaseModel):
    """The token of a one-time link (what stands after its #)."""

    token: Annotated[str, StringConstraints(min_length=16, max_length=128)]
    seat: Seat = Seat.WALL


class Me(BaseModel):
    """The person who is signed in."""

    id: UUID
    map_id: int
    name: str
    display_name: str
    roles: list[Role]
    scope: str
    language: str
    on_duty: bool
    responsibility_grid_code: str | None
    seat: Seat
    expires_at: datetime
    city: str
    timezone: str


class MeChange(BaseModel):
    """What a person changes about themselves; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    language: Literal["zh-CN", "en"] | None = None
    on_duty: bool | None = None


def _describe(web: Web, user: User, seat: Seat, expires_at: datetime) -> Me:
    return Me(
        id=user.id,
        map_id=user.map_id,
        name=user.name,
        display_name=user.display_name,
        roles=sorted(user.roles),
        scope=user.scope,
        language=user.language,
        on_duty=user.on_duty,
        responsibility_grid_code=user.responsibility_grid_code,
        seat=seat,
        expires_at=expires_at,
        city=web.settings.city.name,
        timezone=web.settings.city.timezone,
    )


def _sign_in(
    connection: Connection, web: Web, request: Request, response: Response, user_id: UUID, seat: Seat, how: str
) -> Me:
    now = web.now()
    agent = request.headers.get("user-agent", "").replace("\x00", "")
    token = create_session(connection, user_id, seat, now, hours=web.settings.web.session_hours, user_agent=agent)
    session = read_session(connection, token, seat, now)
    assert session is not None
    write_audit(
        connection,
        now,
        actor=session.user.name,
        action="signed_in",
        subject=seat,
        detail={"how": how, "from": address_of(request)},
    )
    set_cookie(response, web.settings, seat, token)
    response.headers["Cache-Control"] = "no-store"
    return _describe(web, session.user, seat, session.expires_at)


@router.post("/login")
def log_in(body: PasswordLogin, request: Request, response: Response, web: CurrentWeb) -> Me:
    """Sign in with name and password."""
    attempt = Attempt(address=address_of(request), name=body.name, attempted_at=web.now())
    user_id = check_password(web.worker_database, attempt, body.password)
    with web.worker_database.transaction() as connection:
        return _sign_in(connection, web, request, response, user_id, body.seat, "password")


@router.post("/login/link")
def log_in_by_link(body: LinkLogin, request: Request, response: Response, web: CurrentWeb) -> Me:
    """Sign in with a one-time link, which is used up by it."""
    with web.worker_database.transaction() as connection:
        user_id = use_login_link(connection, body.token, web.now())
        return _sign_in(connection, web, request, response, user_id, body.seat, "link")


@router.post("/logout", status_code=204)
def log_out(response: Response, session: CurrentSession, web: CurrentWeb) -> None:
    """End this session; its sockets are closed. Nobody is disturbed on a phone that was signed out."""
    with web.worker_database.transaction() as connection:
        end_session(connection, session.token_hash)
        write_audit(connection, web.now(), actor=session.user.name, action="signed_out", subject=session.seat)
    web.hub.revoke(session.token_hash)
    clear_cookie(response, session.seat)


@router.get("/me")
def read_me(session: CurrentSession, web: CurrentWeb) -> Me:
    """The person who is signed in."""
    return _describe(web, session.user, session.seat, session.expires_at)


@router.patch("/me")
def change_me(body: MeChange, session: CurrentSession, web: CurrentWeb) -> Me:
    """Change the language, or go on or off duty. Off duty, a person's position is forgotten."""
    now, user = web.now(), session.user
    with web.worker_database.transaction() as connection:
        row = connection.execute(
            """
            UPDATE app_user SET language = coalesce(%(language)s, language), on_duty = coalesce(%(on_duty)s, on_duty),
                duty_changed_at = CASE WHEN coalesce(%(on_duty)s, on_duty) <> on_duty THEN %(now)s ELSE duty_changed_at END
            WHERE id = %(id)s RETURNING language, on_duty
            """,
            {"language": body.language, "on_duty": body.on_duty, "now": now, "id": user.id},
        ).fetchone()
        assert row is not None
        if body.on_duty is not None and body.on_duty != user.on_duty:
            if not body.on_duty:
                connection.execute("DELETE FROM staff_position WHERE user_id = %s", (user.id,))
            note_change(
                connection, ChangeKind.USER, user.id, area_of_user(user.scope, user.responsibility_grid_code), now
            )
            write_audit(connection, now, actor=user.name, action="on_duty" if body.on_duty else "off_duty")
    me = _describe(web, user, session.seat, session.expires_at)
    return me.model_copy(update={"language": row[0], "on_duty": row[1]})
