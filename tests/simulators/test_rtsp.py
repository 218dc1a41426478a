"""The RTSP server as its clients see it: ffmpeg, PyAV, and a bare socket."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.rtsp import Fault, MediaError, RtspServer, SimCamera, open_file
from simulators.rtsp.media import EncodedFrames
from tests.waiting import wait_for

SIZE = (320, 180)
FPS = 10.0


class Numbered:
    """Pictures of a bright square whose place says which picture it is; counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0
        rng = np.random.default_rng(1)
        self._ground = cv2.GaussianBlur(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8), (0, 0), 5)

    def __call__(self, now_s: float) -> NDArray[np.uint8]:
        picture = self._ground.copy()
        x = self.count % 20 * 16
        cv2.rectangle(picture, (x, 60), (x + 15, 119), (255, 255, 255), -1)
        self.count += 1
        return picture


@pytest.fixture
def server() -> Iterator[RtspServer]:
    server = RtspServer(session_timeout_s=60.0, slow_client_bytes=60_000)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def camera(server: RtspServer) -> SimCamera:
    return server.add_camera("street/1", Numbered(), FPS, SIZE)


def watch(url: str, count: int, transport: str = "tcp") -> list[NDArray[np.uint8]]:
    options = {"rtsp_transport": transport, "analyzeduration": "200000", "probesize": "60000"}
    with av.open(url, options=options, timeout=5.0) as container:
        pictures: list[NDArray[np.uint8]] = []
        for frame in container.decode(video=0):
            pictures.append(frame.to_ndarray(format="bgr24"))
            if len(pictures) == count:
                break
        return pictures


def where(picture: NDArray[np.uint8]) -> int:
    """Which place the square has."""
    bright = picture[70:110].mean(axis=(0, 2))
    return int(np.argmax(bright.reshape(20, 16).mean(axis=1)))


class Client:
    """A bare RTSP client over one socket."""

    def __init__(self, server: RtspServer) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=5.0)
        self.cseq = 0
        self.kept = b""

    def ask(self, method: str, url: str, **headers: str) -> tuple[int, dict[str, str], str]:
        self.cseq += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.cseq}", *(f"{k}: {v}" for k, v in headers.items())]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self.read()

    def read(self) -> tuple[int, dict[str, str], str]:
        while True:
            self._skip_frames()
            if self.kept[:1] != b"$" and b"\r\n\r\n" in self.kept:
                break
            more = self.socket.recv(65_536)
            assert more, "the server closed the connection"
            self.kept += more
        head, _, rest = self.kept.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            rest += self.socket.recv(65_536)
        self.kept = rest[length:]
        assert headers["cseq"] in (str(self.cseq), "0")
        return int(lines[0].split()[1]), headers, rest[:length].decode()

    def _skip_frames(self) -> None:
        while self.kept[:1] == b"$" and len(self.kept) >= 4:
            length = int.from_bytes(self.kept[2:4], "big")
            if len(self.kept) < 4 + length:
                return
            self.kept = self.kept[4 + length :]

    def set_up(self, url: str, transport: str) -> tuple[str, dict[str, str]]:
        status, headers, _ = self.ask("SETUP", f"{url}/trackID=0", Transport=transport)
        assert status == 200
        return headers["session"].split(";")[0], headers


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_ffprobe_and_ffmpeg_read_a_camera(server: RtspServer, camera: SimCamera, transport: str) -> None:
    if shutil.which("ffprobe") is None or shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (scripts/setup --dev installs it)")
    quick = ["-v", "error", "-analyzeduration", "500000", "-probesize", "100000", "-rtsp_transport", transport]
    shown = ["-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"]
    probed = subprocess.run(
        ["ffprobe", *quick, *shown, server.url_of("street/1")], capture_output=True, text=True, timeout=30
    )
    assert probed.stdout.strip() == "h264,320,180"
    read = ["ffmpeg", *quick, "-i", server.url_of("street/1"), "-frames:v", "12", "-f", "framemd5", "-"]
    frames = subprocess.run(read, capture_output=True, text=True, timeout=30)
    assert frames.stderr == ""
    assert sum(not line.startswith("#") for line in frames.stdout.splitlines()) >= 12


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_come_in_order_and_none_is_missing(server: RtspServer, camera: SimCamera, transport: str) -> None:
    places = [where(picture) for picture in watch(server.url_of("street/1"), 15, transport)]
    assert places == [(places[0] + i) % 20 for i in range(15)]


