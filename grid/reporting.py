"""The report of an import as one HTML file: every problem in both languages, with a picture of its place."""

import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from grid.code import parent_code
from grid.model import AREA_LEVELS, Level
from grid.problem import ImportResult, Problem, ProblemKind, Severity
from grid.source import Row, SourceError, read_source
from grid.store import read_areas, read_cells
from grid.surroundings import metres_per_degree
from kernel.db import Connection

_WIDTH, _HEIGHT = 420, 300
_LEAST_M = 4.0  # across a picture: closer shows nothing but rounding
_MOST_PICTURES = 200
_SEEN = re.compile(r'<meta name="gridwarden-source" content="([0-9a-f]{64})"')
_STYLE = """
body{font:15px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.4rem}article{border-top:1px solid #d5dbe3;padding:1rem 0}.en{color:#566375}
.refused{color:#a3162a}.repaired{color:#8a5a00}.warning{color:#566375}
figure{display:inline-block;margin:.5rem 1rem 0 0}figcaption{font-size:.8rem;color:#566375}
svg{border:1px solid #d5dbe3;background:#f7f9fb}
.row{fill:#dfe6ee;stroke:#73839a}.stored{fill:none;stroke:#2563a8;stroke-dasharray:5 3}.parent{fill:none;stroke:#111;stroke-width:2}
.this{fill:#f4b6bd;fill-opacity:.55;stroke:#a3162a;stroke-width:1.5}.fault{fill:#a3162a;fill-opacity:.75;stroke:#a3162a}
.before{fill:none;stroke:#a3162a;stroke-width:2;stroke-dasharray:4 3}.after{fill:#8fd0a5;fill-opacity:.5;stroke:#14713a;stroke-width:1.5}
.at{fill:none;stroke:#a3162a;stroke-width:2}.bar{stroke:#1c2430;stroke-width:2}text{font-size:11px;fill:#1c2430}
@media(prefers-color-scheme:dark){body{background:#12161c;color:#e4e9f0}.en,.warning,figcaption{color:#9aa7b8}
.refused{color:#ff8b98}.repaired{color:#f1b75a}svg{background:#eef2f6}}
"""
_TITLES = {
    Severity.REFUSED: "拒绝 refused",
    Severity.REPAIRED: "将修复 would be repaired",
    Severity.WARNING: "提醒 warning",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scene:
    """What there is to draw: the file's rows, what is stored of the level, the areas above."""

    rows: Mapping[int, Row]
    shapes: NDArray[Any]  # of rows that have one, in the order of `numbers`
    numbers: tuple[int, ...]
    stored: Mapping[str, BaseGeometry]
    above: Mapping[str, BaseGeometry]


def write_report(connection: Connection, result: ImportResult, file: Path, out: Path, *, crs: str | None) -> None:
    """Write what `import_file` found in `file` (its result, taken or refused) as one page that needs nothing else."""
    scene = _set_scene(connection, file, result.level, crs)
    parts = [_head(result, file, crs), _overview(result.problems, scene)]
    for count, problem in enumerate(result.problems):
        parts.append(_tell(problem, scene if count < _MOST_PICTURES else None, result.level))
    out.write_text("".join(parts) + "</body></html>\n", "utf-8")


def shows(report: Path, file: Path, *, level: Level, crs: str | None) -> bool:
    """Whether the report is one of this very file, byte for byte, read as this level and in this system."""
    found = _SEEN.search(report.read_text("utf-8"))
    return found is not None and found[1] == _fingerprint(file, level, crs)


def _fingerprint(file: Path, level: Level, crs: str | None) -> str:
    """SHA-256 of how a file is read and of the file, with the table and index that a Shapefile has beside it."""
    digest = hashlib.sha256(f"{level} {(crs or '').lower()} ".encode())
    names = [file.with_suffix(each) for each in (".shp", ".shx", ".dbf", ".prj", ".cpg")]
    for part in names if file.suffix.lower() == ".shp" else [file]:
        if part.is_file():
            digest.update(part.suffix.encode() + part.read_bytes())
    return digest.hexdigest()


def _set_scene(connection: Connection, file: Path, level: Level, crs: str | None) -> _Scene:
    try:
        rows = {row.number: row for row in read_source(file, level, crs).rows}
    except SourceError:
        rows = {}
    numbers = tuple(number for number, row in rows.items() if row.shape is not None)
    shapes = np.array([rows[number].shape for number in numbers], dtype=object)
    areas = read_areas(connection)
    stored: dict[str, bytes] = {}
    if level is Level.CELL:
        stored = {cell.code: cell.geom_wkb for cell in read_cells(connection)}
    elif level in AREA_LEVELS:
        stored = {area.code: area.geom_wkb for area in areas if area.level == level}
    in_file = {row.code for row in rows.values()}
    return _Scene(
        rows=rows,
        shapes=shapes,
        numbers=numbers,
        stored={code: shapely.from_wkb(wkb) for code, wkb in stored.items() if code not in in_file},
        above={area.code: shapely.from_wkb(area.geom_wkb) for area in areas if area.level != level},
    )


# ------------------------------------------------------------------------------------------------ words


def _head(result: ImportResult, file: Path, crs: str | None) -> str:
    counts = {each: sum(problem.severity is each for problem in result.problems) for each in Severity}
    told = " · ".join(f'<span class="{each}">{_TITLES[each]}: {count}</span>' for each, count in counts.items())
    verdict = ("可以导入 can be imported" if result.ok else "不可导入，任何内容都未入库 refused, nothing is stored") + (
        "；修复后的图形见下，确认后再加 --repair --accept 本文件 | mended shapes are shown below; to take them, import with"
        " --repair --accept THIS FILE"
        if result.ok and counts[Severity.REPAIRED]
        else ""
    )
    name = html.escape(file.name)
    return (
        f'<!doctype html><html lang="zh-CN"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="gridwarden-source" content="{_fingerprint(file, result.level, crs)}"><title>{name}</title><style>{_STYLE}</style><body>'
        f"<h1>导入检查报告 Import report: {name}</h1><p>{html.escape(result.level)} · {html.escape(result.crs)} ·"
        f" {result.rows} 行 rows</p><p><b>{verdict}</b></p><p>{told}</p>"
    )


def _tell(problem: Problem, scene: _Scene | None, level: Level) -> str:
    pictures = "" if scene is None else "".join(_pictures(problem, scene, level))
    chinese, english = (html.escape(_shorten(problem.describe(each))) for each in ("zh-CN", "en"))
    return (
        f'<article id="{problem.kind}-{problem.row or 0}"><p class="{problem.severity}"><b>{_TITLES[problem.severity]}</b>'
        f' <code>{problem.kind}</code></p><p>{chinese}<br><span class="en">{english}</span></p>{pictures}</article>'
    )


def _shorten(text: str) -> str:
    """Long outlines as text say nothing beside a picture."""
    return re.sub(r"((?:MULTI)?POLYGON \(.{60})[^，。]{80,}?(?=，修复后|, after|$)", r"\1…", text)


# ------------------------------------------------------------------------------------------------ pictures


def _pictures(problem: Problem, scene: _Scene, level: Level) -> list[str]:
    """The place as a whole; and closer, where what is wrong is small in it."""
    row = scene.rows.get(problem.row or 0)
    layers = _layers(problem, row, scene, level)
    at = None if problem.lon is None or problem.lat is None else shapely.Point(problem.lon, problem.lat)
    focus = [shape for shape, _ in layers] + ([at] if at is not None else [])
    if not focus:
        return []
    whole = _view(focus)
    drawn = [_draw(whole, layers, scene, problem, "位置 where it is")]
    fault = [shape for shape, style in layers if style == "fault"] or (
        [at] if at is not None and len(focus) > 1 else []
    )
    if fault:
        close = _view(fault)
        if close[2] < whole[2] / 6:
            drawn.append(_draw(close, layers, scene, problem, "放大 closer"))
    return drawn


def _layers(problem: Problem, row: Row | None, scene: _Scene, level: Level) -> list[tuple[BaseGeometry, str]]:
    """What the picture is about: shapes and how each is drawn."""
    shape = row.shape if row is not None else None
    params = problem.params
    if problem.kind is ProblemKind.REPAIRED:
        return [(shapely.from_wkt(params["after"]), "after"), (shapely.from_wkt(params["before"]), "before")]
    if problem.kind is ProblemKind.GAP:
        return _hole(problem, scene)
    if shape is None:
        return []
    layers = [(shape, "this")]
    if problem.kind is ProblemKind.OVERLAP:
        layers += _common(shape, str(params["other"]), row, scene)
    elif problem.kind is ProblemKind.DUPLICATE_CODE:
        other = scene.rows.get(int(params["other"]))
        layers += [(other.shape, "this")] if other is not None and other.shape is not None else []
    elif problem.kind is ProblemKind.OUTSIDE_PARENT:
        above = scene.above.get(str(params["parent"])) or scene.above.get(parent_code(level, problem.code) or "")
        if above is not None:
            layers += [(shapely.difference(shapely.make_valid(shape), above), "fault")]
    return layers


def _hole(problem: Problem, scene: _Scene) -> list[tuple[BaseGeometry, str]]:
    """The gap that has this position in it."""
    if problem.lon is None or problem.lat is None or not len(scene.shapes):
        return []
    point = shapely.Point(problem.lon, problem.lat)
    near = scene.shapes[shapely.dwithin(scene.shapes, point, 0.02)]
    for part in shapely.get_parts(shapely.union_all(shapely.make_valid(near))):
        for ring in getattr(part, "interiors", ()):
            if (hole := shapely.polygons(ring)).intersects(point):
                return [(hole, "fault")]
    return []


def _common(shape: BaseGeometry, other: str, row: Row | None, scene: _Scene) -> list[tuple[BaseGeometry, str]]:
    found = scene.stored.get(other)
    for each in scene.rows.values():
        if each.code == other and each is not row and each.shape is not None:
            found = each.shape
    if found is None:
        return []
    both = shapely.intersection(shapely.make_valid(shape), shapely.make_valid(found))
    return [(found, "this"), (both, "fault")]


_View = tuple[float, float, float]  # west edge, north edge, metres across


def _view(focus: Sequence[BaseGeometry]) -> _View:
    west, south, east, north = (float(each) for each in shapely.total_bounds(np.array(focus, dtype=object)))
    lat_m, lon_m = metres_per_degree((south + north) / 2)
    across_m = max((east - west) * lon_m, (north - south) * lat_m * _WIDTH / _HEIGHT, _LEAST_M / 1.5) * 1.5
    middle_lon, middle_lat = (west + east) / 2, (south + north) / 2
    return (
        middle_lon - across_m / 2 / lon_m,
        middle_lat + across_m / 2 * _HEIGHT / _WIDTH / lat_m,
        across_m,
    )


def _draw(
    view: _View, layers: Sequence[tuple[BaseGeometry, str]], scene: _Scene, problem: Problem | None, title: str
) -> str:
    west, north, across_m = view
    lat_m, lon_m = metres_per_degree(north)
    scale = _WIDTH / across_m
    window = shapely.box(west, north - across_m * _HEIGHT / _WIDTH / lat_m, west + across_m / lon_m, north)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([(xy[:, 0] - west) * lon_m * scale, (north - xy[:, 1]) * lat_m * scale])

    drawn, labels = [], []
    about = {id(shape) for shape, _ in layers}
    for number, shape in zip(scene.numbers, scene.shapes, strict=True):
        if id(shape) not in about and shapely.intersects(window, shape):
            drawn.append(_path(shape, "row", place, window))
            labels.append(_label(scene.rows[number].code or f"#{number}", shape, window, place))
    for code, shape in scene.stored.items():
        if shapely.intersects(window, shape):
            drawn.append(_path(shape, "stored", place, window))
            labels.append(_label(code, shape, window, place))
    drawn += [
        _path(shape, "parent", place, window) for shape in scene.above.values() if window.intersects(shape.boundary)
    ]
    drawn += [_path(shape, style, place, window) for shape, style in layers]
    if problem is not None and problem.code and layers:
        labels.append(_label(problem.code, layers[0][0], window, place))
    if problem is not None and problem.lon is not None and problem.lat is not None:
        x, y = place(np.array([[problem.lon, problem.lat]]))[0]
        drawn.append(f'<circle class="at" cx="{x:.1f}" cy="{y:.1f}" r="7"/>')
    return (
        f'<figure><svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">'
        f"<title>{html.escape(title)}</title>{''.join(drawn)}{''.join(labels[:40]) if problem is not None else ''}{_bar(scale)}</svg>"
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def _path(shape: BaseGeometry, style: str, place: Any, window: BaseGeometry) -> str:
    """A shape as it stands, broken or not: GEOS draws what it cannot compute with."""
    if shape.geom_type.endswith("Point"):
        x, y = place(shapely.get_coordinates(shape)[:1])[0]
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if shapely.is_valid(shape) and not shape.geom_type.startswith("Line"):
        bounds = window.buffer(max(window.bounds[2] - window.bounds[0], 1e-6))
        shape = shapely.intersection(shape, bounds)  # the far end of something large need not be in the file
    lines = []
    for part in shapely.get_parts(shape):
        for ring in shapely.get_rings(part) if part.geom_type == "Polygon" else [part]:
            xy = place(shapely.get_coordinates(ring))
            lines.append(
                "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in xy) + ("Z" if part.geom_type == "Polygon" else "")
            )
    fill = "" if shape.geom_type.endswith("Polygon") else ' fill="none"'
    return f'<path class="{style}" fill-rule="evenodd"{fill} d="{"".join(lines)}"/>'


def _label(code: str, shape: BaseGeometry, window: BaseGeometry, place: Any) -> str:
    inside = shapely.intersection(shapely.make_valid(shape), window)
    if inside.is_empty:
        return ""
    x, y = place(shapely.get_coordinates(shapely.point_on_surface(inside)))[0]
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{html.escape(code[-6:])}</text>'


def _bar(scale: float) -> str:
    """A scale of 1, 2 or 5 times a power of ten metres, at most a third of the picture."""
    most = _WIDTH / 3 / scale
    power = 10.0 ** np.floor(np.log10(most))
    length_m = max(each * power for each in (1, 2, 5) if each * power <= most)
    end, y = 10 + length_m * scale, _HEIGHT - 12
    told = f"{length_m:g} m"
    return f'<path class="bar" d="M10 {y}H{end:.0f}"/><text x="10" y="{y - 5}">{told}</text>'


def _overview(problems: Iterable[Problem], scene: _Scene) -> str:
    """The whole file, with a mark for every problem that has a place."""
    if not len(scene.shapes):
        return ""
    china = [shape for shape in scene.shapes if shape.bounds[0] >= -180 and shape.bounds[3] <= 90]
    marks = [shapely.Point(each.lon, each.lat) for each in problems if each.lon is not None and each.lat is not None]
    view = _view(china or list(scene.shapes))
    west, north, across_m = view
    lat_m, lon_m = metres_per_degree(north)
    scale = _WIDTH / across_m
    circles = "".join(
        f'<circle class="at" cx="{(mark.x - west) * lon_m * scale:.1f}" cy="{(north - mark.y) * lat_m * scale:.1f}" r="5"/>'
        for mark in marks
    )
    return _draw(view, [], scene, None, "全图 the whole file").replace("</svg>", f"{circles}</svg>")
