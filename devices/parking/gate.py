"""For whom a barrier is opened: a vehicle that waits, what is known of it, and the decision with its reason. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from devices.parking.session import Session

FRESH = timedelta(seconds=30)  # an arrival told later opens nothing: somebody else may stand there by now
CODES = (
    "bound_plate", "free_of_charge", "paid", "open_to_all", "too_late", "unread", "entry_off", "full", "not_bound",
    "no_session", "deferral_off", "overdue", "command_refused",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Lot:
    """A car park as its row says. `gate_bays_free`: what a gate counted at `gate_bays_at`."""

    id: UUID
    code: str
    area_code: str
    name: str
    bays_total: int | None
    deferred: bool
    entry: str
    overdue_limit: int
    pay_within_days: int
    gate_bays_free: int | None
    gate_bays_total: int | None
    gate_bays_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A vehicle before a closed barrier. `paid`: what the gate says about payment."""

    device_id: UUID
    message_id: str
    direction: Literal["in", "out"]
    plate: str
    at: datetime
    paid: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether to open, and the code that says why. `session`: the stay that ends here."""

    opened: bool
    code: str
    session: Session | None = None


def decide_entry(lot: Lot, arrival: Arrival, *, bound: bool, bays_free: int | None, now: datetime) -> Decision:
    """Open on the way in for everybody or for bound plates, as the lot says, while a bay is free."""
    if abs(now - arrival.at) > FRESH:
        return Decision(opened=False, code="too_late")
    if lot.entry == "off":
        return Decision(opened=False, code="entry_off")
    if bays_free is not None and bays_free <= 0:
        return Decision(opened=False, code="full")
    if lot.entry == "all":
        return Decision(opened=True, code="open_to_all")
    return Decision(opened=bound, code="bound_plate" if bound else "not_bound")


def decide_exit(
    lot: Lot,
    arrival: Arrival,
    session: Session | None,
    *,
    due_fen: int | None,
    bound: bool,
    overdue: int,
    now: datetime,
) -> Decision:
    """Open on the way out for who owes nothing, has paid, or is bound and not too deep in debt.

    `due_fen`: charge up to now, None without a tariff; `bound`, `overdue`: of the plate of the session, which is the
    better reading. A vehicle whose stay is not known waits for a person.
    """
    if abs(now - arrival.at) > FRESH:
        return Decision(opened=False, code="too_late")
    if session is None:
        return Decision(opened=False, code="no_session" if arrival.plate else "unread")
    if arrival.paid == "paid":
        return Decision(opened=True, code="paid", session=session)
    if due_fen == 0 or arrival.paid == "none":
        return Decision(opened=True, code="free_of_charge", session=session)
    if not lot.deferred:
        return Decision(opened=False, code="deferral_off", session=session)
    if not bound:
        return Decision(opened=False, code="not_bound", session=session)
    if overdue >= lot.overdue_limit:
        return Decision(opened=False, code="overdue", session=session)
    return Decision(opened=True, code="bound_plate", session=session)
