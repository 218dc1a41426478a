"""Routes of the register: devices with what is said about them, lists brought in, keys, labels, what is missing.

Operators read it, engineers and administrators change it; everybody within the area their rights reach. Every change is
in the audit. A key is in the answer that issues it and nowhere else, not even with an Idempotency-Key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
from fastapi import APIRouter, Depends, File, Query, Response, UploadFile
from fastapi.responses import HTMLResponse
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.device_check import check_device
from dashboard.errors import Problem
from dashboard.idempotency import extend_claim
from dashboard.limits import LIST_BYTES
from dashboard.registration import NewDevice, change_device, import_devices, register_device
from dashboard.session import User
from dashboard.staff import WATCHERS
from dashboard.store import DeviceFilter, JsonObject, read_devices
from dashboard.view import DeviceView
from devices.credential import issue_key, read_credentials, revoke_key
from devices.importing import FileKind, ListError, find_file_kind, read_list, write_template
from devices.label import SHEET_POLICY, Label, draw_label, draw_sheet
from devices.model import Device
from devices.registry import KINDS
from devices.store import DeviceError, read_device
from grid.coordinates import CoordinateError, CrsError
from ingest.address import AddressError
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.types import Role
from vision.scene import SceneError

router = APIRouter(tags=["register"])
Engineer = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
Watcher = Annotated[User, Depends(require(*WATCHERS))]
Words = Annotated[str, Field(max_length=200)]
_STATUS = {"unknown_device": 404, "unknown_credential": 404, "code_taken": 409}
_MOST_LABELS = 2_000


class ParentView(BaseModel):
    """The gateway a device hangs on."""

    id: UUID
    code: str
    name: str


class RegistryView(BaseModel):
    """What the register says about a device. The position as it was given is in `source_crs`."""

    component_code: str
    owner_unit: str
    competent_unit: str
    maintenance_unit: str
    maker: str
    model: str
    serial: str
    firmware: str
    building: str
    floor: str
    household: str
    parent: ParentView | None
    children: int
    source_crs: str
    source_lon: float | None
    source_lat: float | None
    enabled: bool
    settings: dict[str, Any]
    created_at: datetime


class CredentialView(BaseModel):
    """One log-in; its key is nowhere."""

    user: str
    number: int
    created_at: datetime
    valid_until: datetime | None
    revoked_at: datetime | None


class DeviceDetail(DeviceView):
    """A device with its entry in the register (None for those who neither watch nor run the system)."""

    registry: RegistryView | None = None
    credentials: list[CredentialView] = Field(default_factory=list)


class DeviceChanges(BaseModel):
    """What may be changed. A position is `lon` and `lat`, in `crs`; `parent` a gateway's code, '' for none."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    enabled: bool | None = None
    settings: dict[str, Any] | None = None
    parent: Words | None = None
    lon: FiniteFloat | None = None
    lat: FiniteFloat | None = None
    crs: Annotated[str, Field(max_length=20)] | None = None
    component_code: Words | None = None
    owner_unit: Words | None = None
    competent_unit: Words | None = None
    maintenance_unit: Words | None = None
    maker: Words | None = None
    model: Words | None = None
    serial: Words | None = None
    firmware: Words | None = None
    building: Words | None = None
    floor: Words | None = None
    household: Words | None = None
    outside: bool = False


class DeviceBody(DeviceChanges):
    """A new device. A camera needs `url`."""

    code: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Annotated[str, Field(max_length=64)]
    lon: FiniteFloat
    lat: FiniteFloat
    url: Annotated[str, Field(max_length=500)] = ""
    scene: dict[str, Any] | None = None
    heading_deg: Annotated[FiniteFloat, Field(ge=0, le=360)] | None = None
    fov_deg: Annotated[FiniteFloat, Field(gt=0, le=360)] | None = None
    range_m: Annotated[FiniteFloat, Field(gt=0)] | None = None
    substream_url: Annotated[str, Field(max_length=500)] = ""
    onvif_profile: Words = ""
    onvif_address: Words = ""
    ptz: bool = False
    gb_device_id: Annotated[str, Field(max_length=20)] = ""
    gb_channel_id: Annotated[str, Field(max_length=20)] = ""


