"""Writing data-defined alarm rules: every change is a new version with who, when and why; and reading them with their past."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.model import DeviceKind
from devices.registry import KINDS
from devices.rule_registry import RULE_TYPES
from devices.rulebook import BUILT_IN, SILENCE, AlarmRule, Mode, RuleBody, touch_book
from kernel.db import Connection
from kernel.ids import new_id


class RuleError(ValueError):
    """A rule cannot be made or changed as asked; `code` is stable, the text says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Scope(BaseModel):
    """Where a rule acts: a kind, an area (prefix of a division code), one device; what is absent means any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str | None = Field(default=None, max_length=64)
    area: str | None = Field(default=None, pattern=r"^[0-9]{2,15}$")
    device: UUID | None = None


class RuleDraft(RuleBody):
    """A rule as it is asked for. `category` absent: the type's, or of a kind's own rule its own."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="of rules with one name the narrowest acts")
    scope: Scope = Scope()
    category: str = Field(default="", max_length=64)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleVersion:
    """One state of a rule, as it was from `at` on."""

    rule_id: UUID
    version: int
    name: str
    kind: str
    area_code: str
    device_id: UUID | None
    mode: str
    body: dict[str, Any]
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleFinding:
    """What a rule would have raised."""

    id: UUID
    device_id: UUID
    device_code: str
    rule: str
    cause: str
    outcome: str
    occurred_at: datetime
    ended_at: datetime | None
    detail: dict[str, Any]


def settle_draft(connection: Connection, draft: RuleDraft) -> AlarmRule:
    """The rule that a draft asks for, checked and with its defaults filled in; its id and version mean nothing yet.

    Raises RuleError (unknown_kind, unknown_device, unknown_type, bad_parameters, unknown_rule, unknown_metric,
    kind_required, device_required, unknown_category, not_for_this_type).
    """
    kind_name, area_code = draft.scope.kind or "", draft.scope.area or ""
    device_kind = kind_name
    if draft.scope.device is not None:
        row = connection.execute("SELECT kind, area_code FROM device WHERE id = %s", (draft.scope.device,)).fetchone()
        if row is None or (kind_name and row[0] != kind_name) or not str(row[1]).startswith(area_code):
            raise RuleError("unknown_device", "there is no such device in this scope")
        device_kind, area_code = str(row[0]), str(row[1])
    if device_kind and device_kind not in KINDS:
        raise RuleError("unknown_kind", f"{device_kind!r} is none of {', '.join(KINDS)}")
    kind = KINDS.get(device_kind)
    parameters, category = _check_type(draft, kind)
    if connection.execute("SELECT FROM category WHERE id = %s", (category,)).fetchone() is None:
        raise RuleError("unknown_category", f"no category {category!r}")
    body = RuleBody.model_validate(
        {
            **draft.model_dump(exclude={"name", "scope"}),
            "parameters": parameters,
            "category": category,
        }
    )
    return AlarmRule(
        id=UUID(int=0), name=draft.name, kind=kind_name, area_code=area_code, device_id=draft.scope.device,
        mode=Mode.OFF, version=0, body=body,
    )  # fmt: skip


def _check_type(draft: RuleDraft, kind: DeviceKind | None) -> tuple[dict[str, Any], str]:
    """Parameters in their stored form, and the category."""
    if draft.type == SILENCE:
        if draft.parameters:
            raise RuleError("bad_parameters", "a silence has no parameters")
        return {}, draft.category or "rule_alarm"
    if draft.type == BUILT_IN:
        return _check_built_in(draft, kind)
    rule_type = RULE_TYPES.get(draft.type)
    if rule_type is None:
        raise RuleError("unknown_type", f"{draft.type!r} is none of {', '.join([*RULE_TYPES, BUILT_IN, SILENCE])}")
    try:
        parameters = rule_type.parameters.model_validate(draft.parameters)
    except ValidationError as error:
        raise RuleError("bad_parameters", describe(error)) from None
    metrics = rule_type.metrics(parameters)
    places = [kind] if kind is not None else list(KINDS.values())
    if metrics and not any(metrics <= {m.name for m in k.metrics} for k in places):
        raise RuleError("unknown_metric", f"no kind in this scope measures {', '.join(sorted(metrics))}")
    if rule_type.peers(parameters) and draft.scope.device is None:
        raise RuleError("device_required", "a rule about two devices has one device as its scope")
    return parameters.model_dump(mode="json", exclude_unset=True), draft.category or rule_type.category


