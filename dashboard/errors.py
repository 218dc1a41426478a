"""Errors at the edge: RFC 9457 problem+json with a stable `code` and `params`, translated by whoever shows them."""

import json
import logging
import secrets
from typing import Any

import fastapi
import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dispatch.model import ActionRefused

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_CODES = {400: "bad_request", 401: "not_signed_in", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


class ProblemBody(BaseModel):
    """What every error answer looks like (RFC 9457). `code` never changes its meaning; `params` fill a translation."""

    type: str = Field(examples=["urn:gridwarden:problem:not_found"])
    title: str
    status: int
    code: str
    params: dict[str, Any]


class Problem(fastapi.HTTPException):
    """An error that the caller may know about.

    `code` is stable and is what the front ends translate; `title` is a short English line for people who read logs.
    """

    def __init__(
        self, status: int, code: str, title: str, *, headers: dict[str, str] | None = None, **params: Any
    ) -> None:
        super().__init__(status, title, headers)
        self.code = code
        self.title = title
        self.params = params


def problem_response(
    status: int, code: str, title: str, params: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer for an error."""
    body = {
        "type": f"urn:gridwarden:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "params": params or {},
    }
    text = json.dumps(body, ensure_ascii=False, default=str)
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)


def database_problem(error: Exception) -> Problem | None:
    """The problem for a failure of the database or of a value it refused; None when it is a fault of this program."""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return Problem(503, "busy", "Somebody else is changing this; try again", headers={"Retry-After": "1"})
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Problem(503, "database_unavailable", "The database does not answer", headers={"Retry-After": "2"})
    if isinstance(error, psycopg.DataError):
        return Problem(422, "invalid_value", "A value cannot be stored")
    return None


def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if isinstance(error, Problem):
        return problem_response(error.status_code, error.code, error.title, error.params, headers)
    code = _CODES.get(error.status_code, f"http_{error.status_code}")
    return problem_response(error.status_code, code, str(error.detail), headers=headers)


def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and why, never the value: it may be a password.
    fields = [{"where": [str(part) for part in e["loc"]], "reason": e["type"]} for e in error.errors()]
    return problem_response(422, "invalid_request", "The request does not fit its schema", {"fields": fields})


def _answer_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ActionRefused)
    return problem_response(error.status, error.code, str(error), dict(error.params))


def _answer_database(_: Request, error: Exception) -> Response:
    problem = database_problem(error)
    if problem is None:
        raise error
    log.warning("database: %s", error)
    return _answer_http(_, problem)


def install_errors(app: FastAPI) -> None:
    """Make every error of `app` a problem+json."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(ActionRefused, _answer_refused)
    app.add_exception_handler(psycopg.Error, _answer_database)


class CatchAll:
    """The last net: what nobody expected is logged with an id, and the caller learns the id and nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 500 when the application raises before its answer began."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except HTTPException as error:  # raised outside the routes, e.g. by a body that grew too large
            if started:
                raise
            await _answer_http(Request(scope), error)(scope, receive, send)
        except Exception:
            error_id = secrets.token_hex(6)
            log.exception("request failed", extra={"error_id": error_id, "path": scope["path"]})
            if started:
                raise  # the connection is cut; a half answer must not look whole
            answer = problem_response(500, "internal_error", "Something went wrong here", {"error_id": error_id})
            await answer(scope, receive, send)
