"""Sessions: kept by the server, known to the browser by a random cookie of which only the SHA-256 is stored."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.responses import Response

from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import Role

_SEEN_EVERY = timedelta(minutes=1)  # a write per request would be waste


class Seat(StrEnum):
    """Which page: each has a cookie of its own, so that wall and phone can be open side by side."""

    WALL = "wall"
    PHONE = "phone"

    @property
    def cookie(self) -> str:
        """Name of this seat's cookie."""
        return f"gw_{self.value}"


_SEATS = {seat.value: seat for seat in Seat}


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Somebody who is signed in. `scope`: '*' or division-code prefixes with commas."""

    id: UUID
    map_id: int
    name: str
    display_name: str
    roles: frozenset[Role]
    scope: str
    responsibility_grid_code: str | None
    language: str
    on_duty: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One log-in of one person at one seat."""

    token_hash: bytes
    seat: Seat
    expires_at: datetime
    user: User


def hash_token(token: str) -> bytes:
    """What is stored of a random token. Plain SHA-256 will do: 256 random bits cannot be guessed from it."""
    return hashlib.sha256(token.encode()).digest()


def create_session(
    connection: Connection, user_id: UUID, seat: Seat, now: datetime, *, hours: float, user_agent: str
) -> str:
    """Open a session; the cookie's value, which is stored nowhere."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO session (token_hash, user_id, seat, created_at, expires_at, seen_at, user_agent)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (hash_token(token), user_id, seat, now, now + timedelta(hours=hours), now, user_agent[:200]),
    )
    return token


def read_session(connection: Connection, token: str, seat: Seat, now: datetime) -> Session | None:
    """The session of a cookie; None when it is unknown, over, of another seat, or its person is disabled."""
    row = connection.execute(
        """
        SELECT s.token_hash, s.expires_at, s.seen_at, u.id, u.map_id, u.name, u.display_name, u.roles, u.scope,
               u.responsibility_grid_code, u.language, u.on_duty
        FROM session s JOIN app_user u ON u.id = s.user_id
        WHERE s.token_hash = %s AND s.seat = %s AND s.expires_at > %s AND NOT u.disabled
        """,
        (hash_token(token), seat, now),
    ).fetchone()
    if row is None:
        return None
    token_hash, expires_at, seen_at, user_id, map_id, name, display_name, roles, scope, grid, language, on_duty = row
    if now - seen_at > _SEEN_EVERY:
        connection.execute("UPDATE session SET seen_at = %s WHERE token_hash = %s", (now, token_hash))
    user = User(
        id=user_id,
        map_id=map_id,
        name=name,
        display_name=display_name,
        roles=frozenset(Role(role) for role in roles),
        scope=scope,
        responsibility_grid_code=grid,
        language=language,
        on_duty=on_duty,
    )
    return Session(token_hash=bytes(token_hash), seat=seat, expires_at=expires_at, user=user)


def end_session(connection: Connection, token_hash: bytes) -> None:
    """Forget a session."""
    connection.execute("DELETE FROM session WHERE token_hash = %s", (token_hash,))


def read_rights(
    connection: Connection, token_hashes: Collection[bytes], now: datetime
) -> dict[bytes, tuple[str, frozenset[Role]]]:
    """Scope and roles behind the sessions that are still good; the others are left out."""
    rows = connection.execute(
        """
        SELECT s.token_hash, u.scope, u.roles FROM session s JOIN app_user u ON u.id = s.user_id
        WHERE s.token_hash = ANY (%s) AND s.expires_at > %s AND NOT u.disabled
        """,
        (list(token_hashes), now),
    ).fetchall()
    return {bytes(token_hash): (scope, frozenset(Role(role) for role in roles)) for token_hash, scope, roles in rows}


def forget_sessions(connection: Connection, now: datetime) -> None:
    """Delete what has run out: sessions, one-time links, old log-in attempts, answers kept for repeated requests."""
    connection.execute("DELETE FROM session WHERE expires_at < %s", (now,))
    connection.execute("DELETE FROM login_link WHERE expires_at < %s", (now - timedelta(days=1),))
    connection.execute("DELETE FROM login_attempt WHERE attempted_at < %s", (now - timedelta(days=1),))
    connection.execute("DELETE FROM idempotency WHERE created_at < %s", (now - timedelta(days=2),))


def read_seat(connection: HTTPConnection) -> Seat | None:
    """The seat that a request names by its `X-Seat` header or `seat` parameter; None when it names none."""
    named = connection.headers.get("x-seat") or connection.query_params.get("seat") or ""
    return _SEATS.get(named)


def read_tokens(connection: HTTPConnection) -> list[tuple[Seat, str]]:
    """The cookies to try: the named seat's, or every seat's when none is named."""
    seat = read_seat(connection)
    seats = [seat] if seat else list(Seat)
    return [(s, token) for s in seats if (token := connection.cookies.get(s.cookie))]


def set_cookie(response: Response, settings: Settings, seat: Seat, token: str) -> None:
    """Give the browser its cookie: out of reach for scripts and for other sites."""
    response.set_cookie(
        seat.cookie,
        token,
        max_age=int(settings.web.session_hours * 3600),
        path="/",
        secure=settings.public_url.startswith("https://"),
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, seat: Seat) -> None:
    """Take the cookie back."""
    response.delete_cookie(seat.cookie, path="/", httponly=True, samesite="strict")
