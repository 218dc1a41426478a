"""Telemetry in a process of its own: taken, watched over, and gone with its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.apart import MeasuredProcess
from ingest.mqtt import Intake
from ingest.run import may_judge_absence
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings
from tests.ingest.test_batch import count, register
from tests.ingest.test_mqtt import Field, body, field, online, wait_until  # noqa: F401

_PARENT = """
import sys, time
from ingest.apart import MeasuredProcess
from kernel.settings import Settings
measured = MeasuredProcess(Settings.model_validate_json(sys.stdin.readline()))
measured.start()
while measured.listening_since is None:
    time.sleep(0.05)
print(measured.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def measured(online: Settings) -> Iterator[MeasuredProcess]:  # noqa: F811
    lane = MeasuredProcess(online)
    lane.start()
    try:
        wait_until(lambda: lane.listening_since, "a subscription", 30)
        yield lane
    finally:
        lane.stop(8.0)


def is_alive(pid: int) -> bool:
    """A zombie whose new parent has not asked for it yet is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_readings_and_events_are_taken_side_by_side(
    online: Settings,  # noqa: F811
    database: Database,
    field: Field,  # noqa: F811
    measured: MeasuredProcess,
) -> None:
    register(database, "R1", "river_sluice")
    register(database, "S1", "smoke_alarm")
    intake = Intake(online, database, Clock(), measured)
    intake._happened.start()  # the fixture has started the other one
    try:
        field.send("gridwarden/river_sluice/R1/telemetry", body("t1", level_m=1.0))
        field.send("gridwarden/smoke_alarm/S1/event", body("alarm", status="alarm"))
        wait_until(lambda: intake.counts.taken == 2, "both")
        assert count(database, "SELECT count(*) FROM reading") >= 1
        assert count(database, "SELECT count(*) FROM report") == 1
    finally:
        intake._happened.stop(5.0)


def test_absence_is_not_judged_before_the_telemetry_process_has_caught_up(
    online: Settings,  # noqa: F811
    database: Database,
    measured: MeasuredProcess,
) -> None:
    eager = online.model_copy(update={"ingest": online.ingest.model_copy(update={"restart_grace_s": 0.0})})
    intake = Intake(eager, database, Clock(), measured)
    intake._happened.start()
    try:
        wait_until(lambda: intake._happened.listening_since, "a subscription")
        intake._happened.caught_up_at = datetime(2999, 1, 1, tzinfo=UTC)
        wait_until(lambda: may_judge_absence(intake, Clock(), eager), "a mark of the telemetry")
        pid = measured.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not may_judge_absence(intake, Clock(), eager), "nobody listens to telemetry")
        wait_until(lambda: may_judge_absence(intake, Clock(), eager), "the next process", 30)
        assert measured.pid != pid
    finally:
        intake._happened.stop(5.0)


def test_counts_outlive_a_process_that_ended(
    database: Database,
    field: Field,  # noqa: F811
    measured: MeasuredProcess,
) -> None:
    register(database, "R1", "river_sluice")
    field.send("gridwarden/river_sluice/R1/telemetry", body("t1", level_m=1.0))
    wait_until(lambda: measured.counts.taken == 1, "the first reading")
    assert measured.pid is not None
    os.kill(measured.pid, signal.SIGKILL)
    wait_until(lambda: measured.listening_since is None, "its end")
    field.send("gridwarden/river_sluice/R1/telemetry", body("t2", level_m=1.1))
    wait_until(lambda: measured.counts.taken == 2, "the second reading", 30)
    assert count(database, "SELECT count(*) FROM device_message") == 2


def test_it_leaves_when_told_to(measured: MeasuredProcess) -> None:
    pid = measured.pid
    assert pid is not None
    measured.stop(8.0)
    assert measured.pid is None and not is_alive(pid)


def test_it_leaves_when_its_parent_is_killed(online: Settings) -> None:  # noqa: F811
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        parent.stdin.write(online.model_dump_json() + "\n")
        parent.stdin.flush()
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
        wait_until(lambda: not is_alive(pid), "the end of the child")
