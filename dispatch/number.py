"""Incident numbers: yyyymmdd-nnnnnn by the city's date, without gaps.

The day's counter is locked when a number is drawn and until the transaction ends. So numbers are drawn last, when
everything else of the transaction is written: nobody holds the counter while waiting for an incident.
"""

from datetime import datetime
from uuid import UUID

from kernel.clock import to_local
from kernel.db import Connection


def number_incidents(connection: Connection, incident_ids: list[UUID], now: datetime, timezone: str) -> dict[UUID, str]:
    """Give the day's next numbers to these incidents, in this order, at the end of their transaction."""
    if not incident_ids:
        return {}
    day = to_local(now, timezone).date()
    row = connection.execute(
        """
        INSERT INTO incident_counter (day, last) VALUES (%(day)s, %(count)s)
        ON CONFLICT (day) DO UPDATE SET last = incident_counter.last + %(count)s RETURNING last
        """,
        {"day": day, "count": len(incident_ids)},
    ).fetchone()
    assert row is not None  # an upsert returns its row
    first = int(row[0]) - len(incident_ids) + 1
    numbers = {incident_id: f"{day:%Y%m%d}-{first + k:06d}" for k, incident_id in enumerate(incident_ids)}
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE incident SET number = %s WHERE id = %s", [(n, i) for i, n in numbers.items()])
    return numbers
