"""How far the photograph of a handling is to be believed: each doubt lowers a score and says why. Pure.

A photograph counts when it was taken now, there, of this place, and is no picture that was shown before. None of this is
certain by itself, so nothing is refused: below ENOUGH an operator decides. All figures are the project's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ENOUGH = 0.5
NEAR_M = 100.0  # about the width of a cell
FAR_M = 500.0
FRESH = timedelta(minutes=15)  # before the handling was told; phones without a network tell later
SLACK = timedelta(minutes=2)  # clocks of phones
SAME_LOOK_BITS = 4  # of 64 that may differ between two versions of one picture
_WEIGHTS = {
    "reused_file": 1.0,
    "reused_look": 0.6,
    "same_as_report": 0.6,
    "before_task": 0.6,
    "not_now": 0.3,
    "camera_time_differs": 0.3,
    "far_away": 0.6,
    "not_at_place": 0.3,
    "nothing_to_see": 0.4,
    "unlike_first": 0.2,
    "unreadable": 0.2,
}
DOUBTS = tuple(_WEIGHTS)

Gray = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What is known of a photograph when it is judged.

    `reused_in` and `looks_like`: numbers of incidents for which the same file, or one of the same look, was shown before.
    `is_even`: there is nothing in it to be seen. `is_like_first`: None when the first picture is no photograph or absent.
    """

    taken_at: datetime
    camera_time: str | None
    offered_at: datetime | None
    handled_at: datetime
    distance_m: float | None
    accuracy_m: float | None
    reused_in: str | None = None
    looks_like: str | None = None
    is_readable: bool = True
    is_even: bool = False
    is_report_picture: bool = False
    is_like_first: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """One reason for not believing it; `weight` is taken off the score."""

    code: str
    weight: float
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """1 believed, 0 not at all."""

    score: float
    doubts: tuple[Doubt, ...]

    @property
    def is_enough(self) -> bool:
        """Whether no person need look at it for its own sake."""
        return self.score >= ENOUGH


def judge(shown: Shown) -> Proof:
    """The score and its reasons, the heaviest first."""
    found = [*_judge_file(shown), *_judge_time(shown), *_judge_place(shown)]
    doubts = sorted(
        (Doubt(code=code, weight=_WEIGHTS[code], params=params) for code, params in found), key=lambda d: -d.weight
    )
    score = max(0.0, 1.0 - sum(doubt.weight for doubt in doubts))
    return Proof(score=round(score, 3), doubts=tuple(doubts))


def judge_unreadable() -> Proof:
    """What is left when a photograph could not be judged at all."""
    doubt = Doubt(code="unreadable", weight=_WEIGHTS["unreadable"])
    return Proof(score=round(1.0 - doubt.weight, 3), doubts=(doubt,))


_Found = list[tuple[str, dict[str, Any]]]


def _judge_file(shown: Shown) -> _Found:
    if not shown.is_readable:
        return [("unreadable", {})]
    found: _Found = []
    if shown.reused_in is not None:
        found.append(("reused_file", {"number": shown.reused_in}))
    elif shown.is_report_picture:
        found.append(("same_as_report", {}))
    elif shown.looks_like is not None:
        found.append(("reused_look", {"number": shown.looks_like}))
    if shown.is_even:
        found.append(("nothing_to_see", {}))
    elif shown.is_like_first is False:
        found.append(("unlike_first", {}))
    return found


def _judge_time(shown: Shown) -> _Found:
    found: _Found = []
    if shown.offered_at is not None and shown.taken_at < shown.offered_at - SLACK:
        found.append(("before_task", {"taken_at": shown.taken_at.isoformat()}))
    elif shown.taken_at < shown.handled_at - FRESH:
        found.append(("not_now", {"minutes": round((shown.handled_at - shown.taken_at).total_seconds() / 60)}))
    said = parse_camera_time(shown.camera_time)
    if said is not None:
        # The camera says the time of day without a zone: what is no whole quarter of an hour away is another time.
        apart_s = abs((said - shown.taken_at.replace(tzinfo=None)).total_seconds())
        off_s = abs(apart_s - round(apart_s / 900) * 900)
        if off_s > SLACK.total_seconds() or apart_s > timedelta(hours=15).total_seconds():
            found.append(("camera_time_differs", {"camera_time": shown.camera_time}))
    return found


def parse_camera_time(text: str | None) -> datetime | None:
    """EXIF's DateTimeOriginal, local time without a zone; None when it is none."""
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S") if text else None
    except ValueError:
        return None


def _judge_place(shown: Shown) -> _Found:
    if shown.distance_m is None:
        return [("not_at_place", {"distance_m": None})]
    blur_m = shown.accuracy_m if shown.accuracy_m is not None and math.isfinite(shown.accuracy_m) else 0.0
    away_m = shown.distance_m - min(max(blur_m, 0.0), NEAR_M)
    if away_m <= NEAR_M:
        return []
    return [("far_away" if away_m > FAR_M else "not_at_place", {"distance_m": round(shown.distance_m, 1)})]


# ------------------------------------------------------------------------------------------------ pictures


def is_even(picture: Gray) -> bool:
    """Whether there is nothing to be seen: a covered lens, a wall, black."""
    return float(cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).std()) < 6.0


def hash_look(picture: Gray) -> int | None:
    """The perceptual hash of a gray picture as a signed 64-bit number: signs of the lowest waves about their median.

    Scaling, recompressing and brightening leave it nearly as it is. None for a picture in which there is nothing to see.
    """
    if is_even(picture):
        return None
    small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:8, :8].ravel()
    bits = waves > np.median(waves[1:])
    bits[0] = False  # the brightness
    value = int(np.packbits(bits).view(">u8")[0])
    return value - (1 << 64) if value >= 1 << 63 else value


def count_differing(first: int, second: int) -> int:
    """In how many of 64 bits two looks differ."""
    return ((first ^ second) & ((1 << 64) - 1)).bit_count()


def is_like(picture: Gray, first: Gray) -> bool:
    """Whether two photographs show one place: enough corners of one are found in the other, where one plane's picture in
    another view would have them (ORB, RANSAC)."""
    orb = cv2.ORB.create(nfeatures=800)
    points, marks = orb.detectAndCompute(_shrink(picture), None)
    first_points, first_marks = orb.detectAndCompute(_shrink(first), None)
    if marks is None or first_marks is None or len(first_marks) < 2:
        return False
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(marks, first_marks, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.75 * pair[1].distance]
    if len(good) < 12:
        return False
    here = np.array([points[m.queryIdx].pt for m in good], dtype=np.float32)
    there = np.array([first_points[m.trainIdx].pt for m in good], dtype=np.float32)
    _, kept = cv2.findHomography(here, there, cv2.RANSAC, 8.0)
    return kept is not None and int(kept.sum()) >= 12


def _shrink(picture: Gray, side: int = 640) -> Gray:
    scale = side / max(picture.shape)
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def quote(doubts: Sequence[Doubt]) -> list[dict[str, Any]]:
    """As kept and shown."""
    return [{"code": doubt.code, "weight": doubt.weight, **doubt.params} for doubt in doubts]
