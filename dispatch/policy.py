"""Pure decisions: what may be done to an incident, how its light stands, who goes.

`TRANSITIONS` is the whole life of an incident. Nothing else in the project decides about a state.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dispatch.model import Action, Actor, Candidate, Considered, Need, Who
from kernel.types import OPEN_STATES, CheckKind, IncidentState, Light, Role, Source, Verdict

_S = IncidentState
AMBER_FROM = 0.8  # of the limit (DOMAIN: lights)
TASK_WEIGHT_M = 500.0  # an open task counts like so many metres of way: the project's own value
MANY_TASKS = 3  # a person with so many open tasks comes after all who have fewer: the project's own value
_EARTH_RADIUS_M = 6_371_008.8
_SAME_OVERLAP, _SAME_COVER = 0.33, 0.7  # of two boxes at one place of a picture: the project's own values


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One line of the table. `to` None: the state stays. For a check `verdict` says which line holds."""

    action: Action
    by: frozenset[Who]
    states: frozenset[IncidentState]
    to: IncidentState | None
    needs: tuple[Need, ...] = ()
    verdict: Verdict | None = None


def _line(
    action: Action,
    by: Iterable[Who],
    states: Iterable[IncidentState],
    to: IncidentState | None,
    *needs: Need,
    verdict: Verdict | None = None,
) -> Transition:
    return Transition(action=action, by=frozenset(by), states=frozenset(states), to=to, needs=needs, verdict=verdict)


_OPERATOR, _ASSIGNEE, _SYSTEM = (Who.OPERATOR,), (Who.ASSIGNEE,), (Who.SYSTEM,)
_CHECK = (Need.VERDICT,)

TRANSITIONS: tuple[Transition, ...] = (
    _line(Action.FILE, (Who.OPERATOR, Who.SYSTEM), (_S.REPORTED,), _S.FILED),
    # A false alarm can come to light at any time, also after somebody went there. Never without a reason.
    _line(Action.VOID, _OPERATOR, OPEN_STATES, _S.VOID, Need.REASON),
    _line(Action.DISPATCH, (Who.OPERATOR, Who.SYSTEM), (_S.FILED,), _S.DISPATCHED, Need.USER),
    # Reassignment: an operator may send somebody else while nobody has handled it. The system does so only after
    # the offer was refused, expired or sent back, that is from `filed`.
    _line(Action.DISPATCH, _OPERATOR, (_S.DISPATCHED, _S.ACCEPTED, _S.ON_SITE), _S.DISPATCHED, Need.USER),
    _line(Action.ACCEPT, _ASSIGNEE, (_S.DISPATCHED,), _S.ACCEPTED),
    _line(Action.REFUSE, _ASSIGNEE, (_S.DISPATCHED,), _S.FILED, Need.REASON),
    _line(Action.EXPIRE, _SYSTEM, (_S.DISPATCHED,), _S.FILED),
    _line(Action.ARRIVE, _ASSIGNEE, (_S.ACCEPTED,), _S.ON_SITE),
    _line(Action.HANDLE, _ASSIGNEE, (_S.ON_SITE,), _S.HANDLED, Need.PHOTO, Need.POSITION),
    _line(Action.CHECK, _OPERATOR, (_S.HANDLED,), _S.CLOSED, *_CHECK, verdict=Verdict.CLEAR),
    # Rework goes to the person who handled it: they know the place, and accept anew.
    _line(Action.CHECK, _OPERATOR, (_S.HANDLED,), _S.DISPATCHED, *_CHECK, verdict=Verdict.NOT_CLEAR),
    # Inconclusive is not clear: the incident stays open and a person must look again.
    _line(Action.CHECK, _OPERATOR, (_S.HANDLED,), None, *_CHECK, verdict=Verdict.INCONCLUSIVE),
    # Only after a camera or sensor looked again and found it clear; refused for categories of a named person.
    _line(Action.CLOSE, _SYSTEM, (_S.HANDLED,), _S.CLOSED),
    _line(Action.REWORK, (Who.OPERATOR, Who.SYSTEM), (_S.HANDLED,), _S.DISPATCHED, Need.REASON),
    _line(Action.SEND_BACK, (Who.ASSIGNEE, Who.OPERATOR), (_S.ACCEPTED, _S.ON_SITE), _S.FILED, Need.REASON),
    # A filing that should not have been: back to verification, which takes the time limit away with it.
    _line(Action.SEND_BACK, _OPERATOR, (_S.FILED,), _S.REPORTED, Need.REASON),
    # Only for a camera's finding that comes back at its place within `dispatch.reopen_s` (dispatch.recurrence).
    _line(Action.REOPEN, _SYSTEM, (_S.CLOSED,), _S.FILED),
    # Says "seen" and silences the blinking; it changes nothing about what must be done.
    _line(Action.ACKNOWLEDGE, _OPERATOR, OPEN_STATES, None),
)


