"""Alarms into the database: the device's new state, reports of what was raised, findings of what was held back."""

import logging
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from devices.alarms import Advance, Finding, advance_device
from devices.model import Alarm, Device, DeviceState, Message
from devices.registry import KINDS
from devices.rulebook import RuleBook
from devices.store import lock_states, save_state
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Source

log = logging.getLogger(__name__)


def write_alarms(
    connection: Connection, device: Device, before: DeviceState, advance: Advance, now: datetime
) -> list[Report]:
    """Store the device's new state, report what was raised, and note the change for the wall; the reports that are new.

    Raises psycopg.errors.ForeignKeyViolation when a rule's category is not in the database.
    """
    save_state(connection, device.id, advance.state, now)
    return write_reports(connection, device, before, advance, now)


def write_reports(
    connection: Connection,
    device: Device,
    before: DeviceState,
    advance: Advance,
    now: datetime,
    *,
    changed: list[tuple[UUID, str]] | None = None,
) -> list[Report]:
    """As `write_alarms`, for a caller that stores the states of many devices at once.

    `changed`: takes the device's id and area code instead of noting the change, for `kernel.change.note_changes`.
    """
    written = []
    for finding in advance.findings:
        write_finding(connection, device, finding, now)
    for alarm in advance.alarms:
        if not alarm.raised:
            log.info("recovered", extra={"device": device.code, "rule": alarm.rule, "cause": alarm.cause})
            continue
        report = make_report(device, alarm, now)
        if insert_report(connection, report):
            written.append(report)
    if before.status != advance.state.status or before.alarms != advance.state.alarms:
        if changed is not None:
            changed.append((device.id, device.area_code))
        else:
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
        severity=alarm.severity,
        detail={**alarm.detail, "cause": alarm.cause},
    )


def write_finding(connection: Connection, device: Device, finding: Finding, now: datetime) -> None:
    """Record an alarm that went no further, or its end; a repeat changes nothing."""
    alarm = finding.alarm
    if not alarm.raised:
        connection.execute(
            "UPDATE rule_finding SET ended_at = %s WHERE device_id = %s AND rule = %s AND cause = %s AND outcome = %s"
            " AND rule_id IS NOT DISTINCT FROM %s AND ended_at IS NULL",
            (alarm.occurred_at, device.id, alarm.rule, alarm.cause, finding.outcome, finding.rule_id),
        )
        return
    connection.execute(
        """
        INSERT INTO rule_finding
            (id, device_id, rule_id, rule, cause, outcome, category, occurred_at, received_at, detail)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
        """,
        (
            new_id(now), device.id, finding.rule_id, alarm.rule, alarm.cause, finding.outcome, alarm.category,
            alarm.occurred_at, now, Jsonb(alarm.detail),
        ),
    )  # fmt: skip


def take_message(
    connection: Connection,
    device: Device,
    message: Message,
    now: datetime,
    timezone: str,
    book: RuleBook | None = None,
) -> tuple[DeviceState, list[Report]]:
    """One message of one device, whole: lock its state, run its rules, write. For the vision worker's camera health.

    Raises KeyError when the kind is unknown.
    """
    kind = KINDS[device.kind]
    before = lock_states(connection, [device.id]).get(device.id, DeviceState())
    advance = advance_device(kind, device, before, [message], now, timezone, book)
    return advance.state, write_alarms(connection, device, before, advance, now)
