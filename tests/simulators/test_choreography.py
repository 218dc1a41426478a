"""Acts in a street do what the scenario says of them, for any street: judged by the actors' ground positions."""

import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import pytest

from simulators.choreography import (
    Act,
    Ambience,
    BagSetDown,
    BinFilling,
    Crowd,
    Litter,
    ParkedCar,
    Passers,
    PassingCar,
    Queue,
    is_bin_full,
    put_bin,
)
from simulators.city import CROWD_LIMIT, RULE_PARAMETERS, draw_zone
from simulators.motion import braking_s, braking_way_m, scatter
from simulators.street import Garbage, HandBag, Person, Street, Vehicle

BEGAN_S = 5000.0
SEEDS = (3, 17, 101)
Make = Callable[[Street, random.Random], Act]


@pytest.fixture(params=SEEDS, scope="module")
def street(request: pytest.FixtureRequest) -> Street:
    return Street(request.param)


@pytest.fixture(autouse=True)
def empty(street: Street) -> None:
    street.actors.clear()
    put_bin(street, random.Random(1))


def run(street: Street, act: Act, until_s: float, step_s: float = 0.2) -> Iterator[float]:
    """Seconds since BEGAN_S, the act stepped for each; ends when the act does."""
    for i in range(int(until_s / step_s)):
        at_s = i * step_s
        if not act.step(street, BEGAN_S + at_s):
            return
        yield at_s


def is_inside(street: Street, place: str, name: str) -> bool:
    """Whether an actor stands within a place's polygon on the ground."""
    actor = street.actors[name]
    polygon = street.places[place].polygon_m.astype(np.float32)
    return cv2.pointPolygonTest(polygon, (float(actor.x_m), float(actor.y_m)), False) >= 0


def count_in_zone(street: Street) -> int:
    """People whose feet are in the zone of the square as it is drawn for the camera."""
    zone = (np.array(draw_zone(street, "square")) * [street.width, street.height]).astype(np.float32)
    people = [(actor.x_m, actor.y_m) for actor in street.actors.values() if isinstance(actor, Person)]
    if not people:
        return 0
    return sum(
        cv2.pointPolygonTest(zone, (float(x), float(y)), False) >= 0 for x, y in street.project(np.array(people))
    )


def test_a_parked_car_stands_in_its_bay_from_its_cause_on_and_leaves_when_asked(street: Street) -> None:
    act = ParkedCar("a", BEGAN_S, street, random.Random(1))
    assert act.cause_s is not None
    places = []
    for at_s in run(street, act, 30):
        car = street.actors["a/car"]
        places.append((at_s, car.x_m, car.y_m))
    still = {(round(x, 3), round(y, 3)) for at_s, x, y in places if BEGAN_S + at_s >= act.cause_s}
    assert len(still) == 1
    assert is_inside(street, "bay", "a/car")
    assert is_inside(street, "no_parking", "a/car")
    steps = [np.hypot(b[1] - a[1], b[2] - a[2]) for a, b in pairwise(places)]
    assert max(steps) < 0.2 * 9.0  # nothing jumps: at most about 32 km/h
    act.end(BEGAN_S + 30)
    assert any(not act.step(street, BEGAN_S + 30 + at_s) for at_s in range(60))
    assert "a/car" not in street.actors


def test_a_short_stop_is_shorter_than_the_limit_and_causes_nothing(street: Street) -> None:
    act = ParkedCar("a", BEGAN_S, street, random.Random(2), stay_s=5.0)
    assert act.cause_s is None
    inside_s = [
        at_s for at_s in run(street, act, 60) if "a/car" in street.actors and is_inside(street, "no_parking", "a/car")
    ]
    assert inside_s
    assert inside_s[-1] - inside_s[0] < RULE_PARAMETERS["illegal_parking"]["dwell_s"] + 2
    assert "a/car" not in street.actors


def test_no_car_of_a_queue_stands_as_long_as_the_limit(street: Street) -> None:
    act = Queue("q", BEGAN_S, street, random.Random(3), count=2, wait_s=5.0)
    stood: dict[str, float] = {}
    before: dict[str, tuple[float, float]] = {}
    for _ in run(street, act, 90):
        for name, actor in street.actors.items():
            if isinstance(actor, Vehicle):
                here = (round(actor.x_m, 2), round(actor.y_m, 2))
                stood[name] = stood.get(name, 0.0) + 0.2 * (before.get(name) == here)
                before[name] = here
    assert len(stood) == 2
    assert 3.0 < max(stood.values()) < RULE_PARAMETERS["illegal_parking"]["dwell_s"] - 2
    assert not any(isinstance(actor, Vehicle) for actor in street.actors.values())


