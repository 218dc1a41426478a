"""The drills about messages: each is one function that disturbs a running system under load and judges what is left.

`scripts/drill NAME` runs one at full length and writes docs/drills/NAME.md; tests/flows/test_drills.py runs their short forms.
"""

import argparse
import asyncio
import os
import platform
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gridwarden.postgres import prepare_postgres, remove_postgres, wait_for_postgres
from kernel.db import Database, DbRole, conninfo
from kernel.settings import Settings
from tests.drills.field import Field, MemoryWatch, register_field
from tests.drills.mqtt_socket import Connected, connect_many
from tests.drills.traffic import SETTINGS, Faults, Traffic, name_devices
from tests.drills.verdict import Verdict, judge
from tests.flows.conftest import System, running_system
from tests.waiting import wait_until

ENVIRONMENT = {"GRIDWARDEN_INGEST__RESTART_GRACE_S": "5"}
RECOVERED_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How long and how hard."""

    duration_s: float
    rate_per_s: float
    disturbances: int = 1
    devices: int = 0


def _settle(field: Field, verdict_figures: dict[str, object], timeout_s: float = 90.0) -> None:
    """Wait until nothing is unanswered, and say how long that took after the last disturbance."""
    began = time.monotonic()
    deadline = began + timeout_s
    while (field.unanswered or field.unacknowledged) and time.monotonic() < deadline:
        time.sleep(0.1)
    verdict_figures["until everything was answered, after the load"] = f"{time.monotonic() - began:.1f} s"


def _wait_for_drain(system: System, field: Field, timeout_s: float = 60.0) -> None:
    """Telemetry has no receipt: wait until the number of stored messages stands still and holds all that was acknowledged."""
    wanted = sum(one.acknowledged and one.refusal is None for one in field.sent.values())
    deadline = time.monotonic() + timeout_s
    with closing(Database(system.settings, DbRole.WORKER)) as database:
        while time.monotonic() < deadline:
            with database.transaction("*") as connection:
                row = connection.execute("SELECT count(*) FROM device_message").fetchone()
            if row is not None and row[0] >= wanted:
                return
            time.sleep(0.5)


def _report(verdict: Verdict, recovered_s: list[float]) -> None:
    if recovered_s:
        verdict.check("recovered within 30 s each time", (f"{s:.1f} s" for s in recovered_s if s > RECOVERED_S))
        verdict.figures["recovered after, median and longest"] = (
            f"{sorted(recovered_s)[len(recovered_s) // 2]:.1f} s, {max(recovered_s):.1f} s"
        )


class Probe:
    """Asks the whole path, every so often: a state message of one device, and how long until its receipt."""

    def __init__(self, field: Field, code: str) -> None:
        self.field, self.code = field, code

    def recovery_s(self, timeout_s: float = 60.0) -> float:
        """Seconds until a message sent now is answered."""
        began = time.monotonic()
        sent = self.field.say(self.code, "river_sluice", "state", {"level_m": 1.5})
        wait_until(lambda: sent.answered_s is not None, "the platform answers again", timeout_s)
        return time.monotonic() - began


def kill_repeatedly(system: System, victim: str, size: Size, seed: int) -> Verdict:
    """SIGKILL one process again and again while the field speaks."""
    prefix = f"k{victim[:2]}{seed}"
    devices = name_devices(prefix)
    login = register_field(system, f"{prefix}-gateway", devices, SETTINGS)
    field = Field(system, login, prefix)
    memory = MemoryWatch(system)
    memory.start()
    traffic = Traffic(field, devices, seed=seed, faults=Faults(twice=0.02))
    probe = Probe(field, traffic.rivers[0])
    recovered: list[float] = []
    every_s = size.duration_s / (size.disturbances + 1)

    def disturb(gone_s: float) -> None:
        if len(recovered) < size.disturbances and gone_s > every_s * (len(recovered) + 1):
            system.kill(victim)
            recovered.append(probe.recovery_s())

    try:
        # On a busy machine a recovery may take the time that the next kill was planned in.
        traffic.run(size.duration_s, size.rate_per_s, disturb, lambda: len(recovered) >= size.disturbances)
        figures: dict[str, object] = {"kills": len(recovered)}
        _settle(field, figures)
        if victim != "broker":
            _wait_for_drain(system, field)
        wait_until(system.is_ready, "the system is ready", 30)
        time.sleep(7)  # grace and a sweep: a false alarm would come now
        verdict = judge(system, field, traffic.alarmed, broker_died=victim == "broker")
        verdict.check(
            f"{size.disturbances} kills", [] if len(recovered) == size.disturbances else [str(len(recovered))]
        )
        _report(verdict, recovered)
        verdict.figures |= figures | {"ingest, most memory": f"{memory.stop() / 1e6:.0f} MB"}
        return verdict
    finally:
        field.stop()


def disorder(system: System, size: Size, seed: int) -> Verdict:
    """Doubles, disorder, a day late, clocks off, impossible years and poison, all at once."""
    prefix = f"dis{seed}"
    devices = name_devices(prefix)
    login = register_field(system, f"{prefix}-gateway", devices, SETTINGS)
    field = Field(system, login, prefix)
    faults = Faults(twice=0.1, disordered=0.1, day_late=0.05, impossible=0.01, poison=0.02, skewed=True)
    traffic = Traffic(field, devices, seed=seed, faults=faults)
    try:
        traffic.run(size.duration_s, size.rate_per_s)
        figures: dict[str, object] = {"poison messages": traffic.poisoned}
        _settle(field, figures)
        _wait_for_drain(system, field)
        verdict = judge(system, field, traffic.alarmed, ahead=traffic.ahead | traffic.unset)
        with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
            topics = [f"gridwarden/river_sluice/{code}/%" for code in traffic.rivers]
            row = connection.execute("SELECT count(*) FROM dead_letter WHERE topic LIKE ANY (%s)", (topics,)).fetchone()
            dead = int(row[0]) if row else 0
            offsets = dict(
                connection.execute(
                    "SELECT d.code, (s.clock ->> 'offset_s')::float FROM device_state s JOIN device d ON d.id = s.device_id"
                    " WHERE d.code = ANY (%s)",
                    (sorted(traffic.ahead | traffic.behind),),
                ).fetchall()
            )
        refused = sum(one.refusal is not None for one in field.sent.values())
        verdict.check(
            "dead letters are the poison and the impossible, repeats counted",
            [] if dead >= traffic.poisoned + refused else [f"{dead} of {traffic.poisoned + refused}"],
        )
        wanted = dict.fromkeys(traffic.ahead, -3600.0) | dict.fromkeys(traffic.behind, 3600.0)
        verdict.check(
            "clocks that are off are measured",
            (f"{code}: {offsets.get(code)}" for code, s in wanted.items() if abs(offsets.get(code, 0.0) - s) > 30),
        )
        verdict.figures |= figures | {"dead letters": dead}
        return verdict
    finally:
        field.stop()


def alarm_storm(system: System, size: Size, seed: int) -> Verdict:
    """Many smoke alarms at once, a fifth of them said twice, beside ordinary traffic."""
    prefix = f"storm{seed}"
    devices = name_devices(prefix, smokes=size.devices)
    login = register_field(system, f"{prefix}-gateway", devices, SETTINGS)
    field = Field(system, login, prefix)
    traffic = Traffic(field, devices, seed=seed, faults=Faults(twice=0.2))
    try:
        traffic.run(size.duration_s, size.rate_per_s)
        figures: dict[str, object] = {}
        _settle(field, figures)
        _wait_for_drain(system, field)
        _wait_for_incidents(system, traffic.alarmed)
        verdict = judge(system, field, traffic.alarmed)
        verdict.figures |= figures
        waits = sorted(o.answered_s - o.sent_s for o in field.sent.values() if o.kind == "smoke_alarm" and o.answered_s)
        verdict.figures["alarm to receipt, median, 99th percentile, longest"] = ", ".join(
            f"{waits[int(share * (len(waits) - 1))]:.3f} s" for share in (0.5, 0.99, 1.0)
        )
        return verdict
    finally:
        field.stop()


def _wait_for_incidents(system: System, alarmed: set[str]) -> None:
    with closing(Database(system.settings, DbRole.WORKER)) as database:

        def waiting() -> int:
            with database.transaction("*") as connection:
                row = connection.execute(
                    "SELECT count(*) FROM report r JOIN device d ON d.id = r.device_id"
                    " WHERE d.code = ANY (%s) AND r.incident_id IS NOT NULL",
                    (sorted(alarmed),),
                ).fetchone()
                return len(alarmed) - (int(row[0]) if row else 0)

        wait_until(lambda: waiting() == 0, "every alarm is an incident", 120)


def reconnect(system: System, size: Size, seed: int) -> Verdict:
    """The broker dies with thousands of devices connected; all come back at once, each with an event to tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, size.devices + 1000)), hard))
    prefix = f"rec{seed}"
    devices = {f"{prefix}-{n:05d}": "smoke_alarm" for n in range(size.devices)}
    login = register_field(system, f"{prefix}-gateway", devices, {})
    address = (system.settings.mqtt.host, system.settings.mqtt.port)
    found = asyncio.run(_reconnect(system, address, login, list(devices)))
    verdict = Verdict()
    verdict.check("every device was connected", [] if found.connected == size.devices else [str(found.connected)])
    verdict.check("every device came back and has its receipt", found.unanswered)
    verdict.check("within 30 s", [] if found.back_s <= RECOVERED_S else [f"{found.back_s:.1f} s"])
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        rows = connection.execute(
            "SELECT d.code, count(m.message_id), (SELECT count(*) FROM report r WHERE r.device_id = d.id)"
            " FROM device d LEFT JOIN device_message m ON m.device_id = d.id WHERE d.code = ANY (%s) GROUP BY d.id",
            (list(devices),),
        ).fetchall()
    verdict.check("each event stored once", (f"{code}: {n}" for code, n, _ in rows if n != 1))
    verdict.check("no alarm", (f"{code}: {n} reports" for code, _, n in rows if n))
    verdict.figures = {
        "devices": size.devices,
        "until all were connected again": f"{found.again_s:.1f} s",
        "until every event was answered, from the kill": f"{found.back_s:.1f} s",
    }
    return verdict


