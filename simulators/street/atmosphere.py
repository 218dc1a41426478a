"""Light and weather: how the empty street looks under them, and what they add to a finished picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street.backdrop import Backdrop
from simulators.street.camera import Camera
from simulators.street.figure import Colour, Floats, Picture, Shade
from simulators.street.layout import Layout
from simulators.street.scene import Light, Weather

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Atmosphere:
    """One light and weather over one street.

    `sky_light` is the factor per channel that every surface gets; street lamps add to it at night. `sun` points to
    the sun; `shadow` is the brightness left in a cast shadow (1: none).
    """

    light: Light
    weather: Weather
    sky_light: Colour
    shade: Shade
    shadow: float
    haze: Colour
    haze_per_m: float
    lamps_m: Floats
    lamp_light: Colour

    @property
    def dark(self) -> bool:
        """Whether lamps and headlights shine."""
        return self.light in (Light.NIGHT, Light.DUSK)

    @property
    def wet(self) -> bool:
        """Whether the ground is wet."""
        return self.weather is Weather.RAIN

    def light_at(self, x_m: float, y_m: float) -> Colour:
        """Light per channel about 1 m above a ground place."""
        extra = 0.0
        if len(self.lamps_m):
            d2 = (self.lamps_m[:, 0] - x_m) ** 2 + (self.lamps_m[:, 1] - y_m) ** 2
            up = self.lamps_m[:, 2] - 1.0
            extra = float(np.sum(up**3 / (d2 + up**2) ** 1.5))
        b, g, r = self.sky_light
        return (b + self.lamp_light[0] * extra, g + self.lamp_light[1] * extra, r + self.lamp_light[2] * extra)

    def haze_share(self, distance_m: float) -> float:
        """Share of haze in the colour of something that far away."""
        return 1.0 - math.exp(-distance_m * self.haze_per_m)


def choose(seed: int, light: Light, weather: Weather, layout: Layout) -> Atmosphere:
    """The atmosphere of a street; the same for the same seed, light and weather."""
    rng = np.random.default_rng([seed, 4, list(Light).index(light), list(Weather).index(weather)])
    warm = float(rng.uniform(-0.07, 0.07))
    gain = {Light.DAY: (0.82, 1.2), Light.OVERCAST: (0.65, 1.0), Light.DUSK: (0.32, 0.55), Light.NIGHT: (0.09, 0.24)}[
        light
    ]
    level = float(rng.uniform(*gain))
    if weather in (Weather.RAIN, Weather.FOG) and light is Light.DAY:
        level *= 0.8
    tint = (1.18, 1.0, 0.9) if light is Light.NIGHT else (1.08, 0.97, 1.0) if light is Light.DUSK else (1.0, 1.0, 1.0)
    sky_light = (level * tint[0] * (1 - warm), level * tint[1], level * tint[2] * (1 + warm))
    high, around = math.radians(float(rng.uniform(28, 68))), float(rng.uniform(0, 2 * math.pi))
    sun = (math.cos(high) * math.cos(around), math.cos(high) * math.sin(around), math.sin(high))
    sunny = light is Light.DAY and weather in (Weather.CLEAR, Weather.SNOW)
    shade = Shade(sun, 0.62, 0.62) if sunny else Shade((0.1, -0.1, 0.98), 0.74, 0.3)
    greys = {Light.DAY: 215, Light.OVERCAST: 190, Light.DUSK: 105, Light.NIGHT: 28}[light]
    haze = (greys * 1.04, float(greys), greys * 0.97)
    thick = {
        Weather.CLEAR: (0.0, 0.004),
        Weather.RAIN: (0.004, 0.012),
        Weather.SNOW: (0.006, 0.014),
        Weather.FOG: (0.015, 0.035),
    }[weather]
    lamps = _lamps(rng, layout) if light in (Light.DUSK, Light.NIGHT) else np.zeros((0, 3))
    power = float(rng.uniform(0.3, 0.6)) * (0.5 if light is Light.DUSK else 1.0)
    sodium = rng.random() < 0.5
    lamp = (0.45, 0.8, 1.15) if sodium else (1.02, 1.0, 0.96)
    return Atmosphere(
        light=light,
        weather=weather,
        sky_light=sky_light,
        shade=shade,
        shadow=float(rng.uniform(0.42, 0.62)) if sunny else float(rng.uniform(0.74, 0.86)),
        haze=haze,
        haze_per_m=float(rng.uniform(*thick)),
        lamps_m=lamps,
        lamp_light=(lamp[0] * power, lamp[1] * power, lamp[2] * power),
    )


def _lamps(rng: np.random.Generator, layout: Layout) -> Floats:
    """Street lamps (N, 3) along the road, in world metres."""
    step, start = float(rng.uniform(11, 18)), float(rng.uniform(0, 11))
    us = np.arange(-40 + start, 45, step)
    height = float(rng.uniform(6, 9))
    rows = [
        layout.to_world(np.stack([us, np.full(len(us), side * (layout.half_road_m - 0.8))], axis=1)) for side in (-1, 1)
    ]
    ground = np.concatenate(rows)
    return np.column_stack([ground, np.full(len(ground), height)])


def light_up(backdrop: Backdrop, atmosphere: Atmosphere, seed: int) -> Picture:
    """The empty street under an atmosphere, BGR uint8 (H, W, 3)."""
    rng = np.random.default_rng([seed, 5])
    albedo = backdrop.albedo.copy()
    if atmosphere.weather is Weather.SNOW:
        _snow_over(rng, albedo, backdrop)
    if atmosphere.wet:
        albedo[backdrop.ground] *= 0.72
    light = np.empty_like(albedo)
    light[:] = np.array(atmosphere.sky_light, np.float32)
    points = backdrop.points_m
    for x, y, z in atmosphere.lamps_m:
        d2 = (points[..., 0] - x) ** 2 + (points[..., 1] - y) ** 2 + (points[..., 2] - z) ** 2
        cosine = np.where(backdrop.ground, z, 0.6 * z)
        light += (z**2 * cosine / (d2 + 1.0) ** 1.5)[..., None] * np.array(atmosphere.lamp_light, np.float32)
    out = albedo * light
    if atmosphere.dark:
        out += backdrop.glow * (1.0 if atmosphere.light is Light.NIGHT else 0.7)
    _paint_sky(rng, out, backdrop, atmosphere)
    share = (1.0 - np.exp(-backdrop.distance_m * atmosphere.haze_per_m))[..., None]
    share[backdrop.sky] = 0.0
    out = out * (1 - share) + np.array(atmosphere.haze, np.float32) * share
    if atmosphere.wet:
        out = _reflect(rng, out, backdrop)
    return np.asarray(np.clip(out, 0, 255), dtype=np.uint8)


def _paint_sky(rng: np.random.Generator, out: Plane, backdrop: Backdrop, atmosphere: Atmosphere) -> None:
    rows = np.linspace(0, 1, out.shape[0], dtype=np.float32)[:, None, None]
    clear = atmosphere.weather is Weather.CLEAR and atmosphere.light is Light.DAY and rng.random() < 0.6
    top = np.array([225, 170, 110], np.float32) if clear else np.array(atmosphere.haze, np.float32) * 0.92
    gradient = np.broadcast_to(top * (1 - rows) + np.array(atmosphere.haze, np.float32) * rows, out.shape)
    out[backdrop.sky] = gradient[backdrop.sky]


def _snow_over(rng: np.random.Generator, albedo: Plane, backdrop: Backdrop) -> None:
    small = rng.random((12, 20)).astype(np.float32)
    noise = cv2.resize(small, (albedo.shape[1], albedo.shape[0]), interpolation=cv2.INTER_CUBIC)
    amount = np.clip((noise - rng.uniform(0.0, 0.6)) * 2.0, 0, 0.92)
    amount = np.where(backdrop.ground, amount, 0.0)[..., None]
    albedo *= 1 - amount
    albedo += amount * np.array([232, 228, 224], np.float32)


def _reflect(rng: np.random.Generator, out: Plane, backdrop: Backdrop) -> Plane:
    """Wet ground mirrors what stands behind it, smeared downwards."""
    rows = np.argmax(backdrop.ground, axis=0)
    base = int(np.median(rows))
    height = out.shape[0]
    mirror = np.zeros_like(out)
    source = out[:base][::-1]
    span = min(len(source), height - base)
    mirror[base : base + span] = source[:span]
    if base + span < height:
        mirror[base + span :] = source[span - 1 : span] if span else 0.0
    mirror = np.asarray(cv2.blur(mirror, (5, 41)), dtype=np.float32)
    small = rng.random((10, 16)).astype(np.float32)
    puddle = cv2.resize(small, (out.shape[1], height), interpolation=cv2.INTER_CUBIC)
    strength = np.where(backdrop.ground, np.clip(0.12 + 0.3 * puddle, 0, 0.5), 0.0)[..., None]
    return np.asarray(out * (1 - strength * 0.6) + mirror * strength, dtype=np.float32)


class Precipitation:
    """Rain streaks or snow flakes in front of everything."""

    def __init__(self, seed: int, atmosphere: Atmosphere, width: int, height: int) -> None:
        """Prepares a few layers that are shown in turn."""
        self._layers: list[Picture] = []
        rng = np.random.default_rng([seed, 6])
        zoom = width / 640
        if atmosphere.weather is Weather.RAIN:
            slant = float(rng.uniform(-0.25, 0.25))
            bright = int(rng.uniform(22, 60)) if atmosphere.light is not Light.NIGHT else int(rng.uniform(14, 36))
            count = int(rng.uniform(120, 420))
            self._layers = [_streaks(rng, width, height, count, slant, bright, zoom) for _ in range(4)]
        self._flakes: NDArray[np.float64] | None = None
        if atmosphere.weather is Weather.SNOW:
            self._flakes = rng.random((int(rng.uniform(70, 220)), 4))
        self._flake_grey = 235.0 if not atmosphere.dark else 150.0
        self._size = (width, height)
        self._zoom = zoom

    def fall(self, picture: Picture, now_s: float) -> None:
        """Adds what falls at that instant."""
        if self._layers:
            layer = self._layers[int(now_s * 25) % len(self._layers)]
            cv2.add(picture, layer, dst=picture)
        if self._flakes is None:
            return
        width, height = self._size
        speed = 0.25 + 0.35 * self._flakes[:, 2]
        xs = (self._flakes[:, 0] + 0.03 * np.sin(now_s * 1.3 + self._flakes[:, 3] * 6.28)) % 1.0 * width
        ys = (self._flakes[:, 1] + now_s * speed) % 1.0 * height
        grey = self._flake_grey
        for x, y, radius in zip(xs, ys, 0.6 + 1.5 * self._flakes[:, 3], strict=True):
            cv2.circle(
                picture, (int(x * 8), int(y * 8)), int(radius * self._zoom * 8), (grey, grey, grey), -1, cv2.LINE_AA, 3
            )


def _streaks(
    rng: np.random.Generator, width: int, height: int, count: int, slant: float, bright: int, zoom: float
) -> Picture:
    layer = np.zeros((height, width), np.uint8)
    for _ in range(count):
        x, y, length = rng.uniform(0, width), rng.uniform(-20, height), rng.uniform(6, 26) * zoom
        grey = float(rng.uniform(0.4, 1.0) * bright)
        cv2.line(layer, (int(x), int(y)), (int(x + slant * length), int(y + length)), (grey,), 1, cv2.LINE_AA)
    return np.asarray(cv2.cvtColor(cv2.blur(layer, (1, 3)), cv2.COLOR_GRAY2BGR), dtype=np.uint8)


def halo_stamp() -> Plane:
    """A round glow (97, 97), 1 in the middle and 0 at the edge."""
    axis = np.linspace(-1, 1, 97, dtype=np.float32)
    radius = np.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)
    return np.asarray(
        np.clip(0.85 * np.exp(-((radius / 0.16) ** 2)) + 0.35 * np.exp(-((radius / 0.42) ** 2)) - 0.01, 0, 1)
    )


def add_halo(picture: Picture, stamp: Plane, x: float, y: float, radius: float, colour: Colour, *, wet: bool) -> None:
    """Adds the glow of a lamp; on wet ground also its smear below."""
    _stamp_on(picture, stamp, x, y, radius, radius, colour)
    if wet:
        _stamp_on(
            picture,
            stamp,
            x,
            y + radius * 2.2,
            radius * 0.45,
            radius * 2.0,
            (colour[0] * 0.45, colour[1] * 0.45, colour[2] * 0.45),
        )


def _stamp_on(picture: Picture, stamp: Plane, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = round(x - rx), round(y - ry), round(x + rx) + 1, round(y + ry) + 1
    cx1, cy1, cx2, cy2 = max(0, x1), max(0, y1), min(width, x2), min(height, y2)
    if cx1 >= cx2 or cy1 >= cy2 or x2 - x1 > 2000:
        return
    glow = cv2.resize(stamp, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)[
        cy1 - y1 : cy2 - y1, cx1 - x1 : cx2 - x1
    ]
    patch = picture[cy1:cy2, cx1:cx2]
    added = patch + glow[..., None] * np.array(colour, np.float32)
    picture[cy1:cy2, cx1:cx2] = np.minimum(added, 255).astype(np.uint8)


def beam_on_ground(
    picture: Picture, camera: Camera, x_m: float, y_m: float, heading_rad: float, front_m: float, ground: Picture
) -> None:
    """Headlights on the road ahead: `ground` (albedo, uint8) shines through where the beam falls."""
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    points = []
    for a, b in ((0.0, -0.8), (7.5, -2.3), (11.0, -1.4), (11.0, 1.4), (7.5, 2.3), (0.0, 0.8)):
        ahead = front_m + a
        points.append([x_m + ahead * cos - b * sin, y_m + ahead * sin + b * cos, 0.0])
    pixels, depth = camera.project(np.array(points))
    if depth.min() < 1.0:
        return
    height, width = picture.shape[:2]
    low, high = np.floor(pixels.min(axis=0)).astype(int) - 8, np.ceil(pixels.max(axis=0)).astype(int) + 8
    x1, y1, x2, y2 = max(0, int(low[0])), max(0, int(low[1])), min(width, int(high[0])), min(height, int(high[1]))
    if x2 - x1 < 4 or y2 - y1 < 4:
        return
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    cv2.fillPoly(mask, [np.round((pixels - [x1, y1]) * 8).astype(np.int32)], (150,), cv2.LINE_AA, 3)
    mask = np.asarray(cv2.blur(mask, (15, 9)), dtype=np.uint8)
    lit = cv2.multiply(ground[y1:y2, x1:x2], cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), scale=1 / 255)
    cv2.add(picture[y1:y2, x1:x2], lit, dst=picture[y1:y2, x1:x2])
