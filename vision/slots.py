"""Places where vehicles stand, and what is remembered of them: box, look, time, and what hid them.

A slot is a place, not a track. Each look says of every slot one of four things: the vehicle is seen there; it was not
detected, but the place looks as it did with the vehicle (held); something is in front (covered); the place is empty. Only
emptiness ends a slot, or another vehicle in it. Pure: time is an argument, every step gives new slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from vision.background import ABSORB_S
from vision.model import Box, Track
from vision.spots import MAX_STEP_S, area, covered, overlap, pair_boxes
from vision.view import Patch, View, likeness, structure

ALIKE = 0.75
"""Likeness from which a place still looks as it did with its vehicle, when no other was seen to come.

Rendered streets, likeness to a look of some seconds before: the same vehicle 0.95 and more in any weather, in another light 0.75 to
1.0; another vehicle of the same kind in the same place up to 0.89; the bare road up to 0.54."""

SAME = 0.9
"""Likeness from which it is the same vehicle that was away, or was passed over to another track."""

OTHER = 0.6
"""Below this it is not the vehicle that stood there before a gap in watching."""

UNLIKE = 0.8
"""Below this for a while, a newcomer in a reported vehicle's place is another vehicle."""

ESTABLISHED_S = 2.0
RESTED_S = 0.8
"""Seen at rest for so long, what drove up has stopped."""

LEAVING_S = 1.0
HIDDEN_SHARE = 0.3
MOSTLY_HIDDEN_SHARE = 0.6
IN_FRONT = 0.15
"""Of its height: what ends higher than this above the slot's lower edge stands behind it."""

CLEAR_SHARE = 0.15
"""A look is learnt only while nothing that moves covers more of it than this. (A neighbour that stands belongs to it.)"""

LEARN_EVERY_S = 5.0
CHANGEOVER_S = 2.0
"""One vehicle drives off and another comes to rest in its place: quicker than this it is one that stayed, whose track was
carried off, or taken over, by something passing in front."""

REPLACED_S = 5.0
"""A reported vehicle is another one when a newcomer is seen in its place, unlike it, for so long."""

GLARE_LEVELS = 40.0
"""A place by so many grey levels brighter than its slow background is dazzled."""

DAZZLED_S = 30.0
"""No longer than this in one piece."""

BARE_SHARE = 0.05
"""Below this nothing stands there, whatever it looks like."""

MIN_STRUCTURE = 0.1
"""Mean square of a patch's local contrast; bare road has less, a vehicle 0.3 and more."""

SAME_PLACE = 0.5
"""Overlap (intersection over union) from which two boxes are one place."""

ANCHOR_S = 10.0
LONG_GAP_S = 300.0
"""After not watching for this long, what stood unreported must look the same to be the same."""

BACK_S = 30.0
"""An unreported vehicle that is there again, unmoved, within this time was never away."""


