"""Cars, vans, trucks and buses as extruded profiles with glass, wheels and lights."""

from __future__ import annotations

import itertools
import math

import numpy as np

from simulators.street.figure import Colour, Figure, Floats, Frame, Shade, add_box, add_prism, mix, times
from simulators.street.scene import Vehicle, VehicleKind

PAINTS: list[Colour] = [
    (235, 235, 235),
    (225, 228, 232),
    (40, 38, 38),
    (60, 58, 55),
    (120, 120, 122),
    (165, 165, 168),
    (190, 192, 195),
    (45, 40, 150),
    (35, 30, 190),
    (140, 70, 30),
    (170, 95, 40),
    (95, 60, 25),
    (60, 90, 50),
    (80, 140, 190),
    (40, 160, 215),
    (30, 120, 225),
    (150, 170, 180),
    (110, 140, 90),
    (200, 190, 120),
    (60, 60, 100),
]
KINDS = list(VehicleKind)
KIND_ODDS = [0.33, 0.2, 0.22, 0.12, 0.08, 0.05]
GLASS: Colour = (78, 70, 62)
RUBBER: Colour = (32, 32, 32)
WHEEL = np.linspace(0.0, 2 * math.pi, 14, endpoint=False)

# body profile (fraction of length, z in m), glasshouse base and roof (fractions, z), length range, width range
Body = tuple[list[tuple[float, float]], tuple[float, float, float], tuple[float, float, float]]
BODIES: dict[VehicleKind, Body] = {
    VehicleKind.SEDAN: (
        [
            (-0.5, 0.32),
            (-0.5, 0.78),
            (-0.46, 0.95),
            (-0.38, 0.98),
            (0.2, 0.95),
            (0.42, 0.82),
            (0.49, 0.66),
            (0.5, 0.32),
        ],
        (-0.39, 0.24, 0.96),
        (-0.22, 0.07, 1.45),
    ),
    VehicleKind.HATCHBACK: (
        [(-0.5, 0.32), (-0.5, 0.8), (-0.48, 1.0), (0.24, 0.97), (0.44, 0.82), (0.5, 0.64), (0.5, 0.32)],
        (-0.48, 0.27, 0.98),
        (-0.38, 0.08, 1.52),
    ),
    VehicleKind.SUV: (
        [(-0.5, 0.4), (-0.5, 0.95), (-0.48, 1.08), (0.24, 1.06), (0.45, 0.98), (0.5, 0.8), (0.5, 0.4)],
        (-0.48, 0.25, 1.07),
        (-0.43, 0.1, 1.74),
    ),
    VehicleKind.VAN: (
        [(-0.5, 0.38), (-0.5, 1.1), (-0.49, 1.18), (0.36, 1.12), (0.48, 0.9), (0.5, 0.7), (0.5, 0.38)],
        (-0.49, 0.37, 1.13),
        (-0.47, 0.22, 1.98),
    ),
}
SIZES: dict[VehicleKind, tuple[float, float, float, float]] = {
    VehicleKind.SEDAN: (4.4, 5.0, 1.76, 1.88),
    VehicleKind.HATCHBACK: (3.7, 4.3, 1.65, 1.8),
    VehicleKind.SUV: (4.3, 4.9, 1.8, 1.95),
    VehicleKind.VAN: (4.3, 5.3, 1.7, 1.95),
    VehicleKind.TRUCK: (5.4, 7.6, 1.9, 2.3),
    VehicleKind.BUS: (8.5, 11.5, 2.4, 2.55),
}


def size_of(vehicle: Vehicle) -> tuple[VehicleKind, float, float]:
    """Kind, length and width in metres of a vehicle."""
    rng = np.random.default_rng([vehicle.look, 11])
    chosen = KINDS[int(rng.choice(len(KINDS), p=KIND_ODDS))]
    kind = vehicle.kind or chosen
    low, high, narrow, wide = SIZES[kind]
    share = float(rng.random())
    return kind, low + (high - low) * share, narrow + (wide - narrow) * share


