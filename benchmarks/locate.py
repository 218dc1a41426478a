"""`gridwarden bench locate`: cells of many positions, ours against geopandas.sjoin, and against reading a raster only.

The ceiling is what no exact locator can beat here: looking each position up in a ready raster of 20 m tiles in numpy,
without the exact test for tiles that a border crosses.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray

from grid.locate import Locator
from grid.model import GridCell
from simulators.district import make_district

POINTS, RUNS = 1_000_000, 5
Points = NDArray[np.float64]


def measure() -> list[dict[str, Any]]:
    """Positions located a second: medians of interleaved runs. Raises AssertionError when ours and the peer disagree."""
    district = make_district(1)
    codes = sorted(district.cells)
    shapes = [shapely.Polygon(district.cells[code].ring) for code in codes]
    locator = Locator([_cell(code, shape) for code, shape in zip(codes, shapes, strict=True)])
    frame = geopandas.GeoDataFrame({"code": codes}, geometry=shapes, crs="EPSG:4490")
    west, south, east, north = frame.total_bounds
    points = np.random.default_rng(1).uniform([west, south], [east, north], (POINTS, 2))
    tiles = _raster(locator, (west, south, east, north))
    ways: dict[str, Callable[[Points], Any]] = {
        "ours": locator.locate_indices,
        "peer": lambda xy: _join(frame, xy),
        "ceiling": tiles,
    }
    _agree(ways["ours"](points), ways["peer"](points))  # also builds what is built once
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, way in ways.items():
            began = time.perf_counter()
            way(points)
            took[name].append(time.perf_counter() - began)
    rate = {name: POINTS / statistics.median(times) for name, times in took.items()}
    return [
        {
            "name": "locate",
            "unit": "positions/s",
            **{name: round(value) for name, value in rate.items()},
            "peer_name": f"geopandas.sjoin {geopandas.__version__}, points made of lon and lat",
            "ceiling_name": "raster look-up alone, not exact",
            "ratio_peer": round(rate["ours"] / rate["peer"], 3),
            "ratio_ceiling": round(rate["ours"] / rate["ceiling"], 3),
            "runs": RUNS,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "cells": len(codes),
            "points": POINTS,
        }
    ]


def _cell(code: str, shape: shapely.Polygon) -> GridCell:
    inner = shape.representative_point()
    return GridCell(
        id=UUID(int=int(code)),
        code=code,
        responsibility_grid_code=None,
        lon=inner.x,
        lat=inner.y,
        geom_wkb=shapely.to_wkb(shape),
        source_crs="EPSG:4490",
        imported_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _join(frame: geopandas.GeoDataFrame, xy: Points) -> NDArray[np.int64]:
    """Index of the cell of each position by a spatial join, -1 outside; the lowest of several on a border."""
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(xy[:, 0], xy[:, 1]), crs=frame.crs)
    joined = points.sjoin(frame, how="inner", predicate="intersects")
    found = np.full(len(xy), len(frame), dtype=np.int64)
    np.minimum.at(found, joined.index.to_numpy(), joined["index_right"].to_numpy())
    found[found == len(frame)] = -1
    return found


def _raster(locator: Locator, bounds: tuple[float, float, float, float]) -> Callable[[Points], NDArray[np.int32]]:
    """A look-up in tiles filled beforehand with the cell at their middle."""
    west, south, east, north = bounds
    side = 0.0002
    columns, rows = int((east - west) / side) + 1, int((north - south) / side) + 1
    x, y = np.meshgrid(west + (np.arange(columns) + 0.5) * side, south + (np.arange(rows) + 0.5) * side)
    tiles: NDArray[np.int32] = locator.locate_indices(np.column_stack([x.ravel(), y.ravel()]))

    def look_up(xy: Points) -> NDArray[np.int32]:
        column = ((xy[:, 0] - west) / side).astype(np.int64)
        row = ((xy[:, 1] - south) / side).astype(np.int64)
        found: NDArray[np.int32] = tiles[row * columns + column]
        return found

    return look_up


def _agree(ours: NDArray[Any], peers: NDArray[Any]) -> None:
    if not (ours == peers).all():
        raise AssertionError(f"{int((ours != peers).sum())} of {len(ours)} positions are in other cells for the peer")
