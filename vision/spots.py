"""Things standing at a place, judged by place and wall clock and not by track id.

A spot is a place in the picture where something stands. It outlives the track that began it: ids switch, people walk
in front, detections drop out. It ends when its thing is seen to move off, when the place is seen empty for long enough,
or when another thing arrives there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vision.model import Box, Track

SAME_OVERLAP = 0.5
"""Overlap (intersection over union) from which a track stands at a spot."""

PART_COVERED = 0.85
PART_SIZE = 0.25
"""A smaller box inside the spot is the same thing half hidden, if it has this share of the size."""

HIDDEN_SHARE = 0.3
"""A spot is hidden while other things' boxes cover this share of it."""

IN_FRONT = 0.15
"""Of a spot's height: what ends higher than this above its lower edge stands behind it."""

HIDDEN_S = 60.0
"""How long a hidden spot is believed to be unchanged."""

ANCHOR_S = 10.0
"""Time constant with which a spot's box follows; slow, so that a creeping car leaves its spot."""

MAX_STEP_S = 2.0
"""A longer time between two looks is a gap: nothing is known about it."""

LONG_GAP_S = 300.0
"""After not watching for this long, what stood unreported may have been replaced: its time begins anew."""

ESTABLISHED_S = 2.0
"""Seen for this long, a spot is more than a flicker."""

