"""Gates before the routes: where a request may come from, how large it may be, what headers answers carry."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.errors import Problem, problem_response

_SAFE = {"GET", "HEAD", "OPTIONS"}
MAX_BODY_BYTES = 1_000_000
LIST_BYTES = 20_000_000  # of a list of devices
_FORM_SLACK_BYTES = 20_000  # a multipart form around a picture of the largest size


def is_own_origin(connection: HTTPConnection, public_url: str) -> bool:
    """Whether a request or socket was made by a page of ours, or by a program, which names no origin.

    A browser always names the origin of a page that sends POST to another site or opens a socket (Fetch standard,
    RFC 6455 10.2); beside SameSite cookies this is the second lock on the same door.
    """
    if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    named = urlsplit(origin)
    if named.scheme not in ("http", "https"):
        return False
    if origin.rstrip("/") == public_url:
        return True
    return named.netloc == connection.headers.get("host", "") and named.scheme == _scheme(connection)


def _scheme(connection: HTTPConnection) -> str:
    return {"ws": "http", "wss": "https"}.get(connection.url.scheme, connection.url.scheme)


class OriginCheck:
    """Refuses unsafe methods from pages of other sites."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app = app
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 403 `foreign_origin`."""
        if (
            scope["type"] == "http"
            and scope["method"] not in _SAFE
            and not is_own_origin(HTTPConnection(scope), self._public_url)
        ):
            await problem_response(403, "foreign_origin", "This page may not do that")(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodyLimit:
    """Stops reading a body that grows beyond what its route may take, whatever its length header says."""

    def __init__(self, app: ASGIApp, picture_bytes: int) -> None:
        self._app = app
        self._limits = {
            "/api/v1/evidence": picture_bytes + _FORM_SLACK_BYTES,
            "/api/v1/devices/import": LIST_BYTES + _FORM_SLACK_BYTES,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer 413 `too_large`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], MAX_BODY_BYTES)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            answer = problem_response(413, "too_large", "The body is too large", {"limit_bytes": limit})
            await answer(scope, receive, send)
            return
        taken = 0

        async def count() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise Problem(413, "too_large", "The body is too large", limit_bytes=limit)
            return message

        await self._app(scope, count, send)


_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self';"
    " connect-src 'self'{sockets}; worker-src 'self' blob:; manifest-src 'self'; media-src 'self' blob:;"
    " frame-src 'self'; frame-ancestors 'self'; form-action 'self'; object-src 'none'; base-uri 'none'"
)


class SecurityHeaders:
    """Adds to every answer what tells a browser how little the page needs."""

    def __init__(self, app: ASGIApp, public_url: str, tiles_url: str) -> None:
        self._app = app
        # 'self' covers ws: and wss: of the same host in CSP 3, which Safari before 15.4 did not know.
        own = urlsplit(public_url)
        sockets = f" {'wss' if own.scheme == 'https' else 'ws'}://{own.netloc}"
        policy = _POLICY.format(sockets=sockets)
        tiles = urlsplit(tiles_url)
        if tiles.scheme in ("http", "https"):
            tiles_host = f" {tiles.scheme}://{tiles.netloc}"
            policy = policy.replace("img-src 'self'", f"img-src 'self'{tiles_host}")
            policy = policy.replace("connect-src 'self'", f"connect-src 'self'{tiles_host}")
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Permissions-Policy"] = "geolocation=(self), camera=(self), microphone=(), payment=(), usb=()"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, add)
