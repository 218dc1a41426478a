"""A fleet of simulated devices over MQTT: telemetry, events repeated until the receipt, and causes to trigger.

Everything a device says passes through its kind's own payload model before it is sent, so the fleet cannot drift away
from the documented contract.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.model import TopicKind, write_instant
from devices.registry import KINDS
from simulators.firmware import Answer, Firmware

log = logging.getLogger(__name__)

FIRST_REPEAT_S, LAST_REPEAT_S = 1.0, 30.0
TICK_S = 0.1
FILTERS_AT_ONCE = 100
MOVING_S = 0.5
"""A device that moves reports so often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSpec:
    """One device of the fleet. `care`: a door whose person uses it all day until told otherwise."""

    code: str
    kind: str
    telemetry_s: float = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """How to reach the broker, by the log-in of a gateway on which the fleet's devices hang."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password: str = ""


@dataclass(slots=True)
class Waiting:
    """An event without a receipt yet."""

    topic: str
    payload: bytes
    sent_at_s: float
    next_at_s: float
    wait_s: float


@dataclass(slots=True)
class Counts:
    """What the fleet sent and heard; latency from the first sending of an event to its receipt."""

    telemetry: int = 0
    events: int = 0
    repeats: int = 0
    receipts: int = 0
    refused: int = 0
    latency_s: list[float] = field(default_factory=list)


class SimDevice:
    """One device: the fields it reports, which stay what they are until something changes them."""

    def __init__(self, spec: DeviceSpec, rng: random.Random, now: datetime) -> None:
        self.spec = spec
        self.rng = rng
        self.kind = KINDS[spec.kind]
        self.fields = self._draw(now, TopicKind.TELEMETRY)
        self.level_m: float | None = self.fields.get("level_m")
        self.target_m = self.level_m
        self.rate_m_s = 0.02
        self.telemetry_s = spec.telemetry_s
        self.next_at_s = 0.0
        self.use_every_s: float | None = None
        self.next_use_s = 0.0
        self.firmware = Firmware(spec.kind, self.fields) if self.kind.commands else None
        self.inside: list[str] = []  # plates of cars that came through this gate
        self._told = dict(self.fields)
        self._boot = f"{rng.getrandbits(32):08x}"
        self._seq = 0

    def _draw(self, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
        sample = self.kind.draw(self.rng, now, topic_kind)
        return {name: value for name, value in sample.items() if name not in ("v", "id", "seq", "at")}

    def draw_car(self, now: datetime) -> dict[str, Any]:
        """A car at a parking gate: comes, or is one that came and leaves; a bay less or more is free then."""
        leaves = bool(self.inside) and self.rng.random() < 0.5
        plate = self.inside.pop(0) if leaves else self._draw(now, TopicKind.EVENT)["plate"]
        if not leaves:
            self.inside.append(plate)
        free = int(self.fields["bays_free"]) + (1 if leaves else -1)
        self.fields["bays_free"] = max(0, min(int(self.fields["bays_total"]), free))
        return {"direction": "out" if leaves else "in", "plate": plate}

    def message(self, topic_kind: TopicKind, now: datetime, **changes: Any) -> dict[str, Any]:
        """The next message, checked by the kind's payload model. Raises pydantic.ValidationError."""
        if topic_kind is TopicKind.REPLY:
            return self._check(topic_kind, now, changes)
        extra = (
            self._draw(now, topic_kind) if topic_kind is TopicKind.EVENT and self.spec.kind == "parking_gate" else {}
        )
        self._told = dict(self.fields)
        return self._check(topic_kind, now, {**extra, **self.fields, **changes})

    def _check(self, topic_kind: TopicKind, now: datetime, fields: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        body = {"v": 1, "id": f"{self._boot}-{self._seq}", "seq": self._seq, "at": write_instant(now), **fields}
        self.kind.payloads[topic_kind].model_validate(body)
        return body

    def obey(self, elapsed_s: float) -> tuple[list[Answer], bool]:
        """Let its firmware work: the answers that came of it, and whether what it reports is out of date by that."""
        if self.firmware is None:
            return [], False
        answers = self.firmware.advance(elapsed_s)
        watched = ("gate_moving", "pumps_running", "barrier", "barrier_held", "sounding", "control_mode")
        changed = any(self.fields.get(name) != self._told.get(name) for name in watched)
        return answers, changed or bool(answers)

    def advance(self, elapsed_s: float) -> None:
        """Let time pass: a river moves towards its target with small waves, temperatures and voltages wander."""
        if self.level_m is not None and self.target_m is not None:
            step = self.rate_m_s * elapsed_s
            self.level_m += max(-step, min(step, self.target_m - self.level_m))
            level_m = round(self.level_m + self.rng.uniform(-0.01, 0.01), 3)
            shift = level_m - float(self.fields["level_m"])
            for name in ("level_m", "upstream_level_m", "downstream_level_m"):
                if name in self.fields:
                    self.fields[name] = round(float(self.fields[name]) + shift, 3)
        for name in ("temperature_c", "voltage_v", "signal_dbm"):
            if name in self.fields:
                self.fields[name] = round(float(self.fields[name]) + self.rng.uniform(-0.1, 0.1), 1)


class Fleet:
    """Many devices behind one connection. Every public function may be called from any thread."""

    def __init__(self, specs: Sequence[DeviceSpec], login: Login, *, seed: int = 0) -> None:
        self.login = login
        self.counts = Counts()
        now = datetime.now(UTC)
        self.devices = {s.code: SimDevice(s, random.Random(f"{seed}/{s.code}"), now) for s in specs}
        self._rng = random.Random(f"{seed}/fleet")
        self._waiting: dict[tuple[str, str], Waiting] = {}
        self._later: list[tuple[float, str, dict[str, Any]]] = []
        self._losing: frozenset[str] = frozenset()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"fleet-{self._rng.getrandbits(48):012x}")
        if login.username:
            client.username_pw_set(login.username, login.password)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 5)
        self._client = client

    def start(self) -> None:
        """Connect (and connect again whenever it breaks) and begin to report."""
        self._client.connect_async(self.login.host, self.login.port, keepalive=30)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Say no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return bool(self._client.is_connected())

    @property
    def waiting_count(self) -> int:
        """Events without a receipt."""
        return len(self._waiting)

    # ---- causes ------------------------------------------------------------------------------------------------

    def alarm_smoke(self, code: str, *, twice: bool = False) -> datetime:
        """Smoke at an alarm; `twice` sends the very same message again at once. When it began."""
        with self._lock:
            self.devices[code].fields |= {"status": "alarm", "smoke_density_db_m": 0.31, "temperature_c": 41.5}
        return self.send(code, TopicKind.EVENT, twice=twice)

    def clear_smoke(self, code: str) -> datetime:
        """The smoke is gone."""
        with self._lock:
            self.devices[code].fields |= {"status": "normal", "smoke_density_db_m": 0.02, "temperature_c": 24.0}
        return self.send(code, TopicKind.EVENT, status="recovered")

    def test_smoke(self, code: str, *, twice: bool = False) -> datetime:
        """Somebody presses the test button."""
        return self.send(code, TopicKind.EVENT, twice=twice, status="self_test")

    def open_door(self, code: str, *, closes_after_s: float = 2.0) -> datetime:
        """A door opens, and closes a little later."""
        began_at = self.send(code, TopicKind.EVENT, open=True)
        self._send_later(closes_after_s, code, open=False)
        return began_at

    def use_door(self, code: str, every_s: float) -> datetime:
        """A door is opened now and again every so often from now on."""
        with self._lock:
            device = self.devices[code]
            device.use_every_s = every_s
            device.next_use_s = time.monotonic() + every_s
        return self.open_door(code)

    def leave_door(self, code: str) -> datetime:
        """A door is opened a last time and then no more."""
        with self._lock:
            self.devices[code].use_every_s = None
        return self.open_door(code)

    def set_river(self, code: str, level_m: float, rate_m_s: float) -> datetime:
        """A river begins to rise or fall towards a level; its gauge reports every 2 s until it is there."""
        with self._lock:
            device = self.devices[code]
            device.target_m, device.rate_m_s = level_m, rate_m_s
            device.next_at_s = 0.0
        return datetime.now(UTC)

    def pass_gate(self, code: str, *, closes_after_s: float = 4.0) -> datetime:
        """A car passes, a new one or one that came before and leaves: the barrier opens and closes."""
        with self._lock:
            car = self.devices[code].draw_car(datetime.now(UTC))
        began_at = self.send(code, TopicKind.EVENT, event="passage", barrier="open", **car)
        self._send_later(closes_after_s, code, event="barrier", barrier="closed", direction=None, plate=None)
        return began_at

    def stick_gate(self, code: str) -> datetime:
        """The barrier goes up and stays there."""
        with self._lock:
            self.devices[code].fields["barrier"] = "open"
        return self.send(code, TopicKind.EVENT, event="barrier", direction=None, plate=None)

    def repair_gate(self, code: str) -> datetime:
        """The barrier comes down, the fault is gone."""
        with self._lock:
            self.devices[code].fields |= {"barrier": "closed", "fault": False, "fault_code": ""}
        return self.send(code, TopicKind.EVENT, event="barrier", direction=None, plate=None)

    # ---- commanded devices -------------------------------------------------------------------------------------

    def turn_switch(self, code: str, *, local: bool) -> datetime:
        """Somebody turns the switch at the device to local or remote; it says so."""
        with self._lock:
            self._firmware(code).set_local(local)
        return self.send(code, TopicKind.STATE)

    def jam(self, code: str, *, stuck: bool = True) -> None:
        """The drive sticks, or is free again."""
        with self._lock:
            self._firmware(code).stuck = stuck

    def lose_replies(self, code: str, *, lost: bool = True) -> None:
        """Answers of the device do not get through until this is called with `lost` False; they are repeated meanwhile."""
        with self._lock:
            self._losing = self._losing | {code} if lost else self._losing - {code}

    def restart_device(self, code: str) -> None:
        """Power off and on: what moves stands where it is, and what was answered is still known."""
        with self._lock:
            answers = self._firmware(code).restart()
        self._answer(code, answers)

    def _firmware(self, code: str) -> Firmware:
        firmware = self.devices[code].firmware
        if firmware is None:
            raise ValueError(f"{code} obeys no commands")
        return firmware

    # ---- sending -----------------------------------------------------------------------------------------------

    def send(self, code: str, topic_kind: TopicKind, *, twice: bool = False, **changes: Any) -> datetime:
        """Send one message now; events, states and replies are repeated until their receipt. Its instant."""
        now = datetime.now(UTC)
        with self._lock:
            device = self.devices[code]
            body = device.message(topic_kind, now, **changes)
            payload = json.dumps(body, ensure_ascii=False).encode()
            topic = f"gridwarden/{device.spec.kind}/{code}/{topic_kind}"
            if topic_kind is TopicKind.TELEMETRY:
                self.counts.telemetry += 1
            else:
                at_s = time.monotonic()
                waiting = Waiting(topic, payload, at_s, at_s + FIRST_REPEAT_S, FIRST_REPEAT_S)
                self._waiting[(code, body["id"])] = waiting
                self.counts.events += 1
        self._publish(topic, payload, qos=0 if topic_kind is TopicKind.TELEMETRY else 1)
        if twice:
            self._publish(topic, payload, qos=1)
        return now

    def _send_later(self, after_s: float, code: str, **changes: Any) -> None:
        with self._lock:
            self._later.append((time.monotonic() + after_s, code, changes))

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        if topic.endswith("/reply") and topic.split("/")[2] in self._losing:
            return
        # While the connection is down paho would queue without end; the repeats bring what matters.
        if self._client.is_connected():
            self._client.publish(topic, payload, qos=qos)

    def _run(self) -> None:
        last_s = time.monotonic()
        while not self._stopped.wait(TICK_S):
            now_s = time.monotonic()
            try:
                self._tick(now_s, now_s - last_s)
            except Exception:
                log.exception("the fleet stumbled")
            last_s = now_s

    def _tick(self, now_s: float, elapsed_s: float) -> None:
        with self._lock:
            due = [entry for entry in self._later if entry[0] <= now_s]
            self._later = [entry for entry in self._later if entry[0] > now_s]
            devices = list(self.devices.values())
        for _, code, changes in due:
            self.send(code, TopicKind.EVENT, **changes)
        for device in devices:
            device.advance(elapsed_s)
            with self._lock:
                answers, changed = device.obey(elapsed_s)
            self._answer(device.spec.code, answers)
            if changed:
                device.next_at_s = 0.0
            if now_s >= device.next_at_s:
                device.next_at_s = now_s + self._interval_s(device)
                self.send(device.spec.code, TopicKind.TELEMETRY)
            if device.use_every_s is not None and now_s >= device.next_use_s:
                device.next_use_s = now_s + device.use_every_s
                self.open_door(device.spec.code)
        self._repeat(now_s)

    @staticmethod
    def _interval_s(device: SimDevice) -> float:
        moving = (
            device.level_m is not None and device.target_m is not None and abs(device.level_m - device.target_m) > 0.05
        )
        if device.firmware is not None and device.firmware.is_moving:
            return min(MOVING_S, device.telemetry_s)
        high = device.level_m is not None and device.level_m > 2.0
        return min(2.0, device.telemetry_s) if moving or high else device.telemetry_s * device.rng.uniform(0.9, 1.1)

    def _repeat(self, now_s: float) -> None:
        with self._lock:
            due = [waiting for waiting in self._waiting.values() if waiting.next_at_s <= now_s]
            for waiting in due:
                waiting.wait_s = min(LAST_REPEAT_S, waiting.wait_s * 2)
                waiting.next_at_s = now_s + waiting.wait_s
            self.counts.repeats += len(due)
        for waiting in due:
            self._publish(waiting.topic, waiting.payload, qos=1)

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.warning("the broker refuses the fleet: %s", reason)
            return
        # Each by its name: some brokers (EMQX) refuse a filter that reaches beyond what the log-in may read.
        filters = [
            (f"gridwarden/{device.spec.kind}/{code}/{name}", 1)
            for code, device in self.devices.items()
            for name in ("receipt", "command")
        ]
        for first in range(0, len(filters), FILTERS_AT_ONCE):
            client.subscribe(filters[first : first + FILTERS_AT_ONCE])
        with self._lock:
            for waiting in self._waiting.values():
                waiting.next_at_s = 0.0

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        code = message.topic.split("/")[2]
        if message.topic.endswith("/command"):
            self._obey(code, message.payload)
            return
        with contextlib.suppress(ValueError, KeyError, TypeError):
            receipt = json.loads(message.payload)
            with self._lock:
                waiting = self._waiting.pop((code, receipt["id"]), None)
                if waiting is None:
                    return
                self.counts.receipts += 1
                self.counts.refused += "refused" in receipt
                self.counts.latency_s.append(time.monotonic() - waiting.sent_at_s)
            if "refused" in receipt:
                log.warning("%s refused: %s", message.topic, receipt["refused"])

    def _obey(self, code: str, payload: bytes | bytearray) -> None:
        device = self.devices.get(code)
        if device is None or device.firmware is None:
            return
        try:
            body = json.loads(payload)
        except ValueError:
            return
        with self._lock:
            answers = device.firmware.take(body, datetime.now(UTC)) if isinstance(body, dict) else []
            device.next_at_s = 0.0
        self._answer(code, answers)

    def _answer(self, code: str, answers: Sequence[Answer]) -> None:
        for answer in answers:
            fields: dict[str, Any] = {"command_id": answer.command_id, "nonce": answer.nonce, "result": answer.result}
            self.send(code, TopicKind.REPLY, **fields, detail=answer.detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What came of a load: counts, and seconds from sending to receipt."""

    sent: int
    receipts: int
    refused: int
    repeats: int
    lost: int
    rate_per_s: float
    p50_s: float | None
    p99_s: float | None


def run_load(
    codes: Sequence[tuple[str, str]],
    login: Login,
    *,
    rate_per_s: float,
    duration_s: float,
    drain_s: float = 30.0,
    seed: int = 0,
) -> LoadReport:
    """Send ordinary state messages of registered devices ((kind, code)) at a rate, then wait for the receipts.

    Raises ValueError without devices, ConnectionError when the broker does not answer in 10 s.
    """
    if not codes:
        raise ValueError("a load needs at least one registered device")
    fleet = Fleet([DeviceSpec(code=code, kind=kind, telemetry_s=3600.0) for kind, code in codes], login, seed=seed)
    fleet.start()
    try:
        _await(lambda: fleet.is_connected, 10.0, f"no broker at {login.host}:{login.port}")
        began_s = time.monotonic()
        sent = 0
        while (elapsed_s := time.monotonic() - began_s) < duration_s:
            while sent < elapsed_s * rate_per_s:
                fleet.send(codes[sent % len(codes)][1], TopicKind.STATE)
                sent += 1
            time.sleep(0.002)
        with contextlib.suppress(ConnectionError):
            _await(lambda: not fleet.waiting_count, drain_s, "receipts are missing")
    finally:
        fleet.stop()
    latency = sorted(fleet.counts.latency_s)
    return LoadReport(
        sent=sent,
        receipts=fleet.counts.receipts,
        refused=fleet.counts.refused,
        repeats=fleet.counts.repeats,
        lost=fleet.waiting_count,
        rate_per_s=round(sent / duration_s, 1),
        p50_s=round(latency[len(latency) // 2], 4) if latency else None,
        p99_s=round(latency[int(len(latency) * 0.99)], 4) if latency else None,
    )


def _await(done: Any, timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline_s:
            raise ConnectionError(what)
        time.sleep(0.02)
