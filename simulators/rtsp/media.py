"""What a simulated camera shows: pictures that are drawn and encoded, or a video file's own H.264 or H.265 packets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.video.frame import PictureType
from numpy.typing import NDArray

from simulators.rtsp.rtp import (
    H265_PPS,
    H265_SPS,
    H265_VPS,
    NAL_IDR,
    NAL_PPS,
    NAL_SPS,
    h265_nal_type,
    nal_type,
    split_nals,
)

Picture = NDArray[np.uint8]
FrameSource = Callable[[float], Picture]
"""Gives the picture (H, W, 3) BGR for an instant in seconds; called from the camera's own thread."""

GOP_S = 2.0


class MediaError(ValueError):
    """A file that cannot be played; the text says why."""


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One coded picture: NAL units in order, whether decoding may begin here, and how far behind its decoding
    instant it is shown (B-pictures), in seconds."""

    nals: tuple[bytes, ...]
    key: bool
    shown_after_s: float = 0.0


class EncodedFrames:
    """Pictures of a source, encoded by libx264: no B-pictures, no look-ahead, so a picture leaves as it is drawn."""

    h265 = False

    def __init__(self, source: FrameSource, fps: float, size: tuple[int, int], kbit_per_s: int = 900) -> None:
        self.fps, self.size = fps, size
        self._source = source
        self._count = 0
        self._picture: Picture | None = None
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height = size
        codec.pix_fmt = "yuv420p"
        codec.time_base = Fraction(1, 90_000)
        codec.framerate = Fraction(fps).limit_denominator(1001)
        codec.gop_size = max(1, round(fps * GOP_S))
        codec.max_b_frames = 0
        codec.thread_count = 1
        codec.flags |= Flags.global_header
        codec.options = {
            "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "crf": "24",
            "maxrate": f"{kbit_per_s}k", "bufsize": f"{kbit_per_s}k", "forced-idr": "1",
        }  # fmt: skip
        codec.open()
        self._codec = codec
        sets = {nal_type(nal): nal for nal in split_nals(bytes(codec.extradata or b""))}
        self._sets = (sets[NAL_SPS], sets[NAL_PPS])

    @property
    def due_s(self) -> float:
        """When the next unit is due, on the media's own clock."""
        return self._count / self.fps

    def parameter_sets(self) -> tuple[bytes, ...]:
        """Sequence and picture parameter set, for the session description."""
        return self._sets

    def next_unit(self, now_s: float, *, key: bool, repeat: bool) -> AccessUnit:
        """The unit that is due. `key` asks for one where decoding may begin, `repeat` for the last picture again."""
        if self._picture is None or not repeat:
            self._picture = self._fit(self._source(now_s))
        frame = av.VideoFrame.from_ndarray(self._picture, format="yuv420p")
        frame.pts = round(self._count * 90_000 / self.fps)
        frame.time_base = Fraction(1, 90_000)
        if key:
            frame.pict_type = PictureType.I
        self._count += 1
        coded = b"".join(bytes(packet) for packet in self._codec.encode(frame))
        nals = split_nals(coded)
        is_key = any(nal_type(nal) == NAL_IDR for nal in nals)
        return AccessUnit((*self._sets, *nals) if is_key else tuple(nals), is_key)

    def _fit(self, picture: Picture) -> Picture:
        if (picture.shape[1], picture.shape[0]) != self.size:
            picture = np.asarray(cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), dtype=np.uint8)

    def close(self) -> None:
        """Let go of the last picture."""
        self._picture = None


