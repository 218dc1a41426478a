"""MQTT in and out: messages wait in a bounded queue, a batch worker takes them, and the broker is acknowledged after the commit.

Two threads. The network thread (paho's) only puts messages into the queue; when the queue is full it waits, which stops
reading and lets the broker hold the rest. The worker takes a batch, commits, publishes receipts and acknowledges.
"""

import json
import logging
import queue
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.model import TopicKind
from ingest.batch import Outcome, Receipt, take_batch
from ingest.decode import Raw
from kernel.clock import Clock
from kernel.db import Database
from kernel.secret import read_secret
from kernel.settings import Settings

log = logging.getLogger(__name__)
_GROUP = "$share/gridwarden/"
_QUEUED_BATCHES = 4
_RETRY_FIRST_S, _RETRY_MOST_S = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message with what its acknowledgement needs. `connection` counts connections: a later one knows no such `mid`."""

    raw: Raw
    mid: int
    qos: int
    connection: int


@dataclass(slots=True)
class Counts:
    """What this process has done since it started."""

    received: int = 0
    taken: int = 0
    repeated: int = 0
    dead: int = 0
    reports: int = 0
    dropped: int = 0  # QoS 0 that found the queue full
    batches: int = 0
    retries: int = 0  # batches that the database was not there for


def find_login(settings: Settings) -> tuple[str, str]:
    """User and password of the platform on the broker."""
    return settings.mqtt.username, settings.mqtt.password or read_secret(settings.data_dir, "mqtt-platform")


def may_share(settings: Settings) -> bool:
    """Whether to subscribe in a group. The trial broker, amqtt, takes such a subscription and delivers nothing."""
    if not settings.mqtt.shared or settings.mqtt.embedded == "amqtt":
        return False
    if settings.mqtt.embedded == "auto":
        return any(shutil.which("mosquitto", path=path) for path in (None, "/usr/sbin:/usr/local/sbin"))
    return True


class Intake:
    """Takes messages from the broker into the database until it is stopped."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._queue: queue.Queue[Delivery] = queue.Queue(settings.ingest.batch_messages * _QUEUED_BATCHES)
        self._stop = threading.Event()
        self._connection = 0
        self._listening_since: datetime | None = None
        self._worker = threading.Thread(target=self._work, name="ingest-batches", daemon=True)
        self._client = self._make_client()
        self.counts = Counts()

    def start(self) -> None:
        """Connect, now or as soon as the broker is there, and begin to take messages."""
        self._worker.start()
        self._client.connect_async(self._settings.mqtt.host, self._settings.mqtt.port, keepalive=30)
        self._client.loop_start()

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop taking messages, finish the batch in hand (commit, receipts, acknowledgements) and disconnect.

        What was not begun stays unacknowledged: the broker delivers it to the next one that connects for this slot.
        """
        deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._worker.join(timeout_s)
        self._client.disconnect()  # queued behind the acknowledgements, so it goes out after them
        leaver = threading.Thread(target=self._client.loop_stop, name="ingest-leave", daemon=True)
        leaver.start()
        leaver.join(max(0.1, deadline - time.monotonic()))

    @property
    def listening_since(self) -> datetime | None:
        """Since when messages could come without a break; None while disconnected."""
        return self._listening_since

    @property
    def backlog(self) -> int:
        """Messages received and not yet taken."""
        return self._queue.qsize()

    # ---------------------------------------------------------------- network thread

    def _make_client(self) -> Client:
        # MQTT 3.1.1: a persistent session and shared subscriptions work with it on Mosquitto and EMQX, and amqtt has
        # nothing newer. What is in flight is bounded by the broker's configuration and by our queue.
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"gridwarden-ingest-{self._settings.mqtt.slot}",
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        client.username_pw_set(*find_login(self._settings))
        if self._settings.mqtt.tls:
            client.tls_set(ca_certs=self._settings.mqtt.ca_file or None)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(20_000)  # receipts beyond it are dropped: the device asks again
        client.reconnect_delay_set(min_delay=1, max_delay=4)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, properties
        if reason.is_failure:
            log.error("the broker refused the connection: %s", reason)
            return
        shared = may_share(self._settings)
        filters = [f"gridwarden/+/+/{kind}" for kind in TopicKind]
        # The session may remember the other form from an earlier setting, and would deliver everything twice.
        client.unsubscribe([f if shared else _GROUP + f for f in filters])
        client.subscribe([((_GROUP + f) if shared else f, 1) for f in filters])
        log.info("connected to the broker", extra={"session_present": flags.session_present, "shared": shared})

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reasons: Sequence[ReasonCode], properties: Properties | None
    ) -> None:
        del client, userdata, mid, properties
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            log.error("the broker refused a subscription: %s", ", ".join(refused))
        else:
            self._listening_since = self._clock.now()

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, properties
        self._connection += 1
        self._listening_since = None
        if not self._stop.is_set():
            log.warning("the broker's connection ended: %s", reason)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del client, userdata
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = repr(message)
        size = len(message.payload)
        payload = bytes(message.payload[: self._settings.ingest.max_payload_bytes])
        raw = Raw(topic, payload, size, self._clock.now())
        delivery = Delivery(raw, message.mid, message.qos, self._connection)
        self.counts.received += 1
        while not self._stop.is_set():
            try:
                self._queue.put(delivery, timeout=0.0 if message.qos == 0 else 0.5)
            except queue.Full:
                if message.qos == 0:
                    self.counts.dropped += 1
                    return
            else:
                return

    # ---------------------------------------------------------------- batch worker

    def _work(self) -> None:
        while not self._stop.is_set():
            batch = self._collect()
            if batch:
                self._take(batch)

    def _collect(self) -> list[Delivery]:
        """The messages of one batch: full, or as many as came within `batch_wait_s` of the first."""
        try:
            batch = [self._queue.get(timeout=0.25)]
        except queue.Empty:
            return []
        until = time.monotonic() + self._settings.ingest.batch_wait_s
        while len(batch) < self._settings.ingest.batch_messages:
            try:
                batch.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _take(self, batch: Sequence[Delivery]) -> None:
        """Commit, then answer. While the database is away the batch is kept and nothing is acknowledged."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                outcome = take_batch(
                    self._database,
                    [delivery.raw for delivery in batch],
                    self._clock.now(),
                    self._settings.ingest,
                    self._settings.city.timezone,
                )
            except psycopg.OperationalError as error:
                self.counts.retries += 1
                log.warning("the database is away, %d messages wait: %s", len(batch), str(error).strip())
            except Exception:
                # Nothing is known to be lost, and nothing may be acknowledged that was not committed.
                self.counts.retries += 1
                log.exception("%d messages could not be taken", len(batch))
            else:
                break
            if self._stop.wait(wait_s):
                return
            wait_s = min(wait_s * 2, _RETRY_MOST_S)
        self._count(outcome)
        self._send_receipts(outcome.receipts)
        self._acknowledge(batch)

    def _count(self, outcome: Outcome) -> None:
        self.counts.batches += 1
        self.counts.taken += outcome.taken
        self.counts.repeated += outcome.repeated
        self.counts.dead += outcome.dead
        self.counts.reports += outcome.reports

    def _send_receipts(self, receipts: Sequence[Receipt]) -> None:
        if not self._client.is_connected():
            return  # the device repeats its message, and is answered then
        now = self._clock.now()
        for receipt in receipts:
            sent = self._client.publish(receipt.topic, json.dumps(receipt.write(now)), qos=1)
            if sent.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
                log.warning("a receipt was not sent: %s", sent.rc)

    def _acknowledge(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            if delivery.connection == self._connection and delivery.qos > 0:
                self._client.ack(delivery.mid, delivery.qos)
