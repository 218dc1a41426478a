"""The rules that act on each device: the kind's own and those made of data, the narrowest of each name.

A rule has a name. The kind's own rules are the widest of theirs; a data rule of the same name with a narrower scope takes its
place: of type `built_in` it only changes the settings that the kind's rule is given, of type `none` it silences it, of any other it
replaces it. A device's own settings are narrower than everything. A rule in mode `monitor` runs beside, and only records.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.gate import find_gate_due, pass_gate
from devices.model import (
    Alarm,
    Device,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    JsonState,
    Rule,
    Step,
    write_instant,
)
from devices.registry import KINDS
from devices.rule_registry import RULE_TYPES
from devices.rule_type import DailyWindow, Damping, Moment, RuleType
from kernel.db import Connection

log = logging.getLogger(__name__)
BUILT_IN, SILENCE = "built_in", "none"
_HEALTH_KEYS = ("offline_after_s", "report_period_s", "missed_reports")


class Mode(StrEnum):
    """How far a rule goes."""

    OFF = "off"
    MONITOR = "monitor"  # steps and records what it would have raised
    LIVE = "live"


class RuleBody(BaseModel):
    """What a rule says, apart from its name, scope and mode."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: str = Field(description="of GET /rule-types / 规则类型")
    parameters: dict[str, Any] = Field(default_factory=dict)
    title_zh: str = Field(min_length=1, max_length=100)
    title_en: str = Field(min_length=1, max_length=100)
    category: str = Field(default="rule_alarm", max_length=64)
    severity: int | None = Field(default=None, ge=1, le=4, description="1 is the most urgent; none: the category's")
    window: DailyWindow | None = None
    damping: Damping | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRule:
    """A data rule: the row `alarm_rule`. '' and None in the scope mean any."""

    id: UUID
    name: str
    kind: str
    area_code: str
    device_id: UUID | None
    mode: Mode
    version: int
    body: RuleBody

    @property
    def narrowness(self) -> tuple[bool, int, bool, UUID]:
        """A device is narrower than any area, a longer area than a shorter, a kind than none; then the newer."""
        return (self.device_id is not None, len(self.area_code), self.kind != "", self.id)

    def covers(self, device: Device) -> bool:
        """Whether the device lies in the scope."""
        if self.device_id is not None:  # wherever it stands by now
            return self.device_id == device.id
        return (not self.kind or self.kind == device.kind) and device.area_code.startswith(self.area_code)


class Quietness(StrEnum):
    """Why an alarm is held back."""

    SHELVED = "shelved"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """A shelf or a maintenance window. `rule` '' means all."""

    why: Quietness
    kind: str
    area_code: str
    device_id: UUID | None
    rule: str
    from_at: datetime
    until_at: datetime

    def covers(self, device: Device, rule: str, now: datetime) -> bool:
        """Whether this alarm of the device is held back now."""
        return (
            self.from_at <= now < self.until_at
            and (not self.rule or self.rule == rule)
            and (self.device_id is None or self.device_id == device.id)
            and (self.device_id is not None or device.area_code.startswith(self.area_code))
            and (not self.kind or self.kind == device.kind)
        )


