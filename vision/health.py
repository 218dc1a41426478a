"""Can this camera be believed? Light, contrast, frozen pictures, a view that moved or is blocked.

The figures feed the camera kind's alarm rules and decide whether a closure check may say anything at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import cv2
import numpy as np

from vision.motion import Grey, Grey32

BLACK_LUMA = 16.0
BLACK_CONTRAST = 12.0
"""Of 255: a lens that is covered, or a night without a lamp. A dark street still has contrast."""

SAME_LEVELS = 0.1
"""Mean difference, in grey levels of the thumbnail, up to which two key frames are one picture coded twice.

Only key frames are compared: between them a coder leaves out the noise that tells a live picture from a frozen one.
Measured on H.264 of rendered streets with noise of 1 to 4 levels, in full size: key frames of a frozen stream differ by
0.00 in two of three cases (the rate control codes some a little differently), those of a live one by 1.3 at least."""

MOVED_LEVELS = 20
MOVED_POINTS = 12
"""So many points of the thumbnail differ so much: something moved."""

REMEMBERED = 8
MAX_MISSES = 3
"""So many key frames in a row that repeat nothing end a freeze."""

VIEW_SIZE = (64, 36)
VIEW_S = 60.0
"""Time constant with which the remembered view follows: day turns to evening, but a turned camera is noticed."""

VIEW_LIKENESS = 0.35
PLAIN_VIEW = 0.5
"""Spread of edge strength (square root of grey levels) under which a view has no features."""

BLUR_SHARE = 0.15
"""A picture with less than this share of its usual sharpness is blocked or out of focus."""


class Blindness(StrEnum):
    """Why a picture says nothing; stable codes, also the detail of an inconclusive check."""

    OFFLINE = "offline"
    DARK = "dark"
    FROZEN = "frozen"
    BLOCKED = "blocked"
    MOVED = "moved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Figures of one picture. luma, contrast: 0..255; sharpness: variance of the Laplacian; frozen_s: since when
    the same picture comes; likeness: -1..1 against the remembered view, 1 when none is remembered."""

    luma: float
    contrast: float
    sharpness: float
    frozen_s: float
    likeness: float
    usual_sharpness: float

    def blindness(self, frozen_after_s: float) -> Blindness | None:
        """Why the rules are not shown this picture; None when they are."""
        if self.luma < BLACK_LUMA and self.contrast < BLACK_CONTRAST:
            return Blindness.DARK
        if self.frozen_s >= frozen_after_s:
            return Blindness.FROZEN
        return None

    def doubt(self, frozen_after_s: float) -> Blindness | None:
        """Why this picture must not say that something is gone: stricter than `blindness`."""
        blind = self.blindness(frozen_after_s)
        if blind is not None:
            return blind
        if self.sharpness < BLUR_SHARE * self.usual_sharpness:
            return Blindness.BLOCKED
        if self.likeness < VIEW_LIKENESS:
            return Blindness.MOVED
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthState:
    """The key frames seen lately (grey thumbnails), since when they repeat, and the usual view (edges, (36, 64))."""

    pictures: tuple[tuple[datetime, Grey], ...] = ()
    repeats_since_at: datetime | None = None
    misses: int = 0
    view: Grey32 | None = None
    usual_sharpness: float = 0.0
    measured_at: datetime | None = None


def measure_health(
    state: HealthState, thumbnail: Grey, now: datetime, *, key: bool = True
) -> tuple[HealthState, Health]:
    """The figures of one grey thumbnail (180, 320), and what to remember. `key`: it was coded without the others."""
    mean, deviation = cv2.meanStdDev(thumbnail)
    luma, contrast = float(mean[0, 0]), float(deviation[0, 0])
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(thumbnail, cv2.CV_32F))[1][0, 0] ** 2)
    state = watch_repeats(state, thumbnail, now, key=key)
    since_at = state.repeats_since_at
    view = edges(thumbnail)
    # a view without edges (bare asphalt) is like anything: nothing can be said by it
    plain = state.view is None or float(state.view.std()) < PLAIN_VIEW
    likeness = 1.0 if state.view is None or plain else _correlate(state.view, view)
    health = Health(
        luma=luma,
        contrast=contrast,
        sharpness=sharpness,
        frozen_s=0.0 if since_at is None else (now - since_at).total_seconds(),
        likeness=likeness,
        usual_sharpness=state.usual_sharpness,
    )
    return _remember(state, health, view, now), health


def watch_repeats(state: HealthState, thumbnail: Grey, now: datetime, *, key: bool) -> HealthState:
    """Does this picture repeat an earlier one? A live camera's key frames never do, for their noise; a frozen one's do."""
    if state.pictures and _has_body(np.asarray(cv2.absdiff(thumbnail, state.pictures[-1][1]), np.uint8)):
        return replace(state, pictures=((now, thumbnail),) if key else (), repeats_since_at=None, misses=0)
    if not key:
        return state
    for at, picture in state.pictures:
        if float(cv2.mean(cv2.absdiff(thumbnail, picture))[0]) <= SAME_LEVELS:
            return replace(state, repeats_since_at=state.repeats_since_at or at, misses=0)
    misses = state.misses + 1
    return replace(
        state,
        pictures=(*state.pictures[-(REMEMBERED - 1) :], (now, thumbnail)),
        repeats_since_at=state.repeats_since_at if misses < MAX_MISSES else None,
        misses=misses,
    )


def _has_body(difference: Grey) -> bool:
    return int(cv2.countNonZero(cv2.threshold(difference, MOVED_LEVELS, 1, cv2.THRESH_BINARY)[1])) >= MOVED_POINTS


def edges(thumbnail: Grey) -> Grey32:
    """Strength of edges, (36, 64) float32: what stays of a view when the light changes."""
    grey = cv2.GaussianBlur(thumbnail, (3, 3), 0)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.sqrt(cv2.magnitude(across, down))
    return np.asarray(cv2.resize(strength, VIEW_SIZE, interpolation=cv2.INTER_AREA), np.float32)


def _correlate(first: Grey32, second: Grey32) -> float:
    one, two = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float((one * two).sum() / scale) if scale > 1e-6 else 0.0


def _remember(state: HealthState, health: Health, view: Grey32, now: datetime) -> HealthState:
    """The usual view follows slowly, and not while there is nothing to be seen."""
    if health.luma < BLACK_LUMA and health.contrast < BLACK_CONTRAST:
        return replace(state, measured_at=now)
    if state.view is None or state.measured_at is None:
        return replace(state, view=view, usual_sharpness=health.sharpness, measured_at=now)
    elapsed_s = min(max(0.0, (now - state.measured_at).total_seconds()), 5.0)
    weight = 1 - np.exp(-elapsed_s / VIEW_S)
    usual = state.usual_sharpness + float(weight) * (health.sharpness - state.usual_sharpness)
    return replace(
        state,
        view=np.asarray(state.view + weight * (view - state.view), np.float32),
        usual_sharpness=usual,
        measured_at=now,
    )
