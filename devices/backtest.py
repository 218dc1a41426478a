"""What a rule would have raised on the readings that are stored: how many alarms, on which days and devices, at which hours.

Readings are replayed in the order in which they came, each device through the same steps as in live running, with the instants at
which time alone would have changed something between them. What is not stored is not replayed: a reading does not say whether an
event or a report at intervals brought it, so an event is taken to be a value that changed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, get_args
from uuid import UUID

from psycopg.rows import class_row
from pydantic import ValidationError

from devices.alarms import has_consent
from devices.model import (
    Device,
    DeviceKind,
    DeviceState,
    JsonState,
    Message,
    Payload,
    TopicKind,
    instant_text,
)
from devices.registry import KINDS
from devices.rule_registry import RULE_TYPES
from devices.rule_store import RuleError
from devices.rule_type import Moment
from devices.rulebook import BUILT_IN, SILENCE, AlarmRule, BoundRule, Mode, Plan, RuleBook
from devices.rules.combination import CombinationParameters
from devices.store import DEVICE_COLUMNS
from kernel.clock import to_local
from kernel.db import Connection

MAX_DAYS = 90
MAX_READINGS = 400_000
MAX_S = 10.0
_MAX_DEVICES = 5_000
_CHUNK = 50
_LISTED = 100
_ASK_EVERY = 2_000
_LEAST_STEP = timedelta(seconds=1)  # as often as time is looked at in live running


@dataclass(frozen=True, kw_only=True, slots=True)
class BackTest:
    """What came of it. `per_day` has every day of the span, local time; `by_hour` 24 counts; `devices` the noisiest first.

    `truncated`: there was more than may be looked at in one go; then `looked_at` devices were, from the first by code.
    """

    alarms: int
    per_day: list[tuple[date, int]]
    by_hour: list[int]
    devices: list[tuple[str, int]]
    truncated: bool
    readings: int
    looked_at: int
    in_scope: int


@dataclass(frozen=True, slots=True)
class _Arrival:
    """The numbers of one message, as stored."""

    received_at: datetime
    measured_at: datetime
    readings: dict[str, float]


def back_test(
    connection: Connection,
    rule: AlarmRule,
    now: datetime,
    timezone: str,
    *,
    days: float,
    max_readings: int = MAX_READINGS,
    max_s: float = MAX_S,
    clock_s: Callable[[], float] = time.monotonic,
) -> BackTest:
    """Replay the readings of the last `days` on the devices of the rule's scope that the transaction may see.

    Raises RuleError `not_replayable` for rules that look at more than stored numbers, or at another device's alarms.
    """
    check_replayable(rule)
    from_at = now - timedelta(days=min(days, MAX_DAYS))
    book = RuleBook((replace(rule, id=UUID(int=1), mode=Mode.MONITOR),))
    devices = [d for d in _read_devices(connection, rule) if _find_rule(book, d) is not None]
    ends_s = clock_s() + max_s
    raised: list[tuple[str, datetime]] = []
    readings = looked_at = 0
    stopped = False
    for first in range(0, min(len(devices), _MAX_DEVICES), _CHUNK):
        chunk = sorted(devices[first : min(first + _CHUNK, _MAX_DEVICES)], key=lambda device: device.id)
        arrivals, cut_id = _read_arrivals(connection, rule, chunk, from_at, now, max_readings - readings + 1)
        for device in chunk:
            if cut_id is not None and device.id >= cut_id:
                stopped = True  # what was read of this one is not all, and of those behind it nothing
            if looked_at and (stopped or clock_s() > ends_s):
                stopped = True
                break
            mine = arrivals.get(device.id, [])
            peers = _read_peers(connection, book.plan(device), from_at, now, max_readings - readings + 1)
            readings += sum(len(a.readings) for a in mine) + sum(len(a.readings) for _, a in peers)
            looked_at += 1
            found = replay(book, device, mine, peers, now, timezone, lambda: clock_s() > ends_s)
            raised += [(device.code, at) for at in found]
        stopped = stopped or clock_s() > ends_s
        if stopped:
            break
    truncated = stopped or len(devices) > _MAX_DEVICES
    return _count(raised, from_at, now, timezone, truncated, readings, looked_at, len(devices))


def check_replayable(rule: AlarmRule) -> None:
    """Raises RuleError `not_replayable` when stored numbers cannot tell what the rule would have done."""
    if rule.body.type == SILENCE:
        raise RuleError("not_replayable", "a silence raises nothing")
    if rule.body.type == "combination":
        parameters = CombinationParameters.model_validate(rule.body.parameters)
        if parameters.first.alarm or parameters.second.alarm:
            raise RuleError("not_replayable", "which alarms were active is not stored; test it with metrics")
    if rule.body.type == BUILT_IN:
        kinds = [k for k in KINDS.values() if any(own.name == rule.name for own in k.rules)]
        if not any(_is_made_of_numbers(kind) for kind in kinds):
            raise RuleError("not_replayable", "this kind's rule looks at more than the numbers that are stored")


def _is_made_of_numbers(kind: DeviceKind) -> bool:
    """Whether a payload of this kind can be made again from its readings."""
    numbers = {metric.name for metric in kind.metrics}
    fields = kind.payloads[TopicKind.TELEMETRY].model_fields
    return all(name in numbers or name in Payload.model_fields or not f.is_required() for name, f in fields.items())


def replay(
    book: RuleBook,
    device: Device,
    arrivals: Sequence[_Arrival],
    peers: Sequence[tuple[str, _Arrival]],
    until: datetime,
    timezone: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[datetime]:
    """When the book's one rule would have raised on the device. `arrivals` and `peers` in the order in which they came.

    `should_stop` is asked now and then: a device that talks much may take longer than there is time.
    """
    rule, plan = _find_rule(book, device), book.plan(device)
    if rule is None or not arrivals or (rule.needs_consent and not has_consent(device, until)):
        return
    run = _Run(rule, plan, device, timezone)
    events = sorted([("", a) for a in arrivals] + list(peers), key=lambda e: (e[1].received_at, e[1].measured_at))
    for number, (code, arrival) in enumerate(events):
        if number % _ASK_EVERY == _ASK_EVERY - 1 and should_stop():
            return
        yield from run.pass_time(arrival.received_at)
        if code:
            run.peers[code] = _remember(run.peers.get(code, DeviceState()), arrival)
        else:
            yield from run.take(arrival)
    yield from run.pass_time(until)


class _Run:
    """One device on its way through its stored readings."""

    def __init__(self, rule: BoundRule, plan: Plan, device: Device, timezone: str) -> None:
        self.rule, self.plan, self.device, self.timezone = rule, plan, device, timezone
        self.state = DeviceState()
        self.known: JsonState = {}
        self.peers: dict[str, DeviceState] = {}
        self.due_at: datetime | None = None
        self.stepped_at: datetime | None = None

    def take(self, arrival: _Arrival) -> Iterator[datetime]:
        message = None
        if self.rule.of_kind:
            message = make_message(self.plan.kind, arrival, self._is_change(arrival))
            if message is None:
                return
        moment = self._moment(arrival.received_at, arrival.measured_at, passing=False)
        yield from self._step(replace(moment, readings=arrival.readings, message=message))
        self.state = _remember(self.state, arrival)
        self._find_due(arrival.received_at)

    def _is_change(self, arrival: _Arrival) -> bool:
        before = self.state.metrics
        return any(name in before and before[name]["value"] != value for name, value in arrival.readings.items())

    def pass_time(self, until: datetime) -> Iterator[datetime]:
        """Step at every instant at which time alone may do something, up to `until`."""
        while self.due_at is not None and self.due_at <= until:
            at = self.due_at if self.stepped_at is None else max(self.due_at, self.stepped_at + _LEAST_STEP)
            if at > until:
                return
            yield from self._step(self._moment(at, at, passing=True))
            self.stepped_at = at
            self._find_due(at)

    def _step(self, moment: Moment) -> Iterator[datetime]:
        self.known, alarms = self.rule.step(self.known, moment)
        for alarm in alarms:
            if alarm.raised:
                yield alarm.occurred_at

    def _find_due(self, now: datetime) -> None:
        moment = self._moment(now, now, passing=True)
        self.due_at = self.rule.due(self.known, moment) if self.rule.timed and self.rule.due is not None else None

    def _moment(self, now: datetime, at: datetime, *, passing: bool) -> Moment:
        return Moment(
            device=self.device,
            kind=self.plan.kind,
            state=self.state,
            at=at,
            now=now,
            timezone=self.timezone,
            silent_after_s=self.plan.silent_after_s,
            passing=passing,
            peers=self.peers,
        )


def make_message(kind: DeviceKind, arrival: _Arrival, changed: bool) -> Message | None:
    """A message with these numbers, for a kind's own rule; None when they do not make one."""
    topic_kind = TopicKind.EVENT if changed else TopicKind.TELEMETRY
    model = kind.payloads[TopicKind.TELEMETRY]
    values: dict[str, Any] = {"v": 1, "id": "stored", "at": arrival.measured_at}
    for name, value in arrival.readings.items():
        if name in model.model_fields:
            annotation = model.model_fields[name].annotation
            wanted = (annotation, *get_args(annotation))
            values[name] = bool(value) if bool in wanted else int(value) if int in wanted else value
    try:
        payload = model.model_validate(values)
    except ValidationError:
        return None
    return Message(
        topic_kind=topic_kind, id="stored", seq=None, measured_at=arrival.measured_at,
        received_at=arrival.received_at, payload=payload,
    )  # fmt: skip


