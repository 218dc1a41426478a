"""Films for `bench vision`, made from the footage in sizes and rates that cameras have."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.footage import read_file

Picture = NDArray[np.uint8]


def make_film(source: Path, target: Path, size: tuple[int, int], *, seconds: float, fps: int = 25) -> Path:
    """`source` again in another size (width, height) and at another rate, H.264, a key picture every two seconds."""
    return _write(target, size, fps, _pace(source, size, fps, seconds))


def make_quiet_film(source: Path, target: Path, size: tuple[int, int], *, seconds: float, fps: int = 25) -> Path:
    """The first picture of `source` for ever, with the noise of a camera (2 grey levels) that is other in each picture."""
    still = cv2.resize(next(iter(read_file(source))).picture, size, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(1)

    def draw() -> Iterator[Picture]:
        for _ in range(round(seconds * fps)):
            noise = cv2.resize(rng.normal(0, 2, (size[1], size[0])).astype(np.float32), size)[..., None]
            yield np.clip(still + noise, 0, 255).astype(np.uint8)

    return _write(target, size, fps, draw())


def _pace(source: Path, size: tuple[int, int], fps: int, seconds: float) -> Iterator[Picture]:
    """The picture of each instant of the new clock; the film begins again at its end."""
    given, offset_s, last_s = iter(read_file(source)), 0.0, 0.0
    frame = next(given)
    for index in range(round(seconds * fps)):
        while frame.at_s + offset_s < index / fps:
            following = next(given, None)
            if following is None:
                offset_s += last_s + 1 / fps
                given = iter(read_file(source))
                following = next(given)
            frame, last_s = following, following.at_s
        yield np.asarray(cv2.resize(frame.picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _write(target: Path, size: tuple[int, int], fps: int, pictures: Iterator[Picture]) -> Path:
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "26", "g": str(2 * fps)}
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return target