def add_vehicle(figure: Figure, vehicle: Vehicle, eye: Floats, shade: Shade, dark: bool) -> None:
    """Adds a vehicle; in the dark its lights shine when they are on."""
    kind, length, width = size_of(vehicle)
    rng = np.random.default_rng([vehicle.look, 12])
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    paint = mix(paint, (float(rng.uniform(0, 255)), float(rng.uniform(0, 255)), float(rng.uniform(0, 255))), 0.12)
    frame = Frame.at(vehicle.x_m, vehicle.y_m, vehicle.heading_rad)
    wheel_m = {VehicleKind.TRUCK: 0.42, VehicleKind.BUS: 0.48, VehicleKind.SUV: 0.37}.get(kind, 0.32)
    _add_underside(figure, frame, length, width)
    if kind is VehicleKind.TRUCK:
        height = _add_truck(figure, frame, eye, shade, length, width, paint, rng)
    elif kind is VehicleKind.BUS:
        height = _add_bus(figure, frame, eye, shade, length, width, paint, rng)
    else:
        height = _add_car(figure, frame, eye, shade, kind, length, width, paint, rng)
    own = frame.own(eye)
    _add_wheels(figure, frame, own, length, width, wheel_m, shade)
    _add_ends(figure, frame, own, vehicle, length, width, height, dark)


def _add_underside(figure: Figure, frame: Frame, length: float, width: float) -> None:
    a, b = length / 2 * 0.94, width / 2 * 0.94
    dark = frame.world([[-a, -b, 0.12], [a, -b, 0.12], [a, b, 0.12], [-a, b, 0.12]])
    figure.polygon(dark, (26.0, 26.0, 26.0))
    for side in (-1, 1):
        skirt = [[-a, side * b, 0.12], [a, side * b, 0.12], [a, side * b, 0.4], [-a, side * b, 0.4]]
        figure.polygon(frame.world(skirt), (30.0, 30.0, 30.0))
    for end in (-1, 1):
        apron = [[end * a, -b, 0.12], [end * a, b, 0.12], [end * a, b, 0.4], [end * a, -b, 0.4]]
        figure.polygon(frame.world(apron), (30.0, 30.0, 30.0))


def _add_car(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    kind: VehicleKind,
    length: float,
    width: float,
    paint: Colour,
    rng: np.random.Generator,
) -> float:
    body, base, roof = BODIES[kind]
    profile = [(a * length, z) for a, z in body]
    half = width / 2
    bumper = mix(paint, (40, 40, 40), 0.35 if rng.random() < 0.5 else 0.0)
    colours = [bumper, *[paint] * (len(profile) - 3), bumper]
    facing = add_prism(figure, frame, eye, shade, profile, [half] * len(profile), colours, paint)
    if facing:
        _add_side_lines(figure, frame, facing, length, half, base[2], times(paint, 0.55))
    top_half = half * 0.8
    glass = times(GLASS, float(rng.uniform(0.7, 1.5)))
    cabin = [
        (base[0] * length, base[2]),
        (roof[0] * length, roof[2]),
        (roof[1] * length, roof[2]),
        (base[1] * length, base[2]),
    ]
    top = times(GLASS, 0.6) if rng.random() < 0.2 else paint
    halves = [half * 0.97, top_half, top_half, half * 0.97]
    facing = add_prism(figure, frame, eye, shade, cabin, halves, [glass, top, glass], paint)
    if facing:
        _add_side_glass(
            figure,
            frame,
            shade,
            facing,
            cabin,
            half * 0.98,
            top_half,
            glass,
            kind is VehicleKind.VAN and rng.random() < 0.5,
        )
    if rng.random() < 0.12:  # a taxi's sign or a roof box
        sign = Frame.at(float(frame.x_m), float(frame.y_m), math.atan2(frame.sin, frame.cos))
        add_box(figure, sign, eye, shade, (0.3, 0.7, 0.16), (90, 200, 240), lift_m=roof[2])
    return roof[2]


