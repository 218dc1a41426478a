"""Routes about parking: lots with their bays, sessions and statements, bound plates. Plates are masked in every list."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.errors import Problem
from dashboard.session import User
from devices.parking import ledger
from devices.parking.gate import CODES
from devices.parking.ledger import ParkingError
from devices.parking.plate import clean_plate
from devices.parking.session import MatchedBy, SessionState
from devices.parking.statement import StatementState
from devices.parking.tariff import Tariff
from kernel.audit import write_audit
from kernel.types import Role

router = APIRouter(tags=["parking"])
Operator = Annotated[User, Depends(require(Role.OPERATOR, Role.ADMIN))]
Keeper = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
Why = Annotated[str, Field(min_length=2, max_length=200, pattern=r"^[^\x00]*$")]
_STATUS = {
    "unknown_lot": 404, "unknown_session": 404, "unknown_binding": 404, "no_statement": 409, "not_allowed_in_state": 409,
    "no_exit": 409, "binding_taken": 409, "unknown_entry": 422, "bad_plate": 422, "bad_end": 422,
}  # fmt: skip
_TITLES = {
    "unknown_lot": "There is no such lot in your scope",
    "unknown_session": "There is no such session in your scope",
    "unknown_binding": "There is no such binding in your scope",
    "no_statement": "Nothing is owed for this stay",
    "not_allowed_in_state": "The statement cannot become that from where it is",
    "no_exit": "This stay has no exit to decide about",
    "binding_taken": "This plate is bound there already",
    "unknown_entry": "No such entry of this lot came before the exit",
    "bad_plate": "This is no number plate",
    "bad_end": "A binding ends in the future",
}


class LotView(BaseModel):
    """A lot and its bays now. `bays_free` is the gate's count where there is one; `difference`: what sessions leave more."""

    id: UUID
    lot: str
    name: str
    area_code: str
    lon: float
    lat: float
    bays_total: int | None
    bays_free: int | None
    by_gate: int | None
    by_sessions: int | None
    difference: int | None
    open_sessions: int
    unmatched: int
    deferred: bool
    entry: Literal["all", "bound", "off"]
    overdue_limit: int
    pay_within_days: int
    tariff: Tariff | None
    tariff_from: datetime | None
    gate_bays_at: datetime | None
    updated_at: datetime


class LotChange(BaseModel):
    """What an engineer sets; what is left out stays. A tariff holds for stays that begin from now on."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = None
    bays_total: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    deferred: bool | None = None
    entry: Literal["all", "bound", "off"] | None = None
    overdue_limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    pay_within_days: Annotated[int, Field(ge=1, le=366)] | None = None
    tariff: Tariff | None = None


class StayView(BaseModel):
    """One stay, plates masked. `payment`: of its statement, null when nothing is owed."""

    id: UUID
    lot_id: UUID
    lot: str
    lot_name: str
    state: SessionState
    plate: str
    exit_plate: str | None
    colour: str | None
    entered_at: datetime | None
    left_at: datetime | None
    ended_at: datetime | None
    matched_by: MatchedBy | None
    amount_fen: int | None
    payment: StatementState | None
    issued_at: datetime | None
    due_at: datetime | None


class StatementEvent(BaseModel):
    """What happened to a statement."""

    at: datetime
    from_state: str | None
    to_state: str
    amount_fen: int
    actor: str
    reason: str


class StayDetail(StayView):
    """One stay with its statement's log."""

    events: list[StatementEvent]


class StayPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    items: list[StayView]
    next: UUID | None


class EntryView(StayView):
    """A stay that an exit may belong to; `likeness` of the plates, 1 the same."""

    likeness: float


class StatementChange(BaseModel):
    """What a person does to a statement."""

    model_config = ConfigDict(extra="forbid")
    state: Literal[StatementState.PAID, StatementState.DISPUTED, StatementState.UNPAID, StatementState.CANCELLED]
    reason: Why


class ExitChoice(BaseModel):
    """To which entry (the id of its stay) an exit belongs; null: to none, and nothing is owed."""

    model_config = ConfigDict(extra="forbid")
    entry_id: UUID | None
    reason: Why


class Reason(BaseModel):
    """Why somebody wants to see what is masked; it is kept."""

    model_config = ConfigDict(extra="forbid")
    reason: Why


class Plates(BaseModel):
    """Plates in full."""

    plate: str
    exit_plate: str | None


class BindingView(BaseModel):
    """A plate that may leave first and pay later."""

    id: UUID
    plate: str
    area_code: str
    reference: str
    bound_at: datetime
    ends_at: datetime | None
    bound_by: str


class BindingBody(BaseModel):
    """A plate to bind. `area_code`: where, a division code; none: the whole of my scope. `reference`: the payer's number at
    whoever collects, never a card or an account."""

    model_config = ConfigDict(extra="forbid")
    plate: Annotated[str, Field(max_length=20)]
    area_code: Annotated[str, Field(pattern=r"^\d{0,18}$")] | None = None
    reference: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] = ""
    ends_at: AwareDatetime | None = None


class DecisionView(BaseModel):
    """For whom a barrier was opened or not, and why."""

    id: UUID
    lot_id: UUID
    device_id: UUID
    at: datetime
    direction: Literal["in", "out"]
    plate: str
    opened: bool
    code: Annotated[str, Field(examples=list(CODES))]
    session_id: UUID | None
    command_id: UUID | None


def _problem(error: ParkingError) -> Problem:
    return Problem(_STATUS[error.code], error.code, _TITLES[error.code], **error.params)


@router.get("/parking/lots", response_model=list[LotView])
def list_lots(user: CurrentUser, web: CurrentWeb) -> list[dict[str, Any]]:
    """Lots of my scope and their bays; to be asked again every few seconds."""
    with web.transaction(user) as connection:
        return ledger.read_lots(connection, web.now())


