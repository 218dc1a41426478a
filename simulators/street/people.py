"""People and riders as jointed figures with a walking phase."""

from __future__ import annotations

import itertools
import math

import numpy as np

from simulators.street.figure import Colour, Figure, Floats, Frame, Shade, times
from simulators.street.scene import Person, TwoWheeler

TOPS: list[Colour] = [
    (230, 230, 230),
    (35, 35, 38),
    (70, 66, 62),
    (130, 130, 132),
    (60, 50, 170),
    (40, 60, 210),
    (160, 90, 40),
    (190, 130, 60),
    (80, 140, 70),
    (90, 190, 220),
    (60, 180, 235),
    (180, 120, 200),
    (150, 60, 90),
    (200, 210, 190),
    (90, 110, 150),
    (45, 80, 60),
    (40, 130, 240),
    (110, 60, 40),
]
LEGS: list[Colour] = [
    (60, 52, 45),
    (40, 38, 38),
    (95, 80, 60),
    (120, 95, 70),
    (70, 70, 72),
    (140, 150, 160),
    (105, 120, 140),
    (170, 180, 190),
    (50, 60, 70),
    (80, 60, 50),
]
SKINS: list[Colour] = [(150, 180, 225), (120, 155, 205), (95, 130, 180), (165, 195, 235), (70, 95, 140)]
HAIRS: list[Colour] = [(25, 22, 22), (35, 30, 30), (45, 45, 50), (40, 60, 90), (150, 150, 150), (20, 20, 25)]


def _pick(rng: np.random.Generator, colours: list[Colour]) -> Colour:
    colour = colours[int(rng.integers(len(colours)))]
    factor = float(rng.uniform(0.75, 1.15))
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor))


def height_of(person: Person) -> float:
    """Height of a person in metres; one in ten is a child."""
    rng = np.random.default_rng([person.look, 21])
    return float(rng.uniform(1.1, 1.45)) if rng.random() < 0.1 else float(rng.uniform(1.52, 1.86))


def add_person(figure: Figure, person: Person, eye: Floats, shade: Shade, now_s: float, wet: bool) -> None:
    """Adds a person; in the wet some carry umbrellas."""
    rng = np.random.default_rng([person.look, 22])
    tall = height_of(person) / 1.75
    top, legs, skin, hair = _pick(rng, TOPS), _pick(rng, LEGS), _pick(rng, SKINS), _pick(rng, HAIRS)
    stout = float(rng.uniform(0.85, 1.25)) * tall
    frame = Frame.at(person.x_m, person.y_m, person.heading_rad)
    style, bag, stance = rng.random(3)
    cadence = 2 * math.pi * 0.72 / tall
    phase = float(rng.uniform(0, 6.28)) + now_s * person.speed_mps * cadence
    swing = 0.32 * tall * math.sin(phase) if person.speed_mps > 0.05 else 0.05 * tall * (stance - 0.5)
    sway = swing * 0.7
    lit = 0.92 * (shade.ambient + 0.5 * shade.direct)
    top, legs, skin, hair = times(top, lit), times(legs, lit), times(skin, lit), times(hair, lit)
    hip, chest = 0.9 * tall, 1.4 * tall
    near_left = frame.own(eye)[1] > 0
    order = (-1, 1) if near_left else (1, -1)
    if bag < 0.12:
        _add_backpack(figure, frame, tall, _pick(rng, TOPS), behind=frame.own(eye)[0] > 0)
    for side in order:
        _add_leg(figure, frame, side, swing * side, hip, stout, tall, legs, bare=style > 0.85)
        if side == order[0]:
            _add_arm(figure, frame, side, -sway * side, chest, stout, tall, times(top, 0.85), skin)
    if style > 0.72:  # a coat or a skirt
        length = 0.45 if style > 0.85 else 0.6
        figure.limb(frame.point(0, 0, length * tall), frame.point(0, 0, hip + 0.1), 0.2 * stout, 0.17 * stout, top)
    figure.limb(frame.point(0, 0, hip + 0.02), frame.point(0.01, 0, chest - 0.06), 0.165 * stout, 0.185 * stout, top)
    _add_arm(figure, frame, order[1], -sway * order[1], chest, stout, tall, times(top, 0.95), skin)
    figure.limb(frame.point(0, 0, chest), frame.point(0.01, 0, chest + 0.16 * tall), 0.06 * tall, 0.06 * tall, skin)
    _add_head(figure, frame, eye, tall, skin, hair, hat=rng.random() < 0.15, hat_colour=_pick(rng, TOPS))
    if 0.12 <= bag < 0.3:
        hand = frame.point(-sway * order[1] * 1.1, order[1] * 0.26 * stout, 0.55 * tall)
        figure.limb(hand, hand + np.array([0, 0, -0.12]), 0.11, 0.13, times(_pick(rng, TOPS), lit))
    if wet and rng.random() < 0.55:
        _add_umbrella(figure, frame, tall, times(_pick(rng, TOPS), lit))


