"""Handling units (处置单位): departments, contractors, property companies that an incident is given to, and what they answer.

A unit is asked while the incident is filed and waits. Whoever leads it accepts or refuses, and sends the crew; where a unit
assigns itself, the plan does (dispatch.progress). States change through dispatch.action alone; how far the unit is with an
incident is a fact of its own (`incident.unit_state`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from dispatch import store
from dispatch.action import perform
from dispatch.model import Action, ActionRefused, Actor, Happening, Incident, Inputs, JsonObject, OperatorNeed, PushKind
from dispatch.outbox import queue_push
from dispatch.view import read_incidents
from grid.duty import DutyQuestion, decide_duty
from grid.duty_store import read_duty_rules
from kernel.db import Connection
from kernel.ids import new_id
from kernel.types import IncidentState, Role


class UnitKind(StrEnum):
    """What sort of unit it is."""

    DEPARTMENT = "department"  # 专业部门
    CONTRACTOR = "contractor"  # 养护作业单位
    PROPERTY = "property"  # 物业
    VOLUNTEERS = "volunteers"
    ENFORCEMENT = "enforcement"


class UnitState(StrEnum):
    """How far a unit is with an incident."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class UnitError(Exception):
    """What was said of a unit or its people cannot be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A row of `unit`. `scope`: '*' or division-code prefixes."""

    id: UUID
    code: str
    name: str
    kind: str
    scope: str
    assigns_itself: bool
    disabled: bool

    def serves(self, area_code: str) -> bool:
        """Whether it handles what lies in this area."""
        return Actor(user_id=None, name=self.name, scope=self.scope).sees(area_code)


_UNIT = "SELECT id, code, name, kind, scope, assigns_itself, disabled FROM unit"


# ------------------------------------------------------------------------------------------------ units and their people


def write_unit(
    connection: Connection,
    code: str,
    name: str,
    kind: UnitKind,
    scope: str,
    now: datetime,
    *,
    assigns_itself: bool = False,
) -> UUID:
    """Add a unit, or change what is said of the one with this code."""
    row = connection.execute(
        """
        INSERT INTO unit (id, code, name, kind, scope, assigns_itself, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (code) DO UPDATE SET name = excluded.name, kind = excluded.kind, scope = excluded.scope,
            assigns_itself = excluded.assigns_itself RETURNING id
        """,
        (new_id(now), code, name, kind, scope, assigns_itself, now),
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def write_member(connection: Connection, code: str, user_name: str, *, leads: bool = False) -> None:
    """Make somebody one of the unit's people, or its head.

    Raises UnitError for an unknown unit or person, and for one who neither handles nor walks the grid.
    """
    unit = connection.execute("SELECT id FROM unit WHERE code = %s", (code,)).fetchone()
    user = connection.execute(
        "SELECT id, roles FROM app_user WHERE name = %s AND NOT disabled", (user_name,)
    ).fetchone()
    if unit is None or user is None:
        raise UnitError(
            f"没有处置单位 {code} / there is no unit {code}"
            if unit is None
            else f"没有 {user_name} / there is no {user_name}"
        )
    if not set(user[1]) & {Role.HANDLING_DEPT, Role.GRID_WORKER}:
        raise UnitError(f"{user_name} 不是处置人员 / {user_name} has no role handling_dept or grid_worker")
    connection.execute(
        "INSERT INTO unit_member (unit_id, user_id, leads) VALUES (%s, %s, %s)"
        " ON CONFLICT (unit_id, user_id) DO UPDATE SET leads = excluded.leads",
        (unit[0], user[0], leads),
    )


def read_units(connection: Connection, *, member_id: UUID | None = None) -> list[JsonObject]:
    """Units in the transaction's scope, or those of one person, with how many people and open incidents each has."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT u.id, u.code, u.name, u.kind, u.assigns_itself, coalesce(m.leads, false) AS leads,
                   (SELECT count(*) FROM unit_member x WHERE x.unit_id = u.id) AS people,
                   (SELECT count(*) FROM incident i WHERE i.unit_id = u.id AND i.state NOT IN ('closed', 'void')
                    AND i.unit_state <> 'refused') AS open_incidents
            FROM unit u LEFT JOIN unit_member m ON m.unit_id = u.id AND m.user_id = %(me)s
            WHERE NOT u.disabled AND (%(me)s::uuid IS NULL OR m.user_id IS NOT NULL) ORDER BY u.name, u.code
            """,
            {"me": member_id},
        ).fetchall()
    return [{**row, "id": str(row["id"])} for row in rows]


