"""What happens in a clip and in which order: events that a rule must report, and look-alikes that it must not.

Every place of the street has a track of its own, on which one happening follows the other; all tracks run side by side.
A happening's name is its kind, and the kinds of EVENTS are the only ones that are meant to be reported.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from simulators.choreography import (
    Act,
    Ambience,
    BagSetDown,
    BinFilling,
    Crowd,
    Errand,
    Litter,
    ParkedCar,
    Passers,
    PassingCar,
    Queue,
    fill_bin,
    put_bin,
)
from simulators.street import Street
from simulators.traffic import Jam, StandingBus


class Condition(StrEnum):
    """What makes a clip hard."""

    DAY = "day"
    NIGHT = "night"
    RAIN = "rain"
    HEADLIGHTS = "headlights"
    BUS = "bus"
    QUEUE = "queue"
    RESTART = "restart"


EVENTS = frozenset({"parked", "breakdown", "overflow", "litter", "crowd"})
"""Kinds of happenings that must be reported when they last long enough."""

RULE_OF_PLACE = {
    "bay": "illegal_parking",
    "queue": "illegal_parking",
    "bin": "litter_overflow",
    "litter_spot": "litter_overflow",
    "square": "crowding",
}
ZONE_OF_PLACE = {"bay": "no_parking"}
"""Where the zone has another name than the place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The zones' thresholds in seconds, and the people that make a crowd; happenings last in proportion to them."""

    dwell_s: float
    hold_s: float
    stay_s: float
    limit: int
    crowd_s: float

    @property
    def need_s(self) -> dict[str, float]:
        """Category to how long it must last."""
        return {
            "illegal_parking": self.dwell_s,
            "bin_overflow": self.hold_s,
            "exposed_garbage": self.stay_s,
            "crowding": self.crowd_s,
        }


SHORT = Times(dwell_s=20.0, hold_s=10.0, stay_s=20.0, limit=5, crowd_s=10.0)
"""So that an hour of footage holds as many events as a day of a street."""

USUAL = Times(dwell_s=120.0, hold_s=30.0, stay_s=120.0, limit=8, crowd_s=20.0)
"""The rules' own defaults."""

