"""What happens without a message: rules about what did not come, devices that fell silent, checks that wait."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from devices.alarm_store import write_reports
from devices.alarms import Advance, advance_time, is_heard
from devices.model import Device, DeviceState
from devices.quiet import forget_quiets
from devices.registry import KINDS
from devices.rule_type import Parent
from devices.rulebook import BookKeeper, RuleBook, touch_book
from devices.store import lock_free_states, read_devices_by_code, read_devices_by_id, read_states, save_states
from ingest.store import (
    CheckRequest,
    answer_check,
    read_due,
    read_waiting_checks,
    read_watched,
    take_sweep_turn,
)
from kernel.change import ChangeKind, note_changes
from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import Verdict

log = logging.getLogger(__name__)
_ANSWER_BEFORE_S = 5.0  # before a check expires
_KEEP_EVERY = timedelta(hours=1)
_DEAF_AFTER = timedelta(seconds=60)
_MARK_EVERY = timedelta(seconds=10)
_SETTLE_S = 10.0  # rules recover with a hold time: an alarm that is still active just after the question may be ending


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules about more than one device look at: states by code, gateways by id."""

    peers: dict[str, DeviceState]
    parents: dict[UUID, Parent]


def read_surroundings(connection: Connection, devices: Sequence[Device], book: RuleBook) -> Surroundings:
    """The other devices that these devices' rules look at."""
    plans = [(device, book.plan(device)) for device in devices]
    codes = {code for _, plan in plans for code in plan.peers}
    by_code = read_devices_by_code(connection, codes) if codes else {}
    wanted = {device.parent_id for device, plan in plans if plan.by_gateway and device.parent_id is not None}
    gateways = read_devices_by_id(connection, wanted) if wanted else []
    states = read_states(connection, {d.id for d in (*by_code.values(), *gateways)})
    parents = {
        gateway.id: Parent(
            code=gateway.code,
            last_seen_at=states[gateway.id].last_seen_at if gateway.id in states else None,
            silent_after_s=book.plan(gateway).silent_after_s,
        )
        for gateway in gateways
    }
    return Surroundings({code: states[d.id] for code, d in by_code.items() if d.id in states}, parents)


class Sweeper:
    """Looks at the devices for which time alone may change something now, at most `slice_size` of them at a time.

    `device_state.due_at` says which: every step of the rules computes it. After a start, and whenever the rule book changes,
    all devices are gone round once besides, a slice with every sweep, since then the stored instants may be of other rules.
    """

    def __init__(self, settings: Settings, slice_size: int = 1000) -> None:
        self._timezone = settings.city.timezone
        self._slice_size = slice_size
        self._deaf_after = _DEAF_AFTER * max(1.0, settings.clock.speed)
        self._keeper = BookKeeper()
        self._round_of: tuple[int, datetime | None] | None = None  # the book's version of the round
        self._round_after: UUID | None = None
        self._round_open = True
        self._kept_at: datetime | None = None
        self.has_more = False  # the last sweep left something behind: do the next at once

    def sweep(self, connection: Connection, now: datetime, *, judge_absence: bool) -> int:
        """One round in the caller's transaction: due rules, silent devices and waiting checks; alarms raised.

        `judge_absence` is False after a start or a reconnect, while what was missed may still be on its way: then nobody
        is called silent, and the time until it is True again counts as nobody's silence afterwards.
        """
        self.has_more = False
        if not take_sweep_turn(connection):
            return 0
        raised = self._pass_time(connection, now) if judge_absence else 0
        answer_checks(connection, now, self._keeper.current(connection))
        return raised

    def _pass_time(self, connection: Connection, now: datetime) -> int:
        """Find whom time has changed without a lock, then lock those few and decide again."""
        mark_listening(connection, now, self._deaf_after)
        if self._kept_at is None or abs(now - self._kept_at) >= _KEEP_EVERY:
            forget_quiets(connection, now)
            self._kept_at = now
        book = self._keeper.current(connection)
        watched = read_due(connection, now, self._slice_size)
        self.has_more = len(watched) == self._slice_size
        watched += self._next_of_round(connection, book)
        unique = {device.id: (device, state) for device, state in watched}
        around = read_surroundings(connection, [device for device, _ in unique.values()], book)
        moved = {}
        for device, state in unique.values():
            advance = self._advance(device, state, now, book, around)
            if advance.state != state or advance.alarms or advance.findings:
                moved[device.id] = device
        raised = 0
        states: dict[UUID, DeviceState] = {}
        changed: list[tuple[UUID, str]] = []
        for device_id, before in lock_free_states(connection, moved).items():
            device = moved[device_id]
            advance = self._advance(device, before, now, book, around)
            if advance.state != before:
                states[device_id] = advance.state
                raised += len(write_reports(connection, device, before, advance, now, changed=changed))
        save_states(connection, states, now)
        note_changes(connection, ChangeKind.DEVICE, changed, now)
        return raised

    def _next_of_round(self, connection: Connection, book: RuleBook) -> list[tuple[Device, DeviceState]]:
        if self._round_of != book.version:
            self._round_of, self._round_after, self._round_open = book.version, None, True
        if not self._round_open:
            return []
        watched = read_watched(connection, self._round_after, self._slice_size)
        self._round_open = len(watched) == self._slice_size
        self._round_after = watched[-1][0].id if watched else None
        self.has_more = self.has_more or self._round_open
        return watched

    def _advance(
        self, device: Device, state: DeviceState, now: datetime, book: RuleBook, around: Surroundings
    ) -> Advance:
        parent = around.parents.get(device.parent_id) if device.parent_id is not None else None
        kind = KINDS[device.kind]
        return advance_time(kind, device, state, now, self._timezone, book, peers=around.peers, parent=parent)


