"""The SQL of what hangs on an incident beside its state: verification, suspension, extension, appeal, summons, kin."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from dispatch.calendar import Pause
from kernel.db import Connection
from kernel.ids import new_id

# ------------------------------------------------------------------------------------------------ verification


def ask_verification(
    connection: Connection, incident_id: UUID, user_id: UUID, by: UUID | None, now: datetime, answer_by: datetime
) -> None:
    """Somebody is asked to look; whoever was asked before need not."""
    end_verification(connection, incident_id, None, None, "", now)
    connection.execute(
        "INSERT INTO verification (id, incident_id, user_id, asked_by, asked_at, answer_by) VALUES (%s, %s, %s, %s, %s, %s)",
        (new_id(now), incident_id, user_id, by, now, answer_by),
    )


def end_verification(
    connection: Connection, incident_id: UUID, found: bool | None, evidence_id: UUID | None, note: str, now: datetime
) -> None:
    """The open question has its answer, or none is needed any more."""
    connection.execute(
        "UPDATE verification SET ended_at = %s, found = %s, evidence_id = %s, note = %s"
        " WHERE incident_id = %s AND ended_at IS NULL",
        (now, found, evidence_id, note, incident_id),
    )


# ------------------------------------------------------------------------------------------------ time


def begin_suspension(connection: Connection, incident_id: UUID, until: datetime, reason: str, now: datetime) -> None:
    """The clock stands from now on."""
    connection.execute(
        "INSERT INTO suspension (id, incident_id, from_at, until_at, reason) VALUES (%s, %s, %s, %s, %s)",
        (new_id(now), incident_id, now, until, reason),
    )


def end_suspension(connection: Connection, incident_id: UUID, at: datetime) -> None:
    """The clock runs again since then."""
    connection.execute(
        "UPDATE suspension SET ended_at = greatest(%s, from_at) WHERE incident_id = %s AND ended_at IS NULL",
        (at, incident_id),
    )


def read_pauses(connection: Connection, incident_id: UUID) -> list[Pause]:
    """The spans that the limit's clock stood and that are over."""
    rows = connection.execute(
        "SELECT from_at, ended_at FROM suspension WHERE incident_id = %s AND ended_at > from_at ORDER BY from_at",
        (incident_id,),
    ).fetchall()
    return [Pause(from_at=from_at, until_at=ended_at) for from_at, ended_at in rows]


def ask_extension(connection: Connection, incident_id: UUID, by: UUID | None, reason: str, now: datetime) -> None:
    """More time is asked for."""
    connection.execute(
        "INSERT INTO extension (id, incident_id, asked_by, asked_at, reason, state) VALUES (%s, %s, %s, %s, %s, 'asked')",
        (new_id(now), incident_id, by, now, reason),
    )


def decide_extension(
    connection: Connection,
    incident_id: UUID,
    state: str,
    value: float | None,
    by: UUID | None,
    answer: str,
    now: datetime,
) -> UUID | None:
    """The open request is granted, refused or lapsed; who had asked."""
    row = connection.execute(
        "UPDATE extension SET state = %s, value = %s, decided_by = %s, decided_at = %s, answer = %s"
        " WHERE incident_id = %s AND state = 'asked' RETURNING asked_by",
        (state, value, by, now, answer, incident_id),
    ).fetchone()
    return row[0] if row else None


def read_original(connection: Connection, incident_id: UUID) -> float | None:
    """What the rule gives without extensions, in the limit's unit; None while no limit runs."""
    row = connection.execute("SELECT limit_base FROM incident WHERE id = %s", (incident_id,)).fetchone()
    return row[0] if row else None


# ------------------------------------------------------------------------------------------------ appeal and summons


def ask_appeal(connection: Connection, incident_id: UUID, by: UUID | None, reason: str, now: datetime) -> None:
    """Somebody appeals: once."""
    connection.execute(
        "INSERT INTO appeal (id, incident_id, asked_by, asked_at, reason, state) VALUES (%s, %s, %s, %s, %s, 'asked')",
        (new_id(now), incident_id, by, now, reason),
    )


def decide_appeal(
    connection: Connection, incident_id: UUID, state: str, by: UUID | None, answer: str, now: datetime
) -> UUID | None:
    """The appeal is accepted or rejected; who had appealed."""
    row = connection.execute(
        "UPDATE appeal SET state = %s, decided_by = %s, decided_at = %s, answer = %s WHERE incident_id = %s RETURNING asked_by",
        (state, by, now, answer, incident_id),
    ).fetchone()
    return row[0] if row else None


def insert_summons(
    connection: Connection,
    incident_id: UUID,
    user_id: UUID,
    by: UUID | None,
    check_in_by: datetime,
    reason: str,
    now: datetime,
) -> bool:
    """Summon somebody; again only moves the time for whoever has not checked in. False when they have."""
    row = connection.execute(
        """
        INSERT INTO summons (id, incident_id, user_id, summoned_by, summoned_at, check_in_by, reason)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (incident_id, user_id) DO UPDATE SET check_in_by = excluded.check_in_by, reason = excluded.reason,
            summoned_by = excluded.summoned_by
        WHERE summons.checked_in_at IS NULL RETURNING id
        """,
        (new_id(now), incident_id, user_id, by, now, check_in_by, reason),
    ).fetchone()
    return row is not None


