"""Importing areas, cells, components and map background from files: all of a file or nothing of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

import shapely
from shapely.geometry.base import BaseGeometry

from grid.checks import check_codes, check_inside, check_layers, check_overlaps, check_shapes, find_gaps, find_slivers
from grid.code import DISTRICT_DIGITS, parent_code, parent_level
from grid.history import find_conflicts
from grid.locate import Locator
from grid.model import AREA_LEVELS, Area, Component, Feature, GridCell, Level
from grid.problem import ImportRefusedError, ImportResult, Problem, ProblemKind, Severity
from grid.source import Row, Source, SourceError, read_source
from grid.store import (
    delete_areas,
    delete_cells,
    move_components,
    read_areas,
    read_cells,
    read_components,
    replace_features,
    write_areas,
    write_cells,
    write_components,
)
from kernel.db import Connection
from kernel.ids import new_id

_LOCK = 4_715_010  # one import at a time: each is checked against what the other has stored
_CLASS_DIGITS = {
    16: ("GB/T 30428.2", 10),
    17: ("GB/T 47678.5", 11),
}  # length of a component's code: standard, end of kind


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """What the database has: areas by code, and the shapes and ids of the level that is imported."""

    areas: dict[str, Area]
    shapes: dict[str, BaseGeometry]
    ids: dict[str, UUID]


def import_file(
    connection: Connection,
    path: Path | str,
    *,
    level: Level | str,
    crs: str | None = None,
    repair: bool = False,
    replace_level: bool = False,
    cell_code_digits: int = 15,
    valid_from: datetime | None = None,
    check_only: bool = False,
    now: datetime,
) -> ImportResult:
    """Check a file and store it, in one transaction; nothing is stored when any row is refused.

    Rows whose code is known are changed and keep their ids; `replace_level` also removes those of the same districts and
    level that the file does not have. Background features replace what their layers held. `repair` mends outlines that
    cross themselves and tells what it changed. `valid_from` is when it takes effect, not after `now`, which it is when
    left out: what it changes or removes is kept as it was until then. `check_only` stores nothing whatever is found.

    Raises ImportRefusedError, whose `result` has what is wrong row by row; ValueError for a level that does not exist.
    """
    wanted, file = Level(level), Path(path)
    try:
        source = read_source(file, wanted, crs)
    except SourceError as error:
        result = ImportResult(path=str(file), level=wanted, crs=crs or "", rows=0, problems=(error.problem,))
        raise ImportRefusedError(result) from error
    rows, problems = check_shapes(source.rows, wanted, repair=repair)
    problems = [*source.problems, *problems]
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        stored = _read_stored(connection, wanted)
        removed = _removed(rows, stored) if replace_level else {}
        problems += _check(rows, source, wanted, stored, removed, cell_code_digits)
        problems += _check_dates(connection, rows, wanted, removed, valid_from, now)
        result = ImportResult(
            path=str(file), level=wanted, crs=source.crs, rows=len(source.rows), problems=_in_order(problems)
        )
        if not result.ok:
            raise ImportRefusedError(result)
        if wanted is Level.COMPONENT:
            components = _place_components(connection, rows, result, now, valid_from)
            return result if check_only else replace(result, written=write_components(connection, components))
        if check_only:
            return result
        gone = _remove(connection, wanted, removed, valid_from or now)
        written = _write(connection, rows, wanted, source.crs, now, valid_from)
        if wanted is Level.CELL:
            _move_components(connection)
        return replace(result, written=written, removed=gone)


def _check(
    rows: Sequence[Row], source: Source, level: Level, stored: _Stored, removed: dict[str, UUID], digits: int
) -> list[Problem]:
    if level is Level.COMPONENT:
        return _check_components(rows)
    if level is Level.FEATURE:
        return check_layers(source.rows) + _check_features(rows, stored)
    problems = check_codes(source.rows, level, cell_code_digits=digits)
    wrong = {problem.row for problem in problems}
    above, unknown = _find_above([row for row in rows if row.number not in wrong], level, stored)
    problems += unknown + check_inside(rows, above)
    in_file = {row.code for row in rows}
    others = {code: shape for code, shape in stored.shapes.items() if code not in in_file and code not in removed}
    problems += check_overlaps(rows, others)
    if level is Level.CELL:
        problems += _check_grids(rows, stored)
        problems += find_slivers(rows)
        problems += find_gaps(rows) if not any(p.severity is Severity.REFUSED for p in problems) else []
    return problems


def _check_dates(
    connection: Connection,
    rows: Sequence[Row],
    level: Level,
    removed: dict[str, UUID],
    valid_from: datetime | None,
    now: datetime,
) -> list[Problem]:
    """Nothing takes effect in the future, and nothing from a time of which something else is already kept."""
    if valid_from is None or level is Level.FEATURE:
        return []
    if valid_from > now:
        return [Problem(kind=ProblemKind.FUTURE_DATE, params={"date": valid_from.date().isoformat()})]
    numbers = {row.code: row.number for row in rows}
    return [
        Problem(kind=ProblemKind.DATE_CONFLICT, row=numbers.get(code), code=code, params={"until": until.isoformat()})
        for code, until in find_conflicts(connection, level, [*numbers, *removed], valid_from).items()
    ]


def _in_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """What refuses the file first, then what was mended, then warnings; each by row."""
    rank = list(Severity)
    return tuple(sorted(problems, key=lambda problem: (rank.index(problem.severity), problem.row or 0)))


def _read_stored(connection: Connection, level: Level) -> _Stored:
    areas = {area.code: area for area in read_areas(connection)}
    same: Sequence[Area | GridCell] = []
    if level is Level.CELL:
        same = read_cells(connection)
    elif level in AREA_LEVELS:
        same = [area for area in areas.values() if area.level == level]
    shapes = shapely.from_wkb([each.geom_wkb for each in same])
    return _Stored(
        areas=areas,
        shapes={each.code: shape for each, shape in zip(same, shapes, strict=True)},
        ids={each.code: each.id for each in same},
    )


def _find_above(
    rows: Sequence[Row], level: Level, stored: _Stored
) -> tuple[dict[int, tuple[str, BaseGeometry]], list[Problem]]:
    """Code and shape of the nearest area above each row; problems of rows whose area should be there and is not."""
    have = {area.level for area in stored.areas.values()}
    above = parent_level(level)
    while above is not None and above not in have:
        above = parent_level(above)
    if above is None:
        silent = level is Level.DISTRICT or not rows
        return {}, [] if silent else [Problem(kind=ProblemKind.NO_PARENTS, severity=Severity.WARNING)]
    found: dict[int, tuple[str, BaseGeometry]] = {}
    problems = []
    shapes: dict[str, BaseGeometry] = {}
    for row in rows:
        code, at = row.code, level
        while at is not above:
            code, at = parent_code(at, code) or "", parent_level(at) or above
        if code not in stored.areas:
            problems.append(
                Problem(kind=ProblemKind.UNKNOWN_PARENT, row=row.number, code=row.code, params={"parent": code})
            )
            continue
        if code not in shapes:
            shapes[code] = shapely.from_wkb(stored.areas[code].geom_wkb)
            shapely.prepare(shapes[code])
        found[row.number] = (code, shapes[code])
    return found, problems


def _check_grids(rows: Sequence[Row], stored: _Stored) -> list[Problem]:
    """Cells name responsibility grids that exist; only a warning before any grid is imported would be noise."""
    known = {area.code for area in stored.areas.values() if area.level == Level.GRID}
    return [
        Problem(
            kind=ProblemKind.UNKNOWN_GRID, row=row.number, code=row.code, params={"grid": row.responsibility_grid_code}
        )
        for row in rows
        if known and row.responsibility_grid_code and row.responsibility_grid_code not in known
    ]


def _check_features(rows: Sequence[Row], stored: _Stored) -> list[Problem]:
    """Background touches the districts, once there are any."""
    districts = [shapely.from_wkb(area.geom_wkb) for area in stored.areas.values() if area.level == Level.DISTRICT]
    if not districts:
        return []
    whole = shapely.union_all(districts)
    shapely.prepare(whole)
    problems = []
    for row in rows:
        if row.shape is not None and not shapely.intersects(whole, row.shape):
            lon, lat = (float(each) for each in shapely.get_coordinates(row.shape)[0])
            params = {"area_m2": "?", "percent": "100", "parent": ", ".join(sorted(_codes(stored, Level.DISTRICT)))}
            problems.append(Problem(kind=ProblemKind.OUTSIDE_PARENT, row=row.number, lon=lon, lat=lat, params=params))
    return problems


def _codes(stored: _Stored, level: Level) -> list[str]:
    return [area.code for area in stored.areas.values() if area.level == level]


def _check_components(rows: Sequence[Row]) -> list[Problem]:
    problems = []
    first: dict[tuple[str, str, str], int] = {}
    for row in rows:
        if not row.code:
            problems.append(Problem(kind=ProblemKind.MISSING_CODE, row=row.number))
        elif not (row.standard and row.kind) and (len(row.code) not in _CLASS_DIGITS or not row.code.isdigit()):
            rule = "16 digits (GB/T 30428.2), 17 digits (GB/T 47678.5), or properties `standard` and `kind`"
            params = {"code": row.code, "rule": rule}
            problems.append(Problem(kind=ProblemKind.WRONG_CODE, row=row.number, code=row.code, params=params))
        elif (other := first.setdefault(_component_key(row), row.number)) != row.number:
            params = {"code": row.code, "other": str(other)}
            problems.append(Problem(kind=ProblemKind.DUPLICATE_CODE, row=row.number, code=row.code, params=params))
    return problems


def _component_key(row: Row) -> tuple[str, str, str]:
    """Standard, kind and code; the first two are told by the code's length and its class digits when not given."""
    standard, end = _CLASS_DIGITS.get(len(row.code), ("", DISTRICT_DIGITS))
    return row.standard or standard, row.kind or row.code[DISTRICT_DIGITS:end], row.code


