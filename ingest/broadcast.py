"""A camera's H.264 packets as they come, made into fragments for browsers: taken apart once, decoded only at key pictures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ingest.decoding import Decode
from ingest.fault import CaptureFault
from ingest.fragment import Fragment, Fragmenter, FragmentError, Opening
from ingest.outlet import Tap
from ingest.packets import CodedPacket
from ingest.rtsp import Capture
from kernel.settings import CameraSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """One picture of the stream; `opening` with the first and wherever the coding changes."""

    fragment: Fragment
    received_at: datetime
    opening: Opening | None


class Broadcast:
    """One pull. `deliver` is called in the reading thread and must not wait.

    Where another process of this machine captures the camera its packets are taken from there, from the newest key picture on;
    where none does, or no more, the camera is opened.
    """

    def __init__(
        self,
        url: str,
        settings: CameraSettings,
        now: Callable[[], datetime],
        deliver: Callable[[Piece], None],
        outlet: Path | None = None,
    ) -> None:
        """`outlet`: where the packets may be had (`ingest.outlet.outlet_path`)."""
        self._deliver = deliver
        self._now = now
        self._outlet = outlet
        self._fragmenter = Fragmenter()
        self._told: Opening | None = None
        self._run = -1
        self._shift = 0
        self.codec: str | None = None
        """As the video library names it, once it is known."""
        self.unreadable = False
        """It is H.264, but its parameter sets cannot be read."""
        self._tap: Tap | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._capture = Capture(
            url,
            allowed_networks=settings.allowed_networks,
            now=now,
            transport=settings.transport,
            open_timeout_s=settings.open_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            listen_s=0.1,  # the first picture is waited for by somebody
            on_packet=self._take,
        )
        self._capture.want(Decode.KEY)

    @property
    def shown(self) -> str:
        """Its address without user and password."""
        return self._capture.shown

    def start(self) -> None:
        """Begin; returns at once."""
        if self._outlet is None:
            self._capture.start()
        else:
            threading.Thread(target=self._follow, args=(self._outlet,), name="live-tap", daemon=True).start()

    def close(self, timeout_s: float = 0.2) -> None:
        """End the pull; does not wait for a camera that hangs."""
        with self._lock:
            self._closed = True
            if self._tap is not None:
                self._tap.close()
        self._capture.close(timeout_s)

    def fault(self) -> CaptureFault | None:
        """Why nothing comes."""
        return self._capture.status().fault

    def is_other_codec(self) -> bool:
        """Pictures come that are neither H.264 nor H.265."""
        return self.codec is None and self._capture.newest() is not None

    def _follow(self, outlet: Path) -> None:
        try:
            tap = Tap(outlet)
        except OSError:  # nobody captures it
            tap = None
        with self._lock:
            self._tap = tap
            if self._closed and tap is not None:
                tap.close()
        if tap is not None:
            for packet in tap.read():
                self._take(packet)
        with self._lock:
            if not self._closed:
                self._shift = self._run + 1  # what comes now has another time of its own
                self._capture.start()

    def _take(self, packet: CodedPacket) -> None:
        self.codec = packet.shape.codec
        run = packet.run + self._shift
        fresh = run != self._run
        if fresh:
            self._run, self.unreadable = run, False
        if self.codec != "h264" or self.unreadable:
            return
        came_s = time.monotonic() - max(0.0, (self._now() - packet.received_at).total_seconds())
        try:
            if fresh:
                self._fragmenter.prepare(packet.shape.sets)
            fragment = self._fragmenter.take(packet.data, packet.pts, came_s, key=packet.key)
        except FragmentError as error:
            log.warning("camera %s: %s", self.shown, error)
            self.unreadable = True
            return
        if fragment is None:
            return
        opening = self._fragmenter.opening
        self._deliver(Piece(fragment, packet.received_at, None if opening is self._told else opening))
        self._told = opening
