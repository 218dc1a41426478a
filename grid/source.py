"""Reading files of areas, cells, components and features: the only place that uses geopandas."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from grid.coordinates import CoordinateError, CrsError, check_crs, to_cgcs2000_many
from grid.model import Level
from grid.problem import Problem, ProblemKind, Severity

CHINA_BOUNDS = (73.0, 3.0, 136.0, 54.0)  # west, south, east, north, with the islands of the south
_FORMATS = {".geojson", ".json", ".gpkg", ".shp", ".zip", ".kml", ".csv"}
# dBase cuts names to ten characters; Chinese data sets name their columns in Chinese.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "code": ("code", "编码", "代码"),
    "name": ("name", "名称"),
    "parent_code": ("parent_code", "parent_cod", "上级编码"),
    "responsibility_grid_code": ("responsibility_grid_code", "responsibi", "grid_code", "责任网格编码"),
    "layer": ("layer", "图层"),
    "standard": ("standard",),
    "kind": ("kind",),
}


_WKT = ("wkt", "geometry", "geom", "the_geom", "图形")
_LONGEST_FIELD = 100_000_000  # a border as text: the module's own limit is some 5,000 corners
_LON = ("lon", "lng", "longitude", "经度", "x", "easting")
_LAT = ("lat", "latitude", "纬度", "y", "northing")
_KML_OWN = {
    "id", "description", "timestamp", "begin", "end", "altitudemode", "tessellate", "extrude", "visibility",
    "draworder", "icon", "snippet",
}  # fmt: skip


class SourceError(Exception):
    """The file as a whole cannot be used; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.describe("en"))
        self.problem = problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One feature of a file. `shape` is in CGCS2000 degrees, or None with the reason among the problems.

    `properties` are those without a meaning of their own here, JSON values all.
    """

    number: int
    code: str
    name: str
    parent_code: str
    responsibility_grid_code: str
    layer: str
    standard: str
    kind: str
    shape: BaseGeometry | None
    properties: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The rows of a file in its order, the coordinate system they came in, and what was wrong on the way."""

    rows: tuple[Row, ...]
    crs: str
    problems: tuple[Problem, ...]


def read_source(path: Path, level: Level, crs: str | None) -> Source:
    """Read a GeoJSON, GeoPackage, Shapefile (zipped too), KML or CSV and bring its shapes to CGCS2000.

    `crs` overrides what the file says of itself; a file that says nothing needs it, but for GeoJSON, which is WGS 84 by
    its standard. Raises SourceError.
    """
    frame = _read_table(path) if path.suffix.lower() == ".csv" else _read_frame(path, level)
    if not len(frame):
        raise SourceError(Problem(kind=ProblemKind.EMPTY))
    name, problems = _choose_crs(path, frame.crs, crs)
    shapes, wrong = _to_cgcs2000(np.asarray(frame.geometry.array), name)
    columns = {str(column).lower(): column for column in frame.columns if column != frame.geometry.name}
    known = {ours: next((columns[a] for a in names if a in columns), None) for ours, names in _COLUMNS.items()}
    others = [column for column in columns.values() if column not in known.values()]
    records = frame.drop(columns=frame.geometry.name).to_dict("records")
    rows = []
    for number, (record, shape) in enumerate(zip(records, shapes, strict=True), 1):
        text = {ours: _text(record[column]) if column is not None else "" for ours, column in known.items()}
        properties = {str(column): value for column in others if (value := _json_value(record[column])) is not None}
        rows.append(Row(number=number, shape=shape, properties=properties, **text))
    problems += [
        Problem(kind=kind, row=number, code=rows[number - 1].code, params=params) for number, kind, params in wrong
    ]
    return Source(rows=tuple(rows), crs=name, problems=tuple(problems))


def _read_frame(path: Path, level: Level) -> Any:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise SourceError(Problem(kind=ProblemKind.UNKNOWN_FORMAT, params={"suffix": suffix or path.name}))
    if not path.is_file():
        raise SourceError(Problem(kind=ProblemKind.UNREADABLE, params={"error": f"no file {path}"}))
    # Here and not above: geopandas and pandas take a second to import, and only imports of files need them.
    import geopandas
    import pyogrio

    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if len(layers) > 1 and level.value not in layers:
            params = {"layers": ", ".join(layers), "level": level.value}
            raise SourceError(Problem(kind=ProblemKind.MANY_LAYERS, params=params))
        frame = geopandas.read_file(
            path, layer=level.value if len(layers) > 1 else layers[0], encoding=_encoding(path), on_invalid="ignore"
        )
    except (ValueError, RuntimeError, OSError, UnicodeError) as error:
        raise SourceError(Problem(kind=ProblemKind.UNREADABLE, params={"error": str(error)})) from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise SourceError(Problem(kind=ProblemKind.UNREADABLE, params={"error": "no shapes in it"}))
    if path.suffix.lower() == ".kml":
        # What every placemark has besides its data: how it is drawn, when it is seen.
        frame = frame.drop(columns=[column for column in frame.columns if str(column).lower() in _KML_OWN])
    return frame


