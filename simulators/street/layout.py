"""The plan of a street: where road, pavements, walls and named places lie, and the camera that sees them.

Road axes (u, v): u along the road, v across it, v growing away from the camera; the origin is the middle of
the road where the camera looks. Traffic keeps to the right, so the near lanes run towards +u.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.street.camera import Camera
from simulators.street.scene import Place

Floats = NDArray[np.float64]

NEVER_FOUND = "no street with all its places in view for seed {seed}"
TRIES = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Measures of one street in metres. `turn_rad` is the angle from world x to road u."""

    turn_rad: float
    distance_m: float
    half_road_m: float
    kerb_lane_m: float
    near_pavement_m: float
    far_pavement_m: float
    stop_u_m: float
    bays_u_m: tuple[float, float]
    square_u_m: tuple[float, float]
    bin_u_m: float
    litter_u_m: float
    zebra: bool
    parking_marks: bool

    @property
    def near_lane_v_m(self) -> float:
        """Middle of the near driving lane."""
        return -self.half_road_m + self.lane_m / 2

    @property
    def far_lane_v_m(self) -> float:
        """Middle of the far driving lane."""
        return -self.half_road_m + 1.5 * self.lane_m

    @property
    def lane_m(self) -> float:
        """Width of a driving lane."""
        return (2 * self.half_road_m - self.kerb_lane_m) / 2

    @property
    def wall_v_m(self) -> float:
        """Where the building fronts on the far side stand."""
        return self.half_road_m + self.far_pavement_m

    def to_world(self, points_uv: Floats) -> Floats:
        """World ground points (N, 2) of road points (N, 2)."""
        c, s = math.cos(self.turn_rad), math.sin(self.turn_rad)
        u, v = points_uv[:, 0], points_uv[:, 1]
        return np.stack([u * c - v * s, self.distance_m + u * s + v * c], axis=1)

    def heading(self, along: int) -> float:
        """World heading of something that goes along +u (1) or -u (-1)."""
        return self.turn_rad if along > 0 else self.turn_rad + math.pi


