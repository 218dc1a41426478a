"""Cameras behind a GB/T 28181 gateway (WVP-PRO): its list of devices and channels becomes cameras of the register.

A camera's address is then the gateway's, with its log-in and the two codes (ingest/source.py); the stream's own address is
asked for at each connection, so one that expires is renewed by itself. Importing again adds what is new and renews the log-in.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Rollback

from dashboard.registration import NewDevice, register_device
from devices.camera import read_gb_code
from devices.store import DeviceError
from grid.coordinates import CoordinateError, CrsError
from grid.locate import Locator
from ingest.address import AddressError
from ingest.source import Platform, is_platform_address, make_platform_url
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.settings import Settings
from vision.scene import SceneError

_PAGE = 100
_MOST_PAGES = 1_000
_HEADINGS = {1: 90.0, 2: 270.0, 3: 180.0, 4: 0.0, 5: 135.0, 6: 45.0, 7: 225.0, 8: 315.0}
"""GB/T 28181 DirectionType, where the lens looks: 1 east, 2 west, 3 south, 4 north, 5 south-east …"""
_TURNABLE = (1, 4, 5)  # PTZType: dome, remote bullet, remote half dome
_CAMERAS = range(131, 200)


@dataclass(frozen=True, slots=True)
class Login:
    """How the gateway is asked. `secret`: the MD5 of the password."""

    base: str
    user: str
    secret: str

    def __repr__(self) -> str:
        return f"Login({self.base})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """One camera as the gateway lists it."""

    device_id: str
    channel_id: str
    name: str
    maker: str
    model: str
    lon: float | None
    lat: float | None
    ptz: bool
    heading_deg: float | None


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a channel: added, renewed, kept, or refused with a stable code and the words."""

    channel_id: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """Where cameras are that come without a position, and what positions are measured in."""

    crs: str = "EPSG:4326"
    lon: float | None = None
    lat: float | None = None
    outside: bool = False


def read_channels(platform: Platform) -> Iterator[Channel]:
    """Every channel that gives pictures. Raises CaptureError when the gateway does not answer."""
    for device in _read_pages(platform, "/api/device/query/devices"):
        device_id = _text(device, "deviceId")
        if not _is_code(device_id):
            continue
        for entry in _read_pages(platform, f"/api/device/query/devices/{device_id}/channels"):
            channel = _read_channel(device, device_id, entry)
            if channel is not None:
                yield channel


def _read_pages(platform: Platform, path: str) -> Iterator[Mapping[str, Any]]:
    for page in range(1, _MOST_PAGES + 1):
        answer = platform.ask(path, page=page, count=_PAGE)
        entries = answer.get("list") if isinstance(answer, dict) else None
        if not isinstance(entries, list) or not entries:
            return
        yield from (entry for entry in entries if isinstance(entry, dict))
        if len(entries) < _PAGE:
            return


def _read_channel(device: Mapping[str, Any], device_id: str, entry: Mapping[str, Any]) -> Channel | None:
    """None for folders, areas and groups. Until 2.7.3 the channel's code is `channelId`, since then `deviceId`."""
    channel_id = _text(entry, "channelId") or _text(entry, "deviceId")
    if not _is_code(channel_id) or read_gb_code(channel_id).type not in _CAMERAS:
        return None
    if _number(entry, "channelType") or _number(entry, "subCount"):
        return None
    lon, lat = _number(entry, "longitude"), _number(entry, "latitude")
    placed = bool(lon and lat)
    return Channel(
        device_id=device_id,
        channel_id=channel_id,
        name=_text(entry, "name") or channel_id,
        maker=_text(entry, "manufacturer") or _text(entry, "manufacture") or _text(device, "manufacturer"),
        model=_text(entry, "model") or _text(device, "model"),
        lon=lon if placed else None,
        lat=lat if placed else None,
        ptz=_number(entry, "ptzType") in _TURNABLE,
        heading_deg=_HEADINGS.get(int(_number(entry, "directionType") or 0)),
    )


def import_channels(
    connection: Connection,
    login: Login,
    channels: list[Channel],
    placing: Placing,
    locator: Locator,
    settings: Settings,
    now: datetime,
    *,
    apply: bool,
    actor: str = "command line",
) -> list[Imported]:
    """Register what is new and renew the log-in of what is there; without `apply` nothing stays. Each stands by itself."""
    done: list[Imported] = []
    with connection.transaction() as attempt:
        for channel in channels:
            try:
                with connection.transaction():
                    outcome = _import_one(connection, login, channel, placing, locator, settings, now, actor)
                done.append(Imported(channel.channel_id, channel.name, outcome))
            except (DeviceError, CrsError, CoordinateError, SceneError) as error:
                code = error.code if isinstance(error, DeviceError) else "bad_position"
                done.append(Imported(channel.channel_id, channel.name, code, str(error)))
            except AddressError as error:
                done.append(Imported(channel.channel_id, channel.name, "bad_address", str(error)))
            except psycopg.errors.InsufficientPrivilege:
                done.append(Imported(channel.channel_id, channel.name, "outside_scope"))
        if not apply:
            raise Rollback(attempt)
    return done


def _import_one(
    connection: Connection,
    login: Login,
    channel: Channel,
    placing: Placing,
    locator: Locator,
    settings: Settings,
    now: datetime,
    actor: str,
) -> str:
    url = make_platform_url(login.base, login.user, login.secret, f"{channel.device_id}/{channel.channel_id}")
    row = connection.execute(
        "SELECT d.id, d.area_code, c.url FROM camera c JOIN device d ON d.id = c.device_id"
        " WHERE c.gb_channel_id = %s OR d.code = %s LIMIT 1",
        (channel.channel_id, channel.channel_id),
    ).fetchone()
    if row is not None:
        device_id, area_code, known = row
        if known == url or not is_platform_address(known):
            return "kept"
        connection.execute("UPDATE camera SET url = %s, encoder = '{}' WHERE device_id = %s", (url, device_id))
        write_audit(connection, now, actor=actor, action="camera_changed", subject=channel.channel_id,
                    detail={"url": "changed"})  # fmt: skip
        note_change(connection, ChangeKind.DEVICE, device_id, area_code, now)
        return "renewed"
    lon, lat, crs = channel.lon, channel.lat, placing.crs
    if lon is None or lat is None:
        lon, lat, crs = placing.lon, placing.lat, "EPSG:4490"
    if lon is None or lat is None:
        raise DeviceError("no_position", "the gateway names no position: give one for those without (--lon, --lat)")
    new = NewDevice(
        code=channel.channel_id,
        kind="camera",
        name=channel.name,
        lon=lon,
        lat=lat,
        crs=crs,
        maker=channel.maker,
        model=channel.model,
        url=url,
        heading_deg=channel.heading_deg,
        ptz=channel.ptz,
        gb_device_id=channel.device_id,
        gb_channel_id=channel.channel_id,
        platform=f"wvp {login.base}",
    )
    register_device(connection, new, locator, settings, now, outside=placing.outside, actor=actor)
    return "added"


def _is_code(text: str) -> bool:
    return len(text) == 20 and text.isascii() and text.isdigit()


def _text(entry: Mapping[str, Any], name: str) -> str:
    """A text of the gateway's, without what no register takes."""
    value = entry.get(name)
    return "".join(letter for letter in value.strip() if letter.isprintable())[:200] if isinstance(value, str) else ""


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
