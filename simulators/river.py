"""A river bank with a staff gauge (水尺) under a fixed camera, and its water level as ground truth.

A wall stands at some distance from the camera, a staff is fixed to it, the water mirrors both. What makes reading hard is
drawn: ripples and the staff's own mirror image, a muddy foot, a wet band, shadows, rain, night with an infrared lamp.
World axes as in `street.camera`, heights above the staff's zero.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street.camera import Camera
from simulators.street.scene import Light, Weather

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

LOWEST_M, HIGHEST_M = -0.6, 5.4
HALF_WIDTH_M = 4.0
TEXELS_PER_M = 250
STAFF_M = 4.0
OVERSAMPLING = 2
WAVES = 7
GRAVITY = 9.81


class River:
    """One river camera. The picture depends on the seed, the light, the weather, the level and the time, on nothing else."""

    def __init__(
        self,
        seed: int,
        *,
        width: int = 640,
        height: int = 360,
        light: Light = Light.DAY,
        weather: Weather = Weather.CLEAR,
        level_m: float = 1.5,
    ) -> None:
        """Builds the river of a seed (about 0.2 s)."""
        self.seed, self.width, self.height = seed, width, height
        self.light, self.weather, self.level_m = light, weather, level_m
        rng = np.random.default_rng([seed, 71])
        self._away_m = float(rng.uniform(8, 15))
        eye_m = float(rng.uniform(3.5, 6.5))
        middle_m = float(rng.uniform(1.7, 2.2))
        seen_m = float(rng.uniform(4.2, 5.0))
        self.camera = Camera(
            width=width,
            height=height,
            height_m=eye_m,
            tilt_rad=math.atan2(eye_m - middle_m, self._away_m),
            roll_rad=math.radians(float(rng.uniform(-2, 2))),
            focal_px=height * math.hypot(self._away_m, eye_m - middle_m) / seen_m,
        )
        self._staff_x_m = float(rng.uniform(-0.8, 0.8))
        self._staff_width_m = float(rng.uniform(0.14, 0.22))
        self._texture = self._paint_wall(rng)
        rays = self.camera.rays(width * OVERSAMPLING, height * OVERSAMPLING)
        reach = self._away_m / np.maximum(rays[..., 1], 1e-3)
        self._x = np.asarray(rays[..., 0] * reach, np.float32)
        self._z = np.asarray(eye_m + rays[..., 2] * reach, np.float32)
        down = np.maximum(-rays[..., 2], 1e-3)
        self._down = np.asarray(down, np.float32)
        self._rays = rays
        steep = down / np.sqrt((rays**2).sum(axis=2))
        self._mirror = np.asarray(np.maximum(0.02 + 0.98 * (1 - steep) ** 5, float(rng.uniform(0.1, 0.3))), np.float32)
        self._ripple = float(rng.uniform(0.02, 0.09))
        self._heave_m = float(rng.uniform(0.002, 0.012))
        self._water = np.array([rng.uniform(50, 85), rng.uniform(75, 105), rng.uniform(65, 100)], np.float32)
        self._sight_m = float(rng.uniform(0.01, 0.04))
        self._wet_m = float(rng.uniform(0.0, 0.12))
        self._waves = self._choose_waves(rng)
        self._on_wall, self._on_water = self._shine()

    # ---- what is known of it ---------------------------------------------------------------------------------

    def point(self, height_m: float, across: float = 0.0) -> tuple[float, float]:
        """Where a height of the staff is in the picture (0..1); `across` -1 and 1 are its left and right edge."""
        x_m = self._staff_x_m + across * self._staff_width_m / 2
        pixels, _ = self.camera.project(np.array([[x_m, self._away_m, height_m]]))
        return (float(pixels[0, 0]) / self.width, float(pixels[0, 1]) / self.height)

    def outline(self, lowest_m: float = 0.0, highest_m: float = STAFF_M) -> list[list[float]]:
        """The staff between two heights as a polygon in picture coordinates, cut at the picture's edges."""
        corners = [self.point(z, side) for z, side in ((highest_m, -1), (highest_m, 1), (lowest_m, 1), (lowest_m, -1))]
        return [[round(min(max(x, 0.0), 1.0), 4), round(min(max(y, 0.0), 1.0), 4)] for x, y in corners]

    def marks(self, *heights_m: float, slip_px: float = 0.0) -> list[list[float]]:
        """What somebody would click: [x, y, height] for each height, `slip_px` off at random."""
        rng = np.random.default_rng([self.seed, 73])
        found = []
        for height_m in heights_m:
            x, y = self.point(height_m)
            x, y = x + rng.normal(0, slip_px) / self.width, y + rng.normal(0, slip_px) / self.height
            found.append([round(float(x), 5), round(float(y), 5), height_m])
        return found

    # ---- the picture -----------------------------------------------------------------------------------------

    def render(self, now_s: float) -> Picture:
        """The picture at that time, BGR uint8 (height, width, 3)."""
        rng = np.random.default_rng([self.seed & 0x7FFFFFFF, 72, int(now_s * 1000) & 0x7FFFFFFF])
        heave, slope = self._move(now_s)
        line_m = self.level_m + heave
        wet = self._z < line_m
        out = self._look_up(self._x, self._z)
        damp = (~wet) & (self._z < self.level_m + self._wet_m)
        out[damp] *= 0.7
        rows = np.flatnonzero(wet.any(axis=1))
        if len(rows):
            self._pour(out, wet, slope, line_m, slice(int(rows[0]), None))
        out *= np.where(wet, self._on_water, self._on_wall)[..., None]
        small = cv2.resize(out, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return self._film(np.asarray(small, np.float32), rng, now_s)

    def _pour(self, out: Floats, wet: NDArray[np.bool_], slope: Floats, line_m: Floats, part: slice) -> None:
        """Water over the lower rows: its own colour, the mirrored wall, what still shows through."""
        x, z, level_m = self._x[part], self._z[part], self.level_m
        to_wall_m = np.clip(
            self._away_m - self._rays[part, :, 1] * (self.camera.height_m - level_m) / self._down[part], 0, 30
        )
        shift = slope[part] * (0.15 + 2 * to_wall_m)
        mirrored = self._look_up(x + 0.5 * shift, 2 * level_m - z + shift)
        share = self._mirror[part][..., None] * (0.8 if self.light is not Light.NIGHT else 0.5)
        glitter = np.clip(1 + 2.2 * slope[part], 0.6, 1.9)[..., None]
        body = self._water * glitter
        seen = np.exp(-np.maximum(line_m[part] - z, 0) / self._sight_m)[..., None] * 0.6
        water = (body * (1 - share) + mirrored * share) * (1 - seen) + out[part] * seen * 0.8
        out[part] = np.where(wet[part][..., None], water, out[part])

    def _look_up(self, x_m: Floats, z_m: Floats) -> Floats:
        column = (x_m + HALF_WIDTH_M) * TEXELS_PER_M
        row = (HIGHEST_M - z_m) * TEXELS_PER_M
        return np.asarray(
            cv2.remap(
                self._texture,
                column.astype(np.float32),
                row.astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            np.float32,
        )

    def _choose_waves(self, rng: np.random.Generator) -> Floats:
        """(WAVES, 5): wave numbers along and towards the wall, angular frequency, phase, weight."""
        lengths = np.exp(rng.uniform(math.log(0.12), math.log(2.0), WAVES))
        turns = rng.uniform(0, 2 * math.pi, WAVES)
        k = 2 * math.pi / lengths
        weights = rng.uniform(0.4, 1.0, WAVES)
        weights /= math.sqrt(float((weights**2).sum()) / 2)
        phase = rng.uniform(0, 2 * math.pi, WAVES)
        return np.stack([k * np.cos(turns), k * np.sin(turns), np.sqrt(GRAVITY * k), phase, weights], axis=1).astype(
            np.float32
        )

    def _move(self, now_s: float) -> tuple[Floats, Floats]:
        """At every pixel: the water line's heave in metres (on the wall) and the water's slope."""
        step = OVERSAMPLING
        rays = self._rays[::step, ::step]
        reach = (self.camera.height_m - self.level_m) / self._down[::step, ::step]
        x, y = rays[..., 0] * reach, np.minimum(rays[..., 1] * reach, self._away_m)
        wall_x = self._x[::step, ::step]
        slope, heave = np.zeros_like(x), np.zeros_like(x)
        rough = self._ripple * (1.8 if self.weather is Weather.RAIN else 1.0)
        for along, towards, speed, phase, weight in self._waves:
            slope += weight * np.sin(along * x + towards * y + phase - speed * now_s)
            heave += weight * np.sin(along * wall_x + towards * self._away_m + phase - speed * now_s)
        if self.weather is Weather.RAIN:
            rng = np.random.default_rng([self.seed, int(now_s * 12)])
            drops = cv2.resize(
                rng.normal(0, 1, (self.height // 3, self.width // 6)).astype(np.float32), (x.shape[1], x.shape[0])
            )
            slope += 0.8 * drops
        size = (self.width * step, self.height * step)
        return (
            np.asarray(cv2.resize(heave * np.float32(self._heave_m), size), np.float32),
            np.asarray(cv2.resize(slope * np.float32(rough), size), np.float32),
        )

    def _shine(self) -> tuple[Floats, Floats]:
        """The light at every pixel on the wall and on the water, 1 for an overcast day; a shadow shows little on
        turbid water."""
        rng = np.random.default_rng([self.seed, 74])
        if self.light is Light.NIGHT:
            lamp = (float(rng.uniform(-1.2, 1.2)), float(rng.uniform(1.0, 3.0)))
            wide = float(rng.uniform(2.0, 4.5))
            power = float(rng.uniform(0.5, 0.95))
            away2 = (self._x - lamp[0]) ** 2 + (self._z - lamp[1]) ** 2
            spot = np.asarray(0.06 + power * np.exp(-away2 / wide**2), np.float32)
            return spot, spot
        even = {Light.DAY: 1.1, Light.OVERCAST: 0.9, Light.DUSK: 0.45}[self.light]
        wall, water = (np.full(self._x.shape, even, np.float32) for _ in range(2))
        if self.light is Light.DAY and self.weather is Weather.CLEAR:
            # the shadow of a rail or a tree lies across wall and staff
            lean, at = float(rng.uniform(-1.5, 1.5)), float(rng.uniform(0.8, 3.2))
            edge = self._z - at - lean * (self._x - self._staff_x_m)
            dark = (edge > 0) & (edge < float(rng.uniform(0.2, 1.5)))
            wall[dark] *= 0.55
            water[dark] *= 0.88
        return wall, water

    def _film(self, picture: Floats, rng: np.random.Generator, now_s: float) -> Picture:
        """What weather and sensor add."""
        lens = np.random.default_rng([self.seed, 75])
        dark = self.light is Light.NIGHT
        haze = {Weather.CLEAR: 0.03, Weather.RAIN: 0.15, Weather.SNOW: 0.2, Weather.FOG: 0.8}[self.weather]
        picture = picture * (1 - haze) + (60.0 if dark else 190.0) * haze
        if self.weather is Weather.RAIN:
            streaks = np.zeros((self.height, self.width), np.uint8)
            slant = float(lens.uniform(-0.25, 0.25))
            for _ in range(int(lens.uniform(120, 320))):
                x, y, length = rng.uniform(0, self.width), rng.uniform(-20, self.height), rng.uniform(6, 24)
                end = (int(x + slant * length), int(y + length))
                cv2.line(streaks, (int(x), int(y)), end, (float(rng.uniform(15, 50)),), 1, cv2.LINE_AA)
            picture += streaks[..., None]
        blur_px = float(lens.uniform(0.3, 0.9)) * self.width / 640
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur_px), np.float32)
        if dark:
            picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
        noise = float(lens.uniform(1.0, 4.0)) * (1.8 if dark else 1.0)
        picture += rng.normal(0, noise, (self.height, self.width, 1 if dark else 3))
        return np.asarray(np.clip(picture, 0, 255), np.uint8)

    # ---- the wall --------------------------------------------------------------------------------------------

    def _paint_wall(self, rng: np.random.Generator) -> Picture:
        """Concrete or stone with stains, algae towards the water, and the staff."""
        rows, columns = round((HIGHEST_M - LOWEST_M) * TEXELS_PER_M), round(2 * HALF_WIDTH_M * TEXELS_PER_M)
        grey = float(rng.uniform(105, 170))
        wall: Floats = np.full((rows, columns, 3), grey, np.float32)
        wall *= np.array([rng.uniform(0.9, 1.02), 1.0, rng.uniform(0.98, 1.08)], np.float32)
        for cells, depth in ((14, 0.16), (60, 0.1), (300, 0.08)):
            small = rng.normal(0, depth, (cells * 3 // 4, cells)).astype(np.float32)
            wall *= 1 + cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)[..., None]
        course_m = float(rng.uniform(0.25, 0.9))
        for height_m in np.arange(LOWEST_M, HIGHEST_M, course_m):
            row = round((HIGHEST_M - height_m) * TEXELS_PER_M)
            cv2.line(wall, (0, row), (columns, row), (grey * 0.55,) * 3, 3)
        heights = HIGHEST_M - np.arange(rows, dtype=np.float32) / TEXELS_PER_M
        algae_m = float(rng.uniform(0.8, 2.6))
        share = 0.55 * (1 / (1 + np.exp((heights - algae_m) / 0.12)))[:, None, None]
        wall = np.asarray(wall * (1 - share) + np.array([55, 85, 70]) * share, np.float32)
        wall = np.asarray(self._paint_staff(np.asarray(np.clip(wall, 0, 255), np.uint8), rng), np.float32)
        film_m = float(rng.uniform(0.3, 2.2))
        mud = (float(rng.uniform(0.1, 0.5)) * (1 / (1 + np.exp((heights - film_m) / 0.08))))[:, None, None]
        wall = np.asarray(wall * (1 - mud) + np.array([70, 90, 100]) * mud, np.float32)
        return np.asarray(np.clip(wall, 0, 255), np.uint8)

    def _paint_staff(self, wall: Picture, rng: np.random.Generator) -> Picture:
        """A white board with an E for every five centimetres, its back now left, now right, and a figure every ten."""
        paint: Any = ((45, 40, 190), (150, 60, 30), (25, 25, 25))[int(rng.integers(3))]
        other: Any = ((150, 60, 30), (45, 40, 190), (25, 25, 25))[int(rng.integers(3))]
        white = float(rng.uniform(205, 245))
        left = (self._staff_x_m - self._staff_width_m / 2 + HALF_WIDTH_M) * TEXELS_PER_M
        wide = self._staff_width_m * TEXELS_PER_M

        def box(a: float, b: float, low_m: float, high_m: float, colour: Any) -> None:
            top, bottom = (HIGHEST_M - high_m) * TEXELS_PER_M, (HIGHEST_M - low_m) * TEXELS_PER_M
            corners = (round(left + a * wide), round(top)), (round(left + b * wide) - 1, round(bottom) - 1)
            cv2.rectangle(wall, *corners, colour, -1)

        box(0, 1, LOWEST_M, STAFF_M + 0.05, (white, white, white))
        for number in range(round(STAFF_M / 0.05)):
            low_m = number * 0.05
            colour = paint if int(low_m) % 2 == 0 else other
            back = (0.05, 0.2) if number % 2 == 0 else (0.4, 0.55)
            box(*back, low_m, low_m + 0.05, colour)
            for bar in (0.0, 0.02, 0.04):
                box(0.05, 0.55, low_m + bar, low_m + bar + 0.01, colour)
            if number % 2 == 0:
                row = round((HIGHEST_M - low_m - 0.01) * TEXELS_PER_M)
                text = f"{number // 2 % 10}"
                cv2.putText(wall, text, (round(left + 0.62 * wide), row), cv2.FONT_HERSHEY_SIMPLEX, 0.75, colour, 3)
        return wall
