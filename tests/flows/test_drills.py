"""Short forms of the drills about messages (tests/drills/reliability.py); full length by `scripts/drill NAME`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.reliability import ENVIRONMENT, Size, alarm_storm, disorder, kill_repeatedly, outage, reconnect
from tests.drills.verdict import Verdict
from tests.flows.conftest import System, running_system

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def drilled() -> Iterator[System]:
    """One installation for all the drills but the outage, which has a database of its own."""
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed")
    with running_system(**ENVIRONMENT) as system:
        yield system


def assert_holds(verdict: Verdict) -> None:
    assert verdict.holds, "\n".join(verdict.lines())


@pytest.mark.parametrize("victim", ["ingest", "postgres", "broker"])
def test_a_process_is_killed_again_and_again_under_load(drilled: System, victim: str) -> None:
    assert_holds(kill_repeatedly(drilled, victim, Size(duration_s=12, rate_per_s=200, disturbances=3), seed=1))


def test_disorder_doubles_wrong_clocks_and_poison_lose_nothing(drilled: System) -> None:
    assert_holds(disorder(drilled, Size(duration_s=10, rate_per_s=200), seed=1))


def test_hundreds_of_alarms_in_seconds_are_one_incident_each(drilled: System) -> None:
    assert_holds(alarm_storm(drilled, Size(duration_s=4, rate_per_s=100, devices=300), seed=1))


def test_hundreds_of_devices_come_back_at_once(drilled: System) -> None:
    assert_holds(reconnect(drilled, Size(duration_s=0, rate_per_s=0, devices=400), seed=1))


def test_the_database_is_away_for_a_while() -> None:
    assert_holds(outage(Size(duration_s=20, rate_per_s=100), seed=1))