class Phase(StrEnum):
    """Where a slot's episode stands. (What moves has no slot.)"""

    STOPPED = "stopped"
    DWELLING = "dwelling"
    ALERT = "alert"
    CLEARING = "clearing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One vehicle's place. Times named `_s` that end an instant are seconds since the epoch, the others durations."""

    key: str
    box: Box
    score: float
    track_id: int
    first_s: float
    """Instant of coming to rest."""
    last_s: float
    """Instant it was last seen or believed there."""
    own_s: float = 0.0
    """Instant at which it was last known to be this vehicle: by its track, or by a look that is the same."""
    phase: Phase = Phase.STOPPED
    seen_s: float = 0.0
    held_s: float = 0.0
    watched_s: float = 0.0
    """For how long of the time since `first_s` somebody looked and nothing was in front."""
    occluded_s: float = 0.0
    hiding_s: float = 0.0
    """Of the present stretch of being hidden."""
    empty_s: float = 0.0
    unlike_s: float = 0.0
    off: bool = False
    """Its own track was seen driving elsewhere since it was last known to be here."""
    arrived: bool = False
    """It was seen to drive here."""
    approach: tuple[float, float] | None = None
    """The way it came, as a step in the picture."""
    inside: bool = True
    """Enough of its footprint lies in the zone; the others are only watched for what they tell about queues."""
    placed_s: float = 0.0
    """Instant when that was last looked at."""
    present: bool = False
    """It stood there when watching began."""
    counted_from_s: float = 0.0
    """Instant from which standing here is not allowed; what stood allowed before does not count."""
    raised_s: float | None = None
    patch: Patch | None = None
    patch_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long an empty place, or one that is hidden, is still taken for the vehicle's."""

    young_s: float
    standing_s: float
    raised_s: float
    occluded_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One look at all slots."""

    now_s: float
    elapsed_s: float
    tracks: Sequence[Track]
    vehicles: Sequence[Track]
    view: View | None
    patience: Patience

    @property
    def step_s(self) -> float:
        """What this look adds to a duration."""
        return min(self.elapsed_s, MAX_STEP_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotUpdate:
    """What one look made of the slots."""

    kept: tuple[Slot, ...]
    ended: tuple[Slot, ...]
    begun: tuple[Track, ...]
    """Vehicles that stand where no slot is."""
    replaced: frozenset[int] = frozenset()
    """Tracks of those that stand where another had stood: known as such only `REPLACED_S` after they came to rest."""


def update_slots(slots: Sequence[Slot], sighting: Sighting) -> SlotUpdate:
    """One look."""
    ended: list[Slot] = []
    if sighting.elapsed_s > MAX_STEP_S:
        slots, ended = _bridge_gap(slots, sighting)
    seen = [track for track in sighting.vehicles if track.missed_s == 0.0]
    pairs = pair_boxes([slot.box for slot in slots], seen, may_grow=False)
    kept: list[Slot] = []
    begun: list[Track] = []
    replaced: set[int] = set()
    for index, slot in enumerate(slots):
        track = pairs.get(index)
        if track is not None and _is_replaced(slot, track, sighting):
            ended.append(slot)
            begun.append(track)
            replaced.add(track.id)
            continue
        if track is not None and _supports(slot, track, sighting.now_s):
            kept.append(_see(slot, track, sighting))
            continue
        new = _miss(slot, seen, sighting)
        if new is not None and not _is_over(new, sighting.patience):
            kept.append(new)
            continue
        ended.append(slot)
    paired = {track.id for track in pairs.values()}
    for track in seen:
        free = track.id not in paired and not is_moving(track, sighting.now_s)
        if free and not _repeats(track, kept, begun, sighting.now_s):
            begun.append(track)
    return SlotUpdate(
        kept=tuple(_drop_doubles(kept)), ended=tuple(ended), begun=tuple(begun), replaced=frozenset(replaced)
    )


def begin_slot(track: Track, now_s: float, approach: tuple[float, float] | None, back_s: float) -> Slot:
    """A slot for a vehicle that came to rest, at most `back_s` ago."""
    rested_s = now_s if track.still_since_at is None else track.still_since_at.timestamp()
    since_s = max(rested_s, now_s - back_s)
    return Slot(
        key=f"{int(since_s * 1000):x}-{track.id % 1000}",
        box=track.box,
        score=track.score,
        track_id=track.id,
        first_s=since_s,
        last_s=now_s,
        own_s=now_s,
        seen_s=now_s - since_s,
        watched_s=now_s - since_s,
        arrived=approach is not None or track.born_at.timestamp() + 0.5 < since_s,
        approach=approach,
    )


def is_moving(track: Track, now_s: float) -> bool:
    """A track just born is not yet known to move."""
    return track.still_since_at is None and now_s - track.born_at.timestamp() > 1.0


def is_covered(slot: Slot, tracks: Sequence[Track], share: float = HIDDEN_SHARE) -> bool:
    """True while something else's box lies over the place, and its lower edge says that it is in front."""
    reach = slot.box[3] - IN_FRONT * (slot.box[3] - slot.box[1])
    return any(
        covered(slot.box, track.box) >= share and track.box[3] >= reach for track in tracks if track.id != slot.track_id
    )


