"""Asking about a position: what it is called, in which systems, and who is competent there."""

import httpx
import pytest
import shapely

from grid.coordinates import from_cgcs2000
from grid.duty import DutyRule
from grid.duty_store import replace_duty_rules
from grid.model import Area, Component, Feature, GridCell, Level
from grid.store import replace_features, write_areas, write_cells, write_components
from kernel.db import Database
from kernel.ids import new_id
from tests.dashboard.conftest import SignIn, now

LON, LAT = 120.17, 30.28
COMMUNITY = "330105012001"


@pytest.fixture
def client(database: Database, sign_in: SignIn) -> httpx.Client:
    """An operator; a cell with a bin, a pavement and a road in it, and rules for them."""
    whole = shapely.to_wkb(shapely.box(LON - 0.001, LAT - 0.001, LON + 0.001, LAT + 0.001))
    row = {"geom_wkb": whole, "source_crs": "EPSG:4490", "imported_at": now()}
    names = {Level.STREET: ("330105012", "天水街道"), Level.COMMUNITY: (COMMUNITY, "灯芯巷社区")}
    areas = [
        Area(id=new_id(now()), level=level, code=code, name=name, parent_code=None, **row)  # type: ignore[arg-type]
        for level, (code, name) in names.items()
    ]
    cell = GridCell(id=new_id(now()), code=f"{COMMUNITY}001", responsibility_grid_code=None, lon=LON, lat=LAT, **row)  # type: ignore[arg-type]
    box = Component(
        id=new_id(now()), standard="GB/T 30428.2", kind="0303", code="3301050303000001", name="垃圾箱",
        cell_code=cell.code, lon=LON, lat=LAT, source_crs="EPSG:4490", imported_at=now(), properties={"owner": "绿城物业"},
    )  # fmt: skip
    pavement = shapely.box(LON - 0.001, LAT + 0.0003, LON + 0.001, LAT + 0.0004)
    road = shapely.LineString([(LON - 0.001, LAT + 0.0005), (LON + 0.001, LAT + 0.0005)])
    with database.transaction() as connection:
        write_areas(connection, areas)
        write_cells(connection, [cell])
        write_components(connection, [box])
        replace_features(
            connection,
            [
                Feature(id=new_id(now()), layer="pavement", name="", geom_wkb=shapely.to_wkb(pavement)),
                Feature(id=new_id(now()), layer="road", name="体育场路", geom_wkb=shapely.to_wkb(road), properties={"width_m": 12}),
            ],
        )  # fmt: skip
        rules = [
            ("illegal_parking", "pavement", "", "城管"),
            ("illegal_parking", "road", "", "交警"),
            ("bin_overflow", "", "", "环卫"),
            ("bin_overflow", "", "物业", "物业"),
        ]
        replace_duty_rules(
            connection,
            [
                DutyRule(category=c, surface=s, owner=o, competent_dept=d, handling_dept=d, source="t")
                for c, s, o, d in rules
            ],
            now(),
            "test",
        )
    return sign_in()


def test_one_call_tells_everything_and_the_same_from_any_system(client: httpx.Client) -> None:
    here = client.get("/api/v1/locate", params={"lon": LON, "lat": LAT}).json()
    assert here["cell_code"] == f"{COMMUNITY}001" and here["grid"] is None
    assert here["community"] == {"code": COMMUNITY, "name": "灯芯巷社区"} and here["street"]["name"] == "天水街道"
    assert (here["component"]["code"], here["component"]["owner"], here["component"]["distance_m"]) == (
        "3301050303000001", "绿城物业", 0.0,
    )  # fmt: skip
    assert here["road"] == {"name": "体育场路", "layer": "road", "distance_m": 55.4}
    assert here["address"]["zh"] == "天水街道灯芯巷社区，距体育场路55米"
    assert set(here["positions"]) == {"EPSG:4490", "EPSG:4549", "gcj02", "bd09"}
    for crs, (x, y) in here["positions"].items():
        assert (x, y) == pytest.approx(from_cgcs2000(LON, LAT, crs), abs=1e-3 if crs == "EPSG:4549" else 1e-7)
        same = client.get("/api/v1/locate", params={"lon": x, "lat": y, "crs": crs}).json()
        assert same["cell_code"] == here["cell_code"] and same["component"]["distance_m"] <= 0.02
    away = client.get("/api/v1/locate", params={"lon": 0, "lat": 0}).json()
    assert (away["cell_code"], away["component"], away["address"]) == (None, None, {"zh": "", "en": ""})


def test_who_is_competent_follows_from_what_lies_there(client: httpx.Client) -> None:
    asked: list[tuple[str, float, dict[str, str], str, str]] = [
        ("illegal_parking", LAT + 0.00035, {}, "城管", "rule"),
        ("illegal_parking", LAT + 0.0005, {}, "交警", "rule"),
        ("illegal_parking", LAT, {}, "天水街道办事处", "no_rule"),
        ("bin_overflow", LAT, {}, "物业", "rule"),
        ("bin_overflow", LAT, {"owner": ""}, "环卫", "rule"),
        ("bin_overflow", LAT + 0.0002, {}, "环卫", "rule"),
    ]
    for category, lat, more, dept, reason in asked:
        duty = client.get("/api/v1/duty", params={"category": category, "lon": LON, "lat": lat, **more}).json()
        assert (duty["competent_dept"], duty["reason"], duty["territorial"]) == (dept, reason, reason != "rule")
    for path, params, status, code in [
        ("locate", {"crs": "mars"}, 422, "unknown_crs"),
        ("locate", {"lon": 200}, 422, "bad_position"),
        ("duty", {"category": "x"}, 404, "unknown_category"),
        ("duty", {"category": "smoke", "lon": 0}, 404, "outside_grid"),
    ]:
        answer = client.get(f"/api/v1/{path}", params={"lon": LON, "lat": LAT, **params})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    client.cookies.clear()
    assert client.get("/api/v1/locate", params={"lon": LON, "lat": LAT}).status_code == 401
