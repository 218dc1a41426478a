"""Footage with its truth: what is written is what is drawn."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import av
import pytest

from simulators.choreography import ParkedCar, put_bin
from simulators.city import DEMO_SEEDS_END, draw_zone
from simulators.dataset import TRAIN_SEEDS, VAL_SEEDS
from simulators.footage import (
    JUDGING_SEEDS,
    TUNING_SEEDS,
    Clip,
    ClipPlan,
    Part,
    plan_quiet,
    read_numbers,
    sort_stays,
    write_clip,
)
from simulators.programme import EVENTS, Condition
from simulators.street import Person, Street, TruthBox
from simulators.witness import Stay, Witness


def test_the_streets_of_tuning_judging_training_and_demo_never_meet() -> None:
    spans = sorted((range(DEMO_SEEDS_END), TRAIN_SEEDS, VAL_SEEDS, TUNING_SEEDS, JUDGING_SEEDS), key=lambda s: s.start)
    assert all(one.stop <= other.start for one, other in itertools.pairwise(spans))
    plans = [ClipPlan(part=part, number=n, condition=c) for part in Part for n in range(40) for c in Condition]
    seeds = [plan.street_seed for plan in plans]
    assert len(set(seeds)) == len(seeds)
    assert all(p.street_seed in (TUNING_SEEDS if p.part is Part.TUNING else JUDGING_SEEDS) for p in plans)


def act_through(plan: ClipPlan) -> dict[str, object]:
    """The truth of a clip, without drawing it."""
    clip = Clip(plan)
    clip.street.render = lambda now_s: None  # type: ignore[method-assign, assignment, return-value]
    for _ in clip.play():
        pass
    return clip.truth()


@pytest.mark.parametrize("condition", [Condition.QUEUE, Condition.BUS])
def test_a_clip_holds_events_and_lookalikes_of_every_rule(condition: Condition) -> None:
    truth = act_through(ClipPlan(part=Part.TUNING, number=1, condition=condition, fps=2.5))
    events = Counter(event["rule"] for event in truth["events"])
    others = Counter(item["rule"] for item in truth["lookalikes"] if item["counted"])
    assert set(events) == set(others) == {"illegal_parking", "litter_overflow", "crowding"}
    assert min(events.values()) >= 3
    assert min(others.values()) >= 3
    kinds = {item["kind"] for item in truth["lookalikes"]}
    assert not kinds & EVENTS
    assert ("bus" in kinds) == (condition is Condition.BUS)


def test_quiet_footage_has_no_event_and_plenty_that_looks_like_one() -> None:
    (plan, *_) = plan_quiet(Part.TUNING, 9, 0.5, [Condition.DAY])
    truth = act_through(plan)
    assert truth["events"] == []
    assert len([item for item in truth["lookalikes"] if item["counted"]]) > 30


def test_truth_is_what_is_drawn() -> None:
    street = Street(TUNING_SEEDS.start)
    chance = random.Random(3)
    put_bin(street, chance)
    zones = {name: draw_zone(street, name) for name in ("no_parking", "queue", "litter_spot", "square")}
    witness = Witness(street, zones, limit=2)
    car = ParkedCar("parked-1", 100.0, street, chance)
    car.end(car.stands_s + 10.0)
    square = street.places["square"]
    drawn: list[TruthBox] = []
    for step in range(200):
        now_s = 100.0 + step / 5
        car.step(street, now_s)
        if step == 100:
            for name in ("a", "b"):
                street.put(name, Person(x_m=square.x_m, y_m=square.y_m))
        if step == 150:
            street.remove("a")
        witness.look(now_s - 100.0, now_s)
        if not drawn and now_s > car.stands_s + 1.0:
            drawn = [box for box in street.truth(now_s) if box.name == "parked-1/car"]
    stays = {stay.category: stay for stay in witness.stays}
    assert sorted(stays) == ["crowding", "illegal_parking"]
    parked = stays["illegal_parking"]
    assert (parked.zone, parked.cause) == ("no_parking", "parked")
    assert parked.start_s == pytest.approx(car.stands_s - 100.0, abs=0.4)
    assert parked.end_s == pytest.approx(car.stands_s - 100.0 + 10.0, abs=0.6)
    (box,) = drawn
    assert parked.box == pytest.approx((box.x1 / 640, box.y1 / 360, box.x2 / 640, box.y2 / 360), abs=1e-3)
    assert (stays["crowding"].start_s, stays["crowding"].end_s) == (pytest.approx(20.0), pytest.approx(29.8))


def stay(category: str, lasts_s: float, cause: str) -> Stay:
    return Stay(
        zone="z", category=category, cause=cause, actor="a", start_s=1.0, end_s=1.0 + lasts_s, box=(0.1, 0.1, 0.2, 0.2)
    )


def test_what_is_too_near_to_its_threshold_is_nobodys_event() -> None:
    sure, near, brief = (stay("illegal_parking", lasts_s, "parked") for lasts_s in (24.0, 20.5, 12.0))
    queue = stay("illegal_parking", 40.0, "standstill")
    assert sort_stays([sure, near, brief, queue], 100.0) == ([sure], [near])


def test_a_clip_is_written_once_and_the_same_again(tmp_path: Path) -> None:
    plan = ClipPlan(part=Part.TUNING, number=2, condition=Condition.RESTART, seconds=4.0, fps=2.5)
    first = write_clip(tmp_path / "a", plan)
    written_at = first.stat().st_mtime_ns
    assert write_clip(tmp_path / "a", plan).stat().st_mtime_ns == written_at
    second = write_clip(tmp_path / "b", plan)
    assert first.read_bytes() == second.read_bytes()
    clip = first.with_name("restart-0002.mp4")
    assert clip.read_bytes() == second.with_name(clip.name).read_bytes()
    truth = json.loads(first.read_text())
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", *truth["size"])
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_numbers_are_read_as_people_write_them() -> None:
    assert read_numbers("1, 4,7-9") == [1, 4, 7, 8, 9]
    with pytest.raises(ValueError, match="invalid"):
        read_numbers("one")
