"""人员聚集 crowding: as many people in a zone as its limit, or as close together, for `hold_s`, with hysteresis.

Every track counts as much as it is likely to be somebody (a weak box between two people hardly does), and the count is the
mean over some seconds, so neither single misses nor single ghosts delay, begin or end anything. With a ground plane the
zone also has a density, and its crowd a speed in metres and a bearing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import shapely
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from shapely import MultiPoint, Polygon

from vision.ground import Ground, Metres
from vision.model import Box, Category, Finding, Label, Point, Presence, Track
from vision.rule import Parameters, Rule, Zone, ZoneState, ZoneStatus
from vision.sight import Sight
from vision.spots import MAX_STEP_S, covered, overlap

NAME = "crowding"
BRIDGE_S = 0.6
"""A person unseen for this long is still there."""

GAP_S = 10.0
"""After a longer time without looks the counting begins anew."""

DATE_BACK_S = 3.0
COMING_SHARE = 0.75
MOST = 0.7
"""A crowd's beginning lies at most this much further back than the seconds that are counted together, where most looks
saw this share of the limit: people who arrive together hide each other, and the last ones are counted late."""

SAME_PERSON = 0.3
HANDOVER_S = 1.0
"""A person lost under one number and found under another at the same place, about then, is one."""

COVER_FROM = 0.2
"""Neighbours' boxes touch; what surer ones cover beyond this share of a box speaks against it."""

LIKELY_ALONE, LIKELY_SCORE, LIKELY_COVERED, LIKELY_BOTH = 0.17, 4.76, -3.21, 1.72
"""Log odds that a track is one more person: by its score, by how much of it surer ones cover, by both. Fitted on rendered
tuning streets with the bundled detector, docs/vision.md."""

LIKELY_LOST_STANDING, LIKELY_LOST_WALKING = -2.0, -4.2
"""Who stood and is not seen is mostly hidden; who walked has mostly gone on under another number."""

HIDDEN_FROM, HIDDEN_FULL, HIDDEN_WEIGHT = 5.5, 7.5, 0.3
"""From about six people on some stand behind others, and what is rather nobody is now and then one of them."""

NEAR_M = 1.5
"""Radius of the circle around a person in which the closest crowd is counted."""

HIDDEN_SHARE = 0.5
PRESSED_SHARE = 0.25
"""Without a ground plane: so many of them half behind others, and the count is only "at least"."""

GROWN = 1.5
"""A crowd that has grown by this factor is told of again."""

SEVERE = 2.0
"""From this many times its limit on a crowd is more severe."""

BODY_M2, BODY_M = 0.55, 1.65
"""The silhouette of a person standing, and how tall it is."""

MORE_BODIES = 1.3
"""The background shows this many times the people that the detector tells apart: some stand behind others."""

FLOW_S = 2.0
FLOW_STEP_S = 0.45
MIN_FLOW_S = 0.9
MIN_ORDER = 0.4
"""Of all movement, this share must go one way for the crowd to have a direction."""

MIN_SPEED_M_S = 0.25
MIN_SPEED_SHARE_S = 0.01


