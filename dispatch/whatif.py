"""What if: the same incidents and people again, minute by minute, under another policy.

A discrete-event simulation of assignment alone: the plan is dispatch.assign's own, the world is given. What people do
(answer, refuse, stay silent, how long the work takes) is drawn once for each incident and person, so that two policies meet
the same luck. Not in it: suspensions, closure checks, rework.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import numpy as np

from dispatch.assign import plan
from dispatch.cost import SPEED_M_S, Task, Worker
from dispatch.policy import distance_m
from kernel.settings import AssignmentSettings

Span = tuple[datetime, datetime]
_TICK_S = 5.0  # how often what waits is planned again
_POSITION_MAX_AGE_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """An incident as it was filed: when, its limit, and how long the work at the place takes."""

    task: Task
    filed_at: datetime
    due_at: datetime
    work_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Staff:
    """A person of the world. `worker` is how they are at the beginning; outside `shifts` they are off duty."""

    worker: Worker
    shifts: tuple[Span, ...]
    breaks: tuple[Span, ...] = ()
    dead: tuple[Span, ...] = ()  # the phone is out: no position, no answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How people answer: shares of offers refused and never answered, and how long an answer takes on average."""

    refused: float = 0.05
    silent: float = 0.05
    answer_s: float = 20.0
    accept_timeout_s: float = 120.0
    max_offers: int = 3
    operator_s: float = 120.0  # how long an operator takes to decide once nobody accepted; then everybody is asked anew


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What became of a case: None where it did not come so far."""

    case: Case
    offers: int
    user_id: UUID | None
    accepted_at: datetime | None
    arrived_at: datetime | None
    handled_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One simulated span under one policy. Distances are ways actually gone, detours included."""

    fates: tuple[Fate, ...]
    way_m: Mapping[UUID, float]
    done: Mapping[UUID, int]


@dataclass(slots=True, eq=False)
class _Person:
    staff: Staff
    lon: float | None
    lat: float | None
    trip: tuple[float, float, datetime, datetime] | None = None  # from where, and when it began and ends
    queue: list[int] = field(default_factory=list)
    offers: set[int] = field(default_factory=set)
    working: int | None = None
    done: int = 0
    way_m: float = 0.0
    rested_at: datetime | None = None


@dataclass(slots=True, eq=False)
class _Open:
    case: Case
    refused: set[UUID] = field(default_factory=set)
    offers: int = 0
    offers_since: int = 0  # since an operator decided
    holder: UUID | None = None
    turn: int = 0  # tells answers to an earlier offer apart
    accepted_at: datetime | None = None
    arrived_at: datetime | None = None
    handled_at: datetime | None = None


def simulate(
    cases: Sequence[Case],
    staff: Sequence[Staff],
    policy: AssignmentSettings,
    habits: Habits,
    until: datetime,
    *,
    cover: Mapping[str, int] | None = None,
    seed: int = 1,
) -> Run:
    """The cases from the first filing to `until`. The same arguments give the same run."""
    return _World(cases, staff, policy, habits, until, cover or {}, seed).run()