Make = Callable[[str, float, Street, random.Random], Act]


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that may happen at a place. `after_s`: an event is brought to its end so long after its cause began;
    `lasts_s`: about how long it takes from its first picture to its last."""

    kind: str
    make: Make
    lasts_s: float
    after_s: float | None = None


@dataclass(kw_only=True, slots=True)
class Happened:
    """What was played: kind, place, from when to when in seconds of the clip."""

    kind: str
    place: str
    start_s: float
    end_s: float | None = None


@dataclass(slots=True)
class Track:
    """The happenings of one place, one after the other."""

    place: str
    coming: list[Happening]
    next_s: float
    act: Act | None = None
    what: Happening | None = None
    done: Happened | None = None


@dataclass(slots=True)
class Programme:
    """Plays a clip of `seconds` in a street; `began_s` is the street's time at its first picture."""

    street: Street
    condition: Condition
    seconds: float
    began_s: float
    rng: random.Random
    quiet: bool = False
    """Look-alikes only."""
    times: Times = SHORT
    happened: list[Happened] = field(default_factory=list)
    _tracks: list[Track] = field(default_factory=list)
    _extras: list[tuple[Act, Happened]] = field(default_factory=list)
    _ambience: Ambience | None = None
    _count: int = 0
    _light_s: float = 0.0

    def __post_init__(self) -> None:
        put_bin(self.street, self.rng)
        self._ambience = Ambience(random.Random(self.rng.getrandbits(64)))
        for place, menu in (
            ("bay", _parking(self.condition, self.rng, self.quiet, self.times)),
            ("queue", _queueing(self.condition, self.rng, self.quiet, self.times)),
            ("bin", _binning(self.rng, self.quiet, self.times)),
            ("litter_spot", _littering(self.rng, self.quiet, self.times)),
            ("square", _crowding(self.rng, self.quiet, self.times)),
        ):
            first_s = 0.0 if menu and menu[0].kind == "from_start" else self.rng.uniform(3.0, 9.0)
            self._tracks.append(Track(place, menu, first_s))
        self._light_s = self.rng.uniform(2.0, 6.0)

    def advance(self, at_s: float) -> None:
        """Bring the street to `at_s` seconds of the clip."""
        for track in self._tracks:
            self._play(track, at_s)
        self._play_extras(at_s)

    def _play(self, track: Track, at_s: float) -> None:
        now_s = self.began_s + at_s
        if track.act is not None and not track.act.step(self.street, now_s):
            self._finish(track, at_s)
        if track.act is None and track.coming and at_s >= track.next_s:
            happening = track.coming[0]
            if at_s + happening.lasts_s > self.seconds:
                track.coming.pop(0)
                return
            if track.place == "bay" and not self._is_lane_free(now_s):
                track.next_s = at_s + 1.0
                return
            track.coming.pop(0)
            self._begin(track, happening, at_s)

    def _begin(self, track: Track, happening: Happening, at_s: float) -> None:
        self._count += 1
        chance = random.Random(self.rng.getrandbits(64))
        act = happening.make(f"{happening.kind}-{self._count}", self.began_s + at_s, self.street, chance)
        if happening.after_s is not None and act.cause_s is not None:
            act.end(act.cause_s + happening.after_s)
        track.act, track.what = act, happening
        track.done = Happened(kind=happening.kind, place=track.place, start_s=at_s)
        self.happened.append(track.done)
        if self.condition is Condition.BUS and track.place == "bay" and happening.kind != "from_start":
            self._hide(act, happening, at_s)
        act.step(self.street, self.began_s + at_s)

    def _hide(self, act: Act, happening: Happening, at_s: float) -> None:
        """A bus stops before the car that will stand in the bay."""
        stands_s = getattr(act, "stands_s", None)
        stay_s = happening.after_s
        if stands_s is None or stay_s is None:
            return
        chance = random.Random(self.rng.getrandbits(64))
        hides_s = chance.uniform(8.0, min(18.0, stay_s - 14.0))
        bus = StandingBus(f"bus-{self._count}", stands_s + 1.0, self.street, chance, stay_s=hides_s)
        self._add(bus, "bus", "bay", bus.began_s - self.began_s)

    def _finish(self, track: Track, at_s: float) -> None:
        if track.act is not None:
            track.act.drop(self.street)
        if track.done is not None:
            track.done.end_s = at_s
        track.act = None
        track.next_s = at_s + self.rng.uniform(3.0, 8.0)

    def _add(self, act: Act, kind: str, place: str, at_s: float) -> None:
        done = Happened(kind=kind, place=place, start_s=at_s)
        self.happened.append(done)
        self._extras.append((act, done))

    def _is_lane_free(self, now_s: float) -> bool:
        return not any(isinstance(act, StandingBus) for act, _ in self._extras)

    def _play_extras(self, at_s: float) -> None:
        now_s = self.began_s + at_s
        busy = any(isinstance(act, StandingBus) for act, _ in self._extras) or any(
            track.act is not None and track.place == "bay" and self._moves(track, now_s) for track in self._tracks
        )
        if self._ambience is not None:
            for act in self._ambience.draw(self.street, now_s, lane_free=not busy):
                kind = "passers" if isinstance(act, Passers) else "through_traffic"
                self._add(act, kind, "square" if kind == "passers" else "bay", at_s)
        if self.condition is Condition.HEADLIGHTS and at_s >= self._light_s:
            self._light_s = at_s + self.rng.uniform(5.0, 11.0)
            self._count += 1
            queue = next(track for track in self._tracks if track.place == "queue")
            lane = "lane" if not busy else "queue"
            if lane == "lane" or queue.act is None:
                car = PassingCar(f"headlights-{self._count}", now_s, self.street, self.rng, lane=lane)
                self._add(car, "headlights", "bay" if lane == "lane" else "queue", at_s)
        if self.condition is Condition.BUS and self.quiet and at_s >= self._light_s and not busy:
            self._light_s = at_s + self.rng.uniform(40.0, 70.0)
            if next(track for track in self._tracks if track.place == "bay").act is None:
                self._count += 1
                chance = random.Random(self.rng.getrandbits(64))
                bus = StandingBus(f"bus-{self._count}", now_s, self.street, chance, stay_s=chance.uniform(8.0, 25.0))
                self._add(bus, "bus", "bay", at_s)
        for act, done in list(self._extras):
            if act.began_s <= now_s and not act.step(self.street, now_s):
                act.drop(self.street)
                done.end_s = at_s
                self._extras.remove((act, done))

    def _moves(self, track: Track, now_s: float) -> bool:
        """A car draws up at the kerb or is about to leave it."""
        stands_s = getattr(track.act, "stands_s", None)
        ended_s = track.act.ended_s if track.act is not None else None
        return (stands_s is not None and now_s < stands_s + 0.5) or (ended_s is not None and now_s > ended_s - 4.0)


