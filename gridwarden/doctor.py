"""What is wrong and how to mend it. Each check answers one question and disturbs nothing."""

import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import psycopg

from dispatch.calendar import CHINA
from dispatch.calendar_table import missing_years, read_years
from gridwarden.broker import find_mosquitto
from ingest.client import make_client
from ingest.house import read_storage
from kernel.clock import Clock
from kernel.db import DbRole, conninfo
from kernel.migration import MigrationError, check_schema
from kernel.settings import Settings

_LAG_H = 4  # an hour is summed a quarter of an hour after its end


class Level(StrEnum):
    """How bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One answer: what was looked at, how it is, and what to do when it is not well."""

    check: str
    level: Level
    says: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a person would mend things. A check that breaks is itself a finding."""
    findings: list[Finding] = []
    for name, check in CHECKS:
        try:
            findings += check(settings)
        except Exception as error:
            says = f"could not be checked: {type(error).__name__}: {error}"
            findings.append(Finding(check=name, level=Level.FAIL, says=says, mend="please report this"))
    return findings


def check_data_dir(settings: Settings) -> list[Finding]:
    """Is the data directory there, ours, and is there room on its disk?"""
    folder = settings.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    level = Level.FAIL if free < 500e6 else Level.WARN if free < 5e9 else Level.OK
    mend = "free some room: below 0.5 GB the database stops taking writes" if level is not Level.OK else ""
    disk = Finding(check="disk", level=level, says=f"{free / 1e9:.1f} GB free for {folder}", mend=mend)
    if folder.exists() and (folder.stat().st_mode & 0o077) and (folder / "secrets").exists():
        loose = (folder / "secrets").stat().st_mode & 0o077
        if loose:
            return [disk, Finding(check="secrets", level=Level.FAIL, says="others can read the secrets",
                                  mend=f"chmod -R go-rwx {folder / 'secrets'}")]  # fmt: skip
    return [disk]


def check_clock(settings: Settings) -> list[Finding]:
    """Is the time believable, and does the kernel clock run as the world does?"""
    now = datetime.now(UTC)
    if now.year < 2025:
        return [
            Finding(
                check="clock",
                level=Level.FAIL,
                says=f"the system clock says {now:%Y-%m-%d}",
                mend="set the clock (NTP): time limits and sessions depend on it",
            )
        ]
    if settings.clock.offset_s or settings.clock.speed != 1.0:
        says = (
            f"the kernel clock is shifted by {settings.clock.offset_s} s and runs {settings.clock.speed} times as fast"
        )
        return [
            Finding(
                check="clock",
                level=Level.WARN,
                says=says,
                mend="meant for drills only: remove clock.offset_s and clock.speed",
            )
        ]
    return [Finding(check="clock", level=Level.OK, says=f"{now:%Y-%m-%d %H:%M:%S} UTC, zone {settings.city.timezone}")]


def check_database(settings: Settings) -> list[Finding]:
    """Does PostgreSQL answer, and does its schema fit this version?"""
    try:
        with psycopg.connect(conninfo(settings, DbRole.WORKER), connect_timeout=3) as connection:
            row = connection.execute("SELECT current_setting('server_version')").fetchone()
            version = row[0] if row else "?"
            hyper = connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    except psycopg.OperationalError as error:
        kind = f"at {settings.database.dsn.split('@')[-1]}" if settings.database.dsn else "(embedded)"
        mend = (
            "start PostgreSQL there, or correct database.dsn"
            if settings.database.dsn
            else "start it with `gridwarden up`"
        )
        reason = str(error).strip().splitlines()[0].removeprefix("connection is bad: ")
        return [
            Finding(
                check="database", level=Level.FAIL, says=f"the database {kind} does not answer: {reason}", mend=mend
            )
        ]
    storage = "TimescaleDB" if hyper is not None else "native partitions"
    findings = [Finding(check="database", level=Level.OK, says=f"PostgreSQL {version}, readings in {storage}")]
    try:
        check_schema(settings, DbRole.WORKER)
    except MigrationError as error:
        findings.append(Finding(check="schema", level=Level.FAIL, says=str(error), mend="`gridwarden db migrate`"))
    return findings


def check_storage(settings: Settings) -> list[Finding]:
    """How are readings stored, are there partitions for the days to come, are hours summed?"""
    try:
        with psycopg.connect(conninfo(settings, DbRole.WORKER), connect_timeout=3) as connection:
            if connection.execute("SELECT to_regclass('reading_rollup')").fetchone() == (None,):
                return []  # the schema's own finding says what to do
            found = read_storage(connection)
    except psycopg.OperationalError:
        return []  # so does the database's
    size = f"{found.raw_bytes / 1e9:.2f} GB raw, {found.hour_bytes / 1e9:.2f} GB by the hour"
    if found.timescale:
        return [Finding(check="storage", level=Level.OK, says=f"TimescaleDB, {found.parts} chunks from {found.oldest_day}, {size}")]  # fmt: skip
    says = f"{found.parts} daily partitions from {found.oldest_day} to {found.newest_day}, {size}"
    today = Clock.of(settings.clock).now().date()
    if found.unplaced or found.newest_day is None or found.newest_day < today:
        return [Finding(check="storage", level=Level.WARN, says=f"{says}; readings of days without a partition stand in the default one",
                        mend="housekeeping makes partitions: is ingest running? `gridwarden run ingest`, and look at its log")]  # fmt: skip
    if found.summed_until_at is None:
        return [Finding(check="storage", level=Level.OK, says=f"{says}; no hour summed yet")]
    lag_h = (Clock.of(settings.clock).now() - found.summed_until_at).total_seconds() / 3600
    says += f"; hours summed until {found.summed_until_at:%Y-%m-%d %H:%M} UTC"
    if lag_h > _LAG_H:
        return [Finding(check="storage", level=Level.WARN, says=f"{says}, {lag_h:.0f} h behind",
                        mend="it catches up while ingest runs; if not, its log says why")]  # fmt: skip
    return [Finding(check="storage", level=Level.OK, says=says)]


def check_calendar(settings: Settings) -> list[Finding]:
    """Is there a table of workdays for this year, and for the next when it is near?"""
    today = Clock.of(settings.clock).now().astimezone(CHINA).date()
    try:
        with psycopg.connect(conninfo(settings, DbRole.WORKER), connect_timeout=3) as connection:
            known = [year.year for year in read_years(connection)]
    except psycopg.Error:
        return []  # the database's own check has said it
    missing = missing_years(known, today)
    if not missing:
        return [Finding(check="calendar", level=Level.OK, says=f"workdays of {', '.join(map(str, known))} are known")]
    level = Level.FAIL if today.year in missing else Level.WARN
    says = f"no table of workdays for {', '.join(map(str, missing))}: limits in work hours and workdays cannot be counted into it"
    mend = "when the State Council has published it: `gridwarden calendar import FILE --year Y --source S`"
    return [Finding(check="calendar", level=level, says=says, mend=mend)]


def check_broker(settings: Settings) -> list[Finding]:
    """Does the broker answer, and does it take our log-in?"""
    address = f"{settings.mqtt.host}:{settings.mqtt.port}"
    findings = []
    if settings.mqtt.embedded in ("auto", "amqtt") and (find_mosquitto() is None or settings.mqtt.embedded == "amqtt"):
        findings.append(Finding(check="broker kind", level=Level.WARN, says="amqtt serves as broker, which is for trials only: it loses messages",
                                mend="`apt-get install mosquitto`, then restart"))  # fmt: skip
    outcome: list[str] = []
    client = make_client(settings, "gridwarden-doctor")
    client.on_connect = lambda *arguments: outcome.append(str(arguments[3]))
    client.connect_timeout = 3.0
    try:
        client.connect(settings.mqtt.host, settings.mqtt.port)
        for _ in range(30):
            client.loop(0.1)
            if outcome:
                break
        client.disconnect()
    except OSError as error:
        mend = (
            "start the broker, or correct mqtt.host and mqtt.port"
            if settings.mqtt.embedded == "off"
            else "start it with `gridwarden up`"
        )
        return [
            *findings,
            Finding(check="broker", level=Level.FAIL, says=f"no broker answers at {address}: {error}", mend=mend),
        ]
    if outcome != ["Success"]:
        says = f"the broker at {address} refuses the log-in {settings.mqtt.username!r}: {outcome[0] if outcome else 'no answer'}"
        return [
            *findings,
            Finding(check="broker", level=Level.FAIL, says=says, mend="correct mqtt.username and mqtt.password"),
        ]
    return [
        *findings,
        Finding(check="broker", level=Level.OK, says=f"{address} takes the log-in {settings.mqtt.username!r}"),
    ]


def check_logins(settings: Settings) -> list[Finding]:
    """Can every device log in, by a key of its own or its gateway's?"""
    now = Clock.of(settings.clock).now()
    try:
        with psycopg.connect(conninfo(settings, DbRole.WORKER), connect_timeout=3) as connection:
            row = connection.execute(
                """
                SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
                    SELECT FROM device_credential c WHERE c.device_id IN (d.id, d.parent_id) AND c.revoked_at IS NULL
                        AND (c.valid_until IS NULL OR c.valid_until > %s)))
                FROM device d WHERE d.enabled AND d.kind <> 'camera'
                """,
                (now,),
            ).fetchone()
    except psycopg.Error:
        return []  # the database's own check has said it
    devices, locked_out = (row[0], row[1]) if row else (0, 0)
    if locked_out:
        return [Finding(check="log-ins", level=Level.WARN, says=f"{locked_out} of {devices} devices have no valid key, nor has their gateway",
                        mend="`gridwarden device rotate-key CODE`; which: `gridwarden device check CODE`")]  # fmt: skip
    return [Finding(check="log-ins", level=Level.OK, says=f"{devices} devices can log in")]


