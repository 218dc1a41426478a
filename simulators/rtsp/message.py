"""RTSP requests and answers as text (RFC 2326), bounded in size."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 8192
MAX_BODY_BYTES = 65_536
REASONS = {
    200: "OK", 302: "Moved Temporarily", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Request Entity Too Large",
    454: "Session Not Found", 455: "Method Not Valid In This State", 459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport", 501: "Not Implemented", 503: "Service Unavailable",
    505: "RTSP Version Not Supported", 551: "Option Not Supported",
}  # fmt: skip


class BadRequest(ValueError):
    """What came is no RTSP request; the status says in which way."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The address's path without slashes at its ends; '' for '*'."""
        return "" if self.url == "*" else urlsplit(self.url).path.strip("/")

    @property
    def session(self) -> str:
        """The session it names, '' when it names none."""
        return self.headers.get("session", "").split(";")[0].strip()


@dataclass(slots=True)
class Answer:
    """One answer; `bytes_for` puts the request's number on it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def bytes_for(self, cseq: str) -> bytes:
        """The answer as it goes out."""
        lines = [f"RTSP/1.0 {self.status} {REASONS[self.status]}", f"CSeq: {cseq}", "Server: gridwarden-sim"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


async def read_message(reader: asyncio.StreamReader) -> Request | bytes | None:
    """The next request, or the content of an interleaved frame (10.12), or None at the end.

    Raises BadRequest for what is neither; the connection is of no use after that.
    """
    try:
        first = await reader.readexactly(1)
        while first in b"\r\n":
            first = await reader.readexactly(1)
        if first == b"$":
            head = await reader.readexactly(3)
            return await reader.readexactly(int.from_bytes(head[1:], "big"))
        head = first + await reader.readuntil(b"\r\n\r\n")
        request = parse_head(head)
        length = int(request.headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY_BYTES:
            raise BadRequest(413, "body too long")
        body = await reader.readexactly(length) if length else b""
        return Request(request.method, request.url, request.headers, body)
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest(413, "head too long") from error
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest(400, "no number in Content-Length") from error


def parse_head(head: bytes) -> Request:
    """A request's first line and headers. Raises BadRequest."""
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError as error:
        raise BadRequest(400, "not text") from error
    parts = lines[0].split(" ")
    if len(parts) != 3:
        raise BadRequest(400, "no request line")
    if not parts[2].startswith("RTSP/"):
        raise BadRequest(400, "not RTSP")
    if parts[2] != "RTSP/1.0":
        raise BadRequest(505, "only RTSP/1.0")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Request(parts[0], parts[1], headers)


def read_transport(header: str) -> tuple[str, tuple[int, int]] | None:
    """The first way of transport offered that we know: 'tcp' with its channels or 'udp' with the client's ports."""
    for offer in header.split(","):
        fields = [part.strip() for part in offer.split(";")]
        values = dict(part.split("=", 1) for part in fields if "=" in part)
        if "multicast" in fields:
            continue
        try:
            if fields[0].upper() == "RTP/AVP/TCP":
                return "tcp", _read_pair(values.get("interleaved", "0-1"), 255)
            if fields[0].upper() in ("RTP/AVP", "RTP/AVP/UDP") and "client_port" in values:
                return "udp", _read_pair(values["client_port"], 65_535)
        except ValueError:
            continue
    return None


def _read_pair(text: str, most: int) -> tuple[int, int]:
    first, _, second = text.partition("-")
    low = int(first)
    high = int(second) if second else low + 1
    if not (0 <= low <= most and 0 <= high <= most):
        raise ValueError(text)
    return low, high
