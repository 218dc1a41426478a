"""The generated district: complete, without gaps or overlaps, numbered by the standard, for any seed."""

import json
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from grid.code import check_code, number_cells
from grid.model import Level
from kernel.types import LonLat
from simulators.district import FILES, District, SiteKind, distance_m, make_district, read_district, write_district
from simulators.district.plan import STREETS

SEEDS = (0, 999_999_999)
METRES = np.array([96_195.0, 110_858.0])
REAL_STREETS = {
    "330105012": "天水街道", "330105013": "武林街道", "330105014": "长庆街道", "330105015": "潮鸣街道",
    "330105016": "朝晖街道", "330105017": "文晖街道", "330105018": "东新街道", "330105019": "石桥街道",
}  # fmt: skip


@pytest.fixture(scope="module", params=SEEDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[District, Path]:
    """A district of one of the seeds, with its files."""
    folder = tmp_path_factory.mktemp("district")
    return write_district(folder, request.param), folder


def read(folder: Path, level: str) -> list[tuple[dict[str, Any], Any]]:
    """Properties and shape of every feature of a file."""
    features = json.loads((folder / FILES[level]).read_text("utf-8"))["features"]
    return [(feature["properties"], shapely.from_geojson(json.dumps(feature["geometry"]))) for feature in features]


def test_cells_are_a_coverage_of_the_district_without_gaps_or_overlaps(made: tuple[District, Path]) -> None:
    _, folder = made
    shapes = [shape for _, shape in read(folder, "cell")]
    assert all(shape.geom_type == "Polygon" and shape.is_valid and not shape.interiors for shape in shapes)
    assert shapely.coverage_is_valid(shapes)  # no overlaps, no vertex that a neighbour lacks
    whole = shapely.union_all(shapes)
    assert whole.geom_type == "Polygon" and not whole.interiors  # one piece, no holes
    ((_, district),) = read(folder, "district")
    assert whole.equals(district)
    assert sum(shape.area for shape in shapes) == pytest.approx(district.area, rel=1e-9)


def test_cells_are_about_a_hectare_and_not_too_many(made: tuple[District, Path]) -> None:
    _, folder = made
    sizes = np.array([shape.area * METRES.prod() for _, shape in read(folder, "cell")])
    assert 2_500 < len(sizes) < 4_000
    assert 9_500 < np.median(sizes) < 10_500
    assert sizes.min() > 3_500 and sizes.max() < 25_000
    assert np.mean((sizes > 7_000) & (sizes < 14_000)) > 0.9


def test_areas_are_exactly_their_cells(made: tuple[District, Path]) -> None:
    district, folder = made
    shapes = {properties["code"]: shape for properties, shape in read(folder, "cell")}
    for level, digits in (("street", 9), ("community", 12)):
        for properties, shape in read(folder, level):
            own = [cell for code, cell in shapes.items() if code[:digits] == properties["code"]]
            assert shapely.coverage_union_all(own).equals(shape)
            assert properties["parent_code"] == properties["code"][: digits - 3]
    for properties, shape in read(folder, "grid"):
        own = [shapes[cell.code] for cell in district.cells.values() if cell.grid_code == properties["code"]]
        assert shapely.coverage_union_all(own).equals(shape)
        assert {c.community_code for c in district.cells.values() if c.grid_code == properties["code"]} == {
            properties["parent_code"]
        }


def test_streets_are_the_eight_real_ones_where_they_are(made: tuple[District, Path]) -> None:
    _, folder = made
    streets = {properties["code"]: (properties["name"], shape) for properties, shape in read(folder, "street")}
    assert {code: name for code, (name, _) in streets.items()} == REAL_STREETS
    west, south, east, north = shapely.total_bounds([shape for _, shape in streets.values()])
    assert west > 120.15 and east < 120.205 and south > 30.255 and north < 30.348
    for code, lon, lat in [("330105012", 120.1636, 30.2720), ("330105017", 120.1770, 30.2860)]:  # 武林广场, 打铁关
        assert streets[code][1].contains(shapely.Point(lon, lat))


def test_codes_are_written_by_the_rules_and_every_one_is_there_once(made: tuple[District, Path]) -> None:
    district, folder = made
    for level in ("district", "street", "community", "grid", "cell"):
        codes = [properties["code"] for properties, _ in read(folder, level)]
        assert len(set(codes)) == len(codes)
        for code in codes:
            check_code(Level(level), code)
    assert {cell.grid_code for cell in district.cells.values()} == set(district.grids)
    names = [properties["name"] for properties, _ in read(folder, "community")]
    assert len(set(names)) == len(names) >= sum(len(street.communities) for street in STREETS)


def test_cells_are_numbered_as_the_platform_understands_the_standard(made: tuple[District, Path]) -> None:
    _, folder = made
    communities = defaultdict(list)
    for properties, shape in read(folder, "cell"):
        communities[properties["code"][:12]].append((properties["code"], shape))
    for cells in communities.values():
        centres = shapely.get_coordinates(shapely.centroid([shape for _, shape in cells])) * METRES
        assert [f"{number:03d}" for number in number_cells(centres)] == [code[12:] for code, _ in cells]


def test_the_maker_s_point_in_polygon_agrees_with_geometry(made: tuple[District, Path]) -> None:
    district, folder = made
    cells = read(folder, "cell")
    tree = shapely.STRtree([shape for _, shape in cells])
    rng = np.random.default_rng(district.seed)
    points = rng.uniform([120.150, 30.255], [120.205, 30.348], (4_000, 2))
    found: list[str | None] = [None] * len(points)
    for at, index in tree.query(shapely.points(points), predicate="within").T:
        found[at] = cells[index][0]["code"]
    assert [district.cell_at(lon, lat) for lon, lat in points] == found
    assert 500 < sum(code is None for code in found) < 3_500


def test_buildings_lots_and_squares_are_cut_by_no_cell_and_stand_apart(made: tuple[District, Path]) -> None:
    _, folder = made
    cells = [shape for _, shape in read(folder, "cell")]
    features = read(folder, "feature")
    built = [shape for properties, shape in features if properties["layer"] == "building"]
    open_ground = [shape for properties, shape in features if properties["layer"] in ("parking_lot", "green")]
    water = [shape for properties, shape in features if properties["layer"] == "water"]
    assert len(built) > 5_000
    at, _ = shapely.STRtree(cells).query(built + open_ground, predicate="covered_by")
    assert at.tolist() == list(range(len(built) + len(open_ground)))
    one, other = shapely.STRtree(built).query(built, predicate="intersects")
    assert (one == other).all()
    assert not shapely.STRtree(built).query(open_ground + water, predicate="intersects").size


def test_roads_and_rivers_have_their_real_names(made: tuple[District, Path]) -> None:
    _, folder = made
    named = defaultdict(set)
    for properties, shape in read(folder, "feature"):
        assert shape.is_valid and not shape.is_empty
        named[properties["layer"]].add(properties["name"])
    assert set(named) == {"road", "water", "building", "parking_lot", "green"}
    assert {"武林路", "环城北路", "中河北路", "建国北路", "文晖路", "绍兴路", "石桥路", "东新路", "凤起路"} <= named[
        "road"
    ]
    assert named["water"] == {"京杭运河", "东河", "上塘河", "贴沙河"}
    assert "武林广场" in named["green"]


def test_sites_lie_well_inside_their_cells(made: tuple[District, Path]) -> None:
    district, folder = made
    borders = {properties["code"]: shape.exterior for properties, shape in read(folder, "cell")}
    assert len({(site.kind, site.cell_code) for site in district.sites}) == len(district.sites)
    for site in district.sites:
        assert district.cell_at(site.lon, site.lat) == site.cell_code
        flat = shapely.transform(borders[site.cell_code], lambda xy: xy * METRES)
        away_m = shapely.distance(flat, shapely.Point(site.lon * METRES[0], site.lat * METRES[1]))
        assert away_m >= site.margin_m >= 8.0
    enough = {
        SiteKind.KERB: 800,
        SiteKind.SQUARE: 60,
        SiteKind.RIVER: 100,
        SiteKind.PARKING_LOT: 100,
        SiteKind.BUILDING: 2_000,
    }
    counts = Counter(site.kind for site in district.sites)
    assert all(counts[kind] >= least for kind, least in enough.items())


def test_sites_of_a_kind_are_where_that_kind_is(made: tuple[District, Path]) -> None:
    district, folder = made
    layers = defaultdict(list)
    for properties, shape in read(folder, "feature"):
        layers[properties["layer"]].append(shape)
    for kind, layer in (
        (SiteKind.SQUARE, "green"),
        (SiteKind.PARKING_LOT, "parking_lot"),
        (SiteKind.BUILDING, "building"),
    ):
        points = [shapely.Point(site.lon, site.lat) for site in district.sites if site.kind is kind]
        at, _ = shapely.STRtree(layers[layer]).query(points, predicate="within")
        assert at.tolist() == list(range(len(points)))
    banks = shapely.union_all(layers["water"])
    for site in district.sites:
        if site.kind is SiteKind.RIVER:
            assert shapely.distance(banks, shapely.Point(site.lon, site.lat)) * METRES[1] < 10.0


def test_a_draw_of_sites_gives_each_a_cell_of_its_own_near_where_it_is_wanted() -> None:
    district = make_district(7)
    kinds = [SiteKind.KERB] * 6 + [SiteKind.BUILDING] * 6 + [SiteKind.PARKING_LOT, SiteKind.SQUARE]
    near = LonLat(120.1636, 30.2720)
    drawn = district.distinct_sites(kinds, random.Random(4), near=near, within_m=900.0)
    assert [site.kind for site in drawn] == kinds
    assert len({site.cell_code for site in drawn}) == len(kinds)
    assert all(distance_m(site.position, near) <= 900.0 for site in drawn)
    assert drawn == district.distinct_sites(kinds, random.Random(4), near=near, within_m=900.0)
    assert drawn != district.distinct_sites(kinds, np.random.default_rng(4), near=near, within_m=900.0)
    taken = {site.cell_code for site in district.sites if site.kind is SiteKind.SQUARE}
    with pytest.raises(LookupError, match="no free square"):
        district.site(SiteKind.SQUARE, random.Random(4), taken=taken)
    assert district.site(SiteKind.KERB, random.Random(4), street_code="330105019").cell_code.startswith("330105019")


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(
    made: tuple[District, Path], tmp_path: Path
) -> None:
    _, folder = made
    again = write_district(tmp_path, SEEDS[0])
    for name in (*FILES.values(), "sites.json"):
        same = (folder / name).read_bytes() == (tmp_path / name).read_bytes()
        assert same == (made[0].seed == again.seed)


def test_a_district_read_back_is_the_one_that_was_written(made: tuple[District, Path]) -> None:
    district, folder = made
    assert read_district(folder) == district


def test_rings_are_closed_and_their_coordinates_are_multiples_of_a_ten_millionth_of_a_degree(
    made: tuple[District, Path],
) -> None:
    for cell in made[0].cells.values():
        assert cell.ring[0] == cell.ring[-1]
        assert all(before != after for before, after in pairwise(cell.ring))
        assert all(round(lon, 7) == lon and round(lat, 7) == lat for lon, lat in cell.ring)
