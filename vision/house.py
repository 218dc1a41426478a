"""How long pictures, clips and originals are kept: deleted by rule, files and rows together, and never what is needed.

A row of evidence outlives its file: that there was a picture, its hash and when it went can be shown for ever. The file
goes first and the row is marked in the same transaction, so that a kill leaves at most a row whose picture is gone
already, which the next round marks.

Kept whatever their age: everything of an incident that is open, or that somebody holds (`evidence_hold`: an appeal, a
lawsuit), and of a report that has no incident yet.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg_pool import PoolTimeout

from kernel.db import Connection, Database
from kernel.settings import Settings

log = logging.getLogger(__name__)

HOUSE_S = 600.0
BATCH = 200
STRAY_AFTER = timedelta(days=1)
"""A file without a row is left so long to whoever may be writing it."""
_STRAY_DAYS = 3
"""How many days' folders are searched for such files each time; of the older ones another one each time."""
_OPENINGS_KEPT = timedelta(days=1)
_SUFFIXES = (".jpg", ".mp4")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Due:
    id: UUID
    path: str
    original: str | None


_NEEDED = """
    SELECT FROM report r LEFT JOIN incident i ON i.id = r.incident_id LEFT JOIN evidence_hold h ON h.incident_id = i.id
    WHERE r.evidence_ids @> ARRAY[e.id] AND (
        i.id IS NULL AND r.refusal IS NULL OR i.state NOT IN ('closed', 'void')
        OR h.incident_id IS NOT NULL AND (h.until_at IS NULL OR h.until_at > %(now)s))
"""
_NEEDED_BY_CHECK = """
    SELECT FROM check_request q JOIN incident i ON i.id = q.incident_id
    LEFT JOIN evidence_hold h ON h.incident_id = i.id
    WHERE q.evidence_id = e.id AND (i.state NOT IN ('closed', 'void')
        OR h.incident_id IS NOT NULL AND (h.until_at IS NULL OR h.until_at > %(now)s))
"""
_NEEDED_BY_HANDLING = """
    SELECT FROM incident i LEFT JOIN evidence_hold h ON h.incident_id = i.id
    WHERE i.id = (e.detail ->> 'handled_incident')::uuid AND (i.state NOT IN ('closed', 'void')
        OR h.incident_id IS NOT NULL AND (h.until_at IS NULL OR h.until_at > %(now)s))
"""
_FREE = f"NOT EXISTS ({_NEEDED}) AND NOT EXISTS ({_NEEDED_BY_CHECK}) AND NOT EXISTS ({_NEEDED_BY_HANDLING})"
_KEPT_DAYS = """
    coalesce((SELECT c.evidence_days FROM report r JOIN camera c ON c.device_id = r.device_id
              WHERE r.evidence_ids @> ARRAY[e.id] LIMIT 1),
             (SELECT c.evidence_days FROM check_request q JOIN camera c ON c.device_id = q.device_id
              WHERE q.evidence_id = e.id LIMIT 1), %(video_days)s)
"""
"""Of the camera that took it, where it says so."""


