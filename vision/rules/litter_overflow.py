"""垃圾满溢 litter overflow: a bin that overflows, garbage left lying, a road strewn with it.

A bin is judged at its place by the majority of looks over a time, so a half-full bin that now and then looks full opens
nothing. Garbage must be seen by the detector, must differ from the slow background, and must still lie there when nobody
stands beside it any more: a bag set down and taken up again is gone before. Garbage beside an overflowing bin or a
reported heap belongs to it, and when that grows the same finding is told again. Many pieces scattered over the zone are one
dirty road (道路不洁).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from shapely import MultiPoint

from vision.ground import signed_area
from vision.growth import UNTOLD, Growth, grow
from vision.leaving import Stop, find_stop, is_beside, watch_stops
from vision.model import Box, Category, Finding, Label, Presence, Track
from vision.rule import Parameters, Rule, Zone, ZoneState, ZoneStatus
from vision.sight import Sight
from vision.spots import (
    MAX_STEP_S,
    Patience,
    Spot,
    area,
    covered,
    is_hidden,
    is_trusted,
    overlap,
    standing_s,
    update_spots,
)
from vision.view import View

NAME = "litter_overflow"
FULL_SHARE = 0.6
EMPTY_SHARE = 0.35
LONGEST_MEMORY_S = 40.0
MIN_SEEN_SHARE = 0.5
SAME_THING = 0.5
"""A find that overlaps a known bin this much is that bin, badly seen: at night, in rain, against headlights."""

FURNITURE_S = 30.0
FLEETING_S = 10.0
"""Before it was seen for so long, a bin may be a bag or a person's trolley, and is soon forgotten."""

WATCHED_SHARE = 0.9
"""Of the time a bin must overflow; while it is hidden it may be emptied and filled again."""

UNSEEN_S = 6.0
"""Or a quarter of that time, if that is longer: unseen for so long in one piece, it begins anew."""

SURE_MARGIN, BACKED_MARGIN = 0.2, 0.35
"""Above `min_score`: some looks must be surer before a bin is reported, and surer still with something behind it: what
stands there seems to be in it."""

MAX_SURE_S = 5.0
TOP_SHARE = 0.4
BACKED_SHARE = 0.15
"""So much of a bin's upper part (its `TOP_SHARE`) covered by another's box: something stands behind it."""

SHELTERING_S = 2.0
SHELTER_S = 60.0
"""Somebody who stood at a bin and is not seen any more is believed to stand behind it for no longer than this."""

SHELTER_WIDTHS = 2.0
EMERGING_S = 3.0

SWALLOWED = 0.85

BIN_PATIENCE = Patience(young_s=2.0, standing_s=600.0, raised_s=600.0)
"""A bin is street furniture: where one was known it is remembered through the dark, and what was said of it too."""

MIN_CHANGED = 0.08
"""Share of its box that must differ from the background: a heap does not fill its box, and grey on grey differs little."""

MIN_CHANGED_TIME = 0.5
PRESENT_FACTOR = 3.0
SURE_SCORE = 0.55
"""Where the background can't say whether something is new there, the detector must be surer; and what lay there when
watching began must lie for so much longer."""

PRESENT_S = 5.0
STALE_S = 1_800.0
STALE_OVERLAP = 0.1
"""A place whose garbage was learnt as background, and then taken away, has no background to compare with for so long."""

SCORE_MEMORY_S = 5.0

ALONE_S = 10.0
MIN_GROWTH_M2, MIN_GROWTH_SHARE = 0.3, 0.001


