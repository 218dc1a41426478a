"""Reading many incidents."""

from psycopg.types.json import Jsonb

from dispatch.store import read_incidents
from kernel.db import Database
from kernel.ids import new_id
from kernel.types import Role
from tests.dispatch.build import SOUTH, City, cell_code


def fill(city: City, count: int) -> None:
    worker = city.add_person("网格员甲", Role.GRID_WORKER)
    with city.database.transaction() as connection, connection.cursor() as cursor:
        rows = [
            (
                new_id(city.now), f"20261120-{k:06d}", f"bin_overflow:{k}", cell_code(k % 4, 0), SOUTH, 120.17, 30.28,
                city.now, city.now, city.now, city.now, worker.user_id, new_id(city.now),
                Jsonb({"action": "check", "reasons": [{"code": "named_person"}]}),
            )
            for k in range(count)
        ]  # fmt: skip
        cursor.executemany(
            "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat,"
            " opened_at, filed_at, limit_from, due_at, assignee_id, cover_id, proposal)"
            " VALUES (%s, %s, 'bin_overflow', 3, 'accepted', %s, %s, %s, %s, %s, %s, %s, %s, %s + interval '1 h', %s, %s, %s)",
            rows,
        )


def test_two_thousand_open_incidents_are_read_by_three_statements(city: City, app_database: Database) -> None:
    """However many incidents: one statement for them, one for the categories, one for what to expect of such."""
    fill(city, 2000)
    statements = []
    with app_database.transaction("3301") as connection:
        honest = connection.cursor

        def count(*args, **kwargs):
            statements.append(1)
            return honest(*args, **kwargs)

        connection.cursor = count  # type: ignore[method-assign]
        found = read_incidents(connection, now=city.now)
    assert len(found) == 2000
    assert len(statements) == 3
    assert [i["id"] for i in found] == sorted((i["id"] for i in found), reverse=True)
