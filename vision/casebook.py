"""What one camera has found and what goes with it: the first picture, the clip, later pictures, the end.

Owned by the scheduler's thread, like the camera it belongs to. What is to be written is handed to the recorder; which
findings are open survives a restart beside the rules' state.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from devices.model import Device
from kernel.ids import new_id
from kernel.settings import EvidenceSettings
from vision.evidence import make_private
from vision.mask import find_masks
from vision.memory import Kept, Memory
from vision.model import Box, Category, Detections, Finding, Picture
from vision.rule import AnyZone
from vision.watch import Look

log = logging.getLogger(__name__)

CASES_KEY = ("", "cases")
"""Row of vision_state that keeps which findings are open."""

FIRST_LATEST = timedelta(minutes=1)
LONGEST_LATEST = timedelta(hours=6)
"""A new picture of an open finding is taken after a minute, then after twice as long each time, up to this."""


class Later(StrEnum):
    """What becomes of a finding that was raised; values of report_update.kind."""

    GREW = "grew"
    LATEST = "latest"
    CLEARED = "cleared"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelName:
    """Which detector judged."""

    name: str
    sha256: str


@lru_cache(maxsize=8)
def name_model(path: Path | None) -> ModelName | None:
    """File name and SHA-256 of a model; None for a detector that has no file, or whose file is gone by now."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return ModelName(name=path.name, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip that the capture was asked for; `path` is below the folder of originals. `error`: why it was not asked."""

    id: UUID
    from_at: datetime
    until_at: datetime
    path: str
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """A finding to be reported, with the picture it was made in, the one from its beginning and its clip."""

    device: Device
    zone: AnyZone
    finding: Finding
    picture: Picture | None
    """None: it had to be let go before it could be written."""
    masks: tuple[Box, ...] = ()
    first: Kept | None = None
    clip: Clip | None = None
    model: ModelName | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """What became of a finding that was reported before."""

    device: Device
    zone: AnyZone
    finding: Finding
    kind: Later
    at: datetime
    picture: Picture | None
    """None: it had to be let go before it could be written."""
    masks: tuple[Box, ...] = ()


