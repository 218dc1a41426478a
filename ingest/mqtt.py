"""MQTT in and out: messages wait in bounded queues, workers take them in batches, and the broker is acknowledged after the commit.

Two lanes, each with a session of its own at the broker, a queue and a worker: what happened (events, states, replies)
and what was measured (telemetry). So after an outage a million readings may wait in one queue of the broker while an alarm
passes by in the other. A device's event may thus be taken before a reading it sent earlier: rules and states go by the
instants in the messages, not by the order in which these come.

In each lane the network thread decodes and queues; when the queue is full, in messages or bytes, it stops reading, and the
broker holds the rest. The worker takes a batch, commits, publishes receipts and acknowledges.

How far a lane is behind nobody can see from here: the rest waits in the broker. So each lane sends itself a mark every
second, which takes its place behind everything that waits in its session. When the mark is taken, everything before it is.
"""

import gc
import hashlib
import json
import logging
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol

import psycopg

from devices.model import TopicKind
from ingest.batch import Memory, Outcome, Receipt, take_results
from ingest.client import find_login
from ingest.decode import DeadLetter, Decoded, Raw, decode
from ingest.session import Address, Session, Subscription
from ingest.wire import Publish
from kernel.clock import Clock
from kernel.db import Database
from kernel.distress import Distress
from kernel.settings import Settings

log = logging.getLogger(__name__)
_QUEUED_BATCHES = 2
_RETRY_FIRST_S, _RETRY_MOST_S = 0.2, 2.0
_SWITCH_INTERVAL_S = 0.0005
_MARK_S = 1.0
_MARK_LOST_S = 60.0  # then another is sent; through an outage of a day they are 1440 small messages
_FULL_STATES = ("53100", "58030")  # disk_full, io_error

HAPPENED = (TopicKind.EVENT, TopicKind.STATE, TopicKind.REPLY)
MEASURED = (TopicKind.TELEMETRY,)


class Mark(NamedTuple):
    """A lane's message to itself, sent at that instant."""

    sent_at: datetime


class Delivery(NamedTuple):
    """A message with what its acknowledgement needs. `mid` 0: none is wanted."""

    result: Decoded | DeadLetter | Mark
    mid: int
    connection: int
    size: int


@dataclass(slots=True)
class Counts:
    """What this process has done since it started."""

    received: int = 0
    taken: int = 0
    repeated: int = 0
    dead: int = 0
    reports: int = 0
    batches: int = 0
    retries: int = 0  # batches that the database was not there for

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))


def may_share(settings: Settings) -> bool:
    """Whether to subscribe in a group. The trial broker, amqtt, takes such a subscription and delivers nothing."""
    if not settings.mqtt.shared or settings.mqtt.embedded == "amqtt":
        return False
    if settings.mqtt.embedded == "auto":
        return any(shutil.which("mosquitto", path=path) for path in (None, "/usr/sbin:/usr/local/sbin"))
    return True


def client_ids(settings: Settings, slot: int | None = None) -> tuple[str, str]:
    """The two client ids of an ingest process: of its telemetry, and of everything that happened. The broker keeps both.

    Nobody else can know them: whoever connects with a client id takes its session over, and with it the messages that
    wait, whatever its own rights are (tried on Mosquitto 2.0).
    """
    name = f"gridwarden-ingest-{settings.mqtt.slot if slot is None else slot}-{_make_suffix(settings)}"
    return name, f"{name}-happened"


def name_group(settings: Settings) -> str:
    """Prefix of the shared subscriptions, not to be guessed either: Mosquitto lets any log-in join a group, picks it in
    turn, and then drops what it may not read. A device that joined made ten of 20 events vanish when tried."""
    return f"$share/gridwarden-{_make_suffix(settings)}/"


def _make_suffix(settings: Settings) -> str:
    """The same for every process of this installation, made from the platform's key."""
    return hashlib.sha256(b"session of " + find_login(settings)[1].encode()).hexdigest()[:16]


