"""Frames of a video file, with the frame clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from ingest.rtsp import CaptureError, CaptureFault, decode, explain, find_video


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFrame:
    """One frame of a file; `at_s` is the time since its beginning by the frame clock."""

    index: int
    at_s: float
    key: bool
    picture: NDArray[np.uint8]


def read_file(path: Path, *, fps: float | None = None, every_s: float = 0.0) -> Iterator[FileFrame]:
    """Frames of a video file, by the container's times or, when `fps` is given, at that true rate.

    `every_s` passes over frames so that those given are at least that far apart. Raises CaptureError.
    """
    if not path.is_file():
        raise CaptureError(CaptureFault.NOT_FOUND, f"{path}: there is no such file")
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise explain(error, str(path)) from None
    with container:
        stream = find_video(container, str(path))
        stream.thread_type = "AUTO"
        first_s: float | None = None
        next_s = 0.0
        index = -1
        for packet in container.demux(stream):
            for frame in decode(packet):
                index += 1
                if first_s is None:
                    first_s = frame.time or 0.0
                at_s = index / fps if fps else (frame.time if frame.time is not None else 0.0) - first_s
                if at_s + 1e-6 < next_s:
                    continue
                next_s = at_s + every_s if every_s else 0.0
                picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                yield FileFrame(index=index, at_s=at_s, key=bool(frame.key_frame), picture=picture)
        if index < 0:
            raise CaptureError(CaptureFault.NOT_VIDEO, f"{path}: not a video: no frame in it can be decoded")
