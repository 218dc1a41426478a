"""Why a source gives no frames, in stable codes and clear words, never with a password."""

from __future__ import annotations

import errno
import socket
from enum import StrEnum
from typing import Any

import av.error

from ingest.address import AddressFault

MAX_PIXELS = 8192 * 8192


class CaptureFault(StrEnum):
    """Why there are no frames; stable codes."""

    ADDRESS = "address"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    NO_SUCH_HOST = "no_such_host"
    UNREACHABLE = "unreachable"
    UNAUTHORISED = "unauthorised"
    NOT_FOUND = "not_found"
    NOT_VIDEO = "not_video"
    ENDED = "ended"
    BROKEN = "broken"


ADDRESS_FAULTS = {AddressFault.NO_SUCH_HOST: CaptureFault.NO_SUCH_HOST}


class CaptureError(Exception):
    """A source that gives no frames. The text never has a password."""

    def __init__(self, fault: CaptureFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


def is_other_protocol(ip: str, port: int, *, timeout_s: float) -> bool:
    """True when something answers there at once, but not in RTSP: a web page, a broker."""
    try:
        with socket.create_connection((ip, port), timeout=timeout_s) as connection:
            connection.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
            begin = connection.recv(5)
    except OSError:
        return False
    return begin != b"RTSP/"[: len(begin)]


def explain(error: Exception, shown: str) -> CaptureError:
    """The error of the video library in clear words, without the address it was given."""
    table: list[tuple[type[BaseException] | tuple[type[BaseException], ...], CaptureFault, str]] = [
        (ConnectionRefusedError, CaptureFault.REFUSED, "the connection was refused; nothing listens there"),
        ((TimeoutError, av.error.ExitError), CaptureFault.TIMED_OUT, "timed out"),
        (
            (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
            CaptureFault.UNAUTHORISED,
            "wrong user or password",
        ),
        ((av.error.HTTPNotFoundError, av.error.FileNotFoundError), CaptureFault.NOT_FOUND, "there is no such stream"),
        (av.error.InvalidDataError, CaptureFault.NOT_VIDEO, "not a video: what comes cannot be read as one"),
        (av.error.EOFError, CaptureFault.ENDED, "the stream ended"),
    ]
    for kinds, fault, words in table:
        if isinstance(error, kinds):
            return CaptureError(fault, f"{shown}: {words}")
    number = getattr(error, "errno", None)
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return CaptureError(CaptureFault.UNREACHABLE, f"{shown}: no route to the host")
    if number == errno.ETIMEDOUT:
        return CaptureError(CaptureFault.TIMED_OUT, f"{shown}: timed out")
    if number == errno.EIO:
        return CaptureError(CaptureFault.BROKEN, f"{shown}: the connection broke")
    return CaptureError(CaptureFault.BROKEN, f"{shown}: {type(error).__name__}")


def find_video(container: Any, shown: str) -> Any:
    """The first video stream of an opened container. Raises CaptureError when there is none that can be read."""
    streams = container.streams.video
    if not streams:
        raise CaptureError(CaptureFault.NOT_VIDEO, f"{shown}: not a video: it has no picture")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise CaptureError(CaptureFault.NOT_VIDEO, f"{shown}: not a video: its coding is unknown")
    if context.width * context.height > MAX_PIXELS:
        raise CaptureError(CaptureFault.NOT_VIDEO, f"{shown}: {context.width}x{context.height} is too large a picture")
    return stream