class CrowdingParameters(Parameters):
    """How many, how close, for how long."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 8
    limit_per_m2: Annotated[float, Field(gt=0, le=10)] | None = None
    """People on a square metre, around the one who stands closest; needs the camera's ground plane."""
    hold_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    clear_below: Annotated[float, Field(gt=0)] | None = None
    """Over when fewer than this are left; seven tenths of the limit when not given."""
    clear_s: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    smooth_s: Annotated[float, Field(ge=0, le=30)] = 3.0
    reliable_per_m2: Annotated[float, Field(gt=0, le=10)] = 0.4
    """Where people stand closer than this, some hide others from the detector: the count is "at least". Measured with
    the bundled detector, docs/vision.md."""

    @model_validator(mode="after")
    def _check_hysteresis(self) -> CrowdingParameters:
        if self.clear_below is not None and self.clear_below > self.limit:
            raise PydanticCustomError(
                "clear_above_limit", "clear_below must not be above limit ({limit})", {"limit": self.limit}
            )
        return self

    @property
    def few(self) -> float:
        """Below this the crowd has gone."""
        return self.clear_below if self.clear_below is not None else max(1.0, self.limit * 0.7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """One look: how many, how close at the closest place (None without a ground plane), how many half behind others."""

    at_s: float
    people: int
    """Whoever may be there. The interlock of a gate that people may stand under asks for it: better one too many."""
    expected: float = 0.0
    """As many as the tracks are likely to be."""
    near_per_m2: float | None = None
    hidden: int = 0
    bodies: float | None = None
    """How many would make up what differs from the background; None when there is no picture or ground to ask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where one person was at an instant: metres with a ground plane, else shares of the picture."""

    at_s: float
    id: int
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """How the people of a zone move on the whole.

    `speed`: of their mean velocity, metres a second (with a ground plane) or picture widths and heights a second;
    `bearing_deg`: clockwise from north, or from the picture's upper edge; None while there is no common direction.
    `order`: 0 they mill about, 1 all go one way.
    """

    speed: float
    bearing_deg: float | None
    order: float
    in_metres: bool

    def as_json(self) -> dict[str, Any]:
        """Names tell the unit."""
        speed, bearing = ("speed_m_s", "bearing_deg") if self.in_metres else ("speed_share_s", "picture_deg")
        deg = None if self.bearing_deg is None else round(self.bearing_deg)
        return {speed: round(self.speed, 3), bearing: deg, "order": round(self.order, 2)}


@dataclass(frozen=True, kw_only=True, slots=True)
class CrowdingState:
    """What is remembered of one zone; times are seconds since the epoch. `counts` and `raised_s` are also read from
    the database by the interlock of a gate that people may stand under (devices/situation.py)."""

    looked_s: float | None = None
    counts: tuple[Count, ...] = ()
    steps: tuple[Step, ...] = ()
    over_since_s: float | None = None
    began_s: float | None = None
    """When that crowd began to gather; its time is counted from `over_since_s`, when it was surely there."""
    held_looks: int = 0
    held_people: float = 0.0
    """Looks since then, and what they saw on the average of the last `hold_s` or so: a crowd is one not in its peaks."""
    dip_since_s: float | None = None
    """Since when the count is under the limit while it was held before."""
    few_since_s: float | None = None
    raised_s: float | None = None
    grown_since_s: float | None = None
    told_people: int = 0
    told_severity: int | None = None
    box: Box = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """The zone by the last seconds' looks."""

    people: float
    per_m2: float | None
    near_per_m2: float | None
    at_least: bool
    flow: Flow | None

    @property
    def whole(self) -> int:
        """The nearest whole number of people: the one that is held against the limit."""
        return math.floor(self.people + 0.5)

    def as_json(self) -> dict[str, Any]:
        """For a finding's detail and the live picture."""
        return {
            "people": self.whole,
            "at_least": self.at_least,
            "density_per_m2": None if self.per_m2 is None else round(self.per_m2, 2),
            "near_per_m2": None if self.near_per_m2 is None else round(self.near_per_m2, 2),
            "flow": None if self.flow is None else self.flow.as_json(),
        }


def step(
    state: CrowdingState, sight: Sight, zone: Zone[CrowdingParameters]
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    """One look at one zone."""
    now_s = sight.at.timestamp()
    if state.looked_s is not None and now_s - state.looked_s > GAP_S:
        state = replace(state, counts=(), steps=(), dip_since_s=None, few_since_s=None, grown_since_s=None)
        if state.raised_s is None:
            state = replace(state, over_since_s=None, began_s=None, held_looks=0, held_people=0.0)
    elapsed_s = 0.0 if state.looked_s is None else now_s - state.looked_s
    # one missed look is always bridged, however far apart the looks are
    bridge_s = max(BRIDGE_S, min(1.1 * elapsed_s, MAX_STEP_S))
    there = _find_people(sight.tracks, zone, bridge_s=bridge_s, now=sight.at)
    odds = [_odds(one, sight.tracks) for one in there]
    people = [one for one, known in zip(there, odds, strict=True) if known >= 0.0]
    oldest_s = now_s - zone.parameters.smooth_s - DATE_BACK_S
    count = _count(people, _expect(there, odds), sight, zone)
    counts = (*(one for one in state.counts if one.at_s >= oldest_s), count)
    state = replace(state, looked_s=now_s, counts=counts, steps=_walk(state.steps, people, zone, now_s))
    measure = measure_zone(state, zone)
    if state.raised_s is None:
        return _watch(state, people, measure, zone, now_s)
    return _follow(state, people, measure, zone, now_s)


def people_in(
    tracks: Sequence[Track],
    zone: Zone[CrowdingParameters],
    *,
    bridge_s: float = BRIDGE_S,
    now: datetime | None = None,
) -> list[Track]:
    """People whose feet are in the zone, including those lost for a moment; with `now`, not those found again under
    another number."""
    there = _find_people(tracks, zone, bridge_s=bridge_s, now=now)
    return [one for one in there if _odds(one, tracks) >= 0.0]


def _find_people(
    tracks: Sequence[Track], zone: Zone[CrowdingParameters], *, bridge_s: float, now: datetime | None
) -> list[Track]:
    """As `people_in`, with those that are rather nobody."""
    there = [
        track
        for track in tracks
        if track.label is Label.PERSON and track.missed_s <= bridge_s and zone.contains(track.ground)
    ]
    if now is None:
        return there
    return [one for one in there if one.missed_s == 0.0 or not any(_took_over(new, one, now) for new in there)]


def _expect(there: Sequence[Track], odds: Sequence[float]) -> float:
    """How many people these are, each counted as much as it is likely to be one more."""
    likely: list[float] = []
    for one, known in zip(there, odds, strict=True):
        lost = LIKELY_LOST_WALKING if one.still_since_at is None else LIKELY_LOST_STANDING
        likely.append(1.0 / (1.0 + math.exp(-known - (lost if one.missed_s > 0.0 else 0.0))))
    total = sum(likely)
    pressed = min(1.0, max(0.0, (total - HIDDEN_FROM) / (HIDDEN_FULL - HIDDEN_FROM)))
    return total + HIDDEN_WEIGHT * pressed * sum(one < 0.5 for one in likely)


def _odds(one: Track, tracks: Sequence[Track]) -> float:
    """Log odds that a track is somebody, and not a weak box made of parts of its neighbours: the detector sees the left
    half of one and the right half of another.

    The surer of `tracks` speak against those that they cover; what is not seen now comes after all that is.
    """
    rank = (one.missed_s == 0.0, one.score)
    surer = [
        other.box
        for other in tracks
        if other.label is Label.PERSON and other.missed_s <= BRIDGE_S and (other.missed_s == 0.0, other.score) > rank
    ]
    shares = [(share, box) for box in surer if (share := covered(one.box, box)) > 0.0]
    shared = max((share for share, _ in shares), default=0.0)
    if len(shares) > 1:
        own = shapely.box(*one.box)
        shared = own.intersection(shapely.union_all([shapely.box(*box) for _, box in shares])).area / max(
            own.area, 1e-12
        )
    hidden = max(0.0, (shared - COVER_FROM) / (1.0 - COVER_FROM))
    return LIKELY_ALONE + LIKELY_SCORE * one.score + LIKELY_COVERED * hidden + LIKELY_BOTH * hidden * one.score


def _took_over(new: Track, lost: Track, now: datetime) -> bool:
    age_s = (now - new.born_at).total_seconds()
    return new.missed_s == 0.0 and age_s <= lost.missed_s + HANDOVER_S and overlap(new.box, lost.box) >= SAME_PERSON


def measure_zone(state: CrowdingState, zone: Zone[CrowdingParameters]) -> Measure:
    """What the last seconds' looks say together."""
    parameters = zone.parameters
    counts = _last(state.counts, parameters.smooth_s)
    people = statistics.fmean([one.expected for one in counts]) if counts else 0.0
    told = statistics.median([one.people for one in counts]) if counts else 0.0
    near = [one.near_per_m2 for one in counts if one.near_per_m2 is not None]
    near_per_m2 = statistics.median(near) if near else None
    area_m2 = zone.ground.area_m2(zone.polygon) if zone.ground is not None else None
    per_m2 = people / area_m2 if area_m2 else None
    if near_per_m2 is not None:
        bodies = [one.bodies for one in counts if one.bodies is not None]
        crowded = bool(bodies) and told > 0 and statistics.median(bodies) >= MORE_BODIES * told
        at_least = crowded or near_per_m2 > parameters.reliable_per_m2
    else:
        hidden = statistics.median([one.hidden for one in counts]) if counts else 0.0
        at_least = told > 0 and hidden / told >= PRESSED_SHARE
    return Measure(
        people=people,
        per_m2=per_m2,
        near_per_m2=near_per_m2,
        at_least=at_least,
        flow=_flow(state.steps, zone.ground is not None),
    )


def _last(counts: Sequence[Count], seconds: float) -> Sequence[Count]:
    """Those of the last seconds."""
    return [one for one in counts if one.at_s >= counts[-1].at_s - seconds]


def _count(people: Sequence[Track], expected: float, sight: Sight, zone: Zone[CrowdingParameters]) -> Count:
    near_per_m2 = None
    if zone.ground is not None:
        near_per_m2 = _closest([place for one in people if (place := zone.ground.locate(one.ground)) is not None])
    hidden = 0
    for one in people:
        before = [other for other in people if other.box[3] > one.box[3]]
        hidden += max((covered(one.box, other.box) for other in before), default=0.0) >= HIDDEN_SHARE
    return Count(
        at_s=sight.at.timestamp(),
        people=len(people),
        expected=round(expected, 3),
        near_per_m2=near_per_m2,
        hidden=hidden,
        bodies=_count_bodies(sight, zone),
    )


def _count_bodies(sight: Sight, zone: Zone[CrowdingParameters]) -> float | None:
    """How many people's silhouettes what is new in the zone, and above it by a person's height, would make up.

    By the scale in the zone's middle. None without picture, background or ground plane, and while something else (a
    car) stands there.
    """
    if sight.view is None or zone.ground is None:
        return None
    xs, ys = [x for x, _ in zone.polygon], [y for _, y in zone.polygon]
    middle = (statistics.fmean(xs), statistics.fmean(ys))
    wide_m = zone.ground.distance_m((middle[0] - 0.01, middle[1]), (middle[0] + 0.01, middle[1]))
    if not wide_m or any(one.label in _OTHERS and zone.contains(one.ground) for one in sight.tracks):
        return None
    per_width_m = wide_m / 0.02
    height_px, width_px = sight.view.picture.shape[:2]
    per_height_m = per_width_m * height_px / width_px
    tall = BODY_M / per_height_m
    hull = MultiPoint([*zone.polygon, *((x, max(0.0, y - tall)) for x, y in zone.polygon)]).convex_hull
    if not isinstance(hull, Polygon):
        return None
    share = sight.view.changed([(float(x), float(y)) for x, y in hull.exterior.coords[:-1]])
    return None if share is None else share * float(hull.area) * per_width_m * per_height_m / BODY_M2


def _closest(places: Sequence[Metres]) -> float:
    """People per square metre in the fullest circle of `NEAR_M` around one of them, that one not counted: a lone person
    makes no density."""
    fullest = max((sum(math.dist(one, other) <= NEAR_M for other in places) - 1 for one in places), default=0)
    return fullest / (math.pi * NEAR_M**2)


def _walk(
    steps: Sequence[Step], people: Sequence[Track], zone: Zone[CrowdingParameters], now_s: float
) -> tuple[Step, ...]:
    """The last seconds' places of everybody, one about every half second."""
    kept = [one for one in steps if now_s - one.at_s <= FLOW_S]
    newest_s = max((one.at_s for one in kept), default=-math.inf)
    if now_s - newest_s < FLOW_STEP_S:
        return tuple(kept)
    for track in people:
        place = _place(track.ground, zone.ground)
        if track.missed_s == 0.0 and place is not None:
            kept.append(Step(at_s=now_s, id=track.id, x=round(place[0], 4), y=round(place[1], 4)))
    return tuple(kept)


def _place(point: Point, ground: Ground | None) -> tuple[float, float] | None:
    # in the picture y runs down; turned round, so that a bearing is counted in the same way
    return (point[0], -point[1]) if ground is None else ground.locate(point)


def _flow(steps: Sequence[Step], in_metres: bool) -> Flow | None:
    """Mean velocity of those who were seen for long enough; None when nobody was."""
    first: dict[int, Step] = {}
    last: dict[int, Step] = {}
    for one in steps:
        first.setdefault(one.id, one)
        last[one.id] = one
    speeds = [
        ((end.x - begin.x) / (end.at_s - begin.at_s), (end.y - begin.y) / (end.at_s - begin.at_s))
        for key, begin in first.items()
        if (end := last[key]).at_s - begin.at_s >= MIN_FLOW_S
    ]
    if not speeds:
        return None
    x, y = (statistics.fmean(axis) for axis in zip(*speeds, strict=True))
    speed, each = math.hypot(x, y), statistics.fmean(math.hypot(*one) for one in speeds)
    order = speed / each if each > 0 else 0.0
    directed = order >= MIN_ORDER and speed >= (MIN_SPEED_M_S if in_metres else MIN_SPEED_SHARE_S)
    bearing_deg = math.degrees(math.atan2(x, y)) % 360 if directed else None
    return Flow(speed=speed, bearing_deg=bearing_deg, order=order, in_metres=in_metres)


def _is_over(measure: Measure, parameters: CrowdingParameters, *, share: float = 1.0) -> bool:
    """As many as the limit, or as close; with `share` 0.7, as many or as close as keeps it going."""
    many = parameters.limit if share == 1.0 else parameters.few
    return _reaches(measure.people, many) or _is_close(measure, parameters, share)


def _is_close(measure: Measure, parameters: CrowdingParameters, share: float = 1.0) -> bool:
    close = parameters.limit_per_m2
    return close is not None and measure.near_per_m2 is not None and measure.near_per_m2 >= share * close


def _reaches(people: float, many: float) -> bool:
    """Whether the nearest whole number of people is so many."""
    return math.floor(people + 0.5) >= many


def _date(counts: Sequence[Count], parameters: CrowdingParameters) -> tuple[float, float]:
    """Since when the crowd is surely there, and when it began: not when nearly as many had stood there for longer."""
    sure_s = _find_start(_last(counts, parameters.smooth_s), parameters, parameters.limit - 0.5)
    began_s = _find_start(counts, parameters, COMING_SHARE * parameters.limit)
    return sure_s, min(began_s, sure_s) if began_s > counts[0].at_s else sure_s


def _find_start(counts: Sequence[Count], parameters: CrowdingParameters, many: float) -> float:
    """The first look from which on most looks see as many as `many`, or as close as the limit."""
    close = parameters.limit_per_m2
    over = [one.expected >= many or (close is not None and (one.near_per_m2 or 0.0) >= close) for one in counts]
    for index, one in enumerate(counts):
        if over[index] and sum(over[index:]) >= MOST * (len(counts) - index):
            return one.at_s
    return counts[-1].at_s


def _watch(
    state: CrowdingState, people: Sequence[Track], measure: Measure, zone: Zone[CrowdingParameters], now_s: float
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    parameters = zone.parameters
    if state.over_since_s is not None:
        state = _hold(state, parameters)
    if not _is_over(measure, parameters):
        dip_since_s = now_s if state.dip_since_s is None else state.dip_since_s
        # a crowd at the limit wavers: a short dip does not begin its time anew, a real one does
        too_long = now_s - dip_since_s > max(MAX_STEP_S, parameters.hold_s / 4)
        if not _is_over(measure, parameters, share=0.7) or too_long:
            return replace(state, over_since_s=None, began_s=None, held_looks=0, held_people=0.0, dip_since_s=None), ()
        return replace(state, dip_since_s=dip_since_s), ()
    state = replace(state, dip_since_s=None)
    if state.over_since_s is None:
        over_since_s, began_s = _date(state.counts, parameters)
        state = replace(state, over_since_s=over_since_s, began_s=began_s)
    over_since_s = state.over_since_s if state.over_since_s is not None else now_s
    if now_s - over_since_s < parameters.hold_s or not _has_held(state, measure, parameters):
        return state, ()
    state = replace(state, raised_s=now_s, few_since_s=None)
    return _tell_now(state, people, measure, zone, update=False)


def _has_held(state: CrowdingState, measure: Measure, parameters: CrowdingParameters) -> bool:
    """A count that wavers about the limit must reach it on the average; people who stand close enough are a crowd anyway."""
    mean = state.held_people if state.held_looks else measure.people
    return _reaches(mean, parameters.limit) or _is_close(measure, parameters)


def _hold(state: CrowdingState, parameters: CrowdingParameters) -> CrowdingState:
    """The plain average at first, and from `hold_s` on one that forgets what is longer ago."""
    newest = state.counts[-1]
    step_s = newest.at_s - state.counts[-2].at_s if len(state.counts) > 1 else 0.0
    forgotten = 1.0 - math.exp(-step_s / max(parameters.hold_s, parameters.smooth_s, 1.0))
    weight = max(1.0 / (state.held_looks + 1), forgotten)
    mean = state.held_people + weight * (newest.expected - state.held_people)
    return replace(state, held_looks=state.held_looks + 1, held_people=round(mean, 4))


def _follow(
    state: CrowdingState, people: Sequence[Track], measure: Measure, zone: Zone[CrowdingParameters], now_s: float
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    """A raised crowd: has it gone, has it grown?"""
    if not _is_over(measure, zone.parameters, share=0.7):
        few_since_s = now_s if state.few_since_s is None else state.few_since_s
        state = replace(state, few_since_s=few_since_s, grown_since_s=None)
        if now_s - few_since_s < zone.parameters.clear_s:
            return state, ()
        finding = _tell(state, zone, measure, datetime.fromtimestamp(now_s, UTC))
        return CrowdingState(looked_s=state.looked_s, counts=state.counts, steps=state.steps), (finding,)
    state = replace(state, few_since_s=None)
    worse = _severity(measure, zone.parameters) is not None and state.told_severity is None
    if measure.people < GROWN * state.told_people and not worse:
        return replace(state, grown_since_s=None), ()
    grown_since_s = now_s if state.grown_since_s is None else state.grown_since_s
    state = replace(state, grown_since_s=grown_since_s)
    if now_s - grown_since_s < zone.parameters.hold_s:
        return state, ()
    return _tell_now(state, people, measure, zone, update=True)


def judge(state: CrowdingState, sight: Sight, zone: Zone[CrowdingParameters], category: Category) -> Presence:
    """As many people as would keep the crowd from being over."""
    tracks = sight.tracks
    return Presence.THERE if len(people_in(tracks, zone, now=sight.at)) >= zone.parameters.few else Presence.GONE


def status(state: CrowdingState, zone: Zone[CrowdingParameters]) -> ZoneStatus:
    """`value` is the number of people; density and flow beside it."""
    measure = measure_zone(state, zone)
    stands = ZoneState.QUIET
    if state.raised_s is not None:
        stands = ZoneState.RAISED
    elif state.over_since_s is not None:
        stands = ZoneState.WATCHING
    return ZoneStatus(state=stands, value=measure.whole, detail=measure.as_json())


def _severity(measure: Measure, parameters: CrowdingParameters) -> int | None:
    close = parameters.limit_per_m2
    dense = close is not None and measure.near_per_m2 is not None and measure.near_per_m2 >= SEVERE * close
    return 1 if dense or _reaches(measure.people, SEVERE * parameters.limit) else None


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


def _tell_now(
    state: CrowdingState, people: Sequence[Track], measure: Measure, zone: Zone[CrowdingParameters], *, update: bool
) -> tuple[CrowdingState, tuple[Finding, ...]]:
    box, score = _surround(people, zone)
    state = replace(
        state,
        box=box,
        score=score,
        grown_since_s=None,
        told_people=max(state.told_people, measure.whole),
        told_severity=state.told_severity if state.told_severity is not None else _severity(measure, zone.parameters),
    )
    return state, (replace(_tell(state, zone, measure, None), update=update),)


def _tell(
    state: CrowdingState, zone: Zone[CrowdingParameters], measure: Measure, cleared_at: datetime | None
) -> Finding:
    raised_s, over_since_s = state.raised_s or 0.0, state.over_since_s or 0.0
    return Finding(
        rule=NAME,
        category=Category.CROWDING,
        zone=zone.name,
        key=f"{int(over_since_s * 1000):x}",
        started_at=datetime.fromtimestamp(over_since_s if state.began_s is None else state.began_s, UTC),
        raised_at=datetime.fromtimestamp(raised_s, UTC),
        cleared_at=cleared_at,
        box=state.box,
        score=state.score,
        severity=state.told_severity,
        detail=measure.as_json(),
    )


_OTHERS = (Label.VEHICLE, Label.TWO_WHEELER)

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
    status=status,
)