class BinEpisode(BinFilling):
    """A bin is filled, and emptied `empty_s` after that."""

    def __init__(
        self, name: str, began_s: float, street: Street, rng: random.Random, *, fill: float, spill: bool, empty_s: float
    ) -> None:
        super().__init__(name, began_s, street, rng, fill=fill, spill=spill)
        self._empty_at_s = self._errand.there_s + empty_s
        self._walks = True

    def step(self, street: Street, now_s: float) -> bool:
        self._walks = self._walks and super().step(street, now_s)
        if now_s < self._empty_at_s:
            return True
        fill_bin(street, 0.1)
        return self._walks


def _mix(events: list[Happening], others: list[Happening], rng: random.Random) -> list[Happening]:
    """In turn, so that both find room before the clip ends."""
    rng.shuffle(events)
    rng.shuffle(others)
    mixed: list[Happening] = []
    while events or others:
        for pile in (events, others) if rng.random() < 0.5 else (others, events):
            if pile:
                mixed.append(pile.pop())
    return mixed


def _car(stay_s: float | None = None) -> Make:
    return lambda name, at_s, street, rng: ParkedCar(name, at_s, street, rng, stay_s=stay_s)


def _parking(condition: Condition, rng: random.Random, quiet: bool, times: Times) -> list[Happening]:
    def stays(kind: str) -> Happening:
        after_s = times.dwell_s + rng.uniform(14, 26)
        return Happening(kind, _car(), after_s + 14, after_s)

    def brief(kind: str) -> Happening:
        stay_s = times.dwell_s * rng.uniform(0.35, 0.75)
        return Happening(kind, _car(stay_s), stay_s + 14)

    events = [] if quiet else [stays("parked") for _ in range(4)]
    others = [brief(kind) for kind in ("brief_stop", "delivery", "brief_stop", "brief_stop")]
    if quiet:
        others += [brief("brief_stop") for _ in range(30)]
    found = _mix(events, others, rng)
    return [_from_start(rng, times), *found] if condition is not Condition.BUS and rng.random() < 0.7 else found


def _from_start(rng: random.Random, times: Times) -> Happening:
    stay_s = rng.uniform(times.dwell_s * 1.2, times.dwell_s * 2)

    def make(name: str, at_s: float, street: Street, chance: random.Random) -> Act:
        car = ParkedCar(name, at_s, street, chance, stay_s=stay_s)
        early_s = car.stands_s - at_s + 5.0
        car.began_s -= early_s
        car.stands_s -= early_s
        car.ended_s = at_s + stay_s
        return car

    return Happening("from_start", make, stay_s + 10)


