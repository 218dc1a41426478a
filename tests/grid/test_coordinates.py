"""Coordinate systems there and back."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.coordinates import (
    CoordinateError,
    CrsError,
    check_crs,
    from_cgcs2000,
    from_cgcs2000_many,
    to_cgcs2000,
    to_cgcs2000_many,
)

CENTIMETRE_DEG = 0.01 / 111_320
SYSTEMS = ["EPSG:4490", "EPSG:4326", "EPSG:4549", "EPSG:3857", "gcj02", "bd09"]
# Well inside the box: within a kilometre of its edge the inverse of gcj02 has two answers.
china_lon = st.floats(73.0, 135.0)
china_lat = st.floats(3.0, 53.0)


def metres_between(lon: float, lat: float, other: tuple[float, float]) -> float:
    """Distance over the ground of two positions close to each other."""
    return math.hypot((lon - other[0]) * 111_320 * math.cos(math.radians(lat)), (lat - other[1]) * 110_900)


@pytest.mark.parametrize("crs", SYSTEMS)
@settings(deadline=None)  # the machine may be busy
@given(lon=china_lon, lat=china_lat)
def test_a_position_comes_back_within_a_centimetre(crs: str, lon: float, lat: float) -> None:
    there = from_cgcs2000(lon, lat, crs)
    assert metres_between(lon, lat, to_cgcs2000(*there, crs)) < 0.01


@pytest.mark.parametrize("crs", ["gcj02", "bd09"])
@settings(deadline=None)  # the machine may be busy
@given(lon=china_lon, lat=china_lat)
def test_what_a_map_service_says_is_what_it_gets_back(crs: str, lon: float, lat: float) -> None:
    true_lon, true_lat = to_cgcs2000(lon, lat, crs)
    assert metres_between(lon, lat, from_cgcs2000(true_lon, true_lat, crs)) < 0.01


@settings(deadline=None)  # the machine may be busy
@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
def test_map_services_change_nothing_outside_china(lon: float, lat: float) -> None:
    if 71.9 <= lon <= 137.9 and 0.7 <= lat <= 55.9:
        return
    for crs in ("gcj02", "bd09"):
        assert from_cgcs2000(lon, lat, crs) == (lon, lat)
        assert to_cgcs2000(lon, lat, crs) == (lon, lat)


@pytest.mark.parametrize(
    ("true", "shifted"),
    [  # latitude, longitude: the published test pairs of eviltransform (Shanghai, Shenzhen, Beijing)
        ((31.1774276, 121.5272106), (31.17530398364597, 121.531541859215)),
        ((22.543847, 113.912316), (22.540796131694766, 113.9171764808363)),
        ((39.911954, 116.377817), (39.91334545536069, 116.38404722455657)),
    ],
)
def test_gcj02_is_the_one_that_map_services_use(true: tuple[float, float], shifted: tuple[float, float]) -> None:
    lon, lat = from_cgcs2000(true[1], true[0], "gcj02")
    assert (lat, lon) == (pytest.approx(shifted[0], abs=1e-6), pytest.approx(shifted[1], abs=1e-6))


def test_gcj02_and_bd09_agree_with_the_pairs_published_by_coordtransform() -> None:
    assert from_cgcs2000(116.404, 39.915, "gcj02") == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-9)
    at = to_cgcs2000(116.404, 39.915, "gcj02")
    assert from_cgcs2000(*at, "bd09") == pytest.approx((116.41036949371029, 39.92133699351021), abs=1e-9)


def test_in_hangzhou_amap_is_some_500_m_off_and_baidu_more() -> None:
    assert 300 < metres_between(120.17, 30.28, from_cgcs2000(120.17, 30.28, "gcj02")) < 600
    assert 600 < metres_between(120.17, 30.28, from_cgcs2000(120.17, 30.28, "bd09")) < 1_500


def test_metres_are_east_and_north_in_the_projected_system() -> None:
    east, north = from_cgcs2000(120.0, 30.0, "EPSG:4549")
    assert east == pytest.approx(500_000.0, abs=0.01)
    assert north == pytest.approx(3_320_113.398, abs=0.01)  # meridian arc of GRS 80 to 30 degrees


def test_longitude_comes_first_whatever_the_official_axis_order() -> None:
    assert to_cgcs2000(120.17, 30.28, "EPSG:4490") == (120.17, 30.28)
    lon, lat = to_cgcs2000(120.17, 30.28, "EPSG:4610")  # Xian 1980, latitude first by the book
    assert (lon, lat) == (pytest.approx(120.17, abs=0.01), pytest.approx(30.28, abs=0.01))


def test_many_positions_are_the_same_as_one_by_one() -> None:
    lons, lats = [120.1, 120.2, 2.35], [30.1, 30.2, 48.85]
    for crs in SYSTEMS:
        xs, ys = from_cgcs2000_many(lons, lats, crs)
        assert [*zip(xs, ys, strict=True)] == [from_cgcs2000(*p, crs) for p in zip(lons, lats, strict=True)]
        assert [*to_cgcs2000_many(xs, ys, crs)[0]] == pytest.approx(lons, abs=CENTIMETRE_DEG)


@pytest.mark.parametrize("name", ["GCJ02", "gcj-02", " gcj02 "])
def test_names_are_read_in_the_usual_spellings(name: str) -> None:
    assert check_crs(name) == "gcj02"
    assert check_crs("epsg:4490") == "EPSG:4490"


@pytest.mark.parametrize("name", ["", "4490", "EPSG:", "EPSG:999999", "wgs84", "EPSG:4490; DROP TABLE area"])
def test_an_unknown_system_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(CrsError, match="gcj02 or bd09"):
        check_crs(name)


@pytest.mark.parametrize(("lon", "lat"), [(math.nan, 30), (120, math.inf), (520_000, 3_351_000), (120, 91)])
def test_what_is_no_position_is_refused(lon: float, lat: float) -> None:
    for crs in ("EPSG:4490", "gcj02", "bd09"):
        with pytest.raises(CoordinateError):
            to_cgcs2000(lon, lat, crs)


def test_a_projected_position_far_from_its_zone_is_refused() -> None:
    with pytest.raises(CoordinateError):
        to_cgcs2000(math.inf, 0, "EPSG:4549")
    with pytest.raises(CoordinateError):
        to_cgcs2000(9e9, 9e9, "EPSG:4549")
