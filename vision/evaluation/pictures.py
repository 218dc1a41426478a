"""What was missed and what was wrongly found, as pictures a person can judge by."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vision.evaluation.clip import ClipRun, Snapshot
from vision.evaluation.matching import Matched
from vision.evidence import write_whole
from vision.model import Box, Picture

SCALE = 2
TRUTH, FOUND, ZONE, TRACK = (80, 220, 80), (60, 60, 255), (0, 215, 255), (200, 200, 200)


def write_misses(folder: Path, run: ClipRun, matched: Matched) -> list[str]:
    """Writes a picture of every miss, false alarm and duplicate of a clip; gives a line about each, with its file."""
    lines: list[str] = []
    for event in matched.missed:
        snapshot = run.seen.get(event.id)
        text = f"missed {event.category} {event.zone} {event.start_s:.1f}-{event.end_s:.1f} s ({event.cause})"
        name = f"{run.name}-missed-{event.id}.jpg"
        lines.append(f"{name}: {text}")
        if snapshot is not None:
            _write(folder / name, run, snapshot, event.zone, text, truth=event.box, found=None)
    wrong = [
        (found, "twice", f"of the {event.cause} since {event.start_s:.1f} s") for found, event in matched.duplicates
    ]
    wrong += [(found, "false", f"({kinds})") for found, kinds in matched.false]
    for index, (found, what, why) in enumerate(wrong):
        text = f"{what} {found.category} {found.zone} at {found.raised_s:.1f} s since {found.started_s:.1f} s {why}"
        name = f"{run.name}-{what}-{index}.jpg"
        lines.append(f"{name}: {text}")
        _write(folder / name, run, found.snapshot, found.zone, text, truth=None, found=found.box)
    return lines


def _write(
    path: Path, run: ClipRun, snapshot: Snapshot, zone: str, text: str, *, truth: Box | None, found: Box | None
) -> None:
    height, width = snapshot.picture.shape[0] * SCALE, snapshot.picture.shape[1] * SCALE
    canvas = np.asarray(cv2.resize(snapshot.picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    for item in run.truth.scene["zones"]:
        outline = np.round(np.array(item["polygon"]) * [width, height]).astype(np.int32)
        cv2.polylines(canvas, [outline], True, ZONE, 2 if item["name"] == zone else 1, cv2.LINE_AA)
    for track in snapshot.tracks:
        label = f"{track.label} {track.score:.2f}" + ("" if track.missed_s == 0 else f" -{track.missed_s:.1f}s")
        _draw(canvas, track.box, TRACK, label, 1)
    if truth is not None:
        _draw(canvas, truth, TRUTH, "truth", 2)
    if found is not None:
        _draw(canvas, found, FOUND, "found", 2)
    cv2.rectangle(canvas, (0, 0), (width, 26), (0, 0, 0), -1)
    line = f"{run.name} at {snapshot.at_s:.1f} s: {text}"
    cv2.putText(canvas, line, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    ok, coded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if ok:
        write_whole(path, coded.tobytes())


def _draw(canvas: Picture, box: Box, colour: tuple[int, int, int], text: str, width: int) -> None:
    size = [canvas.shape[1], canvas.shape[0]] * 2
    x1, y1, x2, y2 = (round(value * side) for value, side in zip(box, size, strict=True))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
    cv2.putText(canvas, text, (x1, max(38, y1 - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