def is_trusted(slot: Slot) -> bool:
    """Really there for most of the time in which that could be seen, and detected for a good part of it."""
    watched_s = max(slot.watched_s, 1e-6)
    return slot.seen_s + slot.held_s >= 0.5 * watched_s and slot.seen_s >= 0.3 * watched_s


def is_back(gone: Slot, slot: Slot, view: View | None) -> bool:
    """Is what stands in the slot now the vehicle that had stood there?"""
    if gone.patch is None or view is None or overlap(gone.box, slot.box) < SAME_PLACE:
        return False
    patch = view.patch(gone.box)
    return patch is not None and likeness(gone.patch, patch) >= SAME


def _bridge_gap(slots: Sequence[Slot], sighting: Sighting) -> tuple[list[Slot], list[Slot]]:
    """After a time without looks nothing is known of it; after a long one only a look tells who stands there.

    Those that go on, and reported ones that are over.
    """
    result: list[Slot] = []
    ended: list[Slot] = []
    for slot in slots:
        same = _looks_same(slot, sighting.view)
        if sighting.elapsed_s > LONG_GAP_S and not (slot.present or slot.raised_s is not None or same):
            continue
        doubted = slot.empty_s > 0 or slot.off
        if slot.raised_s is not None:
            if doubted and _looks_other(slot, sighting, MOSTLY_HIDDEN_SHARE):
                ended.append(slot)
                continue
        elif not slot.present and ((doubted and not same) or _looks_other(slot, sighting)):
            continue
        result.append(replace(slot, last_s=slot.last_s + sighting.elapsed_s, own_s=_known_s(slot) + sighting.elapsed_s))
    return result, ended


def _looks_other(slot: Slot, sighting: Sighting, hidden_share: float = HIDDEN_SHARE) -> bool:
    """The place is seen, and with another vehicle in it or none."""
    value = _likeness_now(slot, sighting.view)
    if value is None or value >= OTHER:
        return False
    in_front = [track for track in sighting.tracks if overlap(track.box, slot.box) < SAME_PLACE]
    return not is_covered(slot, in_front, hidden_share)


def _looks_same(slot: Slot, view: View | None) -> bool:
    value = _likeness_now(slot, view)
    return value is not None and value >= SAME


def _likeness_now(slot: Slot, view: View | None) -> float | None:
    if slot.patch is None or view is None:
        return None
    patch = view.patch(slot.box)
    return None if patch is None else likeness(slot.patch, patch)


def _known_s(slot: Slot) -> float:
    """`own_s`, or what comes near to it where an older version kept none."""
    return slot.own_s or slot.last_s - slot.unlike_s


def _is_newcomer(slot: Slot, track: Track) -> bool:
    """It was seen moving before it came to rest here, after the slot's own was last seen."""
    if track.id == slot.track_id or track.still_since_at is None:
        return False
    arrived_s = track.still_since_at.timestamp()
    return track.born_at.timestamp() + 1.0 < arrived_s and arrived_s >= _known_s(slot)


def _had_time_to_change(slot: Slot, track: Track) -> bool:
    return track.still_since_at is not None and track.still_since_at.timestamp() - _known_s(slot) >= CHANGEOVER_S


def _is_replaced(slot: Slot, track: Track, sighting: Sighting) -> bool:
    """Another vehicle stands in the place. Of a reported one only a lasting other look is believed, or that the place was
    seen empty: a car that passes in front can swap tracks with the one that stands, and doubt would cost a second report.
    """
    value = _likeness_now(slot, sighting.view)
    if not _is_newcomer(slot, track):
        long_s = RESTED_S if slot.raised_s is None else REPLACED_S
        return slot.unlike_s >= long_s and value is not None and value < OTHER
    if slot.raised_s is None:
        return value is None or (value < SAME and _had_time_to_change(slot, track))
    if value is None or value >= SAME:
        return False
    return slot.empty_s >= CHANGEOVER_S or (slot.unlike_s >= REPLACED_S and value < _unlike(slot, track))


