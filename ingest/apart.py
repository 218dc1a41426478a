"""The telemetry lane as a process of its own: ten thousand readings a second must not hold the interpreter that an alarm needs.

The parent writes the settings to the child's standard input and keeps it open: when it ends, because the parent leaves or
was killed, the child finishes the batch in hand and leaves. The child says on its standard output how it stands, a line of
JSON four times a second. A child that ends is started again; what it had not acknowledged waits at the broker.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from datetime import datetime
from typing import IO, Any

from ingest.mqtt import Counts, Lane, make_measured_lane, mark_lanes, tune_process
from ingest.offspring import Offspring, Process
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.log import configure_log
from kernel.settings import Settings

log = logging.getLogger(__name__)
_TELL_S = 0.25
_STOP_S = 7.0
_NICE = 5


class MeasuredProcess:
    """The parent's side: what `Lane` offers, as the child said last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._said: dict[str, Any] = {}
        self._before = Counts()  # of children that have ended
        self._child = Offspring(
            "ingest.apart",
            name="ingest-measured",
            describe=lambda: "the telemetry process",
            greet=self._greet,
            attend=self._listen,
            lost=self._lose,
        )

    def start(self) -> None:
        """Start the child, and again whenever it ends."""
        self._child.start()

    def mark(self) -> None:
        """The child sends its own marks."""

    def begin_stop(self) -> None:
        """Tell the child to take no further batch."""
        self._child.begin_stop()

    def stop(self, timeout_s: float) -> None:
        """Let it finish the batch in hand; kill it after `timeout_s`."""
        self._child.stop(timeout_s)

    @property
    def pid(self) -> int | None:
        """Process id of the child while it runs."""
        return self._child.pid

    @property
    def counts(self) -> Counts:
        """What all children have done."""
        return self._before + Counts(**self._said.get("counts", {}))

    @property
    def trouble(self) -> str | None:
        """As of a lane."""
        return self._said.get("trouble")

    @property
    def backlog(self) -> int:
        """As of a lane."""
        return int(self._said.get("backlog", 0))

    @property
    def listening_since(self) -> datetime | None:
        """As of a lane; None while no child runs."""
        return _read_instant(self._said.get("listening_since"))

    @property
    def caught_up_at(self) -> datetime | None:
        """As of a lane; None while no child runs, and it grows old when the child hangs."""
        return _read_instant(self._said.get("caught_up_at"))

    def _greet(self, process: Process) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended already, or is to
            process.stdin.write((self._settings.model_dump_json() + "\n").encode())
            process.stdin.flush()

    def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # cut off by its end
                self._said = json.loads(line)
        process.wait()

    def _lose(self) -> None:
        self._before, self._said = self.counts, {}


def _read_instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def main(incoming: IO[str], outgoing: IO[str]) -> None:
    """The child: one lane until `incoming` ends or SIGTERM comes."""
    settings = Settings.model_validate_json(incoming.readline())
    configure_log("ingest", settings.log.level)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_wait_for_end, args=(incoming, stop), daemon=True).start()
    os.nice(_NICE)  # an alarm goes before a reading
    clock = Clock.of(settings.clock)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        lane = make_measured_lane(settings, database, clock)
        tune_process()
        lane.start()
        threading.Thread(target=mark_lanes, args=([lane], stop), daemon=True).start()
        while not stop.wait(_TELL_S) and _tell(lane, outgoing):
            pass
        lane.stop(_STOP_S)
        _tell(lane, outgoing)


def _wait_for_end(incoming: IO[str], stop: threading.Event) -> None:
    incoming.read()
    stop.set()


def _tell(lane: Lane, outgoing: IO[str]) -> bool:
    """Whether somebody listens."""
    said = {
        "counts": asdict(lane.counts),
        "trouble": lane.trouble,
        "backlog": lane.backlog,
        "listening_since": lane.listening_since,
        "caught_up_at": lane.caught_up_at,
    }
    try:
        print(json.dumps(said, default=datetime.isoformat), file=outgoing, flush=True)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
