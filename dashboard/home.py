"""Routes about devices in homes: household, consent on record, whom to call. Names and numbers are masked until asked for
with a reason, which is audited."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dashboard.auth import CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from devices.homes import (
    Consent,
    ConsentState,
    ContactRecord,
    ContactRole,
    Home,
    consent_state,
    mask_name,
    mask_phone,
    read_consent_history,
    read_ending_consents,
    read_home,
    write_home,
)
from devices.model import Device
from devices.seal import Seal
from devices.store import DeviceError, read_device
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.types import Role

router = APIRouter(tags=["homes"])
Keeper = Annotated[User, Depends(require(Role.OPERATOR, Role.ENGINEER, Role.ADMIN))]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class ConsentBody(BaseModel):
    """A consent on record. `document_id`: a photograph of the signed paper among the evidence."""

    model_config = ConfigDict(extra="forbid")
    given_by: Words
    given_at: AwareDatetime
    ends_at: AwareDatetime
    purpose: Words
    document_id: UUID | None = None


class ContactBody(BaseModel):
    """Somebody to call. With the `id` of one that is there, a name or phone of null stays what it is."""

    model_config = ConfigDict(extra="forbid")
    id: UUID | None = None
    order: Annotated[int, Field(ge=1, le=20)]
    role: ContactRole
    name: Words | None = None
    phone: Annotated[str, Field(max_length=30)] | None = None
    language: Literal["zh-CN", "en"] = "zh-CN"


class HomeBody(BaseModel):
    """What is known of a home, replaced as a whole."""

    model_config = ConfigDict(extra="forbid")
    building: Words = ""
    floor: Words = ""
    household: Words = ""
    consent: ConsentBody | None = None
    contacts: Annotated[list[ContactBody], Field(max_length=20)] = []


class ContactView(BaseModel):
    """Masked, unless asked for with a reason."""

    id: UUID
    order: int
    role: ContactRole
    name: str
    phone: str
    language: str


class ConsentRecord(ConsentBody):
    """A consent that is or was on record."""

    recorded_by: str
    recorded_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str | None


class HomeView(BaseModel):
    """A device's home. `in_home`: the household is set; then rules that watch a person need a valid consent."""

    building: str
    floor: str
    household: str
    in_home: bool
    consent_state: ConsentState
    consent: ConsentBody | None
    consents: list[ConsentRecord]
    contacts: list[ContactView]


class EndingConsent(BaseModel):
    """A device in a home whose consent is missing, ended or about to end."""

    id: UUID
    code: str
    name: str
    kind: str
    building: str
    floor: str
    household: str
    consent_until: datetime | None
    consent: ConsentState


class Reason(BaseModel):
    """Why somebody wants to see what is masked; it is kept."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(min_length=2, max_length=200, pattern=r"^[^\x00]*$")]


def _find_device(connection: Connection, device_id: UUID) -> Device:
    row = connection.execute("SELECT code FROM device WHERE id = %s", (device_id,)).fetchone()
    if row is None:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return read_device(connection, row[0])


def _show(connection: Connection, device: Device, home: Home, now: datetime) -> dict[str, Any]:
    until = home.consent.ends_at if home.consent is not None else None
    return {
        "building": home.building,
        "floor": home.floor,
        "household": home.household,
        "in_home": bool(home.household),
        "consent_state": consent_state(bool(home.household), until, now),
        "consent": home.consent,
        "consents": read_consent_history(connection, device.id),
        "contacts": [
            {
                "id": contact.id,
                "order": contact.position,
                "role": contact.role,
                "name": mask_name(contact.name),
                "phone": mask_phone(contact.phone),
                "language": contact.language,
            }
            for contact in home.contacts
        ],
    }


def _seal(web: Web) -> Seal:
    return Seal.of(web.settings.data_dir)


@router.get("/devices/{device_id}/home", response_model=HomeView)
def show_home(device_id: UUID, user: Keeper, web: CurrentWeb) -> dict[str, Any]:
    """Household, consent and contacts, masked."""
    with web.transaction(user) as connection:
        device = _find_device(connection, device_id)
        return _show(connection, device, read_home(connection, device_id, _seal(web)), web.now())


@router.put("/devices/{device_id}/home", response_model=HomeView)
def change_home(device_id: UUID, body: HomeBody, user: Keeper, web: CurrentWeb) -> dict[str, Any]:
    """Replace what is known of the home. 422 `bad_consent`, `bad_contact`, `consent_without_home`, `unknown_evidence`."""
    now, seal = web.now(), _seal(web)
    records = [
        ContactRecord(id=c.id, position=c.order, role=c.role, name=c.name, phone=c.phone, language=c.language)
        for c in body.contacts
    ]
    with web.transaction(user) as connection:
        device = _find_device(connection, device_id)
        try:
            write_home(
                connection,
                device,
                building=body.building,
                floor=body.floor,
                household=body.household,
                consent=Consent(**body.consent.model_dump()) if body.consent is not None else None,
                contacts=records,
                seal=seal,
                actor=user.name,
                now=now,
            )
        except DeviceError as error:
            raise Problem(422, error.code, str(error)) from None
        except psycopg.errors.ForeignKeyViolation:
            raise Problem(422, "unknown_evidence", "There is no such document") from None
        return _show(connection, device, read_home(connection, device_id, seal), now)


@router.post("/devices/{device_id}/home/contacts", response_model=list[ContactView])
def reveal_contacts(device_id: UUID, body: Reason, user: Keeper, web: CurrentWeb) -> list[dict[str, Any]]:
    """Whom to call, with names and numbers; that they were seen, by whom and why, is on record."""
    # Not by web.transaction: a kept answer to an Idempotency-Key would keep names and numbers unsealed.
    with web.app_database.transaction(user.scope) as connection:
        device = _find_device(connection, device_id)
        home = read_home(connection, device_id, _seal(web))
        write_audit(
            connection,
            web.now(),
            actor=user.name,
            action="contacts_revealed",
            subject=device.code,
            detail={"reason": body.reason, "contacts": len(home.contacts)},
        )
        return [
            {
                "id": c.id,
                "order": c.position,
                "role": c.role,
                "name": c.name,
                "phone": c.phone,
                "language": c.language,
            }
            for c in home.contacts
        ]


@router.get("/consents/ending", response_model=list[EndingConsent])
def list_ending_consents(
    user: Keeper, web: CurrentWeb, within_days: Annotated[int, Query(ge=0, le=366)] = 30
) -> list[dict[str, Any]]:
    """Devices in homes of my scope whose consent is missing, has ended or ends within so many days."""
    with web.transaction(user) as connection:
        return read_ending_consents(connection, web.now(), timedelta(days=within_days))
