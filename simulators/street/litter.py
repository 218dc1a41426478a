"""Garbage on the ground, and hand bags that are none."""

from __future__ import annotations

import math

import numpy as np

from simulators.street.figure import Colour, Figure, Floats, Frame, Shade, add_box, mix, times
from simulators.street.scene import Garbage, GarbageKind, HandBag

BAG_PAINTS: list[Colour] = [
    (38, 36, 36),
    (48, 46, 48),
    (225, 228, 230),
    (200, 205, 210),
    (200, 140, 80),
    (80, 150, 90),
    (70, 80, 190),
    (120, 190, 220),
]
SCRAP_PAINTS: list[Colour] = [
    (230, 232, 235),
    (90, 140, 180),
    (60, 60, 200),
    (190, 120, 50),
    (120, 180, 90),
    (60, 180, 230),
    (160, 175, 185),
    (60, 70, 85),
]
GARBAGE_KINDS = list(GarbageKind)


def add_blob(
    figure: Figure,
    centre: Floats,
    width_m: float,
    height_m: float,
    colour: Colour,
    rng: np.random.Generator,
    lit: float,
) -> None:
    """Adds a lumpy sack that rests on its place, lighter on top, creased, with a knot when it is tall enough."""
    turns = np.linspace(0, 2 * math.pi, 11, endpoint=False)
    lumps = 1.0 + rng.uniform(-0.13, 0.13, len(turns))
    shape = np.zeros((len(turns), 3))
    shape[:, 0] = centre[0] + np.cos(turns) * lumps * width_m / 2
    shape[:, 1] = centre[1]
    shape[:, 2] = centre[2] + np.maximum(0.0, (0.48 + 0.52 * np.sin(turns) * lumps)) * height_m
    figure.polygon(shape, times(colour, lit * 0.78))
    upper = shape.copy()
    middle = np.array([centre[0] - 0.08 * width_m, centre[1], centre[2] + 0.58 * height_m])
    upper = middle + (upper - middle) * 0.66
    figure.polygon(upper, times(colour, lit * 1.08))
    shine = mix(colour, (255, 255, 255), 0.35)
    for _ in range(2):
        dx, dz = float(rng.uniform(-0.22, 0.22)) * width_m, float(rng.uniform(0.45, 0.8)) * height_m
        start = np.array([centre[0] + dx, centre[1], centre[2] + dz])
        end = start + np.array([float(rng.uniform(-0.12, 0.12)) * width_m, 0, -0.22 * height_m])
        figure.limb(start, end, 0.018, 0.012, times(shine, lit))
    if rng.random() < 0.6:
        knot = np.array([centre[0] + 0.05 * width_m, centre[1], centre[2] + 0.96 * height_m])
        figure.limb(knot, knot + np.array([0.03, 0, 0.13 * height_m + 0.04]), 0.04, 0.07, times(colour, lit * 0.9))


def ring(frame: Frame, a: float, b: float, z: float) -> Floats:
    """An ellipse (14, 3) at a height about a thing's own place."""
    turns = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    return frame.world(np.stack([a * np.cos(turns), b * np.sin(turns), np.full(14, z)], axis=1))


def add_garbage(figure: Figure, garbage: Garbage, shade: Shade) -> None:
    """Adds garbage on the ground: sacks, a heap, scattered litter or cartons."""
    rng = np.random.default_rng([garbage.look, 51])
    chosen = GARBAGE_KINDS[int(rng.choice(4, p=[0.4, 0.3, 0.15, 0.15]))]
    kind = garbage.kind or chosen
    lit = shade.ambient + 0.5 * shade.direct
    frame = Frame.at(garbage.x_m, garbage.y_m, garbage.heading_rad)
    reach = garbage.size_m / 2
    if kind is not GarbageKind.BAGS:
        _add_stain(figure, frame, reach, lit)
    if kind is GarbageKind.LITTER:
        _add_scraps(figure, frame, reach, int(14 + 10 * garbage.size_m), 0.05, rng, lit, raised=0.08)
        return
    count = {GarbageKind.BAGS: 2, GarbageKind.HEAP: 6, GarbageKind.BOXES: 3}[kind] + int(rng.integers(0, 3))
    spots = [(float(rng.uniform(-1, 1)) * reach * 0.7, float(rng.uniform(-1, 1)) * reach * 0.55) for _ in range(count)]
    for a, b in sorted(spots, key=lambda spot: -float(frame.point(spot[0], spot[1], 0)[1])):
        at = frame.point(a, b, 0.0)
        if kind is GarbageKind.BOXES and rng.random() < 0.75:
            _add_carton(figure, at, rng, shade, garbage.size_m)
            continue
        colour = BAG_PAINTS[int(rng.integers(len(BAG_PAINTS)))]
        size = float(rng.uniform(0.42, 0.62)) * min(1.25, max(0.75, garbage.size_m))
        central = 1.0 + (0.55 if kind is GarbageKind.HEAP and abs(a) < reach * 0.35 else 0.0)
        add_blob(figure, at, size, size * float(rng.uniform(0.85, 1.15)) * central, colour, rng, lit)
    if kind is GarbageKind.HEAP or rng.random() < 0.5:
        _add_scraps(figure, frame, reach, 9 if kind is GarbageKind.HEAP else 4, 0.045, rng, lit, raised=0.3)


