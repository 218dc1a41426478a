"""What is owed for a stay, and how that may change: a table of states, never a card or an account number. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from devices.parking.session import Session, SessionState
from devices.parking.tariff import Tariff, charge


class StatementState(StrEnum):
    """How a statement stands. `overdue` is unpaid after its due instant: seen so by whoever reads, never stored."""

    UNPAID = "unpaid"
    OVERDUE = "overdue"
    PAID = "paid"
    DISPUTED = "disputed"
    CANCELLED = "cancelled"


_S = StatementState
# What a person may do; overdue is as unpaid.
CHANGES: dict[StatementState, frozenset[StatementState]] = {
    _S.UNPAID: frozenset({_S.PAID, _S.DISPUTED, _S.CANCELLED}),
    _S.DISPUTED: frozenset({_S.UNPAID, _S.PAID, _S.CANCELLED}),
    _S.PAID: frozenset({_S.DISPUTED}),
    _S.CANCELLED: frozenset({_S.UNPAID}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """The row `parking_statement`. `by_person`: a person settled it, so nothing that gates say later changes it."""

    id: UUID
    session_id: UUID
    amount_fen: int
    state: StatementState
    due_at: datetime
    by_person: bool

    def __post_init__(self) -> None:
        """The state as it comes from the database is text."""
        object.__setattr__(self, "state", StatementState(self.state))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """What a statement is to say now."""

    amount_fen: int
    state: StatementState
    reason: str


def bill(session: Session | None, tariff: Tariff | None, bound: bool, known: Statement | None) -> Bill | None:
    """What the statement of this stay is to say; None when there is to be none, or it stays as it is.

    `session` None: there is no such stay any more. `bound`: the plate was bound when it left. A gate that says nothing
    about payment is taken to have collected from whoever is not bound.
    """
    if known is not None and known.by_person:
        return None
    wanted = _price(session, tariff, bound)
    if known is None:
        return wanted
    if wanted is None:
        cancelled = known.state is StatementState.CANCELLED
        return None if cancelled else Bill(amount_fen=known.amount_fen, state=_S.CANCELLED, reason="session_changed")
    if (wanted.amount_fen, wanted.state) == (known.amount_fen, known.state):
        return None
    return Bill(amount_fen=wanted.amount_fen, state=wanted.state, reason="session_changed")


def _price(session: Session | None, tariff: Tariff | None, bound: bool) -> Bill | None:
    if session is None or session.state is not SessionState.LEFT:
        return None
    assert session.entered_at is not None and session.left_at is not None
    if session.paid == "paid":
        computed = charge(tariff, session.entered_at, session.left_at) if tariff is not None else 0
        amount_fen = session.fee_fen if session.fee_fen is not None else computed
        return Bill(amount_fen=amount_fen, state=_S.PAID, reason="paid_at_gate") if amount_fen else None
    if tariff is None or session.paid == "none" or (session.paid is None and not bound):
        return None
    amount_fen = charge(tariff, session.entered_at, session.left_at)
    return Bill(amount_fen=amount_fen, state=_S.UNPAID, reason="left") if amount_fen else None
