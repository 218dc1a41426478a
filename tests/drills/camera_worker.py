"""The vision worker dies while it watches: what it knew of a place survives, nothing is reported twice, nothing else is missed.

Part of `scripts/drill camera`: a whole installation, rendered streets, the bundled model.
"""

import random
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from kernel.db import Database, DbRole
from simulators.choreography import ParkedCar
from simulators.city import draw_zone
from simulators.corner import FRAME_SIZE, Corner
from simulators.rtsp import Fault, RtspServer
from simulators.street import Street
from tests.drills.cameras import serving, wait_for
from tests.drills.verdict import Verdict
from tests.flows.conftest import System, running_system

SEEDS = {"cam-before": 11, "cam-after": 12, "cam-empty": 13}
ZONE = "no_parking"
DWELL_S = 8.0
KILLS = 3
QUIET_S = 25.0
"""After the last kill: a second report would have come by then."""


def kill_worker() -> Verdict:
    """Three cameras: a car that stands before the worker is killed, one that comes afterwards, one street that stays empty."""
    verdict = Verdict()
    with (
        serving() as server,
        TemporaryDirectory(prefix="gw-camera-") as folder,
        running_system(GRIDWARDEN_VISION__IDLE_FPS="2") as system,
    ):
        corners = {code: Corner(seed, alive=False) for code, seed in SEEDS.items()}
        for code, corner in corners.items():
            server.add_camera(code, corner.frame, 5.0, FRAME_SIZE)
            _register(system, Path(folder), code, corner, server.url_of(code))
        wait_for(lambda: all(camera.viewers for camera in server.cameras.values()), 60)
        time.sleep(12)  # what stands there from now on was not there before
        _park(corners["cam-before"])
        took_s = wait_for(lambda: _reports(system, "cam-before"), 90)
        verdict.check("a car that stands is reported", [] if took_s is not None else ["never"])
        time.sleep(4)  # what is known is written every three seconds
        for number in range(KILLS):
            killed_s = time.monotonic()
            captures = psutil.Process(system.pid_of("vision")).children()
            system.kill("vision")
            left_s = wait_for(lambda: not any(each.is_running() for each in captures), 20)  # noqa: B023
            verdict.check(
                f"SIGKILL {number + 1}: its {len(captures)} capture process leaves with it",
                [] if captures and left_s is not None else [str(captures)],
            )
            back_s = wait_for(lambda: all(c.viewers for c in server.cameras.values()), 60)
            verdict.check(
                f"SIGKILL {number + 1}: every camera is pulled again", [] if back_s is not None else ["never"]
            )
            verdict.figures[f"SIGKILL {number + 1}: every camera pulled again after"] = (
                f"{time.monotonic() - killed_s:.1f} s"
            )
            if number == 0:
                _park(corners["cam-after"])
            time.sleep(8)
        took_s = wait_for(lambda: _reports(system, "cam-after"), 90)
        verdict.check("a car that came after a kill is reported", [] if took_s is not None else ["never"])
        time.sleep(QUIET_S)
        for code, wanted in (("cam-before", 1), ("cam-after", 1), ("cam-empty", 0)):
            found = _reports(system, code)
            verdict.check(f"{code}: {wanted} report of parking", [] if len(found) == wanted else [str(found)])
        _freeze_one(system, server, verdict)
    return verdict


def _freeze_one(system: System, server: RtspServer, verdict: Verdict) -> None:
    """A frozen picture is a fault of the camera: opened once, and cleared by itself."""
    server.cameras["cam-empty"].set_fault(Fault.FROZEN)
    took_s = wait_for(lambda: _faults(system, "cam-empty"), 90)
    verdict.check("frozen: a camera fault within 60 s", [] if took_s is not None and took_s <= 60 else [f"{took_s}"])
    verdict.figures["frozen: camera fault after"] = f"{took_s or -1:.0f} s"
    server.cameras["cam-empty"].set_fault(Fault.NONE)
    time.sleep(20)
    found = _faults(system, "cam-empty")
    verdict.check("frozen: reported once", [] if len(found) == 1 else [str(found)])
    others = [each for code in ("cam-before", "cam-after") for each in _faults(system, code)]
    verdict.check("frozen: no fault of another camera", [str(each) for each in others])


def _register(system: System, folder: Path, code: str, corner: Corner, url: str) -> None:
    points = ", ".join(f"[{x:.4f}, {y:.4f}]" for x, y in draw_zone(corner.street, ZONE))
    scene = folder / f"{code}.toml"
    scene.write_text(
        f'[[zones]]\nname = "bay"\nrule = "illegal_parking"\npolygon = [{points}]\n'
        f"lon = 120.1715\nlat = 30.2815\nparameters = {{ dwell_s = {DWELL_S} }}\n"
    )
    added = system.run(
        "device", "add", code, "camera", "--lon", "120.1715", "--lat", "30.2815", "--url", url, "--scene", str(scene)
    )  # fmt: skip
    assert added.returncode == 0, added.stderr


def _park(corner: Corner) -> None:
    def arrive(name: str, street: Street, rng: random.Random) -> ParkedCar:
        return ParkedCar(name, datetime.now(UTC).timestamp(), street, rng)

    corner.play("bay", arrive)


def _reports(system: System, code: str) -> list[tuple[object, ...]]:
    return _read(system, "r.category = 'illegal_parking'", code)


def _faults(system: System, code: str) -> list[tuple[object, ...]]:
    return _read(system, "r.category <> 'illegal_parking'", code)


def _read(system: System, condition: str, code: str) -> list[tuple[object, ...]]:
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        return connection.execute(
            "SELECT r.category, r.source_key, r.occurred_at FROM report r JOIN device d ON d.id = r.device_id"
            f" WHERE d.code = %s AND {condition} ORDER BY r.id",  # type: ignore[arg-type]
            (code,),
        ).fetchall()


if __name__ == "__main__":
    found = kill_worker()
    print("\n".join(found.lines()))
