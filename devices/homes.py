"""Devices in homes: the household they belong to, the consent of who lives there, and whom to call.

A device is in a home when its household is set. Rules that watch a person (`Rule.needs_consent`) are judged there only
while a consent is on record (`devices.alarms.has_consent`); `write_home` is the only writer of `device.consent_until`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from devices.model import Device
from devices.seal import Seal
from devices.store import DeviceError
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.ids import new_id

ENDS_SOON = timedelta(days=30)
_CLOCKS_DIFFER = timedelta(minutes=5)
_PHONE = re.compile(r"\+?[0-9][0-9 -]{4,19}")
_MOST_CONTACTS = 20


class ContactRole(StrEnum):
    """Who is called; the order is each home's own."""

    RESIDENT = "resident"
    NEIGHBOUR = "neighbour"
    COMMUNITY = "community"


class ConsentState(StrEnum):
    """How the consent for a device stands."""

    NOT_NEEDED = "not_needed"  # not in a home
    MISSING = "missing"
    VALID = "valid"
    ENDS_SOON = "ends_soon"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """What was consented to, by whom, until when."""

    given_by: str
    given_at: datetime
    ends_at: datetime
    purpose: str
    document_id: UUID | None = None  # evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """Somebody to call. `name` and `phone` are sealed in the database: never log them."""

    id: UUID
    position: int
    role: ContactRole
    name: str
    phone: str
    language: str = "zh-CN"

    def __repr__(self) -> str:
        return f"Contact(id={self.id!r}, position={self.position}, role={self.role!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContactRecord:
    """A contact as it is written. With `id` of one that is there, name and phone that are None stay what they are."""

    position: int
    role: ContactRole
    id: UUID | None = None
    name: str | None = None
    phone: str | None = None
    language: str = "zh-CN"

    def __repr__(self) -> str:
        return f"ContactRecord(id={self.id!r}, position={self.position}, role={self.role!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """What is known of the home a device is in."""

    building: str
    floor: str
    household: str
    consent: Consent | None = None
    contacts: Sequence[Contact] = field(default_factory=tuple)


def consent_state(in_home: bool, consent_until: datetime | None, now: datetime) -> ConsentState:
    """How a device's consent stands."""
    if not in_home:
        return ConsentState.NOT_NEEDED
    if consent_until is None:
        return ConsentState.MISSING
    if consent_until <= now:
        return ConsentState.ENDED
    return ConsentState.ENDS_SOON if consent_until - now <= ENDS_SOON else ConsentState.VALID


def read_home(connection: Connection, device_id: UUID, seal: Seal) -> Home:
    """The home of a device, contacts opened. Raises DeviceError (unknown_device), SealError."""
    row = connection.execute("SELECT building, floor, household FROM device WHERE id = %s", (device_id,)).fetchone()
    if row is None:
        raise DeviceError("unknown_device", f"no device {device_id}")
    building, floor, household = row
    return Home(
        building=building,
        floor=floor,
        household=household,
        consent=_read_consent(connection, device_id),
        contacts=read_contacts(connection, device_id, seal),
    )


def _read_consent(connection: Connection, device_id: UUID) -> Consent | None:
    with connection.cursor(row_factory=class_row(Consent)) as cursor:
        return cursor.execute(
            "SELECT given_by, given_at, ends_at, purpose, document_id FROM consent"
            " WHERE device_id = %s AND withdrawn_at IS NULL",
            (device_id,),
        ).fetchone()


def read_contacts(connection: Connection, device_id: UUID, seal: Seal) -> list[Contact]:
    """Whom to call, in order. Raises SealError."""
    rows = connection.execute(
        "SELECT id, position, role, sealed, language FROM home_contact WHERE device_id = %s ORDER BY position",
        (device_id,),
    ).fetchall()
    return [
        Contact(
            id=contact_id, position=position, role=ContactRole(role), language=language, **seal.open(contact_id, sealed)
        )
        for contact_id, position, role, sealed, language in rows
    ]


def write_home(
    connection: Connection,
    device: Device,
    *,
    building: str,
    floor: str,
    household: str,
    consent: Consent | None,
    contacts: Sequence[ContactRecord],
    seal: Seal,
    actor: str,
    now: datetime,
) -> None:
    """Replace what is known of a device's home. Another consent, or none, withdraws the one on record, which is kept.

    Raises DeviceError (bad_consent, bad_contact, consent_without_home), and then nothing was written.
    """
    _check_consent(consent, household, now)
    records = _complete(contacts, read_contacts(connection, device.id, seal))
    ends_at = consent.ends_at if consent is not None else None
    connection.execute(
        "UPDATE device SET building = %s, floor = %s, household = %s, consent_until = %s, changed_at = %s WHERE id = %s",
        (building.strip(), floor.strip(), household.strip(), ends_at, now, device.id),
    )
    withdrawn = _write_consent(connection, device.id, consent, actor, now)
    _write_contacts(connection, device.id, records, seal, now)
    detail = {
        "in_home": bool(household.strip()),
        "consent_until": ends_at.isoformat() if ends_at is not None else None,
        "consent_changed": withdrawn,
        "contacts": len(records),
    }
    write_audit(connection, now, actor=actor, action="home_changed", subject=device.code, detail=detail)
    note_change(connection, ChangeKind.DEVICE, device.id, device.area_code, now)


