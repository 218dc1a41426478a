"""What can stand in a street: light, weather, actors and named places."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Light(StrEnum):
    """The light over the street."""

    DAY = "day"
    OVERCAST = "overcast"
    DUSK = "dusk"
    NIGHT = "night"


class Weather(StrEnum):
    """What falls from the sky."""

    CLEAR = "clear"
    RAIN = "rain"
    SNOW = "snow"
    FOG = "fog"


class VehicleKind(StrEnum):
    """Shapes of vehicles; all carry the label `vehicle`."""

    SEDAN = "sedan"
    HATCHBACK = "hatchback"
    SUV = "suv"
    VAN = "van"
    TRUCK = "truck"
    BUS = "bus"


class GarbageKind(StrEnum):
    """Ways in which garbage lies on the ground; all carry the label `garbage`."""

    BAGS = "bags"
    HEAP = "heap"
    LITTER = "litter"
    BOXES = "boxes"


OVERFLOW_FILL = 0.9
"""A bin filled to this fraction or above is full or overflowing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Something that stands on the ground at (x_m, y_m) and faces heading_rad (0 = +x, pi/2 = away).

    `look` (0 or more) seeds its appearance: the same look is the same thing wherever it stands.
    """

    x_m: float
    y_m: float
    heading_rad: float = 0.0
    look: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Person(Actor):
    """A person; legs swing with `speed_mps`, 0 stands still."""

    speed_mps: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Vehicle(Actor):
    """A car, van, truck or bus; with kind None the look chooses. `lights_on` shows at night."""

    kind: VehicleKind | None = None
    lights_on: bool = False
    braking: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoWheeler(Actor):
    """A bicycle or electric bicycle, parked or with its rider."""

    ridden: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin(Actor):
    """A refuse bin. `fill` 0 is empty, 1 level with the rim, above 1 heaped; `spill` puts bags against it."""

    fill: float = 0.3
    spill: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage(Actor):
    """Garbage on the ground, about `size_m` across; with kind None the look chooses."""

    size_m: float = 1.2
    kind: GarbageKind | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HandBag(Actor):
    """A hand bag, shopping bag or suitcase set down: part of life, no garbage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthBox:
    """Where an actor is in the picture: pixels clipped to the frame, hidden parts included.

    `label` is one of person, vehicle, two_wheeler, bin, bin_overflow, garbage, hand_bag.
    `visible_fraction` is the share of the whole figure that is inside the frame and not covered.
    """

    name: str
    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    visible_fraction: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A named spot of a street in ground metres.

    The polygon (N, 2) encloses it; (x_m, y_m) with heading_rad is where a single thing stands in it; the
    path (M, 2) leads through it and is longer than the frame is wide where things come and go.
    """

    name: str
    polygon_m: NDArray[np.float64]
    x_m: float
    y_m: float
    heading_rad: float
    path_m: NDArray[np.float64]


def label_of(actor: Actor) -> str:
    """The canonical label of an actor; `hand_bag` for a hand bag, which no detector is asked to find."""
    match actor:
        case Person():
            return "person"
        case Vehicle():
            return "vehicle"
        case TwoWheeler():
            return "two_wheeler"
        case Bin():
            return "bin_overflow" if actor.fill >= OVERFLOW_FILL else "bin"
        case Garbage():
            return "garbage"
        case HandBag():
            return "hand_bag"
    raise TypeError(f"no label for {type(actor).__name__}")
