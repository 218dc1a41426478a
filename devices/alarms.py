"""From a message, or from time that passed, to a device's new state and its alarms; and both into the database.

Messages may come late or out of order: a newer value is never overwritten by an older one, and each rule decides what
an old message still means.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from devices.model import (
    Alarm,
    Device,
    DeviceKind,
    DeviceSettings,
    DeviceState,
    DeviceStatus,
    JsonState,
    Message,
    instant_text,
    read_state_instant,
)
from devices.registry import KINDS
from devices.store import lock_states, save_state
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Source

log = logging.getLogger(__name__)
_SELF = ""  # key in rule_state of what the device last said about its own health


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleFailure:
    """A rule that raised an exception; the others ran."""

    rule: str
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleOutcome:
    """What the rules of one device made of one message or of passing time."""

    rule_state: dict[str, JsonState]
    alarms: list[Alarm]
    active: dict[str, Any]  # {rule: {"cause", "category", "raised_at"}}
    failures: list[RuleFailure]


@dataclass(frozen=True, kw_only=True, slots=True)
class Advance:
    """A device's state after some messages, the alarms in order, and what failed with the message it failed on."""

    state: DeviceState
    alarms: list[Alarm]
    failures: list[tuple[Message | None, RuleFailure]]


def read_settings(kind: DeviceKind, device: Device) -> DeviceSettings:
    """The device's settings, checked by its kind.

    Raises pydantic.ValidationError when the stored ones do not fit, which `set_device_settings` prevents.
    """
    return kind.settings.model_validate(device.settings)


def run_rules(
    kind: DeviceKind,
    device: Device,
    state: DeviceState,
    message: Message | None,
    now: datetime,
    timezone: str,
) -> RuleOutcome:
    """Step every rule of the kind, or with `message` None every timed one. One failing rule stops no other."""
    rule_state, active = dict(state.rule_state), dict(state.alarms)
    alarms: list[Alarm] = []
    failures: list[RuleFailure] = []
    try:
        settings = read_settings(kind, device)
    except ValidationError as error:
        return RuleOutcome(
            rule_state=rule_state,
            alarms=[],
            active=active,
            failures=[
                RuleFailure(
                    rule="settings", error=f"{error.error_count()} settings do not fit: {error.errors()[0]['msg']}"
                )
            ],
        )
    for rule in kind.rules:
        if message is None and not rule.timed:
            continue
        try:
            stepped, raised = rule.step(rule_state.get(rule.name, {}), message, now, settings, timezone)
        except Exception as error:  # a rule is code of many hands: its fault is recorded and stays its own
            log.exception("rule %s failed for %s", rule.name, device.code)
            failures.append(RuleFailure(rule=rule.name, error=f"{type(error).__name__}: {error}"))
            continue
        if stepped:
            rule_state[rule.name] = stepped
        for alarm in raised:
            alarms.append(alarm)
            if alarm.raised:
                active[rule.name] = {
                    "cause": alarm.cause,
                    "category": alarm.category,
                    "raised_at": instant_text(alarm.occurred_at),
                }
            else:
                active.pop(rule.name, None)
    return RuleOutcome(rule_state=rule_state, alarms=alarms, active=active, failures=failures)


def advance_device(
    kind: DeviceKind, device: Device, state: DeviceState, messages: Sequence[Message], now: datetime, timezone: str
) -> Advance:
    """Take `messages` in the order in which they were measured. Pure."""
    alarms: list[Alarm] = []
    failures: list[tuple[Message | None, RuleFailure]] = []
    for message in sorted(messages, key=lambda m: (m.measured_at, m.seq if m.seq is not None else -1, m.id)):
        outcome = run_rules(kind, device, state, message, now, timezone)
        alarms += outcome.alarms
        failures += [(message, failure) for failure in outcome.failures]
        state = _take(kind, replace(state, rule_state=outcome.rule_state, alarms=outcome.active), message)
    return Advance(state=state, alarms=alarms, failures=failures)


def advance_time(kind: DeviceKind, device: Device, state: DeviceState, now: datetime, timezone: str) -> Advance:
    """Let time pass: the timed rules, and offline when nothing was heard for longer than the settings allow. Pure."""
    outcome = run_rules(kind, device, state, None, now, timezone)
    state = replace(state, rule_state=outcome.rule_state, alarms=outcome.active)
    offline = state.status is DeviceStatus.OFFLINE or not is_heard(kind, device, state, now)
    state = replace(state, status=find_status(kind, state, offline=offline))
    return Advance(state=state, alarms=outcome.alarms, failures=[(None, failure) for failure in outcome.failures])