def _add_stain(figure: Figure, frame: Frame, reach: float, lit: float) -> None:
    figure.polygon(ring(frame, reach * 0.8, reach * 0.6, 0.004), (70.0 * lit, 78.0 * lit, 84.0 * lit))


def _add_scraps(
    figure: Figure,
    frame: Frame,
    reach: float,
    count: int,
    size_m: float,
    rng: np.random.Generator,
    lit: float,
    *,
    raised: float,
) -> None:
    for _ in range(count):
        colour = times(SCRAP_PAINTS[int(rng.integers(len(SCRAP_PAINTS)))], lit * float(rng.uniform(0.8, 1.1)))
        away = reach * math.sqrt(float(rng.random()))
        turn = float(rng.uniform(0, 2 * math.pi))
        at = frame.point(away * math.cos(turn), away * math.sin(turn), float(rng.uniform(0.02, raised)))
        if rng.random() < 0.45:
            tip = at + np.array([float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.12, 0.12)), 0.0])
            figure.limb(at, tip, size_m * 0.8, size_m * 0.6, colour)
            continue
        spread = rng.uniform(-2.4 * size_m, 2.4 * size_m, (4, 3))
        spread[:, 2] = np.abs(spread[:, 2]) * 0.5
        corners = at + spread[np.argsort(np.arctan2(spread[:, 1], spread[:, 0]))]
        figure.polygon(corners, colour)


def _add_carton(figure: Figure, at: Floats, rng: np.random.Generator, shade: Shade, size_m: float) -> None:
    tone = float(rng.uniform(0.75, 1.15))
    colour: Colour = (95 * tone, 140 * tone, 180 * tone)
    frame = Frame.at(float(at[0]), float(at[1]), float(rng.uniform(0, 3.14)))
    grow = min(1.3, max(0.8, size_m))
    size = (
        float(rng.uniform(0.35, 0.6)) * grow,
        float(rng.uniform(0.3, 0.5)) * grow,
        float(rng.uniform(0.2, 0.45)) * grow,
    )
    add_box(figure, frame, np.array([0.0, 0.0, 6.0]), shade, size, colour)
    top = frame.world(
        [
            [-size[0] / 2, -0.03, size[2] + 0.002],
            [size[0] / 2, -0.03, size[2] + 0.002],
            [size[0] / 2, 0.03, size[2] + 0.002],
            [-size[0] / 2, 0.03, size[2] + 0.002],
        ]
    )
    figure.polygon(top, times(colour, 1.2))


def add_hand_bag(figure: Figure, bag: HandBag, eye: Floats, shade: Shade) -> None:
    """Adds one upright bag with handles, or a suitcase with its pull-out handle."""
    rng = np.random.default_rng([bag.look, 61])
    colours: list[Colour] = [(60, 60, 160), (45, 75, 120), (40, 40, 42), (150, 95, 60), (180, 170, 200), (120, 130, 70)]
    colour = colours[int(rng.integers(len(colours)))]
    frame = Frame.at(bag.x_m, bag.y_m, bag.heading_rad)
    lit = shade.ambient + 0.5 * shade.direct
    if rng.random() < 0.35:
        add_box(figure, frame, eye, shade, (0.26, 0.42, 0.6), colour, lift_m=0.05)
        for b in (-0.1, 0.1):
            figure.limb(frame.point(0, b, 0.65), frame.point(0, b, 0.95), 0.012, 0.012, (90.0, 90.0, 92.0))
        figure.limb(frame.point(0, -0.1, 0.95), frame.point(0, 0.1, 0.95), 0.02, 0.02, (50.0, 50.0, 50.0))
        return
    add_box(figure, frame, eye, shade, (0.16, 0.36, 0.3), colour, taper=1.12)
    for b1, b2 in ((-0.1, -0.05), (-0.05, 0.05), (0.05, 0.1)):
        z1, z2 = 0.3 if abs(b1) > 0.06 else 0.46, 0.3 if abs(b2) > 0.06 else 0.46
        figure.limb(frame.point(0, b1, z1), frame.point(0, b2, z2), 0.014, 0.014, times(colour, lit * 0.7))
