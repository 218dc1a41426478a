"""How many cameras two cores carry: the vision role with its capture processes over real RTSP, counted by its own CPU time.

The simulated cameras copy H.264 packets from a file in a process of their own; what they, the database and the broker take
of the machine is told beside it. Carried means: nothing shed (skipped looks under one in a hundred) and memory flat.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._installation import describe_machine, environment, free_all_cores, installation
from devices.store import DeviceRecord, add_camera
from kernel.db import Database, DbRole
from kernel.settings import Settings

SETTLE_S = 45.0
EVERY_S = 5.0
LOOKS_PER_S = 5.0
MOST_SKIPPED = 0.01
FILL_S = 240.0
"""So long each camera's pictures of the last minutes fill what they may take (`evidence.memory_bytes`)."""

FLAT_GROWTH = 0.05
"""Memory of our own that grows by less than this from then to the end is called flat."""

_ROOT = Path(__file__).resolve().parent.parent
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def measure_cameras(film: Path, *, minutes: float, cameras: int) -> list[dict[str, Any]]:
    """Watch `cameras` for `minutes` (after a while of settling). Raises AssertionError when not one of them is seen."""
    with (
        installation() as settings,
        _streams(film, cameras) as (streams, urls),
        contextlib.closing(Database(settings, DbRole.WORKER)) as database,
    ):
        free_all_cores(settings)
        for number, url in enumerate(urls):
            _furnish(database, number, url)
        with _vision(settings) as worker:
            time.sleep(SETTLE_S)
            samples = [_sample(database, worker.pid, streams.pid, minutes) for _ in range(1)]
            until_s = time.monotonic() + minutes * 60
            while time.monotonic() < until_s:
                time.sleep(min(EVERY_S, max(0.1, until_s - time.monotonic())))
                samples.append(_sample(database, worker.pid, streams.pid, minutes))
    return [_describe(samples, cameras)]


def _sample(database: Database, worker: int, streams: int, minutes: float) -> dict[str, float]:
    del minutes
    with database.transaction("*") as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum((s.metrics #>> '{looks_per_s,value}')::float8), 0),"
            " coalesce(sum((s.metrics #>> '{skipped_fps,value}')::float8), 0),"
            " coalesce(sum((s.metrics #>> '{fps,value}')::float8), 0)"
            " FROM device_state s WHERE (s.metrics #>> '{looks_per_s,at}')::timestamptz > %s - interval '10 s'",
            (datetime.now(UTC),),
        ).fetchone()
    assert row is not None
    ours, theirs = _family(worker), _family(streams)
    return {
        "at_s": time.monotonic(),
        "cameras": float(row[0]),
        "looks_per_s": float(row[1]),
        "skipped_fps": float(row[2]),
        "frames_per_s": float(row[3]),
        "cpu_s": sum(_cpu_s(pid) for pid in ours),
        "worker_cpu_s": _cpu_s(worker),
        "streams_cpu_s": sum(_cpu_s(pid) for pid in theirs),
        "machine_cpu_s": _machine_cpu_s(),
        "memory_mib": sum(_memory_mib(pid, ("Pss:",)) for pid in ours),
        # without pages of libraries: their share moves with what else runs on the machine
        "own_mib": sum(_memory_mib(pid, ("Pss_Anon:", "Pss_Shmem:")) for pid in ours),
    }


def _describe(samples: list[dict[str, float]], cameras: int) -> dict[str, Any]:
    first, last = samples[0], samples[-1]
    seconds = last["at_s"] - first["at_s"]
    cores = {
        name: (last[f"{name}_s"] - first[f"{name}_s"]) / seconds
        for name in ("cpu", "worker_cpu", "streams_cpu", "machine_cpu")
    }
    looks = sum(one["looks_per_s"] for one in samples) / len(samples)
    skipped = sum(one["skipped_fps"] for one in samples) / len(samples)
    tenth = max(1, len(samples) // 10)
    begin, end = (_mean("memory_mib", part) for part in (samples[:tenth], samples[-tenth:]))
    full = [one for one in samples if one["at_s"] - first["at_s"] >= FILL_S]
    own_full, own_end = (_mean("own_mib", part) for part in (full[:tenth], samples[-tenth:]))
    assert looks > 0, "not one camera was looked at"
    have = len(os.sched_getaffinity(0))
    return {
        "name": "vision_cameras",
        "unit": "cameras on two cores",
        "ours": round(2 * cameras / cores["cpu"], 1),
        "peer": None,
        "peer_name": None,
        "ratio_peer": None,
        "ceiling": None,
        "ceiling_name": None,
        "ratio_ceiling": None,
        "runs": 1,
        "machine": describe_machine(),
        "goal": 16,
        "watched": cameras,
        "seen_at_the_end": int(last["cameras"]),
        "minutes": round(seconds / 60, 1),
        "carried_without_shedding": skipped <= MOST_SKIPPED * (looks + skipped),
        "looks_per_s": round(looks, 2),
        "skipped_fps": round(skipped, 3),
        "frames_per_s": round(sum(one["frames_per_s"] for one in samples) / len(samples), 1),
        "cores_ours": round(cores["cpu"], 3),
        "cores_of_which_looking": round(cores["worker_cpu"], 3),
        "cores_of_which_capture": round(cores["cpu"] - cores["worker_cpu"], 3),
        "cores_simulators": round(cores["streams_cpu"], 3),
        "cores_everything": round(cores["machine_cpu"], 3),
        "cores_there_are": have,
        "memory_mib_begin": round(begin, 1),
        "memory_mib_end": round(end, 1),
        "memory_own_mib_full": round(own_full, 1) if len(full) > 2 * tenth else None,
        "memory_own_mib_end": round(own_end, 1),
        "memory_flat": own_end <= own_full * (1 + FLAT_GROWTH) if len(full) > 2 * tenth else None,
    }


def _mean(name: str, samples: list[dict[str, float]]) -> float:
    return sum(one[name] for one in samples) / max(1, len(samples))


def _furnish(database: Database, number: int, url: str) -> None:
    """A camera with a zone over the road for the parking rule and one for people."""
    everywhere = [[0.02, 0.25], [0.98, 0.25], [0.98, 0.98], [0.02, 0.98]]
    scene = {
        "zones": [
            {"name": "road", "rule": "illegal_parking", "polygon": everywhere, "parameters": {"dwell_s": 120}},
            {"name": "people", "rule": "crowding", "polygon": everywhere, "parameters": {"limit": 20}},
        ]
    }
    record = DeviceRecord(code=f"bench-{number}", kind="camera", name="", lon=120.1, lat=30.2, area_code="330105012001")
    with database.transaction("*") as connection:
        add_camera(connection, record, url, datetime.now(UTC), scene=scene)


@contextlib.contextmanager
def _streams(film: Path, cameras: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._streams", str(film), str(cameras)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)


@contextlib.contextmanager
def _vision(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gridwarden.role", "vision"],
        cwd=_ROOT,
        env={
            **environment(settings),
            "GRIDWARDEN_CAMERA__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
            "GRIDWARDEN_CAMERA__RECORDING_MINUTES": "0",
            "GRIDWARDEN_VISION__FPS": str(LOOKS_PER_S),
            "GRIDWARDEN_VISION__THREADS": str(min(2, len(os.sched_getaffinity(0)))),
        },
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _family(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def _memory_mib(pid: int, parts: tuple[str, ...]) -> float:
    """Its memory (proportional share) of these kinds, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(parts))


def _machine_cpu_s() -> float:
    fields = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) * _TICK_S
