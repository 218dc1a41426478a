"""Coded pictures as they come, kept undecoded: the last seconds of a camera in memory, and files remuxed from them.

Times in a stream are not to be trusted: the first packet has none, streams with B-pictures have no decoding times, clocks
jump. What is kept has the wall-clock instant at which each packet came; a file's times are made from both.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.error

CODECS = {"h264": (7, 8), "hevc": (32, 33, 34)}
"""What can be kept, and the NAL unit types of its parameter sets (H.264 table 7-1; H.265 table 7-1)."""

TICKS_PER_S = 90_000
JUMP_S = 10.0
"""A stream whose own time and the wall's part by so much at once has a new time from there on."""
SETS_WITHIN_BYTES = 2_000
"""Parameter sets stand at the beginning of a key picture."""
USUAL_TICKS = TICKS_PER_S // 25
LONGEST_GOP_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What a decoder must know beforehand: the coding, and its parameter sets in Annex B form."""

    codec: str
    sets: bytes


@dataclass(frozen=True, slots=True)
class CodedPacket:
    """One coded picture. `pts`: 1/90,000 s of the stream's own time. `run` changes where that time or the shape does."""

    data: bytes
    pts: int | None
    key: bool
    received_at: datetime
    run: int
    shape: Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A file that was written. `began_at`: when its first picture came."""

    began_at: datetime
    seconds: float
    codec: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDone:
    """The answer to a clip that was asked for. `error`: a stable code, "" when `ok`; the rest is of the file then."""

    id: str
    path: Path
    ok: bool
    error: str = ""
    began_at: datetime | None = None
    seconds: float = 0.0
    codec: str = ""
    width: int = 0
    height: int = 0


class Intake:
    """Makes kept packets of those that come over one camera's connections. For one thread."""

    def __init__(self) -> None:
        self._run = 0
        self._shape: Shape | None = None
        self._usable = False
        self._behind_s: float | None = None

    def open(self, codec: str, extradata: bytes | None) -> None:
        """A new connection begins."""
        self._run += 1
        self._behind_s = None
        self._usable = False
        sets = bytes(extradata or b"")
        self._shape = Shape(codec, sets) if codec in CODECS else None

    def take(self, packet: Any, received_at: datetime) -> CodedPacket | None:
        """The packet to keep; None for one that nothing can begin with, or of a coding that is not kept."""
        if self._shape is None or not packet.size:
            return None
        data, key = bytes(packet), bool(packet.is_keyframe)
        pts = None
        if packet.pts is not None:
            pts = round(packet.pts * packet.time_base * TICKS_PER_S)
            behind_s = received_at.timestamp() - pts / TICKS_PER_S
            if self._behind_s is not None and abs(behind_s - self._behind_s) > JUMP_S:
                self._run, self._usable = self._run + 1, False
            self._behind_s = behind_s
        if key:
            sets = find_sets(data, self._shape.codec)
            if sets and sets != self._shape.sets:
                self._shape, self._run = Shape(self._shape.codec, sets), self._run + 1
            self._usable = True
        return CodedPacket(data, pts, key, received_at, self._run, self._shape) if self._usable else None


