"""`gridwarden bench vision`: what watching costs.

- `vision`: frames a second of the whole pipeline on one core (decode, judge, detect, follow, rules; every frame is looked at,
  the motion gate decides nothing), over the bare OpenVINO forward of the same model and over `ultralytics track` with the
  same weights on the same engine, at 480p with ByteTrack and at 1080p with its default BoT-SORT. Interleaved, medians.
- `vision_gate`: what the motion gate saves on a quiet camera, apart from that.
- `vision_camera_quiet`, `vision_camera_busy`: cores that a camera of 360p and 25 frames a second takes at 5 looks a second.
- with `--minutes M`: `vision_cameras`, how many cameras two cores carry, over real RTSP; see _cameras.py.

The peer is left out, and it says so, where GRIDWARDEN_BENCH_PEER_PYTHON names no Python with ultralytics.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import openvino as ov

from benchmarks._cameras import measure_cameras
from benchmarks._films import make_film, make_quiet_film
from benchmarks._installation import describe_machine
from benchmarks._peer import find_data, find_peer, run_peer
from kernel.settings import VisionSettings
from vision.registry import read_description

RUNS = 5
FORWARDS = 400
LARGE = (1920, 1080)
CAMERA = (640, 360)
LOOKS_PER_S = 5.0
IDLE_PER_S = 1.0
_ROOT = Path(__file__).resolve().parent.parent
_SCENES = _ROOT / "tests" / "vision" / "scenes"


def measure(minutes: float = 0.0, cameras: int = 16) -> list[dict[str, Any]]:
    """Frames a second, main comparison first. `minutes`: only how many cameras are carried, watched for so long."""
    film = find_data() / "video" / "street-parking.mp4"
    if not film.is_file():
        raise SystemExit(f"{film} is needed; say with GRIDWARDEN_BENCH_DATA where the footage is")
    model = VisionSettings().model
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as name:
        folder = Path(name)
        if minutes > 0:
            street = make_film(film, folder / "street.mp4", CAMERA, seconds=60)
            return measure_cameras(street, minutes=minutes, cameras=cameras)
        return [*_measure_pipeline(film, model, folder), *_measure_camera(film, model, folder)]


def _measure_pipeline(film: Path, model: Path, folder: Path) -> list[dict[str, Any]]:
    large = make_film(film, folder / "large.mp4", LARGE, seconds=10)
    scene, python = str(_SCENES / "street-parking.toml"), find_peer()
    took: dict[str, list[float]] = {}

    def add(name: str, said: dict[str, float]) -> None:
        took.setdefault(name, []).append(said["frames"] / said["seconds"])

    weights = _lay_out_for_peer(model, folder) if python is not None else None
    description = read_description(model.with_suffix(".toml"))
    size = (str(description.input_height), str(description.input_width))
    for _ in range(RUNS):
        add("forward", _run("forward", str(model), str(FORWARDS)))
        add("ours_480p", _run("ours", str(model), str(film), scene))
        if python is not None:
            add("bytetrack_480p", _ask_peer(python, str(weights), str(film), "bytetrack", *size))
        add("ours_1080p", _run("ours", str(model), str(large), scene))
        if python is not None:
            add("botsort_1080p", _ask_peer(python, str(weights), str(large), "botsort", *size))
    return [
        _compare("vision", took, "ours_480p", "bytetrack_480p", "ultralytics track, ByteTrack, 480p"),
        _compare("vision_1080p", took, "ours_1080p", "botsort_1080p", "ultralytics track, its default BoT-SORT, 1080p"),
    ]


def _measure_camera(film: Path, model: Path, folder: Path) -> list[dict[str, Any]]:
    """Cores per camera: quiet with and without the gate, busy with it."""
    quiet = make_quiet_film(film, folder / "quiet.mp4", CAMERA, seconds=20)
    busy = make_film(film.with_name("highway.mp4"), folder / "busy.mp4", CAMERA, seconds=20)
    cores: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for name, source, idle in (
            ("quiet", quiet, IDLE_PER_S),
            ("quiet_ungated", quiet, LOOKS_PER_S),
            ("busy", busy, IDLE_PER_S),
        ):
            said = _run("camera", str(model), str(source), str(LOOKS_PER_S), str(idle))
            parts = ("decoding_s", "judging_s", "looking_s")
            cores.setdefault(name, []).append(sum(said[part] for part in parts) / said["seconds"])
            for part in parts:
                cores.setdefault(f"{name}_{part}", []).append(said[part] / said["seconds"])
    each = {name: statistics.median(values) for name, values in cores.items()}
    parts = {name: round(value, 4) for name, value in each.items()}
    gate = _result("vision_gate", "cores", each["quiet"], each["quiet_ungated"], "without the motion gate", None, None)
    return [
        gate | {"detail": parts},
        _result("vision_camera_quiet", "cores", each["quiet"], None, None, None, None),
        _result("vision_camera_busy", "cores", each["busy"], None, None, None, None),
    ]


def _run(*words: str) -> dict[str, float]:
    """A run of ours, on the last core."""
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._looks", *words],
        cwd=_ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _ask_peer(python: Path, *words: str) -> dict[str, float]:
    said: dict[str, float] = json.loads(
        run_peer(python, "_peer_track.py", *words, core=max(os.sched_getaffinity(0))).splitlines()[-1]
    )
    return said


def _lay_out_for_peer(model: Path, folder: Path) -> Path:
    """The same network as OpenVINO's own files with ultralytics' metadata beside them."""
    target = folder / "same_openvino_model"
    target.mkdir()
    ov.save_model(ov.Core().read_model(model), target / "same.xml", compress_to_fp16=False)
    description = read_description(model.with_suffix(".toml"))
    names = {index: (label.value if label else f"class{index}") for index, label in enumerate(description.classes)}
    metadata = {
        "task": "detect",
        "stride": 32,
        "batch": 1,
        "channels": 3,
        "imgsz": [description.input_height, description.input_width],
        "names": names,
        "dynamic": False,
        "end2end": False,
        "args": {"batch": 1, "nms": False, "dynamic": False},
    }
    (target / "metadata.yaml").write_text(json.dumps(metadata).replace('"task"', '"task"'))
    shutil.copyfile(model.with_suffix(".toml"), target / "ours.toml")
    return target


def _compare(name: str, took: dict[str, list[float]], ours: str, peer: str, peer_name: str) -> dict[str, Any]:
    rate = {key: statistics.median(values) for key, values in took.items()}
    there = peer in rate
    result = _result(
        name,
        "frames/s",
        rate[ours],
        rate.get(peer),
        peer_name if there else "peer absent",
        rate["forward"],
        "bare OpenVINO forward",
    )
    every = {key: [round(value, 1) for value in values] for key, values in took.items()}
    return result | {"all_runs": {key: every[key] for key in ("forward", ours, peer) if key in every}}


def _result(
    name: str,
    unit: str,
    ours: float,
    peer: float | None,
    peer_name: str | None,
    ceiling: float | None,
    ceiling_name: str | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": round(ours, 4),
        "peer": None if peer is None else round(peer, 4),
        "peer_name": peer_name,
        "ratio_peer": round(ours / peer, 3) if peer else None,
        "ceiling": None if ceiling is None else round(ceiling, 4),
        "ceiling_name": ceiling_name,
        "ratio_ceiling": round(ours / ceiling, 3) if ceiling else None,
        "runs": RUNS,
        "machine": describe_machine(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1, ensure_ascii=False))
