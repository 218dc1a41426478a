"""Who is asking: log-in with its throttle, the session behind a request, the roles a route wants."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from dashboard.context import Web, get_web
from dashboard.errors import Problem
from dashboard.password import needs_rehash, rehash_password, verify_password
from dashboard.session import Session, User, hash_token, read_session, read_tokens
from kernel.db import Connection, Database
from kernel.types import Role

WINDOW = timedelta(minutes=15)
TRIES_PER_NAME = 5  # of one name from one address: somebody elsewhere is not locked out with them
TRIES_PER_ADDRESS = 50  # of all names: one password tried on many people


def find_session(connection: HTTPConnection, database: Database, now: datetime) -> Session | None:
    """The good session behind a request or a socket, of the seat it names; None when there is none."""
    tokens = read_tokens(connection)
    if not tokens:
        return None
    with database.transaction() as transaction:
        for seat, token in tokens:
            session = read_session(transaction, token, seat, now)
            if session is not None:
                return session
    return None


def get_session(request: Request) -> Session:
    """Dependency: the session of this request. 401 `not_signed_in` without one."""
    web = get_web(request)
    session = find_session(request, web.worker_database, web.now())
    if session is None:
        raise Problem(401, "not_signed_in", "Sign in first")
    return session


def get_user(session: Annotated[Session, Depends(get_session)]) -> User:
    """Dependency: the person who asks."""
    return session.user


CurrentSession = Annotated[Session, Depends(get_session)]
CurrentUser = Annotated[User, Depends(get_user)]
CurrentWeb = Annotated[Web, Depends(get_web)]


def require(*roles: Role) -> Callable[[User], User]:
    """Dependency: the person who asks, who must hold one of `roles`. 403 `not_your_role` otherwise."""

    def check(user: CurrentUser) -> User:
        if user.roles.isdisjoint(roles):
            raise Problem(403, "not_your_role", "This is for other roles", roles=[role.value for role in roles])
        return user

    return check


def address_of(request: HTTPConnection) -> str:
    """Whom to count attempts against: the client's address, of IPv6 the /64 that one customer has."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try to sign in."""

    address: str
    name: str
    attempted_at: datetime


def count_attempt(database: Database, attempt: Attempt) -> None:
    """Let a try through, or raise 429 `too_many_attempts`.

    It is written and committed before it is counted, so that a hundred tries at the same moment see each other.
    """
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO login_attempt (address, name, attempted_at) VALUES (%s, %s, %s)",
            (attempt.address, attempt.name, attempt.attempted_at),
        )
    with database.transaction() as connection:
        counts = connection.execute(
            "SELECT count(*) FILTER (WHERE name = %s), count(*) FROM login_attempt WHERE address = %s AND attempted_at > %s",
            (attempt.name, attempt.address, attempt.attempted_at - WINDOW),
        ).fetchone()
        by_name, by_address = counts if counts else (0, 0)
        if by_name <= TRIES_PER_NAME and by_address <= TRIES_PER_ADDRESS:
            return
        _forget_attempt(connection, attempt)  # a refused try does not make the wait longer
    wait_s = int(WINDOW.total_seconds())
    raise Problem(429, "too_many_attempts", "Too many tries; wait", headers={"Retry-After": str(wait_s)}, wait_s=wait_s)


def _forget_attempt(connection: Connection, attempt: Attempt) -> None:
    connection.execute(
        "DELETE FROM login_attempt WHERE address = %s AND name = %s AND attempted_at = %s",
        (attempt.address, attempt.name, attempt.attempted_at),
    )


def check_password(database: Database, attempt: Attempt, password: str) -> UUID:
    """The person who has this name and password.

    Raises 401 `wrong_credentials`, the same and after the same time for an unknown name, a wrong password, a person
    who is disabled or signs in by links only; 429 `too_many_attempts`.
    """
    count_attempt(database, attempt)
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT id, password_hash, disabled FROM app_user WHERE name = %s", (attempt.name,)
        ).fetchone()
    # No connection is held while the hash is computed.
    user_id, stored, disabled = row if row else (None, None, False)
    if not verify_password(stored, password) or disabled or user_id is None:
        raise Problem(401, "wrong_credentials", "Name or password is wrong")
    with database.transaction() as connection:
        connection.execute(
            "DELETE FROM login_attempt WHERE address = %s AND name = %s", (attempt.address, attempt.name)
        )
        if stored and needs_rehash(stored):
            connection.execute(
                "UPDATE app_user SET password_hash = %s WHERE id = %s AND password_hash = %s",
                (rehash_password(password), user_id, stored),
            )
    return UUID(str(user_id))


def use_login_link(connection: Connection, token: str, now: datetime) -> UUID:
    """The person whom a one-time link signs in; the link is used up in the same statement, so only one caller wins.

    Raises 401 `link_invalid`.
    """
    row = connection.execute(
        """
        UPDATE login_link l SET used_at = %s FROM app_user u
        WHERE l.token_hash = %s AND l.used_at IS NULL AND l.expires_at > %s AND u.id = l.user_id AND NOT u.disabled
        RETURNING l.user_id
        """,
        (now, hash_token(token), now),
    ).fetchone()
    if row is None:
        raise Problem(401, "link_invalid", "This link was used before, or its time is over")
    return UUID(str(row[0]))
