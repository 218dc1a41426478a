"""Indicators (指标): each defined once, here, as one count over another of the same period. Pure.

A count is the number of cases for which its test holds; INDICATORS names two of them for each rate. A denominator of zero
gives None, never 0 or 100. Terms and reasons: docs/indicators.md.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What indicators look at in one incident. Instants are None while it has not come to that."""

    category: str
    area_code: str
    department: str  # who handled it, or has it now; "" for nobody's
    person: str  # the same, a person's id; "" for nobody
    reported_at: datetime
    filed_at: datetime | None = None
    due_at: datetime | None = None
    handled_at: datetime | None = None
    closed_at: datetime | None = None
    is_void: bool = False
    is_suspended: bool = False  # its clock stands: it is not due
    is_exempt: bool = False  # an appeal was accepted
    departments: frozenset[str] = frozenset()  # every department it was dispatched to
    reworks: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """From the one instant until before the other, as seen at `as_of`: what is due later is not due yet."""

    from_at: datetime
    until_at: datetime
    as_of: datetime

    def has(self, instant: datetime | None) -> bool:
        """Whether it lies in the period, and not after `as_of`."""
        return instant is not None and self.from_at <= instant < self.until_at and instant <= self.as_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Indicator:
    """A rate: the cases of one count among those of another, of which they are a part."""

    id: str
    zh: str
    en: str
    numerator: str
    denominator: str


def _is_reported(case: Case, period: Period) -> bool:
    return period.has(case.reported_at)


def _is_due_raw(case: Case, period: Period) -> bool:
    """Due, appeals or not. What is void was no case, and a clock that stands makes nothing due."""
    return case.filed_at is not None and not case.is_void and not case.is_suspended and period.has(case.due_at)


def _is_due(case: Case, period: Period) -> bool:
    return not case.is_exempt and _is_due_raw(case, period)


def _is_in_time(instant: datetime | None, due_at: datetime | None) -> bool:
    return instant is not None and due_at is not None and instant <= due_at


def _is_closed(case: Case, period: Period) -> bool:
    return not case.is_void and period.has(case.closed_at)


COUNTS: Final[Mapping[str, Callable[[Case, Period], bool]]] = MappingProxyType(
    {
        "reported": _is_reported,
        "valid": lambda case, period: _is_reported(case, period) and not case.is_void,
        "filed": lambda case, period: _is_reported(case, period) and case.filed_at is not None,
        "due": _is_due,
        "due_closed": lambda case, period: (
            _is_due(case, period) and case.closed_at is not None and case.closed_at <= period.as_of
        ),
        "due_closed_on_time": lambda case, period: _is_due(case, period) and _is_in_time(case.closed_at, case.due_at),
        "due_handled_on_time": lambda case, period: _is_due(case, period) and _is_in_time(case.handled_at, case.due_at),
        "due_raw": _is_due_raw,
        "due_raw_handled_on_time": lambda case, period: (
            _is_due_raw(case, period) and _is_in_time(case.handled_at, case.due_at)
        ),
        "exempt": lambda case, period: _is_due_raw(case, period) and case.is_exempt,
        # Wrong dispatch and rework are counted at closure, so that both have the same cases below the line.
        "closed": _is_closed,
        "closed_dispatched": lambda case, period: _is_closed(case, period) and bool(case.departments),
        "closed_rightly_dispatched": lambda case, period: _is_closed(case, period) and len(case.departments) == 1,
        "closed_wrongly_dispatched": lambda case, period: _is_closed(case, period) and len(case.departments) > 1,
        "closed_reworked": lambda case, period: _is_closed(case, period) and case.reworks > 0,
    }
)

INDICATORS: Final = (
    Indicator(id="closure_rate", zh="结案率", en="Closure rate", numerator="due_closed", denominator="due"),
    Indicator(id="on_time_closure_rate", zh="按时结案率", en="On-time closure rate",
              numerator="due_closed_on_time", denominator="due"),
    Indicator(id="on_time_handling_rate", zh="按时处置率", en="On-time handling rate",
              numerator="due_handled_on_time", denominator="due"),
    Indicator(id="raw_on_time_handling_rate", zh="按时处置率（未扣除申诉）", en="On-time handling rate, appeals not taken out",
              numerator="due_raw_handled_on_time", denominator="due_raw"),
    Indicator(id="valid_report_rate", zh="有效上报率", en="Valid report rate", numerator="valid", denominator="reported"),
    Indicator(id="filing_rate", zh="立案率", en="Filing rate", numerator="filed", denominator="reported"),
    Indicator(id="dispatch_accuracy", zh="派遣准确率", en="Dispatch accuracy",
              numerator="closed_rightly_dispatched", denominator="closed_dispatched"),
    Indicator(id="rework_rate", zh="返工率", en="Rework rate", numerator="closed_reworked", denominator="closed"),
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Tally:
    """The counts of one group, and its rates."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    def add(self, case: Case, period: Period) -> None:
        """Count one case."""
        for name, holds in COUNTS.items():
            if holds(case, period):
                self.counts[name] += 1

    @property
    def rates(self) -> dict[str, float | None]:
        """Every indicator, 0 to 1; None where nothing stands below the line."""
        return {
            one.id: self.counts[one.numerator] / self.counts[one.denominator] if self.counts[one.denominator] else None
            for one in INDICATORS
        }


def tally(
    cases: Iterable[Case], period: Period, by: Callable[[Case], Hashable] | None = None
) -> tuple[Tally, dict[Hashable, Tally]]:
    """All cases together, and each group that `by` makes of them. Each case is in one group."""
    total = Tally()
    groups: dict[Hashable, Tally] = {}
    for case in cases:
        total.add(case, period)
        if by is not None:
            groups.setdefault(by(case), Tally()).add(case, period)
    return total, groups
