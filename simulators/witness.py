"""What really goes on in a simulated street, measured from the actors as they are drawn: the truth of a clip.

A witness looks at the street for every picture and notes stays: a vehicle at rest in a no-parking zone, a bin filled to
its rim, garbage in a zone, as many people in a zone as its limit. It knows nothing of rules and their thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street import Bin, Garbage, Person, Street, Vehicle
from simulators.street.scene import OVERFLOW_FILL
from simulators.street.vehicles import size_of

MOVED_M = 0.04
"""Between two pictures; a car at less than walking pace still moves."""

IN_ZONE_SHARE = 0.5
"""Share of a vehicle's footprint that must lie in the zone, as it is seen in the picture."""

DIP_S = 1.0
"""For so long a crowd may fall short of its number and is still the same crowd."""

BOX_AFTER_S = 1.5
"""The box is taken this long after the beginning, when whoever brought the thing steps aside."""

CROWD = "crowd"

Box = tuple[float, float, float, float]


@dataclass(kw_only=True, slots=True)
class Stay:
    """Something that was there from `start_s` to `end_s` (seconds of the clip; None while it is).

    `cause` is the act's name before its number; `box` 0..1 of the picture, None when it was there too briefly.
    """

    zone: str
    category: str
    cause: str
    actor: str
    start_s: float
    end_s: float | None = None
    box: Box | None = None
    last_s: float = 0.0


@dataclass(slots=True)
class Witness:
    """Looks at one street. `zones`: place to polygon, 0..1 of the picture; `limit`: people that make a crowd."""

    street: Street
    zones: Mapping[str, Sequence[Sequence[float]]]
    limit: int
    stays: list[Stay] = field(default_factory=list)
    _open: dict[tuple[str, str], Stay] = field(default_factory=dict)
    _where: dict[str, tuple[float, float]] = field(default_factory=dict)
    _looked_s: float | None = None

    def look(self, at_s: float, now_s: float) -> None:
        """Note what is there at `at_s` of the clip; `now_s` is the street's own time."""
        seen: dict[tuple[str, str], tuple[str, bool]] = {}
        for name, actor in self.street.actors.items():
            if isinstance(actor, Vehicle):
                for zone in ("no_parking", "queue"):
                    if self._rests(name, actor) and self._stands_in(actor, zone):
                        seen[zone, name] = ("illegal_parking", True)
            elif isinstance(actor, Bin) and actor.fill >= OVERFLOW_FILL:
                seen["bin", name] = ("bin_overflow", False)
            elif isinstance(actor, Garbage) and self._is_in(actor.x_m, actor.y_m, "litter_spot"):
                seen["litter_spot", name] = ("exposed_garbage", False)
        if len(self.people()) >= self.limit:
            seen["square", CROWD] = ("crowding", False)
        for key, (category, rests) in seen.items():
            if key not in self._open:
                # at rest since the picture before, in which it stood at the same place
                since_s = self._looked_s if rests and self._looked_s is not None else at_s
                self._begin(key, category, since_s)
            self._open[key].last_s = at_s
        for key, stay in list(self._open.items()):
            if stay.box is None and at_s - stay.start_s >= BOX_AFTER_S and key in seen:
                stay.box = self._box_of(key[1], now_s)
            patience_s = DIP_S if key[1] == CROWD else 0.0
            if key not in seen and at_s - stay.last_s > patience_s:
                stay.end_s = stay.last_s
                del self._open[key]
        self._where = {n: (a.x_m, a.y_m) for n, a in self.street.actors.items() if isinstance(a, Vehicle)}
        self._looked_s = at_s

    def close(self) -> list[Stay]:
        """All stays; those still open keep `end_s` None."""
        return self.stays

    def people(self) -> list[str]:
        """Names of the people whose feet are in the square's zone."""
        return [
            name
            for name, actor in self.street.actors.items()
            if isinstance(actor, Person) and self._is_in(actor.x_m, actor.y_m, "square")
        ]

    def _begin(self, key: tuple[str, str], category: str, since_s: float) -> None:
        zone, name = key
        cause = name.partition("/")[0].rpartition("-")[0]
        if category == "bin_overflow":
            cause = "overflow"
        stay = Stay(zone=zone, category=category, cause=cause or name, actor=name, start_s=since_s)
        self._open[key] = stay
        self.stays.append(stay)

    def _rests(self, name: str, vehicle: Vehicle) -> bool:
        before = self._where.get(name)
        return before is not None and math.hypot(vehicle.x_m - before[0], vehicle.y_m - before[1]) < MOVED_M

    def _is_in(self, x_m: float, y_m: float, zone: str) -> bool:
        x, y = self.street.project(np.array([[x_m, y_m]]))[0]
        return cv2.pointPolygonTest(self._pixels(zone), (float(x), float(y)), measureDist=False) >= 0

    def _stands_in(self, vehicle: Vehicle, zone: str) -> bool:
        _, length, width = size_of(vehicle)
        c, s = math.cos(vehicle.heading_rad) * length / 2, math.sin(vehicle.heading_rad) * length / 2
        d, e = -math.sin(vehicle.heading_rad) * width / 2, math.cos(vehicle.heading_rad) * width / 2
        corners = [(c + d, s + e), (c - d, s - e), (-c - d, -s - e), (-c + d, -s + e)]
        ground = np.array([[vehicle.x_m + x, vehicle.y_m + y] for x, y in corners])
        hull = cv2.convexHull(self.street.project(ground).astype(np.float32))
        whole = cv2.contourArea(hull)
        inside, _ = cv2.intersectConvexConvex(hull, self._pixels(zone))
        return whole > 0 and inside / whole >= IN_ZONE_SHARE

    def _pixels(self, zone: str) -> NDArray[np.float32]:
        size = np.array([self.street.width, self.street.height], np.float32)
        return np.asarray(np.array(self.zones[zone], np.float32) * size, np.float32).reshape(-1, 1, 2)

    def _box_of(self, actor: str, now_s: float) -> Box | None:
        names = set(self.people()) if actor == CROWD else {actor}
        boxes = [box for box in self.street.truth(now_s) if box.name in names]
        if not boxes:
            return None
        width, height = self.street.width, self.street.height
        return (
            round(min(box.x1 for box in boxes) / width, 4),
            round(min(box.y1 for box in boxes) / height, 4),
            round(max(box.x2 for box in boxes) / width, 4),
            round(max(box.y2 for box in boxes) / height, 4),
        )
