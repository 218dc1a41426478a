"""One batch of messages into the database, in one transaction: taken once, readings, states, rules, reports, dead letters."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from devices.alarm_store import write_reports
from devices.alarms import advance_device
from devices.model import Device, DeviceState, Message, TopicKind, sort_messages, write_instant
from devices.observe import Observation, observe
from devices.registry import KINDS
from devices.rulebook import BookKeeper
from devices.skew import observe_clock
from devices.store import lock_states, save_states
from ingest.binary import write_reading_rows
from ingest.decode import Address, DeadLetter, Decoded, Raw, Reason, check_device, decode, refuse
from ingest.store import DeviceCache, copy_readings, insert_dead_letters, insert_messages, note_refusals
from kernel.db import Connection, Database
from kernel.settings import IngestSettings

log = logging.getLogger(__name__)
_REPEATS_LAST = 20  # batches: repeats come in runs, after a reconnect or a device's restart


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The platform's answer to one message, to be published after the commit."""

    kind: str
    device_code: str
    message_id: str
    refused: Reason | None = None
    test: bool = False

    @property
    def topic(self) -> str:
        """Where the device waits for it."""
        return f"gridwarden/{self.kind}/{self.device_code}/receipt"

    def write(self, now: datetime) -> dict[str, Any]:
        """As JSON."""
        body: dict[str, Any] = {"v": 1, "id": self.message_id, "at": write_instant(now)}
        if self.refused is not None:
            body["refused"] = str(self.refused)
        if self.test:
            body["test"] = True
        return body


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a batch: receipts to send, and counts. A test message is in none of them."""

    receipts: list[Receipt]
    taken: int
    repeated: int
    dead: int
    reports: int


class Memory:
    """What a worker keeps from batch to batch, only to be quicker: nothing is lost with it. One thread at a time."""

    def __init__(self) -> None:
        self.devices = DeviceCache()
        self.rules = BookKeeper()
        self.expect_repeats = 0  # for so many batches more


def take_batch(
    database: Database,
    raws: Sequence[Raw],
    now: datetime,
    limits: IngestSettings,
    timezone: str,
    memory: Memory | None = None,
) -> Outcome:
    """Decode a batch and take it, as `take_results`."""
    return take_results(database, [decode(raw, limits) for raw in raws], now, timezone, memory)


def take_results(
    database: Database,
    results: Sequence[Decoded | DeadLetter],
    now: datetime,
    timezone: str,
    memory: Memory | None = None,
) -> Outcome:
    """Take a batch; when it returns everything is committed, and every message is stored, known before, or a dead letter.

    A batch that the database refuses is taken in halves, and these in halves, until the message that is poison stands
    alone and becomes a dead letter: one in thousands costs a few transactions more, and never holds up the others.
    Raises psycopg.Error when the database is away or not as it should be: nothing is lost, take the same batch again.
    """
    memory = memory or Memory()
    decoded = [result for result in results if isinstance(result, Decoded)]
    letters = [result for result in results if not isinstance(result, Decoded)]
    try:
        return _take(database, decoded, letters, now, timezone, memory)
    except Exception as error:
        if not _is_poison(error):
            raise
        log.warning("a batch of %d was refused, looking for the message at fault: %s", len(results), error)
    outcomes = [_take(database, [], letters, now, timezone, memory)] if letters else []
    _take_halves(database, decoded, now, timezone, memory, outcomes)
    return Outcome(
        receipts=[receipt for outcome in outcomes for receipt in outcome.receipts],
        taken=sum(o.taken for o in outcomes),
        repeated=sum(o.repeated for o in outcomes),
        dead=sum(o.dead for o in outcomes),
        reports=sum(o.reports for o in outcomes),
    )


def _take_halves(
    database: Database,
    decoded: Sequence[Decoded],
    now: datetime,
    timezone: str,
    memory: Memory,
    outcomes: list[Outcome],
) -> None:
    """Take a batch that was refused as a whole, the first half before the second: a device's messages keep their order."""
    middle = len(decoded) // 2
    for half in (decoded[:middle], decoded[middle:]):
        if len(half) == 1:
            outcomes.append(_take_one(database, half[0], now, timezone, memory))
        elif half and not _take_whole(database, half, now, timezone, memory, outcomes):
            _take_halves(database, half, now, timezone, memory, outcomes)


