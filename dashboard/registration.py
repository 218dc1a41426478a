"""Registering a device and changing what was said: its position brought to CGCS2000 and into its cell, its gateway found,
its camera address and scene checked first. Every change is audited.

The register (devices), the grid and the vision rules don't know each other; here they meet, for the pages, the command
line, the import of lists and the demo.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

import psycopg
from psycopg import Rollback
from psycopg.types.json import Jsonb

from devices.camera import FACTS, check_facts, write_facts
from devices.importing import DeviceList, RowProblem
from devices.model import Device
from devices.store import (
    TEXT_FIELDS,
    DeviceError,
    DeviceRecord,
    add_camera,
    add_device,
    check_settings,
    check_texts,
    read_device,
    read_devices_by_code,
    write_changes,
)
from grid.coordinates import CoordinateError, CrsError, to_cgcs2000
from grid.locate import Locator
from ingest.address import AddressError
from ingest.source import check_source
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.settings import Settings
from vision.rules import discover
from vision.scene import SceneError, parse_scene


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDevice:
    """What somebody says about a device: its position in `crs` (EPSG:<n>, gcj02 or bd09), and for a camera its address.

    `parent`: the code of its gateway, '' for none.
    """

    code: str
    kind: str
    name: str
    lon: float
    lat: float
    crs: str = "EPSG:4490"
    settings: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ""
    enabled: bool = True
    component_code: str = ""
    owner_unit: str = ""
    competent_unit: str = ""
    maintenance_unit: str = ""
    maker: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    building: str = ""
    floor: str = ""
    household: str = ""
    url: str = ""
    scene: Mapping[str, Any] | None = None
    heading_deg: float | None = None
    fov_deg: float | None = None
    range_m: float | None = None
    substream_url: str = ""
    onvif_profile: str = ""
    onvif_address: str = ""
    ptz: bool = False
    gb_device_id: str = ""
    gb_channel_id: str = ""
    platform: str = ""


def register_device(
    connection: Connection,
    new: NewDevice,
    locator: Locator,
    settings: Settings,
    now: datetime,
    *,
    outside: bool = False,
    actor: str = "command line",
) -> Device:
    """Register one device in the caller's transaction.

    Raises DeviceError (also `outside_grid` unless `outside`, `no_address` for a camera without one, `reserved_code`,
    `unknown_parent`, `not_a_gateway`), CrsError, CoordinateError, AddressError, SceneError.
    """
    if new.code == settings.mqtt.username:
        raise DeviceError("reserved_code", f"{new.code} is the platform's own log-in")
    position = place_device(new.code, new.lon, new.lat, new.crs, locator, outside=outside)
    record = DeviceRecord(
        code=new.code,
        kind=new.kind,
        name=new.name,
        **position,
        settings=dict(new.settings),
        enabled=new.enabled,
        parent_id=find_gateway(connection, new.parent).id if new.parent else None,
        **{name: getattr(new, name) for name in TEXT_FIELDS},
    )
    device = _add_camera(connection, record, new, settings, now) if new.kind == "camera" else None
    device = device or add_device(connection, record, now)
    write_audit(connection, now, actor=actor, action="device_added", subject=new.code, detail={"kind": new.kind})
    return device


def _add_camera(
    connection: Connection, record: DeviceRecord, new: NewDevice, settings: Settings, now: datetime
) -> Device:
    if not new.url:
        raise DeviceError("no_address", f"{new.code}: a camera needs its RTSP address (--url)")
    facts = {name: getattr(new, name) for name in FACTS}
    check_facts(facts)
    for url in (new.url, new.substream_url):
        if url:
            check_source(url, settings.camera.allowed_networks)
    scene = dict(new.scene) if new.scene is not None else {"zones": []}
    parse_scene(scene, discover())
    device = add_camera(
        connection,
        record,
        new.url,
        now,
        scene=scene,
        heading_deg=new.heading_deg,
        fov_deg=new.fov_deg,
        range_m=new.range_m,
    )
    write_facts(connection, device.id, facts)
    return device


class Position(TypedDict):
    """Where a device is: as the map has it, as it was given, and the cell."""

    lon: float
    lat: float
    source_crs: str
    source_lon: float
    source_lat: float
    cell_code: str
    area_code: str


def place_device(code: str, lon: float, lat: float, crs: str, locator: Locator, *, outside: bool) -> Position:
    """A position given in `crs` as columns of the register.

    Raises DeviceError (outside_grid unless `outside`), CrsError, CoordinateError.
    """
    map_lon, map_lat = to_cgcs2000(lon, lat, crs)
    place = locator.locate(map_lon, map_lat)
    if place is None and not outside:
        raise DeviceError("outside_grid", f"{code}: {map_lon:.6f}, {map_lat:.6f} lies in no cell (is {crs} right?)")
    return Position(
        lon=map_lon,
        lat=map_lat,
        source_crs=crs,
        source_lon=lon,
        source_lat=lat,
        cell_code=place.cell_code if place else "",
        area_code=place.area_code if place else "",
    )


def find_gateway(connection: Connection, code: str) -> Device:
    """The gateway of that code.

    Raises DeviceError (unknown_parent, not_a_gateway).
    """
    found = read_devices_by_code(connection, [code]).get(code)
    if found is None:
        raise DeviceError("unknown_parent", f"there is no gateway {code}")
    if found.kind != "gateway":
        raise DeviceError("not_a_gateway", f"{code} is a {found.kind}: devices hang on a gateway")
    return found


def change_device(
    connection: Connection,
    device: Device,
    changes: Mapping[str, Any],
    locator: Locator,
    now: datetime,
    *,
    outside: bool = False,
    actor: str = "command line",
) -> Device:
    """Change what the register says: keys of `changes` are name, enabled, settings, parent (a code, '' for none), the
    fields in words, and lon, lat, crs together. Code and kind stay what they are: messages and readings go by them.

    Raises DeviceError (unknown_field, bad_text, bad_settings, outside_grid, unknown_parent, not_a_gateway), CrsError,
    CoordinateError.
    """
    values: dict[str, Any] = {name: changes[name] for name in ("name", "enabled", *TEXT_FIELDS) if name in changes}
    if unknown := set(changes) - {*values, "settings", "parent", "lon", "lat", "crs"}:
        raise DeviceError("unknown_field", f"{', '.join(sorted(unknown))}: cannot be changed")
    check_texts({name: value for name, value in values.items() if name != "enabled"})
    if "settings" in changes:
        check_settings(device.kind, changes["settings"])
        values["settings"] = Jsonb(dict(changes["settings"]))
    if "parent" in changes:
        parent = find_gateway(connection, changes["parent"]) if changes["parent"] else None
        if device.kind == "gateway" and parent is not None:
            raise DeviceError("not_a_gateway", f"{device.code} is a gateway itself and hangs on none")
        values["parent_id"] = parent.id if parent else None
    if {"lon", "lat"} & set(changes):
        if not {"lon", "lat"} <= set(changes):
            raise DeviceError("bad_position", "a position is lon and lat")
        crs = changes.get("crs", "EPSG:4490")
        values |= place_device(device.code, changes["lon"], changes["lat"], crs, locator, outside=outside)
    write_changes(connection, device.id, values, now)
    told = {name: value for name, value in changes.items() if name not in ("settings",)}
    write_audit(connection, now, actor=actor, action="device_changed", subject=device.code, detail=told)
    changed = read_device(connection, device.code)
    note_change(connection, ChangeKind.DEVICE, device.id, changed.area_code, now)
    return changed


@dataclass(frozen=True, kw_only=True, slots=True)
class RowResult:
    """What became of a row of a list."""

    line: int
    code: str
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """A list after its rows were tried, in the order of the file. Nothing was registered unless `applied`."""

    rows: tuple[RowResult, ...]
    unknown_headings: tuple[str, ...]
    applied: bool

    @property
    def bad(self) -> int:
        """Rows with problems."""
        return sum(bool(row.problems) for row in self.rows)


def import_devices(
    connection: Connection,
    listed: DeviceList,
    locator: Locator,
    settings: Settings,
    now: datetime,
    *,
    apply: bool,
    actor: str = "command line",
) -> ImportResult:
    """Register every row of a list, all or none: only with `apply` and only when no row has a problem.

    Each row is truly tried, so what is reported is what the database says; gateways go before what hangs on them.
    """
    problems: dict[int, tuple[RowProblem, ...]] = {}
    with connection.transaction() as attempt:
        for row in sorted(listed.rows, key=lambda row: row.values.get("kind") != "gateway"):
            if row.problems:
                problems[row.line] = row.problems
                continue
            try:
                with connection.transaction():
                    register_device(connection, NewDevice(**row.values), locator, settings, now, actor=actor)
            except (ValueError, AddressError, SceneError, psycopg.Error) as error:
                problems[row.line] = (_describe(error),)
        if problems or not apply:
            raise Rollback(attempt)
    rows = tuple(RowResult(line=row.line, code=row.code, problems=problems.get(row.line, ())) for row in listed.rows)
    return ImportResult(rows=rows, unknown_headings=listed.unknown_headings, applied=apply and not problems)


def _describe(error: Exception) -> RowProblem:
    """Raises the error again when it is no fault of the row."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RowProblem("outside_scope", "", "this place is outside your area")
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        raise error
    fields = {"code_taken": "code", "bad_code": "code", "unknown_kind": "kind", "bad_settings": "settings",
              "unknown_parent": "parent", "not_a_gateway": "parent", "no_address": "url",
              "bad_gb_code": "gb_channel_id", "bad_onvif_address": "onvif_address"}  # fmt: skip
    code = error.code if isinstance(error, DeviceError) else _CODES.get(type(error), "bad_value")
    return RowProblem(code, fields.get(code, _FIELDS.get(type(error), "")), str(error))


_CODES: Mapping[type[Exception], str] = {
    CrsError: "unknown_crs",
    CoordinateError: "bad_position",
    AddressError: "bad_address",
    SceneError: "bad_scene",
}
_FIELDS: Mapping[type[Exception], str] = {CrsError: "crs", CoordinateError: "lon", AddressError: "url"}
