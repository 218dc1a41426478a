"""Idempotency-Key on POST: a request that is sent again gets the first one's answer and does nothing twice.

The claim on a key is a row written in the same transaction as the effect (`claim_request`), so the two are committed
together or not at all, and a second request with the key waits for the first one's commit. The answer is added right
after. A request that was refused leaves no row: nothing happened, so it may be tried again.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.errors import MEDIA_TYPE, Problem, problem_response
from kernel.db import Connection, Database

log = logging.getLogger(__name__)
HEADER = "idempotency-key"
_MAX_KEY = 200
_ANSWER_WAIT_S = 3.0  # between the first request's commit and its answer being written
_RUNNING = 0  # status of a claim whose answer is not there yet


@dataclass(slots=True)
class Claim:
    """The key of the request being served. `digest` is what must be the same when it is sent again."""

    key: str
    digest: bytes
    user_id: UUID | None = None  # set once the claim's row is written


class Answered(Exception):
    """The request was served before; here is what it was told."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


_current: ContextVar[Claim | None] = ContextVar("idempotency_claim", default=None)


def extend_claim(content: bytes) -> None:
    """Let what a multipart request carries count, which a repeat writes with other boundaries."""
    claim = _current.get()
    if claim is not None:
        claim.digest = hashlib.sha256(claim.digest + content).digest()


@contextmanager
def claim_request(
    transaction: AbstractContextManager[Connection], user_id: UUID, now: datetime
) -> Iterator[Connection]:
    """`transaction`, with this request's key claimed in it when the request has one.

    Raises Answered, Problem 422 `idempotency_mismatch` (other request, same key), 409 `idempotency_answer_lost` (it was
    done, but the answer was never written: look at the present state).
    """
    claim = _current.get()
    if claim is None or claim.user_id is not None:
        with transaction as connection:
            yield connection
        return
    deadline = time.monotonic() + _ANSWER_WAIT_S
    with transaction as connection:
        # Waits for another transaction that is claiming the same key, until it ends.
        row = connection.execute(
            "INSERT INTO idempotency (user_id, key, request_hash, status, body, created_at)"
            " VALUES (%s, %s, %s, %s, 'null', %s) ON CONFLICT DO NOTHING RETURNING 1",
            (user_id, claim.key, claim.digest, _RUNNING, now),
        ).fetchone()
        if row is None:
            _answer_again(connection, claim, user_id, deadline)
        yield connection
    claim.user_id = user_id


def _answer_again(connection: Connection, claim: Claim, user_id: UUID, deadline: float) -> None:
    while True:
        row = connection.execute(
            "SELECT request_hash, status, body FROM idempotency WHERE user_id = %s AND key = %s", (user_id, claim.key)
        ).fetchone()
        if row is None:
            raise Problem(409, "idempotency_answer_lost", "The first request's answer is gone; read the present state")
        digest, status, body = row
        if bytes(digest) != claim.digest:
            raise Problem(422, "idempotency_mismatch", "This Idempotency-Key was used for another request")
        if status != _RUNNING:
            raise Answered(status, body)
        if time.monotonic() > deadline:
            raise Problem(409, "idempotency_answer_lost", "The first request was done, but its answer was not kept")
        time.sleep(0.02)


def _write_answer(database: Database, claim: Claim, status: int, body: bytes) -> None:
    with database.transaction() as connection:
        connection.execute(
            "UPDATE idempotency SET status = %s, body = %s WHERE user_id = %s AND key = %s",
            (status, Jsonb(json.loads(body) if body else None), claim.user_id, claim.key),
        )


class Idempotency:
    """Gives POST requests with an Idempotency-Key their claim, and keeps the answer.

    Innermost of all, so that what it keeps is what the route said.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or pass through what has no key."""
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        if not 1 <= len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
            await problem_response(422, "idempotency_key_invalid", "A key has 1 to 200 printable characters")(
                scope, receive, send
            )
            return
        body, again = await _read_body(scope, receive)
        line = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}\n".encode()
        claim = Claim(key=key, digest=hashlib.sha256(line + body).digest())
        token = _current.set(claim)
        try:
            await self._serve(scope, again, send, claim)
        finally:
            _current.reset(token)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, claim: Claim) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        try:
            await self._app(scope, receive, hold)
        except Answered as answered:
            text = b"" if answered.body is None else json.dumps(answered.body, ensure_ascii=False).encode()
            media = MEDIA_TYPE if answered.status >= 400 else "application/json"
            response = Response(text, answered.status, {"Idempotency-Replayed": "true"}, media_type=media)
            await response(scope, receive, send)
            return
        if claim.user_id is not None and held:
            answer = b"".join(message.get("body", b"") for message in held[1:])
            database: Database = scope["app"].state.web.worker_database
            try:
                await asyncio.to_thread(_write_answer, database, claim, held[0]["status"], answer)
            except psycopg.Error:  # the effect is committed, so this caller must learn of it all the same
                log.warning("the answer to a repeated request was not kept", exc_info=True)
        for message in held:
            await send(message)


async def _read_body(scope: Scope, receive: Receive) -> tuple[bytes, Receive]:
    """The body and a `receive` that gives it again. A multipart body is left alone: its parts count, not its form."""
    if Headers(scope=scope).get("content-type", "").startswith("multipart/"):
        return b"", receive
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(parts)
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again
