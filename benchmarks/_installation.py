"""A throw-away installation for a measurement: PostgreSQL and Mosquitto of our own, on cores that the measured does not use."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gridwarden.broker import prepare_broker, wait_for_broker
from gridwarden.postgres import prepare_postgres, wait_for_postgres
from ingest.client import find_login
from ingest.wire import PUBACK, Reader, write_connect, write_publish
from kernel.db import socket_dir
from kernel.migration import migrate
from kernel.settings import MqttSettings, Settings


def cores() -> tuple[set[int], set[int]]:
    """(cores of the measured process, cores of the servers): one, and all others; the same one where there is only one."""
    every = sorted(os.sched_getaffinity(0))
    return {every[0]}, set(every[1:]) or {every[0]}


def describe_machine() -> str:
    """For the report."""
    return f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}"


@contextlib.contextmanager
def installation() -> Iterator[Settings]:
    """Settings of a migrated, empty installation whose servers run on the second core and up."""
    folder = Path(tempfile.mkdtemp(prefix="gw-bench-"))
    settings = Settings(data_dir=folder, mqtt=MqttSettings(embedded="mosquitto", port=free_port()))
    server, broker = prepare_postgres(settings), prepare_broker(settings)
    processes = [
        subprocess.Popen(server.command, user=server.account, cwd="/", stderr=subprocess.DEVNULL),
        subprocess.Popen(broker.command, stderr=subprocess.DEVNULL),
    ]
    for process in processes:
        os.sched_setaffinity(process.pid, cores()[1])
    try:
        wait_for_postgres(settings)
        wait_for_broker(settings)
        migrate(settings, datetime.now(UTC))
        yield settings
    finally:
        processes[0].send_signal(signal.SIGINT)
        processes[1].terminate()
        for process in processes:
            process.wait(20)
        for path in (folder, server.cluster_dir.parent if server.account else folder, server.socket_dir):
            shutil.rmtree(path, ignore_errors=True)


def free_all_cores(settings: Settings) -> None:
    """From now on the servers of this installation may use every core."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if str(settings.data_dir) in (folder / "cmdline").read_text() or _is_postgres_of(settings, folder):
                    os.sched_setaffinity(int(folder.name), os.sched_getaffinity(0))


def _is_postgres_of(settings: Settings, folder: Path) -> bool:
    """Whether a process is this installation's PostgreSQL server or one of its children."""
    server = (socket_dir(settings.data_dir) / ".s.PGSQL.5432.lock").read_text().split()[0]
    parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
    return server in (folder.name, parent)


def environment(settings: Settings) -> dict[str, str]:
    """For a process of this installation."""
    return {
        **os.environ,
        "GRIDWARDEN_CONFIG": "/nonexistent.toml",
        "GRIDWARDEN_DATA_DIR": str(settings.data_dir),
        "GRIDWARDEN_MQTT__PORT": str(settings.mqtt.port),
        "GRIDWARDEN_MQTT__EMBEDDED": "mosquitto",
        "GRIDWARDEN_LOG__LEVEL": "error",
    }


class Publisher:
    """Puts many messages into the broker quickly, as one client with nothing else to do."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._socket = socket.create_connection((settings.mqtt.host, settings.mqtt.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        user, password = find_login(settings)
        self._socket.sendall(write_connect(name, user, password, 0))
        self._reader = Reader(65_536)
        self._answers(1)

    def send(self, messages: list[tuple[str, bytes]]) -> None:
        """Send (topic, payload)s at QoS 1, and return when the broker has acknowledged all of them."""
        for start in range(0, len(messages), 500):
            part = messages[start : start + 500]
            self._socket.sendall(b"".join(write_publish(t, p, mid) for mid, (t, p) in enumerate(part, 1)))
            self._answers(len(part))

    def _answers(self, count: int) -> None:
        """CONNACK, or PUBACKs: so many packets that are no message."""
        while count > 0:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._reader.feed(data)
            count -= sum(packet.type in (2, PUBACK) for packet in self._reader.read(1)[1])

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def wait_for_end(ended: threading.Event) -> None:
    """Set `ended` when standard input ends: whoever started this process is done with it, or gone."""
    sys.stdin.read()
    ended.set()


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
