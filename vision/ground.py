"""The ground plane of a camera: from places in the picture to metres east and north of the camera, and back.

A homography (Hartley and Zisserman, Multiple View Geometry, 2nd ed., 4.1 and 4.4.4) fitted by least squares to four or more
pairs that somebody measured: a place in the picture and the same place on the ground. It holds for what touches the
ground, and only on the near side of the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.model import Box, Point

Metres = tuple[float, float]
"""East and north of the camera, in metres."""

Matrix = NDArray[np.float64]

MIN_PAIRS, MAX_PAIRS = 4, 64
MIN_SINGULAR_SHARE = 1e-3
"""Below this share of the largest, the eighth singular value says that the pairs fix no plane (three in a row)."""

MAX_ERROR = 0.03
"""Of the picture's size: a pair that is off by more was measured or clicked wrong."""

MIN_NEARNESS = 0.02
"""A place whose depth is more than fifty times that of the nearest pair is as good as on the horizon."""

MAX_FROM_CAMERA_M = 2_000.0


class GroundError(Exception):
    """Pairs that give no usable ground plane; the text says why, and `code` in a stable word."""

    def __init__(self, text: str, code: str = "no_plane", **params: Any) -> None:
        super().__init__(text)
        self.code = code
        self.params = params


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """A fitted ground plane.

    `matrix`: nine numbers, row by row, from (x, y, 1) of the picture (0..1) to (east, north, 1) in metres up to scale;
    the scale is such that the third number is positive before the horizon and 1 at the nearest pair.
    `error`: root mean square of how far the pairs lie from the fitted plane, as a share of the picture's size.
    """

    matrix: tuple[float, ...]
    error: float = 0.0

    def locate(self, point: Point) -> Metres | None:
        """Where a place of the picture is on the ground; None on or beyond the horizon."""
        a, b, c, d, e, f, _, _, _ = self.matrix
        x, y = point
        depth = self.nearness(point)
        if depth < MIN_NEARNESS:
            return None
        return ((a * x + b * y + c) / depth, (d * x + e * y + f) / depth)

    def show(self, metres: Metres) -> Point | None:
        """Where a place on the ground is in the picture (it may lie outside of 0..1); None behind the camera."""
        back = np.linalg.inv(np.array(self.matrix).reshape(3, 3))
        x, y, w = (float(value) for value in back @ np.array([metres[0], metres[1], 1.0]))
        # back maps onto (x, y, 1) / depth: a positive w is a positive depth
        return (x / w, y / w) if w > 1e-9 else None

    def nearness(self, point: Point) -> float:
        """1 at the nearest pair, 0 on the horizon, negative beyond it."""
        _, _, _, _, _, _, g, h, i = self.matrix
        return g * point[0] + h * point[1] + i

    def distance_m(self, first: Point, second: Point) -> float | None:
        """Metres on the ground between two places of the picture; None when one has none."""
        a, b = self.locate(first), self.locate(second)
        return None if a is None or b is None else math.dist(a, b)

    def area_m2(self, polygon: Sequence[Point]) -> float | None:
        """Square metres of ground inside a polygon of the picture; None when it reaches the horizon.

        Straight lines stay straight, so the corners say it all.
        """
        corners = [place for point in polygon if (place := self.locate(point)) is not None]
        if len(corners) < len(polygon):
            return None
        return abs(signed_area(corners))

    def footprint_m2(self, box: Box) -> float | None:
        """Square metres that a thing lying in this box covers, roughly.

        Its width is that of the box's lower edge. Its depth is the box's, laid on the ground, but no more than its
        width: a heap stands up, and what its box covers beyond that is its height. An ellipse of that size.
        """
        x1, y1, x2, y2 = box
        left, right = self.locate((x1, y2)), self.locate((x2, y2))
        if left is None or right is None:
            return None
        width_m = math.dist(left, right)
        behind = self.locate(((x1 + x2) / 2, y1))
        near = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
        depth_m = width_m if behind is None else min(width_m, math.dist(near, behind))
        return math.pi / 4 * width_m * depth_m

    def metres_per_pixel(self, point: Point, width_px: int, height_px: int) -> float | None:
        """Side in metres of the ground square that has the area of one pixel there; None at the horizon."""
        depth = self.nearness(point)
        if depth < MIN_NEARNESS:
            return None
        determinant = float(np.linalg.det(np.array(self.matrix).reshape(3, 3)))
        return math.sqrt(abs(determinant) / depth**3 / (width_px * height_px))