def _add_leg(
    figure: Figure,
    frame: Frame,
    side: int,
    step: float,
    hip: float,
    stout: float,
    tall: float,
    colour: Colour,
    *,
    bare: bool,
) -> None:
    b = side * 0.09 * stout
    knee = frame.point(step * 0.55 + 0.04 * tall, b, 0.48 * tall)
    foot = frame.point(step, b, max(0.06, 0.06 + 0.08 * max(0.0, -step)))
    figure.limb(frame.point(0, b, hip), knee, 0.1 * stout, 0.075 * stout, colour)
    figure.limb(knee, foot, 0.07 * stout, 0.05 * stout, (120.0, 150.0, 190.0) if bare else times(colour, 0.95))
    figure.limb(foot, foot + frame.normal(0.13 * tall, 0, -0.01), 0.05 * tall, 0.04 * tall, (40.0, 40.0, 45.0))


def _add_arm(
    figure: Figure,
    frame: Frame,
    side: int,
    reach: float,
    chest: float,
    stout: float,
    tall: float,
    sleeve: Colour,
    skin: Colour,
) -> None:
    shoulder = frame.point(0, side * 0.2 * stout, chest - 0.02)
    elbow = frame.point(reach * 0.4, side * 0.25 * stout, chest - 0.3 * tall)
    hand = frame.point(reach + 0.05, side * 0.24 * stout, chest - 0.55 * tall)
    figure.limb(shoulder, elbow, 0.065 * stout, 0.055 * stout, sleeve)
    figure.limb(elbow, hand, 0.05 * stout, 0.04 * stout, times(sleeve, 0.95))
    figure.ball(hand, 0.05 * tall, skin)


def _add_head(
    figure: Figure, frame: Frame, eye: Floats, tall: float, skin: Colour, hair: Colour, *, hat: bool, hat_colour: Colour
) -> None:
    head = frame.point(0.03, 0, 1.63 * tall)
    facing = frame.own(eye)[0] > 0
    figure.ball(head, 0.115 * tall, skin if facing else hair)
    crown = frame.point(0.0 if facing else 0.02, 0, 1.675 * tall)
    figure.ball(crown, 0.108 * tall, hat_colour if hat else hair)
    if facing:
        figure.ball(frame.point(0.08, 0, 1.6 * tall), 0.085 * tall, skin)


def _add_backpack(figure: Figure, frame: Frame, tall: float, colour: Colour, *, behind: bool) -> None:
    if behind:
        figure.limb(frame.point(-0.2, 0, 1.05 * tall), frame.point(-0.2, 0, 1.3 * tall), 0.15, 0.14, colour)
        return
    figure.limb(frame.point(-0.22, 0, 1.0 * tall), frame.point(-0.22, 0, 1.3 * tall), 0.16, 0.15, colour)


def _add_umbrella(figure: Figure, frame: Frame, tall: float, colour: Colour) -> None:
    top = 2.05 * tall
    figure.limb(frame.point(0.15, 0.1, 1.1 * tall), frame.point(0.12, 0.05, top), 0.015, 0.015, (60.0, 60.0, 60.0))
    turns = np.linspace(0, 2 * math.pi, 10, endpoint=False)
    rim = np.stack([0.12 + 0.52 * np.cos(turns), 0.05 + 0.52 * np.sin(turns), np.full(10, top - 0.2)], axis=1)
    figure.polygon(frame.world(rim), times(colour, 0.7))
    for i in range(10):
        wedge = np.array([[0.12, 0.05, top + 0.02], rim[i], rim[(i + 1) % 10]])
        figure.polygon(frame.world(wedge), times(colour, 0.9 + 0.2 * (i % 2)))


