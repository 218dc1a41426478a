"""Children are started again when they die, and never outlive their supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gridwarden.process import Child
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_child_is_started_again() -> None:
    child = Child(name="sleeper", command=["sleep", "60"])
    child.start()
    first = child.pid
    assert first is not None
    try:
        os.kill(first, signal.SIGKILL)
        assert wait_for(lambda: child.tend() or (child.pid not in (None, first)))
        assert child.restarts == 1
    finally:
        child.stop()
    assert child.pid is None


def test_a_child_that_keeps_dying_is_started_with_growing_pauses() -> None:
    child = Child(name="failing", command=["false"])
    child.start()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        child.tend()
        time.sleep(0.01)
    assert 2 <= child.restarts <= 4  # 0.2 s, 0.4 s, 0.8 s …, not hundreds


def test_children_die_with_a_supervisor_that_is_killed() -> None:
    script = (
        "import time\nfrom gridwarden.process import Child\n"
        "child = Child(name='sleeper', command=['sleep', '60'])\nchild.start()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    assert is_alive(pid)
    supervisor.kill()
    supervisor.wait()
    assert wait_for(lambda: not is_alive(pid))


def test_a_child_that_ignores_the_request_to_leave_is_killed() -> None:
    child = Child(
        name="stubborn",
        command=[
            sys.executable,
            "-c",
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint()\ntime.sleep(60)",
        ],
    )
    child.start()
    time.sleep(0.5)
    child.stop(timeout_s=0.5)
    assert child.pid is None
