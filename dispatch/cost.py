"""What it costs to send each person to each task, in seconds of way, and what rules a pair out: whole matrices at once.

Rows are tasks, columns are people. Ways are straight lines in a plane laid at the middle of the tasks (within 0.1 % of the
great circle over 50 km) times `policy.detour`, at the speed of each one's means.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntFlag, StrEnum
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from kernel.settings import AssignmentSettings

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Bits = NDArray[np.uint16]
_METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180  # on the mean sphere (IUGG)


class Means(StrEnum):
    """How somebody gets about."""

    FOOT = "foot"
    BICYCLE = "bicycle"
    EBIKE = "ebike"
    CAR = "car"


SPEED_M_S = {
    Means.FOOT: 1.2,
    Means.BICYCLE: 3.5,
    Means.EBIKE: 5.0,
    Means.CAR: 6.0,
}  # in a city, stops included: own values


class Bar(IntFlag):
    """Why somebody cannot be sent to a task; the names in small letters are the codes that are shown."""

    OFF_DUTY = 1
    REFUSED_BEFORE = 2
    OUT_OF_AREA = 4
    ON_BREAK = 8
    SKILL = 16
    EQUIPMENT = 32
    OVERLOADED = 64
    RESTING = 128
    TOO_FAR = 256
    COVER = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A person who might go. The position is None when none was ever sent; `done` counts tasks of this shift."""

    user_id: UUID
    name: str
    on_duty: bool
    responsibility_grid_code: str | None = None
    community_code: str | None = None  # where the responsibility grid lies: cover is counted there
    scope: str = "*"
    lon: float | None = None
    lat: float | None = None
    position_age_s: float | None = None
    open_tasks: int = 0
    done: int = 0
    away: bool = False  # busy outside their community
    means: Means = Means.FOOT
    skills: Collection[str] = frozenset()
    equipment: Collection[str] = frozenset()
    on_break: bool = False
    rest_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """An incident that waits for somebody. `refused`: who was asked in vain; `held_by`: who is proposed already."""

    id: UUID
    lon: float
    lat: float
    area_code: str = ""
    grid_code: str | None = None
    severity: int = 3
    skills: frozenset[str] = frozenset()
    equipment: frozenset[str] = frozenset()
    people: int = 1
    refused: frozenset[UUID] = frozenset()
    held_by: UUID | None = None


@dataclass(slots=True, eq=False)
class Costs:
    """Matrices of tasks × people. `cost` is in seconds, without regard to `bars`; `way_m` is NaN where unknown."""

    cost: Floats
    bars: Bits
    way_m: Floats
    own_grid: Flags
    fresh: Flags  # of each person
    open_tasks: NDArray[np.int64]
    done: NDArray[np.int64]
    leaves: Flags  # would leave their community for what is not urgent


def count_costs(
    tasks: Sequence[Task],
    people: Sequence[Worker],
    policy: AssignmentSettings,
    now: datetime,
    *,
    position_max_age_s: float,
) -> Costs:
    """All pairs, but for cover, which depends on who else is sent."""
    fresh = np.array([_is_fresh(one, position_max_age_s) for one in people], np.bool_)
    way_m = _ways(tasks, people)
    urgent = np.array([task.severity <= policy.urgent_severity for task in tasks], np.bool_)
    speed = np.array([SPEED_M_S[one.means] for one in people])
    weight = np.where(urgent, policy.urgent_factor, 1.0)
    travel = way_m * (policy.detour / speed)
    travel[:, ~fresh] = policy.stale_position_s  # an old position says nothing about the way
    travel *= weight[:, None]
    own_grid = _same([task.grid_code for task in tasks], [one.responsibility_grid_code for one in people])
    cost = travel + np.where(own_grid, 0.0, policy.other_grid_s)
    open_tasks = np.array([one.open_tasks for one in people], np.int64)
    done = np.array([one.done for one in people], np.int64)
    cost += open_tasks * policy.open_task_s + np.where(open_tasks >= policy.busy_from, policy.busy_s, 0.0)
    cost += done * policy.done_task_s
    column = {one.user_id: k for k, one in enumerate(people)}
    for row, task in enumerate(tasks):
        if task.held_by in column:
            cost[row, column[task.held_by]] -= policy.switch_s
    costs = Costs(
        cost=cost, bars=np.zeros(cost.shape, np.uint16), way_m=way_m, own_grid=own_grid, fresh=fresh,
        open_tasks=open_tasks, done=done, leaves=_leave(tasks, people, urgent),
    )  # fmt: skip
    _bar(costs, tasks, people, policy, now, urgent, column)
    return costs


