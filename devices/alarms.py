"""From a message, or from time that passed, to a device's new state and its alarms. Pure; devices/alarm_store.py writes them.

Messages may come late or out of order: a newer value is never overwritten by an older one, and each rule decides what
an old message still means.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from devices.model import (
    Alarm,
    Device,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    JsonState,
    Message,
    TopicKind,
    instant_text,
    read_state_instant,
    sort_messages,
)
from devices.rule_type import Moment, Parent
from devices.rulebook import PLAIN, BoundRule, Mode, Plan, RuleBook

log = logging.getLogger(__name__)
_NONE: Final[frozenset[DeviceStatus]] = frozenset()
_SELF = ""  # key in rule_state of what the device last said about its own health


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleFailure:
    """A rule that raised an exception; the others ran."""

    rule: str
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """An alarm that goes no further: its rule is in mode `monitor`, or it is held back while the device is kept quiet."""

    alarm: Alarm
    outcome: str  # monitor | shelved | maintenance
    rule_id: UUID | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleOutcome:
    """What the rules of one device made of one message or of passing time."""

    rule_state: dict[str, JsonState]
    alarms: list[Alarm]
    active: dict[str, Any]  # {rule: {"cause", "category", "raised_at"}}, with "held" and "detail" while held back
    failures: list[RuleFailure]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """A device's state after some messages, the alarms in order, and what failed with the message it failed on."""

    state: DeviceState
    alarms: list[Alarm]
    failures: list[tuple[Message | None, RuleFailure]]
    findings: list[Finding] = field(default_factory=list)


def read_settings(kind: DeviceKind, device: Device) -> DeviceSettings:
    """The device's settings, checked by its kind.

    Raises pydantic.ValidationError when the stored ones do not fit, which `set_device_settings` prevents.
    """
    return kind.settings.model_validate(device.settings)


class _Round:
    """One step of all rules of one device: what they remember, what is active, what came of it."""

    __slots__ = ("active", "alarms", "book", "device", "failures", "findings", "now", "rule_state")

    def __init__(self, book: RuleBook, device: Device, state: DeviceState, now: datetime) -> None:
        self.book, self.device, self.now = book, device, now
        self.rule_state, self.active = dict(state.rule_state), dict(state.alarms)
        self.alarms: list[Alarm] = []
        self.failures: list[RuleFailure] = []
        self.findings: list[Finding] = []

    def step(self, rule: BoundRule, moment: Moment) -> None:
        """Step one rule. What it raises as an exception is recorded and stays its own."""
        known = self.rule_state.get(rule.key)
        if known is None:
            known = rule.seed(moment.state) if rule.seed is not None else {}
        try:
            stepped, raised = rule.step(known, moment)
        except Exception as error:  # a rule is code of many hands
            self._note_failure(rule, error)
            return
        self._keep(rule, stepped, raised)

    def step_own(self, rule: BoundRule, message: Message, timezone: str) -> None:
        """As `step`, for a rule of the kind's own that no data rule changes."""
        assert rule.own is not None
        if rule.needs_consent and not has_consent(self.device, self.now):
            self.forget(rule)
            return
        known = self.rule_state.get(rule.key)
        try:
            stepped, raised = rule.own(
                known if known is not None else {}, message, self.now, rule.own_settings, timezone
            )
        except Exception as error:
            self._note_failure(rule, error)
            return
        if raised or not stepped:
            self._keep(rule, stepped, raised)
        else:
            self.rule_state[rule.key] = stepped

    def _note_failure(self, rule: BoundRule, error: Exception) -> None:
        log.error("rule %s failed for %s", rule.name, self.device.code, exc_info=error)
        self.failures.append(RuleFailure(rule=rule.name, error=f"{type(error).__name__}: {error}"))

    def _keep(self, rule: BoundRule, stepped: JsonState, raised: Sequence[Alarm]) -> None:
        if stepped:
            self.rule_state[rule.key] = stepped
        else:
            self.rule_state.pop(rule.key, None)
        for alarm in raised:
            if rule.severity is not None or rule.rule_id is not None:
                alarm = replace(alarm, category=rule.category, severity=rule.severity)
            if rule.mode is Mode.MONITOR:
                self.findings.append(Finding(alarm=alarm, outcome=Mode.MONITOR, rule_id=rule.rule_id))
            else:
                self.take(rule, alarm)

    def take(self, rule: BoundRule, alarm: Alarm) -> None:
        """An alarm of a live rule: active from its beginning to its end, and told unless it is held back."""
        before = self.active.pop(alarm.rule, None)
        held = before.get("held") if before is not None else None
        if not alarm.raised:
            if held is None:
                self.alarms.append(alarm)
            else:
                self.findings.append(Finding(alarm=alarm, outcome=held, rule_id=rule.rule_id))
            return
        entry: dict[str, Any] = {
            "cause": alarm.cause,
            "category": alarm.category,
            "raised_at": instant_text(alarm.occurred_at),
        }
        if rule.key != rule.name:
            entry["key"] = rule.key
        quiet = self.book.find_quiet(self.device, rule.name, self.now) if self.book.has_quiets else None
        if quiet is not None:
            entry |= {"held": str(quiet.why), "detail": alarm.detail}
            if alarm.severity is not None:
                entry["severity"] = alarm.severity
            self.findings.append(Finding(alarm=alarm, outcome=quiet.why, rule_id=rule.rule_id))
        else:
            self.alarms.append(alarm)
        self.active[alarm.rule] = entry

    def settle(self, plan: Plan) -> None:
        """End what no rule stands behind any more, and tell what is held back no longer."""
        for name, entry in list(self.active.items()):
            rule = plan.acting.get(name)
            if rule is None or entry.get("key", name) != rule.key:
                del self.active[name]
                if "held" not in entry:
                    self.alarms.append(self._make(name, entry, raised=False, detail={"reason": "rule_changed"}))
            elif "held" in entry and self.book.find_quiet(self.device, name, self.now) is None:
                self.active[name] = {k: v for k, v in entry.items() if k not in ("held", "detail", "severity")}
                detail = {**entry.get("detail", {}), "held": entry["held"]}
                self.alarms.append(self._make(name, entry, raised=True, detail=detail))
        keys = {rule.key for rule in plan.rules}
        for key in [k for k in self.rule_state if "@" in k and k not in keys]:
            del self.rule_state[key]

    def _make(self, name: str, entry: dict[str, Any], *, raised: bool, detail: dict[str, Any]) -> Alarm:
        raised_at = read_state_instant(entry, "raised_at") or self.now
        return Alarm(
            rule=name,
            category=entry["category"],
            cause=entry["cause"],
            raised=raised,
            occurred_at=raised_at if raised else self.now,
            detail=detail,
            severity=entry.get("severity"),
        )

    def forget(self, rule: BoundRule) -> None:
        """What a rule remembers of a person's day goes with the consent."""
        self.rule_state.pop(rule.key, None)
        if rule.mode is Mode.LIVE:
            self.active.pop(rule.name, None)


