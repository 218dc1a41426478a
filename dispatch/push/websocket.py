"""The open page: the web process reads the outbox for people with an open socket; here it is only woken.

Whether the message arrived is known by the phone's receipt (push_outbox.received_at), so an attempt alone counts as
nothing sent and is repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatch.outbox import Delivery, Push, Subscription
from kernel.change import CHANNEL
from kernel.db import Database
from kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class WebSocketChannel:
    """Wakes the live hub."""

    database: Database
    name: str = "websocket"

    def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
        """Wake every web process; each sends the message to the sockets it holds for this person."""
        with self.database.transaction() as connection:
            connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
        return Delivery()


def make_channel(settings: Settings, database: Database) -> WebSocketChannel:
    """The channel of this installation."""
    return WebSocketChannel(database)