class LitterParameters(Parameters):
    """How long is too long, how much is a lot."""

    hold_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """A bin must overflow for this long."""
    stay_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Garbage must lie for this long."""
    clear_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """Garbage must be unseen for this long, in plain sight of its place."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.4
    """A bin is not believed to overflow when the detector is less sure than this."""
    bins: Annotated[tuple[tuple[float, float], ...], Field(max_length=40)] = ()
    """Where bins stand, as points of the picture; none given: every bin that is seen."""
    attended_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """Beside what has lain for this long somebody may stand: it is reported all the same."""
    large_m2: Annotated[float, Field(gt=0, le=1_000)] = 2.0
    """From this area on it is more severe; needs the camera's ground plane."""
    dirty_pieces: Annotated[int, Field(ge=2, le=100)] = 4
    dirty_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    """So many pieces, spread over this share of the zone, are a dirty road and not so many heaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BinVote:
    """What the looks say of one bin. `share` is the recent share of looks in which it overflowed."""

    key: str
    share: float = 0.0
    excess_s: float = 0.0
    """Cumulative sum of looks that say full less those that do not, never below 0 (Page, 1954)."""
    rising_s: float | None = None
    """Since when that sum is above 0: when it began to overflow, if it does."""
    full_since_s: float | None = None
    raised_s: float | None = None
    growth: Growth = UNTOLD
    cast_s: float = 0.0
    """Instant of the last look at it."""
    looked_s: float = 0.0
    sure_s: float = 0.0
    """Time of looks, and of sure ones, since `rising_s`."""
    sheltered_s: float | None = None
    emerged_s: float | None = None
    """When somebody who stood there was not seen any more, and when somebody was seen there again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heap:
    """What is known of one piece of garbage besides its place."""

    key: str
    score: float = 0.0
    """The recent mean, where the spot has the highest."""
    began_s: float | None = None
    """When somebody stopped there to leave it; None when nobody was seen."""
    asked: bool = False
    """There was a picture to be asked at all."""
    changed_s: float = 0.0
    same_s: float = 0.0
    """For how long the background said that something is new there, and that nothing is."""
    alone_s: float = 0.0
    """For how long nobody was within reach since somebody last stood there."""
    growth: Growth = UNTOLD


@dataclass(frozen=True, kw_only=True, slots=True)
class Stale:
    """A place whose background shows garbage that has been taken away."""

    box: Box
    gone_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Road:
    """The zone as a dirty road, while it is one."""

    first_s: float
    raised_s: float
    few_since_s: float | None = None
    growth: Growth = UNTOLD
    box: Box = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0
    pieces: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class LitterState:
    """What is remembered of one zone; times are seconds since the epoch."""

    began_s: float | None = None
    looked_s: float | None = None
    bins: tuple[Spot, ...] = ()
    votes: tuple[BinVote, ...] = ()
    garbage: tuple[Spot, ...] = ()
    heaps: tuple[Heap, ...] = ()
    road: Road | None = None
    stops: tuple[Stop, ...] = ()
    stale: tuple[Stale, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """One look at one zone, as the parts of the step need it."""

    tracks: Sequence[Track]
    zone: Zone[LitterParameters]
    now: datetime
    elapsed_s: float
    view: View | None

    @property
    def now_s(self) -> float:
        return self.now.timestamp()

    @property
    def step_s(self) -> float:
        """A gap in watching counts for no longer than this."""
        return min(self.elapsed_s, MAX_STEP_S)


def step(state: LitterState, sight: Sight, zone: Zone[LitterParameters]) -> tuple[LitterState, tuple[Finding, ...]]:
    """One look at one zone."""
    now_s = sight.at.timestamp()
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now_s - state.looked_s)
    moment = _Moment(tracks=sight.tracks, zone=zone, now=sight.at, elapsed_s=elapsed_s, view=sight.view)
    lying = [spot.box for spot in state.garbage]
    bins, votes, of_bins = _step_bins(state, lying, moment)
    full = [spot.box for spot, vote in zip(bins, votes, strict=True) if vote.full_since_s is not None]
    began_s = now_s if state.began_s is None else state.began_s
    stops = watch_stops(state.stops, moment.tracks, now_s)
    state = replace(state, began_s=began_s, looked_s=now_s, bins=bins, votes=votes, stops=stops)
    state, of_garbage = _step_garbage(state, full, moment)
    return state, (*of_bins, *of_garbage)


