"""What parking makes of a batch of messages, in the batch's own transaction: bays, sessions, statements, barriers."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from devices.command_model import CommandActor, CommandRefused, CommandState
from devices.commands import request_command
from devices.kinds.parking_gate import ParkingGateEvent, ParkingGatePayload
from devices.model import Device, DeviceState, Message
from devices.parking import store
from devices.parking.gate import Arrival, Decision, Lot, decide_entry, decide_exit
from devices.parking.plate import clean_plate
from devices.parking.session import Passage, Session, SessionState, find_session, replay, rewind
from devices.parking.statement import bill
from devices.parking.store import BayCount, LotKey
from devices.parking.tariff import Tariff, charge
from kernel.db import Connection

if TYPE_CHECKING:  # observe.py names its observers, this one among them
    from devices.observe import Observation

log = logging.getLogger(__name__)
ACTOR = CommandActor(name="parking")  # who asks for the barrier's command
CLOCK_TRUSTED_S = 60.0  # a gate's clock that is off by less is taken at its word; this project's own value
_PASSAGES = UUID("6f2c1a0e-1d0f-4f0a-9d55-0b7f1b8f6a10")  # name space of passage ids


def observe(connection: Connection, observation: "Observation") -> None:
    """Take what parking gates said."""
    gates = {i: d for i in observation.messages if (d := observation.devices[i]).kind == "parking_gate"}
    if not gates:
        return
    heard = [(gates[i], message) for i in gates for message in observation.messages[i]]
    keys = {(device.id, message.id): key for device, message in heard if (key := _lot_key(device, message)) is not None}
    lots = store.make_lots(connection, {keys[d.id, m.id]: d for d, m in heard if (d.id, m.id) in keys}, observation.now)
    counts: dict[UUID, BayCount] = {}
    passages: dict[UUID, list[Passage]] = defaultdict(list)
    arrivals: dict[UUID, list[tuple[Device, Arrival]]] = defaultdict(list)
    by_id = {lot.id: lot for lot in lots.values()}
    for device, message in heard:
        if (device.id, message.id) not in keys:
            continue
        lot = lots[keys[device.id, message.id]]
        at = find_instant(message, observation.states.get(device.id))
        count = _read_count(lot, message, at)
        if count is not None and (lot.id not in counts or counts[lot.id].at < count.at):
            counts[lot.id] = count
        if (passage := read_passage(device, message, at)) is not None:
            passages[lot.id].append(passage)
        if (arrival := read_arrival(device, message, at)) is not None:
            arrivals[lot.id].append((device, arrival))
    store.lock_lots(connection, {*counts, *passages, *arrivals})
    for lot_id in sorted(passages):
        take_passages(connection, by_id[lot_id], passages[lot_id], observation.now)
    if counts:
        store.set_bays(connection, [counts[lot_id] for lot_id in sorted(counts)])
    for lot_id in sorted(arrivals):
        for device, arrival in sorted(arrivals[lot_id], key=lambda one: one[1].at):
            answer_arrival(connection, by_id[lot_id], device, arrival, observation.now)


def _lot_key(device: Device, message: Message) -> LotKey | None:
    """The lot is what the engineer set, else what the gate says, else the gate is a lot of its own."""
    if not isinstance(message.payload, ParkingGatePayload):
        return None
    code = str(device.settings.get("lot") or message.payload.lot or device.code)
    return code, device.area_code


def find_instant(message: Message, state: DeviceState | None) -> datetime:
    """When it happened, by our clock: the gate's own instant, moved by what its clock is known to be off.

    Two gates of a lot whose clocks differ by minutes would else put an exit before its entry, and charge what was not stayed.
    """
    offset_s = state.clock_offset_s if state is not None else None
    if offset_s is None or abs(offset_s) <= CLOCK_TRUSTED_S:
        return message.measured_at
    return message.measured_at + timedelta(seconds=offset_s)


def _read_count(lot: Lot, message: Message, at: datetime) -> BayCount | None:
    payload = message.payload
    if not isinstance(payload, ParkingGatePayload) or payload.bays_free is None:
        return None
    return BayCount(lot_id=lot.id, free=payload.bays_free, total=payload.bays_total, at=at)


def read_passage(device: Device, message: Message, at: datetime) -> Passage | None:
    """The vehicle that drove through, when the message tells of one; its id is the same however often it is told."""
    event = message.payload
    if not isinstance(event, ParkingGateEvent) or event.event != "passage" or event.direction is None:
        return None
    return Passage(
        id=uuid5(_PASSAGES, f"{device.id}:{message.id}"),
        device_id=device.id,
        direction=event.direction,
        plate=clean_plate(event.plate),
        at=at,
        colour=event.plate_colour,
        confidence_pct=event.plate_confidence_pct,
        paid=event.payment,
        fee_fen=event.fee_fen,
    )


def read_arrival(device: Device, message: Message, at: datetime) -> Arrival | None:
    """The vehicle that waits before the barrier, when the message tells of one."""
    event = message.payload
    if not isinstance(event, ParkingGateEvent) or event.event != "arrival" or event.direction is None:
        return None
    return Arrival(
        device_id=device.id,
        message_id=message.id,
        direction=event.direction,
        plate=clean_plate(event.plate),
        at=at,
        paid=event.payment,
    )


def take_passages(connection: Connection, lot: Lot, passages: Sequence[Passage], now: datetime) -> None:
    """Put passages in their place: the lot is replayed from the earliest of them on. The caller has locked the lot."""
    store.insert_passages(connection, lot.id, passages, now)
    replay_lot(connection, lot, min(passage.at for passage in passages), now)


def replay_lot(connection: Connection, lot: Lot, since: datetime, now: datetime) -> None:
    """Find the lot's sessions anew from `since` on, and what is owed for those that are other than before."""
    known = {session.id: session for session in store.read_sessions(connection, lot.id, since)}
    passages = store.read_passages(connection, lot.id, since)
    choices = store.read_choices(connection, [p.id for p in passages if p.direction == "out"])
    found = replay(rewind(known.values(), since), passages, choices)
    changed = [session for session_id, session in found.items() if known.get(session_id) != session]
    vanished = known.keys() - found.keys()
    store.write_sessions(connection, lot, changed, vanished, now)
    _bill_sessions(connection, lot, changed, vanished, now)


