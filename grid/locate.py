"""Which cell a position lies in.

A cell includes its border. A position on the border of several cells belongs to the one with the lowest code, so it is
decided the same way every time, by one position or by a million.
"""

import math
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from grid.code import COMMUNITY_DIGITS, DISTRICT_DIGITS, STREET_DIGITS
from grid.history import read_area_names_at, read_cells_at
from grid.model import GridCell, Place
from grid.store import read_area_names, read_cells, read_version
from kernel.db import Connection

_OUTSIDE, _UNSURE = -1, -2
_RASTER_FROM = 2_000  # fewer positions than this are found faster than a raster is built
_RASTER_AFTER = 20_000  # single positions asked one by one, after which the raster is built for the next
_TILE_DEG = 0.0002  # about 20 m: a fifth of a cell's side
_MOST_TILES = 400_000
_PARTS = 4  # a tile that a border crosses is divided so many times each way: parts of 5 m


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
        self._asked = 0
        self._building = threading.Lock()

    @classmethod
    def load(cls, connection: Connection, at: datetime | None = None) -> "Locator":
        """Every cell of the database, with the names of the areas above: those of now, or of a past instant."""
        if at is not None:
            return cls(read_cells_at(connection, at), read_area_names_at(connection, at), f"{at.isoformat()}")
        return cls(read_cells(connection), read_area_names(connection), read_version(connection))

    def locate(self, lon: float, lat: float) -> Place | None:
        """The place of one CGCS2000 position in degrees; None outside every cell, and for what is no number."""
        index = self.cell_index(lon, lat)
        return None if index < 0 else self._places[index]

    def cell_index(self, lon: float, lat: float) -> int:
        """Index into `codes` of the cell of one position, -1 outside every cell: the quickest single look-up."""
        if self._raster is not None:
            return self._raster.find(lon, lat)
        self._asked += 1
        if self._asked > _RASTER_AFTER and self.codes and self._building.acquire(blocking=False):
            try:  # whoever else asks meanwhile goes on with the tree
                self._raster = self._raster or _Raster(self._shapes, self._tree)
            finally:
                self._building.release()
        if not (math.isfinite(lon) and math.isfinite(lat)):
            return _OUTSIDE
        hits = self._tree.query(shapely.Point(lon, lat), predicate="intersects")
        return int(min(hits)) if len(hits) else _OUTSIDE

    def prepare(self) -> None:
        """Build now what otherwise is built at the first bulk: for a program that will ask very often."""
        if self.codes:
            self._made_raster()

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
    """Tiles of about 20 m, each with the one cell that contains all of it; those that a border crosses are divided into
    parts of 5 m, each with its cell, or with all cells that touch it, which are then asked one after the other."""

    def __init__(self, shapes: NDArray[Any], tree: shapely.STRtree) -> None:
        self._shapes = shapes
        west, south, east, north = (float(each) for each in shapely.total_bounds(shapes))
        self._side = max(_TILE_DEG, float(np.sqrt((east - west) * (north - south) / _MOST_TILES)))
        self._west, self._south = west - self._side, south - self._side  # a ring of tiles outside on every side
        self._columns = int((east - self._west) / self._side) + 2
        self._rows = int((north - self._south) / self._side) + 2
        left = self._west + np.arange(self._columns) * self._side
        below = self._south + np.arange(self._rows) * self._side
        x, y = (grid.ravel() for grid in np.meshgrid(left, below))
        boxes = self._boxes(x, y, self._side)
        touched, cell = tree.query(boxes, predicate="intersects")
        self._tiles, first, count, cells = _settle(shapes, touched, cell, boxes)
        unsure = np.flatnonzero(self._tiles == _UNSURE)
        # A divided tile holds where its parts begin, below -1: part p of tile t is number -2 - _tiles[t] + p.
        self._tiles[unsure] = _UNSURE - np.arange(len(unsure), dtype=np.int32) * _PARTS**2
        part = self._side / _PARTS
        step = np.arange(_PARTS) * part
        part_x = (x[unsure][:, None, None] + step[None, None, :]).repeat(_PARTS, axis=1).ravel()
        part_y = (y[unsure][:, None, None] + step[None, :, None]).repeat(_PARTS, axis=2).ravel()
        boxes = self._boxes(part_x, part_y, part)
        pairs = count[unsure] * _PARTS**2  # of each tile: its cells with each of its parts
        which = np.repeat(np.arange(len(boxes)), np.repeat(count[unsure], _PARTS**2))
        offset = np.arange(len(which)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        candidate = cells[np.repeat(first[unsure], pairs) + offset % np.repeat(count[unsure], pairs)]
        touching = shapely.intersects(shapes[candidate], boxes[which])
        self._parts, self._first, self._count, self._cells = _settle(
            shapes, which[touching], candidate[touching], boxes
        )
        # Single look-ups read lists: taking a number out of an array costs more than all the rest.
        self._tile_list: list[int] = self._tiles.tolist()
        self._part_list: list[int] = self._parts.tolist()
        # GEOS indexes a prepared shape when it is first asked, without a lock: ask each here, before threads share them.
        middle = shapely.get_coordinates(shapely.centroid(shapely.envelope(shapes)))
        shapely.intersects_xy(shapes, middle[:, 0], middle[:, 1])

    def _boxes(self, x: NDArray[np.float64], y: NDArray[np.float64], side: float) -> NDArray[Any]:
        """Squares from these corners, a little larger than they are, so that rounding in a look-up cannot reach beyond."""
        slack = self._side * 1e-6
        boxes: NDArray[Any] = shapely.box(x - slack, y - slack, x + side + slack, y + side + slack)
        return boxes

    def find(self, lon: float, lat: float) -> int:
        """Index of the cell of one position, -1 outside: what `look_up` says, without an array around it."""
        x, y = (lon - self._west) / self._side, (lat - self._south) / self._side
        if not (0.0 <= x < self._columns and 0.0 <= y < self._rows):  # also what is no number
            return _OUTSIDE
        column, row = int(x), int(y)
        found = self._tile_list[row * self._columns + column]
        if found >= _OUTSIDE:
            return found
        part = _UNSURE - found + int((y - row) * _PARTS) * _PARTS + int((x - column) * _PARTS)
        found = self._part_list[part]
        if found >= _OUTSIDE:
            return found
        first = int(self._first[part])
        for cell in self._cells[first : first + int(self._count[part])].tolist():
            if shapely.intersects_xy(self._shapes[cell], lon, lat):
                return int(cell)
        return _OUTSIDE

    def look_up(self, xy: NDArray[np.float64]) -> NDArray[np.int32]:
        """Index of the cell, -1 outside, for (n, 2) positions: exact, as every cell of an unsure part is asked in turn."""
        with np.errstate(invalid="ignore", over="ignore"):
            x, y = (xy[:, 0] - self._west) / self._side, (xy[:, 1] - self._south) / self._side
            inside = (x >= 0.0) & (x < self._columns) & (y >= 0.0) & (y < self._rows)
        x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)  # the first tile is of the ring: outside
        column, row = x.astype(np.int64), y.astype(np.int64)
        found: NDArray[np.int32] = self._tiles[row * self._columns + column]
        left = np.flatnonzero(found <= _UNSURE)
        part = ((y[left] - row[left]) * _PARTS).astype(np.int64) * _PARTS
        part += ((x[left] - column[left]) * _PARTS).astype(np.int64) + _UNSURE - found[left]
        found[left] = self._parts[part]
        unsure = found[left] == _UNSURE
        left, part = left[unsure], part[unsure]
        found[left] = _OUTSIDE
        turn = 0
        while len(left):
            cell = self._cells[self._first[part] + turn]
            hit = shapely.intersects_xy(self._shapes[cell], xy[left, 0], xy[left, 1])
            found[left[hit]] = cell[hit]
            turn += 1
            more = ~hit & (self._count[part] > turn)
            left, part = left[more], part[more]
        return found


def _settle(
    shapes: NDArray[Any], box: NDArray[np.int64], cell: NDArray[np.int64], boxes: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """What each box answers, from the pairs of boxes and cells that touch: its one cell, -1, or -2: ask the cells.

    Those of box b are `cells[first[b] : first[b] + count[b]]`, from the lowest code up: (answers, first, count, cells).
    """
    order = np.lexsort((cell, box))
    box, cells = box[order], cell[order].astype(np.int32)
    count = np.bincount(box, minlength=len(boxes))
    first = np.cumsum(count) - count
    answers = np.where(count > 0, _UNSURE, _OUTSIDE).astype(np.int32)
    alone = count[box] == 1
    inside = shapely.contains_properly(shapes[cells[alone]], boxes[box[alone]])
    answers[box[alone][inside]] = cells[alone][inside]
    return answers, first, count, cells


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
