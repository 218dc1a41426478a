"""What people, vehicles and things do in a simulated street: acts that move actors as time passes.

An act is made for an instant and knows beforehand when its cause will begin (`cause_s`), so the truth of a scenario
is fixed before the first picture of it is drawn. Seconds are Unix time throughout; speeds are metres per second.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from simulators.motion import (
    CAR_KINDS,
    HURRY_M_S,
    MERGE_M,
    STROLL_M_S,
    Line,
    Point,
    braking_s,
    braking_way_m,
    is_dark,
    long_line,
    scatter,
    spot_of,
    starting_way_m,
    walk,
)
from simulators.street import Actor, Bin, Garbage, GarbageKind, HandBag, Street, TwoWheeler, Vehicle
from simulators.street.scene import OVERFLOW_FILL


class Act:
    """One happening. `step` moves its actors and says whether it still goes on; `end` asks it to come to its end."""

    def __init__(self, name: str, began_s: float) -> None:
        self.name = name
        self.began_s = began_s
        self.cause_s: float | None = None  # when what it causes begins; None when it causes nothing
        self.ended_s: float | None = None

    def step(self, street: Street, now_s: float) -> bool:
        """Put the actors where they are at `now_s`; False when it is over."""
        raise NotImplementedError

    def end(self, now_s: float) -> None:
        """Come to an end from `now_s` on: the car leaves, the people go home, the garbage is taken away."""
        if self.ended_s is None:
            self.ended_s = now_s

    def drop(self, street: Street) -> None:
        """Take what is left of it out of the street."""
        for name in [name for name in street.actors if name.startswith(f"{self.name}/")]:
            street.remove(name)


class ParkedCar(Act):
    """A car comes along the lane, draws up at the kerb and stands there, for `stay_s` or until it is sent away."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, stay_s: float | None = None
    ) -> None:
        super().__init__(name, began_s)
        bay, lane = street.places["bay"], street.places["lane"]
        self._spot = spot_of(bay)
        self._kerb = Line(bay.path_m[0], bay.path_m[1])
        self._lane = Line(lane.path_m[0], lane.path_m[1])
        self._look, self._kind = rng.randrange(1 << 30), rng.choice(CAR_KINDS)
        self._in_m = float(np.hypot(*(self._spot - self._kerb.start)))
        self.stands_s = began_s + braking_s(self._in_m)
        self.cause_s = self.stands_s if stay_s is None else None
        if stay_s is not None:
            self.ended_s = self.stands_s + stay_s

    def _place(self, way_m: float, kerb_share: float) -> Point:
        # Lane and kerb lane run side by side: the same way along both, mixed, is a change of lane.
        lane_way = (
            way_m
            + float(np.dot(self._kerb.start - self._lane.start, self._lane.end - self._lane.start))
            / self._lane.length_m
        )
        share = kerb_share**2 * (3 - 2 * kerb_share)
        return self._lane.at(lane_way) * (1 - share) + self._kerb.at(way_m) * share

    def step(self, street: Street, now_s: float) -> bool:
        leaving = self.ended_s is not None and now_s >= max(self.ended_s, self.stands_s)
        if leaving and self.ended_s is not None:
            way = self._in_m + starting_way_m(now_s - max(self.ended_s, self.stands_s))
            braking = False
        else:
            way = braking_way_m(now_s - self.began_s, self._in_m)
            braking = now_s >= self.stands_s - 2.5
        if way >= self._kerb.length_m - 0.5:
            self.drop(street)
            return False
        here, ahead = (self._place(w, self._kerb_share(w)) for w in (way, way + 0.4))
        along = ahead - here
        street.put(
            f"{self.name}/car",
            Vehicle(x_m=float(here[0]), y_m=float(here[1]), heading_rad=math.atan2(along[1], along[0]), look=self._look,
                    kind=self._kind, lights_on=is_dark(street), braking=braking and now_s < self.stands_s + 1.0),
        )  # fmt: skip
        return True

    def _kerb_share(self, way_m: float) -> float:
        return min(1.0, max(0.0, 1.0 - (abs(way_m - self._in_m) - 2.0) / MERGE_M))


