"""Child processes that live and die with their supervisor, and are started again when they end on their own."""

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 10_000_000
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: nothing may be imported between fork and exec


@dataclass(kw_only=True)
class Child:
    """One supervised process. `stop_signal` asks it to leave in good order; it also arrives when the supervisor dies."""

    name: str
    command: list[str]
    account: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    prepare: Callable[[], object] | None = None  # run before every start, e.g. to mend a folder
    log_file: Path | None = None  # where its output goes; None: where the supervisor's goes

    _process: subprocess.Popen[bytes] | None = None
    _started_at: float = 0.0
    _failures: int = 0
    _next_start_at: float = 0.0
    restarts: int = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def age_s(self) -> float:
        """Seconds since it was started last."""
        return time.monotonic() - self._started_at

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs or when it was never started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start it now."""
        if self.prepare is not None:
            self.prepare()
        parent = os.getpid()
        output = _open_log(self.log_file) if self.log_file else None

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(self.stop_signal))
            if os.getppid() != parent:  # the supervisor died before prctl took hold
                os._exit(1)

        self._process = subprocess.Popen(
            self.command,
            user=self.account if os.geteuid() == 0 else None,
            cwd="/" if self.account else None,
            env={**os.environ, **self.env},
            preexec_fn=die_with_parent,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which stops the others in order
            stdout=output,
            stderr=output,
        )
        if output is not None:
            output.close()
        self._started_at = time.monotonic()
        log.info("started %s", self.name, extra={"child": self.name, "pid": self._process.pid})

    def tend(self) -> None:
        """Start it again when it has ended: at once the first time, then with growing pauses up to 10 s."""
        if self._process is None or self._process.poll() is None:
            return
        now = time.monotonic()
        if self._next_start_at == 0.0:
            if now - self._started_at > 30.0:
                self._failures = 0
            self._failures += 1
            pause_s = min(10.0, 0.2 * 2 ** (self._failures - 1))
            self._next_start_at = now + pause_s
            log.warning(
                "%s ended with %s; starting again in %.1f s", self.name, self._process.returncode, pause_s,
                extra={"child": self.name},
            )  # fmt: skip
        elif now >= self._next_start_at:
            self._next_start_at = 0.0
            self.restarts += 1
            try:
                self.start()
            except OSError as error:
                log.error("cannot start %s: %s", self.name, error)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask it to leave; kill it after `timeout_s`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not leave within %.0f s and is killed", self.name, timeout_s)
            self._process.kill()
            self._process.wait()


def _open_log(path: Path) -> BinaryIO:
    """The log to append to; begun anew when it has grown large."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    large = path.exists() and path.stat().st_size > _LOG_BYTES
    return path.open("wb" if large else "ab")
