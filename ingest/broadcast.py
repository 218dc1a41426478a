"""A camera's H.264 packets as they come, made into fragments for browsers: taken apart once, decoded only at key pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ingest.decoding import Decode
from ingest.fault import CaptureFault
from ingest.fragment import Fragment, Fragmenter, FragmentError, Opening
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
    """One pull. `deliver` is called in the reading thread and must not wait."""

    def __init__(
        self, url: str, settings: CameraSettings, now: Callable[[], datetime], deliver: Callable[[Piece], None]
    ) -> None:
        self._deliver = deliver
        self._fragmenter = Fragmenter()
        self._told: Opening | None = None
        self._run = -1
        self.codec: str | None = None
        """As the video library names it, once it is known."""
        self.unreadable = False
        """It is H.264, but its parameter sets cannot be read."""
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
        """Begin to connect; returns at once."""
        self._capture.start()

    def close(self, timeout_s: float = 0.2) -> None:
        """End the pull; does not wait for a camera that hangs."""
        self._capture.close(timeout_s)

    def fault(self) -> CaptureFault | None:
        """Why nothing comes."""
        return self._capture.status().fault

    def is_other_codec(self) -> bool:
        """Pictures come that are neither H.264 nor H.265."""
        return self.codec is None and self._capture.newest() is not None

    def _take(self, packet: CodedPacket) -> None:
        self.codec = packet.shape.codec
        if self.codec != "h264" or self.unreadable:
            return
        try:
            if packet.run != self._run:
                self._run = packet.run
                self._fragmenter.prepare(packet.shape.sets)
            fragment = self._fragmenter.take(packet.data, packet.pts, time.monotonic(), key=packet.key)
        except FragmentError as error:
            log.warning("camera %s: %s", self.shown, error)
            self.unreadable = True
            return
        if fragment is None:
            return
        opening = self._fragmenter.opening
        self._deliver(Piece(fragment, packet.received_at, None if opening is self._told else opening))
        self._told = opening
