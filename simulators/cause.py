"""Things that can be made to happen in a simulated city, by name, and how each is put right again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators import choreography as acts
from simulators.city import CROWD_LIMIT, PLACE_OF_ZONE, ZONE_NAMES, City
from simulators.corner import Corner
from simulators.fleet import Fleet
from simulators.score import NOTHING
from simulators.street import Light, Street, Weather

Picture = NDArray[np.uint8]
DOOR_USE_S = 15.0
RIVER_HIGH_M, RIVER_LOW_M = 3.1, 1.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Caused:
    """What was made to happen: on which device, at which place of its street ('' for none), the category of the
    incident it must open (NOTHING for a look-alike), the instant it began, the wait its rule asks for, its cell."""

    device: str
    place: str
    category: str
    caused_at: datetime
    limit_s: float
    cell: str


@dataclass(frozen=True, slots=True)
class Action:
    """A named cause: kind of device it needs ('camera' for a corner), place it takes, category it must open."""

    kind: str
    place: str
    category: str
    limit_s: float
    perform: Callable[[Causes, str, Mapping[str, Any]], float]
    """(causes, device code, parameters) -> Unix time at which the cause begins."""


class Causes:
    """Performs actions on a city's corners and fleet, and puts right what they did. Any thread may call it."""

    def __init__(self, city: City, corners: Mapping[str, Corner], fleet: Fleet, now_s: Callable[[], float]) -> None:
        self.city, self.corners, self.fleet = city, corners, fleet
        self._now_s = now_s
        self._rng = random.Random(f"{city.seed}/causes")
        self._timers: list[threading.Timer] = []

    @property
    def now_s(self) -> float:
        """Unix time."""
        return self._now_s()

    def perform(self, name: str, device: str, parameters: Mapping[str, Any]) -> Caused:
        """Make it happen. Raises KeyError for an unknown action or device, ValueError when it cannot be done there."""
        action = ACTIONS[name]
        began_s = action.perform(self, device, parameters)
        camera = self.city.camera(device)
        zone = ZONE_NAMES.get(action.place, "")
        if camera is not None:
            cell = camera.zone_cells.get(zone, camera.cell)
        else:
            cell = next(d.cell for d in self.city.devices if d.code == device)
        return Caused(
            device=device,
            place=action.place,
            category=action.category,
            caused_at=datetime.fromtimestamp(began_s, UTC),
            limit_s=action.limit_s,
            cell=cell,
        )

    def find_device(self, name: str, rng: random.Random, avoid: set[str]) -> str:
        """A device on which the action can be done now, not one to avoid. Raises LookupError when there is none."""
        action = ACTIONS[name]
        if action.kind == "camera":
            found = [c.code for c in self.city.cameras if not self.corners[c.code].is_taken(action.place)]
        else:
            found = [d.code for d in self.city.devices if d.kind == action.kind]
        free = [code for code in found if code not in avoid]
        if not free:
            raise LookupError(f"nowhere to {name}: every place is taken")
        return rng.choice(free)

    def repair(self, device: str, zone: str, category: str) -> None:
        """Put right what an incident of that category at that device tells of; what is not known is left alone."""
        corner = self.corners.get(device)
        if corner is not None and category == "camera_fault":
            corner.black_out(False)
        elif corner is not None:
            corner.tidy(PLACE_OF_ZONE.get(zone, zone), self.now_s)
        elif self.city.device(device) is not None:
            match category:
                case "smoke":
                    self.fleet.clear_smoke(device)
                case "door_silent":
                    self.fleet.use_door(device, DOOR_USE_S)
                case "river_level":
                    self.fleet.set_river(device, RIVER_LOW_M, 0.35)
                case "gate_fault":
                    self.fleet.repair_gate(device)

    def photograph(self, device: str, zone: str, category: str) -> bytes:
        """What a worker's phone takes there: JPEG, upright."""
        corner = self.corners.get(device)
        if corner is not None:
            picture = corner.photograph(PLACE_OF_ZONE.get(zone, "pavement_path"), self.now_s)
        else:
            picture = draw_site(category, self._rng)
        ok, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
        if not ok:
            raise RuntimeError("the picture could not be encoded")
        return bytes(coded)

    def later(self, after_s: float, what: Callable[[], object]) -> None:
        """Do something after a while, unless the causes are closed before."""
        timer = threading.Timer(after_s, what)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def close(self) -> None:
        """Forget what was to come."""
        for timer in self._timers:
            timer.cancel()