def read_page(connection: Connection, unit_id: UUID, actor: Actor, now: datetime) -> JsonObject:
    """A unit's own page: its people, and its open incidents as they read everywhere, those to be answered first.

    Raises ActionRefused: unknown_unit, not_your_unit.
    """
    unit = _find_unit(connection, unit_id)
    leads = _membership(connection, unit_id, actor)
    if leads is None and not actor.roles & {Role.OPERATOR, Role.ADMIN}:
        raise ActionRefused("not_your_unit")
    rows = connection.execute(
        "SELECT id, unit_state FROM incident WHERE unit_id = %s AND state NOT IN ('closed', 'void') AND unit_state <> 'refused'"
        " ORDER BY unit_state <> 'asked', due_at NULLS LAST, id",
        (unit_id,),
    ).fetchall()
    states = {str(row[0]): row[1] for row in rows}
    views = {view["id"]: view for view in read_incidents(connection, now=now, ids=[row[0] for row in rows])}
    with connection.cursor(row_factory=dict_row) as cursor:
        people = cursor.execute(
            """
            SELECT u.id, u.display_name AS name, u.on_duty, m.leads,
                   (SELECT count(*) FROM incident i WHERE i.assignee_id = u.id
                    AND i.state IN ('dispatched', 'accepted', 'on_site')) AS open_tasks
            FROM unit_member m JOIN app_user u ON u.id = m.user_id WHERE m.unit_id = %s AND NOT u.disabled
            ORDER BY m.leads DESC, u.display_name, u.id
            """,
            (unit_id,),
        ).fetchall()
    return {
        "id": str(unit.id), "code": unit.code, "name": unit.name, "kind": unit.kind, "leads": bool(leads),
        "people": [{**row, "id": str(row["id"])} for row in people],
        "incidents": [{"unit_state": state, "incident": views[key]} for key, state in states.items() if key in views],
    }  # fmt: skip


def suggest_units(connection: Connection, incident_id: UUID) -> list[JsonObject]:
    """Units that handle there; first the one that the duty rules name (by category and place), with `by_rule`.

    Raises ActionRefused: unknown_incident.
    """
    incident = store.find_incident(connection, incident_id)
    if incident is None:
        raise ActionRefused("unknown_incident")
    question = DutyQuestion(category=incident.category, place_code=incident.cell_code)
    duty = decide_duty(read_duty_rules(connection), question, "")
    with connection.cursor(row_factory=class_row(Unit)) as cursor:
        units = cursor.execute(_UNIT + " WHERE NOT disabled ORDER BY name, code").fetchall()
    found = [
        {
            "id": str(u.id),
            "name": u.name,
            "kind": u.kind,
            "by_rule": bool(duty.handling_dept) and u.name == duty.handling_dept,
        }
        for u in units
        if u.serves(incident.area_code)
    ]
    return sorted(found, key=lambda one: not one["by_rule"])


# ------------------------------------------------------------------------------------------------ asked and answered


def ask_unit(
    connection: Connection, incident_id: UUID, unit_id: UUID, actor: Actor, reason: str, now: datetime
) -> None:
    """Ask a unit to handle a filed incident; whoever leads it is told. Another unit may be asked instead while it is filed.

    Raises ActionRefused: unknown_incident, unknown_unit, not_your_role, not_allowed_in_state, unit_out_of_area.
    """
    incident = _lock(connection, incident_id, actor)
    unit = _find_unit(connection, unit_id)
    if not actor.roles & {Role.OPERATOR, Role.ADMIN}:
        raise ActionRefused("not_your_role", action="ask_unit")
    if incident.state is not IncidentState.FILED:
        raise ActionRefused("not_allowed_in_state", action="ask_unit", state=incident.state.value)
    if not unit.serves(incident.area_code):
        raise ActionRefused("unit_out_of_area")
    changes = {
        "unit_id": unit_id,
        "unit_state": UnitState.ASKED,
        "unit_asked_at": now,
        "needs_operator": None,
        "proposal": None,
    }
    _write(connection, incident, Happening.UNIT_ASKED, changes, actor, reason, unit, now)
    for (user_id,) in connection.execute(
        "SELECT user_id FROM unit_member WHERE unit_id = %s AND leads", (unit_id,)
    ).fetchall():
        queue_push(connection, PushKind.UNIT_ASKED, user_id, incident, incident.due_at, now)


