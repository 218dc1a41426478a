"""Routes about alarm rules: their types, versions and modes, back-tests, findings; shelving, maintenance, alarm flood."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from devices.backtest import MAX_DAYS, back_test
from devices.quiet import (
    Maintenance,
    QuietError,
    Shelf,
    add_maintenance,
    end_maintenance,
    read_maintenance,
    read_shelves,
    shelve,
    unshelve,
)
from devices.registry import KINDS
from devices.rule_registry import RULE_TYPES
from devices.rule_store import (
    RuleDraft,
    RuleError,
    RuleVersion,
    Scope,
    change_rule,
    create_rule,
    read_findings,
    read_rules,
    read_versions,
    set_mode,
    settle_draft,
)
from devices.rulebook import BUILT_IN, SILENCE, Mode, RuleBody
from dispatch.flood import flood_json, read_flood
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.ids import new_id
from kernel.types import Role

router = APIRouter(tags=["rules"])
Engineer = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
Keeper = Annotated[User, Depends(require(Role.OPERATOR, Role.ENGINEER, Role.ADMIN))]
_NOT_FOUND = {"unknown_rule_id", "unknown_device"}
_CONFLICT = {"monitor_first"}


class RuleTypeView(BaseModel):
    """A type of rule. `schema`: JSON Schema of its parameters; for `built_in` by kind in `kinds`. `x-choice`: metric."""

    model_config = ConfigDict(populate_by_name=True)
    name: str
    title_zh: str
    title_en: str
    schema_: dict[str, Any] = Field(alias="schema")
    category: str
    severity: int | None
    timed: bool
    kinds: dict[str, Any] = Field(default_factory=dict)


class RuleView(RuleBody):
    """A rule, or one version of it, with who changed it and why."""

    id: UUID
    name: str
    scope: Scope
    mode: Mode
    version: int
    actor: str
    reason: str
    changed_at: datetime


class RuleForm(RuleDraft):
    """A rule to make or to change, and why."""

    reason: str = Field(default="", max_length=500)


class ModeForm(BaseModel):
    """The mode to switch to."""

    mode: Mode
    reason: str = Field(default="", max_length=500)


class BackTestForm(BaseModel):
    """A rule, stored or not, and over how many days."""

    rule: RuleDraft
    days: float = Field(default=30, gt=0, le=MAX_DAYS)


class DayCount(BaseModel):
    """Alarms of one local day."""

    day: date
    count: int


class DeviceCount(BaseModel):
    """Alarms of one device."""

    code: str
    count: int


class BackTestView(BaseModel):
    """What the rule would have raised. `by_hour`: 24 counts, local time; `truncated`: not all could be looked at."""

    alarms: int
    per_day: list[DayCount]
    by_hour: list[int]
    devices: list[DeviceCount]
    truncated: bool
    readings: int
    looked_at: int
    in_scope: int


class FindingView(BaseModel):
    """What a rule in mode monitor would have raised."""

    id: UUID
    device_id: UUID
    device_code: str
    rule: str
    occurred_at: datetime
    ended_at: datetime | None
    detail: dict[str, Any]


class ShelfForm(BaseModel):
    """Which rule (none: all of the device), why and until when."""

    rule: str | None = Field(default=None, max_length=64)
    reason: str = Field(max_length=500)
    until: datetime


class ShelfView(BaseModel):
    """A rule of a device that is kept quiet."""

    id: UUID
    device_id: UUID
    rule: str | None
    reason: str
    actor: str
    from_at: datetime
    until_at: datetime


class MaintenanceForm(BaseModel):
    """A scope, from when to when, and why."""

    model_config = ConfigDict(populate_by_name=True)
    scope: Scope
    from_at: datetime | None = Field(default=None, alias="from")
    to_at: datetime = Field(alias="to")
    reason: str = Field(max_length=500)


class MaintenanceView(BaseModel):
    """A scope that is kept quiet."""

    model_config = ConfigDict(populate_by_name=True)
    id: UUID
    scope: Scope
    from_at: datetime = Field(alias="from")
    to_at: datetime = Field(alias="to")
    reason: str
    actor: str


class FloodGroup(BaseModel):
    """Incidents that are shown as one. `by`: gateway or cell."""

    by: str
    key: str
    title: str
    count: int
    incident_ids: list[UUID]


class FloodView(BaseModel):
    """Alarm load: incidents of the last 10 minutes, in all and for each operator on duty."""

    active: bool
    since: datetime | None
    rate_per_10_min: int
    operators: int
    per_operator: float
    limit: int
    groups: list[FloodGroup]


@contextmanager
def _explained(web: Web, user: User) -> Iterator[Connection]:
    """A transaction whose refusals become answers: what is not there 404, too early 409, outside 403, else 422."""
    try:
        with web.transaction(user) as connection:
            yield connection
    except (RuleError, QuietError) as error:
        status = 404 if error.code in _NOT_FOUND else 409 if error.code in _CONFLICT else 422
        raise Problem(status, error.code, str(error), detail=str(error)) from None
    except psycopg.errors.InsufficientPrivilege:
        raise Problem(403, "outside_scope", "This lies outside your area") from None


def _show(version: RuleVersion) -> RuleView:
    return RuleView(
        **RuleBody.model_validate(version.body).model_dump(),
        id=version.rule_id,
        name=version.name,
        scope=Scope(kind=version.kind or None, area=version.area_code or None, device=version.device_id),
        mode=Mode(version.mode),
        version=version.version,
        actor=version.actor,
        reason=version.reason,
        changed_at=version.at,
    )


@router.get("/rule-types")
def list_rule_types(user: Engineer) -> list[RuleTypeView]:
    """Types of rule with the JSON Schemas of their parameters; `built_in` gives a kind's own rules other settings."""
    del user
    types = [
        _type_view(t.name, t.title_zh, t.title_en, t.parameters.model_json_schema())
        | {"category": t.category, "severity": t.severity, "timed": t.timed}
        for t in RULE_TYPES.values()
    ]
    kinds = {
        kind.name: {
            "rules": [{"name": r.name, "title_zh": r.title_zh, "title_en": r.title_en} for r in kind.rules],
            "schema": kind.settings.model_json_schema(),
        }
        for kind in KINDS.values()
        if kind.rules
    }
    empty = {"type": "object", "properties": {}, "additionalProperties": False}
    own = _type_view(BUILT_IN, "类型自带规则（改参数）", "A kind's own rule, with other settings", {"type": "object"})
    silence = _type_view(SILENCE, "停用同名规则", "Silences the rule of this name", empty)
    return [RuleTypeView.model_validate(one) for one in [*types, own | {"kinds": kinds}, silence]]


