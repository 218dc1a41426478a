"""Packets are kept undecoded, and become files whose times are right whatever the stream says."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.packets import CodedPacket, Intake, Mp4File, PacketRing, Shape, find_sets, time_packets, write_clip

BEGIN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FPS = 10


@cache
def coded(
    codec: str = "h264", seconds: float = 6.0, b_frames: int = 0, size: tuple[int, int] = (160, 96)
) -> tuple[CodedPacket, ...]:
    """A stream with a key picture every second, as a camera sends it (Annex B), one run, arriving as it is shown."""
    raw = io.BytesIO()
    encoder = {"h264": "libx264", "hevc": "libx265"}[codec]
    with av.open(raw, "w", format=codec) as output:
        stream = output.add_stream(encoder, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size, stream.max_b_frames = FPS, b_frames
        stream.options = {"preset": "ultrafast", "x265-params": f"log-level=none:keyint={FPS}:bframes={b_frames}"}
        rng = np.random.default_rng(1)
        packets = []
        for index in range(round(seconds * FPS)):
            picture = (
                rng.integers(0, 255, (size[1] // 16, size[0] // 16, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            )
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            packets += stream.encode(frame)
        packets += stream.encode()
        extradata = bytes(stream.codec_context.extradata or b"")
    first = bytes(packets[0])
    sets = find_sets(first, codec) or find_sets(extradata + b"\x00\x00\x01\x00", codec)
    shape = Shape(codec, sets)
    return tuple(
        CodedPacket(
            data=bytes(packet), pts=packet.pts * 90_000 // FPS, key=packet.is_keyframe,
            received_at=BEGIN + timedelta(seconds=index / FPS), run=1, shape=shape,
        )
        for index, packet in enumerate(packets)
    )  # fmt: skip


def fill(packets: Sequence[CodedPacket], seconds: float = 100.0, limit_bytes: int = 10**9) -> PacketRing:
    ring = PacketRing(seconds, limit_bytes)
    for packet in packets:
        ring.put(packet)
    return ring


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_clip_begins_with_the_key_picture_before_and_plays_as_it_was_sent(
    codec: str, b_frames: int, tmp_path: Path
) -> None:
    packets = coded(codec, b_frames=b_frames)
    from_at, until_at = BEGIN + timedelta(seconds=2.5), BEGIN + timedelta(seconds=4.45)
    cut = fill(packets).cut(from_at, until_at)
    assert cut[0].key and timedelta(0) <= from_at - cut[0].received_at <= timedelta(seconds=1.05)
    written = write_clip(cut, tmp_path / "clip.mp4")
    assert (written.codec, written.width, written.height) == (codec, 160, 96)
    assert written.began_at == cut[0].received_at and written.seconds == pytest.approx(len(cut) / FPS, abs=0.35)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == len(cut)
    assert np.allclose(np.diff(times), 1 / FPS, atol=0.3 if b_frames else 0.002)


def test_a_ring_keeps_whole_groups_of_at_least_its_seconds_and_at_most_its_bytes() -> None:
    packets = coded()
    ring = fill(packets, seconds=2.0)
    kept = ring.cut(BEGIN, BEGIN + timedelta(hours=1))
    assert kept[0].key and 2.0 <= (packets[-1].received_at - kept[0].received_at).total_seconds() <= 3.0
    assert ring.size_bytes == sum(len(packet.data) for packet in kept)
    limit = 3 * sum(len(packet.data) for packet in packets[:FPS])
    assert 0 < fill(packets, limit_bytes=limit).size_bytes <= limit


def test_an_endless_group_of_pictures_is_let_go_when_it_is_too_large() -> None:
    first, *others = coded()
    endless = [first, *(p for p in others if not p.key)] * 20
    assert fill(endless, limit_bytes=50_000).size_bytes <= 50_000


def test_a_clip_over_a_change_of_size_holds_the_part_that_has_more_of_it(tmp_path: Path) -> None:
    late = timedelta(seconds=6)
    other = [
        CodedPacket(p.data, p.pts, p.key, p.received_at + late, 2, p.shape) for p in coded(size=(320, 192), seconds=3.0)
    ]
    cut = fill([*coded(), *other]).cut(BEGIN + timedelta(seconds=5.5), BEGIN + timedelta(seconds=9))
    assert write_clip(cut, tmp_path / "clip.mp4").width == 320


@given(st.lists(st.one_of(st.none(), st.integers(-(10**12), 10**12)), min_size=1, max_size=60), st.integers(1, 7))
def test_times_of_any_stream_go_forward_and_nothing_is_shown_before_it_is_decoded(
    stamps: list[int | None], runs: int
) -> None:
    shape = Shape("h264", b"")
    packets = [
        CodedPacket(b"x", pts, index == 0, BEGIN + timedelta(seconds=index / FPS), index * runs // 60, shape)
        for index, pts in enumerate(stamps)
    ]
    times, _ = time_packets(packets)
    assert all(shown >= decoded for shown, decoded in times)
    assert all(later[1] > earlier[1] for earlier, later in pairwise(times))


def test_a_jump_of_the_streams_clock_does_not_stretch_a_file(tmp_path: Path) -> None:
    class Packet:
        def __init__(self, one: CodedPacket, pts: int | None) -> None:
            self.pts, self.time_base, self.size, self.is_keyframe = pts, Fraction(1, 90_000), len(one.data), one.key
            self._data = one.data

        def __bytes__(self) -> bytes:
            return self._data

    intake = Intake()
    intake.open("h264", None)
    ring = PacketRing(100, 10**9)
    for index, one in enumerate(coded()):
        pts = None if index == 0 else one.pts + (10**9 if index >= 3 * FPS else 0)  # type: ignore[operator]
        kept = intake.take(Packet(one, pts), one.received_at)
        assert kept is not None
        ring.put(kept)
    written = write_clip(ring.cut(BEGIN, BEGIN + timedelta(hours=1)), tmp_path / "clip.mp4")
    assert written.seconds == pytest.approx(6.0, abs=0.3)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    first, *others = coded()
    broken = CodedPacket(b"no picture at all", 0, True, BEGIN, 1, first.shape)
    with pytest.raises((OSError, av.error.FFmpegError, ValueError, IndexError)):
        write_clip([broken], tmp_path / "clip.mp4")
    file = Mp4File(tmp_path / "other.mp4", first)
    file.write([first, *others])
    file.discard()
    assert list(tmp_path.iterdir()) == []
