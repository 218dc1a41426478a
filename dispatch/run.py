"""The dispatch role: woken when a report comes or a state changes, and by itself every `dispatch.poll_s`."""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence

import httpx
import psycopg

from devices.seal import Seal
from dispatch.escalation import CHANNEL as NOTICE_CHANNEL
from dispatch.escalation import escalate
from dispatch.flow import advance, take_reports, take_updates
from dispatch.notice import deliver_notices
from dispatch.outbox import CHANNEL as PUSH_CHANNEL
from dispatch.outbox import Channel, deliver_due, load_channels
from dispatch.prediction_store import refresh_expectations
from dispatch.relimit import recount
from grid.locate import Locator
from grid.store import read_version
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.report import CHANNEL as REPORT_CHANNEL
from kernel.settings import Settings

log = logging.getLogger(__name__)
_BATCH = 100
_RETRY_S = 1.0
_LEARN_S = 60.0  # how often to ask whether it is time to learn how long incidents take
_REFRESH_S = 2.0  # how soon newly imported cells are used


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop`. Any number of these may run; a killed one leaves whole transactions and nothing else."""
    clock = Clock.of(settings.clock)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        woken = threading.Event()
        listener = database.listen(REPORT_CHANNEL, woken, stop)
        channels = load_channels(settings, database)
        pusher = threading.Thread(target=_push, args=(settings, database, channels, clock, stop), name="push")
        pusher.start()
        teller = threading.Thread(target=_tell, args=(settings, database, clock, stop), name="notices")
        teller.start()
        locator, refreshed_s, learned_s = None, 0.0, -_LEARN_S
        while not stop.is_set():
            woken.clear()
            try:
                if locator is None or time.monotonic() - refreshed_s > _REFRESH_S:
                    locator, refreshed_s = _refresh(database, locator), time.monotonic()
                busy = _round(database, clock, settings, locator)
                if time.monotonic() - learned_s > _LEARN_S:
                    learned_s = time.monotonic()
                    with database.transaction() as connection:
                        refresh_expectations(connection, clock.now())
            except psycopg.Error as error:
                log.warning("dispatch interrupted: %s", error)
                stop.wait(_RETRY_S)
                continue
            if not busy:
                _wait(woken, stop, settings.dispatch.poll_s)
        pusher.join(9.0)
        teller.join(9.0)
        listener.join(2.0)


def _wait(woken: threading.Event, stop: threading.Event, timeout_s: float) -> None:
    """Until woken, at most `timeout_s`; a stop is seen within a quarter of a second."""
    for _ in range(max(1, round(timeout_s / 0.25))):
        if woken.wait(min(0.25, timeout_s)) or stop.is_set():
            return


def _refresh(database: Database, locator: Locator | None) -> Locator:
    """The cells as they are now: loaded anew after an import."""
    with database.transaction() as connection:
        if locator is None or locator.version != read_version(connection):
            locator = Locator.load(connection)
            log.info("cells loaded", extra={"cells": len(locator.codes)})
    return locator


def _round(database: Database, clock: Clock, settings: Settings, locator: Locator) -> bool:
    """Take reports and advance incidents, each in its own transaction; whether more reports may be waiting."""
    with database.transaction() as connection:
        taken = take_reports(connection, clock.now(), settings, locator, _BATCH)
    with database.transaction() as connection:
        told = take_updates(connection, clock.now(), _BATCH)
    with database.transaction() as connection:
        advance(connection, clock.now(), settings, _BATCH)
    with database.transaction() as connection:
        recount(connection, clock.now(), _BATCH)
    with database.transaction() as connection:
        escalate(connection, clock.now(), settings)
    return _BATCH in (taken, told)


def _push(
    settings: Settings, database: Database, channels: Sequence[Channel], clock: Clock, stop: threading.Event
) -> None:
    """Deliver what is queued. A thread of its own: a slow push service must not hold up assignment."""
    woken = threading.Event()
    database.listen(PUSH_CHANNEL, woken, stop)
    while not stop.is_set():
        woken.clear()
        try:
            busy = deliver_due(database, channels, clock.now()) > 0
        except psycopg.Error as error:
            log.warning("push interrupted: %s", error)
            stop.wait(_RETRY_S)
            continue
        except Exception:  # a thread that ends in silence would tell nobody ever again
            log.exception("push failed")
            stop.wait(_RETRY_S)
            continue
        if not busy:
            _wait(woken, stop, settings.dispatch.poll_s)


def _tell(settings: Settings, database: Database, clock: Clock, stop: threading.Event) -> None:
    """Tell the contacts of homes. A thread of its own: a slow gateway must hold up neither assignment nor pushes."""
    if not settings.escalation.url:
        return
    seal, woken = Seal.of(settings.data_dir), threading.Event()
    database.listen(NOTICE_CHANNEL, woken, stop)
    with httpx.Client() as client:
        while not stop.is_set():
            woken.clear()
            try:
                busy = deliver_notices(database, settings, seal, client, clock.now) > 0
            except psycopg.Error as error:
                log.warning("notices interrupted: %s", error)
                stop.wait(_RETRY_S)
                continue
            except Exception:  # a thread that ends in silence would tell nobody ever again
                log.exception("notices failed")
                stop.wait(_RETRY_S)
                continue
            if not busy:
                _wait(woken, stop, settings.dispatch.poll_s)
