"""A process of ours as its parent keeps it: started again whenever it ends, and gone when its standard input ends."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]

_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 5.0
_LASTED_S = 30.0
"""One that ran for so long did not fail at its start: the next is not made to wait."""


class Offspring:
    """Runs `python -m module` again and again, in a thread of its own.

    `greet` is called with `lock` held before anybody else can write to the new process; `attend` until it returns, which is
    its end: what still runs then is killed; `lost` when it is gone. `describe` names it for the log.
    """

    def __init__(
        self,
        module: str,
        *,
        name: str,
        describe: Callable[[], str],
        greet: Callable[[Process], None],
        attend: Callable[[Process], None],
        lost: Callable[[], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", module]
        self._describe = describe
        self._greet, self._attend, self._lost = greet, attend, lost
        self._environment = environment or {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.lock = threading.RLock()
        self.process: Process | None = None
        """The one that runs, or was run last; read and write to it with `lock` held."""
        self.restarts = 0

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._thread.start()

    @property
    def stopping(self) -> bool:
        """It was told to leave."""
        return self._stop.is_set()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else None

    def begin_stop(self) -> None:
        """Tell it to leave."""
        with self.lock:
            self._stop.set()
            if self.process is not None and self.process.stdin is not None:
                with contextlib.suppress(OSError):
                    self.process.stdin.close()

    def stop(self, timeout_s: float) -> None:
        """Let it finish what it has in hand; kill it after `timeout_s`."""
        self.begin_stop()
        self._thread.join(timeout_s)
        process = self.process
        if self._thread.is_alive() and process is not None:
            log.warning("%s did not leave within %.0f s and is killed", self._describe(), timeout_s)
            process.kill()
            self._thread.join(1.0)

    def _run(self) -> None:
        pause_s = _PAUSE_FIRST_S
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._live()
            except OSError as error:
                log.error("%s could not be started: %s", self._describe(), error)
            except Exception:  # whatever it told: the next one is started all the same
                log.exception("%s: what it told was not understood", self._describe())
            self._lost()
            if self._stop.is_set():
                return
            self.restarts += 1
            pause_s = _PAUSE_FIRST_S if time.monotonic() - began_s > _LASTED_S else min(pause_s * 2, _PAUSE_MOST_S)
            log.warning("%s ended; starting again in %.1f s", self._describe(), pause_s)
            self._stop.wait(pause_s)

    def _live(self) -> None:
        """One process from its start to its end."""
        with self.lock:
            if self._stop.is_set():
                return
            process = self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C goes to the parent alone
                env={**os.environ, **self._environment},
            )
            assert process.stdin is not None and process.stdout is not None
            try:
                self._greet(process)
            except BaseException:
                process.kill()
                process.wait()
                raise
        try:
            self._attend(process)
        finally:
            process.kill()
            process.wait()
            with self.lock, contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()