def _unlike(slot: Slot, track: Track) -> float:
    """Below which likeness a newcomer is not the slot's own. One that had no time to leave is hardly another."""
    return SAME if _had_time_to_change(slot, track) else UNLIKE


def _supports(slot: Slot, track: Track, now_s: float) -> bool:
    if track.id == slot.track_id:
        return True
    if is_moving(track, now_s):
        return False
    return track.still_since_at is not None or slot.seen_s >= ESTABLISHED_S


def _see(slot: Slot, track: Track, sighting: Sighting) -> Slot:
    step_s = sighting.step_s
    box = slot.box
    if overlap(slot.box, track.box) >= SAME_PLACE or area(track.box) > area(slot.box):
        weight = min(1.0, step_s / ANCHOR_S)  # slow, so that a creeping car leaves its slot
        a, b, c, d = (old + weight * (new - old) for old, new in zip(slot.box, track.box, strict=True))
        box = (a, b, c, d)
    unlike_s = 0.0
    if slot.raised_s is not None and _is_newcomer(slot, track):
        value = _likeness_now(slot, sighting.view)
        unlike_s = slot.unlike_s + step_s if value is not None and value < _unlike(slot, track) else 0.0
    elif track.id != slot.track_id and _looks_other(slot, sighting, CLEAR_SHARE):
        # it came while the place was hidden, or while nobody looked
        away = slot.raised_s is not None or slot.unlike_s > 0 or sighting.now_s - _known_s(slot) >= CHANGEOVER_S
        unlike_s = slot.unlike_s + step_s if away else 0.0
    new = replace(
        slot,
        box=box,
        score=max(track.score, slot.score),
        track_id=track.id if unlike_s == 0.0 else slot.track_id,
        last_s=sighting.now_s,
        own_s=sighting.now_s if unlike_s == 0.0 else _known_s(slot),
        seen_s=slot.seen_s + step_s,
        watched_s=slot.watched_s + step_s,
        hiding_s=0.0,
        empty_s=0.0,
        unlike_s=unlike_s,
        off=slot.off and unlike_s > 0.0,
    )
    return new if unlike_s > 0.0 else _learn(new, sighting)


def _learn(slot: Slot, sighting: Sighting) -> Slot:
    """Remember how the place looks with its vehicle, every few seconds and never with something in front."""
    view, now_s = sighting.view, sighting.now_s
    if view is None or not slot.inside or slot.seen_s < ESTABLISHED_S or now_s - slot.patch_s < LEARN_EVERY_S:
        return slot
    if is_covered(slot, [track for track in sighting.tracks if track.still_since_at is None], CLEAR_SHARE):
        return slot
    if is_covered(slot, sighting.tracks):  # what waits in front would be taken for it when it has left
        return slot
    return replace(slot, patch=view.patch(slot.box), patch_s=now_s)


def _miss(slot: Slot, seen: Sequence[Track], sighting: Sighting) -> Slot | None:
    """The slot after a look without a detection there; None when its vehicle is seen to have left."""
    step_s, now_s, view = sighting.step_s, sighting.now_s, sighting.view
    value = _likeness_now(slot, view)
    if _is_elsewhere(slot, seen):
        slot = replace(slot, off=True)
    # once it was seen empty, or its vehicle seen driving off, a place is not its own again for being somewhat like it
    enough = SAME if slot.off or slot.empty_s >= CHANGEOVER_S else ALIKE
    if value is not None and value >= enough and _is_telling(slot, view):
        held = replace(
            slot,
            last_s=now_s,
            own_s=now_s if value >= SAME else _known_s(slot),
            off=slot.off and value < SAME,
            held_s=slot.held_s + step_s,
            watched_s=slot.watched_s + step_s,
            hiding_s=0.0,
            empty_s=0.0,
        )
        sure = value >= SAME and not is_covered(slot, sighting.tracks)
        if view is None or not sure or now_s - slot.patch_s < LEARN_EVERY_S:
            return held
        return replace(held, patch=view.patch(slot.box), patch_s=now_s)
    if _has_left(slot, seen, sighting):
        return None
    if is_covered(slot, sighting.tracks) or _is_dazzled(slot, value, view):
        return replace(slot, occluded_s=slot.occluded_s + step_s, hiding_s=slot.hiding_s + step_s)
    return replace(slot, empty_s=slot.empty_s + step_s, watched_s=slot.watched_s + step_s)


