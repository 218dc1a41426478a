"""`gridwarden bench locate`: cells of many positions at once, of one at a time, and everything known of one position.

In bulk ours stands against geopandas.sjoin, against PostGIS where GRIDWARDEN_BENCH_POSTGIS_DSN names a database that has
it, and against reading a raster of 20 m tiles without the exact test, which no exact locator can beat here. One at a time
it stands against an R-tree that is asked each time, with a Python call that does nothing as the ceiling. The answers of all
ways are compared first, on spread positions, on corners and on borders; a difference ends the run.
"""

import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import geopandas
import numpy as np
import psycopg
import shapely
from numpy.typing import NDArray

from grid.locate import Locator
from grid.model import Component, Feature, GridCell
from grid.surroundings import COMPONENT_LIMIT_M, ROAD_LIMIT_M, Surveyor, metres_per_degree
from simulators.district import write_district

POINTS, SINGLES, RUNS = 1_000_000, 50_000, 5
COMPONENTS = 40_000
POSTGIS = "GRIDWARDEN_BENCH_POSTGIS_DSN"
Points = NDArray[np.float64]
IMPORTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def measure() -> list[dict[str, Any]]:
    """Positions a second: medians of interleaved runs. Raises AssertionError when two ways disagree."""
    with tempfile.TemporaryDirectory() as folder:
        district = write_district(Path(folder), 1)
        features = _features(Path(folder) / "feature.geojson")
    codes = sorted(district.cells)
    shapes = [shapely.Polygon(district.cells[code].ring) for code in codes]
    locator = Locator([_cell(code, shape) for code, shape in zip(codes, shapes, strict=True)])
    frame = geopandas.GeoDataFrame({"code": codes}, geometry=shapes, crs="EPSG:4490")
    points = np.random.default_rng(1).uniform(frame.total_bounds[:2], frame.total_bounds[2:], (POINTS, 2))
    shown = {"cells": len(codes), "machine": _machine()}
    return [
        _bulk(locator, frame, points) | shown,
        _single(locator, frame, points[:SINGLES]) | shown,
        _full(locator, features, points[:SINGLES]) | shown,
    ]


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def _rates(ways: dict[str, Callable[[], Any]], count: int) -> dict[str, int]:
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    return {name: round(count / statistics.median(times)) for name, times in took.items()}


def _row(name: str, rate: dict[str, int], peer_name: str, ceiling_name: str, points: int) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "positions/s",
        **rate,
        "peer_name": peer_name,
        "ceiling_name": ceiling_name,
        "ratio_peer": round(rate["ours"] / rate["peer"], 3),
        "ratio_ceiling": round(rate["ours"] / rate["ceiling"], 3),
        "runs": RUNS,
        "points": points,
    }


# ------------------------------------------------------------------------------------------------ in bulk


def _bulk(locator: Locator, frame: geopandas.GeoDataFrame, points: Points) -> dict[str, Any]:
    hard = _borders(frame)
    tiles = _raster(locator, tuple(frame.total_bounds))
    _agree("geopandas", locator.locate_indices(points), _join(frame, points))  # also builds what is built once
    _agree("geopandas, on borders", locator.locate_indices(hard), _join(frame, hard))
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: locator.locate_indices(points),
        "peer": lambda: _join(frame, points),
        "ceiling": lambda: tiles(points),
    }
    if dsn := os.environ.get(POSTGIS):
        with psycopg.connect(dsn, autocommit=True) as connection:
            _fill_postgis(connection, frame, np.vstack([points, hard]))
            found = _ask_postgis(connection, len(points) + len(hard))
            _agree("PostGIS", locator.locate_indices(np.vstack([points, hard])), found)
            rate = _rates(ways | {"postgis": lambda: _ask_postgis(connection, len(points))}, len(points))
    else:
        rate = _rates(ways, len(points))
        print(f"PostGIS: not measured ({POSTGIS} names no database)")
    peer = f"geopandas.sjoin {geopandas.__version__}, points made of lon and lat"
    row = _row("locate", rate, peer, "raster look-up alone, not exact", len(points))
    return row | ({"ratio_postgis": round(rate["ours"] / rate["postgis"], 3)} if "postgis" in rate else {})