def answer_unit(
    connection: Connection, incident_id: UUID, accepted: bool, actor: Actor, reason: str, now: datetime
) -> None:
    """The unit takes it, or refuses with a reason: then an operator decides.

    Raises ActionRefused: unknown_incident, not_your_unit, unit_not_asked, reason_required.
    """
    incident = _lock(connection, incident_id, actor)
    unit, state = _held(connection, incident)
    _must_lead(connection, unit, actor)
    if state != UnitState.ASKED or incident.state is not IncidentState.FILED:
        raise ActionRefused("unit_not_asked")
    if not accepted and not reason.strip():
        raise ActionRefused("reason_required")
    changes: dict[str, Any] = {"unit_state": UnitState.ACCEPTED if accepted else UnitState.REFUSED}
    if not accepted:
        why = {"code": "unit_refused", "unit": unit.name, "reason": reason.strip()}
        changes |= {"needs_operator": OperatorNeed.UNIT_REFUSED, "proposal": {"action": "dispatch", "reasons": [why]}}
    happening = Happening.UNIT_ACCEPTED if accepted else Happening.UNIT_REFUSED
    _write(connection, incident, happening, changes, actor, reason, unit, now)


def send_crew(connection: Connection, incident_id: UUID, user_id: UUID, actor: Actor, now: datetime) -> None:
    """The unit's head sends one of its people; the log names both.

    Raises ActionRefused: unknown_incident, not_your_unit, unit_not_asked, unknown_user, and as dispatch.flow.act does.
    """
    incident = _lock(connection, incident_id, actor)
    unit, state = _held(connection, incident)
    _must_lead(connection, unit, actor)
    if state != UnitState.ACCEPTED:
        raise ActionRefused("unit_not_asked")
    member = Actor(user_id=user_id, name="")
    if _membership(connection, unit.id, member) is None:
        raise ActionRefused("unknown_user", user_id=str(user_id))
    reason = {"reasons": [{"code": "by_unit", "unit": unit.name}], "others": [], "by": str(actor.user_id)}
    head = Actor(user_id=None, name=f"{unit.name} {actor.name}")
    perform(connection, incident, Action.DISPATCH, head, Inputs(user_id=user_id, detail=reason), now)


def note_feedback(connection: Connection, incident_id: UUID, actor: Actor, text: str, now: datetime) -> None:
    """What one of the unit's people says about it, into the log.

    Raises ActionRefused: unknown_incident, not_your_unit, reason_required.
    """
    incident = _lock(connection, incident_id, actor)
    unit, _ = _held(connection, incident)
    if _membership(connection, unit.id, actor) is None:
        raise ActionRefused("not_your_unit")
    if not text.strip():
        raise ActionRefused("reason_required")
    _write(connection, incident, Happening.UNIT_FEEDBACK, {}, actor, text, unit, now)


def _lock(connection: Connection, incident_id: UUID, actor: Actor) -> Incident:
    incident = store.lock_incident(connection, incident_id)
    if incident is None or not actor.sees(incident.area_code):
        raise ActionRefused("unknown_incident")
    return incident


def _find_unit(connection: Connection, unit_id: UUID) -> Unit:
    with connection.cursor(row_factory=class_row(Unit)) as cursor:
        unit = cursor.execute(_UNIT + " WHERE id = %s AND NOT disabled", (unit_id,)).fetchone()
    if unit is None:
        raise ActionRefused("unknown_unit")
    return unit


def _held(connection: Connection, incident: Incident) -> tuple[Unit, str]:
    row = connection.execute("SELECT unit_id, unit_state FROM incident WHERE id = %s", (incident.id,)).fetchone()
    if row is None or row[0] is None:
        raise ActionRefused("unit_not_asked")
    return _find_unit(connection, row[0]), row[1]


def _membership(connection: Connection, unit_id: UUID, actor: Actor) -> bool | None:
    """Whether they lead it; None for who is none of its people."""
    row = connection.execute(
        "SELECT leads FROM unit_member WHERE unit_id = %s AND user_id = %s", (unit_id, actor.user_id)
    ).fetchone()
    return None if row is None else bool(row[0])


def _must_lead(connection: Connection, unit: Unit, actor: Actor) -> None:
    if not _membership(connection, unit.id, actor):
        raise ActionRefused("not_your_unit")


def _write(
    connection: Connection,
    incident: Incident,
    happening: Happening,
    changes: Mapping[str, Any],
    actor: Actor,
    reason: str,
    unit: Unit,
    now: datetime,
) -> None:
    version = incident.version + 1
    store.write_incident(connection, incident.id, version, changes)
    store.log_event(
        connection, incident, action=happening, from_state=incident.state, to_state=incident.state, actor=actor,
        version=version, now=now, reason=reason.strip(), detail={"unit_id": str(unit.id), "unit": unit.name},
    )  # fmt: skip
    store.note_incident(connection, incident, (incident.assignee_id,), now)