def _is_dazzled(slot: Slot, value: float | None, view: View | None) -> bool:
    """Headlights on the place: nothing is detected, and it looks like neither its vehicle nor the bare road."""
    if value is None or view is None or slot.hiding_s > DAZZLED_S:
        return False
    glare = view.brighter(slot.box)
    return glare is not None and glare >= GLARE_LEVELS


def _is_telling(slot: Slot, view: View | None) -> bool:
    """A look without structure is like any road, and so is a place that is its slow background again."""
    changed = changed_since(slot, view)
    return (
        slot.patch is not None and structure(slot.patch) >= MIN_STRUCTURE and (changed is None or changed >= BARE_SHARE)
    )


def changed_since(slot: Slot, view: View | None) -> float | None:
    """Share of the place that differs from how it was before the vehicle came; None where that is not known."""
    if view is None or view.learnt_at is None:
        return None
    learnt_s = view.learnt_at.timestamp()
    if learnt_s >= slot.first_s or slot.last_s - slot.first_s > ABSORB_S:
        return None
    return view.changed(slot.box)


def _has_left(slot: Slot, seen: Sequence[Track], sighting: Sighting) -> bool:
    """Its own track is seen elsewhere: no need to wait. What was raised is only ended by its place being empty, since a
    track can be carried off by something that passes in front."""
    if slot.raised_s is not None:
        return False
    young = slot.seen_s < ESTABLISHED_S
    if not young and (sighting.now_s - slot.last_s < LEAVING_S or is_covered(slot, sighting.tracks)):
        return False
    return _is_elsewhere(slot, seen)


def _is_elsewhere(slot: Slot, seen: Sequence[Track]) -> bool:
    return any(
        track.id == slot.track_id and overlap(track.box, slot.box) < 0.3 and covered(track.box, slot.box) < 0.6
        for track in seen
    )


def _is_over(slot: Slot, patience: Patience) -> bool:
    if slot.seen_s < ESTABLISHED_S and slot.raised_s is None:
        # one that drove up and had come to rest when a bus stopped before it is waited for like any other
        rested = slot.arrived and slot.seen_s >= RESTED_S
        hiding_s = max(0.0, slot.hiding_s - patience.occluded_s) if rested else slot.hiding_s
        return slot.empty_s + hiding_s > patience.young_s
    if slot.hiding_s > patience.occluded_s:
        return True
    return slot.empty_s > (patience.standing_s if slot.raised_s is None else patience.raised_s)


def _repeats(track: Track, kept: Sequence[Slot], begun: Sequence[Track], now_s: float) -> bool:
    """A second box of something already standing, or one box around several standing things."""
    return any(
        covered(track.box, slot.box) >= 0.85 or covered(slot.box, track.box) >= 0.85
        for slot in kept
        if slot.seen_s >= ESTABLISHED_S
    ) or any(
        overlap(track.box, box) >= SAME_PLACE
        for box in (*(slot.box for slot in kept if slot.last_s == now_s), *(other.box for other in begun))
    )


def _drop_doubles(slots: Sequence[Slot]) -> list[Slot]:
    """Two slots that have grown into one place were one vehicle with two boxes: the one reported, or older, stays."""
    ordered = sorted(slots, key=lambda slot: (slot.raised_s is None, slot.first_s))
    kept: list[Slot] = []
    for slot in ordered:
        if slot.raised_s is not None or not any(overlap(slot.box, other.box) >= SAME_PLACE for other in kept):
            kept.append(slot)
    return [slot for slot in slots if slot in kept]
