"""One simulated camera: one encoder, as many viewers as come, and faults on demand."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from enum import StrEnum
from typing import Protocol

from simulators.rtsp.media import AccessUnit, Media
from simulators.rtsp.rtp import CLOCK_HZ, Packetizer

log = logging.getLogger(__name__)

REPORT_EVERY_S = 5.0
LATE_S = 1.0
"""A camera further behind than this leaves out what it missed instead of hurrying after it."""


class Fault(StrEnum):
    """What is wrong with a camera's stream. A covered lens is the scene's business, not the stream's."""

    NONE = "none"
    FROZEN = "frozen"  # frames keep coming, the picture is the same
    GONE = "gone"  # viewers are cut off, new ones refused
    DELAYED = "delayed"  # every frame arrives `delay_s` late
    SILENT = "silent"  # connections stay and are accepted, nothing comes any more, no end either: half-open
    LOSSY = "lossy"  # a share `loss` of the RTP packets never arrives
    GARBAGE = "garbage"  # packets come, what is in them is noise


class Viewer(Protocol):
    """Somebody who watches: takes packets in the server's thread, never waits."""

    def send(self, packets: list[bytes]) -> None:
        """RTP packets of one picture."""

    def send_report(self, packet: bytes) -> None:
        """An RTCP packet."""

    def end(self, reason: str) -> None:
        """The camera is gone."""


class SimCamera:
    """Draws and encodes in a thread of its own while somebody watches; hands the packets to the server's loop.

    `watch`, `unwatch` and `clock` belong to the loop's thread, `set_fault` and `stop` to any.
    """

    def __init__(self, path: str, media: Media, rng: random.Random) -> None:
        self.path = path
        self.media = media
        self.fault = Fault.NONE
        self.delay_s = 0.0
        self.loss = 0.0
        self._rng = random.Random(rng.getrandbits(32))
        self._next_media: Media | None = None
        self.viewers: dict[Viewer, bool] = {}  # whether it has had a picture to begin with
        self.packetizer = Packetizer(ssrc=rng.getrandbits(32), sequence=rng.getrandbits(16), h265=media.h265)
        self.frame_count = 0
        self._base = rng.getrandbits(32)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched = threading.Event()
        self._key_wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported_at_s = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to serve; called once."""
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name=f"camera-{self.path}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the media."""
        self._stopped.set()
        self._watched.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.media.close()

    def watch(self, viewer: Viewer) -> None:
        """Add a viewer; it is sent nothing before a picture where decoding may begin, which is asked for."""
        self.viewers[viewer] = False
        self._key_wanted.set()
        self._watched.set()

    def unwatch(self, viewer: Viewer) -> None:
        """Take a viewer away; without any, the camera stops drawing."""
        self.viewers.pop(viewer, None)
        if not self.viewers:
            self._watched.clear()

    def set_fault(self, fault: Fault, delay_s: float = 0.0, loss: float = 0.05) -> None:
        """Break the stream, or mend it with Fault.NONE."""
        self.fault, self.delay_s, self.loss = fault, delay_s, loss
        if fault is Fault.GONE and self._loop is not None:
            self._loop.call_soon_threadsafe(self._cut_off)

    def set_media(self, media: Media) -> None:
        """Show something else from now on, in the middle of the stream: another size, as when somebody changes a camera's
        settings. The coding stays. Raises ValueError for another."""
        if media.h265 != self.media.h265:
            raise ValueError("the coding of a running stream cannot change")
        self._next_media = media

    def clock(self) -> tuple[int, int]:
        """Sequence number and RTP timestamp of what comes next."""
        return self.packetizer.sequence, self._timestamp(time.monotonic())

    def _cut_off(self) -> None:
        for viewer in list(self.viewers):
            viewer.end("the camera is gone")
            self.unwatch(viewer)

    def _timestamp(self, monotonic_s: float) -> int:
        return (self._base + round(monotonic_s * CLOCK_HZ)) & 0xFFFFFFFF

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._watched.wait()
            try:
                self._play()
            except Exception:
                log.exception("camera %s cannot draw", self.path)
                self._stopped.wait(1.0)

    def _play(self) -> None:
        began_s = time.monotonic() - self.media.due_s
        while self._watched.is_set() and not self._stopped.is_set():
            due_s = began_s + self.media.due_s
            now_s = time.monotonic()
            if now_s - due_s > LATE_S:
                began_s += now_s - due_s
                due_s = now_s
            elif due_s > now_s and self._stopped.wait(due_s - now_s):
                return
            key = self._key_wanted.is_set()
            if key:
                self._key_wanted.clear()
            if self._next_media is not None:
                self.media.close()
                self.media, self._next_media = self._next_media, None
                return
            unit = self.media.next_unit(time.time(), key=key, repeat=self.fault is Fault.FROZEN)
            self.frame_count += 1
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._hand_over, unit, due_s)

    def _hand_over(self, unit: AccessUnit, due_s: float) -> None:
        if self.fault in (Fault.GONE, Fault.SILENT):
            return
        if self.fault is Fault.DELAYED and self._loop is not None:
            self._loop.call_later(self.delay_s, self._deliver, unit, due_s)
        else:
            self._deliver(unit, due_s)

    def _deliver(self, unit: AccessUnit, due_s: float) -> None:
        nals = unit.nals
        if self.fault is Fault.GARBAGE:
            nals = tuple(self._rng.randbytes(len(nal)) for nal in nals)
        packets = self.packetizer.pack(nals, self._timestamp(due_s + unit.shown_after_s))
        if self.fault is Fault.LOSSY:
            packets = [packet for packet in packets if self._rng.random() >= self.loss]
        report = self._report(due_s)
        for viewer, begun in list(self.viewers.items()):
            if not (begun or unit.key):
                continue
            self.viewers[viewer] = True
            if report is not None or not begun:
                viewer.send_report(report or self._make_report())
            viewer.send(packets)

    def _report(self, due_s: float) -> bytes | None:
        if due_s - self._reported_at_s < REPORT_EVERY_S:
            return None
        self._reported_at_s = due_s
        return self._make_report()

    def _make_report(self) -> bytes:
        return self.packetizer.report(time.time(), self._timestamp(time.monotonic()), f"gridwarden/{self.path}")
