"""Simulated cameras for the drills, and what a watcher sees of them."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ingest.captured import CameraCapture
from ingest.capturing import CapturePool
from ingest.rtsp import CaptureFault, CaptureStatus
from kernel.settings import CameraSettings, LogSettings, Settings, VisionSettings
from simulators.rtsp import RtspServer

LOOPBACK = ("127.0.0.0/8",)
FPS = 10.0
AUDIO_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=sound\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
    "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track\r\n"
)
UNKNOWN_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=unknown\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 97\r\na=rtpmap:97 X-UNHEARD-OF/90000\r\na=control:track\r\n"
)


def now() -> datetime:
    return datetime.now(UTC)


def make_source(seed: int, size: tuple[int, int] = (320, 180)) -> Callable[[float], NDArray[np.uint8]]:
    """A picture with edges that moves on, and a camera's noise; cheap to draw."""
    rng = np.random.default_rng(seed)
    width, height = size
    plan = rng.integers(40, 216, (height // 20, width // 20, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    noise = rng.normal(0, 3, (8, height, width, 1)).astype(np.int16)

    def draw(now_s: float) -> NDArray[np.uint8]:
        moved = np.roll(plan, int(now_s * 20) % width, axis=1).astype(np.int16)
        return np.clip(moved + noise[int(now_s * FPS) % 8], 0, 255).astype(np.uint8)

    return draw


def write_file(path: Path, seed: int, seconds: float = 6.0, fps: int = 5, size: tuple[int, int] = (160, 120)) -> Path:
    """A small H.264 file, for many cameras that cost nothing to serve."""
    draw = make_source(seed, size)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", fps
        stream.time_base = Fraction(1, fps)
        stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
        for index in range(round(seconds * fps)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(draw(index / fps), format="bgr24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path


@contextmanager
def serving(port: int = 0) -> Iterator[RtspServer]:
    """An RTSP server; on a port of before if need be as soon as that is free."""
    server = RtspServer(port=port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def describing(sdp: str) -> Iterator[str]:
    """A camera that describes itself in `sdp`, takes every SETUP and PLAY, and then sends no picture: its address."""

    def answer(connection: socket.socket) -> None:
        with closing(connection), closing(connection.makefile("rb")) as lines:
            number, method = b"0", b""
            for line in lines:
                words = line.split()
                if line.upper().startswith(b"CSEQ:"):
                    number = words[1]
                elif line.strip() and not method:
                    method = words[0]
                elif not line.strip():
                    head = b"RTSP/1.0 200 OK\r\nCSeq: " + number + b"\r\nSession: 1\r\n"
                    if method == b"SETUP":
                        head += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                    body = sdp.encode() if method == b"DESCRIBE" else b""
                    head += b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(body) if body else b""
                    connection.sendall(head + b"\r\n" + body)
                    method = b""

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_quietly, args=(answer, connection), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream"
        listener.shutdown(socket.SHUT_RDWR)


def _quietly(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    try:
        answer(connection)
    except OSError:
        return


@contextmanager
def capturing(folder: Path, *, timeout_s: float, transport: str = "tcp", group_size: int = 8) -> Iterator[CapturePool]:
    """A pool as the vision worker has one."""
    pool = CapturePool(
        Settings(
            data_dir=folder,
            camera=CameraSettings(
                allowed_networks=LOOPBACK,
                open_timeout_s=timeout_s,
                read_timeout_s=timeout_s,
                transport=transport,  # type: ignore[arg-type]
                recording_minutes=1,
                recording_spare_bytes=0,
            ),
            vision=VisionSettings(fps=5.0, group_size=group_size),
            log=LogSettings(level="error"),
        )
    )
    try:
        yield pool
    finally:
        pool.close()


class Eye(threading.Thread):
    """Looks at one capture as a scheduler does, and remembers how old its pictures became, and why."""

    def __init__(self, capture: CameraCapture) -> None:
        super().__init__(daemon=True)
        self.capture = capture
        self.faults: set[CaptureFault] = set()
        self.sizes: list[tuple[int, int]] = []
        self.looks = 0
        self.most_age_s = 0.0
        self.backwards = 0
        self.arrivals: list[datetime] = []
        self._stopped = threading.Event()
        self.start()

    def run(self) -> None:
        seq = 0
        while not self._stopped.wait(0.03):
            fault = self.status.fault
            if fault is not None:
                self.faults.add(fault)
            frame = self.capture.newest()
            if frame is None:
                continue
            self.most_age_s = max(self.most_age_s, (now() - frame.received_at).total_seconds())
            if frame.seq == seq:
                continue
            self.backwards += frame.seq < seq
            seq = frame.seq
            self.looks += 1
            self.arrivals.append(frame.received_at)
            size = (frame.image.shape[1], frame.image.shape[0])
            if self.sizes[-1:] != [size]:
                self.sizes.append(size)

    @property
    def status(self) -> CaptureStatus:
        return self.capture.status()

    def forget(self) -> None:
        """Count from here."""
        self.most_age_s, self.looks = 0.0, 0
        self.faults.clear()

    def is_fresh(self, since: datetime) -> bool:
        """Has a picture come since?"""
        frame = self.capture.newest()
        return frame is not None and frame.received_at > since

    def stop(self) -> None:
        self._stopped.set()
        self.join(2)


def wait_for(condition: Callable[[], object], timeout_s: float) -> float | None:
    """Seconds until `condition` held; None when it did not in time."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < timeout_s:
        if condition():
            return time.monotonic() - began_s
        time.sleep(0.03)
    return None