def _type_view(name: str, title_zh: str, title_en: str, schema: dict[str, Any]) -> dict[str, Any]:
    titles = {"name": name, "title_zh": title_zh, "title_en": title_en}
    return titles | {"schema": schema, "category": "", "severity": None, "timed": False}


@router.get("/rules")
def list_rules(user: Engineer, web: CurrentWeb) -> list[RuleView]:
    """Every data-defined rule as it stands; the kinds' own rules are in `GET /rule-types`."""
    with web.transaction(user) as connection:
        return [_show(version) for version in read_rules(connection)]


@router.post("/rules", status_code=201)
def make_rule(form: RuleForm, user: Engineer, web: CurrentWeb) -> RuleView:
    """A new rule, in mode off. 422 with the reason's code when it does not fit; 403 `outside_scope`."""
    draft = RuleDraft.model_validate(form.model_dump(exclude={"reason"}))
    with _explained(web, user) as connection:
        rule = create_rule(connection, draft, user.display_name, form.reason, web.now())
        return _show(read_rules(connection, rule.id)[0])


@router.put("/rules/{rule_id}")
def write_rule(rule_id: UUID, form: RuleForm, user: Engineer, web: CurrentWeb) -> RuleView:
    """A new version; the mode stays. 422 `reason_required`."""
    draft = RuleDraft.model_validate(form.model_dump(exclude={"reason"}))
    with _explained(web, user) as connection:
        change_rule(connection, rule_id, draft, user.display_name, form.reason, web.now())
        return _show(read_rules(connection, rule_id)[0])


