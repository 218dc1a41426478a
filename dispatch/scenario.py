"""A day of a district made up from a seed, for what-if questions where no history is: incidents, people, shifts, breaks.

Eight communities of four responsibility grids each on 4 × 2 km. Incidents come by the hour as in DOMAIN's rhythm of a day: few
at night, most at noon and in the evening, gathered around a few hot places. Every share is the project's own.
"""

from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from dispatch.cost import Means, Task, Worker
from dispatch.whatif import Case, Staff

WEST, SOUTH, WIDE, HIGH = 120.155, 30.265, 0.0416, 0.018  # about 4 × 2 km
_COLUMNS, _ROWS = 4, 2
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 6, 6, 7, 6, 5, 6, 6, 7, 8, 8, 7, 5, 4, 3, 2], float)
_LIMIT_S = {1: 1_800.0, 2: 7_200.0, 3: 14_400.0, 4: 28_800.0}
_SHIFTS = ((0, 8), (8, 16), (16, 24))


def make_cases(rng: np.random.Generator, count: int, day: datetime) -> list[Case]:
    """`count` incidents of the day that begins at `day`; 5 % are of severity 1."""
    hot = rng.random((6, 2))
    found = []
    for number in range(count):
        at = rng.random(2) if rng.random() < 0.5 else np.clip(hot[rng.integers(6)] + rng.normal(0, 0.04, 2), 0, 0.9999)
        lon, lat, community, grid = place(float(at[0]), float(at[1]))
        severity = int(rng.choice([1, 2, 3, 4], p=[0.05, 0.15, 0.5, 0.3]))
        hour = int(rng.choice(24, p=_HOURS / _HOURS.sum()))
        filed_at = day + timedelta(hours=hour, seconds=float(rng.uniform(0, 3600)))
        task = Task(
            id=UUID(int=number + 1), lon=lon, lat=lat, area_code=community, grid_code=grid, severity=severity,
            skills=frozenset({"first_aid"} if severity == 1 and rng.random() < 0.5 else ()),
        )  # fmt: skip
        work_s = float(np.clip(rng.lognormal(np.log(420), 0.6), 60, 5400))
        found.append(
            Case(task=task, filed_at=filed_at, due_at=filed_at + timedelta(seconds=_LIMIT_S[severity]), work_s=work_s)
        )
    return sorted(found, key=lambda case: case.filed_at)


def make_staff(rng: np.random.Generator, count: int, day: datetime) -> list[Staff]:
    """`count` people in three shifts, half of them in the day's; a break of 45 minutes each; one phone in twenty dies
    for two hours."""
    found = []
    for number in range(count):
        lon, lat, community, grid = place(*(float(x) for x in rng.random(2)))
        began, ended = _SHIFTS[int(rng.choice(3, p=[0.15, 0.5, 0.35]))]
        starts_at, ends_at = day + timedelta(hours=began), day + timedelta(hours=ended)
        pause = starts_at + timedelta(hours=3.5 + float(rng.uniform(-0.75, 0.75)))
        dies = starts_at + timedelta(hours=float(rng.uniform(0, 6)))
        worker = Worker(
            user_id=UUID(int=10**6 + number), name=f"网格员{number + 1}", on_duty=True, responsibility_grid_code=grid,
            community_code=community, lon=lon, lat=lat, position_age_s=0.0,
            means=Means(str(rng.choice(list(Means), p=[0.3, 0.2, 0.45, 0.05]))),
            skills=frozenset({"first_aid"} if rng.random() < 0.4 else ()),
        )  # fmt: skip
        dead = ((dies, dies + timedelta(hours=2)),) if rng.random() < 0.05 else ()
        found.append(
            Staff(
                worker=worker,
                shifts=((starts_at, ends_at),),
                breaks=((pause, pause + timedelta(minutes=45)),),
                dead=dead,
            )
        )
    return found


def place(x: float, y: float) -> tuple[float, float, str, str]:
    """Longitude, latitude, community and responsibility grid of a place in the district (0..1 from the south-west)."""
    community = f"330103{int(x * _COLUMNS) + 1:03d}{int(y * _ROWS) + 1:03d}"
    quarter = int(x * _COLUMNS * 2) % 2 + 2 * (int(y * _ROWS * 2) % 2)
    return WEST + x * WIDE, SOUTH + y * HIGH, community, f"{community}G{quarter}"
