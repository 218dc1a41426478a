"""Queues and jams: vehicles that stopped one behind another and will move on, and are therefore not parked.

What tells them from parked vehicles, seen by tracks alone: they stop within seconds of each other in one row along the way
they came, and when the one ahead moves off, the next follows. A vehicle that does neither, or stays when the one ahead
has long gone, is parked, or is itself the obstacle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vision.model import Box, Point
from vision.slots import ESTABLISHED_S, SAME_PLACE, Slot
from vision.spots import overlap

STOP_WINDOW_S = 20.0
"""Vehicles of one queue stop within this time of each other."""

NEIGHBOUR_GAP = 1.2
"""Between the boxes of neighbours, in sizes of a box."""

FOLLOW_S = 20.0
"""Who has not followed by then when the one ahead drove off does not wait for it."""

IN_LINE = 0.85
"""Cosine between the way a vehicle came and the direction to its neighbour."""

SAME_WAY = 0.5
"""Cosine between the ways by which two vehicles of one queue came."""

IN_ROW = 0.5
"""How far from the line through two others a third of the row may be, in heights of its box."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """A vehicle that had stood and drove off. Instants in seconds since the epoch."""

    box: Box
    first_s: float
    left_s: float
    approach: Point | None = None
    """The way it had come."""


def is_queueing(
    slot: Slot, slots: Sequence[Slot], departures: Sequence[Departure], now_s: float, dwell_s: float, hold_s: float
) -> bool:
    """Should the slot's time-out wait, because it stands in a queue?

    While others of its row stand that stopped when it did: until `hold_s` after its time-out. When the one ahead of it
    drove off: until `FOLLOW_S` after that, in which it should have followed.
    """
    if not slot.arrived or hold_s <= 0:
        return False
    ahead = [
        d
        for d in departures
        if now_s - d.left_s <= min(hold_s, FOLLOW_S) and d.left_s >= slot.first_s and _is_ahead(slot, d.box, d.approach)
    ]
    if ahead:
        return True
    standing = [
        other
        for other in slots
        if other.key != slot.key
        and other.arrived
        and not other.present
        and other.raised_s is None
        and abs(other.first_s - slot.first_s) <= STOP_WINDOW_S
        and other.seen_s >= ESTABLISHED_S
    ]
    waits = now_s - max(slot.first_s, slot.counted_from_s) < dwell_s + hold_s
    return waits and (
        any(_is_in_line(slot, other.box, other.approach) for other in standing) or _is_in_row(slot, standing)
    )


def _is_ahead(slot: Slot, box: Box, approach: Point | None) -> bool:
    return _came_alike(slot.approach, approach) and _is_near(slot.box, box) and _cosine(slot, box) >= IN_LINE


def _is_in_line(slot: Slot, box: Box, approach: Point | None) -> bool:
    return _came_alike(slot.approach, approach) and _is_near(slot.box, box) and abs(_cosine(slot, box)) >= IN_LINE


def _came_alike(first: Point | None, second: Point | None) -> bool:
    """Did both drive the same way? The other lane's traffic is nobody's queue."""
    if first is None or second is None:
        return False
    one, two = (first[0] * 16 / 9, first[1]), (second[0] * 16 / 9, second[1])
    length = math.hypot(*one) * math.hypot(*two)
    return length > 1e-9 and (one[0] * two[0] + one[1] * two[1]) / length >= SAME_WAY


def _cosine(slot: Slot, box: Box) -> float:
    """Of the angle between the way it came and the direction to the other; the picture is taken as 16 by 9."""
    if slot.approach is None:
        return 0.0
    (x, y), (other_x, other_y) = ground_of(slot.box), ground_of(box)
    way = (slot.approach[0] * 16 / 9, slot.approach[1])
    gap = ((other_x - x) * 16 / 9, other_y - y)
    length = math.hypot(*way) * math.hypot(*gap)
    return (way[0] * gap[0] + way[1] * gap[1]) / length if length > 1e-9 else 0.0


def _is_in_row(slot: Slot, others: Sequence[Slot]) -> bool:
    """Two others that stand in one line with it, each near to it or to one another."""
    x, y = ground_of(slot.box)
    for index, first in enumerate(others):
        for second in others[index + 1 :]:
            chain = (_is_near(slot.box, first.box), _is_near(slot.box, second.box), _is_near(first.box, second.box))
            if sum(chain) < 2:
                continue
            (x1, y1), (x2, y2) = ground_of(first.box), ground_of(second.box)
            length = math.hypot((x2 - x1) * 16 / 9, y2 - y1)
            off = abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) * 16 / 9
            # three side by side stand in a line as well: where the way they came is known, it must lie along the line
            if length > 1e-6 and off / length <= IN_ROW * (slot.box[3] - slot.box[1]) and slot.approach is None:
                return True
    return False


def _is_near(first: Box, second: Box) -> bool:
    """Neighbours: not far apart, and not the same place."""
    if overlap(first, second) >= SAME_PLACE:
        return False
    gap_x = max(0.0, max(first[0], second[0]) - min(first[2], second[2])) * 16 / 9
    gap_y = max(0.0, max(first[1], second[1]) - min(first[3], second[3]))
    size = (_size(first) + _size(second)) / 2
    return math.hypot(gap_x, gap_y) <= NEIGHBOUR_GAP * size


def _size(box: Box) -> float:
    return math.sqrt(max(0.0, box[2] - box[0]) * 16 / 9 * max(0.0, box[3] - box[1]))


def ground_of(box: Box) -> Point:
    """The middle of the lower edge."""
    return ((box[0] + box[2]) / 2, box[3])
