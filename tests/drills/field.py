"""Devices in the field, for drills: they keep the contract of docs/devices.md and remember everything that they sent.

Many devices speak through one gateway's log-in and one connection. Events and states are repeated until the receipt; telemetry
is said once. What was sent, what the broker acknowledged and what the platform receipted is known here, outside of the
system under test.
"""

import json
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import paho.mqtt.client as mqtt
import psutil

from dashboard.registration import NewDevice, register_device
from devices.credential import issue_key
from devices.model import write_instant
from devices.store import read_device
from grid.locate import Locator
from kernel.db import Database, DbRole
from tests.flows.conftest import System
from tests.waiting import wait_until

FIRST_REPEAT_S, LAST_REPEAT_S = 1.0, 30.0


@dataclass(slots=True)
class Sent:
    """One message as the device means it. `refusal`: the reason with which the platform must refuse it, None: it must take it."""

    code: str
    kind: str
    topic_kind: str
    id: str
    payload: bytes
    sent_s: float
    refusal: str | None = None
    acknowledged: bool = False  # by the broker
    answered_s: float | None = None  # by the platform
    answer: str | None = None  # "" taken, else the reason of the refusal
    next_s: float = 0.0
    wait_s: float = FIRST_REPEAT_S

    @property
    def topic(self) -> str:
        return f"gridwarden/{self.kind}/{self.code}/{self.topic_kind}"


