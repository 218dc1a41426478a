"""The report of an import: a file made by outside GDAL tools, with errors, is refused and every error is drawn."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import shapely

from grid.coordinates import from_cgcs2000, to_cgcs2000
from grid.importing import import_file
from grid.locate import Locator
from grid.model import Level
from grid.problem import ImportRefusedError, ImportResult, ProblemKind
from grid.reporting import shows, write_report
from grid.store import read_cells
from kernel.db import Connection, Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
COMMUNITY = "330105012001"
WEST, SOUTH, STEP = 120.16, 30.27, 0.001

# ogr2ogr where it is installed, else the same library through another program: never the code that is tested.
_CONVERT = """
import sys
from pyogrio.raw import read, write
meta, _, shapes, columns = read(sys.argv[1])
more = {"encoding": "UTF-8"} if sys.argv[2].endswith("shp") else {}
write(sys.argv[2], shapes, columns, meta["fields"], geometry_type="Polygon", crs="EPSG:4490", **more)
"""


def convert(source: Path, target: Path) -> None:
    """Write a GeoJSON as another format with GDAL's own tools."""
    tool = shutil.which("ogr2ogr")
    command = [tool, str(target), str(source)] if tool else [sys.executable, "-c", _CONVERT, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A transaction of gw_worker."""
    with database.transaction() as opened:
        yield opened


def box(column: float, row: float, width: float = 1, height: float = 1) -> list[list[float]]:
    """A ring, in hundred metres from the south-west corner."""
    return [list(each) for each in shapely.box(WEST + column * STEP, SOUTH + row * STEP, WEST + (column + width) * STEP, SOUTH + (row + height) * STEP).exterior.coords]  # fmt: skip


def write_source(path: Path, *, broken: bool = True) -> Path:
    """Six cells of two communities; with errors: a bow tie, an overlap, a double code, a sliver, a gap, two communities."""
    rings = {
        "001": box(0, 0), "002": box(1, 0), "003": box(2, 0), "004": box(0, 1, 0.5), "005": box(0.6, 1, 1.4),
        "006": box(2, 1), "007": box(0, 2, 3),
    }  # fmt: skip
    if broken:
        west, south = WEST + 2 * STEP, SOUTH
        rings["003"] = [
            [west, south],
            [west + STEP, south + STEP],
            [west + STEP, south],
            [west, south + STEP],
            [west, south],
        ]
        rings["002"] = box(0.95, 0, 1.05)
        rings["008"] = box(3, 0, 0.01, 3)
        rings["009"] = box(2.9, 1, 0.6)
    features = [
        {
            "type": "Feature",
            "properties": {"code": COMMUNITY + ("004" if code == "006" and broken else code)},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for code, ring in rings.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def check(connection: Connection, path: Path, out: Path, crs: str | None = None) -> ImportResult:
    """Import without storing and write the report, as `grid import --report` does."""
    try:
        result = import_file(connection, path, level=Level.CELL, crs=crs, repair=True, check_only=True, now=NOW)
    except ImportRefusedError as error:
        result = error.result
    write_report(connection, result, path, out, crs=crs)
    return result


def put_community(connection: Connection, folder: Path) -> None:
    """The community that the cells should stay in: 300 by 300 m."""
    feature = {
        "type": "Feature", "properties": {"code": COMMUNITY, "name": "灯芯巷社区"},
        "geometry": {"type": "Polygon", "coordinates": [box(0, 0, 3.01, 3)]},
    }  # fmt: skip
    path = folder / "community.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    import_file(connection, path, level=Level.COMMUNITY, now=NOW)


@pytest.mark.parametrize("name", ["cells.shp", "cells.gpkg"])
def test_a_file_of_gdal_with_errors_is_refused_whole_and_every_error_has_a_picture(
    connection: Connection, tmp_path: Path, name: str
) -> None:
    put_community(connection, tmp_path)
    convert(write_source(tmp_path / "source.geojson"), tmp_path / name)
    result = check(connection, tmp_path / name, tmp_path / "report.html")
    assert not result.ok and read_cells(connection) == []
    kinds = {problem.kind for problem in result.problems}
    expected = {
        ProblemKind.OVERLAP,
        ProblemKind.DUPLICATE_CODE,
        ProblemKind.REPAIRED,
        ProblemKind.OUTSIDE_PARENT,
        ProblemKind.SLIVER,
    }
    assert expected <= kinds
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "http://" not in page and "https://" not in page and "<script" not in page and " src=" not in page
    for problem in result.problems:
        article = page[page.index(f'<article id="{problem.kind}-{problem.row or 0}">') :].split("</article>")[0]
        if problem.kind in expected:
            figure = article[article.index("<svg") : article.index("</svg>") + 6]
            drawn = [each.get("class") for each in ElementTree.fromstring(figure).iter() if each.get("class")]
            wanted = {ProblemKind.OVERLAP: "fault", ProblemKind.OUTSIDE_PARENT: "fault", ProblemKind.REPAIRED: "after"}
            assert wanted.get(problem.kind, "this") in drawn
        assert problem.describe("en")[:30] in article and problem.describe("zh-CN")[:6] in article


def test_mended_shapes_are_shown_and_the_report_is_of_that_file_only(connection: Connection, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.geojson", broken=False)
    value = json.loads(source.read_text())
    value["features"][2]["geometry"]["coordinates"] = json.loads(write_source(tmp_path / "b.geojson").read_text())[
        "features"
    ][2]["geometry"]["coordinates"]
    source.write_text(json.dumps(value))
    result = check(connection, source, tmp_path / "report.html")
    assert result.ok and read_cells(connection) == []
    assert {problem.kind for problem in result.problems} >= {ProblemKind.REPAIRED, ProblemKind.CRS_ASSUMED}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert 'class="before"' in page and 'class="after"' in page
    assert shows(tmp_path / "report.html", source, level=Level.CELL, crs=None)
    assert not shows(tmp_path / "report.html", tmp_path / "b.geojson", level=Level.CELL, crs=None)
    assert not shows(tmp_path / "report.html", source, level=Level.CELL, crs="gcj02")
    source.write_text(json.dumps(value) + " ")
    assert not shows(tmp_path / "report.html", source, level=Level.CELL, crs=None)


def test_a_file_that_cannot_be_read_has_a_report_too(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").write_bytes(b"\0" * 4_096)
    result = check(connection, tmp_path / "x.gpkg", tmp_path / "report.html")
    assert [problem.kind for problem in result.problems] == [ProblemKind.UNREADABLE]
    assert "unreadable" in (tmp_path / "report.html").read_text("utf-8")


def test_a_device_whose_position_is_gcj02_lands_in_the_cell_it_stands_in(
    connection: Connection, tmp_path: Path
) -> None:
    convert(write_source(tmp_path / "source.geojson", broken=False), tmp_path / "cells.shp")
    import_file(connection, tmp_path / "cells.shp", level=Level.CELL, now=NOW)
    locator = Locator.load(connection)
    for column, code in ((0.5, "001"), (1.5, "002"), (2.5, "003")):
        true = (WEST + column * STEP, SOUTH + 0.5 * STEP)
        for crs in ("gcj02", "bd09", "EPSG:4549"):
            told = from_cgcs2000(*true, crs)
            place = locator.locate(*to_cgcs2000(*told, crs))
            assert place is not None and place.cell_code == COMMUNITY + code
            if (
                crs != "EPSG:4549"
            ):  # taken as they are told they would be hundreds of metres away, in no cell or another
                wrong = locator.locate(*told)
                assert wrong is None or wrong.cell_code != COMMUNITY + code
