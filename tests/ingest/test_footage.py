"""Files: the frame clock, and clear words for what is no video."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from ingest.footage import read_file
from ingest.rtsp import CaptureError, CaptureFault


def write_video(path: Path, frames: int, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), index * 4, np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_file_is_read_by_its_own_clock_or_by_the_true_rate_given(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 40, 10)
    own = list(read_file(path))
    assert [frame.index for frame in own] == list(range(40)) and own[-1].at_s == pytest.approx(3.9)
    assert own[30].picture.mean() == pytest.approx(120, abs=4)
    assert next(frame.at_s for frame in read_file(path, fps=7) if frame.index == 35) == pytest.approx(5.0)
    assert [frame.index for frame in read_file(path, every_s=1.0)] == [0, 10, 20, 30]


def test_what_is_no_video_is_said_so(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(CaptureError, match="not a video") as caught:
        list(read_file(text))
    assert caught.value.fault is CaptureFault.NOT_VIDEO
    with pytest.raises(CaptureError) as caught:
        list(read_file(tmp_path / "none.mp4"))
    assert caught.value.fault is CaptureFault.NOT_FOUND
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(CaptureError, match="no picture"):
        list(read_file(sound))
