"""垃圾满溢 litter overflow: a bin seen overflowing for `hold_s`, or garbage that lies at one place for `stay_s`.

A bin is judged by the majority of looks, so a half-full bin that now and then looks full opens nothing. Garbage beside
an overflowing bin belongs to that bin. A bag set down and taken up again is gone before `stay_s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from vision.model import Box, Category, Finding, Label, Presence, Track
from vision.rule import Parameters, Rule, Zone
from vision.sight import Sight
from vision.spots import MAX_STEP_S, Patience, Spot, covered, is_hidden, is_trusted, overlap, standing_s, update_spots

NAME = "litter_overflow"
FULL_SHARE = 0.6
EMPTY_SHARE = 0.35
MIN_SEEN_SHARE = 0.5
SAME_THING = 0.5
"""A find that overlaps a known bin this much is that bin, badly seen: at night, in rain, against headlights."""

BIN_PATIENCE = Patience(young_s=2.0, standing_s=600.0, raised_s=30.0)
"""A bin is street furniture: where one was known it is remembered through the dark."""


class LitterParameters(Parameters):
    """How long is too long."""

    hold_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    stay_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    clear_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Garbage must be unseen for this long, in plain sight of its place."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.4
    """A bin is not believed to overflow when the detector is less sure than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BinVote:
    """What the looks say of one bin. `share` is the recent share of looks in which it overflowed."""

    key: str
    share: float = 0.0
    full_since_s: float | None = None
    raised_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LitterState:
    """What is remembered of one zone; times are seconds since the epoch."""

    looked_s: float | None = None
    bins: tuple[Spot, ...] = ()
    votes: tuple[BinVote, ...] = ()
    garbage: tuple[Spot, ...] = ()


def step(state: LitterState, sight: Sight, zone: Zone[LitterParameters]) -> tuple[LitterState, tuple[Finding, ...]]:
    """One look at one zone."""
    tracks, now = sight.tracks, sight.at
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now.timestamp() - state.looked_s)
    bins, votes, of_bins = _step_bins(state, tracks, zone, now, elapsed_s)
    full = [spot.box for spot, vote in zip(bins, votes, strict=True) if vote.full_since_s is not None]
    garbage, of_garbage = _step_garbage(replace(state, bins=bins), tracks, zone, now, elapsed_s, full)
    new = LitterState(looked_s=now.timestamp(), bins=bins, votes=votes, garbage=garbage)
    return new, (*of_bins, *of_garbage)


def _step_bins(
    state: LitterState, tracks: Sequence[Track], zone: Zone[LitterParameters], now: datetime, elapsed_s: float
) -> tuple[tuple[Spot, ...], tuple[BinVote, ...], list[Finding]]:
    update = update_spots(
        state.bins, _in_zone(tracks, zone, Label.BIN, Label.BIN_OVERFLOW), tracks, now, elapsed_s, BIN_PATIENCE
    )
    old = {vote.key: vote for vote in state.votes}
    by_id = {track.id: track for track in tracks if track.missed_s == 0.0}
    findings = [
        _tell_bin(spot, vote, zone, now)
        for spot in update.ended
        if (vote := old.get(spot.key)) is not None and vote.raised_s is not None
    ]
    votes: list[BinVote] = []
    for spot in update.kept:
        vote = old.get(spot.key, BinVote(key=spot.key))
        track = by_id.get(spot.track_id) if spot.last_s == now.timestamp() else None
        if track is not None:
            vote, finding = _cast(vote, spot, _overflows(track, zone), zone, now, elapsed_s)
            findings += [finding] if finding is not None else []
        votes.append(vote)
    return update.kept, tuple(votes), findings


def _cast(
    vote: BinVote, spot: Spot, overflows: bool, zone: Zone[LitterParameters], now: datetime, elapsed_s: float
) -> tuple[BinVote, Finding | None]:
    """One look's vote on one bin, and what follows from it."""
    now_s = now.timestamp()
    memory_s = min(zone.parameters.hold_s / 3, 5.0)
    weight = 1 - math.exp(-min(elapsed_s, MAX_STEP_S) / memory_s)
    vote = replace(vote, share=vote.share + weight * (float(overflows) - vote.share))
    if vote.share >= FULL_SHARE and vote.full_since_s is None:
        vote = replace(vote, full_since_s=now_s)
    if vote.share <= EMPTY_SHARE:
        finding = _tell_bin(spot, vote, zone, now) if vote.raised_s is not None else None
        return replace(vote, full_since_s=None, raised_s=None), finding
    due = vote.full_since_s is not None and now_s - vote.full_since_s >= zone.parameters.hold_s
    if due and vote.raised_s is None and overflows:
        vote = replace(vote, raised_s=now_s)
        return vote, _tell_bin(spot, vote, zone, None)
    return vote, None


