"""One call tells cell, component, road, landmark and address; the nearest is the nearest, as looking at all of them says."""

from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import shapely
from pyproj import Geod

from grid.locate import Locator
from grid.model import Component, Feature, GridCell
from grid.surroundings import COMPONENT_LIMIT_M, Surveyor

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
WEST, SOUTH = 120.16, 30.27
EARTH = Geod(ellps="GRS80")


def component(number: int, lon: float, lat: float, **properties: str) -> Component:
    """A lamp."""
    return Component(
        id=UUID(int=number), standard="GB/T 30428.2", kind="0101", code=f"{number:016d}", name=f"路灯{number}",
        cell_code=None, lon=lon, lat=lat, source_crs="EPSG:4490", imported_at=NOW, properties=dict(properties),
    )  # fmt: skip


def feature(number: int, layer: str, name: str, shape: shapely.Geometry, **properties: float) -> Feature:
    """Something on the map."""
    return Feature(
        id=UUID(int=number), layer=layer, name=name, geom_wkb=shapely.to_wkb(shape), properties=dict(properties)
    )


def one_cell() -> Locator:
    """A cell around everything here."""
    cell = GridCell(
        id=UUID(int=1), code="330105012001001", responsibility_grid_code="330105012001G01", lon=WEST, lat=SOUTH,
        geom_wkb=shapely.to_wkb(shapely.box(WEST - 0.01, SOUTH - 0.01, WEST + 0.02, SOUTH + 0.02)),
        source_crs="EPSG:4490", imported_at=NOW,
    )  # fmt: skip
    names = {"330105": "下城区", "330105012": "天水街道", "330105012001": "灯芯巷社区"}
    return Locator([cell], names)


def test_the_nearest_component_and_its_metres_agree_with_the_geodesic_to_every_one() -> None:
    rng = np.random.default_rng(11)
    lamps = [component(n, *rng.uniform((WEST, SOUTH), (WEST + 0.004, SOUTH + 0.004))) for n in range(1, 120)]
    surveyor = Surveyor(one_cell(), lamps, [])
    for lon, lat in rng.uniform((WEST - 0.001, SOUTH - 0.001), (WEST + 0.005, SOUTH + 0.005), (400, 2)):
        true = {lamp.code: EARTH.inv(lon, lat, lamp.lon, lamp.lat)[2] for lamp in lamps}
        code = min(true, key=lambda each: true[each])
        found = surveyor.survey(lon, lat).component
        if true[code] > COMPONENT_LIMIT_M * 1.001:
            assert found is None
        elif true[code] < COMPONENT_LIMIT_M * 0.999:
            assert found is not None
            assert true[found.component.code] <= true[code] + 0.01
            assert abs(found.distance_m - true[found.component.code]) < 0.02


def test_roads_and_landmarks_agree_with_the_distance_to_every_one_whatever_tile_asks_first() -> None:
    rng = np.random.default_rng(12)
    lines = [shapely.LineString(rng.uniform((WEST, SOUTH), (WEST + 0.01, SOUTH + 0.01), (3, 2))) for _ in range(12)]
    features = [feature(n + 1, "road", f"路{n}", line) for n, line in enumerate(lines)]
    surveyor = Surveyor(one_cell(), [], features)
    for lon, lat in rng.uniform((WEST, SOUTH), (WEST + 0.01, SOUTH + 0.01), (300, 2)):
        ends = [line.interpolate(line.project(shapely.Point(lon, lat))) for line in lines]
        upper = min(
            EARTH.inv(lon, lat, end.x, end.y)[2] for end in ends
        )  # nearest in degrees: never nearer than the nearest
        road = surveyor.survey(lon, lat).road
        if road is None:
            assert upper > 149
            continue
        own = lines[int(road.name.removeprefix("路"))]
        assert road.distance_m <= upper + 0.05
        near = shapely.shortest_line(shapely.transform(own, scaled), shapely.transform(shapely.Point(lon, lat), scaled))
        assert abs(road.distance_m - near.length) < 0.5


def scaled(xy: np.ndarray) -> np.ndarray:
    """Metres, near enough for half a metre in a kilometre."""
    return xy * (96_240.0, 110_860.0)


def test_the_address_says_areas_road_and_landmark_in_both_languages_and_the_surface_is_what_lies_there() -> None:
    road = feature(1, "road", "环城北路", shapely.LineString([(WEST, SOUTH), (WEST + 0.01, SOUTH)]), width_m=20.0)
    square = feature(2, "green", "武林广场", shapely.box(WEST + 0.001, SOUTH + 0.0003, WEST + 0.002, SOUTH + 0.001))
    surveyor = Surveyor(one_cell(), [component(7, WEST + 0.0015, SOUTH + 0.0005, owner="绿城物业")], [road, square])
    found = surveyor.survey(WEST + 0.0015, SOUTH + 0.0005)
    assert found.address() == "下城区天水街道灯芯巷社区，距环城北路55米，武林广场内"
    assert found.address("en") == "in 武林广场, 55 m from 环城北路, 灯芯巷社区, 天水街道, 下城区"
    assert found.surface == "green"
    assert found.component is not None
    assert found.component.component.owner == "绿城物业" and found.component.distance_m < 1e-6
    on_it = surveyor.survey(WEST + 0.005, SOUTH + 0.00005)
    assert (on_it.surface, on_it.landmark, on_it.component) == ("road", None, None)
    assert surveyor.survey(WEST + 0.005, SOUTH - 0.0002).surface == ""


def test_nothing_is_known_of_what_is_no_position_or_far_away() -> None:
    surveyor = Surveyor(one_cell(), [component(1, WEST, SOUTH)], [])
    for lon, lat in [(float("nan"), SOUTH), (WEST, float("inf")), (500.0, 0.0), (0.0, 0.0), (0.0, 90.0)]:
        found = surveyor.survey(lon, lat)
        assert (found.place, found.component, found.road, found.landmark, found.surface) == (None,) * 4 + ("",)
        assert found.address() == found.address("en") == ""
