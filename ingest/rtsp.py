"""Frames and packets from an RTSP camera.

A `Capture` keeps the newest frame only, so a slow reader gets a late picture never. Opening and reading have
time-outs of their own, watched from outside: the video library can ignore the ones it is given (PyAV #584), and then
the attempt is left behind and a new one begun. A lost camera is tried again with growing, jittered pauses.

The stream is taken apart once. Its packets go into a ring in memory, from which clips are made, and to whoever taps them
(a recording); decoded is only what is wanted, which may change while it runs.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.frame import VideoFrame

from ingest.address import AddressError, CameraAddress, hide_password
from ingest.attempt import Attempt
from ingest.decoding import Decode, Decoding, decode
from ingest.fault import ADDRESS_FAULTS, CaptureError, CaptureFault, explain, find_video, is_other_protocol
from ingest.frame import CaptureStatus, Frame
from ingest.packets import ClipDesk, ClipDone, CodedPacket, Intake, PacketRing
from ingest.relay import Relay, is_redirected
from ingest.source import find_address

__all__ = [
    "Capture", "CaptureError", "CaptureFault", "CaptureStatus", "ClipDone", "Decode", "Frame",
    "decode", "explain", "find_video", "probe",
]  # fmt: skip

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
GRACE_S = 2.0
"""How much longer than its own time-outs an attempt may take before it is left behind."""
MAX_HUNG = 4
WATCH_S = 0.25
RATE_WINDOW_S = 5.0
PICTURE_TIMEOUT_S = 30.0
"""A stream that has gone on for so long and gave no picture is not a video that we can read."""
LISTEN_S = 0.5
"""How long the library listens to find out what a stream is, before anything of it is handed on."""
RING_BYTES = 16_000_000
PROTOCOLS = "rtsp,rtsps,rtp,rtcp,srtp,udp,tcp,tls,crypto"
"""What the library may open on behalf of an address, whatever a server answers: no files, no http."""


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
        ring_s: float = 0.0,
        ring_bytes: int = RING_BYTES,
        picture_timeout_s: float = PICTURE_TIMEOUT_S,
        listen_s: float = LISTEN_S,
        on_frame: Callable[[Frame], None] | None = None,
        on_packet: Callable[[CodedPacket], None] | None = None,
    ) -> None:
        """The address is checked before each connection, in the capture's own thread: names can resolve slowly.

        `skip_unreferenced`: don't decode frames that no other frame needs; right unless every frame is wanted. `ring_s`: so
        many seconds of packets are kept for clips. `on_frame`, `on_packet`: called in the reading thread, must not wait.
        """
        self.shown = hide_password(url)
        self._url = url
        self._allowed_networks = tuple(allowed_networks)
        self._now = now
        self._transport = transport
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._wanted = Decode.REFERENCED if skip_unreferenced else Decode.ALL
        self._picture_timeout_s = picture_timeout_s
        self._listen_s = listen_s
        self._on_frame = on_frame
        self._on_packet = on_packet
        self._intake = Intake()
        self._ring = PacketRing(ring_s, ring_bytes) if ring_s > 0 else None
        self._desk = ClipDesk(self._ring, now) if self._ring is not None else None
        self._rng = rng or random.Random()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._newest_key: Frame | None = None
        self._packet_at: datetime | None = None
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

    def want(self, decode: Decode) -> None:
        """Decode more or less from now on; more begins with the next key picture."""
        self._wanted = decode

    def save_clip(self, clip_id: str, from_at: datetime, until_at: datetime, path: Path) -> None:
        """Write what comes or came between two instants as an MP4, from the key picture before on; see `take_clips`."""
        if self._desk is None:
            raise ValueError("this capture keeps no packets")
        self._desk.save(clip_id, from_at, until_at, path)

    def take_clips(self) -> list[ClipDone]:
        """Clips that were written, or could not be, since the last time."""
        return self._desk.take() if self._desk is not None else []

    @property
    def ring_bytes(self) -> int:
        """Bytes of packets kept."""
        return self._ring.size_bytes if self._ring is not None else 0

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
            newest_at = self._newest.received_at if self._newest is not None else None
            if newest_at is not None and self._packet_at is not None and self._wanted is Decode.KEY:
                newest_at = max(newest_at, self._packet_at)  # key pictures may be a minute apart: the camera is there
            return CaptureStatus(
                connected=self._connected,
                fault=error.fault if error else None,
                text=str(error) if error else "",
                frames=self._frames,
                connections=self._connections,
                newest_at=newest_at,
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
            attempt = Attempt()
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

    def _watch(self, attempt: Attempt, thread: threading.Thread) -> None:
        while thread.is_alive():
            thread.join(WATCH_S)
            limit_s = (self._read_timeout_s if attempt.got_frame else self._open_timeout_s) + GRACE_S
            if self._stop.is_set():
                attempt.abandon()
                thread.join(2.0)
                return
            if time.monotonic() - attempt.progress_s > limit_s:
                attempt.abandon()
                attempt.error = CaptureError(
                    CaptureFault.TIMED_OUT, f"{self.shown}: no answer for {limit_s:.0f} s, given up"
                )
                self._hung.append(thread)
                return

    def _run(self, attempt: Attempt) -> None:
        try:
            self._read(attempt)
            error = CaptureError(CaptureFault.ENDED, f"{self.shown}: the stream ended")
        except CaptureError as caught:
            error = caught
        except Exception as caught:  # whatever a camera sends must not end its capture
            error = explain(caught, self.shown)
        if not attempt.abandoned.is_set():
            attempt.error = error

    def _read(self, attempt: Attempt) -> None:
        try:
            address = find_address(
                self._url, self._allowed_networks, timeout_s=self._open_timeout_s, progress=attempt.step
            )
        except AddressError as error:
            raise CaptureError(ADDRESS_FAULTS.get(error.fault, CaptureFault.ADDRESS), str(error)) from None
        attempt.step()
        if self._transport == "tcp":
            attempt.relay = Relay(address, self._open_timeout_s)
        elif address.url.startswith("rtsp:") and is_redirected(address, self._open_timeout_s):
            raise self._redirected()
        attempt.step()
        try:
            self._open(attempt, address)
        finally:
            if attempt.relay is not None:
                attempt.relay.close()

    def _open(self, attempt: Attempt, address: CameraAddress) -> None:
        options = {
            "rtsp_transport": self._transport,
            "timeout": str(int(max(self._open_timeout_s, self._read_timeout_s) * 1e6)),
            "protocol_whitelist": PROTOCOLS,
            # by default the library listens for five seconds to guess a frame rate that nobody asks for
            "analyzeduration": str(int(self._listen_s * 1e6)),
            "fpsprobesize": "0",
            "max_delay": "200000",
        }
        began_s = time.monotonic()
        relay = attempt.relay
        url = relay.url if relay is not None else address.url
        try:
            container = av.open(
                url, options=options, timeout=(self._open_timeout_s, self._read_timeout_s), format="rtsp"
            )
        except av.error.FFmpegError as error:
            if relay is not None and relay.redirected:
                raise self._redirected() from None
            if not isinstance(error, av.error.InvalidDataError):
                raise
            # the library says this of silence too, and of whatever is no RTSP
            raise self._explain_nonsense(address, time.monotonic() - began_s) from None
        self._demux(attempt, container)

    def _demux(self, attempt: Attempt, container: Any) -> None:
        try:
            stream = find_video(container, self.shown)
            stream.codec_context.thread_count = 1
            with self._changed:
                self._arrivals_s.clear()
            decoding = Decoding(stream.codec_context)
            if attempt.abandoned.is_set():  # another connection feeds the intake by now
                return
            self._intake.open(stream.codec_context.name, stream.codec_context.extradata)
            attempt.step()
            opened_s = waited_since_s = time.monotonic()
            for packet in container.demux(stream):
                attempt.step()
                if attempt.abandoned.is_set():
                    return
                if time.monotonic() - waited_since_s > 0.95 * self._read_timeout_s:
                    # out of time: the library hands out what its parser held back, and would wait once more
                    raise CaptureError(CaptureFault.TIMED_OUT, f"{self.shown}: timed out: nothing comes any more")
                self._keep_packet(packet)
                for frame in decoding.take(packet, self._wanted):
                    self._keep(attempt, frame)
                if not attempt.got_frame and time.monotonic() - opened_s > self._picture_timeout_s:
                    raise CaptureError(
                        CaptureFault.NOT_VIDEO, f"{self.shown}: not a video: nothing of what comes can be decoded"
                    )
                waited_since_s = time.monotonic()
        finally:
            container.close()

    def _keep_packet(self, packet: Any) -> None:
        if not packet.size:
            return
        now = self._now()
        with self._changed:
            self._arrivals_s.append(time.monotonic())
            self._packet_at = now
        if self._ring is None and self._on_packet is None:
            return
        coded = self._intake.take(packet, now)
        if coded is None:
            return
        if self._ring is not None:
            self._ring.put(coded)
        if self._on_packet is not None:
            self._on_packet(coded)

    def _redirected(self) -> CaptureError:
        return CaptureError(CaptureFault.ADDRESS, f"{self.shown}: answers with another address, which is not followed")

    def _explain_nonsense(self, address: CameraAddress, spent_s: float) -> CaptureError:
        if address.url.startswith("rtsp:") and is_other_protocol(address.ip, address.port, timeout_s=1.0):
            return CaptureError(CaptureFault.NOT_VIDEO, f"{self.shown}: not a video: what answers there speaks no RTSP")
        if spent_s >= 0.9 * self._open_timeout_s:
            return CaptureError(CaptureFault.TIMED_OUT, f"{self.shown}: timed out: no answer for {spent_s:.1f} s")
        return CaptureError(CaptureFault.NOT_VIDEO, f"{self.shown}: not a video: what comes cannot be read as one")

    def _keep(self, attempt: Attempt, video_frame: VideoFrame) -> None:
        now = self._now()
        with self._changed:
            if attempt.abandoned.is_set():
                return
            if not attempt.got_frame:
                attempt.got_frame = True
                self._connections += 1
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
            frame = self._newest
            self._changed.notify_all()
        if self._on_frame is not None:
            self._on_frame(frame)


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
