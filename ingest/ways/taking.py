"""The one road from every way in to the database: messages of all senders in batches, each sender answered after the commit."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import psycopg

from ingest.batch import Outcome, take_results
from ingest.decode import DeadLetter, Decoded, Raw, decode
from ingest.ways.raw import decode_all, has_raw
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
_RETRY_FIRST_S, _RETRY_MOST_S = 0.2, 2.0
_QUEUED = 2000
_GATHER_MESSAGES = 1000

Result = Decoded | DeadLetter


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is kept as a dead letter. `message_id` is '' when it could not be read."""

    message_id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender may be told after the commit: so many taken (or known from before), and what was refused, and why.

    `results`: its messages as they were decoded, for the console.
    """

    taken: int
    refused: tuple[Refusal, ...]
    results: Sequence[Result] = ()


class QueueFullError(Exception):
    """The database is too far behind; the sender is not acknowledged, and repeats later."""


def take_now(
    database: Database, settings: Settings, clock: Clock, raws: Sequence[Raw], letters: Sequence[DeadLetter] = ()
) -> Answer:
    """Take messages in the caller's thread; when it returns they are committed.

    Raises psycopg.Error when the database is away: nothing is taken, and the sender has to repeat.
    """
    results = [*_decode(database, settings, raws), *letters]
    return _answer(results, take_results(database, results, clock.now(), settings.city.timezone))


def _decode(database: Database, settings: Settings, raws: Sequence[Raw]) -> list[Result]:
    if not has_raw(raws):
        return [decode(raw, settings.ingest) for raw in raws]
    with database.transaction() as connection:
        return decode_all(connection, raws, settings.ingest)


def _answer(results: Sequence[Result], outcome: Outcome) -> Answer:
    """What of one sender's messages the batch refused: before the database was asked, or by what it knows."""
    by_database = {(r.device_code, r.message_id): r.refused for r in outcome.receipts if r.refused is not None}
    refused: list[Refusal] = []
    for one in results:
        if isinstance(one, DeadLetter):
            refused.append(Refusal(one.message_id or "", str(one.reason), one.detail))
        elif (reason := by_database.get((one.address.device_code, one.message.id))) is not None:
            refused.append(Refusal(one.message.id, str(reason)))
    return Answer(len(results) - len(refused), tuple(refused), results)


@dataclass(frozen=True, slots=True)
class _Work:
    raws: Sequence[Raw]
    letters: Sequence[DeadLetter]
    done: "Future[Answer]"


class Taker:
    """A thread that gathers what the listeners hand in, takes it as one batch, and answers. Memory stays bounded."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._queue: queue.Queue[_Work] = queue.Queue(_QUEUED)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ways-batches", daemon=True)

    def start(self) -> None:
        """Begin to take."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish the batch in hand. What was not begun is never answered: its senders repeat it."""
        self._stop.set()
        self._thread.join(timeout_s)

    def submit(self, raws: Sequence[Raw], letters: Sequence[DeadLetter] = ()) -> "Future[Answer]":
        """Hand messages in; the future is done after their commit. Raises QueueFullError."""
        done: Future[Answer] = Future()
        try:
            self._queue.put_nowait(_Work(raws, letters, done))
        except queue.Full:
            raise QueueFullError from None
        return done

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                works = [self._queue.get(timeout=0.25)]
            except queue.Empty:
                continue
            until = time.monotonic() + self._settings.ingest.batch_wait_s
            while sum(len(work.raws) for work in works) < _GATHER_MESSAGES:
                try:
                    works.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
                except queue.Empty:
                    break
            self._take(works)

    def _take(self, works: Sequence[_Work]) -> None:
        """Commit, then answer. While the database is away the batch is kept and nobody is answered."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                of_work = [[*_decode(self._database, self._settings, w.raws), *w.letters] for w in works]
                results = [one for results in of_work for one in results]
                outcome = take_results(self._database, results, self._clock.now(), self._settings.city.timezone)
            except psycopg.OperationalError as error:
                log.warning("the database is away, %d senders wait: %s", len(works), str(error).strip())
            except Exception:
                log.exception("%d senders' messages could not be taken", len(works))
            else:
                break
            if self._stop.wait(wait_s):
                return
            wait_s = min(wait_s * 2, _RETRY_MOST_S)
        for work, results in zip(works, of_work, strict=True):
            # A sender that has given up waiting has cancelled its future.
            if work.done.set_running_or_notify_cancel():
                work.done.set_result(_answer(results, outcome))
