"""The one intake (一口子): whatever sensor, camera or person says goes through `insert_report`, and nothing else does."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from kernel.db import Connection
from kernel.types import Source

log = logging.getLogger(__name__)
CHANNEL = "gw_report"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Something wrong, as one source says it.

    `source_key` names the cause at its source (device, rule and episode; or a client's idempotency key): the same key
    twice is the same report. `lon`/`lat` are CGCS2000 degrees; `source_crs` remembers what they came in.
    """

    id: UUID
    source: Source
    source_key: str
    category: str
    lon: float
    lat: float
    occurred_at: datetime
    received_at: datetime
    severity: int | None = None  # None: the category's own
    source_crs: str = "EPSG:4490"
    device_id: UUID | None = None
    rule: str = ""
    zone: str = ""
    area_code: str = ""
    reporter_id: UUID | None = None
    evidence_ids: tuple[UUID, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


def insert_report(connection: Connection, report: Report) -> bool:
    """Store the report and wake dispatch; False when this `source_key` was taken before, which changes nothing.

    Raises psycopg.errors.ForeignKeyViolation for an unknown category, device or reporter.
    """
    row = connection.execute(
        """
        INSERT INTO report (id, source, source_key, category, device_id, rule, zone, lon, lat, source_crs, area_code,
                            severity, detail, evidence_ids, reporter_id, occurred_at, received_at)
        VALUES (%(id)s, %(source)s, %(source_key)s, %(category)s, %(device_id)s, %(rule)s, %(zone)s, %(lon)s, %(lat)s,
                %(source_crs)s, %(area_code)s,
                coalesce(%(severity)s, (SELECT severity FROM category WHERE id = %(category)s), 4),
                %(detail)s, %(evidence_ids)s, %(reporter_id)s, %(occurred_at)s, %(received_at)s)
        ON CONFLICT (source_key) DO NOTHING
        RETURNING pg_notify(%(channel)s, '')
        """,
        {
            "channel": CHANNEL,
            "id": report.id,
            "source": report.source,
            "source_key": report.source_key,
            "category": report.category,
            "device_id": report.device_id,
            "rule": report.rule,
            "zone": report.zone,
            "lon": report.lon,
            "lat": report.lat,
            "source_crs": report.source_crs,
            "area_code": report.area_code,
            "severity": report.severity,
            "detail": Jsonb(report.detail),
            "evidence_ids": list(report.evidence_ids),
            "reporter_id": report.reporter_id,
            "occurred_at": report.occurred_at,
            "received_at": report.received_at,
        },
    ).fetchone()
    if row is None:
        return False
    log.info("report taken", extra={"report_id": report.id, "category": report.category, "source": report.source})
    return True
