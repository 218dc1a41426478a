"""Bins of several makes at any fill."""

from __future__ import annotations

import math

import numpy as np

from simulators.street.figure import Colour, Figure, Floats, Frame, Shade, add_box, mix, times
from simulators.street.litter import BAG_PAINTS, SCRAP_PAINTS, add_blob, ring
from simulators.street.scene import OVERFLOW_FILL, Bin

BIN_PAINTS: list[Colour] = [
    (75, 120, 45),
    (60, 140, 40),
    (150, 90, 35),
    (170, 110, 40),
    (50, 50, 175),
    (95, 95, 98),
    (60, 62, 65),
    (45, 95, 150),
]


def size_of(bin_: Bin) -> tuple[str, float, float, float]:
    """Make, length, width and height in metres of a bin."""
    rng = np.random.default_rng([bin_.look, 41])
    make = ("wheelie", "wheelie", "communal", "round", "street")[int(rng.integers(5))]
    size = {
        "wheelie": (0.72, 0.6, 1.08),
        "communal": (0.95, 1.35, 1.2),
        "round": (0.62, 0.62, 1.02),
        "street": (0.5, 1.05, 1.1),
    }[make]
    grow = float(rng.uniform(0.95, 1.15))
    return make, size[0] * grow, size[1] * grow, size[2] * grow


def add_bin(figure: Figure, bin_: Bin, eye: Floats, shade: Shade) -> None:
    """Adds a bin; from 0.9 on its load stands above the rim and the lid no longer closes."""
    make, length, width, height = size_of(bin_)
    rng = np.random.default_rng([bin_.look, 42])
    paint = BIN_PAINTS[int(rng.integers(len(BIN_PAINTS)))]
    paint = mix(paint, (float(rng.uniform(0, 255)), float(rng.uniform(0, 255)), float(rng.uniform(0, 255))), 0.1)
    frame = Frame.at(bin_.x_m, bin_.y_m, bin_.heading_rad)
    full = bin_.fill >= OVERFLOW_FILL
    closed = not full and rng.random() < 0.45
    lit = shade.ambient + 0.5 * shade.direct
    if make == "round":
        _add_drum(figure, frame, eye, length / 2, height, paint, lit)
    else:
        add_box(figure, frame, eye, shade, (length, width, height), paint, taper=0.84 if make != "street" else 1.0)
        _add_marks(figure, frame, eye, length, width, height, paint, shade)
    if full:
        _add_open_lid(figure, frame, eye, make, length, width, height, paint, lit, raised=True)
        _add_overflow(figure, frame, length, width, height, bin_.fill, rng, lit)
        if bin_.spill:
            _add_spill(figure, frame, eye, width, rng, lit)
        return
    if closed:
        _add_lid(figure, frame, eye, shade, make, length, width, height, times(paint, float(rng.uniform(0.75, 1.2))))
        return
    _add_open_lid(figure, frame, eye, make, length, width, height, paint, lit, raised=rng.random() < 0.5)
    _add_mouth(figure, frame, make, length, width, height, bin_.fill, rng, lit)


def _add_drum(
    figure: Figure, frame: Frame, eye: Floats, radius: float, height: float, paint: Colour, lit: float
) -> None:
    sides = 14
    turns = np.linspace(0, 2 * math.pi, sides, endpoint=False)
    own = frame.own(eye)
    for i in range(sides):
        t1, t2 = turns[i], turns[i] + 2 * math.pi / sides
        middle = (t1 + t2) / 2
        if (
            math.cos(middle) * (own[0] - radius * math.cos(middle))
            + math.sin(middle) * (own[1] - radius * math.sin(middle))
            <= 0
        ):
            continue
        wall = [
            [radius * 0.9 * math.cos(t1), radius * 0.9 * math.sin(t1), 0],
            [radius * math.cos(t1), radius * math.sin(t1), height],
            [radius * math.cos(t2), radius * math.sin(t2), height],
            [radius * 0.9 * math.cos(t2), radius * 0.9 * math.sin(t2), 0],
        ]
        figure.polygon(frame.world(wall), times(paint, lit * (0.72 + 0.4 * (0.5 + 0.5 * math.sin(middle + 1.0)))))
    figure.polygon(ring(frame, radius, radius, height), times(paint, 0.6 * lit))


def _add_marks(
    figure: Figure, frame: Frame, eye: Floats, length: float, width: float, height: float, paint: Colour, shade: Shade
) -> None:
    own = frame.own(eye)
    end = 1 if own[0] > 0 else -1
    a = end * length / 2 * 0.95
    rim = [
        [a, -width * 0.46, height * 0.86],
        [a, width * 0.46, height * 0.86],
        [a, width * 0.47, height * 0.93],
        [a, -width * 0.47, height * 0.93],
    ]
    figure.polygon(frame.world(rim), times(paint, 0.75))
    mark = [
        [a, -width * 0.16, height * 0.45],
        [a, width * 0.16, height * 0.45],
        [a, width * 0.16, height * 0.68],
        [a, -width * 0.16, height * 0.68],
    ]
    figure.polygon(frame.world(mark), times(mix(paint, (240, 240, 240), 0.75), shade.ambient + 0.4 * shade.direct))
    for b in (-width * 0.34, width * 0.34):
        figure.ball(frame.point(a * 0.9, b, 0.08), 0.08, (35.0, 35.0, 35.0))