class RowProblemView(BaseModel):
    """What is wrong with a row; `field` is the column's English name, '' for the whole row."""

    code: str
    field: str
    detail: str


class RowView(BaseModel):
    """What became of one row of a list."""

    line: int
    code: str
    ok: bool
    problems: list[RowProblemView]


class ImportView(BaseModel):
    """A list after every row was tried; nothing was registered unless `applied`."""

    rows: list[RowView]
    good: int
    bad: int
    applied: bool
    unknown_headings: list[str]


class KeyRequest(BaseModel):
    """`overlap_hours`: how long earlier keys go on."""

    model_config = ConfigDict(extra="forbid")
    overlap_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 24.0


class IssuedKey(BaseModel):
    """A log-in with its key, told this once."""

    user: str
    key: str
    number: int
    valid_from: datetime
    previous_until: datetime | None


class CheckView(BaseModel):
    """One answer about what is missing. `ok` null: nothing is known, or it does not matter here."""

    check: str
    ok: bool | None
    text_zh: str
    text_en: str
    mend_zh: str
    mend_en: str


@contextmanager
def explained() -> Iterator[None]:
    """Errors of the register as problems with the same stable code."""
    try:
        yield
    except DeviceError as error:
        raise Problem(
            _STATUS.get(error.code, 422), error.code, "The register refuses this", detail=str(error)
        ) from None
    except CrsError as error:
        raise Problem(422, "unknown_crs", "Unknown coordinate system", detail=str(error)) from None
    except CoordinateError as error:
        raise Problem(422, "bad_position", "These coordinates are nowhere in that system", detail=str(error)) from None
    except AddressError:  # its text may hold the address and so a password
        raise Problem(422, "bad_address", "This camera address may not be opened") from None
    except SceneError as error:
        raise Problem(422, "bad_scene", "These zones do not fit", detail=str(error)) from None
    except ListError as error:
        raise Problem(422, error.code, "This is no list of devices", detail=str(error)) from None
    except psycopg.errors.InsufficientPrivilege:
        raise Problem(403, "outside_scope", "This place is outside your area") from None


def find_device(connection: Connection, device_id: UUID) -> Device:
    """The device, in use or not. 404 `unknown_device`."""
    row = connection.execute("SELECT code FROM device WHERE id = %s", (device_id,)).fetchone()
    if row is None:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return read_device(connection, row[0])


@router.get("/devices", response_model=list[DeviceView])
def list_devices(
    user: CurrentUser,
    web: CurrentWeb,
    kind: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[str | None, Query(max_length=20)] = None,
    q: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    parent: UUID | None = None,
    disabled: bool = False,
    after: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int | None, Query(ge=1, le=1_000)] = None,
) -> list[JsonObject]:
    """Devices of my scope with the newest that is known about them; with `disabled` those switched off as well.

    In pages with `limit`, the next one `after` the last one's `map_id`.
    """
    wanted = DeviceFilter(kind=kind, status=status, q=q or None, parent=parent, after=after, limit=limit)
    with web.transaction(user) as connection:
        return read_devices(connection, None, wanted, disabled_too=disabled)


