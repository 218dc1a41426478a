"""Look-alikes: incidents that may be the same, for the operator who decides whether to merge them."""

import math
from datetime import timedelta
from uuid import UUID

from psycopg.rows import dict_row

from dispatch.model import ActionRefused, JsonObject
from dispatch.policy import distance_m
from dispatch.shape import text_of
from kernel.db import Connection

NEAR_M = 50.0
WITHIN = timedelta(days=14)
_MOST = 20


def read_similar(connection: Connection, incident_id: UUID) -> list[JsonObject]:
    """Incidents of the same category within 50 m, opened at most 14 days apart, whatever became of them; nearest first.

    What the transaction's scope hides is not among them. Raises ActionRefused: unknown_incident.
    """
    row = connection.execute("SELECT lon, lat FROM incident WHERE id = %s", (incident_id,)).fetchone()
    if row is None:
        raise ActionRefused("unknown_incident")
    lon, lat = row
    lat_reach = NEAR_M / 110_000
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            """
            SELECT k.id, k.number, k.state, k.category, k.place, k.lon, k.lat, k.opened_at, k.ended_at, k.report_count,
                   k.cover_id AS cover
            FROM incident i JOIN incident k ON k.category = i.category AND k.id <> i.id AND k.merged_into IS NULL
              AND k.opened_at BETWEEN i.opened_at - %(within)s AND i.opened_at + %(within)s
              AND k.lat BETWEEN i.lat - %(lat_reach)s AND i.lat + %(lat_reach)s
              AND k.lon BETWEEN i.lon - %(lon_reach)s AND i.lon + %(lon_reach)s
            WHERE i.id = %(id)s ORDER BY k.id DESC LIMIT 500
            """,
            {
                "id": incident_id, "within": WITHIN, "lat_reach": lat_reach,
                "lon_reach": lat_reach / max(0.05, math.cos(math.radians(lat))),
            },
        ).fetchall()  # fmt: skip
    near = []
    for one in found:
        away_m = distance_m(lon, lat, one.pop("lon"), one.pop("lat"))
        if away_m <= NEAR_M:
            near.append({name: text_of(value) for name, value in one.items()} | {"distance_m": round(away_m, 1)})
    return sorted(near, key=lambda one: float(one["distance_m"]))[:_MOST]
