"""What happens without a message: rules about what did not come, devices that fell silent, checks that wait, housekeeping."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from devices.alarms import advance_time, is_heard, write_alarms
from devices.model import Device, DeviceState
from devices.registry import KINDS
from devices.store import lock_free_states, read_states
from ingest.store import (
    CheckRequest,
    answer_check,
    drop_readings,
    ensure_partitions,
    forget_dead_letters,
    forget_messages,
    read_waiting_checks,
    read_watched,
    take_sweep_turn,
)
from kernel.db import Connection, Database
from kernel.settings import Settings
from kernel.types import Verdict

log = logging.getLogger(__name__)
DEAD_LETTER_DAYS = 30
_ANSWER_BEFORE_S = 5.0  # before a check expires
_SETTLE_S = 10.0  # rules recover with a hold time: an alarm that is still active just after the question may be ending


class Sweeper:
    """Goes round the devices, at most `slice_size` of them at a time, so that a large fleet makes no long transactions."""

    def __init__(self, settings: Settings, slice_size: int = 1000) -> None:
        self._timezone = settings.city.timezone
        self._slice_size = slice_size
        self._after: dict[bool, UUID | None] = {}

    def sweep(self, connection: Connection, now: datetime, *, all_kinds: bool, judge_absence: bool) -> int:
        """One round in the caller's transaction: timed rules, silent devices and waiting checks; alarms raised.

        `judge_absence` is False after a start or a reconnect, while what was missed may still be on its way: then nobody
        is called silent. `all_kinds`: look at kinds without timed rules too, for devices that went offline.
        """
        if not take_sweep_turn(connection):
            return 0
        raised = self._pass_time(connection, now, all_kinds) if judge_absence else 0
        answer_checks(connection, now)
        return raised

    def _pass_time(self, connection: Connection, now: datetime, all_kinds: bool) -> int:
        """Find whom time has changed without a lock, then lock those few and decide again."""
        kinds = [name for name, kind in KINDS.items() if all_kinds or any(rule.timed for rule in kind.rules)]
        watched = read_watched(connection, kinds, self._after.get(all_kinds), self._slice_size)
        self._after[all_kinds] = watched[-1][0].id if len(watched) == self._slice_size else None
        moved = {device.id: device for device, state in watched if _changes(device, state, now, self._timezone)}
        raised = 0
        for device_id, before in lock_free_states(connection, moved).items():
            device = moved[device_id]
            advance = advance_time(KINDS[device.kind], device, before, now, self._timezone)
            if advance.state != before:
                raised += len(write_alarms(connection, device, before, advance, now))
        return raised


def _changes(device: Device, state: DeviceState, now: datetime, timezone: str) -> bool:
    advance = advance_time(KINDS[device.kind], device, state, now, timezone)
    return bool(advance.alarms) or advance.state != state


def answer_checks(connection: Connection, now: datetime) -> int:
    """Answer the sensor checks that can be answered; how many."""
    waiting = read_waiting_checks(connection)
    states = read_states(connection, {check.device_id for check, _ in waiting})
    answered = 0
    for check, device in waiting:
        answer = judge_check(check, device, states.get(device.id, DeviceState()), now)
        if answer is not None:
            answer_check(connection, check.id, *answer, now)
            answered += 1
    return answered


def judge_check(check: CheckRequest, device: Device, state: DeviceState, now: datetime) -> tuple[Verdict, str] | None:
    """What the sensor says about its own alarm; None: wait for a message measured after the question was asked.

    Just before the question expires the last known state decides, if the device is heard at all. A device that is
    silent answers inconclusive, never clear. An alarm gets ten seconds to recover before it counts as not clear.
    """
    fresh = state.measured_at is not None and state.measured_at >= check.requested_at
    if not fresh and now < check.expires_at - timedelta(seconds=_ANSWER_BEFORE_S):
        return None
    if not device.enabled:
        return Verdict.INCONCLUSIVE, "the device is switched off"
    if not is_heard(KINDS[device.kind], device, state, now):
        return Verdict.INCONCLUSIVE, "the device is silent"
    if check.rule in state.alarms:
        if now < check.requested_at + timedelta(seconds=_SETTLE_S):
            return None
        return Verdict.NOT_CLEAR, "the alarm is still active"
    return (
        Verdict.CLEAR,
        "the alarm has recovered" if fresh else "the alarm had recovered before; no newer message came",
    )


def keep_house(database: Database, now: datetime, settings: Settings, stopping: Callable[[], bool]) -> None:
    """Make partitions ahead, drop what is older than its time. Short transactions; safe for several at once."""
    with database.transaction() as connection:
        made = ensure_partitions(connection, now.date())
    with database.transaction() as connection:
        before = now.date() - timedelta(days=settings.database.reading_retention_days)
        dropped = drop_readings(connection, before)
    # One day longer than what decode refuses as past-dated: a repeat of a forgotten message can no longer come in.
    keep = timedelta(days=settings.ingest.past_tolerance_days + 1)
    forgotten = 0
    while not stopping():
        with database.transaction() as connection:
            step = forget_messages(connection, now - keep)
        forgotten += step
        if step == 0:
            break
    with database.transaction() as connection:
        letters = forget_dead_letters(connection, now - timedelta(days=DEAD_LETTER_DAYS))
    if made or dropped or forgotten or letters:
        log.info(
            "kept house",
            extra={
                "partitions_made": made,
                "partitions_dropped": dropped,
                "messages": forgotten,
                "dead_letters": letters,
            },
        )