def _take_whole(
    database: Database,
    decoded: Sequence[Decoded],
    now: datetime,
    timezone: str,
    memory: Memory,
    outcomes: list[Outcome],
) -> bool:
    """Whether the database took these messages at once."""
    try:
        outcomes.append(_take(database, decoded, [], now, timezone, memory))
    except Exception as error:
        if not _is_poison(error):
            raise
        return False
    return True


def _is_poison(error: Exception) -> bool:
    """Whether a message may be at fault. A database that is away, full or set up wrongly is no message's fault."""
    return not isinstance(error, psycopg.Error) or isinstance(error, psycopg.DataError | psycopg.IntegrityError)


def _take_one(database: Database, decoded: Decoded, now: datetime, timezone: str, memory: Memory) -> Outcome:
    try:
        return _take(database, [decoded], [], now, timezone, memory)
    except Exception as error:
        if not _is_poison(error):
            raise
        log.exception("message %s of %s cannot be taken", decoded.message.id, decoded.address.device_code)
        letter = refuse(decoded, Reason.RULE_FAILED, f"{type(error).__name__}: {error}")
        return _take(database, [], [letter], now, timezone, memory)


def _take(
    database: Database,
    decoded: Sequence[Decoded],
    letters: Sequence[DeadLetter],
    now: datetime,
    timezone: str,
    memory: Memory,
) -> Outcome:
    with database.transaction() as connection:
        return take_decoded(connection, decoded, letters, now, timezone, memory)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A batch by device, each message once, and what else came of looking at it."""

    messages: dict[UUID, dict[str, Decoded]]
    devices: dict[UUID, Device]
    letters: list[DeadLetter]
    receipts: list[Receipt]
    usable: int


def take_decoded(
    connection: Connection,
    decoded: Sequence[Decoded],
    letters: Sequence[DeadLetter],
    now: datetime,
    timezone: str,
    memory: Memory,
) -> Outcome:
    """The one transaction's work; the caller commits."""
    batch = _sort(connection, decoded, memory)
    letters = [*letters, *batch.letters]
    new = _drop_known(connection, batch, now, memory)
    copy_readings(connection, _write_readings(new))
    reports, failed = _advance(connection, batch.devices, new, now, timezone, memory.rules)
    refused = [letter for letter in letters if letter.message_id is not None and letter.address is not None]
    receipts = _withhold(batch.receipts, batch.devices, new, now)
    receipts += [_receipt(letter.address, letter.message_id, letter.reason) for letter in refused]
    letters += [refuse(new[device][message], Reason.RULE_FAILED, text) for (device, message), text in failed]
    insert_dead_letters(connection, letters, now)
    note_refusals(connection, [letter for letter in letters if letter.reason is Reason.DEVICE_MISMATCH], now)
    taken = sum(map(len, new.values()))
    return Outcome(receipts=receipts, taken=taken, repeated=batch.usable - taken, dead=len(letters), reports=reports)


def _sort(connection: Connection, decoded: Sequence[Decoded], memory: Memory) -> _Sorted:
    """Refuse messages of devices that may not send, answer test messages, and put the others with their devices."""
    devices = memory.devices.read(connection, {one.address.device_code for one in decoded}) if decoded else {}
    by_code: dict[str, dict[str, Decoded]] = {}
    letters: list[DeadLetter] = []
    receipts: list[Receipt] = []
    usable = 0
    for one in decoded:
        address, message = one.address, one.message
        letter = check_device(one, devices.get(address.device_code))
        if letter is not None:
            letters.append(letter)
            continue
        if message.payload.test:
            receipts.append(_receipt(address, message.id, test=True))
            continue
        usable += 1
        by_code.setdefault(address.device_code, {}).setdefault(message.id, one)
        if message.topic_kind is not TopicKind.TELEMETRY:
            receipts.append(_receipt(address, message.id))
    used = [devices[code] for code in by_code]
    return _Sorted(
        {device.id: by_code[device.code] for device in used},
        {device.id: device for device in used},
        letters,
        receipts,
        usable,
    )


