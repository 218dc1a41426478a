"""What a file of areas or cells must keep to before anything of it is stored. Pure: shapes and codes in, problems out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from grid.code import COMMUNITY_DIGITS, CodeError, check_code, parent_code
from grid.model import AREA_LEVELS, Level
from grid.problem import Problem, ProblemKind, Severity
from grid.source import Row, lie_in_china

OVERLAP_M2 = 1.0
"""Less than this is the rounding of coordinates: a border of 100 m told to a centimetre."""
OUTSIDE_SHARE = 0.01
"""Share of an area that may lie outside the one above before it counts as outside: borders drawn by different hands."""

SLIVER_M2, SLIVER_WIDTH_M = 100.0, 3.0
"""A cell is about 10,000 m²; one below a hundredth of it, or narrower than a lane, is told."""

_METRES_PER_DEGREE = 111_320.0
_WHERE = re.compile(r"\[\s*([-+.\deE]+)\s+([-+.\deE]+)")
_LAYER = re.compile(r"[a-z][a-z0-9_]{0,31}")


def area_m2(shape: BaseGeometry) -> float:
    """Area of a small shape in degrees, good to half a percent: for telling people how much, not for records."""
    return float(shape.area * _METRES_PER_DEGREE**2 * np.cos(np.radians(shape.centroid.y))) if shape.area else 0.0


def check_shapes(rows: Sequence[Row], level: Level, *, repair: bool) -> tuple[list[Row], list[Problem]]:
    """Rows whose shape is of the right type, valid and in China (mended ones replaced); problems of all others."""
    kept: list[Row] = []
    problems: list[Problem] = []
    for row in rows:
        if row.shape is None:
            continue  # the reader has said why
        shape, found = _check_shape(row, row.shape, level, repair)
        problems += found
        if shape is not None:
            kept.append(replace(row, shape=shape))
    return kept, problems


def _check_shape(
    row: Row, shape: BaseGeometry, level: Level, repair: bool
) -> tuple[BaseGeometry | None, list[Problem]]:
    polygons = level in AREA_LEVELS or level is Level.CELL
    if polygons and shape.geom_type not in ("Polygon", "MultiPolygon"):
        params = {"found": shape.geom_type, "wanted": "Polygon"}
        return None, [_problem(row, ProblemKind.WRONG_GEOMETRY, **params)]
    outside = _outside_china(row, shape)
    if outside is not None:
        return None, [outside]
    if level is Level.COMPONENT or shapely.is_valid(shape):
        return shape, []
    reason, where = _reason(shape)
    if not repair:
        return None, [_problem(row, ProblemKind.SELF_CROSSING, where, reason=reason)]
    mended = _mend(shape)
    if mended is None:
        return None, [_problem(row, ProblemKind.SELF_CROSSING, where, reason=reason)]
    told = _problem(
        row,
        ProblemKind.REPAIRED,
        where,
        reason=reason,
        parts=len(shapely.get_parts(mended)),
        area_m2=round(area_m2(mended)),
        before=shapely.to_wkt(shape, rounding_precision=7),
        after=shapely.to_wkt(mended, rounding_precision=7),
    )
    return mended, [replace(told, severity=Severity.REPAIRED)]


def _outside_china(row: Row, shape: BaseGeometry) -> Problem | None:
    if lie_in_china(shape):
        return None
    kind = ProblemKind.SWAPPED if lie_in_china(shape, exchanged=True) else ProblemKind.OUTSIDE_CHINA
    vertices = shapely.points(shapely.get_coordinates(shape))
    return _problem(row, kind, shapely.get_coordinates(next(v for v in vertices if not lie_in_china(v)))[0])


def _reason(shape: BaseGeometry) -> tuple[str, tuple[float, float] | None]:
    text = str(shapely.is_valid_reason(shape))
    found = _WHERE.search(text)
    return text.split("[")[0].strip(), (float(found[1]), float(found[2])) if found else None


def _mend(shape: BaseGeometry) -> BaseGeometry | None:
    """The polygons of the valid shape nearest to it; lines and points that fall off are dropped. None: nothing is left."""
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        return shapely.make_valid(shape)
    parts = [part for part in shapely.get_parts(shapely.make_valid(shape)) if part.geom_type.endswith("Polygon")]
    whole = shapely.union_all(parts) if parts else None
    return whole if whole is not None and not whole.is_empty else None


def check_codes(rows: Sequence[Row], level: Level, *, cell_code_digits: int) -> list[Problem]:
    """Codes there, written by the rules, told once; names, parents and grids that fit the codes."""
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for row in rows:
        if not row.code:
            problems.append(_problem(row, ProblemKind.MISSING_CODE))
            continue
        try:
            check_code(level, row.code, cell_code_digits=cell_code_digits)
        except CodeError as error:
            problems.append(_problem(row, ProblemKind.WRONG_CODE, code=row.code, rule=str(error)))
            continue
        if row.code in first:
            problems.append(_problem(row, ProblemKind.DUPLICATE_CODE, code=row.code, other=first[row.code]))
            continue
        first[row.code] = row.number
        problems += _check_relations(row, level)
    return problems


def _check_relations(row: Row, level: Level) -> list[Problem]:
    problems = []
    if level in AREA_LEVELS and not row.name:
        problems.append(_problem(row, ProblemKind.MISSING_NAME))
    wanted = parent_code(level, row.code)
    if row.parent_code and wanted is not None and row.parent_code != wanted:
        problems.append(_problem(row, ProblemKind.WRONG_PARENT, given=row.parent_code, wanted=wanted))
    grid = row.responsibility_grid_code
    community = row.code[:COMMUNITY_DIGITS]
    if level is Level.CELL and grid and not grid.startswith(community):
        problems.append(_problem(row, ProblemKind.WRONG_GRID, grid=grid, community=community))
    return problems


def check_layers(rows: Sequence[Row]) -> list[Problem]:
    """Background features name their layer."""
    return [
        _problem(row, ProblemKind.MISSING_LAYER, layer=row.layer or "''")
        for row in rows
        if not _LAYER.fullmatch(row.layer)
    ]


def check_inside(rows: Sequence[Row], above: Mapping[int, tuple[str, BaseGeometry]]) -> list[Problem]:
    """Rows lie inside the area above them: `above` has its code and shape by row number, where one is known."""
    problems = []
    for row in rows:
        if row.shape is None or row.number not in above:
            continue
        code, shape = above[row.number]
        if shapely.covers(shape, row.shape):
            continue
        outside = shapely.difference(row.shape, shape)
        share = outside.area / row.shape.area if row.shape.area else 1.0
        if share > OUTSIDE_SHARE:
            percent = f"{100 * share:.3g}"
            size = round(area_m2(outside))
            where = shapely.get_coordinates(shapely.point_on_surface(outside))[0]
            problems.append(
                _problem(row, ProblemKind.OUTSIDE_PARENT, where, parent=code, area_m2=size, percent=percent)
            )
    return problems


def check_overlaps(rows: Sequence[Row], stored: Mapping[str, BaseGeometry]) -> list[Problem]:
    """No two rows overlap, nor a row and a stored shape (by its code) that the file does not replace."""
    whole = [row for row in rows if row.shape is not None]
    if not whole:
        return []
    names = [f"{row.code}" for row in whole] + list(stored)
    shapes: NDArray[Any] = np.array([row.shape for row in whole] + list(stored.values()), dtype=object)
    one, other = shapely.STRtree(shapes).query(shapes[: len(whole)], predicate="intersects")
    one, other = one[one < other], other[one < other]
    common = shapely.intersection(shapes[one], shapes[other])
    problems = []
    for index in np.flatnonzero(shapely.area(common) > OVERLAP_M2 / _METRES_PER_DEGREE**2):
        size = area_m2(common[index])
        if size > OVERLAP_M2:
            where = shapely.get_coordinates(shapely.point_on_surface(common[index]))[0]
            told = {"other": names[other[index]], "area_m2": round(size)}
            problems.append(_problem(whole[one[index]], ProblemKind.OVERLAP, where, **told))
    return problems


def find_gaps(rows: Sequence[Row]) -> list[Problem]:
    """Holes that the rows leave between them, as warnings."""
    shapes = [row.shape for row in rows if row.shape is not None]
    whole = shapely.union_all(shapes) if shapes else None
    problems = []
    for part in shapely.get_parts(whole) if whole is not None else []:
        for ring in part.interiors:
            hole = shapely.polygons(ring)
            if (size := area_m2(hole)) > OVERLAP_M2:
                at = shapely.get_coordinates(shapely.point_on_surface(hole))[0]
                lon, lat = float(at[0]), float(at[1])
                params = {"area_m2": round(size)}
                told = Problem(kind=ProblemKind.GAP, severity=Severity.WARNING, lon=lon, lat=lat, params=params)
                problems.append(told)
    return problems


def find_slivers(rows: Sequence[Row]) -> list[Problem]:
    """Cells too small or too narrow to be meant, as warnings: usually left over where two hands drew one border."""
    problems = []
    for row in rows:
        if row.shape is None or not row.shape.length:
            continue
        size = area_m2(row.shape)
        # Twice the area over the perimeter: the width of a long strip, half the side of a square.
        width_m = 2.0 * size / (row.shape.length * _METRES_PER_DEGREE * np.cos(np.radians(row.shape.centroid.y)))
        if size < SLIVER_M2 or width_m < SLIVER_WIDTH_M:
            where = shapely.get_coordinates(shapely.point_on_surface(row.shape))[0]
            told = _problem(row, ProblemKind.SLIVER, where, area_m2=round(size), width_m=f"{width_m:.2g}")
            problems.append(replace(told, severity=Severity.WARNING))
    return problems


def _problem(row: Row, kind: ProblemKind, where: Any = None, **params: Any) -> Problem:
    lon, lat = (None, None) if where is None else (float(where[0]), float(where[1]))
    return Problem(kind=kind, row=row.number, code=row.code, lon=lon, lat=lat, params=params)
