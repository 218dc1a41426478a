"""Streets cut into communities, responsibility grids and cells, along roads, without gaps or overlaps.

Everything is cut in a flat frame of metres that is a linear image of degrees, so that what is straight in one is straight
in the other. Blocks between arterial roads are halved again and again: first into communities (the cut becomes a named
road), then into responsibility grids (a minor road), then into cells of about a hectare (a lane). The rings of all cells
are then noded together on a raster of 1e-7 degrees (snap rounding), so that neighbours share every vertex.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from simulators.district.plan import POINTS, RIVERS, ROADS, STREETS, Street

Floats = NDArray[np.float64]

ORIGIN = np.array([120.175, 30.300])
SCALE_M = np.array([96_195.0, 110_858.0])
"""Metres per degree of longitude and latitude at ORIGIN on the CGCS2000 ellipsoid."""

CELL_M2, GRID_M2 = 10_000.0, 140_000.0
_STEP_DEG = 1e-7
_SLIVER_M2 = 3_500.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A new road: two ends in metres, and the street whose blocks it parts. `rank` 1 community, 2 grid, 3 cell."""

    rank: int
    street: Street
    ends_m: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A cell before it has a code. `community` and `grid` count within the whole district."""

    street: Street
    community: int
    grid: int
    ring_deg: BaseGeometry
    ring_m: BaseGeometry


def to_degrees(points_m: Floats) -> Floats:
    """Longitudes and latitudes (n, 2) of frame metres (n, 2)."""
    return np.asarray(points_m / SCALE_M + ORIGIN)


def to_metres(points_deg: Floats) -> Floats:
    """Frame metres (n, 2) of longitudes and latitudes (n, 2)."""
    return np.asarray((points_deg - ORIGIN) * SCALE_M)


def course_m(points: tuple[str, ...]) -> BaseGeometry:
    """The line in frame metres that leads through these named points."""
    return shapely.linestrings(to_metres(np.array([POINTS[name] for name in points])))


def lay_out(rng: np.random.Generator) -> tuple[list[Piece], list[Cut]]:
    """All cells of the district and the roads that part them; the same for a generator in the same state."""
    cuts: list[Cut] = []
    raw: list[tuple[Street, int, int, BaseGeometry]] = []
    community = grid = 0
    for street, blocks in _blocks():
        for block, parts in zip(blocks, _share(blocks, len(street.communities)), strict=True):
            for home in _divide(block, parts, rng, street, 1, cuts):
                for round_ in _divide(home, max(1, round(home.area / GRID_M2)), rng, street, 2, cuts):
                    for cell in _divide(round_, max(1, round(round_.area / CELL_M2)), rng, street, 3, cuts):
                        # An odd-shaped piece may have come out too large: halve it once more.
                        halves = _divide(cell, max(1, round(cell.area / CELL_M2)), rng, street, 3, cuts)
                        raw.extend((street, community, grid, half) for half in halves)
                    grid += 1
                community += 1
    return _merge_slivers(_node(raw)), cuts


def _blocks() -> list[tuple[Street, list[BaseGeometry]]]:
    """The faces between arterial roads, rivers and street borders, street by street."""
    rings = [shapely.polygons(to_metres(np.array([POINTS[name] for name in street.ring]))) for street in STREETS]
    lines = [course_m(course.points) for course in ROADS + RIVERS] + [ring.exterior for ring in rings]
    faces = shapely.get_parts(shapely.polygonize([shapely.unary_union(lines)]))
    inner = shapely.point_on_surface(faces)
    return [
        (street, [faces[i] for i in np.flatnonzero(shapely.contains(ring, inner))])
        for street, ring in zip(STREETS, rings, strict=True)
    ]


def _share(blocks: list[BaseGeometry], total: int) -> list[int]:
    """How many communities each block gets: one at least, the others to where most ground falls to each."""
    parts = [1] * len(blocks)
    while sum(parts) < total:
        parts[int(np.argmax([block.area / n for block, n in zip(blocks, parts, strict=True)]))] += 1
    return parts


def _divide(
    shape: BaseGeometry, parts: int, rng: np.random.Generator, street: Street, rank: int, cuts: list[Cut]
) -> list[BaseGeometry]:
    """`shape` halved across its long axis until there are about `parts` pieces of about one size."""
    if parts <= 1:
        return [shape]
    corners = shapely.get_coordinates(shapely.oriented_envelope(shape))
    sides = np.diff(corners[:3], axis=0)
    long = sides[int(np.argmax(np.hypot(*sides.T)))]
    turn = np.arctan2(long[1], long[0]) + rng.normal(0.0, 0.03)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    reach = shapely.get_coordinates(shape) @ along
    low, high = float(reach.min()), float(reach.max())
    share = (parts // 2) / parts + rng.normal(0.0, 0.035 if parts > 2 else 0.05)
    at = low + share * (high - low)
    near = _before(shape, along, across, at)
    at += (share * shape.area - near.area) * (high - low) / shape.area  # one step towards the wanted share of area
    near, far = _before(shape, along, across, at), _before(shape, -along, -across, -at)
    chord = shapely.intersection(shape, _chord(along, across, at))
    cuts.extend(
        Cut(rank=rank, street=street, ends_m=shapely.get_coordinates(line)) for line in shapely.get_parts(chord)
    )
    pieces: list[BaseGeometry] = []
    for half, count in ((near, parts // 2), (far, parts - parts // 2)):
        polygons = [part for part in shapely.get_parts(half) if part.geom_type == "Polygon" and part.area > 1.0]
        for part in polygons:
            own = count if len(polygons) == 1 else round(count * part.area / half.area)
            pieces.extend(_divide(part, own, rng, street, rank, cuts))
    return pieces


def _before(shape: BaseGeometry, along: Floats, across: Floats, at: float) -> BaseGeometry:
    """The part of `shape` whose coordinate along `along` is less than `at`."""
    far = 20_000.0
    ring = np.array([at * along - far * across, at * along + far * across])
    half = shapely.polygons(np.vstack([ring, ring[::-1] - far * along]))
    return shapely.intersection(shape, half)


def _chord(along: Floats, across: Floats, at: float) -> BaseGeometry:
    return shapely.linestrings(np.array([at * along - 20_000.0 * across, at * along + 20_000.0 * across]))


def _node(raw: list[tuple[Street, int, int, BaseGeometry]]) -> list[Piece]:
    """The same pieces with shared vertices, their coordinates multiples of 1e-7 degrees."""
    shapes = np.array([shape for *_, shape in raw], dtype=object)
    rings = shapely.transform(shapely.get_exterior_ring(shapes), to_degrees)
    lines = shapely.unary_union(rings, grid_size=_STEP_DEG)
    faces = shapely.transform(shapely.get_parts(shapely.polygonize([lines])), _rounded)
    flat = shapely.transform(faces, to_metres)
    owner = shapely.STRtree(shapes).nearest(shapely.point_on_surface(flat))
    return [
        Piece(street=raw[of][0], community=raw[of][1], grid=raw[of][2], ring_deg=face, ring_m=shape)
        for of, face, shape in zip(owner, faces, flat, strict=True)
    ]


def _rounded(points_deg: Floats) -> Floats:
    return np.round(points_deg, 7)


def _merge_slivers(pieces: list[Piece]) -> list[Piece]:
    """Pieces too small or too thin to be cells go to the neighbour in their grid with the longest common border."""
    kept = list(pieces)
    while True:
        shapes: NDArray[Any] = np.array([piece.ring_m for piece in kept], dtype=object)
        thin = (shapely.area(shapes) < _SLIVER_M2) | shapely.is_empty(shapely.buffer(shapes, -20.0))
        tree = shapely.STRtree(shapes)
        for index in np.flatnonzero(thin):
            near = [i for i in tree.query(shapes[index], predicate="touches") if i != index]
            border = {i: shapely.length(shapely.intersection(shapes[index], shapes[i])) for i in near}
            home = [i for i in near if border[i] > 1.0 and kept[i].community == kept[index].community]
            same = [i for i in home if kept[i].grid == kept[index].grid] or home
            if same:
                into = max(same, key=lambda i: border[i])
                kept[into] = _join(kept[into], kept[index])
                del kept[index]
                break
        else:
            return kept


def _join(piece: Piece, sliver: Piece) -> Piece:
    whole = shapely.coverage_union(piece.ring_deg, sliver.ring_deg)
    return Piece(
        street=piece.street,
        community=piece.community,
        grid=piece.grid,
        ring_deg=whole,
        ring_m=shapely.transform(whole, to_metres),
    )
