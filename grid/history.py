"""The grid as it was: what was valid at a past instant, so that last year's case keeps last year's grid."""

from collections.abc import Sequence
from datetime import datetime

from psycopg.rows import class_row

from grid.model import AREA_LEVELS, Area, Component, GridCell, Level
from kernel.db import Connection

_VALID = "valid_from <= %(at)s"
_WAS_VALID = "valid_from <= %(at)s AND valid_until > %(at)s"


def read_areas_at(connection: Connection, at: datetime, level: Level | None = None) -> list[Area]:
    """Areas of one level or of all that were valid at `at`, by code."""
    columns = "id, level, code, name, parent_code, geom_wkb, source_crs, imported_at, valid_from"
    wanted = "(%(level)s::text IS NULL OR level = %(level)s)"
    with connection.cursor(row_factory=class_row(Area)) as cursor:
        return cursor.execute(
            f"SELECT {columns} FROM area WHERE {_VALID} AND {wanted}"
            f" UNION ALL SELECT {columns} FROM area_past WHERE {_WAS_VALID} AND {wanted} ORDER BY code",
            {"at": at, "level": level},
        ).fetchall()


def read_area_names_at(connection: Connection, at: datetime) -> dict[str, str]:
    """Name of every area by its code, as it was at `at`."""
    return dict(
        connection.execute(
            f"SELECT code, name FROM area WHERE {_VALID} UNION ALL SELECT code, name FROM area_past WHERE {_WAS_VALID}",
            {"at": at},
        ).fetchall()
    )


def read_cells_at(connection: Connection, at: datetime) -> list[GridCell]:
    """Every cell that was valid at `at`, by code."""
    columns = "id, code, responsibility_grid_code, lon, lat, geom_wkb, source_crs, imported_at, valid_from"
    with connection.cursor(row_factory=class_row(GridCell)) as cursor:
        return cursor.execute(
            f"SELECT {columns} FROM grid_cell WHERE {_VALID}"
            f" UNION ALL SELECT {columns} FROM grid_cell_past WHERE {_WAS_VALID} ORDER BY code",
            {"at": at},
        ).fetchall()


def read_components_at(connection: Connection, at: datetime) -> list[Component]:
    """Every component that was valid at `at`, by standard, kind and code."""
    columns = "id, standard, kind, code, name, cell_code, lon, lat, source_crs, properties, valid_from"
    with connection.cursor(row_factory=class_row(Component)) as cursor:
        return cursor.execute(
            f"SELECT {columns}, imported_at FROM component WHERE {_VALID}"
            f" UNION ALL SELECT {columns}, valid_from FROM component_past WHERE {_WAS_VALID}"
            " ORDER BY standard, kind, code",
            {"at": at},
        ).fetchall()


def find_conflicts(connection: Connection, level: Level, codes: Sequence[str], at: datetime) -> dict[str, datetime]:
    """Codes that already have a past which reaches beyond `at`, and until when: a new row from `at` would contradict it."""
    table = "grid_cell_past" if level is Level.CELL else "area_past" if level in AREA_LEVELS else "component_past"
    rows = connection.execute(
        f"SELECT code, max(valid_until) FROM {table} WHERE code = ANY (%s) AND valid_until > %s GROUP BY code ORDER BY code",
        (list(codes), at),
    ).fetchall()
    return {str(code): until for code, until in rows}
