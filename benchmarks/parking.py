"""`gridwarden bench parking`: from a vehicle's arrival at the exit to the command that opens its barrier, on a throw-away
installation with the real broker, database and ingest process.

The way: gate → broker → ingest (decode, store, rules) → its stay found among the lot's (half the plates are misread by one
character), bound plate, tariff, debts → command on record and interlocked → commit → sent → broker → gate. Beside it other
devices send telemetry. There is no peer: the goal is 300 ms at the 99th percentile.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks._installation import Publisher, describe_machine, environment, free_all_cores, installation
from devices.model import Device, write_instant
from devices.parking import flow, ledger, store
from devices.parking.session import Passage
from devices.parking.tariff import Tariff
from devices.store import DeviceRecord, add_device
from ingest.client import find_login
from kernel.db import Database, DbRole
from kernel.settings import Settings

LOTS, GATES, INSIDE = 20, 20, 300  # gates and vehicles inside of each lot
BESIDE_PER_S = 1_000
_AREA = "330105012001"
_LOOKS = {"8": "B", "B": "8", "0": "D", "D": "0", "1": "I", "5": "S", "S": "5", "2": "Z", "Z": "2"}
_ROOT = Path(__file__).resolve().parent.parent


def measure() -> list[dict[str, Any]]:
    """Milliseconds from an arrival's sending to its command's coming. Raises AssertionError when one never comes."""
    rng = random.Random(1)
    with installation() as settings, contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        free_all_cores(settings)
        gates, plates = _furnish(database, rng)
        with _ingest(settings), _beside(settings) as sent:
            took = _arrive(settings, gates, plates, rng)
            beside = sent[0] / sent[1]
        with database.transaction() as connection:
            row = connection.execute("SELECT count(*) FILTER (WHERE opened), count(*) FROM barrier_decision").fetchone()
        assert row == (len(took), len(took)), row
    took.sort()
    return [
        {
            "name": "parking",
            "unit": "ms",
            "ours": round(statistics.median(took), 1),
            "peer": None,
            "peer_name": None,
            "ratio_peer": None,
            "ceiling": None,
            "ceiling_name": None,
            "ratio_ceiling": None,
            "p50_ms": round(statistics.median(took), 1),
            "p99_ms": round(took[int(len(took) * 0.99)], 1),
            "goal_p99_ms": 300.0,
            "arrivals": len(took),
            "inside_each_lot": INSIDE,
            "messages_beside_per_s": round(beside),
            "runs": 1,
            "machine": describe_machine(),
        }
    ]


def _furnish(database: Database, rng: random.Random) -> tuple[list[Device], list[list[str]]]:
    """Lots with gates, tariffs and vehicles inside, all of them bound; the gates, and the plates of each lot."""
    now = datetime.now(UTC)
    gates, plates = [], []
    with database.transaction() as connection:
        for number in range(100):
            record = DeviceRecord(code=f"R{number}", kind="river_sluice", name="", lon=120.1, lat=30.2)
            add_device(connection, record, now)
        for lot_number in range(LOTS):
            mine = [
                add_device(
                    connection,
                    DeviceRecord(
                        code=f"G{lot_number}-{n}", kind="parking_gate", name="", lon=120.1, lat=30.2, area_code=_AREA
                    ),
                    now,
                )
                for n in range(GATES)
            ]
            gates += mine
            key = (f"P{lot_number}", _AREA)
            lot = store.make_lots(connection, {key: mine[0]}, now)[key]
            store.write_tariff(connection, lot.id, now - timedelta(days=9), Tariff(), "bench")
            inside = _draw_plates(rng, lot_number)
            plates.append(inside)
            passages = [
                Passage(
                    id=uuid4(), device_id=mine[0].id, direction="in", plate=plate, at=now - timedelta(minutes=60 + n)
                )
                for n, plate in enumerate(inside)
            ]
            flow.take_passages(connection, lot, passages, now)
            for plate in inside:
                ledger.add_binding(
                    connection,
                    plate=plate,
                    area_code="",
                    reference="",
                    ends_at=None,
                    actor="bench",
                    now=now - timedelta(days=1),
                )
    return gates, plates


def _draw_plates(rng: random.Random, lot_number: int) -> list[str]:
    """Plates that differ from each other in more than one character, with one that a camera may misread."""
    return [
        f"浙{'ABCDEFGHJKLMNPQRSTUV'[lot_number]}8{n:03d}{'KMNPRT'[rng.randrange(6)]}" for n in range(0, INSIDE * 3, 3)
    ]


@contextlib.contextmanager
def _ingest(settings: Settings) -> Iterator[None]:
    """The ingest role as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gridwarden.role", "ingest"], env=environment(settings), cwd=_ROOT
    )
    try:
        time.sleep(4.0)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _beside(settings: Settings) -> Iterator[list[float]]:
    """Telemetry of other devices; yields [messages so far, seconds so far]."""
    sent = [0.0, 1e-9]
    stop = threading.Event()

    def send() -> None:
        publisher = Publisher(settings, "bench-beside")
        began = time.monotonic()
        for part in range(10**9):
            if stop.is_set():
                break
            at = write_instant(datetime.now(UTC))
            messages = [
                (
                    f"gridwarden/river_sluice/R{n}/telemetry",
                    json.dumps({"v": 1, "id": f"{part}-{n}", "at": at, "level_m": 1.2, "voltage_v": 12.5}).encode(),
                )
                for n in range(100)
            ]
            publisher.send(messages)
            sent[:] = [sent[0] + len(messages), time.monotonic() - began]
            time.sleep(max(0.0, sent[0] / BESIDE_PER_S - sent[1]))
        publisher.close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        time.sleep(1.0)
        yield sent
    finally:
        stop.set()
        thread.join()


def _arrive(settings: Settings, gates: list[Device], plates: list[list[str]], rng: random.Random) -> list[float]:
    """A vehicle at each gate, one every 40 ms on average; how long each waited for its command."""
    came: dict[str, float] = {}
    client = Client(CallbackAPIVersion.VERSION2, client_id="bench-gates")
    client.username_pw_set(*find_login(settings))
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()

    def take(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        came.setdefault(message.topic.split("/")[2], time.perf_counter())

    client.on_message = take
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    client.subscribe("gridwarden/parking_gate/+/command", qos=1)
    assert subscribed.wait(10)
    went: dict[str, float] = {}
    order = list(range(len(gates)))
    rng.shuffle(order)
    for number in order:
        lot_number, gate = number // GATES, gates[number]
        plate = plates[lot_number][number % GATES * 7]
        body = {
            "v": 1, "id": os.urandom(8).hex(), "at": write_instant(datetime.now(UTC)), "event": "arrival", "barrier": "closed",
            "direction": "out", "lot": f"P{lot_number}", "plate": _misread(plate) if number % 2 else plate,
        }  # fmt: skip
        went[gate.code] = time.perf_counter()
        client.publish(f"gridwarden/parking_gate/{gate.code}/event", json.dumps(body), qos=1)
        time.sleep(rng.uniform(0.02, 0.06))
    deadline = time.monotonic() + 30
    while len(came) < len(went) and time.monotonic() < deadline:
        time.sleep(0.05)
    client.disconnect()
    client.loop_stop()
    assert len(came) == len(went), f"{len(went) - len(came)} commands never came"
    return [(came[code] - went[code]) * 1000 for code in went]


def _misread(plate: str) -> str:
    """One character as a camera may take it."""
    at = next(n for n, character in enumerate(plate) if n > 1 and character in _LOOKS)
    return plate[:at] + _LOOKS[plate[at]] + plate[at + 1 :]


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1, ensure_ascii=False))
