"""The ground plane: pairs of picture and ground make a map between both, or a reason why not."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulators.street.camera import Camera
from vision.ground import Ground, GroundError, Metres, fit_ground
from vision.model import Point
from vision.rules import discover
from vision.scene import SceneError, parse_scene

PLACES: tuple[Metres, ...] = ((-4.0, 8.0), (4.0, 8.0), (6.0, 25.0), (-6.0, 25.0), (0.0, 14.0))

cameras = st.builds(
    Camera,
    width=st.just(640),
    height=st.just(360),
    height_m=st.floats(3, 12),
    tilt_rad=st.floats(0.15, 0.9),
    roll_rad=st.floats(-0.1, 0.1),
    focal_px=st.floats(250, 700),
)


def see(camera: Camera, place: Metres) -> Point:
    pixels, _ = camera.project(np.array([[place[0], place[1], 0.0]]))
    return (float(pixels[0, 0]) / 640, float(pixels[0, 1]) / 360)


def ground_of(camera: Camera, turn: float = 0.0) -> tuple[Ground, Any]:
    def turned(place: Metres) -> Metres:
        x, y = place
        return (x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn))

    return fit_ground([see(camera, place) for place in PLACES], [turned(place) for place in PLACES]), turned


@given(camera=cameras, turn=st.floats(0, 6.28), x=st.floats(-8, 8), y=st.floats(6, 40))
def test_what_a_camera_sees_is_found_on_the_ground_and_shown_again(
    camera: Camera, turn: float, x: float, y: float
) -> None:
    ground, turned = ground_of(camera, turn)
    seen = see(camera, (x, y))
    assume(ground.nearness(seen) > 0.05)
    found = ground.locate(seen)
    assert found == pytest.approx(turned((x, y)), abs=0.02)
    assert ground.show(turned((x, y))) == pytest.approx(seen, abs=1e-3)


@given(camera=cameras, x=st.floats(-3, 3), y=st.floats(9, 20), side_m=st.floats(0.5, 4))
def test_areas_and_pixels_are_measured_in_metres(camera: Camera, x: float, y: float, side_m: float) -> None:
    ground, _ = ground_of(camera)
    corners = [(x, y), (x + side_m, y), (x + side_m, y + side_m), (x, y + side_m)]
    polygon = [see(camera, corner) for corner in corners]
    assert ground.area_m2(polygon) == pytest.approx(side_m**2, rel=0.02)
    pixel_m = ground.metres_per_pixel(see(camera, (x, y)), 640, 360)
    tiny = [see(camera, (x + dx, y + dy)) for dx, dy in ((0, 0), (0.02, 0), (0.02, 0.02), (0, 0.02))]
    spanned = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(tiny, (*tiny[1:], tiny[0]), strict=True))) / 2
    assert pixel_m == pytest.approx(math.sqrt(0.0004 / (spanned * 640 * 360)), rel=0.05)


@given(camera=cameras, seed=st.integers(0, 10_000))
def test_more_pairs_even_out_the_hand_that_clicks(camera: Camera, seed: int) -> None:
    rng = random.Random(seed)
    places = [(rng.uniform(-6, 6), rng.uniform(8, 25)) for _ in range(24)]
    points = [see(camera, place) for place in places]
    assume(all(-0.5 < x < 1.5 and -0.5 < y < 1.5 for x, y in points))
    slipped = [(x + rng.gauss(0, 0.001), y + rng.gauss(0, 0.001)) for x, y in points]
    found = fit_ground(slipped, places)
    assert found.error < 0.004
    assert found.locate(see(camera, (0.0, 12.0))) == pytest.approx((0.0, 12.0), abs=0.5)


STRAIGHT = Camera(width=640, height=360, height_m=6, tilt_rad=0.3, roll_rad=0.0, focal_px=450)
CORNERS = [see(STRAIGHT, place) for place in PLACES[:4]]


@pytest.mark.parametrize(
    ("points", "metres", "reason"),
    [
        (CORNERS[:3], PLACES[:3], "4 to 64 pairs"),
        ([*CORNERS[:3], CORNERS[0]], [*PLACES[:3], PLACES[0]], "fix no plane"),
        ([(0.1, 0.9), (0.3, 0.9), (0.5, 0.9), (0.5, 0.5)], [(0, 5), (2, 5), (4, 5), (4, 9)], "fix no plane"),
        ([CORNERS[1], CORNERS[0], *CORNERS[2:]], PLACES[:4], "folded|mirrored"),
        (CORNERS, [(y, x) for x, y in PLACES[:4]], "mirrored"),
        ([*CORNERS, see(STRAIGHT, (0, 14))], [*PLACES[:4], (3.0, 20.0)], "pair . contradicts"),
        (CORNERS, [(x * 1000, y) for x, y in PLACES[:4]], "from the camera"),
    ],
)
def test_pairs_that_fix_no_plane_are_refused_with_the_reason(points: Any, metres: Any, reason: str) -> None:
    with pytest.raises(GroundError, match=reason):
        fit_ground(points, metres)


def scene(polygon: list[list[float]], **ground: Any) -> dict[str, Any]:
    pairs = {"points": CORNERS, "metres": PLACES[:4], **ground}
    return {"zones": [{"name": "square", "rule": "crowding", "polygon": polygon}], "ground": pairs}


def test_a_zone_knows_the_ground_it_lies_on_and_may_not_reach_the_horizon() -> None:
    rules = discover()
    low = [[0.3, 0.6], [0.7, 0.6], [0.7, 0.95], [0.3, 0.95]]
    (found,) = parse_scene(scene(low), rules).zones
    assert found.ground is not None and 5 < (found.ground.area_m2(found.polygon) or 0) < 500
    with pytest.raises(SceneError, match=r"zone 'square': it reaches the horizon"):
        parse_scene(scene([[0.3, 0.02], [0.7, 0.02], [0.7, 0.9]]), rules)
    with pytest.raises(SceneError, match="ground: the pairs show the ground mirrored"):
        parse_scene(scene(low, metres=[(y, x) for x, y in PLACES[:4]]), rules)


def test_a_thing_lying_flat_has_about_its_own_area() -> None:
    ground, _ = ground_of(STRAIGHT)
    for x, y in ((0.0, 10.0), (2.0, 15.0)):
        ring = [see(STRAIGHT, (x + 0.5 * math.cos(a / 4), y + 0.5 * math.sin(a / 4))) for a in range(26)]
        box = (min(p[0] for p in ring), min(p[1] for p in ring), max(p[0] for p in ring), max(p[1] for p in ring))
        assert ground.footprint_m2(box) == pytest.approx(math.pi / 4, rel=0.15)
