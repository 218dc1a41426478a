"""Registering a device: its position brought to CGCS2000 and into its cell, its camera address and scene checked first.

The registry (devices), the grid and the vision rules don't know each other; here they meet, for the command line and the demo.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from devices.model import Device
from devices.store import DeviceError, DeviceRecord, add_camera, add_device
from grid.coordinates import to_cgcs2000
from grid.locate import Locator
from ingest.address import check_camera_address
from kernel.db import Connection
from kernel.settings import Settings
from vision.rules import discover
from vision.scene import parse_scene


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDevice:
    """What somebody says about a device: its position in `crs` (EPSG:<n>, gcj02 or bd09), and for a camera its address."""

    code: str
    kind: str
    name: str
    lon: float
    lat: float
    crs: str = "EPSG:4490"
    settings: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""
    scene: Mapping[str, Any] | None = None
    heading_deg: float | None = None
    fov_deg: float | None = None
    range_m: float | None = None


def register_device(
    connection: Connection,
    new: NewDevice,
    locator: Locator,
    settings: Settings,
    now: datetime,
    *,
    outside: bool = False,
) -> Device:
    """Register one device in the caller's transaction.

    Raises DeviceError (also `outside_grid` unless `outside`, and `no_address` for a camera without one), CrsError,
    CoordinateError, AddressError, SceneError.
    """
    lon, lat = to_cgcs2000(new.lon, new.lat, new.crs)
    place = locator.locate(lon, lat)
    if place is None and not outside:
        raise DeviceError("outside_grid", f"{new.code}: {lon:.6f}, {lat:.6f} lies in no cell (is {new.crs} right?)")
    record = DeviceRecord(
        code=new.code,
        kind=new.kind,
        name=new.name,
        lon=lon,
        lat=lat,
        source_crs=new.crs,
        cell_code=place.cell_code if place else "",
        area_code=place.area_code if place else "",
        settings=dict(new.settings),
    )
    if new.kind != "camera":
        return add_device(connection, record, now)
    if not new.url:
        raise DeviceError("no_address", f"{new.code}: a camera needs its RTSP address (--url)")
    check_camera_address(new.url, settings.camera.allowed_networks)
    scene = dict(new.scene) if new.scene is not None else {"zones": []}
    parse_scene(scene, discover())
    return add_camera(
        connection,
        record,
        new.url,
        now,
        scene=scene,
        heading_deg=new.heading_deg,
        fov_deg=new.fov_deg,
        range_m=new.range_m,
    )
