"""Shapes in space and how they get onto a picture.

A figure is a list of shapes in the order in which they are painted (far ones first). Its points are kept in one
array, so that projecting a whole figure is one product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street.camera import NEAREST_M, Camera

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = tuple[float, float, float]
"""Blue, green, red, 0 to 255."""

SUBPIXEL_BITS = 3
_SCALE = 1 << SUBPIXEL_BITS
_FAR_PX = 20_000.0


@dataclass(frozen=True, slots=True)
class Shade:
    """How the sky lights a surface: brightness = ambient + direct * cosine to the sun (unit vector, world)."""

    sun: tuple[float, float, float]
    ambient: float
    direct: float

    def on(self, colour: Colour, normal: Floats) -> Colour:
        """The colour of a surface with that unit normal."""
        cosine = float(normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2])
        return times(colour, self.ambient + self.direct * max(0.0, cosine))


def times(colour: Colour, factor: float) -> Colour:
    """A colour made brighter or darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour mixed into one."""
    keep = 1.0 - share
    return (one[0] * keep + other[0] * share, one[1] * keep + other[1] * share, one[2] * keep + other[2] * share)


@dataclass(slots=True)
class Shape:
    """A polygon (no radii) or a limb between two points with a radius at either end (equal points: a ball)."""

    start: int
    stop: int
    colour: Colour
    radii_m: tuple[float, float] | None
    glowing: bool


@dataclass(slots=True)
class Lamp:
    """A light that dazzles: where, how big its halo is, its colour, and whether it lights the road ahead."""

    point: int
    radius_m: float
    colour: Colour


@dataclass(slots=True)
class Figure:
    """Collects shapes in world metres."""

    points: list[Floats] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    count: int = 0

    def _append(self, points: Floats) -> int:
        start = self.count
        self.points.append(points)
        self.count += len(points)
        return start

    def polygon(self, points_m: Floats, colour: Colour, *, glowing: bool = False) -> None:
        """Adds a flat polygon (N, 3)."""
        start = self._append(points_m)
        self.shapes.append(Shape(start, self.count, colour, None, glowing))

    def limb(self, a: Floats, b: Floats, radius_a_m: float, radius_b_m: float, colour: Colour) -> None:
        """Adds a rounded stroke from a to b."""
        start = self._append(np.stack([a, b]))
        self.shapes.append(Shape(start, self.count, colour, (radius_a_m, radius_b_m), False))

    def ball(self, centre: Floats, radius_m: float, colour: Colour, *, glowing: bool = False) -> None:
        """Adds a ball."""
        start = self._append(centre[None, :])
        self.shapes.append(Shape(start, self.count, colour, (radius_m, radius_m), glowing))

    def lamp(self, point_m: Floats, radius_m: float, colour: Colour) -> None:
        """Adds a light whose halo is painted over the finished picture."""
        self.lamps.append(Lamp(self._append(point_m[None, :]), radius_m, colour))

    def array(self) -> Floats:
        """All points (N, 3)."""
        return np.concatenate(self.points) if self.points else np.zeros((0, 3))


@dataclass(slots=True)
class Stroke:
    """A shape in pixels: fixed-point polygon, or two ends with radii, and its colour without the light."""

    polygon: NDArray[np.int32] | None
    ends: tuple[float, float, float, float, float, float] | None
    colour: Colour
    glowing: bool


@dataclass(slots=True)
class Outline:
    """A figure as one camera sees it. The box is x1, y1, x2, y2 in pixels, not clipped to the frame."""

    strokes: list[Stroke]
    halos: list[tuple[float, float, float, Colour]]
    box: tuple[float, float, float, float]
    depth_m: float
    points: Floats


def outline(figure: Figure, camera: Camera) -> Outline | None:
    """Projects a figure; None when part of it is beside or behind the camera."""
    points = figure.array()
    if not len(points):
        return None
    pixels, depth = camera.project(points)
    if depth.min() < NEAREST_M or float(np.abs(pixels).max()) > _FAR_PX:
        return None
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    x1, y1, x2, y2 = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    fixed = np.round(pixels * _SCALE).astype(np.int32)
    strokes: list[Stroke] = []
    for shape in figure.shapes:
        if shape.radii_m is None:
            strokes.append(Stroke(fixed[shape.start : shape.stop], None, shape.colour, shape.glowing))
            continue
        ax, ay = pixels[shape.start]
        bx, by = pixels[shape.stop - 1]
        ra = shape.radii_m[0] * camera.focal_px / depth[shape.start]
        rb = shape.radii_m[1] * camera.focal_px / depth[shape.stop - 1]
        x1, y1 = min(x1, ax - ra, bx - rb), min(y1, ay - ra, by - rb)
        x2, y2 = max(x2, ax + ra, bx + rb), max(y2, ay + ra, by + rb)
        ends = (float(ax), float(ay), float(bx), float(by), float(ra), float(rb))
        strokes.append(Stroke(None, ends, shape.colour, shape.glowing))
    halos = [
        (
            float(pixels[lamp.point, 0]),
            float(pixels[lamp.point, 1]),
            float(lamp.radius_m * camera.focal_px / depth[lamp.point]),
            lamp.colour,
        )
        for lamp in figure.lamps
    ]
    return Outline(strokes, halos, (x1, y1, x2, y2), float(depth.mean()), points)


def paint(picture: Picture, seen: Outline, light: Colour, haze: Colour, haze_share: float) -> None:
    """Paints a figure in the given light (factor per channel), with haze mixed in."""
    for stroke in seen.strokes:
        colour = stroke.colour
        if not stroke.glowing:
            colour = (colour[0] * light[0], colour[1] * light[1], colour[2] * light[2])
        _fill(picture, stroke, mix(colour, haze, haze_share))


def paint_mask(mask: Picture, seen: Outline) -> None:
    """Paints a figure's silhouette with 255, without soft edges."""
    for stroke in seen.strokes:
        _fill(mask, stroke, (255.0, 255.0, 255.0), cv2.LINE_8)


