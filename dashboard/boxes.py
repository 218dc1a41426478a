"""What the detector saw, for those who watch a camera live: MQTT `gridwarden-live/<code>/boxes`, subscribed while somebody looks.

One client for the whole process. Its thread hands messages to the event loop and nothing more; each viewer keeps the newest.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage

from dashboard.store import JsonObject
from ingest.client import make_client, start_client
from kernel.settings import Settings

log = logging.getLogger(__name__)
PREFIX = "gridwarden-live/"
_LINGER_S = 20.0
_MOST_BYTES = 65_536
Take = Callable[[JsonObject], None]


class BoxFeed:
    """Used from the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._takers: dict[str, set[Take]] = {}
        self._client: Client | None = None
        self._connected = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.TimerHandle | None = None

    def watch(self, code: str, take: Take) -> None:
        """Call `take` with each look at the camera `code`, until `leave`."""
        self._loop = asyncio.get_running_loop()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        takers = self._takers.setdefault(code, set())
        takers.add(take)
        if self._client is None:
            self._client = self._connect()
        elif self._connected and len(takers) == 1:
            self._client.subscribe(_topic(code), 0)

    def leave(self, code: str, take: Take) -> None:
        """No more of that camera for this taker."""
        takers = self._takers.get(code)
        if takers is None:
            return
        takers.discard(take)
        if takers:
            return
        del self._takers[code]
        if self._client is not None:
            self._client.unsubscribe(_topic(code))
        if not self._takers and self._loop is not None:
            self._leaving = self._loop.call_later(_LINGER_S, self._leave_if_idle)

    def close(self) -> None:
        """End the connection."""
        if self._leaving is not None:
            self._leaving.cancel()
        self._takers.clear()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._takers or self._client is None:
            return
        client, self._client, self._connected = self._client, None, False
        client.disconnect()
        # Its thread ends by itself within a second; joining it here would hold up the loop.
        if self._loop is not None and self._loop.is_running():
            self._loop.run_in_executor(None, client.loop_stop)
        else:
            client.loop_stop()

    def _connect(self) -> Client:
        client = make_client(self._settings, f"gridwarden-live-{secrets.token_hex(6)}")
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        start_client(client, self._settings)
        return client

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            log.error("the broker refused the live boxes' connection: %s", reason)
            return
        self._in_loop(lambda: self._subscribe_all(client))

    def _subscribe_all(self, client: Client) -> None:
        if client is not self._client:
            return
        self._connected = True
        filters = [(_topic(code), 0) for code in self._takers]
        if filters:
            client.subscribe(filters)

    def _on_disconnect(self, client: Client, *rest: Any) -> None:
        del rest

        def note() -> None:
            if client is self._client:
                self._connected = False

        self._in_loop(note)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del client, userdata
        code, _, kind = message.topic.removeprefix(PREFIX).partition("/")
        if kind != "boxes" or len(message.payload) > _MOST_BYTES:
            return
        try:
            boxes = json.loads(message.payload)
        except ValueError:
            return
        if not isinstance(boxes, dict):
            return

        def take() -> None:
            for one in list(self._takers.get(code, ())):
                one(boxes)

        self._in_loop(take)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(call)


def _topic(code: str) -> str:
    return f"{PREFIX}{code}/boxes"
