"""A pinhole camera that looks down on a flat street.

World axes, in metres: x to the right of the camera, y away from it along the ground, z up; the camera stands
over the origin. Pixels: x to the right, y down, the origin at the top left corner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAREST_M = 0.6
"""Points closer than this along the optical axis are treated as behind the camera."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Where a camera hangs and how it sees. Angles in radians; tilt is positive downwards."""

    width: int
    height: int
    height_m: float
    tilt_rad: float
    roll_rad: float
    focal_px: float

    @property
    def eye(self) -> Floats:
        """The optical centre in world metres, shape (3,)."""
        return np.array([0.0, 0.0, self.height_m])

    def depth(self, points_m: Floats) -> Floats:
        """Distance along the optical axis of points (N, 3), shape (N,)."""
        c, s = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
        return np.asarray(points_m[:, 1] * c + (self.height_m - points_m[:, 2]) * s)

    def project(self, points_m: Floats) -> tuple[Floats, Floats]:
        """Pixels (N, 2) and depths (N,) of world points (N, 3).

        Points nearer than NEAREST_M get the pixel of that plane; look at the depth before using it.
        """
        c, s = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
        y, down_m = points_m[:, 1], self.height_m - points_m[:, 2]
        depth = y * c + down_m * s
        scale = self.focal_px / np.maximum(depth, NEAREST_M)
        right, below = points_m[:, 0] * scale, (down_m * c - y * s) * scale
        cr, sr = math.cos(self.roll_rad), math.sin(self.roll_rad)
        pixels = np.empty((len(points_m), 2))
        pixels[:, 0] = self.width / 2 + right * cr - below * sr
        pixels[:, 1] = self.height / 2 + right * sr + below * cr
        return pixels, depth

    def rays(self, columns: int, rows: int) -> NDArray[np.float32]:
        """World direction of every pixel centre of a picture of that size, shape (rows, columns, 3), float32."""
        px = (np.arange(columns, dtype=np.float32) + 0.5) * (self.width / columns) - self.width / 2
        py = (np.arange(rows, dtype=np.float32) + 0.5) * (self.height / rows) - self.height / 2
        cr, sr = math.cos(self.roll_rad), math.sin(self.roll_rad)
        right = (px[None, :] * cr + py[:, None] * sr) / self.focal_px
        below = (-px[None, :] * sr + py[:, None] * cr) / self.focal_px
        c, s = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
        out = np.empty((rows, columns, 3), np.float32)
        out[..., 0] = right
        out[..., 1] = c - below * s
        out[..., 2] = -s - below * c
        return out
