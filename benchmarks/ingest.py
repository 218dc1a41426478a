"""`gridwarden bench ingest`: messages a second from the broker into the database, on a throw-away installation.

Each run fills the real Mosquitto's queue with telemetry (three values each) while nobody listens, then measures how fast
one process on one core drains it; PostgreSQL and Mosquitto have the other cores, with their ordinary durable settings. Ours
is the whole way: decode, validate, cell, rules, readings, states, acknowledged after the commit. Against it:

- mqtt.js + pg on Node, one message, one commit, one acknowledgement: the same guarantee;
- mqtt.js + pg acknowledging at once and storing by the thousand: without the guarantee, and without rules or states;
- paho-mqtt that only receives and acknowledges a thousand at a time;
- binary COPY of the same readings, made up beforehand, and nothing else.

Then two of our processes on a shared subscription against one, all cores free to all.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks._drain import find_filter
from benchmarks._installation import Publisher, cores, describe_machine, environment, free_all_cores, installation
from devices.store import DeviceRecord, add_device
from ingest.binary import HEADER, TRAILER, write_reading_rows
from ingest.client import find_login
from ingest.mqtt import client_ids
from ingest.wire import SUBACK, Reader, write_connect, write_subscribe, write_unsubscribe
from kernel.db import Database, DbRole, conninfo
from kernel.settings import Settings

DEVICES, MESSAGES, SINGLE_MESSAGES, RUNS = 500, 60_000, 3_000, 3
_TIMEOUT_S = 300.0
_ROOT = Path(__file__).resolve().parent.parent
_COPIED_AT_ONCE = 4000


def measure() -> list[dict[str, Any]]:
    """Messages drained a second: medians of interleaved runs.

    Raises AssertionError when a message is missing afterwards.
    """
    with installation() as settings, _node_modules() as modules:
        bench = _Bench(settings, modules)
        rates = bench.run_on_one_core()
        free_all_cores(settings)
        return [*_compare(rates), _compare_two(bench.run_on_all_cores())]


@dataclass
class _Bench:
    """An installation with devices, and the ways to drain its broker."""

    settings: Settings
    modules: Path | None
    devices: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        with (
            contextlib.closing(Database(self.settings, DbRole.WORKER)) as database,
            database.transaction() as connection,
        ):
            now = datetime.now(UTC)
            for number in range(DEVICES):
                record = DeviceRecord(code=f"R{number}", kind="river_sluice", name="", lon=120.1, lat=30.2)
                self.devices.append(add_device(connection, record, now).id)
        self.publisher = Publisher(self.settings, "bench-field")

    def run_on_one_core(self) -> dict[str, list[float]]:
        """Messages a second of each way, run by run."""
        ways: dict[str, Callable[[], float]] = {
            "ours": lambda: self._drain("ours", MESSAGES),
            "paho": lambda: self._drain("paho", MESSAGES),
            "copy": self._copy,
        }
        if self.modules is not None:
            ways["single"] = lambda: self._drain("single", SINGLE_MESSAGES)
            ways["batched"] = lambda: self._drain("batched", MESSAGES)
        self._keep_session(0)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, way in ways.items():
                self._empty()
                rates[name].append(way())
        return rates

    def run_on_all_cores(self) -> dict[str, list[float]]:
        """One and two of our processes on a shared subscription."""
        rates: dict[str, list[float]] = {"one": [], "two": []}
        for _ in range(RUNS):
            for name, slots in (("one", [0]), ("two", [0, 1])):
                self._empty()
                self._keep_session(1, subscribed=1 in slots)
                rates[name].append(self._drain_shared(slots))
        return rates

    def _drain(self, way: str, count: int) -> float:
        self._fill(count)
        command = [sys.executable, "-m", "benchmarks._drain", way, str(count)]
        env = environment(self.settings)
        if way in ("single", "batched"):
            command, env = self._node(way, count)
        done = subprocess.run(
            command, env=env, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S,
            preexec_fn=lambda: os.sched_setaffinity(0, cores()[0]),
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"{way}: {done.stderr[-2000:]}")
        if way != "paho":
            self._check(count)
        return float(count / json.loads(done.stdout.splitlines()[0])["took_s"])

    def _node(self, way: str, count: int) -> tuple[list[str], dict[str, str]]:
        user, password = find_login(self.settings)
        with psycopg.connect(conninfo(self.settings, DbRole.WORKER)) as connection:
            info = connection.info
            database = f"postgres://{info.user}:{info.password}@/{info.dbname}?host={info.host}"
        asked = {
            "way": way,
            "count": count,
            "url": f"mqtt://{self.settings.mqtt.host}:{self.settings.mqtt.port}",
            "user": user,
            "password": password,
            "clientId": client_ids(self.settings, 0)[0],
            "filter": find_filter(self.settings),
            "database": database,
        }
        assert self.modules is not None
        env = {**os.environ, "PEER_MODULES": str(self.modules)}
        return [_find_node() or "node", str(_ROOT / "benchmarks" / "peer.mjs"), json.dumps(asked)], env

    def _drain_shared(self, slots: list[int]) -> float:
        self._fill(MESSAGES)
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks._drain", "shared", "0", str(slot)],
                env=environment(self.settings), cwd=_ROOT, stdin=subprocess.PIPE, text=True, stdout=subprocess.PIPE,
            )
            for slot in slots
        ]  # fmt: skip
        try:
            for worker in workers:
                assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
            began = time.perf_counter()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            taken = [0] * len(workers)
            while sum(taken) < MESSAGES:
                for number, worker in enumerate(workers):
                    assert worker.stdout is not None
                    taken[number] = int(worker.stdout.readline())
                if time.perf_counter() - began > _TIMEOUT_S:
                    raise AssertionError(f"{taken} of {MESSAGES}")
            took = time.perf_counter() - began
        finally:
            for worker in workers:
                worker.communicate(timeout=30)
        self._check(MESSAGES)
        return MESSAGES / took

    def _copy(self) -> float:
        now = datetime.now(UTC)
        values = {"level_m": 1.5, "flow_m3_s": 3.1, "ph": 7.2}
        each = MESSAGES // DEVICES
        rows = [row for device in self.devices for row in write_reading_rows(device, [(values, now, now)] * each)]
        size = _COPIED_AT_ONCE * len(values)
        parts = [HEADER + b"".join(rows[i : i + size]) + TRAILER for i in range(0, len(rows), size)]
        with psycopg.connect(conninfo(self.settings, DbRole.WORKER)) as connection:
            began = time.perf_counter()
            for part in parts:
                with connection.cursor().copy("COPY reading FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(part)
                connection.commit()
            return each * DEVICES / (time.perf_counter() - began)

    def _fill(self, count: int) -> None:
        first_at, mark = datetime.now(UTC) - timedelta(milliseconds=count), time.monotonic_ns()
        bodies = (
            {
                "v": 1,
                "id": f"{mark}-{n}",
                "seq": n,
                "at": (first_at + timedelta(milliseconds=n)).isoformat(),
                "level_m": 1.5,
                "flow_m3_s": 3.1,
                "ph": 7.2,
            }
            for n in range(count)
        )
        self.publisher.send(
            [
                (f"gridwarden/river_sluice/R{n % DEVICES}/telemetry", json.dumps(body).encode())
                for n, body in enumerate(bodies)
            ]
        )

    def _empty(self) -> None:
        """The same start for all: empty tables, and no checkpoint that was owed by the run before."""
        with psycopg.connect(conninfo(self.settings, DbRole.OWNER), autocommit=True) as connection:
            connection.execute("TRUNCATE device_message, reading")
            connection.execute("CHECKPOINT")

    def _check(self, count: int) -> None:
        with psycopg.connect(conninfo(self.settings, DbRole.OWNER)) as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM device_message), (SELECT count(*) FROM reading)"
            ).fetchone()
        if found != (count, 3 * count):
            raise AssertionError(f"{found} of {count} messages with three readings each")

    def _keep_session(self, slot: int, *, subscribed: bool = True) -> None:
        """Have the broker keep messages for this slot, or stop it."""
        user, password = find_login(self.settings)
        write = write_subscribe if subscribed else write_unsubscribe
        with socket.create_connection((self.settings.mqtt.host, self.settings.mqtt.port), timeout=20) as connection:
            connection.sendall(
                write_connect(client_ids(self.settings, slot)[0], user, password, 0)
                + write(1, [find_filter(self.settings)])
            )
            reader = Reader(65_536)
            while not any(packet.type in (SUBACK, SUBACK + 2) for packet in reader.read(1)[1]):
                reader.feed(connection.recv(65_536))


@contextlib.contextmanager
def _node_modules() -> Iterator[Path | None]:
    """A temporary folder with mqtt.js and pg; None, said in words, where there is no Node or no registry."""
    npm = shutil.which("npm")
    folder = Path(tempfile.mkdtemp(prefix="gw-bench-node-"))
    try:
        if npm is None or _find_node() is None:
            print("no Node with npm here: the comparison with mqtt.js + pg is left out")
            yield None
            return
        done = subprocess.run(
            [npm, "install", "--prefix", str(folder), "mqtt@5", "pg@8", "--no-audit", "--no-fund"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            print("npm could not fetch mqtt.js and pg: the comparison with them is left out")
        yield None if done.returncode else folder / "node_modules"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_node() -> str | None:
    return shutil.which("node")


def _compare(rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    rate = {name: statistics.median(values) for name, values in rates.items()}
    common = {
        "unit": "messages/s",
        "ours": round(rate["ours"]),
        "runs": RUNS,
        "machine": describe_machine(),
        "messages": MESSAGES,
        "devices": DEVICES,
        "pinned": "one core for the measured process, the others for PostgreSQL and Mosquitto",
    }
    ceilings = (
        ("ingest", "single", "mqtt.js + pg, committed one by one", "paho", "paho-mqtt, batched acknowledgements only"),
        ("ingest_batched", "batched", "mqtt.js + pg in batches, acknowledged before they are stored", "copy", "binary COPY of the same readings"),
    )  # fmt: skip
    return [
        {
            "name": name,
            **common,
            "peer": round(rate[peer]) if peer in rate else None,
            "peer_name": peer_name,
            "ceiling": round(rate[ceiling]),
            "ceiling_name": ceiling_name,
            "ratio_peer": round(rate["ours"] / rate[peer], 3) if peer in rate else None,
            "ratio_ceiling": round(rate["ours"] / rate[ceiling], 3),
            "all_runs": {
                key: [round(value) for value in rates[key]] for key in ("ours", peer, ceiling) if key in rates
            },
        }
        for name, peer, peer_name, ceiling, ceiling_name in ceilings
    ]


def _compare_two(rates: dict[str, list[float]]) -> dict[str, Any]:
    one, two = statistics.median(rates["one"]), statistics.median(rates["two"])
    return {
        "name": "ingest_two_processes",
        "unit": "messages/s",
        "ours": round(two),
        "peer": round(one),
        "peer_name": "one process, all cores free to all",
        "ceiling": round(2 * one),
        "ceiling_name": "twice one",
        "ratio_peer": round(two / one, 3),
        "ratio_ceiling": round(two / one / 2, 3),
        "runs": RUNS,
        "machine": describe_machine(),
        "all_runs": {name: [round(value) for value in values] for name, values in rates.items()},
    }
