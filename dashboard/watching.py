"""What the wall is told about the watching: which detector, how many cameras, and whether it keeps up."""

from datetime import datetime, timedelta
from pathlib import Path

from dashboard.store import JsonObject
from kernel.db import Connection
from vision.registry import is_rendered_only

_STALE = timedelta(seconds=15)
"""Cameras tell their figures every second; older ones say nothing about now."""


def summarise_vision(connection: Connection, model: Path | None, now: datetime) -> JsonObject:
    """{"model", "rendered_only", "cameras", "looks_per_s", "skipped_fps"} of the cameras in the transaction's scope.

    `looks_per_s` is None while no camera tells anything: nothing is watched.
    """
    row = connection.execute(
        """
        SELECT count(*), sum((s.metrics #>> '{looks_per_s,value}')::float8),
               sum((s.metrics #>> '{skipped_fps,value}')::float8)
        FROM device d JOIN device_state s ON s.device_id = d.id
        WHERE d.enabled AND d.kind = 'camera' AND (s.metrics #>> '{looks_per_s,at}')::timestamptz > %s
        """,
        (now - _STALE,),
    ).fetchone()
    cameras, looks_per_s, skipped_fps = row if row else (0, None, None)
    return {
        "model": model.name if model is not None else None,
        "rendered_only": model is not None and is_rendered_only(model),
        "cameras": cameras,
        "looks_per_s": None if looks_per_s is None else round(looks_per_s, 2),
        "skipped_fps": round(skipped_fps or 0.0, 2),
    }