class PacketRing:
    """The last packets of a camera, always from a key picture on: at least `seconds` of them, at most `limit_bytes`."""

    def __init__(self, seconds: float, limit_bytes: int) -> None:
        self._span = timedelta(seconds=seconds)
        self._limit_bytes = limit_bytes
        self._gops: deque[list[CodedPacket]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, packet: CodedPacket) -> None:
        """Keep one more."""
        with self._changed:
            if packet.key or not self._gops:
                self._gops.append([])
            self._gops[-1].append(packet)
            self._bytes += len(packet.data)
            while len(self._gops) > 1 and (
                self._bytes > self._limit_bytes or self._gops[1][0].received_at <= packet.received_at - self._span
            ):
                self._forget_first()
            if self._bytes > self._limit_bytes:  # one endless group of pictures
                self._forget_first()
            self._changed.notify_all()

    def _forget_first(self) -> None:
        self._bytes -= sum(len(packet.data) for packet in self._gops.popleft())

    @property
    def size_bytes(self) -> int:
        """Bytes of what is kept."""
        with self._changed:
            return self._bytes

    def wait_until(self, instant: datetime, timeout_s: float) -> bool:
        """Wait for a packet that came at `instant` or later; False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._gops) and self._gops[-1][-1].received_at >= instant, timeout_s
            )

    def cut(self, from_at: datetime, until_at: datetime) -> list[CodedPacket]:
        """What came between two instants, from the key picture before on. Of one shape: that which has the most of it."""
        with self._changed:
            begin = 0
            for index, gop in enumerate(self._gops):
                if gop[0].key and gop[0].received_at <= from_at:
                    begin = index
            found = [packet for gop in list(self._gops)[begin:] for packet in gop if packet.received_at <= until_at]
        by_shape: dict[Shape, list[CodedPacket]] = {}
        for packet in found:
            by_shape.setdefault(packet.shape, []).append(packet)
        best = max(by_shape.values(), key=lambda some: sum(p.received_at >= from_at for p in some), default=[])
        while best and not best[0].key:
            best.pop(0)
        return best if best and best[-1].received_at >= from_at else []


def find_sets(data: bytes, codec: str) -> bytes:
    """The parameter sets at the beginning of a key picture (Annex B), with start codes; b"" when they are not all there."""
    wanted = CODECS[codec]
    found: dict[int, bytes] = {}
    head = data[:SETS_WITHIN_BYTES]
    start = head.find(b"\x00\x00\x01")
    while start >= 0:
        following = head.find(b"\x00\x00\x01", start + 3)
        nal = head[start + 3 : following if following >= 0 else len(head)]
        if nal and following >= 0:
            kind = nal[0] & 0x1F if codec == "h264" else nal[0] >> 1 & 0x3F
            if kind in wanted:
                found.setdefault(kind, nal.rstrip(b"\x00"))
        start = following
    return b"".join(b"\x00\x00\x00\x01" + found[kind] for kind in wanted) if len(found) == len(wanted) else b""


def time_packets(packets: Sequence[CodedPacket], depth: int = 0) -> tuple[list[tuple[int, int]], int]:
    """Presentation and decoding time of each, ticks since the first came; and the depth of reordering that was met.

    `depth`: of earlier packets of the same stream. Every run has the stream's own time, set against the instant at which it
    began; one that has none has the times at which the packets came.
    """
    first_at = packets[0].received_at
    shown: list[int] = []
    begin = 0
    while begin < len(packets):
        end = begin + 1
        while end < len(packets) and packets[end].run == packets[begin].run:
            end += 1
        offset = round((packets[begin].received_at - first_at).total_seconds() * TICKS_PER_S)
        if shown:
            offset = max(offset, max(shown) + 1)
        shown += [offset + ticks for ticks in _time_run(packets[begin:end])]
        begin = end
    in_order = sorted(shown)
    for index, ticks in enumerate(shown):
        ahead = sum(before > ticks for before in shown[max(0, index - 16) : index])
        depth = max(depth, ahead)
    usual = _usual_step(in_order)
    result: list[tuple[int, int]] = []
    last = None
    for index, ticks in enumerate(shown):
        decoded = in_order[index - depth] if index >= depth else in_order[0] - (depth - index) * usual
        if last is not None and decoded <= last:
            decoded = last + 1
        last = decoded
        result.append((max(ticks, decoded), decoded))
    return result, depth


def _time_run(packets: Sequence[CodedPacket]) -> list[int]:
    """Ticks of each packet's showing since the first one's."""
    known = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(packets) > 1 and len(known) >= len(packets) - 1 and len(set(known)) > len(known) // 2:
        step = _usual_step(known)
        times = [known[0] - step if packet.pts is None else packet.pts for packet in packets]
        return [ticks - times[0] for ticks in times]
    began_at = packets[0].received_at
    return [round((packet.received_at - began_at).total_seconds() * TICKS_PER_S) for packet in packets]


def _usual_step(in_order: Sequence[int]) -> int:
    steps = sorted(b - a for a, b in pairwise(in_order) if b > a)
    return steps[len(steps) // 2] if steps else USUAL_TICKS


class Mp4File:
    """An MP4 file that is being written: remuxed, whole under its name only after `finish`. Raises OSError, av errors."""

    def __init__(self, path: Path, first: CodedPacket, *, in_fragments: bool = False) -> None:
        """`in_fragments`: playable as far as it was written if it is never finished; longer to open."""
        self.path = path
        self._partial = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(io.BytesIO(first.shape.sets + first.data), format=first.shape.codec) as raw:
            template = raw.streams.video[0]
            self.width, self.height = template.codec_context.width, template.codec_context.height
            options = {"movflags": "faststart"}
            if in_fragments:
                options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
            self._output = av.open(str(self._partial), "w", format="mp4", options=options)
            try:
                self._stream = self._output.add_stream_from_template(template)
                if first.shape.codec == "hevc":
                    self._stream.codec_context.codec_tag = "hvc1"  # the one that every browser takes
            except BaseException:
                self.discard()
                raise
        self._first_at = first.received_at
        self._last: tuple[int, int] | None = None
        self._depth = 0
        self._step = USUAL_TICKS
        self.codec = first.shape.codec
        self.size_bytes = 0

    @property
    def seconds(self) -> float:
        """From the first picture to the end of the last."""
        return (self._last[0] + self._step) / TICKS_PER_S if self._last is not None else 0.0

    def write(self, packets: Sequence[CodedPacket]) -> None:
        """Add packets; the first of a group of pictures begins them."""
        times, self._depth = time_packets(packets, self._depth)
        offset = round((packets[0].received_at - self._first_at).total_seconds() * TICKS_PER_S)
        if self._last is not None:
            # the stream's own rhythm goes on over the border of two writings, as long as the wall's clock agrees
            offset = self._last[0] + self._step if abs(offset - self._last[0]) < TICKS_PER_S else offset
            offset = max(offset, self._last[1] + 1 - times[0][1])
        for packet, (shown, decoded) in zip(packets, times, strict=True):
            self._mux(packet, offset + shown, offset + decoded)
        in_order = sorted(shown for shown, _ in times)
        self._step = _usual_step(in_order)
        self._last = (offset + in_order[-1], offset + times[-1][1])

    def _mux(self, packet: CodedPacket, shown: int, decoded: int) -> None:
        made: Any = av.Packet(packet.data)
        made.stream = self._stream
        made.time_base = Fraction(1, TICKS_PER_S)
        made.pts, made.dts, made.is_keyframe = shown, decoded, packet.key
        self._output.mux(made)
        self.size_bytes += len(packet.data)

    def finish(self) -> Written:
        """Close it, and put it under its name: whole or not at all, and lasting."""
        self._output.close()
        with self._partial.open("rb+") as file:
            os.fsync(file.fileno())
        self._partial.chmod(0o600)
        self._partial.replace(self.path)
        _sync_folder(self.path.parent)
        return Written(
            began_at=self._first_at, seconds=round(self.seconds, 3), codec=self.codec, width=self.width,
            height=self.height,
        )  # fmt: skip

    def discard(self) -> None:
        """Leave nothing behind."""
        try:
            self._output.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass
        finally:
            self._partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_clip(packets: Sequence[CodedPacket], path: Path) -> Written:
    """Packets of one shape, from a key picture on, as an MP4. Raises OSError, av.error.FFmpegError."""
    file = Mp4File(path, packets[0])
    try:
        file.write(packets)
        return file.finish()
    except BaseException:
        file.discard()
        raise


class ClipDesk:
    """Clips asked for and answered. Each is written in a thread of its own as soon as the ring has reached its end."""

    MOST = 16
    PATIENCE_S = 4.0
    """How much later than its end a clip is written from what there is: the camera may be gone."""

    def __init__(self, ring: PacketRing, now: Callable[[], datetime]) -> None:
        self._ring = ring
        self._now = now
        self._lock = threading.Lock()
        self._done: list[ClipDone] = []
        self._waiting = 0

    def save(self, clip_id: str, from_at: datetime, until_at: datetime, path: Path) -> None:
        """Ask for a clip; its answer comes by `take`."""
        with self._lock:
            if self._waiting >= self.MOST:
                self._done.append(ClipDone(id=clip_id, path=path, ok=False, error="too_many"))
                return
            self._waiting += 1
        threading.Thread(
            target=self._run, args=(clip_id, from_at, until_at, path), name="clip", daemon=True
        ).start()  # fmt: skip

    def take(self) -> list[ClipDone]:
        """The answers since the last time."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def _run(self, clip_id: str, from_at: datetime, until_at: datetime, path: Path) -> None:
        wait_s = (until_at - self._now()).total_seconds() + self.PATIENCE_S
        self._ring.wait_until(until_at, max(0.0, min(wait_s, 120.0)))
        done = ClipDone(id=clip_id, path=path, ok=False, error="nothing_kept")
        try:
            packets = self._ring.cut(from_at, until_at)
            if packets:
                written = write_clip(packets, path)
                done = ClipDone(
                    id=clip_id, path=path, ok=True, began_at=written.began_at, seconds=written.seconds,
                    codec=written.codec, width=written.width, height=written.height,
                )  # fmt: skip
        except av.error.FFmpegError as error:
            full = isinstance(error, OSError) and error.errno is not None and not isinstance(error, ValueError)
            done = ClipDone(id=clip_id, path=path, ok=False, error="disk" if full else "broken")
        except OSError:
            done = ClipDone(id=clip_id, path=path, ok=False, error="disk")
        finally:
            with self._lock:
                self._waiting -= 1
                self._done.append(done)