@router.patch("/parking/lots/{lot_id}", response_model=LotView)
def change_lot(lot_id: UUID, body: LotChange, user: Keeper, web: CurrentWeb) -> dict[str, Any]:
    """Name a lot, set its bays, whom its barriers open for, and its tariff."""
    changes = {
        n: v for n, v in body.model_dump(exclude={"tariff"}).items() if n in body.model_fields_set and v is not None
    }
    try:
        with web.transaction(user) as connection:
            return ledger.write_lot(connection, lot_id, changes, body.tariff, user.name, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.get("/parking/sessions")
def list_sessions(
    user: Operator,
    web: CurrentWeb,
    lot: UUID | None = None,
    state: SessionState | StatementState | None = None,
    q: Annotated[str, Query(max_length=20, pattern=r"^[^\x00]*$")] = "",
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> StayPage:
    """Stays, the newest first, plates masked. `state`: of the stay or of its statement; `q`: part of a plate, audited."""
    searched = clean_plate(q)
    if q and len(searched) < 3:
        raise Problem(422, "search_too_short", "A search for a plate has at least three characters", least=3)
    with web.transaction(user) as connection:
        rows = ledger.read_stays(
            connection, web.now(), lot_id=lot, state=state, q=searched, before=cursor, limit=limit + 1
        )
        if searched:
            detail = {"characters": len(searched), "found": min(len(rows), limit)}
            write_audit(connection, web.now(), actor=user.name, action="plate_searched", detail=detail)
    items = [StayView.model_validate(row) for row in rows[:limit]]
    return StayPage(items=items, next=items[-1].id if len(rows) > limit else None)


@router.get("/parking/sessions/{session_id}", response_model=StayDetail)
def show_session(session_id: UUID, user: Operator, web: CurrentWeb) -> dict[str, Any]:
    """One stay, masked, with its statement's log."""
    try:
        with web.transaction(user) as connection:
            return ledger.read_stay(connection, session_id, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.post("/parking/sessions/{session_id}/plate", response_model=Plates)
def reveal_plates(session_id: UUID, body: Reason, user: Operator, web: CurrentWeb) -> dict[str, Any]:
    """The plates of one stay in full; who looked and why is on record."""
    try:
        # Not by web.transaction: a kept answer to an Idempotency-Key would keep the plates too.
        with web.app_database.transaction(user.scope) as connection:
            return ledger.reveal_plates(connection, session_id, user.name, body.reason, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.post("/parking/sessions/{session_id}/state", response_model=StayDetail)
def change_statement(session_id: UUID, body: StatementChange, user: Operator, web: CurrentWeb) -> dict[str, Any]:
    """Set the statement of a stay paid, disputed, unpaid again or cancelled. 409 `not_allowed_in_state`, `no_statement`."""
    try:
        with web.transaction(user) as connection:
            return ledger.change_statement(connection, session_id, body.state, user.name, body.reason, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.get("/parking/sessions/{session_id}/entries", response_model=list[EntryView])
def list_entries(session_id: UUID, user: Operator, web: CurrentWeb) -> list[dict[str, Any]]:
    """To which stays an exit that matched nothing may belong, the most alike plate first."""
    try:
        with web.transaction(user) as connection:
            return ledger.read_entries(connection, session_id, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.post("/parking/sessions/{session_id}/match", response_model=StayDetail)
def decide_exit(session_id: UUID, body: ExitChoice, user: Operator, web: CurrentWeb) -> dict[str, Any]:
    """Say to which entry the exit of a stay belongs, or that it belongs to none; the stay that has the exit then."""
    try:
        with web.transaction(user) as connection:
            return ledger.decide_exit(connection, session_id, body.entry_id, user.name, body.reason, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.get("/parking/bindings", response_model=list[BindingView])
def list_bindings(user: Operator, web: CurrentWeb) -> list[dict[str, Any]]:
    """Bound plates of my scope, masked."""
    with web.transaction(user) as connection:
        return ledger.read_bindings(connection, web.now())


@router.post("/parking/bindings", status_code=201)
def add_binding(body: BindingBody, user: Operator, web: CurrentWeb) -> dict[str, UUID]:
    """Let a plate leave first and pay later. 422 `bad_plate`, `bad_end`; 409 `binding_taken`; 403 `outside_scope`."""
    area_code = body.area_code
    if area_code is None:
        area_code = "" if user.scope == "*" else user.scope.split(",")[0]
    try:
        with web.transaction(user) as connection:
            binding_id = ledger.add_binding(
                connection,
                plate=body.plate,
                area_code=area_code,
                reference=body.reference,
                ends_at=body.ends_at,
                actor=user.name,
                now=web.now(),
            )
    except ParkingError as error:
        raise _problem(error) from None
    except psycopg.errors.InsufficientPrivilege:
        raise Problem(403, "outside_scope", "A binding holds within your scope") from None
    return {"id": binding_id}


@router.delete("/parking/bindings/{binding_id}", status_code=204)
def end_binding(binding_id: UUID, user: Operator, web: CurrentWeb) -> None:
    """The plate pays before it leaves from now on."""
    try:
        with web.transaction(user) as connection:
            ledger.end_binding(connection, binding_id, user.name, web.now())
    except ParkingError as error:
        raise _problem(error) from None


@router.get("/parking/decisions", response_model=list[DecisionView])
def list_decisions(
    user: Operator, web: CurrentWeb, lot: UUID | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[dict[str, Any]]:
    """For whom barriers were opened or not, and why; the newest first."""
    with web.transaction(user) as connection:
        return ledger.read_decisions(connection, lot, limit)
