"""One role as a process: `python -m gridwarden.role ingest|vision|dispatch|web`."""

import importlib
import logging
import signal
import sys
import threading

import psycopg

from kernel.db import DbRole
from kernel.log import configure_log
from kernel.migration import MigrationError, check_schema
from kernel.settings import Settings, load_settings

log = logging.getLogger(__name__)
MODULES = {"ingest": "ingest.run", "vision": "vision.run", "dispatch": "dispatch.run", "web": "dashboard.run"}


def wait_for_schema(settings: Settings, stop: threading.Event) -> None:
    """Wait for the database; refuse one whose schema this program does not know.

    Raises MigrationError saying what to do.
    """
    while not stop.is_set():
        try:
            check_schema(settings, DbRole.WORKER)
        except psycopg.OperationalError as error:
            log.warning("waiting for the database: %s", str(error).strip())
            stop.wait(0.5)
        else:
            return


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run_role(role: str, settings: Settings) -> int:
    """Run until SIGTERM; exit status."""
    configure_log(role, settings.log.level)
    stop = stop_on_signal()
    try:
        wait_for_schema(settings, stop)
    except MigrationError as error:
        log.error("%s", error)
        return 3
    if not stop.is_set():
        importlib.import_module(MODULES[role]).run(settings, stop)
    return 0


if __name__ == "__main__":
    sys.exit(run_role(sys.argv[1], load_settings()))
