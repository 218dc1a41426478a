"""`gridwarden vision run`: one file or RTSP address through the real pipeline, without a server.

For a file time is the frame clock, so the same file gives the same findings on any machine. Findings go to the output
as JSON lines: one when raised (`cleared_s` null), one when cleared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from ingest.address import check_camera_address, hide_password
from ingest.footage import read_file
from ingest.rtsp import Capture, CaptureError
from kernel.clock import Clock
from kernel.settings import Settings
from vision.detect import open_detector
from vision.evidence import Caption, draw_snapshot, write_whole
from vision.lettering import Lettering
from vision.model import TITLES, Finding, Picture
from vision.rule import AnyZone
from vision.rules import discover
from vision.rules.crowding import people_in
from vision.scene import read_scene
from vision.watch import Look, Watch

FILE_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Files have no date; their frames count from here and only differences are shown."""

FILE_FPS = 10.0
"""Looks a second for files; more would only repeat."""


@dataclass(kw_only=True)
class RunReport:
    """What `--report` writes. The people counted are those of the crowding rule: a lost track counts for a moment."""

    source: str
    model: str
    frames: int = 0
    looks: int = 0
    seconds: float = 0.0
    findings: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Crowd zone to one entry per look: frame, at_s, people."""

    def as_json(self) -> dict[str, Any]:
        """The summary: counts of frames, looks and findings by rule, and the people counted."""
        raised = [item for item in self.findings if item["cleared_s"] is None and not item["update"]]
        by_rule: dict[str, int] = {}
        for item in raised:
            by_rule[item["rule"]] = by_rule.get(item["rule"], 0) + 1
        return {
            "source": self.source,
            "model": self.model,
            "frames": self.frames,
            "looks": self.looks,
            "seconds": round(self.seconds, 3),
            "raised_by_rule": by_rule,
            "findings": self.findings,
            "people": self.counts,
        }


def run_file(
    source: str,
    scene: Path,
    *,
    settings: Settings,
    model: Path | None = None,
    report: Path | None = None,
    snapshot_dir: Path | None = None,
    fps: float | None = None,
    max_s: float | None = None,
    output: TextIO | None = None,
) -> RunReport:
    """Run `source` (a file, rtsp:// or rtsps://) through detection, tracking and the scene's rules.

    `fps`: true frame rate of a file whose container says otherwise; `max_s` ends a live source. Raises SceneError,
    ModelError, AddressError, CaptureError.
    """
    rules = discover()
    zones = read_scene(scene, rules)
    detector = open_detector(settings.vision, model)
    watch = Watch(scene=zones, rules=rules, strong_scores=detector.strong_scores)
    snapshots = snapshot_dir or settings.data_dir / "vision-run"
    lettering = Lettering(settings.evidence.font_dir)
    result = RunReport(source=_shown(source), model=str(detector.path))
    sink = output or sys.stdout
    started_at: datetime | None = None
    for index, at, key, picture in _frames(source, settings, fps, max_s):
        started_at = started_at or at
        result.frames = index + 1
        result.seconds = (at - started_at).total_seconds()
        watch.judge(picture, at, key=key)
        if watch.blind is not None:
            continue
        look = watch.look(detector.detect(picture), at, watch.view(picture))
        result.looks += 1
        _count_people(result, watch, look, index, result.seconds)
        for zone, finding in look.findings:
            path = _save(picture, zone, finding, snapshots, settings, lettering)
            line = describe(finding, started_at, path)
            result.findings.append(line)
            print(json.dumps(line, ensure_ascii=False), file=sink, flush=True)
    if report is not None:
        write_whole(report, (json.dumps(result.as_json(), ensure_ascii=False, indent=1) + "\n").encode())
    return result


def describe(finding: Finding, started_at: datetime, snapshot: Path | None) -> dict[str, Any]:
    """A finding as the command prints it; seconds count from the first frame, the box is 0..1 of the picture."""
    return {
        "rule": finding.rule,
        "category": finding.category.value,
        "zone": finding.zone,
        "key": finding.key,
        "started_s": round((finding.started_at - started_at).total_seconds(), 2),
        "raised_s": round((finding.raised_at - started_at).total_seconds(), 2),
        "cleared_s": None
        if finding.cleared_at is None
        else round((finding.cleared_at - started_at).total_seconds(), 2),
        "box": [round(value, 4) for value in finding.box],
        "score": round(finding.score, 3),
        "update": finding.update,
        "detail": dict(finding.detail),
        "snapshot": None if snapshot is None else str(snapshot),
    }


def _frames(
    source: str, settings: Settings, fps: float | None, max_s: float | None
) -> Iterator[tuple[int, datetime, bool, Picture]]:
    if source.partition(":")[0] not in ("rtsp", "rtsps"):
        if "://" in source:
            check_camera_address(source, settings.camera.allowed_networks)  # says which schemes there are
        every_s = 0.0 if fps else 1 / FILE_FPS
        for frame in read_file(Path(source), fps=fps, every_s=every_s):
            yield frame.index, FILE_EPOCH + timedelta(seconds=frame.at_s), frame.key, frame.picture
            if max_s is not None and frame.at_s >= max_s:
                return
        return
    clock = Clock.of(settings.clock)
    check_camera_address(source, settings.camera.allowed_networks)
    seq, index = 0, 0
    began_at = clock.now()
    with Capture(
        source,
        allowed_networks=settings.camera.allowed_networks,
        now=clock.now,
        transport=settings.camera.transport,
        open_timeout_s=settings.camera.open_timeout_s,
        read_timeout_s=settings.camera.read_timeout_s,
    ) as capture:
        while max_s is None or (clock.now() - began_at).total_seconds() < max_s:
            frame_now = capture.wait(seq, settings.camera.open_timeout_s + settings.camera.read_timeout_s)
            if frame_now is None:
                status = capture.status()
                if status.fault is not None and index == 0:
                    raise CaptureError(status.fault, status.text)
                continue
            seq = frame_now.seq
            yield index, frame_now.received_at, frame_now.key, frame_now.picture()
            index += 1


def _count_people(result: RunReport, watch: Watch, look: Look, index: int, at_s: float) -> None:
    for zone in watch.scene.zones:
        if zone.rule == "crowding":
            entry = {"frame": index, "at_s": round(at_s, 3), "people": len(people_in(look.sight.tracks, zone))}
            result.counts.setdefault(zone.name, []).append(entry)


def _save(
    picture: Picture,
    zone: AnyZone,
    finding: Finding,
    folder: Path,
    settings: Settings,
    lettering: Lettering,
) -> Path | None:
    if finding.cleared_at is not None:
        return None
    title_zh, title_en = TITLES[finding.category]
    caption = Caption(
        title_zh=title_zh,
        title_en=title_en,
        place=zone.name,
        at=finding.raised_at,
        timezone=settings.city.timezone,
        language=settings.city.language,
    )
    jpeg = draw_snapshot(picture, boxes=(finding.box,), polygon=zone.polygon, caption=caption, lettering=lettering)
    path = folder / f"{finding.rule}-{finding.key}.jpg"
    write_whole(path, jpeg)
    return path


def _shown(source: str) -> str:
    return hide_password(source) if "://" in source else source
