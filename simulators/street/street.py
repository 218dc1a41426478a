"""An abstract street seen by a fixed camera, with ground truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street import atmosphere as air
from simulators.street import backdrop as scenery
from simulators.street import layout as plans
from simulators.street.decor import Decor, add_decor, furnish
from simulators.street.figure import Figure, Floats, Outline, Picture, outline, paint, paint_mask
from simulators.street.litter import add_garbage, add_hand_bag
from simulators.street.people import add_person, add_two_wheeler
from simulators.street.refuse import add_bin
from simulators.street.scene import (
    Actor,
    Bin,
    Garbage,
    HandBag,
    Light,
    Person,
    TruthBox,
    TwoWheeler,
    Vehicle,
    Weather,
    label_of,
)
from simulators.street.vehicles import add_vehicle, size_of

NOISE_BANK = 3
CACHED_FIGURES = 160
SEEN_FREELY_M = {"bin": 1.6, "litter_spot": 0.8, "square": 1.8, "bay": 1.5}
"""Places before which no tree, post or cabinet stands, and how tall the things in them are."""


@dataclass(frozen=True, slots=True)
class Lens:
    """The faults of one camera: blur in pixels, noise, gain per channel, gamma."""

    blur_px: float
    noise: float
    gains: tuple[float, float, float]
    gamma: float

    @classmethod
    def choose(cls, seed: int, dark: bool) -> Lens:
        """The faults of the camera with that seed."""
        rng = np.random.default_rng([seed, 7])
        gains = rng.uniform(0.92, 1.08, 3)
        noise = float(rng.uniform(1.0, 5.0)) * (1.7 if dark else 1.0)
        return cls(
            float(rng.uniform(0.0, 0.75)),
            noise,
            (float(gains[0]), float(gains[1]), float(gains[2])),
            float(rng.uniform(0.85, 1.2)),
        )


class Street:
    """A street, its actors, and the camera that sees them.

    The picture depends on the seed, the light, the weather, the actors and the time that is passed in, and on
    nothing else. Coordinates are ground metres: x to the right of the camera, y away from it.
    """

    def __init__(
        self,
        seed: int,
        *,
        width: int = 640,
        height: int = 360,
        light: Light = Light.DAY,
        weather: Weather = Weather.CLEAR,
    ) -> None:
        """Builds the street of a seed (about 0.3 s) for pictures of width x height pixels."""
        self.seed = seed
        self.width = width
        self.height = height
        self.light = light
        self.weather = weather
        self.blackout = False
        self.actors: dict[str, Actor] = {}
        self.layout, self.camera, self.places = plans.plan(seed, width, height)
        self._backdrop = scenery.build(seed, self.layout, self.camera)
        keep = [[place.x_m, place.y_m] for place in self.places.values()]
        keep += [list(corner) for name in ("square", "litter_spot", "bin") for corner in self.places[name].polygon_m]
        # what is left out must not depend on the light or weather of the moment
        self._air = air.choose(seed, Light.DAY, Weather.CLEAR, self.layout)
        views = [self._view_of(name, tall_m) for name, tall_m in SEEN_FREELY_M.items()]
        self._decor = [
            decor for decor in furnish(seed, self.layout, np.array(keep)) if not self._blocks_any(decor, views)
        ]
        self._outline_of = lru_cache(maxsize=CACHED_FIGURES)(self._outline)
        self._stamp = air.halo_stamp()
        self._relight()

    # ---- the scene -------------------------------------------------------------------------------------------

    def put(self, name: str, actor: Actor) -> None:
        """Puts an actor into the street under a name, instead of the one that had it."""
        self.actors[name] = actor

    def remove(self, name: str) -> None:
        """Takes an actor away; no error when there is none of that name."""
        self.actors.pop(name, None)

    def move(self, name: str, *, x_m: float, y_m: float, heading_rad: float | None = None) -> None:
        """Moves an actor; KeyError when there is none of that name."""
        actor = self.actors[name]
        heading = actor.heading_rad if heading_rad is None else heading_rad
        self.actors[name] = replace(actor, x_m=x_m, y_m=y_m, heading_rad=heading)

    def set_light(self, light: Light) -> None:
        """Changes the light."""
        if light is not self.light:
            self.light = light
            self._relight()

    def set_weather(self, weather: Weather) -> None:
        """Changes the weather."""
        if weather is not self.weather:
            self.weather = weather
            self._relight()

    def project(self, points_m: Floats) -> Floats:
        """Pixels (N, 2) of ground points (N, 2)."""
        points = np.asarray(points_m, dtype=np.float64).reshape(-1, 2)
        pixels, _ = self.camera.project(np.column_stack([points, np.zeros(len(points))]))
        return pixels

    def zone(self, name: str) -> list[list[float]]:
        """A place's polygon in picture coordinates, 0 to 1, clipped to the picture; KeyError for no such place."""
        pixels = self.project(self.places[name].polygon_m) / [self.width, self.height]
        frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        hull = cv2.convexHull(pixels.astype(np.float32))
        area, clipped = cv2.intersectConvexConvex(hull, frame.reshape(-1, 1, 2))
        if area <= 0:
            raise ValueError(f"place {name} is not in the picture")
        return [[round(float(x), 5), round(float(y), 5)] for x, y in clipped.reshape(-1, 2)]

    # ---- the picture -----------------------------------------------------------------------------------------

    def render(self, now_s: float) -> NDArray[np.uint8]:
        """The picture at that time, BGR uint8 (height, width, 3)."""
        rng = np.random.default_rng([self.seed & 0x7FFFFFFF, 8, int(now_s * 1000) & 0x7FFFFFFF])
        if self.blackout:
            picture = np.full((self.height, self.width, 3), 3, np.uint8)
            return self._add_noise(picture, rng)
        picture = self._empty.copy()
        seen = self._ordered(now_s)
        self._cast_shadows(picture, seen)
        if self._air.dark:
            self._shine_beams(picture)
        self._paint_all(picture, seen)
        if self._air.dark:
            for _, view in seen:
                for x, y, radius, colour in view.halos:
                    air.add_halo(picture, self._stamp, x, y, radius * 1.6, colour, wet=self._air.wet)
        self._falling.fall(picture, now_s)
        if self._lens.blur_px > 0.25:
            picture = np.asarray(
                cv2.GaussianBlur(picture, (3, 3), self._lens.blur_px * self.width / 640), dtype=np.uint8
            )
        picture = np.asarray(cv2.LUT(picture, self._curve), dtype=np.uint8)
        return self._add_noise(picture, rng)

    def truth(self, now_s: float) -> list[TruthBox]:
        """Where every actor in the picture is, far ones first; actors wholly outside are left out."""
        if self.blackout:
            return []
        seen = self._ordered(now_s)
        owner = np.zeros((self.height, self.width), np.uint8)
        scratch = np.zeros((self.height, self.width), np.uint8)
        whole: list[tuple[str, Actor, Outline, int, tuple[int, int, int, int]] | None] = []
        for actor_name, view in seen:
            scratch[:] = 0
            paint_mask(scratch, view)
            own = len(whole) + 1
            inside = cv2.countNonZero(scratch)
            owner[scratch > 0] = min(own, 255) if actor_name else 0
            actor = self.actors.get(actor_name) if actor_name else None
            if actor is None or not inside:
                whole.append(None)
                continue
            left, top, wide, high = (int(value) for value in cv2.boundingRect(scratch))
            whole.append((actor_name, actor, view, inside, (left, top, wide, high)))
        counts = np.bincount(owner.ravel(), minlength=256)
        boxes = []
        for index, entry in enumerate(whole):
            if entry is None:
                continue
            name, actor, view, inside, (x, y, w, h) = entry
            x1, y1, x2, y2 = view.box
            shown = (w * h) / max(1.0, (x2 - x1) * (y2 - y1))
            fraction = min(1.0, shown) * (counts[index + 1] / inside if index < 254 else 1.0)
            boxes.append(
                TruthBox(
                    name=name,
                    label=label_of(actor),
                    x1=float(x),
                    y1=float(y),
                    x2=float(x + w),
                    y2=float(y + h),
                    visible_fraction=round(float(fraction), 4),
                )
            )
        return boxes

    # ---- parts -----------------------------------------------------------------------------------------------

    def _relight(self) -> None:
        self._air = air.choose(self.seed, self.light, self.weather, self.layout)
        self._outline_of.cache_clear()
        self._lens = Lens.choose(self.seed, self._air.dark)
        self._falling = air.Precipitation(self.seed, self._air, self.width, self.height)
        self._ground = np.asarray(np.clip(self._backdrop.albedo, 0, 255), dtype=np.uint8)
        levels = np.arange(256, dtype=np.float64) / 255
        curves = [np.clip(levels**self._lens.gamma * gain * 255, 0, 255) for gain in self._lens.gains]
        self._curve = np.stack(curves, axis=1).astype(np.uint8).reshape(1, 256, 3)
        unit = _unit_noise(self.width + 64, self.height + 64)
        self._noise = np.asarray(np.round(unit * np.float32(self._lens.noise)), dtype=np.int16)
        picture = air.light_up(self._backdrop, self._air, self.seed)
        self._fixed: list[tuple[Decor, Outline]] = []
        for decor in self._decor:
            view = self._decor_outline(decor)
            if view is not None:
                self._fixed.append((decor, view))
        self._fixed.sort(key=lambda pair: -_distance(pair[0].x_m, pair[0].y_m))
        self._empty = picture
        self._shadowed = np.asarray(picture * np.float32(self._air.shadow), dtype=np.uint8)
        self._cast_shadows(picture, [("", view) for _, view in self._fixed])
        for decor, view in self._fixed:
            self._paint_one(picture, view, decor.x_m, decor.y_m)
        self._shadowed = np.asarray(picture * np.float32(self._air.shadow), dtype=np.uint8)

    def _view_of(self, name: str, tall_m: float) -> tuple[float, tuple[float, float, float, float]]:
        """How far away a place is, and the pixels in which things up to that height in it are seen."""
        place = self.places[name]
        ends = [np.column_stack([place.polygon_m, np.full(len(place.polygon_m), z)]) for z in (0.0, tall_m)]
        pixels, _ = self.camera.project(np.concatenate(ends))
        (x1, y1), (x2, y2) = pixels.min(axis=0), pixels.max(axis=0)
        return _distance(place.x_m, place.y_m), (float(x1), float(y1), float(x2), float(y2))

    def _blocks_any(self, decor: Decor, views: list[tuple[float, tuple[float, float, float, float]]]) -> bool:
        seen = self._decor_outline(decor)
        near_m = _distance(decor.x_m, decor.y_m)
        return seen is not None and any(near_m < away_m and _overlap(seen.box, box) for away_m, box in views)

    def _decor_outline(self, decor: Decor) -> Outline | None:
        figure = Figure()
        add_decor(figure, decor, self.camera.eye, self._air.shade, self._air.weather is Weather.SNOW)
        return outline(figure, self.camera)

    def _outline(self, actor: Actor, phase_s: float) -> Outline | None:
        figure = Figure()
        eye, shade = self.camera.eye, self._air.shade
        match actor:
            case Person():
                add_person(figure, actor, eye, shade, phase_s, self._air.wet)
            case Vehicle():
                add_vehicle(figure, actor, eye, shade, self._air.dark)
            case TwoWheeler():
                add_two_wheeler(figure, actor, eye, shade, self._air.dark)
            case Bin():
                add_bin(figure, actor, eye, shade)
            case Garbage():
                add_garbage(figure, actor, shade)
            case HandBag():
                add_hand_bag(figure, actor, eye, shade)
        return outline(figure, self.camera)

    def _ordered(self, now_s: float) -> list[tuple[str, Outline]]:
        """Everything that stands in the street, farthest first; fixed things have an empty name."""
        entries: list[tuple[float, str, Outline]] = []
        for name, actor in self.actors.items():
            phase = now_s if isinstance(actor, Person) and actor.speed_mps > 0.05 else 0.0
            view = self._outline_of(actor, phase)
            if view is None or not self._in_frame(view):
                continue
            entries.append((_distance(actor.x_m, actor.y_m), name, view))
        hidden = [(away_m, view.box) for away_m, _, view in entries]
        for decor, view in self._fixed:  # already in the empty picture: only what stands before somebody is needed
            near_m = _distance(decor.x_m, decor.y_m)
            if any(near_m < away_m and _overlap(view.box, box) for away_m, box in hidden):
                entries.append((near_m, "", view))
        entries.sort(key=lambda entry: (-entry[0], entry[1]))
        return [(name, view) for _, name, view in entries]

    def _in_frame(self, view: Outline) -> bool:
        x1, y1, x2, y2 = view.box
        return x2 > 0 and y2 > 0 and x1 < self.width and y1 < self.height

    def _cast_shadows(self, picture: Picture, seen: list[tuple[str, Outline]]) -> None:
        mask = np.zeros((self.height, self.width), np.uint8)
        sun = self._air.shade.sun
        lean_x, lean_y = -sun[0] / sun[2], -sun[1] / sun[2]
        drawn = False
        for name, view in seen:
            if not name and picture is not self._empty:
                continue
            points = view.points
            cast = np.empty_like(points)
            cast[:, 0] = points[:, 0] + lean_x * points[:, 2]
            cast[:, 1] = points[:, 1] + lean_y * points[:, 2]
            cast[:, 2] = 0.0
            pixels, depth = self.camera.project(cast)
            if depth.min() < 1.0:
                continue
            hull = cv2.convexHull(np.round(pixels).astype(np.int32))
            cv2.fillConvexPoly(mask, hull, (255,))
            drawn = True
        if drawn:
            cv2.copyTo(self._shadowed, mask, picture)

    def _shine_beams(self, picture: Picture) -> None:
        for actor in self.actors.values():
            if isinstance(actor, Vehicle) and actor.lights_on and 2.0 < actor.y_m < 70.0:
                _, length, _ = size_of(actor)
                air.beam_on_ground(
                    picture, self.camera, actor.x_m, actor.y_m, actor.heading_rad, length / 2, self._ground
                )

    def _paint_all(self, picture: Picture, seen: list[tuple[str, Outline]]) -> None:
        places = {name: (actor.x_m, actor.y_m) for name, actor in self.actors.items()}
        fixed = {id(view): (decor.x_m, decor.y_m) for decor, view in self._fixed}
        for name, view in seen:
            x_m, y_m = places[name] if name else fixed[id(view)]
            self._paint_one(picture, view, x_m, y_m)

    def _paint_one(self, picture: Picture, view: Outline, x_m: float, y_m: float) -> None:
        light = self._air.light_at(x_m, y_m)
        paint(picture, view, light, self._air.haze, self._air.haze_share(_distance(x_m, y_m)))

    def _add_noise(self, picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
        index, dy, dx = int(rng.integers(NOISE_BANK)), int(rng.integers(64)), int(rng.integers(64))
        noise = self._noise[index, dy : dy + self.height, dx : dx + self.width]
        return np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), dtype=np.uint8)


@lru_cache(maxsize=2)
def _unit_noise(width: int, height: int) -> NDArray[np.float32]:
    """A few sheets of grainy noise with deviation about 1, shared by all streets of one size."""
    rng = np.random.default_rng(9)
    grain = rng.standard_normal((NOISE_BANK, height, width, 1), dtype=np.float32)
    colour = rng.standard_normal((NOISE_BANK, height, width, 3), dtype=np.float32)
    return np.asarray(grain + 0.5 * colour)


def _distance(x_m: float, y_m: float) -> float:
    return math.hypot(x_m, y_m)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