def register_field(
    system: System, gateway: str, devices: dict[str, str], settings: dict[str, dict[str, Any]]
) -> tuple[str, str]:
    """Register a gateway with `devices` {code: kind} as its children; its log-in, once the broker knows it."""
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        locator = Locator.load(connection)
        new = NewDevice(code=gateway, kind="gateway", name=gateway, lon=120.1715, lat=30.2815)
        register_device(connection, new, locator, system.settings, now)
        for number, (code, kind) in enumerate(devices.items()):
            lon, lat = 120.1705 + 0.001 * (number % 3), 30.2805 + 0.001 * (number // 3 % 3)
            new = NewDevice(
                code=code, kind=kind, name=code, lon=lon, lat=lat, parent=gateway, settings=settings.get(kind, {})
            )
            register_device(connection, new, locator, system.settings, now)
        login = issue_key(connection, read_device(connection, gateway), now)
    wait_until(lambda: may_log_in(system, login), "the broker knows the gateway's log-in", 30)
    return login


def may_log_in(system: System, login: tuple[str, str]) -> bool:
    """Whether the broker lets this log-in in at this moment."""
    refused = threading.Event()
    accepted = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set(*login)
    client.on_connect = lambda _c, _u, _f, reason, _p: (refused if reason.is_failure else accepted).set()
    client.connect(system.settings.mqtt.host, system.settings.mqtt.port)
    client.loop_start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and not (refused.is_set() or accepted.is_set()):
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
    return accepted.is_set()


class Field:
    """The devices of one gateway."""

    def __init__(self, system: System, login: tuple[str, str], name: str) -> None:
        self.sent: dict[tuple[str, str], Sent] = {}
        self.strays: list[str] = []  # receipts that nobody waits for
        self._by_mid: dict[int, Sent] = {}
        self._early: set[int] = set()
        self._moments: set[tuple[str, str]] = set()
        self._open: dict[tuple[str, str], Sent] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._numbers = 0
        self._name = name
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"field-{name}")
        client.username_pw_set(*login)
        client.max_inflight_messages_set(2000)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(0.2, 1)
        client.on_connect = lambda client, *_: client.subscribe("gridwarden/+/+/receipt", qos=1)
        client.on_message = self._on_receipt
        client.on_publish = self._on_acknowledged
        self._client = client
        client.connect(system.settings.mqtt.host, system.settings.mqtt.port, keepalive=30)
        client.loop_start()
        self._repeater = threading.Thread(target=self._repeat, daemon=True)
        self._repeater.start()

    def stop(self) -> None:
        """Say no more."""
        self._stopped.set()
        self._repeater.join(5)
        self._client.disconnect()
        self._client.loop_stop()

    def say(
        self,
        code: str,
        kind: str,
        topic_kind: str,
        fields: dict[str, Any],
        *,
        at: datetime | None = None,
        refusal: str | None = None,
        copies: int = 1,
        hold_back: bool = False,
    ) -> Sent:
        """Send one message, `copies` times at once. `hold_back`: only made, for `release` later."""
        with self._lock:
            self._numbers += 1
            number = self._numbers
            moment = at or datetime.now(UTC)
            while (code, write_instant(moment)) in self._moments:  # no device measures twice in one millisecond
                moment += timedelta(milliseconds=1)
            self._moments.add((code, write_instant(moment)))
        body = {
            "v": 1,
            "id": f"{self._name}-{number}",
            "seq": number,
            "at": write_instant(moment),
            **fields,
        }
        sent = Sent(code, kind, topic_kind, str(body["id"]), json.dumps(body).encode(), time.monotonic(), refusal)
        with self._lock:
            self.sent[(code, sent.id)] = sent
        if not hold_back:
            self.release(sent, copies)
        return sent

    def release(self, sent: Sent, copies: int = 1) -> None:
        """Send what was made; from now on it is repeated if it needs a receipt."""
        with self._lock:
            sent.sent_s = time.monotonic()
            sent.next_s = sent.sent_s + FIRST_REPEAT_S
            if sent.topic_kind != "telemetry":
                self._open[(sent.code, sent.id)] = sent
        for _ in range(copies):
            self._publish(sent)

    def poison(self, topic: str, payload: bytes) -> None:
        """Something that no device should send; nobody waits for an answer."""
        self._client.publish(topic, payload, qos=1)

    @property
    def unanswered(self) -> list[Sent]:
        """Messages that still wait for their receipt."""
        with self._lock:
            return list(self._open.values())

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not acknowledged."""
        with self._lock:
            return sum(not sent.acknowledged for sent in self.sent.values())

    def _publish(self, sent: Sent) -> None:
        # Not under our lock: paho holds its own while it calls us back.
        info = self._client.publish(sent.topic, sent.payload, qos=1)
        with self._lock:
            if info.mid in self._early:
                self._early.remove(info.mid)
                sent.acknowledged = True
            else:
                self._by_mid[info.mid] = sent

    def _on_acknowledged(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        with self._lock:
            sent = self._by_mid.pop(mid, None)
            if sent is not None:
                sent.acknowledged = True
            else:
                self._early.add(mid)  # before `publish` came back

    def _on_receipt(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        code = message.topic.split("/")[2]
        receipt = json.loads(message.payload)
        with self._lock:
            self._open.pop((code, receipt["id"]), None)
            sent = self.sent.get((code, receipt["id"]))
            if sent is None:
                self.strays.append(message.payload.decode())
            elif sent.answered_s is None:
                sent.answered_s, sent.answer = time.monotonic(), receipt.get("refused", "")

    def _repeat(self) -> None:
        while not self._stopped.wait(0.2):
            now_s = time.monotonic()
            with self._lock:
                due = [sent for sent in self._open.values() if sent.next_s <= now_s]
                for sent in due:
                    sent.wait_s = min(LAST_REPEAT_S, sent.wait_s * 2)
                    sent.next_s = now_s + sent.wait_s
            if self._client.is_connected():
                for sent in due:
                    self._publish(sent)


class MemoryWatch(threading.Thread):
    """The greatest resident memory of one process of the system, looked at every half second."""

    def __init__(self, system: System, name: str = "ingest") -> None:
        super().__init__(daemon=True)
        self._system, self._name = system, name
        self._stopped = threading.Event()
        self.most_bytes = 0

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            pid = self._system.pid_of(self._name)
            try:
                self.most_bytes = max(self.most_bytes, psutil.Process(pid).memory_info().rss if pid else 0)
            except psutil.Error:
                continue

    def stop(self) -> int:
        """The greatest seen, bytes."""
        self._stopped.set()
        self.join(2)
        return self.most_bytes


def instant(hours_ago: float) -> datetime:
    """So many hours before now."""
    return datetime.now(UTC) - timedelta(hours=hours_ago)
