"""The street without anybody in it: every pixel is cast onto the ground, a row of building fronts, or the sky.

The albedo (colour under white light) and what shines by itself are kept apart, so that one street can be seen
by day and by night.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street.camera import Camera
from simulators.street.layout import Layout

Plane = NDArray[np.float32]
OVERSAMPLE = 2
TILE = 256


@dataclass(frozen=True, slots=True)
class Backdrop:
    """albedo and glow (H, W, 3) 0..255, points in world metres (H, W, 3), distance_m (H, W), ground and sky masks."""

    albedo: Plane
    glow: Plane
    points_m: Plane
    distance_m: Plane
    ground: NDArray[np.bool_]
    sky: NDArray[np.bool_]


def _noise_tile(rng: np.random.Generator, octaves: tuple[int, ...]) -> Plane:
    """Periodic noise (TILE, TILE) around 0, about -1..1; octaves are cells per tile."""
    out = np.zeros((TILE, TILE), np.float32)
    for cells in octaves:
        small = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        wrapped = np.pad(small, 1, mode="wrap")
        scale = TILE // cells
        big = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        out += np.asarray(big[scale : scale + TILE, scale : scale + TILE])
    return np.asarray(out / len(octaves))


def _sample(tile: Plane, u: Plane, v: Plane, cell_m: float) -> Plane:
    columns = (u * (1.0 / cell_m)).astype(np.int32) & (TILE - 1)
    rows = (v * (1.0 / cell_m)).astype(np.int32) & (TILE - 1)
    return np.asarray(tile[rows, columns])


def build(seed: int, layout: Layout, camera: Camera) -> Backdrop:
    """Casts the whole street once (about 0.2 s at 640 x 360)."""
    rng = np.random.default_rng([seed, 2])
    columns, rows = camera.width * OVERSAMPLE, camera.height * OVERSAMPLE
    rays = camera.rays(columns, rows)
    cos, sin = np.cos(layout.turn_rad), np.sin(layout.turn_rad)
    ray_u = (rays[..., 0] * cos + rays[..., 1] * sin).astype(np.float32)
    ray_v = (-rays[..., 0] * sin + rays[..., 1] * cos).astype(np.float32)
    eye_u, eye_v = -layout.distance_m * sin, -layout.distance_m * cos
    down = np.minimum(rays[..., 2], -1e-4)
    to_ground = np.where(rays[..., 2] < -1e-4, camera.height_m / -down, 1e6).astype(np.float32)
    to_wall = np.where(ray_v > 1e-3, (layout.wall_v_m - eye_v) / np.maximum(ray_v, 1e-3), 1e6).astype(np.float32)
    wall_u = eye_u + ray_u * to_wall
    wall_z = camera.height_m + rays[..., 2] * to_wall
    is_ground = (to_ground <= to_wall) & (to_ground < 400)
    albedo = np.empty((rows, columns, 3), np.float32)
    glow = np.zeros((rows, columns, 3), np.float32)
    ground_u, ground_v = eye_u + ray_u * to_ground, eye_v + ray_v * to_ground
    albedo[is_ground] = _ground(rng, layout, ground_u[is_ground], ground_v[is_ground])
    heights = _wall_heights(rng)
    segment = np.floor_divide(np.clip(wall_u, -300, 300) + 300, 17.0).astype(np.int32) % len(heights)
    is_wall = ~is_ground & (to_wall < 350) & (wall_z < heights[segment])
    albedo[is_wall], glow[is_wall] = _wall(rng, wall_u[is_wall], wall_z[is_wall], segment[is_wall])
    sky = ~is_ground & ~is_wall
    albedo[sky] = 0.0
    distance = np.minimum(np.where(is_ground, to_ground, to_wall), 400)[..., None]
    points = rays * distance
    points[..., 2] += camera.height_m
    size = (camera.width, camera.height)

    def shrink(picture: NDArray[np.float32]) -> Plane:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.float32)

    half = slice(OVERSAMPLE // 2, None, OVERSAMPLE)
    return Backdrop(
        albedo=shrink(albedo),
        glow=shrink(glow),
        points_m=np.ascontiguousarray(points[half, half]),
        distance_m=np.ascontiguousarray(distance[half, half, 0]),
        ground=is_ground[half, half],
        sky=sky[half, half],
    )


def _ground(rng: np.random.Generator, layout: Layout, u: Plane, v: Plane) -> Plane:
    """Colours (N, 3) of ground points given in road axes."""
    coarse, fine = _noise_tile(rng, (4, 8, 16)), _noise_tile(rng, (32, 64, 128, 256))
    grey = rng.uniform(70, 125)
    tint = rng.uniform(0.94, 1.06, 3)
    tone = grey * (1 + 0.10 * _sample(coarse, u, v, 0.11) + rng.uniform(0.08, 0.2) * _sample(fine, u, v, 0.03))
    out = np.asarray(tone[:, None] * tint[None, :], dtype=np.float32)
    _repair(rng, out, u, v, layout)
    _mark(rng, layout, out, u, v)
    _pave(rng, layout, out, u, v, fine, coarse)
    return out


def _repair(rng: np.random.Generator, out: Plane, u: Plane, v: Plane, layout: Layout) -> None:
    """Patches of newer asphalt, cracks' sealings and manhole covers."""
    for _ in range(int(rng.integers(1, 7))):
        a, b = rng.uniform(-14, 14), rng.uniform(-layout.half_road_m, layout.half_road_m)
        if rng.random() < 0.5:
            inside = (u - a) ** 2 + (v - b) ** 2 < 0.36**2
            out[inside] *= rng.uniform(0.55, 0.8)
        else:
            inside = (np.abs(u - a) < rng.uniform(0.5, 3)) & (np.abs(v - b) < rng.uniform(0.3, 1.5))
            out[inside] *= rng.uniform(0.75, 1.2)