# ---- bins ------------------------------------------------------------------------------------------------------


def _step_bins(
    state: LitterState, lying: Sequence[Box], moment: _Moment
) -> tuple[tuple[Spot, ...], tuple[BinVote, ...], list[Finding]]:
    seen = [track for track in _in_zone(moment.tracks, moment.zone, *_BINS) if _is_known_place(track.box, moment.zone)]
    update = update_spots(state.bins, seen, moment.tracks, moment.now, moment.elapsed_s, BIN_PATIENCE)
    old = {vote.key: vote for vote in state.votes}
    by_id = {track.id: track for track in moment.tracks if track.missed_s == 0.0}
    findings = [
        _tell_bin(spot, vote, moment.zone, moment.now)
        for spot in update.ended
        if (vote := old.get(spot.key)) is not None and vote.raised_s is not None
    ]
    kept: list[Spot] = []
    votes: list[BinVote] = []
    for spot in update.kept:
        vote = old.get(spot.key, BinVote(key=spot.key))
        track = by_id.get(spot.track_id) if spot.last_s == moment.now_s else None
        if track is not None:
            spill = sum(_size(box, moment.zone) for box in lying if _belongs_to(box, [spot.box]))
            vote = _watch_shelter(vote, spot.box, moment)
            vote, found = _cast(vote, spot, track, spill, moment)
            findings += found
        furniture = spot.present or (spot.seen_s >= FURNITURE_S and is_trusted(spot, MIN_SEEN_SHARE))
        furniture = furniture or vote.raised_s is not None
        if furniture or moment.now_s - spot.last_s <= FLEETING_S:
            kept.append(replace(spot, present=furniture))
            votes.append(vote)
    return tuple(kept), tuple(votes), findings


def _cast(vote: BinVote, spot: Spot, track: Track, spill: float, moment: _Moment) -> tuple[BinVote, list[Finding]]:
    """One look's vote on one bin, and what follows from it. `spill`: the size of what lies beside it."""
    zone, now_s = moment.zone, moment.now_s
    overflows = _overflows(track, zone)
    unseen_s = now_s - moment.elapsed_s - vote.cast_s  # a time in which nobody looked at all says nothing
    if vote.raised_s is None and vote.cast_s > 0 and unseen_s > max(UNSEEN_S, zone.parameters.hold_s / 4):
        vote = replace(vote, share=0.0, excess_s=0.0, rising_s=None, full_since_s=None)
    vote = replace(vote, cast_s=now_s)
    memory_s = min(zone.parameters.hold_s / 3, LONGEST_MEMORY_S)
    weight = 1 - math.exp(-moment.step_s / memory_s)
    vote = replace(vote, share=vote.share + weight * (float(overflows) - vote.share))
    # no more than passes within a memory: what was full for hours is soon believed to be empty
    excess_s = min(max(0.0, vote.excess_s + (0.5 if overflows else -0.5) * moment.step_s), memory_s)
    rising_s = None if excess_s == 0.0 else now_s if vote.rising_s is None else vote.rising_s
    vote = replace(
        vote,
        excess_s=excess_s,
        rising_s=rising_s,
        looked_s=0.0 if rising_s is None else vote.looked_s + moment.step_s,
        sure_s=0.0 if rising_s is None else vote.sure_s + (moment.step_s if _is_sure(track, moment) else 0.0),
    )
    if vote.share >= FULL_SHARE and vote.full_since_s is None:
        vote = replace(vote, full_since_s=now_s if rising_s is None else rising_s)
    if vote.share <= EMPTY_SHARE:
        found = [_tell_bin(spot, vote, zone, moment.now)] if vote.raised_s is not None else []
        fell = vote.full_since_s is not None
        vote = replace(vote, full_since_s=None, raised_s=None, growth=UNTOLD)
        return (replace(vote, excess_s=0.0, rising_s=None) if fell else vote), found
    if vote.raised_s is None and overflows and _is_due(vote, zone.parameters.hold_s, now_s):
        vote = replace(vote, raised_s=now_s, growth=_first(spill, zone))
        return vote, [_tell_bin(spot, vote, zone, None)]
    if vote.raised_s is not None:
        growth, again = _grow(vote.growth, spill, zone, now_s)
        vote = replace(vote, growth=growth)
        return vote, [replace(_tell_bin(spot, vote, zone, None), update=True)] if again else []
    return vote, []


