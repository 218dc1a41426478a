"""What stands behind `gridwarden sim camera` and `gridwarden sim fleet`: run until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from simulators.city import CAMERA_FPS
from simulators.corner import FRAME_SIZE, Corner
from simulators.fleet import DeviceSpec, Fleet, Login
from simulators.rtsp import RtspServer, open_file

Say = Callable[[str], None]


def serve_camera(
    stop: threading.Event,
    say: Say,
    *,
    file: Path | None = None,
    seed: int = 1,
    host: str = "127.0.0.1",
    port: int = 8554,
) -> None:
    """Serve one camera until `stop`: a video file in a loop, or the street of a seed with its ordinary life.

    Raises simulators.rtsp.MediaError for what is no video, OSError for a file or a port that cannot be had.
    """
    server = RtspServer(host, port)
    if file is not None:
        server.add_camera("camera", open_file(file))
    else:
        server.add_camera("camera", Corner(seed).frame, CAMERA_FPS, FRAME_SIZE)
    server.start()
    try:
        say(server.url_of("camera"))
        stop.wait()
    finally:
        server.stop()


def run_fleet(stop: threading.Event, say: Say, specs: Sequence[DeviceSpec], login: Login, *, seed: int = 1) -> None:
    """Let registered devices report until `stop`; says every 10 s what was sent and what was answered."""
    fleet = Fleet(specs, login, seed=seed)
    fleet.start()
    try:
        while not stop.wait(10.0):
            counts = fleet.counts
            state = "" if fleet.is_connected else ", no connection to the broker"
            say(
                f"{len(specs)} devices: {counts.telemetry} readings, {counts.events} events, {counts.receipts} receipts, "
                f"{counts.repeats} repeats, {counts.refused} refused, {fleet.waiting_count} waiting{state}"
            )
    finally:
        fleet.stop()
