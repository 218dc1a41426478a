"""Traffic that stands and is not parked: a bus at its stop that hides the kerb, a jam that creeps."""

from __future__ import annotations

import random

import numpy as np

from simulators.choreography import Act
from simulators.motion import CAR_KINDS, Line, braking_s, braking_way_m, is_dark, spot_of, starting_way_m
from simulators.street import Street, Vehicle, VehicleKind

GAP_M = 6.6
"""From one car's middle to the next one's in a column."""

CREEP_S = 4.0
REACTION_S = 0.7


class StandingBus(Act):
    """A bus stops in the lane before the bay for `stay_s`, and hides what stands there."""

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random, *, stay_s: float) -> None:
        super().__init__(name, began_s)
        lane = street.places["lane"]
        self._line = Line(lane.path_m[0], lane.path_m[1])
        along = (self._line.end - self._line.start) / self._line.length_m
        bay = float(np.dot(spot_of(street.places["bay"]) - self._line.start, along))
        self._stop_m = bay + rng.uniform(-1.5, 1.5)
        self._look = rng.randrange(1 << 30)
        self.stands_s = began_s + braking_s(self._stop_m)
        self.leaves_s = self.stands_s + stay_s

    def step(self, street: Street, now_s: float) -> bool:
        leaving = now_s >= self.leaves_s
        way = (
            self._stop_m + starting_way_m(now_s - self.leaves_s)
            if leaving
            else braking_way_m(now_s - self.began_s, self._stop_m)
        )
        if way >= self._line.length_m - 0.5:
            self.drop(street)
            return False
        x, y = self._line.at(way)
        street.put(
            f"{self.name}/bus",
            Vehicle(x_m=float(x), y_m=float(y), heading_rad=self._line.heading_rad, look=self._look, kind=VehicleKind.BUS,
                    lights_on=is_dark(street), braking=self.stands_s - 2.5 <= now_s < self.leaves_s),
        )  # fmt: skip
        return True


class Jam(Act):
    """A column before the stop line that moves on by one length every `every_s`: each car stands, and moves, and stands."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, count: int = 7, every_s: float = 11.0
    ) -> None:
        super().__init__(name, began_s)
        place = street.places["queue"]
        self._line = Line(place.path_m[0], place.path_m[1])
        self._stop_m = float(np.hypot(*(spot_of(place) - self._line.start)))
        self._every_s = every_s
        self._cars = [(rng.randrange(1 << 30), rng.choice(CAR_KINDS)) for _ in range(count)]
        self._waiting = max(1, int(self._stop_m / GAP_M))
        """So many stand in the picture's lane at once; the others come up behind."""

    def step(self, street: Street, now_s: float) -> bool:
        going = False
        for index, (look, kind) in enumerate(self._cars):
            way = self._way(index, now_s)
            name = f"{self.name}/{index}"
            if way < 0:
                going = True
                continue
            if way >= self._line.length_m - 0.5:
                street.remove(name)
                continue
            going = True
            x, y = self._line.at(way)
            street.put(name, Vehicle(x_m=float(x), y_m=float(y), heading_rad=self._line.heading_rad, look=look, kind=kind,
                                     lights_on=is_dark(street), braking=self._way(index, now_s - 0.4) == way))  # fmt: skip
        return going

    def _way(self, index: int, now_s: float) -> float:
        """Metres along the lane. The column comes as if each car had stood one place further back before."""
        slot = float(index + self._waiting)
        way_m = self._stop_m - GAP_M * slot
        for turn in range(index + self._waiting + 1):
            starts_s = (
                self.began_s
                + turn * self._every_s * (0.35 if turn < self._waiting else 1.0)
                + REACTION_S * min(index, 5)
            )
            if turn >= self._waiting:
                starts_s -= self._waiting * self._every_s * 0.65
            since_s = now_s - starts_s
            if since_s <= 0:
                break
            if turn == index + self._waiting:  # its turn at the line: it drives off
                return way_m + starting_way_m(since_s)
            share = min(1.0, since_s / CREEP_S)
            way_m += GAP_M * share * share * (3 - 2 * share)
        return way_m