@router.get("/devices/import-template.{suffix}", response_class=Response)
def show_template(suffix: Literal["csv", "xlsx"], user: Watcher) -> Response:
    """An empty list with every heading and one example."""
    del user
    kind = FileKind(suffix)
    media_type = (
        "text/csv; charset=utf-8"
        if kind is FileKind.CSV
        else "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    )
    headers = {"Content-Disposition": f'attachment; filename="devices.{kind}"'}
    return Response(write_template(kind), media_type=media_type, headers=headers)


@router.get("/devices/labels.html", response_class=HTMLResponse)
def show_labels(
    user: Watcher, web: CurrentWeb, ids: Annotated[str | None, Query(max_length=100_000)] = None
) -> HTMLResponse:
    """A sheet of labels to print: of these devices (`ids` with commas between), or of all in my scope, 2,000 at most."""
    wanted = None if ids is None else [_read_id(text) for text in ids.split(",") if text]
    with web.transaction(user) as connection:
        labels = _read_labels(connection, wanted, web.settings.public_url)
    sheet = draw_sheet(labels, web.settings.city.name)
    return HTMLResponse(sheet, headers={"Content-Security-Policy": SHEET_POLICY})


@router.get("/devices/check")
def check_code(code: Annotated[str, Query(max_length=64)], user: Watcher, web: CurrentWeb) -> list[CheckView]:
    """What is missing for a code that may not even be registered."""
    with web.transaction(user) as connection:
        items = check_device(connection, code, web.settings.mqtt, web.now())
    return [CheckView.model_validate(item, from_attributes=True) for item in items]


@router.post("/devices", status_code=201, response_model=DeviceDetail)
def add(body: DeviceBody, user: Engineer, web: CurrentWeb) -> JsonObject:
    """Register a device. 409 `code_taken`, 403 `outside_scope`, 422 otherwise, with the register's own code."""
    said = body.model_dump(exclude={"outside"}, exclude_none=True)
    new = NewDevice(**({"name": body.code} | said))
    with web.transaction(user) as connection, explained():
        device = register_device(
            connection, new, web.places.locator(connection), web.settings, web.now(),
            outside=body.outside, actor=user.name,
        )  # fmt: skip
        return _read_detail(connection, device.id, user)


@router.post("/devices/import")
def import_list(
    user: Engineer,
    web: CurrentWeb,
    file: Annotated[UploadFile, File(description="csv, xlsx or geojson")],
    apply: bool = False,
    crs: Annotated[str, Query(max_length=20)] = "",
) -> ImportView:
    """Try every row of a list and tell what is wrong; with `apply`, register them when nothing is. All or none."""
    data = file.file.read(LIST_BYTES + 1)
    if len(data) > LIST_BYTES:
        raise Problem(413, "too_large", "The list is too large", limit_bytes=LIST_BYTES)
    extend_claim(data)
    with explained():
        listed = read_list(data, find_file_kind(file.filename or ""), crs=crs)
        with web.transaction(user) as connection:
            result = import_devices(
                connection, listed, web.places.locator(connection), web.settings, web.now(),
                apply=apply, actor=user.name,
            )  # fmt: skip
    rows = [
        RowView(line=row.line, code=row.code, ok=not row.problems,
                problems=[RowProblemView(code=p.code, field=p.field, detail=p.detail) for p in row.problems])
        for row in result.rows
    ]  # fmt: skip
    return ImportView(
        rows=rows, good=len(rows) - result.bad, bad=result.bad, applied=result.applied,
        unknown_headings=list(result.unknown_headings),
    )  # fmt: skip


@router.get("/devices/{device_id}", response_model=DeviceDetail)
def show_device(device_id: UUID, user: CurrentUser, web: CurrentWeb) -> JsonObject:
    """One device; for those who watch or run the system with its entry in the register."""
    with web.transaction(user) as connection:
        return _read_detail(connection, device_id, user)


@router.patch("/devices/{device_id}", response_model=DeviceDetail)
def change(device_id: UUID, body: DeviceChanges, user: Engineer, web: CurrentWeb) -> JsonObject:
    """Change what the register says; what is left out or null stays."""
    changes = body.model_dump(exclude={"outside"}, exclude_none=True)
    with web.transaction(user) as connection, explained():
        device = find_device(connection, device_id)
        change_device(
            connection, device, changes, web.places.locator(connection), web.now(),
            outside=body.outside, actor=user.name,
        )  # fmt: skip
        return _read_detail(connection, device_id, user)


@router.post("/devices/{device_id}/credentials", status_code=201)
def add_credential(device_id: UUID, body: KeyRequest, user: Engineer, web: CurrentWeb, response: Response) -> IssuedKey:
    """A new log-in; its key is told here and never again. Earlier ones end after the overlap."""
    now, overlap = web.now(), timedelta(hours=body.overlap_hours)
    # Not `web.transaction`: it would keep the answer, and with it the key, for a repeat with the same Idempotency-Key.
    with web.app_database.transaction(user.scope) as connection, explained():
        device = find_device(connection, device_id)
        earlier = any(credential.is_valid(now) for credential in read_credentials(connection, device_id))
        name, key = issue_key(connection, device, now, overlap)
        number = read_credentials(connection, device_id)[-1].number
        detail = {"user": name, "overlap_hours": body.overlap_hours}
        write_audit(connection, now, actor=user.name, action="key_issued", subject=device.code, detail=detail)
    response.headers["Cache-Control"] = "no-store"
    return IssuedKey(
        user=name, key=key, number=number, valid_from=now, previous_until=now + overlap if earlier else None
    )


@router.delete("/devices/{device_id}/credentials/{number}")
def end_credential(device_id: UUID, number: int, user: Engineer, web: CurrentWeb) -> CredentialView:
    """Revoke a log-in at once; the broker is told within seconds and ends its connection."""
    with web.transaction(user) as connection, explained():
        device = find_device(connection, device_id)
        ended = revoke_key(connection, device, number, web.now())
        detail = {"user": ended.username}
        write_audit(connection, web.now(), actor=user.name, action="key_revoked", subject=device.code, detail=detail)
    return CredentialView(
        user=ended.username, number=number, created_at=ended.created_at, valid_until=ended.valid_until,
        revoked_at=ended.revoked_at,
    )  # fmt: skip


@router.get("/devices/{device_id}/label.svg", response_class=Response)
def show_label(device_id: UUID, user: Watcher, web: CurrentWeb) -> Response:
    """The device's label with its QR code."""
    with web.transaction(user) as connection:
        labels = _read_labels(connection, [device_id], web.settings.public_url)
    if not labels:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return Response(draw_label(labels[0]), media_type="image/svg+xml", headers={"Cache-Control": "no-cache"})


@router.get("/devices/{device_id}/check")
def check(device_id: UUID, user: Watcher, web: CurrentWeb) -> list[CheckView]:
    """What is missing for a device that does not appear, each with how to mend it."""
    with web.transaction(user) as connection:
        code = find_device(connection, device_id).code
        items = check_device(connection, code, web.settings.mqtt, web.now())
    return [CheckView.model_validate(item, from_attributes=True) for item in items]


def _read_id(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise Problem(422, "bad_id", "An id is a UUID", id=text[:40]) from None


def _read_labels(connection: Connection, ids: list[UUID] | None, public_url: str) -> list[Label]:
    rows = connection.execute(
        "SELECT code, name, kind, cell_code FROM device WHERE %(ids)s::uuid[] IS NULL OR id = ANY (%(ids)s)"
        " ORDER BY code LIMIT %(most)s",
        {"ids": ids, "most": _MOST_LABELS},
    ).fetchall()
    titles: dict[str, str] = {kind.name: kind.title_zh for kind in KINDS.values()}
    return [
        Label(
            code=code, name=name, kind=titles.get(kind) or str(kind), cell_code=cell, url=f"{public_url}/device/{code}"
        )
        for code, name, kind, cell in rows
    ]


def _read_detail(connection: Connection, device_id: UUID, user: User) -> JsonObject:
    found = read_devices(connection, [device_id], disabled_too=True)
    if not found:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    detail = found[0]
    if not user.roles.isdisjoint(WATCHERS):
        detail["registry"] = _read_registry(connection, device_id)
    if not user.roles.isdisjoint((Role.ENGINEER, Role.ADMIN)):
        detail["credentials"] = [
            {
                "user": c.username,
                "number": c.number,
                "created_at": c.created_at,
                "valid_until": c.valid_until,
                "revoked_at": c.revoked_at,
            }
            for c in read_credentials(connection, device_id)
        ]
    return detail


def _read_registry(connection: Connection, device_id: UUID) -> JsonObject | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            SELECT d.component_code, d.owner_unit, d.competent_unit, d.maintenance_unit, d.maker, d.model, d.serial,
                   d.firmware, d.building, d.floor, d.household, d.source_crs, d.source_lon, d.source_lat, d.enabled,
                   d.settings, d.created_at,
                   (SELECT count(*) FROM device c WHERE c.parent_id = d.id) AS children,
                   CASE WHEN p.id IS NOT NULL THEN jsonb_build_object('id', p.id, 'code', p.code, 'name', p.name) END AS parent
            FROM device d LEFT JOIN device p ON p.id = d.parent_id WHERE d.id = %s
            """,
            (device_id,),
        ).fetchone()
