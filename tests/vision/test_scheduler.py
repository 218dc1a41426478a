"""The scheduler: deadlines while it can keep up, fair shares when it cannot, and what was left out is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.scheduler import Scheduler, Wish, stretch


def play(
    wishes: Mapping[str, Wish], cost_s: float, *, seconds: float = 40.0, camera_fps: float = 25.0
) -> Scheduler[str]:
    """A detector that takes `cost_s` for each look, and cameras that give pictures all the time; rates are in the result."""
    scheduler: Scheduler[str] = Scheduler(cost_s=cost_s)
    for name, wish in wishes.items():
        scheduler.want(name, wish, 0.0)
    now_s, shown = 0.0, dict.fromkeys(wishes, -1)
    while now_s < seconds:
        for name in wishes:
            if int(now_s * camera_fps) > shown[name]:
                shown[name] = int(now_s * camera_fps)
                scheduler.offer(name, now_s)
        chosen = scheduler.pick(now_s)
        now_s += cost_s if chosen else 0.005
        for name in chosen:
            scheduler.done(name, now_s)
            scheduler.charge(1, cost_s, 0.0)
    return scheduler


def test_a_detector_that_keeps_up_gives_every_camera_its_rate_and_skips_nothing() -> None:
    scheduler = play(
        {"busy": Wish(every_s=0.2), "idle": Wish(every_s=1.0), "checked": Wish(every_s=0.2, urgent=True)}, 0.02
    )
    assert [scheduler.looks_per_s(name, 40.0) for name in ("busy", "idle", "checked")] == pytest.approx(
        [5, 1, 5], abs=0.21
    )
    assert [scheduler.skipped_per_s(name, 40.0) for name in ("busy", "idle", "checked")] == [0.0, 0.0, 0.0]


def test_too_much_for_the_detector_lowers_all_rates_alike_and_what_is_skipped_is_told() -> None:
    names = [f"c{n}" for n in range(8)]
    scheduler = play({name: Wish(every_s=0.2) for name in names}, 0.05)
    looks = [scheduler.looks_per_s(name, 40.0) for name in names]
    assert max(looks) - min(looks) <= 0.3
    assert sum(looks) == pytest.approx(20 * 0.95, rel=0.08)  # the detector is busy nearly all the time
    for name in names:
        told = scheduler.looks_per_s(name, 40.0) + scheduler.skipped_per_s(name, 40.0)
        assert told == pytest.approx(5.0, abs=0.5)


def test_a_camera_that_follows_something_keeps_its_rate_while_the_others_are_slowed() -> None:
    wishes = {f"c{n}": Wish(every_s=0.2) for n in range(8)} | {"slot": Wish(every_s=0.2, urgent=True)}
    scheduler = play(wishes, 0.05)
    assert scheduler.looks_per_s("slot", 40.0) == pytest.approx(5.0, abs=0.3)
    assert scheduler.skipped_per_s("slot", 40.0) == 0.0
    assert 1.2 < scheduler.looks_per_s("c0", 40.0) < 2.2


def test_the_earliest_deadline_comes_first_and_a_picture_not_yet_due_waits() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for name, every_s in (("late", 0.2), ("later", 0.5), ("fresh", 10.0)):
        scheduler.want(name, Wish(every_s=every_s), 0.0)
        scheduler.offer(name, 0.0)
        scheduler.done(name, 0.0)
        scheduler.offer(name, 0.1)
    assert scheduler.pick(1.0, most=5) == ["late", "later"]
    scheduler.withdraw("late")
    assert scheduler.pick(1.0, most=5) == ["later"]
    scheduler.want("fresh", Wish(every_s=0.2), 1.0)  # something moves there now
    assert scheduler.pick(1.0, most=5) == ["later", "fresh"]
    assert scheduler.skipped_per_s("fresh", 1.0) == 0.0
    scheduler.drop(["later"])
    assert scheduler.pick(1.0, most=5) == ["fresh"]


@given(
    wishes=st.dictionaries(
        st.integers(0, 40), st.builds(Wish, every_s=st.floats(0.05, 5.0), urgent=st.booleans()), min_size=1
    ),
    cost_s=st.floats(0.001, 0.3),
)
def test_the_stretched_rates_fit_into_the_share_and_nobody_starves(wishes: dict[int, Wish], cost_s: float) -> None:
    every_s = stretch(wishes, cost_s, 0.95)
    wanted, given_ = (
        sum(cost_s / each for each in rates) for rates in ([w.every_s for w in wishes.values()], every_s.values())
    )
    assert given_ <= max(0.95, 0.0) * 1.0001 or given_ == pytest.approx(wanted)
    assert given_ >= min(wanted, 0.95) * 0.9999  # and none of the share is wasted
    factors = {key: every_s[key] / wish.every_s for key, wish in wishes.items()}
    assert min(factors.values()) >= 1.0 - 1e-9
    urgent = [factors[key] for key, wish in wishes.items() if wish.urgent]
    rest = [factors[key] for key, wish in wishes.items() if not wish.urgent]
    if urgent and rest:
        assert max(urgent) <= min(rest) + 1e-6
