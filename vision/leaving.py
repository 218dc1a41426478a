"""Who stands beside a thing, and who stood there when it was left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision.model import Box, Label, Track
from vision.rule import AnyZone

REACH_M = 1.5
NEAR_WIDTHS, NEAR_HEIGHTS = 2.5, 0.5
"""Without a ground plane, "beside" is counted in sizes of the person."""

STOP_S = 10.0
STOP_LEAVE_S = 4.0
"""What is first seen so soon after somebody had stood there was left by that person, when they stopped there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Somebody who stands, or stood some seconds ago."""

    id: int
    box: Box
    since_s: float
    until_s: float


def watch_stops(stops: Sequence[Stop], tracks: Sequence[Track], now_s: float) -> tuple[Stop, ...]:
    """Who stands there, and who did some seconds ago."""
    kept = {stop.id: stop for stop in stops if now_s - stop.until_s <= STOP_S}
    for track in tracks:
        if track.label is Label.PERSON and track.still_since_at is not None and track.missed_s == 0.0:
            since_s = track.still_since_at.timestamp()
            kept[track.id] = Stop(id=track.id, box=track.box, since_s=since_s, until_s=now_s)
    return tuple(kept.values())


def find_stop(stops: Sequence[Stop], box: Box, first_s: float, zone: AnyZone) -> float | None:
    """When the person stopped who left a thing that was first seen at `first_s`; None when nobody was seen there."""
    return max(
        (
            stop.since_s
            for stop in stops
            if first_s - STOP_S <= stop.since_s <= first_s <= stop.until_s + STOP_LEAVE_S
            and is_near(stop.box, box, zone)
        ),
        default=None,
    )


def is_beside(person: Track, box: Box, zone: AnyZone) -> bool:
    """True while that person, seen just now, is within reach of the thing."""
    return person.missed_s <= 1.0 and is_near(person.box, box, zone)


def is_near(person: Box, box: Box, zone: AnyZone) -> bool:
    """Within reach: the person's feet and the thing's nearest point."""
    (px1, py1, px2, y), (x1, _, x2, y2) = person, box
    x = (px1 + px2) / 2
    near = (min(max(x, x1), x2), y2)
    if zone.ground is not None:
        away_m = zone.ground.distance_m((x, y), near)
        return away_m is not None and away_m <= REACH_M
    return abs(x - near[0]) <= NEAR_WIDTHS * (px2 - px1) and abs(y - y2) <= NEAR_HEIGHTS * (y - py1)