def run_rules(
    kind: DeviceKind,
    device: Device,
    state: DeviceState,
    message: Message | None,
    now: datetime,
    timezone: str,
    book: RuleBook | None = None,
    *,
    readings: Mapping[str, float] | None = None,
    peers: Mapping[str, DeviceState] | None = None,
    parent: Parent | None = None,
) -> RuleOutcome:
    """Step every rule of the device, or with `message` None every timed one. One failing rule stops no other.

    `readings`: the message's, when the caller has them already. `peers`, `parent`: what rules about more than one device
    look at when time passes (`Plan.peers`, `Plan.by_gateway` say which).
    """
    known_book = book if book is not None else PLAIN
    plan = known_book.plan(device)
    turn = _Round(known_book, device, state, now)
    if plan.failure is not None:
        turn.failures.append(RuleFailure(rule="settings", error=plan.failure))
    else:
        moment = Moment(
            device=device,
            kind=kind,
            state=state,
            at=message.measured_at if message is not None else now,
            now=now,
            timezone=timezone,
            silent_after_s=plan.silent_after_s,
            message=message,
            passing=message is None,
            readings=readings if readings is not None else (kind.readings(message.payload) if message else {}),
            is_event=message.topic_kind is TopicKind.EVENT if message is not None else None,
            active=turn.active,
            peers=peers if peers is not None else {},
            parent=parent,
            heard_from=known_book.heard_from,
        )
        for rule in plan.rules if message is not None else plan.timed:
            if rule.needs_consent and not has_consent(device, now):
                turn.forget(rule)
            elif not rule.peers or message is not None or peers is not None:
                turn.step(rule, moment)
        if book is not None and (message is None or turn.active):
            turn.settle(plan)
    return RuleOutcome(
        rule_state=turn.rule_state,
        alarms=turn.alarms,
        active=turn.active,
        failures=turn.failures,
        findings=turn.findings,
    )


def advance_device(
    kind: DeviceKind,
    device: Device,
    state: DeviceState,
    messages: Sequence[Message],
    now: datetime,
    timezone: str,
    book: RuleBook | None = None,
) -> Advance:
    """Take `messages` in the order in which they were measured. Pure."""
    messages = sort_messages(messages)
    known_book = book if book is not None else PLAIN
    if (plan := known_book.plan(device)).is_plain:
        return _advance_plainly(plan, device, state, messages, now, timezone, book)
    alarms: list[Alarm] = []
    failures: list[tuple[Message | None, RuleFailure]] = []
    findings: list[Finding] = []
    for message in messages:
        readings = message.readings if message.readings is not None else kind.readings(message.payload)
        outcome = run_rules(kind, device, state, message, now, timezone, book, readings=readings)
        alarms += outcome.alarms
        findings += outcome.findings
        failures += [(message, failure) for failure in outcome.failures]
        state = _take(plan, state, outcome, message, readings)
    state = replace(state, due_at=find_due(device, state, now, timezone, book))
    return Advance(state=state, alarms=alarms, failures=failures, findings=findings)


