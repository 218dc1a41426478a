"""The whole simulated city as one process: cameras over RTSP, devices over MQTT, people over HTTP.

`python -m simulators.stage ACCESS_JSON` is given addresses and log-ins, nothing else of the platform. With a scenario it
plays it to its end, writes the score and exits 0 only when the score is whole; without, it waits for buttons on a
loopback port.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernel.types import LonLat
from simulators.account import Platform
from simulators.cause import ACTIONS, DOOR_USE_S, Caused, Causes
from simulators.city import CAMERA_FPS, PLACE_OF_ZONE, SILENT_DOOR, City
from simulators.control import ControlServer
from simulators.corner import FRAME_SIZE, Corner
from simulators.crew import Crew, CrewPlan
from simulators.district.model import distance_m
from simulators.fleet import DeviceSpec, Fleet, Login
from simulators.rtsp import RtspServer
from simulators.scenario import Scenario, ScenarioError, play, read_scenario
from simulators.score import ScoreReport, Truth, score

log = logging.getLogger(__name__)

READY_S = 90.0
WARM_UP_S = 6.0
TRIM_S = 15.0
RESTING_S = 25.0
"""A place that a button has used is left alone for so long, until its incident can be seen."""
BUTTONS = {
    "drop_rubbish": ("drop_litter", "overflow_bin"),
    "park_here": ("park",),
    "gather": ("gather",),
    "light_smoke": ("smoke",),
    "raise_river": ("raise_river",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """What the stage is given. `people` is a file of [{name, tokens: {seat: token}}]; `duplicate` is the scoring
    test's switch that reports a finished case once more."""

    web_url: str
    mqtt: Mapping[str, Any]
    rtsp_port: int
    control_port: int
    plan: str
    people: str
    seed: int
    scenario: str = ""
    report: str = ""
    duplicate: bool = False
    verify_tls: bool = True
    ca_file: str = ""
    speed_m_s: float = 0.0
    district: str = ""

    @classmethod
    def read(cls, path: Path) -> Access:
        """From a JSON file. Raises TypeError for keys that are not known, OSError, ValueError."""
        return cls(**json.loads(path.read_text("utf-8")))