def add_two_wheeler(figure: Figure, bike: TwoWheeler, eye: Floats, shade: Shade, dark: bool) -> None:
    """Adds a bicycle or electric bicycle, ridden or parked on its stand."""
    rng = np.random.default_rng([bike.look, 31])
    electric = rng.random() < 0.6
    colour = _pick(rng, TOPS)
    frame = Frame.at(bike.x_m, bike.y_m, bike.heading_rad)
    radius, base = (0.24, 0.62) if electric else (0.33, 0.53)
    lean = 0.0 if bike.ridden else 0.09
    own = frame.own(eye)
    for a in (-base, base):
        _add_wheel(figure, frame, a, radius, lean)
    lit = shade.ambient + 0.5 * shade.direct
    body = times(colour, lit)
    if electric:
        panel = [
            [-0.62, 0, 0.35],
            [-0.66, lean, 0.72],
            [-0.1, lean, 0.7],
            [-0.02, 0, 0.38],
            [0.3, 0, 0.36],
            [0.38, lean, 0.9],
            [0.52, lean, 0.9],
            [0.5, 0, 0.3],
        ]
        figure.polygon(frame.world(panel), body)
        figure.limb(frame.point(-0.6, lean, 0.76), frame.point(-0.12, lean, 0.76), 0.09, 0.08, (38.0, 38.0, 40.0))
        if rng.random() < 0.4:
            add_box_behind(figure, frame, eye, shade, _pick(rng, TOPS))
    else:
        for (a1, z1), (a2, z2) in (
            ((-0.53, 0.33), (-0.1, 0.35)),
            ((-0.1, 0.35), (0.38, 0.75)),
            ((-0.2, 0.8), (0.38, 0.78)),
            ((-0.1, 0.35), (-0.2, 0.9)),
            ((-0.53, 0.33), (-0.18, 0.7)),
            ((0.53, 0.33), (0.36, 0.95)),
        ):
            figure.limb(frame.point(a1, 0, z1), frame.point(a2, lean * z2, z2), 0.025, 0.025, body)
        figure.limb(frame.point(-0.3, lean, 0.92), frame.point(-0.1, lean, 0.93), 0.06, 0.04, (40.0, 40.0, 40.0))
        if rng.random() < 0.5:
            figure.limb(frame.point(0.55, lean, 0.8), frame.point(0.62, lean, 0.7), 0.15, 0.12, times(body, 0.6))
    for side in (-1, 1):
        figure.limb(
            frame.point(0.38, lean, 1.0), frame.point(0.32, lean + side * 0.28, 1.03), 0.025, 0.03, (45.0, 45.0, 45.0)
        )
    if bike.ridden:
        _add_rider(figure, frame, own, rng, lit)
        if dark:
            figure.lamp(frame.point(0.55, 0, 0.9), 0.4 if own[0] > 0 else 0.1, (210, 235, 255))


def add_box_behind(figure: Figure, frame: Frame, eye: Floats, shade: Shade, colour: Colour) -> None:
    """Adds a courier's box behind the saddle."""
    lit = shade.ambient + 0.5 * shade.direct
    for b in (-0.2, 0.2) if frame.own(eye)[1] > 0 else (0.2, -0.2):
        box = [[-0.95, b, 0.8], [-0.95, b, 1.2], [-0.55, b, 1.2], [-0.55, b, 0.8]]
        figure.polygon(frame.world(box), times(colour, lit * (0.8 if b < 0 else 1.0)))
    lid = [[-0.95, -0.2, 1.2], [-0.95, 0.2, 1.2], [-0.55, 0.2, 1.2], [-0.55, -0.2, 1.2]]
    figure.polygon(frame.world(lid), times(colour, lit * 1.1))
    end = -0.95 if frame.own(eye)[0] < 0 else -0.55
    figure.polygon(
        frame.world([[end, -0.2, 0.8], [end, 0.2, 0.8], [end, 0.2, 1.2], [end, -0.2, 1.2]]), times(colour, lit * 0.9)
    )


def _add_wheel(figure: Figure, frame: Frame, a: float, radius: float, lean: float) -> None:
    turns = np.linspace(0, 2 * math.pi, 13)
    ring = np.stack(
        [a + radius * np.cos(turns), lean * (radius + radius * np.sin(turns)), radius + radius * np.sin(turns)], axis=1
    )
    world = frame.world(ring)
    for one, two in itertools.pairwise(world):
        figure.limb(one, two, 0.035, 0.035, (35.0, 35.0, 36.0))


def _add_rider(figure: Figure, frame: Frame, own: Floats, rng: np.random.Generator, lit: float) -> None:
    top, legs, skin = (times(_pick(rng, group), lit) for group in (TOPS, LEGS, SKINS))
    for side in (-1, 1) if own[1] > 0 else (1, -1):
        knee = frame.point(0.22, side * 0.14, 0.78)
        figure.limb(frame.point(-0.25, side * 0.1, 0.92), knee, 0.1, 0.08, legs)
        figure.limb(knee, frame.point(0.08, side * 0.12, 0.38), 0.075, 0.05, times(legs, 0.9))
        figure.limb(
            frame.point(-0.1, side * 0.2, 1.35), frame.point(0.32, side * 0.25, 1.05), 0.06, 0.045, times(top, 0.9)
        )
    figure.limb(frame.point(-0.25, 0, 0.98), frame.point(-0.1, 0, 1.36), 0.18, 0.18, top)
    helmet = _pick(rng, TOPS) if rng.random() < 0.6 else (25.0, 25.0, 25.0)
    figure.ball(frame.point(-0.02, 0, 1.6), 0.12, skin)
    figure.ball(frame.point(-0.04, 0, 1.65), 0.13, times(helmet, lit))