class Queue(Act):
    """Cars come to the stop line, wait for their light, and drive on together: never one that stands too long."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, count: int = 2, wait_s: float = 7.0
    ) -> None:
        super().__init__(name, began_s)
        place = street.places["queue"]
        self._line = Line(place.path_m[0], place.path_m[1])
        stop_m = float(np.hypot(*(spot_of(place) - self._line.start)))
        self._stops_m = [stop_m - 6.6 * i for i in range(count)]
        self._looks = [(rng.randrange(1 << 30), rng.choice(CAR_KINDS)) for _ in range(count)]
        self._follow_s = 2.0
        arrived_s = max(began_s + i * self._follow_s + braking_s(m) for i, m in enumerate(self._stops_m))
        self._green_s = arrived_s + wait_s

    def step(self, street: Street, now_s: float) -> bool:
        going = False
        for i, (stop_m, (look, kind)) in enumerate(zip(self._stops_m, self._looks, strict=True)):
            came_s, goes_s = self.began_s + i * self._follow_s, self._green_s + i * 0.8
            way = (
                stop_m + starting_way_m(now_s - goes_s)
                if now_s >= goes_s
                else braking_way_m(max(0.0, now_s - came_s), stop_m)
            )
            name = f"{self.name}/{i}"
            if now_s < came_s:
                going = True
            elif way >= self._line.length_m - 0.5:
                street.remove(name)
            else:
                going = True
                x, y = self._line.at(way)
                braking = came_s + braking_s(stop_m) - 2.5 <= now_s < goes_s
                street.put(name, Vehicle(x_m=float(x), y_m=float(y), heading_rad=self._line.heading_rad, look=look, kind=kind,
                                         lights_on=is_dark(street), braking=braking))  # fmt: skip
        return going


class PassingCar(Act):
    """Something drives through and does not stop: a car, or a bicycle with its rider."""

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random, *, lane: str = "lane") -> None:
        super().__init__(name, began_s)
        place = street.places[lane]
        self._line = Line(place.path_m[0], place.path_m[1])
        self._look = rng.randrange(1 << 30)
        self._cycle = rng.random() < 0.25
        self._speed_m_s = rng.uniform(4.0, 5.5) if self._cycle else rng.uniform(7.0, 10.0)

    def step(self, street: Street, now_s: float) -> bool:
        way = self._speed_m_s * (now_s - self.began_s)
        if way >= self._line.length_m:
            self.drop(street)
            return False
        x, y = (float(value) for value in self._line.at(way))
        heading = self._line.heading_rad
        actor: Actor = (
            TwoWheeler(x_m=x, y_m=y, heading_rad=heading, look=self._look, ridden=True)
            if self._cycle
            else Vehicle(x_m=x, y_m=y, heading_rad=heading, look=self._look, lights_on=is_dark(street))
        )
        street.put(f"{self.name}/through", actor)
        return True


class Passers(Act):
    """People walk along a pavement, one behind the other or side by side, and do not stop."""

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random, *, count: int = 1,
                 along: str = "pavement_path", spacing_m: float = 1.0) -> None:  # fmt: skip
        super().__init__(name, began_s)
        line = long_line(street.places[along], 24.0)
        if rng.random() < 0.5:
            line = Line(line.end, line.start)
        self._line = line
        across = np.array([-math.sin(line.heading_rad), math.cos(line.heading_rad)])
        self._speed_m_s = rng.uniform(1.5, 1.8)
        self._people = [
            (rng.randrange(1 << 30), -spacing_m * i + rng.uniform(-0.2, 0.2), across * rng.uniform(-0.55, 0.55))
            for i in range(count)
        ]

    def step(self, street: Street, now_s: float) -> bool:
        going = False
        for i, (look, offset_m, aside) in enumerate(self._people):
            way = self._speed_m_s * (now_s - self.began_s) + offset_m
            name = f"{self.name}/{i}"
            if way >= self._line.length_m:
                street.remove(name)
                continue
            going = True
            if way > 0:
                walk(street, name, self._line.at(way) + aside, self._line.heading_rad, look, self._speed_m_s)
        return going


class Crowd(Act):
    """People come from both sides, stand together on the square, and go home when they are asked to."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, count: int, limit: int
    ) -> None:
        super().__init__(name, began_s)
        square = street.places["square"]
        # People in a group turn so that they see each other: of a few ways to stand, the one that hides fewest.
        spots = max((scatter(square.polygon_m, count, rng, inset_m=0.45) for _ in range(8)), key=_openness)
        way = long_line(street.places["pavement_path"], 22.0)
        self._members: list[tuple[int, Line, float, float]] = []
        for i, spot in enumerate(spots):
            line = Line(way.start if i % 2 else way.end, spot)
            self._members.append(
                (rng.randrange(1 << 30), line, began_s + rng.uniform(0.0, 1.5), rng.uniform(-math.pi, math.pi))
            )
        arrivals = sorted(start_s + line.length_m / HURRY_M_S for _, line, start_s, _ in self._members)
        self.cause_s = arrivals[min(limit, count) - 1] if count >= limit else None

    def step(self, street: Street, now_s: float) -> bool:
        going = False
        for i, (look, line, start_s, facing) in enumerate(self._members):
            name = f"{self.name}/{i}"
            if now_s < start_s:
                going = True
                continue
            way = HURRY_M_S * (now_s - start_s)
            back = 0.0 if self.ended_s is None else HURRY_M_S * max(0.0, now_s - self.ended_s - 0.25 * i)
            if back > 0:
                home = Line(line.at(way), line.start)
                if back >= home.length_m:
                    street.remove(name)
                    continue
                walk(street, name, home.at(back), home.heading_rad, look, HURRY_M_S)
            elif way < line.length_m:
                walk(street, name, line.at(way), line.heading_rad, look, HURRY_M_S)
            else:
                walk(street, name, line.end, facing, look, 0.0)
            going = True
        return going


