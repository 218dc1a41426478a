"""`gridwarden bench capture`: what a camera costs before anything looks at it.

Cameras of 640 by 360 at 12.5 pictures a second, H.264 over RTSP with a B-picture between others. Ours is the capture process as the vision
worker runs it: packets kept for clips, recorded, decoded as far as wanted, converted five times a second. The peer is
OpenCV's VideoCapture, one thread to a camera; the ceiling is PyAV that decodes the same pictures as ours and does nothing with them.
Processor time is the processes' own, so that a busy machine changes it little. Smaller is better.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import psutil

from ingest.captured import CameraCapture
from ingest.capturing import CapturePool
from ingest.rtsp import Decode
from kernel.settings import CameraSettings, LogSettings, Settings, VisionSettings
from simulators.corner import FRAME_SIZE, Corner

CAMERAS, RUNS, SECONDS, FPS = 8, 2, 15.0, 12.5
FILL_S = 25.0
"""Until the packets kept in memory are as many as they ever are."""

SERVER = """
import sys
from pathlib import Path
from simulators.rtsp import RtspServer, open_file
server = RtspServer()
for n in range(int(sys.argv[2])):
    server.add_camera(f"c{n}", open_file(Path(sys.argv[1])))
server.start()
print(server.port, flush=True)
sys.stdin.read()
server.stop()
"""
PEER = """
import os, sys, threading
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"
import cv2
def read(url):
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while capture.read()[0]:
        pass
for url in sys.argv[1:]:
    threading.Thread(target=read, args=(url,), daemon=True).start()
print("on", flush=True)
sys.stdin.read()
os._exit(0)
"""
CEILING = """
import os, sys, threading
import av
def read(url):
    container = av.open(url, format="rtsp", options={"rtsp_transport": "tcp", "analyzeduration": "500000", "fpsprobesize": "0"})
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    stream.codec_context.skip_frame = "NONREF"
    for packet in container.demux(stream):
        packet.decode()
for url in sys.argv[1:]:
    threading.Thread(target=read, args=(url,), daemon=True).start()
print("on", flush=True)
sys.stdin.read()
os._exit(0)
"""


def measure() -> list[dict[str, Any]]:
    """Per cent of a core for each camera, and memory; medians of interleaved runs."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        file = _film(Path(folder) / "street.mp4")
        with _script(SERVER, str(file), str(CAMERAS)) as (_, port):
            urls = [f"rtsp://127.0.0.1:{port}/c{n}" for n in range(CAMERAS)]
            return _measure(Path(folder), urls)


def _measure(folder: Path, urls: Sequence[str]) -> list[dict[str, Any]]:
    runs: dict[str, list[float]] = {}
    memory: list[tuple[float, float, float]] = []
    for _ in range(RUNS):
        for name, script in (("peer", PEER), ("ceiling", CEILING)):
            with _script(script, *urls) as (process, _):
                time.sleep(8)
                runs.setdefault(name, []).append(_cpu_pct(process))
        memory.append(_ours(folder, urls, lambda name, pct: runs.setdefault(name, []).append(pct)))
    middle = {name: statistics.median(values) for name, values in runs.items()}
    common = {
        "unit": "% of a core", "cameras": CAMERAS, "fps": FPS, "cores": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    results: list[dict[str, Any]] = []
    for decode in Decode:
        ours = middle[decode]
        against = {
            "peer": middle["peer"], "peer_name": "OpenCV VideoCapture", "ratio_peer": ours / middle["peer"],
            "ceiling": middle["ceiling"], "ceiling_name": "PyAV, referenced pictures only",
            "ratio_ceiling": ours / middle["ceiling"],
        }  # fmt: skip
        results.append({"name": f"capture_{decode}", "ours": ours, **against, "all_runs": runs[decode], **common})
    for index, name in enumerate(("first_camera", "further_camera", "grown_while_measured")):
        values = [each[index] for each in memory]
        results.append(
            {"name": f"memory_{name}", "ours": statistics.median(values), "peer": None, "ceiling": None, "all_runs": values,
             **common, "unit": "MB"}
        )  # fmt: skip
    return results


def _ours(folder: Path, urls: Sequence[str], say: Callable[[str, float], None]) -> tuple[float, float, float]:
    """Processor time for each way of decoding; MB with the first camera, for each further one, and grown meanwhile."""
    settings = Settings(
        data_dir=folder / "data",
        camera=CameraSettings(allowed_networks=("127.0.0.0/8",), recording_spare_bytes=0),
        vision=VisionSettings(fps=5.0, group_size=64),
        log=LogSettings(level="error"),
    )
    pool = CapturePool(settings)
    try:
        captures = [pool.open("c0", urls[0])]
        _wait(captures)
        child = psutil.Process(pool.groups[0].pid)
        time.sleep(3)
        first = child.memory_info().rss
        captures += [pool.open(f"c{n}", url) for n, url in enumerate(urls) if n > 0]
        _wait(captures)
        time.sleep(FILL_S)
        full = child.memory_info().rss
        for decode in Decode:
            for capture in captures:
                capture.want(decode)
            time.sleep(3)
            say(decode, _cpu_pct(child))
        late = child.memory_info().rss
    finally:
        pool.close()
    return first / 1e6, (full - first) / (len(urls) - 1) / 1e6, (late - full) / 1e6


def _cpu_pct(process: psutil.Process) -> float:
    """Per cent of a core for each camera, over the next seconds."""
    began_s, before = time.monotonic(), sum(process.cpu_times()[:2])
    time.sleep(SECONDS)
    return 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began_s) / CAMERAS


@contextmanager
def _script(code: str, *arguments: str) -> Iterator[tuple[psutil.Process, str]]:
    """A Python process that runs `code`, and the first line it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield psutil.Process(process.pid), process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(15)
        process.stdout.close()


def _wait(captures: Sequence[CameraCapture]) -> None:
    deadline_s = time.monotonic() + 60
    while not all(capture.newest() is not None for capture in captures):
        if time.monotonic() > deadline_s:
            raise TimeoutError("a camera gives no pictures")
        time.sleep(0.1)


def _film(path: Path) -> Path:
    """Twenty seconds of a street with its ordinary life."""
    corner = Corner(5)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(25, 2))
        stream.width, stream.height, stream.pix_fmt = *FRAME_SIZE, "yuv420p"
        stream.gop_size, stream.max_b_frames, stream.bit_rate = 25, 1, 800_000
        for index in range(round(20 * FPS)):
            frame = av.VideoFrame.from_ndarray(corner.frame(1_000_000 + index / FPS), format="bgr24")
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path
