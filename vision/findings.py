"""The rows of findings: the report with its pictures and clip, what becomes of it, and the answers to closure checks.

Everything of one writing is one transaction, files before rows: after a kill there may be a stray file, which
housekeeping removes, and never a row without its file or a clip that is promised for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from devices.model import Device
from devices.rulebook import BookKeeper
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import CHANNEL, Report, insert_report
from kernel.settings import Settings
from kernel.types import Source, Verdict
from vision.casebook import Clip, ClipDone, Later, Raised, Updated
from vision.evidence import Caption, Shown, draw_snapshot, keep_original, measure_jpeg, write_evidence, write_original
from vision.lettering import Lettering
from vision.live import Answered
from vision.mask import mask_picture
from vision.model import TITLES, Box, Picture, Point
from vision.rule import AnyZone
from vision.store import answer_check

log = logging.getLogger(__name__)

VERDICT_TITLES = {
    Verdict.CLEAR: ("复查：已消除", "Checked: clear"),
    Verdict.NOT_CLEAR: ("复查：仍存在", "Checked: not clear"),
    Verdict.INCONCLUSIVE: ("复查：无法判断", "Checked: inconclusive"),
}
MOMENTS = {
    "first": ("首次出现", "first seen"),
    "threshold": ("", ""),
    "latest": ("最新", "latest"),
    "grew": ("扩大", "grew"),
    "cleared": ("已消失", "gone"),
}
NOT_KEPT = "not_kept"
TRY_RECORDING = frozenset({"capture_ended", "nothing_kept"})
"""Why the capture gives no clip, though the recording may have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Studio:
    """What is needed to make a snapshot."""

    settings: Settings
    lettering: Lettering
    rules: BookKeeper = field(default_factory=BookKeeper)  # of the cameras' health
    written: list[Path] = field(default_factory=list)
    """Files of the transaction in hand, for who has to take them away when it comes to nothing."""

    def draw(self, scene: Snapshot) -> bytes:
        """The masked picture with boxes, outline and a band of text."""
        caption = Caption(
            title_zh=scene.titles[0],
            title_en=scene.titles[1],
            place=scene.place,
            at=scene.at,
            timezone=self.settings.city.timezone,
            language=self.settings.city.language,
        )
        return draw_snapshot(
            mask_picture(scene.picture, scene.masks),
            boxes=scene.boxes,
            polygon=scene.polygon,
            caption=caption,
            lettering=self.lettering,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A picture to be kept as evidence."""

    device: Device
    zone: AnyZone | None
    picture: Picture
    masks: tuple[Box, ...]
    boxes: tuple[Box, ...]
    titles: tuple[str, str]
    at: datetime
    detail: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Camera and zone in words."""
        return " ".join(part for part in (self.device.name, self.zone.name if self.zone else "") if part)

    @property
    def polygon(self) -> tuple[Point, ...]:
        """The zone's outline."""
        return self.zone.polygon if self.zone else ()


def keep_snapshot(connection: Connection, snapshot: Snapshot, studio: Studio, now: datetime) -> UUID:
    """Write the masked picture, and beside it the clean one if those are kept; the evidence's id."""
    settings, evidence_id = studio.settings, new_id(now)
    jpeg = studio.draw(snapshot)
    original = None
    if settings.evidence.keep_originals:
        original = write_original(settings.originals_dir, evidence_id, snapshot.picture, snapshot.masks, snapshot.at)
        studio.written.append(settings.originals_dir / original.path)
    width, height = measure_jpeg(jpeg)
    shown = Shown(
        id=evidence_id,
        kind="snapshot",
        mime="image/jpeg",
        suffix=".jpg",
        content=jpeg,
        width=width,
        height=height,
        taken_at=snapshot.at,
        masked=True,
        area_code=snapshot.device.area_code,
        lon=snapshot.device.lon,
        lat=snapshot.device.lat,
        detail=dict(snapshot.detail),
    )
    studio.written.append(settings.evidence_dir / shown.path)
    write_evidence(connection, settings.evidence_dir, shown)
    if original is not None:
        keep_original(connection, evidence_id, original, now)
    return evidence_id


# ------------------------------------------------------------------------------------------------ reports


def write_report(connection: Connection, item: Raised, studio: Studio, now: datetime) -> bool:
    """Report a finding with its pictures; False when it was reported before and is not over since.

    One that comes back under its old key after it was over goes on in its report while that one's incident is open;
    else it is a report of its own, whose key says when.
    """
    device, zone, finding = item.device, item.zone, item.finding
    key = base = f"{device.code}:{zone.name}:{finding.rule}:{finding.key}"
    known = _find_report(connection, base)
    if known is not None:
        if not known.over:  # spares the pictures; the insert below decides in any case
            if finding.update:
                write_update(connection, _as_growth(item), studio, now)
            return False
        if known.is_open:
            _resume(connection, known, item, studio, now)
            return False
        key = f"{base}:{int(finding.raised_at.timestamp() * 1000):x}"
    pictures = _keep_pictures(connection, item, studio, now)
    placed = zone.lon is not None and zone.lat is not None
    clip = item.clip
    report = Report(
        id=new_id(now),
        source=Source.CAMERA,
        source_key=key,
        category=finding.category,
        lon=zone.lon if zone.lon is not None else device.lon,
        lat=zone.lat if zone.lat is not None else device.lat,
        source_crs="EPSG:4490" if placed else device.source_crs,
        device_id=device.id,
        rule=finding.rule,
        zone=zone.name,
        area_code=device.area_code,
        severity=finding.severity,
        occurred_at=finding.started_at,
        received_at=now,
        # the picture of the raising first: it stands for the incident
        evidence_ids=tuple(pictures[name] for name in ("threshold", "first") if name in pictures),
        detail=_describe(item, pictures) | {"placed": placed, "clip": _describe_clip(clip)},
    )
    if not insert_report(connection, report):
        return False
    if known is not None:
        connection.execute(
            "UPDATE report SET detail = detail || %s WHERE source_key = %s", (Jsonb({"again": key}), base)
        )
    if clip is not None:
        _ask_clip(connection, clip, report.id, device.id, now)
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    id: UUID
    over: bool
    is_open: bool
    """Its incident is, or it has none yet."""


def _find_report(connection: Connection, base: str) -> _Known | None:
    """The newest report of an episode: itself, or the one it came back as."""
    row = connection.execute(
        """
        SELECT newest.id, newest.detail ? 'cleared_at', coalesce(i.state NOT IN ('closed', 'void'), true)
        FROM report base JOIN report newest ON newest.source_key = coalesce(base.detail ->> 'again', base.source_key)
        LEFT JOIN incident i ON i.id = newest.incident_id
        WHERE base.source_key = %s
        """,
        (base,),
    ).fetchone()
    return None if row is None else _Known(id=row[0], over=bool(row[1]), is_open=bool(row[2]))


def _as_growth(item: Raised) -> Updated:
    return Updated(
        device=item.device,
        zone=item.zone,
        finding=item.finding,
        kind=Later.GREW,
        at=item.finding.raised_at,
        picture=item.picture,
        masks=item.masks,
    )


def _resume(connection: Connection, known: _Known, item: Raised, studio: Studio, now: datetime) -> None:
    """It is back before its incident was closed: the same report, told to be no longer over."""
    evidence_id = None
    if item.picture is not None:
        snapshot = _snapshot_of(item, "latest", item.picture, item.masks, item.finding.raised_at)
        evidence_id = keep_snapshot(connection, snapshot, studio, now)
    _change_report(connection, known.id, {}, "latest", evidence_id)
    connection.execute("UPDATE report SET detail = detail - 'cleared_at' WHERE id = %s", (known.id,))
    _tell(connection, known.id, "back", item.finding.raised_at, evidence_id, None, {}, now)
    if item.clip is not None:
        clip = Jsonb({"clip": _describe_clip(item.clip)})
        connection.execute("UPDATE report SET detail = detail || %s WHERE id = %s", (clip, known.id))
        _ask_clip(connection, item.clip, known.id, item.device.id, now)


def _keep_pictures(connection: Connection, item: Raised, studio: Studio, now: datetime) -> dict[str, UUID]:
    finding = item.finding
    pictures = {}
    if item.picture is not None:
        threshold = _snapshot_of(item, "threshold", item.picture, item.masks, finding.raised_at)
        pictures["threshold"] = keep_snapshot(connection, threshold, studio, now)
    if item.first is not None and item.first.at < finding.raised_at:
        first = _snapshot_of(item, "first", item.first.picture(), item.first.masks, item.first.at)
        pictures["first"] = keep_snapshot(connection, first, studio, now)
    return pictures


def _snapshot_of(
    item: Raised | Updated, moment: str, picture: Picture, masks: tuple[Box, ...], at: datetime
) -> Snapshot:
    finding = item.finding
    zh, en = TITLES[finding.category]
    more_zh, more_en = MOMENTS[moment]
    titles = (f"{zh}：{more_zh}" if more_zh else zh, f"{en}: {more_en}" if more_en else en)
    detail = {"rule": finding.rule, "zone": item.zone.name, "moment": moment}
    return Snapshot(
        device=item.device,
        zone=item.zone,
        picture=picture,
        masks=masks,
        boxes=(finding.box,) if moment != "cleared" else (),
        titles=titles,
        at=at,
        detail=detail,
    )


def _describe(item: Raised, pictures: Mapping[str, UUID]) -> dict[str, Any]:
    """The report's detail: what was seen, by what, and with which figures (docs/architecture.md)."""
    finding, zone = item.finding, item.zone
    measured = dict(finding.detail)
    threshold_at = measured.pop("threshold_at", finding.raised_at.isoformat())
    found = {
        "box": [round(value, 4) for value in finding.box],
        "score": round(finding.score, 3),
        "started_at": finding.started_at.isoformat(),
        "threshold_at": threshold_at,
        "raised_at": finding.raised_at.isoformat(),
        "polygon": [[round(x, 4), round(y, 4)] for x, y in zone.polygon],
        "rule_parameters": zone.parameters.model_dump(mode="json"),
        "model": {"name": item.model.name, "sha256": item.model.sha256} if item.model else None,
        "evidence": {
            name: str(pictures[name]) if name in pictures else None for name in ("first", "threshold", "latest")
        },
        "measured": measured,
    }
    missing = {name: NOT_KEPT for name in ("first", "threshold") if name not in pictures}
    if missing:
        found["missing"] = missing
    return found


# ------------------------------------------------------------------------------------------------ what becomes of it


def write_update(connection: Connection, item: Updated, studio: Studio, now: datetime) -> bool:
    """Grown, still there or over: kept with its report, and told to the incident. False for a finding not reported."""
    finding, zone = item.finding, item.zone
    known = _find_report(connection, f"{item.device.code}:{zone.name}:{finding.rule}:{finding.key}")
    if known is None or known.over:
        return False
    evidence_id = None
    if item.picture is not None:
        snapshot = _snapshot_of(item, item.kind.value, item.picture, item.masks, item.at)
        evidence_id = keep_snapshot(connection, snapshot, studio, now)
    changes: dict[str, Any] = {}
    if item.kind is Later.CLEARED:
        cleared_at = finding.cleared_at or item.at
        changes = {"cleared_at": cleared_at.isoformat()}
    elif item.kind is Later.GREW:
        changes = {
            "box": [round(value, 4) for value in finding.box],
            "score": round(finding.score, 3),
            "measured": dict(finding.detail),
        }
    slot = "cleared" if item.kind is Later.CLEARED else "latest"
    _change_report(connection, known.id, changes, slot, evidence_id)
    _tell(connection, known.id, item.kind.value, item.at, evidence_id, finding.severity, changes, now)
    return True


def _change_report(
    connection: Connection, report_id: UUID, changes: Mapping[str, Any], slot: str, evidence_id: UUID | None
) -> None:
    """What is known now; `slot`: which of the report's pictures `evidence_id` is, if there is one."""
    connection.execute(
        """
        UPDATE report SET evidence_ids = evidence_ids || %(evidence)s::uuid[], detail = detail || %(changes)s
            || jsonb_build_object('evidence', coalesce(detail -> 'evidence', '{}') || %(pictures)s)
        WHERE id = %(id)s
        """,
        {
            "id": report_id,
            "evidence": [] if evidence_id is None else [evidence_id],
            "changes": Jsonb(dict(changes)),
            "pictures": Jsonb({} if evidence_id is None else {slot: str(evidence_id)}),
        },
    )


def _tell(
    connection: Connection,
    report_id: UUID,
    kind: str,
    at: datetime,
    evidence_id: UUID | None,
    severity: int | None,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Leave word for dispatch, and wake it."""
    connection.execute(
        "INSERT INTO report_update (id, report_id, kind, at, severity, evidence_id, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING pg_notify(%s, '')",
        (new_id(now), report_id, kind, at, severity, evidence_id, Jsonb(dict(detail)), CHANNEL),
    )


# ------------------------------------------------------------------------------------------------ clips


def _describe_clip(clip: Clip | None) -> dict[str, Any] | None:
    if clip is None:
        return None
    return {
        "id": str(clip.id),
        "state": "failed" if clip.error else "wanted",
        "error": clip.error,
        "from_at": clip.from_at.isoformat(),
        "until_at": clip.until_at.isoformat(),
    }


def _ask_clip(connection: Connection, clip: Clip, report_id: UUID, device_id: UUID, now: datetime) -> None:
    connection.execute(
        "INSERT INTO clip (id, report_id, device_id, state, error, path, from_at, until_at, asked_at, ended_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            clip.id, report_id, device_id, "failed" if clip.error else "wanted", clip.error, clip.path, clip.from_at,
            clip.until_at, now, now if clip.error else None,
        ),
    )  # fmt: skip


def settle_clip(connection: Connection, done: ClipDone, now: datetime) -> None:
    """The capture has cut a clip, or says why not. One that nobody asked for any more changes nothing."""
    clip_id = UUID(str(done.id))
    if done.ok:
        row = connection.execute(
            "UPDATE clip SET state = 'cut', error = '' WHERE id = %s AND state IN ('wanted', 'failed') RETURNING report_id",
            (clip_id,),
        ).fetchone()
        if row is not None:
            change_clip(connection, row[0], "cut", "", clip_id, now)
        return
    if done.error in TRY_RECORDING:  # vision.clip looks there when its minute is finished
        connection.execute("UPDATE clip SET error = %s WHERE id = %s AND state = 'wanted'", (done.error, clip_id))
        return
    fail_clip(connection, clip_id, done.error or "not_cut", now)


def fail_clip(connection: Connection, clip_id: UUID, error: str, now: datetime) -> None:
    """There will be no such clip, and why."""
    row = connection.execute(
        "UPDATE clip SET state = 'failed', error = %s, ended_at = %s WHERE id = %s AND state IN ('wanted', 'cut')"
        " RETURNING report_id",
        (error, now, clip_id),
    ).fetchone()
    if row is not None:
        change_clip(connection, row[0], "failed", error, clip_id, now)


def change_clip(connection: Connection, report_id: UUID, state: str, error: str, clip_id: UUID, now: datetime) -> None:
    """Say in the report how its clip stands, and tell the incident."""
    connection.execute(
        "UPDATE report SET detail = jsonb_set(detail, '{clip}', detail -> 'clip' || %s) WHERE id = %s"
        " AND detail #>> '{clip,id}' = %s",
        (Jsonb({"state": state, "error": error}), report_id, str(clip_id)),
    )
    if state != "cut":
        _tell(connection, report_id, "clip", now, clip_id if state == "saved" else None, None, {"state": state}, now)


# ------------------------------------------------------------------------------------------------ closure checks


def write_answer(connection: Connection, item: Answered, studio: Studio, now: datetime) -> bool:
    """Answer a closure check with the picture that was looked at; False when it was answered before."""
    evidence_id = None
    if item.picture is not None:
        snapshot = Snapshot(
            device=item.device,
            zone=item.zone,
            picture=item.picture,
            masks=item.masks,
            boxes=item.boxes,
            titles=VERDICT_TITLES[item.answer.verdict],
            at=item.taken_at,
            detail={"check": str(item.request.id), "verdict": item.answer.verdict.value},
        )
        evidence_id = keep_snapshot(connection, snapshot, studio, now)
    log.info("check answered: %s %s", item.answer.verdict, item.answer.detail, extra={"check_id": str(item.request.id)})
    return answer_check(connection, item.request.id, item.answer.verdict, item.answer.detail, evidence_id, now)
