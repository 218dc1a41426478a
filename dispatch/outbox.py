"""What phones are told: queued in the transaction of the change itself, delivered afterwards until somebody has it.

A kill loses nothing: a row is claimed by moving its next attempt into the future, and an attempt that never came back
is made again. So a phone may be told twice; it knows a message by its `push_id`. Nobody is told anything who is off duty
or logged out, and nobody is told what is no longer true.
"""

import importlib
import logging
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from dispatch import push as channels_package
from dispatch.model import Incident, JsonObject, PushKind
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.settings import Settings

log = logging.getLogger(__name__)
CHANNEL = "gw_push"  # NOTIFY: something was queued
MAX_ATTEMPTS = 8
MAX_WAIT_S = 60  # between attempts, which follow after 1, 2, 4 … seconds

_TITLES = {
    PushKind.OFFERED: ("新任务", "New task"),
    PushKind.REWORK: ("返工", "Rework"),
    PushKind.WITHDRAWN: ("任务已撤回", "Task withdrawn"),
    PushKind.NOTICE: ("请上门查看", "Please call there"),
    PushKind.VERIFY: ("请核实", "Please verify"),
    PushKind.SUPERVISED: ("督办", "Under supervision"),
    PushKind.SUMMONED: ("吹哨报到", "Summoned: check in"),
    PushKind.UNIT_ASKED: ("请接办", "Your unit is asked"),
    PushKind.DECIDED: ("申请已答复", "Your request was decided"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """Where a channel reaches a person: a browser's push address with its keys."""

    id: UUID
    channel: str
    address: str
    keys: JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """One message to one person."""

    id: UUID
    user_id: UUID
    incident_id: UUID | None
    kind: str
    body: JsonObject
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What became of an attempt. `sent`: a receiver took it. `gone`: addresses that will never take anything again."""

    sent: bool = False
    error: str | None = None
    gone: tuple[UUID, ...] = ()


class Channel(Protocol):
    """A way to a phone: one module in dispatch/push/ with `make_channel(settings, database)`."""

    @property
    def name(self) -> str:
        """As in push_subscription.channel."""

    def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
        """Try once. Does not raise for a receiver's failure."""


def load_channels(settings: Settings, database: Database) -> list[Channel]:
    """Every channel in dispatch/push/, by name. Import errors and doubles are fatal."""
    found: dict[str, Channel] = {}
    for module in pkgutil.iter_modules(channels_package.__path__, channels_package.__name__ + "."):
        channel: Channel = importlib.import_module(module.name).make_channel(settings, database)
        if channel.name in found:
            raise RuntimeError(f"two push channels are called {channel.name}")
        found[channel.name] = channel
    return [found[name] for name in sorted(found)]


def queue_push(
    connection: Connection, kind: PushKind, user_id: UUID, incident: Incident, due_at: datetime | None, now: datetime
) -> None:
    """Tell a person about an incident, once this transaction is committed. Texts are in the person's language."""
    row = connection.execute("SELECT language FROM app_user WHERE id = %s", (user_id,)).fetchone()
    english = row is not None and row[0] == "en"
    push_id = new_id(now)
    zh, en = _TITLES[kind]
    category = incident.name_en if english else incident.name_zh
    body = {
        "push_id": str(push_id),
        "kind": kind.value,
        "incident_id": str(incident.id),
        "number": incident.number,
        "severity": incident.severity,
        "due_at": due_at.isoformat() if due_at else None,
        "title": f"{en}: {category}" if english else f"{zh}：{category}",
        "body": incident.place,
        "language": "en" if english else "zh-CN",
        "url": f"/phone#/task/{incident.id}",
    }
    connection.execute(
        "INSERT INTO push_outbox (id, user_id, incident_id, kind, body, queued_at, next_attempt_at)"
        " VALUES (%(id)s, %(user)s, %(incident)s, %(kind)s, %(body)s, %(now)s, %(now)s)",
        {
            "id": push_id,
            "user": user_id,
            "incident": incident.id,
            "kind": kind,
            "body": Jsonb(body),
            "now": now,
        },
    )
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def deliver_due(database: Database, channels: Sequence[Channel], now: datetime, limit: int = 50) -> int:
    """Make one attempt at each message that is due; how many there were. No connection is held while sending."""
    with database.transaction() as connection:
        pushes = _claim(connection, now, limit)
    for push in pushes:
        with database.transaction() as connection:
            hindrance = _find_hindrance(connection, push, now)
            subscriptions = [] if hindrance else _read_subscriptions(connection, push.user_id)
            if hindrance:
                _finish(connection, push.id, hindrance)
        if not hindrance:
            _attempt(database, channels, push, subscriptions, now)
    return len(pushes)


def _attempt(
    database: Database, channels: Sequence[Channel], push: Push, subscriptions: Sequence[Subscription], now: datetime
) -> None:
    deliveries = []
    for channel in channels:
        mine = [s for s in subscriptions if s.channel == channel.name]
        try:
            deliveries.append(channel.deliver(push, mine, now))
        except Exception as error:  # one channel's fault is not another's
            log.exception("push channel %s failed", channel.name)
            deliveries.append(Delivery(error=f"{channel.name}: {type(error).__name__}"))
    errors = "; ".join(d.error for d in deliveries if d.error)
    gone = [subscription_id for d in deliveries for subscription_id in d.gone]
    with database.transaction() as connection:
        if gone:
            connection.execute("DELETE FROM push_subscription WHERE id = ANY (%s)", (gone,))
        if any(d.sent for d in deliveries):
            connection.execute(
                "UPDATE push_outbox SET sent_at = %s, error = %s WHERE id = %s", (now, errors or None, push.id)
            )
        elif push.attempts >= MAX_ATTEMPTS:
            _finish(connection, push.id, f"gave up: {errors or 'no receipt'}")
        else:
            connection.execute("UPDATE push_outbox SET error = %s WHERE id = %s", (errors or None, push.id))
    log.info(
        "push attempted",
        extra={"push_id": push.id, "incident_id": push.incident_id, "kind": push.kind, "error": errors or None},
    )


def _claim(connection: Connection, now: datetime, limit: int) -> list[Push]:
    """Messages whose turn it is; their next turn is set before anything is sent."""
    with connection.cursor(row_factory=class_row(Push)) as cursor:
        return cursor.execute(
            """
            UPDATE push_outbox SET attempts = attempts + 1,
                next_attempt_at = %(now)s + least(power(2, attempts), %(most)s) * interval '1 second'
            WHERE id IN (SELECT id FROM push_outbox WHERE sent_at IS NULL AND received_at IS NULL
                         AND next_attempt_at <= %(now)s ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING id, user_id, incident_id, kind, body, attempts
            """,
            {"now": now, "most": MAX_WAIT_S, "limit": limit},
        ).fetchall()


def _find_hindrance(connection: Connection, push: Push, now: datetime) -> str | None:
    """Why this person must not be told, or no longer; None when they are to be told."""
    row = connection.execute(
        """
        SELECT u.on_duty AND NOT u.disabled,
               EXISTS (SELECT FROM session s WHERE s.user_id = u.id AND s.expires_at > %(now)s),
               i.assignee_id = u.id AND i.state = 'dispatched', i.state NOT IN ('closed', 'void'),
               i.verifier_id = u.id AND i.state = 'reported'
        FROM app_user u LEFT JOIN incident i ON i.id = %(incident)s WHERE u.id = %(user)s
        """,
        {"now": now, "incident": push.incident_id, "user": push.user_id},
    ).fetchone()
    on_duty, logged_in, still_offered, still_open, still_asked = row if row is not None else (False,) * 5
    if not on_duty:
        return "off_duty"
    if not logged_in:
        return "logged_out"
    if push.kind == PushKind.DECIDED:
        return None
    if push.kind == PushKind.VERIFY:
        return None if still_asked else "superseded"
    if push.kind in (PushKind.NOTICE, PushKind.SUPERVISED, PushKind.SUMMONED, PushKind.UNIT_ASKED):
        return None if still_open else "superseded"
    if bool(still_offered) == (push.kind == PushKind.WITHDRAWN):
        return "superseded"
    return None


def _finish(connection: Connection, push_id: UUID, error: str) -> None:
    """No more attempts."""
    connection.execute(
        "UPDATE push_outbox SET next_attempt_at = 'infinity', error = %s WHERE id = %s", (error, push_id)
    )


def _read_subscriptions(connection: Connection, user_id: UUID) -> list[Subscription]:
    with connection.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(
            "SELECT id, channel, address, keys FROM push_subscription WHERE user_id = %s ORDER BY id", (user_id,)
        ).fetchall()


def read_push(connection: Connection, push_id: UUID) -> dict[str, Any] | None:
    """What became of a message: queued, sent and received instants, attempts, error."""
    row = connection.execute(
        "SELECT queued_at, sent_at, received_at, attempts, error FROM push_outbox WHERE id = %s", (push_id,)
    ).fetchone()
    return (
        None
        if row is None
        else dict(zip(("queued_at", "sent_at", "received_at", "attempts", "error"), row, strict=True))
    )