def _is_due(vote: BinVote, hold_s: float, now_s: float) -> bool:
    """It has overflowed for long enough, in plain sight for most of that, and surely at times."""
    return (
        vote.full_since_s is not None
        and now_s - vote.full_since_s >= hold_s
        and vote.looked_s >= WATCHED_SHARE * hold_s
        and vote.sure_s >= min(hold_s / 6, MAX_SURE_S)
        and not _is_sheltering(vote, now_s)
    )


def _is_sheltering(vote: BinVote, now_s: float) -> bool:
    """It has seemed to overflow since somebody stepped behind it."""
    if vote.sheltered_s is None or vote.rising_s is None or vote.rising_s < vote.sheltered_s - SHELTERING_S:
        return False
    over_s = vote.sheltered_s + SHELTER_S if vote.emerged_s is None else vote.emerged_s + EMERGING_S
    return now_s < over_s


def _is_sure(track: Track, moment: _Moment) -> bool:
    left, top, right, bottom = track.box
    upper = (left, top, right, top + TOP_SHARE * (bottom - top))
    backed = any(
        covered(upper, other.box) >= BACKED_SHARE
        for other in moment.tracks
        if other.label in (Label.VEHICLE, Label.PERSON)
    )
    limit = moment.zone.parameters.min_score + (BACKED_MARGIN if backed else SURE_MARGIN)
    return track.label is Label.BIN_OVERFLOW and track.score >= limit


def _watch_shelter(vote: BinVote, box: Box, moment: _Moment) -> BinVote:
    """Somebody stepped behind a bin and is hidden by it: head and shoulders above it look like what overflows."""
    if moment.elapsed_s > MAX_STEP_S:
        vote = replace(vote, sheltered_s=None, emerged_s=None)  # nobody knows where they went
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    reach = SHELTER_WIDTHS * wide
    near = [
        one
        for one in moment.tracks
        if one.label is Label.PERSON
        and abs(one.box[3] - bottom) <= high / 2
        and left - reach <= (one.box[0] + one.box[2]) / 2 <= right + reach
        and overlap(one.box, box) < SAME_THING  # else it is the bin, mistaken
    ]
    if any(one.missed_s == 0.0 for one in near):
        waits = vote.sheltered_s is not None and vote.emerged_s is None
        return replace(vote, emerged_s=moment.now_s) if waits else vote
    if any(overlap(one.box, box) > 0.0 for one in near) and (vote.sheltered_s is None or vote.emerged_s is not None):
        return replace(vote, sheltered_s=moment.now_s, emerged_s=None)
    return vote


def _is_known_place(box: Box, zone: Zone[LitterParameters]) -> bool:
    places = zone.parameters.bins
    width, height = box[2] - box[0], box[3] - box[1]
    return not places or any(
        box[0] - width / 2 <= x <= box[2] + width / 2 and box[1] - height / 4 <= y <= box[3] + height / 4
        for x, y in places
    )


def _overflows(track: Track, zone: Zone[LitterParameters]) -> bool:
    return track.label is Label.BIN_OVERFLOW and track.score >= zone.parameters.min_score


# ---- garbage ---------------------------------------------------------------------------------------------------


