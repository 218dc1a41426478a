"""The cameras with how each can be watched; a camera's record; a view that somebody says is right.

An address may hold a password: it goes in here and never comes out again.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from dashboard.auth import CurrentUser, CurrentWeb
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.registry import explained
from dashboard.scene import Engineer, Watcher, find_camera
from dashboard.store import JsonObject
from devices.camera import FACTS, check_facts, write_facts
from devices.kinds.camera import CameraPayload, CameraSettings, find_trouble
from devices.store import DeviceError, check_texts, write_changes
from ingest.address import hide_password
from ingest.source import check_source
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection

router = APIRouter(tags=["cameras"])
Words = Annotated[str, Field(max_length=200)]
Address = Annotated[str, Field(max_length=2000)]
_STALE_S = 15.0


class LiveWay(BaseModel):
    """How the camera can be watched: `reason` says why not as video. What is not known yet is null."""

    mode: Literal["mse", "jpeg", "none"]
    codec: str | None
    width: int | None
    height: int | None
    substream: bool
    reason: str | None


class WatchView(BaseModel):
    """How the detector watches it; null figures: nothing was heard of it lately."""

    looks_per_s: float | None
    skipped_fps: float | None
    model: str
    blind: str | None
    moved: bool
    preset: str | None


class CameraSummary(BaseModel):
    """One camera for the page of cameras."""

    id: UUID
    code: str
    name: str
    lon: float
    lat: float
    status: str
    zones: list[dict[str, Any]]
    live: LiveWay
    watch: WatchView | None


class CameraRecordView(BaseModel):
    """What is known about a camera. Addresses are shown without user, password and query."""

    address: str
    substream_address: str | None
    maker: str
    model: str
    onvif_profile: str
    onvif_address: str
    ptz: bool
    gb_device_id: str
    gb_channel_id: str
    platform: str
    encoder: dict[str, Any]
    heading_deg: float | None
    fov_deg: float | None
    range_m: float | None
    evidence_days: int | None = Field(description="how long its clips and originals are kept; null: as everywhere")
    scene_version: int
    view_confirmed_at: datetime | None


class CameraRecordChanges(BaseModel):
    """What may be changed; what is left out or null stays. "" takes a substream away, 0 days the camera's own time."""

    model_config = ConfigDict(extra="forbid")
    url: Address | None = None
    substream_url: Address | None = None
    maker: Words | None = None
    model: Words | None = None
    onvif_profile: Words | None = None
    onvif_address: Words | None = None
    ptz: bool | None = None
    gb_device_id: Annotated[str, Field(max_length=20)] | None = None
    gb_channel_id: Annotated[str, Field(max_length=20)] | None = None
    heading_deg: Annotated[FiniteFloat, Field(ge=0, le=360)] | None = None
    fov_deg: Annotated[FiniteFloat, Field(gt=0, le=360)] | None = None
    range_m: Annotated[FiniteFloat, Field(gt=0)] | None = None
    evidence_days: Annotated[int, Field(ge=0, le=3650)] | None = None


class ViewConfirmed(BaseModel):
    """The view as it is now is the right one from this instant on."""

    confirmed_at: datetime


