"""Plates, tariffs and sessions: pure; and what they come to in the database, through the door that ingest uses."""

import itertools
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from devices.kinds.parking_gate import ParkingGateEvent, ParkingGatePayload
from devices.model import Device, DeviceState, Message, TopicKind, write_instant
from devices.observe import Observation
from devices.parking import flow, ledger, store
from devices.parking.gate import Arrival, Lot, decide_entry, decide_exit
from devices.parking.plate import clean_plate, find_plate, is_plate, mask_plate, misreading_cost
from devices.parking.session import DOUBLE_READ, MatchedBy, Passage, Session, SessionState, replay, rewind
from devices.parking.statement import Statement, StatementState, bill
from devices.parking.tariff import Tariff, charge
from devices.store import DeviceRecord, add_device
from kernel.db import Database

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
GATE = UUID(int=7)


# ---------------------------------------------------------------- plates


@pytest.mark.parametrize(
    "plate",
    [
        "浙A8K2Q6",
        "浙AD12345",
        "浙A12345D",
        "京N1234警",
        "粤Z1234港",
        "使123456",
        "123456使",
        "WJ浙1234A",
        "WJ12345",
        "浙A1234学",
    ],
)
def test_issued_plates_are_plates(plate: str) -> None:
    assert is_plate(plate)


@pytest.mark.parametrize(
    "plate", ["", "浙A8K2Q", "浙I8K2Q6", "浙A8K2O6", "8K2Q6浙A", "浙A8K2Q67", "X12345", "浙A8K2Q6\n"]
)
def test_what_was_never_issued_is_no_plate(plate: str) -> None:
    assert not is_plate(plate)


def test_a_plate_is_compared_without_its_dot_its_spaces_and_its_width() -> None:
    assert clean_plate(" 浙Ａ·8k2 q6") == "浙A8K2Q6"
    assert clean_plate(None) == ""
    assert len(clean_plate("A" * 500)) <= 16


def test_a_reading_is_brought_to_the_likeliest_plate_inside() -> None:
    assert find_plate("浙A8K206", ["浙A8K2Q6", "浙A8K2D1"]) == "浙A8K2Q6"
    # Both are one character away, but a camera takes B for 8 more easily than for X.
    assert find_plate("浙AB1234", ["浙A81234", "浙AX1234"]) == "浙A81234"


def test_two_equally_near_plates_are_left_to_a_person() -> None:
    assert find_plate("浙A1234", ["浙A12344", "浙A12345"]) is None
    assert find_plate("浙A81239", ["浙A81234", "浙A81235"]) is None


def test_nothing_read_is_near_to_nothing() -> None:
    assert find_plate("", ["", "A"]) is None


_LETTERS = st.sampled_from("浙苏A8B0DO1I2Z")
_READ = st.text(_LETTERS, max_size=8)


