"""`gridwarden bench assign`: 1,000 waiting incidents given to 1,000 people, against the nearest one free for each in turn.

The ceiling is scipy's bare linear_sum_assignment on the finished matrix: no planner that finds the optimum with it is faster.
Besides the time, the cost in seconds over the incidents that all three send somebody to: ours, the greedy choice's, and the
optimum that disregards cover. For it each one's first task counts; ours then gives what is left to whoever is free next.
"""

import os
import platform
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dispatch.assign import Plan, plan
from dispatch.cost import Costs, Means, Task, Worker
from kernel.settings import AssignmentSettings

SIZE, RUNS = 1_000, 9
_NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
_LON, _LAT, _SIDE = 120.10, 30.20, 0.15  # degrees: about 14 by 17 km
_COMMUNITIES, _GRIDS = 10, 20  # along each side
_SHOWN = 10
_POLICY = AssignmentSettings(rest_s=300.0)


def measure() -> list[dict[str, Any]]:
    """Milliseconds for one plan of everything that waits: medians of interleaved runs."""
    rng = np.random.default_rng(1)
    tasks, people, cover = make_tasks(rng), make_people(rng), make_cover()
    found = _plan(tasks, people, cover)
    costs = found.costs
    gain = _gain(found)
    upright = np.ascontiguousarray(gain.T)  # people as rows: found in half the time
    greedy = choose_nearest(found.tasks, costs)
    took: dict[str, list[float]] = {"ours": [], "explained": [], "peer": [], "ceiling": []}
    for _ in range(RUNS):
        began = time.perf_counter()
        found = _plan(tasks, people, cover)
        planned = time.perf_counter()
        for row in range(len(found.tasks)):
            found.explain(row, _SHOWN)
        explained = time.perf_counter()
        choose_nearest(found.tasks, costs)
        chosen = time.perf_counter()
        linear_sum_assignment(upright)
        ended = time.perf_counter()
        for name, span in zip(
            took, (planned - began, explained - began, chosen - explained, ended - chosen), strict=True
        ):
            took[name].append(span * 1000)
    ms = {name: statistics.median(times) for name, times in took.items()}
    rows, columns = linear_sum_assignment(gain)
    best = [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if gain[row, column] < 0]
    sent = {"ours": _first_round(found), "greedy": greedy, "optimum_without_cover": best}
    common = set.intersection(*({row for row, _ in pairs} for pairs in sent.values()))
    return [
        {
            "name": "assign",
            "unit": "ms",
            **{name: round(ms[name], 2) for name in ("ours", "peer", "ceiling")},
            "peer_name": "the nearest one who may go, incident by incident, from the ready matrix",
            "ceiling_name": "scipy linear_sum_assignment alone, on the ready matrix",
            "ratio_peer": round(ms["ours"] / ms["peer"], 3),
            "ratio_ceiling": round(ms["ours"] / ms["ceiling"], 3),
            "runs": RUNS,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "explained_ms": round(ms["explained"], 2),
            "incidents": len(tasks),
            "people": len(people),
            "pairs_ruled_out": round(float((costs.bars != 0).mean()), 3),
            "cost_s": {name: _total(costs, pairs, common) for name, pairs in sent.items()},
            "compared": len(common),
            "sent": {name: len(pairs) for name, pairs in sent.items()},
            "sent_in_all_rounds": len(found.pairs),
            "mean_way_m": {name: _way(costs, pairs) for name, pairs in sent.items()},
        }
    ]


def _plan(tasks: list[Task], people: list[Worker], cover: dict[str, int]) -> Plan:
    return plan(tasks, people, _POLICY, _NOW, position_max_age_s=600, cover=cover)


def _place(rng: np.random.Generator) -> tuple[float, float, str, str]:
    """Longitude, latitude, community and responsibility grid."""
    x, y = rng.random(2)
    community = f"330103{int(x * _COMMUNITIES):03d}{int(y * _COMMUNITIES):03d}"
    return _LON + x * _SIDE, _LAT + y * _SIDE, community, f"{community}G{int(x * _GRIDS) % 2}{int(y * _GRIDS) % 2}"


