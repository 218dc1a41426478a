"""`gridwarden bench ingest`: messages a second from the broker into the database, on a throw-away installation.

Each run sends telemetry to the real Mosquitto while nobody listens, then measures how fast it is drained. Ours is the
whole way (decode, rules, readings, states, acknowledgement after the commit). The peer stores the same rows and commits
message by message. The ceiling only receives and acknowledges.
"""

import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from devices.store import DeviceRecord, add_device, read_devices
from gridwarden.broker import device_login, platform_login, prepare_broker, wait_for_broker
from gridwarden.postgres import prepare_postgres, wait_for_postgres
from ingest.mqtt import Intake
from kernel.clock import Clock
from kernel.db import Database, DbRole, conninfo
from kernel.migration import migrate
from kernel.settings import MqttSettings, Settings

DEVICES, MESSAGES, PEER_MESSAGES, RUNS = 500, 20_000, 3_000, 3
_TIMEOUT_S = 600  # a measurement on a busy machine is slow, not wrong
_CLIENT_ID = "gridwarden-ingest-0"
_FILTER = "$share/gridwarden/gridwarden/+/+/telemetry"


def measure() -> list[dict[str, Any]]:
    """Messages drained a second: medians of interleaved runs.

    Raises AssertionError when a message is missing afterwards.
    """
    folder = Path(tempfile.mkdtemp(prefix="gw-bench-"))
    settings = Settings(data_dir=folder, mqtt=MqttSettings(embedded="mosquitto", port=_free_port()))
    server, broker = prepare_postgres(settings), prepare_broker(settings)
    processes = [
        subprocess.Popen(server.command, user=server.account, cwd="/", stderr=subprocess.DEVNULL),
        subprocess.Popen(broker.command, stderr=subprocess.DEVNULL),
    ]
    try:
        wait_for_postgres(settings)
        wait_for_broker(settings)
        migrate(settings, datetime.now(UTC))
        return [_compare(settings)]
    finally:
        processes[0].send_signal(signal.SIGINT)
        processes[1].terminate()
        for process in processes:
            process.wait(20)
        for path in (folder, server.cluster_dir.parent if server.account else folder, server.socket_dir):
            shutil.rmtree(path, ignore_errors=True)


def _compare(settings: Settings) -> dict[str, Any]:
    now = datetime.now(UTC)
    database = Database(settings, DbRole.WORKER)
    with database.transaction() as connection:
        for number in range(DEVICES):
            record = DeviceRecord(code=f"R{number}", kind="river_sluice", name="", lon=120.1, lat=30.2)
            add_device(connection, record, now)
    ways: dict[str, tuple[int, Callable[[int], float]]] = {
        "ours": (MESSAGES, lambda count: _drain_ours(settings, database, count)),
        "peer": (PEER_MESSAGES, lambda count: _drain_singly(settings, database, count)),
        "ceiling": (MESSAGES, lambda count: _drain_nothing(settings, count)),
    }
    _drain_nothing(settings, 0)  # makes the session that keeps messages while nobody listens
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(RUNS):
        for name, (count, drain) in ways.items():
            _send(settings, count, f"{name}{run}")
            rates[name].append(count / drain(count))
    database.close()
    rate = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "name": "ingest",
        "unit": "messages/s",
        **{name: round(value) for name, value in rate.items()},
        "peer_name": "the same rows, one transaction for each message",
        "ceiling_name": "paho-mqtt receives and acknowledges, nothing else",
        "ratio_peer": round(rate["ours"] / rate["peer"], 3),
        "ratio_ceiling": round(rate["ours"] / rate["ceiling"], 3),
        "runs": RUNS,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "messages": MESSAGES,
        "devices": DEVICES,
    }


def _send(settings: Settings, count: int, mark: str) -> None:
    """Telemetry of many devices into the broker, all acknowledged by it."""
    done = threading.Event()
    acknowledged = [0]
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(*device_login(settings))
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(2000)

    def on_publish(*_: object) -> None:
        acknowledged[0] += 1
        if acknowledged[0] == count:
            done.set()

    client.on_publish = on_publish
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    at = datetime.now(UTC).isoformat()
    for number in range(count):
        body = {"v": 1, "id": f"{mark}-{number}", "seq": number, "at": at, "level_m": 1.5, "flow_m3_s": 3.1, "ph": 7.2}
        client.publish(f"gridwarden/river_sluice/R{number % DEVICES}/telemetry", json.dumps(body), qos=1)
    if not done.wait(_TIMEOUT_S):
        raise AssertionError(f"the broker acknowledged {acknowledged[0]} of {count}")
    client.disconnect()
    client.loop_stop()


def _drain_ours(settings: Settings, database: Database, count: int) -> float:
    intake = Intake(settings, database, Clock())
    began = time.perf_counter()
    intake.start()
    while intake.counts.taken < count:
        time.sleep(0.005)
        if time.perf_counter() - began > _TIMEOUT_S:
            raise AssertionError(f"{intake.counts} of {count}")
    took = time.perf_counter() - began
    intake.stop()
    return took


def _drain_nothing(settings: Settings, count: int) -> float:
    def acknowledge(client: Client, message: MQTTMessage) -> None:
        client.ack(message.mid, message.qos)

    return _drain(settings, count, acknowledge)


def _drain_singly(settings: Settings, database: Database, count: int) -> float:
    with database.transaction() as connection:
        ids = {device.code: device.id for device in read_devices(connection)}
    with psycopg.connect(conninfo(settings, DbRole.WORKER)) as one:

        def store(client: Client, message: MQTTMessage) -> None:
            now = datetime.now(UTC)
            body = json.loads(message.payload)
            device_id = ids[message.topic.split("/")[2]]
            one.execute(
                "INSERT INTO device_message VALUES (%s, %s, 'telemetry', %s) ON CONFLICT DO NOTHING",
                (device_id, body["id"], now),
            )
            for metric in ("level_m", "flow_m3_s", "ph"):
                one.execute("INSERT INTO reading VALUES (%s, %s, %s, %s, %s)",
                            (device_id, metric, body[metric], body["at"], now))  # fmt: skip
            one.commit()
            client.ack(message.mid, message.qos)

        return _drain(settings, count, store)


def _drain(settings: Settings, count: int, take: Callable[[Client, MQTTMessage], None]) -> float:
    taken, done, subscribed = [0], threading.Event(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id=_CLIENT_ID, clean_session=False, manual_ack=True)
    client.username_pw_set(*platform_login(settings))

    def on_message(client: Client, userdata: object, message: MQTTMessage) -> None:
        take(client, message)
        taken[0] += 1
        if taken[0] == count:
            done.set()

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(_FILTER, 1)
    client.on_subscribe = lambda *_: subscribed.set()
    began = time.perf_counter()
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    if not (subscribed.wait(10) and (count == 0 or done.wait(_TIMEOUT_S))):
        raise AssertionError(f"{taken[0]} of {count}")
    took = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return took


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
