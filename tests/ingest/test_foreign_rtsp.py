"""A stream from an RTSP server that we did not write is read by our capture."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from ingest.rtsp import CaptureError, probe
from tests.conftest import free_port

SERVER = (
    "use AnyEvent; use RTSP::Server; my $s = RTSP::Server->new(log_level => 0, max_clients => 10,"
    " client_listen_address => '127.0.0.1', client_listen_port => {client}, rtp_start_port => {rtp},"
    " source_listen_address => '127.0.0.1', source_listen_port => {source}); $s->listen; AnyEvent->condvar->recv;"
)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe_socket:
            if probe_socket.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on {port}")


@pytest.fixture(scope="module")
def foreign_url() -> Iterator[str]:
    """Perl's RTSP::Server, fed by ffmpeg with its test picture as H.264."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (scripts/setup --dev installs it)")
    if subprocess.run(["perl", "-MRTSP::Server", "-e1"], capture_output=True, check=False).returncode:
        pytest.skip("perl's RTSP::Server is not installed (scripts/setup --dev installs it)")
    client, source, rtp = free_port(), free_port(), free_port() // 2 * 2
    server = subprocess.Popen(
        ["perl", "-e", SERVER.format(client=client, source=source, rtp=rtp)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(client)
    feed = subprocess.Popen(
        ["ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-c:v", "libx264", "-g", "10",
         "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-f", "rtsp", f"rtsp://127.0.0.1:{source}/test"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"rtsp://127.0.0.1:{client}/test"
    finally:
        for process in (feed, server):
            process.kill()
            process.wait()


def test_a_foreign_server_is_read(foreign_url: str) -> None:
    deadline = time.monotonic() + 20  # this server speaks UDP alone: it answers 400 to interleaved TCP
    while True:  # the feed needs a moment to announce itself
        try:
            size = probe(foreign_url, allowed_networks=["127.0.0.0/8"], transport="udp", timeout_s=5)
        except CaptureError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            break
    assert size == (320, 240)
