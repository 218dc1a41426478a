"""One batch of messages into the database, in one transaction: taken once, readings, states, rules, reports, dead letters."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from devices.alarms import advance_device, write_reports
from devices.model import Device, DeviceState, Message, TopicKind, write_instant
from devices.observe import Observation, observe
from devices.registry import KINDS
from devices.store import lock_states, read_devices_by_code, save_states
from ingest.decode import Address, DeadLetter, Decoded, Raw, Reason, check_device, decode, refuse
from ingest.store import Reading, Taken, copy_readings, insert_dead_letters, insert_messages
from kernel.db import Connection, Database
from kernel.settings import IngestSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """The platform's answer to one message, to be published after the commit."""

    kind: str
    device_code: str
    message_id: str
    refused: Reason | None = None

    @property
    def topic(self) -> str:
        """Where the device waits for it."""
        return f"gridwarden/{self.kind}/{self.device_code}/receipt"

    def write(self, now: datetime) -> dict[str, Any]:
        """As JSON."""
        body: dict[str, Any] = {"v": 1, "id": self.message_id, "at": write_instant(now)}
        return body | ({"refused": str(self.refused)} if self.refused is not None else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a batch: receipts to send, and counts."""

    receipts: list[Receipt]
    taken: int
    repeated: int
    dead: int
    reports: int


def take_batch(
    database: Database, raws: Sequence[Raw], now: datetime, limits: IngestSettings, timezone: str
) -> Outcome:
    """Take a batch; when it returns everything is committed, and every message is stored, known before, or a dead letter.

    A batch that the database refuses is taken message by message, so that one that is poison never holds up the others.
    Raises psycopg.Error when the database is away or not as it should be: nothing is lost, take the same batch again.
    """
    decoded: list[Decoded] = []
    letters: list[DeadLetter] = []
    for raw in raws:
        result = decode(raw, limits)
        if isinstance(result, Decoded):
            decoded.append(result)
        else:
            letters.append(result)
    try:
        return _take(database, decoded, letters, now, timezone)
    except Exception as error:
        if not _is_poison(error):
            raise
        log.warning("a batch of %d was refused, taking its messages one by one: %s", len(raws), error)
    outcomes = [_take(database, [], letters, now, timezone)]
    outcomes += [_take_one(database, one, now, timezone) for one in decoded]
    return Outcome(
        receipts=[receipt for outcome in outcomes for receipt in outcome.receipts],
        taken=sum(o.taken for o in outcomes),
        repeated=sum(o.repeated for o in outcomes),
        dead=sum(o.dead for o in outcomes),
        reports=sum(o.reports for o in outcomes),
    )


def _is_poison(error: Exception) -> bool:
    """Whether a message may be at fault. A database that is away, full or set up wrongly is no message's fault."""
    return not isinstance(error, psycopg.Error) or isinstance(error, psycopg.DataError | psycopg.IntegrityError)


def _take_one(database: Database, decoded: Decoded, now: datetime, timezone: str) -> Outcome:
    try:
        return _take(database, [decoded], [], now, timezone)
    except Exception as error:
        if not _is_poison(error):
            raise
        log.exception("message %s of %s cannot be taken", decoded.message.id, decoded.address.device_code)
        letter = refuse(decoded, Reason.RULE_FAILED, f"{type(error).__name__}: {error}")
        return _take(database, [], [letter], now, timezone)


def _take(
    database: Database, decoded: Sequence[Decoded], letters: Sequence[DeadLetter], now: datetime, timezone: str
) -> Outcome:
    with database.transaction() as connection:
        return take_decoded(connection, decoded, letters, now, timezone)


def take_decoded(
    connection: Connection, decoded: Sequence[Decoded], letters: Sequence[DeadLetter], now: datetime, timezone: str
) -> Outcome:
    """The one transaction's work; the caller commits."""
    devices = read_devices_by_code(connection, {d.address.device_code for d in decoded}) if decoded else {}
    letters = list(letters)
    unique: dict[Taken, tuple[Decoded, Device]] = {}
    receipts: list[Receipt] = []
    usable = 0
    for one in decoded:
        device = devices.get(one.address.device_code)
        letter = check_device(one, device)
        if letter is not None or device is None:
            letters += [letter] if letter is not None else []
            continue
        usable += 1
        unique.setdefault(Taken(device.id, one.message.id), (one, device))
        if one.message.topic_kind is not TopicKind.TELEMETRY:
            receipts.append(_receipt(one.address, one.message.id))
    fresh = insert_messages(connection, ((key, str(one.message.topic_kind)) for key, (one, _) in unique.items()), now)
    by_device: dict[UUID, list[Message]] = defaultdict(list)
    readings: list[Reading] = []
    for key, (one, device) in unique.items():
        if key in fresh:
            by_device[device.id].append(one.message)
            readings += _read_readings(one, device)
    copy_readings(connection, readings)
    by_id = {device.id: device for device in devices.values()}
    reports, failed = _advance(connection, by_id, by_device, now, timezone)
    refused = [letter for letter in letters if letter.message_id is not None and letter.address is not None]
    receipts += [_receipt(letter.address, letter.message_id, letter.reason) for letter in refused]
    origin = {(device.id, one.message.id): one for one, device in unique.values()}
    letters += [refuse(origin[key], Reason.RULE_FAILED, text) for key, text in failed]
    insert_dead_letters(connection, letters, now)
    return Outcome(
        receipts=receipts, taken=len(fresh), repeated=usable - len(fresh), dead=len(letters), reports=reports
    )


def _receipt(address: Address | None, message_id: str | None, refused: Reason | None = None) -> Receipt:
    assert address is not None and message_id is not None
    return Receipt(kind=address.kind, device_code=address.device_code, message_id=message_id, refused=refused)


def _read_readings(one: Decoded, device: Device) -> list[Reading]:
    message = one.message
    return [
        Reading(device.id, metric, value, message.measured_at, message.received_at)
        for metric, value in one.kind.readings(message.payload).items()
    ]


def _advance(
    connection: Connection,
    devices: dict[UUID, Device],
    messages: dict[UUID, list[Message]],
    now: datetime,
    timezone: str,
) -> tuple[int, list[tuple[tuple[UUID, str], str]]]:
    """Step the rules of every device that sent something new; reports written, and (message, error) of rules that failed."""
    if not messages:
        return 0, []
    before = lock_states(connection, messages)
    states: dict[UUID, DeviceState] = {}
    reports = 0
    failed: list[tuple[tuple[UUID, str], str]] = []
    for device_id, of_device in messages.items():
        device = devices[device_id]
        advance = advance_device(KINDS[device.kind], device, before[device_id], of_device, now, timezone)
        states[device_id] = advance.state
        reports += len(write_reports(connection, device, before[device_id], advance, now))
        failed += [((device_id, m.id), f"{f.rule}: {f.error}") for m, f in advance.failures if m is not None]
    save_states(connection, states, now)
    observe(connection, Observation(devices=devices, messages=messages, states=states, now=now))
    return reports, failed
