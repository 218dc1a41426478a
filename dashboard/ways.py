"""Ways in over HTTPS: devices that post, and operators' NB-IoT platforms that push what devices sent them.

None of these has a session: a device shows its key, a platform its token or signature. 200 is answered after the commit.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel

from dashboard.auth import CurrentWeb, address_of
from dashboard.context import Web
from dashboard.errors import Problem
from devices.credential import may_write_for, verify_key
from devices.model import Device, TopicKind
from ingest.decode import DeadLetter, Decoded, Raw, Reason, clean_detail, read_json
from ingest.mapping_store import read_device_mapping
from ingest.ways.limit import Attempts, Rate
from ingest.ways.push import AEP, ONENET, Pushed, PushError, check_onenet_url, read_aep, read_onenet
from ingest.ways.raw import name_raw_topic, write_document
from ingest.ways.station_store import find_by_number
from ingest.ways.taking import Answer, take_now
from ingest.ways.telling import Teller, write_told
from ingest.ways.thingsboard import Telemetry, write_message
from kernel.settings import Settings

router = APIRouter(tags=["ways in"])
_MOST_MESSAGES = 500
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="gridwarden device", charset="UTF-8", Bearer'}


class RefusedMessage(BaseModel):
    """A message that is kept as a dead letter. The device need not repeat it."""

    id: str
    reason: str
    detail: str


class Taken(BaseModel):
    """What became of a post, after the commit."""

    taken: int
    refused: list[RefusedMessage]


class Gate:
    """Counts what senders cost this process, and tells the console what they sent."""

    def __init__(self, settings: Settings) -> None:
        self.attempts = Attempts()
        self.rate = Rate(settings.ways.http_per_minute)
        self.teller = Teller(settings)


def get_gate(request: Request, web: CurrentWeb) -> Gate:
    """The one gate of this process."""
    gate: Gate | None = getattr(request.app.state, "ways_gate", None)
    if gate is None:
        gate = request.app.state.ways_gate = Gate(web.settings)
    return gate


def close_gate(app: FastAPI) -> None:
    """End what the gate of this process holds, when it was ever used."""
    gate: Gate | None = getattr(app.state, "ways_gate", None)
    if gate is not None:
        gate.teller.close()


async def read_body(request: Request) -> bytes:
    """The body, as long as the application lets it be."""
    return await request.body()


CurrentGate = Annotated[Gate, Depends(get_gate)]
RawBody = Annotated[bytes, Depends(read_body)]


def _read_login(request: Request) -> tuple[str, str]:
    """User and key of HTTP Basic, or '' and the key of a Bearer token. 401 `no_key`."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return "", value.strip()
    if scheme.lower() == "basic":
        try:
            user, _, key = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = key = ""
        if key:
            return user, key
    raise Problem(401, "no_key", "A device shows its user and key, or its key as a Bearer token", headers=_CHALLENGE)


def find_sender(request: Request, web: CurrentWeb, gate: CurrentGate) -> Device:
    """Dependency: the device whose key this is. 401 `no_key`, `wrong_key`, 403 `disabled_device`, 429 `too_many_attempts`."""
    address = address_of(request)
    if not gate.attempts.may_try(address):
        raise Problem(429, "too_many_attempts", "Too many wrong keys from here", headers={"Retry-After": "60"})
    user, key = _read_login(request)
    with web.worker_database.transaction() as connection:
        device = verify_key(connection, user, key, web.now())
    if device is None:
        gate.attempts.note_failure(address)
        raise Problem(401, "wrong_key", "No device has this key", headers=_CHALLENGE)
    if not device.enabled:
        raise Problem(403, "disabled_device", "This device is switched off")
    return device