def _bill_sessions(
    connection: Connection, lot: Lot, changed: Sequence[Session], vanished: set[UUID], now: datetime
) -> None:
    """Statements follow the sessions."""
    ended = {session.id: session for session in changed if session.state is not SessionState.OPEN}
    touched = [session.id for session in changed] + list(vanished)
    if not touched:
        return
    statements = store.read_statements(connection, touched)
    if not ended and not statements:
        return
    tariffs = store.read_tariffs(connection, lot.id)
    left = [(s.plate, s.left_at) for s in ended.values() if s.left_at is not None]
    bound = store.read_bound(connection, left, lot.area_code)
    for session_id in touched:
        session, known = ended.get(session_id), statements.get(session_id)
        tariff = find_tariff(tariffs, session.entered_at) if session is not None and session.entered_at else None
        is_bound = session is not None and (session.plate, session.left_at) in bound
        change = bill(session, tariff, is_bound, known)
        if change is not None:
            began_at = session.left_at if session is not None and session.left_at is not None else now
            due_at = began_at + timedelta(days=lot.pay_within_days)
            plate = session.plate if session is not None else ""
            store.write_bill(connection, lot, session_id, plate, known, change, due_at, now)


def find_tariff(tariffs: Sequence[tuple[datetime, Tariff]], entered_at: datetime) -> Tariff | None:
    """The tariff that held when the vehicle came; None when the lot had none then."""
    return next((tariff for valid_from, tariff in reversed(tariffs) if valid_from <= entered_at), None)


def answer_arrival(connection: Connection, lot: Lot, device: Device, arrival: Arrival, now: datetime) -> Decision:
    """Decide about a vehicle that waits, ask for the barrier's command when it is to open, and keep the decision."""
    decision = _decide(connection, lot, arrival, now)
    command_id = None
    if decision.opened:
        command_id = open_barrier(connection, device, decision.code, now)
        if command_id is None:
            decision = Decision(opened=False, code="command_refused", session=decision.session)
    store.insert_decision(connection, lot, arrival, decision, command_id, now)
    log.info("barrier decided", extra={"device": device.code, "code": decision.code, "opened": decision.opened})
    return decision


def _decide(connection: Connection, lot: Lot, arrival: Arrival, now: datetime) -> Decision:
    if arrival.direction == "in":
        bound = bool(store.read_bound(connection, [(arrival.plate, now)], lot.area_code))
        free = store.count_free(connection, lot.id)
        return decide_entry(lot, arrival, bound=bound, bays_free=free, now=now)
    session = find_session(arrival.plate, store.read_inside(connection, lot.id))
    if session is None or session.entered_at is None:
        return decide_exit(lot, arrival, None, due_fen=None, bound=False, overdue=0, now=now)
    tariff = find_tariff(store.read_tariffs(connection, lot.id), session.entered_at)
    return decide_exit(
        lot,
        arrival,
        session,
        due_fen=None if tariff is None else charge(tariff, session.entered_at, arrival.at),
        bound=bool(store.read_bound(connection, [(session.plate, now)], lot.area_code)),
        overdue=store.count_overdue(connection, session.plate, now),
        now=now,
    )


def open_barrier(connection: Connection, device: Device, code: str, now: datetime) -> UUID | None:
    """Ask for the barrier to open; the command's id, or None when it may not be opened now (the command says why)."""
    try:
        command = request_command(connection, device, "open_barrier", {}, actor=ACTOR, reason=code, now=now)
    except CommandRefused as refused:
        log.warning("barrier not opened", extra={"device": device.code, "code": refused.code})
        return None
    return command.id if command.state is not CommandState.REFUSED else None
