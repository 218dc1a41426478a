"""Writing areas, cells, components and background to files, in the formats and systems that the import reads."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from grid.coordinates import CGCS2000, check_crs, from_cgcs2000_many
from grid.history import read_areas_at, read_cells_at, read_components_at
from grid.model import AREA_LEVELS, Level
from grid.store import read_areas, read_cells, read_components, read_features
from kernel.db import Connection

_DRIVERS = {".geojson": "GeoJSON", ".json": "GeoJSON", ".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".kml": "LIBKML"}
FORMATS = (*_DRIVERS, ".csv")
Record = dict[str, Any]


class ExportError(ValueError):
    """The file cannot be written; the text says why."""


def export_file(
    connection: Connection, path: Path, *, level: Level, crs: str | None = None, at: datetime | None = None
) -> int:
    """Write a level to a file, as it is or as it was at a past instant (background has no dates); how many rows.

    `crs`: CGCS2000 when left out, and WGS 84 for KML, which knows no other. gcj02 and bd09 are written as they are, and a
    file cannot say so of itself: the import needs `--crs` again.

    Raises ExportError for a format that is not known or cannot hold the system; CrsError for an unknown system.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ExportError(f"不支持的格式 {suffix} / format {suffix or path.name} is none of {', '.join(FORMATS)}")
    system = check_crs(crs or ("EPSG:4326" if suffix == ".kml" else CGCS2000))
    if suffix == ".kml" and system not in ("EPSG:4326", CGCS2000):
        raise ExportError(f"KML 只能是 WGS 84 / KML is always WGS 84, not {system}")
    records, shapes = _read(connection, level, at)
    if not records:
        raise ExportError(f"没有 {level} 数据 / there is nothing of level {level}")
    shapes = shapely.transform(shapes, lambda xy: np.column_stack(from_cgcs2000_many(xy[:, 0], xy[:, 1], system)))
    if suffix == ".csv":
        _write_table(path, records, shapes, points=level is Level.COMPONENT)
    else:
        _write_frame(path, records, shapes, system, level)
    return len(records)


def _read(connection: Connection, level: Level, at: datetime | None) -> tuple[list[Record], NDArray[Any]]:
    if level is Level.FEATURE:
        features = read_features(connection)
        records = [{"layer": each.layer, "name": each.name, **_plain(each.properties)} for each in features]
        return records, _shapes([each.geom_wkb for each in features])
    if level is Level.COMPONENT:
        components = read_components(connection) if at is None else read_components_at(connection, at)
        records = [
            {
                "standard": each.standard,
                "kind": each.kind,
                "code": each.code,
                "name": each.name,
                **_plain(each.properties),
            }
            for each in components
        ]
        return records, np.array([shapely.Point(each.lon, each.lat) for each in components], dtype=object)
    if level is Level.CELL:
        cells = read_cells(connection) if at is None else read_cells_at(connection, at)
        records = [{"code": each.code, "responsibility_grid_code": each.responsibility_grid_code} for each in cells]
        return records, _shapes([each.geom_wkb for each in cells])
    assert level in AREA_LEVELS
    areas = read_areas(connection, level) if at is None else read_areas_at(connection, at, level)
    records = [{"code": each.code, "name": each.name, "parent_code": each.parent_code} for each in areas]
    return records, _shapes([each.geom_wkb for each in areas])


def _shapes(wkbs: Sequence[bytes]) -> NDArray[Any]:
    return np.asarray(shapely.from_wkb(wkbs), dtype=object)


def _plain(properties: Record) -> Record:
    """What a table can hold; names that mean something in an import are left to it."""
    taken = {"code", "name", "layer", "standard", "kind", "geometry"}
    return {
        name: value
        for name, value in properties.items()
        if name.lower() not in taken and isinstance(value, str | int | float | bool)
    }


def _write_frame(path: Path, records: list[Record], shapes: NDArray[Any], system: str, level: Level) -> None:
    import geopandas

    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [{name: record.get(name) for name in names} for record in records]
    named = system if system.startswith("EPSG:") else None
    frame = geopandas.GeoDataFrame(rows, geometry=list(shapes), crs=named)
    suffix = path.suffix.lower()
    options: Record = {"layer": level.value} if suffix in (".gpkg", ".kml") else {}
    if suffix == ".shp":
        options["encoding"] = "UTF-8"
    if suffix in (".gpkg", ".kml"):
        path.unlink(missing_ok=True)  # else the new layer is put beside what the file has
    try:
        frame.to_file(path, driver=_DRIVERS[suffix], **options)
    except (RuntimeError, OSError, ValueError) as error:
        raise ExportError(f"无法写入 {path} / {path} cannot be written: {error}") from error


def _write_table(path: Path, records: list[Record], shapes: Sequence[BaseGeometry], *, points: bool) -> None:
    names = list(dict.fromkeys(name for record in records for name in record))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *(("lon", "lat") if points else ("wkt",))])
        for record, shape in zip(records, shapes, strict=True):
            place = (f"{shape.x!r}", f"{shape.y!r}") if points else (shapely.to_wkt(shape, rounding_precision=9),)
            writer.writerow([*(record.get(name, "") for name in names), *place])
