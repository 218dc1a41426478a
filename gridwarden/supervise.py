"""`gridwarden up`: broker, database and the four roles, each a process of its own; any of them may be killed at any time."""

import fcntl
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from gridwarden.broker import AccessKeeper, prepare_broker, reload_process, wait_for_broker
from gridwarden.postgres import prepare_postgres, wait_for_postgres
from gridwarden.process import Child
from kernel.clock import Clock
from kernel.db import DbRole, conninfo
from kernel.migration import migrate
from kernel.settings import Settings

log = logging.getLogger(__name__)
ROLES = ("ingest", "dispatch", "vision", "web")


class AlreadyRunningError(RuntimeError):
    """Another supervisor holds this data directory."""


class Supervisor:
    """Starts children in order, tends them until told to stop, and stops them in reverse order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.children: list[Child] = []
        self._broker: Child | None = None
        self._trial_broker = False
        self._access: AccessKeeper | None = None
        self._stopping = False

    def add(self, child: Child) -> None:
        """Start a child and tend it from now on."""
        child.start()
        self.children.append(child)

    def start_database(self) -> list[str]:
        """The embedded PostgreSQL when no DSN is set; then the migrations. Names of those applied."""
        if not self.settings.database.dsn:
            server = prepare_postgres(self.settings)
            self.add(
                Child(name="postgres", command=server.command, account=server.account, stop_signal=signal.SIGINT,
                      prepare=lambda: prepare_postgres(self.settings), log_file=self._log_file("postgres"))
            )  # fmt: skip
            wait_for_postgres(self.settings)
        return migrate(self.settings, Clock.of(self.settings.clock).now())

    def start_broker(self) -> None:
        """The embedded broker unless mqtt.embedded is off."""
        if self.settings.mqtt.embedded == "off":
            return
        broker = prepare_broker(self.settings)
        if broker.trial:
            log.warning(
                "amqtt serves as broker: for trials only (it redelivers nothing to a resumed session); install mosquitto"
            )
        self._broker = Child(name="broker", command=broker.command, log_file=self._log_file("broker"))
        self._trial_broker = broker.trial
        self.add(self._broker)
        wait_for_broker(self.settings)

    def start_access(self) -> None:
        """Keep the broker's log-ins as the register has them; needs the database. One that is not ours reloads by itself."""
        if self._broker is not None:
            self._access = AccessKeeper(self.settings, self._reload_broker)
        elif self.settings.mqtt.access_dir:
            folder = Path(self.settings.mqtt.access_dir)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._access = AccessKeeper(self.settings, lambda: None, folder=folder)
        if self._access is not None:
            self._access.start()

    def _reload_broker(self) -> None:
        if self._broker is None or self._trial_broker:
            return  # amqtt looks at its files by itself
        if self._broker.age_s < 2.0:  # before it listens for signals, a SIGHUP would end it
            time.sleep(2.0)
        reload_process(self._broker.pid)

    def start_roles(self, roles: tuple[str, ...] = ROLES) -> None:
        """The roles, each by `python -m gridwarden.role`."""
        for role in roles:
            self.add(Child(name=role, command=[sys.executable, "-m", "gridwarden.role", role]))

    def _log_file(self, name: str) -> Path:
        return self.settings.data_dir / "log" / f"{name}.log"

    def tend(self) -> None:
        """Look at every child once."""
        for child in self.children:
            child.tend()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Tend the children until SIGTERM, SIGINT or `until()`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stopping and not until():
            self.tend()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the roles, then broker and database."""
        if self._access is not None:
            self._access.stop()
        for child in reversed(self.children):
            child.stop()

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True


def lock_data_dir(settings: Settings, stack: ExitStack) -> None:
    """One supervisor per data directory.

    Raises AlreadyRunningError.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = settings.data_dir / "supervisor.lock"
    file = stack.enter_context(lock.open("w"))  # held until the stack closes
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunningError(f"gridwarden is already running on {settings.data_dir}") from None


@contextmanager
def supervised(settings: Settings) -> Iterator[Supervisor]:
    """A supervisor with database and broker running; everything is stopped at the end."""
    with ExitStack() as stack:
        lock_data_dir(settings, stack)
        supervisor = Supervisor(settings)
        stack.callback(supervisor.stop)
        supervisor.start_broker()
        supervisor.start_database()
        supervisor.start_access()
        yield supervisor


@contextmanager
def database_running(settings: Settings) -> Iterator[list[str]]:
    """The migrated database for one command: the one that runs already, or the embedded one for as long as it takes.

    Yields the names of the migrations that had to be applied.
    """
    try:
        psycopg.connect(conninfo(settings, DbRole.OWNER)).close()
    except psycopg.OperationalError:
        if settings.database.dsn:
            raise
    else:
        yield migrate(settings, Clock.of(settings.clock).now())
        return
    with ExitStack() as stack:
        lock_data_dir(settings, stack)
        supervisor = Supervisor(settings)
        stack.callback(supervisor.stop)
        yield supervisor.start_database()