def _read_table(path: Path) -> Any:
    """A CSV: positions in two columns, or shapes in one as WKT. Codes stay texts, as they are written."""
    if not path.is_file():
        raise SourceError(Problem(kind=ProblemKind.UNREADABLE, params={"error": f"no file {path}"}))
    import geopandas

    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # spreadsheets in China write GBK
        text = data.decode("gb18030", "replace")
    try:
        csv.field_size_limit(_LONGEST_FIELD)
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        records = [dict(row) for row in reader]
    except csv.Error as error:
        raise SourceError(Problem(kind=ProblemKind.UNREADABLE, params={"error": str(error)})) from error
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    wkt, lon, lat = (next((columns[n] for n in names if n in columns), None) for names in (_WKT, _LON, _LAT))
    if wkt is None and (lon is None or lat is None):
        raise SourceError(Problem(kind=ProblemKind.NO_COLUMNS, params={"columns": ", ".join(columns) or "-"}))
    shapes = [_shape_of(row, wkt, lon, lat) for row in records]
    used = {wkt} if wkt is not None else {lon, lat}
    ours = {column for names in _COLUMNS.values() for column in names}
    records = [
        {str(k): v if str(k).strip().lower() in ours else _read_value(v) for k, v in row.items() if k and k not in used}
        for row in records
    ]
    return geopandas.GeoDataFrame(records, geometry=shapes, crs=None)


def _read_value(text: str | None) -> Any:
    """What a table's text says, for columns without a meaning of their own: a number only when it is written as one."""
    if not text:
        return None
    for kind in (int, float):
        try:
            if str(kind(text)) == text:
                return kind(text)
        except ValueError:
            continue
    return text


def _shape_of(row: Mapping[str, str | None], wkt: str | None, lon: str | None, lat: str | None) -> BaseGeometry | None:
    """The shape that a row of a table says; None where it says none that can be read."""
    try:
        if wkt is not None:
            return shapely.from_wkt(row[wkt]) if row[wkt] else None
        assert lon is not None and lat is not None
        return shapely.Point(float(row[lon] or ""), float(row[lat] or ""))
    except (ValueError, shapely.GEOSException):
        return None


def _encoding(path: Path) -> str | None:
    """GB 18030 for a Shapefile that names no encoding anywhere, as is usual in China; else what the file says."""
    table = path.with_suffix(".dbf")
    if path.suffix.lower() != ".shp" or path.with_suffix(".cpg").exists() or not table.exists():
        return None
    with table.open("rb") as file:
        language = file.read(30)[29:30]  # the language driver of dBase
    return "GB18030" if language == b"\0" else None


def _choose_crs(path: Path, file_crs: Any, asked: str | None) -> tuple[str, list[Problem]]:
    named = None if file_crs is None else file_crs.to_epsg(min_confidence=25)
    own = None if named is None else f"EPSG:{named}"
    silent = path.suffix.lower() in (".geojson", ".json") and not _names_crs(path)
    try:
        if asked is not None:
            name = check_crs(asked)
            differs = own is not None and own != name and not silent
            params = {"file_crs": own, "crs": name}
            overridden = Problem(kind=ProblemKind.CRS_OVERRIDDEN, severity=Severity.WARNING, params=params)
            return name, [overridden] if differs else []
        if own is None:
            raise SourceError(Problem(kind=ProblemKind.CRS_MISSING))
        assumed = [Problem(kind=ProblemKind.CRS_ASSUMED, severity=Severity.WARNING)] if silent else []
        return check_crs(own), assumed
    except CrsError as error:
        raise SourceError(Problem(kind=ProblemKind.CRS_UNKNOWN, params={"crs": asked or own})) from error


def _names_crs(path: Path) -> bool:
    """Whether a GeoJSON has a `crs` member. It stands before the features or after them, so both ends are looked at."""
    with path.open("rb") as file:
        head = file.read(65_536)
        file.seek(max(0, path.stat().st_size - 4_096))
        return re.search(rb'"crs"\s*:\s*\{', head + file.read()) is not None


def _to_cgcs2000(
    shapes: NDArray[Any], crs: str
) -> tuple[list[BaseGeometry | None], list[tuple[int, ProblemKind, dict[str, Any]]]]:
    """The shapes in degrees; and (row number, kind, parameters) of those that could not be brought there."""

    def convert(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(to_cgcs2000_many(xy[:, 0], xy[:, 1], crs)) if len(xy) else xy

    flat = shapely.force_2d(shapes)
    missing = shapely.is_missing(flat) | shapely.is_empty(flat)
    wrong: list[tuple[int, ProblemKind, dict[str, Any]]] = []
    done: list[BaseGeometry | None]
    try:
        done = list(shapely.transform(flat, convert))
    except CoordinateError:
        done = []
        for number, shape in enumerate(flat, 1):
            try:
                done.append(shapely.transform(shape, convert))
            except CoordinateError as error:
                done.append(None)
                kind = ProblemKind.SWAPPED if lie_in_china(shape, exchanged=True) else ProblemKind.BAD_COORDINATES
                at = ", ".join(f"{each:.7g}" for each in shapely.get_coordinates(shape)[0])
                wrong.append((number, kind, {"error": str(error), "at": at}))
    for index in np.flatnonzero(missing):
        done[index] = None
        wrong.append((int(index) + 1, ProblemKind.NO_GEOMETRY, {}))
    return done, wrong


def lie_in_china(shape: BaseGeometry, *, exchanged: bool = False) -> bool:
    """Whether every vertex lies in CHINA_BOUNDS; `exchanged`: taken as latitude, longitude."""
    xy = shapely.get_coordinates(shape)
    x, y = (xy[:, 1], xy[:, 0]) if exchanged else (xy[:, 0], xy[:, 1])
    west, south, east, north = CHINA_BOUNDS
    return bool(((x >= west) & (x <= east) & (y >= south) & (y <= north)).all())


def _text(value: Any) -> str:
    """A property as text: codes kept as numbers in a table lose neither digits nor gain a decimal point."""
    plain = _json_value(value)
    if plain is None:
        return ""
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() else str(plain).strip()


def _json_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    return None if str(value) in ("NaT", "<NA>") else str(value)
