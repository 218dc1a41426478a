"""Reports that people and other systems post: checked and placed before they go into the one intake."""

from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from dispatch.model import ActionRefused, Actor, JsonObject
from dispatch.schema import ReportIn
from grid.coordinates import CoordinateError, CrsError, check_crs, to_cgcs2000
from grid.locate import Locator
from grid.store import read_version
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Role, Source

_MAY_SAY = {
    Role.OPERATOR: (Source.OPERATOR, Source.HOTLINE, Source.CITIZEN, Source.SYSTEM),
    Role.ADMIN: (Source.OPERATOR, Source.HOTLINE, Source.CITIZEN, Source.SYSTEM),
    Role.GRID_WORKER: (Source.GRID_WORKER,),
    Role.HANDLING_DEPT: (Source.GRID_WORKER,),
}
_kept: Locator | None = None


def post_report(connection: Connection, form: ReportIn, actor: Actor, now: datetime) -> tuple[JsonObject, bool]:
    """Put a report into the intake; {"id", "incident_id"} and whether it is new. Dispatch takes it at once.

    Raises ActionRefused: source_not_allowed, unknown_category, unknown_crs, bad_position, outside_district,
    unknown_evidence.
    """
    source = _read_source(form, actor)
    lon, lat = _read_position(form)
    if connection.execute("SELECT FROM category WHERE id = %s", (form.category,)).fetchone() is None:
        raise ActionRefused("unknown_category", category=form.category)
    place = _locator(connection).locate(lon, lat)
    # Outside one's own scope is for the caller the same as outside the district: nobody there would see it.
    if place is None or not actor.sees(place.community_code):
        raise ActionRefused("outside_district", lon=lon, lat=lat)
    _check_evidence(connection, form)
    report_id = new_id(now)
    # The source stands in front, so that a person's key can never be a camera's.
    source_key = f"{source}:{form.source_key}" if form.source_key else f"{source}:{report_id}"
    detail = {name: text for name, text in (("note", form.note.strip()), ("place", form.place.strip())) if text}
    is_new = insert_report(
        connection,
        Report(
            id=report_id, source=source, source_key=source_key, category=form.category, lon=lon, lat=lat,
            source_crs=check_crs(form.crs), area_code=place.community_code, reporter_id=actor.user_id,
            evidence_ids=tuple(form.evidence_ids), detail=detail, occurred_at=now, received_at=now,
        ),
    )  # fmt: skip
    row = connection.execute("SELECT id, incident_id FROM report WHERE source_key = %s", (source_key,)).fetchone()
    if row is None:  # taken before by somebody whose area the actor does not see
        raise ActionRefused("outside_district", lon=lon, lat=lat)
    return {"id": str(row[0]), "incident_id": str(row[1]) if row[1] else None}, is_new


def _read_source(form: ReportIn, actor: Actor) -> Source:
    allowed = [source for role, sources in _MAY_SAY.items() if role in actor.roles for source in sources]
    if not allowed or (form.source is not None and form.source not in allowed):
        raise ActionRefused("source_not_allowed", source=form.source.value if form.source else None)
    return form.source or allowed[0]


def _read_position(form: ReportIn) -> tuple[float, float]:
    try:
        lon, lat = to_cgcs2000(form.lon, form.lat, form.crs)
    except CrsError:
        raise ActionRefused("unknown_crs", crs=form.crs) from None
    except CoordinateError:
        raise ActionRefused("bad_position") from None
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise ActionRefused("bad_position")
    return lon, lat


def _check_evidence(connection: Connection, form: ReportIn) -> None:
    wanted = set(form.evidence_ids)
    row = connection.execute("SELECT count(*) FROM evidence WHERE id = ANY (%s)", (list(wanted),)).fetchone()
    if row is None or row[0] != len(wanted):
        raise ActionRefused("unknown_evidence")


def _locator(connection: Connection) -> Locator:
    """The cells, kept until an import changes them. Threads that come together may load them twice: harmless."""
    global _kept
    if _kept is None or _kept.version != read_version(connection):
        _kept = Locator.load(connection)
    return _kept


def read_categories(connection: Connection) -> list[dict[str, Any]]:
    """Every category with codes, limits and checks, the most urgent first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            SELECT id, name_zh AS zh, name_en AS en, code, standard, older_standard, older_code, severity, limit_value,
                   limit_unit, limit_source, auto_file, auto_dispatch, dedup, check_kinds, named_person
            FROM category ORDER BY severity, standard, code
            """
        ).fetchall()
