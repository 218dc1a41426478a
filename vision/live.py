"""One camera at work: its capture, its watch, the checks asked of it, and what is to be written about it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from devices.alarms import read_settings
from devices.kinds.camera import CameraSettings, make_health
from devices.model import Device, Message
from devices.registry import KINDS
from ingest.capturing import CapturePool
from ingest.decoding import Decode
from ingest.picture import SharedFrame
from kernel.settings import Settings
from kernel.types import Verdict
from vision.casebook import Casebook, ClipDone, Raised, Updated, name_model
from vision.check import Answer, Check, CheckDoubt, add_look, conclude
from vision.detect import Detector
from vision.health import Blindness, Health, pack_view, unpack_view
from vision.model import Box, Category, Detections, Picture, Track
from vision.motion import next_look_s
from vision.pace import PaceState, measure_pace
from vision.rule import AnyRule, AnyZone, ZoneState, ZoneStatus
from vision.scene import Scene, SceneError, parse_scene
from vision.scheduler import Wish
from vision.store import CameraRow, CheckRequest
from vision.telling import Teller, describe_look
from vision.thrift import FEW, choose_decode
from vision.track import TrackerState
from vision.watch import Look, Watch

log = logging.getLogger(__name__)

HEALTH_EVERY_S = 1.0
SAVE_EVERY_S = 3.0
VIEW_KEY = ("", "view")
"""Row of vision_state that keeps a camera's usual view, so that one turned while we were away is noticed."""
TURN_KEY = ("", "turn")
"""Row of vision_state that says at which of its presets a moving camera stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A closure check to be answered; the picture is the last one looked at, if any."""

    device: Device
    request: CheckRequest
    answer: Answer
    zone: AnyZone | None
    picture: Picture | None
    boxes: tuple[Box, ...]
    taken_at: datetime
    masks: tuple[Box, ...] = ()
    """What must be covered in the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Writing:
    """What one camera wants written, in one transaction: nothing of it may be true without the rest."""

    device: Device
    raised: tuple[Raised, ...] = ()
    updated: tuple[Updated, ...] = ()
    clips: tuple[ClipDone, ...] = ()
    answered: tuple[Answered, ...] = ()
    states: Mapping[tuple[str, str], Any] | None = None
    health: Message | None = None


class LiveCamera:
    """Owned by the worker's thread; its pictures come from another process."""

    def __init__(
        self,
        row: CameraRow,
        saved: Mapping[tuple[str, str], Any],
        rules: Mapping[str, AnyRule],
        settings: Settings,
        now: Callable[[], datetime],
        pool: CapturePool,
        teller: Teller | None = None,
    ) -> None:
        self.row = row
        self._teller = teller
        self._settings = settings
        self._now = now
        self._scene_error: str | None = None
        # ids that no earlier life has used: the rules remember them over a restart
        tracker = TrackerState(next_id=int(now().timestamp() * 10))
        self.watch = Watch(
            scene=self._parse(row.scene, rules), rules=rules, tracker=tracker, timezone=settings.city.timezone
        )
        self.limits = _camera_settings(row.device)
        self.watch.frozen_after_s = self.limits.frozen_limit_s
        restore(self.watch, saved)
        seen_at = (saved.get(VIEW_KEY) or {}).get("seen_at")
        confirmed_at = row.view_confirmed_at
        if confirmed_at is not None and seen_at is not None and confirmed_at > datetime.fromisoformat(seen_at):
            self.watch.confirm_view()  # somebody did while nobody watched
        self.pending: tuple[Picture, datetime] | None = None
        """The newest picture that may be looked at, and when it was received."""
        self.rates = (0.0, 0.0)
        """Looks a second, and looks that the detector had no time for, over the last seconds."""
        self._follows = False
        self._told = 0
        self._seq = 0
        self._key_seq = 0
        self._began_at = now()
        self._judged_at: datetime | None = None
        self._saved_at = self._began_at
        self._health: Health | None = None
        self._pace = PaceState()
        self._clock_error_s: float | None = None
        self._health_at: datetime | None = None
        self._health_frames = 0
        self._checks: dict[UUID, Check] = {}
        self._checked: dict[UUID, None] = {}
        self._picture: Picture | None = None
        self._boxes: tuple[Box, ...] = ()
        self._masks: tuple[Box, ...] = ()
        self._key_at: datetime | None = None
        self._key_every_s: float | None = None
        self.decode = Decode.REFERENCED if self.watch.scene.zones else Decode.KEY
        """Of its stream; more of it by `save_decoding`."""
        self.capture = pool.open(row.device.code, row.url)
        try:
            self.capture.want(self.decode)
            self.casebook = Casebook(
                row.device, self.watch.scene.zones, self.capture, settings.evidence, settings.originals_dir
            )
            self.casebook.load(saved)
        except BaseException:
            self.capture.close()
            raise

    def _parse(self, value: Any, rules: Mapping[str, AnyRule]) -> Scene:
        try:
            return parse_scene(value, rules)
        except SceneError as error:
            log.error("camera %s: its scene cannot be used, no zone is watched: %s", self.row.device.code, error)
            self._scene_error = str(error)
            return Scene(zones=())

    def update(self, row: CameraRow) -> None:
        """Take up changed settings, name or position; a changed address or scene needs a new LiveCamera."""
        if row.view_confirmed_at is not None and row.view_confirmed_at != self.row.view_confirmed_at:
            self.watch.confirm_view()
        self.row = row
        self.casebook.device = row.device
        self.limits = _camera_settings(row.device)
        self.watch.frozen_after_s = self.limits.frozen_limit_s

    def close(self) -> None:
        """Stop the capture; does not wait for it."""
        self.capture.close()

    def prepare(self) -> bool:
        """Judge the newest picture, if there is a new one and it is time; True when there was.

        What the detector may then be asked to look at is in `pending`, None while the picture says nothing.
        """
        frame = self.capture.newest()
        if frame is None or frame.seq == self._seq or not self._is_wanted(frame):
            return False
        self._seq = frame.seq
        at = frame.received_at
        picture = frame.picture()
        self._judged_at = at
        self._judge_key(frame)
        self._health = self.watch.judge(picture, at, key=frame.key)
        if self._settings.clock.speed == 1.0:  # else the camera's time and ours part by intention
            self._pace, self._clock_error_s = measure_pace(self._pace, at, frame.pts_s)
        self.pending = None
        if self.watch.scene.zones and self.watch.blind is None:
            self.pending = (picture, at)
        elif self.watch.scene.zones:
            self._feed_checks(None, picture, at)
            self._tell((), picture, at)
        return True

    def wish(self) -> Wish:
        """How often this camera wants to be looked at: by its motion, its checks and what its rules follow."""
        fps = self._settings.vision.fps
        idle_fps = fps if self._checks else self._settings.vision.idle_fps
        every_s = next_look_s(self.watch.motion, self._judged_at or self._began_at, fps=fps, idle_fps=idle_fps)
        return Wish(every_s=every_s, urgent=bool(self._checks) or self._follows)

    def see(self, detector: Detector, detections: Detections) -> None:
        """What the detector found in the pending picture."""
        if self.pending is None:
            return
        (picture, at), self.pending = self.pending, None
        self.watch.strong_scores = detector.strong_scores
        look = self.watch.look(detections, at, self.watch.view(picture))
        self._masks = self.casebook.see(look, picture, detections, name_model(getattr(detector, "path", None)))
        self._feed_checks(look, picture, at)
        self._follows = any(zone["state"] is ZoneState.WATCHING for zone in self._describe_zones())
        self._tell(look.sight.tracks, picture, at)

    def _tell(self, tracks: Sequence[Track], picture: Picture, at: datetime) -> None:
        """Tell who watches what was seen, and how the zones stand."""
        self._told += 1
        if self._teller is not None:
            make = partial(
                describe_look,
                at=at,
                seq=self._told,
                width=picture.shape[1],
                height=picture.shape[0],
                tracks=tracks,
                zones=self._describe_zones(),
                skipped_fps=self.rates[1],
                preset=self.watch.turn.preset if self.watch.scene.presets else None,
            )
            self._teller.tell(self.row.device.code, make)

    def _describe_zones(self) -> list[dict[str, Any]]:
        """How each zone stands, as it is told beside the live picture."""
        told: list[dict[str, Any]] = []
        for zone in self.watch.scene.zones:
            state = self.watch.states.get(zone.name)
            if self.watch.blind is not None or not self.watch.is_watched(zone):
                status = ZoneStatus(state=ZoneState.SUSPENDED)
            elif state is None:
                status = ZoneStatus(state=ZoneState.QUIET)
            else:
                status = self.watch.rules[zone.rule].status(state, zone)
            told.append(
                {
                    "name": zone.name,
                    "rule": zone.rule,
                    "state": status.state,
                    "value": status.value,
                    "detail": dict(status.detail),
                }
            )
        return told

    def save_decoding(self, saving: bool, granted_s: float) -> None:
        """Decode what is needed; `saving`: the detector cannot keep up, and this camera is looked at every `granted_s`."""
        fps = self.capture.status().fps
        self.decode = choose_decode(
            watched=bool(self.watch.scene.zones),
            saving=saving,
            urgent=bool(self._checks) or self._follows,
            granted_s=granted_s,
            key_every_s=self._key_every_s,
            few=0 < fps < FEW * self._settings.vision.fps,
        )
        self.capture.want(self.decode)

    def _judge_key(self, frame: SharedFrame) -> None:
        key = self.capture.newest_key()
        if key is not None and (self._key_at is None or key.received_at != self._key_at):
            self._key_every_s = None if self._key_at is None else _apart_s(self._key_at, key.received_at)
            self._key_at = key.received_at
        if key is not None and self._key_seq < key.seq < frame.seq:
            self.watch.judge_key(key.picture(), key.received_at)
        self._key_seq = key.seq if key is not None else 0

    def _is_wanted(self, frame: SharedFrame) -> bool:
        """No more often than the detector could want. The capture gives as many on the average, a little apart in time."""
        if self._judged_at is None:
            return True
        return _apart_s(self._judged_at, frame.received_at) >= 0.5 / self._settings.vision.fps

    def ask(self, request: CheckRequest, now: datetime) -> None:
        """Begin a closure check; asking again for one under way, or answered and not yet written, changes nothing."""
        if request.id not in self._checks and request.id not in self._checked:
            self._checks[request.id] = Check(request=request, began_at=now)

    def _feed_checks(self, look: Look | None, picture: Picture, at: datetime) -> None:
        for key, check in self._checks.items():
            zone = self.zone_of(check.request)
            presence = None
            if look is not None and zone is not None and zone.name in self.watch.states:
                rule = self.watch.rules[zone.rule]
                state = self.watch.states[zone.name]
                presence = rule.judge(state, look.sight, zone, Category(check.request.category))
            self._checks[key] = add_look(check, presence, self.watch.doubt, at)
        if self._checks:
            self._picture = picture
            self._boxes = (
                tuple(track.box for track in look.sight.tracks if track.missed_s == 0.0) if look is not None else ()
            )

    def zone_of(self, request: CheckRequest) -> AnyZone | None:
        """The zone a check asks about; with no name given, the only one of its rule."""
        zones = [zone for zone in self.watch.scene.zones if zone.rule == request.rule]
        if request.zone:
            zones = [zone for zone in zones if zone.name == request.zone]
        return zones[0] if len(zones) == 1 else None

    def collect(self, detector: Detector, now: datetime, *, leaving: bool = False) -> Writing | None:
        """What is to be written now; None when nothing is. `leaving`: the last time, so everything is."""
        found = self.casebook.take()
        answered = self._answers(detector, now)
        due = leaving or _apart_s(self._saved_at, now) >= SAVE_EVERY_S
        states = None
        if found.raised or found.updated or (due and self.watch.looked_at is not None):
            states = dump(self.watch) | self.casebook.dump()
            self._saved_at = now
        health = self._make_health(now)
        if not (found.clips or answered or states or health):
            return None
        return Writing(
            device=self.row.device,
            raised=found.raised,
            updated=found.updated,
            clips=found.clips,
            answered=answered,
            states=states,
            health=health,
        )

    def _answers(self, detector: Detector, now: datetime) -> tuple[Answered, ...]:
        done: list[Answered] = []
        for key, check in list(self._checks.items()):
            answer = self._refuse(check.request, detector) or conclude(check, now, self._settings.vision.look_s)
            if answer is None:
                continue
            del self._checks[key]
            self._checked[key] = None
            while len(self._checked) > 200:
                del self._checked[next(iter(self._checked))]
            done.append(
                Answered(
                    device=self.row.device,
                    request=check.request,
                    answer=answer,
                    zone=self.zone_of(check.request),
                    picture=self._picture,
                    boxes=self._boxes,
                    taken_at=self._judged_at or now,
                    masks=self._masks,
                )
            )
        if not self._checks:
            self._picture, self._boxes = None, ()
        return tuple(done)

    def _refuse(self, request: CheckRequest, detector: Detector) -> Answer | None:
        """A check that can be answered at once: it asks for what cannot be seen."""
        zone = self.zone_of(request)
        if zone is None or request.category not in set(Category):
            return Answer(verdict=Verdict.INCONCLUSIVE, detail=CheckDoubt.NO_SUCH_ZONE)
        needed = self.watch.rules[zone.rule].labels
        if needed and not detector.labels & needed:
            return Answer(verdict=Verdict.INCONCLUSIVE, detail=CheckDoubt.MODEL_CANNOT_SEE)
        return None

    def _make_health(self, now: datetime) -> Message | None:
        """Once a second. While a camera is still being opened for the first time nothing is said of it."""
        if self._health_at is not None and _apart_s(self._health_at, now) < HEALTH_EVERY_S:
            return None
        status = self.capture.status()
        if status.newest_at is None:
            if (now - self._began_at).total_seconds() < self.limits.gone_s:
                return None
            self._health_at = now
            return make_health(now, frame_age_s=None)
        self._health_at = now
        health = self._health
        return make_health(
            now,
            frame_age_s=max(0.0, (now - status.newest_at).total_seconds()),
            fps=round(min(status.fps, 1000.0), 2),
            luma=round(health.luma, 1) if health else None,
            contrast=round(health.contrast, 1) if health else None,
            frozen_s=round(max(0.0, health.frozen_s), 1) if health else None,
            covered_s=round(health.lasting_s(Blindness.BLOCKED), 1) if health else None,
            blurred_s=round(health.lasting_s(Blindness.BLURRED), 1) if health else None,
            moved_s=round(health.moved_s, 1) if health else None,
            clock_error_s=round(self._clock_error_s, 2) if self._clock_error_s is not None else None,
            looks_per_s=round(self.rates[0], 2),
            skipped_fps=round(self.rates[1], 2),
        )


