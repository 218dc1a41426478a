"""Precision, recall and false alarms, with what can be said of them from so many cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision.evaluation.clip import ClipRun
from vision.evaluation.interval import wilson as wilson
from vision.evaluation.matching import Matched
from vision.evaluation.truth import Event
from vision.model import Category

START_LIMIT_S = 2.0
HOURS_A_DAY = 24.0
CATEGORIES = {"litter_overflow": (Category.BIN_OVERFLOW, Category.EXPOSED_GARBAGE)}
"""Rules that report more than one thing, which are told apart in the table."""


def poisson(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of an expected number, of which `count` were seen (Garwood 1936)."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _solve(lambda mean: 1 - _at_most(count - 1, mean), tail)
    return low, _solve(lambda mean: 1 - _at_most(count, mean), 1 - tail)


def _at_most(count: int, mean: float) -> float:
    term = total = math.exp(-mean)
    for k in range(1, count + 1):
        term *= mean / k
        total += term
    return total


def _solve(rising: Any, wanted: float) -> float:
    low, high = 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


@dataclass(kw_only=True)
class Tally:
    """Counts of one rule under one condition."""

    events: int = 0
    lookalikes: int = 0
    right: int = 0
    missed: int = 0
    duplicates: int = 0
    false: int = 0
    excused: int = 0
    hours: float = 0.0
    """Camera-hours that were watched."""
    start_errors_s: list[float] = field(default_factory=list)
    """Of the events whose beginning was watched: said less true."""
    delays_s: list[float] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another's counts in."""
        for name in ("events", "lookalikes", "right", "missed", "duplicates", "false", "excused", "hours"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.start_errors_s += other.start_errors_s
        self.delays_s += other.delays_s

    def as_json(self) -> dict[str, Any]:
        """The figures; a share of nothing is None."""
        raised = self.right + self.duplicates + self.false
        errors = sorted(abs(error) for error in self.start_errors_s)
        low, high = poisson(self.false)
        return {
            "events": self.events, "lookalikes": self.lookalikes, "raised": raised, "right": self.right,
            "missed": self.missed, "duplicates": self.duplicates, "false": self.false, "excused": self.excused,
            "precision": _share(self.right, raised), "precision_95": _interval(self.right, raised),
            "recall": _share(self.right, self.events), "recall_95": _interval(self.right, self.events),
            "start_error_s": {
                "count": len(errors), "median": _round(statistics.median(errors)) if errors else None,
                "p95": _round(errors[math.ceil(0.95 * len(errors)) - 1]) if errors else None,
                "worst": _round(errors[-1]) if errors else None,
                "within_limit": _share(sum(error <= START_LIMIT_S for error in errors), len(errors)),
            },
            "delay_s": _round(statistics.median(self.delays_s)) if self.delays_s else None,
            "hours": round(self.hours, 4),
            "false_per_hour": _round(self.false / self.hours) if self.hours else None,
            "false_per_day": _round(self.false / self.hours * HOURS_A_DAY) if self.hours else None,
            "false_per_day_95": [_round(value / self.hours * HOURS_A_DAY) for value in (low, high)]
            if self.hours else None,
        }  # fmt: skip


def tally(run: ClipRun, matched: Matched) -> dict[str, Tally]:
    """The counts of one clip: by rule, and as "rule: category" for a rule that reports more than one."""
    gaps_s = sum(restart.gap_s for restart in run.truth.restarts)
    hours = max(0.0, run.seconds - gaps_s) / 3600
    names = {str(zone["rule"]) for zone in run.truth.scene["zones"]}
    names |= {name for rule in names for category in CATEGORIES.get(rule, ()) for name in _names(rule, category)}
    tallies = {name: Tally(hours=hours) for name in sorted(names)}

    def rows(rule: str, category: str) -> list[Tally]:
        return [tallies.setdefault(name, Tally(hours=hours)) for name in _names(rule, category)]

    for event in run.truth.events:
        for row in rows(event.rule, event.category):
            row.events += 1
    for item in run.truth.lookalikes:
        tallies[item.rule].lookalikes += item.counted
    for found, event in matched.pairs:
        for row in rows(event.rule, event.category):
            row.right += 1
            row.delays_s.append(found.raised_s - event.start_s)
            if _is_start_watched(run, event):
                row.start_errors_s.append(found.started_s - event.start_s)
    for event in matched.missed:
        for row in rows(event.rule, event.category):
            row.missed += 1
    for found, _ in matched.duplicates:
        for row in rows(found.rule, found.category):
            row.duplicates += 1
    for found, _ in matched.false:
        for row in rows(found.rule, found.category):
            row.false += 1
    for found in matched.excused:
        for row in rows(found.rule, found.category):
            row.excused += 1
    return tallies


def _names(rule: str, category: str) -> tuple[str, ...]:
    return (rule, f"{rule}: {category}") if rule in CATEGORIES else (rule,)


def _is_start_watched(run: ClipRun, event: Event) -> bool:
    return all(run.truth.is_watched(event.start_s + ahead_s) for ahead_s in (0.0, 0.5, 1.0))


def add_up(tallies: Sequence[tuple[str, Mapping[str, Tally]]]) -> dict[str, dict[str, Tally]]:
    """Rule to condition to counts, from (condition, rule to counts) of every clip; "all" is the sum."""
    table: dict[str, dict[str, Tally]] = {}
    for condition, by_rule in tallies:
        for rule, counts in by_rule.items():
            row = table.setdefault(rule, {})
            for name in (condition, "all"):
                row.setdefault(name, Tally()).add(counts)
    return table


def print_table(table: Mapping[str, Mapping[str, Tally]]) -> str:
    """The table in Markdown, rules in alphabetical order and their sum last."""
    head = ("rule", "condition", "events", "look-alikes", "right", "missed", "false", "twice", "precision (95 %)",
            "recall (95 %)", "start error median / p95 / ≤ 2 s", "false per camera-hour", "per camera-day (95 %)")  # fmt: skip
    rows = [
        _row(rule, condition, table[rule][condition].as_json())
        for rule in sorted(table)
        for condition in (*sorted(name for name in table[rule] if name != "all"), "all")
    ]
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(rule: str, condition: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    start = figures["start_error_s"]
    said = (
        "–"
        if start["median"] is None
        else f"{start['median']} s / {start['p95']} s / {_percent(start['within_limit'])}"
    )
    per_day = figures["false_per_day_95"]
    return (
        rule, condition, str(figures["events"]), "" if ": " in rule else str(figures["lookalikes"]), str(figures["right"]),
        str(figures["missed"]), str(figures["false"]), str(figures["duplicates"]),
        _with_interval(figures["precision"], figures["precision_95"]),
        _with_interval(figures["recall"], figures["recall_95"]), said, str(figures["false_per_hour"]),
        "–" if per_day is None else f"{figures['false_per_day']} ({per_day[0]}–{per_day[1]})",
    )  # fmt: skip


def _with_interval(share: float | None, interval: Sequence[float] | None) -> str:
    return "–" if share is None or interval is None else f"{share:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _share(hits: int, count: int) -> float | None:
    return round(hits / count, 4) if count else None


def _interval(hits: int, count: int) -> list[float] | None:
    return [round(value, 4) for value in wilson(hits, count)] if count else None


def _round(value: float) -> float:
    return round(value, 2)
