"""Scenarios are files that people can read; the demo's has everything in it and fits any city."""

import random
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulators.cause import ACTIONS, Causes
from simulators.city import CAMERA_COUNT, City
from simulators.corner import Corner
from simulators.district import make_district
from simulators.fleet import Fleet
from simulators.scenario import FOLDER, ScenarioError, cast, play, read_scenario
from simulators.score import NOTHING

MUST_OPEN = {
    "overflow_bin", "drop_litter", "park", "gather", "smoke", "leave_door", "open_door_often", "raise_river", "stick_gate", "cover_lens",
}  # fmt: skip
MUST_OPEN_NOTHING = {
    "stop_briefly", "queue", "pass_through", "half_fill_bin", "set_bag_down", "use_door", "test_smoke", "rain_at_night",
}  # fmt: skip


@pytest.fixture(scope="module")
def city() -> City:
    return City.build(3, make_district(3), datetime(2026, 11, 20, 8, tzinfo=UTC))


class QuickClock:
    """Seconds that pass as fast as they are waited for."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class QuickStop(threading.Event):
    """Waits on a QuickClock."""

    def __init__(self, clock: QuickClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now_s += timeout or 0.0
        return self.is_set()


class SilentFleet(Fleet):
    """A fleet without a broker: what it would send is kept."""

    def __init__(self, city: City) -> None:
        from simulators.fleet import DeviceSpec, Login

        super().__init__([DeviceSpec(code=d.code, kind=d.kind) for d in city.devices], Login(), seed=1)
        self.published: list[tuple[str, bytes]] = []

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        self.published.append((topic, payload))


def make_causes(city: City, clock: QuickClock, *numbers: int) -> Causes:
    """The city with the corners of these cameras; a corner takes a moment to build."""
    corners = {city.cameras[n].code: Corner(city.cameras[n].street_seed, alive=False) for n in numbers}
    return Causes(city, corners, SilentFleet(city), clock)


def test_the_demo_has_every_event_and_every_look_alike() -> None:
    steps = read_scenario(Path("demo")).steps
    actions = {step.action for step in steps}
    assert actions >= MUST_OPEN | MUST_OPEN_NOTHING
    categories = [step.expect for step in steps if step.expect != NOTHING]
    assert len(categories) == len(set(categories)) == len(MUST_OPEN)
    assert all(step.zh and step.en for step in steps)
    twice = [step for step in steps if step.parameters.get("twice")]
    assert {step.expect for step in twice} == {"smoke", NOTHING}


def test_the_demo_is_over_within_five_minutes_even_if_nothing_is_closed() -> None:
    scenario = read_scenario(FOLDER / "demo.toml")
    assert scenario.length_s + scenario.settle_s + scenario.quiet_s < 260


@pytest.mark.parametrize("seed", range(40))
def test_any_seed_gives_every_part_a_device_of_its_kind(seed: int, city: City) -> None:
    scenario = read_scenario(Path("demo"))
    parts = cast(scenario, city, random.Random(seed))
    assert set(parts) == {step.on for step in scenario.steps}
    assert len(set(parts.values())) == len(parts)
    for part, code in parts.items():
        kind = part.split()[0]
        assert city.camera(code) if kind == "camera" else city.device(code).kind == kind  # type: ignore[union-attr]
    assert city.device(parts["door_sensor silent"]).settings["silent_span_s"] == 45.0  # type: ignore[union-attr]


def test_playing_gives_the_truth_in_cells_of_its_own(city: City) -> None:
    clock = QuickClock()
    causes = make_causes(city, clock, *range(CAMERA_COUNT))
    said: list[str] = []
    try:
        truth = play(read_scenario(Path("demo")), causes, 3, QuickStop(clock), said.append)
    finally:
        causes.close()
    assert len(truth.expected) == len(MUST_OPEN)
    cells = [event.cell for event in truth.expected]
    assert len(cells) == len(set(cells))
    for event in truth.expected:
        assert event.category == next(a.category for a in ACTIONS.values() if a.category == event.category)
        camera, device = city.camera(event.device), city.device(event.device)
        assert event.cell == (camera or device).cell  # type: ignore[union-attr]
    assert len(said) == len(truth.events)


def test_the_same_seed_plays_the_same_and_another_differs(tmp_path: Path, city: City) -> None:
    step = (
        '[[step]]\nname = "{0}"\nat_s = 5\njitter_s = 4\non = "smoke_alarm {0}"\naction = "smoke"\nexpect = "smoke"\n'
    )
    scenario = read_scenario(write(tmp_path, "".join(step.format(n) for n in range(4))))
    truths = []
    for seed in (5, 5, 6):
        clock = QuickClock()
        truths.append(play(scenario, make_causes(city, clock), seed, QuickStop(clock)))
    order = [[(event.name, event.device) for event in truth.events] for truth in truths]
    assert order[0] == order[1]
    assert order[0] != order[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "s.toml"
    path.write_text(text, "utf-8")
    return path


STEP = '[[step]]\nname = "a"\nat_s = 1\non = "camera 1"\naction = "park"\nexpect = "illegal_parking"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no steps"),
        ("[[step]", r"s\.toml"),
        (STEP + STEP, "two steps are called a"),
        (STEP.replace('"park"', '"fly"'), "no action 'fly'"),
        (STEP.replace('"camera 1"', '"river_sluice 1"'), "needs a camera"),
        (STEP.replace('"illegal_parking"', '"nothing"'), "means illegal_parking"),
        (STEP + "speed = 3\n", r"unknown \['speed'\]"),
        (STEP.replace("at_s = 1\n", ""), r"missing \['at_s'\]"),
    ],
)
def test_a_file_that_cannot_be_played_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        read_scenario(write(tmp_path, text))


def test_more_parts_than_devices_is_an_error(tmp_path: Path, city: City) -> None:
    steps = "".join(STEP.replace('"a"', f'"{n}"').replace("camera 1", f"camera {n}") for n in range(7))
    with pytest.raises(ScenarioError, match="too few cameras"):
        cast(read_scenario(write(tmp_path, steps)), city, random.Random(1))


def test_a_place_is_taken_until_it_is_put_right(city: City) -> None:
    clock = QuickClock()
    causes = make_causes(city, clock, 0)
    code = city.cameras[0].code
    first = causes.perform("park", code, {})
    with pytest.raises(ValueError, match="taken"):
        causes.perform("stop_briefly", code, {})
    clock.now_s += 30
    causes.corners[code].frame(clock.now_s)
    causes.repair(code, "禁停路侧", first.category)
    for _ in range(30):
        clock.now_s += 1
        causes.corners[code].frame(clock.now_s)
    causes.perform("stop_briefly", code, {})


def test_a_workers_photograph_shows_the_place_even_of_a_covered_camera(city: City) -> None:
    causes = make_causes(city, QuickClock(), 1)
    code = city.cameras[1].code
    causes.perform("cover_lens", code, {})
    assert causes.corners[code].frame(1_700_000_000.0).mean() < 16
    photo = causes.photograph(code, "", "camera_fault")
    assert photo[:2] == b"\xff\xd8" and len(photo) > 20_000
    causes.repair(code, "", "camera_fault")
    assert causes.corners[code].frame(1_700_000_001.0).mean() > 16


def test_a_repaired_device_says_so(city: City) -> None:
    causes = make_causes(city, QuickClock())
    fleet = causes.fleet
    assert isinstance(fleet, SilentFleet)
    for name, kind, category, word in (
        ("smoke", "smoke_alarm", "smoke", b'"recovered"'),
        ("stick_gate", "parking_gate", "gate_fault", b'"closed"'),
        ("leave_door", "door_sensor", "door_silent", b'"open": true'),
    ):
        code = next(device.code for device in city.devices if device.kind == kind)
        causes.perform(name, code, {})
        fleet.published.clear()
        causes.repair(code, "", category)
        assert any(code in topic and word in payload for topic, payload in fleet.published)
