"""`gridwarden bench tracking`: HOTA and IDF1 on PETS 2009 S2.L1, ours and ultralytics' ByteTrack on the same detections.

Detections are made once by the public YOLOX-nano; both trackers get all of them from a score of 0.05. Beside it the error
of the people counted, against the best constant guess. Nothing here was tuned on this film: the thresholds are the
description's (one half for YOLOX) and vision/track.py's own.
"""

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._installation import describe_machine
from benchmarks._peer import find_data, find_peer, run_peer
from ingest.footage import read_file
from vision.detect import Detector
from vision.evaluation.tracking import Numbered, TrackingScore, read_mot, score_tracking
from vision.model import LABELS, Detections, Label
from vision.rules import discover
from vision.rules.crowding import people_in
from vision.scene import read_scene
from vision.track import TrackerState, follow

SCENE = Path(__file__).resolve().parent.parent / "tests" / "vision" / "scenes" / "pets09-s2l1.toml"
FPS = 7.0
TRUTH_SCALE = 1.6
"""The truth's coordinates are those of a frame of 768 by 576, the film's is 480 by 360."""


def measure() -> list[dict[str, Any]]:
    """HOTA first, then IDF1, then the error of the count."""
    data = find_data()
    film, model = data / "video" / "pets09-s2l1.avi", data / "models" / "yolox_nano_coco_416.onnx"
    for path in (film, model):
        if not path.is_file():
            raise SystemExit(f"{path} is needed; say with GRIDWARDEN_BENCH_DATA where the footage is")
    detector = Detector(model)
    looks = [detector.detect(frame.picture) for frame in read_file(film)]
    truth = read_mot(film.with_name("pets09-s2l1.gt.txt"), len(looks), scale=TRUTH_SCALE)
    ours, counts = follow_all(looks, detector)
    scores: dict[str, TrackingScore] = {"ours": score_tracking(truth, ours)}
    python = find_peer()
    if python is not None:
        scores["bytetrack"] = score_tracking(truth, follow_by_peer(python, looks, "bytetrack", 0.0))
        strong = detector.strong_scores.get(Label.PERSON, 0.25)
        scores["bytetrack_same_threshold"] = score_tracking(truth, follow_by_peer(python, looks, "bytetrack", strong))
    wanted = np.array([len(frame.ids) for frame in truth])
    return [
        _compare("tracking", "HOTA", {name: score.hota for name, score in scores.items()})
        | {"detail": {name: _rounded(asdict(score)) for name, score in scores.items()}},
        _compare("tracking_idf1", "IDF1", {name: score.idf1 for name, score in scores.items()}),
        _count_error(np.array(counts), wanted),
    ]


def follow_all(looks: list[Detections], detector: Detector) -> tuple[list[Numbered], list[int]]:
    """Our tracks of people that are seen in each frame, and how many the crowding rule counts in its zone."""
    state, began_at = TrackerState(), datetime(2026, 1, 1, tzinfo=UTC)
    (zone,) = read_scene(SCENE, discover()).zones
    frames: list[Numbered] = []
    counts: list[int] = []
    for index, look in enumerate(looks):
        at = began_at + timedelta(seconds=index / FPS)
        state, tracks = follow(state, look, at, detector.strong_scores)
        people = [track for track in tracks if track.label is Label.PERSON]
        counts.append(len(people_in(tracks, zone)))
        seen = [track for track in people if track.missed_s == 0.0]
        size = np.array([look.width_px, look.height_px] * 2, np.float32)
        boxes = np.array([track.box for track in seen], np.float32).reshape(-1, 4) * size
        frames.append(Numbered(ids=np.array([track.id for track in seen], np.int64), boxes=boxes))
    return frames, counts


def follow_by_peer(python: Path, looks: list[Detections], tracker: str, high: float) -> list[Numbered]:
    """The peer's tracks of the same people. `high` 0: its own threshold."""
    rows = [
        [index, *box, score, 0]
        for index, look in enumerate(looks)
        for box, score, label in zip(look.boxes, look.scores, look.labels, strict=True)
        if LABELS[int(label)] is Label.PERSON
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        size = [looks[0].height_px, looks[0].width_px]
        np.savez(source, rows=np.array(rows, np.float64), size=np.array(size), frames=len(looks))
        run_peer(python, "_peer_tracks.py", str(source), str(target), tracker, str(high))
        found = np.load(target)["rows"]
    return [
        Numbered(ids=mine[:, 1].astype(np.int64), boxes=mine[:, 2:6].astype(np.float32))
        for mine in (found[found[:, 0] == index] for index in range(len(looks)))
    ]


def _compare(name: str, unit: str, values: dict[str, float]) -> dict[str, Any]:
    ours, peer = values["ours"], values.get("bytetrack")
    return {
        "name": name,
        "unit": unit,
        "ours": round(ours, 4),
        "peer": round(peer, 4) if peer is not None else None,
        "peer_name": "ultralytics ByteTrack, default settings" if peer is not None else "peer absent",
        "ratio_peer": round(ours / peer, 3) if peer else None,
        "ceiling": None,
        "ceiling_name": None,
        "ratio_ceiling": None,
        "runs": 1,
        "machine": describe_machine(),
    }


def _count_error(counts: Any, wanted: Any) -> dict[str, Any]:
    error = float(np.abs(counts - wanted).mean())
    guesses = {guess: float(np.abs(wanted - guess).mean()) for guess in range(int(wanted.max()) + 1)}
    best = min(guesses, key=lambda guess: guesses[guess])
    return {
        "name": "people_counted",
        "unit": "people of error",
        "ours": round(error, 4),
        "peer": round(guesses[best], 4),
        "peer_name": f"a constant guess of {best}",
        "ratio_peer": round(error / guesses[best], 3),
        "ceiling": None,
        "ceiling_name": None,
        "ratio_ceiling": None,
        "goal": 0.7,
        "runs": 1,
        "machine": describe_machine(),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1, ensure_ascii=False))
