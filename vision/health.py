"""Can this camera be believed? Light, contrast, frozen pictures, a view that is covered, blurred or moved.

The figures feed the camera kind's alarm rules, suspend the zones, and decide whether a closure check may say anything at all.
A view is compared by its edges, which stay when the light changes: how alike they are, and by how far they are shifted (phase
correlation, Kuglin and Hines 1975). The usual view is learnt only from pictures that show it, so a camera that was turned
stays turned until it is back or somebody confirms the new view.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import cv2
import numpy as np

from vision.model import Picture
from vision.motion import Grey, Grey32, shrink

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
VIEW_SHIFT = 0.9
"""In cells of the view (a 64th of the width): measured on rendered streets the same view in any light is off by at most 0.4, one
turned by 2 % of the width by 1.1 and more."""

SHIFT_PEAK = 0.4
"""Height of the correlation's peak from which a shift is believed; the same view in another light gives 0.4 to 1."""

FAR_PEAK = 0.3
"""Where the view is also little like: after a wide turn only the part that both views share can agree."""

SAME_PEAK = 0.25
"""A peak of this height without a shift: the same view, however much of it is hidden or snowed in."""

PLAIN_VIEW = 0.5
"""Spread of edge strength (square root of grey levels) under which a view has no features."""

BLUR_SHARE = 0.08
"""A picture with less than this share of its usual sharpness is covered or out of focus. Rendered streets: out of focus by
three pixels of 640 leaves 0.03, sudden fog 0.14."""

SUSPEND_S = 3.0
"""Blurred, covered or moved for so long: the rules are not shown these pictures."""

MOVED_S = 30.0
"""Another view for so long is a camera that was turned; a bus that fills the picture has gone on by then."""

BACK_LIKENESS = 0.5
BACK_S = 2.0


class Blindness(StrEnum):
    """Why a picture says nothing; stable codes, also the detail of an inconclusive check."""

    OFFLINE = "offline"
    DARK = "dark"
    FROZEN = "frozen"
    BLOCKED = "blocked"
    """The lens is covered."""
    BLURRED = "blurred"
    MOVED = "moved"
    """Another view than before; the zones are suspended until it is back or confirmed."""
    TURNING = "turning"
    """A moving camera on its way, or at no view that it was taught."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Figures of one picture. luma, contrast: 0..255; sharpness: variance of the Laplacian; frozen_s: since when
    the same picture comes; likeness: -1..1 against the usual view, 1 when none is known; shift: share of the width by
    which the view is off, 0 when that cannot be told. `trouble` is what is wrong with this picture and `trouble_s` for how long
    it has been; `moved`: the view was another one for `MOVED_S`, and neither came back nor was confirmed."""

    luma: float
    contrast: float
    sharpness: float
    frozen_s: float
    likeness: float
    usual_sharpness: float
    shift: float = 0.0
    trouble: Blindness | None = None
    trouble_s: float = 0.0
    moved: bool = False
    moved_s: float = 0.0

    def blindness(self, frozen_after_s: float) -> Blindness | None:
        """Why the rules are not shown this picture; None when they are."""
        if self.trouble is Blindness.DARK:
            return Blindness.DARK
        if self.frozen_s >= frozen_after_s:
            return Blindness.FROZEN
        if self.moved:
            return Blindness.MOVED
        return self.trouble if self.trouble_s >= SUSPEND_S else None

    def doubt(self, frozen_after_s: float) -> Blindness | None:
        """Why this picture must not say that something is gone: stricter than `blindness`."""
        return self.blindness(frozen_after_s) or self.trouble

    def lasting_s(self, trouble: Blindness) -> float:
        """For how long the picture has been so."""
        if trouble is Blindness.MOVED and self.moved:
            return self.moved_s
        return self.trouble_s if self.trouble is trouble else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthState:
    """The key frames seen lately (grey thumbnails), since when they repeat, the usual view (edges, (36, 64)), and what has
    been wrong since when."""

    pictures: tuple[tuple[datetime, Grey], ...] = ()
    repeats_since_at: datetime | None = None
    misses: int = 0
    view: Grey32 | None = None
    usual_sharpness: float = 0.0
    measured_at: datetime | None = None
    trouble: Blindness | None = None
    trouble_since_at: datetime | None = None
    moved_since_at: datetime | None = None
    """Set when a view is taken for turned; the instant at which it began."""
    back_since_at: datetime | None = None


