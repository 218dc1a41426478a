"""The ingest role: MQTT in and out, the sweep and housekeeping beside it."""

import contextlib
import logging
import threading
from datetime import timedelta

import psycopg

from ingest.apart import MeasuredProcess
from ingest.commander import Commander
from ingest.house import run_house
from ingest.mqtt import Intake
from ingest.store import have_others_caught_up, note_slot
from ingest.sweep import Sweeper
from ingest.ways.listening import Ways
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings

log = logging.getLogger(__name__)
_BEHIND = timedelta(seconds=4)
_SLOT_GIVEN_UP = timedelta(minutes=10)  # an ingest process that is away for longer counts as taken out of service


def run(settings: Settings, stop: threading.Event) -> None:
    """Take messages and sweep until `stop` is set; then commit, acknowledge and leave."""
    clock = Clock.of(settings.clock)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        intake = Intake(settings, database, clock, MeasuredProcess(settings))
        intake.start()
        commander = Commander(settings, database, clock, lambda: may_judge_absence(intake, clock, settings))
        commander.start()
        ways = Ways(settings, database, clock)
        ways.start()
        house = threading.Thread(target=run_house, args=(settings, database, clock, stop), name="house", daemon=True)
        house.start()
        try:
            _sweep_until(stop, settings, database, clock, intake)
        finally:
            commander.stop()
            ways.stop()
            intake.stop()
            house.join(2.0)  # what it is at is rolled back, and done next time
            log.info("left", extra={"taken": intake.counts.taken, "dead": intake.counts.dead})


def _sweep_until(stop: threading.Event, settings: Settings, database: Database, clock: Clock, intake: Intake) -> None:
    sweeper = Sweeper(settings)
    while not stop.is_set():
        try:
            with database.transaction() as connection:
                now, slot = clock.now(), settings.mqtt.slot
                note_slot(connection, slot, intake.caught_up_at, now)
                judge_absence = may_judge_absence(intake, clock, settings) and have_others_caught_up(
                    connection, slot, now - find_patience(settings), now - _SLOT_GIVEN_UP
                )
                sweeper.sweep(connection, now, judge_absence=judge_absence)
        except psycopg.OperationalError as error:
            log.warning("sweep put off: %s", str(error).strip())
        except Exception:
            log.exception("sweep failed")
        stop.wait(0.0 if sweeper.has_more else settings.ingest.sweep_s)


def may_judge_absence(intake: Intake, clock: Clock, settings: Settings) -> bool:
    """Only when messages have come without a break for `restart_grace_s`, and none that came before waits to be committed.

    After an outage that is so when the last of the backlog has been taken, wherever it waited.
    """
    since, caught_up_at, now = intake.listening_since, intake.caught_up_at, clock.now()
    if since is None or caught_up_at is None:
        return False
    if now - caught_up_at > find_patience(settings):
        return False
    return now - since >= timedelta(seconds=settings.ingest.restart_grace_s)


def find_patience(settings: Settings) -> timedelta:
    """How old the last mark that came back may be; by the kernel's clock, which a drill may let run faster."""
    return _BEHIND * max(1.0, settings.clock.speed)