LEAVING_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """Something standing at a place. Times are seconds since the epoch."""

    key: str
    """Names the episode: unlike for every spot of a zone, the same after a restart."""
    box: Box
    score: float
    track_id: int
    first_s: float
    last_s: float
    seen_s: float
    """For how long of the time since `first_s` it was really seen."""
    watched_s: float
    """For how long since `first_s` somebody looked and it was not hidden."""
    present: bool = False
    """It stood there when watching began."""
    raised_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an unseen spot is kept."""

    young_s: float
    """Until it is established."""
    standing_s: float
    """Before it is raised."""
    raised_s: float
    """After it was raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What one look made of the spots."""

    kept: tuple[Spot, ...]
    ended: tuple[Spot, ...]


def update_spots(
    spots: Sequence[Spot],
    tracks: Sequence[Track],
    others: Sequence[Track],
    now: datetime,
    elapsed_s: float,
    patience: Patience,
    key_prefix: str = "",
) -> Update:
    """One look. `tracks` are the things that may stand (their ground point in the zone); `others` everything seen.

    `elapsed_s` is the time since the last look; a gap in watching counts as neither seen nor empty.
    """
    now_s = now.timestamp()
    gap_s = elapsed_s if elapsed_s > MAX_STEP_S else 0.0
    if gap_s > LONG_GAP_S:
        spots = [spot for spot in spots if spot.present or spot.raised_s is not None]
    held = [replace(spot, last_s=spot.last_s + gap_s) for spot in spots]
    seen = [track for track in tracks if track.missed_s == 0.0]
    pairs = pair_boxes([spot.box for spot in held], seen)
    kept: list[Spot] = []
    ended: list[Spot] = []
    for index, spot in enumerate(held):
        track = pairs.get(index)
        if track is not None and spot.raised_s is None and _is_newcomer(spot, track):
            ended.append(spot)
            kept.append(_begin(track, now_s, key_prefix))
        elif track is not None and _supports(spot, track, now_s):
            kept.append(_support(spot, track, now_s, elapsed_s))
        elif _has_left(spot, seen, others, now_s) or _is_over(spot, others, now_s, patience):
            ended.append(spot)
        else:
            hidden = is_hidden(spot, others)
            kept.append(spot if hidden else replace(spot, watched_s=spot.watched_s + min(elapsed_s, MAX_STEP_S)))
    paired = {track.id for track in pairs.values()}
    for track in seen:
        # a newly born track (not yet known to be still) may begin a spot: it has to last anyway
        if track.id not in paired and not _is_moving(track, now_s) and not _repeats(track, kept):
            kept.append(_begin(track, now_s, key_prefix))
    return Update(kept=tuple(kept), ended=tuple(ended))


def standing_s(spot: Spot, now: datetime) -> float:
    """How long it has stood there, by the wall clock."""
    return now.timestamp() - spot.first_s


def is_trusted(spot: Spot, min_share: float) -> bool:
    """True when it was really seen for that share of the time in which it could be seen."""
    return spot.seen_s >= min_share * max(spot.watched_s, 1e-6)


def pair_boxes(places: Sequence[Box], seen: Sequence[Track], *, may_grow: bool = True) -> dict[int, Track]:
    """Index of a place to the track standing there: best overlap first, each once; then boxes of things half hidden, or
    grown (a bin with bags beside it): a box around one place and no other. Vehicles do not grow: that is a bus in front."""
    whole = [
        (share, index, track)
        for index, place in enumerate(places)
        for track in seen
        if (share := overlap(place, track.box)) >= SAME_OVERLAP
    ]
    part = [
        (covered(track.box, place), index, track)
        for index, place in enumerate(places)
        for track in seen
        if covered(track.box, place) >= PART_COVERED and area(track.box) >= PART_SIZE * area(place)
    ]
    grown = [
        (covered(places[index], track.box), index, track)
        for track in seen
        for index in (_only_covered(places, track.box) if may_grow else ())
        if area(places[index]) >= PART_SIZE * area(track.box)
    ]
    pairs: dict[int, Track] = {}
    taken: set[int] = set()
    for candidates in (whole, part, grown):
        for _, index, track in sorted(candidates, key=lambda item: -item[0]):
            if index not in pairs and track.id not in taken:
                pairs[index] = track
                taken.add(track.id)
    return pairs


def _only_covered(places: Sequence[Box], box: Box) -> list[int]:
    found = [index for index, place in enumerate(places) if covered(place, box) >= PART_COVERED]
    return found if len(found) == 1 else []


def _is_moving(track: Track, now_s: float) -> bool:
    return track.still_since_at is None and now_s - track.born_at.timestamp() > 1.0


def _is_newcomer(spot: Spot, track: Track) -> bool:
    """Another thing arrived where one had stood: it was seen moving before it came to rest here.

    Only asked before a spot is raised, when doubt costs some time. Afterwards doubt would cost a second report: a car
    that passes in front can swap tracks with the one that stands.
    """
    if track.id == spot.track_id or track.still_since_at is None:
        return False
    arrived_s = track.still_since_at.timestamp()
    return track.born_at.timestamp() + 1.0 < arrived_s and arrived_s >= spot.last_s


def _supports(spot: Spot, track: Track, now_s: float) -> bool:
    if track.id == spot.track_id:
        return True
    if _is_moving(track, now_s):
        return False
    return track.still_since_at is not None or spot.seen_s >= ESTABLISHED_S


def _support(spot: Spot, track: Track, now_s: float, elapsed_s: float) -> Spot:
    step_s = min(elapsed_s, MAX_STEP_S)
    # the time just bridged was not seen, but neither was the place seen empty: only this look's step counts
    box = spot.box
    if overlap(spot.box, track.box) >= SAME_OVERLAP or area(track.box) > area(spot.box):
        weight = min(1.0, step_s / ANCHOR_S)
        a, b, c, d = (old + weight * (new - old) for old, new in zip(spot.box, track.box, strict=True))
        box = (a, b, c, d)
    return replace(
        spot,
        box=box,
        score=max(track.score, spot.score),
        track_id=track.id,
        last_s=now_s,
        seen_s=spot.seen_s + step_s,
        watched_s=spot.watched_s + step_s,
    )


def _has_left(spot: Spot, seen: Sequence[Track], others: Sequence[Track], now_s: float) -> bool:
    """Its own track is seen elsewhere: no need to wait. What was raised is only ended by its place being empty, since a
    track can be carried off by something that passes in front."""
    if spot.raised_s is not None or now_s - spot.last_s < LEAVING_S or is_hidden(spot, others):
        return False
    return any(
        track.id == spot.track_id and overlap(track.box, spot.box) < 0.3 and covered(track.box, spot.box) < 0.6
        for track in seen
    )


def _is_over(spot: Spot, others: Sequence[Track], now_s: float, patience: Patience) -> bool:
    unseen_s = now_s - spot.last_s
    if spot.raised_s is not None:
        limit_s = patience.raised_s
    elif spot.seen_s >= ESTABLISHED_S:
        limit_s = patience.standing_s
    else:
        limit_s = patience.young_s
    if unseen_s <= limit_s:
        return False
    return not (unseen_s <= HIDDEN_S and is_hidden(spot, others))


def is_hidden(spot: Spot, tracks: Sequence[Track]) -> bool:
    """True while something else covers the place, and its lower edge says that it is in front."""
    return _hidden_share(spot, tracks) >= HIDDEN_SHARE


def _hidden_share(spot: Spot, others: Sequence[Track]) -> float:
    reach = spot.box[3] - IN_FRONT * (spot.box[3] - spot.box[1])
    return max(
        (covered(spot.box, track.box) for track in others if track.id != spot.track_id and track.box[3] >= reach),
        default=0.0,
    )


def _repeats(track: Track, kept: Sequence[Spot]) -> bool:
    """A second box of something already standing, or one box around several standing things."""
    return any(
        covered(track.box, spot.box) >= PART_COVERED or covered(spot.box, track.box) >= PART_COVERED
        for spot in kept
        if spot.seen_s >= ESTABLISHED_S
    )


def _begin(track: Track, now_s: float, key_prefix: str) -> Spot:
    # A thing that was followed to this place stands since it came to rest, shortly ago; of longer nothing is known here.
    rested_s = now_s if track.still_since_at is None else track.still_since_at.timestamp()
    since_s = max(rested_s, now_s - MAX_STEP_S)
    return Spot(
        key=f"{key_prefix}{int(since_s * 1000):x}-{track.id % 1000}",
        box=track.box,
        score=track.score,
        track_id=track.id,
        first_s=since_s,
        last_s=now_s,
        seen_s=now_s - since_s,
        watched_s=now_s - since_s,
    )


def area(box: Box) -> float:
    """As a share of the picture."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def overlap(first: Box, second: Box) -> float:
    """Intersection over union."""
    inner = area(_inner(first, second))
    return inner / max(area(first) + area(second) - inner, 1e-12)


def covered(inner: Box, outer: Box) -> float:
    """Share of `inner` that lies in `outer`."""
    return area(_inner(inner, outer)) / max(area(inner), 1e-12)


def _inner(first: Box, second: Box) -> Box:
    return (max(first[0], second[0]), max(first[1], second[1]), min(first[2], second[2]), min(first[3], second[3]))
