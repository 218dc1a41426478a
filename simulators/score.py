"""How well the platform did: what was made to happen, held against what the public API says of it.

The truth comes from the simulated city (its own point in polygon), the incidents from `GET /incidents?state=all` and
their details. Nothing of the platform's own counting is believed: this recounts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

NOTHING = "nothing"
"""The category of a look-alike: it must open no incident."""

LATENCIES = ("cause_to_incident", "incident_to_push", "incident_to_closed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """One thing that was made to happen.

    `category` is NOTHING for a look-alike. `caused_at` is the instant at which it began: a wait that the rule's
    limit asks for (`limit_s`) is part of its latency.
    """

    name: str
    category: str
    cell: str
    device: str
    caused_at: datetime
    limit_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """All that was made to happen in one scenario."""

    seed: int
    events: tuple[Expected, ...]

    @property
    def expected(self) -> tuple[Expected, ...]:
        """Those that must open an incident."""
        return tuple(event for event in self.events if event.category != NOTHING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What became of one expected event; an instant is None when it never came."""

    event: Expected
    incident: Mapping[str, Any] | None = None
    pushed_at: datetime | None = None
    faults: tuple[str, ...] = ()

    @property
    def opened_at(self) -> datetime | None:
        """When its incident was opened."""
        return _instant(self.incident, "opened_at")

    @property
    def dispatched_at(self) -> datetime | None:
        """When it was first offered to somebody."""
        return min((_parse(a["offered_at"]) for a in _list(self.incident, "assignments")), default=None)

    @property
    def closed_at(self) -> datetime | None:
        """When it was closed after a check; None when it ended otherwise or not at all."""
        if self.incident is None or self.incident["state"] != "closed":
            return None
        return _instant(self.incident, "ended_at")

    def latency_s(self, name: str) -> float | None:
        """One of LATENCIES in seconds."""
        begun, ended = {
            "cause_to_incident": (self.event.caused_at, self.opened_at),
            "incident_to_push": (self.opened_at, self.pushed_at),
            "incident_to_closed": (self.opened_at, self.closed_at),
        }[name]
        return round((ended - begun).total_seconds(), 3) if begun is not None and ended is not None else None

    def json(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "name": self.event.name,
            "category": self.event.category,
            "cell": self.event.cell,
            "device": self.event.device,
            "limit_s": self.event.limit_s,
            "incident": self.incident["number"] if self.incident else None,
            "caused_at": self.event.caused_at.isoformat(),
            "opened_at": _text(self.opened_at),
            "dispatched_at": _text(self.dispatched_at),
            "pushed_at": _text(self.pushed_at),
            "handled_at": _text(_instant(self.incident, "handled_at")),
            "closed_at": _text(self.closed_at),
            "faults": list(self.faults),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreReport:
    """The count. `failures` names each case that went wrong, in words."""

    seed: int
    cases: tuple[Case, ...]
    right_cell: int
    right_category: int
    false_incidents: tuple[Mapping[str, Any], ...]
    duplicate_incidents: tuple[Mapping[str, Any], ...]
    failures: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Everything opened rightly, dispatched, closed after a check; nothing false, nothing twice."""
        return bool(self.cases) and not self.failures

    def json(self) -> dict[str, Any]:
        """The demo's report; counts, latencies per category, one entry per expected event."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "expected": len(self.cases),
            "opened": sum(case.opened_at is not None for case in self.cases),
            "right_cell": self.right_cell,
            "right_category": self.right_category,
            "dispatched": sum(case.dispatched_at is not None for case in self.cases),
            "closed": sum(case.closed_at is not None for case in self.cases),
            "false_incidents": len(self.false_incidents),
            "duplicate_incidents": len(self.duplicate_incidents),
            "latency_s": _latencies(self.cases),
            "cases": [case.json() for case in self.cases],
            "failures": list(self.failures),
        }


def score(
    truth: Truth, incidents: Sequence[Mapping[str, Any]], pushed_at: Mapping[str, datetime] | None = None
) -> ScoreReport:
    """Hold the truth against incident details (the JSON of `GET /incidents/{id}`).

    `pushed_at` is when a phone first heard of an incident, by its id; without it the offer's instant is not taken
    instead, the latency is left out.
    """
    pushes = pushed_at or {}
    found = _match(truth.expected, incidents)
    cases = []
    for event in truth.expected:
        incident = found.get(event.name)
        pushed = pushes.get(str(incident["id"])) if incident else None
        cases.append(Case(event=event, incident=incident, pushed_at=pushed, faults=_find_faults(event, incident)))
    used = {str(incident["id"]) for incident in found.values()}
    extra = [incident for incident in incidents if str(incident["id"]) not in used]
    doubles = tuple(incident for incident in extra if _find_twin(incident, cases))
    false = tuple(incident for incident in extra if not _find_twin(incident, cases))
    failures = [f"{case.event.name}: {fault}" for case in cases for fault in case.faults]
    failures += [f"{_name(i)} doubles {_find_twin(i, cases)}" for i in doubles]
    failures += [f"{_name(i)} is false{_blame(i, truth)}" for i in false]
    return ScoreReport(
        seed=truth.seed,
        cases=tuple(cases),
        right_cell=sum(c.incident is not None and c.incident["cell_code"] == c.event.cell for c in cases),
        right_category=sum(c.incident is not None and _category(c.incident) == c.event.category for c in cases),
        false_incidents=false,
        duplicate_incidents=doubles,
        failures=tuple(failures),
    )


