"""The dispatch role as a process: woken, stopped, killed at any moment."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from dispatch.model import Action
from dispatch.run import run
from tests.dispatch.build import City, cell_centre
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
_ROLE = """
import signal, threading
from dispatch.run import run
from kernel.settings import load_settings
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run(load_settings(), stop)
"""
# Dies in the middle of its transaction, after every row was written and before the commit.
_DIES_INSIDE = """
import os, signal
from datetime import UTC, datetime
from dispatch import flow
from kernel.db import Database, DbRole
from kernel.settings import load_settings
settings = load_settings()
with Database(settings, DbRole.WORKER).transaction() as connection:
    assert flow.STEP(connection, datetime(2026, 11, 20, 8, 0, tzinfo=UTC), settings) == 1
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(city: City, script: str) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "GRIDWARDEN_DATA_DIR": str(city.settings.data_dir),
        "GRIDWARDEN_DISPATCH__POLL_S": "0.2",
        "GRIDWARDEN_LOG__LEVEL": "error",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=env)


@contextmanager
def running(city: City) -> Iterator[threading.Thread]:
    """The role in a thread of this process."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(city.settings, stop))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "it did not stop within 10 s"


def test_a_report_wakes_it_and_a_stop_is_obeyed_soon(city: City) -> None:
    slow = city.settings.dispatch.model_copy(update={"poll_s": 30.0})
    city.settings = city.settings.model_copy(update={"dispatch": slow})
    city.add_person("甲")
    with running(city):
        time.sleep(1.0)  # it sleeps by now
        begun_s = time.monotonic()
        city.report()
        assert wait_for(lambda: [i["state"] for i in city.incidents()] == ["dispatched"])
        assert time.monotonic() - begun_s < 20  # it looks by itself only after 30
        stopped_s = time.monotonic()
    assert time.monotonic() - stopped_s < 5


def test_a_database_that_goes_and_comes_back_is_waited_for(city: City) -> None:
    city.add_person("甲")
    with running(city):
        assert wait_for(
            lambda: city.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'gw_worker'")[0][0] > 2
        )
        city.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gw_worker' AND pid <> pg_backend_pid()"
        )
        assert wait_for(lambda: reported(city))
        assert wait_for(lambda: [i["state"] for i in city.incidents()] == ["dispatched"])


def reported(city: City) -> bool:
    """The test's own connections were ended too: the first that it takes may be one of them."""
    try:
        city.report()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("step", ["take_reports", "advance"])
def test_a_kill_inside_a_transaction_leaves_what_was_before(city: City, step: str) -> None:
    city.add_person("甲")
    city.report()
    if step == "advance":
        city.take()
    before = city.incidents()
    assert start(city, _DIES_INSIDE.replace("STEP", step)).wait(60) == -signal.SIGKILL
    assert city.incidents() == before
    city.turn()
    assert (city.incident()["state"], city.incident()["number"]) == ("dispatched", "20261120-000001")
    assert city.query("SELECT count(*) FROM assignment") == city.query("SELECT count(*) FROM push_outbox") == [(1,)]


@pytest.mark.slow
def test_a_process_killed_again_and_again_loses_and_doubles_nothing(city: City) -> None:
    for k in range(4):
        city.add_person(f"网格员{k}", at=cell_centre(k, 0))
    causes = [
        (category, column, row)
        for category in ("bin_overflow", "crowding", "snow_ice")
        for column in range(4)
        for row in (0, 1)
    ]
    said = 0
    for life in range(4):
        process = start(city, _ROLE)
        for category, column, row in causes[life * 6 : life * 6 + 6] * 3:
            city.report(category, column=column, row=row)
            said += 1
        assert wait_for(lambda: city.query("SELECT count(*) FROM report WHERE taken_at IS NOT NULL")[0][0] > 0)
        time.sleep(0.02 * life)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    process = start(city, _ROLE)
    try:
        assert wait_for(
            lambda: (
                city.query("SELECT count(*) FROM report WHERE taken_at IS NULL") == [(0,)]
                and {i["state"] for i in city.incidents()} == {"dispatched"}
            ),
            40,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(12) == 0
    incidents = city.incidents()
    assert len(incidents) == len({(i["category"]["id"], i["cell_code"]) for i in incidents}) == len(causes)
    assert sum(i["report_count"] for i in incidents) == said
    assert sorted(int(i["number"][-6:]) for i in incidents) == list(range(1, len(causes) + 1))
    assert city.query("SELECT count(*) FROM assignment WHERE outcome IS NULL") == [(len(causes),)]
    assert city.query("SELECT count(*) FROM push_outbox WHERE kind = 'offered'") == [(len(causes),)]


def test_one_pass_of_the_loop_takes_an_accepted_task_no_further(city: City) -> None:
    """The role acts for the system only: what people must do, it leaves to them."""
    worker = city.add_person("甲")
    city.report("illegal_parking")  # whose hour runs by night too
    city.turn()
    city.act(worker, Action.ACCEPT)
    city.pass_time(hours=10)
    city.turn()
    assert (city.incident()["state"], city.incident()["light"]) == ("accepted", "red")
