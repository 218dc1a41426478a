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
            SELECT id, level, code, name, parent_code, geom_wkb, source_crs, imported_at, valid_from FROM area
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
            "SELECT id, code, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at, valid_from"
            " FROM grid_cell ORDER BY code"
        ).fetchall()


def read_components(connection: Connection, cell_code: str | None = None) -> list[Component]:
    """Components, of one cell or all, by standard, kind and code."""
    with connection.cursor(row_factory=class_row(Component)) as cursor:
        return cursor.execute(
            """
            SELECT id, standard, kind, code, name, cell_code, lon, lat, source_crs, imported_at, properties, valid_from
            FROM component WHERE %(cell)s::text IS NULL OR cell_code = %(cell)s ORDER BY standard, kind, code
            """,
            {"cell": cell_code},
        ).fetchall()


def read_features(connection: Connection, layers: Sequence[str] | None = None) -> list[Feature]:
    """The map's background: of these layers or of all, by layer."""
    with connection.cursor(row_factory=class_row(Feature)) as cursor:
        return cursor.execute(
            """
            SELECT id, layer, name, geom_wkb, properties FROM map_feature
            WHERE %(layers)s::text[] IS NULL OR layer = ANY (%(layers)s) ORDER BY layer, map_id
            """,
            {"layers": None if layers is None else list(layers)},
        ).fetchall()