def _openness(spots: list[Point]) -> float:
    """How far apart the spots are as seen from the camera, which stands over the origin: sum of the least angles."""
    bearings = sorted(math.atan2(float(x), float(y)) for x, y in spots)
    gaps = [b - a for a, b in pairwise(bearings)]
    return sum(min(gap, 0.02) for gap in gaps)


class Errand(Act):
    """Somebody walks to a spot on the near pavement, does something there and walks on; what the doing leaves may stay.

    `on_spot` is called once when the person is there, `on_leave` once when the person walks on after `stay_s`.
    """

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random, *, place: str, stay_s: float = 1.5,
                 on_spot: Callable[[Street], None] | None = None, on_leave: Callable[[Street], None] | None = None) -> None:  # fmt: skip
        super().__init__(name, began_s)
        target = street.places[place]
        through = long_line(target, 13.0)
        aside = np.array([-math.sin(through.heading_rad), math.cos(through.heading_rad)]) * 0.75
        if rng.random() < 0.5:
            through = Line(through.end, through.start)
        spot = spot_of(target) + aside
        self._in, self._out = Line(through.start + aside, spot), Line(spot, through.end + aside)
        self._look = rng.randrange(1 << 30)
        self.there_s = began_s + self._in.length_m / HURRY_M_S
        self.leaves_s = self.there_s + stay_s
        self._on_spot, self._on_leave = on_spot, on_leave

    def step(self, street: Street, now_s: float) -> bool:
        if now_s >= self.there_s and self._on_spot is not None:
            self._on_spot(street)
            self._on_spot = None
        if now_s >= self.leaves_s and self._on_leave is not None:
            self._on_leave(street)
            self._on_leave = None
        name = f"{self.name}/person"
        if now_s < self.there_s:
            walk(
                street,
                name,
                self._in.at(HURRY_M_S * (now_s - self.began_s)),
                self._in.heading_rad,
                self._look,
                HURRY_M_S,
            )
        elif now_s < self.leaves_s:
            walk(street, name, self._in.end, self._in.heading_rad, self._look, 0.0)
        else:
            way = STROLL_M_S * (now_s - self.leaves_s)
            if way >= self._out.length_m:
                street.remove(name)
                return False
            walk(street, name, self._out.at(way), self._out.heading_rad, self._look, STROLL_M_S)
        return True


