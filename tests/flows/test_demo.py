"""The whole demo, scored: every expected incident opened in the right cell, dispatched, checked and closed; nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridwarden.postgres import remove_postgres
from kernel.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
CATEGORIES = {
    "bin_overflow",
    "exposed_garbage",
    "illegal_parking",
    "crowding",
    "smoke",
    "door_silent",
    "door_night",
    "river_level",
    "gate_fault",
    "camera_fault",
}


def run_demo(folder: Path, *arguments: str) -> tuple[int, dict[str, object], str]:
    """Exit status, report and what was printed of `gridwarden demo --headless` in a folder of its own."""
    report = folder / "report.json"
    env = {
        **os.environ,
        "GRIDWARDEN_DATA_DIR": str(folder / "data"),
        "GRIDWARDEN_CONFIG": str(folder / "none.toml"),
        "GRIDWARDEN_LOG__LEVEL": "error",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-c",
        "from gridwarden.cli import main; main()",
        "demo",
        "--headless",
        "--report",
        str(report),
    ]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=480, check=False
    )
    remove_postgres(Settings(data_dir=folder / "data" / "demo" / "data"))
    return done.returncode, json.loads(report.read_text()) if report.exists() else {}, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_demo_of_a_seed_is_scored_whole(tmp_path: Path) -> None:
    status, report, printed = run_demo(tmp_path, "--seed", "4")
    assert status == 0, printed
    assert report["seed"] == 4
    expected = report["expected"]
    assert isinstance(expected, int)
    assert expected >= len(CATEGORIES)
    for key in ("opened", "right_cell", "right_category", "dispatched", "closed"):
        assert report[key] == expected, key
    assert report["false_incidents"] == report["duplicate_incidents"] == 0
    assert {case["category"] for case in report["cases"]} == CATEGORIES  # type: ignore[attr-defined]