class Stage:
    """A city and everything that makes it live. `alone`: no people take part."""

    def __init__(self, city: City, access: Access, *, alone: bool) -> None:
        self.city, self.access = city, access
        self.server = RtspServer("127.0.0.1", access.rtsp_port, rng=random.Random(f"{city.seed}/rtsp"))
        self.corners = {camera.code: Corner(camera.street_seed) for camera in city.cameras}
        specs = [DeviceSpec(code=device.code, kind=device.kind) for device in city.devices]
        gateway = str(access.mqtt.get("username", "")).partition("@")[0]  # they all speak through it, and it speaks too
        specs += [DeviceSpec(code=gateway, kind="gateway")] if gateway else []
        self.fleet = Fleet(specs, Login(**access.mqtt), seed=city.seed)
        self.causes = Causes(city, self.corners, self.fleet, time.time)
        people = json.loads(Path(access.people).read_text("utf-8"))
        plan = CrewPlan(
            tokens={person["name"]: person["tokens"] for person in people},
            alone=alone,
            speed_m_s=access.speed_m_s or (35.0 if alone else 22.0),
            sessions=Path(access.people).with_suffix(".sessions"),
        )
        platform = Platform(url=access.web_url, ca_file=access.ca_file, verify=access.verify_tls)
        self.crew = Crew(city, self.causes, platform, plan)
        self._rng = random.Random(f"{city.seed}/buttons")
        self._used_s: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Everything at once. Raises OSError when the cameras' port is taken."""
        for camera in self.city.cameras:
            self.server.add_camera(camera.code, self.corners[camera.code].frame, CAMERA_FPS, FRAME_SIZE)
        self.server.start()
        self.fleet.start()
        for device in self.city.devices:
            if device.role == SILENT_DOOR:
                self.fleet.use_door(device.code, DOOR_USE_S)
        self.crew.start()

    def stop(self) -> None:
        """Everything ends."""
        self.causes.close()
        self.crew.stop()
        self.fleet.stop()
        self.server.stop()

    def wait_until_watched(self, stop: threading.Event, timeout_s: float = READY_S) -> None:
        """Until the broker is there, staff are signed in and every camera has a viewer.

        Raises TimeoutError naming what is missing, RuntimeError when the staff cannot sign in.
        """
        deadline_s = time.monotonic() + timeout_s
        while missing := self._find_missing():
            if self.crew.failure is not None:
                raise RuntimeError(str(self.crew.failure))
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"after {timeout_s:.0f} s there is still no {', no '.join(missing)}")
            if stop.wait(0.2):
                return

    def _find_missing(self) -> list[str]:
        missing = [] if self.fleet.is_connected else ["broker"]
        missing += [] if self.crew.ready.is_set() else ["staff signed in"]
        return missing + [f"viewer of {path}" for path, camera in self.server.cameras.items() if not camera.viewers]

    # ---- buttons -----------------------------------------------------------------------------------------------

    def act(self, button: str) -> dict[str, Any]:
        """Do what a button of the demo says, near the first camera if it is free there; what was done.

        Raises KeyError for an unknown button, LookupError when nothing is free.
        """
        names = list(BUTTONS[button])
        self._rng.shuffle(names)
        for name in names:
            try:
                caused = self._act_near(name)
            except LookupError:
                continue
            self._used_s[caused.device, caused.place] = time.monotonic()
            return self._describe(button, name, caused)
        raise LookupError(f"{button}: every place for it is taken")

    def _act_near(self, name: str) -> Caused:
        kind = ACTIONS[name].kind
        first = self.city.cameras[0]
        home = LonLat(first.lon, first.lat)
        places = {c.code: LonLat(c.lon, c.lat) for c in self.city.cameras if kind == "camera"}
        places |= {d.code: LonLat(d.lon, d.lat) for d in self.city.devices if d.kind == kind}
        busy = self._find_busy()
        for code in sorted(places, key=lambda code: distance_m(places[code], home)):
            if (code, ACTIONS[name].place) in busy:
                continue
            try:
                return self.causes.perform(name, code, {})
            except ValueError:
                continue
        raise LookupError(name)

    def _find_busy(self) -> set[tuple[str, str]]:
        """Devices, and places under a camera, with an open incident, and those used a moment ago."""
        now_s = time.monotonic()
        busy = {key for key, used_s in self._used_s.items() if now_s - used_s < RESTING_S}
        for incident in self.crew.read_open():
            for report in incident.get("reports") or []:
                if report.get("device"):
                    busy.add((str(report["device"]["code"]), PLACE_OF_ZONE.get(report.get("zone") or "", "")))
        return busy

    def _describe(self, button: str, name: str, caused: Caused) -> dict[str, Any]:
        thing = self.city.camera(caused.device) or self.city.device(caused.device)
        return {
            "button": button, "action": name, "device": caused.device, "name": thing.name if thing else "",
            "place": caused.place, "category": caused.category, "caused_at": caused.caused_at.isoformat(), "limit_s": caused.limit_s,
        }  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What lives, for the demo page and for people who look."""
        counts = asdict(self.fleet.counts)
        counts.pop("latency_s")
        return {
            "seed": self.city.seed,
            "missing": self._find_missing(),
            "cameras": {
                path: {"viewers": len(c.viewers), "frames": c.frame_count} for path, c in self.server.cameras.items()
            },
            "fleet": {"devices": len(self.fleet.devices), "waiting": self.fleet.waiting_count, **counts},
            "staff": {"handled": self.crew.journal.handled, "checked": self.crew.journal.checked},
        }

    # ---- the scenario ------------------------------------------------------------------------------------------

    def perform(self, scenario: Scenario, stop: threading.Event, say: Callable[[str], None]) -> ScoreReport:
        """Play a scenario to its end and count. Raises what `wait_until_watched` and `play` raise."""
        self.wait_until_watched(stop)
        stop.wait(WARM_UP_S)
        truth = play(scenario, self.causes, self.access.seed, stop, say)
        incidents = self._await_closure(truth, scenario.settle_s, stop)
        if self.access.duplicate:
            self._report_again(incidents)
        stop.wait(scenario.quiet_s)
        return score(truth, self.crew.read_incidents(), self.crew.journal.pushed_at)

    def _await_closure(self, truth: Truth, settle_s: float, stop: threading.Event) -> list[dict[str, Any]]:
        """Until every expected event has a closed incident, or the time is up; the incidents at that moment."""
        deadline_s = time.monotonic() + settle_s
        while True:
            incidents = self.crew.read_incidents()
            cases = score(truth, incidents).cases
            if all(case.closed_at is not None for case in cases) or time.monotonic() > deadline_s or stop.wait(2.0):
                return incidents

    def _report_again(self, incidents: list[dict[str, Any]]) -> None:
        """The switch of the scoring test: a finished case of the street is reported once more."""
        done = [
            i
            for i in incidents
            if i["state"] == "closed" and i["category"]["id"] in ("illegal_parking", "bin_overflow", "exposed_garbage")
        ]
        if not done:
            raise LookupError("there is no finished case to report again")
        first = done[0]
        self.crew.report(
            {
                "category": first["category"]["id"],
                "lon": first["lon"],
                "lat": first["lat"],
                "note": "再次上报 / reported again",
            }
        )


def return_memory() -> None:
    """Hand freed memory back to the system: pictures come and go, and glibc keeps what they leave between them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def return_memory_at_times(stop: threading.Event) -> None:
    """`return_memory` every TRIM_S until `stop`."""
    while not stop.wait(TRIM_S):
        return_memory()


