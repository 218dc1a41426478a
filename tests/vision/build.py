"""Builders for vision's nouns: tracks as a test imagines them, zones, and a story told to a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from vision.model import LABELS, Box, Detections, Finding, Label, Track
from vision.rule import AnyRule, AnyZone
from vision.scene import parse_scene
from vision.sight import Sight
from vision.view import View

BEGAN_AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """An instant of the story."""
    return BEGAN_AT + timedelta(seconds=seconds)


def track(
    label: Label,
    box: Box,
    *,
    track_id: int = 1,
    born_s: float = 0.0,
    still_since_s: float | None = 0.0,
    missed_s: float = 0.0,
    score: float = 0.8,
) -> Track:
    """A track; times in seconds of the story."""
    return Track(
        id=track_id,
        label=label,
        box=box,
        score=score,
        born_at=at(born_s),
        still_since_at=None if still_since_s is None else at(still_since_s),
        missed_s=missed_s,
    )


def zone(rule: AnyRule, *, name: str = "zone", polygon: Any = None, ground: Any = None, **parameters: Any) -> AnyZone:
    """A zone over nearly the whole picture."""
    outline = polygon or [[0.05, 0.05], [0.95, 0.05], [0.95, 0.95], [0.05, 0.95]]
    value = {
        "zones": [{"name": name, "rule": rule.name, "polygon": outline, "parameters": parameters}],
        "ground": ground,
    }
    return parse_scene(value, {rule.name: rule}).zones[0]


def tell(
    rule: AnyRule,
    where: AnyZone,
    story: Callable[[float], Sequence[Track] | None],
    *,
    seconds: float,
    every_s: float = 0.25,
    state: Any = None,
    from_s: float = 0.0,
    view: Callable[[float], View | None] = lambda now_s: None,
) -> tuple[Any, list[Finding]]:
    """Step the rule through a story; None of it means that nobody looked. State goes through JSON at each step."""
    state = rule.fresh() if state is None else state
    findings: list[Finding] = []
    for index in range(round(seconds / every_s) + 1):
        now_s = from_s + index * every_s
        tracks = story(now_s)
        if tracks is None:
            continue
        sight_now = Sight(at=at(now_s), tracks=tracks, view=view(now_s))
        state, found = rule.step(rule.load(rule.dump(state)), sight_now, where)
        findings += found
    return state, findings


def detections(*seen: tuple[Label, Box, float], width_px: int = 640, height_px: int = 360) -> Detections:
    """Detections from boxes given as fractions of the picture."""
    size = np.array([width_px, height_px, width_px, height_px], np.float32)
    return Detections(
        boxes=np.array([box for _, box, _ in seen], np.float32).reshape(-1, 4) * size,
        scores=np.array([score for _, _, score in seen], np.float32),
        labels=np.array([LABELS.index(label) for label, _, _ in seen], np.int64),
        width_px=width_px,
        height_px=height_px,
    )


def raised(findings: Sequence[Finding]) -> list[Finding]:
    """Those that begin an episode."""
    return [finding for finding in findings if finding.cleared_at is None and not finding.update]


def updates(findings: Sequence[Finding]) -> list[Finding]:
    """Those that tell of one again, because it grew."""
    return [finding for finding in findings if finding.update]


def cleared(findings: Sequence[Finding]) -> list[Finding]:
    """Those that end one."""
    return [finding for finding in findings if finding.cleared_at is not None]


def sight(tracks: Sequence[Track], now_s: float = 0.0) -> Sight:
    """One look of the story, without a picture."""
    return Sight(at=at(now_s), tracks=tracks)