def _distance(a: str, b: str) -> int:
    """Levenshtein's distance, the slow way."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


@given(_READ, _READ)
def test_a_misreading_is_at_most_one_edit(a: str, b: str) -> None:
    cost = misreading_cost(a, b)
    assert (cost is not None) == (_distance(a, b) <= 1)
    assert cost == misreading_cost(b, a)
    assert (cost == 0) == (a == b)


@given(st.text(_LETTERS, min_size=1, max_size=10), st.text(_LETTERS, min_size=1, max_size=10))
def test_a_mask_shows_at_most_five_characters_and_never_a_whole_plate(a: str, b: str) -> None:
    shown = [character for character in mask_plate(a) if character not in "*·"]
    assert len(shown) <= 5 and len(shown) < len(a)
    if is_plate(a):
        assert mask_plate(a).count("*") == len(a) - 5


def test_masks_read_as_the_wall_shows_them() -> None:
    assert mask_plate("浙A8K2Q6") == "浙A·**2Q6"
    assert mask_plate("浙AD12345") == "浙A·***345"
    assert mask_plate("") == ""


# ---------------------------------------------------------------- tariffs


def _charge_by_the_minute(tariff: Tariff, stay_min: int) -> int:
    """Every minute by itself: what the reference for the arithmetic is."""
    if stay_min <= tariff.free_min:
        return 0
    total = today = 0
    first = tariff.free_min if tariff.deduct_free else 0
    for minute in range(stay_min - first):
        in_day = minute % (24 * 60)
        if in_day == 0:
            total, today = total + today, 0
        if in_day % tariff.step_min == 0:
            today += tariff.fen_per_hour * tariff.step_min // 60
            if tariff.daily_cap_fen is not None:
                today = min(today, tariff.daily_cap_fen)
    return total + today


_TARIFFS = st.builds(
    Tariff,
    free_min=st.integers(0, 180),
    fen_per_hour=st.integers(0, 50).map(lambda n: n * 60),
    step_min=st.sampled_from([1, 15, 30, 60, 90, 1440]),
    daily_cap_fen=st.none() | st.integers(0, 6_000),
    deduct_free=st.booleans(),
)


@given(_TARIFFS, st.integers(0, 4 * 24 * 60), st.integers(0, 59))
@hypothesis_settings(max_examples=150, deadline=None)
def test_a_charge_is_what_counting_every_minute_gives(tariff: Tariff, stay_min: int, seconds: int) -> None:
    left_at = NOON + timedelta(minutes=stay_min, seconds=seconds)
    assert charge(tariff, NOON, left_at) == _charge_by_the_minute(tariff, stay_min)


@given(_TARIFFS, st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_longer_stay_is_never_cheaper(tariff: Tariff, a: int, b: int) -> None:
    short, long = sorted((a, b))
    assert charge(tariff, NOON, NOON + timedelta(minutes=short)) <= charge(tariff, NOON, NOON + timedelta(minutes=long))


def test_a_stay_that_ends_before_it_began_costs_nothing() -> None:
    assert charge(Tariff(free_min=0), NOON, NOON - timedelta(hours=3)) == 0


def test_a_price_that_is_no_whole_number_of_fen_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        Tariff(fen_per_hour=500, step_min=7)


# ---------------------------------------------------------------- sessions


def passage(
    number: int, direction: Literal["in", "out"], plate: str, minute: float, paid: str | None = None
) -> Passage:
    at = NOON + timedelta(minutes=minute)
    return Passage(id=UUID(int=number), device_id=GATE, direction=direction, plate=plate, at=at, paid=paid)


def only(sessions: dict[UUID, Session]) -> Session:
    [session] = sessions.values()
    return session


def test_in_and_out_make_a_stay() -> None:
    stay = only(replay([], [passage(1, "in", "浙A8K2Q6", 0), passage(2, "out", "浙A8K2Q6", 50)], {}))
    assert stay.state is SessionState.LEFT and stay.matched_by is MatchedBy.PLATE
    assert stay.entered_at == NOON and stay.left_at == NOON + timedelta(minutes=50)


def test_an_exit_read_one_character_wrong_finds_its_entry_and_keeps_both_readings() -> None:
    stay = only(replay([], [passage(1, "in", "浙A8K2Q6", 0), passage(2, "out", "浙ABK2Q6", 50)], {}))
    assert stay.state is SessionState.LEFT and stay.matched_by is MatchedBy.SIMILAR
    assert (stay.plate, stay.exit_plate) == ("浙A8K2Q6", "浙ABK2Q6")


def test_an_exit_between_two_likely_entries_is_left_to_a_person() -> None:
    passages = [passage(1, "in", "浙A81234", 0), passage(2, "in", "浙A81235", 1), passage(3, "out", "浙A81239", 50)]
    states = [s.state for s in replay([], passages, {}).values()]
    assert sorted(states) == [SessionState.OPEN, SessionState.OPEN, SessionState.UNMATCHED]
    decided = replay([], passages, {UUID(int=3): UUID(int=2)})
    assert decided[UUID(int=2)].matched_by is MatchedBy.PERSON and UUID(int=3) not in decided
    waived = replay([], passages, {UUID(int=3): None})
    assert waived[UUID(int=3)].state is SessionState.WAIVED


def test_an_exit_without_an_entry_is_unmatched() -> None:
    stay = only(replay([], [passage(1, "out", "浙A8K2Q6", 5)], {}))
    assert stay.state is SessionState.UNMATCHED and stay.entered_at is None


def test_a_second_entry_ends_the_first_stay_without_an_exit() -> None:
    stays = replay([], [passage(1, "in", "浙A8K2Q6", 0), passage(2, "in", "浙A8K2Q6", 600)], {})
    assert stays[UUID(int=1)].state is SessionState.NO_EXIT and stays[UUID(int=1)].left_at is None
    assert stays[UUID(int=2)].state is SessionState.OPEN


def test_a_car_read_twice_is_one_car() -> None:
    passages = [
        passage(1, "in", "浙A8K2Q6", 0), passage(2, "in", "浙A8K2Q6", 0.5),
        passage(3, "out", "浙A8K2Q6", 60), passage(4, "out", "浙A8K2Q6", 60.5), passage(5, "out", "浙ABK2Q6", 60.8),
    ]  # fmt: skip
    assert only(replay([], passages, {})).exit_id == UUID(int=3)


def test_plates_that_could_not_be_read_never_meet() -> None:
    stays = replay([], [passage(1, "in", "", 0), passage(2, "in", "", 0.2), passage(3, "out", "", 30)], {})
    assert sorted(s.state for s in stays.values()) == [SessionState.OPEN, SessionState.OPEN, SessionState.UNMATCHED]


_PLATES = ["浙A8K2Q6", "浙ABK2Q6", "浙A8K206", "浙C99999", ""]
_PASSAGES = st.lists(
    st.tuples(st.sampled_from(["in", "out"]), st.sampled_from(_PLATES), st.integers(0, 400)), min_size=1, max_size=14
)


@given(
    _PASSAGES, st.randoms(use_true_random=False), st.dictionaries(st.integers(1, 14), st.none() | st.integers(1, 14))
)
@hypothesis_settings(deadline=None)
def test_sessions_are_the_sorted_replay_whatever_the_order_in_which_passages_come(
    rows: list[tuple[Any, str, int]], rng: random.Random, chosen: dict[int, int | None]
) -> None:
    passages = [passage(n, direction, plate, at / 4) for n, (direction, plate, at) in enumerate(rows, 1)]
    choices = {UUID(int=k): UUID(int=v) if v is not None else None for k, v in chosen.items()}
    wanted = replay([], passages, choices)
    rng.shuffle(passages)
    kept: dict[UUID, Session] = {}
    seen: list[Passage] = []
    while passages:
        batch = [passages.pop() for _ in range(min(len(passages), rng.randint(1, 4)))]
        seen += batch
        since = min(p.at for p in batch)
        # As the store does it: only who was inside since then, or left a double reading before.
        affected = {i: s for i, s in kept.items() if s.ended_at is None or s.ended_at >= since - DOUBLE_READ}
        tail = [p for p in seen if p.at >= since]
        found = replay(rewind(affected.values(), since), tail, choices)
        kept = {i: s for i, s in kept.items() if i not in affected} | found
    assert kept == wanted


@given(_PASSAGES)
def test_nobody_is_inside_twice_and_no_exit_is_used_twice(rows: list[tuple[Any, str, int]]) -> None:
    passages = [passage(n, direction, plate, at / 4) for n, (direction, plate, at) in enumerate(rows, 1)]
    stays = list(replay([], passages, {}).values())
    inside = [s.plate for s in stays if s.state is SessionState.OPEN and s.plate]
    exits = [s.exit_id for s in stays if s.exit_id is not None]
    assert len(inside) == len(set(inside)) and len(exits) == len(set(exits))
    assert all(s.left_at is None or s.entered_at is None or s.entered_at <= s.left_at for s in stays)


# ---------------------------------------------------------------- statements


def stay_of(paid: str | None = None, fee_fen: int | None = None) -> Session:
    return Session(
        id=UUID(int=1), state=SessionState.LEFT, plate="浙A8K2Q6", entered_at=NOON, left_at=NOON + timedelta(hours=2),
        ended_at=NOON + timedelta(hours=2), paid=paid, fee_fen=fee_fen,
    )  # fmt: skip


def known(state: StatementState, amount_fen: int = 1000, by_person: bool = False) -> Statement:
    return Statement(
        id=UUID(int=2), session_id=UUID(int=1), amount_fen=amount_fen, state=state, due_at=NOON, by_person=by_person
    )


def test_a_bound_plate_owes_and_others_are_taken_to_have_paid_unless_the_gate_says_otherwise() -> None:
    two_hours = bill(stay_of(), Tariff(), True, None)
    assert two_hours is not None and (two_hours.amount_fen, two_hours.state) == (1000, StatementState.UNPAID)
    assert bill(stay_of(), Tariff(), False, None) is None
    assert bill(stay_of("unpaid"), Tariff(), False, None) == two_hours
    assert bill(stay_of("none"), Tariff(), True, None) is None
    paid = bill(stay_of("paid", 800), Tariff(), False, None)
    assert paid is not None and (paid.amount_fen, paid.state) == (800, StatementState.PAID)


def test_a_stay_that_turns_out_otherwise_changes_its_statement_but_never_a_persons_word() -> None:
    gone = bill(None, None, False, known(StatementState.UNPAID))
    assert gone is not None and gone.state is StatementState.CANCELLED
    shorter = bill(stay_of(), Tariff(fen_per_hour=240), True, known(StatementState.UNPAID))
    assert shorter is not None and (shorter.amount_fen, shorter.state) == (480, StatementState.UNPAID)
    again = bill(stay_of(), Tariff(), True, known(StatementState.CANCELLED))
    assert again is not None and again.state is StatementState.UNPAID
    for state in (StatementState.PAID, StatementState.DISPUTED, StatementState.CANCELLED):
        assert bill(None, None, False, known(state, by_person=True)) is None


# ---------------------------------------------------------------- barriers

LOT = Lot(
    id=UUID(int=9), code="P1", area_code="330105012001", name="", bays_total=10, deferred=True, entry="bound", overdue_limit=3,
    pay_within_days=15, gate_bays_free=None, gate_bays_total=None, gate_bays_at=None,
)  # fmt: skip
WAITS = Arrival(device_id=GATE, message_id="m", direction="out", plate="浙A8K2Q6", at=NOON)
INSIDE = Session(id=UUID(int=1), state=SessionState.OPEN, plate="浙A8K2Q6", entered_at=NOON - timedelta(hours=2))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "bound_plate"),
        ({"bound": False}, "not_bound"),
        ({"bound": False, "due_fen": 0}, "free_of_charge"),
        ({"overdue": 3}, "overdue"),
        ({"overdue": 2}, "bound_plate"),
        ({"session": None}, "no_session"),
        ({"now": NOON + timedelta(seconds=31)}, "too_late"),
        ({"now": NOON - timedelta(seconds=31)}, "too_late"),
        ({"due_fen": None, "bound": False}, "not_bound"),
    ],
)
def test_the_way_out_opens_for_who_is_bound_or_owes_nothing(change: dict[str, Any], code: str) -> None:
    asked = {"session": INSIDE, "due_fen": 1000, "bound": True, "overdue": 0, "now": NOON} | change
    decision = decide_exit(LOT, WAITS, asked.pop("session"), **asked)
    assert decision.code == code
    assert decision.opened == (code in ("bound_plate", "free_of_charge"))


@pytest.mark.parametrize(
    ("entry", "bound", "free", "code"),
    [("bound", True, 3, "bound_plate"), ("bound", False, 3, "not_bound"), ("all", False, None, "open_to_all"),
     ("all", True, 0, "full"), ("off", True, 3, "entry_off")],
)  # fmt: skip
def test_the_way_in_opens_as_the_lot_says(entry: str, bound: bool, free: int | None, code: str) -> None:
    lot = Lot(**{name: getattr(LOT, name) for name in Lot.__slots__} | {"entry": entry})
    assert decide_entry(lot, WAITS, bound=bound, bays_free=free, now=NOON).code == code


# ---------------------------------------------------------------- in the database


class Gates:
    """A lot of two gates whose messages go in as ingest hands them over."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON
        self.numbers = itertools.count(1)
        self.offsets_s: dict[str, float] = {}  # what is known of the gates' clocks
        with database.transaction() as connection:
            self.devices = {
                code: add_device(
                    connection,
                    DeviceRecord(
                        code=code, kind="parking_gate", name=code, lon=120.17, lat=30.28, area_code="330105012001"
                    ),
                    NOON,
                )
                for code in ("g-in", "g-out")
            }

    def message(self, device: Device, minute: float, **fields: Any) -> Message:
        at = NOON + timedelta(minutes=minute)
        number = next(self.numbers)
        body = {"v": 1, "id": f"m{number}", "at": write_instant(at), "lot": "P1", "barrier": "closed", **fields}
        event = "event" in fields
        payload = (ParkingGateEvent if event else ParkingGatePayload).model_validate(body)
        kind = TopicKind.EVENT if event else TopicKind.TELEMETRY
        return Message(topic_kind=kind, id=body["id"], seq=None, measured_at=at, received_at=self.now, payload=payload)

    def passes(self, direction: str, plate: str, minute: float, **more: Any) -> tuple[Device, Message]:
        device = self.devices[f"g-{direction}"]
        return device, self.message(device, minute, event="passage", direction=direction, plate=plate, **more)

    def waits(self, direction: str, plate: str, minute: float, **more: Any) -> tuple[Device, Message]:
        device = self.devices[f"g-{direction}"]
        return device, self.message(device, minute, event="arrival", direction=direction, plate=plate, **more)

    def take(self, *told: tuple[Device, Message]) -> None:
        messages: dict[UUID, list[Message]] = {}
        for device, message in told:
            messages.setdefault(device.id, []).append(message)
        devices = {device.id: device for device in self.devices.values()}
        states = {
            self.devices[code].id: DeviceState(clock={"offset_s": offset_s})
            for code, offset_s in self.offsets_s.items()
        }
        with self.database.transaction() as connection:
            flow.observe(connection, Observation(devices=devices, messages=messages, states=states, now=self.now))

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self.database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()  # type: ignore[arg-type]

    def sessions(self) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT id, state, plate, entered_at, left_at, ended_at, exit_plate, matched_by FROM parking_session ORDER BY id"
        )

    def lot(self) -> dict[str, Any]:
        with self.database.transaction() as connection:
            [row] = ledger.read_lots(connection, self.now)
        return row

    def set_lot(self, tariff: Tariff | None = None, **changes: Any) -> None:
        with self.database.transaction() as connection:
            store.make_lots(connection, {("P1", "330105012001"): self.devices["g-in"]}, NOON - timedelta(days=1))
            [row] = ledger.read_lots(connection, self.now)
            ledger.write_lot(connection, row["id"], changes, tariff, "lin", NOON - timedelta(days=1))

    def bind(self, plate: str, at: datetime = NOON - timedelta(days=1)) -> None:
        with self.database.transaction() as connection:
            ledger.add_binding(
                connection, plate=plate, area_code="330105", reference="u-1", ends_at=None, actor="lin", now=at
            )