class Queue:
    """Messages between the network and the worker, bounded by their number and by their bytes."""

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._items: deque[Delivery] = deque()
        self._bytes = 0
        self._filled = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def held_bytes(self) -> int:
        """Bytes of the payloads that wait."""
        return self._bytes

    def room(self) -> int:
        """How many messages more there is room for."""
        return 0 if self._bytes >= self._most_bytes else self._most_messages - len(self._items)

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Add at the end; the caller has asked for room."""
        with self._filled:
            self._items.extend(deliveries)
            self._bytes += sum([delivery.size for delivery in deliveries])
            self._filled.notify()

    def take(self, most: int, gather_s: float, patience_s: float = 0.25) -> list[Delivery]:
        """What is there, `most` at most; with fewer, also what comes within `gather_s`. Empty when nothing came in time."""
        with self._filled:
            if not self._items and not self._filled.wait(patience_s):
                return []
            until = time.monotonic() + gather_s
            while len(self._items) < most and (left := until - time.monotonic()) > 0:
                self._filled.wait(left)
            batch = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._bytes -= sum([delivery.size for delivery in batch])
            return batch


class Lane:
    """One session, one queue, one worker: see the module."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        *,
        client_id: str,
        topic_kinds: Sequence[TopicKind],
        gather_s: float,
    ) -> None:
        self._settings, self._database, self._clock = settings, database, clock
        self._gather_s = gather_s
        self._queue = Queue(settings.ingest.batch_messages * _QUEUED_BATCHES, settings.ingest.queue_bytes)
        self._memory = Memory()
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name=f"{client_id}-batches", daemon=True)
        self._mark_topic = f"gridwarden-ingest/{client_id}/mark"
        user, password = find_login(settings)
        mqtt = settings.mqtt
        self.session = Session(
            Address(
                host=mqtt.host,
                port=mqtt.port,
                user=user,
                password=password,
                client_id=client_id,
                tls=mqtt.tls,
                ca_file=mqtt.ca_file,
            ),
            _subscribe(topic_kinds, may_share(settings), name_group(settings), self._mark_topic),
            clock,
            receive=self._receive,
            room=self._queue.room,
            max_payload_bytes=settings.ingest.max_payload_bytes,
        )
        self.counts = Counts()
        self._marked: tuple[int, float] | None = None  # the connection that a mark is under way on, and since when
        self.trouble: str | None = None  # database_away or disk_full while a batch cannot be committed
        self._distress = Distress(settings)
        self.caught_up_at: datetime | None = None  # what came to the broker before this instant is committed

    def start(self) -> None:
        """Begin to take messages."""
        self._worker.start()
        self.session.start()

    def begin_stop(self) -> None:
        """Take no further batch."""
        self._stop.set()

    def stop(self, timeout_s: float) -> None:
        """Finish the batch in hand and disconnect, within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._worker.join(timeout_s)
        self._distress.end()
        self.session.stop(max(0.1, deadline - time.monotonic()))

    @property
    def listening_since(self) -> datetime | None:
        """Since when messages could come without a break; None while disconnected."""
        return self.session.listening_since

    @property
    def backlog(self) -> int:
        """Messages received and not yet taken."""
        return len(self._queue)

    def mark(self) -> None:
        """Send a mark; at most one is under way on a connection, unless it has been for so long that it may be lost."""
        connection = self.session.connection
        now_s = time.monotonic()
        if self._marked is not None and self._marked[0] == connection and now_s - self._marked[1] < _MARK_LOST_S:
            return
        # Noted before it is sent: it may come back before `publish` does.
        self._marked = (connection, now_s)
        if not self.session.publish([(self._mark_topic, _write_mark(self._clock.now()))]):
            self._marked = None

    def _receive(self, messages: list[Publish], connection: int) -> None:
        """In the network thread: decoding goes on while the worker waits for the database."""
        received_at, limits = self._clock.now(), self._settings.ingest
        deliveries = []
        for topic, payload, size, mid in messages:
            try:
                name = topic.decode()
            except UnicodeDecodeError:
                name = repr(topic)
            result = (
                _read_mark(payload)
                if name == self._mark_topic
                else decode(Raw(name, payload, size, received_at), limits)
            )
            deliveries.append(Delivery(result, mid, connection, len(payload)))
        self.counts.received += sum(not isinstance(delivery.result, Mark) for delivery in deliveries)
        self._queue.put(deliveries)

    def _work(self) -> None:
        while not self._stop.is_set():
            batch = self._queue.take(self._settings.ingest.batch_messages, self._gather_s)
            if batch:
                self.session.wake()  # there is room again
                self._take(batch)

    def _take(self, batch: Sequence[Delivery]) -> None:
        """Commit, then answer. While the database is away the batch is kept and nothing is acknowledged."""
        wait_s = _RETRY_FIRST_S
        results = [result for delivery in batch if not isinstance(result := delivery.result, Mark)]
        while results:
            try:
                outcome = take_results(
                    self._database, results, self._clock.now(), self._settings.city.timezone, self._memory
                )
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                self.counts.retries += 1
                continue
            except Exception as error:
                # Nothing is known to be lost, and nothing may be acknowledged that was not committed.
                self.counts.retries += 1
                self._note_trouble(error, len(batch))
            else:
                self._note_taken(outcome)
                break
            if self._stop.wait(wait_s):
                return
            wait_s = min(wait_s * 2, _RETRY_MOST_S)
        for delivery in batch:
            if isinstance(delivery.result, Mark):
                self.caught_up_at, self._marked = delivery.result.sent_at, None
        for connection, group in groupby(batch, key=attrgetter("connection")):
            self.session.acknowledge([delivery.mid for delivery in group if delivery.mid], connection)

    def _note_taken(self, outcome: Outcome) -> None:
        if self.trouble is not None:
            log.warning("the database takes messages again, after %s", self.trouble)
            self.trouble = None
            self._distress.end()
        self._count(outcome)
        self._send_receipts(outcome.receipts)

    def _note_trouble(self, error: Exception, waiting: int) -> None:
        """Say it once in the log; an error that nobody foresaw each time, with its traceback."""
        if isinstance(error, psycopg.OperationalError):
            trouble = "disk_full" if error.sqlstate in _FULL_STATES else "database_away"
            if trouble != self.trouble:
                log.error("%s, %d messages wait: %s", trouble, waiting, str(error).strip(), extra={"trouble": trouble})
            self.trouble = trouble
            if trouble == "disk_full":
                self._distress.call()  # people are told; what is there they can read
        else:
            log.error("%d messages could not be taken", waiting, exc_info=error)

    def _count(self, outcome: Outcome) -> None:
        self.counts.batches += 1
        self.counts.taken += outcome.taken
        self.counts.repeated += outcome.repeated
        self.counts.dead += outcome.dead
        self.counts.reports += outcome.reports

    def _send_receipts(self, receipts: Sequence[Receipt]) -> None:
        """Best effort: the device of a receipt that is lost repeats its message, and is answered then."""
        if receipts:
            now = self._clock.now()
            self.session.publish([(receipt.topic, json.dumps(receipt.write(now)).encode()) for receipt in receipts])


def _write_mark(sent_at: datetime) -> bytes:
    return sent_at.isoformat().encode()


def _read_mark(payload: bytes) -> Mark:
    return Mark(datetime.fromisoformat(payload.decode()))


def _subscribe(topic_kinds: Sequence[TopicKind], shared: bool, group: str, mark_topic: str) -> Subscription:
    wanted = {f"{group if shared else ''}gridwarden/+/+/{kind}" for kind in topic_kinds} | {mark_topic}
    # The session may remember other forms from an earlier setting or version, and would deliver everything twice.
    every = {prefix + f"gridwarden/+/+/{kind}" for kind in TopicKind for prefix in ("", group)}
    return Subscription(wanted=sorted(wanted), unwanted=sorted(every - wanted))


def tune_process() -> None:
    """A thread that is back from the database must not wait 5 ms for one that decodes. And messages make no cycles, but
    those that wait in a queue had the collector go through all of them again and again, for a third of decoding's time."""
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def make_measured_lane(settings: Settings, database: Database, clock: Clock) -> Lane:
    """The lane of telemetry."""
    measured, _ = client_ids(settings)
    return Lane(
        settings,
        database,
        clock,
        client_id=measured,
        topic_kinds=MEASURED,
        gather_s=settings.ingest.batch_wait_s,
    )