def test_many_viewers_share_one_encoder(server: RtspServer) -> None:
    source = Numbered()
    camera = server.add_camera("shared", source, FPS, SIZE)
    options = {"rtsp_transport": "tcp", "analyzeduration": "200000", "probesize": "60000"}
    with contextlib.ExitStack() as stack:
        viewers = [
            stack.enter_context(av.open(server.url_of("shared"), options=options, timeout=5.0)) for _ in range(5)
        ]
        assert len(camera.viewers) == 5
        before, began_s = source.count, time.monotonic()
        streams = [viewer.decode(video=0) for viewer in viewers]
        for _ in range(10):
            assert all(next(stream) is not None for stream in streams)
        drawn, took_s = source.count - before, time.monotonic() - began_s
    assert drawn <= took_s * FPS + 3


def test_nobody_watching_means_nothing_is_drawn(server: RtspServer) -> None:
    source = Numbered()
    camera = server.add_camera("idle", source, FPS, SIZE)
    time.sleep(0.4)
    assert source.count == 0
    watch(server.url_of("idle"), 3)
    assert wait_for(lambda: not camera.viewers)
    time.sleep(0.2)
    before = source.count
    time.sleep(0.4)
    assert source.count == before


def test_a_description_names_the_parameter_sets_and_the_track(server: RtspServer, camera: SimCamera) -> None:
    status, headers, body = Client(server).ask("DESCRIBE", server.url_of("street/1"), Accept="application/sdp")
    assert status == 200
    assert headers["content-type"] == "application/sdp"
    assert "m=video 0 RTP/AVP 96" in body
    assert "packetization-mode=1" in body and "sprop-parameter-sets=" in body
    assert "a=control:trackID=0" in body


def test_what_cannot_be_done_is_refused_by_its_status(server: RtspServer, camera: SimCamera) -> None:
    url, client = server.url_of("street/1"), Client(server)
    assert client.ask("OPTIONS", "*")[0] == 200
    assert client.ask("DESCRIBE", server.url_of("nowhere"))[0] == 404
    assert client.ask("SETUP", f"{url}/trackID=0", Transport="RTP/AVP;multicast")[0] == 461
    assert client.ask("PLAY", url, Session="unknown")[0] == 454
    assert client.ask("PLAY", url)[0] == 454
    assert client.ask("RECORD", url)[0] == 405
    assert client.ask("FLY", url)[0] == 501
    assert client.ask("OPTIONS", url, Require="flying")[0] == 551
    session, _ = client.set_up(url, "RTP/AVP/TCP;unicast;interleaved=0-1")
    assert client.ask("TEARDOWN", url, Session=session)[0] == 200
    assert client.ask("PLAY", url, Session=session)[0] == 454


def test_nonsense_ends_its_own_connection_and_no_other(server: RtspServer, camera: SimCamera) -> None:
    good, bad = Client(server), Client(server)
    bad.socket.sendall(b"\x16\x03\x01 not rtsp at all\r\n\r\n")
    assert bad.read()[0] == 400
    assert bad.socket.recv(100) == b""
    assert good.ask("OPTIONS", "*")[0] == 200


def test_a_paused_viewer_gets_nothing_until_it_plays_again(server: RtspServer, camera: SimCamera) -> None:
    url, client = server.url_of("street/1"), Client(server)
    session, _ = client.set_up(url, "RTP/AVP/TCP;unicast;interleaved=0-1")
    assert client.ask("PLAY", url, Session=session)[0] == 200
    assert wait_for(lambda: len(camera.viewers) == 1)
    assert client.ask("PAUSE", url, Session=session)[0] == 200
    assert not camera.viewers
    assert client.ask("PLAY", url, Session=session)[0] == 200
    assert wait_for(lambda: len(camera.viewers) == 1)


def test_a_viewer_that_falls_silent_is_ended_and_one_that_asks_is_kept() -> None:
    server = RtspServer(session_timeout_s=1.2)
    server.start()
    try:
        server.add_camera("c", Numbered(), FPS, SIZE)
        url = server.url_of("c")
        silent, asking = Client(server), Client(server)
        first, headers = silent.set_up(url, "RTP/AVP;unicast;client_port=40000-40001")
        second, _ = asking.set_up(url, "RTP/AVP;unicast;client_port=40002-40003")
        assert headers["session"].endswith("timeout=1")
        for _ in range(5):
            time.sleep(0.5)
            assert asking.ask("GET_PARAMETER", url, Session=second)[0] == 200
        assert first not in server.sessions
        assert second in server.sessions
    finally:
        server.stop()