def _apart_s(before: datetime, now: datetime) -> float:
    """Seconds between two instants; a clock that was set back must not stop anything until it has caught up."""
    return abs((now - before).total_seconds())


def _camera_settings(device: Device) -> CameraSettings:
    try:
        found = read_settings(KINDS["camera"], device)
    except ValidationError:
        return CameraSettings()
    return found if isinstance(found, CameraSettings) else CameraSettings()


def dump(watch: Watch) -> dict[tuple[str, str], Any]:
    """What a camera's rules remember, and its usual view, as JSON by zone and rule."""
    result: dict[tuple[str, str], Any] = {}
    for zone in watch.scene.zones:
        if zone.name in watch.states:
            rule = watch.rules[zone.rule]
            state = rule.dump(rule.brief(watch.states[zone.name]))
            result[(zone.name, zone.rule)] = {"zone": _fingerprint(zone), "state": state}
    if watch.scene.presets:
        result[TURN_KEY] = {"preset": watch.turn.preset}
    health = watch.health_state
    if health.view is not None and not watch.scene.presets:
        result[VIEW_KEY] = {
            "view": pack_view(health.view),
            "sharpness": round(health.usual_sharpness, 2),
            "seen_at": health.measured_at.isoformat() if health.measured_at else None,
        }
    return result


def restore(watch: Watch, saved: Mapping[tuple[str, str], Any]) -> None:
    """Remember again. What was saved for a zone that has since been changed, or by another version, is forgotten."""
    for zone in watch.scene.zones:
        value = saved.get((zone.name, zone.rule))
        if not isinstance(value, dict) or value.get("zone") != _fingerprint(zone):
            continue
        try:
            watch.states[zone.name] = watch.rules[zone.rule].load(value["state"])
        except (ValidationError, KeyError):
            log.warning("zone %s: what was remembered cannot be read; it begins anew", zone.name)
    value = saved.get(VIEW_KEY)
    if isinstance(value, dict):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # of another version
            watch.health_state = replace(
                watch.health_state,
                view=unpack_view(value["view"]),
                usual_sharpness=float(value["sharpness"]),
                measured_at=None,
            )


def _fingerprint(zone: AnyZone) -> str:
    """Changes when the zone's outline or parameters do: what stood in another polygon says nothing about this one."""
    text = json.dumps([zone.polygon, zone.parameters.model_dump(mode="json"), zone.preset], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
