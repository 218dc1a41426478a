"""One picture of a camera that is captured already, at once: the newest key picture, decoded alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ingest.outlet import Tap


def take_poster(outlet: Path) -> tuple[VideoFrame, datetime] | None:
    """The newest key picture and when it came; None where nobody captures the camera, or nothing came lately."""
    try:
        tap = Tap(outlet)
    except OSError:
        return None
    try:
        packet = next(tap.read(), None)
    finally:
        tap.close()
    if packet is None:
        return None
    decoder = av.CodecContext.create(packet.shape.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(av.Packet(packet.shape.sets + packet.data)), *decoder.decode(None)]
    except av.error.FFmpegError:
        return None
    return (frames[0], packet.received_at) if frames and isinstance(frames[0], VideoFrame) else None
