"""The only SQL of the grid: areas, cells, components, background features."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import shapely
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from grid.model import AREA_LEVELS, Area, Component, Feature, GridCell, Level
from kernel.db import Connection

_AREA_LAYERS = {f"area-{level}": level for level in AREA_LEVELS}
_DECIMALS = 7  # of degrees: about a centimetre


class UnknownLayer(LookupError):
    """There is no map layer of that name."""


# ------------------------------------------------------------------------------------------------ reading


def read_areas(connection: Connection, level: Level | None = None) -> list[Area]:
    """Areas of one level or of all, by code."""
    with connection.cursor(row_factory=class_row(Area)) as cursor:
        return cursor.execute(
            """
            SELECT id, level, code, name, parent_code, geom_wkb, source_crs, imported_at FROM area
            WHERE %(level)s::text IS NULL OR level = %(level)s ORDER BY code
            """,
            {"level": level},
        ).fetchall()


def read_area_names(connection: Connection) -> dict[str, str]:
    """Name of every area by its code."""
    return dict(connection.execute("SELECT code, name FROM area").fetchall())


def read_cells(connection: Connection) -> list[GridCell]:
    """Every cell, by code."""
    with connection.cursor(row_factory=class_row(GridCell)) as cursor:
        return cursor.execute(
            "SELECT id, code, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at"
            " FROM grid_cell ORDER BY code"
        ).fetchall()


def read_components(connection: Connection, cell_code: str | None = None) -> list[Component]:
    """Components, of one cell or all, by standard, kind and code."""
    with connection.cursor(row_factory=class_row(Component)) as cursor:
        return cursor.execute(
            """
            SELECT id, standard, kind, code, name, cell_code, lon, lat, source_crs, properties FROM component
            WHERE %(cell)s::text IS NULL OR cell_code = %(cell)s ORDER BY standard, kind, code
            """,
            {"cell": cell_code},
        ).fetchall()


def read_version(connection: Connection) -> str:
    """A text that changes whenever areas, cells or background are imported anew: for caches and Locator.version."""
    row = connection.execute(
        """
        SELECT (SELECT count(*) FROM grid_cell), (SELECT max(imported_at) FROM grid_cell),
               (SELECT count(*) FROM area), (SELECT max(imported_at) FROM area),
               (SELECT count(*) FROM map_feature), (SELECT max(map_id) FROM map_feature)
        """
    ).fetchone()
    return "/".join("-" if part is None else _plain(part) for part in row or ())


def _plain(part: Any) -> str:
    return f"{part.timestamp():.6f}" if isinstance(part, datetime) else str(part)


# ------------------------------------------------------------------------------------------------ the map


def read_map_summary(connection: Connection) -> dict[str, Any]:
    """What the map can show: {"district": {"code", "name"} | None, "bounds": [west, south, east, north] | None,
    "layers": [{"name", "features"}], "version"}. Bounds are CGCS2000 degrees of what has been imported.
    """
    layers = [
        (f"area-{level}", count) for level, count in _count(connection, "SELECT level, count(*) FROM area GROUP BY 1")
    ]
    layers += [("cell", count) for (count,) in connection.execute("SELECT count(*) FROM grid_cell").fetchall() if count]
    layers += _count(connection, "SELECT layer, count(*) FROM map_feature GROUP BY 1 ORDER BY 1")
    districts = read_areas(connection, Level.DISTRICT)
    shapes = [area.geom_wkb for area in districts or read_areas(connection)]
    if not shapes:
        shapes = [wkb for (wkb,) in connection.execute("SELECT geom_wkb FROM grid_cell").fetchall()]
    bounds = [round(float(b), _DECIMALS) for b in shapely.total_bounds(shapely.from_wkb(shapes))] if shapes else None
    return {
        "district": {"code": districts[0].code, "name": districts[0].name} if districts else None,
        "bounds": bounds,
        "layers": [{"name": name, "features": int(count)} for name, count in layers],
        "version": read_version(connection),
    }


def _count(connection: Connection, query: str) -> list[tuple[str, int]]:
    return [(str(name), int(count)) for name, count in connection.execute(query).fetchall()]


def read_layer_geojson(connection: Connection, layer: str) -> bytes:
    """One layer as a GeoJSON FeatureCollection, UTF-8, CGCS2000 degrees; feature ids are the integer map ids.

    Layers: area-district, area-street, area-community, area-grid, cell, and any `layer` of the background.
    Raises UnknownLayer. A known layer without rows is an empty collection.
    """
    if layer in _AREA_LAYERS:
        rows = connection.execute(
            "SELECT map_id, geom_wkb, jsonb_build_object('code', code, 'name', name, 'parent_code', parent_code)"
            " FROM area WHERE level = %s ORDER BY map_id",
            (_AREA_LAYERS[layer],),
        ).fetchall()
    elif layer == "cell":
        rows = connection.execute(
            "SELECT map_id, geom_wkb, jsonb_build_object('code', code, 'responsibility_grid_code',"
            " responsibility_grid_code, 'lon', lon, 'lat', lat) FROM grid_cell ORDER BY map_id"
        ).fetchall()
    else:
        rows = connection.execute(
            "SELECT map_id, geom_wkb, properties || jsonb_build_object('name', name) FROM map_feature"
            " WHERE layer = %s ORDER BY map_id",
            (layer,),
        ).fetchall()
        if not rows and layer not in ("road", "water", "building", "parking_lot", "green"):
            raise UnknownLayer(layer)
    return _collection(rows)


def _collection(rows: Sequence[tuple[Any, ...]]) -> bytes:
    shapes = shapely.transform(shapely.from_wkb([wkb for _, wkb, _ in rows]), lambda xy: np.round(xy, _DECIMALS))
    features = [
        f'{{"type":"Feature","id":{map_id},"properties":{json.dumps(properties, ensure_ascii=False)},"geometry":{shape}}}'
        for (map_id, _, properties), shape in zip(rows, shapely.to_geojson(shapes), strict=True)
    ]
    return ('{"type":"FeatureCollection","features":[' + ",\n".join(features) + "]}").encode()


# ------------------------------------------------------------------------------------------------ writing


def write_areas(connection: Connection, areas: Sequence[Area]) -> int:
    """Insert areas, or change those whose code exists (they keep their ids); how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO area (id, level, code, name, parent_code, geom_wkb, source_crs, imported_at)
            VALUES (%(id)s, %(level)s, %(code)s, %(name)s, %(parent_code)s, %(geom_wkb)s, %(source_crs)s, %(imported_at)s)
            ON CONFLICT (code) DO UPDATE SET level = excluded.level, name = excluded.name,
                parent_code = excluded.parent_code, geom_wkb = excluded.geom_wkb, source_crs = excluded.source_crs,
                imported_at = excluded.imported_at
            """,
            [asdict(area) for area in areas],
        )
    return len(areas)


def write_cells(connection: Connection, cells: Sequence[GridCell]) -> int:
    """Insert cells, or change those whose code exists (they keep their ids); how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO grid_cell (id, code, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at)
            VALUES (%(id)s, %(code)s, %(responsibility_grid_code)s, %(lon)s, %(lat)s, %(geom_wkb)s, %(source_crs)s,
                    %(imported_at)s)
            ON CONFLICT (code) DO UPDATE SET responsibility_grid_code = excluded.responsibility_grid_code,
                lon = excluded.lon, lat = excluded.lat, geom_wkb = excluded.geom_wkb,
                source_crs = excluded.source_crs, imported_at = excluded.imported_at
            """,
            [asdict(cell) for cell in cells],
        )
    return len(cells)


def write_components(connection: Connection, components: Sequence[Component]) -> int:
    """Insert components, or change those whose standard, kind and code exist; how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO component (id, standard, kind, code, name, cell_code, lon, lat, source_crs, properties)
            VALUES (%(id)s, %(standard)s, %(kind)s, %(code)s, %(name)s, %(cell_code)s, %(lon)s, %(lat)s,
                    %(source_crs)s, %(properties)s)
            ON CONFLICT (standard, kind, code) DO UPDATE SET name = excluded.name, cell_code = excluded.cell_code,
                lon = excluded.lon, lat = excluded.lat, source_crs = excluded.source_crs,
                properties = excluded.properties
            """,
            [{**asdict(component), "properties": Jsonb(component.properties)} for component in components],
        )
    return len(components)


def replace_features(connection: Connection, features: Sequence[Feature]) -> int:
    """Put these features in the place of all that their layers held: features have no codes to tell them by."""
    connection.execute("DELETE FROM map_feature WHERE layer = ANY(%s)", (sorted({f.layer for f in features}),))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO map_feature (id, layer, name, geom_wkb, properties)"
            " VALUES (%(id)s, %(layer)s, %(name)s, %(geom_wkb)s, %(properties)s)",
            [{**asdict(feature), "properties": Jsonb(feature.properties)} for feature in features],
        )
    return len(features)


def delete_areas(connection: Connection, level: Level, ids: Sequence[UUID]) -> int:
    """Remove these areas of one level; how many."""
    return connection.execute("DELETE FROM area WHERE level = %s AND id = ANY(%s)", (level, list(ids))).rowcount


def delete_cells(connection: Connection, ids: Sequence[UUID]) -> int:
    """Remove these cells; how many."""
    return connection.execute("DELETE FROM grid_cell WHERE id = ANY(%s)", (list(ids),)).rowcount
