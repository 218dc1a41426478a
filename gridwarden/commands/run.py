"""`gridwarden up`, `run`, `demo`."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gridwarden.role import run_role
from gridwarden.supervise import supervised
from kernel.log import configure_log
from kernel.settings import load_settings


class RoleName(StrEnum):
    """The roles that run alone."""

    INGEST = "ingest"
    VISION = "vision"
    DISPATCH = "dispatch"
    WEB = "web"


def up() -> None:
    """Run the whole system: broker, database, ingest, dispatch, vision, web."""
    settings = load_settings()
    configure_log("supervisor", settings.log.level)
    with supervised(settings) as supervisor:
        supervisor.start_roles()
        print(f"Gridwarden is starting.  wall {settings.public_url}/wall   phone {settings.public_url}/phone")
        print(
            f"MQTT  {settings.mqtt.host}:{settings.mqtt.port}  each device has its own key: `gridwarden device add` prints it"
        )
        print(
            "First log-in: `gridwarden user add NAME --role admin` prints a one-time link.   Ctrl-C stops.", flush=True
        )
        supervisor.run()


def run(role: Annotated[RoleName, typer.Argument(help="Which role.")]) -> None:
    """Run one role alone, against the database and broker of the settings."""
    sys.exit(run_role(role.value, load_settings()))


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="Run the scenario to its end, score it, leave.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=999_999_999, help="The city's seed.")] = 1,
    report: Annotated[Path | None, typer.Option(help="Where to write the score (JSON).")] = None,
    lan: Annotated[
        bool, typer.Option("--lan", help="Serve HTTPS to the local network, with a QR code for a phone.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the web server; 0 takes a free one.")] = 0,
    tamper: Annotated[
        str | None,
        typer.Option(help="Test of the scoring: disable:<rule>, duplicate or swap-cell; the demo must then fail."),
    ] = None,
) -> None:
    """A district with devices, cameras and field staff simulated against the real system."""
    from gridwarden.demo.run import DemoOptions, run_demo

    options = DemoOptions(headless=headless, seed=seed, report=report, lan=lan, port=port, tamper=tamper)
    os.umask(0o077)
    sys.exit(run_demo(options))
