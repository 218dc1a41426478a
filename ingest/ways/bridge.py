"""The ways' own connection to the broker: vendors' raw messages in, commands for devices that wait elsewhere, and what the
console shows."""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest.client import make_client, start_client
from ingest.decode import Raw
from ingest.mqtt import client_ids, may_share, name_group
from ingest.ways.raw import RAW_KIND, find_raw_device
from ingest.ways.taking import Answer, QueueFullError, Refusal, Taker
from ingest.ways.telling import name_console_topic, write_told
from kernel.clock import Clock
from kernel.settings import Settings

log = logging.getLogger(__name__)
_RAW_FILTER = f"gridwarden/+/+/{RAW_KIND}"
_COMMAND_FILTER = "gridwarden/+/+/command"

# (kind, code, command): called in the network thread
OnCommand = Callable[[str, str, dict[str, Any]], None]


class Bridge:
    """Connects when it is started, and again whenever the broker comes back."""

    def __init__(self, settings: Settings, taker: Taker, clock: Clock, on_command: OnCommand | None) -> None:
        self._settings = settings
        self._taker = taker
        self._clock = clock
        self._on_command = on_command
        self._stop = threading.Event()
        self._connection = 0
        shared = may_share(settings)
        self._raw_filter = name_group(settings) + _RAW_FILTER if shared else _RAW_FILTER
        # The session is kept for raw messages; its name is derived like ingest's own and cannot be guessed.
        self._client = make_client(settings, f"{client_ids(settings)[0]}-ways", keeps_session=True, manual_ack=True)
        self._client.max_inflight_messages_set(200)
        self._client.max_queued_messages_set(2000)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect now, or as soon as the broker is there."""
        start_client(self._client, self._settings)

    def stop(self) -> None:
        """Disconnect; what was not acknowledged comes again."""
        self._stop.set()
        self._client.disconnect()
        leaver = threading.Thread(target=self._client.loop_stop, name="ways-leave", daemon=True)
        leaver.start()
        leaver.join(1.0)

    def tell(self, code: str, way: str, raw: bytes, **what: Any) -> None:
        """Show an engineer who watches this device what came or went (`what`: as write_told). May be lost."""
        if self._client.is_connected():
            self._client.publish(name_console_topic(code), write_told(self._clock.now(), way, raw, **what), qos=0)

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            log.error("the broker refused the connection of the ways in: %s", reason)
            return
        # The session may remember the other form from an earlier setting, and would deliver everything twice.
        client.unsubscribe(
            [_RAW_FILTER if self._raw_filter != _RAW_FILTER else name_group(self._settings) + _RAW_FILTER]
        )
        client.subscribe([(self._raw_filter, 1)])
        if self._on_command is not None:
            client.subscribe([(_COMMAND_FILTER, 1)])
        else:
            client.unsubscribe([_COMMAND_FILTER])

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, reason, properties
        self._connection += 1

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del userdata
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if topic.endswith("/command"):
            client.ack(message.mid, message.qos)
            self._pass_on(topic, bytes(message.payload))
            return
        limit = self._settings.ingest.max_payload_bytes
        raw = Raw(topic, bytes(message.payload[:limit]), len(message.payload), self._clock.now())
        mid, qos, connection = message.mid, message.qos, self._connection
        done = self._hand_in(raw)
        if done is not None:
            done.add_done_callback(lambda future: self._acknowledge(future, raw, (mid, qos, connection)))

    def _hand_in(self, raw: Raw) -> "Future[Answer] | None":
        while not self._stop.is_set():
            try:
                return self._taker.submit([raw])
            except QueueFullError:
                self._stop.wait(0.2)  # reading stops, and the broker keeps the rest
        return None

    def _acknowledge(self, future: "Future[Answer]", raw: Raw, delivery: tuple[int, int, int]) -> None:
        """A vendor's raw message was taken. Called in the taker's thread."""
        if future.cancelled() or future.exception() is not None:
            return
        mid, qos, connection = delivery
        if connection == self._connection and qos:
            self._client.ack(mid, qos)
        code, answer = find_raw_device(raw.topic), future.result()
        if code is not None:
            first = answer.refused[0] if answer.refused else Refusal("", "")
            what = {"results": answer.results, "refused": first.reason or None, "detail": first.detail}
            self.tell(code, RAW_KIND, raw.payload, **what)

    def _pass_on(self, topic: str, payload: bytes) -> None:
        parts = topic.split("/")
        try:
            command = json.loads(payload)
            if len(parts) == 4 and isinstance(command, dict) and self._on_command is not None:
                self._on_command(parts[1], parts[2], command)
        except Exception:  # nothing that stands in a command may end the network thread
            log.exception("a command could not be passed on")
