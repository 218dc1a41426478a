"""Importing files: all or nothing, every problem told by its row, whatever the format and the coordinate system."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from grid.coordinates import from_cgcs2000_many
from grid.importing import import_file
from grid.locate import Locator
from grid.model import Level
from grid.problem import ImportRefusedError, ImportResult, Problem, ProblemKind, Severity
from grid.store import read_areas, read_cells, read_components, read_version
from kernel.db import Connection, Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
COMMUNITY = "330105012001"
WEST, SOUTH, STEP = 120.16, 30.27, 0.001
Write = Callable[..., Path]


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A transaction of gw_worker."""
    with database.transaction() as opened:
        yield opened


def square(column: int, row: int, size: float = STEP) -> shapely.Polygon:
    """A square of the little raster, counted from its south-west corner."""
    west, south = WEST + column * STEP, SOUTH + row * STEP
    return shapely.box(west, south, west + size, south + size)


def cells(count: int = 4) -> geopandas.GeoDataFrame:
    """A row of cells with codes, in CGCS2000."""
    rows = [{"code": f"{COMMUNITY}{n + 1:03d}", "geometry": square(n, 0)} for n in range(count)]
    return geopandas.GeoDataFrame(rows, crs="EPSG:4490")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a frame as a file of the wanted format."""

    def to_file(frame: geopandas.GeoDataFrame, name: str = "cells.gpkg", **options: Any) -> Path:
        frame.to_file(tmp_path / name, **options)
        return tmp_path / name

    return to_file


def refused(connection: Connection, path: Path, level: Level = Level.CELL, **options: Any) -> list[Problem]:
    """The problems for which a file is refused; and nothing of it may be there afterwards."""
    before = read_version(connection), len(read_components(connection))
    with pytest.raises(ImportRefusedError) as caught:
        import_file(connection, path, level=level, now=NOW, **options)
    assert (read_version(connection), len(read_components(connection))) == before
    problems = [problem for problem in caught.value.result.problems if problem.severity is Severity.REFUSED]
    for problem in problems:
        assert problem.describe("en") != problem.describe("zh-CN")
        assert "{" not in problem.describe("en") + problem.describe("zh-CN")
    return problems


def imported(connection: Connection, path: Path, level: Level = Level.CELL, **options: Any) -> ImportResult:
    """The result of an import that is taken."""
    return import_file(connection, path, level=level, now=NOW, **options)


@pytest.mark.parametrize("name", ["cells.gpkg", "cells.shp", "cells.geojson", "cells.zip"])
def test_geopackage_shapefile_and_geojson_give_the_same_cells(
    connection: Connection, write: Write, tmp_path: Path, name: str
) -> None:
    frame = cells()
    frame["responsibility_grid_code"] = [f"{COMMUNITY}G01"] * 4
    path = write(frame, name if name != "cells.zip" else "cells.shp")  # dBase cuts that column's name to ten characters
    if name == "cells.zip":
        import zipfile

        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for part in tmp_path.glob("cells.*"):
                if part.suffix != ".zip":
                    packed.write(part, part.name)
        path = tmp_path / name
    result = imported(connection, path, crs=None)
    assert (result.written, result.crs) == (4, "EPSG:4490")
    stored = read_cells(connection)
    assert [cell.code for cell in stored] == [f"{COMMUNITY}00{n}" for n in (1, 2, 3, 4)]
    assert {cell.responsibility_grid_code for cell in stored} == {f"{COMMUNITY}G01"}
    for cell, shape in zip(stored, frame.geometry, strict=True):
        assert shapely.from_wkb(cell.geom_wkb).equals_exact(shape, 1e-9, normalize=True)
        assert shape.contains(shapely.Point(cell.lon, cell.lat))


@pytest.mark.parametrize("crs", ["EPSG:4549", "EPSG:4528", "EPSG:3857", "gcj02", "bd09"])
def test_a_named_coordinate_system_brings_cells_to_where_they_are(
    connection: Connection, write: Write, crs: str
) -> None:
    true = cells()
    moved = true.copy()
    moved.geometry = shapely.transform(
        true.geometry.array, lambda xy: shapely.get_coordinates(shapely.points(*from_cgcs2000_many(*xy.T, crs)))
    )
    moved = moved.set_crs(None, allow_override=True)
    result = imported(connection, write(moved, "moved.shp"), crs=crs)
    assert result.crs == crs
    for cell, shape in zip(read_cells(connection), true.geometry, strict=True):
        assert cell.source_crs == crs
        assert shapely.hausdorff_distance(shapely.from_wkb(cell.geom_wkb), shape) < 1e-7


def test_the_file_s_own_projected_system_is_used(connection: Connection, write: Write) -> None:
    result = imported(connection, write(cells().to_crs("EPSG:4549")))
    assert result.crs == "EPSG:4549"
    centre = shapely.from_wkb(read_cells(connection)[0].geom_wkb).centroid
    assert (centre.x, centre.y) == (pytest.approx(WEST + STEP / 2), pytest.approx(SOUTH + STEP / 2))


def test_a_shapefile_that_names_no_system_needs_one(connection: Connection, write: Write) -> None:
    path = write(cells().set_crs(None, allow_override=True), "bare.shp")
    (problem,) = refused(connection, path)
    assert problem.kind is ProblemKind.CRS_MISSING
    assert "--crs" in problem.describe("zh-CN")
    assert imported(connection, path, crs="EPSG:4490").ok


def test_geojson_without_a_system_is_wgs_84_and_says_so(connection: Connection, tmp_path: Path) -> None:
    features = [
        {
            "type": "Feature",
            "properties": {"code": f"{COMMUNITY}001"},
            "geometry": shapely.geometry.mapping(square(0, 0)),
        }
    ]
    path = tmp_path / "amap.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    result = imported(connection, path)
    assert [(p.kind, p.severity) for p in result.problems if p.kind is ProblemKind.CRS_ASSUMED] == [
        (ProblemKind.CRS_ASSUMED, Severity.WARNING)
    ]
    (overridden,) = refused(connection, path, crs="EPSG:4549")  # degrees are no metres of Hangzhou
    assert overridden.kind in (ProblemKind.OUTSIDE_CHINA, ProblemKind.BAD_COORDINATES)


def test_an_unknown_system_is_told_from_known_ones(connection: Connection, write: Write) -> None:
    (problem,) = refused(connection, write(cells()), crs="EPSG:999999")
    assert problem.kind is ProblemKind.CRS_UNKNOWN


def test_another_system_than_the_file_s_is_used_with_a_warning(connection: Connection, write: Write) -> None:
    result = imported(connection, write(cells()), crs="gcj02")
    assert ProblemKind.CRS_OVERRIDDEN in [problem.kind for problem in result.problems]
    assert read_cells(connection)[0].source_crs == "gcj02"


BOW_TIE = shapely.Polygon([(120.2, 30.27), (120.201, 30.271), (120.201, 30.27), (120.2, 30.271)])


def test_a_polygon_that_crosses_itself_is_refused_with_its_row_and_the_place(
    connection: Connection, write: Write
) -> None:
    frame = cells()
    frame.loc[2, "geometry"] = BOW_TIE
    (problem,) = refused(connection, write(frame))
    assert (problem.kind, problem.row, problem.code) == (ProblemKind.SELF_CROSSING, 3, f"{COMMUNITY}003")
    assert (problem.lon, problem.lat) == (pytest.approx(120.2005), pytest.approx(30.2705))
    assert "--repair" in problem.describe("en") and "120.2005" in problem.describe("en")


def test_repair_mends_it_and_shows_what_it_changed(connection: Connection, write: Write) -> None:
    frame = cells()
    frame.loc[2, "geometry"] = BOW_TIE
    result = imported(connection, write(frame), repair=True)
    (told,) = [problem for problem in result.problems if problem.severity is Severity.REPAIRED]
    assert (told.row, told.params["parts"]) == (3, 2)
    assert told.params["before"].startswith("POLYGON") and told.params["after"].startswith("MULTIPOLYGON")
    shape = shapely.from_wkb(read_cells(connection)[2].geom_wkb)
    assert shape.is_valid and shape.area == pytest.approx(0.5e-6)


def test_problems_of_many_rows_are_told_together_and_nothing_is_stored(connection: Connection, write: Write) -> None:
    frame = cells(9)
    frame.loc[0, "code"] = None
    frame.loc[1, "code"] = "33010501200100"
    frame.loc[2, "code"] = frame.loc[3, "code"]
    frame.loc[4, "geometry"] = None
    frame.loc[5, "geometry"] = shapely.Point(WEST, SOUTH)
    frame.loc[6, "geometry"] = shapely.box(20.0, 10.0, 20.001, 10.001)
    frame.loc[7, "geometry"] = shapely.box(30.27, 120.2, 30.271, 120.201)
    problems = refused(connection, write(frame, "bad.geojson"))
    assert [(problem.row, problem.kind) for problem in problems] == [
        (1, ProblemKind.MISSING_CODE),
        (2, ProblemKind.WRONG_CODE),
        (4, ProblemKind.DUPLICATE_CODE),
        (5, ProblemKind.NO_GEOMETRY),
        (6, ProblemKind.WRONG_GEOMETRY),
        (7, ProblemKind.OUTSIDE_CHINA),
        (8, ProblemKind.SWAPPED),
    ]
    with pytest.raises(
        ImportRefusedError, match=r"nothing was imported; problems: 7, rows: 9\n  row 1: it has no code"
    ):
        import_file(connection, write(frame, "bad.geojson"), level="cell", now=NOW)


def test_coordinates_that_are_no_degrees_spoil_only_their_row(connection: Connection, write: Write) -> None:
    frame = cells()
    frame.loc[1, "geometry"] = shapely.box(516_000, 3_351_000, 516_100, 3_351_100)
    (problem,) = refused(connection, write(frame))
    assert (problem.row, problem.kind) == (2, ProblemKind.BAD_COORDINATES)


def test_overlapping_cells_are_refused_but_shared_borders_are_not(connection: Connection, write: Write) -> None:
    frame = cells()
    frame.loc[3, "geometry"] = shapely.box(WEST + 2.9 * STEP, SOUTH, WEST + 4 * STEP, SOUTH + STEP)
    (problem,) = refused(connection, write(frame))
    assert (problem.row, problem.kind) == (3, ProblemKind.OVERLAP)
    assert problem.params["other"] == f"{COMMUNITY}004"
    assert problem.params["area_m2"] == pytest.approx(1_070, rel=0.02)


def test_a_file_may_not_overlap_what_is_stored_unless_it_replaces_it(connection: Connection, write: Write) -> None:
    imported(connection, write(cells()))
    renumbered = cells()
    renumbered["code"] = [f"{COMMUNITY}10{n}" for n in range(4)]
    path = write(renumbered, "renumbered.gpkg")
    assert {problem.kind for problem in refused(connection, path)} == {ProblemKind.OVERLAP}
    result = imported(connection, path, replace_level=True)
    assert (result.written, result.removed) == (4, 4)
    assert [cell.code for cell in read_cells(connection)] == list(renumbered["code"])


def test_importing_again_changes_rows_and_keeps_their_ids(connection: Connection, write: Write) -> None:
    imported(connection, write(cells()))
    before, version = read_cells(connection), read_version(connection)
    wider = cells()
    wider.loc[3, "geometry"] = shapely.box(WEST + 3 * STEP, SOUTH, WEST + 5 * STEP, SOUTH + STEP)
    import_file(connection, write(wider), level="cell", now=NOW + timedelta(hours=1))
    after = read_cells(connection)
    assert [cell.id for cell in after] == [cell.id for cell in before]
    assert after[3].geom_wkb != before[3].geom_wkb
    assert read_version(connection) != version


def test_a_gap_between_cells_is_a_warning(connection: Connection, write: Write) -> None:
    ring = [(column, row) for column in range(3) for row in range(3) if (column, row) != (1, 1)]
    rows = [{"code": f"{COMMUNITY}{n + 1:03d}", "geometry": square(*at)} for n, at in enumerate(ring)]
    result = imported(connection, write(geopandas.GeoDataFrame(rows, crs="EPSG:4490")))
    (gap,) = [problem for problem in result.problems if problem.kind is ProblemKind.GAP]
    assert square(1, 1).contains(shapely.Point(gap.lon, gap.lat))
    assert gap.params["area_m2"] == pytest.approx(10_700, rel=0.02)


def areas(level: Level, code: str, shape: shapely.Polygon, name: str = "某地") -> geopandas.GeoDataFrame:
    """One area."""
    return geopandas.GeoDataFrame([{"code": code, "name": name, "geometry": shape}], crs="EPSG:4490")


def test_cells_outside_the_district_are_refused(connection: Connection, write: Write) -> None:
    district = shapely.box(WEST, SOUTH, WEST + 3.5 * STEP, SOUTH + STEP)
    imported(connection, write(areas(Level.DISTRICT, "330105", district), "d.gpkg"), Level.DISTRICT)
    problems = refused(connection, write(cells(5)))
    assert [(p.row, p.kind, p.params["percent"]) for p in problems] == [
        (4, ProblemKind.OUTSIDE_PARENT, "50"),
        (5, ProblemKind.OUTSIDE_PARENT, "100"),
    ]
    assert imported(connection, write(cells(3))).written == 3


def test_the_levels_are_checked_against_the_one_above(connection: Connection, write: Write) -> None:
    whole = shapely.box(WEST, SOUTH, WEST + 4 * STEP, SOUTH + 4 * STEP)
    first = imported(connection, write(areas(Level.STREET, "330105012", whole), "s.gpkg"), Level.STREET)
    assert [problem.kind for problem in first.problems] == [ProblemKind.NO_PARENTS]
    stray = areas(Level.COMMUNITY, "330105013001", whole)
    (problem,) = refused(connection, write(stray, "c.gpkg"), Level.COMMUNITY)
    assert (problem.kind, problem.params["parent"]) == (ProblemKind.UNKNOWN_PARENT, "330105013")
    wrong = areas(Level.COMMUNITY, COMMUNITY, whole)
    wrong["parent_code"] = "330105019"
    (problem,) = refused(connection, write(wrong, "c.gpkg"), Level.COMMUNITY)
    assert problem.kind is ProblemKind.WRONG_PARENT
    nameless = areas(Level.COMMUNITY, COMMUNITY, whole, name=" ")
    (problem,) = refused(connection, write(nameless, "c.gpkg"), Level.COMMUNITY)
    assert problem.kind is ProblemKind.MISSING_NAME
    imported(connection, write(areas(Level.COMMUNITY, COMMUNITY, whole), "c.gpkg"), Level.COMMUNITY)
    imported(connection, write(areas(Level.GRID, f"{COMMUNITY}G01", whole), "g.gpkg"), Level.GRID)
    assert [(area.level, area.parent_code) for area in read_areas(connection)] == [
        ("street", "330105"),
        ("community", "330105012"),
        ("grid", COMMUNITY),
    ]


def test_a_cell_s_responsibility_grid_exists_and_is_of_its_community(connection: Connection, write: Write) -> None:
    frame = cells(2)
    frame["responsibility_grid_code"] = [f"{COMMUNITY}G01", "330105012002G01"]
    (problem,) = refused(connection, write(frame))
    assert (problem.row, problem.kind) == (2, ProblemKind.WRONG_GRID)
    whole = shapely.box(WEST, SOUTH, WEST + 4 * STEP, SOUTH + STEP)
    imported(connection, write(areas(Level.GRID, f"{COMMUNITY}G01", whole), "g.gpkg"), Level.GRID)
    frame["responsibility_grid_code"] = [f"{COMMUNITY}G01", f"{COMMUNITY}G02"]
    (problem,) = refused(connection, write(frame))
    assert (problem.row, problem.kind) == (2, ProblemKind.UNKNOWN_GRID)


@pytest.mark.parametrize("digits", [14, 16])
def test_a_city_with_other_cell_codes_imports_them(connection: Connection, write: Write, digits: int) -> None:
    frame = cells()
    frame["code"] = [f"{COMMUNITY}{n + 1:0{digits - 12}d}" for n in range(4)]
    assert {problem.kind for problem in refused(connection, write(frame))} == {ProblemKind.WRONG_CODE}
    assert imported(connection, write(frame), cell_code_digits=digits).written == 4


def test_codes_kept_as_numbers_are_read_as_codes(connection: Connection, write: Write) -> None:
    for kind in ("int64", "float64"):
        frame = cells()
        frame["code"] = frame["code"].astype("int64").astype(kind)
        imported(connection, write(frame))
        assert read_cells(connection)[0].code == f"{COMMUNITY}001"


def test_chinese_columns_and_names_in_gbk_are_read(connection: Connection, write: Write) -> None:
    frame = areas(Level.STREET, "330105012", square(0, 0), name="天水街道").rename(
        columns={"code": "编码", "name": "名称"}
    )
    path = write(frame, "s.shp", encoding="GBK")
    path.with_suffix(".cpg").unlink()
    with path.with_suffix(".dbf").open("r+b") as table:
        table.seek(29)
        table.write(b"\0")  # no language driver: how most desktop tools in China leave it
    imported(connection, path, Level.STREET)
    assert read_areas(connection)[0].name == "天水街道"


def test_background_replaces_its_layers(connection: Connection, write: Write) -> None:
    def count() -> dict[str, int]:
        rows = connection.execute("SELECT layer, count(*) FROM map_feature GROUP BY 1 ORDER BY 1").fetchall()
        return dict(rows)

    rows = [
        {
            "layer": "road",
            "name": "武林路",
            "width_m": 16.0,
            "geometry": shapely.LineString([(WEST, SOUTH), (WEST, 30.3)]),
        },
        {"layer": "water", "name": "", "width_m": None, "geometry": square(0, 0)},
        {"layer": "water", "name": "", "width_m": None, "geometry": square(1, 0)},
    ]
    frame = geopandas.GeoDataFrame(rows, crs="EPSG:4490")
    imported(connection, write(frame, "f.geojson"), Level.FEATURE)
    assert count() == {"road": 1, "water": 2}
    imported(connection, write(frame[frame.layer == "water"][:1], "f.geojson"), Level.FEATURE)
    assert count() == {"road": 1, "water": 1}
    (properties,) = connection.execute("SELECT properties FROM map_feature WHERE layer = 'road'").fetchone() or ()
    assert properties == {"width_m": 16.0}
    frame.loc[1, "layer"] = "Water; DROP"
    (problem,) = refused(connection, write(frame, "f.geojson"), Level.FEATURE)
    assert (problem.row, problem.kind) == (2, ProblemKind.MISSING_LAYER)


def test_components_are_keyed_by_standard_and_kind_and_put_in_their_cell(connection: Connection, write: Write) -> None:
    imported(connection, write(cells()))
    where = shapely.Point(WEST + 1.5 * STEP, SOUTH + STEP / 2)
    rows = [
        {"code": "3301050101000001", "name": "上水井盖", "geometry": where},
        {"code": "33010501001000001", "name": "上水井盖", "geometry": where},
    ]
    frame = geopandas.GeoDataFrame(rows, crs="EPSG:4490")
    path = write(frame, "components.gpkg")
    assert imported(connection, path, Level.COMPONENT).written == 2
    assert imported(connection, path, Level.COMPONENT).written == 2  # changed, not doubled
    found = [(each.standard, each.kind, each.cell_code) for each in read_components(connection)]
    assert found == [("GB/T 30428.2", "0101", f"{COMMUNITY}002"), ("GB/T 47678.5", "01001", f"{COMMUNITY}002")]
    frame.loc[0, "geometry"] = shapely.Point(WEST - STEP, SOUTH)
    frame.loc[1, "code"] = "12"
    kinds = [problem.kind for problem in refused(connection, write(frame, "components.gpkg"), Level.COMPONENT)]
    assert kinds == [ProblemKind.WRONG_CODE]
    frame.loc[1, "code"] = "33010501001000001"
    (problem,) = refused(connection, write(frame, "components.gpkg"), Level.COMPONENT)
    assert (problem.row, problem.kind) == (1, ProblemKind.NO_CELLS)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("cells.txt", b"x", ProblemKind.UNKNOWN_FORMAT),
        ("cells.geojson", b"{ not json", ProblemKind.UNREADABLE),
        ("cells.gpkg", b"\x00" * 4_096, ProblemKind.UNREADABLE),
        ("cells.shp", b"\x00" * 4_096, ProblemKind.UNREADABLE),
        ("cells.zip", b"PK", ProblemKind.UNREADABLE),
        ("cells.geojson", b'{"type":"FeatureCollection","features":[]}', ProblemKind.EMPTY),
    ],
)
def test_a_file_that_is_none_is_refused_whole(
    connection: Connection, tmp_path: Path, name: str, content: bytes, kind: ProblemKind
) -> None:
    (tmp_path / name).write_bytes(content)
    (problem,) = refused(connection, tmp_path / name)
    assert (problem.kind, problem.row) == (kind, None)


def test_a_missing_file_and_an_address_are_refused(connection: Connection, tmp_path: Path) -> None:
    for path in (tmp_path / "none.gpkg", Path("/vsicurl/http://127.0.0.1/x.geojson")):
        (problem,) = refused(connection, path)
        assert problem.kind is ProblemKind.UNREADABLE


def test_of_several_layers_the_one_named_by_the_level_is_read(connection: Connection, write: Write) -> None:
    write(cells(2), "many.gpkg", layer="old")
    path = write(cells(3), "many.gpkg", layer="new")
    (problem,) = refused(connection, path)
    assert problem.kind is ProblemKind.MANY_LAYERS
    assert imported(connection, write(cells(4), "many.gpkg", layer="cell")).written == 4


def test_a_refused_file_leaves_the_transaction_usable(connection: Connection, write: Write) -> None:
    imported(connection, write(cells(3)))
    frame = cells()
    frame.loc[3, "geometry"] = BOW_TIE
    refused(connection, write(frame))
    assert Locator.load(connection).locate(WEST + STEP / 2, SOUTH + STEP / 2) is not None
    assert len(read_cells(connection)) == 3