@router.post("/in/http")
def take_post(
    sender: Annotated[Device, Depends(find_sender)],
    body: RawBody,
    web: CurrentWeb,
    gate: CurrentGate,
    topic: Annotated[TopicKind, Query(description="which of our topics our own JSON belongs to")] = TopicKind.TELEMETRY,
) -> Taken:
    """A message in our JSON, an array of them, or the vendor's own JSON when the device has a mapping. A gateway names a child in
    `device`. 413 `too_large`, 422 `refused` when nothing of it can be used (each is kept as a dead letter), 429 `too_many_messages`."""
    now = web.now()
    with web.worker_database.transaction() as connection:
        is_mapped = read_device_mapping(connection, sender.id) is not None
    letters: list[DeadLetter] = []
    if is_mapped:
        _spend(gate, sender, 1)
        raws = [Raw(name_raw_topic(sender.kind, sender.code), body, len(body), now)]
    else:
        raws, letters = _read_own(web, sender, body, topic, now)
        _spend(gate, sender, max(1, len(raws) + len(letters)))
    return _answer(_take(web, gate, "http", sender, body, raws, letters))


def _spend(gate: Gate, device: Device, count: int) -> None:
    wait_s = gate.rate.take(device.code, count)
    if wait_s:
        headers = {"Retry-After": str(int(wait_s) + 1)}
        raise Problem(429, "too_many_messages", "This device sends too much", headers=headers, wait_s=round(wait_s))


def _read_own(
    web: Web, sender: Device, body: bytes, topic: TopicKind, now: datetime
) -> tuple[list[Raw], list[DeadLetter]]:
    """Our own JSON; `device` in a message names a gateway's child."""
    whole = Raw(f"gridwarden/{sender.kind}/{sender.code}/{topic}", body, len(body), now)
    # A batch may be larger than one message, and each of its messages is measured again.
    limits = web.settings.ingest.model_copy(update={"max_payload_bytes": 1_000_000})
    document, letter = read_json(whole, limits)
    if letter is not None:
        return [], [letter]
    if not isinstance(document, list):
        return [_address(web, sender, document, topic, now) or whole], []
    if len(document) > _MOST_MESSAGES:
        raise Problem(413, "too_large", "Too many messages in one post", limit=_MOST_MESSAGES)
    raws: list[Raw] = []
    letters: list[DeadLetter] = []
    for part in document:
        raw = _address(web, sender, part, topic, now)
        if raw is None:
            detail = clean_detail(f"{sender.code} is not the gateway of the device named")
            letters.append(
                DeadLetter(raw=write_document(whole.topic, part, now), reason=Reason.NOT_ALLOWED, detail=detail)
            )
        else:
            raws.append(raw)
    return raws, letters


def _address(web: Web, sender: Device, document: Any, topic: TopicKind, now: datetime) -> Raw | None:
    """The message under its device's topic; None when the sender may not speak for that device."""
    device: Device | None = sender
    named = document.get("device") if isinstance(document, dict) else None
    if isinstance(named, str) and named != sender.code:
        with web.worker_database.transaction() as connection:
            device = may_write_for(connection, sender, named)
    if device is None:
        return None
    return write_document(f"gridwarden/{device.kind}/{device.code}/{topic}", document, now)


def _take(
    web: Web, gate: Gate, way: str, device: Device, body: bytes, raws: Sequence[Raw], letters: Sequence[DeadLetter]
) -> Answer:
    answer = take_now(web.worker_database, web.settings, web.clock, raws, letters)
    first = answer.refused[0] if answer.refused else None
    told = write_told(
        web.now(),
        way,
        body,
        results=answer.results,
        refused=first.reason if first else None,
        detail=first.detail if first else "",
    )
    gate.teller.tell(device.code, told)
    return answer


def _answer(answer: Answer) -> Taken:
    refused = [RefusedMessage(id=one.message_id, reason=one.reason, detail=one.detail) for one in answer.refused]
    if refused and not answer.taken:
        raise Problem(422, "refused", "Nothing of this can be used", refused=[one.model_dump() for one in refused[:20]])
    return Taken(taken=answer.taken, refused=refused)


@router.post("/in/aep")
def take_aep(
    body: RawBody,
    web: CurrentWeb,
    gate: CurrentGate,
    request: Request,
    token: Annotated[str, Query(max_length=200)] = "",
) -> Taken:
    """Pushes of China Telecom's AEP (CTWing). Its form has no signature: the address that is entered there carries a token of ours
    (`ways.aep_token`). 404 while that is not set, 403 `wrong_token`."""
    wanted = web.settings.ways.aep_token
    if not wanted:
        raise Problem(404, "way_is_off", "This way in is not set up (ways.aep_token)")
    _check(gate, request, hmac.compare_digest(wanted.encode(), token.encode()))
    try:
        pushed = read_aep(json.loads(body))
    except (ValueError, RecursionError) as error:
        return _refuse_push(web, AEP, body, error)
    return _take_pushed(web, gate, AEP, body, pushed)