def _match(events: Sequence[Expected], incidents: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """One incident at most for each event, the best likeness first: all three of category, cell and device, then
    category with either, then the device alone under a wrong category."""
    found: dict[str, Mapping[str, Any]] = {}
    used: set[str] = set()
    for least in (4, 3, 2, 1):
        for event in events:
            if event.name in found:
                continue
            fitting = [
                i for i in incidents
                if str(i["id"]) not in used and _parse(i["opened_at"]) >= event.caused_at and _likeness(event, i) == least
            ]  # fmt: skip
            if fitting:
                first = min(fitting, key=lambda i: _parse(i["opened_at"]))
                found[event.name] = first
                used.add(str(first["id"]))
    return found


def _likeness(event: Expected, incident: Mapping[str, Any]) -> int:
    same_category = _category(incident) == event.category
    same_cell = incident["cell_code"] == event.cell
    same_device = event.device in _devices(incident)
    if same_category:
        return 2 + same_cell + same_device if same_cell or same_device else 0
    return 1 if same_device else 0


def _find_faults(event: Expected, incident: Mapping[str, Any] | None) -> tuple[str, ...]:
    if incident is None:
        return (f"no incident ({event.category} in {event.cell}, device {event.device})",)
    faults = []
    if incident["cell_code"] != event.cell:
        faults.append(f"{_name(incident)} is in cell {incident['cell_code']}, not {event.cell}")
    if _category(incident) != event.category:
        faults.append(f"{_name(incident)} is no {event.category}")
    if not _list(incident, "assignments"):
        faults.append(f"{_name(incident)} was never dispatched")
    if incident["state"] != "closed":
        faults.append(f"{_name(incident)} is {incident['state']}, not closed")
    elif not _was_checked(incident):
        faults.append(f"{_name(incident)} was closed without a check")
    elif not _was_handled(incident):
        faults.append(f"{_name(incident)} was closed without being handled")
    return tuple(faults)


def _was_checked(incident: Mapping[str, Any]) -> bool:
    """A camera or sensor found it clear, or a person other than the handler looked."""
    if any(check.get("verdict") == "clear" for check in _list(incident, "checks")):
        return True
    events = _list(incident, "events")
    handlers = {event.get("actor") for event in events if event["action"] == "handle"}
    return any(e["action"] == "check" and e["to_state"] == "closed" and e.get("actor") not in handlers for e in events)


def _was_handled(incident: Mapping[str, Any]) -> bool:
    return any(event["action"] == "handle" for event in _list(incident, "events"))


def _find_twin(incident: Mapping[str, Any], cases: Iterable[Case]) -> str:
    """The name of the event that this incident, which belongs to none, tells once more; '' when there is none."""
    for case in cases:
        same_place = incident["cell_code"] == case.event.cell or case.event.device in _devices(incident)
        if case.incident is not None and _category(incident) == case.event.category and same_place:
            return case.event.name
    return ""


def _blame(incident: Mapping[str, Any], truth: Truth) -> str:
    """Which look-alikes were played on the device that reported it."""
    devices = _devices(incident)
    names = [e.name for e in truth.events if e.category == NOTHING and e.device in devices]
    return f" (look-alikes there: {', '.join(names)})" if names else ""


def _latencies(cases: Sequence[Case]) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = {}
    for category in sorted({case.event.category for case in cases}):
        of_category = [case for case in cases if case.event.category == category]
        for name in LATENCIES:
            values = [value for case in of_category if (value := case.latency_s(name)) is not None]
            if values:
                row = {"median": round(statistics.median(values), 3), "max": max(values)}
                table.setdefault(category, {})[name] = row
    return table


def _name(incident: Mapping[str, Any]) -> str:
    return f"{incident['number']} ({_category(incident)} in {incident['cell_code']})"


def _category(incident: Mapping[str, Any]) -> str:
    return str(incident["category"]["id"])


def _devices(incident: Mapping[str, Any]) -> set[str]:
    return {str(report["device"]["code"]) for report in _list(incident, "reports") if report.get("device")}


def _list(incident: Mapping[str, Any] | None, key: str) -> list[Any]:
    return list(incident.get(key) or []) if incident is not None else []


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _instant(incident: Mapping[str, Any] | None, key: str) -> datetime | None:
    return _parse(incident[key]) if incident is not None and incident.get(key) else None


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