def mark_listening(connection: Connection, now: datetime, deaf_after: timedelta = _DEAF_AFTER) -> None:
    """Remember that absence is judged now; a long time since the last mark was nobody's silence (`deaf_span`).

    However the time was lost, with our process, the broker or the database: what could not be heard is not held against
    a device, which has the rest of its own time after it.
    """
    row = connection.execute("SELECT judged_at FROM sweep_mark").fetchone()
    if row is not None and timedelta(0) <= now - row[0] < _MARK_EVERY:
        return
    connection.execute(
        "INSERT INTO sweep_mark (judged_at) VALUES (%s) ON CONFLICT (one) DO UPDATE SET judged_at = EXCLUDED.judged_at",
        (now,),
    )
    if row is not None and now - row[0] >= deaf_after:
        connection.execute(
            "INSERT INTO deaf_span (from_at, until_at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (row[0], now)
        )
        touch_book(connection, now)
        log.warning("nobody listened for %d s: no device's silence", (now - row[0]).total_seconds())


def answer_checks(connection: Connection, now: datetime, book: RuleBook | None = None) -> int:
    """Answer the sensor checks that can be answered; how many."""
    waiting = read_waiting_checks(connection)
    states = read_states(connection, {check.device_id for check, _ in waiting})
    answered = 0
    for check, device in waiting:
        answer = judge_check(check, device, states.get(device.id, DeviceState()), now, book)
        if answer is not None:
            answer_check(connection, check.id, *answer, now)
            answered += 1
    return answered


class Answer(StrEnum):
    """Why a sensor's answer is what it is: stable codes, the detail of the check."""

    SWITCHED_OFF = "device_switched_off"
    SILENT = "device_silent"
    STILL_ACTIVE = "alarm_still_active"
    RECOVERED = "alarm_recovered"
    RECOVERED_BEFORE = "alarm_recovered_before"  # and no newer message came


def judge_check(
    check: CheckRequest, device: Device, state: DeviceState, now: datetime, book: RuleBook | None = None
) -> tuple[Verdict, Answer] | None:
    """What the sensor says about its own alarm; None: wait for a message measured after the question was asked.

    Just before the question expires the last known state decides, if the device is heard at all. A device that is
    silent answers inconclusive, never clear. An alarm gets ten seconds to recover before it counts as not clear.
    """
    fresh = state.measured_at is not None and state.measured_at >= check.requested_at
    if not fresh and now < check.expires_at - timedelta(seconds=_ANSWER_BEFORE_S):
        return None
    if not device.enabled:
        return Verdict.INCONCLUSIVE, Answer.SWITCHED_OFF
    if not is_heard(KINDS[device.kind], device, state, now, book):
        return Verdict.INCONCLUSIVE, Answer.SILENT
    if check.rule in state.alarms:
        if now < check.requested_at + timedelta(seconds=_SETTLE_S):
            return None
        return Verdict.NOT_CLEAR, Answer.STILL_ACTIVE
    return Verdict.CLEAR, Answer.RECOVERED if fresh else Answer.RECOVERED_BEFORE