# ------------------------------------------------------------------------------------------------ writing


def _removed(rows: Sequence[Row], stored: _Stored) -> dict[str, UUID]:
    """Ids by code of what the database has in the districts of the file and the file has not."""
    districts = {row.code[:DISTRICT_DIGITS] for row in rows}
    in_file = {row.code for row in rows}
    return {
        code: each for code, each in stored.ids.items() if code[:DISTRICT_DIGITS] in districts and code not in in_file
    }


def _remove(connection: Connection, level: Level, removed: dict[str, UUID], until: datetime) -> int:
    if not removed:
        return 0
    ids = list(removed.values())
    if level is Level.CELL:
        return delete_cells(connection, ids, until)
    return delete_areas(connection, level, ids, until)


def _write(
    connection: Connection, rows: Sequence[Row], level: Level, crs: str, now: datetime, valid_from: datetime | None
) -> int:
    if level is Level.FEATURE:
        features = [
            Feature(id=new_id(now), layer=row.layer, name=row.name, geom_wkb=_wkb(row), properties=row.properties)
            for row in rows
        ]
        return replace_features(connection, features)
    if level is Level.CELL:
        return write_cells(connection, [_make_cell(row, crs, now, valid_from) for row in rows])
    areas = [
        Area(
            id=new_id(now),
            level=level,
            code=row.code,
            name=row.name,
            parent_code=parent_code(level, row.code),
            geom_wkb=_wkb(row),
            source_crs=crs,
            imported_at=now,
            valid_from=valid_from,
        )
        for row in rows
    ]
    return write_areas(connection, areas)


