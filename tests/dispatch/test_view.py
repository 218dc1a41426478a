"""Reading many incidents."""

import time

from psycopg.types.json import Jsonb

from dispatch.store import read_incidents
from kernel.db import Database
from kernel.ids import new_id
from kernel.types import Role
from tests.dispatch.build import SOUTH, City, cell_code


def fill(city: City, count: int) -> None:
    worker = city.add_person("网格员甲", Role.GRID_WORKER)
    with city.database.transaction() as connection, connection.cursor() as cursor:
        rows, reports = [], []
        for k in range(count):
            incident_id = new_id(city.now)
            rows.append(
                (
                    incident_id, f"20261120-{k:06d}", f"bin_overflow:{k}", cell_code(k % 4, 0), SOUTH, 120.17, 30.28,
                    city.now, city.now, city.now, city.now, worker.user_id,
                    Jsonb({"action": "check", "reasons": [{"code": "named_person"}]}),
                )
            )  # fmt: skip
            reports += [(new_id(city.now), f"r{k}-{n}", incident_id, [new_id(city.now)], city.now) for n in range(3)]
        cursor.executemany(
            "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat,"
            " opened_at, filed_at, limit_from, due_at, assignee_id, proposal)"
            " VALUES (%s, %s, 'bin_overflow', 3, 'accepted', %s, %s, %s, %s, %s, %s, %s, %s, %s + interval '1 h', %s, %s)",
            rows,
        )
        cursor.executemany(
            "INSERT INTO report (id, source, source_key, category, lon, lat, source_crs, severity, incident_id, evidence_ids,"
            " occurred_at, received_at, taken_at) VALUES (%s, 'operator', %s, 'bin_overflow', 120.17, 30.28, 'EPSG:4490', 3,"
            " %s, %s, %s, '2026-11-20T08:00Z', '2026-11-20T08:00Z')",
            reports,
        )
    with city.database.transaction() as connection:
        connection.execute("SELECT count(*) FROM incident")


def test_two_thousand_open_incidents_are_read_by_two_statements(city: City, app_database: Database) -> None:
    """However many incidents: one statement for them, one for the categories. The time is for whoever looks with -s."""
    fill(city, 2000)
    statements = []
    with app_database.transaction("3301") as connection:
        honest = connection.cursor

        def count(*args, **kwargs):
            statements.append(1)
            return honest(*args, **kwargs)

        connection.cursor = count  # type: ignore[method-assign]
        begun_s = time.perf_counter()
        found = read_incidents(connection, now=city.now)
        print(f"2,000 incidents in {(time.perf_counter() - begun_s) * 1000:.0f} ms")
    assert len(found) == 2000
    assert len(statements) == 2
    assert {i["cover"] is not None for i in found} == {True}
    assert [i["id"] for i in found] == sorted((i["id"] for i in found), reverse=True)
