"""Who did what, append-only: the table `audit`. Secrets never go into `detail`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from kernel.db import Connection
from kernel.ids import new_id


def write_audit(
    connection: Connection,
    now: datetime,
    *,
    actor: str,
    action: str,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one line in the caller's transaction. `actor`: a person's name, or the part of the system that acted."""
    connection.execute(
        "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES (%s, %s, %s, %s, %s, %s)",
        (new_id(now), now, actor, action, subject, Jsonb(dict(detail or {}))),
    )
