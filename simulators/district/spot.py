"""Sites: spots for devices and events, well inside their cells."""

import math
from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from simulators.district.ground import Shapes, Thing
from simulators.district.layout import Floats, course_m, to_degrees
from simulators.district.model import Site, SiteKind
from simulators.district.number import Numbered
from simulators.district.plan import RIVERS

LEAST_MARGIN_M = 10.0
_KERB_EVERY_M, _BANK_EVERY_M = 25.0, 30.0


def find_sites(cells: list[Numbered], things: list[Thing]) -> list[Site]:
    """At most one site of each kind in each cell, each at least 10 m from every border of its cell."""
    shapes: Shapes = np.array([cell.piece.ring_m for cell in cells], dtype=object)
    tree = shapely.STRtree(shapes)
    borders = shapely.get_exterior_ring(shapes)
    water = shapely.union_all([thing.shape_m for thing in things if thing.layer == "water"])
    found: dict[tuple[SiteKind, str], Site] = {}
    for kind, place, xy, heading_deg in _candidates(things):
        point = shapely.points(xy)
        inside = tree.query(point, predicate="within")
        if len(inside) != 1 or (kind is not SiteKind.RIVER and shapely.intersects(water, point)):
            continue
        code = cells[inside[0]].code
        margin_m = float(shapely.distance(borders[inside[0]], point))
        margin_m = round(margin_m - 0.02, 2)  # the rounding of the degrees
        if margin_m < LEAST_MARGIN_M or (kind, code) in found:
            continue
        lon, lat = (round(float(degree), 7) for degree in to_degrees(xy[None])[0])
        found[kind, code] = Site(
            kind=kind,
            place=place,
            lon=lon,
            lat=lat,
            cell_code=code,
            margin_m=margin_m,
            heading_deg=heading_deg,
        )
    return sorted(found.values(), key=lambda site: (site.kind, site.cell_code))


def _candidates(things: list[Thing]) -> Iterator[tuple[SiteKind, str, Floats, float | None]]:
    for thing in things:
        if thing.layer == "road" and thing.name:
            offset_m = max(LEAST_MARGIN_M + 0.5, thing.properties["width_m"] / 2 + 1.5)
            for xy, heading_deg, along_m, side in _beside(thing.shape_m, offset_m, _KERB_EVERY_M):
                number = 2 * int(along_m / 12.0) + side + 1
                yield SiteKind.KERB, f"{thing.name}{number}号", xy, heading_deg
        elif thing.layer == "building":
            yield SiteKind.BUILDING, thing.name, _middle(thing.shape_m), None
        elif thing.layer == "parking_lot":
            yield SiteKind.PARKING_LOT, thing.name, _middle(thing.shape_m), None
        elif thing.layer == "green" and thing.properties["use"] == "square":
            yield SiteKind.SQUARE, thing.name, _middle(thing.shape_m), None
    for river in RIVERS:
        for xy, heading_deg, along_m, side in _beside(course_m(river.points), river.half_width_m + 3.0, _BANK_EVERY_M):
            bank = ("左岸", "右岸")[side]
            yield SiteKind.RIVER, f"{river.name}{bank}{int(along_m)}米", xy, heading_deg


def _middle(shape_m: BaseGeometry) -> Floats:
    return np.asarray(shapely.get_coordinates(shapely.point_on_surface(shape_m))[0])


def _beside(line_m: BaseGeometry, offset_m: float, every_m: float) -> Iterator[tuple[Floats, float, float, int]]:
    """Points left (0) and right (1) of a line at `offset_m`: position, heading in degrees, metres along, side."""
    along_m: NDArray[np.float64] = np.arange(every_m / 2, line_m.length - every_m / 2, every_m)
    here = shapely.get_coordinates(shapely.line_interpolate_point(line_m, along_m))
    ahead = shapely.get_coordinates(shapely.line_interpolate_point(line_m, along_m + 1.0))
    for at, point, direction in zip(along_m, here, ahead - here, strict=True):
        unit = direction / math.hypot(*direction)
        heading_deg = round(math.degrees(math.atan2(unit[0], unit[1])) % 360.0, 1)
        for side, normal in enumerate((np.array([-unit[1], unit[0]]), np.array([unit[1], -unit[0]]))):
            yield point + offset_m * normal, heading_deg, float(at), side
