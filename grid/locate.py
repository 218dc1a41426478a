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
        found = self._made_raster().look_up(xy)
        unsure = np.flatnonzero(found == _UNSURE)
        found[unsure] = self._search(xy[unsure])
        return found

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
    """Tiles of about 20 m that say which one cell contains all of them, or that one must look closely."""

    def __init__(self, shapes: NDArray[Any], tree: shapely.STRtree) -> None:
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
        touched, cell = tree.query(boxes, predicate="intersects")
        self._tiles = np.full(len(boxes), _OUTSIDE, dtype=np.int32)
        self._tiles[touched] = _UNSURE
        alone = np.bincount(touched, minlength=len(boxes))[touched] == 1
        touched, cell = touched[alone], cell[alone]
        inside = shapely.contains_properly(shapes[cell], boxes[touched])
        self._tiles[touched[inside]] = cell[inside]

    def look_up(self, xy: NDArray[np.float64]) -> NDArray[np.int32]:
        """Index of the cell, -1 outside, -2 unsure, for (n, 2) positions."""
        with np.errstate(invalid="ignore"):
            column = np.clip(np.nan_to_num((xy[:, 0] - self._west) / self._side, nan=0.0), 0, self._columns - 1)
            row = np.clip(np.nan_to_num((xy[:, 1] - self._south) / self._side, nan=0.0), 0, self._rows - 1)
        tiles: NDArray[np.int32] = self._tiles[row.astype(np.int64) * self._columns + column.astype(np.int64)]
        return tiles


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
