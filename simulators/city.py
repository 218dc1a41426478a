"""A simulated city: cameras with their corners, devices and staff at sites of a district, chosen by a seed.

`City.build` decides; `City.plan` says it as plain JSON, for whoever registers the devices with a platform and for the
stage that plays them; `City.read` takes that JSON again. The cells in it are the district's own, for the score alone.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np

from devices.registry import KINDS
from kernel.types import LonLat
from simulators.corner import FRAME_SIZE
from simulators.district.model import METRES_PER_DEGREE, District, Site, SiteKind
from simulators.street import Street

DEMO_SEEDS_END = 1_000_000_000
"""Streets of the demo have seeds below this; the training data are drawn from above (simulators/dataset.py)."""

CAMERA_FPS = 5.0
ZONE_MARGIN_M = 4.0
RULE_OF_ZONE = {
    "no_parking": "illegal_parking",
    "queue": "illegal_parking",
    "bin": "litter_overflow",
    "litter_spot": "litter_overflow",
    "square": "crowding",
}
RULE_PARAMETERS: dict[str, dict[str, Any]] = {
    "illegal_parking": {"dwell_s": 12},
    "litter_overflow": {"hold_s": 6, "stay_s": 15},
    "crowding": {"limit": 5, "hold_s": 6, "clear_s": 4},
}
CROWD_LIMIT = 5
REACH_OF_ZONE: dict[str, tuple[float, float]] = {
    "no_parking": (1.1, 1.6), "queue": (1.0, 1.3), "bin": (1.5, 1.6), "litter_spot": (1.3, 1.3), "square": (1.15, 1.2),
}  # fmt: skip
"""How much wider and deeper than the spot itself a zone is drawn: what is judged is the middle of a box's lower edge,
which lies nearer to the camera than the middle of the thing."""
ZONE_NAMES = {
    "no_parking": "禁停路侧", "queue": "停止线前车道", "bin": "垃圾箱", "litter_spot": "人行道", "square": "小广场",
}  # fmt: skip
PLACE_OF_ZONE = {title: place for place, title in ZONE_NAMES.items()}

KINDS_OF_SITES = {
    "smoke_alarm": SiteKind.BUILDING,
    "door_sensor": SiteKind.BUILDING,
    "river_sluice": SiteKind.RIVER,
    "parking_gate": SiteKind.PARKING_LOT,
}
CODE_OF_KIND = {"smoke_alarm": "SMK", "door_sensor": "DOR", "river_sluice": "RIV", "parking_gate": "GAT"}
COUNT_OF_KIND = {"smoke_alarm": 7, "door_sensor": 7, "river_sluice": 4, "parking_gate": 6}
CAMERA_COUNT, WORKER_COUNT = 6, 8
REACHES_M = (900.0, 1300.0, 2000.0, 9000.0)
FAMILY_NAMES = "王李张刘陈杨黄赵周吴徐孙马朱胡林郭何高罗"
GIVEN_NAMES = (
    "建国",
    "秀英",
    "志强",
    "丽华",
    "海燕",
    "国平",
    "晓东",
    "雪梅",
    "文斌",
    "佳怡",
    "伟民",
    "慧敏",
    "永康",
    "春兰",
)

SILENT_DOOR, NIGHT_DOOR = "silent", "night"


@dataclass(frozen=True, kw_only=True, slots=True)
class CityDevice:
    """A device that is no camera. `role` names what the scenario needs it for, '' for any."""

    code: str
    kind: str
    name: str
    lon: float
    lat: float
    cell: str
    settings: dict[str, Any] = field(default_factory=dict)
    role: str = ""

    def json(self) -> dict[str, Any]:
        """As the plan has it."""
        return {
            "code": self.code, "kind": self.kind, "name": self.name, "lon": self.lon, "lat": self.lat,
            "source_crs": "EPSG:4490", "settings": self.settings, "role": self.role, "cell": self.cell,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class CityCamera:
    """A camera, the seed of its street, and the ground positions and cells of its zones."""

    code: str
    name: str
    lon: float
    lat: float
    cell: str
    heading_deg: float
    fov_deg: float
    range_m: float
    street_seed: int
    zones: tuple[dict[str, Any], ...]
    zone_cells: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    def json(self, url: str) -> dict[str, Any]:
        """As the plan has it."""
        return {
            "code": self.code, "kind": "camera", "name": self.name, "lon": self.lon, "lat": self.lat,
            "source_crs": "EPSG:4490", "settings": self.settings, "heading_deg": self.heading_deg,
            "fov_deg": self.fov_deg, "range_m": self.range_m, "url": url, "scene": {"zones": list(self.zones)},
            "street_seed": self.street_seed, "cell": self.cell, "zone_cells": self.zone_cells,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A member of staff and where a worker's shift begins. `by_hand`: played by whoever looks at the demo."""

    name: str
    display_name: str
    roles: tuple[str, ...]
    scope: str
    responsibility_grid_code: str | None
    lon: float
    lat: float
    by_hand: bool = False

    def json(self) -> dict[str, Any]:
        """As the plan has it."""
        return {
            "name": self.name, "display_name": self.display_name, "roles": list(self.roles), "scope": self.scope,
            "responsibility_grid_code": self.responsibility_grid_code, "lon": self.lon, "lat": self.lat,
            "by_hand": self.by_hand,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class City:
    """All that is simulated of one city."""

    seed: int
    cameras: tuple[CityCamera, ...]
    devices: tuple[CityDevice, ...]
    people: tuple[Person, ...]

    @classmethod
    def build(cls, seed: int, district: District, now: datetime, timezone: str = "Asia/Shanghai") -> City:
        """A city for that seed (0 to DEMO_SEEDS_END - 1) around one neighbourhood of the district.

        `now` and `timezone` only move the clock windows of the doors, so that the night rule can be shown by day.
        Raises ValueError for a seed of the training data, LookupError for a district without room.
        """
        if not 0 <= seed < DEMO_SEEDS_END:
            raise ValueError(f"a demo's seed lies from 0 to {DEMO_SEEDS_END - 1}, not {seed}")
        rng = random.Random(f"{seed}/city")
        middle = district.site(SiteKind.RIVER, rng).position
        sites = _Sites(district, rng, middle)
        cameras = tuple(_place_camera(seed, n, sites) for n in range(1, CAMERA_COUNT + 1))
        devices = tuple(_place_devices(sites, rng, now, timezone))
        return cls(seed=seed, cameras=cameras, devices=devices, people=_hire(district, rng, cameras, devices))

    @classmethod
    def read(cls, plan: Mapping[str, Any]) -> City:
        """The city of a plan. Raises KeyError when something is missing from it."""
        cameras = tuple(
            CityCamera(
                code=c["code"], name=c["name"], lon=c["lon"], lat=c["lat"], cell=c["cell"], heading_deg=c["heading_deg"],
                fov_deg=c["fov_deg"], range_m=c["range_m"], street_seed=c["street_seed"], zones=tuple(c["scene"]["zones"]),
                zone_cells=dict(c["zone_cells"]), settings=dict(c["settings"]),
            )
            for c in plan["cameras"]
        )  # fmt: skip
        devices = tuple(
            CityDevice(
                code=d["code"], kind=d["kind"], name=d["name"], lon=d["lon"], lat=d["lat"], cell=d["cell"],
                settings=dict(d["settings"]), role=d["role"],
            )
            for d in plan["devices"]
        )  # fmt: skip
        people = tuple(
            Person(
                name=p["name"], display_name=p["display_name"], roles=tuple(p["roles"]), scope=p["scope"],
                responsibility_grid_code=p["responsibility_grid_code"], lon=p["lon"], lat=p["lat"],
                by_hand=p["by_hand"],
            )
            for p in plan["people"]
        )  # fmt: skip
        return cls(seed=int(plan["seed"]), cameras=cameras, devices=devices, people=people)

    def plan(self, rtsp_host: str, rtsp_port: int) -> dict[str, Any]:
        """The city as JSON: `devices`, `cameras` and `people` to register, and what only the simulation needs."""
        return {
            "seed": self.seed,
            "devices": [device.json() for device in self.devices],
            "cameras": [camera.json(f"rtsp://{rtsp_host}:{rtsp_port}/{camera.code}") for camera in self.cameras],
            "people": [person.json() for person in self.people],
        }

    def camera(self, code: str) -> CityCamera | None:
        """The camera of that code, or None."""
        return next((camera for camera in self.cameras if camera.code == code), None)

    def device(self, code: str) -> CityDevice | None:
        """The device of that code, or None."""
        return next((device for device in self.devices if device.code == code), None)


class _Sites:
    """Sites in cells of their own, near the middle where there are some."""

    def __init__(self, district: District, rng: random.Random, middle: LonLat) -> None:
        self.district, self.rng = district, rng
        self._middle = middle
        self.taken: set[str] = set()
        self._counts: Counter[str] = Counter()

    def draw(self, kind: SiteKind) -> Site:
        for within_m in REACHES_M:
            try:
                site = self.district.site(kind, self.rng, taken=self.taken, near=self._middle, within_m=within_m)
            except LookupError:
                continue
            self.taken.add(site.cell_code)
            return site
        raise LookupError(f"no free {kind} site in the district")

    def name(self, site: Site, title: str) -> str:
        """A name that people would use, numbered where one place has several."""
        key = f"{site.place}{title}"
        self._counts[key] += 1
        return key if self._counts[key] == 1 else f"{key} {self._counts[key]}"


def _place_camera(seed: int, number: int, sites: _Sites) -> CityCamera:
    street_seed = random.Random(f"{seed}/street/{number}").randrange(DEMO_SEEDS_END)
    street = Street(street_seed, width=FRAME_SIZE[0], height=FRAME_SIZE[1])
    spots = {name: (street.places[name].x_m, street.places[name].y_m) for name in RULE_OF_ZONE}
    for _ in range(40):
        site = sites.draw(SiteKind.KERB)
        heading_deg = _find_heading(sites.district, site, list(spots.values()), sites.rng)
        if heading_deg is not None:
            break
    else:
        raise LookupError("no kerb with room for a camera and its zones within one cell")
    zones, cells = [], {}
    for name, (x_m, y_m) in spots.items():
        where = to_lon_lat(site.position, heading_deg, x_m, y_m)
        rule = RULE_OF_ZONE[name]
        zones.append({
            "name": ZONE_NAMES[name], "rule": rule, "polygon": draw_zone(street, name),
            "lon": where.lon, "lat": where.lat, "parameters": dict(RULE_PARAMETERS[rule]),
        })  # fmt: skip
        cells[ZONE_NAMES[name]] = sites.district.cell_at(where.lon, where.lat) or ""
    settings = {"hold_s": 4.0, "clear_s": 3.0}
    KINDS["camera"].settings.model_validate(settings)
    return CityCamera(
        code=f"CAM-{number:02d}",
        name=sites.name(site, " 摄像机"),
        lon=site.lon,
        lat=site.lat,
        cell=site.cell_code,
        heading_deg=round(heading_deg, 1),
        fov_deg=round(math.degrees(2 * math.atan(FRAME_SIZE[0] / 2 / street.camera.focal_px)), 1),
        range_m=35.0,
        street_seed=street_seed,
        zones=tuple(zones),
        zone_cells=cells,
        settings=settings,
    )


def draw_zone(street: Street, place: str) -> list[list[float]]:
    """The polygon of a zone over a place in picture coordinates, 0 to 1, clipped to the picture."""
    corners = street.places[place].polygon_m
    middle = corners.mean(axis=0)
    along, across = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    wide, deep = REACH_OF_ZONE[place]
    wider = np.array([middle + along * wide * u + across * deep * v for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    hull = cv2.convexHull((street.project(wider) / [street.width, street.height]).astype(np.float32))
    _, clipped = cv2.intersectConvexConvex(hull, np.array([[[0, 0]], [[1, 0]], [[1, 1]], [[0, 1]]], np.float32))
    return [[round(float(x), 4), round(float(y), 4)] for x, y in np.asarray(clipped).reshape(-1, 2)]


def _find_heading(district: District, site: Site, spots: list[tuple[float, float]], rng: random.Random) -> float | None:
    """A direction in which every spot, with a margin, lies in the camera's own cell; across its road if possible."""
    across = (site.heading_deg or 0.0) + rng.choice((90.0, 270.0))
    for turn in (0, 15, -15, 30, -30, 180, 165, 195, 150, 210, 60, -60, 90, -90, 120, 240):
        heading_deg = (across + turn) % 360
        corners = [
            to_lon_lat(site.position, heading_deg, x + dx, y + dy)
            for x, y in spots
            for dx in (-ZONE_MARGIN_M, ZONE_MARGIN_M)
            for dy in (-ZONE_MARGIN_M, ZONE_MARGIN_M)
        ]
        if all(district.cell_at(p.lon, p.lat) == site.cell_code for p in corners):
            return round(heading_deg, 1)
    return None


def to_lon_lat(origin: LonLat, heading_deg: float, x_m: float, y_m: float) -> LonLat:
    """The position of a ground point x_m to the right of and y_m ahead of somebody at `origin` who faces `heading_deg`
    (clockwise from north)."""
    turn = math.radians(heading_deg)
    east_m = x_m * math.cos(turn) + y_m * math.sin(turn)
    north_m = y_m * math.cos(turn) - x_m * math.sin(turn)
    return LonLat(
        round(origin.lon + east_m / METRES_PER_DEGREE[0], 7), round(origin.lat + north_m / METRES_PER_DEGREE[1], 7)
    )


def _place_devices(sites: _Sites, rng: random.Random, now: datetime, timezone: str) -> list[CityDevice]:
    made: list[CityDevice] = []
    for kind_name, count in COUNT_OF_KIND.items():
        kind = KINDS[kind_name]
        for number in range(1, count + 1):
            site = sites.draw(KINDS_OF_SITES[kind_name])
            role = {1: SILENT_DOOR, 2: NIGHT_DOOR}.get(number, "") if kind_name == "door_sensor" else ""
            settings = make_settings(kind_name, role, now, timezone)
            kind.settings.model_validate(settings)
            made.append(CityDevice(
                code=f"{CODE_OF_KIND[kind_name]}-{number:02d}", kind=kind_name, name=sites.name(site, f" {kind.title_zh}"),
                lon=site.lon, lat=site.lat, cell=site.cell_code, settings=settings, role=role,
            ))  # fmt: skip
    return made


def make_settings(kind: str, role: str, now: datetime, timezone: str) -> dict[str, Any]:
    """The demo's thresholds for a device: ordinary settings, shortened, and clock windows moved around `now`."""
    local = now.astimezone(ZoneInfo(timezone))

    def clock(hours: float) -> str:
        return (local + timedelta(hours=hours)).strftime("%H:%M:00")

    far = {"night_start": clock(12), "night_end": clock(12.1)}
    if kind == "door_sensor" and role == SILENT_DOOR:
        return {"care": True, "silent_span_s": 45.0, "day_start": "00:00:00", "day_end": "00:00:00", **far}
    if kind == "door_sensor" and role == NIGHT_DOOR:
        return {
            "care": True,
            "night_start": clock(-1),
            "night_end": clock(5),
            "night_span_s": 60.0,
            "night_openings": 4,
        }
    if kind == "door_sensor":
        # The same window and count as at the night door: used normally, it must open nothing.
        return {"care": True, "night_start": clock(-1), "night_end": clock(5), "night_span_s": 60.0, "night_openings": 4,
                "day_start": "00:00:00", "day_end": "00:00:00"}  # fmt: skip
    if kind == "river_sluice":
        return {"level_limit_m": 2.5, "hysteresis_m": 0.1, "hold_s": 3.0}
    if kind == "parking_gate":
        return {"open_limit_s": 30.0}
    return {}


def _hire(
    district: District, rng: random.Random, cameras: tuple[CityCamera, ...], devices: tuple[CityDevice, ...]
) -> tuple[Person, ...]:
    """First `worker`, whose grid has the first camera and whose phone is for a person; then simulated workers for the
    responsibility grids with the most to look after, and an operator."""
    home = district.cells[cameras[0].cell].grid_code
    cells = [camera.cell for camera in cameras] + [device.cell for device in devices]
    load = Counter(district.cells[cell].grid_code for cell in cells)
    codes = sorted((code for code in load if code != home), key=lambda code: (-load[code], code))
    families = rng.sample(FAMILY_NAMES, WORKER_COUNT + 2)
    names = [family + given for family, given in zip(families, rng.sample(GIVEN_NAMES, WORKER_COUNT + 2), strict=True)]
    people = [
        _make_worker(district, f"worker{number + 1:02d}", names.pop(), codes[number % len(codes)])
        for number in range(WORKER_COUNT)
    ]
    first = cameras[0]
    desk = Person(
        name="desk01", display_name=names.pop(), roles=("operator",), scope=district.code, responsibility_grid_code=None,
        lon=first.lon, lat=first.lat,
    )  # fmt: skip
    worker = replace(_make_worker(district, "worker", names.pop(), home), lon=first.lon, lat=first.lat, by_hand=True)
    return (worker, *people, desk)


def _make_worker(district: District, name: str, display_name: str, grid_code: str) -> Person:
    grid = district.grids[grid_code]
    return Person(
        name=name, display_name=display_name, roles=("grid_worker",), scope=district.code,
        responsibility_grid_code=grid_code, lon=grid.lon, lat=grid.lat,
    )  # fmt: skip
