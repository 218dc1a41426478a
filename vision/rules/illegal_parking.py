"""违停 illegal parking: a vehicle that stands in a no-parking polygon longer than `dwell_s`.

Judged by place and wall clock: moving, stopped, dwelling, alert, clearing. Its slot outlives the track: a lost detection,
another track id, a person or a bus in front, headlights and a restart change nothing. What already stood there when
watching began is known and not reported, unless `include_present`. Queues wait; `hours` set other limits for bus stops and
loading bays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from vision.footprint import footprint, share_inside
from vision.hours import Window, window_at
from vision.model import Box, Category, Finding, Label, Point, Presence, Track
from vision.queues import Departure, ground_of, is_queueing
from vision.rule import Parameters, Rule, Zone, ZoneState, ZoneStatus
from vision.sight import Sight
from vision.slots import (
    BACK_S,
    BARE_SHARE,
    ESTABLISHED_S,
    REPLACED_S,
    SAME_PLACE,
    Patience,
    Phase,
    Sighting,
    Slot,
    begin_slot,
    changed_since,
    is_back,
    is_covered,
    is_moving,
    is_trusted,
    update_slots,
)
from vision.spots import MAX_STEP_S, PART_COVERED, covered, overlap
from vision.view import View

NAME = "illegal_parking"
SETTLE_S = 3.0
"""A weakly detected vehicle may take this long to be seen for the first time."""

PLACE_EVERY_S = 2.0
TRAIL_S = 2.0
MIN_APPROACH = 0.25
"""Of a vehicle's size: a shorter way says nothing of the direction it came from."""

YOUNG_S = 2.0
KEPT_GONE = 32
RETURN_WINDOW_S = 1.5
"""A slot is compared with those that ended before during this time after it is established."""


class ParkingParameters(Parameters):
    """How long is too long, and what is not parking."""

    dwell_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    include_present: bool = False
    bridge_s: Annotated[float, Field(ge=0, le=60)] = 4.0
    """A vehicle unseen for this long, at a place that does not look like it any more, still stands there."""
    clear_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """The place must be seen empty for this long."""
    footprint_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """So much of the ground under the vehicle lies in the zone."""
    occluded_max_s: Annotated[float, Field(ge=0, le=3600)] = 90.0
    """Hidden by something in front for longer than this in one piece, it is not believed to stand there any more."""
    queue_hold_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """How much longer a vehicle in a queue is waited for; 0: queues are not looked for."""
    reopen_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    """The same vehicle back in its place within this time goes on with its old episode."""
    hours: Annotated[tuple[Window, ...], Field(max_length=32)] = ()
    """Windows with a limit of their own; the first that holds counts, outside of all `dwell_s`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trail:
    """Where a moving vehicle was some seconds ago, so that the way it came is known when it stops."""

    track_id: int
    earlier: Point
    later: Point
    later_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """A slot that ended."""

    slot: Slot
    gone_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ParkingState:
    """What is remembered of one zone; instants are seconds since the epoch."""

    began_s: float | None = None
    looked_s: float | None = None
    slots: tuple[Slot, ...] = ()
    gone: tuple[Gone, ...] = ()
    departures: tuple[Departure, ...] = ()
    trails: tuple[Trail, ...] = ()


def step(state: ParkingState, sight: Sight, zone: Zone[ParkingParameters]) -> tuple[ParkingState, tuple[Finding, ...]]:
    """One look at one zone."""
    parameters, now_s = zone.parameters, sight.at.timestamp()
    began_s = now_s if state.began_s is None else state.began_s
    vehicles = [track for track in sight.tracks if track.label is Label.VEHICLE]
    sighting = Sighting(
        now_s=now_s,
        elapsed_s=0.0 if state.looked_s is None else max(0.0, now_s - state.looked_s),
        tracks=sight.tracks,
        vehicles=vehicles,
        view=sight.view,
        patience=Patience(
            young_s=YOUNG_S,
            standing_s=parameters.bridge_s,
            raised_s=parameters.clear_s,
            occluded_s=parameters.occluded_max_s,
        ),
    )
    trails = _follow_trails(state.trails, vehicles, now_s)
    update = update_slots(state.slots, sighting)
    findings = [_tell(slot, zone, sight.at) for slot in update.ended if slot.raised_s is not None]
    gone, departures = _remember(state, update.ended, now_s, parameters)
    begun = [
        begin_slot(track, now_s, _approach(track, trails), MAX_STEP_S + REPLACED_S * (track.id in update.replaced))
        for track in update.begun
    ]
    slots: list[Slot] = []
    for slot in (*update.kept, *begun):
        was_raised = slot.raised_s is not None
        slot, gone = _resume(_place(slot, zone, now_s), gone, sight.view, now_s)
        if slot.raised_s is not None and not was_raised:  # it had been told to be over: say that it is back
            findings.append(replace(_tell(slot, zone, None), started_at=sight.at, raised_at=sight.at, update=True))
        slots.append(_mark_present(slot, began_s, sight.view, parameters, now_s))
    window = window_at(parameters.hours, sight.at, sight.timezone)
    if window is not None and window.allow:
        slots = [slot if slot.raised_s is not None else replace(slot, counted_from_s=now_s) for slot in slots]
    dwell_s = parameters.dwell_s if window is None or window.dwell_s is None else window.dwell_s
    for index, slot in enumerate(slots):
        seen = any(
            track.id == slot.track_id
            and track.missed_s == 0.0
            and (overlap(track.box, slot.box) >= SAME_PLACE or covered(track.box, slot.box) >= PART_COVERED)
            for track in vehicles
        )
        # what only still looks as it did is waited for: a report needs a picture with the vehicle in it
        if (
            seen
            and _is_due(slot, dwell_s, now_s)
            and not is_queueing(slot, slots, departures, now_s, dwell_s, parameters.queue_hold_s)
        ):
            slots[index] = replace(slot, raised_s=now_s)
            findings.append(_tell(slots[index], zone, None))
    new = ParkingState(
        began_s=began_s,
        looked_s=now_s,
        slots=tuple(_enter_phase(slot) for slot in slots),
        gone=gone,
        departures=departures,
        trails=trails,
    )
    return new, tuple(findings)


def stands_in(box: Box, zone: Zone[ParkingParameters]) -> bool:
    """Does enough of a vehicle's footprint lie in the zone?"""
    return share_inside(footprint(box, zone.ground), zone.polygon) >= zone.parameters.footprint_share