def _drop_known(
    connection: Connection, batch: _Sorted, now: datetime, memory: Memory
) -> dict[UUID, dict[str, Decoded]]:
    """Those messages of the batch that were not taken before."""
    keys = {
        device: {message_id: str(one.message.topic_kind) for message_id, one in messages.items()}
        for device, messages in batch.messages.items()
    }
    fresh = insert_messages(connection, keys, now, expect_repeats=memory.expect_repeats > 0)
    memory.expect_repeats = max(0, memory.expect_repeats - 1)
    if fresh is None:
        return batch.messages
    new = {
        device: {message_id: one for message_id, one in messages.items() if message_id in fresh[device]}
        for device, messages in batch.messages.items()
    }
    if sum(map(len, new.values())) < sum(map(len, keys.values())):
        memory.expect_repeats = _REPEATS_LAST
    return {device: messages for device, messages in new.items() if messages}


def _receipt(
    address: Address | None, message_id: str | None, refused: Reason | None = None, *, test: bool = False
) -> Receipt:
    assert address is not None and message_id is not None
    return Receipt(
        kind=address.kind, device_code=address.device_code, message_id=message_id, refused=refused, test=test
    )


def _withhold(
    receipts: Sequence[Receipt], devices: dict[UUID, Device], new: dict[UUID, dict[str, Decoded]], now: datetime
) -> list[Receipt]:
    """The receipts without those of a message's first coming whose device is being certified: it has to repeat."""
    tested = {d.code: d.id for d in devices.values() if d.certify_until is not None and now < d.certify_until}
    if not tested:
        return list(receipts)
    return [
        r for r in receipts if r.device_code not in tested or r.message_id not in new.get(tested[r.device_code], ())
    ]


def _write_readings(new: dict[UUID, dict[str, Decoded]]) -> list[bytes]:
    rows: list[bytes] = []
    for device, messages in new.items():
        rows += write_reading_rows(
            device,
            [(_numbers_of(one), one.message.measured_at, one.message.received_at) for one in messages.values()],
        )
    return rows


def _numbers_of(one: Decoded) -> Mapping[str, float]:
    readings = one.message.readings
    return readings if readings is not None else one.kind.readings(one.message.payload)


def _advance(
    connection: Connection,
    devices: dict[UUID, Device],
    new: dict[UUID, dict[str, Decoded]],
    now: datetime,
    timezone: str,
    rules: BookKeeper,
) -> tuple[int, list[tuple[tuple[UUID, str], str]]]:
    """Step the rules of every device that sent something new; reports written, and (message, error) of rules that failed."""
    if not new:
        return 0, []
    book = rules.current(connection)
    before = lock_states(connection, new)
    states: dict[UUID, DeviceState] = {}
    messages: dict[UUID, Sequence[Message]] = {}
    reports = 0
    failed: list[tuple[tuple[UUID, str], str]] = []
    for device_id, of_device in new.items():
        device = devices[device_id]
        messages[device_id] = sort_messages([one.message for one in of_device.values()])
        advance = advance_device(
            KINDS[device.kind], device, before[device_id], messages[device_id], now, timezone, book
        )
        states[device_id] = _observe_clock(advance.state, messages[device_id])
        reports += len(write_reports(connection, device, before[device_id], advance, now))
        failed += [((device_id, m.id), f"{f.rule}: {f.error}") for m, f in advance.failures if m is not None]
    save_states(connection, states, now)
    observe(connection, Observation(devices=devices, messages=messages, states=states, now=now))
    return reports, failed


def _observe_clock(state: DeviceState, messages: Sequence[Message]) -> DeviceState:
    lag = min([message.received_at - message.payload.at for message in messages])
    clock = observe_clock(state.clock, lag.total_seconds(), messages[-1].received_at)
    return state if clock is state.clock else replace(state, clock=clock)
