"""`gridwarden device certify`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from devices.store import read_device, set_certify_until
from gridwarden.certify import Result, judge, observe, write_report
from gridwarden.session import open_session
from kernel.audit import write_audit


def certify(
    code: Annotated[str, typer.Argument(help="The device's code.")],
    minutes: Annotated[float, typer.Option(min=0.05, max=240, help="How long to watch it.")] = 5.0,
    report: Annotated[
        Path | None, typer.Option(help="Write the acceptance report here (Markdown, and .json beside it).")
    ] = None,
) -> None:
    """Put a real device to the test: repeats, receipts, reconnect, clock, heartbeat. Exit 0 passed, 1 failed, 2 incomplete."""
    with open_session() as session:
        device = read_device(session.connection, code)
        # Receipts are withheld for the watch and no longer, so that a killed certify mends itself.
        set_certify_until(session.connection, device, session.now + timedelta(minutes=minutes), session.now)
        write_audit(session.connection, session.now, actor="command line", action="device_certified", subject=code,
                    detail={"minutes": minutes})  # fmt: skip
        settings = session.settings
    try:
        watch = observe(device, settings, minutes * 60, lambda text: print(f"· {text}", flush=True))
    finally:
        with open_session() as session:
            set_certify_until(session.connection, device, None, session.now)
    checks = judge(watch, device, settings)
    text = write_report(device, checks, watch, datetime.now(UTC))
    print(text)
    if report is not None:
        report.write_text(text, encoding="utf-8")
        results = {
            "device": code,
            "duration_s": round(watch.duration_s, 1),
            "checks": [asdict(check) for check in checks],
        }
        report.with_suffix(".json").write_text(json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8")
    if any(check.result is Result.FAILED for check in checks):
        raise typer.Exit(1)
    if any(check.result is Result.NOT_SHOWN for check in checks):
        raise typer.Exit(2)
