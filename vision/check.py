"""The closure check by camera: looks again for some seconds at fresh pictures, and says clear only when it saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kernel.types import Verdict
from vision.health import Blindness
from vision.model import Presence
from vision.store import CheckRequest

MIN_LOOKS = 3
MAX_THERE_SHARE = 0.1
"""More looks than this that still see the cause, and it is not clear."""

MIN_THERE_SHARE = 0.5
PATIENCE_S = 10.0
"""How long to wait for a camera that gives nothing to judge, beyond the looking time itself."""


class CheckDoubt(StrEnum):
    """Why a check says nothing, besides a camera's blindness; stable codes in `check_request.detail`."""

    HIDDEN = "hidden"
    UNSTEADY = "unsteady"
    NO_SUCH_ZONE = "no_such_zone"
    MODEL_CANNOT_SEE = "model_cannot_see"
    NO_SUCH_CAMERA = "no_such_camera"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What is written into the request. `detail` is empty for clear and not clear, else a stable code."""

    verdict: Verdict
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check that is being made."""

    request: CheckRequest
    began_at: datetime
    first_look_at: datetime | None = None
    presences: tuple[Presence, ...] = ()
    doubts: tuple[Blindness, ...] = ()


def add_look(check: Check, presence: Presence | None, doubt: Blindness | None, at: datetime) -> Check:
    """One fresh picture: what the rule saw in it, and why the picture is not to be trusted, if so.

    Pictures from before the request say nothing about it.
    """
    if at < check.request.requested_at:
        return check
    if doubt is not None or presence is None:
        return replace(check, doubts=(*check.doubts, doubt) if doubt is not None else check.doubts)
    first_at = check.first_look_at or at
    return replace(check, presences=(*check.presences, presence), first_look_at=first_at)


def conclude(check: Check, now: datetime, look_s: float) -> Answer | None:
    """The answer, or None while it is too early."""
    first_at = check.first_look_at
    looked = first_at is not None and (now - first_at).total_seconds() >= look_s and len(check.presences) >= MIN_LOOKS
    out_of_time = now >= min(
        check.began_at + timedelta(seconds=look_s + PATIENCE_S), check.request.expires_at - timedelta(seconds=1)
    )
    if not looked and not out_of_time:
        return None
    if not looked:
        reason = Counter(check.doubts).most_common(1)
        return _unsure(reason[0][0] if reason else Blindness.OFFLINE)
    if len(check.doubts) > len(check.presences):
        return _unsure(Counter(check.doubts).most_common(1)[0][0])
    there = check.presences.count(Presence.THERE) / len(check.presences)
    hidden = check.presences.count(Presence.HIDDEN) / len(check.presences)
    if there >= MIN_THERE_SHARE:
        return Answer(verdict=Verdict.NOT_CLEAR, detail="")
    if hidden > 0.5:
        return _unsure(CheckDoubt.HIDDEN)
    if there > MAX_THERE_SHARE:
        return _unsure(CheckDoubt.UNSTEADY)
    return Answer(verdict=Verdict.CLEAR, detail="")


def _unsure(reason: Blindness | CheckDoubt) -> Answer:
    return Answer(verdict=Verdict.INCONCLUSIVE, detail=reason.value)
