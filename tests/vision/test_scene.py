"""Scenes: the same from TOML and JSON, and a wrong one is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vision.rules import discover
from vision.scene import SceneError, parse_scene, read_scene

RULES = discover()
SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]


def zone(**changes: Any) -> dict[str, Any]:
    return {"name": "kerb", "rule": "illegal_parking", "polygon": SQUARE, "parameters": {"dwell_s": 5}} | changes


def test_toml_and_json_give_the_same_scene(tmp_path: Path) -> None:
    path = tmp_path / "scene.toml"
    path.write_text(
        '[[zones]]\nname = "北侧路缘"\nrule = "illegal_parking"\nlon = 120.17\nlat = 30.28\n'
        "polygon = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]\n[zones.parameters]\ndwell_s = 5\n",
        encoding="utf-8",
    )
    same = parse_scene({"zones": [zone(name="北侧路缘", lon=120.17, lat=30.28)]}, RULES)
    assert read_scene(path, RULES) == same
    assert same.zones[0].parameters.dwell_s == 5 and same.zones[0].parameters.include_present is False


def test_the_default_of_the_database_is_a_scene_without_zones() -> None:
    assert parse_scene({"zones": []}, RULES).zones == ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (zone(polygon=[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]), "'kerb'.*crosses itself at 0.5 0.5"),
        (zone(polygon=[[0.1, 0.1], [0.5, 0.1], [0.9, 0.1]]), "'kerb'.*not a polygon"),
        (zone(polygon=[[0.1, 0.1], [0.9, 0.1]]), "polygon"),
        (zone(polygon=[[0.1, 0.1], [1.2, 0.1], [0.5, 0.9]]), "less than or equal to 1"),
        (zone(polygon=[[0.1, float("nan")], [0.9, 0.1], [0.5, 0.9]]), "finite"),
        (zone(rule="parking"), "no rule 'parking'.*crowding, illegal_parking, litter_overflow"),
        (zone(parameters={"dwell": 5}), "parameters of illegal_parking: dwell"),
        (zone(parameters={"dwell_s": -5}), "dwell_s.*greater than 0"),
        (zone(lon=120.0), "lon and lat belong together"),
        (zone(lon=220.0, lat=30.0), "lon"),
        (zone(colour="red"), "colour"),
        ({"name": "kerb"}, "rule"),
    ],
)
def test_a_wrong_zone_is_refused_with_its_name_and_the_reason(value: dict[str, Any], reason: str) -> None:
    with pytest.raises(SceneError, match=reason):
        parse_scene({"zones": [value]}, RULES)


@pytest.mark.parametrize(
    ("value", "code", "params"),
    [
        (zone(polygon=[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]), "crosses", {}),
        (zone(parameters={"dwell_s": -5}), "greater_than", {"field": "dwell_s", "limit": 0}),
        (
            zone(rule="crowding", parameters={"limit": 5, "clear_below": 9}),
            "clear_above_limit",
            {"field": "", "limit": 5},
        ),
        (zone(lon=120.0), "half_position", {"limit": None}),
        (zone(preset="gate"), "unknown_preset", {"preset": "gate"}),
    ],
)
def test_a_refusal_can_be_said_in_another_language(value: dict[str, Any], code: str, params: dict[str, Any]) -> None:
    with pytest.raises(SceneError) as refused:
        parse_scene({"zones": [value]}, RULES)
    error = refused.value
    assert (error.code, error.zone) == (code, "kerb")
    assert {name: error.params[name] for name in params} == params


def test_two_zones_of_one_name_are_refused() -> None:
    with pytest.raises(SceneError, match="two of this name"):
        parse_scene({"zones": [zone(), zone(rule="crowding", parameters={})]}, RULES)


def test_what_is_no_scene_at_all_is_refused() -> None:
    values: tuple[Any, ...] = (None, [], "zones", {"zone": []})
    for value in values:
        with pytest.raises(SceneError):
            parse_scene(value, RULES)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"none\.toml"):
        read_scene(tmp_path / "none.toml", RULES)
    (tmp_path / "bad.toml").write_text("[[zones")
    with pytest.raises(SceneError, match=r"bad\.toml"):
        read_scene(tmp_path / "bad.toml", RULES)


def test_a_point_is_inside_by_the_outline_even_of_a_zone_that_bends() -> None:
    bent = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.3], [0.1, 0.9]]
    shape = parse_scene({"zones": [zone(polygon=bent)]}, RULES).zones[0]
    assert shape.contains((0.2, 0.5)) and shape.contains((0.8, 0.5)) and not shape.contains((0.5, 0.6))
