"""One camera's watching: from a picture to tracks and findings. The same for files and for live cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import ref

from vision.background import BackgroundState, learn_background
from vision.health import Blindness, Health, HealthState, confirm_view, edges, measure_health, watch_repeats
from vision.model import Detections, Finding, Label, Picture
from vision.motion import Grey, MotionState, judge_motion, next_look_s, shrink
from vision.presets import TurnState, follow_turning
from vision.rule import AnyRule, AnyZone
from vision.scene import Scene
from vision.sight import Sight
from vision.spots import MAX_STEP_S
from vision.track import TrackerState, follow
from vision.view import View

WARM_LOOKS = 2
"""Tracks are told from their second look on; before that an empty picture would only mean a beginning."""

JUDGE_EVERY_S = 0.15

FROZEN_AFTER_S = 20.0
"""From then on a picture that does not change at all is not believed, if the camera's settings say nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What one look of the detector gave."""

    sight: Sight
    findings: tuple[tuple[AnyZone, Finding], ...]


@dataclass(kw_only=True)
class Watch:
    """What is remembered of one camera between pictures. Not shared between threads."""

    scene: Scene
    rules: Mapping[str, AnyRule]
    strong_scores: Mapping[Label, float] = field(default_factory=dict)
    """Of the model: from which score a detection is believed."""
    states: dict[str, Any] = field(default_factory=dict)
    """Zone name to the state of its rule."""
    tracker: TrackerState = field(default_factory=TrackerState)
    motion: MotionState = field(default_factory=MotionState)
    health_state: HealthState = field(default_factory=HealthState)
    background: BackgroundState = field(default_factory=BackgroundState)
    looked_at: datetime | None = None
    looks: int = 0
    """Since the beginning, or since the last gap in watching."""
    judged: tuple[datetime, Health] | None = None
    """When a picture was judged last, and its figures."""
    blind: Blindness | None = None
    doubt: Blindness | None = None
    frozen_after_s: float = FROZEN_AFTER_S
    timezone: str = "UTC"
    turn: TurnState = field(default_factory=TurnState)
    """Where a moving camera stands; unused for one that stands still."""
    places: dict[str, tuple[HealthState, BackgroundState]] = field(default_factory=dict)
    """Of a moving camera: what is known of its views other than the present one."""
    _shrunk: tuple[ref[Picture], Grey] | None = None
    """The picture that was judged last, while it is kept anywhere, and its thumbnail."""

    def judge(self, picture: Picture, now: datetime, *, key: bool) -> Health:
        """Cheap figures of a picture, for every frame that is taken. Sets `blind` and `doubt`.

        Key frames are judged always, the others no more often than every `JUDGE_EVERY_S`: more says nothing new.
        """
        if self.judged is not None and not key and 0 <= (now - self.judged[0]).total_seconds() < JUDGE_EVERY_S:
            return self.judged[1]
        thumbnail = shrink(picture)
        self._shrunk = (ref(picture), thumbnail)
        self.motion, _ = judge_motion(self.motion, thumbnail, now)
        if self.scene.presets:
            self._follow_turning(thumbnail, now)
        self.health_state, health = measure_health(self.health_state, thumbnail, now, key=key)
        self.blind = health.blindness(self.frozen_after_s)
        self.doubt = health.doubt(self.frozen_after_s)
        if self.scene.presets and self.turn.preset is None and self.blind is None:
            self.blind = self.doubt = Blindness.TURNING
        if self.doubt is None:
            occupied = [item.box for item in self.tracker.followed]
            self.background = learn_background(self.background, thumbnail, now, occupied)
        self.judged = (now, health)
        return health

    def view(self, picture: Picture) -> View:
        """The picture as the rules may ask about it."""
        small = self._shrunk[1] if self._shrunk is not None and self._shrunk[0]() is picture else None
        return View(picture=picture, background=self.background.grey, learnt_at=self.background.learnt_at, small=small)

    def confirm_view(self) -> None:
        """The view as it is now is the right one. (A moving camera's views are in its scene.)"""
        self.health_state = confirm_view(self.health_state)
        self.background = BackgroundState()

    def is_watched(self, zone: AnyZone) -> bool:
        """False while the camera is turned away from the zone."""
        return not self.scene.presets or zone.preset == self.turn.preset

    def _follow_turning(self, thumbnail: Grey, now: datetime) -> None:
        """At another view everything that is known of the picture is another."""
        before = self.turn.preset
        self.turn = follow_turning(self.turn, self.scene.presets, edges(thumbnail), now)
        if self.turn.preset == before:
            return
        if before is not None:
            self.places[before] = (self.health_state, self.background)
        self.tracker = TrackerState(next_id=self.tracker.next_id)
        self.looks = 0
        self.motion = MotionState()
        self.health_state, self.background = self.places.get(self.turn.preset or "", (HealthState(), BackgroundState()))

    def judge_key(self, picture: Picture, now: datetime) -> None:
        """A key frame between the pictures that are looked at: it tells whether the stream is frozen."""
        self.health_state = watch_repeats(self.health_state, shrink(picture), now, key=True)

    def is_due(self, now: datetime, *, fps: float, idle_fps: float) -> bool:
        """Should the detector look now?"""
        if self.looked_at is None:
            return True
        wait_s = next_look_s(self.motion, now, fps=fps, idle_fps=idle_fps)
        return (now - self.looked_at).total_seconds() >= wait_s - 0.01

    def look(self, detections: Detections, now: datetime, view: View | None = None) -> Look:
        """One look of the detector at a picture that can be judged."""
        if self.looked_at is not None and (now - self.looked_at).total_seconds() > MAX_STEP_S:
            self.looks = 0
        self.tracker, tracks = follow(self.tracker, detections, now, self.strong_scores)
        self.looked_at = now
        self.looks += 1
        if self.looks < WARM_LOOKS:
            return Look(sight=Sight(at=now, tracks=()), findings=())
        sight = Sight(at=now, tracks=tracks, timezone=self.timezone, view=view)
        findings: list[tuple[AnyZone, Finding]] = []
        for zone in self.scene.zones:
            if not self.is_watched(zone):
                continue
            rule = self.rules[zone.rule]
            state = self.states.get(zone.name)
            new, found = rule.step(rule.fresh() if state is None else state, sight, zone)
            self.states[zone.name] = new
            findings += [(zone, finding) for finding in found]
        return Look(sight=sight, findings=tuple(findings))
