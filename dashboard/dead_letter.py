"""Routes about messages that could not be used: look, count, try again, empty. For engineers and administrators."""

import base64
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from dashboard.auth import CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from ingest.dead_letter import (
    Letter,
    Replay,
    count_letters,
    empty_letters,
    read_letter,
    read_letters,
    replay_letters,
)
from kernel.audit import write_audit
from kernel.types import Role

router = APIRouter(tags=["devices"])
Engineer = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
_CODE = r"^[A-Za-z0-9_.-]{1,64}$"
_REASON = r"^[a-z_]{1,40}$"


class DeadLetterView(BaseModel):
    """A message that could not be used; the first 2,000 bytes of it in base64, and as text where it is text."""

    id: UUID
    topic: str
    device_code: str
    payload_base64: str
    payload_text: str | None
    payload_bytes: int
    reason: str
    detail: str
    received_at: datetime
    replays: int
    replayed_at: datetime | None
    replayable: bool = Field(description="false when its end was not kept, or it is no message on a topic of ours")


class DeadLetterPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    items: list[DeadLetterView]
    next: UUID | None


class ReasonView(BaseModel):
    """How many letters a reason has."""

    reason: str
    count: int
    newest_at: datetime


class ReplayRequest(BaseModel):
    """Which letters to try again: all, of a reason, of a device; the oldest first."""

    reason: str | None = Field(default=None, pattern=_REASON)
    device: str | None = Field(default=None, pattern=_CODE)
    limit: int = Field(default=1_000, ge=1, le=5_000)


class ReplayView(BaseModel):
    """Letters tried, messages taken now, messages known before, and letters that remain with the reason they have now."""

    replayed: int
    taken: int
    repeated: int
    dead: int


class Emptied(BaseModel):
    """How many letters were deleted."""

    deleted: int


@router.get("/dead-letters")
def list_dead_letters(
    user: Engineer,
    web: CurrentWeb,
    reason: Annotated[str | None, Query(pattern=_REASON)] = None,
    device: Annotated[str | None, Query(pattern=_CODE)] = None,
    cursor: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeadLetterPage:
    """Messages that could not be used, and why."""
    with web.transaction(user) as connection:
        letters = read_letters(connection, reason=reason, device_code=device, before=cursor, limit=limit + 1)
    items = [_view(letter) for letter in letters[:limit]]
    return DeadLetterPage(items=items, next=items[-1].id if len(letters) > limit else None)


@router.get("/dead-letters/summary")
def summarise_dead_letters(user: Engineer, web: CurrentWeb) -> list[ReasonView]:
    """How many there are of each reason."""
    with web.transaction(user) as connection:
        return [
            ReasonView(reason=row.reason, count=row.count, newest_at=row.newest_at) for row in count_letters(connection)
        ]


@router.post("/dead-letters/replay")
def replay_many(request: ReplayRequest, user: Engineer, web: CurrentWeb) -> ReplayView:
    """Try many again, after what was wrong has been mended."""
    _note(user, web, "dead_letters_replayed", request.model_dump(exclude_none=True))
    found = replay_letters(
        web.worker_database,
        web.now(),
        web.settings.ingest,
        web.settings.city.timezone,
        reason=request.reason,
        device_code=request.device,
        limit=request.limit,
    )
    return _replay_view(found)


@router.post("/dead-letters/{letter_id}/replay")
def replay_one(letter_id: UUID, user: Engineer, web: CurrentWeb) -> ReplayView:
    """Try one again. 404 `unknown_dead_letter`; 409 `payload_cut` when its end was not kept, `not_replayable` when it is no
    message of ours (a frame or a document of another way in)."""
    _note(user, web, "dead_letters_replayed", {"id": str(letter_id)})
    found = replay_letters(
        web.worker_database, web.now(), web.settings.ingest, web.settings.city.timezone, ids=[letter_id], limit=1
    )
    if found.replayed == 0:
        with web.worker_database.transaction() as connection:
            letter = read_letter(connection, letter_id)
        if letter is not None and not letter.cut:
            raise Problem(409, "not_replayable", "This came another way and never became a message", topic=letter.topic)
        if letter is not None:
            raise Problem(
                409, "payload_cut", "Only the beginning of this message was kept; the device must send it again"
            )
        raise Problem(404, "unknown_dead_letter", "There is no such dead letter")
    return _replay_view(found)


@router.delete("/dead-letters")
def delete_dead_letters(before: datetime, user: Engineer, web: CurrentWeb) -> Emptied:
    """Delete what was received before an instant (with its offset from UTC)."""
    if before.tzinfo is None:
        raise Problem(422, "invalid_value", "The instant needs its offset from UTC")
    before = before.astimezone(UTC)
    _note(user, web, "dead_letters_emptied", {"before": before.isoformat()})
    with web.worker_database.transaction() as connection:
        return Emptied(deleted=empty_letters(connection, before))


def _note(user: User, web: Web, action: str, detail: dict[str, object]) -> None:
    with web.transaction(user) as connection:
        write_audit(connection, web.now(), actor=user.name, action=action, subject="dead_letter", detail=detail)


def _replay_view(found: Replay) -> ReplayView:
    return ReplayView(replayed=found.replayed, taken=found.taken, repeated=found.repeated, dead=found.dead)


def _view(letter: Letter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id,
        topic=letter.topic,
        device_code=letter.device_code,
        payload_base64=base64.b64encode(letter.payload).decode(),
        payload_text=_as_text(letter.payload),
        payload_bytes=letter.payload_bytes,
        reason=letter.reason,
        detail=letter.detail,
        received_at=letter.received_at,
        replays=letter.replays,
        replayed_at=letter.replayed_at,
        replayable=letter.replayable,
    )


def _as_text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