def measure_health(
    state: HealthState, thumbnail: Grey, now: datetime, *, key: bool = True
) -> tuple[HealthState, Health]:
    """The figures of one grey thumbnail (180, 320), and what to remember. `key`: it was coded without the others."""
    mean, deviation = cv2.meanStdDev(thumbnail)
    luma, contrast = float(mean[0, 0]), float(deviation[0, 0])
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(thumbnail, cv2.CV_32F))[1][0, 0] ** 2)
    state = watch_repeats(state, thumbnail, now, key=key)
    view = edges(thumbnail)
    # a view without edges (bare asphalt) is like anything: nothing can be said by it
    plain = state.view is None or float(state.view.std()) < PLAIN_VIEW
    likeness, shift, peak = (1.0, 0.0, 1.0) if state.view is None or plain else compare_views(state.view, view)
    trouble: Blindness | None = None
    if luma < BLACK_LUMA and contrast < BLACK_CONTRAST:
        trouble = Blindness.DARK
    elif sharpness < BLUR_SHARE * state.usual_sharpness:
        trouble = Blindness.BLURRED if likeness >= VIEW_LIKENESS else Blindness.BLOCKED
    elif is_other_view(likeness, shift, peak):
        trouble = Blindness.MOVED
    state = _note_trouble(state, trouble, now, back=likeness >= BACK_LIKENESS and shift <= VIEW_SHIFT)
    since_at = state.repeats_since_at
    health = Health(
        luma=luma,
        contrast=contrast,
        sharpness=sharpness,
        frozen_s=0.0 if since_at is None else (now - since_at).total_seconds(),
        likeness=likeness,
        usual_sharpness=state.usual_sharpness,
        shift=shift / VIEW_SIZE[0] if peak >= SHIFT_PEAK else 0.0,
        trouble=trouble,
        trouble_s=_since(state.trouble_since_at, now),
        moved=state.moved_since_at is not None,
        moved_s=_since(state.moved_since_at, now),
    )
    return _remember(state, health, view, now), health


def is_other_view(likeness: float, shift: float, peak: float) -> bool:
    """Another view: the known one shifted, or nothing like it."""
    if shift > VIEW_SHIFT and peak >= (SHIFT_PEAK if likeness >= BACK_LIKENESS else FAR_PEAK):
        return True
    return likeness < VIEW_LIKENESS and not (shift <= VIEW_SHIFT and peak >= SAME_PEAK)


def compare_views(usual: Grey32, view: Grey32) -> tuple[float, float, float]:
    """Likeness of two views' edges, -1..1; by how many cells the second is shifted; and the height of that peak, 0..1."""
    (across, down), peak = cv2.phaseCorrelate(_flatten(usual), _flatten(view), _WINDOW)
    return _correlate(usual, view), float(np.hypot(across, down)), float(peak)


def confirm_view(state: HealthState) -> HealthState:
    """Somebody says that the view as it is now is the right one: it is learnt from the next picture on."""
    return replace(
        state,
        view=None,
        usual_sharpness=0.0,
        measured_at=None,
        trouble=None,
        trouble_since_at=None,
        moved_since_at=None,
        back_since_at=None,
    )


def _note_trouble(state: HealthState, trouble: Blindness | None, now: datetime, *, back: bool) -> HealthState:
    since_at = state.trouble_since_at if trouble is not None and trouble is state.trouble else None
    since_at = since_at or (now if trouble is not None else None)
    moved_at, back_at = state.moved_since_at, None
    if moved_at is None:
        if trouble is Blindness.MOVED and _since(since_at, now) >= MOVED_S:
            moved_at = since_at
    elif trouble is None and back:
        back_at = state.back_since_at or now
        if _since(back_at, now) >= BACK_S:
            moved_at, back_at = None, None
    return replace(state, trouble=trouble, trouble_since_at=since_at, moved_since_at=moved_at, back_since_at=back_at)


def _since(instant: datetime | None, now: datetime) -> float:
    return 0.0 if instant is None else max(0.0, (now - instant).total_seconds())


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


_WINDOW = cv2.createHanningWindow(VIEW_SIZE, cv2.CV_32F)


def _flatten(view: Grey32) -> Grey32:
    return np.asarray(view - cv2.blur(view, (15, 15)), np.float32)


def pack_view(view: Grey32) -> str:
    """A view as text, for a scene or the database: base64 of 64 by 36 bytes."""
    return base64.b64encode(np.clip(view * 8, 0, 255).astype(np.uint8).tobytes()).decode()


def unpack_view(text: str) -> Grey32:
    """A view from text. Raises ValueError for any other text."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if raw.size != VIEW_SIZE[0] * VIEW_SIZE[1]:
        raise ValueError(f"not a view: {raw.size} bytes instead of {VIEW_SIZE[0] * VIEW_SIZE[1]}")
    return np.asarray(raw.reshape(VIEW_SIZE[1], VIEW_SIZE[0]) / 8, np.float32)


def take_view(picture: Picture) -> str:
    """The view of a picture (H, W, 3) as text, as a preset of a scene holds it."""
    return pack_view(edges(shrink(picture)))


def _correlate(first: Grey32, second: Grey32) -> float:
    one, two = first - first.mean(), second - second.mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float((one * two).sum() / scale) if scale > 1e-6 else 0.0


def _remember(state: HealthState, health: Health, view: Grey32, now: datetime) -> HealthState:
    """The usual view follows slowly, and only while it is the one that is seen."""
    if health.trouble is not None or health.moved:
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
