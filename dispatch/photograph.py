"""Photographs of handlings: read from the evidence store, judged (dispatch.proof), the judgement kept."""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
from psycopg.types.json import Jsonb

from dispatch import proof
from dispatch.model import Incident
from dispatch.proof import Gray, Proof, Shown
from kernel.db import Connection

_LOOK_BACK_DAYS = 400
_MOST_BYTES = 30 << 20


def judge_handling(
    connection: Connection, incident: Incident, folder: Path, now: datetime
) -> tuple[UUID, Proof] | None:
    """Judge the photograph of the newest handling and keep what comes of it; None when there is none to judge."""
    row = _read_handling(connection, incident.id)
    if row is None:
        return None
    evidence_id, path, taken_at, kept, handled_at, told, is_gone = row
    picture = None if is_gone else read_gray(folder, path)
    look = proof.hash_look(picture) if picture is not None else None
    first = None if picture is None else _read_first(connection, incident.id, folder)
    shown = Shown(
        taken_at=taken_at,
        camera_time=kept.get("camera_time"),
        offered_at=_read_offered(connection, incident.id),
        handled_at=handled_at,
        distance_m=told.get("distance_m"),
        accuracy_m=told.get("accuracy_m"),
        reused_in=_find_file(connection, evidence_id, kept.get("source_sha256")),
        looks_like=_find_look(connection, evidence_id, look, now),
        is_readable=picture is not None,
        is_even=picture is not None and proof.is_even(picture),
        is_report_picture=_is_report_picture(first, look),
        is_like_first=proof.is_like(picture, first) if picture is not None and first is not None else None,
    )
    judged = proof.judge(shown)
    _keep(connection, incident.id, evidence_id, judged, look, now)
    return evidence_id, judged


def keep_unreadable(connection: Connection, incident: Incident, now: datetime) -> tuple[UUID, Proof] | None:
    """The judging failed: keep that the photograph could not be read, and nothing else."""
    row = _read_handling(connection, incident.id)
    if row is None:
        return None
    judged = proof.judge_unreadable()
    _keep(connection, incident.id, row[0], judged, None, now)
    return row[0], judged


def _keep(
    connection: Connection, incident_id: UUID, evidence_id: UUID, judged: Proof, look: int | None, now: datetime
) -> None:
    connection.execute(
        "INSERT INTO handling_proof (evidence_id, incident_id, score, doubts, look, judged_at) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (evidence_id) DO NOTHING",
        (evidence_id, incident_id, judged.score, Jsonb(proof.quote(judged.doubts)), look, now),
    )


def _read_handling(connection: Connection, incident_id: UUID) -> tuple[Any, ...] | None:
    """The newest handling: its photograph's id, path, instant and detail, the handling's instant and detail, whether the
    file is gone."""
    return connection.execute(
        """
        SELECT e.id, e.path, e.taken_at, e.detail, v.at, v.detail, e.deleted_at IS NOT NULL
        FROM incident_event v JOIN evidence e ON e.id = (v.detail ->> 'evidence_id')::uuid
        WHERE v.incident_id = %s AND v.action = 'handle' ORDER BY (v.detail ->> 'version')::int DESC LIMIT 1
        """,
        (incident_id,),
    ).fetchone()


def read_gray(folder: Path, relative: str) -> Gray | None:
    """The picture in gray, at most about 2560 px wide as it was kept; None when it cannot be read."""
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2) if content else None
    except cv2.error:
        return None
    return None if decoded is None or min(decoded.shape) < 16 else np.asarray(decoded, dtype=np.uint8)


def _read_offered(connection: Connection, incident_id: UUID) -> datetime | None:
    row = connection.execute("SELECT offered_at FROM incident WHERE id = %s", (incident_id,)).fetchone()
    at: datetime | None = row[0] if row else None
    return at


def _read_first(connection: Connection, incident_id: UUID, folder: Path) -> Gray | None:
    """The first photograph that a person's report brought. A camera's view is not compared: the camera itself looks again."""
    row = connection.execute(
        "SELECT e.path FROM report r JOIN evidence e ON e.id = r.evidence_ids[1]"
        " WHERE r.incident_id = %s AND e.kind = 'photo' AND e.deleted_at IS NULL ORDER BY r.received_at, r.id LIMIT 1",
        (incident_id,),
    ).fetchone()
    return read_gray(folder, row[0]) if row else None


def _is_report_picture(first: Gray | None, look: int | None) -> bool:
    other = proof.hash_look(first) if first is not None and look is not None else None
    return other is not None and look is not None and proof.count_differing(look, other) <= proof.SAME_LOOK_BITS


def _find_file(connection: Connection, evidence_id: UUID, source_sha256: Any) -> str | None:
    """Number of an incident for which the very same file was shown under another name."""
    if not isinstance(source_sha256, str):
        return None
    row = connection.execute(
        "SELECT i.number FROM handling_proof p JOIN evidence e ON e.id = p.evidence_id JOIN incident i ON i.id = p.incident_id"
        " WHERE e.detail ->> 'source_sha256' = %s AND p.evidence_id <> %s LIMIT 1",
        (source_sha256, evidence_id),
    ).fetchone()
    return str(row[0]) if row else None


def _find_look(connection: Connection, evidence_id: UUID, look: int | None, now: datetime) -> str | None:
    """Number of an incident for which a picture of nearly this look was shown."""
    if look is None:
        return None
    row = connection.execute(
        """
        SELECT i.number FROM handling_proof p JOIN incident i ON i.id = p.incident_id
        WHERE p.look IS NOT NULL AND p.judged_at > %(now)s - %(days)s * interval '1 day' AND p.evidence_id <> %(evidence)s
          AND bit_count((p.look # %(look)s)::bit(64)) <= %(bits)s LIMIT 1
        """,
        {"now": now, "days": _LOOK_BACK_DAYS, "evidence": evidence_id, "look": look, "bits": proof.SAME_LOOK_BITS},
    ).fetchone()
    return str(row[0]) if row else None