def _play(place: str, make: Callable[[str, float, Street, random.Random, Mapping[str, Any]], acts.Act]) -> Any:
    """An action that is one act at a place of a corner."""

    def perform(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
        began_s = causes.now_s + 0.2
        act = causes.corners[device].play(place, lambda name, street, rng: make(name, began_s, street, rng, parameters))
        return act.cause_s if act.cause_s is not None else began_s

    return perform


def _cover_lens(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    if causes.corners[device].street.blackout:
        raise ValueError("the lens is covered already")
    causes.corners[device].black_out(True)
    return causes.now_s


def _rain_at_night(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    """Dark, wet, and cars with their lights on that drive through."""
    corner = causes.corners[device]
    began_s = causes.now_s
    corner.set_sky(Light.NIGHT, Weather.RAIN)
    for i in range(int(parameters.get("cars", 4))):
        lane = "lane" if i % 2 else "queue"
        corner.play("", partial(_pass_by, began_s + 2.0 + 5.0 * i, lane))
    return began_s


def _pass_by(at_s: float, lane: str, name: str, street: Street, rng: random.Random) -> acts.PassingCar:
    return acts.PassingCar(name, at_s, street, rng, lane=lane)


def _alarm_smoke(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.alarm_smoke(device, twice=bool(parameters.get("twice"))).timestamp()


def _test_smoke(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.test_smoke(device, twice=bool(parameters.get("twice"))).timestamp()


def _leave_door(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.leave_door(device).timestamp()


def _open_door(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    """A number of openings, `every_s` apart; the cause begins with the first."""
    began_s = causes.fleet.open_door(device, closes_after_s=1.5).timestamp()
    for i in range(1, int(parameters.get("count", 1))):
        wait_s = float(parameters.get("every_s", 4.0)) * i
        causes.later(wait_s, lambda: causes.fleet.open_door(device, closes_after_s=1.5))
    return began_s


def _raise_river(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.set_river(device, RIVER_HIGH_M, 0.25).timestamp()


def _stick_gate(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.stick_gate(device).timestamp()


def _pass_gate(causes: Causes, device: str, parameters: Mapping[str, Any]) -> float:
    return causes.fleet.pass_gate(device).timestamp()


ACTIONS: dict[str, Action] = {
    "overflow_bin": Action("camera", "bin", "bin_overflow", 6.0, _play(
        "bin", lambda name, at, street, rng, p: acts.BinFilling(name, at, street, rng, fill=1.35, spill=True))),
    "half_fill_bin": Action("camera", "bin", NOTHING, 0.0, _play(
        "bin", lambda name, at, street, rng, p: acts.BinFilling(name, at, street, rng, fill=0.5, spill=False))),
    "drop_litter": Action("camera", "litter_spot", "exposed_garbage", 15.0, _play(
        "litter_spot", lambda name, at, street, rng, p: acts.Litter(name, at, street, rng))),
    "set_bag_down": Action("camera", "litter_spot", NOTHING, 0.0, _play(
        "litter_spot", lambda name, at, street, rng, p: acts.BagSetDown(name, at, street, rng, stay_s=float(p.get("stay_s", 7))))),
    "park": Action("camera", "no_parking", "illegal_parking", 12.0, _play(
        "no_parking", lambda name, at, street, rng, p: acts.ParkedCar(name, at, street, rng))),
    "stop_briefly": Action("camera", "no_parking", NOTHING, 0.0, _play(
        "no_parking", lambda name, at, street, rng, p: acts.ParkedCar(name, at, street, rng, stay_s=float(p.get("stay_s", 5))))),
    "queue": Action("camera", "queue", NOTHING, 0.0, _play(
        "queue", lambda name, at, street, rng, p: acts.Queue(
            name, at, street, rng, count=int(p.get("count", 2)), wait_s=float(p.get("wait_s", 5))))),
    "gather": Action("camera", "square", "crowding", 6.0, _play(
        "square", lambda name, at, street, rng, p: acts.Crowd(
            name, at, street, rng, count=int(p.get("count", 11)), limit=CROWD_LIMIT))),
    "pass_through": Action("camera", "square", NOTHING, 0.0, _play(
        "square", lambda name, at, street, rng, p: acts.Passers(
            name, at, street, rng, count=int(p.get("count", 4)), along="square", spacing_m=float(p.get("spacing_m", 1.2))))),
    "cover_lens": Action("camera", "", "camera_fault", 4.0, _cover_lens),
    "rain_at_night": Action("camera", "", NOTHING, 0.0, _rain_at_night),
    "smoke": Action("smoke_alarm", "", "smoke", 0.0, _alarm_smoke),
    "test_smoke": Action("smoke_alarm", "", NOTHING, 0.0, _test_smoke),
    "leave_door": Action("door_sensor", "", "door_silent", 45.0, _leave_door),
    "open_door_often": Action("door_sensor", "", "door_night", 12.0, _open_door),
    "use_door": Action("door_sensor", "", NOTHING, 0.0, _open_door),
    "raise_river": Action("river_sluice", "", "river_level", 8.0, _raise_river),
    "stick_gate": Action("parking_gate", "", "gate_fault", 30.0, _stick_gate),
    "pass_gate": Action("parking_gate", "", NOTHING, 0.0, _pass_gate),
}  # fmt: skip


def draw_site(category: str, rng: random.Random) -> Picture:
    """A drawn photograph of a place without a camera (1200, 900, 3): a wall or water, the device on it, daylight, noise."""
    chance = np.random.default_rng(rng.getrandbits(32))
    height, width = 1200, 900
    base = chance.uniform(90, 190, 3)
    shade = np.linspace(1.12, 0.72, height)[:, None, None] * np.linspace(0.94, 1.05, width)[None, :, None]
    picture = np.clip(base * shade, 0, 255).astype(np.uint8)
    for _ in range(14):
        x, y = int(chance.integers(0, width)), int(chance.integers(0, height))
        tone = [int(v) for v in chance.uniform(60, 200, 3)]
        cv2.rectangle(picture, (x, y), (x + int(chance.integers(40, 260)), y + int(chance.integers(20, 160))), tone, -1)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 9), dtype=np.uint8)
    middle = (width // 2 + int(chance.integers(-60, 60)), height // 2 + int(chance.integers(-120, 60)))
    _draw_device(picture, category, middle)
    label = {"smoke": "SMOKE ALARM  NORMAL", "river_level": "SLUICE  GAUGE 1.40 m", "gate_fault": "P  BARRIER"}.get(
        category, "DOOR  VISITED"
    )
    cv2.putText(picture, label, (40, height - 50), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (240, 240, 240), 3, cv2.LINE_AA)
    noise = chance.normal(0, 5, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), dtype=np.uint8)


def _draw_device(picture: Picture, category: str, middle: tuple[int, int]) -> None:
    x, y = middle
    if category == "smoke":
        cv2.circle(picture, middle, 210, (225, 230, 232), -1, cv2.LINE_AA)
        cv2.circle(picture, middle, 150, (200, 205, 208), 12, cv2.LINE_AA)
        cv2.circle(picture, (x + 70, y + 60), 14, (80, 190, 90), -1, cv2.LINE_AA)
    elif category == "river_level":
        cv2.rectangle(picture, (0, y + 40), (picture.shape[1], picture.shape[0]), (120, 105, 70), -1)
        cv2.rectangle(picture, (x - 40, y - 380), (x + 40, y + 220), (230, 235, 238), -1)
        for i in range(0, 600, 50):
            cv2.line(picture, (x - 40, y - 380 + i), (x, y - 380 + i), (30, 30, 200), 6)
    elif category == "gate_fault":
        cv2.rectangle(picture, (x - 330, y - 60), (x - 220, y + 320), (40, 150, 230), -1)
        cv2.line(picture, (x - 270, y), (x + 360, y + 20), (235, 235, 235), 34, cv2.LINE_AA)
        for i in range(0, 600, 120):
            cv2.line(picture, (x - 240 + i, y), (x - 190 + i, y + 4), (40, 40, 210), 34, cv2.LINE_AA)
    else:
        cv2.rectangle(picture, (x - 220, y - 420), (x + 220, y + 420), (60, 80, 120), -1)
        cv2.rectangle(picture, (x - 180, y - 380), (x + 180, y - 40), (70, 95, 140), 10)
        cv2.circle(picture, (x + 160, y + 60), 22, (90, 200, 220), -1, cv2.LINE_AA)