def _check_consent(consent: Consent | None, household: str, now: datetime) -> None:
    if consent is None:
        return
    if not household.strip():
        raise DeviceError("consent_without_home", "a consent belongs to a household")
    if not consent.given_by.strip() or not consent.purpose.strip():
        raise DeviceError("bad_consent", "a consent names who gave it and what for")
    if consent.given_at > now + _CLOCKS_DIFFER or consent.ends_at <= consent.given_at:
        raise DeviceError("bad_consent", "a consent was given in the past and ends after that")


def _complete(contacts: Sequence[ContactRecord], known: Sequence[Contact]) -> list[ContactRecord]:
    """The records with what stays as it is filled in, checked."""
    by_id = {contact.id: contact for contact in known}
    found = []
    for record in contacts:
        old = by_id.get(record.id) if record.id is not None else None
        name = record.name if record.name is not None or old is None else old.name
        phone = record.phone if record.phone is not None or old is None else old.phone
        if not (name or "").strip() or not _PHONE.fullmatch((phone or "").strip()):
            raise DeviceError("bad_contact", f"contact {record.position} needs a name and a telephone number")
        found.append(
            ContactRecord(
                id=old.id if old is not None else None,
                position=record.position,
                role=record.role,
                name=(name or "").strip(),
                phone=(phone or "").strip(),
                language=record.language,
            )
        )
    positions = [record.position for record in found]
    if len(set(positions)) != len(positions) or not all(1 <= p <= _MOST_CONTACTS for p in positions):
        raise DeviceError("bad_contact", f"contacts have different places from 1 to {_MOST_CONTACTS}")
    return found


def _write_consent(connection: Connection, device_id: UUID, consent: Consent | None, actor: str, now: datetime) -> bool:
    """Whether anything changed."""
    if consent == _read_consent(connection, device_id):
        return False
    connection.execute(
        "UPDATE consent SET withdrawn_at = %s, withdrawn_by = %s WHERE device_id = %s AND withdrawn_at IS NULL",
        (now, actor, device_id),
    )
    if consent is not None:
        connection.execute(
            "INSERT INTO consent (id, device_id, given_by, given_at, ends_at, purpose, document_id, recorded_by, recorded_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                new_id(now), device_id, consent.given_by, consent.given_at, consent.ends_at, consent.purpose,
                consent.document_id, actor, now,
            ),
        )  # fmt: skip
    return True


def _write_contacts(
    connection: Connection, device_id: UUID, records: Sequence[ContactRecord], seal: Seal, now: datetime
) -> None:
    connection.execute("DELETE FROM home_contact WHERE device_id = %s", (device_id,))
    for record in records:
        contact_id = record.id or new_id(now)
        assert record.name is not None and record.phone is not None  # _complete
        sealed = seal.close(contact_id, {"name": record.name, "phone": record.phone})
        connection.execute(
            "INSERT INTO home_contact (id, device_id, position, role, sealed, language, changed_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (contact_id, device_id, record.position, record.role, sealed, record.language, now),
        )


def read_consent_history(connection: Connection, device_id: UUID) -> list[dict[str, Any]]:
    """Every consent ever on record for the device, newest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT given_by, given_at, ends_at, purpose, document_id, recorded_by, recorded_at, withdrawn_at, withdrawn_by"
            " FROM consent WHERE device_id = %s ORDER BY recorded_at DESC, id DESC",
            (device_id,),
        ).fetchall()


def read_ending_consents(connection: Connection, now: datetime, within: timedelta = ENDS_SOON) -> list[dict[str, Any]]:
    """Devices in homes whose consent is missing, ended or ends within `within`: the ones that end first come first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            SELECT id, code, name, kind, building, floor, household, consent_until FROM device
            WHERE in_home AND enabled AND (consent_until IS NULL OR consent_until <= %s)
            ORDER BY consent_until NULLS FIRST, code LIMIT 2000
            """,
            (now + within,),
        ).fetchall()
    return [row | {"consent": str(consent_state(True, row["consent_until"], now))} for row in rows]


def mask_name(name: str) -> str:
    """For lists: the family name's first character."""
    return name[:1] + "**" if name else ""


def mask_phone(phone: str) -> str:
    """For lists: the first three and the last two digits of a long number, the last two of a short one; no country code."""
    digits = re.sub(r"\D", "", re.sub(r"^\+86", "", phone.strip()))
    return f"{digits[:3]}****{digits[-2:]}" if len(digits) >= 9 else f"****{digits[-2:]}"