RuleStep = Callable[[JsonState, Moment], tuple[JsonState, list[Alarm]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundRule:
    """A rule with its settings, ready to step. `key` names its state: another type under the same name starts anew."""

    name: str
    key: str
    category: str
    status: DeviceStatus
    timed: bool
    needs_consent: bool
    step: RuleStep
    due: Callable[[JsonState, Moment], datetime | None] | None  # of a timed rule; None: any moment
    mode: Mode = Mode.LIVE
    rule_id: UUID | None = None
    severity: int | None = None
    peers: tuple[str, ...] = ()
    by_gateway: bool = False  # wants to know how the parent stands
    of_kind: bool = False  # a kind's own step, which looks at payloads
    seed: Callable[[DeviceState], JsonState] | None = None
    own: Step | None = None  # of a kind's own rule that no data rule changes: it needs no `Moment`, with these settings
    own_settings: DeviceSettings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that acts on a device; shared by all devices that are alike."""

    kind: DeviceKind
    rules: tuple[BoundRule, ...]
    silent_after_s: float
    failure: str | None = None  # why no rule can run: the device's settings do not fit
    timed: tuple[BoundRule, ...] = ()
    acting: Mapping[str, BoundRule] = field(default_factory=dict)  # live, by name
    peers: tuple[str, ...] = ()
    by_gateway: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether only the kind's own rules act, as they are."""
        return self.failure is None and all(rule.own is not None for rule in self.rules)


class RuleBook:
    """Rules, shelves and maintenance windows as they stood at one version."""

    def __init__(
        self,
        rules: tuple[AlarmRule, ...] = (),
        quiets: tuple[Quiet, ...] = (),
        deaf: tuple[tuple[datetime, datetime], ...] = (),
        version: tuple[int, datetime | None] = (0, None),
    ) -> None:
        self.version = version
        self._by_kind: dict[str, list[AlarmRule]] = defaultdict(list)
        self._by_device: dict[UUID, list[AlarmRule]] = defaultdict(list)
        for rule in sorted(rules, key=lambda r: r.narrowness):
            if rule.mode is not Mode.OFF:
                target = self._by_kind[rule.kind] if rule.device_id is None else self._by_device[rule.device_id]
                target.append(rule)
        self._quiets = tuple(quiet for quiet in quiets if quiet.device_id is None)
        self._quiets_of: dict[UUID, list[Quiet]] = defaultdict(list)
        for quiet in quiets:
            if quiet.device_id is not None:
                self._quiets_of[quiet.device_id].append(quiet)
        self._deaf = tuple(sorted(deaf))
        self._plans: dict[UUID, tuple[Device, Plan]] = {}
        self._alike: dict[tuple[str, tuple[UUID, ...], str], Plan] = {}

    @classmethod
    def read(cls, connection: Connection) -> "RuleBook":
        """The book as it stands. A row that no longer fits is logged and left out: it stops no other."""
        version = read_version(connection)
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(
                "SELECT id, name, kind, area_code, device_id, mode, version, body FROM alarm_rule WHERE mode <> 'off'"
            ).fetchall()
            quiets = cursor.execute(
                "SELECT 'shelved' AS why, '' AS kind, '' AS area_code, device_id, rule, from_at, until_at FROM shelf"
                " WHERE ended_at IS NULL UNION ALL "
                "SELECT 'maintenance', kind, area_code, device_id, '', from_at, until_at FROM maintenance"
                " WHERE ended_at IS NULL"
            ).fetchall()
        deaf = connection.execute("SELECT from_at, until_at FROM deaf_span").fetchall()
        rules = []
        for row in rows:
            try:
                body = RuleBody.model_validate(row["body"])
                rules.append(AlarmRule(**{**row, "mode": Mode(row["mode"]), "body": body}))
            except ValueError as error:
                log.error("rule %s (%s) is left out: %s", row["name"], row["id"], error)
        held = tuple(Quiet(**{**row, "why": Quietness(row["why"])}) for row in quiets)
        return cls(tuple(rules), held, tuple((a, b) for a, b in deaf), version)

    def rules_of(self, device: Device) -> tuple[BoundRule, ...]:
        """What acts on the device: live rules of each name once, those in monitor mode beside them."""
        return self.plan(device).rules

    def plan(self, device: Device) -> Plan:
        """As `rules_of`, with what belongs to it; remembered until the device's row changes."""
        known = self._plans.get(device.id)
        if known is not None and (known[0] is device or known[0] == device):
            return known[1]
        chosen = [
            rule
            for rule in (*self._by_kind[""], *self._by_kind[device.kind], *self._by_device.get(device.id, ()))
            if rule.covers(device)
        ]
        key = (device.kind, tuple(rule.id for rule in chosen), json.dumps(device.settings, sort_keys=True, default=str))
        plan = self._alike.get(key)
        if plan is None:
            plan = self._alike[key] = make_plan(KINDS[device.kind], device.settings, chosen)
        self._plans[device.id] = (device, plan)
        return plan

    def find_quiet(self, device: Device, rule: str, now: datetime) -> Quiet | None:
        """What holds this alarm of the device back, the longest; None: nothing does."""
        found = [q for q in (*self._quiets_of.get(device.id, ()), *self._quiets) if q.covers(device, rule, now)]
        return max(found, key=lambda q: q.until_at, default=None)

    @property
    def has_quiets(self) -> bool:
        """Whether anything is held back anywhere."""
        return bool(self._quiets or self._quiets_of)

    def heard_from(self, last_seen_at: datetime) -> datetime:
        """`last_seen_at` later by the time in which nobody listened since: what could not be heard is not silence."""
        for from_at, until_at in self._deaf:
            if until_at > last_seen_at:
                # Counted from where the device was heard; spans are in order, so each moves it once.
                last_seen_at += until_at - max(from_at, min(last_seen_at, until_at))
        return last_seen_at


PLAIN = RuleBook()  # the kinds' own rules and nothing else


class BookKeeper:
    """The newest book, read again only when it has changed."""

    def __init__(self) -> None:
        self._book: RuleBook | None = None

    def current(self, connection: Connection) -> RuleBook:
        """Ask for the version, and reread when it moved."""
        if self._book is None or self._book.version != read_version(connection):
            self._book = RuleBook.read(connection)
        return self._book


def read_version(connection: Connection) -> tuple[int, datetime | None]:
    """Number and instant of the last change; (0, None) before the first."""
    row = connection.execute("SELECT version, changed_at FROM rule_book").fetchone()
    return (int(row[0]), row[1]) if row is not None else (0, None)


def touch_book(connection: Connection, now: datetime) -> None:
    """Say, in the caller's transaction, that running roles must read the book again."""
    connection.execute(
        "INSERT INTO rule_book (version, changed_at) VALUES (1, %s)"
        " ON CONFLICT (one) DO UPDATE SET version = rule_book.version + 1, changed_at = EXCLUDED.changed_at",
        (now,),
    )


# ------------------------------------------------------------------------------------------------ plans


def make_plan(kind: DeviceKind, own_settings: Mapping[str, Any], rules: list[AlarmRule]) -> Plan:
    """Bind what acts on a device of this kind with these settings; `rules` cover it, the widest first."""
    known = {metric.name for metric in kind.metrics}
    live: dict[str, AlarmRule] = {}
    monitored: list[AlarmRule] = []
    for rule in sorted(rules, key=lambda r: r.narrowness):
        if _fits(rule, kind, known):
            if rule.mode is Mode.LIVE:
                live[rule.name] = rule
            else:
                monitored.append(rule)
    try:
        base = _health_settings(live, own_settings)
        settings = kind.settings.model_validate({**base, **own_settings})
        bound = [_bind_kind_rule(kind, rule, live.get(rule.name), base, own_settings) for rule in kind.rules]
        data = [rule for rule in live.values() if rule.body.type not in (BUILT_IN, SILENCE)]
        bound += [_bind(rule, RULE_TYPES[rule.body.type], kind, own_settings) for rule in data]
        bound += [_bind_monitored(rule, kind, base, own_settings) for rule in monitored]
    except ValidationError as error:
        text = f"{error.error_count()} settings do not fit: {error.errors()[0]['msg']}"
        return Plan(kind=kind, rules=(), silent_after_s=kind.settings().silent_after_s, failure=text)
    # Combinations last: they look at the alarms of the others.
    usable = sorted((rule for rule in bound if rule is not None), key=lambda rule: bool(rule.peers))
    return Plan(
        kind=kind,
        rules=tuple(usable),
        silent_after_s=settings.silent_after_s,
        timed=tuple(rule for rule in usable if rule.timed),
        acting={rule.name: rule for rule in usable if rule.mode is Mode.LIVE},
        peers=tuple(sorted({code for rule in usable for code in rule.peers})),
        by_gateway=any(rule.by_gateway for rule in usable),
    )


def _fits(rule: AlarmRule, kind: DeviceKind, metrics: set[str]) -> bool:
    """Whether the rule can act on this kind: its type is known, and the kind measures what it looks at."""
    if rule.body.type == SILENCE:
        return True
    if rule.body.type == BUILT_IN:
        return any(own.name == rule.name for own in kind.rules)
    rule_type = RULE_TYPES.get(rule.body.type)
    if rule_type is None:
        log.error("rule %s is of a type that is not known: %s", rule.name, rule.body.type)
        return False
    try:
        return rule_type.metrics(rule_type.parameters.model_validate(rule.body.parameters)) <= metrics
    except ValidationError as error:
        log.error("rule %s (%s) is left out: %s", rule.name, rule.id, error)
        return False


def _health_settings(live: Mapping[str, AlarmRule], own: Mapping[str, Any]) -> dict[str, Any]:
    """When the device counts as silent, as a live rule of type `offline` says and its own settings allow."""
    rules = [rule for rule in live.values() if rule.body.type == "offline"]
    if not rules:
        return {}
    narrowest = max(rules, key=lambda rule: rule.narrowness)
    said = {key: value for key in _HEALTH_KEYS if (value := narrowest.body.parameters.get(key)) is not None}
    if "offline_after_s" in own and "report_period_s" not in own:
        said.pop("report_period_s", None)
    return said


def _bind_kind_rule(
    kind: DeviceKind, rule: Rule, acting: AlarmRule | None, base: Mapping[str, Any], own: Mapping[str, Any]
) -> BoundRule | None:
    if acting is None:
        return _bind_own(rule, kind.settings.model_validate({**base, **own}))
    if acting.body.type != BUILT_IN:
        return None  # silenced, or replaced under its name
    settings = kind.settings.model_validate({**base, **acting.body.parameters, **own})
    return _bind_own(rule, settings, acting)


def _bind_own(rule: Rule, settings: DeviceSettings, acting: AlarmRule | None = None) -> BoundRule:
    """A kind's own rule with its settings; with `acting` in that data rule's name, category and severity."""
    inner, due = rule.step, rule.due
    category = acting.body.category if acting is not None else rule.category
    severity = acting.body.severity if acting is not None else None
    key = rule.name if acting is None or acting.mode is Mode.LIVE else f"{rule.name}@{acting.id}"

    def step(state: JsonState, moment: Moment) -> tuple[JsonState, list[Alarm]]:
        return inner(state, moment.message, moment.now, settings, moment.timezone)

    return BoundRule(
        name=rule.name,
        key=key,
        category=category,
        status=rule.status,
        timed=rule.timed,
        needs_consent=rule.needs_consent,
        step=step,
        due=None if due is None else lambda state, moment: due(state, moment.now, settings, moment.timezone),
        mode=Mode.LIVE if acting is None else acting.mode,
        rule_id=None if acting is None else acting.id,
        severity=severity,
        of_kind=True,
        own=inner if acting is None else None,
        own_settings=settings if acting is None else None,
    )


def _bind_monitored(
    rule: AlarmRule, kind: DeviceKind, base: Mapping[str, Any], own: Mapping[str, Any]
) -> BoundRule | None:
    if rule.body.type == SILENCE:
        return None
    if rule.body.type != BUILT_IN:
        return _bind(rule, RULE_TYPES[rule.body.type], kind, own)
    of_kind = next(r for r in kind.rules if r.name == rule.name)
    return _bind_own(of_kind, kind.settings.model_validate({**base, **rule.body.parameters, **own}), rule)


def _bind(rule: AlarmRule, rule_type: RuleType, kind: DeviceKind, own: Mapping[str, Any]) -> BoundRule:
    """A data rule: its type's judgement, through its daily window and its damping."""
    silent_after_s: float | None = None
    if rule_type.name == "offline":  # judged by its own time, also while another rule decides what shows as offline
        health = _health_settings({rule.name: rule}, own)
        silent_after_s = kind.settings.model_validate({**health, **own}).silent_after_s
    parameters = rule_type.parameters.model_validate(rule.body.parameters)
    window, damping = rule.body.window, rule.body.damping or rule_type.damping
    gated = window is not None or damping is not None
    due_of = rule_type.due

    def step(state: JsonState, moment: Moment) -> tuple[JsonState, list[Alarm]]:
        if silent_after_s is not None:
            moment = replace(moment, silent_after_s=silent_after_s)
        judged, turn = rule_type.judge(state.get("judged", {}) if gated else state, moment, parameters)
        turns = [turn] if turn is not None else []
        if gated:
            gate, turns = pass_gate(state.get("gate", {}), turn, moment, window, damping)
            judged = {name: part for name, part in (("judged", judged), ("gate", gate)) if part}
        return judged, [
            Alarm(
                rule=rule.name,
                category=rule.body.category,
                cause=write_instant(turn.began_at),
                raised=turn.raised,
                occurred_at=turn.occurred_at,
                detail=dict(turn.detail),
            )
            for turn in turns
        ]

    def due(state: JsonState, moment: Moment) -> datetime | None:
        if silent_after_s is not None:
            moment = replace(moment, silent_after_s=silent_after_s)
        at = due_of(state.get("judged", {}) if gated else state, moment, parameters)
        other = find_gate_due(state.get("gate", {}), moment, window, damping) if gated else None
        return min((t for t in (at, other) if t is not None), default=None)

    def seed(state: DeviceState) -> JsonState:
        first = rule_type.seed(state, parameters) if rule_type.seed is not None else {}
        return {"judged": first} if gated and first else first

    short = "" if rule.mode is Mode.LIVE else f"@{rule.id}"
    return BoundRule(
        name=rule.name,
        key=f"{rule.name}@{rule_type.name}{short}",
        category=rule.body.category,
        status=rule_type.status,
        timed=rule_type.timed or gated,
        needs_consent=rule_type.needs_consent,
        step=step,
        due=due,
        mode=rule.mode,
        rule_id=rule.id,
        severity=rule.body.severity if rule.body.severity is not None else rule_type.severity,
        peers=rule_type.peers(parameters),
        by_gateway=rule_type.name == "offline",
        seed=seed if rule_type.seed is not None else None,
    )
