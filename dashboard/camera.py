"""Live pictures of cameras: one pull per camera, on demand, shared by its viewers, ended soon after the last one.

Pictures are JPEG at about five a second; a viewer who is slow gets the newest, never a queue.
"""

import asyncio
import io
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from av.video.frame import VideoFrame
from PIL import Image

from dashboard.errors import Problem
from ingest.address import AddressError
from ingest.rtsp import Capture, CaptureFault, Frame
from ingest.source import check_source
from kernel.settings import CameraSettings

log = logging.getLogger(__name__)
BOUNDARY = "gridwarden-frame"
_INTERVAL_S = 0.2
_MAX_WIDTH = 960
_LINGER_S = 10.0  # so that a viewer who comes back at once finds it running
_SILENCE_S = 10.0  # a stream that shows an old picture for longer is ended rather than believed
_MAX_PULLS = 16
_QUALITY = 75


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One JPEG and when its frame was received."""

    seq: int
    received_at: datetime
    jpeg: bytes


def encode_picture(frame: Frame) -> Picture:
    """The frame as JPEG, at most 960 px wide."""
    return Picture(seq=frame.seq, received_at=frame.received_at, jpeg=encode_jpeg(frame.video_frame))


def encode_jpeg(source: VideoFrame) -> bytes:
    """A decoded picture as JPEG, at most 960 px wide."""
    width = min(_MAX_WIDTH, source.width)
    height = max(2, round(source.height * width / source.width / 2) * 2)
    buffer = io.BytesIO()
    image: Image.Image = source.to_image(width=width, height=height)  # type: ignore[no-untyped-call]
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


class _Pull:
    """The pull of one camera: a capture, a thread that encodes, and the viewers it wakes."""

    def __init__(self, capture: Capture, ended: Callable[["_Pull"], None]) -> None:
        self.capture = capture
        self.viewers = 0
        self.released_s = time.monotonic()
        self.picture: Picture | None = None
        self.picture_s = 0.0
        self._wake: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self._ended = ended
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-camera", daemon=True)
        capture.start()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def enter(self, wake: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._wake.add(wake)

    def leave(self, wake: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._wake.discard(wake)

    def _run(self) -> None:
        seq = 0
        try:
            while not self._stop.is_set():
                if not self.viewers and time.monotonic() - self.released_s > _LINGER_S:
                    break
                began_s = time.monotonic()
                frame = self.capture.wait(seq, 0.5)
                if frame is not None:
                    seq = frame.seq
                    self.picture, self.picture_s = encode_picture(frame), time.monotonic()
                self._notify()
                self._stop.wait(max(0.0, _INTERVAL_S - (time.monotonic() - began_s)))
        except Exception:
            log.exception("live picture failed", extra={"camera": self.capture.shown})
        finally:
            self._stop.set()
            self._ended(self)
            self._notify()
            self.capture.close()

    def _notify(self) -> None:
        with self._lock:
            for loop, event in self._wake:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    @property
    def over(self) -> bool:
        return self._stop.is_set()


class LiveCameras:
    """The pulls that are running. Safe to use from the event loop and from threads."""

    def __init__(self, settings: CameraSettings, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._pulls: dict[tuple[UUID, str], _Pull] = {}
        self._lock = threading.Lock()

    def _take(self, camera_id: UUID, url: str) -> _Pull:
        """A running pull, with one viewer more. Blocks for the look-up of the host's name."""
        key = (camera_id, url)
        with self._lock:
            pull = self._pulls.get(key)
            if pull is not None and not pull.over:
                pull.viewers += 1
                return pull
        try:
            check_source(url, self._settings.allowed_networks)  # here too: a refusal is said at once
        except AddressError as error:
            raise _unreachable(error.fault) from None
        with self._lock:
            pull = self._pulls.get(key)
            if pull is None or pull.over:
                if len(self._pulls) >= _MAX_PULLS:
                    raise Problem(503, "too_many_streams", "Too many cameras are being watched at once")
                capture = Capture(
                    url,
                    allowed_networks=self._settings.allowed_networks,
                    now=self._now,
                    transport=self._settings.transport,
                    open_timeout_s=self._settings.open_timeout_s,
                    read_timeout_s=self._settings.read_timeout_s,
                )
                pull = self._pulls[key] = _Pull(capture, self._forget)
            pull.viewers += 1
            return pull

    def _release(self, pull: _Pull) -> None:
        with self._lock:
            pull.viewers -= 1
            pull.released_s = time.monotonic()

    def _forget(self, pull: _Pull) -> None:
        with self._lock:
            for key in [key for key, value in self._pulls.items() if value is pull]:
                del self._pulls[key]

    @property
    def running(self) -> int:
        """How many cameras are being pulled."""
        with self._lock:
            return len(self._pulls)

    def close(self) -> None:
        """End every pull; their viewers' streams end."""
        with self._lock:
            pulls = list(self._pulls.values())
        for pull in pulls:
            pull.close()

    async def watch(self, camera_id: UUID, url: str) -> AsyncGenerator[Picture, None]:
        """Pictures as they come, until the camera has been silent for ten seconds.

        Raises Problem 503 `camera_unreachable` with the fault, before the first picture; 503 `too_many_streams`.
        """
        pull = await asyncio.to_thread(self._take, camera_id, url)
        wake = (asyncio.get_running_loop(), asyncio.Event())
        pull.enter(wake)
        try:
            picture = await self._first(pull, wake[1])
            while True:
                yield picture
                newer = await _next(pull, wake[1], picture.seq, _SILENCE_S)
                if newer is None:
                    return
                picture = newer
        finally:
            pull.leave(wake)
            self._release(pull)

    async def _first(self, pull: _Pull, event: asyncio.Event) -> Picture:
        if pull.picture is not None and time.monotonic() - pull.picture_s < 2.0:
            return pull.picture
        seen = pull.picture.seq if pull.picture else 0
        deadline_s = time.monotonic() + self._settings.open_timeout_s + self._settings.read_timeout_s
        while time.monotonic() < deadline_s and not pull.over:
            picture = await _next(pull, event, seen, 0.5)
            if picture is not None:
                return picture
            fault = pull.capture.status().fault
            if fault is not None:
                raise _unreachable(fault)
        raise _unreachable(CaptureFault.TIMED_OUT)


async def _next(pull: _Pull, event: asyncio.Event, after_seq: int, timeout_s: float) -> Picture | None:
    deadline_s = time.monotonic() + timeout_s
    while not pull.over:
        event.clear()
        if pull.picture is not None and pull.picture.seq > after_seq:
            return pull.picture
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return None
        try:
            await asyncio.wait_for(event.wait(), left_s)
        except TimeoutError:
            return None
    return None


def _unreachable(fault: str) -> Problem:
    return Problem(
        503, "camera_unreachable", "The camera gives no picture", headers={"Retry-After": "5"}, fault=str(fault)
    )


def multipart_picture(picture: Picture) -> bytes:
    """One part of a multipart/x-mixed-replace stream."""
    head = (
        f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
        f"X-Received-At: {picture.received_at.isoformat()}\r\n\r\n"
    )
    return head.encode() + picture.jpeg + b"\r\n"