def _borders(frame: geopandas.GeoDataFrame) -> Points:
    """Every corner of every cell, and the middle of every side."""
    corners = shapely.get_coordinates(shapely.boundary(frame.geometry.array))
    both: Points = np.vstack([corners, (corners[:-1] + corners[1:]) / 2])
    return both


def _join(frame: geopandas.GeoDataFrame, xy: Points) -> NDArray[np.int64]:
    """Index of the cell of each position by a spatial join, -1 outside; the lowest of several on a border."""
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(xy[:, 0], xy[:, 1]), crs=frame.crs)
    joined = points.sjoin(frame, how="inner", predicate="intersects")
    found = np.full(len(xy), len(frame), dtype=np.int64)
    np.minimum.at(found, joined.index.to_numpy(), joined["index_right"].to_numpy())
    found[found == len(frame)] = -1
    return found


def _fill_postgis(connection: psycopg.Connection[Any], frame: geopandas.GeoDataFrame, xy: Points) -> None:
    """Temporary tables of the cells, with an index, and of the positions, which the server has already."""
    connection.execute("CREATE TEMP TABLE cell (id int, geom geometry)")
    connection.execute("CREATE TEMP TABLE point (id int, geom geometry)")
    with connection.cursor() as cursor:
        with cursor.copy("COPY cell FROM STDIN") as copy:
            for number, shape in enumerate(frame.geometry):
                copy.write_row((number, shapely.to_wkb(shape, hex=True)))
        with cursor.copy("COPY point FROM STDIN") as copy:
            for number, wkb in enumerate(shapely.to_wkb(shapely.points(xy), hex=True)):
                copy.write_row((number, wkb))
    connection.execute("CREATE INDEX ON cell USING gist (geom)")
    connection.execute("CREATE INDEX ON point (id)")
    connection.execute("ANALYZE cell")
    connection.execute("ANALYZE point")


def _ask_postgis(connection: psycopg.Connection[Any], count: int) -> NDArray[np.int64]:
    found = np.full(count, -1, dtype=np.int64)
    rows = connection.execute(
        "SELECT p.id, min(c.id) FROM point p JOIN cell c ON ST_Intersects(c.geom, p.geom) WHERE p.id < %s GROUP BY p.id",
        (count,),
    ).fetchall()
    if rows:
        ids = np.array(rows, dtype=np.int64)
        found[ids[:, 0]] = ids[:, 1]
    return found


def _raster(locator: Locator, bounds: tuple[float, ...]) -> Callable[[Points], NDArray[np.int32]]:
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


# ------------------------------------------------------------------------------------------------ one at a time


def _single(locator: Locator, frame: geopandas.GeoDataFrame, points: Points) -> dict[str, Any]:
    """The cell of one position, asked for in a loop."""
    tree = shapely.STRtree(frame.geometry.array)
    pairs = [(float(x), float(y)) for x, y in points]

    def ask_tree(lon: float, lat: float) -> int:
        hits = tree.query(shapely.Point(lon, lat), predicate="intersects")
        return int(min(hits)) if len(hits) else -1

    hard = _borders(frame)[::7]
    for name, some in (("singles", points), ("singles on borders", hard)):
        each = np.array([locator.cell_index(float(x), float(y)) for x, y in some])
        _agree(name, locator.locate_indices(np.vstack([some, points]))[: len(some)], each)
    _agree("R-tree", np.array([locator.cell_index(*pair) for pair in pairs[:5_000]]), np.array([ask_tree(*pair) for pair in pairs[:5_000]]))  # fmt: skip
    ways = {
        "ours": lambda: [locator.cell_index(lon, lat) for lon, lat in pairs],
        "peer": lambda: [ask_tree(lon, lat) for lon, lat in pairs],
        "ceiling": lambda: [_nothing(lon, lat) for lon, lat in pairs],
    }
    peer = f"shapely {shapely.__version__} STRtree.query for each"
    return _row(
        "locate, the cell of one position", _rates(ways, len(pairs)), peer, "a call that does nothing", len(pairs)
    )


def _nothing(lon: float, lat: float) -> int:
    return 0


