"""Telling a home's contacts through the city's SMS or voice gateway, and the links by which they answer.

The gateway gets a POST of JSON and answers 2xx when it has taken it. An attempt that a kill cut short is made again, so it
may come twice: `notice_id` (also `Idempotency-Key`) says that it is the same. No connection is held while sending.
"""

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from psycopg.rows import class_row

from devices.seal import Seal, SealError
from dispatch.escalation import ESCALATION, Notice, NoticeState, fail_notice, log_step
from kernel.clock import to_local
from kernel.db import Connection, Database
from kernel.secret import read_secret
from kernel.settings import Settings

log = logging.getLogger(__name__)
ANSWER_WITHIN = timedelta(hours=24)
MAX_WAIT_S = 30.0
_AT_ONCE = 16  # calls of the gateway under way
_SECRET = "answer-key"
_MAC_BYTES = 16
_TEXTS = {
    "zh-CN": {
        "resident": "【{city}】{at} 您家的烟感报警（{place}）。请确认是否安全并回复：{url}",
        "neighbour": "【{city}】{at} 您邻居家的烟感报警（{place}）。请在保证自身安全的前提下查看并回复：{url}",
        "community": "【{city}】{at} 居民家烟感报警，住户尚未回复（{place}）。请联系或上门并回复：{url}",
    },
    "en": {
        "resident": "[{city}] {at}: the smoke alarm in your home went off ({place}). Are you safe? Answer: {url}",
        "neighbour": "[{city}] {at}: your neighbour's smoke alarm went off ({place}). Look, if it is safe for you: {url}",
        "community": "[{city}] {at}: smoke alarm in a home, nobody answers ({place}). Please call there: {url}",
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A notice whose turn at the gateway has come, with what it says."""

    id: UUID
    incident_id: UUID
    position: int
    role: str
    contact_id: UUID
    attempts: int
    due_at: datetime
    number: str
    category: str
    place: str
    building: str
    floor: str
    household: str
    occurred_at: datetime
    sealed: bytes | None  # None: the contact was taken off the list meanwhile
    language: str | None


# ------------------------------------------------------------------------------------------------ links


def make_token(data_dir: Path, notice_id: UUID) -> str:
    """What an answer's link ends in: the notice and a MAC of this installation, so nobody can guess or store it."""
    return _encode(notice_id.bytes + _sign(data_dir, notice_id))


def read_token(data_dir: Path, token: str) -> UUID | None:
    """The notice that a token is for; None when it is not one of ours."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return None
    if len(raw) != 16 + _MAC_BYTES:
        return None
    notice_id = UUID(bytes=raw[:16])
    return notice_id if hmac.compare_digest(raw[16:], _sign(data_dir, notice_id)) else None


def _sign(data_dir: Path, notice_id: UUID) -> bytes:
    key = read_secret(data_dir, _SECRET).encode()
    return hmac.new(key, notice_id.bytes, hashlib.sha256).digest()[:_MAC_BYTES]


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# ------------------------------------------------------------------------------------------------ delivery


def deliver_notices(
    database: Database, settings: Settings, seal: Seal, client: httpx.Client, now: Callable[[], datetime]
) -> int:
    """One attempt at each notice that is due, several at a time, so that a slow gateway delays nobody; how many there were."""
    lease = timedelta(seconds=2 * settings.escalation.timeout_s + 1)
    with database.transaction() as connection:
        waiting = _claim(connection, now(), lease)

    def attempt(notice: Waiting) -> None:
        error = _send(notice, settings, seal, client)
        with database.transaction() as connection:
            _settle(connection, notice, error, settings, now())

    if waiting:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="notice") as pool:
            list(pool.map(attempt, waiting))
    return len(waiting)


def _claim(connection: Connection, now: datetime, lease: timedelta) -> list[Waiting]:
    """Notices whose turn it is. Nobody else takes them for `lease`; an attempt that never came back is made again then."""
    with connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(
            """
            WITH claimed AS (
                UPDATE notice SET attempts = attempts + 1, next_attempt_at = %(now)s + %(lease)s
                WHERE id IN (SELECT id FROM notice WHERE state = 'due' AND contact_id IS NOT NULL AND next_attempt_at <= %(now)s
                             ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
                RETURNING id, incident_id, position, role, contact_id, attempts, due_at)
            SELECT n.*, i.number, i.category, i.place, d.building, d.floor, d.household, i.opened_at AS occurred_at,
                   c.sealed, c.language
            FROM claimed n JOIN incident i ON i.id = n.incident_id JOIN escalation e ON e.incident_id = n.incident_id
            JOIN device d ON d.id = e.device_id LEFT JOIN home_contact c ON c.id = n.contact_id
            """,
            {"now": now, "lease": lease, "limit": _AT_ONCE},
        ).fetchall()


def _send(notice: Waiting, settings: Settings, seal: Seal, client: httpx.Client) -> str | None:
    """Why the gateway did not take it, or None. Neither name nor number is ever logged."""
    if notice.sealed is None:
        return "contact_gone"
    try:
        contact = seal.open(notice.contact_id, notice.sealed)
    except SealError:
        return "contact_sealed"
    headers = {"Idempotency-Key": str(notice.id)}
    if settings.escalation.authorization:
        headers["Authorization"] = settings.escalation.authorization
    try:
        answer = client.post(
            settings.escalation.url,
            json=write_notice(notice, contact, settings),
            headers=headers,
            timeout=settings.escalation.timeout_s,
            follow_redirects=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"gateway: {type(error).__name__}"
    return None if answer.is_success else f"gateway: status {answer.status_code}"


def write_notice(notice: Waiting, contact: dict[str, str], settings: Settings) -> dict[str, Any]:
    """What the gateway is told."""
    language = notice.language if notice.language in _TEXTS else "zh-CN"
    url = f"{settings.public_url}/answer/{make_token(settings.data_dir, notice.id)}"
    home = " ".join(part for part in (notice.building, notice.floor, notice.household) if part)
    place = home or notice.place
    text = _TEXTS[language][notice.role].format(
        city=settings.city.name,
        at=to_local(notice.occurred_at, settings.city.timezone).strftime("%H:%M"),
        place=place,
        url=url,
    )
    return {
        "notice_id": str(notice.id),
        "incident_number": notice.number,
        "category": notice.category,
        "role": notice.role,
        "name": contact["name"],
        "phone": contact["phone"],
        "language": language,
        "place": place,
        "occurred_at": notice.occurred_at.isoformat(),
        "text": text,
        "answer_url": url,
        "answer_until": (notice.due_at + ANSWER_WITHIN).isoformat(),
    }


def _settle(connection: Connection, notice: Waiting, error: str | None, settings: Settings, now: datetime) -> None:
    """Write what became of an attempt, and wake the escalation when its step is decided."""
    # The escalation's row first, as everybody locks it who changes its notices.
    connection.execute("SELECT FROM escalation WHERE incident_id = %s FOR UPDATE", (notice.incident_id,))
    row = connection.execute("SELECT state FROM notice WHERE id = %s FOR UPDATE", (notice.id,)).fetchone()
    if row is None or row[0] != NoticeState.DUE:
        return  # answered by another, or given up on, while the gateway thought about it
    step = Notice(
        id=notice.id, position=notice.position, role=notice.role, contact_id=notice.contact_id, state=NoticeState.DUE
    )
    hopeless = error is not None and (
        not error.startswith("gateway") or notice.attempts >= settings.escalation.max_attempts
    )
    if error is None:
        connection.execute(
            "UPDATE notice SET state = 'sent', sent_at = %s, error = NULL, next_attempt_at = NULL WHERE id = %s",
            (now, notice.id),
        )
        connection.execute(
            "UPDATE escalation SET next_at = %s WHERE incident_id = %s",
            (now + timedelta(seconds=settings.escalation.step_s), notice.incident_id),
        )
        log_step(connection, notice.incident_id, step, ESCALATION, now, state="sent")
    elif hopeless:
        fail_notice(connection, notice.incident_id, step, error or "", now)
        connection.execute("UPDATE escalation SET next_at = %s WHERE incident_id = %s", (now, notice.incident_id))
    else:
        again_at = now + timedelta(seconds=min(2.0 ** (notice.attempts - 1), MAX_WAIT_S))
        connection.execute(
            "UPDATE notice SET error = %s, next_attempt_at = %s WHERE id = %s", (error, again_at, notice.id)
        )
    log.info(
        "notice attempted",
        extra={"notice_id": notice.id, "incident_id": notice.incident_id, "role": notice.role, "error": error},
    )
