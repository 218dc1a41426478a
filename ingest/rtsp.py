"""Frames from an RTSP camera.

A `Capture` keeps the newest frame only, so a slow reader gets a late picture never. Opening and reading have
time-outs of their own, watched from outside: the video library can ignore the ones it is given (PyAV #584), and then
the attempt is left behind and a new one begun. A lost camera is tried again with growing, jittered pauses.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ingest.address import AddressError, AddressFault, CameraAddress, check_camera_address, hide_password

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
GRACE_S = 2.0
"""How much longer than its own time-outs an attempt may take before it is left behind."""
MAX_HUNG = 4
RATE_WINDOW_S = 5.0
MAX_PIXELS = 8192 * 8192
PROTOCOLS = "rtsp,rtsps,rtp,rtcp,srtp,udp,tcp,tls,crypto"
"""What the library may open on behalf of an address, whatever a server answers: no files, no http."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One decoded frame. `seq` counts from 1 over all reconnects; `pts_s` is the stream's own time, if it says one;
    `key`: coded without reference to others."""

    seq: int
    received_at: datetime
    pts_s: float | None
    key: bool
    video_frame: VideoFrame

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, BGR. Converted here, for the frames that are really looked at."""
        return np.asarray(self.video_frame.to_ndarray(format="bgr24"), np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureStatus:
    """How a capture is doing. `fault` and `text` say why it has no frames; None while it has."""

    connected: bool
    fault: CaptureFault | None
    text: str
    frames: int
    connections: int
    newest_at: datetime | None
    fps: float


class _Attempt:
    """One connection: opened, read, closed in its own thread. Left behind when it hangs."""

    def __init__(self) -> None:
        self.abandoned = threading.Event()
        self.progress_s = time.monotonic()
        self.got_frame = False
        self.error: CaptureError | None = None

    def step(self) -> None:
        self.progress_s = time.monotonic()


class Capture:
    """The newest frame of one camera, for ever reconnecting. Use as a context manager, or `start` and `close`."""

    def __init__(
        self,
        url: str,
        *,
        allowed_networks: Sequence[str],
        now: Callable[[], datetime],
        transport: str = "tcp",
        open_timeout_s: float = 5.0,
        read_timeout_s: float = 5.0,
        skip_unreferenced: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        """The address is checked before each connection, in the capture's own thread: names can resolve slowly.

        `skip_unreferenced`: don't decode frames that no other frame needs; right unless every frame is wanted.
        """
        self.shown = hide_password(url)
        self._url = url
        self._allowed_networks = tuple(allowed_networks)
        self._now = now
        self._transport = transport
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._skip_unreferenced = skip_unreferenced
        self._rng = rng or random.Random()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._newest_key: Frame | None = None
        self._frames = 0
        self._connections = 0
        self._arrivals_s: deque[float] = deque(maxlen=600)
        self._connected = False
        self._error: CaptureError | None = None
        self._hung: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._supervise, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def close(self, timeout_s: float = 3.0) -> None:
        """Stop. A reader that hangs in the video library is left behind as a daemon thread."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def newest(self) -> Frame | None:
        """The newest frame so far, however old."""
        with self._changed:
            return self._newest

    def newest_key(self) -> Frame | None:
        """The newest key frame so far: a reader that takes only some frames may need those."""
        with self._changed:
            return self._newest_key

    def wait(self, after_seq: int, timeout_s: float) -> Frame | None:
        """The newest frame later than `after_seq`, as soon as there is one; None after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._stop.is_set():
                if self._newest is not None and self._newest.seq > after_seq:
                    return self._newest
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)
        return None

    def status(self) -> CaptureStatus:
        """How it is doing."""
        with self._changed:
            error = self._error
            return CaptureStatus(
                connected=self._connected,
                fault=error.fault if error else None,
                text=str(error) if error else "",
                frames=self._frames,
                connections=self._connections,
                newest_at=self._newest.received_at if self._newest else None,
                fps=self._rate() if self._connected else 0.0,
            )

    def _rate(self) -> float:
        """Frames a second over the last seconds; those that came in a burst at the beginning count as they came."""
        now_s = time.monotonic()
        recent = [at_s for at_s in self._arrivals_s if at_s > now_s - RATE_WINDOW_S]
        if not recent:
            return 0.0
        begun_s = max(now_s - RATE_WINDOW_S, self._arrivals_s[0])
        return len(recent) / max(now_s - begun_s, 1.0)

    def _supervise(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            self._hung = [thread for thread in self._hung if thread.is_alive()]
            if len(self._hung) >= MAX_HUNG:
                self._stop.wait(LONGEST_PAUSE_S)  # the library holds on to them; more would not help
                continue
            attempt = _Attempt()
            thread = threading.Thread(target=self._run, args=(attempt,), name=self._thread.name + "-read", daemon=True)
            thread.start()
            self._watch(attempt, thread)
            with self._changed:
                self._connected = False
                self._error = attempt.error
            if self._stop.is_set():
                break
            pause_s = FIRST_PAUSE_S if attempt.got_frame else min(LONGEST_PAUSE_S, pause_s * 2)
            log.warning(
                "camera %s: %s; trying again",
                self.shown,
                attempt.error,
                extra={"fault": attempt.error.fault if attempt.error else None},
            )
            self._stop.wait(pause_s * self._rng.uniform(0.7, 1.3))

    def _watch(self, attempt: _Attempt, thread: threading.Thread) -> None:
        while thread.is_alive():
            thread.join(0.1)
            limit_s = (self._read_timeout_s if attempt.got_frame else self._open_timeout_s) + GRACE_S
            if self._stop.is_set():
                attempt.abandoned.set()
                thread.join(2.0)
                return
            if time.monotonic() - attempt.progress_s > limit_s:
                attempt.abandoned.set()
                attempt.error = CaptureError(
                    CaptureFault.TIMED_OUT, f"{self.shown}: no answer for {limit_s:.0f} s, given up"
                )
                self._hung.append(thread)
                return

    def _run(self, attempt: _Attempt) -> None:
        try:
            self._read(attempt)
            error = CaptureError(CaptureFault.ENDED, f"{self.shown}: the stream ended")
        except CaptureError as caught:
            error = caught
        except Exception as caught:  # whatever a camera sends must not end its capture
            error = explain(caught, self.shown)
        if not attempt.abandoned.is_set():
            attempt.error = error

    def _read(self, attempt: _Attempt) -> None:
        try:
            address = check_camera_address(self._url, self._allowed_networks)
        except AddressError as error:
            raise CaptureError(ADDRESS_FAULTS.get(error.fault, CaptureFault.ADDRESS), str(error)) from None
        attempt.step()
        options = {
            "rtsp_transport": self._transport,
            "timeout": str(int(max(self._open_timeout_s, self._read_timeout_s) * 1e6)),
            "protocol_whitelist": PROTOCOLS,
            # by default the library listens for five seconds to guess a frame rate that nobody asks for
            "analyzeduration": "500000",
            "fpsprobesize": "0",
            "max_delay": "200000",
        }
        began_s = time.monotonic()
        try:
            container = av.open(
                address.url, options=options, timeout=(self._open_timeout_s, self._read_timeout_s), format="rtsp"
            )
        except av.error.InvalidDataError:
            # the library says this of silence too, and of whatever is no RTSP
            raise self._explain_nonsense(address, time.monotonic() - began_s) from None
        try:
            stream = find_video(container, self.shown)
            stream.codec_context.thread_count = 1
            if self._skip_unreferenced:
                stream.codec_context.skip_frame = "NONREF"
            attempt.step()
            for packet in container.demux(stream):
                attempt.step()
                if attempt.abandoned.is_set():
                    return
                for frame in decode(packet):
                    self._keep(attempt, frame)
        finally:
            container.close()

    def _explain_nonsense(self, address: CameraAddress, spent_s: float) -> CaptureError:
        if address.url.startswith("rtsp:") and is_other_protocol(address.ip, address.port, timeout_s=1.0):
            return CaptureError(CaptureFault.NOT_VIDEO, f"{self.shown}: not a video: what answers there speaks no RTSP")
        if spent_s >= 0.9 * self._open_timeout_s:
            return CaptureError(CaptureFault.TIMED_OUT, f"{self.shown}: timed out: no answer for {spent_s:.1f} s")
        return CaptureError(CaptureFault.NOT_VIDEO, f"{self.shown}: not a video: what comes cannot be read as one")

    def _keep(self, attempt: _Attempt, video_frame: VideoFrame) -> None:
        now, now_s = self._now(), time.monotonic()
        with self._changed:
            if attempt.abandoned.is_set():
                return
            if not attempt.got_frame:
                attempt.got_frame = True
                self._connections += 1
                self._arrivals_s.clear()
            self._arrivals_s.append(now_s)
            self._connected, self._error = True, None
            self._frames += 1
            self._newest = Frame(
                seq=self._frames,
                received_at=now,
                pts_s=video_frame.time,
                key=bool(video_frame.key_frame),
                video_frame=video_frame,
            )
            if self._newest.key:
                self._newest_key = self._newest
            self._changed.notify_all()


def probe(
    url: str, *, allowed_networks: Sequence[str], transport: str = "tcp", timeout_s: float = 5.0
) -> tuple[int, int]:
    """Width and height of the first frame, in pixels; for `doctor` and for adding a camera. Raises CaptureError."""
    with Capture(
        url,
        allowed_networks=allowed_networks,
        now=lambda: datetime.now(UTC),
        transport=transport,
        open_timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        skip_unreferenced=False,
    ) as capture:
        deadline_s = time.monotonic() + timeout_s + GRACE_S + 1.0
        while time.monotonic() < deadline_s:
            frame = capture.wait(0, 0.1)
            if frame is not None:
                return frame.video_frame.width, frame.video_frame.height
            status = capture.status()
            if status.fault is not None:
                raise CaptureError(status.fault, status.text)
    raise CaptureError(CaptureFault.TIMED_OUT, f"{capture.shown}: no frame within {timeout_s:.0f} s")


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
        (av.error.ConnectionRefusedError, CaptureFault.REFUSED, "the connection was refused; nothing listens there"),
        ((av.error.TimeoutError, av.error.ExitError), CaptureFault.TIMED_OUT, "timed out"),
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


def decode(packet: Any) -> Iterator[VideoFrame]:
    """Frames of a packet. A damaged one (a lost datagram) costs its frame, not the connection."""
    try:
        yield from packet.decode()
    except av.error.InvalidDataError:
        return