def find_transitions(action: Action, state: IncidentState) -> tuple[Transition, ...]:
    """The lines for this action in this state; several only when the verdict decides between them."""
    return tuple(line for line in TRANSITIONS if line.action is action and state in line.states)


def capacities(actor: Actor, assignee_id: UUID | None) -> frozenset[Who]:
    """In what capacities `actor` can act on an incident assigned to `assignee_id`."""
    if actor.is_system:
        return frozenset({Who.SYSTEM})
    found = set()
    if actor.roles & {Role.OPERATOR, Role.ADMIN}:
        found.add(Who.OPERATOR)
    if actor.user_id == assignee_id:
        found.add(Who.ASSIGNEE)
    return frozenset(found)


def allowed_actions(
    state: IncidentState, actor: Actor, assignee_id: UUID | None, handler_ids: Iterable[UUID]
) -> list[tuple[Action, tuple[Need, ...]]]:
    """What `actor` may do now and what each action needs, in the order of the table."""
    mine = capacities(actor, assignee_id)
    found: dict[Action, tuple[Need, ...]] = {}
    for line in TRANSITIONS:
        if state not in line.states or not line.by & mine:
            continue
        if line.action is Action.CHECK and actor.user_id in set(handler_ids):
            continue
        found.setdefault(line.action, line.needs)
    return list(found.items())


def files_by_itself(source: Source, auto_file: bool) -> bool:
    """Whether a report is filed without an operator: verification comes first for the public's reports (DOMAIN)."""
    return auto_file and source not in (Source.CITIZEN, Source.HOTLINE)


def dedup_key(dedup: str, category: str, cell_code: str, device_id: UUID | None) -> str:
    """What makes two reports one incident: the same category in the same cell, or of the same device."""
    if dedup == "device" and device_id is not None:
        return f"{category}:{device_id}"
    return f"{category}:{cell_code}"


