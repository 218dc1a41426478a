"""Which cell a position lies in.

A cell includes its border. A position on the border of several cells belongs to the one with the lowest code, so it is
decided the same way every time, by one position or by a million.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from grid.code import COMMUNITY_DIGITS, DISTRICT_DIGITS, STREET_DIGITS
from grid.model import GridCell, Place
from grid.store import read_area_names, read_cells, read_version
from kernel.db import Connection

_OUTSIDE, _UNSURE = -1, -2
_RASTER_FROM = 2_000  # fewer positions than this are found faster than a raster is built
_TILE_DEG = 0.0002  # about 20 m: a fifth of a cell's side
_MOST_TILES = 400_000


class Locator:
    """All cells in memory; safe to share between threads; made anew after an import (compare `version`)."""

    def __init__(self, cells: Sequence[GridCell], names: dict[str, str] | None = None, version: str = "") -> None:
        ordered = sorted(cells, key=lambda cell: cell.code)
        self.version = version
        self.codes: tuple[str, ...] = tuple(cell.code for cell in ordered)
        self._shapes: NDArray[Any] = np.asarray(shapely.from_wkb([cell.geom_wkb for cell in ordered]), dtype=object)
        shapely.prepare(self._shapes)
        self._tree = shapely.STRtree(self._shapes)
        self._places = tuple(_place(cell, names or {}) for cell in ordered)
        self._raster: _Raster | None = None
        self._building = threading.Lock()

    @classmethod
    def load(cls, connection: Connection) -> "Locator":
        """Every cell of the database, with the names of the areas above."""
        return cls(read_cells(connection), read_area_names(connection), read_version(connection))

    def locate(self, lon: float, lat: float) -> Place | None:
        """The place of one CGCS2000 position in degrees; None outside every cell, and for what is no number."""
        hits = (
            self._tree.query(shapely.Point(lon, lat), predicate="intersects") if np.isfinite((lon, lat)).all() else ()
        )
        return self._places[min(hits)] if len(hits) else None

    def locate_many(self, points: ArrayLike) -> list[Place | None]:
        """The place of each of (n, 2) positions (lon, lat); None where `locate` says None."""
        return [None if index < 0 else self._places[index] for index in self.locate_indices(points)]

    def locate_indices(self, points: ArrayLike) -> NDArray[np.int32]:
        """Index into `codes` of each of (n, 2) positions, (n,); -1 outside every cell."""
        xy = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if len(xy) < _RASTER_FROM or not self.codes:
            return self._search(xy)
        return self._made_raster().look_up(xy)

    def _search(self, xy: NDArray[np.float64]) -> NDArray[np.int32]:
        """Exact: every cell that touches the position, and of those the first, which has the lowest code."""
        found = np.full(len(xy), len(self.codes), dtype=np.int32)
        finite = np.flatnonzero(np.isfinite(xy).all(axis=1))
        which, cell = self._tree.query(shapely.points(xy[finite]), predicate="intersects")
        np.minimum.at(found, finite[which], cell.astype(np.int32))
        found[found == len(self.codes)] = _OUTSIDE
        return found

    def _made_raster(self) -> "_Raster":
        with self._building:
            if self._raster is None:
                self._raster = _Raster(self._shapes, self._tree)
            return self._raster


class _Raster:
    """Tiles of about 20 m, each with the one cell that contains all of it, or with the cells that touch it."""

    def __init__(self, shapes: NDArray[Any], tree: shapely.STRtree) -> None:
        self._shapes = shapes
        west, south, east, north = shapely.total_bounds(shapes)
        self._side = max(_TILE_DEG, float(np.sqrt((east - west) * (north - south) / _MOST_TILES)))
        self._west, self._south = west - self._side, south - self._side  # a ring of tiles outside on every side
        self._columns = int((east - self._west) / self._side) + 2
        self._rows = int((north - self._south) / self._side) + 2
        left = self._west + np.arange(self._columns) * self._side
        below = self._south + np.arange(self._rows) * self._side
        # A tile is made a little larger than it is, so that rounding in look_up cannot reach beyond it.
        slack = self._side * 1e-6
        x, y = (grid.ravel() for grid in np.meshgrid(left, below))
        boxes = shapely.box(x - slack, y - slack, x + self._side + slack, y + self._side + slack)
        tile, cell = tree.query(boxes, predicate="intersects")
        order = np.lexsort((cell, tile))  # the cells of a tile from the lowest code up
        tile, self._cells = tile[order], cell[order].astype(np.int32)
        self._count = np.bincount(tile, minlength=len(boxes))
        self._first = np.cumsum(self._count) - self._count
        self._tiles = np.where(self._count > 0, _UNSURE, _OUTSIDE).astype(np.int32)
        alone = self._count[tile] == 1
        tile, cell = tile[alone], self._cells[alone]
        inside = shapely.contains_properly(shapes[cell], boxes[tile])
        self._tiles[tile[inside]] = cell[inside]
        # GEOS indexes a prepared shape when it is first asked, without a lock: ask each here, before threads share them.
        middle = shapely.get_coordinates(shapely.centroid(shapely.envelope(shapes)))
        shapely.intersects_xy(shapes, middle[:, 0], middle[:, 1])

    def look_up(self, xy: NDArray[np.float64]) -> NDArray[np.int32]:
        """Index of the cell, -1 outside, for (n, 2) positions: exact, as every cell of an unsure tile is asked in turn."""
        column = _tile_of(xy[:, 0], self._west, self._side, self._columns)
        tile = _tile_of(xy[:, 1], self._south, self._side, self._rows) * self._columns + column
        found: NDArray[np.int32] = self._tiles[tile]
        left = np.flatnonzero(found == _UNSURE)
        found[left] = _OUTSIDE
        turn = 0
        while len(left):
            cell = self._cells[self._first[tile[left]] + turn]
            hit = shapely.intersects_xy(self._shapes[cell], xy[left, 0], xy[left, 1])
            found[left[hit]] = cell[hit]
            turn += 1
            left = left[~hit & (self._count[tile[left]] > turn)]
        return found


def _tile_of(degrees: NDArray[np.float64], start: float, side: float, count: int) -> NDArray[np.int64]:
    """Row or column of each position; what is far away or no number falls into the ring outside."""
    with np.errstate(invalid="ignore", over="ignore"):
        tile = np.clip(np.nan_to_num((degrees - start) / side, nan=0.0), 0, count - 1)
    return tile.astype(np.int64)


def _place(cell: GridCell, names: dict[str, str]) -> Place:
    community = cell.code[:COMMUNITY_DIGITS]
    street, district = cell.code[:STREET_DIGITS], cell.code[:DISTRICT_DIGITS]
    grid = cell.responsibility_grid_code or ""
    return Place(
        cell_code=cell.code,
        grid_code=grid,
        community_code=community,
        street_code=street,
        district_code=district,
        grid_name=names.get(grid, ""),
        community_name=names.get(community, ""),
        street_name=names.get(street, ""),
        district_name=names.get(district, ""),
    )