async def _reconnect(system: System, address: tuple[str, int], login: tuple[str, str], codes: list[str]) -> Connected:
    fleet = await connect_many(address, login, codes)
    connected = fleet.count
    killed = time.monotonic()
    await asyncio.to_thread(system.kill, "broker")
    await fleet.reconnect_all(timeout_s=60)
    again_s = time.monotonic() - killed
    unanswered = await fleet.tell_all(timeout_s=60)
    result = Connected(connected, unanswered, again_s, time.monotonic() - killed)
    await fleet.close()
    return result


@contextmanager
def own_database(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], None], Callable[[], None]]]:
    """A PostgreSQL of the drill's own, as a city's would be: (settings, stop it, start it again)."""
    settings = Settings(data_dir=folder / "database")
    server = prepare_postgres(settings)
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        processes.append(subprocess.Popen(server.command, user=server.account, cwd="/", stderr=subprocess.DEVNULL))
        wait_for_postgres(settings)

    def stop() -> None:
        process = processes.pop()
        process.send_signal(signal.SIGINT)
        process.wait(30)

    start()
    try:
        yield {"GRIDWARDEN_DATABASE__DSN": conninfo(settings, DbRole.OWNER)}, stop, start
    finally:
        if processes:
            stop()
        remove_postgres(settings)