def _is_fresh(one: Worker, max_age_s: float) -> bool:
    return (
        one.lon is not None
        and one.lat is not None
        and one.position_age_s is not None
        and one.position_age_s <= max_age_s
    )


def _ways(tasks: Sequence[Task], people: Sequence[Worker]) -> Floats:
    """Straight lines in metres."""
    task_at = np.array([(task.lon, task.lat) for task in tasks]).reshape(-1, 2)
    at = np.array(
        [(math.nan, math.nan) if one.lon is None or one.lat is None else (one.lon, one.lat) for one in people]
    ).reshape(-1, 2)
    middle = float(task_at[:, 1].mean()) if len(task_at) else 0.0
    scale = np.array([_METRES_PER_DEGREE * math.cos(math.radians(middle)), _METRES_PER_DEGREE])
    task_at, at = task_at * scale, at * scale
    east = task_at[:, :1] - at[:, 0]
    north = task_at[:, 1:] - at[:, 1]
    east *= east
    north *= north
    east += north
    found: Floats = np.sqrt(east, out=east)
    return found


def _same(of_tasks: Sequence[str | None], of_people: Sequence[str | None]) -> Flags:
    """Pairs with the same code; no code is nobody's."""
    numbers: dict[str, int] = {}
    rows = np.array([numbers.setdefault(code, len(numbers)) if code else -1 for code in of_tasks], np.int64)
    columns = np.array([numbers.get(code, -2) if code else -2 for code in of_people], np.int64)
    same: Flags = rows[:, None] == columns
    return same


def _leave(tasks: Sequence[Task], people: Sequence[Worker], urgent: Flags) -> Flags:
    homes = [one.community_code for one in people]
    found = ~_same([task.area_code for task in tasks], homes)
    found &= np.array([bool(home) for home in homes], np.bool_)
    found[urgent] = False
    return found


def _bar(
    costs: Costs,
    tasks: Sequence[Task],
    people: Sequence[Worker],
    policy: AssignmentSettings,
    now: datetime,
    urgent: Flags,
    column: Mapping[UUID, int],
) -> None:
    bars = costs.bars
    of_one = np.zeros(len(people), np.uint16)
    for k, one in enumerate(people):
        of_one[k] = (
            (0 if one.on_duty else Bar.OFF_DUTY)
            | (Bar.ON_BREAK if one.on_break else 0)
            | (Bar.OVERLOADED if one.open_tasks >= policy.full_at else 0)
            | (Bar.RESTING if one.rest_until is not None and one.rest_until > now else 0)
        )
    bars |= of_one
    bars[urgent] &= np.uint16(~Bar.RESTING & 0xFFFF)
    bars |= _miss([task.skills for task in tasks], [one.skills for one in people], Bar.SKILL)
    bars |= _miss([task.equipment for task in tasks], [one.equipment for one in people], Bar.EQUIPMENT)
    bars |= _outside([task.area_code for task in tasks], [one.scope for one in people])
    far = costs.way_m > policy.max_way_m  # NaN compares false: an unknown way rules nobody out
    far[:, ~costs.fresh] = False
    bars[far] |= np.uint16(Bar.TOO_FAR)
    for row, task in enumerate(tasks):
        for user_id in task.refused:
            if user_id in column:
                bars[row, column[user_id]] |= np.uint16(Bar.REFUSED_BEFORE)


def _miss(needed: Sequence[frozenset[str]], held: Sequence[Collection[str]], bar: Bar) -> Bits:
    """Pairs where something needed is not held; at most 63 different things are needed at once, more are one by one."""
    found = np.zeros((len(needed), len(held)), np.uint16)
    for thing in sorted(frozenset[str]().union(*needed)):
        needs = np.array([thing in one for one in needed], np.bool_)
        has = np.array([thing in one for one in held], np.bool_)
        found[np.ix_(needs, ~has)] |= np.uint16(bar)
    return found


def _outside(areas: Sequence[str], scopes: Sequence[str]) -> Bits:
    """Pairs where the task lies outside the person's scope ('*' or division-code prefixes)."""
    kinds, places = sorted(set(scopes)), sorted(set(areas))
    sees = np.array(
        [[s == "*" or any(p and area.startswith(p) for p in s.split(",")) for s in kinds] for area in places], np.bool_
    ).reshape(len(places), len(kinds))
    place = {area: k for k, area in enumerate(places)}
    rows = np.array([place[area] for area in areas], int)
    kind = {scope: k for k, scope in enumerate(kinds)}
    columns = np.array([kind[scope] for scope in scopes], int)
    found: Bits = np.where(sees[np.ix_(rows, columns)], 0, int(Bar.OUT_OF_AREA)).astype(np.uint16)
    return found