def read_version(connection: Connection) -> str:
    """A text that changes whenever anything of the grid is imported anew: for caches and Locator.version."""
    row = connection.execute(
        """
        SELECT (SELECT count(*) FROM grid_cell), (SELECT max(imported_at) FROM grid_cell),
               (SELECT count(*) FROM area), (SELECT max(imported_at) FROM area),
               (SELECT count(*) FROM map_feature), (SELECT max(map_id) FROM map_feature),
               (SELECT count(*) FROM component), (SELECT max(imported_at) FROM component)
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


# A row that changes leaves what it was in its table of the past, until the instant from which the new one is valid. One
# that says the same only ever becomes valid earlier. A change from the same instant, or an earlier one, is a correction:
# nothing of it is kept (grid.history.find_conflicts refuses those that would contradict the past).


def write_areas(connection: Connection, areas: Sequence[Area]) -> int:
    """Insert areas, or change those whose code exists (they keep their ids); how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            WITH past AS (
                INSERT INTO area_past (code, id, level, name, parent_code, geom_wkb, source_crs, imported_at, valid_from,
                                       valid_until)
                SELECT code, id, level, name, parent_code, geom_wkb, source_crs, imported_at, valid_from, %(valid_from)s
                FROM area WHERE code = %(code)s AND valid_from < %(valid_from)s
                    AND (level, name, parent_code, geom_wkb)
                        IS DISTINCT FROM (%(level)s, %(name)s, %(parent_code)s, %(geom_wkb)s)
            )
            INSERT INTO area (id, level, code, name, parent_code, geom_wkb, source_crs, imported_at, valid_from)
            VALUES (%(id)s, %(level)s, %(code)s, %(name)s, %(parent_code)s, %(geom_wkb)s, %(source_crs)s, %(imported_at)s,
                    %(valid_from)s)
            ON CONFLICT (code) DO UPDATE SET level = excluded.level, name = excluded.name,
                parent_code = excluded.parent_code, geom_wkb = excluded.geom_wkb, source_crs = excluded.source_crs,
                imported_at = excluded.imported_at,
                valid_from = CASE WHEN (area.level, area.name, area.parent_code, area.geom_wkb)
                        IS DISTINCT FROM (excluded.level, excluded.name, excluded.parent_code, excluded.geom_wkb)
                    THEN excluded.valid_from ELSE least(area.valid_from, excluded.valid_from) END
            """,
            [{**asdict(area), "valid_from": area.valid_from or area.imported_at} for area in areas],
        )
    return len(areas)


def write_cells(connection: Connection, cells: Sequence[GridCell]) -> int:
    """Insert cells, or change those whose code exists (they keep their ids); how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            WITH past AS (
                INSERT INTO grid_cell_past (code, id, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at,
                                            valid_from, valid_until)
                SELECT code, id, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at, valid_from,
                       %(valid_from)s
                FROM grid_cell WHERE code = %(code)s AND valid_from < %(valid_from)s
                    AND (responsibility_grid_code, geom_wkb)
                        IS DISTINCT FROM (%(responsibility_grid_code)s, %(geom_wkb)s)
            )
            INSERT INTO grid_cell (id, code, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at,
                                   valid_from)
            VALUES (%(id)s, %(code)s, %(responsibility_grid_code)s, %(lon)s, %(lat)s, %(geom_wkb)s, %(source_crs)s,
                    %(imported_at)s, %(valid_from)s)
            ON CONFLICT (code) DO UPDATE SET responsibility_grid_code = excluded.responsibility_grid_code,
                lon = excluded.lon, lat = excluded.lat, geom_wkb = excluded.geom_wkb,
                source_crs = excluded.source_crs, imported_at = excluded.imported_at,
                valid_from = CASE WHEN (grid_cell.responsibility_grid_code, grid_cell.geom_wkb)
                        IS DISTINCT FROM (excluded.responsibility_grid_code, excluded.geom_wkb)
                    THEN excluded.valid_from ELSE least(grid_cell.valid_from, excluded.valid_from) END
            """,
            [{**asdict(cell), "valid_from": cell.valid_from or cell.imported_at} for cell in cells],
        )
    return len(cells)


def write_components(connection: Connection, components: Sequence[Component]) -> int:
    """Insert components, or change those whose standard, kind and code exist; how many."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            WITH past AS (
                INSERT INTO component_past (standard, kind, code, id, name, cell_code, lon, lat, source_crs, properties,
                                            valid_from, valid_until)
                SELECT standard, kind, code, id, name, cell_code, lon, lat, source_crs, properties, valid_from,
                       %(valid_from)s
                FROM component
                WHERE standard = %(standard)s AND kind = %(kind)s AND code = %(code)s AND valid_from < %(valid_from)s
                    AND (name, cell_code, lon, lat, properties)
                        IS DISTINCT FROM (%(name)s, %(cell_code)s, %(lon)s, %(lat)s, %(properties)s)
            )
            INSERT INTO component (id, standard, kind, code, name, cell_code, lon, lat, source_crs, imported_at, properties,
                                   valid_from)
            VALUES (%(id)s, %(standard)s, %(kind)s, %(code)s, %(name)s, %(cell_code)s, %(lon)s, %(lat)s,
                    %(source_crs)s, %(imported_at)s, %(properties)s, %(valid_from)s)
            ON CONFLICT (standard, kind, code) DO UPDATE SET name = excluded.name, cell_code = excluded.cell_code,
                lon = excluded.lon, lat = excluded.lat, source_crs = excluded.source_crs,
                imported_at = excluded.imported_at, properties = excluded.properties,
                valid_from = CASE WHEN (component.name, component.cell_code, component.lon, component.lat,
                                        component.properties)
                        IS DISTINCT FROM (excluded.name, excluded.cell_code, excluded.lon, excluded.lat,
                                          excluded.properties)
                    THEN excluded.valid_from ELSE least(component.valid_from, excluded.valid_from) END
            """,
            [
                {
                    **asdict(component),
                    "properties": Jsonb(component.properties),
                    "valid_from": component.valid_from or component.imported_at,
                }
                for component in components
            ],
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


def delete_areas(connection: Connection, level: Level, ids: Sequence[UUID], until: datetime) -> int:
    """Remove these areas of one level, which were valid until then; how many."""
    return connection.execute(
        """
        WITH gone AS (DELETE FROM area WHERE level = %(level)s AND id = ANY (%(ids)s) RETURNING *), past AS (
            INSERT INTO area_past (code, id, level, name, parent_code, geom_wkb, source_crs, imported_at, valid_from,
                                   valid_until)
            SELECT code, id, level, name, parent_code, geom_wkb, source_crs, imported_at, valid_from, %(until)s
            FROM gone WHERE valid_from < %(until)s)
        SELECT FROM gone
        """,
        {"level": level, "ids": list(ids), "until": until},
    ).rowcount


def delete_cells(connection: Connection, ids: Sequence[UUID], until: datetime) -> int:
    """Remove these cells, which were valid until then; how many."""
    return connection.execute(
        """
        WITH gone AS (DELETE FROM grid_cell WHERE id = ANY (%(ids)s) RETURNING *), past AS (
            INSERT INTO grid_cell_past (code, id, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at,
                                        valid_from, valid_until)
            SELECT code, id, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at, valid_from, %(until)s
            FROM gone WHERE valid_from < %(until)s)
        SELECT FROM gone
        """,
        {"ids": list(ids), "until": until},
    ).rowcount


def move_components(connection: Connection, cells: Sequence[tuple[UUID, str | None]]) -> int:
    """Give components the cell they lie in now: (id, cell's code) each; how many. Where they stand has not changed."""
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE component SET cell_code = %s WHERE id = %s", [(code, each) for each, code in cells])
    return len(cells)
