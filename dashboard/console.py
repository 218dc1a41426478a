"""The live console of a device: what it sends as it comes, raw and decoded, why it was refused, what it is answered.

One MQTT client for the whole process, connected while somebody looks; one subscription per device, shared by its viewers.
The client's thread hands messages to the event loop and nothing more; a task per device decodes them and asks the
database; a viewer who is slow loses the oldest and is told how many. Nothing here is stored or acknowledged to a device.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from dashboard.console_message import WAY_PREFIX, Seen, describe_messages
from dashboard.store import write_json
from ingest.client import make_client, start_client
from ingest.ways.raw import find_raw_device
from kernel.db import Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
_WAITING = 200  # messages of one device between the client's thread and its task; the oldest go
_VIEWER_TEXTS = 500
_VIEWER_BYTES = 1_000_000
_AT_ONCE = 50
_LINGER_S = 30.0
_MAX_DEVICES = 50


class ConsoleError(Exception):
    """`code`: too_many_consoles, broker_unreachable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(eq=False, slots=True)
class Viewer:
    """Somebody who looks at a device. Only the event loop touches it."""

    texts: deque[str] = field(default_factory=deque)
    waiting_bytes: int = 0
    dropped: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # the process leaves

    def offer(self, text: str) -> None:
        """Queue a message; the oldest go when too much waits."""
        self.texts.append(text)
        self.waiting_bytes += len(text)
        while len(self.texts) > _VIEWER_TEXTS or (self.waiting_bytes > _VIEWER_BYTES and len(self.texts) > 1):
            self.waiting_bytes -= len(self.texts.popleft())
            self.dropped += 1
        self.ready.set()

    async def next(self) -> str:
        """The next message, or the news that some were left out."""
        while not self.texts:
            self.ready.clear()
            await self.ready.wait()
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            return write_json({"type": "dropped", "count": dropped})
        text = self.texts.popleft()
        self.waiting_bytes -= len(text)
        return text


@dataclass(eq=False, slots=True)
class _Channel:
    """One device that is looked at."""

    code: str
    viewers: set[Viewer] = field(default_factory=set)
    seen: deque[Seen] = field(default_factory=deque)
    lost: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def take(self, seen: Seen) -> None:
        if len(self.seen) >= _WAITING:
            self.seen.popleft()
            self.lost += 1
        self.seen.append(seen)
        self.ready.set()