def outage(size: Size, seed: int) -> Verdict:
    """The database is away for `duration_s` while the field goes on speaking; afterwards everything is there, alarms first."""
    folder = Path(tempfile.mkdtemp(prefix="gw-outage-"))
    with own_database(folder) as (changed, stop, start), running_system(**ENVIRONMENT, **changed) as system:
        devices = name_devices("out")
        login = register_field(system, "out-gateway", devices, SETTINGS)
        field = Field(system, login, f"out{seed}")
        memory = MemoryWatch(system)
        memory.start()
        traffic = Traffic(field, devices, seed=seed)
        Probe(field, traffic.rivers[0]).recovery_s()
        state = {"stopped": False, "answered": 0, "said_unready": False}

        def watch(gone_s: float) -> None:
            if not state["stopped"] and gone_s > 2:
                stop()
                state["stopped"], state["answered"] = True, sum(o.answered_s is not None for o in field.sent.values())
            if gone_s > 8 and not state["said_unready"]:
                state["said_unready"] = not system.is_ready()

        try:
            traffic.run(size.duration_s, size.rate_per_s, watch)
            answered = sum(one.answered_s is not None for one in field.sent.values())
            waiting = [one for one in field.unanswered if one.kind == "smoke_alarm"]
            start()
            back = time.monotonic()
            wait_until(lambda: all(one.answered_s for one in waiting), "the alarms are answered", 60)
            alarms_s = time.monotonic() - back
            figures: dict[str, object] = {
                "alarms that waited": len(waiting),
                "alarms answered after": f"{alarms_s:.1f} s",
            }
            _settle(field, figures, 180)
            _wait_for_drain(system, field, 180)
            drained_s = time.monotonic() - back
            wait_until(system.is_ready, "the system is ready", 30)
            time.sleep(7)
            verdict = judge(system, field, traffic.alarmed)
            verdict.check(
                "nothing was answered without a database",
                [] if answered <= int(state["answered"]) + 5 else [f"{answered - int(state['answered'])} receipts"],
            )
            verdict.check("the system says that it is not ready", [] if state["said_unready"] else ["it said ready"])
            _report(verdict, [alarms_s])
            most = memory.stop()
            verdict.check("memory stays bounded (400 MB)", [] if most < 400e6 else [f"{most / 1e6:.0f} MB"])
            verdict.figures |= figures | {
                "everything drained after": f"{drained_s:.1f} s", "ingest, most memory": f"{most / 1e6:.0f} MB",
            }  # fmt: skip
            return verdict
        finally:
            field.stop()


