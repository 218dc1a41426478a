"""Ordinary life of a field of devices, and what can be wrong with it."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.drills.field import Field, Sent

RIVERS, SMOKES, GATES = 60, 200, 10
# Of the gates: a barrier opens for 3 s each few seconds. What is more than a pause of ours, or of the drill itself on a
# busy machine, would be a false alarm.
OPEN_LIMIT_S = 30.0
SETTINGS = {"parking_gate": {"open_limit_s": OPEN_LIMIT_S}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """Shares of the messages that are sent twice, out of order, a day late, or not usable at all; clocks that are off."""

    twice: float = 0.0
    disordered: float = 0.0
    day_late: float = 0.0
    impossible: float = 0.0  # dated 1970 or 2038
    poison: float = 0.0
    skewed: bool = False  # a tenth of the rivers an hour ahead, a tenth an hour behind


POISON: tuple[Callable[[str], tuple[str, bytes]], ...] = (
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b"{not json"),
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b""),
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b"\xff\xfe\x00"),
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b"[" * 5000),
    lambda code: (f"gridwarden/river_sluice/{code}/state", b'{"v": 1, "id": "x", "at": "2026-01-01T00:00:00Z", "level_m": NaN}'),
    lambda code: (f"gridwarden/river_sluice/{code}/event", b'{"v": 1, "id": 7, "level_m": "high"}'),
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b'{"v": 1, "id": "big", "level_m": 1e999}'),
    lambda code: (f"gridwarden/river_sluice/{code}/telemetry", b'{"a": "' + b"x" * 70_000 + b'"}'),
)  # fmt: skip


def name_devices(prefix: str, rivers: int = RIVERS, smokes: int = SMOKES, gates: int = GATES) -> dict[str, str]:
    """{code: kind}."""
    return {
        **{f"{prefix}-river-{n:03d}": "river_sluice" for n in range(rivers)},
        **{f"{prefix}-smoke-{n:03d}": "smoke_alarm" for n in range(smokes)},
        **{f"{prefix}-gate-{n:02d}": "parking_gate" for n in range(gates)},
    }


class Traffic:
    """Sends ordinary messages of `devices` at a rate; smoke alarms go off, one each, spread over the time."""

    def __init__(self, field: Field, devices: dict[str, str], *, seed: int, faults: Faults = Faults()) -> None:
        self.field, self.faults = field, faults
        self.rng = random.Random(seed)
        self.rivers = [c for c, kind in devices.items() if kind == "river_sluice"]
        self.smokes = [c for c, kind in devices.items() if kind == "smoke_alarm"]
        self.gates = [c for c, kind in devices.items() if kind == "parking_gate"]
        self.alarmed: set[str] = set()
        self.poisoned = 0
        tenth = len(self.rivers) // 10 if faults.skewed else 0
        self.ahead = set(self.rivers[:tenth])
        self.behind = set(self.rivers[tenth : 2 * tenth])
        self.unset: set[str] = set()  # alarms whose clocks know nothing
        self._held: list[tuple[float, Sent]] = []
        self._gate_open: dict[str, bool] = {}

    def run(
        self,
        duration_s: float,
        rate_per_s: float,
        each_s: Callable[[float], None] = lambda _: None,
        is_done: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send for so long, and until `is_done`; `each_s` is called about ten times a second with the seconds gone."""
        started = time.monotonic()
        alarms = self.rng.sample(self.smokes, k=len(self.smokes))
        spoken = 0
        while (gone := time.monotonic() - started) < duration_s or not is_done():
            due = int(gone * rate_per_s)
            while spoken < due:
                self._speak()
                spoken += 1
            while alarms and len(self.alarmed) < len(self.smokes) * gone / (duration_s * 0.9):
                self.raise_alarm(alarms.pop())
            self._move_gates(gone)
            self._release(time.monotonic())
            each_s(gone)
            time.sleep(0.1)
        for code in alarms:
            self.raise_alarm(code)
        self._release(float("inf"))
        for code in self.gates:
            self._tell_gate(code, open_=False)

    def raise_alarm(self, code: str) -> None:
        """Smoke."""
        self.alarmed.add(code)
        at = None
        if (
            self.rng.random() < self.faults.impossible * 10
        ):  # without power for long: its clock begins anew, or ran ahead
            at = datetime.now(UTC).replace(year=self.rng.choice([1970, 2038]), day=1)
            self.unset.add(code)
        copies = 2 if self.rng.random() < max(0.1, self.faults.twice) else 1
        self.field.say(code, "smoke_alarm", "event", {"status": "alarm", "battery_pct": 90.0}, at=at, copies=copies)

    def _speak(self) -> None:
        code = self.rng.choice(self.rivers)
        topic_kind = "state" if self.rng.random() < 0.3 else "telemetry"
        fields = {"level_m": round(self.rng.uniform(1.0, 1.8), 3), "flow_m3_s": round(self.rng.uniform(1, 4), 2)}
        at = datetime.now(UTC) + timedelta(hours=(code in self.ahead) - (code in self.behind))
        dice, faults = self.rng.random, self.faults
        if dice() < faults.poison:
            self.poisoned += 1
            self.field.poison(*self.rng.choice(POISON)(code))
            return
        if dice() < faults.impossible:
            year, refusal = self.rng.choice([(1970, "past_dated"), (2038, "future_dated")])
            self.field.say(code, "river_sluice", "state", fields, at=at.replace(year=year, day=1), refusal=refusal)
            return
        if dice() < faults.day_late:
            at -= timedelta(hours=24)
        held = dice() < faults.disordered
        copies = 2 if dice() < faults.twice else 1
        sent = self.field.say(code, "river_sluice", topic_kind, fields, at=at, copies=copies, hold_back=held)
        if held:
            self._held.append((time.monotonic() + self.rng.uniform(0.2, 3.0), sent))

    def _release(self, until_s: float) -> None:
        due = [sent for at_s, sent in self._held if at_s <= until_s]
        self._held = [(at_s, sent) for at_s, sent in self._held if at_s > until_s]
        for sent in due:
            self.field.release(sent)

    def _move_gates(self, gone_s: float) -> None:
        for number, code in enumerate(self.gates):
            open_ = (gone_s + number) % 8.0 < 3.0
            if self._gate_open.get(code) != open_:
                self._tell_gate(code, open_=open_)

    def _tell_gate(self, code: str, *, open_: bool) -> None:
        self._gate_open[code] = open_
        fields: dict[str, Any] = {
            "event": "barrier",
            "barrier": "open" if open_ else "closed",
            "lot": "D1",
            "lane": "1",
        }
        self.field.say(code, "parking_gate", "event", fields)
