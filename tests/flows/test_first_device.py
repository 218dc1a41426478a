"""docs/first-device.md, command for command, against a running system."""

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from kernel.db import Database, DbRole
from tests.flows.conftest import ROOT, System
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "first-device.md"
# scripts/setup has been run, `up` is the fixture, and certifying takes minutes (tests/flows/test_certify.py).
ELSEWHERE = ("scripts/setup", ".venv/bin/gridwarden up", ".venv/bin/gridwarden device certify")


def read_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    return [block for block in blocks if not block.startswith(ELSEWHERE)]


def test_every_command_of_the_page_works_and_an_incident_comes_of_it(system: System, tmp_path: Path) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed (scripts/setup --dev installs it)")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    with closing(Database(system.settings, DbRole.WORKER)) as database:
        with database.transaction("*") as connection:  # the page makes its own cell
            connection.execute("DELETE FROM grid_cell")
        printed = ""
        for command in read_commands():
            script = command.replace("-p 18830", f"-p {system.settings.mqtt.port}")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path, env=system.env, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            printed += done.stdout

        def count() -> int:
            with database.transaction("*") as connection:
                row = connection.execute(
                    "SELECT count(*) FROM incident i JOIN report r ON r.incident_id = i.id JOIN device d ON d.id = r.device_id"
                    " WHERE d.code = 'smoke-1' AND i.category = 'smoke' AND i.cell_code = '330105012001001'"
                ).fetchone()
                return int(row[0]) if row else 0

        wait_until(lambda: count() == 1, "the first alarm is an incident in the page's cell", 30)
    assert "/login?seat=wall#" in printed
