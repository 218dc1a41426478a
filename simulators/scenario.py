"""Scenarios: readable files that say what happens when, on what, and what must come of it."""

from __future__ import annotations

import random
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.cause import ACTIONS, Causes
from simulators.city import City
from simulators.score import NOTHING, Expected, Truth

FOLDER = Path(__file__).parent / "scenarios"
_STEP_KEYS = {"name", "at_s", "jitter_s", "on", "action", "expect", "zh", "en", "parameters"}


class ScenarioError(ValueError):
    """A scenario file that cannot be played; the text says which step and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One happening. `on` is a part: 'camera 1', 'smoke_alarm 2', or a role such as 'door_sensor silent'; parts with
    the same name are the same device all through the scenario."""

    name: str
    at_s: float
    on: str
    action: str
    expect: str
    jitter_s: float = 0.0
    zh: str = ""
    en: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """What a file says. `settle_s` is how long closures may take after the last step, `quiet_s` how long is watched
    afterwards for incidents that should not be."""

    name: str
    steps: tuple[Step, ...]
    settle_s: float = 120.0
    quiet_s: float = 10.0

    @property
    def length_s(self) -> float:
        """From the first instant to the last step."""
        return max((step.at_s + step.jitter_s for step in self.steps), default=0.0)


def read_scenario(path: Path) -> Scenario:
    """A scenario file, or one of our own by its name without '.toml'. Raises ScenarioError, OSError."""
    if not path.exists() and not path.suffix:
        path = FOLDER / f"{path.name}.toml"
    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path.name}: {error}") from error
    head = value.get("scenario", {})
    steps = tuple(_read_step(row, number) for number, row in enumerate(value.get("step", []), 1))
    names = [step.name for step in steps]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ScenarioError(f"{path.name}: two steps are called {', '.join(doubles)}")
    if not steps:
        raise ScenarioError(f"{path.name}: no steps")
    return Scenario(
        name=str(head.get("name", path.stem)),
        steps=steps,
        settle_s=float(head.get("settle_s", 120.0)),
        quiet_s=float(head.get("quiet_s", 10.0)),
    )


def _read_step(row: dict[str, Any], number: int) -> Step:
    where = f"step {number} ({row.get('name', 'without a name')})"
    unknown = set(row) - _STEP_KEYS
    missing = {"name", "at_s", "on", "action", "expect"} - set(row)
    if unknown or missing:
        raise ScenarioError(f"{where}: unknown {sorted(unknown)}, missing {sorted(missing)}")
    action = ACTIONS.get(row["action"])
    if action is None:
        raise ScenarioError(f"{where}: there is no action {row['action']!r} (there are: {', '.join(ACTIONS)})")
    if row["on"].split()[0] != action.kind:
        raise ScenarioError(f"{where}: {row['action']} needs a {action.kind}, not {row['on']!r}")
    if row["expect"] != action.category:
        raise ScenarioError(f"{where}: {row['action']} means {action.category}, the file expects {row['expect']!r}")
    return Step(**row)


def cast(scenario: Scenario, city: City, rng: random.Random) -> dict[str, str]:
    """Which device plays which part. Roles keep their own devices; the rest is dealt by chance.

    Raises ScenarioError when a city has too few of a kind.
    """
    parts: dict[str, str] = {}
    for kind in sorted({step.on.split()[0] for step in scenario.steps}):
        if kind == "camera":
            free, roles = [camera.code for camera in city.cameras], {}
        else:
            of_kind = [device for device in city.devices if device.kind == kind]
            free = [device.code for device in of_kind if not device.role]
            roles = {f"{kind} {device.role}": device.code for device in of_kind if device.role}
        rng.shuffle(free)
        for part in sorted({step.on for step in scenario.steps if step.on.split()[0] == kind}):
            if part in roles:
                parts[part] = roles[part]
            elif free:
                parts[part] = free.pop()
            else:
                raise ScenarioError(f"the city has too few {kind}s for {part!r}")
    return parts


def play(
    scenario: Scenario, causes: Causes, seed: int, stop: threading.Event, say: Callable[[str], None] = lambda text: None
) -> Truth:
    """Play every step at its time, moved by the seed, and give the truth. Ends early, with what was done, on `stop`.

    Raises ScenarioError when a step cannot be done.
    """
    rng = random.Random(f"{seed}/scenario/{scenario.name}")
    parts = cast(scenario, causes.city, rng)
    times = {step.name: max(0.0, step.at_s + rng.uniform(-step.jitter_s, step.jitter_s)) for step in scenario.steps}
    began_s = causes.now_s
    events: list[Expected] = []
    for step in sorted(scenario.steps, key=lambda step: times[step.name]):
        if stop.wait(max(0.0, began_s + times[step.name] - causes.now_s)):
            break
        try:
            caused = causes.perform(step.action, parts[step.on], step.parameters)
        except ValueError as error:
            raise ScenarioError(f"{step.name} on {parts[step.on]}: {error}") from error
        events.append(
            Expected(
                name=step.name,
                category=caused.category,
                cell=caused.cell,
                device=caused.device,
                caused_at=caused.caused_at,
                limit_s=caused.limit_s,
            )
        )
        outcome = "nothing must come of it" if caused.category == NOTHING else f"must open {caused.category}"
        say(f"{times[step.name]:5.1f} s  {step.zh or step.name} · {step.en or step.name}: {caused.device}, {outcome}")
    return Truth(seed=seed, events=tuple(events))