@pytest.fixture
def gates(database: Database) -> Gates:
    return Gates(database)


def story() -> list[tuple[str, str, float]]:
    """Everything that can go wrong at a gate within a day."""
    return [
        ("in", "浙A8K2Q6", 0), ("in", "浙A8K2Q6", 0.4), ("out", "浙ABK2Q6", 45), ("in", "浙B12345", 50), ("in", "浙B12345", 700),
        ("out", "苏E99999", 710), ("in", "浙A8K2Q6", 720), ("out", "浙A8K2Q6", 800), ("in", "浙C00001", 801),
        ("out", "浙CO0001", 900), ("out", "浙C00001", 900.5), ("in", "", 905), ("out", "", 950),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_late_and_shuffled_passages_end_as_if_they_had_come_in_order(gates: Gates, seed: int) -> None:
    told = [gates.passes(direction, plate, minute) for direction, plate, minute in story()]  # type: ignore[arg-type]
    gates.take(*told)
    wanted = gates.sessions()
    assert [row["state"] for row in wanted].count("left") == 3
    for table in ("parking_session", "parking_passage"):
        with gates.database.transaction() as connection:
            connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
    rng = random.Random(seed)
    rng.shuffle(told)
    while told:
        gates.take(*[told.pop() for _ in range(min(len(told), rng.randint(1, 3)))])
    assert gates.sessions() == wanted


def test_a_message_told_twice_changes_nothing(gates: Gates) -> None:
    told = [gates.passes("in", "浙A8K2Q6", 0), gates.passes("out", "浙A8K2Q6", 90)]
    gates.take(*told)
    before = gates.sessions()
    gates.take(*told)
    assert gates.sessions() == before and len(gates.rows("SELECT id FROM parking_passage")) == 2


def test_bays_are_counted_and_the_difference_to_the_gates_count_is_shown(gates: Gates) -> None:
    gates.set_lot(bays_total=10)
    gates.take(gates.passes("in", "浙A8K2Q6", 0), gates.passes("in", "浙B12345", 1))
    lot = gates.lot()
    assert (lot["open_sessions"], lot["bays_free"], lot["by_gate"], lot["difference"]) == (2, 8, None, None)
    # One car was inside before anybody counted: the gate knows, the sessions do not.
    told = gates.message(gates.devices["g-in"], 2, bays_free=7, bays_total=10)
    gates.take((gates.devices["g-in"], told))
    assert (gates.lot()["bays_free"], gates.lot()["difference"]) == (7, 1)
    gates.take(gates.passes("out", "浙B12345", 3))
    assert (gates.lot()["bays_free"], gates.lot()["by_sessions"], gates.lot()["difference"]) == (8, 9, 1)
    # An older count that comes late is no news.
    gates.take((gates.devices["g-in"], gates.message(gates.devices["g-in"], 1.5, bays_free=1, bays_total=10)))
    assert gates.lot()["bays_free"] == 8


def statement(gates: Gates) -> dict[str, Any]:
    [row] = gates.rows("SELECT amount_fen, state, plate FROM parking_statement")
    return row


def test_a_bound_plate_leaves_first_and_its_charge_follows(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A8K2Q6")
    gates.take(gates.passes("in", "浙A8K2Q6", 0), gates.passes("out", "浙ABK2Q6", 150))
    assert statement(gates) == {"amount_fen": 1500, "state": "unpaid", "plate": "浙A8K2Q6"}
    # It had left earlier: the exit that was read rightly came late.
    gates.now += timedelta(minutes=1)
    gates.take(gates.passes("out", "浙A8K2Q6", 100))
    assert statement(gates)["amount_fen"] == 1000
    events = gates.rows("SELECT from_state, to_state, amount_fen, actor FROM parking_statement_event ORDER BY at, id")
    assert [(e["to_state"], e["amount_fen"]) for e in events] == [("unpaid", 1500), ("unpaid", 1000)]


def test_what_a_person_settled_no_late_passage_changes(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A8K2Q6")
    gates.take(gates.passes("in", "浙A8K2Q6", 0), gates.passes("out", "浙A8K2Q6", 150))
    [session] = gates.sessions()
    with gates.database.transaction() as connection:
        ledger.change_statement(connection, session["id"], StatementState.PAID, "lin", "seen at the desk", gates.now)
    gates.take(gates.passes("out", "浙A8K2Q6", 100))
    assert (statement(gates)["amount_fen"], statement(gates)["state"]) == (1500, "paid")


def test_a_new_tariff_is_for_stays_that_begin_after_it(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A8K2Q6")
    gates.take(gates.passes("in", "浙A8K2Q6", 0))
    with gates.database.transaction() as connection:
        ledger.write_lot(
            connection, gates.lot()["id"], {}, Tariff(fen_per_hour=6000), "lin", NOON + timedelta(minutes=5)
        )
    gates.take(gates.passes("out", "浙A8K2Q6", 70))
    assert statement(gates)["amount_fen"] == 1000


def test_a_person_brings_an_unmatched_exit_to_its_entry_and_the_charge_follows(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A81234")
    gates.take(
        gates.passes("in", "浙A81234", 0), gates.passes("in", "浙A81235", 1), gates.passes("out", "浙A81239", 90)
    )
    unmatched = next(s for s in gates.sessions() if s["state"] == "unmatched")
    with gates.database.transaction() as connection:
        offered = ledger.read_entries(connection, unmatched["id"], gates.now)
        assert len(offered) == 2 and all("*" in entry["plate"] for entry in offered)
        entry = next(s for s in gates.sessions() if s["plate"] == "浙A81234")
        stay = ledger.decide_exit(connection, unmatched["id"], entry["id"], "lin", "seen on the picture", gates.now)
    assert (stay["id"], stay["state"], stay["matched_by"], stay["amount_fen"]) == (entry["id"], "left", "person", 1000)
    assert [s["state"] for s in gates.sessions()].count("unmatched") == 0
    # What was decided holds when the lot is replayed for a passage that comes late.
    gates.take(gates.passes("in", "浙C00001", 0.5))
    assert next(s for s in gates.sessions() if s["id"] == entry["id"])["matched_by"] == "person"


def decisions(gates: Gates) -> list[tuple[str, bool]]:
    return [(r["code"], r["opened"]) for r in gates.rows("SELECT code, opened FROM barrier_decision ORDER BY at, id")]


def hear(gates: Gates, now: datetime) -> None:
    """The gates are there, closed and free: what interlocks of the barrier want to see."""
    gates.now = now
    at = now.isoformat()
    with gates.database.transaction() as connection:
        connection.execute(
            "UPDATE device_state SET last_seen_at = %s, status = 'ok', metrics = jsonb_build_object('barrier_open',"
            " jsonb_build_object('value', 0, 'at', %s::text), 'fault', jsonb_build_object('value', 0, 'at', %s::text))",
            (now, at, at),
        )


def test_a_bound_plate_at_the_exit_gets_its_barrier_opened_by_a_command(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A8K2Q6")
    gates.take(gates.passes("in", "浙A8K2Q6", 0))
    hear(gates, NOON + timedelta(minutes=90))
    gates.take(gates.waits("out", "浙ABK2Q6", 90))
    assert decisions(gates) == [("bound_plate", True)]
    [command] = gates.rows("SELECT name, state, requested_by, reason FROM command")
    assert command == {"name": "open_barrier", "state": "approved", "requested_by": "parking", "reason": "bound_plate"}
    assert gates.rows("SELECT state FROM parking_session") == [{"state": "open"}], "it has not driven out yet"


def test_who_is_not_bound_an_old_arrival_and_an_unknown_car_open_nothing(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙B12345")
    gates.take(gates.passes("in", "浙A8K2Q6", 0), gates.passes("in", "浙B12345", 0))
    hear(gates, NOON + timedelta(minutes=90))
    gates.take(gates.waits("out", "浙A8K2Q6", 90))
    gates.take(gates.waits("out", "苏E99999", 90.1), gates.waits("out", "浙B12345", 80))
    assert sorted(decisions(gates)) == [("no_session", False), ("not_bound", False), ("too_late", False)]
    assert gates.rows("SELECT id FROM command") == []


def test_stays_are_forgotten_with_their_plates_but_not_what_is_owed(gates: Gates) -> None:
    gates.set_lot(Tariff())
    gates.bind("浙A8K2Q6")
    gates.take(
        gates.passes("in", "浙A8K2Q6", 0), gates.passes("out", "浙A8K2Q6", 150),
        gates.passes("in", "浙B12345", 0), gates.passes("out", "浙B12345", 10),
    )  # fmt: skip
    with gates.database.transaction() as connection:
        assert store.forget_stays(connection, NOON + timedelta(days=200)) > 0
    assert [s["plate"] for s in gates.sessions()] == ["浙A8K2Q6"]
    assert gates.rows("SELECT id FROM parking_passage") == []
    with gates.database.transaction() as connection:
        ledger.change_statement(connection, gates.sessions()[0]["id"], StatementState.PAID, "lin", "paid", gates.now)
        store.forget_stays(connection, NOON + timedelta(days=200))
    assert gates.sessions() == [] and gates.rows("SELECT id FROM parking_statement") == []


def test_lists_never_show_a_whole_plate_and_looking_at_one_is_on_record(gates: Gates) -> None:
    gates.take(gates.passes("in", "浙A8K2Q6", 0))
    with gates.database.transaction() as connection:
        [stay] = ledger.read_stays(connection, gates.now)
        assert stay["plate"] == "浙A·**2Q6"
        assert ledger.read_stays(connection, gates.now, q="8K2") and not ledger.read_stays(
            connection, gates.now, q="9Z9"
        )
        assert ledger.reveal_plates(connection, stay["id"], "lin", "the owner asks", gates.now)["plate"] == "浙A8K2Q6"
    [line] = gates.rows("SELECT actor, action, detail FROM audit WHERE action = 'plate_revealed'")
    assert (
        line["actor"] == "lin" and line["detail"]["reason"] == "the owner asks" and "8K2Q6" not in str(line["detail"])
    )


def test_lots_of_the_same_name_in_two_communities_are_two(gates: Gates, database: Database) -> None:
    with database.transaction() as connection:
        record = DeviceRecord(
            code="far", kind="parking_gate", name="far", lon=120.2, lat=30.3, area_code="330105013001"
        )
        gates.devices["g-far"] = add_device(connection, record, NOON)
    far = gates.devices["g-far"]
    entry = gates.message(far, 0, event="passage", direction="in", plate="浙A8K2Q6")
    gates.take(gates.passes("in", "浙A8K2Q6", 0), (far, entry))
    lots: Sequence[dict[str, Any]] = gates.rows("SELECT area_code FROM parking_lot ORDER BY area_code")
    assert [lot["area_code"] for lot in lots] == ["330105012001", "330105013001"]
    assert [s["state"] for s in gates.sessions()] == ["open", "open"]


def test_two_ingest_processes_at_one_lot_end_as_if_there_were_one(gates: Gates) -> None:
    told = [gates.passes(direction, plate, minute) for direction, plate, minute in story()]  # type: ignore[arg-type]
    gates.take(*told)
    wanted = gates.sessions()
    with gates.database.transaction() as connection:
        connection.execute("DELETE FROM parking_session")
        connection.execute("DELETE FROM parking_passage")
    rng = random.Random(3)
    rng.shuffle(told)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(gates.take, told))
    assert gates.sessions() == wanted


def test_gates_whose_clocks_differ_put_no_exit_before_its_entry(gates: Gates) -> None:
    gates.offsets_s = {"g-in": -3600.0, "g-out": 20.0}  # an hour ahead; off by less than matters
    gates.take(gates.passes("in", "浙A8K2Q6", 60), gates.passes("out", "浙A8K2Q6", 30))
    [stay] = gates.sessions()
    assert (stay["entered_at"], stay["left_at"]) == (NOON, NOON + timedelta(minutes=30))
