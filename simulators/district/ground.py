"""What stands and lies on the ground: roads, rivers, squares, parking lots, parks, buildings; none cut by a cell's border
but roads and rivers, whose middles are the borders."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from simulators.district.layout import Cut, Floats, course_m, to_metres
from simulators.district.number import Numbered
from simulators.district.plan import RIVERS, ROADS, WULIN_SQUARE

Shapes = NDArray[Any]
_CUT_HALF_WIDTH_M = {1: 7.0, 2: 4.0, 3: 2.5}
_CUT_CLASS = {1: "secondary", 2: "minor", 3: "lane"}
_SETBACK_M = 9.0  # of buildings from the middle of a lane


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One background feature in frame metres; `community_code` '' when it belongs to none."""

    layer: str
    name: str
    shape_m: BaseGeometry
    properties: dict[str, Any] = field(default_factory=dict)
    community_code: str = ""


def lay_ground(cells: list[Numbered], cuts: list[Cut], names: dict[str, str], rng: np.random.Generator) -> list[Thing]:
    """Everything on the ground of a numbered district."""
    shapes: Shapes = np.array([cell.piece.ring_m for cell in cells], dtype=object)
    roads, water = _roads(cuts), _water(shapes)
    kept_clear = shapely.union_all(
        [road.shape_m.buffer(road.properties["width_m"] / 2 + 4) for road in roads if road.properties["width_m"] > 8]
        + [river.shape_m.buffer(8) for river in water]
    )
    inner = shapely.difference(shapely.buffer(shapes, -_SETBACK_M, join_style="mitre"), kept_clear)
    plots = [max(shapely.get_parts(shape), key=shapely.area, default=shape) for shape in inner]
    grounds = _open_grounds(cells, plots, names, rng)
    built = _buildings(cells, plots, [ground.shape_m for ground in grounds], names, rng)
    return roads + water + grounds + built


def _roads(cuts: list[Cut]) -> list[Thing]:
    things = []
    for course in ROADS:
        grade = "primary" if course.half_width_m >= 10 else "secondary"
        properties = {"class": grade, "width_m": 2 * course.half_width_m}
        things.append(Thing(layer="road", name=course.name, shape_m=course_m(course.points), properties=properties))
    used: dict[str, int] = defaultdict(int)
    for cut in cuts:
        name = ""
        if cut.rank == 1 and used[cut.street.code] < len(cut.street.roads):
            name = cut.street.roads[used[cut.street.code]]
            used[cut.street.code] += 1
        properties = {"class": _CUT_CLASS[cut.rank], "width_m": 2 * _CUT_HALF_WIDTH_M[cut.rank]}
        things.append(Thing(layer="road", name=name, shape_m=shapely.linestrings(cut.ends_m), properties=properties))
    return things


def _water(shapes: Shapes) -> list[Thing]:
    district = shapely.buffer(shapely.coverage_union_all(shapes), 0)
    things = []
    for course in RIVERS:
        course_line = course_m(course.points)
        bed = shapely.intersection(
            district, course_line.buffer(course.half_width_m, cap_style="flat", join_style="mitre")
        )
        properties = {"kind": "river", "width_m": 2 * course.half_width_m}
        things.append(Thing(layer="water", name=course.name, shape_m=bed, properties=properties))
    return things


def _open_grounds(
    cells: list[Numbered], plots: list[BaseGeometry], names: dict[str, str], rng: np.random.Generator
) -> list[Thing]:
    """In every community a square, two parking lots and a park, each in a cell of its own."""
    wulin = shapely.points(to_metres(np.array([WULIN_SQUARE])))[0]
    by_community: dict[str, list[int]] = defaultdict(list)
    things = []
    for at, cell in enumerate(cells):
        if shapely.intersects(cell.piece.ring_m, wulin):
            things.append(_ground("green", "square", "武林广场", cell, plots[at]))
        elif plots[at].area > 3_000:
            by_community[cell.community_code].append(at)
    for community_code, roomy in by_community.items():
        name = names[community_code].removesuffix("社区")
        chosen = [int(at) for at in rng.permutation(roomy)[:4]]
        for at, (layer, use, title, width_m, depth_m) in zip(
            chosen,
            (
                ("green", "square", f"{name}广场", 52.0, 40.0),
                ("parking_lot", "public", f"{name}停车场", 58.0, 36.0),
                ("parking_lot", "public", f"{name}第二停车场", 50.0, 34.0),
                ("green", "park", f"{name}公园", math.inf, math.inf),
            ),
            strict=False,
        ):
            shape = plots[at] if math.isinf(width_m) else _inset(plots[at], width_m, depth_m)
            things.append(_ground(layer, use, title, cells[at], shape))
    return things