def summarise(report: ScoreReport, took_s: float) -> str:
    """The score in a few lines for a terminal."""
    counts = report.json()
    lines = [
        f"seed {counts['seed']}: {counts['opened']} of {counts['expected']} opened, {counts['right_cell']} in the right cell, "
        f"{counts['right_category']} of the right category, {counts['dispatched']} dispatched, {counts['closed']} closed; "
        f"{counts['false_incidents']} false, {counts['duplicate_incidents']} duplicate ({took_s:.0f} s)"
    ]
    return "\n".join(lines + [f"  FAILED {failure}" for failure in report.failures])


def run_stage(access_path: Path, scenario_path: Path | None = None) -> int:
    """Run until the scenario ends or SIGTERM comes. Exit status: 1 only for a scenario whose score is not whole.

    `scenario_path` goes before the access file's own scenario. Raises what reading those files raises: ScenarioError,
    OSError, ValueError, KeyError, TypeError.
    """
    access = Access.read(access_path)
    city = City.read(json.loads(Path(access.plan).read_text("utf-8")))
    wanted = scenario_path or (Path(access.scenario) if access.scenario else None)
    scenario = read_scenario(wanted) if wanted else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stage = Stage(city, access, alone=scenario is not None)
    control = ControlServer(stage.act, stage.status, access.control_port)
    control.start()
    stage.start()
    return_memory()
    threading.Thread(target=return_memory_at_times, args=(stop,), name="memory", daemon=True).start()
    try:
        if scenario is None:
            while not stop.wait(1.0):
                if stage.crew.failure is not None:
                    _say(f"the staff cannot work: {stage.crew.failure}")
                    return 1
            return 0
        return _play_and_score(stage, scenario, stop)
    finally:
        control.stop()
        stage.stop()


def _play_and_score(stage: Stage, scenario: Scenario, stop: threading.Event) -> int:
    began_s = time.monotonic()
    value: dict[str, Any]
    try:
        report = stage.perform(scenario, stop, _say)
        value = report.json()
        _say(summarise(report, time.monotonic() - began_s))
    except (TimeoutError, RuntimeError, LookupError, ScenarioError) as error:
        value = {"ok": False, "seed": stage.access.seed, "error": str(error)}
        _say(f"FAILED {error}")
    if stage.access.report:
        Path(stage.access.report).write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
    return 0 if value["ok"] else 1


def _say(text: str) -> None:
    sys.stderr.write(f"· {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(run_stage(Path(sys.argv[1])))
