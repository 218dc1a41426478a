"""Following detections through time: two-threshold association on boxes and ground points.

The idea is ByteTrack's (Zhang et al. 2022): strong detections are matched first, weak ones may only carry
on a track that already exists; in both steps the pairing is the best one altogether. Distances and speeds are measured in sizes of the box itself, and buffers in
seconds, so the same numbers fit every camera and every frame rate. Pure: time is an argument, every step
gives a new state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from vision.assignment import assign
from vision.heads import overlaps
from vision.model import LABELS, Box, Detections, Floats, Label, Track

STILL_AFTER_S = 1.0
"""A thing is called still when it kept its place for this long."""

STILL_SHIFT = 0.15
"""Share of its own size by which a still thing's box may wander."""

VELOCITY_WEIGHT = 0.4
FIRST_VELOCITY_WEIGHT = 0.7
BOX_WEIGHT = 0.7
VELOCITY_HORIZON_S = 1.0
"""A lost track is moved on by its velocity for this long at most."""

MIN_SIMILARITY = 0.1

RESTING_S = 2.0
RESISTANCE = 0.5
"""What has rested for a while is not easily carried off by something that passes in front of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """How things of one label are followed."""

    strong: float
    """Score from which a detection may begin a track."""
    weak: float
    """Score from which a detection may carry on a track."""
    buffer_s: float
    """How long an unseen track is kept."""
    reach_per_s: float
    """How many of its own sizes a thing may travel in a second."""
    confirm_looks: int = 2
    """A track is told to the rules after being seen this often."""


PEOPLE = Following(strong=0.3, weak=0.08, buffer_s=1.5, reach_per_s=2.0)
VEHICLES = Following(strong=0.4, weak=0.1, buffer_s=3.0, reach_per_s=4.0)
RIDERS = Following(strong=0.35, weak=0.1, buffer_s=2.0, reach_per_s=4.0)
THINGS = Following(strong=0.3, weak=0.1, buffer_s=4.0, reach_per_s=0.5)

FOLLOWING: dict[Label, Following] = {
    Label.PERSON: PEOPLE,
    Label.VEHICLE: VEHICLES,
    Label.TWO_WHEELER: RIDERS,
    Label.BIN: THINGS,
    Label.BIN_OVERFLOW: THINGS,
    Label.GARBAGE: THINGS,
}

FAMILY: dict[Label, Label] = {label: label for label in Label} | {Label.BIN_OVERFLOW: Label.BIN}
"""A bin stays the same bin when it overflows."""

FAMILY_INDEX: dict[Label, int] = {label: LABELS.index(family) for label, family in FAMILY.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """One track's inner state; times are seconds since the epoch, lengths fractions of the picture."""

    id: int
    label: Label
    box: Box
    velocity: tuple[float, float]
    score: float
    looks: int
    born_s: float
    seen_s: float
    anchor: Box
    anchor_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackerState:
    """Everything the tracker remembers between two looks."""

    followed: tuple[Followed, ...] = ()
    next_id: int = 1
    looked_s: float | None = None


def follow(
    state: TrackerState, detections: Detections, now: datetime, strong_scores: Mapping[Label, float] | None = None
) -> tuple[TrackerState, tuple[Track, ...]]:
    """One look: the new state, and the confirmed tracks including those not seen for a short while.

    `strong_scores`: from which score a detection of a label may begin a track, where the model's own calibration differs
    from the usual (its description says so); weak ones may then be as weak in proportion.
    """
    now_s = now.timestamp()
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now_s - state.looked_s)
    seen = _one_of_family(_normalised(detections, strong_scores or {}))
    aspect = detections.width_px / max(1, detections.height_px)
    predicted = [_predict(item, now_s) for item in state.followed]
    matches: dict[int, int] = {}
    free = set(range(len(state.followed)))
    strong = [index for index, item in enumerate(seen) if item.score >= item.strong]
    weak = [index for index, item in enumerate(seen) if item.weak <= item.score < item.strong]
    for pool, only_overlap in ((strong, False), (weak, True)):
        similarity = _similarity(state.followed, predicted, free, seen, pool, now_s, aspect, only_overlap)
        for track_index, seen_index in _assign(similarity, sorted(free), pool):
            matches[track_index] = seen_index
            free.discard(track_index)
    taken = set(matches.values())
    followed = [
        _carry_on(item, seen[matches[index]], now_s, elapsed_s) if index in matches else item
        for index, item in enumerate(state.followed)
    ]
    next_id = state.next_id
    for index in strong:
        if index not in taken and not _is_echo(seen[index], [seen[other] for other in taken]):
            followed.append(_begin(next_id, seen[index], now_s))
            next_id += 1
    kept = tuple(item for item in followed if _is_alive(item, now_s, elapsed_s))
    tracks = tuple(_tell(item, now_s) for item in kept if item.looks >= FOLLOWING[item.label].confirm_looks)
    return TrackerState(followed=kept, next_id=next_id, looked_s=now_s), tracks


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    label: Label
    box: Box
    score: float
    strong: float
    weak: float


