"""What the map reads: layers as GeoJSON, and the summary of them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from grid.importing import import_file
from grid.model import Level
from grid.store import UnknownLayer, read_components, read_layer_geojson, read_map_summary, read_version
from kernel.db import Database
from simulators.district import FILES, District, write_district

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, District]:
    """A generated district."""
    folder = tmp_path_factory.mktemp("district")
    return folder, write_district(folder, 11)


def test_an_empty_database_has_an_empty_map(database: Database) -> None:
    with database.transaction() as connection:
        summary = read_map_summary(connection)
        assert (summary["district"], summary["bounds"], summary["layers"]) == (None, None, [])
        assert json.loads(read_layer_geojson(connection, "cell")) == {"type": "FeatureCollection", "features": []}
        assert json.loads(read_layer_geojson(connection, "road"))["features"] == []
        assert read_components(connection) == []


def test_every_layer_of_an_imported_district_can_be_drawn(
    database: Database, app_database: Database, files: tuple[Path, District]
) -> None:
    folder, district = files
    with database.transaction() as connection:
        for level, name in FILES.items():
            result = import_file(connection, folder / name, level=level, now=NOW)
            assert result.problems == (), result.describe("en")
    with app_database.transaction() as connection:  # the map is the same for everybody
        summary = read_map_summary(connection)
        layers = {layer["name"]: layer["features"] for layer in summary["layers"]}
        assert set(layers) == {
            *(f"area-{level}" for level in ("district", "street", "community", "grid")),
            *("cell", "road", "water", "building", "parking_lot", "green"),
        }
        assert summary["district"] == {"code": "330105", "name": "拱墅区（原下城片区）"}
        assert layers["area-street"] == 8 and layers["cell"] == len(district.cells)
        west, south, east, north = summary["bounds"]
        assert 120.15 < west < east < 120.21 and 30.25 < south < north < 30.35
        drawn = {name: json.loads(read_layer_geojson(connection, name))["features"] for name in layers}
    for name, features in drawn.items():
        assert len(features) == layers[name]
        assert all(isinstance(feature["id"], int) for feature in features)
        assert len({feature["id"] for feature in features}) == len(features)
    cell = drawn["cell"][0]
    ring = district.cells[cell["properties"]["code"]].ring
    assert {tuple(point) for point in cell["geometry"]["coordinates"][0]} == set(ring)
    assert "天水街道" in {feature["properties"]["name"] for feature in drawn["area-street"]}
    wulin = [feature["properties"] for feature in drawn["road"] if feature["properties"]["name"] == "武林路"]
    assert wulin == [{"name": "武林路", "class": "secondary", "width_m": 16}]


def test_an_unknown_layer_is_told_from_an_empty_one(database: Database) -> None:
    with database.transaction() as connection, pytest.raises(UnknownLayer):
        read_layer_geojson(connection, "area-moon")


def test_the_version_changes_with_every_import(database: Database, files: tuple[Path, District]) -> None:
    seen = set()
    for turn, level in enumerate((Level.DISTRICT, Level.STREET, Level.FEATURE, Level.FEATURE, Level.STREET)):
        with database.transaction() as connection:
            import_file(connection, files[0] / FILES[level], level=level, now=NOW + timedelta(minutes=turn))
            seen.add(read_version(connection))
    assert len(seen) == 5