def check_ways(settings: Settings) -> list[Finding]:
    """Do the other ways in answer that the settings open?"""
    findings = []
    for name, port in (("ThingsBoard", settings.ways.thingsboard_port), ("SL 651", settings.ways.sl651_port)):
        if port == 0:
            continue
        address = f"{settings.ways.host}:{port}"
        try:
            socket.create_connection((settings.ways.host, port), timeout=3).close()
        except OSError as error:
            findings.append(Finding(check="way in", level=Level.FAIL, says=f"nothing takes {name} at {address}: {error}",
                                    mend="start it with `gridwarden up`; if another program has the port, its log says so"))  # fmt: skip
        else:
            findings.append(Finding(check="way in", level=Level.OK, says=f"{name} is taken at {address}"))
    return findings


def check_model(settings: Settings) -> list[Finding]:
    """Is the detector there, and does it load?"""
    path = settings.vision.model
    if not path.exists():
        return [Finding(check="model", level=Level.FAIL, says=f"no model at {path}: no camera is watched",
                        mend="restore the file, set vision.model, or `gridwarden vision add-model`")]  # fmt: skip
    from vision.detect import ModelError, open_detector

    try:
        detector = open_detector(settings.vision)
    except ModelError as error:
        return [
            Finding(
                check="model",
                level=Level.FAIL,
                says=f"{path.name} cannot be used: {error}",
                mend="set vision.model to one that fits",
            )
        ]
    if detector.description.rendered_only:
        return [Finding(check="model", level=Level.WARN, says=f"{path.name} knows rendered scenes only, not your streets",
                        mend="`gridwarden vision add-model FILE --sha256 H` installs a real one (docs/vision-model.md)")]  # fmt: skip
    sees = ", ".join(sorted(detector.labels))
    return [Finding(check="model", level=Level.OK, says=f"{path.name} on {settings.vision.device} sees {sees}")]