def _advance_plainly(
    plan: Plan,
    device: Device,
    state: DeviceState,
    messages: Sequence[Message],
    now: datetime,
    timezone: str,
    book: RuleBook | None,
) -> Advance:
    """As the general way, for a device that only its kind's own rules act on, as most do.

    Those look at nothing but the message and what they remember, so the device's state is put together once at the end and
    not after each message: a third of the work. A test holds the two ways to the same answer.
    """
    kind = plan.kind
    turn = _Round(book if book is not None else PLAIN, device, state, now)
    failures: list[tuple[Message | None, RuleFailure]] = []
    newest: dict[str, tuple[float, Message]] = {}
    said: tuple[DeviceStatus, Message] | None = None
    last_seen_at, rules = state.last_seen_at, plan.rules
    for message in messages:
        readings = message.readings if message.readings is not None else kind.readings(message.payload)
        for name, value in readings.items():
            newest[name] = (value, message)
        for rule in rules:
            turn.step_own(rule, message, timezone)
        if turn.failures:
            failures += [(message, failure) for failure in turn.failures]
            turn.failures.clear()
        if turn.active and book is not None:
            turn.settle(plan)
        if (status := kind.status(message.payload)) is not None:
            said = (status, message)
        heard_at = kind.heard_at(message)
        if heard_at is not None and (last_seen_at is None or heard_at > last_seen_at):
            last_seen_at = heard_at
    measured_at = messages[-1].measured_at if messages else state.measured_at
    state = replace(
        state,
        metrics=_merge_newest(state.metrics, newest),
        rule_state=_merge_said(turn.rule_state, said),
        alarms=turn.active,
        last_seen_at=last_seen_at,
        measured_at=max(state.measured_at or measured_at, measured_at) if measured_at is not None else None,
    )
    offline = state.rule_state.get(_SELF, {}).get("status") == DeviceStatus.OFFLINE
    if (status := find_status(plan, state, offline=offline)) is not state.status:
        state = replace(state, status=status)
    state = replace(state, due_at=find_due(device, state, now, timezone, book))
    return Advance(state=state, alarms=turn.alarms, failures=failures, findings=turn.findings)


def _merge_newest(known: dict[str, Any], newest: Mapping[str, tuple[float, Message]]) -> dict[str, Any]:
    """Each metric's value of the latest message, where nothing later was known."""
    metrics = dict(known)
    texts: dict[datetime, str] = {}
    for name, (value, message) in newest.items():
        at = message.measured_at
        known_at = read_state_instant(metrics.get(name, {}), "at")
        if known_at is None or at >= known_at:
            metrics[name] = {"value": value, "at": texts.get(at) or texts.setdefault(at, instant_text(at))}
    return metrics


def _merge_said(rule_state: dict[str, JsonState], said: tuple[DeviceStatus, Message] | None) -> dict[str, JsonState]:
    if said is not None:
        status, message = said
        said_at = read_state_instant(rule_state.get(_SELF, {}), "at")
        if said_at is None or message.measured_at >= said_at:
            rule_state[_SELF] = {"status": str(status), "at": instant_text(message.measured_at)}
    return rule_state


def advance_time(
    kind: DeviceKind,
    device: Device,
    state: DeviceState,
    now: datetime,
    timezone: str,
    book: RuleBook | None = None,
    *,
    peers: Mapping[str, DeviceState] | None = None,
    parent: Parent | None = None,
) -> Advance:
    """Let time pass: the timed rules, and offline when nothing was heard for longer than the settings allow. Pure."""
    outcome = run_rules(kind, device, state, None, now, timezone, book, peers=peers, parent=parent)
    plan = (book if book is not None else PLAIN).plan(device)
    state = replace(state, rule_state=outcome.rule_state, alarms=outcome.active)
    offline = state.status is DeviceStatus.OFFLINE or not is_heard(kind, device, state, now, book)
    state = replace(state, status=find_status(plan, state, offline=offline))
    due_at = find_due(device, state, now, timezone, book, parent=parent, failed=bool(outcome.failures))
    return Advance(
        state=replace(state, due_at=due_at),
        alarms=outcome.alarms,
        failures=[(None, failure) for failure in outcome.failures],
        findings=outcome.findings,
    )