def _normalised(detections: Detections, strong_scores: Mapping[Label, float]) -> list[_Seen]:
    size = np.array([detections.width_px, detections.height_px] * 2, np.float32)
    result: list[_Seen] = []
    for row, score, index in zip(detections.boxes / size, detections.scores, detections.labels, strict=True):
        label = LABELS[int(index)]
        usual = FOLLOWING[label]
        strong = strong_scores.get(label, usual.strong)
        x1, y1, x2, y2 = (float(value) for value in row)
        result.append(
            _Seen(
                label=label,
                box=(x1, y1, x2, y2),
                score=float(score),
                strong=strong,
                weak=usual.weak * strong / usual.strong,
            )
        )
    return result


def _one_of_family(seen: Sequence[_Seen]) -> list[_Seen]:
    """Where one thing got two labels of a family (a bin, full or not), only the better scored."""
    kept: list[_Seen] = []
    for item in sorted(seen, key=lambda one: -one.score):
        family = FAMILY[item.label]
        rivals = [other for other in kept if FAMILY[other.label] is family and other.label is not item.label]
        if not any(_covered(item.box, other.box) > 0.6 and _covered(other.box, item.box) > 0.6 for other in rivals):
            kept.append(item)
    return kept


def _predict(item: Followed, now_s: float) -> Box:
    ahead_s = min(max(0.0, now_s - item.seen_s), VELOCITY_HORIZON_S)
    dx, dy = item.velocity[0] * ahead_s, item.velocity[1] * ahead_s
    x1, y1, x2, y2 = item.box
    return (x1 + dx, y1 + dy, x2 + dx, y2 + dy)


def _similarity(
    followed: Sequence[Followed],
    predicted: Sequence[Box],
    free: set[int],
    seen: Sequence[_Seen],
    pool: Sequence[int],
    now_s: float,
    aspect: float,
    only_overlap: bool,
) -> Floats:
    """(tracks, detections): overlap, or nearness of the ground points where boxes no longer overlap."""
    rows = sorted(free)
    if not rows or not pool:
        return np.zeros((len(rows), len(pool)), np.float32)
    ours = np.array([predicted[index] for index in rows], np.float32)
    theirs = np.array([seen[index].box for index in pool], np.float32)
    result = overlaps(ours, theirs)
    if only_overlap:
        result[result < 0.3] = 0.0
    else:
        reach = np.array([_reach(followed[index], now_s) for index in rows], np.float32)
        result = np.maximum(result, 0.4 * (1 - _distance(ours, theirs, aspect) / reach[:, None]))
    resting = [row for row, index in enumerate(rows) if followed[index].seen_s - followed[index].anchor_s >= RESTING_S]
    for row in resting:
        for column in np.flatnonzero(result[row]).tolist():
            if not is_same_place(followed[rows[row]].anchor, seen[pool[column]].box, 2 * STILL_SHIFT):
                result[row, column] *= RESISTANCE
    our_families = np.array([FAMILY_INDEX[followed[index].label] for index in rows])
    their_families = np.array([FAMILY_INDEX[seen[index].label] for index in pool])
    result[our_families[:, None] != their_families[None, :]] = 0.0
    return np.asarray(result, np.float32)


def _reach(item: Followed, now_s: float) -> float:
    unseen_s = min(1.0, max(0.0, now_s - item.seen_s))
    return 0.3 + FOLLOWING[item.label].reach_per_s * unseen_s


def _distance(ours: Floats, theirs: Floats, aspect: float) -> Floats:
    """Between ground points, in units of the mean box size (square root of its area)."""
    scale = np.array([aspect, 1.0], np.float32)
    ground_1 = np.stack([(ours[:, 0] + ours[:, 2]) / 2, ours[:, 3]], axis=1) * scale
    ground_2 = np.stack([(theirs[:, 0] + theirs[:, 2]) / 2, theirs[:, 3]], axis=1) * scale
    size_1, size_2 = (
        np.sqrt(np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 1e-4, None) * scale, axis=1)) for boxes in (ours, theirs)
    )
    gap = np.linalg.norm(ground_1[:, None] - ground_2[None, :], axis=2)
    return np.asarray(gap / ((size_1[:, None] + size_2[None, :]) / 2), np.float32)