def check_cameras(settings: Settings) -> list[Finding]:
    """Can each enabled camera be opened?"""
    from ingest.address import AddressError
    from ingest.rtsp import CaptureError, probe

    try:
        with psycopg.connect(conninfo(settings, DbRole.WORKER), connect_timeout=3) as connection:
            rows = connection.execute(
                "SELECT d.code, d.name, c.url FROM camera c JOIN device d ON d.id = c.device_id WHERE d.enabled ORDER BY d.code"
            ).fetchall()
    except psycopg.Error:
        return [
            Finding(
                check="cameras",
                level=Level.WARN,
                says="not looked at: their addresses are in the database",
                mend="mend the database first",
            )
        ]
    findings = []
    for code, name, url in rows:
        try:
            probe(
                url,
                allowed_networks=settings.camera.allowed_networks,
                transport=settings.camera.transport,
                timeout_s=settings.camera.open_timeout_s,
            )
        except (AddressError, CaptureError) as error:
            says, mend = (
                f"{name} ({code}): {error}",
                "check its power, network and address: `gridwarden device list --kind camera`",
            )
            findings.append(Finding(check="camera", level=Level.FAIL, says=says, mend=mend))
    if not findings:
        findings.append(
            Finding(
                check="cameras",
                level=Level.OK,
                says=f"{len(rows)} cameras deliver pictures" if rows else "none registered",
            )
        )
    return findings


def check_web(settings: Settings) -> list[Finding]:
    """Are the front ends built, and does the web server answer?"""
    findings = []
    if not (Path(settings.web.dist_dir) / "wall.html").exists():
        findings.append(
            Finding(check="front ends", level=Level.FAIL, says="the pages are not built", mend="run scripts/setup")
        )
    if not (settings.evidence.font_dir / "unicode.json").exists():
        findings.append(
            Finding(
                check="font",
                level=Level.WARN,
                says="no Chinese font: snapshots are labelled in English only",
                mend="run scripts/setup",
            )
        )
    url = f"{'https' if settings.web.tls_cert else 'http'}://{settings.web.host}:{settings.web.port}/healthz"
    try:
        urllib.request.urlopen(url, timeout=3).close()
        findings.append(Finding(check="web", level=Level.OK, says=f"{settings.public_url} answers"))
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        findings.append(
            Finding(
                check="web",
                level=Level.WARN,
                says=f"the web server does not answer at {url}: {reason}",
                mend="start it with `gridwarden up`",
            )
        )
    return findings


CHECKS: tuple[tuple[str, Callable[[Settings], list[Finding]]], ...] = (
    ("disk", check_data_dir),
    ("clock", check_clock),
    ("database", check_database),
    ("storage", check_storage),
    ("calendar", check_calendar),
    ("broker", check_broker),
    ("log-ins", check_logins),
    ("ways in", check_ways),
    ("model", check_model),
    ("cameras", check_cameras),
    ("web", check_web),
)
