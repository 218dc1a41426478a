"""What stands in a street and is nobody's business: trees, lamp posts, cabinets, bollards, planters, signs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulators.street.figure import Colour, Figure, Floats, Frame, Shade, add_box, times
from simulators.street.layout import Layout

KEEP_CLEAR_M = 1.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Decor:
    """One fixed thing at a ground place; `kind` says how it is drawn."""

    kind: str
    x_m: float
    y_m: float
    heading_rad: float
    look: int


KINDS = ("tree", "tree", "lamp", "cabinet", "bollard", "bollard", "planter", "sign", "post", "rail")


def furnish(seed: int, layout: Layout, clear: Floats) -> list[Decor]:
    """Fixed things along both pavements, none within KEEP_CLEAR_M of the places (N, 2) to keep clear."""
    rng = np.random.default_rng([seed, 3])
    found: list[Decor] = []
    for _ in range(int(rng.integers(6, 22))):
        near = rng.random() < 0.3
        kind = KINDS[int(rng.integers(len(KINDS)))]
        half = layout.half_road_m
        v = (
            -half - float(rng.uniform(0.3, layout.near_pavement_m))
            if near
            else half + float(rng.uniform(0.35, layout.far_pavement_m))
        )
        if kind in ("tree", "lamp", "bollard", "rail"):
            v = math.copysign(half + 0.45, v)
        u = float(rng.uniform(-26, 26))
        x, y = layout.to_world(np.array([[u, v]]))[0]
        if y < 4.0 or (near and kind == "tree"):
            continue
        if len(clear) and float(np.hypot(clear[:, 0] - x, clear[:, 1] - y).min()) < KEEP_CLEAR_M:
            continue
        found.append(
            Decor(kind=kind, x_m=float(x), y_m=float(y), heading_rad=layout.turn_rad, look=int(rng.integers(1 << 30)))
        )
    return found


def add_decor(figure: Figure, decor: Decor, eye: Floats, shade: Shade, snowy: bool) -> None:
    """Adds a fixed thing to a figure."""
    rng = np.random.default_rng([decor.look, 71])
    frame = Frame.at(decor.x_m, decor.y_m, decor.heading_rad)
    lit = shade.ambient + 0.5 * shade.direct
    grey = float(rng.uniform(80, 170))
    colour: Colour = (grey * lit, grey * lit, grey * lit * float(rng.uniform(0.9, 1.1)))
    match decor.kind:
        case "tree":
            _add_tree(figure, frame, rng, lit, snowy)
        case "lamp":
            height = float(rng.uniform(5.5, 8.0))
            figure.limb(frame.point(0, 0, 0), frame.point(0, 0, height), 0.09, 0.05, colour)
            figure.limb(frame.point(0, 0, height), frame.point(0, -1.4, height + 0.2), 0.05, 0.08, colour)
        case "cabinet":
            size = (float(rng.uniform(0.4, 0.7)), float(rng.uniform(0.7, 1.5)), float(rng.uniform(1.0, 1.6)))
            tone: Colour = (grey, grey * float(rng.uniform(0.9, 1.15)), grey * 0.95)
            add_box(figure, frame, eye, shade, size, tone)
        case "planter":
            size = (float(rng.uniform(0.5, 0.8)), float(rng.uniform(0.8, 2.0)), 0.5)
            add_box(figure, frame, eye, shade, size, (grey, grey * 1.05, grey * 1.15))
            for _ in range(7):
                at = frame.point(
                    float(rng.uniform(-0.2, 0.2)),
                    float(rng.uniform(-0.45, 0.45)) * size[1],
                    float(rng.uniform(0.55, 0.85)),
                )
                figure.ball(
                    at, float(rng.uniform(0.12, 0.26)), times((50, 110, 60), lit * float(rng.uniform(0.7, 1.3)))
                )
        case "bollard":
            for i in range(int(rng.integers(1, 5))):
                base = frame.point(i * 1.4, 0, 0)
                figure.limb(base, base + np.array([0, 0, 0.75]), 0.07, 0.07, colour)
                figure.limb(
                    base + np.array([0, 0, 0.55]),
                    base + np.array([0, 0, 0.65]),
                    0.072,
                    0.072,
                    (60 * lit, 200 * lit, 235 * lit),
                )
        case "sign":
            figure.limb(frame.point(0, 0, 0), frame.point(0, 0, 2.4), 0.04, 0.04, colour)
            signs: list[Colour] = [(190, 90, 30), (50, 50, 200), (230, 230, 230), (60, 190, 230)]
            figure.ball(frame.point(0, 0, 2.5), 0.32, times(signs[int(rng.integers(4))], lit))
            figure.ball(frame.point(0, 0, 2.5), 0.2, times((220, 220, 220), lit))
        case "post":
            figure.limb(
                frame.point(0, 0, 0), frame.point(0, 0, float(rng.uniform(3, 7))), 0.11, 0.1, times(colour, 0.8)
            )
        case "rail":
            for i in range(5):
                a = i * 0.9
                figure.limb(frame.point(a, 0, 0), frame.point(a, 0, 0.95), 0.03, 0.03, colour)
            for z in (0.3, 0.9):
                figure.limb(frame.point(0, 0, z), frame.point(3.6, 0, z), 0.03, 0.03, colour)


def _add_tree(figure: Figure, frame: Frame, rng: np.random.Generator, lit: float, snowy: bool) -> None:
    trunk = float(rng.uniform(2.6, 3.6))
    thick = float(rng.uniform(0.11, 0.22))
    bark: Colour = (60 * lit, 75 * lit, 90 * lit)
    bare = snowy or rng.random() < 0.12
    figure.limb(frame.point(0, 0, 0), frame.point(0.1, 0, trunk + 1.0), thick, thick * 0.7, bark)
    if bare:
        for _ in range(9):
            tip = frame.point(
                float(rng.uniform(-1.8, 1.8)), float(rng.uniform(-1.2, 1.2)), trunk + float(rng.uniform(1.5, 3.5))
            )
            figure.limb(frame.point(0.05, 0, trunk + 0.5), tip, 0.07, 0.02, bark)
        return
    base: Colour = (float(rng.uniform(35, 70)), float(rng.uniform(90, 140)), float(rng.uniform(50, 120)))
    balls = [
        (
            float(rng.normal(0, 0.75)),
            float(rng.normal(0, 0.75)),
            trunk + 1.4 + float(rng.uniform(-0.7, 1.9)),
            float(rng.uniform(0.35, 0.85)),
        )
        for _ in range(26)
    ]
    for a, b, z, radius in sorted(balls, key=lambda ball: ball[2]):
        figure.ball(
            frame.point(a, b, z), radius, times(base, lit * (0.6 + 0.16 * (z - trunk)) * float(rng.uniform(0.85, 1.15)))
        )
