"""The ingest role: MQTT in and out, and the sweep beside it."""

import contextlib
import logging
import threading
import time
from datetime import timedelta

import psycopg

from ingest.mqtt import Intake
from ingest.sweep import Sweeper, keep_house
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings

log = logging.getLogger(__name__)
_HOUSEKEEPING_S = 3600.0
_ALL_KINDS_S = 5.0


def run(settings: Settings, stop: threading.Event) -> None:
    """Take messages and sweep until `stop` is set; then commit, acknowledge and leave."""
    clock = Clock.of(settings.clock)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        intake = Intake(settings, database, clock)
        intake.start()
        try:
            _sweep_until(stop, settings, database, clock, intake)
        finally:
            intake.stop()
            log.info("left", extra={"taken": intake.counts.taken, "dead": intake.counts.dead})


def _sweep_until(stop: threading.Event, settings: Settings, database: Database, clock: Clock, intake: Intake) -> None:
    sweeper = Sweeper(settings)
    next_house = next_all_kinds = time.monotonic()
    while not stop.is_set():
        moment = time.monotonic()
        try:
            with database.transaction() as connection:
                sweeper.sweep(
                    connection,
                    clock.now(),
                    all_kinds=moment >= next_all_kinds,
                    judge_absence=may_judge_absence(intake, clock, settings),
                )
            if moment >= next_all_kinds:
                next_all_kinds = moment + _ALL_KINDS_S
            if moment >= next_house:
                keep_house(database, clock.now(), settings, stop.is_set)
                next_house = moment + _HOUSEKEEPING_S
        except psycopg.OperationalError as error:
            log.warning("sweep put off: %s", str(error).strip())
        except Exception:
            log.exception("sweep failed")
        stop.wait(settings.ingest.sweep_s)


def may_judge_absence(intake: Intake, clock: Clock, settings: Settings) -> bool:
    """Only when messages have come without a break for `restart_grace_s` and none waits in a queue behind us."""
    since = intake.listening_since
    if since is None or intake.backlog >= settings.ingest.batch_messages:
        return False
    return clock.now() - since >= timedelta(seconds=settings.ingest.restart_grace_s)