class Litter(Act):
    """Somebody leaves garbage on the pavement; it lies there until it is taken away."""

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random) -> None:
        super().__init__(name, began_s)
        self._spot = spot_of(street.places["litter_spot"])
        self._garbage = Garbage(
            x_m=float(self._spot[0]), y_m=float(self._spot[1]), heading_rad=rng.uniform(-3, 3), look=rng.randrange(1 << 30),
            size_m=rng.uniform(1.1, 1.5), kind=rng.choice((GarbageKind.BAGS, GarbageKind.HEAP, GarbageKind.BOXES)),
        )  # fmt: skip
        self._errand = Errand(f"{name}/who", began_s, street, rng, place="litter_spot")
        self.cause_s = self._errand.there_s

    def step(self, street: Street, now_s: float) -> bool:
        if now_s < self._errand.leaves_s + 20:
            self._errand.step(street, now_s)
        thing = f"{self.name}/garbage"
        if self.ended_s is not None and now_s >= self.ended_s:
            self.drop(street)
            return False
        if self.cause_s is not None and now_s >= self.cause_s:
            street.put(thing, self._garbage)
        return True


class BagSetDown(Act):
    """Somebody sets a bag down, waits beside it, takes it up again and walks on."""

    def __init__(self, name: str, began_s: float, street: Street, rng: random.Random, *, stay_s: float) -> None:
        super().__init__(name, began_s)
        spot, look = spot_of(street.places["litter_spot"]), rng.randrange(1 << 30)
        bag = HandBag(x_m=float(spot[0]), y_m=float(spot[1]), heading_rad=rng.uniform(-3, 3), look=look)
        self._errand = Errand(
            f"{name}/who", began_s, street, rng, place="litter_spot", stay_s=stay_s,
            on_spot=lambda s: s.put(f"{name}/bag", bag), on_leave=lambda s: s.remove(f"{name}/bag"),
        )  # fmt: skip

    def step(self, street: Street, now_s: float) -> bool:
        return self._errand.step(street, now_s)


class BinFilling(Act):
    """Somebody puts something into the bin; from then on it is filled so far, with or without bags beside it."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, fill: float, spill: bool
    ) -> None:
        super().__init__(name, began_s)
        self._fill, self._spill = fill, spill
        self._errand = Errand(f"{name}/who", began_s, street, rng, place="bin", on_spot=self._put_in)
        self.cause_s = self._errand.there_s if fill >= 1.0 else None

    def _put_in(self, street: Street) -> None:
        fill_bin(street, self._fill, spill=self._spill)

    def step(self, street: Street, now_s: float) -> bool:
        return self._errand.step(street, now_s)


@dataclass(slots=True)
class Ambience:
    """Life that means nothing: a car or a bicycle now and then, somebody who walks by."""

    rng: random.Random
    next_car_s: float = 0.0
    next_walker_s: float = 0.0
    made: int = field(default=0)

    def draw(self, street: Street, now_s: float, *, lane_free: bool) -> list[Act]:
        """The acts that begin now, mostly none."""
        if self.next_car_s == 0.0:
            self.next_car_s, self.next_walker_s = now_s + self.rng.uniform(1, 9), now_s + self.rng.uniform(1, 12)
        begun: list[Act] = []
        if now_s >= self.next_car_s:
            self.next_car_s = now_s + self.rng.uniform(9, 22)
            if lane_free:
                self.made += 1
                begun.append(PassingCar(f"ambient-{self.made}", now_s, street, self.rng))
        if now_s >= self.next_walker_s:
            self.next_walker_s = now_s + self.rng.uniform(14, 30)
            self.made += 1
            begun.append(Passers(f"ambient-{self.made}", now_s, street, self.rng, count=self.rng.choice((1, 1, 2))))
        return begun


def fill_bin(street: Street, fill: float, *, spill: bool = False) -> None:
    """Fill or empty the street's bin."""
    actor = street.actors.get("bin")
    if isinstance(actor, Bin):
        street.put("bin", replace(actor, fill=fill, spill=spill))


def put_bin(street: Street, rng: random.Random) -> None:
    """Set up the street's bin, a quarter full."""
    place = street.places["bin"]
    look = rng.randrange(1 << 30)
    street.put("bin", Bin(x_m=place.x_m, y_m=place.y_m, heading_rad=place.heading_rad, look=look, fill=0.25))


def is_bin_full(street: Street) -> bool:
    """Whether the street's bin is full or overflows."""
    actor = street.actors.get("bin")
    return isinstance(actor, Bin) and actor.fill >= OVERFLOW_FILL
