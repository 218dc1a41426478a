"""A city for any seed: its own cells, real settings, zones where the camera sees them."""

import json
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from devices.registry import KINDS
from devices.window import find_window_start
from kernel.types import LonLat
from simulators.city import CAMERA_COUNT, COUNT_OF_KIND, DEMO_SEEDS_END, PLACE_OF_ZONE, City, make_settings, to_lon_lat
from simulators.district import District, distance_m, make_district
from vision.rules import discover
from vision.scene import parse_scene

NOW = datetime(2026, 11, 20, 15, 40, tzinfo=UTC)
SEEDS = (1, 424_242)


@pytest.fixture(scope="module")
def district() -> District:
    return make_district(1)


@pytest.fixture(scope="module", params=SEEDS)
def city(request: pytest.FixtureRequest, district: District) -> City:
    return City.build(request.param, district, NOW)


def test_it_has_what_the_demo_needs(city: City) -> None:
    assert len(city.cameras) == CAMERA_COUNT
    assert {kind: sum(d.kind == kind for d in city.devices) for kind in COUNT_OF_KIND} == COUNT_OF_KIND
    workers = [person for person in city.people if "grid_worker" in person.roles]
    assert len(workers) == 9 and sum(person.by_hand for person in workers) == 1
    assert [person.name for person in city.people if "operator" in person.roles] == ["desk01"]
    names = [thing.code for thing in (*city.cameras, *city.devices)] + [person.name for person in city.people]
    assert len(names) == len(set(names))
    assert len({thing.name for thing in (*city.cameras, *city.devices)}) == len(city.cameras) + len(city.devices)


def test_everything_is_in_a_cell_of_its_own_which_the_district_confirms(city: City, district: District) -> None:
    cells = [thing.cell for thing in (*city.cameras, *city.devices)]
    assert len(cells) == len(set(cells))
    for thing in (*city.cameras, *city.devices):
        assert district.cell_at(thing.lon, thing.lat) == thing.cell


def test_zones_lie_in_the_cells_that_the_truth_names(city: City, district: District) -> None:
    for camera in city.cameras:
        assert {zone["name"] for zone in camera.zones} == set(PLACE_OF_ZONE) == set(camera.zone_cells)
        for zone in camera.zones:
            assert district.cell_at(zone["lon"], zone["lat"]) == camera.zone_cells[zone["name"]] == camera.cell
            assert 5 < distance_m(LonLat(zone["lon"], zone["lat"]), LonLat(camera.lon, camera.lat)) < camera.range_m


def test_the_platform_takes_its_scenes_and_settings(city: City) -> None:
    rules = discover()
    for camera in city.cameras:
        assert len(parse_scene({"zones": list(camera.zones)}, rules).zones) == len(PLACE_OF_ZONE)
        KINDS["camera"].settings.model_validate(camera.settings)
    for device in city.devices:
        KINDS[device.kind].settings.model_validate(device.settings)


def test_a_plan_is_json_and_gives_the_same_city_again(city: City) -> None:
    plan = json.loads(json.dumps(city.plan("127.0.0.1", 8554)))
    assert City.read(plan) == city
    assert plan["cameras"][0]["url"] == "rtsp://127.0.0.1:8554/CAM-01"


def test_the_same_seed_is_the_same_city(district: District) -> None:
    one, same, other = (City.build(seed, district, NOW) for seed in (9, 9, 10))
    assert one == same
    assert one != other


@pytest.mark.parametrize("seed", [-1, DEMO_SEEDS_END])
def test_a_seed_of_the_training_data_is_refused(seed: int, district: District) -> None:
    with pytest.raises(ValueError, match="seed"):
        City.build(seed, district, NOW)


@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_the_night_window_holds_the_moment_and_the_hours_after_it(hour: int) -> None:
    now = datetime(2026, 11, 20, hour, 59, 40, tzinfo=UTC)
    settings = make_settings("door_sensor", "night", now, "Asia/Shanghai")
    start, end = (time.fromisoformat(settings[name]) for name in ("night_start", "night_end"))
    assert find_window_start(now, start, end, "Asia/Shanghai") is not None
    assert (
        datetime.combine(now.date(), end) - now.astimezone(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None)
    ).seconds > 3600


def test_ground_points_turn_with_the_heading() -> None:
    origin = LonLat(120.17, 30.3)
    north = to_lon_lat(origin, 0.0, 0.0, 100.0)
    assert north.lon == origin.lon and 0.0008 < north.lat - origin.lat < 0.001
    east = to_lon_lat(origin, 90.0, 0.0, 100.0)
    assert abs(east.lat - origin.lat) < 1e-6 and 0.0009 < east.lon - origin.lon < 0.0012
    right = to_lon_lat(origin, 0.0, 100.0, 0.0)
    assert right == east
