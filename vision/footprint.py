"""Where a vehicle stands: its footprint in the picture, and how much of it lies in a zone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vision.ground import Ground
from vision.model import Box, Point

FOOT_SHARE = 0.3
"""Without a ground plane: the lower part of a box that stands for the ground under it. What lies higher is the body."""

DEPTH_M = 1.8
"""With a ground plane: how far from its lower edge, away from the camera, a vehicle reaches at least: a car's width."""


def footprint(box: Box, ground: Ground | None) -> tuple[Point, ...]:
    """The four corners, in the picture, of the ground that a vehicle with this box stands on."""
    x1, y1, x2, y2 = box
    top = y2 - FOOT_SHARE * (y2 - y1)
    if ground is not None:
        far = [_move_off(ground, (x, y2)) for x in (x1, x2)]
        tops = [point[1] for point in far if point is not None]
        if tops:
            # a small share of the box at least: the far edge of a vehicle far away is nearly its near edge
            top = min(y2 - 0.1 * (y2 - y1), max(y1, min(tops)))
    return ((x1, top), (x2, top), (x2, y2), (x1, y2))


def share_inside(shape: Sequence[Point], polygon: Sequence[Point]) -> float:
    """Share of the convex `shape` that lies in the polygon, 0..1."""
    whole = abs(_signed_area(shape))
    if whole <= 1e-12:
        return 0.0
    return min(1.0, abs(_signed_area(_clip(polygon, shape))) / whole)


def _move_off(ground: Ground, point: Point) -> Point | None:
    place = ground.locate(point)
    if place is None:
        return None
    distance_m = math.hypot(*place)
    scale = (distance_m + DEPTH_M) / max(distance_m, 0.1)
    return ground.show((place[0] * scale, place[1] * scale))


def _clip(polygon: Sequence[Point], window: Sequence[Point]) -> list[Point]:
    """The part of a polygon inside a convex window (Sutherland and Hodgman 1974); folds of it have no area."""
    result = list(polygon)
    turn = 1.0 if _signed_area(window) > 0 else -1.0
    for index, corner in enumerate(window):
        previous = window[index - 1]
        result = _cut(result, previous, corner, turn)
        if not result:
            break
    return result


def _cut(polygon: Sequence[Point], start: Point, end: Point, turn: float) -> list[Point]:
    def side(point: Point) -> float:
        return turn * ((end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0]))

    kept: list[Point] = []
    for index, point in enumerate(polygon):
        before = polygon[index - 1]
        here, there = side(point), side(before)
        if (here >= 0) != (there >= 0):
            share = there / (there - here)
            kept.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
        if here >= 0:
            kept.append(point)
    return kept


def _signed_area(polygon: Sequence[Point]) -> float:
    return (
        sum(polygon[index - 1][0] * point[1] - point[0] * polygon[index - 1][1] for index, point in enumerate(polygon))
        / 2
    )