def same_place(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two boxes of one camera's picture (x1, y1, x2, y2) lie at the same place: a third of them is common, or
    most of the smaller one lies in the other."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    sizes = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (first, second)]
    if not min(sizes):
        return False
    return common / (sum(sizes) - common) >= _SAME_OVERLAP or common / min(sizes) >= _SAME_COVER


def light(limit_from: datetime | None, due_at: datetime | None, at: datetime) -> Light | None:
    """The light at `at`: green to 80 % of the limit, amber to 100 %, red beyond; None while no limit runs."""
    if limit_from is None or due_at is None:
        return None
    used = (at - limit_from) / (due_at - limit_from)
    if used > 1:
        return Light.RED
    return Light.AMBER if used > AMBER_FROM else Light.GREEN


def check_kinds(kinds: Sequence[str], named_person: bool) -> list[CheckKind]:
    """Who may check the closure, in order. About people and water only a person (a sensor's recovery closes nothing)."""
    if named_person:
        return [CheckKind.PERSON]
    return [CheckKind(kind) for kind in kinds]


def distance_m(lon: float, lat: float, to_lon: float, to_lat: float) -> float:
    """Great-circle distance of two positions in degrees (haversine on the mean sphere, R = 6 371 008.8 m, IUGG)."""
    phi, to_phi = math.radians(lat), math.radians(to_lat)
    half = math.sin((to_phi - phi) / 2) ** 2
    half += math.cos(phi) * math.cos(to_phi) * math.sin(math.radians(to_lon - lon) / 2) ** 2
    return 2 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def choose(
    candidates: Sequence[Candidate], *, grid_code: str | None, lon: float, lat: float, position_max_age_s: float
) -> list[Considered]:
    """Everybody considered, the best first; the first one is chosen if anybody is.

    Eligible: on duty, and has not refused this incident or let its offer expire. Order: fewer than MANY_TASKS open
    tasks, own responsibility grid, a position younger than `position_max_age_s`, then straight line plus
    TASK_WEIGHT_M for each open task. Codes: for the one chosen `own_grid`, `nearest`, `fewest_tasks`, `only_one`,
    `stale_position`; for the others `off_duty`, `refused_before`, `too_many_tasks`, `other_grid`, `stale_position`,
    `farther`.
    """
    ways = [_Way.find(person, grid_code, lon, lat, position_max_age_s) for person in candidates]
    ways.sort(key=_Way.rank)
    able = [way for way in ways if way.is_eligible]
    best = able[0] if able else None
    return [
        Considered(
            candidate=way.person,
            distance_m=way.distance_m,
            chosen=way is best,
            codes=_why(way, able) if way is best else _why_not(way, best),
        )
        for way in ways
    ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Way:
    """One candidate's way to one incident."""

    person: Candidate
    is_own_grid: bool
    is_fresh: bool
    distance_m: float | None

    @classmethod
    def find(cls, person: Candidate, grid_code: str | None, lon: float, lat: float, max_age_s: float) -> "_Way":
        known = person.lon is not None and person.lat is not None
        return cls(
            person=person,
            is_own_grid=bool(grid_code) and person.responsibility_grid_code == grid_code,
            is_fresh=known and person.position_age_s is not None and person.position_age_s <= max_age_s,
            distance_m=distance_m(person.lon, person.lat, lon, lat)
            if person.lon is not None and person.lat is not None
            else None,
        )

    @property
    def is_eligible(self) -> bool:
        return self.person.on_duty and not self.person.refused_before

    @property
    def is_busy(self) -> bool:
        return self.person.open_tasks >= MANY_TASKS

    def rank(self) -> tuple[bool, bool, bool, bool, bool, float, int, UUID]:
        """Lower goes first. An old position says nothing about the way, so there only the tasks count."""
        way_m = self.distance_m if self.is_fresh and self.distance_m is not None else 0.0
        tasks = self.person.open_tasks
        return (
            not self.person.on_duty, self.person.refused_before, self.is_busy, not self.is_own_grid, not self.is_fresh,
            way_m + TASK_WEIGHT_M * tasks, tasks, self.person.user_id,
        )  # fmt: skip

    def is_nearer_than(self, other: "_Way") -> bool:
        mine, theirs = self.distance_m, other.distance_m
        return self.is_fresh and mine is not None and (not other.is_fresh or theirs is None or mine < theirs)


def _why(best: _Way, able: Sequence[_Way]) -> tuple[str, ...]:
    codes = ["own_grid"] if best.is_own_grid else []
    if len(able) == 1:
        codes.append("only_one")
    elif best.is_fresh and not any(other.is_nearer_than(best) for other in able):
        codes.append("nearest")
    elif not best.is_own_grid:
        codes.append("fewest_tasks")
    return tuple(codes) if best.is_fresh else (*codes, "stale_position")


def _why_not(way: _Way, best: _Way | None) -> tuple[str, ...]:
    if best is None or not way.is_eligible:
        unfit = (("off_duty", not way.person.on_duty), ("refused_before", way.person.refused_before))
        return tuple(code for code, holds in unfit if holds)
    codes = ["too_many_tasks"] if way.is_busy else []
    if best.is_own_grid and not way.is_own_grid:
        codes.append("other_grid")
    if not way.is_fresh:
        codes.append("stale_position")
    elif best.is_nearer_than(way):
        codes.append("farther")
    if codes:
        return tuple(codes)
    # Of the same grid, with a fresh position and no farther: the open tasks decided, or nothing but the order.
    return ("too_many_tasks",) if way.person.open_tasks > best.person.open_tasks else ("farther",)