def _step_garbage(state: LitterState, full_bins: Sequence[Box], moment: _Moment) -> tuple[LitterState, list[Finding]]:
    zone, now_s = moment.zone, moment.now_s
    clear_s = zone.parameters.clear_s
    patience = Patience(young_s=2.0, standing_s=max(4.0, clear_s), raised_s=clear_s)
    lying = _lying(state, moment.tracks, zone)
    update = update_spots(
        _swell(state.garbage, lying), lying, moment.tracks, moment.now, moment.elapsed_s, patience, key_prefix="g"
    )
    old = {heap.key: heap for heap in state.heaps}
    state = replace(state, stale=_keep_stale(state.stale, update.ended, moment))
    heaps = {
        spot.key: _learn(
            old.get(spot.key) or Heap(key=spot.key, began_s=find_stop(state.stops, spot.box, spot.first_s, zone)),
            spot,
            state.stale,
            moment,
        )
        for spot in update.kept
    }
    findings = [
        _tell_heap(spot, old.get(spot.key, Heap(key=spot.key)), zone, moment.now)
        for spot in update.ended
        if spot.raised_s is not None
    ]
    free = [spot for spot in update.kept if not _belongs_to(spot.box, full_bins)]
    watched_from_s = now_s if state.began_s is None else state.began_s
    left = [spot for spot in free if _is_left(spot, heaps[spot.key], watched_from_s, zone, moment.now)]
    road, of_road = _step_road(state.road, free, left, heaps, moment)
    findings += of_road
    kept: list[Spot] = []
    for spot in update.kept:
        reported = [other.box for other in (*kept, *update.kept) if other.raised_s is not None and other is not spot]
        own = [other.box for other in update.kept if other is spot or _belongs_to(other.box, [spot.box])]
        size = sum(_size(box, zone) for box in own)
        if spot.raised_s is not None:
            growth, again = _grow(heaps[spot.key].growth, size, zone, now_s)
            heaps[spot.key] = replace(heaps[spot.key], growth=growth)
            if again:
                findings.append(replace(_tell_heap(spot, heaps[spot.key], zone, None), update=True))
        elif road is None and spot in left and spot.last_s == now_s and not _belongs_to(spot.box, reported):
            spot = replace(spot, raised_s=now_s)
            heaps[spot.key] = replace(heaps[spot.key], growth=_first(size, zone))
            findings.append(_tell_heap(spot, heaps[spot.key], zone, None))
        kept.append(spot)
    return replace(state, garbage=tuple(kept), heaps=tuple(heaps[spot.key] for spot in kept), road=road), findings


def _swell(spots: Sequence[Spot], lying: Sequence[Track]) -> list[Spot]:
    """A reported heap onto which a cartload was thrown is the same heap, however much larger."""
    seen = [track for track in lying if track.missed_s == 0.0]
    swollen: list[Spot] = []
    for spot in spots:
        around = [track.box for track in seen if covered(spot.box, track.box) >= SWALLOWED]
        if (
            spot.raised_s is not None
            and around
            and not any(overlap(spot.box, track.box) >= SAME_THING for track in seen)
        ):
            spot = replace(spot, box=max(around, key=area))
        swollen.append(spot)
    return swollen


def _keep_stale(stale: Sequence[Stale], ended: Sequence[Spot], moment: _Moment) -> tuple[Stale, ...]:
    learnt_at = moment.view.learnt_at if moment.view is not None else None
    if learnt_at is None:
        return tuple(stale)
    learnt_s = learnt_at.timestamp()
    kept = [one for one in stale if one.gone_s >= learnt_s - 1.0 and moment.now_s - one.gone_s <= STALE_S]
    kept += [Stale(box=spot.box, gone_s=moment.now_s) for spot in ended if spot.first_s < learnt_s]
    return tuple(kept[-20:])


