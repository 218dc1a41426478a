"""Moving cameras: which of its taught views a camera shows now, if it stands still at one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from vision.health import compare_views, is_other_view
from vision.motion import Grey32

STEADY_S = 2.0
"""The view must have stood still for so long before it is believed to be one of the taught."""

STEADY_SHIFT = 0.4
STEADY_LIKENESS = 0.6


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A taught view of a moving camera: its name, and its edges (36, 64) as `vision.health.edges` gives them."""

    name: str
    view: Grey32


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnState:
    """The view that was seen last, and since when it has stood still."""

    view: Grey32 | None = None
    steady_since_at: datetime | None = None
    preset: str | None = None
    """Where the camera stands; None while it turns or at a view that nobody taught."""


def follow_turning(state: TurnState, presets: Sequence[Preset], view: Grey32, now: datetime) -> TurnState:
    """One picture's edges: where does the camera stand?"""
    steady_at = state.steady_since_at
    if state.view is None:
        steady_at = now
    else:
        likeness, shift, _ = compare_views(state.view, view)
        if shift > STEADY_SHIFT or likeness < STEADY_LIKENESS:
            steady_at = now
    state = replace(state, view=view, steady_since_at=steady_at)
    if state.preset is not None and not _shows(next((p for p in presets if p.name == state.preset), None), view):
        state = replace(state, preset=None)
    if state.preset is None and steady_at is not None and (now - steady_at).total_seconds() >= STEADY_S:
        state = replace(state, preset=match_preset(presets, view))
    return state


def match_preset(presets: Sequence[Preset], view: Grey32) -> str | None:
    """The taught view that this one is most like; None when it is none of them."""
    found = [(compare_views(preset.view, view)[0], preset.name) for preset in presets if _shows(preset, view)]
    return max(found)[1] if found else None


def _shows(preset: Preset | None, view: Grey32) -> bool:
    return preset is not None and not is_other_view(*compare_views(preset.view, view))