def _add_side_lines(
    figure: Figure, frame: Frame, facing: int, length: float, half: float, belt_m: float, colour: Colour
) -> None:
    for a in (-0.2, 0.03, 0.24):
        x = a * length
        b = facing * half
        door = frame.world([[x, b, 0.42], [x + 0.03, b, 0.42], [x + 0.03, b, belt_m - 0.03], [x, b, belt_m - 0.03]])
        figure.polygon(door, colour)
    sill = frame.world(
        [
            [-0.33 * length, facing * half, 0.33],
            [0.33 * length, facing * half, 0.33],
            [0.33 * length, facing * half, 0.42],
            [-0.33 * length, facing * half, 0.42],
        ]
    )
    figure.polygon(sill, times(colour, 0.7))


def _add_side_glass(
    figure: Figure,
    frame: Frame,
    shade: Shade,
    facing: int,
    cabin: list[tuple[float, float]],
    low_half: float,
    top_half: float,
    glass: Colour,
    cargo: bool,
) -> None:
    (a1, z1), (a2, z2), (a3, _), (a4, _) = cabin
    inset, drop, lift = 0.07, 0.07, 0.03
    share = (z2 - drop - z1) / (z2 - z1)
    high = low_half + (top_half - low_half) * share
    rear, front = a1 + (a2 - a1) * share, a4 + (a3 - a4) * share
    cuts = (0.45, 1.0) if cargo else (0.0, 0.28, 0.62, 1.0)
    tone = shade.on(glass, frame.normal(0.0, facing, 0.2))
    for left, right in itertools.pairwise(cuts):
        low_a = (a1 + (a4 - a1) * left + inset, a1 + (a4 - a1) * right - inset)
        top_a = (rear + (front - rear) * left + inset, rear + (front - rear) * right - inset)
        pane = [
            [low_a[0], facing * low_half, z1 + lift],
            [top_a[0], facing * high, z2 - drop],
            [top_a[1], facing * high, z2 - drop],
            [low_a[1], facing * low_half, z1 + lift],
        ]
        figure.polygon(frame.world(pane), tone)


def _add_truck(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    length: float,
    width: float,
    paint: Colour,
    rng: np.random.Generator,
) -> float:
    half, cab = width / 2, 1.7
    height = float(rng.uniform(2.2, 3.2))
    load = PAINTS[int(rng.integers(len(PAINTS)))] if rng.random() < 0.6 else (210.0, 214.0, 216.0)
    open_bed = rng.random() < 0.35
    cargo_top = 1.35 if open_bed else height
    rear, split, nose = -length / 2, length / 2 - cab, length / 2
    cargo = [(rear, 0.7), (rear, cargo_top), (split - 0.1, cargo_top), (split - 0.1, 0.7)]
    cab_profile = [(split, 0.5), (split, 2.1), (nose - 0.45, 2.15), (nose - 0.05, 1.25), (nose, 1.1), (nose, 0.5)]
    cab_colours = [paint, paint, times(GLASS, 1.1), paint, paint]
    top = (90.0, 95.0, 100.0) if open_bed else load
    ahead = frame.own(eye)[0] > split
    for cargo_now in (True, False) if ahead else (False, True):
        if cargo_now:
            add_prism(figure, frame, eye, shade, cargo, [half] * 4, [load, top, load], load)
        else:
            facing = add_prism(figure, frame, eye, shade, cab_profile, [half * 0.96] * 6, cab_colours, paint)
            if facing:
                b = facing * half * 0.96
                pane = [[split + 0.35, b, 1.3], [split + 0.4, b, 1.95], [nose - 0.55, b, 1.95], [nose - 0.2, b, 1.3]]
                figure.polygon(frame.world(pane), GLASS)
    return 1.2


