"""H.264 packets become fragmented MP4 that a decoder plays as it was coded, from any key picture on."""

import io
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.fragment import TIMESCALE, Fragment, Fragmenter, FragmentError, read_size, split_nals

Packet = tuple[bytes, int, bool]
STEP = TIMESCALE // 25


def encode(count: int, *, size: tuple[int, int] = (322, 178), b_pictures: int = 0, gop: int = 10) -> list[Packet]:
    """Coded pictures (Annex B) with their times in ticks; each is brighter than the one before."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = size
    codec.pix_fmt, codec.time_base, codec.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    codec.gop_size, codec.max_b_frames = gop, b_pictures
    codec.options = {"preset": "veryfast", "b-adapt": "0"} | ({} if b_pictures else {"tune": "zerolatency"})
    packets = []
    for index in range(count):
        picture = np.full((size[1], size[0], 3), index * 4, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        packets += list(codec.encode(frame))
    packets += list(codec.encode(None))
    return [(bytes(packet), int(packet.pts or 0) * STEP, bool(packet.is_keyframe)) for packet in packets]


def make(packets: Sequence[Packet], offset: int = 777_000) -> tuple[Fragmenter, list[Fragment]]:
    fragmenter = Fragmenter()
    found = [fragmenter.take(data, pts + offset, index / 25, key=key) for index, (data, pts, key) in enumerate(packets)]
    return fragmenter, [fragment for fragment in found if fragment is not None]


def play(fragmenter: Fragmenter, fragments: Sequence[Fragment]) -> list[tuple[float, int]]:
    """When each picture is shown, and how bright it is."""
    assert fragmenter.opening is not None
    film = fragmenter.opening.data + b"".join(fragment.data for fragment in fragments)
    with av.open(io.BytesIO(film), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (322, 178)
        return [
            (float(frame.pts * frame.time_base), int(frame.to_ndarray(format="gray").mean()))
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.time_base is not None
        ]


@pytest.mark.parametrize("b_pictures", [0, 2])
def test_every_picture_is_played_in_order_and_evenly(b_pictures: int) -> None:
    fragmenter, fragments = make(encode(40, b_pictures=b_pictures))
    assert fragmenter.opening is not None
    assert fragmenter.opening.mime.startswith('video/mp4; codecs="avc1.')
    assert (fragmenter.opening.width, fragmenter.opening.height) == (322, 178)
    shown = play(fragmenter, fragments)
    assert len(shown) == 40
    assert all(later[1] > earlier[1] for earlier, later in pairwise(shown))
    assert all(later[0] - earlier[0] == pytest.approx(0.04, abs=0.002) for earlier, later in pairwise(shown))


def test_a_viewer_may_begin_at_any_key_picture() -> None:
    fragmenter, fragments = make(encode(40))
    begin = [index for index, fragment in enumerate(fragments) if fragment.key][2]
    assert begin == 20 and len(play(fragmenter, fragments[begin:])) == 20
    assert fragments[begin].shown_s == pytest.approx(0.8)


def test_nothing_comes_before_the_first_key_picture_and_parameter_sets_may_come_beside_the_stream() -> None:
    packets = encode(15)
    sets = b"".join(b"\x00\x00\x00\x01" + nal for nal in split_nals(packets[0][0]) if nal[0] & 0x1F in (7, 8))
    bare = [
        (b"".join(b"\x00\x00\x01" + nal for nal in split_nals(data) if nal[0] & 0x1F in (1, 5)), pts, key)
        for data, pts, key in packets
    ]
    assert make(bare)[1] == []
    fragmenter = Fragmenter()
    fragmenter.prepare(sets)
    found = [fragmenter.take(data, pts, 0.0, key=key) for data, pts, key in bare[3:]]
    assert found[:7] == [None] * 7 and all(found[7:])  # the second key picture is the eleventh


def test_a_clock_that_jumps_a_missing_time_and_a_new_size_leave_a_film_that_goes_on() -> None:
    packets = encode(20)
    jumped = [*packets[:10], *((data, pts + 90_000_000, key) for data, pts, key in packets[10:])]
    fragmenter, fragments = make(jumped)
    assert [b.shown_s - a.shown_s for a, b in pairwise(fragments)] == pytest.approx([0.04] * 19, abs=0.001)
    assert fragmenter.take(packets[10][0], None, 0.8, key=True) is not None
    first = fragmenter.opening
    other = encode(3, size=(640, 360))
    assert fragmenter.take(*other[0][:2], 0.84, key=True) is not None
    assert fragmenter.opening is not first and fragmenter.opening is not None
    assert (fragmenter.opening.width, fragmenter.opening.height) == (640, 360)


@given(st.binary(max_size=200))
def test_no_parameter_set_whatever_ends_in_anything_but_a_size_or_a_refusal(noise: bytes) -> None:
    try:
        width, height = read_size(b"\x67" + noise)
    except FragmentError:
        return
    assert 0 < width <= 16_384 and 0 < height <= 16_384


def test_a_slow_or_halting_camera_is_never_taken_for_a_break_by_a_browser() -> None:
    """Media Source Extensions: a picture decoded more than two durations after the one before begins a new film."""
    packets = encode(20, gop=100)
    times = [0, 1, 2, *range(10, 22), 50, 51, 52, 53, 54]  # of 5 a second
    fragmenter = Fragmenter()
    found = [
        fragmenter.take(data, at * 5 * STEP, at / 5, key=key) for (data, _, key), at in zip(packets, times, strict=True)
    ]
    heads = [read_head(fragment.data) for fragment in found if fragment is not None]
    assert all(later[0] - earlier[0] <= 2 * earlier[1] for earlier, later in pairwise(heads))
    assert [decoded + offset for decoded, _, offset in heads] == [at * 5 * STEP for at in times]


def read_head(fragment: bytes) -> tuple[int, int, int]:
    """Decoding time, duration, and how long after it the picture is shown."""
    decoded = int.from_bytes(fragment[60:68], "big")
    duration, _, _, offset = (int.from_bytes(fragment[at : at + 4], "big", signed=True) for at in range(88, 104, 4))
    return decoded, duration, offset