def mark_lanes(lanes: Sequence["MeasuredLane"], stop: threading.Event) -> None:
    """Let each send its mark every second until `stop`."""
    while not stop.wait(_MARK_S):
        for lane in lanes:
            lane.mark()


class MeasuredLane(Protocol):
    """The lane of telemetry as an intake sees it, wherever it runs: `Lane` in this process, or ingest/apart.py."""

    @property
    def counts(self) -> Counts: ...
    @property
    def trouble(self) -> str | None: ...
    @property
    def backlog(self) -> int: ...
    @property
    def listening_since(self) -> datetime | None: ...
    @property
    def caught_up_at(self) -> datetime | None: ...
    def start(self) -> None: ...
    def mark(self) -> None: ...
    def begin_stop(self) -> None: ...
    def stop(self, timeout_s: float) -> None: ...


class Intake:
    """Takes messages from the broker into the database until it is stopped."""

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, measured: MeasuredLane | None = None
    ) -> None:
        """`measured`: the lane of telemetry, else one in this process."""
        _, happened = client_ids(settings)
        self._measured = measured or make_measured_lane(settings, database, clock)
        self._happened = Lane(settings, database, clock, client_id=happened, topic_kinds=HAPPENED, gather_s=0.0)
        self._lanes: tuple[MeasuredLane, ...] = (self._happened, self._measured)
        self._stop = threading.Event()
        self._marker = threading.Thread(
            target=mark_lanes, args=(self._lanes, self._stop), name="ingest-marks", daemon=True
        )

    def start(self) -> None:
        """Connect, now or as soon as the broker is there, and begin to take messages."""
        tune_process()
        for lane in self._lanes:
            lane.start()
        self._marker.start()

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop taking messages, finish the batches in hand (commit, receipts, acknowledgements) and disconnect.

        What was not begun stays unacknowledged: the broker delivers it to the next one that connects for this slot.
        """
        deadline = time.monotonic() + timeout_s
        self._stop.set()
        for lane in self._lanes:
            lane.begin_stop()
        for lane in self._lanes:
            lane.stop(max(0.1, deadline - time.monotonic()))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Send a message once; False while there is no connection."""
        return self._happened.session.publish([(topic, payload)], qos=qos)

    @property
    def counts(self) -> Counts:
        """Of both lanes."""
        return self._happened.counts + self._measured.counts

    @property
    def trouble(self) -> str | None:
        """database_away or disk_full while something waits for the database, else None."""
        return self._happened.trouble or self._measured.trouble

    @property
    def listening_since(self) -> datetime | None:
        """Since when messages could come without a break; None while disconnected."""
        since = [lane.listening_since for lane in self._lanes]
        return None if None in since else max(instant for instant in since if instant is not None)

    @property
    def backlog(self) -> int:
        """Messages received and not yet taken."""
        return sum(lane.backlog for lane in self._lanes)

    @property
    def caught_up_at(self) -> datetime | None:
        """Everything that came to the broker before this instant is committed; None when that is not known yet."""
        instants = [lane.caught_up_at for lane in self._lanes]
        return None if None in instants else min(instant for instant in instants if instant is not None)
