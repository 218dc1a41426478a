"""`gridwarden demo`: the real system under its supervisor, and beside it a simulated city that speaks MQTT, RTSP and HTTP."""

import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import segno

from gridwarden.demo.authority import find_lan_address, make_certificate
from gridwarden.demo.install import (
    SHORTENED,
    empty_folder,
    free_port,
    load_demo_settings,
    make_environment,
    write_private,
)
from gridwarden.demo.tamper import check_tamper
from gridwarden.postgres import remove_postgres
from gridwarden.process import Child
from gridwarden.supervise import Supervisor, supervised
from kernel.clock import Clock
from kernel.log import configure_log
from kernel.settings import Settings, load_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """What the command line asked for."""

    headless: bool
    seed: int
    report: Path | None
    lan: bool
    port: int
    tamper: str | None


def run_demo(options: DemoOptions) -> int:
    """Exit status: with `headless`, 0 only when the score is whole; else 0 when stopped."""
    check_tamper(options.tamper or "")
    base = load_settings()
    folder = base.data_dir / "demo"
    settings, changed = _settle(options, base, folder)
    configure_log("demo", settings.log.level)
    rtsp_port, control_port = free_port(), free_port()
    with supervised(settings) as supervisor:
        _prepare(folder, options, rtsp_port)
        supervisor.start_roles(("ingest", "dispatch"))
        supervisor.add(Child(name="web", command=[sys.executable, "-m", "gridwarden.demo.web", str(control_port)]))
        _wait_for_web(supervisor, settings)
        report = options.report.absolute() if options.report else None
        city = Child(name="city", command=_city_command(options, settings, folder, rtsp_port, control_port, report))
        city.start()
        _wait_for_cameras(rtsp_port, city)
        supervisor.start_roles(("vision",))  # last: cameras that are not there yet would rightly be reported as gone
        if options.headless:
            return _run_headless(supervisor, city)
        supervisor.children.append(city)
        _announce(settings, changed, folder, options)
        supervisor.run()
    return 0


def _settle(options: DemoOptions, base: Settings, folder: Path) -> tuple[Settings, dict[str, str]]:
    """Empty the demo's folder and database, and make its settings."""
    remove_postgres(base.model_copy(update={"data_dir": folder / "data"}))
    empty_folder(folder)
    host, tls = "127.0.0.1", None
    if options.lan:
        host = find_lan_address()
        certificate, key, _ = make_certificate(folder / "tls", host, Clock.of(base.clock).now())
        tls = (certificate, key)
    port = options.port or (0 if options.headless else base.web.port)
    changed = make_environment(folder, host, port, tls, by_hand=not options.headless)
    return load_demo_settings(changed), changed


def _prepare(folder: Path, options: DemoOptions, rtsp_port: int) -> None:
    """District, devices, cameras and people, by a process of its own."""
    _say(f"making the city of seed {options.seed}")
    command = [
        sys.executable,
        "-m",
        "gridwarden.demo.prepare",
        str(folder),
        str(options.seed),
        str(rtsp_port),
        options.tamper or "",
    ]
    counts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    _say(
        f"{counts['cells']} cells, {counts['devices']} devices, {counts['cameras']} cameras, {counts['people']} people"
    )


def _city_command(
    options: DemoOptions, settings: Settings, folder: Path, rtsp_port: int, control_port: int, report: Path | None
) -> list[str]:
    """The simulators' process: what an outside party is given and nothing more."""
    gateway = json.loads((folder / "gateway.json").read_text("utf-8"))
    access = {
        "web_url": settings.public_url,
        "mqtt": {"host": settings.mqtt.host, "port": settings.mqtt.port, **gateway},
        "rtsp_port": rtsp_port,
        "control_port": control_port,
        "plan": str(folder / "plan.json"),
        "people": str(folder / "people.json"),
        "district": str(folder / "district"),
        "seed": options.seed,
        "scenario": "demo" if options.headless else "",
        "report": str(report) if report else "",
        "duplicate": options.tamper == "duplicate",
        "ca_file": str(folder / "tls" / "authority.pem") if options.lan else "",
    }
    write_private(folder / "access.json", access)
    return [sys.executable, "-m", "simulators.stage", str(folder / "access.json")]


def _wait_for_web(supervisor: Supervisor, settings: Settings, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    url = f"{settings.public_url}/readyz"
    context = None
    if settings.web.tls_cert:
        context = ssl.create_default_context(cafile=str(Path(settings.web.tls_cert).with_name("authority.pem")))
    while True:
        supervisor.tend()
        try:
            urllib.request.urlopen(url, timeout=2, context=context).close()
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the web server is not ready after {timeout_s:.0f} s: {error}") from error
            time.sleep(0.2)


def _wait_for_cameras(rtsp_port: int, city: Child, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and city.pid is not None:
        try:
            socket.create_connection(("127.0.0.1", rtsp_port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the simulated cameras do not answer")


def _run_headless(supervisor: Supervisor, city: Child) -> int:
    """Tend the system until the city has ended; the city's exit status is the score's. A city that ends is not started again."""
    try:
        supervisor.run(until=lambda: city.pid is None)
    finally:
        city.stop()
    status = city.exit_status
    return 1 if status is None else status


def _announce(settings: Settings, changed: dict[str, str], folder: Path, options: DemoOptions) -> None:
    """Addresses, one-time links and the settings that differ from the defaults."""
    visitor = json.loads((folder / "visitor.json").read_text("utf-8"))
    url = settings.public_url
    phone = f"{url}/login?seat=phone#{visitor['phone']}"
    print(f"\n  wall and phone side by side   {url}/demo#{visitor['demo_wall']}.{visitor['demo_phone']}")
    print(f"  wall alone                    {url}/login?seat=wall#{visitor['wall']}")
    print(f"  phone alone                   {phone}")
    print(f"  devices, rules, cameras       {url}/devices   (signed in at the wall)")
    print("\n  Each link logs in once. Settings that this demo changes:")
    for key in (*SHORTENED, "GRIDWARDEN_DATA_DIR", "GRIDWARDEN_MQTT__PORT"):
        print(f"    {key}={changed[key]}")
    if options.lan:
        print(f"\n  Install {folder / 'tls' / 'authority.pem'} on the phone, or accept the warning once; then scan:")
        segno.make(phone, error="m").terminal(compact=True)
    print("\n  Ctrl-C stops.", flush=True)


def _say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)