def _add_bus(
    figure: Figure,
    frame: Frame,
    eye: Floats,
    shade: Shade,
    length: float,
    width: float,
    paint: Colour,
    rng: np.random.Generator,
) -> float:
    half, top = width / 2, 3.05
    profile = [(-length / 2, 0.35), (-length / 2, top), (length / 2 - 0.1, top), (length / 2, 1.1), (length / 2, 0.35)]
    colours = [paint, mix(paint, (235, 235, 235), 0.6), times(GLASS, 1.0), paint]
    facing = add_prism(figure, frame, eye, shade, profile, [half] * 5, colours, paint)
    if facing:
        b = facing * half
        tone = shade.on(GLASS, frame.normal(0.0, facing, 0.2))
        panes = 6
        for i in range(panes):
            a1 = -length / 2 + 0.4 + i * (length - 0.9) / panes
            a2 = a1 + (length - 0.9) / panes - 0.12
            figure.polygon(frame.world([[a1, b, 1.35], [a1, b, 2.5], [a2, b, 2.5], [a2, b, 1.35]]), tone)
        stripe = PAINTS[int(rng.integers(len(PAINTS)))]
        band = [[-length / 2, b, 0.8], [-length / 2, b, 1.1], [length / 2, b, 1.1], [length / 2, b, 0.8]]
        figure.polygon(frame.world(band), shade.on(stripe, frame.normal(0.0, facing, 0.0)))
    return 1.2


def _add_wheels(
    figure: Figure, frame: Frame, own: Floats, length: float, width: float, radius: float, shade: Shade
) -> None:
    facing = 1 if own[1] > 0 else -1
    b = facing * (width / 2 + 0.01)
    for a in (-0.31 * length, 0.31 * length):
        ring = np.stack([a + radius * np.cos(WHEEL), np.full(len(WHEEL), b), radius + radius * np.sin(WHEEL)], axis=1)
        figure.polygon(frame.world(ring), RUBBER)
        hub = ring.copy()
        hub[:, 0] = a + (hub[:, 0] - a) * 0.58
        hub[:, 2] = radius + (hub[:, 2] - radius) * 0.58
        figure.polygon(frame.world(hub), shade.on((150, 150, 152), frame.normal(0.0, facing, 0.0)))


def _add_ends(
    figure: Figure,
    frame: Frame,
    own: Floats,
    vehicle: Vehicle,
    length: float,
    width: float,
    height_m: float,
    dark: bool,
) -> None:
    front = own[0] > length / 2
    rear = own[0] < -length / 2
    lit = vehicle.lights_on and dark
    if not (front or rear):
        if lit:
            _add_beam_lamps(figure, frame, length, width, front=False, strength=0.35)
        return
    a = (length / 2 + 0.01) if front else -(length / 2 + 0.01)
    half = width / 2
    colour: Colour = (225, 232, 235) if front else (50, 40, 190)
    if rear and vehicle.braking:
        colour = (70, 60, 255)
    z = min(0.72, height_m * 0.5)
    for side in (-1, 1):
        b1, b2 = side * (half - 0.08), side * (half - 0.46)
        lamp = frame.world([[a, b1, z - 0.08], [a, b2, z - 0.08], [a, b2, z + 0.09], [a, b1, z + 0.1]])
        figure.polygon(lamp, colour, glowing=lit)
    plate = frame.world([[a, -0.22, 0.42], [a, 0.22, 0.42], [a, 0.22, 0.56], [a, -0.22, 0.56]])
    figure.polygon(plate, (190, 110, 40) if vehicle.look % 3 else (120, 190, 110))
    if front:
        grille = frame.world([[a, -0.5, z - 0.12], [a, 0.5, z - 0.12], [a, 0.5, z + 0.03], [a, -0.5, z + 0.03]])
        figure.polygon(grille, (38, 38, 38))
    if lit:
        _add_beam_lamps(figure, frame, length, width, front=front, strength=1.0)


def _add_beam_lamps(figure: Figure, frame: Frame, length: float, width: float, *, front: bool, strength: float) -> None:
    for side in (-1, 1):
        b = side * (width / 2 - 0.25)
        if front or strength < 1.0:
            figure.lamp(frame.point(length / 2, b, 0.7), 0.9 * strength, (205, 235, 255))
        if not front:
            figure.lamp(frame.point(-length / 2, b, 0.72), 0.45 * strength, (40, 40, 255))
