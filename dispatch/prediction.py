"""Predicted breach: how likely a limit is to be missed, from how long such incidents took before. Pure.

Handling times of a category and a part of the day are taken as log-normal (waiting times in queues are near it, and its
median and 90th percentile say it all). Few cases say little: a group is drawn towards its category, and that towards all,
as if PRIOR_CASES more had gone as there. Time is counted as the limit counts it: working hours for limits in working time.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dispatch.calendar import CHINA, CalendarMissing, WorkCalendar
from kernel.types import LimitUnit

PRIOR_CASES: Final = 10.0  # the project's own value
LEAST_CASES: Final = 20  # of the category; below it nothing is said. The project's own value
_LEAST_SD = 0.2
_Z90 = 1.2815515655446004
_PARTS: Final = (("night", 0), ("morning", 6), ("afternoon", 12), ("evening", 18))


@dataclass(frozen=True, kw_only=True, slots=True)
class Handling:
    """How long one incident took from its filing to its handling, in hours as its limit counts them."""

    category: str
    hour_class: str
    working: bool
    hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """How long such incidents take. `count`: of the group itself; `of_category`: of its category, all hours together."""

    count: int
    of_category: int
    mean_log: float
    sd_log: float

    @property
    def median_h(self) -> float:
        """Half of them are handled by then."""
        return math.exp(self.mean_log)

    @property
    def p90_h(self) -> float:
        """Nine of ten are handled by then."""
        return math.exp(self.mean_log + _Z90 * self.sd_log)


Key = tuple[str, str, bool]  # category, part of the day, whether working time counts


def hour_class(filed_at: datetime) -> str:
    """The part of the day in which it was filed, by the city's clock: night, morning, afternoon, evening."""
    hour = filed_at.astimezone(CHINA).hour
    return [name for name, begins in _PARTS if begins <= hour][-1]


def learn(handlings: Iterable[Handling]) -> dict[Key, Expectation]:
    """What to expect of every category seen, in every part of the day."""
    logs: dict[Key, list[float]] = {}
    for one in handlings:
        logs.setdefault((one.category, one.hour_class, one.working), []).append(math.log(max(one.hours, 1 / 3600)))
    found: dict[Key, Expectation] = {}
    for working in {key[2] for key in logs}:
        everything = [x for key, some in logs.items() if key[2] == working for x in some]
        city = _shrink(everything, (_mean(everything), 1.0))
        for category in {key[0] for key in logs if key[2] == working}:
            parts = {name: logs.get((category, name, working), []) for name, _ in _PARTS}
            whole = [x for some in parts.values() for x in some]
            of_category = _shrink(whole, city)
            for name, some in parts.items():
                mean, variance = _shrink(some, of_category)
                found[category, name, working] = Expectation(
                    count=len(some), of_category=len(whole), mean_log=mean, sd_log=max(_LEAST_SD, math.sqrt(variance))
                )
    return found


def breach_risk(
    expected: Mapping[Key, Expectation],
    *,
    category: str,
    limit_from: datetime,
    due_at: datetime,
    now: datetime,
    value: float,
    unit: LimitUnit,
    calendar: WorkCalendar,
) -> float | None:
    """The chance, 0 to 1, that an incident not handled by `now` is not handled before `due_at`, its limit of so much.

    None while too few of its category are known, or when the calendar does not reach so far. 1.0 once it is overdue.
    `now` is the instant at which its clock stopped, where it stands. What is left is counted to `due_at`, in which past
    pauses are contained already.
    """
    working = unit in (LimitUnit.WORK_HOUR, LimitUnit.WORKDAY)
    known = expected.get((category, hour_class(limit_from), working))
    if known is None or known.of_category < LEAST_CASES:
        return None
    if now > due_at:
        return 1.0
    try:
        left_h = calendar.elapsed(now, due_at, LimitUnit.WORK_HOUR if working else LimitUnit.URGENT_HOUR)
    except CalendarMissing:
        return None
    of_day_h = calendar.workday_hours(limit_from) if unit is LimitUnit.WORKDAY else 24.0
    limit_h = value * (of_day_h if unit in (LimitUnit.WORKDAY, LimitUnit.DAY) else 1.0)
    still = _survival(known, limit_h - left_h)
    return min(1.0, _survival(known, limit_h) / still) if still > 0 else 1.0


def _survival(known: Expectation, hours: float) -> float:
    """The share of such incidents that take longer."""
    if hours <= 0:
        return 1.0
    return 0.5 * math.erfc((math.log(hours) - known.mean_log) / (known.sd_log * math.sqrt(2)))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _shrink(values: list[float], prior: tuple[float, float]) -> tuple[float, float]:
    """Mean and variance, as if PRIOR_CASES more had gone like `prior` (mean, variance)."""
    total = len(values) + PRIOR_CASES
    mean = (sum(values) + PRIOR_CASES * prior[0]) / total
    spread = sum((x - mean) ** 2 for x in values) + PRIOR_CASES * (prior[1] + (prior[0] - mean) ** 2)
    return mean, spread / total