@router.get("/in/onenet", response_class=Response)
def confirm_onenet(web: CurrentWeb, gate: CurrentGate, request: Request) -> Response:
    """OneNET asks whether this address is ours when it is entered there. 404 while `ways.onenet_token` is not set, 403 `wrong_token`."""
    token = _onenet_token(web)
    message = check_onenet_url(token, request.query_params)
    _check(gate, request, message is not None)
    return Response(message, media_type="text/plain; charset=utf-8")


@router.post("/in/onenet")
def take_onenet(body: RawBody, web: CurrentWeb, gate: CurrentGate, request: Request) -> Taken:
    """Pushes of China Mobile's OneNET, signed with the token entered there. 403 `wrong_token`."""
    token = _onenet_token(web)
    try:
        pushed = read_onenet(token, body)
    except PushError as error:
        _check(gate, request, error.code != "bad_signature")
        return _refuse_push(web, ONENET, body, error)
    return _take_pushed(web, gate, ONENET, body, pushed)


def _onenet_token(web: Web) -> str:
    if not web.settings.ways.onenet_token:
        raise Problem(404, "way_is_off", "This way in is not set up (ways.onenet_token)")
    return web.settings.ways.onenet_token


def _check(gate: Gate, request: Request, proven: bool) -> None:
    address = address_of(request)
    if not gate.attempts.may_try(address):
        raise Problem(429, "too_many_attempts", "Too many wrong tokens from here", headers={"Retry-After": "60"})
    if not proven:
        gate.attempts.note_failure(address)
        raise Problem(403, "wrong_token", "The token or signature is not the right one")


def _refuse_push(web: Web, way: str, body: bytes, error: Exception) -> Taken:
    """A proven platform pushed what cannot be read: kept, and answered with 200, since its repeating would change nothing."""
    raw = Raw(f"{way}/push", body[: web.settings.ingest.max_payload_bytes], len(body), web.now())
    letter = DeadLetter(raw=raw, reason=Reason.BAD_PAYLOAD, detail=clean_detail(str(error)))
    return _as_taken(take_now(web.worker_database, web.settings, web.clock, [], [letter]))


def _as_taken(answer: Answer) -> Taken:
    refused = [RefusedMessage(id=one.message_id, reason=one.reason, detail=one.detail) for one in answer.refused]
    return Taken(taken=answer.taken, refused=refused)


def _take_pushed(web: Web, gate: Gate, way: str, body: bytes, pushed: Sequence[Pushed]) -> Taken:
    now = web.now()
    raws: list[Raw] = []
    letters: list[DeadLetter] = []
    devices: list[Device] = []
    for one in pushed:
        with web.worker_database.transaction() as connection:
            device = find_by_number(connection, way, one.numbers)
            is_mapped = device is not None and read_device_mapping(connection, device.id) is not None
        if device is None:
            raw = write_document(f"{way}/{one.numbers[0]}"[:200], one.document, now)
            detail = clean_detail(f"no device is bound to {' or '.join(one.numbers)}")
            letters.append(DeadLetter(raw=raw, reason=Reason.UNKNOWN_DEVICE, detail=detail))
            continue
        devices.append(device)
        if is_mapped:
            raws.append(write_document(name_raw_topic(device.kind, device.code), one.document, now))
        else:
            message = write_message(device.code, Telemetry(None, one.values, one.at), now)
            raws.append(write_document(f"gridwarden/{device.kind}/{device.code}/telemetry", message, now))
    answer = take_now(web.worker_database, web.settings, web.clock, raws, letters) if raws or letters else Answer(0, ())
    refused = answer.refused[0] if answer.refused else None
    for device in devices:
        own = [one for one in answer.results if isinstance(one, Decoded) and one.address.device_code == device.code]
        told = write_told(now, way, body, results=own, refused=refused.reason if refused else None)
        gate.teller.tell(device.code, told)
    return _as_taken(answer)