def fit_ground(points: Sequence[Point], metres: Sequence[Metres]) -> Ground:
    """The ground plane of four or more pairs: places in the picture, and metres east and north of the camera.

    Raises GroundError: too few, degenerate, folded (the horizon would run between them), mirrored, contradicting.
    """
    if len(points) != len(metres):
        raise GroundError(
            f"there are {len(points)} points and {len(metres)} places in metres: they belong in pairs", "unpaired"
        )
    if not MIN_PAIRS <= len(points) <= MAX_PAIRS:
        raise GroundError(
            f"{MIN_PAIRS} to {MAX_PAIRS} pairs are needed, not {len(points)}", "few_pairs", limit=MIN_PAIRS
        )
    seen, ground = np.array(points, np.float64), np.array(metres, np.float64)
    if not (np.isfinite(seen).all() and np.isfinite(ground).all()):
        raise GroundError("a number is not finite")
    if float(np.abs(ground).max()) > MAX_FROM_CAMERA_M:
        raise GroundError(
            f"a place is more than {MAX_FROM_CAMERA_M:.0f} m from the camera", "far", limit=MAX_FROM_CAMERA_M
        )
    matrix = _solve(seen, ground)
    depths = matrix[2, 0] * seen[:, 0] + matrix[2, 1] * seen[:, 1] + matrix[2, 2]
    if depths.min() * depths.max() <= 0:
        raise GroundError("the pairs are folded: are two of them in the wrong order?", "folded")
    matrix = matrix / depths[np.abs(depths).argmax()]
    if np.linalg.det(matrix) > 0:
        raise GroundError("the pairs show the ground mirrored: are east and north exchanged?", "mirrored")
    found = Ground(matrix=tuple(float(value) for value in matrix.ravel()))
    errors = _errors(found, seen, ground)
    worst = int(errors.argmax())
    if errors[worst] > MAX_ERROR:
        percent = round(100 * float(errors[worst]), 1)
        raise GroundError(
            f"pair {worst + 1} contradicts the others by {percent} % of the picture",
            "contradicts", pair=worst + 1, percent=percent,
        )  # fmt: skip
    return Ground(matrix=found.matrix, error=float(np.sqrt((errors**2).mean())))


def signed_area(corners: Sequence[tuple[float, float]]) -> float:
    """Of a polygon, positive when it runs counter-clockwise with y upwards (shoelace formula)."""
    total = 0.0
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        total += x1 * y2 - x2 * y1
    return total / 2


def _solve(seen: Matrix, ground: Matrix) -> Matrix:
    """Picture to metres, (3, 3). Raises GroundError when the pairs fix no plane."""
    first, second = _normalising(seen), _normalising(ground)
    a = (first @ np.column_stack([seen, np.ones(len(seen))]).T).T
    b = (second @ np.column_stack([ground, np.ones(len(ground))]).T).T
    rows = []
    for (x, y, _), (u, v, _) in zip(a, b, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    singular = np.linalg.svd(np.array(rows), compute_uv=False)
    if singular[7] < MIN_SINGULAR_SHARE * singular[0]:
        raise GroundError("the pairs fix no plane: three of four lie in a row, or two are the same")
    # what is uncertain is the click in the picture: its error is what the fit makes least
    back, _ = cv2.findHomography(ground.astype(np.float64), seen.astype(np.float64), 0)
    if back is None or abs(np.linalg.det(back)) < 1e-15:
        raise GroundError("the pairs fix no plane")
    return np.asarray(np.linalg.inv(back), np.float64)


def _normalising(points: Matrix) -> Matrix:
    """The similarity that brings the points around the origin at a mean distance of the square root of two."""
    middle = points.mean(axis=0)
    spread = float(np.sqrt(((points - middle) ** 2).sum(axis=1)).mean())
    if spread < 1e-9:
        raise GroundError("the pairs fix no plane: they are all at one place")
    scale = math.sqrt(2) / spread
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])


def _errors(ground: Ground, seen: Matrix, metres: Matrix) -> Matrix:
    """How far each pair lies from the plane, as a share of the picture's size, (N,)."""
    shown = [ground.show((float(east), float(north))) for east, north in metres]
    return np.array(
        [
            math.inf if place is None else math.dist(place, (float(x), float(y)))
            for place, (x, y) in zip(shown, seen, strict=True)
        ]
    )