def _queueing(condition: Condition, rng: random.Random, quiet: bool, times: Times) -> list[Happening]:
    def light(count: int, wait_s: float, kind: str) -> Happening:
        return Happening(
            kind, lambda n, t, s, r: Queue(n, t, s, r, count=count, wait_s=wait_s), wait_s + 12 + 2 * count
        )

    def jam() -> Happening:
        every_s = rng.uniform(7.5, 0.7 * min(times.dwell_s, 40.0))
        count = rng.randint(5, 8)
        return Happening("jam", lambda n, t, s, r: Jam(n, t, s, r, count=count, every_s=every_s), (count + 3) * every_s)

    def waiting() -> list[Happening]:
        return [light(rng.randint(1, 3), rng.uniform(4, times.dwell_s - 9), "queue") for _ in range(3)]

    many = 10 if quiet else 1
    if condition is Condition.QUEUE:
        found = [item for _ in range(many) for item in (*waiting(), jam(), light(3, times.dwell_s * 1.4, "standstill"))]
        found += [] if quiet else [light(1, times.dwell_s + 18, "breakdown")]
        rng.shuffle(found)
        return found
    return [item for _ in range(4 * many) for item in waiting()]


def _binning(rng: random.Random, quiet: bool, times: Times) -> list[Happening]:
    def fill(kind: str, fill_to: float, spill: bool, empty_s: float) -> Happening:
        return Happening(
            kind, lambda n, t, s, r: BinEpisode(n, t, s, r, fill=fill_to, spill=spill, empty_s=empty_s), empty_s + 16
        )

    def half() -> Happening:
        return fill("half_full", rng.uniform(0.4, 0.75), False, rng.uniform(1.4, 2.6) * times.hold_s)

    def brief() -> Happening:
        return fill("brief_overflow", rng.uniform(1.05, 1.3), False, rng.uniform(0.3, 0.6) * times.hold_s)

    def visit() -> Happening:
        stay_s = rng.uniform(0.6, 1.4) * times.hold_s
        return Happening("bin_visitor", lambda n, t, s, r: Errand(n, t, s, r, place="bin", stay_s=stay_s), stay_s + 16)

    def full() -> Happening:
        return fill("overflow", rng.uniform(1.0, 1.3), rng.random() < 0.35, times.hold_s + rng.uniform(12, 24))

    many = 8 if quiet else 1
    others = [make() for _ in range(many) for make in (half, brief, visit, half)]
    return _mix([] if quiet else [full() for _ in range(4)], others, rng)


def _littering(rng: random.Random, quiet: bool, times: Times) -> list[Happening]:
    def bag() -> Happening:
        stay_s = rng.uniform(6, times.stay_s * 1.4)
        return Happening("bag_set_down", lambda n, t, s, r: BagSetDown(n, t, s, r, stay_s=stay_s), stay_s + 16)

    def brief() -> Happening:
        after_s = times.stay_s * rng.uniform(0.3, 0.7)
        return Happening("brief_garbage", Litter, after_s + 18, after_s)

    def lying() -> Happening:
        after_s = times.stay_s + rng.uniform(14, 26)
        return Happening("litter", Litter, after_s + 10, after_s)

    many = 8 if quiet else 1
    others = [make() for _ in range(many) for make in (bag, brief, bag)]
    return _mix([] if quiet else [lying() for _ in range(4)], others, rng)


def _crowding(rng: random.Random, quiet: bool, times: Times) -> list[Happening]:
    def gather(kind: str, count: int, after_s: float) -> Happening:
        def make(name: str, at_s: float, street: Street, chance: random.Random) -> Act:
            crowd = Crowd(name, at_s, street, chance, count=count, limit=min(count, times.limit))
            crowd.end((crowd.cause_s or at_s) + after_s)
            return crowd

        return Happening(kind, make, after_s + 26)

    def small() -> Happening:
        return gather("small_group", rng.randint(2, times.limit - 1), rng.uniform(1.2, 2.5) * times.crowd_s)

    def brief() -> Happening:
        return gather("brief_crowd", rng.randint(times.limit + 1, times.limit + 3), rng.uniform(0.5, 2.0))

    def stream() -> Happening:
        count = rng.randint(4, 7)
        return Happening("stream_of_passers", lambda n, t, s, r: Passers(n, t, s, r, count=count), 40.0)

    many = 8 if quiet else 1
    others = [make() for _ in range(many) for make in (small, brief, stream, small)]
    crowds = [
        gather("crowd", rng.randint(times.limit + 1, times.limit + 4), times.crowd_s + rng.uniform(12, 22))
        for _ in range(4)
    ]
    return _mix([] if quiet else crowds, others, rng)
