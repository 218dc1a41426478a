"""人员聚集 crowding: as many people in a zone as its limit for `hold_s`, with hysteresis.

The count is the median over a short window, and a person lost for a moment still counts, so single misses neither
delay nor end anything.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, model_validator

from vision.model import Box, Category, Finding, Label, Presence, Track
from vision.rule import Parameters, Rule, Zone
from vision.sight import Sight
from vision.spots import MAX_STEP_S

NAME = "crowding"
BRIDGE_S = 0.6
"""A person unseen for this long is still there."""

GAP_S = 10.0
"""After a longer time without looks the counting begins anew."""


class CrowdingParameters(Parameters):
    """How many, for how long."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 8
    hold_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    clear_below: Annotated[float, Field(gt=0)] | None = None
    """Over when fewer than this are left; seven tenths of the limit when not given."""
    clear_s: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    smooth_s: Annotated[float, Field(ge=0, le=30)] = 2.0

    @model_validator(mode="after")
    def _check_hysteresis(self) -> CrowdingParameters:
        if self.clear_below is not None and self.clear_below > self.limit:
            raise ValueError(f"clear_below must not be above limit ({self.limit})")
        return self

    @property
    def few(self) -> float:
        """Below this the crowd has gone."""
        return self.clear_below if self.clear_below is not None else max(1.0, self.limit * 0.7)


@dataclass(frozen=True, kw_only=True, slots=True)
class CrowdingState:
    """What is remembered of one zone; times are seconds since the epoch."""

    looked_s: float | None = None
    window: tuple[tuple[float, int], ...] = ()
    over_since_s: float | None = None
    dip_since_s: float | None = None
    """Since when the count is under the limit while it was held before."""
    few_since_s: float | None = None
    raised_s: float | None = None
    box: Box = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0


def step(
    state: CrowdingState, sight: Sight, zone: Zone[CrowdingParameters]
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    """One look at one zone."""
    tracks, now = sight.tracks, sight.at
    now_s = now.timestamp()
    if state.looked_s is not None and now_s - state.looked_s > GAP_S:
        state = replace(state, window=(), dip_since_s=None, few_since_s=None)
        if state.raised_s is None:
            state = replace(state, over_since_s=None)
    elapsed_s = 0.0 if state.looked_s is None else now_s - state.looked_s
    # one missed look is always bridged, however far apart the looks are
    people = people_in(tracks, zone, bridge_s=max(BRIDGE_S, min(1.1 * elapsed_s, MAX_STEP_S)))
    oldest_s = now_s - max(zone.parameters.smooth_s, 0.0)
    window = (*((at_s, count) for at_s, count in state.window if at_s >= oldest_s), (now_s, len(people)))
    state = replace(state, looked_s=now_s, window=window)
    count = statistics.median(number for _, number in window)
    if state.raised_s is None:
        return _watch(state, people, count, zone, now_s)
    return _wait_for_end(state, count, zone, now_s)


def people_in(tracks: Sequence[Track], zone: Zone[CrowdingParameters], *, bridge_s: float = BRIDGE_S) -> list[Track]:
    """People whose feet are in the zone, including those lost for a moment."""
    return [
        track
        for track in tracks
        if track.label is Label.PERSON and track.missed_s <= bridge_s and zone.contains(track.ground)
    ]


def _watch(
    state: CrowdingState, people: Sequence[Track], count: float, zone: Zone[CrowdingParameters], now_s: float
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    parameters = zone.parameters
    if count < parameters.limit:
        dip_since_s = now_s if state.dip_since_s is None else state.dip_since_s
        # a crowd at the limit wavers: a short dip does not begin its time anew, a real one does
        if count < parameters.few or now_s - dip_since_s > max(MAX_STEP_S, parameters.hold_s / 4):
            return replace(state, over_since_s=None, dip_since_s=None), ()
        return replace(state, dip_since_s=dip_since_s), ()
    over_since_s = now_s if state.over_since_s is None else state.over_since_s
    state = replace(state, over_since_s=over_since_s, dip_since_s=None)
    if now_s - over_since_s < parameters.hold_s:
        return state, ()
    box, score = _surround(people, zone)
    state = replace(state, raised_s=now_s, few_since_s=None, box=box, score=score)
    return state, (_tell(state, zone, None),)


def _wait_for_end(
    state: CrowdingState, count: float, zone: Zone[CrowdingParameters], now_s: float
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    if count >= zone.parameters.few:
        return replace(state, few_since_s=None), ()
    few_since_s = now_s if state.few_since_s is None else state.few_since_s
    state = replace(state, few_since_s=few_since_s)
    if now_s - few_since_s < zone.parameters.clear_s:
        return state, ()
    finding = _tell(state, zone, datetime.fromtimestamp(now_s, UTC))
    return replace(state, over_since_s=None, dip_since_s=None, few_since_s=None, raised_s=None), (finding,)


def judge(state: CrowdingState, sight: Sight, zone: Zone[CrowdingParameters], category: Category) -> Presence:
    """As many people as would keep the crowd from being over."""
    tracks = sight.tracks
    return Presence.THERE if len(people_in(tracks, zone)) >= zone.parameters.few else Presence.GONE


def _surround(people: Sequence[Track], zone: Zone[CrowdingParameters]) -> tuple[Box, float]:
    """The box around them all (around the zone when none is seen at this instant), and their mean score."""
    if not people:
        xs, ys = [x for x, _ in zone.polygon], [y for _, y in zone.polygon]
        return (min(xs), min(ys), max(xs), max(ys)), 0.0
    boxes = [track.box for track in people]
    box = (
        min(one[0] for one in boxes),
        min(one[1] for one in boxes),
        max(one[2] for one in boxes),
        max(one[3] for one in boxes),
    )
    return box, statistics.fmean(track.score for track in people)


def _tell(state: CrowdingState, zone: Zone[CrowdingParameters], cleared_at: datetime | None) -> Finding:
    raised_s, over_since_s = state.raised_s or 0.0, state.over_since_s or 0.0
    return Finding(
        rule=NAME,
        category=Category.CROWDING,
        zone=zone.name,
        key=f"{int(over_since_s * 1000):x}",
        started_at=datetime.fromtimestamp(over_since_s, UTC),
        raised_at=datetime.fromtimestamp(raised_s, UTC),
        cleared_at=cleared_at,
        box=state.box,
        score=state.score,
    )


RULE = Rule(
    name=NAME,
    title_zh="人员聚集",
    title_en="Crowding",
    labels=frozenset({Label.PERSON}),
    parameters=CrowdingParameters,
    state=CrowdingState,
    fresh=CrowdingState,
    step=step,
    judge=judge,
)
