"""A whole installation as processes: `gridwarden up` on free ports in a folder of its own, with a small grid."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from grid.importing import import_file
from gridwarden.postgres import remove_postgres
from kernel.db import Database, DbRole
from kernel.settings import Settings
from tests.conftest import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
WEST, SOUTH, STEP = 120.1700, 30.2800, 0.001


@dataclass
class System:
    """A running installation."""

    settings: Settings
    env: dict[str, str]
    supervisor: subprocess.Popen[bytes]

    def pid_of(self, name: str) -> int | None:
        """Process id of one child: postgres, broker, ingest, dispatch, vision or web."""
        marks = {"postgres": "/postgres", "broker": "mosquitto"}
        for process in psutil.Process(self.supervisor.pid).children():
            try:
                command = process.cmdline()
            except psutil.Error:  # gone, or dead and not yet collected
                continue
            if command and ((name in marks and marks[name] in command[0]) or command[-2:] == ["gridwarden.role", name]):
                return process.pid
        return None

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until another one has taken its place."""
        pid = self.pid_of(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.pid_of(name) not in (None, pid), f"{name} starts again", 30)

    def run(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """A gridwarden command against this installation."""
        command = [sys.executable, "-c", "from gridwarden.cli import main; main()", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def add_gateway(self, code: str) -> tuple[str, str]:
        """A gateway in the middle cell, with the log-in it got; for tests whose devices hang on one."""
        key_file = self.settings.data_dir / f"{code}.key"
        added = self.run(
            "device", "add", code, "gateway", "--lon", "120.1715", "--lat", "30.2815", "--key-file", str(key_file)
        )
        assert added.returncode == 0, added.stderr
        return code, key_file.read_text().strip()

    def wait_for_child(self, code: str) -> None:
        """Until the broker lets the gateway speak for the device `code`."""
        acl = self.settings.data_dir / "broker" / "acl"
        wait_until(lambda: f"/{code}/+\n" in acl.read_text(), f"the broker's rights for {code}", 30)
        time.sleep(0.5)

    def is_ready(self) -> bool:
        """Does the web server say that it is ready?"""
        try:
            urllib.request.urlopen(f"{self.settings.public_url}/readyz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            return False
        return True


def write_cells(path: Path, columns: int = 3, rows: int = 3) -> None:
    """A little grid of cells of about 100 m in one community, numbered west to east, then north to south."""
    features = []
    for row in range(rows):
        for column in range(columns):
            west, north = WEST + column * STEP, SOUTH + (rows - row) * STEP
            ring = [
                [west, north],
                [west + STEP, north],
                [west + STEP, north - STEP],
                [west, north - STEP],
                [west, north],
            ]
            code = f"330105012001{row * columns + column + 1:03d}"
            properties = {"code": code, "name": code, "responsibility_grid_code": "330105012001G01"}
            features.append(
                {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@contextmanager
def running_system(**changed: str) -> Iterator[System]:
    """`gridwarden up` until it is ready, with nine cells from (120.170, 30.280) to (120.173, 30.283); settings as variables."""
    folder = Path(tempfile.mkdtemp(prefix="gw-flow-"))
    env = {
        **os.environ,
        "GRIDWARDEN_DATA_DIR": str(folder / "data"),
        "GRIDWARDEN_MQTT__PORT": str(free_port()),
        "GRIDWARDEN_WEB__PORT": str(free_port()),
        "GRIDWARDEN_CONFIG": str(folder / "none.toml"),
        "GRIDWARDEN_LOG__LEVEL": "warning",
        "GRIDWARDEN_CAMERA__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "PYTHONPATH": str(ROOT),
        **changed,
    }
    settings = Settings(
        data_dir=folder / "data",
        mqtt={"port": int(env["GRIDWARDEN_MQTT__PORT"])},  # type: ignore[arg-type]
        web={"port": int(env["GRIDWARDEN_WEB__PORT"])},  # type: ignore[arg-type]
        database={"dsn": env.get("GRIDWARDEN_DATABASE__DSN", "")},  # type: ignore[arg-type]
    )
    log = (folder / "log").open("wb")
    supervisor = subprocess.Popen(
        [sys.executable, "-c", "from gridwarden.cli import main; main()", "up"],
        cwd=ROOT,
        env=env,
        stdout=log,
        stderr=log,
    )
    running = System(settings, env, supervisor)
    try:
        wait_until(running.is_ready, f"the system is ready; log: {folder / 'log'}", 60)
        write_cells(folder / "cells.geojson")
        database = Database(settings, DbRole.WORKER)
        with database.transaction("*") as connection:
            import_file(
                connection, folder / "cells.geojson", level="cell", crs="EPSG:4490", repair=False, now=datetime.now(UTC)
            )
        database.close()
        yield running
    finally:
        supervisor.terminate()
        supervisor.wait(40)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
        remove_postgres(settings)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A running installation."""
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed")
    with running_system() as running:
        yield running