def is_heard(kind: DeviceKind, device: Device, state: DeviceState, now: datetime) -> bool:
    """Whether the device was heard within its own `offline_after_s`; False when never."""
    if state.last_seen_at is None:
        return False
    try:
        offline_after_s = read_settings(kind, device).offline_after_s
    except ValidationError:
        offline_after_s = kind.settings().offline_after_s
    return (now - state.last_seen_at).total_seconds() <= offline_after_s


def find_status(kind: DeviceKind, state: DeviceState, *, offline: bool) -> DeviceStatus:
    """An alarm counts most, then being offline, then a fault."""
    shown = {rule.status for rule in kind.rules if rule.name in state.alarms}
    said = state.rule_state.get(_SELF, {}).get("status")
    if DeviceStatus.ALARM in shown:
        return DeviceStatus.ALARM
    if state.last_seen_at is None and said is None:
        return DeviceStatus.UNKNOWN
    if offline:
        return DeviceStatus.OFFLINE
    if DeviceStatus.FAULT in shown or said == DeviceStatus.FAULT:
        return DeviceStatus.FAULT
    return DeviceStatus.OK


def _take(kind: DeviceKind, state: DeviceState, message: Message) -> DeviceState:
    """Newest value of each metric, when it was heard, how it stands."""
    metrics = dict(state.metrics)
    at_text = instant_text(message.measured_at)
    for name, value in kind.readings(message.payload).items():
        known = read_state_instant(metrics.get(name, {}), "at")
        if known is None or message.measured_at >= known:
            metrics[name] = {"value": value, "at": at_text}
    rule_state = state.rule_state
    said = kind.status(message.payload)
    said_at = read_state_instant(rule_state.get(_SELF, {}), "at")
    if said is not None and (said_at is None or message.measured_at >= said_at):
        rule_state = rule_state | {_SELF: {"status": str(said), "at": at_text}}
    heard_at = kind.heard_at(message)
    state = replace(
        state,
        metrics=metrics,
        rule_state=rule_state,
        last_seen_at=max((t for t in (state.last_seen_at, heard_at) if t is not None), default=None),
        measured_at=max(state.measured_at or message.measured_at, message.measured_at),
    )
    offline = rule_state.get(_SELF, {}).get("status") == DeviceStatus.OFFLINE
    return replace(state, status=find_status(kind, state, offline=offline))


def write_alarms(
    connection: Connection, device: Device, before: DeviceState, advance: Advance, now: datetime
) -> list[Report]:
    """Store the device's new state, report what was raised, and note the change for the wall; the reports that are new.

    Raises psycopg.errors.ForeignKeyViolation when a rule's category is not in the database.
    """
    save_state(connection, device.id, advance.state, now)
    return write_reports(connection, device, before, advance, now)


def write_reports(
    connection: Connection, device: Device, before: DeviceState, advance: Advance, now: datetime
) -> list[Report]:
    """As `write_alarms`, for a caller that stores the states of many devices at once."""
    written = []
    for alarm in advance.alarms:
        if not alarm.raised:
            log.info("recovered", extra={"device": device.code, "rule": alarm.rule, "cause": alarm.cause})
            continue
        report = make_report(device, alarm, now)
        if insert_report(connection, report):
            written.append(report)
    if before.status != advance.state.status or before.alarms != advance.state.alarms:
        note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)
    return written


def make_report(device: Device, alarm: Alarm, now: datetime) -> Report:
    """The report of a raised alarm. Its key names device, rule and episode, so that a repeat is the same report."""
    return Report(
        id=new_id(now),
        source=Source.CAMERA if device.kind == "camera" else Source.DEVICE,
        source_key=f"{device.code}:{alarm.rule}:{alarm.cause}",
        category=alarm.category,
        lon=device.lon,
        lat=device.lat,
        source_crs=device.source_crs,
        device_id=device.id,
        rule=alarm.rule,
        area_code=device.area_code,
        occurred_at=alarm.occurred_at,
        received_at=now,
        detail={**alarm.detail, "cause": alarm.cause},
    )


def take_message(
    connection: Connection, device: Device, message: Message, now: datetime, timezone: str
) -> tuple[DeviceState, list[Report]]:
    """One message of one device, whole: lock its state, run its rules, write. For the vision worker's camera health.

    Raises KeyError when the kind is unknown.
    """
    kind = KINDS[device.kind]
    before = lock_states(connection, [device.id]).get(device.id, DeviceState())
    advance = advance_device(kind, device, before, [message], now, timezone)
    return advance.state, write_alarms(connection, device, before, advance, now)
