"""H.264 pictures as fragmented MP4, for a browser's MediaSource: one fragment for each picture, so that none waits.

Pure. MP4 by ISO/IEC 14496-12 and -15, parameter sets by H.264 (ITU-T H.264 7.3.2.1). Times are in `TIMESCALE` ticks.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct, pack

TIMESCALE = 90_000
NAL_SLICE, NAL_IDR, NAL_SPS, NAL_PPS = 1, 5, 7, 8
_USUAL_STEP = TIMESCALE // 25
_LONGEST_STEP = TIMESCALE * 2
_MOST_REORDERED = 16  # H.264 A.3.1: no decoder holds back more
_SYNC, _NO_SYNC = 0x0200_0000, 0x0101_0000
_HEAD = Struct(">I4sI4sIII4sI4sIII4sIQI4sIIiIIIiI4s")
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MATRIX = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


class FragmentError(ValueError):
    """Coded pictures that no MP4 can be made of."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a browser needs before the first picture."""

    mime: str
    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """One picture. `shown_s`: when it is shown, on the medium's own clock; `key`: decoding may begin here."""

    data: bytes
    shown_s: float
    key: bool


def split_nals(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream (B.1), without start codes and trailing zeros."""
    found: list[bytes] = []
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        following = data.find(b"\x00\x00\x01", start + 3)
        nal = data[start + 3 : following if following >= 0 else len(data)].rstrip(b"\x00")
        if nal:
            found.append(nal)
        start = following
    return found


# ---- parameter sets ------------------------------------------------------------------------------------------------


class _Bits:
    """Reads a raw byte sequence payload bit by bit (7.2, 9.1). Raises FragmentError at its end."""

    def __init__(self, nal: bytes) -> None:
        payload = nal[1:].replace(b"\x00\x00\x03", b"\x00\x00")
        self._value = int.from_bytes(payload, "big")
        self._left = len(payload) * 8

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise FragmentError("the sequence parameter set ends too soon")
        return (self._value >> self._left) & ((1 << count) - 1)

    def read_ue(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 31:
                raise FragmentError("a number in the sequence parameter set is too large")
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        value = self.read_ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def read_size(sps: bytes) -> tuple[int, int]:
    """Width and height of the picture, cropped, in pixels. Raises FragmentError."""
    bits = _Bits(sps)
    profile = bits.read(8)
    bits.read(16)
    bits.read_ue()
    chroma = 1
    if profile in _HIGH_PROFILES:
        chroma = bits.read_ue()
        if chroma == 3:
            bits.read(1)
        bits.read_ue()
        bits.read_ue()
        bits.read(1)
        if bits.read(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    bits.read_ue()
    order = bits.read_ue()
    if order == 0:
        bits.read_ue()
    elif order == 1:
        bits.read(1)
        bits.read_se()
        bits.read_se()
        for _ in range(min(bits.read_ue(), 255)):
            bits.read_se()
    bits.read_ue()
    bits.read(1)
    width, rows = (bits.read_ue() + 1) * 16, bits.read_ue() + 1
    frames_only = bits.read(1)
    if not frames_only:
        bits.read(1)
    height = rows * 16 * (2 - frames_only)
    bits.read(1)
    if bits.read(1):
        left, right, top, bottom = (bits.read_ue() for _ in range(4))
        across = 2 if chroma in (1, 2) else 1
        down = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= across * (left + right)
        height -= down * (top + bottom)
    if not (0 < width <= 16_384 and 0 < height <= 16_384):
        raise FragmentError(f"a picture of {width}x{height} is none")
    return width, height


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def name_codec(sps: bytes) -> str:
    """The codec as RFC 6381 writes it: `avc1.` and profile, constraints and level."""
    if len(sps) < 4:
        raise FragmentError("no sequence parameter set")
    return f"avc1.{sps[1:4].hex()}"


# ---- boxes ---------------------------------------------------------------------------------------------------------


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, pack(">I", version << 24 | flags), *parts)


def write_opening(sps: bytes, pps: bytes) -> Opening:
    """`ftyp` and `moov` of a track of these parameter sets. Raises FragmentError."""
    width, height = read_size(sps)
    avcc = _box(
        b"avcC",
        b"\x01", sps[1:4], b"\xff\xe1", pack(">H", len(sps)), sps, b"\x01", pack(">H", len(pps)), pps,
        b"\xfd\xf8\xf8\x00" if sps[1] in _HIGH_PROFILES else b"",
    )  # fmt: skip
    entry = _box(
        b"avc1",
        bytes(6), pack(">H", 1), bytes(16), pack(">HH", width, height), pack(">II", 0x480000, 0x480000), bytes(4),
        pack(">H", 1), bytes(32), pack(">Hh", 24, -1), avcc,
    )  # fmt: skip
    table = _box(
        b"stbl",
        _full(b"stsd", 0, 0, pack(">I", 1), entry),
        *(_full(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc")),
        _full(b"stsz", 0, 0, bytes(8)),
        _full(b"stco", 0, 0, bytes(4)),
    )
    media = _box(
        b"mdia",
        _full(b"mdhd", 0, 0, pack(">IIIIHH", 0, 0, TIMESCALE, 0, 0x55C4, 0)),
        _full(b"hdlr", 0, 0, bytes(4), b"vide", bytes(12), b"video\x00"),
        _box(
            b"minf",
            _full(b"vmhd", 0, 1, bytes(8)),
            _box(b"dinf", _full(b"dref", 0, 0, pack(">I", 1), _full(b"url ", 0, 1))),
            table,
        ),
    )
    track = _box(
        b"trak",
        _full(
            b"tkhd", 0, 3,
            pack(">IIIII", 0, 0, 1, 0, 0), bytes(8), bytes(8), _MATRIX, pack(">II", width << 16, height << 16),
        ),
        media,
    )  # fmt: skip
    movie = _box(
        b"moov",
        _full(b"mvhd", 0, 0, pack(">IIIIIH", 0, 0, TIMESCALE, 0, 0x10000, 0x100), bytes(10), _MATRIX, bytes(24),
              pack(">I", 2)),
        track,
        _box(b"mvex", _full(b"trex", 0, 0, pack(">IIIII", 1, 1, 0, 0, 0))),
    )  # fmt: skip
    kind = _box(b"ftyp", b"iso5", pack(">I", 512), b"iso5iso6avc1mp41")
    return Opening(f'video/mp4; codecs="{name_codec(sps)}"', width, height, kind + movie)


def write_fragment(number: int, decoded: int, shown: int, step: int, nals: Sequence[bytes], *, key: bool) -> bytes:
    """`moof` and `mdat` of one picture: when it is decoded and shown, and its duration, in ticks."""
    sample = b"".join([part for nal in nals for part in (len(nal).to_bytes(4, "big"), nal)])
    return _HEAD.pack(
        104, b"moof",
        16, b"mfhd", 0, number & 0xFFFFFFFF,
        80, b"traf",
        16, b"tfhd", 0x020000, 1,  # offsets count from the moof
        20, b"tfdt", 1 << 24, decoded,
        36, b"trun", 1 << 24 | 0xF01, 1, 112, step, len(sample), _SYNC if key else _NO_SYNC, shown - decoded,
        8 + len(sample), b"mdat",
    ) + sample  # fmt: skip


# ---- a stream ------------------------------------------------------------------------------------------------------


@dataclass
class Fragmenter:
    """Makes fragments of the pictures of one stream, in the order in which they come. For one thread.

    The medium's clock begins at 0 with the first key picture and goes on over jumps of the stream's own clock by the time
    that passed meanwhile. Of pictures shown in another order than decoded (B-pictures) as many are held back in time as
    were met out of order.
    """

    opening: Opening | None = None
    _sets: tuple[bytes, bytes] = (b"", b"")
    _count: int = 0
    _base: int | None = None
    _last_pts: int = 0
    _last_shown: int = 0
    _last_decoded: int = -1
    _last_came: float = 0.0
    _step: int = _USUAL_STEP
    _steps: list[int] = field(default_factory=list)
    _last_step: int = _USUAL_STEP
    _depth: int = 0
    _ahead: list[int] = field(default_factory=list)
    _recent: list[int] = field(default_factory=list)

    def prepare(self, extradata: bytes) -> None:
        """Parameter sets that came beside the stream (SDP), in Annex B form."""
        self._take_sets(split_nals(extradata))

    def take(self, data: bytes, pts: int | None, came_s: float, *, key: bool) -> Fragment | None:
        """One coded picture (Annex B), shown at `pts` ticks of the stream's clock; it came at `came_s` of a steady clock.

        None until the first key picture with its parameter sets. `opening` is new after a change of the parameter sets.
        Raises FragmentError for parameter sets that cannot be read.
        """
        nals = split_nals(data)
        if key:
            self._take_sets(nals)
        kept = [nal for nal in nals if nal[0] & 0x1F not in (NAL_SPS, NAL_PPS, 9, 12)]
        if self.opening is None or not kept or (self._base is None and not key):
            return None
        shown = self._time(pts, came_s, key=key)
        decoded = self._order(shown)
        self._count += 1
        body = write_fragment(self._count, decoded, shown, self._step, kept, key=key)
        return Fragment(body, shown / TIMESCALE, key)

    def _take_sets(self, nals: Sequence[bytes]) -> None:
        sps = next((nal for nal in nals if nal[0] & 0x1F == NAL_SPS), self._sets[0])
        pps = next((nal for nal in nals if nal[0] & 0x1F == NAL_PPS), self._sets[1])
        if sps and pps and (sps, pps) != self._sets:
            self._sets = (sps, pps)
            self.opening = write_opening(sps, pps)

    def _time(self, pts: int | None, came_s: float, *, key: bool) -> int:
        """When it is shown, in ticks of the medium's clock."""
        if self._base is None:
            self._base = pts or 0
            self._last_pts, self._last_came = pts or 0, came_s
            return 0
        passed = round((came_s - self._last_came) * TIMESCALE)
        if pts is None:
            pts = self._last_pts + self._step
        moved = pts - self._last_pts
        if abs(moved - passed) > 10 * TIMESCALE or (moved <= 0 and key):  # its clock was set, or it began anew
            self._base = pts - max(self._last_decoded, self._last_shown) - max(passed, self._step)
            self._ahead.clear()
            self._recent.clear()
            moved = self._step
        if 0 < moved < _LONGEST_STEP and not self._depth:
            self._steps = [*self._steps[-7:], moved]
            self._step = min(self._steps)  # one late picture makes no other one seem long
        self._last_pts, self._last_came = pts, came_s
        self._last_shown = max(0, pts - self._base)
        return self._last_shown

    def _order(self, shown: int) -> int:
        """When it is decoded: not later than shown once it is known how many pictures come out of order, after the one before,
        and never more than two of its durations after it: a browser would take that for a break, and drop everything up to
        the next key picture (Media Source Extensions, coded frame processing). It catches up with the next pictures.
        """
        out_of_order = sum(other > shown for other in self._recent)
        self._recent = [*self._recent[-(_MOST_REORDERED - 1) :], shown]
        self._depth = max(self._depth, out_of_order)
        heapq.heappush(self._ahead, shown)
        decoded = heapq.heappop(self._ahead) if len(self._ahead) > self._depth else self._last_decoded + 1
        if self._last_decoded >= 0:
            decoded = min(decoded, self._last_decoded + 2 * self._last_step - 1)
        self._last_decoded = max(decoded, self._last_decoded + 1)
        self._last_step = self._step
        return self._last_decoded