def _assign(similarity: Floats, rows: Sequence[int], columns: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs that are most alike together; each track and each detection once.

    Tracks and detections that can only be each other's fall into groups of one; the others are paired group by group,
    which gives the same as all at once and is quick.
    """
    possible = similarity >= MIN_SIMILARITY
    pairs: list[tuple[int, int]] = []
    left = set(np.flatnonzero(possible.any(axis=1)).tolist())
    while left:
        group_rows, group_columns = {left.pop()}, set[int]()
        grown = set(group_rows)
        while grown:
            new_columns = set(np.flatnonzero(possible[sorted(grown)].any(axis=0)).tolist()) - group_columns
            group_columns |= new_columns
            grown = set(np.flatnonzero(possible[:, sorted(new_columns)].any(axis=1)).tolist()) - group_rows
            group_rows |= grown
        left -= group_rows
        mine, theirs = sorted(group_rows), sorted(group_columns)
        table = np.where(possible, similarity, 0.0)[np.ix_(mine, theirs)]
        chosen = [(0, 0)] if table.size == 1 else assign(table)
        pairs += [(rows[mine[row]], columns[theirs[column]]) for row, column in chosen if table[row, column] > 0]
    return pairs


def _is_echo(item: _Seen, taken: Sequence[_Seen]) -> bool:
    """True for a second box of a thing already matched: it must not become a track of its own."""
    return any(FAMILY[other.label] is FAMILY[item.label] and _covered(item.box, other.box) > 0.8 for other in taken)


def _covered(inner: Box, outer: Box) -> float:
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return max(0.0, width) * max(0.0, height) / max(area, 1e-9)


def _carry_on(item: Followed, seen: _Seen, now_s: float, elapsed_s: float) -> Followed:
    box = _blend(_predict(item, now_s), seen.box, BOX_WEIGHT)
    since_s = max(now_s - item.seen_s, 1e-3)
    measured = (
        (seen.box[0] + seen.box[2] - item.box[0] - item.box[2]) / 2 / since_s,
        (seen.box[1] + seen.box[3] - item.box[1] - item.box[3]) / 2 / since_s,
    )
    # the first step is nearly all that is known of a velocity; later ones are smoothed
    weight = FIRST_VELOCITY_WEIGHT if item.looks == 1 else VELOCITY_WEIGHT
    velocity = (
        item.velocity[0] + weight * (measured[0] - item.velocity[0]),
        item.velocity[1] + weight * (measured[1] - item.velocity[1]),
    )
    keeps_place = is_same_place(item.anchor, box, STILL_SHIFT)
    return replace(
        item,
        label=seen.label,
        box=box,
        velocity=velocity,
        score=item.score + 0.3 * (seen.score - item.score),
        looks=item.looks + 1,
        seen_s=now_s,
        anchor=item.anchor if keeps_place else box,
        anchor_s=item.anchor_s if keeps_place else now_s,
    )


def is_same_place(first: Box, second: Box, shift: float) -> bool:
    """True when the two boxes' middles are within `shift` of their own width and height, sizes alike."""
    width = (first[2] - first[0] + second[2] - second[0]) / 2
    height = (first[3] - first[1] + second[3] - second[1]) / 2
    near_x = abs(first[0] + first[2] - second[0] - second[2]) / 2 <= shift * width
    near_y = abs(first[1] + first[3] - second[1] - second[3]) / 2 <= shift * height
    like_x = abs(first[2] - first[0] - second[2] + second[0]) <= 2 * shift * width
    like_y = abs(first[3] - first[1] - second[3] + second[1]) <= 2 * shift * height
    return near_x and near_y and like_x and like_y


def _blend(first: Box, second: Box, weight: float) -> Box:
    a, b, c, d = (old + weight * (new - old) for old, new in zip(first, second, strict=True))
    return (a, b, c, d)


def _begin(track_id: int, seen: _Seen, now_s: float) -> Followed:
    return Followed(
        id=track_id,
        label=seen.label,
        box=seen.box,
        velocity=(0.0, 0.0),
        score=seen.score,
        looks=1,
        born_s=now_s,
        seen_s=now_s,
        anchor=seen.box,
        anchor_s=now_s,
    )


def _is_alive(item: Followed, now_s: float, elapsed_s: float) -> bool:
    rule = FOLLOWING[item.label]
    # one look without it is always forgiven, however far apart the looks are
    unseen_s = now_s - item.seen_s
    patience_s = rule.buffer_s if item.looks >= rule.confirm_looks else 0.0
    return unseen_s <= max(patience_s, 1.5 * min(elapsed_s, 5.0))


def _tell(item: Followed, now_s: float) -> Track:
    rests = item.seen_s - item.anchor_s >= STILL_AFTER_S
    return Track(
        id=item.id,
        label=item.label,
        box=item.box,
        score=item.score,
        born_at=datetime.fromtimestamp(item.born_s, UTC),
        still_since_at=datetime.fromtimestamp(item.anchor_s, UTC) if rests else None,
        missed_s=now_s - item.seen_s,
    )