def _learn(heap: Heap, spot: Spot, stale: Sequence[Stale], moment: _Moment) -> Heap:
    """What this look adds to what is known of a piece."""
    view, step_s, zone = moment.view, moment.step_s, moment.zone
    track = next((one for one in moment.tracks if one.id == spot.track_id and one.missed_s == 0.0), None)
    if track is not None:
        weight = 1.0 if heap.score == 0.0 else 1 - math.exp(-step_s / SCORE_MEMORY_S)
        heap = replace(heap, score=heap.score + weight * (track.score - heap.score))
    near = [one for one in moment.tracks if one.label is Label.PERSON and is_beside(one, spot.box, zone)]
    if any(one.still_since_at is not None for one in near):
        heap = replace(heap, alone_s=0.0)
    elif not near:
        heap = replace(heap, alone_s=heap.alone_s + step_s)
    if view is None:
        return heap
    heap = replace(heap, asked=True)
    if view.learnt_at is None or spot.first_s < view.learnt_at.timestamp() or near:
        return heap
    if any(covered(spot.box, one.box) >= STALE_OVERLAP for one in stale):
        return heap
    share = view.changed(spot.box)
    if share is None:
        return heap
    if share >= MIN_CHANGED:
        return replace(heap, changed_s=heap.changed_s + step_s)
    return replace(heap, same_s=heap.same_s + step_s)


def _is_left(spot: Spot, heap: Heap, watched_from_s: float, zone: Zone[LitterParameters], now: datetime) -> bool:
    """It is garbage, it is new there, and it was left: for as long as the zone says."""
    parameters = zone.parameters
    lain_s = standing_s(spot, now)
    if lain_s < parameters.stay_s or not is_trusted(spot, MIN_SEEN_SHARE):
        return False
    if heap.alone_s < min(parameters.stay_s / 3, ALONE_S) and lain_s < parameters.attended_s:
        return False
    if is_confirmed(heap):
        return True
    present = spot.first_s < watched_from_s + PRESENT_S
    long_enough = lain_s >= (PRESENT_FACTOR if present else 1.0) * parameters.stay_s
    return not _is_contradicted(heap) and heap.score >= SURE_SCORE and long_enough


def is_confirmed(heap: Heap) -> bool:
    """The background says that it is new there; where there is no picture to ask, the detector's word is enough."""
    if not heap.asked:
        return True
    return heap.changed_s > 0 and heap.changed_s >= MIN_CHANGED_TIME * (heap.changed_s + heap.same_s)


def _is_contradicted(heap: Heap) -> bool:
    """The background was there first and says that nothing has changed: a manhole, a patch, a drawing on the ground."""
    return heap.same_s > heap.changed_s


def _in_zone(tracks: Sequence[Track], zone: Zone[LitterParameters], *labels: Label) -> list[Track]:
    return [track for track in tracks if track.label in labels and _stands_in(track.box, zone)]


def _stands_in(box: Box, zone: Zone[LitterParameters]) -> bool:
    """Its lower edge, or what stands a little behind that: a box wavers, and a thing at the edge must not."""
    x1, y1, x2, y2 = box
    middle = (x1 + x2) / 2
    return zone.contains((middle, y2)) or zone.contains((middle, y2 - (y2 - y1) / 3))


def _lying(state: LitterState, tracks: Sequence[Track], zone: Zone[LitterParameters]) -> list[Track]:
    """Garbage in the zone that is not one of its known bins, mistaken."""
    found = _in_zone(tracks, zone, Label.GARBAGE)
    bins = [spot.box for spot in state.bins if spot.present]
    return [track for track in found if not any(overlap(track.box, box) >= SAME_THING for box in bins)]


def _belongs_to(garbage: Box, things: Sequence[Box]) -> bool:
    """True when it lies beside one of these bins or heaps: within its width to both sides, and not far before or behind."""
    for x1, y1, x2, y2 in things:
        width, height = x2 - x1, y2 - y1
        around = (x1 - width, y1 - height / 4, x2 + width, y2 + height / 2)
        if covered(garbage, around) >= 0.6:
            return True
    return False