def _check_built_in(draft: RuleDraft, kind: DeviceKind | None) -> tuple[dict[str, Any], str]:
    if kind is None:
        raise RuleError("kind_required", "the settings of a kind's own rule are for one kind")
    if draft.window is not None or draft.damping is not None:
        raise RuleError("not_for_this_type", "a kind's own rule has its own times: neither window nor damping")
    own = next((rule for rule in kind.rules if rule.name == draft.name), None)
    if own is None:
        raise RuleError("unknown_rule", f"a {kind.name} has of its own: {', '.join(rule.name for rule in kind.rules)}")
    try:
        settings = kind.settings.model_validate(draft.parameters)
    except ValidationError as error:
        raise RuleError("bad_parameters", describe(error)) from None
    return settings.model_dump(mode="json", exclude_unset=True), draft.category or own.category


def describe(error: ValidationError) -> str:
    """The first thing that does not fit, in one line."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'parameters'}: {first['msg']}"


def create_rule(
    connection: Connection, draft: RuleDraft, actor: str, reason: str, now: datetime, mode: Mode = Mode.OFF
) -> AlarmRule:
    """Store a new rule; running roles take it up within a sweep.

    Raises RuleError as `settle_draft`, and psycopg.errors.InsufficientPrivilege outside the transaction's scope.
    """
    settled = settle_draft(connection, draft)
    rule = AlarmRule(
        id=new_id(now), name=settled.name, kind=settled.kind, area_code=settled.area_code,
        device_id=settled.device_id, mode=mode, version=1, body=settled.body,
    )  # fmt: skip
    connection.execute(
        "INSERT INTO alarm_rule (id, name, kind, area_code, device_id, mode, version, body, created_at, changed_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, 1, %s, %s, %s)",
        (rule.id, rule.name, rule.kind, rule.area_code, rule.device_id, mode, _dump(rule.body), now, now),
    )
    _log_version(connection, rule, actor, reason, now)
    return rule


def change_rule(
    connection: Connection, rule_id: UUID, draft: RuleDraft, actor: str, reason: str, now: datetime
) -> AlarmRule:
    """A new version of a rule; its mode stays.

    Raises RuleError as `settle_draft`, unknown_rule_id, reason_required, outside_scope.
    """
    if not reason.strip():
        raise RuleError("reason_required", "say why")
    before = lock_rule(connection, rule_id)
    settled = settle_draft(connection, draft)
    rule = AlarmRule(
        id=rule_id, name=settled.name, kind=settled.kind, area_code=settled.area_code, device_id=settled.device_id,
        mode=before.mode, version=before.version + 1, body=settled.body,
    )  # fmt: skip
    _write(connection, rule, actor, reason, now)
    return rule


def set_mode(connection: Connection, rule_id: UUID, mode: Mode, actor: str, reason: str, now: datetime) -> AlarmRule:
    """Switch a rule off, to monitor or live. Live comes after monitor: what a rule does is seen before it acts.

    Raises RuleError (unknown_rule_id, monitor_first, outside_scope).
    """
    before = lock_rule(connection, rule_id)
    if mode is Mode.LIVE and before.mode is not Mode.LIVE and not _was_monitored(connection, before):
        raise RuleError("monitor_first", "this rule, as it is, has not run in mode monitor yet")
    rule = AlarmRule(
        id=rule_id, name=before.name, kind=before.kind, area_code=before.area_code, device_id=before.device_id,
        mode=mode, version=before.version + 1, body=before.body,
    )  # fmt: skip
    _write(connection, rule, actor, reason, now)
    return rule


def _was_monitored(connection: Connection, rule: AlarmRule) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM alarm_rule_version WHERE rule_id = %s AND mode IN ('monitor', 'live') AND body = %s"
        " AND kind = %s AND area_code = %s AND device_id IS NOT DISTINCT FROM %s",
        (rule.id, _dump(rule.body), rule.kind, rule.area_code, rule.device_id),
    ).fetchone()
    return row is not None and row[0] > 0


def lock_rule(connection: Connection, rule_id: UUID) -> AlarmRule:
    """The rule as it stands, locked.

    Raises RuleError (unknown_rule_id), also when the transaction's scope does not hold the rule's whole area.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT id, name, kind, area_code, device_id, mode, version, body FROM alarm_rule WHERE id = %s FOR UPDATE",
            (rule_id,),
        ).fetchone()
    if row is None:
        raise RuleError("unknown_rule_id", "there is no such rule that you may change")
    return AlarmRule(**{**row, "mode": Mode(row["mode"]), "body": RuleBody.model_validate(row["body"])})