def test_a_crowd_is_over_the_limit_from_its_cause_on_and_goes_home(street: Street) -> None:
    act = Crowd("c", BEGAN_S, street, random.Random(4), count=11, limit=CROWD_LIMIT)
    assert act.cause_s is not None and act.cause_s - BEGAN_S < 14
    counts = [(BEGAN_S + at_s, count_in_zone(street)) for at_s in run(street, act, 30)]
    assert all(count >= CROWD_LIMIT for at_s, count in counts if at_s > act.cause_s + 0.5)
    act.end(BEGAN_S + 30)
    assert any(not act.step(street, BEGAN_S + 30 + at_s) for at_s in range(40))
    assert count_in_zone(street) == 0


def test_people_who_pass_are_never_over_the_limit_for_as_long_as_it_asks(street: Street) -> None:
    act = Passers("p", BEGAN_S, street, random.Random(5), count=7, along="square", spacing_m=0.9)
    counts = [count_in_zone(street) for _ in run(street, act, 60)]
    over_s = 0.2 * sum(count >= CROWD_LIMIT for count in counts)
    assert max(counts) >= 2
    assert over_s < RULE_PARAMETERS["crowding"]["hold_s"] - 2


def test_litter_lies_from_its_cause_until_it_is_taken_away(street: Street) -> None:
    act = Litter("l", BEGAN_S, street, random.Random(6))
    assert act.cause_s is not None
    for at_s in run(street, act, 40):
        lies = any(isinstance(actor, Garbage) for actor in street.actors.values())
        assert lies == (BEGAN_S + at_s >= act.cause_s)
    assert is_inside(street, "litter_spot", "l/garbage")
    act.end(BEGAN_S + 40)
    assert not act.step(street, BEGAN_S + 40.2)
    assert not any(name.startswith("l/") for name in street.actors)


def test_a_bag_is_taken_up_again_before_garbage_would_count(street: Street) -> None:
    act = BagSetDown("b", BEGAN_S, street, random.Random(7), stay_s=7.0)
    lay_s = [at_s for at_s in run(street, act, 60) if any(isinstance(a, HandBag) for a in street.actors.values())]
    assert 5.0 < lay_s[-1] - lay_s[0] < RULE_PARAMETERS["litter_overflow"]["stay_s"] - 5
    assert not any(isinstance(a, (HandBag, Garbage, Person)) for a in street.actors.values())


@pytest.mark.parametrize(("fill", "overflows"), [(1.35, True), (0.5, False)])
def test_a_bin_overflows_only_when_it_is_filled_above_its_rim(street: Street, fill: float, overflows: bool) -> None:
    act = BinFilling("f", BEGAN_S, street, random.Random(8), fill=fill, spill=overflows)
    assert (act.cause_s is not None) == overflows
    for _ in run(street, act, 40):
        pass
    assert is_bin_full(street) == overflows


def test_ambient_life_comes_and_goes_and_leaves_nothing_behind(street: Street) -> None:
    ambience = Ambience(random.Random(9))
    acts: list[Act] = []
    seen = 0
    for i in range(900):
        now_s = BEGAN_S + i * 0.2
        if now_s < BEGAN_S + 120:
            acts += ambience.draw(street, now_s, lane_free=True)
        acts = [act for act in acts if act.step(street, now_s)]
        seen = max(seen, len(street.actors))
        assert count_in_zone(street) < CROWD_LIMIT
    assert seen > 1
    assert list(street.actors) == ["bin"]


@pytest.mark.parametrize("make", [PassingCar, Litter, ParkedCar])
def test_the_same_chance_makes_the_same_act(street: Street, make: type[Act]) -> None:
    frames = []
    for _ in range(2):
        street.actors.clear()
        act = make("x", BEGAN_S, street, random.Random(11))  # type: ignore[call-arg]
        for at_s in (0.0, 2.0, 5.0):
            act.step(street, BEGAN_S + at_s)
        frames.append(dict(street.actors))
    assert frames[0] == frames[1]


@pytest.mark.parametrize("length_m", [8.0, 15.0, 30.0])
def test_braking_ends_at_the_spot_and_never_goes_back(length_m: float) -> None:
    end_s = braking_s(length_m)
    ways = [braking_way_m(t * 0.05, length_m) for t in range(int(end_s / 0.05) + 20)]
    assert all(b >= a - 1e-9 for a, b in pairwise(ways))
    # Rest comes at the end of the way; where the way is shorter than braking takes, it is cut there.
    assert ways[-1] == pytest.approx(length_m, abs=0.3)


def test_spots_keep_apart_and_inside() -> None:
    square = np.array([[0.0, 0.0], [6.0, 0.0], [6.0, 4.0], [0.0, 4.0]])
    spots = scatter(square, 11, random.Random(12), inset_m=0.45)
    assert len(spots) == 11
    assert all(0.4 < x < 5.6 and 0.4 < y < 3.6 for x, y in spots)
    gaps = [np.hypot(*(a - b)) for i, a in enumerate(spots) for b in spots[:i]]
    assert min(gaps) > 0.5