def _mark(rng: np.random.Generator, layout: Layout, out: Plane, u: Plane, v: Plane) -> None:
    """Lane lines, stop line, zebra crossing, parking boxes or the yellow zigzag of a no-parking lane."""
    half, lane = layout.half_road_m, layout.lane_m
    white = np.array(rng.uniform(190, 240) * np.array([0.98, 1.0, 1.0]), dtype=np.float32)
    yellow = np.array([70, 185, 215], dtype=np.float32) * np.float32(rng.uniform(0.8, 1.1))
    wear = np.float32(rng.uniform(0.55, 0.95))

    def paint(where: NDArray[np.bool_], colour: Plane) -> None:
        out[where] = out[where] * (1 - wear) + colour * wear

    middle = -half + lane
    paint((np.abs(v - middle) < 0.08) & (np.mod(u, 6.0) < rng.uniform(2.5, 6.0)), yellow)
    paint((np.abs(v - (half - layout.kerb_lane_m)) < 0.07) & (np.mod(u, 4.0) < 2.2), white)
    stop = layout.stop_u_m
    paint((np.abs(u - stop) < 0.18) & (v > -half) & (v < middle), white)
    if layout.zebra:
        stripes = (np.abs(u - stop - 2.6) < 1.7) & (np.abs(v) < half) & (np.mod(v, 1.0) < 0.5)
        paint(stripes, white)
    inside = (u > layout.bays_u_m[0]) & (u < layout.bays_u_m[1]) & (v < half) & (v > half - layout.kerb_lane_m)
    if layout.parking_marks:
        across = np.mod(u - layout.bays_u_m[0], 2.0)
        zigzag = np.abs(v - half + 0.6 - 0.5 * np.abs(across - 1.0)) < 0.09
        paint(inside & zigzag, yellow)


def _pave(rng: np.random.Generator, layout: Layout, out: Plane, u: Plane, v: Plane, fine: Plane, coarse: Plane) -> None:
    """Kerbs and tiled pavements, with a tactile strip and now and then a strip of green."""
    half = layout.half_road_m
    off = np.abs(v) - half
    pavement = off > 0
    if not pavement.any():
        return
    pu, pv, po = u[pavement], v[pavement], off[pavement]
    base = np.array(rng.uniform(105, 185) * rng.uniform(0.88, 1.1, 3), dtype=np.float32)
    tile_u, tile_v = rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.6)
    shades = 1 + rng.uniform(0.02, 0.12) * rng.uniform(-1, 1, (64, 64))
    row = np.floor_divide(pv, tile_v).astype(np.int32)
    shift = np.where(row % 2 == 0, 0.0, tile_u / 2) if rng.random() < 0.6 else 0.0
    column = np.floor_divide(pu + shift, tile_u).astype(np.int32)
    tone = shades[row & 63, column & 63] * (
        1 + 0.07 * _sample(coarse, pu, pv, 0.07) + 0.07 * _sample(fine, pu, pv, 0.03)
    )
    colours = np.asarray(tone[:, None] * base[None, :], dtype=np.float32)
    joint = (np.mod(pv, tile_v) < 0.025) | (np.mod(pu + shift, tile_u) < 0.025)
    colours[joint] *= rng.uniform(0.7, 0.95)
    if rng.random() < 0.6:
        at = rng.uniform(1.3, 2.4)
        colours[np.abs(po - at) < 0.2] = np.array([80, 170, 200], np.float32) * np.float32(rng.uniform(0.7, 1.1))
    if rng.random() < 0.35:
        green = (po > 0.3) & (po < rng.uniform(0.7, 1.1)) & (np.mod(pu, 7.0) < 4.5) & (pv > 0)
        blades = 1 + 0.35 * _sample(fine, pu[green], pv[green], 0.02)
        colours[green] = blades[:, None] * np.array([50, 105, 65], np.float32)
    colours[po < 0.16] = rng.uniform(150, 200)
    colours[po < 0.05] *= 0.6
    out[pavement] = colours