def _remember(state: DeviceState, arrival: _Arrival) -> DeviceState:
    at = instant_text(arrival.measured_at)
    metrics = state.metrics | {name: {"value": value, "at": at} for name, value in arrival.readings.items()}
    return replace(state, metrics=metrics, last_seen_at=arrival.received_at, measured_at=arrival.measured_at)


def _find_rule(book: RuleBook, device: Device) -> BoundRule | None:
    return next((rule for rule in book.rules_of(device) if rule.rule_id is not None), None)


def _wanted_metrics(rule: AlarmRule) -> list[str] | None:
    """The metrics that matter; None: all, since it matters that anything came."""
    rule_type = RULE_TYPES.get(rule.body.type)
    if rule_type is None or rule_type.timed:
        return None
    return sorted(rule_type.metrics(rule_type.parameters.model_validate(rule.body.parameters)))


def _read_devices(connection: Connection, rule: AlarmRule) -> list[Device]:
    with connection.cursor(row_factory=class_row(Device)) as cursor:
        return cursor.execute(
            f"SELECT {DEVICE_COLUMNS} FROM device"
            " WHERE enabled AND (%(kind)s = '' OR kind = %(kind)s) AND starts_with(area_code, %(area)s)"
            " AND (%(device)s::uuid IS NULL OR id = %(device)s) ORDER BY code LIMIT %(limit)s",
            {"kind": rule.kind, "area": rule.area_code, "device": rule.device_id, "limit": _MAX_DEVICES + 1},
        ).fetchall()


