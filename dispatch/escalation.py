"""Smoke in a home: the resident is told, then the neighbour, then the community, until somebody answers; and last, or
when there is no gateway to tell them by, a grid worker of the cell. The incident's own dispatch goes on beside it.

Each contact is one `notice`; `plan` decides, `escalate` writes, `deliver_notices` (dispatch/notice.py) calls the gateway.
Every step stands in the incident's log.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from dispatch import store
from dispatch.model import Actor, Happening, Incident, PushKind
from dispatch.outbox import queue_push
from kernel.db import Connection
from kernel.ids import new_id
from kernel.settings import Settings
from kernel.types import IncidentState

log = logging.getLogger(__name__)
CHANNEL = "gw_notice"  # NOTIFY: a notice waits for the gateway
ESCALATION = Actor(user_id=None, name="escalation")
_LAST = 100  # place of the grid worker, behind every contact


class NoticeState(StrEnum):
    """How one step stands."""

    WAITING = "waiting"  # its turn has not come
    DUE = "due"  # to be told now
    SENT = "sent"  # the gateway, or the outbox, took it
    FAILED = "failed"
    SKIPPED = "skipped"  # somebody answered before


class Answer(StrEnum):
    """What somebody who was told said."""

    SAFE = "safe"
    HELP = "help"


class Outcome(StrEnum):
    """How an escalation ended."""

    SAFE = "safe"
    HELPED = "helped"  # help was asked for, and everybody was told
    UNANSWERED = "unanswered"
    INCIDENT_ENDED = "incident_ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One step: a contact, or with `contact_id` None the grid workers of the cell."""

    id: UUID
    position: int
    role: str
    contact_id: UUID | None
    state: NoticeState
    due_at: datetime | None = None
    sent_at: datetime | None = None
    answer: Answer | None = None

    def __post_init__(self) -> None:
        """State and answer as they come from the database are text."""
        object.__setattr__(self, "state", NoticeState(self.state))
        object.__setattr__(self, "answer", Answer(self.answer) if self.answer is not None else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to do now: whom to tell, whom to give up on, when to look again, or how it ended."""

    tell: tuple[Notice, ...] = ()
    give_up: tuple[Notice, ...] = ()  # not told in time
    next_at: datetime | None = None
    outcome: Outcome | None = None


def plan(notices: Sequence[Notice], *, step: timedelta, now: datetime) -> Plan:
    """The next move of an escalation whose incident is open. Pure.

    Somebody who asks for help speeds it up: everybody left is told at once. Somebody who is safe ends it. Else the next
    one is told when the one before has not answered for `step`, or could not be told.
    """
    ordered = sorted(notices, key=lambda n: n.position)
    waiting = tuple(n for n in ordered if n.state is NoticeState.WAITING)
    answers = {n.answer for n in ordered}
    if Answer.HELP in answers:
        if waiting:
            return Plan(tell=waiting, next_at=now + step)
        pending = [n for n in ordered if n.state is NoticeState.DUE and n.due_at is not None and n.due_at + step > now]
        return Plan(next_at=now + step) if pending else Plan(outcome=Outcome.HELPED)
    if Answer.SAFE in answers:
        return Plan(outcome=Outcome.SAFE)
    told = [n for n in ordered if n.state in (NoticeState.DUE, NoticeState.SENT)]
    current = told[-1] if told else None
    since = (current.sent_at or current.due_at) if current is not None else None
    if since is not None and since + step > now:
        return Plan(next_at=since + step)
    late = tuple(n for n in told if n.state is NoticeState.DUE)
    if waiting:
        return Plan(tell=waiting[:1], give_up=late, next_at=now + step)
    return Plan(give_up=late, outcome=Outcome.UNANSWERED)


# ------------------------------------------------------------------------------------------------ rounds


def escalate(connection: Connection, now: datetime, settings: Settings, limit: int = 200) -> int:
    """Begin what is new and move on what is due, in this transaction; how many escalations were touched."""
    touched = 0
    for incident_id, device_id in _find_new(connection, settings, limit):
        touched += _start(connection, incident_id, device_id, now)
    due = connection.execute(
        "SELECT incident_id FROM escalation WHERE ended_at IS NULL AND next_at <= %s ORDER BY next_at LIMIT %s"
        " FOR UPDATE SKIP LOCKED",
        (now, limit),
    ).fetchall()
    for (incident_id,) in due:
        _advance(connection, incident_id, now, settings)
    return touched + len(due)


def _find_new(connection: Connection, settings: Settings, limit: int) -> list[tuple[UUID, UUID]]:
    """Open incidents of homes for which nobody was called yet, with the device that said so first."""
    rows = connection.execute(
        """
        SELECT DISTINCT ON (i.id) i.id, r.device_id
        FROM incident i JOIN report r ON r.incident_id = i.id JOIN device d ON d.id = r.device_id
        WHERE i.category = ANY (%(categories)s) AND i.state NOT IN ('closed', 'void')
          AND NOT EXISTS (SELECT FROM escalation e WHERE e.incident_id = i.id)
          AND (d.in_home OR EXISTS (SELECT FROM home_contact c WHERE c.device_id = d.id))
        ORDER BY i.id, r.received_at, r.id LIMIT %(limit)s
        """,
        {"categories": list(settings.escalation.categories), "limit": limit},
    ).fetchall()
    return [(incident_id, device_id) for incident_id, device_id in rows]


def _start(connection: Connection, incident_id: UUID, device_id: UUID, now: datetime) -> bool:
    """One step for each contact and the last for the grid worker; False when another worker began it."""
    row = connection.execute(
        "INSERT INTO escalation (incident_id, device_id, started_at, next_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING 1",
        (incident_id, device_id, now, now),
    ).fetchone()
    if row is None:
        return False
    contacts = connection.execute(
        "SELECT id, role, position FROM home_contact WHERE device_id = %s ORDER BY position", (device_id,)
    ).fetchall()
    steps = [(new_id(now), incident_id, position, role, contact_id) for contact_id, role, position in contacts]
    steps.append((new_id(now), incident_id, _LAST, "grid_worker", None))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO notice (id, incident_id, position, role, contact_id, state) VALUES (%s, %s, %s, %s, %s, 'waiting')",
            steps,
        )
    return True


def _advance(connection: Connection, incident_id: UUID, now: datetime, settings: Settings) -> None:
    """Move one escalation, whose row is locked, as far as it can go now."""
    incident = store.find_incident(connection, incident_id)
    assert incident is not None  # the escalation's foreign key
    if incident.state in (IncidentState.CLOSED, IncidentState.VOID):
        _end(connection, incident_id, Outcome.INCIDENT_ENDED, now)
        return
    step = timedelta(seconds=settings.escalation.step_s)
    for _ in range(_LAST):  # steps that fail at once are gone through at once; there are fewer than this
        move = plan(read_notices(connection, incident_id), step=step, now=now)
        for notice in move.give_up:
            fail_notice(connection, incident.id, notice, "timed_out", now)
        if move.outcome is not None:
            _end(connection, incident_id, move.outcome, now)
            return
        if not move.tell:
            break
        told = [_tell(connection, incident, notice, now, settings) for notice in move.tell]
        if all(told):
            break
    next_at = move.next_at or now + step
    connection.execute("UPDATE escalation SET next_at = %s WHERE incident_id = %s", (next_at, incident_id))


def _tell(connection: Connection, incident: Incident, notice: Notice, now: datetime, settings: Settings) -> bool:
    """Have somebody told; False when that cannot be."""
    if notice.contact_id is None:
        return _tell_grid_workers(connection, incident, notice, now)
    if not settings.escalation.url:
        fail_notice(connection, incident.id, notice, "no_gateway", now)
        return False
    connection.execute(
        "UPDATE notice SET state = 'due', due_at = %s, next_attempt_at = %s WHERE id = %s", (now, now, notice.id)
    )
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return True


def _tell_grid_workers(connection: Connection, incident: Incident, notice: Notice, now: datetime) -> bool:
    """Push to those of the cell's grid who are on duty; whoever has the incident already knows."""
    rows = connection.execute(
        """
        SELECT u.id FROM app_user u JOIN grid_cell c ON c.responsibility_grid_code = u.responsibility_grid_code
        WHERE c.code = %(cell)s AND 'grid_worker' = ANY (u.roles) AND u.on_duty AND NOT u.disabled
          AND (u.scope = '*' OR %(area)s::text ^@ ANY (string_to_array(u.scope, ',')))
        ORDER BY u.id
        """,
        {"cell": incident.cell_code, "area": incident.area_code},
    ).fetchall()
    people = {user_id for (user_id,) in rows}
    for user_id in sorted(people - {incident.assignee_id}):
        queue_push(connection, PushKind.NOTICE, user_id, incident, incident.due_at, now)
    if incident.assignee_id is not None:
        people.add(incident.assignee_id)
    if not people:
        fail_notice(connection, incident.id, notice, "nobody_on_duty", now)
        return False
    connection.execute(
        "UPDATE notice SET state = 'sent', due_at = %s, sent_at = %s WHERE id = %s", (now, now, notice.id)
    )
    log_step(connection, incident.id, notice, ESCALATION, now, state="sent", people=len(people))
    return True


def fail_notice(connection: Connection, incident_id: UUID, notice: Notice, error: str, now: datetime) -> None:
    """Nobody was reached by this step; the escalation goes on."""
    connection.execute(
        "UPDATE notice SET state = 'failed', error = %s, due_at = coalesce(due_at, %s), next_attempt_at = NULL WHERE id = %s",
        (error, now, notice.id),
    )
    log_step(connection, incident_id, notice, ESCALATION, now, state="failed", error=error)


def _end(connection: Connection, incident_id: UUID, outcome: Outcome, now: datetime) -> None:
    connection.execute(
        "UPDATE notice SET state = 'skipped' WHERE incident_id = %s AND state IN ('waiting', 'due')", (incident_id,)
    )
    connection.execute(
        "UPDATE escalation SET ended_at = %s, outcome = %s WHERE incident_id = %s", (now, outcome, incident_id)
    )
    log.info("escalation ended", extra={"incident_id": incident_id, "outcome": outcome})


def log_step(
    connection: Connection, incident_id: UUID, notice: Notice, actor: Actor, now: datetime, **detail: Any
) -> Incident:
    """Into the incident's log: the role and what became of it, never a name or a number. The incident as it is then."""
    incident = store.lock_incident(connection, incident_id)
    assert incident is not None  # the escalation's foreign key
    version = incident.version + 1
    store.write_incident(connection, incident.id, version, {})
    store.log_event(
        connection, incident, action=Happening.NOTICE, from_state=incident.state, to_state=incident.state, actor=actor,
        version=version, now=now, detail={"role": notice.role, "position": notice.position, **detail},
    )  # fmt: skip
    store.note_incident(connection, incident, (), now)
    return incident


# ------------------------------------------------------------------------------------------------ answers


def take_answer(connection: Connection, notice_id: UUID, answer: Answer, keep: timedelta, now: datetime) -> bool:
    """What somebody who was told says. The first word counts, except that help may be asked for after "safe".

    False when the notice is unknown or was sent longer ago than `keep`. Help that is asked for after the end of the
    escalation begins it anew. The incident goes on either way: a person checks its closure.
    """
    row = connection.execute("SELECT incident_id FROM notice WHERE id = %s", (notice_id,)).fetchone()
    if row is None:
        return False
    incident_id: UUID = row[0]
    ended = connection.execute(
        "SELECT ended_at IS NOT NULL FROM escalation WHERE incident_id = %s FOR UPDATE", (incident_id,)
    ).fetchone()
    notice = next(n for n in read_notices(connection, incident_id) if n.id == notice_id)
    told_at = notice.sent_at or notice.due_at
    if told_at is None or now - told_at > keep:
        return False
    if notice.answer is answer or notice.answer is Answer.HELP:
        return True
    connection.execute("UPDATE notice SET answer = %s, answered_at = %s WHERE id = %s", (answer, now, notice_id))
    person = Actor(user_id=None, name=notice.role)
    incident = log_step(connection, incident_id, notice, person, now, state="answered", answer=str(answer))
    over = incident.state in (IncidentState.CLOSED, IncidentState.VOID)
    if answer is Answer.HELP and ended == (True,) and not over:
        connection.execute(
            "UPDATE notice SET state = 'waiting' WHERE incident_id = %s AND state = 'skipped'", (incident_id,)
        )
        connection.execute(
            "UPDATE escalation SET ended_at = NULL, outcome = NULL WHERE incident_id = %s", (incident_id,)
        )
    connection.execute("UPDATE escalation SET next_at = %s WHERE incident_id = %s", (now, incident_id))
    return True


def read_notices(connection: Connection, incident_id: UUID) -> list[Notice]:
    """The steps of an escalation, in order."""
    with connection.cursor(row_factory=class_row(Notice)) as cursor:
        return cursor.execute(
            "SELECT id, position, role, contact_id, state, due_at, sent_at, answer FROM notice WHERE incident_id = %s"
            " ORDER BY position",
            (incident_id,),
        ).fetchall()