def make_tasks(rng: np.random.Generator) -> list[Task]:
    """Incidents anywhere; a tenth urgent, some that need a skill or equipment, some refused before."""
    found = []
    for number in range(SIZE):
        lon, lat, community, grid = _place(rng)
        found.append(
            Task(
                id=UUID(int=number + 1), lon=lon, lat=lat, area_code=community, grid_code=grid,
                severity=int(rng.choice([1, 2, 3, 4], p=[0.1, 0.2, 0.5, 0.2])),
                skills=frozenset({"first_aid"} if rng.random() < 0.1 else {"electrics"} if rng.random() < 0.1 else ()),
                equipment=frozenset({"pump"} if rng.random() < 0.05 else ()),
                refused=frozenset(UUID(int=int(n) + 1) for n in rng.integers(0, SIZE, int(rng.integers(0, 3)))),
            )
        )  # fmt: skip
    return found


def make_people(rng: np.random.Generator) -> list[Worker]:
    """People anywhere: some on a break, resting, with old positions, tasks, skills, and means of their own."""
    found = []
    for number in range(SIZE):
        lon, lat, community, grid = _place(rng)
        found.append(
            Worker(
                user_id=UUID(int=number + 1), name=f"p{number}", on_duty=bool(rng.random() < 0.97),
                responsibility_grid_code=grid, community_code=community, lon=lon, lat=lat,
                scope="*" if rng.random() < 0.5 else "330103",
                position_age_s=float(rng.exponential(150)), open_tasks=int(rng.integers(0, 4)), done=int(rng.integers(0, 8)),
                means=Means(str(rng.choice(list(Means)))), on_break=bool(rng.random() < 0.03),
                skills=frozenset(s for s in ("first_aid", "electrics") if rng.random() < 0.4),
                equipment=frozenset({"pump"} if rng.random() < 0.3 else ()),
                rest_until=_NOW + timedelta(seconds=float(rng.uniform(-300, 60))),
            )
        )  # fmt: skip
    return found


def make_cover() -> dict[str, int]:
    """Seven people, of nine or ten there are on average, stay in every community."""
    every = range(_COMMUNITIES)
    return {f"330103{x:03d}{y:03d}": 7 for x in every for y in every}


def choose_nearest(tasks: Any, costs: Costs) -> list[tuple[int, int]]:
    """The peer: the most severe first, each gets the nearest person who may go and has none yet."""
    way: NDArray[np.float64] = np.where(costs.bars == 0, np.where(costs.fresh, costs.way_m, 1e6), np.inf)
    found = []
    for row in sorted(range(len(tasks)), key=lambda k: tasks[k].severity):
        column = int(way[row].argmin())
        if np.isfinite(way[row, column]):
            found.append((row, column))
            way[:, column] = np.inf
    return found


def _gain(found: Plan) -> NDArray[np.float64]:
    """The first round's matrix, without cover."""
    wait_s = 1e6 * (5 - np.array([task.severity for task in found.tasks], float))
    bare = plan(found.tasks, found.people, _POLICY, _NOW, position_max_age_s=600).costs
    return np.where(bare.bars == 0, np.minimum(bare.cost - wait_s[:, None], 0.0), 0.0)


def _first_round(found: Plan) -> list[tuple[int, int]]:
    """The first task of each person."""
    first: dict[int, int] = {}
    for row, column in found.pairs:
        first.setdefault(column, row)
    return [(row, column) for column, row in first.items()]


def _total(costs: Costs, pairs: list[tuple[int, int]], rows: set[int]) -> int:
    return round(float(sum(costs.cost[pair] for pair in pairs if pair[0] in rows)))


def _way(costs: Costs, pairs: list[tuple[int, int]]) -> int:
    known = [float(costs.way_m[pair]) for pair in pairs if costs.fresh[pair[1]]]
    return round(statistics.fmean(known)) if known else 0