def _on_a_system(drill: Callable[[System], Verdict]) -> Verdict:
    with running_system(**ENVIRONMENT) as system:
        return drill(system)


FULL: dict[str, Callable[[], Verdict]] = {
    "ingest_kill": lambda: _on_a_system(
        lambda s: kill_repeatedly(s, "ingest", Size(duration_s=280, rate_per_s=300, disturbances=20), 1)
    ),
    "database_kill": lambda: _on_a_system(
        lambda s: kill_repeatedly(s, "postgres", Size(duration_s=120, rate_per_s=400, disturbances=8), 2)
    ),
    "broker_kill": lambda: _on_a_system(
        lambda s: kill_repeatedly(s, "broker", Size(duration_s=120, rate_per_s=200, disturbances=8), 3)
    ),
    "disorder": lambda: _on_a_system(lambda s: disorder(s, Size(duration_s=60, rate_per_s=300), 4)),
    "alarm_storm": lambda: _on_a_system(lambda s: alarm_storm(s, Size(duration_s=10, rate_per_s=200, devices=1000), 5)),
    "reconnect": lambda: _on_a_system(lambda s: reconnect(s, Size(duration_s=0, rate_per_s=0, devices=5000), 6)),
    "outage": lambda: outage(Size(duration_s=600, rate_per_s=100), 7),
}


def write_report(name: str, verdict: Verdict, took_s: float, file: Path) -> None:
    """The drill's page."""
    lines = [
        f"# Drill: {name}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {platform.python_version()}, {took_s:.0f} s."
        f" {'All criteria hold.' if verdict.holds else 'NOT all criteria hold.'}",
        "",
        *verdict.lines(),
        "",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))
    print("\n".join(lines))


def main(name: str) -> int:
    """Run a drill at full length; exit status 0 when every criterion holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    began = time.monotonic()
    verdict = FULL[name]()
    write_report(name, verdict, time.monotonic() - began, options.report)
    return 0 if verdict.holds else 1
