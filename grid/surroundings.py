"""Everything that is known of a position in one call: its place in the grid, the component beside it, and words for it.

Per tile of about 30 m the few things that can matter for a position in it are worked out, for a block of tiles at a time
when one of them is first asked about, and kept; a look-up then compares distances with those only. Distances are along the
ground, in the scale that the ellipsoid has at the block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from grid.history import read_components_at
from grid.locate import Locator
from grid.model import Component, Feature, Place
from grid.store import read_components, read_features
from kernel.db import Connection

COMPONENT_LIMIT_M, ROAD_LIMIT_M, LANDMARK_LIMIT_M = 50.0, 150.0, 100.0
"""Farther away than this a component is not the one that is meant, and a road or a place says nothing about where it is."""

_SEMI_MAJOR_M, _ECCENTRICITY_2 = 6_378_137.0, 0.006694380022900788  # CGCS2000
_TILE_M, _BLOCK = 32.0, 20  # tiles are worked out in blocks of so many each way: 640 m
_MOST_TILES = 150_000  # kept at once: a few hundred bytes each
_SLACK = 1.05  # of distances while choosing candidates: the trees are in one scale, a city is not


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """A component near a position, and how far away it is."""

    component: Component
    distance_m: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A road or another named feature near a position; distance 0: the position lies in it."""

    name: str
    layer: str
    distance_m: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What one position is called. `place` is None outside every cell; `surface` is the layer of what lies there, ''
    where nobody drew anything ("road" within half a road's width of its middle line)."""

    lon: float
    lat: float
    place: Place | None
    component: Beside | None
    road: Named | None
    landmark: Named | None
    surface: str

    def address(self, language: str = "zh-CN") -> str:
        """The position in words, in zh-CN or en; '' where nothing is known."""
        place, road, landmark = self.place, self.road, self.landmark
        if language.startswith("zh"):
            areas = f"{place.district_name}{place.street_name}{place.community_name}" if place else ""
            by_road = (
                "" if road is None else road.name if road.distance_m < 1 else f"距{road.name}{road.distance_m:.0f}米"
            )
            by_mark = "" if landmark is None else f"{landmark.name}{_how_near_zh(landmark.distance_m)}"
            return "，".join(part for part in (areas, by_road, by_mark) if part)
        names = (place.community_name, place.street_name, place.district_name) if place else ()
        by_mark = "" if landmark is None else f"{_how_near_en(landmark.distance_m)} {landmark.name}"
        by_road = "" if road is None else f"{_how_near_en(road.distance_m, 'on')} {road.name}"
        return ", ".join(part for part in (by_mark, by_road, *names) if part)


def _how_near_zh(distance_m: float) -> str:
    return "内" if distance_m <= 0 else f"旁{distance_m:.0f}米"


def _how_near_en(distance_m: float, inside: str = "in") -> str:
    return inside if distance_m < (1 if inside == "on" else 1e-9) else f"{distance_m:.0f} m from"


@dataclass(frozen=True, slots=True)
class _Tile:
    """What can matter for a position of the tile; metres of the block's scale from the zero meridian and the equator."""

    lon_m: float
    lat_m: float
    components: tuple[tuple[float, float, Component], ...]
    shapes: NDArray[Any]  # of the roads, then the landmarks, then the grounds
    features: tuple[Feature, ...]
    roads: int
    landmarks: int  # where they end in `features`


class Surveyor:
    """Cells, components and background in memory; safe to share between threads; made anew when `version` changes."""

    def __init__(self, locator: Locator, components: Sequence[Component], features: Sequence[Feature]) -> None:
        self.version = locator.version
        self.locator = locator
        shapes = np.asarray(shapely.from_wkb([feature.geom_wkb for feature in features]), dtype=object)
        # One scale for the trees; each block has its own for the distances that are told.
        lats = [each.lat for each in components] + [float(shape.bounds[1]) for shape in shapes]
        self._lat_m, self._lon_m = metres_per_degree(float(np.median(lats or [30.0])))
        self._components = tuple(components)
        at = np.array([(each.lon, each.lat) for each in components], dtype=np.float64).reshape(-1, 2)
        self._component_xy = at * (self._lon_m, self._lat_m)
        self._component_tree = shapely.STRtree(shapely.points(self._component_xy))
        flat = shapely.transform(shapes, lambda xy: xy * (self._lon_m, self._lat_m))
        drawn = list(zip(features, flat, strict=True))
        self._roads = _Layer([(f, s) for f, s in drawn if f.layer == "road" and f.name])
        self._landmarks = _Layer([(f, s) for f, s in drawn if f.layer != "road" and f.name])
        self._grounds = _Layer([(f, ground) for f, s in drawn if (ground := _ground(f, s)) is not None])
        self._component_tree.query(shapely.Point(0.0, 0.0))  # GEOS builds it when first asked: now, not by two threads
        self._tiles: dict[tuple[int, int], _Tile] = {}

    @classmethod
    def load(cls, connection: Connection, at: datetime | None = None, locator: Locator | None = None) -> "Surveyor":
        """Everything of the database, as it is or as the grid was at a past instant (background has no dates)."""
        components = read_components(connection) if at is None else read_components_at(connection, at)
        return cls(locator or Locator.load(connection, at), components, read_features(connection))

    def survey(self, lon: float, lat: float) -> Surroundings:
        """What one CGCS2000 position in degrees is called."""
        place = self.locator.locate(lon, lat)
        if not (abs(lon) <= 180.0 and abs(lat) <= 90.0):  # also what is no number
            return Surroundings(lon=lon, lat=lat, place=None, component=None, road=None, landmark=None, surface="")
        key = int(lon * self._lon_m // _TILE_M), int(lat * self._lat_m // _TILE_M)
        tile = self._tiles.get(key)
        if tile is None:
            tile = self._make_block(*key)
        x, y = lon * tile.lon_m, lat * tile.lat_m
        road = landmark = None
        surface = ""
        if tile.features:
            distances: list[float] = shapely.distance(tile.shapes, shapely.Point(x, y)).tolist()
            road = _nearest(tile.features, distances, 0, tile.roads, ROAD_LIMIT_M)
            landmark = _nearest(tile.features, distances, tile.roads, tile.landmarks, LANDMARK_LIMIT_M)
            for at in range(tile.landmarks, len(distances)):
                if distances[at] == 0.0:
                    surface = tile.features[at].layer
                    break
        return Surroundings(
            lon=lon,
            lat=lat,
            place=place,
            component=_nearest_component(tile.components, x, y),
            road=road,
            landmark=landmark,
            surface=surface,
        )

    def _make_block(self, column: int, row: int) -> _Tile:
        """Work out all tiles of the block that this one is in; that one."""
        west, south = column // _BLOCK * _BLOCK, row // _BLOCK * _BLOCK
        lat_m, lon_m = metres_per_degree((south + _BLOCK / 2) * _TILE_M / self._lat_m)
        scale = np.array((lon_m / self._lon_m, lat_m / self._lat_m))
        at = np.array([(west + c, south + r) for r in range(_BLOCK) for c in range(_BLOCK)], dtype=np.int64)
        middles = shapely.points((at + 0.5) * _TILE_M)
        near = _candidates(self._component_tree, middles, COMPONENT_LIMIT_M)
        used = np.unique(np.concatenate(near))
        beside = {
            at: (float(x), float(y), self._components[at])
            for at, (x, y) in zip(used.tolist(), (self._component_xy[used] * scale).tolist(), strict=True)
        }
        layers = [
            layer.scaled(found, scale)
            for layer, found in (
                (self._roads, _candidates(self._roads.tree, middles, ROAD_LIMIT_M)),
                (self._landmarks, _candidates(self._landmarks.tree, middles, LANDMARK_LIMIT_M)),
                (self._grounds, _candidates(self._grounds.tree, middles, 0.0)),
            )
        ]
        made: dict[tuple[int, int], _Tile] = {}
        for number, key in enumerate(at.tolist()):
            found = [layer[number] for layer in layers]
            features = tuple(feature for each in found for feature, _ in each)
            shapes = np.empty(len(features), dtype=object)
            shapes[:] = [shape for each in found for _, shape in each]
            made[key[0], key[1]] = _Tile(
                lon_m,
                lat_m,
                tuple([beside[i] for i in near[number].tolist()]),
                shapes,
                features,
                len(found[0]),
                len(found[0]) + len(found[1]),
            )
        if len(self._tiles) >= _MOST_TILES:
            self._tiles = {}
        self._tiles.update(made)
        return made[column, row]  # another thread may have emptied the tiles meanwhile


class _Layer:
    """Features, and the tree that finds them."""

    def __init__(self, features: Sequence[tuple[Feature, BaseGeometry]]) -> None:
        # What lies on top is asked first, small before large; and of two equally near the same one every time.
        ordered = sorted(features, key=lambda pair: (pair[1].area, pair[0].layer, pair[0].name, pair[0].id.int))
        self._features = [feature for feature, _ in ordered]
        self._shapes = np.array([shape for _, shape in ordered], dtype=object)
        self.tree = shapely.STRtree(self._shapes)
        self.tree.query(shapely.Point(0.0, 0.0))

    def scaled(
        self, found: list[NDArray[np.int64]], scale: NDArray[np.float64]
    ) -> list[list[tuple[Feature, BaseGeometry]]]:
        """Features and shapes of each tile, in the scale of the block."""
        used = np.unique(np.concatenate(found)) if found else np.array([], dtype=np.int64)
        shapes = shapely.transform(self._shapes[used], lambda xy: xy * scale) if len(used) else []
        drawn = {int(i): (self._features[i], shape) for i, shape in zip(used, shapes, strict=True)}
        return [[drawn[i] for i in each.tolist()] for each in found]


def _candidates(tree: shapely.STRtree, middles: NDArray[Any], limit_m: float) -> list[NDArray[np.int64]]:
    """What can be nearest within the limit for a position of each tile, by number; with no limit, what touches the tile."""
    reach = _TILE_M * math.sqrt(0.5) * _SLACK
    within = np.full(len(middles), reach)
    if limit_m:
        (which, _), distance = tree.query_nearest(
            middles, max_distance=limit_m * _SLACK + reach, return_distance=True, all_matches=False
        )
        within = np.full(len(middles), -1.0)
        within[which] = np.minimum((distance + 2 * reach) * _SLACK, limit_m * _SLACK + reach)
    asked = np.flatnonzero(within >= 0)
    which, found = tree.query(middles[asked], "dwithin", within[asked])
    order = np.lexsort((found, which))
    counts = np.zeros(len(middles), dtype=np.int64)
    counts[asked] = np.bincount(which, minlength=len(asked))
    return np.split(found[order].astype(np.int64), np.cumsum(counts)[:-1])


def _ground(feature: Feature, shape: BaseGeometry) -> BaseGeometry | None:
    """What of the ground a feature covers: an area itself, a road as wide as its file says; None for other lines."""
    if shape.area > 0:
        return shape
    half_m = _half_width_m(feature)
    return shape.buffer(half_m, cap_style="flat") if half_m > 0 else None


def metres_per_degree(lat: float) -> tuple[float, float]:
    """Metres of a degree of latitude and of one of longitude at a latitude, on the ellipsoid."""
    phi = math.radians(lat)
    root = 1.0 - _ECCENTRICITY_2 * math.sin(phi) ** 2
    meridian_m = _SEMI_MAJOR_M * (1.0 - _ECCENTRICITY_2) / root**1.5
    parallel_m = _SEMI_MAJOR_M / math.sqrt(root) * math.cos(phi)
    return math.radians(meridian_m), math.radians(parallel_m)


def _half_width_m(feature: Feature) -> float:
    width = feature.properties.get("width_m") if feature.layer == "road" else None
    return float(width) / 2 if isinstance(width, int | float) and 0 < width < 200 else 0.0


def _nearest_component(components: tuple[tuple[float, float, Component], ...], x: float, y: float) -> Beside | None:
    """The nearest within the limit; of two equally near the one that comes first by standard, kind and code."""
    best, chosen = COMPONENT_LIMIT_M * COMPONENT_LIMIT_M, None
    for east, north, component in components:
        square = (east - x) * (east - x) + (north - y) * (north - y)
        if square < best or (chosen is None and square == best):
            best, chosen = square, component
    return None if chosen is None else Beside(component=chosen, distance_m=math.sqrt(best))


def _nearest(
    features: tuple[Feature, ...], distances: list[float], first: int, end: int, limit_m: float
) -> Named | None:
    if first == end:
        return None
    best = min(range(first, end), key=distances.__getitem__)
    if distances[best] > limit_m:
        return None
    return Named(name=features[best].name, layer=features[best].layer, distance_m=distances[best])
