"""SIGKILL to every process in turn while the demo's scenario runs; the score must be whole.   scripts/drill kill

The short form, on alarms alone, is tests/flows/test_kill.py.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
MARKS = {
    "ingest": "gridwarden.role ingest",
    "dispatch": "gridwarden.role dispatch",
    "vision": "gridwarden.role vision",
    "web": "gridwarden.demo.web",
    "broker": "mosquitto -c",
    "postgres": "bin/postgres -D",
}


def find_child(supervisor: psutil.Process, mark: str) -> psutil.Process | None:
    """The supervised process whose command line has `mark`."""
    for process in supervisor.children():
        try:
            if mark in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def kill_in_turn(demo: subprocess.Popen[str], first_s: float, every_s: float) -> list[tuple[str, float, float | None]]:
    """Kill each process once; (name, seconds after the start, seconds until another took its place)."""
    started = time.monotonic()
    supervisor = psutil.Process(demo.pid)
    kills: list[tuple[str, float, float | None]] = []
    time.sleep(first_s)
    for name, mark in MARKS.items():
        process = find_child(supervisor, mark)
        if demo.poll() is not None or process is None:
            kills.append((name, time.monotonic() - started, None))
            continue
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        back: float | None = None
        while back is None and time.monotonic() - killed < 20:
            time.sleep(0.05)
            found = find_child(supervisor, mark)
            if found is not None and found.pid != process.pid:
                back = time.monotonic() - killed
        kills.append((name, killed - started, back))
        print(
            f"killed {name} at {killed - started:.0f} s; running again after {back if back is None else round(back, 1)} s",
            flush=True,
        )
        time.sleep(every_s)
    return kills


def main() -> int:
    """Run the drill; exit status 0 when the demo's score is whole and every process came back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--first", type=float, default=50.0, help="seconds before the first kill")
    parser.add_argument("--every", type=float, default=14.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gw-drill-"))
    score_file = folder / "score.json"
    command = [sys.executable, "-c", "from gridwarden.cli import main; main()", "demo", "--headless"]
    demo = subprocess.Popen(
        [*command, "--seed", str(options.seed), "--report", str(score_file)],
        cwd=ROOT,
        env={**os.environ, "GRIDWARDEN_DATA_DIR": str(folder / "data"), "GRIDWARDEN_LOG__LEVEL": "error"},
        text=True,
    )
    kills = kill_in_turn(demo, options.first, options.every)
    status = demo.wait(600)
    score = json.loads(score_file.read_text()) if score_file.exists() else {}
    keys = (
        "expected",
        "opened",
        "right_cell",
        "right_category",
        "dispatched",
        "closed",
        "false_incidents",
        "duplicate_incidents",
    )
    lines = [
        "# Drill: SIGKILL to every process during the demo",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {options.seed}, exit status {status}, {os.cpu_count()} cores.",
        "",
        "| killed | at s | running again after s |",
        "|---|---|---|",
        *(f"| {name} | {at:.0f} | {'never' if back is None else f'{back:.1f}'} |" for name, at, back in kills),
        "",
        "Score: " + ", ".join(f"{key} {score.get(key)}" for key in keys),
        "",
    ]
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text("\n".join(lines))
    print("\n".join(lines))
    return status or int(any(back is None for _, _, back in kills))


if __name__ == "__main__":
    sys.exit(main())