@router.get("/cameras")
def list_cameras(user: CurrentUser, web: CurrentWeb) -> list[CameraSummary]:
    """Every camera in scope that is in use, by code."""
    with web.transaction(user) as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT d.id, d.code, d.name, d.lon, d.lat, coalesce(s.status, 'unknown') AS status, c.scene, c.encoder,
                   c.substream_url <> '' AS substream, d.settings, coalesce(s.metrics, '{}') AS metrics
            FROM camera c JOIN device d ON d.id = c.device_id LEFT JOIN device_state s ON s.device_id = d.id
            WHERE d.enabled ORDER BY d.code
            """
        ).fetchall()
    now, model = web.now(), Path(web.settings.vision.model).stem
    presets = _read_presets(web, [row["id"] for row in rows if _is_moving(row["scene"])], now)
    return [_summarise(row | {"preset": presets.get(row["id"])}, now, model) for row in rows]


def _is_moving(scene: Any) -> bool:
    return isinstance(scene, dict) and bool(scene.get("presets"))


def _read_presets(web: Web, camera_ids: list[UUID], now: datetime) -> dict[UUID, str]:
    """At which of its views each of these cameras stands, where that was told lately."""
    if not camera_ids:
        return {}
    with web.worker_database.transaction() as connection:  # what the detector remembers is hidden from those who ask
        rows = connection.execute(
            "SELECT device_id, state ->> 'preset' FROM vision_state WHERE device_id = ANY (%s) AND zone = '' AND rule = 'turn'"
            " AND saved_at > %s AND state ->> 'preset' IS NOT NULL",
            (camera_ids, now - timedelta(seconds=_STALE_S)),
        ).fetchall()
    return {camera_id: str(preset) for camera_id, preset in rows}


def _summarise(row: JsonObject, now: datetime, model: str) -> CameraSummary:
    zones = row["scene"].get("zones", []) if isinstance(row["scene"], dict) else []
    return CameraSummary(
        id=row["id"], code=row["code"], name=row["name"], lon=row["lon"], lat=row["lat"], status=row["status"],
        zones=zones, live=_find_way(row["encoder"], row["substream"]), watch=_find_watch(row, now, model),
    )  # fmt: skip


def _find_way(encoder: JsonObject, substream: bool) -> LiveWay:
    """H.265 is not played: the substream is, where it is another coding; else pictures are."""
    main, sub = encoder.get("main") or {}, encoder.get("sub") or {}
    seen = main
    mode: Literal["mse", "jpeg"] = "mse"
    reason = None
    if main.get("codec") == "hevc":
        reason = "h265"
        if substream and sub.get("codec") != "hevc":
            seen = sub
        else:
            mode = "jpeg"
    return LiveWay(
        mode=mode, codec=seen.get("codec"), width=seen.get("width"), height=seen.get("height"),
        substream=substream, reason=reason,
    )  # fmt: skip


def _find_watch(row: JsonObject, now: datetime, model: str) -> WatchView | None:
    if not row["metrics"]:
        return None
    blind = _find_blindness(row, now)
    return WatchView(
        looks_per_s=_read_metric(row["metrics"], "looks_per_s", now),
        skipped_fps=_read_metric(row["metrics"], "skipped_fps", now),
        model=model, blind=blind, moved=blind == "moved", preset=row.get("preset"),
    )  # fmt: skip


def _find_blindness(row: JsonObject, now: datetime) -> str | None:
    """What is wrong with the picture, by the same limits as the alarm."""
    figures = {name: _read_metric(row["metrics"], name, now) for name in CameraPayload.model_fields}
    if all(figure is None for figure in figures.values()):
        return "gone" if row["status"] == "offline" else None
    try:
        limits = CameraSettings.model_validate(row["settings"])
    except ValidationError:
        limits = CameraSettings()
    known: dict[str, Any] = {name: value for name, value in figures.items() if value is not None}
    return find_trouble(CameraPayload.model_construct(**known), limits)


def _read_metric(metrics: JsonObject, name: str, now: datetime) -> float | None:
    """The newest value; None when none came lately."""
    entry = metrics.get(name)
    if not entry or (now - datetime.fromisoformat(entry["at"])).total_seconds() > _STALE_S:
        return None
    return float(entry["value"])


@router.get("/cameras/{camera_id}/record")
def show_record(camera_id: UUID, user: Watcher, web: CurrentWeb) -> CameraRecordView:
    """What is known about the camera, for those who watch or run the system."""
    with web.transaction(user) as connection:
        find_camera(connection, camera_id)
        return _read_record(connection, camera_id)


@router.patch("/cameras/{camera_id}/record")
def change_record(camera_id: UUID, body: CameraRecordChanges, user: Engineer, web: CurrentWeb) -> CameraRecordView:
    """Change it; a new address is taken up within seconds. 422 `bad_address`, `bad_gb_code`, `bad_onvif_address`, `no_address`."""
    changes = body.model_dump(exclude_none=True)
    now = web.now()
    with web.transaction(user) as connection, explained():
        code, area_code = find_camera(connection, camera_id, lock=True)
        if changes.get("url") == "":
            raise DeviceError("no_address", f"{code}: a camera needs its address")
        check_facts(changes)
        of_device: dict[str, str] = {name: changes.pop(name) for name in ("maker", "model") if name in changes}
        check_texts(of_device)
        for name in ("url", "substream_url"):
            if changes.get(name):
                check_source(changes[name], web.settings.camera.allowed_networks)
        if of_device:
            write_changes(connection, camera_id, of_device, now)
        if "evidence_days" in changes:
            changes["evidence_days"] = changes["evidence_days"] or None
        write_facts(connection, camera_id, changes)
        if {"url", "substream_url"} & set(changes):
            connection.execute("UPDATE camera SET encoder = '{}' WHERE device_id = %s", (camera_id,))
        # Addresses are named, never told.
        told = {name: "changed" if name.endswith("url") else value for name, value in (changes | of_device).items()}
        write_audit(connection, now, actor=user.name, action="camera_changed", subject=code, detail=told)
        note_change(connection, ChangeKind.DEVICE, camera_id, area_code, now)
        return _read_record(connection, camera_id)


def _read_record(connection: Connection, camera_id: UUID) -> CameraRecordView:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT c.url, {', '.join(f'c.{name}' for name in FACTS)}, c.encoder, c.heading_deg, c.fov_deg, c.range_m,"
            " c.evidence_days, c.scene_version, c.view_confirmed_at, d.maker, d.model"
            " FROM camera c JOIN device d ON d.id = c.device_id WHERE d.id = %s",
            (camera_id,),
        ).fetchone()
    if row is None:
        raise Problem(404, "unknown_camera", "There is no such camera in your scope")
    url, substream_url = row.pop("url"), row.pop("substream_url")
    return CameraRecordView(
        address=hide_password(url), substream_address=hide_password(substream_url) if substream_url else None, **row
    )


@router.post("/cameras/{camera_id}/view/confirm")
def confirm_view(camera_id: UUID, user: Engineer, web: CurrentWeb) -> ViewConfirmed:
    """The camera was turned and looks the right way now: its zones are watched again, in the view as it is. Audited."""
    now = web.now()
    with web.transaction(user) as connection:
        code, area_code = find_camera(connection, camera_id, lock=True)
        connection.execute("UPDATE camera SET view_confirmed_at = %s WHERE device_id = %s", (now, camera_id))
        write_audit(connection, now, actor=user.name, action="view_confirmed", subject=code)
        note_change(connection, ChangeKind.DEVICE, camera_id, area_code, now)
    with web.worker_database.transaction() as connection:  # what a vision role that is away remembers of the old view
        connection.execute(
            "DELETE FROM vision_state WHERE device_id = %s AND zone = '' AND rule = 'view' AND saved_at < %s",
            (camera_id, now),
        )
    return ViewConfirmed(confirmed_at=now)
