"""Dates: an import takes effect at an instant, what it changes is kept as it was, and a past instant can be asked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import geopandas
import pytest
import shapely

from dispatch.view import read_incidents
from grid.exporting import export_file
from grid.importing import import_file
from grid.locate import Locator
from grid.model import Level
from grid.problem import ImportRefusedError, ProblemKind, Severity
from grid.store import read_areas, read_cells, read_components
from kernel.db import Connection, Database
from tests.dashboard.conftest import open_incident

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LAST_YEAR, THIS_YEAR = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
COMMUNITY = "330105012001"
WEST, SOUTH, STEP = 120.16, 30.27, 0.001


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A transaction of gw_worker."""
    with database.transaction() as opened:
        yield opened


def row_of(widths: list[float], path: Path) -> Path:
    """A row of cells, numbered from 1, so many hundred metres wide each."""
    edges = [WEST + STEP * sum(widths[:n]) for n in range(len(widths) + 1)]
    rows = [
        {"code": f"{COMMUNITY}{n + 1:03d}", "geometry": shapely.box(edges[n], SOUTH, edges[n + 1], SOUTH + STEP)}
        for n in range(len(widths))
    ]
    geopandas.GeoDataFrame(rows, crs="EPSG:4490").to_file(path)
    return path


def cell_at(connection: Connection, column: float, at: datetime | None) -> str | None:
    """Last three digits of the cell at so many hundred metres from the west."""
    place = Locator.load(connection, at).locate(WEST + column * STEP, SOUTH + STEP / 2)
    return place and place.cell_code[-3:]


def test_last_year_s_case_keeps_last_year_s_grid(connection: Connection, tmp_path: Path) -> None:
    old, new = row_of([1, 1, 1], tmp_path / "old.gpkg"), row_of([2, 1], tmp_path / "new.gpkg")
    import_file(connection, old, level=Level.CELL, valid_from=LAST_YEAR, now=NOW)
    result = import_file(connection, new, level=Level.CELL, replace_level=True, valid_from=THIS_YEAR, now=NOW)
    assert (result.written, result.removed) == (2, 1)
    assert len(read_cells(connection)) == 2  # everything that does not ask for a date sees the present
    before = THIS_YEAR - timedelta(microseconds=1)
    asked = [LAST_YEAR - timedelta(days=1), LAST_YEAR, before, THIS_YEAR, None]
    assert [cell_at(connection, 1.5, at) for at in asked] == [None, "002", "002", "001", "001"]
    assert [cell_at(connection, 2.5, at) for at in asked] == [None, "003", "003", "002", "002"]
    assert export_file(connection, tmp_path / "then.gpkg", level=Level.CELL, at=before) == 3
    then = geopandas.read_file(tmp_path / "then.gpkg")
    assert then.geometry.geom_equals_exact(geopandas.read_file(old).geometry, 1e-9).all()


def test_a_case_s_names_are_those_of_its_time(connection: Connection, tmp_path: Path) -> None:
    for name, since in (("灯芯巷社区", LAST_YEAR), ("环北社区", THIS_YEAR)):
        area = {"code": COMMUNITY, "name": name, "geometry": shapely.box(WEST, SOUTH, WEST + STEP, SOUTH + STEP)}
        geopandas.GeoDataFrame([area], crs="EPSG:4490").to_file(tmp_path / "area.gpkg")
        import_file(connection, tmp_path / "area.gpkg", level=Level.COMMUNITY, valid_from=since, now=NOW)
    assert [area.name for area in read_areas(connection)] == ["环北社区"]
    names = [
        connection.execute("SELECT gw_area_name(%s, %s)", (COMMUNITY, at)).fetchone()
        for at in (LAST_YEAR, THIS_YEAR, NOW, LAST_YEAR - timedelta(days=1))
    ]
    assert names == [("灯芯巷社区",), ("环北社区",), ("环北社区",), ("环北社区",)]
    opened = {open_incident(connection, COMMUNITY, opened_at=at): at for at in (LAST_YEAR, THIS_YEAR)}
    shown = {opened[UUID(str(each["id"]))]: each["area"]["community"] for each in read_incidents(connection, now=NOW)}
    assert shown == {LAST_YEAR: "灯芯巷社区", THIS_YEAR: "环北社区"}


def test_the_same_again_changes_no_dates_and_a_correction_from_the_same_day_leaves_no_past(
    connection: Connection, tmp_path: Path
) -> None:
    import_file(connection, row_of([1, 1], tmp_path / "a.gpkg"), level=Level.CELL, valid_from=THIS_YEAR, now=NOW)
    later = NOW + timedelta(hours=1)
    import_file(connection, tmp_path / "a.gpkg", level=Level.CELL, now=later)
    assert {cell.valid_from for cell in read_cells(connection)} == {THIS_YEAR}
    import_file(connection, row_of([1.5, 0.5], tmp_path / "b.gpkg"), level=Level.CELL, valid_from=THIS_YEAR, now=later)
    assert cell_at(connection, 1.2, THIS_YEAR) == "001"
    assert connection.execute("SELECT count(*) FROM grid_cell_past").fetchone() == (0,)


def test_the_future_and_a_contradiction_of_the_past_are_refused(connection: Connection, tmp_path: Path) -> None:
    import_file(connection, row_of([1, 1], tmp_path / "a.gpkg"), level=Level.CELL, valid_from=LAST_YEAR, now=NOW)
    import_file(connection, row_of([1.5, 0.5], tmp_path / "b.gpkg"), level=Level.CELL, valid_from=THIS_YEAR, now=NOW)
    for since, kind in ((NOW + timedelta(days=1), ProblemKind.FUTURE_DATE), (LAST_YEAR, ProblemKind.DATE_CONFLICT)):
        with pytest.raises(ImportRefusedError) as caught:
            import_file(connection, tmp_path / "a.gpkg", level=Level.CELL, valid_from=since, now=NOW)
        refused = [each for each in caught.value.result.problems if each.severity is Severity.REFUSED]
        assert {problem.kind for problem in refused} == {kind}
    assert cell_at(connection, 1.2, None) == "001"


def test_a_component_stays_where_it_is_when_the_cells_around_it_change(connection: Connection, tmp_path: Path) -> None:
    import_file(connection, row_of([1, 1], tmp_path / "a.gpkg"), level=Level.CELL, valid_from=LAST_YEAR, now=NOW)
    lamp = {"code": "3301050101000001", "name": "路灯", "geometry": shapely.Point(WEST + 1.2 * STEP, SOUTH + STEP / 2)}
    geopandas.GeoDataFrame([lamp], crs="EPSG:4490").to_file(tmp_path / "lamp.gpkg")
    import_file(connection, tmp_path / "lamp.gpkg", level=Level.COMPONENT, now=NOW)
    assert [each.cell_code for each in read_components(connection)] == [f"{COMMUNITY}002"]
    import_file(connection, row_of([1.5, 0.5], tmp_path / "b.gpkg"), level=Level.CELL, now=NOW)
    assert [each.cell_code for each in read_components(connection)] == [f"{COMMUNITY}001"]
