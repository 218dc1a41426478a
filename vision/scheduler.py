"""Which cameras the detector looks at next: deadlines, and fair shares when it cannot keep up.

Every camera says how often it wants to be looked at (its motion gate, its rules and its checks decide), and the one
whose deadline is earliest comes first. Where all wishes together are more than the detector can do, the intervals are
stretched, all by the same factor, those of cameras with something to follow last. There is no queue: a camera has one
place, its newest picture, and what was not looked at is counted as skipped. Time is an argument everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

SHARE = 0.95
"""Of the time that is left for looking: a schedule planned to the brim would always be late."""

LEAST_REST = 0.25
"""Of that share, this much is left to the ordinary cameras, however much the urgent ones want."""

WINDOW_S = 10.0
"""Rates are told over this time."""

COST_WEIGHT = 0.1
FIRST_COST_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What one camera wants. `every_s`: between two looks; `urgent`: something there is being followed or checked."""

    every_s: float
    urgent: bool = False


def stretch(wishes: Mapping[Key, Wish], cost_s: float, share: float) -> dict[Key, float]:
    """Seconds between two looks for each camera, so that all together take at most `share` of the time.

    `cost_s`: what one look takes. Urgent cameras keep their rate as long as the others are left `LEAST_REST` of the
    share; within the two groups every interval grows by the same factor, so nobody starves.
    """
    urgent = sum(cost_s / wish.every_s for wish in wishes.values() if wish.urgent)
    rest = sum(cost_s / wish.every_s for wish in wishes.values() if not wish.urgent)
    if urgent + rest <= share:
        return {key: wish.every_s for key, wish in wishes.items()}
    # no more than their part of an even stretch: the others would be worse off for being urgent
    for_rest = min(rest * share / (urgent + rest), max(share - urgent, LEAST_REST * share))
    for_urgent = share - for_rest
    slower_urgent = max(1.0, urgent / for_urgent) if urgent else 1.0
    slower_rest = max(1.0, rest / for_rest) if rest else 1.0
    return {key: wish.every_s * (slower_urgent if wish.urgent else slower_rest) for key, wish in wishes.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """One camera's place. `due_s`: when it wants its next look, on the grid of its own wishes."""

    wish: Wish
    looked_s: float | None = None
    due_s: float = float("-inf")
    fresh_s: float | None = None
    """Since when a picture waits that was not looked at; None: there is none."""


@dataclass(kw_only=True)
class Scheduler(Generic[Key]):
    """Owned by one thread."""

    side_by_side: int = 1
    """So many looks are made at once."""
    cost_s: float = FIRST_COST_S
    """What a look takes, measured."""
    share: float = SHARE
    """Of the time, left for looking."""
    _places: dict[Key, _Place] = field(default_factory=dict)
    _events: dict[Key, deque[tuple[float, float, int]]] = field(default_factory=dict)
    """When, looks made, looks skipped."""
    _began_s: dict[Key, float] = field(default_factory=dict)
    _granted_s: dict[Key, float] = field(default_factory=dict)
    """Between two looks, by the last `pick`."""

    def want(self, key: Key, wish: Wish, now_s: float) -> None:
        """A camera's wish from now on; it waits for its next picture."""
        place = self._places.get(key)
        if place is None:
            self._places[key] = _Place(wish=wish)
            self._events[key] = deque()
            self._began_s[key] = now_s
            return
        if wish == place.wish:
            return
        due_s = place.due_s
        if place.looked_s is not None and wish.every_s != place.wish.every_s:
            due_s = place.looked_s + wish.every_s
            if wish.every_s < place.wish.every_s:
                due_s = max(due_s, min(place.due_s, now_s))  # nothing was owed at the new rate before now
        self._places[key] = replace(place, wish=wish, due_s=due_s)

    def offer(self, key: Key, now_s: float) -> None:
        """A new picture of this camera is there; it takes the place of one that waits."""
        place = self._places[key]
        if place.fresh_s is None:
            self._places[key] = replace(place, fresh_s=now_s)

    def withdraw(self, key: Key) -> None:
        """The picture that waits is not to be looked at (the camera is blind)."""
        if self._places[key].fresh_s is not None:
            self._places[key] = replace(self._places[key], fresh_s=None)

    def drop(self, keys: Iterable[Key]) -> None:
        """Cameras that are no more."""
        for key in list(keys):
            for table in (self._places, self._events, self._began_s):
                table.pop(key, None)

    def keys(self) -> set[Key]:
        """The cameras that are known."""
        return set(self._places)

    def pick(self, now_s: float, most: int = 1) -> list[Key]:
        """Cameras to be looked at now, the earliest deadline first."""
        every_s = self._granted_s = stretch(
            {key: place.wish for key, place in self._places.items()}, self.cost_s, self.share * self.side_by_side
        )
        waiting: list[tuple[float, int, Key]] = []
        for order, (key, place) in enumerate(self._places.items()):
            if place.fresh_s is None:
                continue
            deadline_s = place.due_s
            if place.looked_s is not None:
                deadline_s = max(deadline_s, place.looked_s + every_s[key] - 0.5 * place.wish.every_s)
            if deadline_s <= now_s:
                waiting.append((deadline_s, order, key))
        return [key for _, _, key in sorted(waiting)[:most]]

    def done(self, key: Key, now_s: float) -> None:
        """The camera was looked at."""
        place = self._places.get(key)
        if place is None:
            return
        due_s, skipped = self._owed(place, now_s)
        # on the grid of the wishes: small delays do not add up
        next_s = due_s + (skipped + 1) * place.wish.every_s
        self._places[key] = replace(place, looked_s=now_s, due_s=next_s, fresh_s=None)
        self._note(key, now_s, 1, skipped)

    def charge(self, looks: int, took_s: float, overhead: float) -> None:
        """What some looks took together, and the share of time that goes into everything else."""
        if looks:
            each_s = took_s * min(looks, self.side_by_side) / looks
            self.cost_s += COST_WEIGHT * (each_s - self.cost_s)
        self.share = max(0.2, SHARE - overhead)

    @property
    def load(self) -> float:
        """All wishes together over what can be done: above 1 looks are skipped."""
        wanted = sum(self.cost_s / place.wish.every_s for place in self._places.values())
        return wanted / (self.share * self.side_by_side)

    def granted_s(self, key: Key) -> float:
        """Seconds between two looks that a camera is given now; infinite before it was thought of."""
        return self._granted_s.get(key, float("inf"))

    def wanted_per_s(self, key: Key) -> float:
        """Looks a second that a camera wants."""
        place = self._places.get(key)
        return 0.0 if place is None else 1 / place.wish.every_s

    def looks_per_s(self, key: Key, now_s: float) -> float:
        """Looks a second, over the last seconds."""
        return self._rate(key, now_s, 1)

    def skipped_per_s(self, key: Key, now_s: float) -> float:
        """Looks a second that were wanted, for which there was a picture, and which the detector had no time for."""
        place = self._places.get(key)
        waiting = 0 if place is None else self._owed(place, now_s)[1]
        return self._rate(key, now_s, 2) + waiting / WINDOW_S

    def _owed(self, place: _Place, now_s: float) -> tuple[float, int]:
        """When the look was due (with a picture to look at), and how many whole intervals have passed since."""
        begin_s = place.due_s if place.looked_s is not None else now_s
        if place.fresh_s is None:
            return begin_s, 0
        due_s = max(begin_s, place.fresh_s)
        return due_s, max(0, int((now_s - due_s) / place.wish.every_s + 1e-6))

    def _note(self, key: Key, now_s: float, looks: int, skipped: int) -> None:
        events = self._events[key]
        events.append((now_s, looks, skipped))
        while events and events[0][0] <= now_s - WINDOW_S:
            events.popleft()

    def _rate(self, key: Key, now_s: float, column: int) -> float:
        events = self._events.get(key)
        if not events:
            return 0.0
        span_s = min(WINDOW_S, max(1.0, now_s - self._began_s[key]))
        return sum(event[column] for event in events if event[0] > now_s - WINDOW_S) / span_s