def keep_house(
    database: Database, settings: Settings, now: datetime, stopping: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """One round; how many files of each sort went. Any number of processes may do this at once."""
    done = {
        "originals": _repeat(database, lambda c: drop_originals(c, settings, now), stopping),
        "videos": _repeat(database, lambda c: drop_evidence(c, settings, now, video=True), stopping),
        "pictures": _repeat(database, lambda c: drop_evidence(c, settings, now, video=False), stopping),
    }
    with database.transaction("*") as connection:
        done["openings"] = connection.execute(
            "DELETE FROM evidence_opening WHERE expires_at < %s", (now - _OPENINGS_KEPT,)
        ).rowcount
    for folder, query in ((settings.evidence_dir, _KNOWN_SHOWN), (settings.originals_dir, _KNOWN_ORIGINALS)):
        done["strays"] = done.get("strays", 0) + drop_strays(database, folder, query, now)
    done = {name: count for name, count in done.items() if count}
    if done:
        log.info("kept house", extra=done)
    return done


def _repeat(database: Database, job: Callable[[Connection], int], stopping: Callable[[], bool]) -> int:
    total = 0
    while not stopping():
        with database.transaction("*") as connection:
            count = job(connection)
        total += count
        if count < BATCH:
            break
    return total


def drop_originals(connection: Connection, settings: Settings, now: datetime) -> int:
    """Delete what shows faces and plates and has been kept long enough; how many files went."""
    rows = connection.execute(
        f"""
        SELECT o.evidence_id, o.path FROM evidence_original o JOIN evidence e ON e.id = o.evidence_id
        WHERE o.kept_at < %(now)s - make_interval(days => 1)
          AND e.taken_at < %(now)s - make_interval(days => {_KEPT_DAYS}) AND {_FREE}
        ORDER BY e.taken_at LIMIT %(batch)s FOR UPDATE OF o SKIP LOCKED
        """,
        {"now": now, "batch": BATCH, "video_days": settings.evidence.video_days},
    ).fetchall()
    for evidence_id, path in rows:
        _unlink(settings.originals_dir, path)
        connection.execute("DELETE FROM evidence_original WHERE evidence_id = %s", (evidence_id,))
    return len(rows)


def drop_evidence(connection: Connection, settings: Settings, now: datetime, *, video: bool) -> int:
    """Delete shown clips (`video`) or pictures that have been kept long enough; how many files went."""
    days = _KEPT_DAYS if video else "%(picture_days)s"
    with connection.cursor(row_factory=class_row(_Due)) as cursor:
        due = cursor.execute(
            f"""
            SELECT e.id, e.path, (SELECT o.path FROM evidence_original o WHERE o.evidence_id = e.id) AS original
            FROM evidence e
            WHERE e.deleted_at IS NULL AND (e.kind = 'clip') = %(video)s
              AND e.taken_at < %(now)s - make_interval(days => {days}) AND {_FREE}
            ORDER BY e.taken_at LIMIT %(batch)s FOR UPDATE OF e SKIP LOCKED
            """,
            {
                "now": now,
                "video": video,
                "batch": BATCH,
                "video_days": settings.evidence.video_days,
                "picture_days": settings.evidence.picture_days,
            },
        ).fetchall()
    for one in due:
        _drop(connection, settings, one, now)
    return len(due)


def _drop(connection: Connection, settings: Settings, one: _Due, now: datetime) -> None:
    _unlink(settings.evidence_dir, one.path)
    for thumbnail in (settings.evidence_dir / "thumbnails").glob(f"{one.id}-*.jpg"):
        thumbnail.unlink(missing_ok=True)
    if one.original is not None:
        _unlink(settings.originals_dir, one.original)
        connection.execute("DELETE FROM evidence_original WHERE evidence_id = %s", (one.id,))
    connection.execute("UPDATE evidence SET deleted_at = %s WHERE id = %s", (now, one.id))
    connection.execute("UPDATE incident SET cover_id = NULL WHERE cover_id = %s", (one.id,))


def _unlink(folder: Path, relative: str) -> None:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"path {relative!r} leaves its folder")
    path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ files without rows

_KNOWN_SHOWN = "SELECT path FROM evidence WHERE path = ANY (%(paths)s) AND deleted_at IS NULL"
_KNOWN_ORIGINALS = """
    SELECT path FROM evidence_original WHERE path = ANY (%(paths)s)
    UNION ALL SELECT path FROM clip WHERE path = ANY (%(paths)s) AND state IN ('wanted', 'cut')
"""


def drop_strays(database: Database, folder: Path, query: LiteralString, now: datetime) -> int:
    """Delete files that no row knows: written by a process that was killed before its commit. The last days' each time, all
    others' in turn: housekeeping may have been away for long."""
    before_s = (now - STRAY_AFTER).timestamp()
    count = 0
    for where in _choose_days(folder, now):
        old = [path for path in _files_of(where) if _modified_s(path) < before_s]
        names = [str(path.relative_to(folder)) for path in old]
        if not names:
            continue
        with database.transaction("*") as connection:
            known = {row[0] for row in connection.execute(query, {"paths": names}).fetchall()}
        for path, name in zip(old, names, strict=True):
            if name not in known:
                path.unlink(missing_ok=True)
                count += 1
    return count


def _choose_days(folder: Path, now: datetime) -> list[Path]:
    """Folders of days, `<year>/<month>/<day>`, to be searched this time."""
    recent = [folder / f"{now.date() - timedelta(days=back):%Y/%m/%d}" for back in range(_STRAY_DAYS + 1)]
    older = sorted(set(folder.glob("[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]")) - set(recent))
    turn = [older[int(now.timestamp() // HOUSE_S) % len(older)]] if older else []
    return [where for where in (*recent, *turn) if where.is_dir()]


def _files_of(where: Path) -> list[Path]:
    found = [entry for entry in os.scandir(where) if entry.is_file()]
    # what begins with a dot was being written when its process was killed
    return [Path(entry.path) for entry in found if entry.name.endswith(_SUFFIXES) or entry.name.startswith(".")]


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def start_house(
    settings: Settings, database: Database, now: Callable[[], datetime], stop: threading.Event
) -> threading.Thread:
    """The thread of the vision role that deletes by rule, every ten minutes."""

    def run() -> None:
        while not stop.wait(5.0):
            try:
                keep_house(database, settings, now(), stop.is_set)
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
                log.warning("housekeeping put off: %s", str(error).strip())
            except Exception:  # the next round may do better; a thread that ends would keep for ever
                log.exception("housekeeping failed")
            if stop.wait(HOUSE_S):
                return

    thread = threading.Thread(target=run, name="vision-house", daemon=True)
    thread.start()
    return thread
