"""Generated cells: no gap, no overlap, no building cut, never two communities, numbered by the standard."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely

from grid.checks import check_codes, check_inside, check_overlaps, find_gaps, find_slivers
from grid.coordinates import to_cgcs2000_many
from grid.generating import Generated, GenerateError, generate_cells, generate_file
from grid.importing import import_file
from grid.model import Area, Feature, Level
from grid.source import Row
from grid.store import write_areas
from kernel.db import Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
EAST_M, NORTH_M = 515_000.0, 3_350_000.0  # in Hangzhou, EPSG:4549


def placed(shape: shapely.Geometry) -> bytes:
    """A shape in metres from a corner in Hangzhou, as it is stored."""
    return bytes(
        shapely.to_wkb(
            shapely.transform(
                shape,
                lambda xy: np.round(
                    np.column_stack(to_cgcs2000_many(xy[:, 0] + EAST_M, xy[:, 1] + NORTH_M, "EPSG:4549")), 7
                ),
            )
        )
    )


def area(code: str, shape: shapely.Geometry, level: Level = Level.COMMUNITY) -> Area:
    """An area of that shape."""
    return Area(
        id=UUID(int=int(code[-12:].replace("G", "9"))), level=level, code=code, name=code, parent_code=None,
        geom_wkb=placed(shape), source_crs="EPSG:4549", imported_at=NOW,
    )  # fmt: skip


def feature(layer: str, shape: shapely.Geometry) -> Feature:
    """Something on the map."""
    return Feature(id=UUID(int=1), layer=layer, name="", geom_wkb=placed(shape))


def irregular() -> tuple[list[Area], list[Feature]]:
    """Two communities with a ragged border between them, a hole and a bay, three crooked roads, a river and 250 buildings
    that stand anywhere, across roads too."""
    rng = np.random.default_rng(8)
    ragged = [(500 + float(rng.uniform(-60, 60)), y) for y in range(0, 901, 75)]
    west = shapely.Polygon([(0, 0), *ragged, (30, 900), (-80, 500), (120, 350), (-40, 200)])
    east = shapely.Polygon([*ragged, (1_000, 880), (870, 500), (1_050, 300), (950, 20)])
    pond = shapely.Point(750, 450).buffer(90)
    roads = [
        shapely.LineString([(-200, 320), (300, 280), (700, 420), (1_200, 330)]),
        shapely.LineString([(240, -50), (310, 400), (250, 1_000)]),
        shapely.LineString([(-200, 327), (300, 287), (700, 427), (1_200, 337)]),  # its other lane
    ]
    river = shapely.LineString([(-100, 700), (500, 620), (1_100, 760)]).buffer(15)
    ground = shapely.union(west, shapely.difference(east, pond))
    buildings: list[shapely.Geometry] = []
    for _ in range(900):
        x, y = rng.uniform((0, 0), (1_000, 900))
        house = shapely.affinity.rotate(
            shapely.box(x, y, x + rng.uniform(12, 45), y + rng.uniform(10, 18)), rng.uniform(0, 180)
        )
        clear = all(house.distance(other) > 3 for other in buildings)
        if clear and ground.contains(house) and not house.intersects(shapely.LineString(ragged)):
            buildings.append(house)
    communities = [area("330105012001", west), area("330105012002", shapely.difference(east, pond))]
    features = [feature("road", road) for road in roads] + [feature("water", river)]
    return communities, features + [feature("building", house) for house in buildings]


def rows_of(result: Generated) -> list[Row]:
    """The cells as the import would read them."""
    return [
        Row(
            number=number, code=cell.code, name="", parent_code="", responsibility_grid_code=cell.responsibility_grid_code,
            layer="", standard="", kind="", shape=cell.shape, properties={},
        )
        for number, cell in enumerate(result.cells, 1)
    ]  # fmt: skip


def test_an_irregular_pair_of_communities_with_buildings_anywhere_is_divided_without_a_fault() -> None:
    communities, features = irregular()
    result = generate_cells(communities, [], features)
    rows, shapes = rows_of(result), np.array([cell.shape for cell in result.cells])
    assert check_codes(rows, Level.CELL, cell_code_digits=15) == check_overlaps(rows, {}) == find_slivers(rows) == []
    assert shapely.coverage_is_valid(shapes) and all(shape.geom_type == "Polygon" for shape in shapes)
    pond_only = [problem for problem in find_gaps(rows) if problem.params["area_m2"] < 20_000]
    assert pond_only == []  # the pond is a hole of the community itself
    borders = {each.code: shapely.from_wkb(each.geom_wkb) for each in communities}
    assert check_inside(rows, {row.number: (row.code[:12], borders[row.code[:12]]) for row in rows}) == []
    for code, border in borders.items():
        mine = shapely.union_all([cell.shape for cell in result.cells if cell.code.startswith(code)])
        assert shapely.hausdorff_distance(mine.boundary, border.boundary) < 2e-7  # two centimetres
    assert result.cut_buildings == 0 and len([f for f in features if f.layer == "building"]) > 150
    low, middle, high = np.percentile(result.areas_m2, (2, 50, 98))
    assert low >= 4_000 and 7_000 <= middle <= 14_000 and high <= 24_500
    for code in borders:
        sequence = [int(cell.code[12:]) for cell in result.cells if cell.code.startswith(code)]
        assert sequence == list(range(1, len(sequence) + 1))


def test_cells_keep_to_responsibility_grids_and_are_imported_as_they_are_written(
    database: Database, tmp_path: Path
) -> None:
    whole = shapely.box(0, 0, 420, 300)
    community = area("330105012001", whole)
    grids = [
        area("330105012001G01", shapely.box(0, 0, 233, 300), Level.GRID),
        area("330105012001G02", shapely.box(233, 0, 420, 300), Level.GRID),
    ]
    with database.transaction() as connection:
        write_areas(connection, [community, *grids])
        with pytest.raises(GenerateError):
            generate_file(connection, tmp_path / "none.gpkg", prefix="330106")
        result = generate_file(connection, tmp_path / "cells.gpkg", prefix="330105012001")
        assert len(result.cells) == 12 and result.cut_buildings == 0
        taken = import_file(connection, tmp_path / "cells.gpkg", level=Level.CELL, now=NOW)
        assert (taken.written, taken.problems) == (12, ())
    for cell in result.cells:
        inside = [grid.code for grid in grids if shapely.from_wkb(grid.geom_wkb).buffer(2e-7).covers(cell.shape)]
        assert inside == [cell.responsibility_grid_code]
    with pytest.raises(GenerateError, match="330105012001"):
        generate_cells([area("330105012001", shapely.box(0, 0, 1_200, 1_200))], [], [], cell_code_digits=14)