def _read_arrivals(
    connection: Connection, rule: AlarmRule, devices: Sequence[Device], from_at: datetime, now: datetime, limit: int
) -> tuple[dict[UUID, list[_Arrival]], UUID | None]:
    """What came, by device; and the device at which `limit` cut it off, in the order of ids."""
    rows = connection.execute(
        "SELECT device_id, received_at, measured_at, metric, value FROM reading_seen"
        " WHERE device_id = ANY (%(devices)s) AND received_at >= %(from)s AND received_at <= %(to)s"
        " AND (%(metrics)s::text[] IS NULL OR metric = ANY (%(metrics)s))"
        " ORDER BY device_id, received_at, measured_at LIMIT %(limit)s",
        {
            "devices": [device.id for device in devices],
            "from": from_at,
            "to": now,
            "metrics": _wanted_metrics(rule),
            "limit": max(limit, 1),
        },
    ).fetchall()
    found: dict[UUID, list[_Arrival]] = {}
    for (device_id, received_at, measured_at), group in groupby(rows, key=lambda row: (row[0], row[1], row[2])):
        readings = {metric: value for *_, metric, value in group}
        found.setdefault(device_id, []).append(_Arrival(received_at, measured_at, readings))
    return found, rows[-1][0] if len(rows) >= max(limit, 1) else None


def _read_peers(
    connection: Connection, plan: Plan, from_at: datetime, now: datetime, limit: int
) -> list[tuple[str, _Arrival]]:
    if not plan.peers:
        return []
    rows = connection.execute(
        "SELECT d.code, r.received_at, r.measured_at, r.metric, r.value FROM reading_seen r"
        " JOIN device d ON d.id = r.device_id WHERE d.code = ANY (%s) AND r.received_at >= %s AND r.received_at <= %s"
        " ORDER BY r.received_at, r.measured_at LIMIT %s",
        (list(plan.peers), from_at, now, max(limit, 1)),
    ).fetchall()
    return [
        (code, _Arrival(received_at, measured_at, {metric: value}))
        for code, received_at, measured_at, metric, value in rows
    ]


def _count(
    raised: list[tuple[str, datetime]],
    from_at: datetime,
    now: datetime,
    timezone: str,
    truncated: bool,
    readings: int,
    looked_at: int,
    in_scope: int,
) -> BackTest:
    local = [to_local(at, timezone) for _, at in raised]
    days, hours = Counter(t.date() for t in local), Counter(t.hour for t in local)
    first, last = to_local(from_at, timezone).date(), to_local(now, timezone).date()
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return BackTest(
        alarms=len(raised),
        per_day=[(day, days[day]) for day in span],
        by_hour=[hours[hour] for hour in range(24)],
        devices=Counter(code for code, _ in raised).most_common(_LISTED),
        truncated=truncated,
        readings=readings,
        looked_at=looked_at,
        in_scope=in_scope,
    )
