"""One measured run of `bench vision`, in a process of its own: `python -m benchmarks._looks MODE MODEL FILM [SCENE] [GATE]`.

Pinned to one core by whoever starts it. Prints JSON: frames, seconds (CPU time of the whole process: on one quiet core that is
the time it takes, and on a busy machine the others do not count).
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import openvino as ov

from ingest.footage import read_file
from vision.detect import Detector
from vision.motion import next_look_s
from vision.rules import discover
from vision.scene import Scene, read_scene
from vision.watch import Watch

WARM_FRAMES = 20
BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


def run_forward(model: Path, frames: int) -> dict[str, float]:
    """The bare network, as it lies in the file, one picture after the other; nothing is read or decided."""
    compiled = ov.Core().compile_model(
        str(model), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1"}
    )
    request = compiled.create_infer_request()
    shape = [int(size) for size in compiled.input(0).shape]
    request.set_input_tensor(ov.Tensor(np.random.default_rng(1).random(shape, np.float32)))
    for _ in range(WARM_FRAMES):
        request.infer()
    began_s = time.process_time()
    for _ in range(frames):
        request.infer()
    return {"frames": frames, "seconds": time.process_time() - began_s}


def run_ours(model: Path, film: Path, scene: Path | None) -> dict[str, float]:
    """Every frame through everything: decoded, judged, looked at, followed, and shown to the rules."""
    detector = Detector(model)
    watch = _watch(detector, scene)
    began_s, frames = 0.0, 0
    for frame in read_file(film):
        if frame.index == WARM_FRAMES:
            began_s = time.process_time()
        at = BEGAN_AT + timedelta(seconds=frame.at_s)
        watch.judge(frame.picture, at, key=frame.key)
        watch.look(detector.detect(frame.picture), at, watch.view(frame.picture))
        frames += 1
    return {"frames": frames - WARM_FRAMES, "seconds": time.process_time() - began_s}


def run_camera(model: Path, film: Path, fps: float, idle_fps: float) -> dict[str, float]:
    """A camera as the worker would see it, on the film's own clock: CPU seconds of decoding, judging and looking."""
    detector = Detector(model)
    watch = _watch(detector, None)
    looks, judged, seconds = 0, 0, 0.0
    judged_s = looked_s = -1.0
    decoding_s = judging_s = looking_s = 0.0
    mark_s = time.process_time()
    for frame in read_file(film):
        now_s = time.process_time()
        decoding_s += now_s - mark_s
        seconds = frame.at_s
        at = BEGAN_AT + timedelta(seconds=frame.at_s)
        if frame.at_s - judged_s >= 0.9 / fps:
            judged_s = frame.at_s
            judged += 1
            watch.judge(frame.picture, at, key=frame.key)
            wait_s = next_look_s(watch.motion, at, fps=fps, idle_fps=idle_fps)
            judging_s += time.process_time() - now_s
            if frame.at_s - looked_s >= wait_s - 0.02:
                looked_s = frame.at_s
                looks += 1
                now_s = time.process_time()
                watch.look(detector.detect(frame.picture), at, watch.view(frame.picture))
                looking_s += time.process_time() - now_s
        mark_s = time.process_time()
    return {
        "seconds": seconds,
        "looks": looks,
        "judged": judged,
        "decoding_s": decoding_s,
        "judging_s": judging_s,
        "looking_s": looking_s,
    }


def _watch(detector: Detector, scene: Path | None) -> Watch:
    rules = discover()
    zones = read_scene(scene, rules) if scene is not None else Scene(zones=())
    return Watch(scene=zones, rules=rules, strong_scores=detector.strong_scores)


def main(words: list[str]) -> None:
    """The command line."""
    cv2.setNumThreads(1)
    mode, model, rest = words[0], Path(words[1]), words[2:]
    if mode == "forward":
        print(json.dumps(run_forward(model, int(rest[0]))))
    elif mode == "ours":
        print(json.dumps(run_ours(model, Path(rest[0]), Path(rest[1]) if len(rest) > 1 else None)))
    else:
        print(json.dumps(run_camera(model, Path(rest[0]), float(rest[1]), float(rest[2]))))


if __name__ == "__main__":
    main(sys.argv[1:])