def _ground(layer: str, use: str, name: str, cell: Numbered, shape_m: BaseGeometry) -> Thing:
    return Thing(layer=layer, name=name, shape_m=shape_m, properties={"use": use}, community_code=cell.community_code)


def _inset(plot: BaseGeometry, width_m: float, depth_m: float) -> BaseGeometry:
    """A rectangle about a point well inside the plot, along its long side, cut to the plot."""
    middle = shapely.get_coordinates(shapely.centroid(shapely.maximum_inscribed_circle(plot, 1.0).envelope))[0]
    along, across = _axes(plot)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    ring = middle + corners[:, :1] * width_m * along + corners[:, 1:] * depth_m * across
    parts = shapely.get_parts(shapely.intersection(plot, shapely.polygons(ring)))
    return max(parts, key=shapely.area)


def _axes(shape: BaseGeometry) -> tuple[Floats, Floats]:
    """Unit vectors along the two sides of the tightest rectangle; the first is the one nearer to east."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(shape))
    side = corners[1] - corners[0]
    side = side / np.hypot(*side)
    if abs(side[1]) > abs(side[0]):
        side = np.array([side[1], -side[0]])
    side = side if side[0] > 0 else -side
    return side, np.array([-side[1], side[0]])


def _buildings(
    cells: list[Numbered],
    plots: list[BaseGeometry],
    grounds: list[BaseGeometry],
    names: dict[str, str],
    rng: np.random.Generator,
) -> list[Thing]:
    """Slabs in rows, as housing stands there: their fronts to the south, clear of everything else."""
    rings: list[Floats] = []
    homes: list[int] = []
    for at, plot in enumerate(plots):
        if plot.area < 900:
            continue
        for ring in _slabs(plot, rng):
            rings.append(ring)
            homes.append(at)
    slabs = shapely.polygons(np.array(rings))
    home = np.array(homes)
    whole: Shapes = np.array(plots, dtype=object)
    shapely.prepare(whole)
    stands = shapely.contains(whole[home], slabs)
    taken = np.zeros(len(slabs), dtype=bool)
    tree = shapely.STRtree(shapely.buffer(np.array(grounds, dtype=object), 3.0))
    blocked, _ = tree.query(slabs, predicate="intersects")
    taken[blocked] = True
    counted: dict[str, int] = defaultdict(int)
    things = []
    for index in np.flatnonzero(stands & ~taken):
        code = cells[home[index]].community_code
        counted[code] += 1
        things.append(
            Thing(
                layer="building",
                name=f"{names[code].removesuffix('社区')}{counted[code]}幢",
                shape_m=slabs[index],
                properties={"floors": int(rng.choice([5, 6, 6, 7, 11, 18]))},
                community_code=code,
            )
        )
    return things


def _slabs(plot: BaseGeometry, rng: np.random.Generator) -> list[Floats]:
    """Corners (4, 2) of slabs in rows across the plot; in an odd-shaped plot some may stick out."""
    axes = np.array(_axes(plot))
    ring = shapely.get_coordinates(plot.exterior) @ axes.T
    south, north = float(ring[:, 1].min()), float(ring[:, 1].max())
    south, north = south + 0.05 * (north - south), north - 0.05 * (north - south)
    depth, gap = rng.uniform(11.0, 16.0), rng.uniform(15.0, 24.0)
    rows = max(1, int((north - south + gap) / (depth + gap)))
    pitch = (north - south - depth) / max(1, rows - 1)
    slabs = []
    for row in range(rows):
        v = south + row * pitch if rows > 1 else (south + north - depth) / 2
        west, east = _reach(ring, v, v + depth)
        columns = max(1, round((east - west) / 55.0))
        length = (east - west - 7.0 * (columns - 1)) / columns
        if length < 14.0:
            continue
        for column in range(columns):
            u = west + column * (length + 7.0) + rng.uniform(0.01, 0.07) * length
            reach = length * rng.uniform(0.84, 0.92)
            slabs.append(np.array([[u, v], [u + reach, v], [u + reach, v + depth], [u, v + depth]]) @ axes)
    return slabs


def _reach(ring: Floats, south: float, north: float) -> tuple[float, float]:
    """From where to where, west to east, a convex ring is open at both latitudes; empty when the second is not larger."""
    lows, highs = [], []
    for v in (south, north):
        begin, end = ring[:-1], ring[1:]
        crosses = (begin[:, 1] > v) != (end[:, 1] > v)
        share = (v - begin[crosses, 1]) / (end[crosses, 1] - begin[crosses, 1])
        u = begin[crosses, 0] + share * (end[crosses, 0] - begin[crosses, 0])
        if not len(u):
            return 0.0, 0.0
        lows.append(float(u.min()))
        highs.append(float(u.max()))
    return max(lows), min(highs)