def plan(seed: int, width: int, height: int) -> tuple[Layout, Camera, dict[str, Place]]:
    """A street whose every place is well inside the frame; the same for the same seed and aspect ratio."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(TRIES):
        layout, camera = _draw(rng, width, height)
        places = _places(layout)
        if _fits(layout, camera, places):
            return layout, camera, places
    raise RuntimeError(NEVER_FOUND.format(seed=seed))


def _draw(rng: np.random.Generator, width: int, height: int) -> tuple[Layout, Camera]:
    uniform = rng.uniform
    height_m, distance_m = uniform(4.6, 9.0), uniform(11.5, 18.0)
    camera = Camera(
        width=width,
        height=height,
        height_m=height_m,
        tilt_rad=math.atan2(height_m, distance_m) + math.radians(uniform(-3.0, 4.5)),
        roll_rad=math.radians(uniform(-1.8, 1.8)),
        focal_px=width / 2 / math.tan(math.radians(uniform(56.0, 78.0)) / 2),
    )
    side = 1.0 if rng.random() < 0.5 else -1.0
    bays_middle, square_middle = -side * uniform(3.2, 5.6), side * uniform(3.0, 5.6)
    bays_half, square_half = uniform(3.0, 4.6), uniform(2.2, 3.3)
    litter_side = 1.0 if rng.random() < 0.5 else -1.0
    layout = Layout(
        turn_rad=math.radians(uniform(-38.0, 38.0)),
        distance_m=distance_m,
        half_road_m=uniform(4.0, 5.2),
        kerb_lane_m=uniform(2.4, 2.9),
        near_pavement_m=uniform(3.6, 6.0),
        far_pavement_m=uniform(4.5, 8.0),
        stop_u_m=uniform(4.0, 7.0),
        bays_u_m=(bays_middle - bays_half, bays_middle + bays_half),
        square_u_m=(square_middle - square_half, square_middle + square_half),
        bin_u_m=-litter_side * uniform(2.2, 3.6),
        litter_u_m=litter_side * uniform(1.8, 3.4),
        zebra=bool(rng.random() < 0.5),
        parking_marks=bool(rng.random() < 0.6),
    )
    return layout, camera


def _rectangle(u: tuple[float, float], v: tuple[float, float]) -> Floats:
    return np.array([[u[0], v[0]], [u[1], v[0]], [u[1], v[1]], [u[0], v[1]]])


def _places(layout: Layout) -> dict[str, Place]:
    half, lane = layout.half_road_m, layout.lane_m
    pavement_v = half + 1.0

    def place(
        name: str, u: tuple[float, float], v: tuple[float, float], along: int, at: tuple[float, float], reach_m: float
    ) -> Place:
        ends = np.array([[-reach_m * along, at[1]], [reach_m * along, at[1]]])
        spot = layout.to_world(np.array([at]))[0]
        return Place(
            name=name,
            polygon_m=layout.to_world(_rectangle(u, v)),
            x_m=float(spot[0]),
            y_m=float(spot[1]),
            heading_rad=layout.heading(along),
            path_m=layout.to_world(ends),
        )

    bay_u = sum(layout.bays_u_m) / 2
    bay_v = half - layout.kerb_lane_m / 2
    near_v, far_v = layout.near_lane_v_m, layout.far_lane_v_m
    square_v = (half + 1.4, half + layout.far_pavement_m - 0.3)
    square_u = sum(layout.square_u_m) / 2
    litter_v = -half - 1.2
    stop = layout.stop_u_m
    found = [
        place("no_parking", layout.bays_u_m, (half - layout.kerb_lane_m, half + 0.1), -1, (bay_u, bay_v), 30.0),
        place("bay", (bay_u - 2.4, bay_u + 2.4), (bay_v - 1.0, bay_v + 1.0), -1, (bay_u, bay_v), 30.0),
        place("queue", (stop - 11.0, stop), (near_v - lane / 2, near_v + lane / 2), 1, (stop - 2.6, near_v), 26.0),
        place("lane", (-9.0, 9.0), (far_v - lane / 2, far_v + lane / 2), -1, (0.0, far_v), 30.0),
        place("bin", _about(layout.bin_u_m, 0.8), (-half - 1.7, -half - 0.1), 1, (layout.bin_u_m, -half - 0.9), 10.0),
        place(
            "litter_spot",
            _about(layout.litter_u_m, 1.0),
            (litter_v - 0.9, litter_v + 0.9),
            1,
            (layout.litter_u_m, litter_v),
            10.0,
        ),
        place("square", layout.square_u_m, square_v, 1, (square_u, sum(square_v) / 2), 10.0),
        place("pavement_path", (-9.0, 9.0), (pavement_v - 0.7, pavement_v + 0.7), 1, (0.0, pavement_v), 26.0),
    ]
    return {each.name: each for each in found}


def _about(middle: float, reach: float) -> tuple[float, float]:
    return (middle - reach, middle + reach)


SMALLEST_PX: dict[str, tuple[float, float]] = {
    # place: (height in metres of the smallest thing there, least pixels high at 640 x 360)
    "square": (1.6, 30.0),
    "pavement_path": (1.6, 25.0),
    "bin": (1.0, 30.0),
    "litter_spot": (0.75, 24.5),
}


def _fits(layout: Layout, camera: Camera, places: dict[str, Place]) -> bool:
    zoom = camera.width / 640
    for name, place in places.items():
        corners = np.concatenate([place.polygon_m, [[place.x_m, place.y_m]]])
        pixels, depth = camera.project(_lift(corners, 0.0))
        if depth.min() < 2.5:
            return False
        if name in ("lane", "pavement_path", "queue"):  # these lead out of the picture by nature
            pixels = pixels[-1:]
        margin_x, margin_y = 0.025 * camera.width, 0.03 * camera.height
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if low[0] < margin_x or low[1] < margin_y:
            return False
        if high[0] > camera.width - margin_x or high[1] > camera.height - margin_y:
            return False
        if name in SMALLEST_PX:
            size_m, least_px = SMALLEST_PX[name]
            heads, _ = camera.project(_lift(corners, size_m))
            feet, _ = camera.project(_lift(corners, 0.0))
            if np.abs(feet[:, 1] - heads[:, 1]).min() < least_px * zoom or heads[:, 1].min() < margin_y:
                return False
    bay = places["bay"]
    car, _ = camera.project(_lift(bay.polygon_m, 0.0))
    return bool(np.ptp(car[:, 0]) >= 75.0 * zoom)


def _lift(points_m: Floats, z_m: float) -> Floats:
    return np.column_stack([points_m, np.full(len(points_m), z_m)])
