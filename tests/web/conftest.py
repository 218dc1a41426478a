"""The demo as a visitor finds it, and a real Chromium to visit it with."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from gridwarden.postgres import remove_postgres
from kernel.settings import Settings
from tests.conftest import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@dataclass(frozen=True)
class Demo:
    """A running demo: its address, one-time links for the visitor, and the buttons of its street."""

    base_url: str
    control_port: int
    visitor: dict[str, str]
    folder: Path

    @property
    def operator_link(self) -> str:
        """Signs in at the wall, once."""
        return f"{self.base_url}/login?seat=wall#{self.visitor['wall']}"

    @property
    def worker_link(self) -> str:
        """Signs in at the phone page, once."""
        return f"{self.base_url}/login?seat=phone#{self.visitor['phone']}"

    @property
    def demo_link(self) -> str:
        """Wall and phone side by side, once."""
        return f"{self.base_url}/demo#{self.visitor['demo_wall']}.{self.visitor['demo_phone']}"

    def act(self, button: str) -> dict[str, object]:
        """Press a button of the demo page, without the page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.control_port}/act/{button}", method="POST", data=b"")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def add_person(self, name: str, *roles: str) -> str:
        """A person as an administrator adds them; their one-time link for the wall."""
        command = ["-c", "from gridwarden.cli import main; main()", "user", "add", name, "--display", name]
        for role in roles:
            command += ["--role", role]
        env = {
            **os.environ,
            "GRIDWARDEN_DATA_DIR": str(self.folder / "demo" / "data"),
            "GRIDWARDEN_CONFIG": str(self.folder / "none.toml"),
            "PYTHONPATH": str(ROOT),
        }
        said = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
        return f"{self.base_url}/login?seat=wall#{said.stdout.rsplit('#', 1)[1].strip()}"


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """`gridwarden demo`, with its simulated street, until the tests end."""
    if not (ROOT / "dashboard" / "web" / "dist" / "wall.html").exists():
        pytest.skip("the front ends are not built (scripts/setup builds them)")
    folder = Path(tempfile.mkdtemp(prefix="gw-web-"))
    port = free_port()
    env = {
        **os.environ,
        "GRIDWARDEN_DATA_DIR": str(folder),
        "GRIDWARDEN_CONFIG": str(folder / "none.toml"),
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-c",
        "from gridwarden.cli import main; main()",
        "demo",
        "--seed",
        "21",
        "--port",
        str(port),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        ended_or_ready = lambda: b"Ctrl-C" in log.read_bytes() or process.poll() is not None  # noqa: E731
        wait_until(ended_or_ready, f"the demo starts; log: {log}", 90)
        assert process.poll() is None, log.read_text()
        visitor = json.loads((folder / "demo" / "visitor.json").read_text())
        access = json.loads((folder / "demo" / "access.json").read_text())
        yield Demo(f"http://127.0.0.1:{port}", access["control_port"], visitor, folder)
    finally:
        process.terminate()
        process.wait(40)
        shutil.rmtree(folder, ignore_errors=True)
        remove_postgres(Settings(data_dir=folder / "demo" / "data"))


@pytest.fixture(scope="session")
def base_url(demo: Demo) -> str:
    """Address of the running system."""
    return demo.base_url


@pytest.fixture(scope="session")
def operator_link(demo: Demo) -> str:
    """One-time link of the operator, for the wall."""
    return demo.operator_link


@pytest.fixture(scope="session")
def worker_link(demo: Demo) -> str:
    """One-time link of the worker, for the phone page."""
    return demo.worker_link


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium from the system, driven through its DevTools."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is not installed (scripts/setup --dev installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()
