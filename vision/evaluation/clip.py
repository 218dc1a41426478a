"""One clip through the pipeline as it runs live: the same frames taken, the same gate, tracker, rules and restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ingest.footage import read_file
from kernel.settings import Settings
from vision.detect import Detector
from vision.evaluation.truth import Truth, clip_of, read_truth
from vision.live import dump, restore
from vision.model import Box, Finding, Picture, Track
from vision.motion import next_look_s
from vision.offline import FILE_EPOCH
from vision.rule import AnyRule
from vision.scene import parse_scene
from vision.track import TrackerState
from vision.watch import Watch


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What was seen at one instant: the picture and the tracks in it."""

    at_s: float
    picture: Picture
    tracks: tuple[Track, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A finding as it was raised; seconds of the clip."""

    rule: str
    category: str
    zone: str
    key: str
    started_s: float
    raised_s: float
    box: Box
    score: float
    snapshot: Snapshot


@dataclass(kw_only=True)
class ClipRun:
    """What came of one clip. `seen`: event id to how the place looked when four fifths of the event were over."""

    name: str
    truth: Truth
    frames: int = 0
    looks: int = 0
    blind_looks: int = 0
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list)
    seen: dict[str, Snapshot] = field(default_factory=dict)


class _Camera:
    """Takes frames as vision/live.py does."""

    def __init__(self, truth: Truth, rules: Mapping[str, AnyRule], detector: Detector, settings: Settings) -> None:
        self._truth, self._rules, self._detector, self._settings = truth, rules, detector, settings
        self._judged_at: datetime | None = None
        self._key: Picture | None = None
        self._key_at = FILE_EPOCH
        self.watch = self._begin(FILE_EPOCH)

    def _begin(self, at: datetime) -> Watch:
        # ids that no earlier life has used, as live
        return Watch(
            scene=parse_scene(self._truth.scene, self._rules), rules=self._rules,
            strong_scores=self._detector.strong_scores, timezone=self._settings.city.timezone,
            tracker=TrackerState(next_id=int(at.timestamp() * 10)),
        )  # fmt: skip

    def restart(self, at: datetime) -> None:
        """A new process that knows what the database kept, which is JSON."""
        saved = json.loads(json.dumps([[zone, rule, value] for (zone, rule), value in dump(self.watch).items()]))
        self.watch = self._begin(at)
        restore(self.watch, {(zone, rule): value for zone, rule, value in saved})
        self._judged_at, self._key = None, None

    def take(self, picture: Picture, at: datetime, *, key: bool, run: ClipRun) -> None:
        """One frame of the stream."""
        vision = self._settings.vision
        if self._judged_at is not None and (at - self._judged_at).total_seconds() < 0.9 / vision.fps:
            if key:
                self._key, self._key_at = picture, at
            return
        self._judged_at = at
        if self._key is not None:
            self.watch.judge_key(self._key, self._key_at)
            self._key = None
        self.watch.judge(picture, at, key=key)
        run.frames += 1
        if self.watch.blind is not None:
            run.blind_looks += 1
            return
        wait_s = next_look_s(self.watch.motion, at, fps=vision.fps, idle_fps=vision.idle_fps)
        if self.watch.looked_at is not None and (at - self.watch.looked_at).total_seconds() < wait_s - 0.01:
            return
        look = self.watch.look(self._detector.detect(picture), at, self.watch.view(picture))
        run.looks += 1
        at_s = (at - FILE_EPOCH).total_seconds()
        snapshot = Snapshot(at_s=at_s, picture=picture, tracks=tuple(look.sight.tracks))
        run.found += [_found(finding, snapshot) for _, finding in look.findings if _is_new(finding)]
        for event in self._truth.events:
            if event.id not in run.seen and event.start_s + 0.8 * (event.end_s - event.start_s) <= at_s:
                run.seen[event.id] = snapshot


def run_clip(truth_path: Path, *, rules: Mapping[str, AnyRule], detector: Detector, settings: Settings) -> ClipRun:
    """Raises TruthError, SceneError, CaptureError."""
    truth = read_truth(truth_path)
    run = ClipRun(name=truth_path.name.partition(".")[0], truth=truth)
    camera = _Camera(truth, rules, detector, settings)
    restarts = list(truth.restarts)
    for frame in read_file(clip_of(truth_path)):
        at = FILE_EPOCH + timedelta(seconds=frame.at_s)
        run.seconds = frame.at_s
        while restarts and frame.at_s >= restarts[0].at_s:
            camera.restart(at + timedelta(seconds=restarts.pop(0).gap_s))
        if truth.is_watched(frame.at_s):
            camera.take(np.ascontiguousarray(frame.picture), at, key=frame.key, run=run)
    return run


def _is_new(finding: Finding) -> bool:
    return finding.cleared_at is None and not finding.update


def _found(finding: Finding, snapshot: Snapshot) -> Found:
    return Found(
        rule=finding.rule,
        category=finding.category.value,
        zone=finding.zone,
        key=finding.key,
        started_s=round((finding.started_at - FILE_EPOCH).total_seconds(), 2),
        raised_s=round((finding.raised_at - FILE_EPOCH).total_seconds(), 2),
        box=finding.box,
        score=round(finding.score, 3),
        snapshot=snapshot,
    )