def judge(state: ParkingState, sight: Sight, zone: Zone[ParkingParameters], category: Category) -> Presence:
    """A vehicle that is not known from the beginning stands in the zone; one driving through does not count."""
    tracks, now_s = sight.tracks, sight.at.timestamp()
    raised = [slot for slot in state.slots if slot.raised_s is not None]
    if any(slot.last_s == now_s and state.looked_s == now_s for slot in raised):
        return Presence.THERE
    known = [slot.box for slot in state.slots if slot.present]
    if any(
        track.missed_s == 0.0 and track.still_since_at is not None and stands_in(track.box, zone)
        for track in tracks
        if track.label is Label.VEHICLE and not any(overlap(track.box, box) >= 0.4 for box in known)
    ):
        return Presence.THERE
    hidden = any(slot.hiding_s > 0 or is_covered(slot, tracks) for slot in raised)
    return Presence.HIDDEN if hidden else Presence.GONE


def tell_status(state: ParkingState, zone: Zone[ParkingParameters]) -> ZoneStatus:
    """The value is the longest time, in seconds, that a vehicle which counts has stood in the zone."""
    slots = [slot for slot in state.slots if slot.inside and (not slot.present or slot.raised_s is not None)]
    if not slots or state.looked_s is None:
        return ZoneStatus(state=ZoneState.QUIET)
    longest_s = max(state.looked_s - _since_s(slot) for slot in slots)
    raised = any(slot.raised_s is not None for slot in slots)
    return ZoneStatus(state=ZoneState.RAISED if raised else ZoneState.WATCHING, value=round(max(0.0, longest_s), 1))


def _since_s(slot: Slot) -> float:
    """From when its standing counts."""
    return max(slot.first_s, slot.counted_from_s)


def _is_due(slot: Slot, dwell_s: float, now_s: float) -> bool:
    return (
        slot.inside
        and slot.raised_s is None
        and not slot.present
        and slot.last_s == now_s
        and slot.unlike_s == 0.0
        and now_s - _since_s(slot) >= dwell_s
        and is_trusted(slot)
    )


def _place(slot: Slot, zone: Zone[ParkingParameters], now_s: float) -> Slot:
    """A reported vehicle stays inside, whatever its box does."""
    if slot.raised_s is not None or (slot.placed_s > 0 and now_s - slot.placed_s < PLACE_EVERY_S):
        return slot
    return replace(slot, inside=stands_in(slot.box, zone), placed_s=now_s)


def _mark_present(slot: Slot, began_s: float, view: View | None, parameters: ParkingParameters, now_s: float) -> Slot:
    """It was there from the start: seen since then, or found later (a weak detection) at a place that has not changed."""
    if parameters.include_present or slot.present or slot.raised_s is not None:
        return slot
    if slot.first_s <= began_s + SETTLE_S:
        return replace(slot, present=True)
    if slot.arrived or slot.seen_s < ESTABLISHED_S or slot.placed_s != now_s:
        return slot
    changed = changed_since(slot, view)
    return replace(slot, present=True) if changed is not None and changed < BARE_SHARE else slot


