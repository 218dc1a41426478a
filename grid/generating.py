"""Drawing cells for communities that have none: about 100 m, along roads, cutting no building, numbered by the standard.

A community (each of its responsibility grids, where it has some) is cut along its roads and rivers into blocks, and a
block that is too large is halved across its long side again and again. Buildings go whole to the piece that has most of
them, so a border runs around a building instead of through it. Pieces too small go to the neighbour with the longest
common border, but never to another community. At the end all borders are noded together on a raster of 1e-7 degrees,
so that neighbours share every vertex: no gap, no overlap, to the last digit.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from grid.code import COMMUNITY_DIGITS, CodeError, cell_code, number_cells
from grid.coordinates import CGCS2000
from grid.model import Area, Feature, Level
from grid.store import read_areas, read_features
from kernel.db import Connection

TARGET_M2, LEAST_M2, MOST_M2 = 10_000.0, 4_000.0, 16_000.0
_NARROW_M = 25.0  # twice the area over the perimeter of a piece 100 m long and 35 m wide is about this
_RASTER_M = 0.01  # of everything worked out in metres
_RASTER_DEG = 1e-7
_TRIES = (0.0, 0.06, -0.06, 0.12, -0.12, 0.18, -0.18)  # where a piece may be halved, as shares of its length
_MOST_HALVINGS = 12


class GenerateError(ValueError):
    """There is nothing to divide, or the numbers of a community do not suffice; the text says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratedCell:
    """A cell in CGCS2000 degrees."""

    code: str
    responsibility_grid_code: str
    shape: BaseGeometry


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """The cells of some communities, and how they turned out. `cut_buildings`: those that a border still goes through,
    all of them standing across the border of a community or of a responsibility grid."""

    cells: tuple[GeneratedCell, ...]
    communities: int
    areas_m2: tuple[float, ...]
    cut_buildings: int

    def describe(self, language: str = "zh-CN") -> str:
        """The outcome in a line, in zh-CN or en."""
        low, middle, high = (float(each) for each in np.percentile(self.areas_m2, (5, 50, 95)))
        if language.startswith("zh"):
            return (
                f"{self.communities} 个社区，{len(self.cells)} 个单元网格；面积中位数 {middle:.0f} 平方米"
                f"（5%–95%：{low:.0f}–{high:.0f}）；仍被社区或责任网格边界切到的建筑 {self.cut_buildings} 栋"
            )
        return (
            f"{self.communities} communities, {len(self.cells)} cells of {middle:.0f} m² (median; 5 to 95 %: {low:.0f} to"
            f" {high:.0f}); buildings still cut, by the border of a community or a grid: {self.cut_buildings}"
        )


def generate_file(
    connection: Connection, path: Path, *, prefix: str, cell_code_digits: int = 15, metric_crs: str = "EPSG:4549"
) -> Generated:
    """Divide the stored communities whose code begins with `prefix` and write the cells for `grid import --level cell`.

    Raises GenerateError.
    """
    import geopandas

    communities = [area for area in read_areas(connection, Level.COMMUNITY) if prefix and area.code.startswith(prefix)]
    if not communities:
        raise GenerateError(
            f"没有编码以 {prefix or '?'} 开头的社区 / there is no community whose code begins with {prefix or '?'}"
        )
    grids = [area for area in read_areas(connection, Level.GRID) if area.code.startswith(prefix)]
    features = read_features(connection, ["road", "water", "building"])
    result = generate_cells(communities, grids, features, cell_code_digits=cell_code_digits, metric_crs=metric_crs)
    rows = [
        {"code": cell.code, "responsibility_grid_code": cell.responsibility_grid_code or None} for cell in result.cells
    ]
    frame = geopandas.GeoDataFrame(rows, geometry=[cell.shape for cell in result.cells], crs=CGCS2000)
    frame.to_file(path)
    return result