class VideoFile:
    """A video file's pictures one after the other, from its beginning again at its end; a FrameSource.

    Raises MediaError when it holds no picture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _open(path) as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate or 25)
            self.size = (stream.codec_context.width & ~1, stream.codec_context.height & ~1)
        self._pictures = self._read()

    def __call__(self, now_s: float) -> Picture:
        return next(self._pictures)

    def _read(self) -> Iterator[Picture]:
        while True:
            empty = True
            with _open(self._path) as container:
                for frame in container.decode(video=0):
                    empty = False
                    yield np.asarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8)
            if empty:
                raise MediaError(f"{self._path}: no picture in it")


class CopiedFile:
    """The H.264 or H.265 packets of a file as they are, in a loop; `repeat` and `key` are beyond a copy and left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _open(path) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            if codec not in ("h264", "hevc"):
                raise MediaError(f"{path}: {codec}, not H.264; it must be encoded anew")
            self.h265 = codec == "hevc"
            self.fps = float(stream.average_rate or 25)
            self.size = (stream.codec_context.width, stream.codec_context.height)
        self._sets: tuple[bytes, ...] = ()
        self._units = self._read()
        self._next = next(self._units)
        wanted = (H265_VPS, H265_SPS, H265_PPS) if self.h265 else (NAL_SPS, NAL_PPS)
        sets = {self._type_of(nal): nal for nal in self._next[1].nals}
        if any(kind not in sets for kind in wanted):
            raise MediaError(f"{path}: its first picture carries no parameter sets")
        self._sets = tuple(sets[kind] for kind in wanted)

    def _type_of(self, nal: bytes) -> int:
        return h265_nal_type(nal) if self.h265 else nal_type(nal)

    @property
    def due_s(self) -> float:
        """When the next unit is due, on the media's own clock."""
        return self._next[0]

    def parameter_sets(self) -> tuple[bytes, ...]:
        """Parameter sets for the session description: sequence and picture, in H.265 video before them."""
        return self._sets

    def next_unit(self, now_s: float, *, key: bool, repeat: bool) -> AccessUnit:
        """The packets that are due."""
        unit = self._next[1]
        self._next = next(self._units)
        return unit

    def _read(self) -> Generator[tuple[float, AccessUnit], None, None]:
        offset_s = 0.0
        while True:
            end_s = 0.0
            with _open(self._path) as container:
                stream = container.streams.video[0]
                name = "hevc_mp4toannexb" if self.h265 else "h264_mp4toannexb"
                to_annex_b = BitStreamFilterContext(name, stream)
                start_s: float | None = None
                for packet in container.demux(stream):
                    if packet.dts is None or packet.time_base is None:
                        continue
                    decode_s = float(packet.dts * packet.time_base)
                    start_s = decode_s if start_s is None else start_s
                    after_s = float((packet.pts - packet.dts) * packet.time_base) if packet.pts is not None else 0.0
                    end_s = decode_s - start_s + 1 / self.fps
                    nals = [
                        nal for part in to_annex_b.filter(packet) for nal in split_nals(bytes(part), h265=self.h265)
                    ]
                    kinds = {self._type_of(nal) for nal in nals}
                    key = bool(kinds & set(range(16, 24))) if self.h265 else NAL_IDR in kinds
                    if key and (H265_SPS if self.h265 else NAL_SPS) not in kinds:
                        nals = [*self._sets, *nals]
                    yield offset_s + decode_s - start_s, AccessUnit(tuple(nals), key, after_s)
            if end_s == 0.0:
                raise MediaError(f"{self._path}: no picture in it")
            offset_s += end_s

    def close(self) -> None:
        """Close the file."""
        self._units.close()


Media = EncodedFrames | CopiedFile
"""A source of coded pictures that its camera asks for one by one, each when it is due."""


def open_file(path: Path) -> Media:
    """Plays a video file: H.264 and H.265 are copied, anything else decoded and encoded anew.

    Raises MediaError for what is no video, OSError for what cannot be read.
    """
    try:
        return CopiedFile(path)
    except MediaError as error:
        if "not H.264" not in str(error):
            raise
    video = VideoFile(path)
    return EncodedFrames(video, video.fps, video.size, kbit_per_s=4000)


def _open(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path), mode="r")
    except av.error.InvalidDataError as error:
        raise MediaError(f"{path}: not a video ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise MediaError(f"{path}: no video in it")
    return container
