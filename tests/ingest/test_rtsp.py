"""Capture: the newest frame only, time-outs that hold, reconnecting, clear errors."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.rtsp import Capture, CaptureError, CaptureFault, probe
from simulators.rtsp import Fault, RtspServer
from tests.conftest import free_port
from tests.waiting import wait_for

HOME = ("127.0.0.0/8",)


def draw(now_s: float) -> NDArray[np.uint8]:
    """A grey that tells its time of day: seconds modulo 200."""
    return np.full((120, 160, 3), int(now_s % 200), np.uint8)


def now() -> datetime:
    return datetime.now(UTC)


def capture(url: str, *, transport: str = "tcp", timeout_s: float = 1.0) -> Capture:
    return Capture(
        url,
        allowed_networks=HOME,
        now=now,
        transport=transport,
        open_timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        rng=random.Random(1),
    )


@pytest.fixture
def server() -> Iterator[RtspServer]:
    found = RtspServer()
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_arrive_by_either_transport_with_their_time(transport: str, server: RtspServer) -> None:
    server.add_camera("a", draw, fps=10, size=(160, 120))
    with capture(server.url_of("a"), transport=transport) as camera:
        frame = camera.wait(0, 5)
        assert frame is not None and frame.picture().shape == (120, 160, 3)
        later = camera.wait(frame.seq + 10, 5)
        assert later is not None and abs((now() - later.received_at).total_seconds()) < 0.5
        status = camera.status()
        assert status.connected and status.fault is None and status.connections == 1
        assert camera.newest_key() is not None
        assert wait_for(lambda: 8 < camera.status().fps < 12)


def test_a_slow_reader_gets_the_newest_frame_and_no_queue_of_old_ones(server: RtspServer) -> None:
    server.add_camera("a", draw, fps=20, size=(160, 120))
    with capture(server.url_of("a")) as camera:
        first = camera.wait(0, 5)
        assert first is not None
        time.sleep(3)
        frame = camera.wait(first.seq, 5)
        assert frame is not None and frame.seq > first.seq + 40
        grey = float(frame.picture().mean())
        behind_s = (time.time() % 200 - grey) % 200
        assert behind_s < 2.5  # the grey's steps are whole seconds, and coding shifts it by one level


def test_a_camera_that_goes_and_comes_back_is_connected_again(server: RtspServer) -> None:
    sim = server.add_camera("a", draw, fps=10, size=(160, 120))
    with capture(server.url_of("a")) as camera:
        assert camera.wait(0, 5) is not None
        sim.set_fault(Fault.GONE)
        assert wait_for(lambda: not camera.status().connected)
        assert camera.status().fault is not None and camera.status().fps == 0
        seq = camera.status().frames
        sim.set_fault(Fault.NONE)
        frame = camera.wait(seq, 15)
        assert frame is not None and frame.seq > seq and camera.status().connections == 2


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that answers each connection as told."""
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        found.settimeout(0.1)
        stop = threading.Event()
        held: list[socket.socket] = []

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = found.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(found.getsockname()[1])
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()


def say_nothing(connection: socket.socket) -> None:
    del connection


def trickle(connection: socket.socket) -> None:
    """Keeps the connection alive with single bytes and never says anything: what a plain read time-out misses."""

    def run() -> None:
        try:
            for at in range(200):
                connection.sendall(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n"[at % 26 :][:1])
                time.sleep(0.1)
        except OSError:
            return

    threading.Thread(target=run, daemon=True).start()


def speak(reply: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        def run() -> None:
            try:
                while connection.recv(4096):
                    connection.sendall(reply)
            except OSError:
                return

        threading.Thread(target=run, daemon=True).start()

    return answer


@pytest.mark.parametrize("answer", [say_nothing, trickle])
def test_a_server_that_accepts_and_says_nothing_costs_the_time_out_and_no_more(
    answer: Callable[[socket.socket], None],
) -> None:
    with listening(answer) as port, capture(f"rtsp://127.0.0.1:{port}/a", timeout_s=0.5) as camera:
        began_s = time.monotonic()
        assert wait_for(lambda: camera.status().fault is not None)
        assert camera.status().fault is CaptureFault.TIMED_OUT
        assert time.monotonic() - began_s < 15  # with room for a busy machine


def test_closing_does_not_wait_for_a_camera_that_hangs() -> None:
    with listening(say_nothing) as port:
        camera = capture(f"rtsp://127.0.0.1:{port}/a", timeout_s=30)
        camera.start()
        time.sleep(0.3)
        began_s = time.monotonic()
        camera.close(timeout_s=1.0)
        assert time.monotonic() - began_s < 15  # not the 30 s that it may take to read


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", CaptureFault.UNAUTHORISED),
        (b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", CaptureFault.NOT_FOUND),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", CaptureFault.NOT_VIDEO),
    ],
)
def test_a_server_that_refuses_or_speaks_something_else_is_told_apart(reply: bytes, fault: CaptureFault) -> None:
    with listening(speak(reply)) as port:
        with pytest.raises(CaptureError) as caught:
            probe(f"rtsp://user:s3cret@127.0.0.1:{port}/a", allowed_networks=HOME, timeout_s=1.0)
    assert caught.value.fault is fault
    assert "s3cret" not in str(caught.value)


def test_an_address_that_may_not_be_opened_is_said_and_not_opened() -> None:
    with pytest.raises(CaptureError, match="allowed_networks") as caught:
        probe("rtsp://user:s3cret@127.0.0.1:1/a", allowed_networks=(), timeout_s=1.0)
    assert caught.value.fault is CaptureFault.ADDRESS and "s3cret" not in str(caught.value)


def test_a_closed_port_and_an_unknown_name_are_told_apart() -> None:
    with pytest.raises(CaptureError, match="refused") as caught:
        probe(f"rtsp://user:s3cret@127.0.0.1:{free_port()}/a", allowed_networks=HOME, timeout_s=1.0)
    assert caught.value.fault is CaptureFault.REFUSED and "s3cret" not in str(caught.value)
    with pytest.raises(CaptureError, match="no host") as caught:
        probe("rtsp://no-such-host.invalid/a", allowed_networks=HOME, timeout_s=2.0)
    assert caught.value.fault is CaptureFault.NO_SUCH_HOST


def test_probing_a_camera_gives_its_size(server: RtspServer) -> None:
    server.add_camera("a", draw, fps=10, size=(160, 120))
    assert probe(server.url_of("a"), allowed_networks=HOME) == (160, 120)