@router.get("/rules/{rule_id}/versions")
def list_versions(rule_id: UUID, user: Engineer, web: CurrentWeb) -> list[RuleView]:
    """The rule's past, the newest first."""
    with web.transaction(user) as connection:
        found = read_versions(connection, rule_id)
    if not found:
        raise Problem(404, "unknown_rule_id", "There is no such rule")
    return [_show(version) for version in found]


@router.get("/rules/{rule_id}/findings")
def list_findings(rule_id: UUID, user: Engineer, web: CurrentWeb, since: datetime | None = None) -> list[FindingView]:
    """What the rule found in mode monitor, the newest first, 1,000 at most."""
    with web.transaction(user) as connection:
        found = read_findings(connection, rule_id, _as_utc(since) if since else datetime(1970, 1, 1, tzinfo=UTC))
    return [FindingView.model_validate(one, from_attributes=True) for one in found]


@router.post("/rules/{rule_id}/mode")
def switch_rule(rule_id: UUID, form: ModeForm, user: Engineer, web: CurrentWeb) -> RuleView:
    """Off, monitor or live. 409 `monitor_first`: a rule runs in mode monitor before it is live."""
    with _explained(web, user) as connection:
        set_mode(connection, rule_id, form.mode, user.display_name, form.reason, web.now())
        return _show(read_rules(connection, rule_id)[0])


@router.post("/rules/back-test")
def test_rule(form: BackTestForm, user: Engineer, web: CurrentWeb) -> BackTestView:
    """What the rule would have raised on stored readings of my scope. 422 `not_replayable` and as for a new rule."""
    with _explained(web, user) as connection:
        rule = settle_draft(connection, form.rule)
        result = back_test(connection, rule, web.now(), web.settings.city.timezone, days=form.days)
    return BackTestView(
        alarms=result.alarms,
        per_day=[DayCount(day=day, count=count) for day, count in result.per_day],
        by_hour=result.by_hour,
        devices=[DeviceCount(code=code, count=count) for code, count in result.devices],
        truncated=result.truncated,
        readings=result.readings,
        looked_at=result.looked_at,
        in_scope=result.in_scope,
    )


# ------------------------------------------------------------------------------------------------ quiet


def _shelf_view(shelf: Shelf) -> ShelfView:
    return ShelfView(
        id=shelf.id, device_id=shelf.device_id, rule=shelf.rule or None, reason=shelf.reason, actor=shelf.actor,
        from_at=shelf.from_at, until_at=shelf.until_at,
    )  # fmt: skip


def _require_device(connection: Connection, device_id: UUID) -> str:
    row = connection.execute("SELECT code FROM device WHERE id = %s", (device_id,)).fetchone()
    if row is None:
        raise RuleError("unknown_device", "There is no such device in your scope")
    return str(row[0])


@router.get("/devices/{device_id}/shelf")
def list_shelves(device_id: UUID, user: Keeper, web: CurrentWeb) -> list[ShelfView]:
    """What is kept quiet on this device now."""
    with _explained(web, user) as connection:
        _require_device(connection, device_id)
        return [_shelf_view(shelf) for shelf in read_shelves(connection, device_id, web.now())]


