"""What a vision rule is: a name, its parameters, what it remembers, and one pure step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from vision.ground import Ground
from vision.model import Category, Finding, Label, Point, Presence
from vision.sight import Sight

P = TypeVar("P", bound="Parameters")
S = TypeVar("S")


class ZoneState(StrEnum):
    """How a zone stands, as it is shown beside the live picture."""

    QUIET = "quiet"
    WATCHING = "watching"
    """Something is there whose time runs."""
    RAISED = "raised"
    SUSPENDED = "suspended"
    """It is not watched now: the view has moved, or belongs to another preset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZoneStatus:
    """How a zone stands, and the figure that its rule measures there (people, metres of water), if any."""

    state: ZoneState
    value: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    """More of it, as JSON: density, direction, area."""


class Parameters(BaseModel):
    """Base of every rule's parameters: unknown names are refused, values are checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone(Generic[P]):
    """One polygon of a camera's picture and the rule that watches it.

    `polygon`: three or more points, 0..1 of width and height; `lon`/`lat`: where it is on the ground (CGCS2000
    degrees), None when only the camera's own position is known.
    """

    name: str
    rule: str
    polygon: tuple[Point, ...]
    parameters: P
    lon: float | None = None
    lat: float | None = None
    ground: Ground | None = None
    """The camera's ground plane, where somebody measured it."""
    preset: str = ""
    """The view of a moving camera in which it is drawn; empty for a camera that stands still."""

    def contains(self, point: Point) -> bool:
        """True when the point lies inside (even-odd rule)."""
        x, y = point
        inside = False
        x1, y1 = self.polygon[-1]
        for x2, y2 in self.polygon:
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
            x1, y1 = x2, y2
        return inside


def _whole(state: Any) -> Any:
    return state


def _is_quiet(state: Any, zone: Zone[Any]) -> ZoneStatus:
    """For rules that say nothing of how their zone stands."""
    return ZoneStatus(state=ZoneState.QUIET)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[P, S]):
    """A vision rule; `vision/rules/<name>.py` exposes one as `RULE`.

    `step(state, sight, zone)` gives the new state and what was raised or cleared by this look. It is called for
    every look and only for looks at a picture that can be judged (not black, frozen or blocked), so time without looks
    is time in which nothing is known. State survives a restart as JSON (`dump`, `load`).
    """

    name: str
    title_zh: str
    title_en: str
    labels: frozenset[Label]
    parameters: type[P]
    state: type[S]
    fresh: Callable[[], S]
    step: Callable[[S, Sight, Zone[P]], tuple[S, tuple[Finding, ...]]]
    judge: Callable[[S, Sight, Zone[P], Category], Presence]
    """One look of a closure check: is what this rule reports under that category there now?"""
    status: Callable[[S, Zone[P]], ZoneStatus] = _is_quiet
    brief: Callable[[S], S] = _whole
    """What of a state is worth keeping over a restart: it is written every few seconds."""
    on_ground: bool = True
    """Its zones lie on the ground (a staff gauge in a river does not): no horizon may run through them."""

    def dump(self, state: S) -> dict[str, Any]:
        """The state as JSON."""
        value: dict[str, Any] = _adapter(self.state).dump_python(state, mode="json")
        return value

    def load(self, value: Any) -> S:
        """The state from JSON.

        Raises pydantic.ValidationError when it was written by a version that remembered other things.
        """
        return _adapter(self.state).validate_python(value)


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(state: type[S]) -> TypeAdapter[S]:
    """Made once for each type: making one costs milliseconds."""
    if state not in _ADAPTERS:
        _ADAPTERS[state] = TypeAdapter(state)
    return _ADAPTERS[state]


AnyRule = Rule[Any, Any]
AnyZone = Zone[Any]
