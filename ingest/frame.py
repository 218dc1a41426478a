"""What a capture gives: pictures, and how it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ingest.fault import CaptureFault


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One decoded frame. `seq` counts from 1 over all reconnects; `pts_s` is the stream's own time, if it says one;
    `key`: coded without reference to others."""

    seq: int
    received_at: datetime
    pts_s: float | None
    key: bool
    video_frame: VideoFrame

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, BGR. Converted here, for the frames that are really looked at."""
        return np.asarray(self.video_frame.to_ndarray(format="bgr24"), np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureStatus:
    """How a capture is doing. `fault` and `text` say why it has no frames; None while it has."""

    connected: bool
    fault: CaptureFault | None
    text: str
    frames: int
    connections: int
    newest_at: datetime | None
    fps: float