# ---- a dirty road ----------------------------------------------------------------------------------------------


def _step_road(
    road: Road | None, lying: Sequence[Spot], left: Sequence[Spot], heaps: dict[str, Heap], moment: _Moment
) -> tuple[Road | None, list[Finding]]:
    """`lying`: all garbage that belongs to no full bin; `left`: what of it has lain for long enough."""
    zone, now_s = moment.zone, moment.now_s
    parameters = zone.parameters
    if road is None:
        news = [spot for spot in left if spot.raised_s is None]
        # those that will soon have lain for long enough belong to it, too
        soon = [
            spot
            for spot in lying
            if spot.raised_s is not None or spot in left or _is_soon_left(spot, heaps[spot.key], zone, moment.now)
        ]
        if not news or not _is_scattered([spot.box for spot in soon], zone):
            return None, []
        size = sum(_size(spot.box, zone) for spot in soon)
        road = _mark(Road(first_s=min(spot.first_s for spot in news), raised_s=now_s, growth=_first(size, zone)), soon)
        return road, [_tell_road(road, zone, None)]
    if len(lying) < parameters.dirty_pieces / 2:
        few_since_s = now_s if road.few_since_s is None else road.few_since_s
        if now_s - few_since_s >= parameters.clear_s:
            return None, [_tell_road(road, zone, moment.now)]
        return replace(road, few_since_s=few_since_s), []
    growth, again = _grow(road.growth, sum(_size(spot.box, zone) for spot in lying), zone, now_s)
    road = replace(road, few_since_s=None, growth=growth)
    if not again:
        return road, []
    road = _mark(road, lying)
    return road, [replace(_tell_road(road, zone, None), update=True)]


def _is_soon_left(spot: Spot, heap: Heap, zone: Zone[LitterParameters], now: datetime) -> bool:
    half = zone.parameters.stay_s / 2
    return standing_s(spot, now) >= half and is_trusted(spot, MIN_SEEN_SHARE) and is_confirmed(heap)


def _is_scattered(boxes: Sequence[Box], zone: Zone[LitterParameters]) -> bool:
    """Enough pieces, spread over enough of the zone."""
    if len(boxes) < zone.parameters.dirty_pieces:
        return False
    spread = [((x1 + x2) / 2, y2) for x1, _, x2, y2 in boxes]
    if zone.ground is not None:
        places = [place for point in spread if (place := zone.ground.locate(point)) is not None]
        whole = zone.ground.area_m2(zone.polygon) or math.inf
    else:
        places, whole = spread, abs(signed_area(zone.polygon))
    return float(MultiPoint(places).convex_hull.area) >= zone.parameters.dirty_share * whole


def _mark(road: Road, spots: Sequence[Spot]) -> Road:
    boxes = [spot.box for spot in spots]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    score = sum(spot.score for spot in spots) / len(spots)
    return replace(road, box=(left, top, right, bottom), score=score, pieces=len(spots))


# ---- sizes -----------------------------------------------------------------------------------------------------


def _size(box: Box, zone: Zone[LitterParameters]) -> float:
    """Square metres of ground, or the share of the picture where there is no ground plane."""
    if zone.ground is None:
        return area(box)
    return zone.ground.footprint_m2(box) or 0.0


def _first(size: float, zone: Zone[LitterParameters]) -> Growth:
    return Growth(told=size, severity=_severity(size, zone))


def _severity(size: float, zone: Zone[LitterParameters]) -> int | None:
    return 2 if zone.ground is not None and size >= zone.parameters.large_m2 else None


def _grow(growth: Growth, size: float, zone: Zone[LitterParameters], now_s: float) -> tuple[Growth, bool]:
    least = MIN_GROWTH_SHARE if zone.ground is None else MIN_GROWTH_M2
    return grow(growth, size, _severity(size, zone), now_s, least=least, hold_s=zone.parameters.stay_s)