class _World:
    def __init__(
        self,
        cases: Sequence[Case],
        staff: Sequence[Staff],
        policy: AssignmentSettings,
        habits: Habits,
        until: datetime,
        cover: Mapping[str, int],
        seed: int,
    ) -> None:
        self._policy, self._habits, self._until, self._cover, self._seed = policy, habits, until, cover, seed
        self._open = [_Open(case) for case in cases]
        self._people = {one.worker.user_id: _Person(one, one.worker.lon, one.worker.lat) for one in staff}
        self._place = {user_id: k for k, user_id in enumerate(sorted(self._people))}
        self._waiting: set[int] = set()
        self._events: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._order = itertools.count()
        self._planned_at: datetime | None = None
        for number, case in enumerate(cases):
            self._at(case.filed_at, partial(self._wait, number))
        for user_id, person in self._people.items():
            for _, ended in person.staff.shifts:
                self._at(ended, partial(self._go_home, user_id))

    def run(self) -> Run:
        while self._events and self._events[0][0] <= self._until:
            now, _, act = heapq.heappop(self._events)
            act(now)
        return Run(
            fates=tuple(
                Fate(
                    case=one.case, offers=one.offers, user_id=one.holder, accepted_at=one.accepted_at,
                    arrived_at=one.arrived_at, handled_at=one.handled_at,
                )
                for one in self._open
            ),
            way_m={user_id: person.way_m for user_id, person in self._people.items()},
            done={user_id: person.done for user_id, person in self._people.items()},
        )  # fmt: skip

    def _at(self, at: datetime, act: Callable[[datetime], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    # ------------------------------------------------------------------------------------------------ assignment

    def _wait(self, number: int, now: datetime) -> None:
        """The case waits for somebody; what waits is planned together at the next tick."""
        self._waiting.add(number)
        self._plan_at(now + timedelta(seconds=_TICK_S))

    def _plan_at(self, at: datetime) -> None:
        if self._planned_at is None or at < self._planned_at:
            self._planned_at = at
            self._at(at, self._plan)

    def _plan(self, now: datetime) -> None:
        if now != self._planned_at:
            return  # planned earlier than this was meant to be
        self._planned_at = None
        rows = sorted(self._waiting)
        people = [self._see(person, now) for person in self._people.values() if _within(person.staff.shifts, now)]
        tasks = [replace(self._open[k].case.task, refused=frozenset(self._open[k].refused)) for k in rows]
        number = {task.id: k for task, k in zip(tasks, rows, strict=True)}
        found = plan(tasks, people, self._policy, now, position_max_age_s=_POSITION_MAX_AGE_S, cover=self._cover)
        for row, column in found.pairs:
            if not self._open[number[found.tasks[row].id]].holder:
                self._offer(number[found.tasks[row].id], found.people[column].user_id, now)
        if self._waiting:  # nobody could go: tried again when a minute has passed
            self._plan_at(now + timedelta(seconds=60))

    def _see(self, person: _Person, now: datetime) -> Worker:
        """The person as the planner sees them: a dead phone's position is old."""
        worker = person.staff.worker
        lon, lat = _where(person, now)
        busy = [*person.queue, *person.offers, *([person.working] if person.working is not None else [])]
        away = any(self._open[k].case.task.area_code != worker.community_code for k in busy)
        rest = timedelta(seconds=self._policy.rest_s)
        return replace(
            worker, on_duty=True, lon=lon, lat=lat, open_tasks=len(busy), done=person.done,
            position_age_s=1e6 if _within(person.staff.dead, now) else 0.0,
            away=away and worker.community_code is not None, on_break=_within(person.staff.breaks, now),
            rest_until=person.rested_at + rest if person.rested_at else None,
        )  # fmt: skip

    def _offer(self, number: int, user_id: UUID, now: datetime) -> None:
        one, person = self._open[number], self._people[user_id]
        self._waiting.discard(number)
        one.offers, one.offers_since, one.holder, one.turn = one.offers + 1, one.offers_since + 1, user_id, one.turn + 1
        person.offers.add(number)
        luck = np.random.default_rng((self._seed, number, self._place[user_id]))
        fortune, delay_s = luck.random(), float(luck.exponential(self._habits.answer_s))
        silent = (
            fortune < self._habits.silent or _within(person.staff.dead, now) or delay_s > self._habits.accept_timeout_s
        )
        turn = one.turn
        if silent:
            self._at(now + timedelta(seconds=self._habits.accept_timeout_s), lambda at: self._pass_on(number, turn, at))
        elif fortune < self._habits.silent + self._habits.refused:
            self._at(now + timedelta(seconds=delay_s), lambda at: self._pass_on(number, turn, at))
        else:
            self._at(now + timedelta(seconds=delay_s), lambda at: self._accept(number, turn, at))

    def _pass_on(self, number: int, turn: int, now: datetime) -> None:
        """Refused, or not answered in time: the next one; after so many an operator decides."""
        one = self._open[number]
        if one.turn != turn or one.holder is None:
            return
        self._people[one.holder].offers.discard(number)
        one.refused.add(one.holder)
        one.holder = None
        if one.offers_since >= self._habits.max_offers:
            one.refused.clear()
            one.offers_since = 0
            self._at(now + timedelta(seconds=self._habits.operator_s), lambda at: self._wait(number, at))
        else:
            self._wait(number, now)

    def _accept(self, number: int, turn: int, now: datetime) -> None:
        one = self._open[number]
        if one.turn != turn or one.holder is None:
            return
        person = self._people[one.holder]
        person.offers.discard(number)
        person.queue.append(number)
        one.accepted_at = now
        if person.working is None:
            self._start(one.holder, now)

    # ------------------------------------------------------------------------------------------------ work

    def _start(self, user_id: UUID, now: datetime) -> None:
        """Set out to the next task: the most severe first, then in the order of acceptance."""
        person = self._people[user_id]
        if not person.queue or person.working is not None:
            return
        number = min(person.queue, key=lambda k: (self._open[k].case.task.severity > self._policy.urgent_severity, 0))
        person.queue.remove(number)
        person.working = number
        task = self._open[number].case.task
        lon, lat = _where(person, now)
        way_m = 0.0 if lon is None or lat is None else distance_m(lon, lat, task.lon, task.lat) * self._policy.detour
        arrived_at = now + timedelta(seconds=way_m / SPEED_M_S[person.staff.worker.means])
        if lon is not None and lat is not None:
            person.trip = (lon, lat, now, arrived_at)
        person.lon, person.lat = task.lon, task.lat
        person.way_m += way_m
        turn = self._open[number].turn
        self._at(arrived_at, lambda at: self._arrive(number, turn, at))

    def _arrive(self, number: int, turn: int, now: datetime) -> None:
        one = self._open[number]
        if one.turn != turn:
            return
        one.arrived_at = now
        self._at(now + timedelta(seconds=one.case.work_s), lambda at: self._finish(number, turn, at))

    def _finish(self, number: int, turn: int, now: datetime) -> None:
        one = self._open[number]
        if one.turn != turn or one.holder is None:
            return
        one.handled_at = now
        person = self._people[one.holder]
        person.working, person.trip, person.rested_at = None, None, now
        person.done += 1
        self._start(one.holder, now)

    def _go_home(self, user_id: UUID, now: datetime) -> None:
        """The shift ends: what is being done is finished, the rest goes to others."""
        person = self._people[user_id]
        for number in [*person.queue, *person.offers]:
            one = self._open[number]
            one.holder, one.accepted_at, one.turn = None, None, one.turn + 1
            self._wait(number, now)
        person.queue.clear()
        person.offers.clear()


def _within(spans: Sequence[Span], now: datetime) -> bool:
    return any(began <= now < ended for began, ended in spans)


def _where(person: _Person, now: datetime) -> tuple[float | None, float | None]:
    """On the way, somewhere between."""
    if person.trip is None or person.lon is None or person.lat is None:
        return person.lon, person.lat
    lon, lat, began, ended = person.trip
    share = min(1.0, (now - began) / (ended - began)) if ended > began else 1.0
    return lon + (person.lon - lon) * share, lat + (person.lat - lat) * share