def _add_lid(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    make: str,
    length: float,
    width: float,
    height: float,
    colour: Colour,
) -> None:
    if make == "round":
        figure.polygon(ring(frame, length * 0.54, length * 0.54, height + 0.03), times(colour, 0.85))
        figure.polygon(ring(frame, length * 0.4, length * 0.4, height + 0.1), times(colour, 1.05))
        return
    add_box(figure, frame, eye, shade, (length * 1.08, width * 1.06, 0.09), colour, lift_m=height)


def _add_open_lid(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    make: str,
    length: float,
    width: float,
    height: float,
    paint: Colour,
    lit: float,
    *,
    raised: bool,
) -> None:
    if make in ("round", "street") or not raised:
        return
    back = -length / 2
    lid = [
        [back, -width / 2, height],
        [back - 0.22, -width / 2, height + 0.5],
        [back - 0.22, width / 2, height + 0.5],
        [back, width / 2, height],
    ]
    figure.polygon(frame.world(lid), times(paint, lit * (0.7 if frame.own(eye)[0] > 0 else 1.0)))


def _add_mouth(
    figure: Figure,
    frame: Frame,
    make: str,
    length: float,
    width: float,
    height: float,
    fill: float,
    rng: np.random.Generator,
    lit: float,
) -> None:
    """An open top: dark inside, the load some way down in it."""
    if make == "street":  # a hooded bin: a slot in its face, never an open top
        slot = [
            [length / 2 + 0.01, -width * 0.3, height * 0.72],
            [length / 2 + 0.01, width * 0.3, height * 0.72],
            [length / 2 + 0.01, width * 0.3, height * 0.84],
            [length / 2 + 0.01, -width * 0.3, height * 0.84],
        ]
        figure.polygon(frame.world(slot), (28.0, 28.0, 28.0))
        return
    dark: Colour = (30.0, 30.0, 32.0)
    inside = (
        ring(frame, length * 0.45, width * 0.45, height + 0.005)
        if make == "round"
        else frame.world(
            [
                [-length * 0.45, -width * 0.45, height + 0.005],
                [length * 0.45, -width * 0.45, height + 0.005],
                [length * 0.45, width * 0.45, height + 0.005],
                [-length * 0.45, width * 0.45, height + 0.005],
            ]
        )
    )
    figure.polygon(inside, dark)
    if fill > 0.35:
        for _ in range(3):
            colour = BAG_PAINTS[int(rng.integers(len(BAG_PAINTS)))]
            a, b = float(rng.uniform(-0.22, 0.22)) * length, float(rng.uniform(-0.25, 0.25)) * width
            reach = 0.13 * fill + 0.02
            patch = frame.world(
                [
                    [a - reach, b - reach, height + 0.01],
                    [a + reach, b - reach * 0.7, height + 0.01],
                    [a + reach * 0.6, b + reach, height + 0.01],
                    [a - reach, b + reach * 0.8, height + 0.01],
                ]
            )
            figure.polygon(patch, times(colour, lit * 0.42))


def _add_overflow(
    figure: Figure,
    frame: Frame,
    length: float,
    width: float,
    height: float,
    fill: float,
    rng: np.random.Generator,
    lit: float,
) -> None:
    heap = 0.2 + 0.45 * min(1.0, max(0.0, fill - OVERFLOW_FILL) / 0.4)
    count = int(rng.integers(4, 7))
    spots = sorted(
        ((float(rng.uniform(-0.36, 0.36)), float(rng.uniform(-0.42, 0.42))) for _ in range(count)), reverse=True
    )
    order = sorted(spots, key=lambda spot: -float(frame.point(spot[0] * length, spot[1] * width, 0)[1]))
    for i, (a, b) in enumerate(order):
        colour = BAG_PAINTS[int(rng.integers(len(BAG_PAINTS)))]
        size = float(rng.uniform(0.42, 0.6)) * max(0.62, min(1.0, width))
        rise = heap * float(rng.uniform(0.75, 1.25))
        add_blob(
            figure, frame.point(a * length, b * width, height - 0.08), size, rise + 0.12 * (i % 2), colour, rng, lit
        )
    for _ in range(3):
        scrap = SCRAP_PAINTS[int(rng.integers(len(SCRAP_PAINTS)))]
        at = frame.point(
            float(rng.uniform(-0.4, 0.4)) * length,
            float(rng.uniform(-0.5, 0.5)) * width,
            height + heap * float(rng.uniform(0.2, 0.9)),
        )
        figure.limb(at, at + np.array([float(rng.uniform(-0.15, 0.15)), 0, 0.08]), 0.05, 0.04, times(scrap, lit))


def _add_spill(figure: Figure, frame: Frame, eye: Floats, width: float, rng: np.random.Generator, lit: float) -> None:
    for _ in range(int(rng.integers(2, 4))):
        side = 1 if rng.random() < 0.5 else -1
        at = frame.point(float(rng.uniform(0.0, 0.45)), side * (width / 2 + float(rng.uniform(0.15, 0.4))), 0.0)
        if at[1] > frame.y_m:
            at[1] = frame.y_m - 0.2
        colour = BAG_PAINTS[int(rng.integers(len(BAG_PAINTS)))]
        add_blob(figure, at, float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.35, 0.5)), colour, rng, lit)