def _resume(slot: Slot, gone: tuple[Gone, ...], view: View | None, now_s: float) -> tuple[Slot, tuple[Gone, ...]]:
    """The vehicle of an earlier slot is back in its place: its episode goes on."""
    if not gone or slot.raised_s is not None or not 0 <= slot.seen_s - ESTABLISHED_S <= RETURN_WINDOW_S:
        return slot, gone
    for item in gone:
        # what was not reported must never have been away: one that drives up stands anew
        may = item.slot.raised_s is not None or (not slot.arrived and now_s - item.gone_s <= BACK_S)
        if (may or (item.slot.present and not slot.arrived)) and is_back(item.slot, slot, view):
            back = replace(
                item.slot,
                box=slot.box,
                track_id=slot.track_id,
                last_s=slot.last_s,
                seen_s=item.slot.seen_s + slot.seen_s,
                watched_s=item.slot.watched_s + slot.watched_s,
                hiding_s=0.0,
                empty_s=0.0,
                unlike_s=0.0,
            )
            return back, tuple(other for other in gone if other is not item)
    return slot, gone


def _remember(
    state: ParkingState, ended: Sequence[Slot], now_s: float, parameters: ParkingParameters
) -> tuple[tuple[Gone, ...], tuple[Departure, ...]]:
    gone = [item for item in state.gone if now_s - item.gone_s <= max(parameters.reopen_s, BACK_S)]
    gone += [Gone(slot=slot, gone_s=now_s) for slot in ended if slot.patch is not None]
    departures = [item for item in state.departures if now_s - item.left_s <= parameters.queue_hold_s]
    departures += [
        Departure(box=slot.box, first_s=slot.first_s, left_s=slot.last_s, approach=slot.approach)
        for slot in ended
        if slot.raised_s is None and slot.seen_s >= ESTABLISHED_S and slot.arrived
    ]
    return tuple(gone[-KEPT_GONE:]), tuple(departures[-KEPT_GONE:])


def _follow_trails(trails: Sequence[Trail], vehicles: Sequence[Track], now_s: float) -> tuple[Trail, ...]:
    known = {trail.track_id: trail for trail in trails}
    result = []
    for track in vehicles:
        here, trail = ground_of(track.box), known.get(track.id)
        if trail is None:
            trail = Trail(track_id=track.id, earlier=here, later=here, later_s=now_s)
        elif is_moving(track, now_s) and now_s - trail.later_s >= TRAIL_S:
            trail = replace(trail, earlier=trail.later, later=here, later_s=now_s)
        result.append(trail)
    return tuple(result)


def _approach(track: Track, trails: Sequence[Trail]) -> Point | None:
    """The way it came in its last seconds; None when it was hardly seen moving."""
    trail = next((trail for trail in trails if trail.track_id == track.id), None)
    if trail is None:
        return None
    x, y = ground_of(track.box)
    way = (x - trail.earlier[0], y - trail.earlier[1])
    width, height = track.box[2] - track.box[0], track.box[3] - track.box[1]
    return way if abs(way[0]) >= MIN_APPROACH * width or abs(way[1]) >= MIN_APPROACH * height else None


def _enter_phase(slot: Slot) -> Slot:
    if slot.raised_s is not None:
        phase = Phase.CLEARING if slot.empty_s > 0 else Phase.ALERT
    else:
        phase = Phase.DWELLING if slot.seen_s >= ESTABLISHED_S else Phase.STOPPED
    return slot if slot.phase is phase else replace(slot, phase=phase)


def _tell(slot: Slot, zone: Zone[ParkingParameters], cleared_at: datetime | None) -> Finding:
    return Finding(
        rule=NAME,
        category=Category.ILLEGAL_PARKING,
        zone=zone.name,
        key=slot.key,
        started_at=datetime.fromtimestamp(_since_s(slot), UTC),
        raised_at=datetime.fromtimestamp(slot.raised_s or slot.last_s, UTC),
        cleared_at=cleared_at,
        box=slot.box,
        score=slot.score,
        detail={
            "stopped_at": datetime.fromtimestamp(slot.first_s, UTC).isoformat(),
            "present": slot.present,
            "occluded_s": round(slot.occluded_s, 1),
            "unseen_s": round(slot.held_s, 1),
        },
    )


RULE = Rule(
    name=NAME,
    title_zh="违停",
    title_en="Illegal parking",
    labels=frozenset({Label.VEHICLE}),
    parameters=ParkingParameters,
    state=ParkingState,
    fresh=ParkingState,
    step=step,
    judge=judge,
    status=tell_status,
)
