"""Where a camera's pictures come from: an RTSP address as it stands, or one that a video platform gives anew each time.

Cameras behind a GB/T 28181 gateway (WVP-PRO) have no address of their own: asked to play, the gateway invites the camera and
answers an RTSP address that is good for a while. Such a camera's address here is

    wvp+http://user:md5-of-password@host:port/<device id>/<channel id>        (wvp+https too)

and every connection asks for a fresh one. Both addresses pass the same check: the gateway's before it is asked, its answer
before it is opened.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from ingest.address import (
    DEFAULT_PORTS,
    AddressError,
    AddressFault,
    CameraAddress,
    check_camera_address,
    check_host,
    hide_password,
)
from ingest.fault import CaptureError, CaptureFault

SCHEMES = {"wvp+http": 80, "wvp+https": 443}
MAX_ANSWER_BYTES = 8_000_000
_FAULTS = {
    400: "not_found",
    401: "unauthorised",
    403: "unauthorised",
    404: "not_found",
    408: "timed_out",
    486: "timed_out",
}
_tokens: dict[tuple[str, int, str, str], str] = {}
_lock = threading.Lock()


def is_platform_address(url: str) -> bool:
    """Whether the address must be asked for at each connection."""
    return url.partition("://")[0] in SCHEMES


def check_source(url: str, allowed_networks: Sequence[str]) -> None:
    """Is this an address that a camera may have? Nothing is opened. Raises AddressError."""
    if is_platform_address(url):
        parts = _split(url)
        check_host(parts.hostname or "", _port(parts), hide_password(url), allowed_networks)
        _codes_of(parts)
    else:
        check_camera_address(url, allowed_networks)


def find_address(
    url: str, allowed_networks: Sequence[str], *, timeout_s: float = 5.0, progress: Callable[[], None] = lambda: None
) -> CameraAddress:
    """The address to open now; asks the platform where there is one. `progress` is called between its answers.

    Raises AddressError, CaptureError.
    """
    if not is_platform_address(url):
        return check_camera_address(url, allowed_networks)
    parts = _split(url)
    device_id, channel_id = _codes_of(parts)
    platform = Platform(url, allowed_networks, timeout_s=timeout_s)
    content = platform.ask(f"/api/play/start/{quote(device_id)}/{quote(channel_id)}", progress=progress)
    given = content.get("rtsp") if isinstance(content, dict) else None
    if not isinstance(given, str) or not given:
        raise CaptureError(CaptureFault.NOT_VIDEO, f"{hide_password(url)}: the platform gives no RTSP address")
    progress()
    return check_camera_address(given, allowed_networks)


class Platform:
    """A WVP-PRO installation, asked over HTTP as its own pages do. Log-ins are kept by the process and renewed when refused."""

    def __init__(self, url: str, allowed_networks: Sequence[str], *, timeout_s: float = 5.0) -> None:
        """`url`: wvp+http(s)://user:md5@host:port, a path is ignored. Raises AddressError."""
        parts = _split(url)
        self.shown = hide_password(f"{parts.scheme}://{parts.netloc}")
        self._secure = parts.scheme == "wvp+https"
        self._host, self._port = parts.hostname or "", _port(parts)
        self._user, self._secret = unquote(parts.username or ""), unquote(parts.password or "")
        self._ip = check_host(self._host, self._port, self.shown, allowed_networks)
        self._timeout_s = timeout_s

    def ask(self, path: str, progress: Callable[[], None] = lambda: None, **query: str | int) -> Any:
        """The `data` of an answer. Raises CaptureError."""
        key = (self._host, self._port, self._user, self._secret)
        for attempt in (1, 2):
            with _lock:
                token = _tokens.get(key)
            if token is None:
                token = self._log_in()
                progress()
                with _lock:
                    _tokens[key] = token
            status, document = self._get(path, query, token)
            code = _code_of(status, document)
            if code == 0:
                return document.get("data", document)
            if code == 401 and attempt == 1:  # the token's time is over
                with _lock:
                    _tokens.pop(key, None)
                continue
            message = str(document.get("msg", ""))[:100] if isinstance(document, dict) else ""
            fault = CaptureFault(_FAULTS.get(code, "broken"))
            raise CaptureError(fault, f"{self.shown}: the platform refuses {path.split('/')[2]}: {code} {message}")
        raise CaptureError(CaptureFault.UNAUTHORISED, f"{self.shown}: the platform refuses its own log-in")

    def _log_in(self) -> str:
        status, document = self._get("/api/user/login", {"username": self._user, "password": self._secret}, "")
        data = document.get("data") if isinstance(document, dict) else None
        token = data.get("accessToken") if isinstance(data, dict) else None
        if _code_of(status, document) != 0 or not isinstance(token, str) or not token.isprintable():
            raise CaptureError(CaptureFault.UNAUTHORISED, f"{self.shown}: wrong user or password of the platform")
        return token

    def _get(self, path: str, query: dict[str, Any], token: str) -> tuple[int, Any]:
        target = path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json", "Host": self._host_header()}
        if token:
            headers["access-token"] = token
        connection = _Pinned(self._host, self._port, self._ip, self._secure, self._timeout_s)
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()  # a redirect is not followed: it could lead anywhere
            data = answer.read(MAX_ANSWER_BYTES + 1)
            if len(data) > MAX_ANSWER_BYTES:
                raise CaptureError(CaptureFault.BROKEN, f"{self.shown}: the platform's answer is too long")
            return answer.status, json.loads(data) if data else {}
        except TimeoutError:
            raise CaptureError(CaptureFault.TIMED_OUT, f"{self.shown}: the platform does not answer") from None
        except ConnectionRefusedError:
            raise CaptureError(CaptureFault.REFUSED, f"{self.shown}: nothing listens there") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise CaptureError(CaptureFault.BROKEN, f"{self.shown}: {type(error).__name__}") from None
        finally:
            connection.close()

    def _host_header(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, whatever the name says meanwhile."""

    def __init__(self, host: str, port: int, ip: str, secure: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._ip = ip
        self._secure = secure

    def connect(self) -> None:
        plain = socket.create_connection((self._ip, self.port), self.timeout)
        self.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self.host) if self._secure else plain
        )


def make_platform_url(base: str, user: str, secret: str, path: str = "") -> str:
    """`base`: http(s)://host:port; `secret`: the MD5 of the password, which is what the platform wants. Raises AddressError."""
    parts = urlsplit(base)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in base  # the base is shown; the log-in comes apart from it
        or parts.query
        or parts.path.strip("/")
    ):
        raise AddressError(AddressFault.MALFORMED, "a platform's address is http(s)://host:port, without a log-in")
    place = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or SCHEMES[f"wvp+{parts.scheme}"]
    return f"wvp+{parts.scheme}://{quote(user, safe='')}:{quote(secret, safe='')}@{place}:{port}/{path}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        known, parts = False, urlsplit("")
    if (
        not known
        or any(not letter.isprintable() or letter.isspace() for letter in url)
        or parts.query
        or parts.fragment
    ):
        raise AddressError(AddressFault.MALFORMED, f"{hide_password(url)}: not a platform's address")
    path = [part for part in parts.path.split("/") if part]
    if path and (len(path) != 2 or not all(part.isascii() and part.isdigit() and len(part) == 20 for part in path)):
        raise AddressError(
            AddressFault.MALFORMED, f"{hide_password(url)}: a device's and a channel's 20 digits are wanted"
        )
    return parts


def _codes_of(parts: SplitResult) -> tuple[str, str]:
    """Device and channel; an address of the platform alone names no camera."""
    codes = [part for part in parts.path.split("/") if part]
    if len(codes) != 2:
        shown = hide_password(f"{parts.scheme}://{parts.netloc}")
        raise AddressError(AddressFault.MALFORMED, f"{shown}: a device's and a channel's 20 digits are wanted")
    return codes[0], codes[1]


def _port(parts: SplitResult) -> int:
    return parts.port or {**DEFAULT_PORTS, **SCHEMES}[parts.scheme]


def _code_of(status: int, document: Any) -> int:
    """0 when the platform is content; it says some refusals in the body of an answer with status 200."""
    if status != 200:
        return status
    code = document.get("code", 0) if isinstance(document, dict) else -1
    return code if isinstance(code, int) else -1