def _step_garbage(
    state: LitterState,
    tracks: Sequence[Track],
    zone: Zone[LitterParameters],
    now: datetime,
    elapsed_s: float,
    full_bins: Sequence[Box],
) -> tuple[tuple[Spot, ...], list[Finding]]:
    parameters = zone.parameters
    patience = Patience(young_s=2.0, standing_s=max(4.0, parameters.clear_s), raised_s=parameters.clear_s)
    update = update_spots(state.garbage, _lying(state, tracks, zone), tracks, now, elapsed_s, patience, key_prefix="g")
    findings = [_tell_garbage(spot, zone, now) for spot in update.ended if spot.raised_s is not None]
    kept: list[Spot] = []
    for spot in update.kept:
        due = (
            spot.raised_s is None
            and spot.last_s == now.timestamp()
            and standing_s(spot, now) >= parameters.stay_s
            and is_trusted(spot, MIN_SEEN_SHARE)
        )
        reported = [other.box for other in (*kept, *update.kept) if other.raised_s is not None]
        if due and not _belongs_to(spot.box, full_bins) and not _belongs_to(spot.box, reported):
            spot = replace(spot, raised_s=now.timestamp())
            findings.append(_tell_garbage(spot, zone, None))
        kept.append(spot)
    return tuple(kept), findings


def judge(state: LitterState, sight: Sight, zone: Zone[LitterParameters], category: Category) -> Presence:
    """Does a bin overflow; or, for exposed garbage, does some lie in the zone that belongs to no overflowing bin?

    A bin is only called emptied when it is seen: a zone in which no bin is seen at all is hidden, not clear.
    """
    tracks = sight.tracks
    now_seen = [track for track in tracks if track.missed_s == 0.0]
    full = [track.box for track in now_seen if zone.contains(track.ground) and _overflows(track, zone)]
    if category is Category.BIN_OVERFLOW:
        if full:
            return Presence.THERE
        return Presence.GONE if _in_zone(now_seen, zone, Label.BIN, Label.BIN_OVERFLOW) else Presence.HIDDEN
    if any(not _belongs_to(track.box, full) for track in _lying(state, now_seen, zone)):
        return Presence.THERE
    hidden = any(is_hidden(spot, tracks) for spot in state.garbage if spot.raised_s is not None)
    return Presence.HIDDEN if hidden else Presence.GONE


def _overflows(track: Track, zone: Zone[LitterParameters]) -> bool:
    return track.label is Label.BIN_OVERFLOW and track.score >= zone.parameters.min_score


def _in_zone(tracks: Sequence[Track], zone: Zone[LitterParameters], *labels: Label) -> list[Track]:
    return [track for track in tracks if track.label in labels and zone.contains(track.ground)]


def _lying(state: LitterState, tracks: Sequence[Track], zone: Zone[LitterParameters]) -> list[Track]:
    """Garbage in the zone that is not one of its known bins, mistaken."""
    found = _in_zone(tracks, zone, Label.GARBAGE)
    return [track for track in found if not any(overlap(track.box, spot.box) >= SAME_THING for spot in state.bins)]


def _belongs_to(garbage: Box, things: Sequence[Box]) -> bool:
    """True when it lies beside one of these bins or heaps: within its width to both sides, and not far before or behind."""
    for x1, y1, x2, y2 in things:
        width, height = x2 - x1, y2 - y1
        around = (x1 - width, y1 - height / 4, x2 + width, y2 + height / 2)
        if covered(garbage, around) >= 0.6:
            return True
    return False


def _tell_bin(spot: Spot, vote: BinVote, zone: Zone[LitterParameters], cleared_at: datetime | None) -> Finding:
    started_s = vote.full_since_s if vote.full_since_s is not None else spot.first_s
    return Finding(
        rule=NAME,
        category=Category.BIN_OVERFLOW,
        zone=zone.name,
        # one bin may overflow many times: the episode is named by when it was raised
        key=f"{spot.key}-{int((vote.raised_s or 0.0) * 1000):x}",
        started_at=datetime.fromtimestamp(started_s, UTC),
        raised_at=datetime.fromtimestamp(vote.raised_s or spot.last_s, UTC),
        cleared_at=cleared_at,
        box=spot.box,
        score=spot.score,
    )


def _tell_garbage(spot: Spot, zone: Zone[LitterParameters], cleared_at: datetime | None) -> Finding:
    return Finding(
        rule=NAME,
        category=Category.EXPOSED_GARBAGE,
        zone=zone.name,
        key=spot.key,
        started_at=datetime.fromtimestamp(spot.first_s, UTC),
        raised_at=datetime.fromtimestamp(spot.raised_s or spot.last_s, UTC),
        cleared_at=cleared_at,
        box=spot.box,
        score=spot.score,
    )


RULE = Rule(
    name=NAME,
    title_zh="垃圾满溢",
    title_en="Litter overflow",
    labels=frozenset({Label.BIN, Label.BIN_OVERFLOW, Label.GARBAGE}),
    parameters=LitterParameters,
    state=LitterState,
    fresh=LitterState,
    step=step,
    judge=judge,
)