def _write(connection: Connection, rule: AlarmRule, actor: str, reason: str, now: datetime) -> None:
    changed = connection.execute(
        "UPDATE alarm_rule SET name = %s, kind = %s, area_code = %s, device_id = %s, mode = %s, version = %s, body = %s,"
        " changed_at = %s WHERE id = %s",
        (
            rule.name, rule.kind, rule.area_code, rule.device_id, rule.mode, rule.version, _dump(rule.body), now,
            rule.id,
        ),
    ).rowcount  # fmt: skip
    if not changed:
        raise RuleError("outside_scope", "the rule acts outside your area")
    _log_version(connection, rule, actor, reason, now)


def _log_version(connection: Connection, rule: AlarmRule, actor: str, reason: str, now: datetime) -> None:
    connection.execute(
        "INSERT INTO alarm_rule_version"
        " (rule_id, version, name, kind, area_code, device_id, mode, body, actor, reason, at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            rule.id, rule.version, rule.name, rule.kind, rule.area_code, rule.device_id, rule.mode, _dump(rule.body),
            actor, reason.strip(), now,
        ),
    )  # fmt: skip
    touch_book(connection, now)


def _dump(body: RuleBody) -> Jsonb:
    return Jsonb(body.model_dump(mode="json"))


_VERSION = "v.rule_id, v.version, v.name, v.kind, v.area_code, v.device_id, v.mode, v.body, v.actor, v.reason, v.at"


def read_rules(connection: Connection, rule_id: UUID | None = None) -> list[RuleVersion]:
    """Every rule as it stands (or one), with who changed it last and why; by name, the widest first."""
    with connection.cursor(row_factory=class_row(RuleVersion)) as cursor:
        return cursor.execute(
            f"SELECT {_VERSION} FROM alarm_rule r JOIN alarm_rule_version v ON v.rule_id = r.id AND v.version = r.version"
            " WHERE %(id)s::uuid IS NULL OR r.id = %(id)s"
            " ORDER BY r.name, r.device_id IS NOT NULL, length(r.area_code), r.kind <> '', r.id",
            {"id": rule_id},
        ).fetchall()


def read_versions(connection: Connection, rule_id: UUID) -> list[RuleVersion]:
    """A rule's past, the newest first; empty when there is no such rule."""
    with connection.cursor(row_factory=class_row(RuleVersion)) as cursor:
        return cursor.execute(
            f"SELECT {_VERSION} FROM alarm_rule_version v WHERE v.rule_id = %s ORDER BY v.version DESC", (rule_id,)
        ).fetchall()


def read_findings(connection: Connection, rule_id: UUID, since: datetime, limit: int = 1000) -> list[RuleFinding]:
    """What a rule in mode monitor found, the newest first, on the devices of the transaction's scope."""
    with connection.cursor(row_factory=class_row(RuleFinding)) as cursor:
        return cursor.execute(
            "SELECT f.id, f.device_id, d.code AS device_code, f.rule, f.cause, f.outcome, f.occurred_at, f.ended_at,"
            " f.detail FROM rule_finding f JOIN device d ON d.id = f.device_id"
            " WHERE f.rule_id = %s AND f.occurred_at >= %s ORDER BY f.occurred_at DESC, f.id LIMIT %s",
            (rule_id, since, limit),
        ).fetchall()