def _make_cell(row: Row, crs: str, now: datetime, valid_from: datetime | None) -> GridCell:
    inner = shapely.point_on_surface(row.shape)
    return GridCell(
        id=new_id(now),
        code=row.code,
        responsibility_grid_code=row.responsibility_grid_code or None,
        lon=float(inner.x),
        lat=float(inner.y),
        geom_wkb=_wkb(row),
        source_crs=crs,
        imported_at=now,
        valid_from=valid_from,
    )


def _move_components(connection: Connection) -> None:
    """Components stand where they stood; the cells around them are new."""
    components, locator = read_components(connection), Locator.load(connection)
    places = locator.locate_many([(each.lon, each.lat) for each in components])
    codes = [place.cell_code if place else None for place in places]
    moved = [(each.id, code) for each, code in zip(components, codes, strict=True) if each.cell_code != code]
    move_components(connection, moved)


def _place_components(
    connection: Connection, rows: Sequence[Row], result: ImportResult, now: datetime, valid_from: datetime | None
) -> list[Component]:
    locator = Locator.load(connection)
    components, problems = [], []
    for row in rows:
        point = shapely.point_on_surface(row.shape)
        place = locator.locate(point.x, point.y)
        if place is None and locator.codes:
            lon, lat = float(point.x), float(point.y)
            problems.append(Problem(kind=ProblemKind.NO_CELLS, row=row.number, code=row.code, lon=lon, lat=lat))
        standard, kind, code = _component_key(row)
        components.append(
            Component(
                id=new_id(now),
                standard=standard,
                kind=kind,
                code=code,
                name=row.name,
                cell_code=place.cell_code if place else None,
                lon=float(point.x),
                lat=float(point.y),
                source_crs=result.crs,
                imported_at=now,
                properties=row.properties,
                valid_from=valid_from,
            )
        )
    if problems:
        raise ImportRefusedError(replace(result, problems=_in_order([*result.problems, *problems])))
    return components


def _wkb(row: Row) -> bytes:
    return bytes(shapely.to_wkb(row.shape))
