"""Commands out: the thread that publishes what is approved, repeats it until it is answered, and ends what stays silent.

`sent` is committed before the message leaves. Rows are taken with FOR UPDATE SKIP LOCKED, so several ingest processes
share the work, and an approval wakes all of them through NOTIFY: a barrier's command leaves within milliseconds.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.command_sending import Outgoing, end_silent, take_due
from devices.command_store import CHANNEL, is_any_due
from ingest.client import make_client, start_client
from ingest.mqtt import may_share
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
_POLL_S = 0.5
_HELD_S = 0.02
_SILENCE_EVERY_S = 2.0
_BATCH = 100


def speaks_mqtt5(settings: Settings) -> bool:
    """Whether the broker speaks MQTT 5, which lets it drop a command that it could not deliver in time.

    Otherwise the device's own check of `expires_at` stands alone. amqtt speaks 3.1.1, and shares no subscription.
    """
    return may_share(settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"shared": True})}))


class Commander:
    """Sends commands until it is stopped. `hears_all` says whether a missing answer means anything now."""

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, hears_all: Callable[[], bool] = lambda: True
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._hears_all = hears_all
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commander", daemon=True)
        self._modern = speaks_mqtt5(settings)
        self._client = self._make_client()
        self.sent = 0

    def start(self) -> None:
        """Connect, now or as soon as the broker is there, and begin to send."""
        self._database.listen(CHANNEL, self._woken, self._stop)
        start_client(self._client, self._settings)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Finish the round in hand and disconnect."""
        self._stop.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._client.disconnect()
        leaver = threading.Thread(target=self._client.loop_stop, name="commander-leave", daemon=True)
        leaver.start()
        leaver.join(1.0)

    def _make_client(self) -> Client:
        # The session is not kept: what was not sent is in the database, and is judged again before it is sent.
        client = make_client(self._settings, f"gridwarden-commander-{self._settings.mqtt.slot}", modern=self._modern)
        client.on_connect = self._on_connect
        return client

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, properties
        if reason.is_failure:
            log.error("the broker refused the sender of commands: %s", reason)
        else:
            self._woken.set()

    def _run(self) -> None:
        next_silence_s = 0.0
        while not self._stop.is_set():
            self._woken.wait(_POLL_S)
            self._woken.clear()
            try:
                if self._client.is_connected():  # without the broker nothing is sent, and nothing may say it was
                    self._send()
                if time.monotonic() >= next_silence_s:
                    next_silence_s = time.monotonic() + _SILENCE_EVERY_S
                    with self._database.transaction() as connection:
                        end_silent(connection, self._clock.now(), hears_all=self._hears_all())
            except psycopg.OperationalError as error:
                log.warning("commands wait for the database: %s", str(error).strip())
                self._stop.wait(0.5)
            except Exception:
                log.exception("the round of commands failed")
                self._stop.wait(1.0)

    def _send(self) -> None:
        while not self._stop.is_set():
            with self._database.transaction() as connection:
                outgoing = take_due(connection, self._clock.now(), _BATCH)
            for one in outgoing:
                self._publish(one)
            if len(outgoing) == _BATCH:
                continue
            with self._database.transaction() as connection:
                if not is_any_due(connection, self._clock.now()):
                    return
            self._stop.wait(_HELD_S)  # a batch that is being taken holds it

    def _publish(self, outgoing: Outgoing) -> None:
        """A publication that is lost here is made again: the command is `sent`, and not answered."""
        left_s = (outgoing.expires_at - self._clock.now()).total_seconds()
        if left_s <= 0 or not self._client.is_connected():
            return
        properties = None
        if self._modern:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, int(left_s))
        done = self._client.publish(outgoing.topic, outgoing.payload, qos=1, properties=properties)
        if done.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.sent += 1
        else:
            log.warning("a command was not published: %s", done.rc)
