"""The embedded broker: Mosquitto with a configuration we write; amqtt for trials where Mosquitto is not installed.

Mosquitto's defaults keep 1,000 queued messages and lose acknowledged ones at a kill. Ours keep ten minutes at 1,000 messages/s by
bytes, allow two batches in flight, and save often. What survives a broker's own kill are the device's repeats (receipts).

Log-ins and rights are two files made from the database (devices/access.py). At a start they are those of the last run, so
devices are let in before the database is up; `AccessKeeper` writes them anew when something changed, and Mosquitto takes
them up without losing a connection.
"""

import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from devices.access import Access, forget_versions, read_access, read_version, write_acl, write_passwords
from devices.credential import check_password, make_password
from ingest.client import find_login
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings

log = logging.getLogger(__name__)
# The bytes bound the queue. Not 0 for "any number": Mosquitto 2.0 then ends the connection of whoever publishes something
# forbidden, so that one child that nobody registered would throw its whole gateway out again and again.
_QUEUED_MESSAGES = 10_000_000
_NOBODY = Access(logins=(), barred=(), next_end_at=None)


class BrokerError(RuntimeError):
    """The embedded broker cannot be prepared; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How to run the embedded broker. `trial`: amqtt, which is not for production."""

    command: list[str]
    trial: bool
    account: str | None


def access_dir(settings: Settings) -> Path:
    """Folder of the broker's files: `passwords`, `acl`, and of Mosquitto `mosquitto.conf` and its store."""
    return settings.data_dir / "broker"


def find_mosquitto() -> str | None:
    """Mosquitto's server, which Debian puts in /usr/sbin, often not on an ordinary user's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def prepare_broker(settings: Settings) -> Broker:
    """Write the broker's configuration, and the files of log-ins when there are none from an earlier run.

    Raises BrokerError when the settings ask for Mosquitto and it is not there, or for a certificate that is not.
    """
    program = find_mosquitto()
    if settings.mqtt.embedded == "mosquitto" and program is None:
        raise BrokerError(
            "mosquitto is not installed: `apt-get install mosquitto`, or set mqtt.embedded = 'amqtt' for a trial"
        )
    folder = access_dir(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _renew_platform(settings, folder)
    if program is None or settings.mqtt.embedded == "amqtt":
        return Broker([sys.executable, "-m", "gridwarden.amqtt_broker"], trial=True, account=None)
    config = folder / "mosquitto.conf"
    _write_private(config, write_configuration(settings, folder))
    # Started as root Mosquitto drops to an account that could not read a data directory inside root's home: stay who we are.
    return Broker([program, "-c", str(config)], trial=False, account=pwd.getpwuid(os.geteuid()).pw_name)


def write_access(settings: Settings, access: Access, folder: Path) -> bool:
    """Write `passwords` and `acl` into `folder`, readable by us alone; False when they said the same already.

    The platform's line is kept while its password is the same: a new salt would look like a change.
    """
    user, key = find_login(settings)
    old = _read_passwords(folder)
    known = old.get(user, "")
    platform = {user: known if check_password(key, known) else make_password(key)}
    files = {"passwords": write_passwords(access, platform), "acl": write_acl(access, user)}
    changed = [name for name, text in files.items() if not _holds(folder / name, text)]
    for name in changed:
        _write_private(folder / name, files[name])
    return bool(changed)


def _renew_platform(settings: Settings, folder: Path) -> None:
    """Devices' lines of the last run stay; the platform's is the settings'."""
    if not (folder / "passwords").exists() or not (folder / "acl").exists():
        write_access(settings, _NOBODY, folder)
        return
    user, key = find_login(settings)
    lines = _read_passwords(folder)
    if not check_password(key, lines.get(user, "")) or f"user {user}\n" not in (folder / "acl").read_text():
        write_access(settings, _NOBODY, folder)  # the platform goes by another name now: begin anew


def _read_passwords(folder: Path) -> dict[str, str]:
    path = folder / "passwords"
    lines = path.read_text().splitlines() if path.exists() else []
    return {user: password for user, _, password in (line.partition(":") for line in lines) if password}


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all: the broker may read at any moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.rename(path)


