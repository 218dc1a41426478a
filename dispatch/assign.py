"""Who goes: all waiting tasks are given to people together, at the least cost, and every choice says why.

The costs are dispatch.cost's, in seconds. A round gives each person at most one task: the matching of people to tasks of the
least total cost (scipy's linear_sum_assignment). When more tasks wait than people can go, the severe ones come first, and
further rounds go on from where each one's last task is. Nobody is taken from a community that would fall below its cover.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dispatch.cost import Bar, Costs, Floats, Task, Worker, count_costs
from kernel.settings import AssignmentSettings

_WAIT_S = (
    1e6  # what leaving a task of the least severity to wait costs; each severity more as much again: order, no measure
)
_CODES = {bar: str(bar.name).lower() for bar in Bar}
_Pairs = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Considered:
    """A person as the choice for one task saw them: how far (straight line), and the codes why chosen or why not."""

    worker: Worker
    distance_m: float | None
    chosen: bool
    codes: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Plan:
    """Who goes to which task. `pairs` are places in `tasks` and `people`, in the order of the rounds."""

    tasks: Sequence[Task]
    people: Sequence[Worker]
    costs: Costs
    policy: AssignmentSettings
    pairs: _Pairs = field(default_factory=list)
    _goers: dict[int, list[int]] = field(default_factory=dict)
    _rows: dict[int, set[int]] = field(default_factory=dict)

    def send(self, row: int, column: int) -> None:
        """The person at `column` goes to the task at `row`."""
        self.pairs.append((row, column))
        self._goers.setdefault(row, []).append(column)
        self._rows.setdefault(column, set()).add(row)

    def chosen(self, row: int) -> list[int]:
        """The places of those who go to the task at `row`."""
        return self._goers.get(row, [])

    @property
    def total_s(self) -> float:
        """The cost of all pairs, as the costs were before anybody was sent."""
        return float(sum(self.costs.cost[pair] for pair in self.pairs))

    def explain(self, row: int, shown: int | None = None) -> list[Considered]:
        """Those who go and then the others with the reasons, the best first, who may not go last; at most `shown`
        others. People of other areas are left out."""
        chosen = self.chosen(row)
        cost, bars = self.costs.cost[row], self.costs.bars[row]
        able = bars == 0
        able[chosen] = True
        rank = np.where(able, cost, cost + np.where(bars & np.uint16(Bar.OFF_DUTY | Bar.ON_BREAK), 2e9, 1e9))
        seen = np.flatnonzero((bars & np.uint16(Bar.OUT_OF_AREA)) == 0)
        if shown is not None and len(seen) > shown + len(chosen):
            seen = seen[np.argpartition(rank[seen], shown + len(chosen) - 1)[: shown + len(chosen)]]
        others = [int(k) for k in seen[np.lexsort((seen, rank[seen]))] if k not in chosen]
        first = chosen[0] if chosen else None
        return [
            *(self._considered(row, k, self._why(row, k, able)) for k in chosen),
            *(
                self._considered(row, k, self._why_not(row, k, first, bool(self._rows.get(k, set()) - {row})))
                for k in others[:shown]
            ),
        ]

    def _considered(self, row: int, column: int, codes: tuple[str, ...]) -> Considered:
        way_m = float(self.costs.way_m[row, column])
        return Considered(
            worker=self.people[column],
            distance_m=None if way_m != way_m else way_m,
            chosen=column in self.chosen(row),
            codes=codes,
        )

    def _why(self, row: int, best: int, able: NDArray[np.bool_]) -> tuple[str, ...]:
        costs = self.costs
        is_fresh, is_own = bool(costs.fresh[best]), bool(costs.own_grid[row, best])
        codes = ["own_grid"] if is_own else []
        nearer = able & costs.fresh & (costs.way_m[row] < costs.way_m[row, best])
        if self.tasks[row].held_by == self.people[best].user_id:
            codes.append("kept")
        if int(able.sum()) == 1:
            codes.append("only_one")
        elif is_fresh and not nearer.any():
            codes.append("nearest")
        elif not is_own:
            least = costs.open_tasks[best] <= costs.open_tasks[able].min()
            codes.append("fewest_tasks" if least else "least_total")
        if self.tasks[row].skills or self.tasks[row].equipment:
            codes.append("able")
        return tuple(codes) if is_fresh else (*codes, "stale_position")

    def _why_not(self, row: int, column: int, best: int | None, is_busy: bool) -> tuple[str, ...]:
        costs = self.costs
        bars = int(costs.bars[row, column])
        barred = tuple(code for bar, code in _CODES.items() if bars & bar)
        if barred or best is None:
            return barred or ("needed_elsewhere",)
        codes = ["needed_elsewhere"] if is_busy and costs.cost[row, column] < costs.cost[row, best] else []
        if costs.open_tasks[column] >= self.policy.busy_from:
            codes.append("too_many_tasks")
        if costs.own_grid[row, best] and not costs.own_grid[row, column]:
            codes.append("other_grid")
        if not costs.fresh[column]:
            codes.append("stale_position")
        elif costs.fresh[best] and costs.way_m[row, best] < costs.way_m[row, column]:
            codes.append("farther")
        if codes:
            return tuple(codes)
        # Of the same grid, with a fresh position and no farther: the tasks decided, or nothing but the order.
        if costs.open_tasks[column] > costs.open_tasks[best]:
            return ("too_many_tasks",)
        return ("did_more",) if costs.done[column] > costs.done[best] else ("no_better",)


def plan(
    tasks: Sequence[Task],
    people: Sequence[Worker],
    policy: AssignmentSettings,
    now: datetime,
    *,
    position_max_age_s: float,
    cover: Mapping[str, int] | None = None,
) -> Plan:
    """Give all `tasks` to `people` at once. `cover`: so many of each community's people on duty stay in it.

    Depends on no order of either: ties go to the lower id. A task for several people may get fewer than it asks for.
    """
    tasks, people = sorted(tasks, key=lambda task: task.id), sorted(people, key=lambda one: one.user_id)
    found: Plan | None = None
    slots = [row for row, task in enumerate(tasks) for _ in range(task.people)]
    waiting, able = list(tasks), list(people)
    while True:
        costs = count_costs(waiting, able, policy, now, position_max_age_s=position_max_age_s)
        if found is None:
            found = Plan(tasks=tasks, people=people, costs=costs, policy=policy)
            places = np.arange(len(tasks))
        taken = _match(costs, np.searchsorted(places, slots), waiting, able, _spare(able, cover or {}))
        for slot, column in taken:
            found.send(slots[slot], column)
            able[column] = _go_on(able[column], tasks[slots[slot]])
        given = {slot for slot, _ in taken}
        slots = [row for slot, row in enumerate(slots) if slot not in given]
        if not slots or not taken:
            return found
        places = np.unique(slots)
        waiting = [
            replace(tasks[row], refused=tasks[row].refused | {people[k].user_id for k in found.chosen(int(row))})
            for row in places
        ]


def _match(
    costs: Costs, rows: NDArray[np.int64], tasks: Sequence[Task], people: Sequence[Worker], spare: dict[str, int]
) -> _Pairs:
    """One round: at most one task for each person, at the least cost, leaving enough people in every community.

    `rows` says which task each of the slots to fill is; the pairs are of slots and people. Cover depends on who else goes: the
    matching is found without it, whoever would leave too few behind is taken out, and their tasks are matched again to who is
    free. So cover costs little time, and the result may be a little above the optimum where it binds.
    """
    if not len(rows) or not people:
        return []
    _keep_cover(costs, people, spare)
    wait_s = _WAIT_S * (5 - np.array([task.severity for task in tasks], float))
    # Sending nobody is worth 0, so that the matching is free to leave out what is barred or does not pay.
    gain = np.where(costs.bars == 0, np.minimum(costs.cost - wait_s[:, None], 0.0), 0.0)
    taken: dict[int, int] = {}
    open_slots = np.arange(len(rows))
    while True:
        free = np.setdiff1d(np.flatnonzero((gain < 0).any(axis=0)), list(taken.values()))
        # People as rows, and only those who can go at all: the same matching, found in half the time.
        columns, slots = linear_sum_assignment(np.ascontiguousarray(gain[np.ix_(rows[open_slots], free)].T))
        columns, slots = free[columns], open_slots[slots]
        paid = gain[rows[slots], columns] < 0
        taken |= {int(slot): int(column) for slot, column in zip(slots[paid], columns[paid], strict=True)}
        surplus = _surplus(sorted(taken.items()), gain, costs, rows, tasks, people, spare)
        if not surplus:
            return sorted(taken.items())
        for column in surplus:
            costs.bars[costs.leaves[:, column], column] |= np.uint16(Bar.COVER)
            gain[costs.leaves[:, column], column] = 0.0
        taken = {slot: column for slot, column in taken.items() if column not in surplus}
        open_slots = np.setdiff1d(np.arange(len(rows)), list(taken))


def _surplus(
    taken: _Pairs,
    gain: Floats,
    costs: Costs,
    rows: NDArray[np.int64],
    tasks: Sequence[Task],
    people: Sequence[Worker],
    spare: Mapping[str, int],
) -> set[int]:
    """Who would leave a community that has nobody more to spare: those whose going gains least. Who goes to something urgent
    goes in any case, and is one less to spare."""
    leaving: dict[str, list[tuple[float, int]]] = {}
    called = Counter(
        people[column].community_code
        for slot, column in taken
        if not people[column].away
        and not costs.leaves[rows[slot], column]
        and tasks[rows[slot]].area_code != people[column].community_code
    )
    for slot, column in taken:
        one = people[column]
        home = one.community_code or ""
        if home in spare and not one.away and costs.leaves[rows[slot], column]:
            leaving.setdefault(home, []).append((float(gain[rows[slot], column]), column))
    return {
        column for home, those in leaving.items() for _, column in sorted(those)[max(0, spare[home] - called[home]) :]
    }


def _spare(people: Sequence[Worker], cover: Mapping[str, int]) -> dict[str, int]:
    """How many may leave each community that has a cover."""
    there = dict.fromkeys(cover, 0)
    for one in people:
        if one.community_code in there and one.on_duty and not one.on_break and not one.away:
            there[one.community_code] += 1
    return {home: there[home] - least for home, least in cover.items()}


def _keep_cover(costs: Costs, people: Sequence[Worker], spare: Mapping[str, int]) -> None:
    """Communities with nobody to spare: their people go nowhere else."""
    for column, one in enumerate(people):
        if spare.get(one.community_code or "", 1) <= 0 and not one.away:
            costs.bars[costs.leaves[:, column], column] |= np.uint16(Bar.COVER)


def _go_on(one: Worker, task: Task) -> Worker:
    """The person as the next round sees them: with one task more, from whose place the way goes on."""
    return replace(
        one,
        lon=task.lon,
        lat=task.lat,
        position_age_s=0.0,
        open_tasks=one.open_tasks + 1,
        away=one.away or one.community_code not in (None, task.area_code),
    )