def find_due(
    device: Device,
    state: DeviceState,
    now: datetime,
    timezone: str,
    book: RuleBook | None = None,
    *,
    parent: Parent | None = None,
    failed: bool = False,
) -> datetime | None:
    """The earliest instant at which `advance_time` may change something; None: never, until a message comes.

    It may be early, never late. After a rule has `failed` the next try is a minute away.
    """
    known_book = book if book is not None else PLAIN
    plan = known_book.plan(device)
    dues: list[datetime] = []
    if state.status is not DeviceStatus.OFFLINE and state.last_seen_at is not None:
        dues.append(known_book.heard_from(state.last_seen_at) + timedelta(seconds=plan.silent_after_s))
    if any("held" in entry for entry in state.alarms.values()):
        quiets = [known_book.find_quiet(device, name, now) for name, entry in state.alarms.items() if "held" in entry]
        dues += [quiet.until_at if quiet is not None else now for quiet in quiets]
    if plan.timed:
        moment = Moment(
            device=device,
            kind=plan.kind,
            state=state,
            at=now,
            now=now,
            timezone=timezone,
            silent_after_s=plan.silent_after_s,
            passing=True,
            active=state.alarms,
            parent=parent,
            heard_from=known_book.heard_from,
        )
        for rule in plan.timed:
            dues += _find_rule_due(rule, moment, now, failed=failed)
    return min(dues, default=None)


def _find_rule_due(rule: BoundRule, moment: Moment, now: datetime, *, failed: bool) -> list[datetime]:
    if rule.needs_consent and moment.device.in_home:
        ends_at = moment.device.consent_until
        if ends_at is None or ends_at <= now:
            return []
        found = _find_rule_due(replace(rule, needs_consent=False), moment, now, failed=failed)
        return [*found, ends_at]
    known = moment.state.rule_state.get(rule.key)
    if known is None:
        known = rule.seed(moment.state) if rule.seed is not None else {}
    try:
        due_at = rule.due(known, moment) if rule.due is not None else now
    except Exception as error:
        log.error("rule %s cannot say when it is due for %s: %s", rule.name, moment.device.code, error)
        due_at, failed = now, True
    if due_at is None:
        return []
    return [max(due_at, now + timedelta(minutes=1)) if failed else due_at]


def has_consent(device: Device, now: datetime) -> bool:
    """Whether what the device says about a person may be judged: not in a home, or with consent on record."""
    return not device.in_home or (device.consent_until is not None and now < device.consent_until)


def is_heard(kind: DeviceKind, device: Device, state: DeviceState, now: datetime, book: RuleBook | None = None) -> bool:
    """Whether the device was heard within its own time (`silent_after_s`); False when never."""
    del kind
    if state.last_seen_at is None:
        return False
    known_book = book if book is not None else PLAIN
    silent = now - known_book.heard_from(state.last_seen_at)
    return silent.total_seconds() <= known_book.plan(device).silent_after_s


def find_status(plan: Plan, state: DeviceState, *, offline: bool) -> DeviceStatus:
    """An alarm counts most, then being offline, then a fault."""
    said = state.rule_state.get(_SELF, {}).get("status")
    shown = {plan.acting[name].status for name in state.alarms if name in plan.acting} if state.alarms else _NONE
    if DeviceStatus.ALARM in shown:
        return DeviceStatus.ALARM
    if state.last_seen_at is None and said is None:
        return DeviceStatus.UNKNOWN
    if offline:
        return DeviceStatus.OFFLINE
    if DeviceStatus.FAULT in shown or said == DeviceStatus.FAULT:
        return DeviceStatus.FAULT
    return DeviceStatus.OK


def _take(
    plan: Plan, state: DeviceState, outcome: RuleOutcome, message: Message, readings: Mapping[str, float]
) -> DeviceState:
    """Newest value of each metric, when it was heard, how it stands."""
    kind, rule_state = plan.kind, outcome.rule_state
    metrics = dict(state.metrics)
    at_text = instant_text(message.measured_at)
    for name, value in readings.items():
        known = read_state_instant(metrics.get(name, {}), "at")
        if known is None or message.measured_at >= known:
            metrics[name] = {"value": value, "at": at_text}
    said = kind.status(message.payload)
    said_at = read_state_instant(rule_state.get(_SELF, {}), "at")
    if said is not None and (said_at is None or message.measured_at >= said_at):
        rule_state[_SELF] = {"status": str(said), "at": at_text}
    heard_at = kind.heard_at(message)
    state = replace(
        state,
        metrics=metrics,
        rule_state=rule_state,
        alarms=outcome.active,
        last_seen_at=max((t for t in (state.last_seen_at, heard_at) if t is not None), default=None),
        measured_at=max(state.measured_at or message.measured_at, message.measured_at),
    )
    offline = rule_state.get(_SELF, {}).get("status") == DeviceStatus.OFFLINE
    return replace(state, status=find_status(plan, state, offline=offline))
