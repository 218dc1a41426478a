"""Routes of engineers for vendors' JSON: mappings with their versions and a preview, and by what a device is known outside."""

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from dashboard.auth import CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from dashboard.store import read_devices
from devices.model import Device, TopicKind
from devices.registry import KINDS
from devices.store import read_device
from ingest.mapping import Mapping, apply, check_message
from ingest.mapping_store import (
    MappingError,
    StoredMapping,
    add_mapping,
    change_mapping,
    read_device_mapping,
    read_mappings,
    read_versions,
    use_mapping,
)
from ingest.ways.push import AEP, ONENET
from ingest.ways.station_store import (
    BindingError,
    bind_number,
    bind_station,
    read_bindings,
    unbind_number,
    unbind_station,
)
from kernel.audit import write_audit
from kernel.db import Connection
from kernel.types import Role

router = APIRouter(tags=["ways in"])
Engineer = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
_STATUS = {
    "unknown_mapping": 404,
    "name_taken": 409,
    "version_conflict": 409,
    "address_taken": 409,
    "number_taken": 409,
}
_FORBID = ConfigDict(extra="forbid")


class MappingView(BaseModel):
    """A version of a mapping."""

    id: UUID
    version: int
    name: str
    kind: str
    mapping: dict[str, Any]
    created_at: datetime
    created_by: str


class PreviewRequest(BaseModel):
    """A mapping, as it is being written, and a document of the vendor's: JSON, or its text as a device sent it."""

    model_config = _FORBID
    mapping: Mapping
    payload: Any
    device: str = Field(default="preview", max_length=64)


class PreviewMessage(BaseModel):
    """A message that would be taken; `problem`: what the kind itself says against it."""

    device: str
    topic: TopicKind
    payload: dict[str, Any]
    readings: dict[str, float]
    problem: str


class PreviewProblem(BaseModel):
    """What of the document could not be used."""

    code: str
    path: str
    element: int
    detail: str


class Preview(BaseModel):
    """What the mapping makes of the document now. Nothing is stored."""

    messages: list[PreviewMessage]
    problems: list[PreviewProblem]


class MappingChoice(BaseModel):
    """Which mapping a device uses; null: none."""

    model_config = _FORBID
    mapping_id: UUID | None


class StationView(BaseModel):
    """A station of SL 651."""

    address: str
    level_base_m: float


class NumberView(BaseModel):
    """A number under which another platform knows the device."""

    way: str
    number: str


class WaysView(BaseModel):
    """By what a device is known outside."""

    mapping_id: UUID | None
    stations: list[StationView]
    numbers: list[NumberView]


class StationBody(BaseModel):
    """A station to bind. `password`: four hexadecimal digits."""

    model_config = _FORBID
    address: str = Field(max_length=10)
    password: str = Field(max_length=4)
    level_base_m: float = Field(default=0.0, ge=-500, le=9000)


class NumberBody(BaseModel):
    """A number to bind: an IMEI, or the platform's own id of the device."""

    model_config = _FORBID
    way: str = Field(pattern=f"^({AEP}|{ONENET})$")
    number: str = Field(max_length=64)


def _view(stored: StoredMapping) -> MappingView:
    return MappingView(
        id=stored.id,
        version=stored.version,
        name=stored.name,
        kind=stored.kind,
        mapping=stored.document,
        created_at=stored.created_at,
        created_by=stored.created_by,
    )


def _problem(error: MappingError | BindingError) -> Problem:
    return Problem(_STATUS.get(error.code, 422), error.code, str(error))


@router.get("/mappings")
def list_mappings(user: Engineer, web: CurrentWeb) -> list[MappingView]:
    """The versions in force."""
    with web.transaction(user) as connection:
        return [_view(one) for one in read_mappings(connection)]


@router.get("/mappings/{mapping_id}/versions")
def list_mapping_versions(mapping_id: UUID, user: Engineer, web: CurrentWeb) -> list[MappingView]:
    """Every version, newest first. 404 `unknown_mapping`."""
    with web.transaction(user) as connection:
        versions = read_versions(connection, mapping_id)
    if not versions:
        raise Problem(404, "unknown_mapping", "There is no such mapping")
    return [_view(one) for one in versions]


@router.post("/mappings", status_code=201)
def create_mapping(mapping: Mapping, user: Engineer, web: CurrentWeb) -> MappingView:
    """Keep a new mapping. 409 `name_taken`, 422 with what is wrong with it."""
    try:
        with web.transaction(user) as connection:
            stored = add_mapping(connection, mapping, user.display_name, web.now())
            _note(connection, web, user, "mapping_added", mapping.name, {"version": 1})
    except MappingError as error:
        raise _problem(error) from None
    return _view(stored)


@router.put("/mappings/{mapping_id}")
def replace_mapping(mapping_id: UUID, mapping: Mapping, user: Engineer, web: CurrentWeb) -> MappingView:
    """A new version, in force at once; earlier ones stay on record. 404 `unknown_mapping`, 409 `version_conflict`."""
    try:
        with web.transaction(user) as connection:
            stored = change_mapping(connection, mapping_id, mapping, user.display_name, web.now())
            _note(connection, web, user, "mapping_changed", mapping.name, {"version": stored.version})
    except MappingError as error:
        raise _problem(error) from None
    return _view(stored)


