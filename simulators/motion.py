"""Ways over the ground of a simulated street: lines, braking and pulling away, spots to stand on. Metres and seconds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.street import Light, Person, Place, Street, VehicleKind, Weather

Point = NDArray[np.float64]

DRIVE_M_S, BRAKE_M_S2 = 7.5, 2.5
HURRY_M_S, STROLL_M_S = 2.1, 1.35
MERGE_M = 13.0
CAR_KINDS = (VehicleKind.SEDAN, VehicleKind.HATCHBACK, VehicleKind.SUV, VehicleKind.VAN)


@dataclass(frozen=True, slots=True)
class Line:
    """A straight way from one ground point to another."""

    start: Point
    end: Point

    @property
    def length_m(self) -> float:
        """How long it is."""
        return float(np.hypot(*(self.end - self.start)))

    def at(self, way_m: float) -> Point:
        """The point after so many metres, within the line."""
        share = min(1.0, max(0.0, way_m / max(self.length_m, 1e-6)))
        return self.start + (self.end - self.start) * share

    @property
    def heading_rad(self) -> float:
        """The direction in which it leads."""
        along = self.end - self.start
        return math.atan2(along[1], along[0])


def braking_way_m(time_s: float, length_m: float, speed_m_s: float = DRIVE_M_S) -> float:
    """Metres after `time_s` of something that drives `length_m` and comes to rest there."""
    brake_m = speed_m_s**2 / (2 * BRAKE_M_S2)
    steady_s = max(0.0, (length_m - brake_m) / speed_m_s)
    if time_s <= steady_s:
        return speed_m_s * time_s
    braking_s = min(time_s - steady_s, speed_m_s / BRAKE_M_S2)
    return min(length_m, speed_m_s * steady_s + speed_m_s * braking_s - BRAKE_M_S2 * braking_s**2 / 2)


def braking_s(length_m: float, speed_m_s: float = DRIVE_M_S) -> float:
    """Seconds until it stands."""
    return max(0.0, (length_m - speed_m_s**2 / (2 * BRAKE_M_S2)) / speed_m_s) + speed_m_s / BRAKE_M_S2


def starting_way_m(time_s: float, speed_m_s: float = DRIVE_M_S) -> float:
    """Metres after `time_s` of something that pulls away."""
    gaining_s = speed_m_s / BRAKE_M_S2
    if time_s <= gaining_s:
        return BRAKE_M_S2 * time_s**2 / 2
    return speed_m_s * gaining_s / 2 + speed_m_s * (time_s - gaining_s)


def spot_of(place: Place) -> Point:
    """Where a single thing stands in a place."""
    return np.array([place.x_m, place.y_m])


def walk(street: Street, name: str, where: Point, heading_rad: float, look: int, speed_mps: float) -> None:
    """Put a person where it is at this moment."""
    street.put(
        name, Person(x_m=float(where[0]), y_m=float(where[1]), heading_rad=heading_rad, look=look, speed_mps=speed_mps)
    )


def long_line(place: Place, reach_m: float) -> Line:
    """The way through a place, `reach_m` to either side of its spot."""
    along = place.path_m[1] - place.path_m[0]
    along = along / np.hypot(*along) * reach_m
    middle = spot_of(place)
    return Line(middle - along, middle + along)


def scatter(polygon_m: Point, count: int, rng: random.Random, *, inset_m: float) -> list[Point]:
    """Spots within a quadrangle (4, 2), as far apart as `count` lets them be, none nearer to an edge than `inset_m`."""
    a, b, _, d = polygon_m
    width, depth = float(np.hypot(*(b - a))), float(np.hypot(*(d - a)))
    best: list[Point] = []
    apart_m = 1.1
    while len(best) < count:
        best = []
        for _ in range(400):
            s, t = rng.uniform(inset_m, width - inset_m) / width, rng.uniform(inset_m, depth - inset_m) / depth
            spot = a + (b - a) * s + (d - a) * t
            if all(math.hypot(spot[0] - other[0], spot[1] - other[1]) >= apart_m for other in best):
                best.append(spot)
            if len(best) == count:
                break
        apart_m *= 0.92
    return best


def is_dark(street: Street) -> bool:
    """Whether headlights are on: at night, at dusk and in rain."""
    return street.light in (Light.NIGHT, Light.DUSK) or street.weather is Weather.RAIN