def test_a_slow_viewer_is_dropped_and_the_others_go_on(server: RtspServer) -> None:
    rng = np.random.default_rng(3)
    size = (640, 360)
    noise = [rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8) for _ in range(5)]
    media = EncodedFrames(lambda now_s: noise[int(now_s * 20) % 5], 20.0, size, kbit_per_s=30_000)
    camera = server.add_camera("noise", media)
    url = server.url_of("noise")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((server.host, server.port))
    for number, request in enumerate((f"SETUP {url}/trackID=0", f"PLAY {url}"), 1):
        session = (
            f"Session: {next(iter(server.sessions))}\r\n"
            if number == 2
            else "Transport: RTP/AVP/TCP;interleaved=0-1\r\n"
        )
        slow.sendall(f"{request} RTSP/1.0\r\nCSeq: {number}\r\n{session}\r\n".encode())
        assert slow.recv(1000).startswith(b"RTSP/1.0 200")
    assert wait_for(lambda: server.dropped_count == 1, 20.0)
    assert not camera.viewers
    assert len(watch(url, 2)) == 2
    slow.close()


def test_a_frozen_camera_repeats_its_picture(server: RtspServer, camera: SimCamera) -> None:
    options = {"rtsp_transport": "tcp", "analyzeduration": "200000", "probesize": "60000"}
    with av.open(server.url_of("street/1"), options=options, timeout=5.0) as container:
        pictures = container.decode(video=0)
        next(pictures)
        camera.set_fault(Fault.FROZEN)
        places = [where(next(pictures).to_ndarray(format="bgr24")) for _ in range(16)]
        assert len(set(places[6:])) == 1
        camera.set_fault(Fault.NONE)
        places = [where(next(pictures).to_ndarray(format="bgr24")) for _ in range(12)]
        assert len(set(places[6:])) == 6


def test_a_camera_that_is_gone_cuts_viewers_off_and_takes_none_until_it_is_back(
    server: RtspServer, camera: SimCamera
) -> None:
    url, client = server.url_of("street/1"), Client(server)
    session, _ = client.set_up(url, "RTP/AVP/TCP;unicast;interleaved=0-1")
    assert client.ask("PLAY", url, Session=session)[0] == 200
    camera.set_fault(Fault.GONE)
    client.socket.settimeout(5.0)
    with contextlib.suppress(ConnectionResetError):
        while client.socket.recv(65_536):
            pass
    assert not camera.viewers
    assert Client(server).ask("DESCRIBE", url)[0] == 503
    camera.set_fault(Fault.NONE)
    assert len(watch(url, 2)) == 2


def test_a_delayed_camera_shows_the_past(server: RtspServer) -> None:
    source = Numbered()
    camera = server.add_camera("late", source, FPS, SIZE)
    camera.set_fault(Fault.DELAYED, delay_s=0.8)
    options = {"rtsp_transport": "tcp", "analyzeduration": "200000", "probesize": "60000", "fflags": "nobuffer"}
    with av.open(server.url_of("late"), options=options, timeout=5.0) as container:
        for index, frame in enumerate(container.decode(video=0)):
            behind = (source.count - 1 - where(frame.to_ndarray(format="bgr24"))) % 20
            if index >= 15:
                break
    assert 7 <= behind <= 11


def make_video(path: Path, codec: str, frames: int = 30) -> None:
    source = Numbered()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(source(0.0), format="bgr24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_a_video_file_is_played_in_a_loop(server: RtspServer, tmp_path: Path, name: str, codec: str) -> None:
    make_video(tmp_path / name, codec)
    server.add_camera("file", open_file(tmp_path / name))
    places = [where(picture) for picture in watch(server.url_of("file"), 40)]
    begin = places.index(0, 1)
    assert places[begin : begin + 10] == list(range(10))


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video" * 100)
    with pytest.raises(MediaError, match=r"notes\.mp4: not a video"):
        open_file(path)


def test_a_path_is_given_once(server: RtspServer, camera: SimCamera) -> None:
    with pytest.raises(ValueError, match="there already"):
        server.add_camera("/street/1/", Numbered(), FPS, SIZE)
