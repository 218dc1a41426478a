"""What the database holds, held against what the field sent: nothing acknowledged lost, nothing doubled, nothing invented."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devices.alarms import advance_device
from devices.model import Device, DeviceState, Message
from devices.registry import KINDS
from devices.store import read_devices, read_states
from ingest.decode import Decoded, Raw, decode
from kernel.db import Connection, Database, DbRole
from kernel.settings import IngestSettings
from tests.drills.field import Field, Sent
from tests.flows.conftest import System


@dataclass(slots=True)
class Verdict:
    """Checks by name with what was found where they failed, and figures."""

    checks: list[tuple[str, list[str]]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str, wrong: Iterable[str]) -> None:
        """A check holds when nothing is wrong."""
        self.checks.append((name, list(wrong)))

    @property
    def holds(self) -> bool:
        return not any(wrong for _, wrong in self.checks)

    def lines(self) -> list[str]:
        """As Markdown."""
        rows = [
            f"| {name} | {'yes' if not wrong else f'NO ({len(wrong)}): ' + '; '.join(wrong[:3])} |"
            for name, wrong in self.checks
        ]
        figures = [f"- {name}: {value}" for name, value in self.figures.items()]
        return ["| criterion | holds |", "|---|---|", *rows, "", *figures]


def judge(
    system: System, fields: Field, alarmed: set[str], *, broker_died: bool = False, ahead: set[str] = frozenset()
) -> Verdict:  # type: ignore[assignment]
    """Hold the database against the field. `alarmed`: devices that raised one alarm each; no other may have a report.

    `broker_died`: then its own acknowledgement of telemetry promises nothing. `ahead`: devices whose clock is ahead, whose
    readings count as measured when they came: their state is not compared.
    """
    verdict = Verdict()
    sent = list(fields.sent.values())
    wants = [one for one in sent if one.topic_kind != "telemetry"]
    verdict.check("every event and state has its receipt", (one.id for one in wants if one.answered_s is None))
    verdict.check(
        "every receipt says what it should",
        (f"{one.id}: {one.answer!r}, not {one.refusal!r}" for one in wants
         if one.answered_s is not None and one.answer != (one.refusal or "")),
    )  # fmt: skip
    verdict.check("no receipt for what was not sent", fields.strays)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        devices = {d.code: d for d in read_devices(connection) if d.code in {one.code for one in sent}}
        _judge_stored(connection, verdict, sent, devices, broker_died)
        _judge_reports(connection, verdict, devices, alarmed)
        _judge_states(connection, verdict, sent, {c: d for c, d in devices.items() if c not in ahead})
    waits = sorted(one.answered_s - one.sent_s for one in wants if one.answered_s is not None)
    verdict.figures["messages sent"] = len(sent)
    verdict.figures["receipts"] = len(waits)
    if waits:
        verdict.figures["from first sending to receipt, median and longest"] = (
            f"{waits[len(waits) // 2]:.3f} s, {waits[-1]:.1f} s"
        )
    return verdict


def _judge_stored(
    connection: Connection, verdict: Verdict, sent: list[Sent], devices: dict[str, Device], broker_died: bool
) -> None:
    rows = connection.execute(
        "SELECT d.code, m.message_id FROM device_message m JOIN device d ON d.id = m.device_id WHERE d.code = ANY (%s)",
        (list(devices),),
    ).fetchall()
    counted = Counter((str(code), str(message_id)) for code, message_id in rows)
    verdict.check("no message stored twice", (f"{key} {n} times" for key, n in counted.items() if n > 1))
    by_key = {(one.code, one.id): one for one in sent}
    promised = {
        key for key, one in by_key.items()
        if one.refusal is None and (one.answer == "" or (one.acknowledged and not broker_died))
    }  # fmt: skip
    verdict.check("everything acknowledged is stored", (str(key) for key in promised - set(counted)))
    verdict.check(
        "nothing stored that had to be refused", (str(k) for k in counted if k in by_key and by_key[k].refusal)
    )
    expected: Counter[str] = Counter()
    for key in counted:
        if key in by_key:
            one = by_key[key]
            payload = decode_sent(one, datetime.now(UTC)).message.payload
            expected[one.code] += len(KINDS[one.kind].readings(payload))
    found = connection.execute(
        "SELECT d.code, count(*) FROM reading r JOIN device d ON d.id = r.device_id WHERE d.code = ANY (%s) GROUP BY 1",
        (list(devices),),
    ).fetchall()
    readings = {str(code): int(n) for code, n in found}
    verdict.check(
        "every reading of a stored message stands once",
        (f"{c}: {readings.get(c, 0)} rows, not {expected[c]}" for c in devices if readings.get(c, 0) != expected[c]),
    )
    verdict.figures["stored messages, readings"] = f"{len(counted)}, {sum(readings.values())}"
    lost = sum(one.topic_kind == "telemetry" and key not in counted and not one.refusal for key, one in by_key.items())
    verdict.figures["telemetry without a receipt that is a gap now"] = lost


def _judge_reports(connection: Connection, verdict: Verdict, devices: dict[str, Device], alarmed: set[str]) -> None:
    rows = connection.execute(
        "SELECT d.code, r.rule, count(*), count(r.incident_id) FROM report r JOIN device d ON d.id = r.device_id"
        " WHERE d.code = ANY (%s) GROUP BY 1, 2",
        (list(devices),),
    ).fetchall()
    reported = {str(code): (str(rule), int(n), int(incidents)) for code, rule, n, incidents in rows}
    verdict.check("every alarm is a report", (code for code in alarmed if code not in reported))
    verdict.check("one report for each alarm", (f"{c}: {r}" for c, r in reported.items() if r[1] != 1))
    verdict.check("no false alarm", (f"{code}: {what[0]}" for code, what in reported.items() if code not in alarmed))
    verdict.figures["alarms, reports"] = f"{len(alarmed)}, {sum(n for _, n, _ in reported.values())}"


def _judge_states(connection: Connection, verdict: Verdict, sent: list[Sent], devices: dict[str, Device]) -> None:
    stored = {
        (str(code), str(message_id)): received_at
        for code, message_id, received_at in connection.execute(
            "SELECT d.code, m.message_id, m.received_at FROM device_message m JOIN device d ON d.id = m.device_id"
            " WHERE d.code = ANY (%s)",
            (list(devices),),
        ).fetchall()
    }
    messages: dict[str, list[Message]] = defaultdict(list)
    for one in sent:
        received_at = stored.get((one.code, one.id))
        if received_at is not None and one.code in devices:
            messages[one.code].append(decode_sent(one, received_at).message)
    states = read_states(connection, [device.id for device in devices.values()])
    wrong = []
    for code, of_device in messages.items():
        device = devices[code]
        now = max(message.received_at for message in of_device)
        replayed = advance_device(KINDS[device.kind], device, DeviceState(), of_device, now, "Asia/Shanghai").state
        state = states[device.id]
        if state.metrics != replayed.metrics:
            wrong.append(f"{code}: {state.metrics} is not {replayed.metrics}")
        elif state.measured_at != replayed.measured_at or set(state.alarms) != set(replayed.alarms):
            wrong.append(f"{code}: measured {state.measured_at}, alarms {set(state.alarms)}")
    verdict.check("every state equals the sorted replay", wrong)


def decode_sent(one: Sent, received_at: datetime) -> Decoded:
    """The message as the platform should have understood it when it came at `received_at`."""
    result = decode(Raw(one.topic, one.payload, len(one.payload), received_at), IngestSettings())
    assert isinstance(result, Decoded), result
    return result
