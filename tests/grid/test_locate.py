"""Locating positions: the fast way agrees with looking at every cell, on borders and corners too."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from grid.importing import import_file
from grid.locate import Locator
from grid.model import GridCell
from kernel.db import Database
from simulators.district import District, write_district

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def make_cell(code: str, shape: shapely.Polygon, grid: str | None = None) -> GridCell:
    """A cell of that shape."""
    inner = shape.representative_point()
    return GridCell(
        id=UUID(int=int(code)),
        code=code,
        responsibility_grid_code=grid,
        lon=inner.x,
        lat=inner.y,
        geom_wkb=shapely.to_wkb(shape),
        source_crs="EPSG:4490",
        imported_at=NOW,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, District]:
    """A generated district as files, and what its maker knows of it."""
    folder = tmp_path_factory.mktemp("district")
    return folder, write_district(folder, 3)


@pytest.fixture(scope="module")
def cells(files: tuple[Path, District]) -> list[GridCell]:
    """The cells of the generated district, whose neighbours share every vertex."""
    features = json.loads((files[0] / "cell.geojson").read_text("utf-8"))["features"]
    return [
        make_cell(
            feature["properties"]["code"],
            shapely.Polygon(feature["geometry"]["coordinates"][0]),
            feature["properties"]["responsibility_grid_code"],
        )
        for feature in features
    ]


def look_everywhere(cells: list[GridCell], points: NDArray[np.float64]) -> list[str | None]:
    """The rule itself: of all cells that touch the position the one with the lowest code."""
    shapes = [(cell.code, shapely.from_wkb(cell.geom_wkb)) for cell in cells]
    found: list[str | None] = [None] * len(points)
    at = shapely.points(points)
    for code, shape in sorted(shapes, key=lambda pair: pair[0], reverse=True):
        shapely.prepare(shape)
        for index in np.flatnonzero(shapely.intersects(shape, at)):
            found[index] = code
    return found


def draw_points(cells: list[GridCell], rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Positions all over and around the cells; on their corners; on their borders as exactly as numbers allow."""
    shapes = shapely.from_wkb([cell.geom_wkb for cell in cells])
    west, south, east, north = shapely.total_bounds(shapes)
    spread = rng.uniform([west - 0.005, south - 0.005], [east + 0.005, north + 0.005], (count, 2))
    corners = shapely.get_coordinates(shapes)
    ends = rng.integers(0, len(corners) - 1, count)
    middles = (corners[ends] + corners[ends + 1]) / 2
    return np.vstack([spread, corners[rng.integers(0, len(corners), count)], middles])


def test_every_way_of_asking_agrees_with_looking_at_every_cell(cells: list[GridCell]) -> None:
    points = draw_points(cells, np.random.default_rng(5), 2_000)
    expected = look_everywhere(cells, points)
    locator = Locator(cells)
    many = locator.locate_many(points)
    assert [place and place.cell_code for place in many] == expected
    assert [place and place.cell_code for place in map(locator.locate, *points[::20].T)] == expected[::20]
    fresh = Locator(cells)  # which asks its tree, until it has been asked often
    assert [place and place.cell_code for place in map(fresh.locate, *points[7::50].T)] == expected[7::50]
    few = locator.locate_many(points[:500])
    assert few == many[:500]
    assert 500 < sum(code is None for code in expected) < 5_000


def test_threads_share_a_locator(cells: list[GridCell]) -> None:
    points = draw_points(cells, np.random.default_rng(6), 4_000)
    expected = Locator(cells).locate_indices(points).tolist()
    fresh = Locator(cells)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(fresh.locate_indices, [points] * 8))
    assert all(one.tolist() == expected for one in found)


def test_a_corner_of_four_cells_belongs_to_the_lowest_code_whatever_the_order_they_come_in() -> None:
    squares = {
        f"33010501200100{1 + column + 2 * row}": shapely.box(120 + column, 30 - row, 121 + column, 31 - row)
        for row in range(2)
        for column in range(2)
    }
    made = [make_cell(code, shape) for code, shape in squares.items()]
    for order in (made, made[::-1]):
        locator = Locator(order)
        assert locator.locate(121, 30).cell_code == "330105012001001"  # type: ignore[union-attr]
        assert locator.locate(121.5, 30).cell_code == "330105012001002"  # type: ignore[union-attr]
        assert {p.cell_code for p in locator.locate_many([[121, 30]] * 5_000) if p} == {"330105012001001"}


def test_outside_is_none_and_so_is_what_is_no_position(cells: list[GridCell]) -> None:
    locator = Locator(cells)
    for lon, lat in [(0, 0), (120.17, 40), (float("nan"), 30.28), (120.17, float("inf")), (30.28, 120.17)]:
        assert locator.locate(lon, lat) is None
    wild = np.array([[np.nan, 30.28], [np.inf, -np.inf], [1e300, 30.28], [120.17, np.nan]] * 1_000)
    assert (locator.locate_indices(wild) == -1).all()


def test_without_cells_everything_is_outside() -> None:
    locator = Locator([])
    assert locator.locate(120.17, 30.28) is None
    assert locator.locate_many(np.full((3_000, 2), 30.0)) == [None] * 3_000


def test_the_database_gives_names_and_agrees_with_the_maker_of_the_district(
    database: Database, files: tuple[Path, District]
) -> None:
    folder, district = files
    with database.transaction() as connection:
        for level in ("district", "street", "community", "grid", "cell"):
            import_file(connection, folder / f"{level}.geojson", level=level, now=NOW)
        locator = Locator.load(connection)
    sites = district.sites
    places = locator.locate_many([[site.lon, site.lat] for site in sites])
    assert [place and place.cell_code for place in places] == [site.cell_code for site in sites]
    place = locator.locate(sites[0].lon, sites[0].lat)
    assert place is not None
    assert place.area_code == place.community_code == sites[0].cell_code[:12]
    assert place.grid_code == district.cells[place.cell_code].grid_code
    assert place.grid_name == district.names[place.grid_code]
    assert place.community_name == district.names[place.community_code]
    assert place.street_name == district.names[place.street_code]
    assert place.district_name == "拱墅区（原下城片区）"