def _fill(picture: Picture, stroke: Stroke, colour: Colour, line: int = cv2.LINE_AA) -> None:
    if stroke.polygon is not None:
        cv2.fillPoly(picture, [stroke.polygon], colour, line, SUBPIXEL_BITS)
        return
    assert stroke.ends is not None
    ax, ay, bx, by, ra, rb = stroke.ends
    length = math.hypot(bx - ax, by - ay)
    if length > 0.3:
        nx, ny = (ay - by) / length, (bx - ax) / length
        corners = np.array(
            [
                [ax + nx * ra, ay + ny * ra],
                [bx + nx * rb, by + ny * rb],
                [bx - nx * rb, by - ny * rb],
                [ax - nx * ra, ay - ny * ra],
            ]
        )
        cv2.fillConvexPoly(picture, np.round(corners * _SCALE).astype(np.int32), colour, line, SUBPIXEL_BITS)
        _disc(picture, bx, by, rb, colour, line)
    _disc(picture, ax, ay, ra, colour, line)


def _disc(picture: Picture, x: float, y: float, radius: float, colour: Colour, line: int) -> None:
    centre = (round(x * _SCALE), round(y * _SCALE))
    cv2.circle(picture, centre, max(1, round(radius * _SCALE)), colour, -1, line, SUBPIXEL_BITS)


@dataclass(frozen=True, slots=True)
class Frame:
    """The own axes of a thing on the ground: a forward, b to its left, z up, in metres."""

    x_m: float
    y_m: float
    cos: float
    sin: float

    @classmethod
    def at(cls, x_m: float, y_m: float, heading_rad: float) -> Frame:
        """Axes of a thing that stands at a place and faces a heading."""
        return cls(x_m, y_m, math.cos(heading_rad), math.sin(heading_rad))

    def world(self, points: Sequence[Sequence[float]] | Floats) -> Floats:
        """World points (N, 3) of own points (N, 3)."""
        p = np.asarray(points, dtype=np.float64)
        out = np.empty_like(p)
        out[:, 0] = self.x_m + p[:, 0] * self.cos - p[:, 1] * self.sin
        out[:, 1] = self.y_m + p[:, 0] * self.sin + p[:, 1] * self.cos
        out[:, 2] = p[:, 2]
        return out

    def point(self, a: float, b: float, z: float) -> Floats:
        """World point (3,) of an own point."""
        return np.array([self.x_m + a * self.cos - b * self.sin, self.y_m + a * self.sin + b * self.cos, z])

    def normal(self, a: float, b: float, z: float) -> Floats:
        """World direction (3,) of an own direction."""
        return np.array([a * self.cos - b * self.sin, a * self.sin + b * self.cos, z])

    def own(self, eye: Floats) -> Floats:
        """Own coordinates (3,) of a world point."""
        dx, dy = eye[0] - self.x_m, eye[1] - self.y_m
        return np.array([dx * self.cos + dy * self.sin, -dx * self.sin + dy * self.cos, eye[2]])


def add_prism(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    profile: Sequence[tuple[float, float]],
    half_widths: Sequence[float],
    colours: Sequence[Colour],
    side: Colour,
) -> int:
    """Adds a profile (a, z), in order from the rear bottom over the top to the front bottom, drawn out to both sides.

    `half_widths` has one value per profile point, `colours` one per strip between neighbours. Only faces turned to
    the eye are added, the side last. Returns which side is seen: 1 left, -1 right, 0 neither.
    """
    own = frame.own(eye)
    strips: list[tuple[float, int]] = []
    for i in range(len(profile) - 1):
        (a1, z1), (a2, z2) = profile[i], profile[i + 1]
        na, nz = -(z2 - z1), a2 - a1
        if na * (own[0] - a1) + nz * (own[2] - z1) > 0:
            distance = (own[0] - (a1 + a2) / 2) ** 2 + (own[2] - (z1 + z2) / 2) ** 2
            strips.append((float(distance), i))
    for _, i in sorted(strips, reverse=True):
        (a1, z1), (a2, z2) = profile[i], profile[i + 1]
        w1, w2 = half_widths[i], half_widths[i + 1]
        length = math.hypot(z2 - z1, a2 - a1) or 1.0
        normal = frame.normal(-(z2 - z1) / length, 0.0, (a2 - a1) / length)
        quad = frame.world([[a1, w1, z1], [a2, w2, z2], [a2, -w2, z2], [a1, -w1, z1]])
        figure.polygon(quad, shade.on(colours[i], normal))
    widest = max(half_widths)
    facing = 1 if own[1] > widest else -1 if own[1] < -widest else 0
    if facing:
        outline_points = [[a, facing * w, z] for (a, z), w in zip(profile, half_widths, strict=True)]
        figure.polygon(frame.world(outline_points), shade.on(side, frame.normal(0.0, facing, 0.0)))
    return facing


def add_box(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    size: tuple[float, float, float],
    colour: Colour,
    *,
    lift_m: float = 0.0,
    taper: float = 1.0,
) -> int:
    """Adds a box (length, width, height) on its place; `taper` is the ratio of the bottom's size to the top's."""
    length, width, height = size
    low, high = lift_m, lift_m + height
    profile = [(-length / 2 * taper, low), (-length / 2, high), (length / 2, high), (length / 2 * taper, low)]
    halves = [width / 2 * taper, width / 2, width / 2, width / 2 * taper]
    return add_prism(figure, frame, eye, shade, profile, halves, [colour] * 3, colour)