class Console:
    """The process's consoles. Used from the event loop; `publish` from any thread."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        """`database`: gw_worker's, since a message may be of a device that nobody has registered."""
        self._settings = settings
        self._database = database
        self._now = now
        self._channels: dict[str, _Channel] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # the client and who uses it
        self._client: Client | None = None
        self._connected = threading.Event()
        self._users = 0
        self._leaving: asyncio.TimerHandle | None = None

    # ---------------------------------------------------------------- viewers

    def watch(self, code: str) -> Viewer:
        """A new viewer of the device with this code. Raises ConsoleError too_many_consoles."""
        channel = self._channels.get(code)
        if channel is None:
            if len(self._channels) >= _MAX_DEVICES:
                raise ConsoleError("too_many_consoles", "Too many devices are being watched at once")
            self._loop = asyncio.get_running_loop()
            channel = self._channels[code] = _Channel(code)
            channel.task = asyncio.create_task(self._serve(channel))
            self._enter()
            self._subscribe(code)
        viewer = Viewer()
        channel.viewers.add(viewer)
        viewer.offer(write_json({"type": "state", "at": self._now(), "connected": self._connected.is_set()}))
        return viewer

    def leave(self, code: str, viewer: Viewer) -> None:
        """The viewer goes; with the last one the device's subscription does."""
        channel = self._channels.get(code)
        if channel is None or viewer not in channel.viewers:
            return
        channel.viewers.discard(viewer)
        if channel.viewers:
            return
        del self._channels[code]
        if channel.task is not None:
            channel.task.cancel()
        with self._lock:
            if self._client is not None:
                self._client.unsubscribe(_filters(code))
        self._exit()

    @property
    def watched(self) -> int:
        """How many devices are being looked at."""
        return len(self._channels)

    def close(self) -> None:
        """End the connection to the broker and every viewer."""
        for code, channel in list(self._channels.items()):
            for viewer in list(channel.viewers):
                viewer.ended.set()
                self.leave(code, viewer)
        if self._leaving is not None:
            self._leaving.cancel()
        self._leave_if_idle()

    async def _serve(self, channel: _Channel) -> None:
        while True:
            if not channel.seen:
                channel.ready.clear()
                await channel.ready.wait()
            batch = [channel.seen.popleft() for _ in range(min(_AT_ONCE, len(channel.seen)))]
            lost, channel.lost = channel.lost, 0
            texts = await asyncio.to_thread(self._describe, batch)
            if lost:
                texts.insert(0, write_json({"type": "dropped", "count": lost}))
            for viewer in channel.viewers:
                for text in texts:
                    viewer.offer(text)

    def _describe(self, batch: Sequence[Seen]) -> list[str]:
        try:
            return [write_json(entry) for entry in describe_messages(batch, self._settings, self._database)]
        except Exception:
            log.exception("messages could not be shown")
            return []

    # ---------------------------------------------------------------- the broker

    def publish(self, topic: str, payload: bytes, timeout_s: float = 5.0) -> None:
        """Publish with QoS 1 as the platform, and wait until the broker has it. Raises ConsoleError broker_unreachable."""
        with self._lock:
            self._users += 1
            client = self._connect()
        try:
            if not self._connected.wait(timeout_s):
                raise ConsoleError("broker_unreachable", "The broker does not answer")
            info = client.publish(topic, payload, qos=1)
            with contextlib.suppress(RuntimeError, ValueError):
                info.wait_for_publish(timeout_s)
            if not info.is_published():
                raise ConsoleError("broker_unreachable", "The broker did not confirm the message")
        finally:
            with self._lock:
                self._users -= 1
                idle = self._users == 0
            if idle:
                self._disconnect()

    def _enter(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        with self._lock:
            self._users += 1
            self._connect()

    def _exit(self) -> None:
        with self._lock:
            self._users -= 1
        if self._users == 0 and self._loop is not None and not self._loop.is_closed():
            self._leaving = self._loop.call_later(_LINGER_S, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if self._users == 0:
            threading.Thread(target=self._disconnect, name="console-leave", daemon=True).start()

    def _connect(self) -> Client:
        """The client, on its way to the broker. With the lock held."""
        if self._client is None:
            client = make_client(self._settings, f"gridwarden-console-{secrets.token_hex(6)}")
            client.on_connect = self._on_connect
            client.on_disconnect = self._on_disconnect
            client.on_message = self._on_message
            start_client(client, self._settings)
            self._client = client
        return self._client

    def _disconnect(self) -> None:
        with self._lock:
            if self._users:
                return
            client, self._client = self._client, None
            self._connected.clear()
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _subscribe(self, code: str) -> None:
        with self._lock:
            if self._client is not None and self._connected.is_set():
                self._client.subscribe([(one, 0) for one in _filters(code)])

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            log.error("the broker refused the console's connection: %s", reason)
            return
        self._connected.set()
        filters = [(one, 0) for code in list(self._channels) for one in _filters(code)]
        if filters:
            client.subscribe(filters)
        self._tell_state()

    def _on_disconnect(self, client: Client, *rest: Any) -> None:
        del rest
        if client is self._client:
            self._connected.clear()
            self._tell_state()

    def _tell_state(self) -> None:
        text = write_json({"type": "state", "at": self._now(), "connected": self._connected.is_set()})

        def tell() -> None:
            for channel in self._channels.values():
                for viewer in channel.viewers:
                    viewer.offer(text)

        self._in_loop(tell)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del client, userdata
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if find_raw_device(topic) is not None:
            return  # told by the way that reads it through its mapping
        parts = topic.split("/")
        code = parts[1] if topic.startswith(WAY_PREFIX) else parts[2] if len(parts) > 2 else ""
        payload = bytes(message.payload[: self._settings.ingest.max_payload_bytes])
        seen = Seen(topic, payload, len(message.payload), self._now())

        def take() -> None:
            channel = self._channels.get(code)
            if channel is not None:
                channel.take(seen)

        self._in_loop(take)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(call)


def _filters(code: str) -> list[str]:
    return [f"gridwarden/+/{code}/#", WAY_PREFIX + code]
