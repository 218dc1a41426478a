"""A cheap look at whether anything changed, to spare the detector.

It gates computing and never state: a still picture is looked at less often, but it is looked at, and the rules
only ever hear of real looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.model import Picture

THUMBNAIL = (320, 180)
CHANGE_LEVELS = 14
"""Grey levels by which a point must differ from the background: above the noise of a camera at night."""

MIN_POINTS = 6
"""Of the thumbnail: a person 24 px high in a picture of 640 by 360 covers about 60."""

BACKGROUND_S = 4.0
LINGER_S = 2.0
"""After the last motion the camera is looked at closely for this long."""

Grey = NDArray[np.uint8]
Grey32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionState:
    """The slowly following background (a grey thumbnail) and when something last moved."""

    background: Grey32 | None = None
    judged_at: datetime | None = None
    moved_at: datetime | None = None


def shrink(picture: Picture) -> Grey:
    """Grey thumbnail, (180, 320) uint8, whatever the size of the picture."""
    # one channel is averaged, not three: half the time, and the same within one grey level
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8)


def judge_motion(state: MotionState, thumbnail: Grey, now: datetime) -> tuple[MotionState, bool]:
    """The new state, and whether something moved in this thumbnail."""
    grey = thumbnail.astype(np.float32)
    if state.background is None or state.judged_at is None:
        return MotionState(background=grey, judged_at=now, moved_at=now), True
    changed = cv2.threshold(cv2.absdiff(grey, state.background), CHANGE_LEVELS, 1.0, cv2.THRESH_BINARY)[1]
    # single points are noise and rain: what counts has a body
    moved = int(cv2.countNonZero(cv2.erode(changed, np.ones((2, 2), np.uint8)))) >= MIN_POINTS
    elapsed_s = max(0.0, (now - state.judged_at).total_seconds())
    weight = float(1 - np.exp(-elapsed_s / BACKGROUND_S))
    background = state.background + weight * (grey - state.background)
    state = replace(state, background=np.asarray(background, np.float32), judged_at=now)
    return (replace(state, moved_at=now), True) if moved else (state, False)


def next_look_s(state: MotionState, now: datetime, *, fps: float, idle_fps: float) -> float:
    """Seconds that should lie between two looks of the detector at this moment."""
    lively = state.moved_at is None or (now - state.moved_at).total_seconds() <= LINGER_S
    return 1 / fps if lively else 1 / min(fps, idle_fps)
