"""What is exported is imported again as it was, in every format and system that can hold it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import pytest
import shapely

from grid.exporting import ExportError, export_file
from grid.importing import import_file
from grid.model import Level
from grid.problem import ImportRefusedError, ProblemKind
from grid.source import read_source
from grid.store import read_areas, read_cells, read_components, read_features
from kernel.db import Connection, Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
COMMUNITY = "330105012001"
WEST, SOUTH, STEP = 120.16, 30.27, 0.001


@pytest.fixture
def connection(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A transaction of gw_worker with a community, its grid, two cells, a lamp, a road and a park."""
    whole = shapely.box(WEST, SOUTH, WEST + 2 * STEP, SOUTH + STEP)
    halves = [shapely.box(WEST + n * STEP, SOUTH, WEST + (n + 1) * STEP, SOUTH + STEP) for n in (0, 1)]
    grid = f"{COMMUNITY}G01"
    levels = {
        Level.COMMUNITY: [{"code": COMMUNITY, "name": "灯芯巷社区", "geometry": whole}],
        Level.GRID: [{"code": grid, "name": "第一网格", "geometry": whole}],
        Level.CELL: [
            {"code": f"{COMMUNITY}00{n + 1}", "responsibility_grid_code": grid, "geometry": half}
            for n, half in enumerate(halves)
        ],
        Level.COMPONENT: [
            {"code": "3301050101000001", "name": "路灯", "owner": "市政", "geometry": shapely.Point(WEST + 0.0004, SOUTH + 0.0003)}
        ],
        Level.FEATURE: [
            {"layer": "green", "name": "公园", "width_m": None, "geometry": halves[0].buffer(-0.0002)},
            {"layer": "road", "name": "武林路", "width_m": 16.0, "geometry": shapely.LineString([(WEST, SOUTH), (WEST + 0.002, SOUTH)])},
        ],
    }  # fmt: skip
    with database.transaction() as opened:
        folder = tmp_path_factory.mktemp("levels")
        for level, rows in levels.items():
            geopandas.GeoDataFrame(rows, crs="EPSG:4490").to_file(folder / f"{level}.geojson")
            import_file(opened, folder / f"{level}.geojson", level=level, now=NOW)
        yield opened


def content(connection: Connection, level: Level) -> list[tuple[object, ...]]:
    """What a level holds, without ids; shapes apart."""
    if level is Level.CELL:
        return [(each.code, each.responsibility_grid_code) for each in read_cells(connection)]
    if level is Level.COMPONENT:
        return [(c.standard, c.kind, c.code, c.name, c.cell_code, c.properties) for c in read_components(connection)]
    if level is Level.FEATURE:
        return [(each.layer, each.name, each.properties) for each in read_features(connection)]
    return [(each.code, each.name, each.parent_code) for each in read_areas(connection, level)]


def shapes(connection: Connection, level: Level) -> list[shapely.Geometry]:
    """The shapes of a level in the same order."""
    if level is Level.COMPONENT:
        return [shapely.Point(each.lon, each.lat) for each in read_components(connection)]
    rows = {Level.CELL: read_cells, Level.FEATURE: read_features}.get(level, lambda c: read_areas(c, level))(connection)
    return list(shapely.from_wkb([each.geom_wkb for each in rows]))


def test_every_format_and_system_comes_back_as_it_was(connection: Connection, tmp_path: Path) -> None:
    for name, crs in [
        ("x.geojson", None), ("x.geojson", "gcj02"), ("x.gpkg", "EPSG:4549"), ("x.gpkg", "bd09"), ("x.shp", "EPSG:4490"),
        ("x.shp", "gcj02"), ("x.kml", None), ("x.csv", "EPSG:4490"), ("x.csv", "bd09"),
    ]:  # fmt: skip
        path = tmp_path / name
        levels = [Level.COMMUNITY, Level.GRID, Level.CELL, Level.COMPONENT]
        if path.suffix != ".shp":  # a Shapefile holds shapes of one kind only
            levels.append(Level.FEATURE)
        for level in levels:
            before, drawn = content(connection, level), shapes(connection, level)
            assert export_file(connection, path, level=level, crs=crs) == len(before)
            # A table does not say what it is in; gcj02 and bd09 no file can say.
            needed = crs if path.suffix == ".csv" or crs in ("gcj02", "bd09") else None
            import_file(connection, path, level=level, crs=needed, now=NOW)
            assert content(connection, level) == before, (name, crs, level)
            moved = [shapely.hausdorff_distance(a, b) for a, b in zip(drawn, shapes(connection, level), strict=True)]
            assert max(moved) < 1e-7, (name, crs, level)  # a centimetre


def test_a_table_needs_its_system_and_its_columns_and_says_which_row_has_no_position(
    connection: Connection, tmp_path: Path
) -> None:
    table = tmp_path / "lamps.csv"
    rows = (
        f"3301050101000002,路灯,{WEST + 0.0002},{SOUTH + 0.0002}\n3301050101000003,路灯,,\n3301050101000004,路灯,x,30\n"
    )
    table.write_text("编码,名称,经度,纬度\n" + rows, "gb18030")

    def refused(**options: str) -> list[tuple[int | None, ProblemKind]]:
        with pytest.raises(ImportRefusedError) as caught:
            import_file(connection, table, level=Level.COMPONENT, now=NOW, **options)  # type: ignore[arg-type]
        return [(problem.row, problem.kind) for problem in caught.value.result.problems]

    assert refused() == [(None, ProblemKind.CRS_MISSING)]
    assert refused(crs="gcj02") == [(2, ProblemKind.NO_GEOMETRY), (3, ProblemKind.NO_GEOMETRY)]
    table.write_text("code,name\n1,x\n", "utf-8")
    assert refused(crs="gcj02") == [(None, ProblemKind.NO_COLUMNS)]


def test_a_long_border_is_read_from_a_table_and_may_go_over_several_lines(tmp_path: Path) -> None:
    corners = [f"{WEST + n * 1e-6!r} {SOUTH!r}" for n in range(8_000)]
    border = ",\n".join([*corners, f"{WEST!r} {SOUTH + 0.01!r}", corners[0]])
    (tmp_path / "x.csv").write_text(f'code,wkt\n330105,"POLYGON (({border}))"\n', "utf-8")
    (row,) = read_source(tmp_path / "x.csv", Level.DISTRICT, "EPSG:4490").rows
    assert row.shape is not None and shapely.get_num_coordinates(row.shape) == 8_002


def test_what_cannot_be_written_is_said(connection: Connection, tmp_path: Path) -> None:
    for name, level, crs in [
        ("x.xlsx", Level.CELL, None), ("x.kml", Level.CELL, "gcj02"), ("x.gpkg", Level.DISTRICT, None),
        ("none/x.gpkg", Level.CELL, None), ("x.shp", Level.FEATURE, None),
    ]:  # fmt: skip
        with pytest.raises(ExportError):
            export_file(connection, tmp_path / name, level=level, crs=crs)