@router.post("/mappings/preview")
def preview_mapping(body: PreviewRequest, user: Engineer, web: CurrentWeb) -> Preview:
    """What the mapping makes of a document, before anything is kept."""
    del user
    document = body.payload
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except (ValueError, RecursionError) as error:
            problem = PreviewProblem(code="malformed_json", path="", element=0, detail=str(error)[:200])
            return Preview(messages=[], problems=[problem])
    messages, problems = apply(body.mapping, document, body.device, web.now(), may_name=lambda code: True)
    return Preview(
        messages=[_preview(body.mapping, message) for message in messages],
        problems=[PreviewProblem(code=str(p.code), path=p.path, element=p.element, detail=p.detail) for p in problems],
    )


def _preview(mapping: Mapping, message: Any) -> PreviewMessage:
    problem = check_message(mapping, message)
    kind = KINDS[mapping.kind]
    readings = {} if problem else kind.readings(kind.payloads[message.topic_kind].model_validate(message.payload))
    return PreviewMessage(
        device=message.device, topic=message.topic_kind, payload=message.payload, readings=readings, problem=problem
    )


def _note(connection: Connection, web: Web, user: User, action: str, subject: str, detail: dict[str, Any]) -> None:
    write_audit(connection, web.now(), actor=user.name, action=action, subject=subject, detail=detail)


def _find(connection: Connection, device_id: UUID) -> Device:
    """The device, in the scope of this transaction. 404 `unknown_device`."""
    found = read_devices(connection, [device_id])
    if not found:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    return read_device(connection, found[0]["code"])


def _read_ways(connection: Connection, device: Device) -> WaysView:
    bindings = read_bindings(connection, device.id)
    return WaysView(
        mapping_id=read_device_mapping(connection, device.id),
        stations=[StationView(address=address, level_base_m=base) for address, base in bindings.stations],
        numbers=[NumberView(way=way, number=number) for way, number in bindings.numbers],
    )


@router.get("/devices/{device_id}/ways")
def show_ways(device_id: UUID, user: Engineer, web: CurrentWeb) -> WaysView:
    """By what a device is known outside, and which mapping reads its own JSON."""
    with web.transaction(user) as connection:
        return _read_ways(connection, _find(connection, device_id))


@router.put("/devices/{device_id}/mapping")
def choose_mapping(device_id: UUID, body: MappingChoice, user: Engineer, web: CurrentWeb) -> WaysView:
    """From now on the device's own JSON is read through this mapping. 404 `unknown_mapping`."""
    try:
        with web.transaction(user) as connection:
            device = _find(connection, device_id)
            use_mapping(connection, device, body.mapping_id, web.now())
            chosen = str(body.mapping_id) if body.mapping_id else None
            _note(connection, web, user, "device_mapping_chosen", device.code, {"mapping": chosen})
            return _read_ways(connection, device)
    except MappingError as error:
        raise _problem(error) from None


@router.post("/devices/{device_id}/stations")
def add_station(device_id: UUID, body: StationBody, user: Engineer, web: CurrentWeb) -> WaysView:
    """Bind a station of SL 651, or change its password. 409 `address_taken`, 422 `bad_address`, `bad_password`."""
    try:
        with web.transaction(user) as connection:
            device = _find(connection, device_id)
            bind_station(connection, device, body.address, body.password, web.now(), body.level_base_m)
            _note(connection, web, user, "station_bound", device.code, {"address": body.address})
            return _read_ways(connection, device)
    except BindingError as error:
        raise _problem(error) from None


@router.delete("/devices/{device_id}/stations/{address}")
def remove_station(device_id: UUID, address: str, user: Engineer, web: CurrentWeb) -> WaysView:
    """Unbind a station."""
    with web.transaction(user) as connection:
        device = _find(connection, device_id)
        if address in [one for one, _ in read_bindings(connection, device.id).stations]:
            unbind_station(connection, address)
            _note(connection, web, user, "station_unbound", device.code, {"address": address})
        return _read_ways(connection, device)


@router.post("/devices/{device_id}/numbers")
def add_number(device_id: UUID, body: NumberBody, user: Engineer, web: CurrentWeb) -> WaysView:
    """Bind the number under which an operator's platform knows the device. 409 `number_taken`."""
    try:
        with web.transaction(user) as connection:
            device = _find(connection, device_id)
            bind_number(connection, device, body.way, body.number, web.now())
            _note(connection, web, user, "number_bound", device.code, {"way": body.way, "number": body.number})
            return _read_ways(connection, device)
    except BindingError as error:
        raise _problem(error) from None


@router.delete("/devices/{device_id}/numbers/{way}/{number}")
def remove_number(device_id: UUID, way: str, number: str, user: Engineer, web: CurrentWeb) -> WaysView:
    """Unbind a number."""
    with web.transaction(user) as connection:
        device = _find(connection, device_id)
        if (way, number) in read_bindings(connection, device.id).numbers:
            unbind_number(connection, way, number)
            _note(connection, web, user, "number_unbound", device.code, {"way": way, "number": number})
        return _read_ways(connection, device)