def _full(locator: Locator, features: list[Feature], points: Points) -> dict[str, Any]:
    """Cell, areas, nearest component, nearest road and place, surface and address.

    Two figures: with the tiles kept that these positions need, as in a process that has run for a while, and `fresh`, where
    every run begins with none of them.
    """
    components = _components(points)
    named = [feature for feature in features if feature.layer == "road" and feature.name]
    pairs = [(float(x), float(y)) for x, y in points]
    lat_m, lon_m = metres_per_degree(pairs[0][1])
    component_tree = shapely.STRtree(shapely.points([(each.lon * lon_m, each.lat * lat_m) for each in components]))
    roads = shapely.transform(shapely.from_wkb([road.geom_wkb for road in named]), lambda xy: xy * (lon_m, lat_m))
    road_tree = shapely.STRtree(roads)

    def ask_trees(lon: float, lat: float) -> tuple[int, str | None, str | None]:
        point = shapely.Point(lon * lon_m, lat * lat_m)
        near = component_tree.query_nearest(point, max_distance=COMPONENT_LIMIT_M)
        road = road_tree.query_nearest(point, max_distance=ROAD_LIMIT_M)
        cell = locator.cell_index(lon, lat)
        return cell, components[near[0]].code if len(near) else None, named[road[0]].name if len(road) else None

    def survey_all(surveyor: Surveyor) -> list[str]:
        return [surveyor.survey(lon, lat).address() for lon, lat in pairs]

    kept = surveyor = Surveyor(locator, components, features)
    survey_all(kept)
    for lon, lat in pairs[:3_000]:
        found, (cell, component, road) = surveyor.survey(lon, lat), ask_trees(lon, lat)
        ours = found.component.component.code if found.component else None
        same = (found.place.cell_code if found.place else None) == (locator.codes[cell] if cell >= 0 else None)
        # One scale for the whole district is 0.1 % off at its edges: exactly there the peer may say otherwise.
        edge = found.component is not None and math.isclose(found.component.distance_m, COMPONENT_LIMIT_M, rel_tol=0.01)
        if not same or (ours != component and not edge and not _as_near(surveyor, lon, lat, components, component)):
            raise AssertionError(f"{lon}, {lat}: {ours} and {component}, or another cell")
        if found.road and road and found.road.name != road and found.road.distance_m > ROAD_LIMIT_M:
            raise AssertionError(f"{lon}, {lat}: {found.road.name} and {road}")
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: survey_all(kept),
        "fresh": lambda: survey_all(Surveyor(locator, components, features)),
        "peer": lambda: [ask_trees(lon, lat) for lon, lat in pairs],
        "ceiling": lambda: [locator.cell_index(lon, lat) for lon, lat in pairs],
    }
    peer = "our cell, and STRtree.query_nearest for component and road, without places, surface and words"
    row = _row("locate, everything in one call", _rates(ways, len(pairs)), peer, "its cell alone", len(pairs))
    return row | {"components": len(components), "features": len(features)}


def _as_near(surveyor: Surveyor, lon: float, lat: float, components: list[Component], code: str | None) -> bool:
    """Whether the component that the peer names is as near as ours, to a millimetre in ten metres."""
    found = surveyor.survey(lon, lat).component
    if found is None or code is None:
        return False
    other = next(each for each in components if each.code == code)
    lat_m, lon_m = metres_per_degree(lat)
    return math.isclose(
        math.hypot((other.lon - lon) * lon_m, (other.lat - lat) * lat_m), found.distance_m, rel_tol=1e-4, abs_tol=1e-3
    )


def _components(points: Points) -> list[Component]:
    """Lamps all over the district."""
    where = np.random.default_rng(2).uniform(points.min(axis=0), points.max(axis=0), (COMPONENTS, 2))
    return [
        Component(
            id=UUID(int=number), standard="GB/T 30428.2", kind="0404", code=f"3301050404{number:06d}", name="路灯",
            cell_code=None, lon=float(lon), lat=float(lat), source_crs="EPSG:4490", imported_at=IMPORTED_AT,
        )
        for number, (lon, lat) in enumerate(where)
    ]  # fmt: skip


def _features(path: Path) -> list[Feature]:
    rows = json.loads(path.read_text("utf-8"))["features"]
    return [
        Feature(
            id=UUID(int=number), layer=row["properties"]["layer"], name=row["properties"].get("name") or "",
            geom_wkb=shapely.to_wkb(shapely.geometry.shape(row["geometry"])), properties=row["properties"],
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip


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
        imported_at=IMPORTED_AT,
    )


def _agree(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    if not (ours == theirs).all():
        raise AssertionError(f"{name}: {int((ours != theirs).sum())} of {len(ours)} positions are in other cells")