def check_in(
    connection: Connection, incident_id: UUID, user_id: UUID, lon: float, lat: float, distance_m: float, now: datetime
) -> bool:
    """Whoever was summoned is there. False when they had checked in before, which stays as it was."""
    row = connection.execute(
        "UPDATE summons SET checked_in_at = %s, lon = %s, lat = %s, distance_m = %s"
        " WHERE incident_id = %s AND user_id = %s AND checked_in_at IS NULL RETURNING id",
        (now, lon, lat, distance_m, incident_id, user_id),
    ).fetchone()
    return row is not None


def rate_summons(
    connection: Connection, incident_id: UUID, user_id: UUID, score: int, by: UUID | None, remark: str, now: datetime
) -> bool:
    """How whoever was summoned did, 1 to 5; again changes it. False when they were not summoned."""
    row = connection.execute(
        "UPDATE summons SET score = %s, rated_by = %s, rated_at = %s, remark = %s"
        " WHERE incident_id = %s AND user_id = %s RETURNING id",
        (score, by, now, remark, incident_id, user_id),
    ).fetchone()
    return row is not None


# ------------------------------------------------------------------------------------------------ kin


def has_open_children(connection: Connection, incident_id: UUID) -> bool:
    """Asked again when the incident is held: what a lock waited for is not in the row that was read with it."""
    query = "SELECT count(*) FROM incident WHERE parent_id = %s AND state NOT IN ('closed', 'void')"
    return _count_everywhere(connection, query, incident_id) > 0


def has_children(connection: Connection, incident_id: UUID) -> bool:
    """Asked again for the same reason, whether they are open or not."""
    return _count_everywhere(connection, "SELECT count(*) FROM incident WHERE parent_id = %s", incident_id) > 0


def _count_everywhere(connection: Connection, query: LiteralString, incident_id: UUID) -> int:
    """A number from all areas: what the transaction's scope hides belongs to the incident all the same."""
    scope = connection.execute("SELECT current_setting('gw.scope', true)").fetchone()
    connection.execute("SELECT set_config('gw.scope', '*', true)")  # a failure takes it back with the savepoint
    row = connection.execute(query, (incident_id,)).fetchone()
    connection.execute("SELECT set_config('gw.scope', %s, true)", ((scope and scope[0]) or "",))
    return int(row[0]) if row else 0


def adopt_reports(connection: Connection, incident_id: UUID, target_id: UUID) -> None:
    """Incidents merged into this one are now merged into the target; the target counts their reports."""
    connection.execute("UPDATE incident SET merged_into = %s WHERE merged_into = %s", (target_id, incident_id))


def move_reports(connection: Connection, incident_id: UUID, report_ids: Sequence[UUID], target_id: UUID) -> int:
    """These reports of the incident belong to another one from now on; how many there were."""
    return connection.execute(
        "UPDATE report SET incident_id = %s WHERE incident_id = %s AND id = ANY (%s)",
        (target_id, incident_id, list(report_ids)),
    ).rowcount


def count_reports(connection: Connection, incident_id: UUID) -> int:
    """How many reports the incident has itself."""
    return _count_everywhere(connection, "SELECT count(*) FROM report WHERE incident_id = %s", incident_id)


def read_report_count(connection: Connection, incident_id: UUID) -> int:
    """How many reports the incident counts, with those of what was merged into it."""
    row = connection.execute("SELECT report_count FROM incident WHERE id = %s", (incident_id,)).fetchone()
    return int(row[0]) if row else 0


def insert_split(
    connection: Connection, incident_id: UUID, source_id: UUID, report_ids: Sequence[UUID], now: datetime
) -> None:
    """A new incident like the source, at the place of the first of these reports, with nothing of the source's life: what
    was not filed yet waits for an operator.

    Its cause has a name of its own, so that what is reported there later still joins the source.
    """
    connection.execute(
        """
        INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, place, lon, lat,
                              opened_at, cover_id, split_from, condition, needs_operator, proposal)
        SELECT %(id)s, %(number)s, s.category, min(r.severity) OVER (), 'reported', s.dedup_key || '/' || %(number)s,
               r.cell_code, r.area_code, s.place, r.lon, r.lat, %(now)s, r.evidence_ids[1], s.id, s.condition,
               CASE WHEN s.state = 'reported' THEN 'verify' END, CASE WHEN s.state = 'reported' THEN jsonb_build_object(
                   'action', 'file', 'reasons', jsonb_build_array(jsonb_build_object('code', 'verify_first', 'source', r.source))) END
        FROM incident s JOIN report r ON r.incident_id = s.id AND r.id = ANY (%(reports)s)
        WHERE s.id = %(source)s ORDER BY r.received_at, r.id LIMIT 1
        """,
        {
            "id": incident_id, "number": str(incident_id), "source": source_id, "reports": list(report_ids), "now": now,
        },
    )  # fmt: skip


def read_unnumbered(connection: Connection, source_id: UUID) -> list[UUID]:
    """Incidents split from this one that have no number yet."""
    rows = connection.execute(
        "SELECT id FROM incident WHERE split_from = %s AND number = id::text ORDER BY id", (source_id,)
    ).fetchall()
    return [row[0] for row in rows]