@router.post("/devices/{device_id}/shelf", status_code=201)
def make_shelf(device_id: UUID, form: ShelfForm, user: Keeper, web: CurrentWeb) -> ShelfView:
    """Keep a rule of this device quiet: recorded, told at the end if it is still active. 422 `reason_required`, `end_required`."""
    now = web.now()
    with _explained(web, user) as connection:
        code = _require_device(connection, device_id)
        until_at = _as_utc(form.until)
        shelf = shelve(connection, device_id, form.rule or "", form.reason, until_at, user.display_name, now)
        detail = {"rule": form.rule, "reason": form.reason, "until": until_at.isoformat()}
        write_audit(connection, now, actor=user.display_name, action="alarm_shelved", subject=code, detail=detail)
    return _shelf_view(shelf)


@router.delete("/devices/{device_id}/shelf", status_code=204)
def drop_shelf(device_id: UUID, user: Keeper, web: CurrentWeb, rule: str | None = None) -> None:
    """Take the device's shelves down (those of `rule`, or all): what is still active is told at once."""
    now = web.now()
    with _explained(web, user) as connection:
        code = _require_device(connection, device_id)
        unshelve(connection, device_id, now, rule)
        write_audit(
            connection, now, actor=user.display_name, action="alarm_unshelved", subject=code, detail={"rule": rule}
        )


def _maintenance_view(window: Maintenance) -> MaintenanceView:
    return MaintenanceView.model_validate(
        {
            "id": window.id,
            "scope": Scope(kind=window.kind or None, area=window.area_code or None, device=window.device_id),
            "from": window.from_at,
            "to": window.until_at,
            "reason": window.reason,
            "actor": window.actor,
        }
    )


@router.get("/maintenance")
def list_maintenance(user: Keeper, web: CurrentWeb) -> list[MaintenanceView]:
    """Maintenance windows that are open or to come."""
    with web.transaction(user) as connection:
        return [_maintenance_view(window) for window in read_maintenance(connection, web.now())]


@router.post("/maintenance", status_code=201)
def make_maintenance(form: MaintenanceForm, user: Engineer, web: CurrentWeb) -> MaintenanceView:
    """Keep a scope quiet for a while: alarms are recorded, and told at the end if they are still active."""
    now = web.now()
    window = Maintenance(
        id=new_id(now), kind=form.scope.kind or "", area_code=form.scope.area or "", device_id=form.scope.device,
        reason=form.reason, actor=user.display_name, from_at=_as_utc(form.from_at) if form.from_at else now,
        until_at=_as_utc(form.to_at),
    )  # fmt: skip
    with _explained(web, user) as connection:
        if window.device_id is not None:
            _require_device(connection, window.device_id)
            row = connection.execute("SELECT area_code FROM device WHERE id = %s", (window.device_id,)).fetchone()
            window = replace(window, area_code=row[0] if row else "")
        add_maintenance(connection, window, now)
        detail = {"scope": form.scope.model_dump(mode="json"), "reason": form.reason}
        write_audit(
            connection, now, actor=user.display_name, action="maintenance_set", subject=str(window.id), detail=detail
        )
    return _maintenance_view(window)


@router.delete("/maintenance/{maintenance_id}", status_code=204)
def drop_maintenance(maintenance_id: UUID, user: Engineer, web: CurrentWeb) -> None:
    """End a window before its time. 404 when there is none of mine."""
    now = web.now()
    with _explained(web, user) as connection:
        if not end_maintenance(connection, maintenance_id, now):
            raise Problem(404, "unknown_maintenance", "There is no such window that has not ended")
        write_audit(connection, now, actor=user.display_name, action="maintenance_ended", subject=str(maintenance_id))


def _as_utc(instant: datetime) -> datetime:
    """Without an offset it is UTC."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


# ------------------------------------------------------------------------------------------------ flood


@router.get("/flood")
def show_flood(user: CurrentUser, web: CurrentWeb) -> FloodView:
    """Alarm load and, while there is a flood, its groups by gateway or cell: every open incident of it is in one."""
    with web.transaction(user) as connection:
        return FloodView.model_validate(flood_json(read_flood(connection, web.now())))
