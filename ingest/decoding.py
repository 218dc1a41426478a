"""Which pictures of a stream are decoded: what is not wanted is left coded."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import av.error
from av.video.frame import VideoFrame


class Decode(StrEnum):
    """Which pictures of a stream are decoded."""

    ALL = "all"
    REFERENCED = "referenced"  # without those that no other needs
    KEY = "key"  # only those coded without reference to others


class Decoding:
    """The decoder of one connection, fed with what is wanted."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._gap = False

    def take(self, packet: Any, wanted: Decode) -> Iterator[VideoFrame]:
        """The pictures that a packet completes."""
        if wanted is Decode.KEY:
            self._gap = True
            if packet.is_keyframe:
                self._context.skip_frame = "DEFAULT"
                yield from decode(packet)
                for frame in _drain(self._context):
                    frame.time_base = packet.time_base  # the decoder alone does not know it
                    yield frame
            return
        if self._gap and not packet.is_keyframe:
            return  # what it refers to was not decoded
        self._gap = False
        self._context.skip_frame = "NONREF" if wanted is Decode.REFERENCED else "DEFAULT"
        yield from decode(packet)


def _drain(context: Any) -> Iterator[VideoFrame]:
    """What the decoder still holds back to put pictures in order: a key picture alone would wait for the next ones."""
    try:
        yield from context.decode(None)
    except av.error.FFmpegError:
        pass
    finally:
        context.flush_buffers()


def decode(packet: Any) -> Iterator[VideoFrame]:
    """Frames of a packet. A damaged one (a lost datagram) costs its frame, not the connection."""
    try:
        yield from packet.decode()
    except av.error.InvalidDataError:
        return
