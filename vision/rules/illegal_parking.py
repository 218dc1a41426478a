"""违停 illegal parking: a vehicle that stands in a no-parking polygon longer than `dwell_s`.

Judged by place and wall clock. What already stood there when watching began is known and not reported, unless
`include_present`; after a restart the remembered state says what had been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from vision.model import Category, Finding, Label, Presence, Track
from vision.rule import Parameters, Rule, Zone
from vision.sight import Sight
from vision.spots import Patience, Spot, is_hidden, is_trusted, overlap, standing_s, update_spots

NAME = "illegal_parking"
SETTLE_S = 3.0
"""A weakly detected vehicle may take this long to be seen for the first time."""

MIN_SEEN_SHARE = 0.5


class ParkingParameters(Parameters):
    """How long is too long."""

    dwell_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    include_present: bool = False
    bridge_s: Annotated[float, Field(ge=0, le=60)] = 4.0
    """A vehicle unseen for this long still stands there."""
    clear_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """The place must be seen empty for this long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParkingState:
    """What is remembered of one zone; times are seconds since the epoch."""

    began_s: float | None = None
    looked_s: float | None = None
    spots: tuple[Spot, ...] = ()


def step(state: ParkingState, sight: Sight, zone: Zone[ParkingParameters]) -> tuple[ParkingState, tuple[Finding, ...]]:
    """One look at one zone."""
    tracks, now = sight.tracks, sight.at
    now_s = now.timestamp()
    began_s = now_s if state.began_s is None else state.began_s
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now_s - state.looked_s)
    parameters = zone.parameters
    patience = Patience(young_s=2.0, standing_s=parameters.bridge_s, raised_s=parameters.clear_s)
    update = update_spots(state.spots, vehicles_in(tracks, zone), tracks, now, elapsed_s, patience)
    findings = [_tell(spot, zone, now) for spot in update.ended if spot.raised_s is not None]
    spots: list[Spot] = []
    for spot in update.kept:
        if not parameters.include_present and spot.first_s <= began_s + SETTLE_S:
            spot = replace(spot, present=True)
        if _is_due(spot, parameters, now):
            spot = replace(spot, raised_s=now_s)
            findings.append(_tell(spot, zone, None))
        spots.append(spot)
    return ParkingState(began_s=began_s, looked_s=now_s, spots=tuple(spots)), tuple(findings)


def vehicles_in(tracks: Sequence[Track], zone: Zone[ParkingParameters]) -> list[Track]:
    """Vehicles whose ground point lies in the zone."""
    return [track for track in tracks if track.label is Label.VEHICLE and zone.contains(track.ground)]


def judge(state: ParkingState, sight: Sight, zone: Zone[ParkingParameters], category: Category) -> Presence:
    """A vehicle that is not known from the beginning stands in the zone; one driving through does not count."""
    tracks = sight.tracks
    known = [spot.box for spot in state.spots if spot.present]
    if any(
        track.missed_s == 0.0 and track.still_since_at is not None
        for track in vehicles_in(tracks, zone)
        if not any(overlap(track.box, box) >= 0.4 for box in known)
    ):
        return Presence.THERE
    hidden = any(is_hidden(spot, tracks) for spot in state.spots if spot.raised_s is not None)
    return Presence.HIDDEN if hidden else Presence.GONE


def _is_due(spot: Spot, parameters: ParkingParameters, now: datetime) -> bool:
    return (
        spot.raised_s is None
        and not spot.present
        and spot.last_s == now.timestamp()
        and standing_s(spot, now) >= parameters.dwell_s
        and is_trusted(spot, MIN_SEEN_SHARE)
    )


def _tell(spot: Spot, zone: Zone[ParkingParameters], cleared_at: datetime | None) -> Finding:
    return Finding(
        rule=NAME,
        category=Category.ILLEGAL_PARKING,
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
    title_zh="违停",
    title_en="Illegal parking",
    labels=frozenset({Label.VEHICLE}),
    parameters=ParkingParameters,
    state=ParkingState,
    fresh=ParkingState,
    step=step,
    judge=judge,
)