def write_configuration(settings: Settings, folder: Path) -> str:
    """mosquitto.conf: the plain listener for the platform and whoever is near it, and one over TLS where that is set.

    Raises BrokerError naming a file that is missing.
    """
    return f"""# Written by gridwarden at every start.
listener {settings.mqtt.port} {settings.mqtt.host}
{_tls_listener(settings)}allow_anonymous false
password_file {folder / "passwords"}
acl_file {folder / "acl"}
user {pwd.getpwuid(os.geteuid()).pw_name}
persistence true
persistence_location {folder}/
autosave_interval 5
max_inflight_messages {settings.ingest.batch_messages * 3}
max_queued_messages {_QUEUED_MESSAGES}
max_queued_bytes {settings.mqtt.queue_bytes}
message_size_limit 2000000
max_keepalive 600
log_dest stderr
log_type error
log_type warning
connection_messages false
"""


def _tls_listener(settings: Settings) -> str:
    mqtt = settings.mqtt
    if not mqtt.tls_cert:
        return ""
    for name in ("tls_cert", "tls_key", "tls_client_ca", "tls_crl"):
        path = getattr(mqtt, name)
        if (path and not Path(path).is_file()) or (name == "tls_key" and not path):
            raise BrokerError(f"mqtt.{name}: there is no file {path!r}")
    # A device's client id is its log-in, whatever it says: none can take another one's session over.
    lines = [f"listener {mqtt.tls_port} {mqtt.tls_host}", f"certfile {Path(mqtt.tls_cert).absolute()}",
             f"keyfile {Path(mqtt.tls_key).absolute()}", "tls_version tlsv1.2", "use_username_as_clientid true"]  # fmt: skip
    if mqtt.tls_client_ca:
        lines += [
            f"cafile {Path(mqtt.tls_client_ca).absolute()}",
            "require_certificate true",
            "use_identity_as_username true",
        ]
        if mqtt.tls_crl:
            lines.append(f"crlfile {Path(mqtt.tls_crl).absolute()}")
    return "\n".join([*lines, ""])


class AccessKeeper:
    """Keeps a broker's files of log-ins and rights as the register says: looks every `every_s`, writes what changed, and
    then calls `reload`. A database that is away delays it, nothing else."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], None],
        *,
        folder: Path | None = None,
        every_s: float = 1.0,
    ) -> None:
        self._settings = settings
        self._clock = Clock.of(settings.clock)
        self._reload = reload
        self._folder = folder or access_dir(settings)
        self._every_s = every_s
        self._seen: tuple[int, int] | None = None
        self._next_end_at: datetime | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-access", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        with contextlib.closing(Database(self._settings, DbRole.WORKER, wait_s=3.0)) as database:
            while not self._stop.is_set():
                try:
                    self.look(database)
                except psycopg.Error as error:
                    log.warning("the broker's log-ins are not renewed: %s", str(error).strip())
                except Exception:
                    log.exception("the broker's log-ins are not renewed")
                self._stop.wait(self._every_s)

    def look(self, database: Database) -> bool:
        """Look once; whether the files changed."""
        now = self._clock.now()
        with database.transaction("*") as connection:
            version = read_version(connection)
            if version == self._seen and (self._next_end_at is None or now < self._next_end_at):
                return False
            access = read_access(connection, now)
            forget_versions(connection)
        changed = write_access(self._settings, access, self._folder)
        if changed:
            log.info("the broker's log-ins are renewed", extra={"logins": len(access.logins)})
            self._reload()
        self._seen, self._next_end_at = version, access.next_end_at
        return changed


def wait_for_access(settings: Settings, user: str, child: str = "", timeout_s: float = 5.0) -> bool:
    """Wait until the embedded broker, when it runs, knows a log-in (or that a gateway's `child` is one); False after
    `timeout_s`, and at once when no such broker runs."""
    folder, deadline = access_dir(settings), time.monotonic() + timeout_s
    file, mark = (folder / "acl", f"/{child}/+\n") if child else (folder / "passwords", f"\n{user}:")
    if settings.mqtt.embedded == "off" or not file.exists():
        return False
    try:
        socket.create_connection((settings.mqtt.host, settings.mqtt.port), timeout=1.0).close()
    except OSError:
        return False
    while time.monotonic() < deadline:
        if mark in file.read_text():
            time.sleep(0.5)  # the file is written, then the broker told
            return True
        time.sleep(0.1)
    return False


def reload_process(pid: int | None) -> None:
    """Tell a Mosquitto to read its files anew. One that is not there will when it starts."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


def wait_for_broker(settings: Settings, timeout_s: float = 15.0) -> None:
    """Wait until the broker's port answers.

    Raises BrokerError naming the address after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((settings.mqtt.host, settings.mqtt.port), timeout=1.0):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                address = f"{settings.mqtt.host}:{settings.mqtt.port}"
                raise BrokerError(f"no broker answers at {address} after {timeout_s:.0f} s: {error}") from error
            time.sleep(0.1)