class ClipDone(Protocol):
    """What the capture says of a clip that it was asked for (ingest.capturing)."""

    @property
    def id(self) -> str: ...

    @property
    def ok(self) -> bool: ...

    @property
    def error(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What one camera's findings want written."""

    raised: tuple[Raised, ...]
    updated: tuple[Updated, ...]
    clips: tuple[ClipDone, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A finding that is not over."""

    zone: str
    finding: Finding
    pictures: int
    latest_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shot:
    """One look's picture and what must be covered in it."""

    picture: Picture
    masks: tuple[Box, ...]
    at: datetime


class Casebook:
    """One camera's findings, from look to look. `device` is set anew when its name or position changed."""

    def __init__(
        self, device: Device, zones: Sequence[AnyZone], capture: object, settings: EvidenceSettings, originals_dir: Path
    ) -> None:
        """`capture` is asked for clips when it can cut them (`save_clip`, ingest.capturing)."""
        self.device = device
        self._zones = {zone.name: zone for zone in zones}
        self._capture = capture
        self._settings = settings
        self._originals_dir = originals_dir
        self._memory = Memory(settings.memory_bytes)
        self._cases: dict[tuple[str, str], Case] = {}
        self._raised: list[Raised] = []
        self._updated: list[Updated] = []

    def see(self, look: Look, picture: Picture, detections: Detections, model: ModelName | None) -> tuple[Box, ...]:
        """Take up one look; what must be covered in its picture."""
        shot = _Shot(picture=picture, masks=find_masks(detections), at=look.sight.at)
        self._memory.add(picture, shot.masks, shot.at)
        for zone, finding in look.findings:
            extra = {"device": self.device.code, "zone": zone.name, "rule": finding.rule, "episode": finding.key}
            if finding.cleared_at is not None:
                log.info("%s over", finding.category, extra=extra)
                self._cases.pop((zone.name, finding.key), None)
                self._update(Later.CLEARED, zone, finding, shot)
            elif finding.update and (zone.name, finding.key) in self._cases:
                log.info("%s grew", finding.category, extra=extra)
                self._grow(zone, finding, shot)
            else:  # an update of what had been told to be over: it is back
                log.info("%s found", finding.category, extra=extra)
                self._raise(zone, finding, shot, model)
        self._look_again(shot)
        return shot.masks

    def _raise(self, zone: AnyZone, finding: Finding, shot: _Shot, model: ModelName | None) -> None:
        self._cases[(zone.name, finding.key)] = Case(zone=zone.name, finding=finding, pictures=0, latest_at=shot.at)
        raised = Raised(
            device=self.device,
            zone=zone,
            finding=finding,
            picture=shot.picture,
            masks=shot.masks,
            first=self._memory.find(finding.started_at, shot.at),
            clip=self._want_clip(finding, shot.at),
            model=model,
        )
        self._raised.append(raised)

    def _grow(self, zone: AnyZone, finding: Finding, shot: _Shot) -> None:
        key = (zone.name, finding.key)
        if key in self._cases:
            self._cases[key] = replace(self._cases[key], finding=finding, latest_at=shot.at)
        self._update(Later.GREW, zone, finding, shot)

    def _look_again(self, shot: _Shot) -> None:
        for key, case in list(self._cases.items()):
            doublings = min(case.pictures, 10)  # more are longer than the longest, and after a week beyond all time
            wait = min(FIRST_LATEST * 2**doublings, LONGEST_LATEST)
            zone = self._zones.get(case.zone)
            if zone is not None and shot.at - case.latest_at >= wait:
                self._cases[key] = replace(case, pictures=case.pictures + 1, latest_at=shot.at)
                self._update(Later.LATEST, zone, case.finding, shot)

    def _update(self, kind: Later, zone: AnyZone, finding: Finding, shot: _Shot) -> None:
        updated = Updated(
            device=self.device,
            zone=zone,
            finding=finding,
            kind=kind,
            at=shot.at,
            picture=shot.picture,
            masks=shot.masks,
        )
        self._updated.append(updated)

    def _want_clip(self, finding: Finding, now: datetime) -> Clip:
        """Ask the capture for the seconds around the raising; said at once when there can be none."""
        span = timedelta(seconds=self._settings.clip_s)
        clip_id = new_id(now)
        clip = Clip(
            id=clip_id,
            from_at=finding.raised_at - span,
            until_at=finding.raised_at + span,
            path=f"{now.astimezone(UTC):%Y/%m/%d}/{clip_id}.mp4",
        )
        if not span:
            return replace(clip, error="no_clips")
        save = getattr(self._capture, "save_clip", None)
        if save is None:
            return replace(clip, error="no_capture")
        try:
            path = self._originals_dir / clip.path
            make_private(self._originals_dir, path.parent)
            save(str(clip_id), clip.from_at, clip.until_at, path)
        except OSError as error:
            log.warning("no clip: %s", error)
            return replace(clip, error="no_capture")
        return clip

    def take(self) -> Gathered:
        """What is to be written, once."""
        take_clips = getattr(self._capture, "take_clips", None)
        gathered = Gathered(
            raised=tuple(self._raised),
            updated=tuple(self._updated),
            clips=tuple(take_clips()) if take_clips is not None else (),
        )
        self._raised.clear()
        self._updated.clear()
        return gathered

    def dump(self) -> dict[tuple[str, str], Any]:
        """Which findings are open, as a row of vision_state."""
        return {CASES_KEY: {"cases": [_dump(case) for case in self._cases.values()]}}

    def load(self, saved: Mapping[tuple[str, str], Any]) -> None:
        """Remember again; findings of zones that are no more are forgotten, they can never be told to be over."""
        value = saved.get(CASES_KEY)
        for given in value.get("cases", ()) if isinstance(value, dict) else ():
            try:
                case = _load(given)
            except (KeyError, TypeError, ValueError):
                log.warning("an open finding cannot be read, it gets no later pictures")
                continue
            if case.zone in self._zones:
                self._cases[(case.zone, case.finding.key)] = case


def _dump(case: Case) -> dict[str, Any]:
    finding = case.finding
    return {
        "zone": case.zone,
        "rule": finding.rule,
        "category": finding.category.value,
        "key": finding.key,
        "started_at": finding.started_at.isoformat(),
        "raised_at": finding.raised_at.isoformat(),
        "box": list(finding.box),
        "score": finding.score,
        "pictures": case.pictures,
        "latest_at": case.latest_at.isoformat(),
    }


def _load(value: Mapping[str, Any]) -> Case:
    x1, y1, x2, y2 = (float(number) for number in value["box"])
    return Case(
        zone=str(value["zone"]),
        pictures=int(value["pictures"]),
        latest_at=datetime.fromisoformat(value["latest_at"]),
        finding=Finding(
            rule=str(value["rule"]),
            category=Category(value["category"]),
            zone=str(value["zone"]),
            key=str(value["key"]),
            started_at=datetime.fromisoformat(value["started_at"]),
            raised_at=datetime.fromisoformat(value["raised_at"]),
            cleared_at=None,
            box=(x1, y1, x2, y2),
            score=float(value["score"]),
        ),
    )