def generate_cells(
    communities: Sequence[Area],
    grids: Sequence[Area],
    features: Sequence[Feature],
    *,
    cell_code_digits: int = 15,
    metric_crs: str = "EPSG:4549",
) -> Generated:
    """The cells of these communities, neighbours sharing every vertex, each numbered from 1.

    Raises GenerateError when a community needs more cells than its numbers allow.
    """
    frame = _Frame(metric_crs)
    regions = _regions(communities, grids, frame)
    lines = frame.to_metres([f.geom_wkb for f in features if f.layer in ("road", "water")])
    buildings = frame.to_metres([f.geom_wkb for f in features if f.layer == "building"])
    line_tree, building_tree = shapely.STRtree(lines), shapely.STRtree(buildings)
    pieces: list[_Piece] = []
    for community, grid, shape in regions:
        near_lines = lines[line_tree.query(shape, "intersects")]
        within = [b for b in buildings[building_tree.query(shape, "intersects")] if b.geom_type.endswith("Polygon")]
        parts = _divide(shape, near_lines, [shapely.intersection(b, shape) for b in within])
        pieces += [_Piece(community, grid, part) for part in parts]
    faces = _node_together(pieces, communities, frame)
    cells: list[GeneratedCell] = []
    areas_m2: list[float] = []
    for area in communities:
        mine = [at for at, piece in enumerate(pieces) if piece.community == area.code and not faces[at].is_empty]
        flat = [frame.flatten(faces[at]) for at in mine]
        numbers = number_cells(np.array([(shape.centroid.x, shape.centroid.y) for shape in flat]).reshape(-1, 2))
        try:
            cells += [
                GeneratedCell(
                    code=cell_code(area.code, int(number), cell_code_digits=cell_code_digits),
                    responsibility_grid_code=pieces[at].grid,
                    shape=faces[at],
                )
                for at, number in zip(mine, numbers, strict=True)
            ]
        except CodeError as error:
            raise GenerateError(
                f"社区 {area.code} 需要 {len(mine)} 个单元，编码位数不够 / {area.code}: {error}"
            ) from error
        areas_m2 += [float(shape.area) for shape in flat]
    return Generated(
        cells=tuple(sorted(cells, key=lambda cell: cell.code)),
        communities=len(communities),
        areas_m2=tuple(areas_m2),
        cut_buildings=_count_cut(cells, buildings, frame),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    community: str
    grid: str
    shape: BaseGeometry


class _Frame:
    """Degrees to metres of a projection and back."""

    def __init__(self, metric_crs: str) -> None:
        self._to = Transformer.from_crs(CGCS2000, metric_crs, always_xy=True)

    def to_metres(self, wkbs: Sequence[bytes]) -> NDArray[Any]:
        """Shapes on the raster of a centimetre, valid; those of no extent left out."""
        flat = shapely.transform(np.asarray(shapely.from_wkb(list(wkbs)), dtype=object), self._forward)
        flat = shapely.set_precision(shapely.make_valid(flat), _RASTER_M)
        kept: NDArray[Any] = flat[~shapely.is_empty(flat)] if len(flat) else flat
        return kept

    def flatten(self, shape: BaseGeometry) -> BaseGeometry:
        """One shape in metres, not rounded."""
        return shapely.transform(shape, self._forward)

    def to_degrees(self, shapes: Sequence[BaseGeometry]) -> NDArray[Any]:
        """Shapes in metres as degrees, not rounded."""
        degrees: NDArray[Any] = shapely.transform(
            np.array(shapes, dtype=object),
            lambda xy: np.column_stack(self._to.transform(xy[:, 0], xy[:, 1], direction="INVERSE")),
        )
        return degrees

    def _forward(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(self._to.transform(xy[:, 0], xy[:, 1]))


def _regions(communities: Sequence[Area], grids: Sequence[Area], frame: _Frame) -> list[tuple[str, str, BaseGeometry]]:
    """What is divided each for itself: (community, responsibility grid or '', shape). What the grids of a community leave
    of it goes to the nearest of them."""
    shapes = frame.to_metres([area.geom_wkb for area in communities])
    grid_shapes = frame.to_metres([area.geom_wkb for area in grids])
    regions = []
    for area, shape in zip(communities, shapes, strict=True):
        left = shape
        mine: dict[str, BaseGeometry] = {}
        for grid, grid_shape in zip(grids, grid_shapes, strict=True):
            if grid.code[:COMMUNITY_DIGITS] == area.code:
                part = _polygons(shapely.intersection(left, grid_shape, grid_size=_RASTER_M))
                if part.area > LEAST_M2:
                    mine[grid.code] = part
                    left = _polygons(shapely.difference(left, part, grid_size=_RASTER_M))
        if not mine:
            regions.append((area.code, "", shape))
            continue
        for rest in shapely.get_parts(left):
            nearest = min(mine, key=lambda code: (-_border_m(mine[code], rest), mine[code].distance(rest), code))
            mine[nearest] = shapely.union(mine[nearest], rest, grid_size=_RASTER_M)
        regions += [(area.code, code, part) for code, part in mine.items()]
    return regions


# ------------------------------------------------------------------------------------------------ dividing


def _divide(region: BaseGeometry, lines: NDArray[Any], buildings: list[BaseGeometry]) -> list[BaseGeometry]:
    """A region as pieces that cover it, each near TARGET_M2 and none through a building of the region."""
    edges = [_centre(line) for line in lines]
    network = shapely.union_all([shapely.boundary(region), *edges], grid_size=_RASTER_M)
    blocks = [
        block
        for block in shapely.get_parts(shapely.polygonize(list(shapely.get_parts(network))))
        if shapely.covers(region, shapely.point_on_surface(block))
    ] or list(shapely.get_parts(region))
    blocks = _give_whole(blocks, buildings)
    blocks = _merge_small(blocks)  # before halving: a strip between two lanes of a road is not a block
    pieces: list[BaseGeometry] = []
    for block in blocks:
        pieces += _halve(block, [b for b in buildings if shapely.intersects(b, block)], _MOST_HALVINGS)
    return _merge_small(pieces)


def _centre(line: BaseGeometry) -> BaseGeometry:
    """A road drawn as a line is itself a border; of one drawn as an area, or of a river, the outline is."""
    return shapely.boundary(line) if line.geom_type.endswith("Polygon") else line


def _halve(piece: BaseGeometry, buildings: list[BaseGeometry], left: int) -> list[BaseGeometry]:
    if piece.area <= MOST_M2 or left == 0:
        return [piece]
    best: list[BaseGeometry] = []
    least = math.inf
    for share in _TRIES:
        knife = _knife(piece, share)
        through = sum(
            float(shapely.intersection(building, knife).length)
            for building in buildings
            if shapely.crosses(knife, building)
        )
        if through < least:
            halves = _give_whole(_cut(piece, knife), buildings)
            # A side that is hardly there is no half: another place to cut, even through a building, is better.
            if len(halves) > 1 and sorted(half.area for half in halves)[-2] > LEAST_M2:
                best, least = halves, through
        if least == 0:
            break
    if not best:
        return [piece]
    return [
        each for half in best for each in _halve(half, [b for b in buildings if shapely.intersects(b, half)], left - 1)
    ]


def _knife(piece: BaseGeometry, share: float) -> BaseGeometry:
    """A line across the piece's long side, through its middle or a share of its length beside it."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(piece))
    one, other = corners[1] - corners[0], corners[2] - corners[1]
    along, across = (one, other) if np.hypot(*one) >= np.hypot(*other) else (other, one)
    middle = shapely.get_coordinates(shapely.centroid(piece))[0] + along * share
    return shapely.linestrings([middle - across * 1.5, middle + across * 1.5])


def _cut(piece: BaseGeometry, knife: BaseGeometry) -> list[BaseGeometry]:
    network = shapely.union_all([shapely.boundary(piece), knife], grid_size=_RASTER_M)
    parts = shapely.get_parts(shapely.polygonize(list(shapely.get_parts(network))))
    return [part for part in parts if shapely.covers(piece, shapely.point_on_surface(part))]


def _give_whole(pieces: list[BaseGeometry], buildings: list[BaseGeometry]) -> list[BaseGeometry]:
    """The same ground, with every building that stands in several pieces given to the one that has most of it."""
    for building in buildings:
        share = [float(shapely.intersection(piece, building).area) for piece in pieces]
        touched = [at for at, size in enumerate(share) if size > 0.01]
        if len(touched) < 2:
            continue
        owner = max(touched, key=lambda at: share[at])
        for at in touched:
            change = shapely.union if at == owner else shapely.difference
            pieces[at] = _polygons(change(pieces[at], building, grid_size=_RASTER_M))
    return _rejoin([part for piece in pieces for part in shapely.get_parts(piece)])


def _rejoin(parts: list[BaseGeometry]) -> list[BaseGeometry]:
    """Parts that a building cut off the rest of their piece are pieces of their own; tiny ones are merged later."""
    return [part for part in parts if part.area > _RASTER_M**2]


def _merge_small(pieces: list[BaseGeometry]) -> list[BaseGeometry]:
    """Pieces that are too small or too narrow join the neighbour with the longest common border."""
    pieces = list(pieces)
    while len(pieces) > 1:
        small = [at for at, piece in enumerate(pieces) if piece.area < LEAST_M2 or _width_m(piece) < _NARROW_M]
        if not small:
            break
        merged = False
        for at in sorted(small, key=lambda each: pieces[each].area):
            neighbours = [
                (length, -pieces[other].area, -other)
                for other in range(len(pieces))
                if other != at
                and shapely.dwithin(pieces[at], pieces[other], _RASTER_M)
                and (length := _border_m(pieces[at], pieces[other])) > _RASTER_M
            ]
            # A neighbour that has become too large by it would be cut again where it was.
            fitting = [each for each in neighbours if pieces[-each[2]].area + pieces[at].area <= 1.5 * MOST_M2]
            if not fitting and (pieces[at].area > LEAST_M2 / 2 or not neighbours):
                continue
            other = -max(fitting or neighbours)[2]
            pieces[other] = _polygons(shapely.union(pieces[other], pieces[at], grid_size=_RASTER_M))
            del pieces[at]
            merged = True
            break
        if not merged:
            break
    return pieces


def _width_m(piece: BaseGeometry) -> float:
    return float(2 * piece.area / piece.length)


def _border_m(one: BaseGeometry, other: BaseGeometry) -> float:
    return float(shapely.intersection(one.boundary, other.boundary, grid_size=_RASTER_M).length)


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """The areas of a shape, without the lines and points that overlay leaves beside them."""
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    if len(parts) == 1:
        return parts[0]
    return shapely.multipolygons(parts)


# ------------------------------------------------------------------------------------------------ the last digit


def _node_together(pieces: Sequence[_Piece], communities: Sequence[Area], frame: _Frame) -> list[BaseGeometry]:
    """Each piece in degrees, borders shared vertex for vertex, together exactly the communities; in the order of the input.

    The communities' own borders are noded with those of the pieces, so the ground falls into faces, most of them a whole
    piece, some of them slivers where a piece was rounded. A face goes to the piece of its community that has most of it,
    a sliver of none to the one with the longest common border, and so does what is not connected with its piece.
    """
    whole = np.array([shapely.from_wkb(area.geom_wkb) for area in communities], dtype=object)
    shapes = frame.to_degrees([piece.shape for piece in pieces])
    network = shapely.union_all([*shapely.boundary(shapes), *shapely.boundary(whole)], grid_size=_RASTER_DEG)
    faces = shapely.get_parts(shapely.polygonize(list(shapely.get_parts(network))))
    inner = shapely.point_on_surface(faces)
    community_of = dict(zip(*(each.tolist() for each in shapely.STRtree(whole).query(inner, "within")), strict=True))
    faces_of = [at for at in range(len(faces)) if at in community_of]
    tree = shapely.STRtree(shapes)
    owner = dict.fromkeys(faces_of, -1)
    for at in faces_of:
        code = communities[community_of[at]].code
        share = {
            int(each): float(shapely.intersection(shapes[each], faces[at]).area)
            for each in tree.query(faces[at], "intersects")
            if pieces[each].community == code
        }
        best = max(share, key=lambda each: (share[each], -each), default=-1)
        if best >= 0 and share[best] > faces[at].area / 2:
            owner[at] = best
    beside = _common_borders(faces, faces_of)
    _connect(owner, beside, faces, community_of)
    owned: dict[int, list[BaseGeometry]] = {}
    for at, piece in owner.items():
        if piece >= 0:
            owned.setdefault(piece, []).append(faces[at])
    return [shapely.coverage_union_all(owned[at]) if at in owned else shapely.Polygon() for at in range(len(pieces))]


def _common_borders(faces: NDArray[Any], chosen: Sequence[int]) -> dict[int, dict[int, float]]:
    """Of each face its neighbours and how long the border with each is, in degrees. Borders are the same vertex by vertex."""
    sides: dict[tuple[tuple[float, float], tuple[float, float]], int] = {}
    beside: dict[int, dict[int, float]] = {at: {} for at in chosen}
    for at in chosen:
        for ring in shapely.get_rings(faces[at]):
            corners = [(float(x), float(y)) for x, y in shapely.get_coordinates(ring)]
            for one, other in itertools.pairwise(corners):
                side = (one, other) if one < other else (other, one)
                if (before := sides.setdefault(side, at)) != at:
                    length = math.dist(one, other)
                    beside[at][before] = beside[at].get(before, 0.0) + length
                    beside[before][at] = beside[before].get(at, 0.0) + length
    return beside


def _connect(
    owner: dict[int, int], beside: dict[int, dict[int, float]], faces: NDArray[Any], community_of: dict[int, int]
) -> None:
    """Let every piece keep its largest connected part, and give all other faces to neighbours in their community."""
    parts: dict[int, list[list[int]]] = {}
    seen: set[int] = set()
    for at, piece in owner.items():
        if piece < 0 or at in seen:
            continue
        part, waiting = [], [at]
        seen.add(at)
        while waiting:
            face = waiting.pop()
            part.append(face)
            more = [each for each in beside[face] if owner[each] == piece and each not in seen]
            seen.update(more)
            waiting += more
        parts.setdefault(piece, []).append(part)
    for each in parts.values():
        each.sort(key=lambda part: -sum(float(faces[at].area) for at in part))
        for at in itertools.chain.from_iterable(each[1:]):
            owner[at] = -1
    loose = [at for at, piece in owner.items() if piece < 0]
    while loose:
        left = []
        for at in loose:
            lengths: dict[int, float] = {}
            for other, length in beside[at].items():
                if owner[other] >= 0 and community_of[other] == community_of[at]:
                    lengths[owner[other]] = lengths.get(owner[other], 0.0) + length
            if lengths:
                owner[at] = max(lengths, key=lambda piece: (lengths[piece], -piece))
            else:
                left.append(at)
        if len(left) == len(loose):
            return  # an island of rounding: nothing of its community is beside it
        loose = left


def _count_cut(cells: Sequence[GeneratedCell], buildings: NDArray[Any], frame: _Frame) -> int:
    """Buildings of which more than 1 m² lies in a second cell."""
    shapes = np.array([frame.flatten(cell.shape) for cell in cells], dtype=object)
    if not len(buildings):
        return 0
    building, cell = shapely.STRtree(shapes).query(buildings, "intersects")
    common = shapely.area(shapely.intersection(buildings[building], shapes[cell]))
    parts = np.bincount(building[common > 1.0], minlength=len(buildings))
    return int((parts > 1).sum())