def _wall_heights(rng: np.random.Generator) -> Plane:
    return rng.uniform(7, 26, 48).astype(np.float32)


def _wall(rng: np.random.Generator, u: Plane, z: Plane, segment: NDArray[np.int32]) -> tuple[Plane, Plane]:
    """Albedo and glow (N, 3) of points on the building fronts: shops below, windows above."""
    count = 48
    facade = (rng.uniform(70, 215, (count, 1)) * rng.uniform(0.8, 1.15, (count, 3))).astype(np.float32)
    albedo = facade[segment]
    glow = np.zeros_like(albedo)
    noise = _noise_tile(rng, (16, 64, 128))
    albedo *= (1 + 0.09 * _sample(noise, u, z, 0.05))[:, None]
    floor_m, bay_m = rng.uniform(2.9, 3.5), rng.uniform(2.2, 3.6)
    shop_top = rng.uniform(3.3, 4.2)
    column, floor = np.floor_divide(u, bay_m).astype(np.int32), np.floor_divide(z - shop_top, floor_m).astype(np.int32)
    in_u, in_z = np.mod(u, bay_m) / bay_m, np.mod(z - shop_top, floor_m) / floor_m
    window = (z > shop_top) & (in_u > 0.22) & (in_u < 0.78) & (in_z > 0.3) & (in_z < 0.8)
    pane = rng.uniform(35, 110, (64, 64)).astype(np.float32)
    lit = rng.random((64, 64)) < rng.uniform(0.15, 0.5)
    tone = pane[floor & 63, column & 63]
    albedo[window] = tone[window][:, None] * np.array([1.08, 1.0, 0.92], np.float32)
    shining = window & lit[floor & 63, column & 63]
    glow[shining] = np.array([110, 175, 215], np.float32) * np.float32(rng.uniform(0.5, 1.0))
    albedo[window & (np.abs(in_u - 0.5) < 0.02)] = 150
    _shops(rng, u, z, shop_top, albedo, glow)
    return albedo, glow


def _shops(rng: np.random.Generator, u: Plane, z: Plane, top_m: float, albedo: Plane, glow: Plane) -> None:
    unit_m = rng.uniform(3.6, 6.5)
    unit = np.floor_divide(u, unit_m).astype(np.int32) & 63
    along = np.mod(u, unit_m) / unit_m
    signs = rng.uniform(20, 235, (64, 3)).astype(np.float32)
    open_ = rng.random(64) < 0.7
    band = (z > top_m - 0.95) & (z < top_m - 0.15) & (along > 0.04) & (along < 0.96)
    albedo[band] = signs[unit[band]]
    glow[band & open_[unit]] = signs[unit[band & open_[unit]]] * np.float32(0.75)
    letter = band & (z > top_m - 0.78) & (z < top_m - 0.32) & (along > 0.2) & (along < 0.8)
    pattern = rng.random((16, 64)) < 0.55
    ink = pattern[np.floor_divide(z, 0.09).astype(np.int32) & 15, np.floor_divide(u, 0.11).astype(np.int32) & 63]
    gap = np.mod(along * 8, 1.0) > 0.2
    albedo[letter & ink & gap] = 235
    front = (z > 0.25) & (z < top_m - 1.0) & (along > 0.06) & (along < 0.94)
    glass = rng.uniform(40, 130, 64).astype(np.float32)
    shutter = rng.uniform(120, 190, 64).astype(np.float32)
    glass_front, closed = front & open_[unit], front & ~open_[unit]
    albedo[glass_front] = glass[unit[glass_front]][:, None] * np.array([1.05, 1.0, 0.95], np.float32)
    glow[glass_front] = np.array([120, 165, 190], np.float32) * np.float32(rng.uniform(0.35, 0.8))
    ribs = 0.88 + 0.12 * (np.mod(z[closed], 0.18) < 0.12)
    albedo[closed] = (shutter[unit[closed]] * ribs)[:, None]
    frame = front & ((np.mod(along * 4, 1.0) < 0.05) | (np.abs(z - 2.2) < 0.05))
    albedo[frame] = 70
    goods = glass_front & (z < 1.6) & (np.mod(along * 4, 1.0) > 0.1)
    stock = rng.uniform(0.5, 1.7, (64, 64)).astype(np.float32)
    albedo[goods] *= stock[
        np.floor_divide(z[goods], 0.3).astype(np.int32) & 63, np.floor_divide(u[goods], 0.35).astype(np.int32) & 63
    ][:, None]
