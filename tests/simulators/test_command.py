"""The simulators' commands run until they are told to stop."""

import threading
from pathlib import Path

import av
import pytest

from simulators.command import serve_camera
from simulators.rtsp import MediaError


def test_a_street_is_served_until_stop() -> None:
    stop, said, told = threading.Event(), [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    thread = threading.Thread(target=serve_camera, args=(stop, say), kwargs={"seed": 5, "port": 0})
    thread.start()
    try:
        assert told.wait(20)
        with av.open(
            said[0], options={"rtsp_transport": "tcp", "analyzeduration": "200000"}, timeout=10.0
        ) as container:
            frame = next(container.decode(video=0))
            assert (frame.width, frame.height) == (640, 360)
            assert frame.to_ndarray(format="gray").std() > 10
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_a_file_that_is_no_video_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"nothing")
    with pytest.raises(MediaError, match="not a video"):
        serve_camera(threading.Event(), print, file=path, port=0)