def _measure(growth: Growth, zone: Zone[LitterParameters], **more: Any) -> dict[str, Any]:
    name, digits = ("area_share", 5) if zone.ground is None else ("area_m2", 2)
    return {name: round(growth.told, digits), **more}


# ---- what is told ----------------------------------------------------------------------------------------------


def judge(state: LitterState, sight: Sight, zone: Zone[LitterParameters], category: Category) -> Presence:
    """Does a bin overflow; or, for garbage, does some lie in the zone that belongs to no overflowing bin?

    A bin is only called emptied when it is seen: a zone in which no bin is seen at all is hidden, not clear. A road is
    clean again with fewer than half the pieces that make it dirty.
    """
    tracks = sight.tracks
    now_seen = [track for track in tracks if track.missed_s == 0.0]
    full = [track.box for track in _in_zone(now_seen, zone, *_BINS) if _overflows(track, zone)]
    if category is Category.BIN_OVERFLOW:
        if full:
            return Presence.THERE
        return Presence.GONE if _in_zone(now_seen, zone, *_BINS) else Presence.HIDDEN
    free = [track for track in _lying(state, now_seen, zone) if not _belongs_to(track.box, full)]
    if len(free) >= (zone.parameters.dirty_pieces / 2 if category is Category.DIRTY_ROAD else 1):
        return Presence.THERE
    hidden = any(is_hidden(spot, tracks) for spot in state.garbage if spot.raised_s is not None)
    return Presence.HIDDEN if hidden else Presence.GONE


def status(state: LitterState, zone: Zone[LitterParameters]) -> ZoneStatus:
    """`value` is the number of overflowing bins and of pieces of garbage; their area beside it."""
    full = sum(vote.full_since_s is not None for vote in state.votes)
    size = sum(_size(spot.box, zone) for spot in state.garbage)
    raised = (
        state.road is not None
        or any(vote.raised_s is not None for vote in state.votes)
        or any(spot.raised_s is not None for spot in state.garbage)
    )
    stands = ZoneState.RAISED if raised else ZoneState.WATCHING if full or state.garbage else ZoneState.QUIET
    detail = _measure(Growth(told=size), zone, bins=len(state.bins), bins_full=full)
    return ZoneStatus(state=stands, value=full + len(state.garbage), detail=detail)


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
        severity=vote.growth.severity,
        detail=_measure(vote.growth, zone, full_share=round(vote.share, 2)),
    )


def _tell_heap(spot: Spot, heap: Heap, zone: Zone[LitterParameters], cleared_at: datetime | None) -> Finding:
    background = "changed" if heap.asked and is_confirmed(heap) else "unknown"
    return Finding(
        rule=NAME,
        category=Category.EXPOSED_GARBAGE,
        zone=zone.name,
        key=spot.key,
        started_at=datetime.fromtimestamp(spot.first_s if heap.began_s is None else heap.began_s, UTC),
        raised_at=datetime.fromtimestamp(spot.raised_s or spot.last_s, UTC),
        cleared_at=cleared_at,
        box=spot.box,
        score=spot.score,
        severity=heap.growth.severity,
        detail=_measure(heap.growth, zone, background=background),
    )


def _tell_road(road: Road, zone: Zone[LitterParameters], cleared_at: datetime | None) -> Finding:
    return Finding(
        rule=NAME,
        category=Category.DIRTY_ROAD,
        zone=zone.name,
        key=f"r{int(road.raised_s * 1000):x}",
        started_at=datetime.fromtimestamp(road.first_s, UTC),
        raised_at=datetime.fromtimestamp(road.raised_s, UTC),
        cleared_at=cleared_at,
        box=road.box,
        score=road.score,
        severity=road.growth.severity,
        detail=_measure(road.growth, zone, pieces=road.pieces),
    )


_BINS = (Label.BIN, Label.BIN_OVERFLOW)

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
    status=status,
)
