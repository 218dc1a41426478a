"""Clips of rendered streets as a camera would send them (H.264 in MP4), each with the truth of what happens in it.

    DIR/<condition>-<number>.mp4         pictures of 640 x 360 at FPS
    DIR/<condition>-<number>.truth.json  scene, restarts, events, look-alikes; the format is in docs/evaluation.md

Streets of the tuning part and of the judging part never meet each other, the training data or the demo: their seeds come
from ranges of their own. Thresholds of clips with events are compressed (see simulators/programme.py), so that little footage holds much.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from simulators.city import RULE_OF_ZONE, draw_zone
from simulators.corner import FRAME_SIZE
from simulators.programme import (
    EVENTS,
    RULE_OF_PLACE,
    SHORT,
    USUAL,
    ZONE_OF_PLACE,
    Condition,
    Happened,
    Programme,
    Times,
)
from simulators.street import Light, Street, Weather
from simulators.witness import Stay, Witness

TUNING_SEEDS = range(2_100_000_000, 2_110_000_000)
JUDGING_SEEDS = range(2_110_000_000, 2_120_000_000)

FPS = 5.0
CLIP_S = 360.0
QUIET_CLIP_S = 600.0
EPOCH_S = 1_800_000_000.0
"""The street's time at the first picture of every clip; it only moves legs and rain."""

SURE_S = 4.0
"""An event must outlast its threshold by this much to be asked for; what lies between is nobody's event."""

BRIEF_SHARE = 0.8
"""What lasts up to this share of its threshold is a look-alike."""

AMBIENT = frozenset({"passers", "through_traffic", "headlights"})
"""Look-alikes that are everywhere; they are listed and not counted."""


class Part(StrEnum):
    """What a clip may be used for: thresholds are chosen on one part and judged on the other."""

    TUNING = "tuning"
    JUDGING = "judging"


SKIES: dict[Condition, tuple[tuple[Light, Weather], ...]] = {
    Condition.DAY: ((Light.DAY, Weather.CLEAR), (Light.OVERCAST, Weather.CLEAR)),
    Condition.NIGHT: ((Light.NIGHT, Weather.CLEAR),),
    Condition.RAIN: ((Light.OVERCAST, Weather.RAIN), (Light.DAY, Weather.RAIN)),
    Condition.HEADLIGHTS: ((Light.NIGHT, Weather.RAIN),),
    Condition.BUS: ((Light.DAY, Weather.CLEAR), (Light.OVERCAST, Weather.CLEAR)),
    Condition.QUEUE: ((Light.OVERCAST, Weather.CLEAR), (Light.DUSK, Weather.CLEAR), (Light.DAY, Weather.CLEAR)),
    Condition.RESTART: ((Light.DAY, Weather.CLEAR), (Light.NIGHT, Weather.CLEAR)),
}


LIGHT_CHANGES: dict[Condition, tuple[tuple[float, Light], ...]] = {
    Condition.DAY: ((0.0, Light.DAY), (0.35, Light.OVERCAST), (0.7, Light.DAY)),
    Condition.NIGHT: ((0.0, Light.DUSK), (0.5, Light.NIGHT)),
}
"""Of quiet clips: from which share of the clip on there is which light."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlan:
    """One clip to be made. `number` chooses the street within the part; `quiet`: look-alikes only."""

    part: Part
    number: int
    condition: Condition
    seconds: float = CLIP_S
    quiet: bool = False
    fps: float = FPS

    @property
    def times(self) -> Times:
        """Short thresholds for events, the usual ones for the hours in which nothing is to be reported."""
        return USUAL if self.quiet else SHORT

    @property
    def name(self) -> str:
        """The clip's file name without its ending."""
        return f"{'quiet-' if self.quiet else ''}{self.condition}-{self.number:04d}"

    @property
    def street_seed(self) -> int:
        """The street's seed, within the part's range; every condition has streets of its own."""
        seeds = TUNING_SEEDS if self.part is Part.TUNING else JUDGING_SEEDS
        chance = random.Random(f"{self.part}/{self.number}/{self.condition}/{self.quiet}")
        return seeds.start + chance.randrange(len(seeds))


class Clip:
    """One clip being played: pictures in order, and its truth when all have been taken."""

    def __init__(self, plan: ClipPlan) -> None:
        """Builds the street (about half a second). Raises RuntimeError for a seed without a street."""
        self.plan = plan
        chance = random.Random(f"{plan.street_seed}/{plan.condition}/clip")
        light, weather = SKIES[plan.condition][plan.number % len(SKIES[plan.condition])]
        self.street = Street(plan.street_seed, width=FRAME_SIZE[0], height=FRAME_SIZE[1], light=light, weather=weather)
        self.zones = {place: draw_zone(self.street, place) for place in RULE_OF_ZONE}
        self._programme = Programme(
            street=self.street, condition=plan.condition, seconds=plan.seconds, began_s=EPOCH_S, rng=chance,
            quiet=plan.quiet, times=plan.times,
        )  # fmt: skip
        self._witness = Witness(self.street, self.zones, plan.times.limit)
        self.restarts = _restarts(plan, chance)

    def play(self) -> Iterator[NDArray[np.uint8]]:
        """The pictures, (360, 640, 3) BGR, 1 / fps apart."""
        for index in range(round(self.plan.seconds * self.plan.fps)):
            at_s = index / self.plan.fps
            self._change_light(at_s)
            self._programme.advance(at_s)
            self._witness.look(at_s, EPOCH_S + at_s)
            yield self.street.render(EPOCH_S + at_s)

    def _change_light(self, at_s: float) -> None:
        """Over long clips a cloud comes and goes, and dusk falls: at once, which is harder than it is by nature."""
        changes = LIGHT_CHANGES.get(self.plan.condition, ()) if self.plan.quiet else ()
        due = [light for share, light in changes if at_s >= share * self.plan.seconds]
        if due:
            self.street.set_light(due[-1])

    def truth(self) -> dict[str, Any]:
        """Truth as JSON, of what has been played."""
        plan = self.plan
        events, ignored = sort_stays(self._witness.stays, plan.seconds, plan.times)
        lookalikes = [_lookalike(item, plan.seconds) for item in self._programme.happened if item.kind not in EVENTS]
        return {
            "version": 1, "part": plan.part.value, "number": plan.number, "street_seed": plan.street_seed,
            "condition": plan.condition.value, "light": self.street.light.value, "weather": self.street.weather.value,
            "seconds": plan.seconds, "fps": plan.fps, "size": list(FRAME_SIZE), "scene": self.scene(),
            "restarts": [{"at_s": at_s, "gap_s": gap_s} for at_s, gap_s in self.restarts],
            "events": [{"id": f"e{i}", **_event(stay, plan.seconds)} for i, stay in enumerate(events)],
            "lookalikes": [{"id": f"l{i}", **item} for i, item in enumerate(lookalikes)],
            "ignored": [{"id": f"i{i}", **_event(stay, plan.seconds)} for i, stay in enumerate(ignored)],
        }  # fmt: skip

    def scene(self) -> dict[str, Any]:
        """The camera's zones, as a camera's record has them."""
        times = self.plan.times
        parameters: dict[str, dict[str, Any]] = {
            "illegal_parking": {"dwell_s": times.dwell_s},
            "litter_overflow": {"hold_s": times.hold_s, "stay_s": times.stay_s},
            "crowding": {"limit": times.limit, "hold_s": times.crowd_s, "clear_s": 4},
        }
        zones = [
            {"name": place, "rule": rule, "polygon": self.zones[place], "parameters": parameters[rule]}
            for place, rule in RULE_OF_ZONE.items()
        ]
        return {"zones": zones}


def sort_stays(stays: Sequence[Stay], seconds: float, times: Times = SHORT) -> tuple[list[Stay], list[Stay]]:
    """The stays that must be reported, and those that may be or not: too near to their threshold, or cut off."""
    events: list[Stay] = []
    ignored: list[Stay] = []
    for stay in stays:
        lasts_s = (seconds if stay.end_s is None else stay.end_s) - stay.start_s
        need_s = times.need_s[stay.category]
        meant = stay.category != "illegal_parking" or stay.cause in EVENTS
        if meant and lasts_s >= need_s + SURE_S and stay.box is not None:
            events.append(stay)
        elif meant and lasts_s > need_s * BRIEF_SHARE:
            ignored.append(stay)
    return events, ignored


def write_clip(folder: Path, plan: ClipPlan) -> Path:
    """Writes one clip and its truth unless they are there; gives the truth's path. The truth comes last and whole."""
    truth_path = folder / f"{plan.name}.truth.json"
    if truth_path.exists() and (folder / f"{plan.name}.mp4").exists():
        return truth_path
    folder.mkdir(parents=True, exist_ok=True)
    clip = Clip(plan)
    encode(folder / f"{plan.name}.mp4", clip.play(), plan.fps)
    part_path = truth_path.with_suffix(".part")
    part_path.write_text(json.dumps(clip.truth(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    part_path.replace(truth_path)
    return truth_path


def encode(path: Path, pictures: Iterator[NDArray[np.uint8]], fps: float, kbit_per_s: int = 900) -> None:
    """H.264 as a simulated camera codes it: no B-pictures, a key picture every two seconds, bounded rate."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = max(1, round(fps * 2.0))
        stream.codec_context.max_b_frames = 0
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {
            "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "crf": "24",
            "maxrate": f"{kbit_per_s}k", "bufsize": f"{kbit_per_s}k",
        }  # fmt: skip
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


def plan_footage(part: Part, numbers: Sequence[int], conditions: Sequence[Condition]) -> list[ClipPlan]:
    """The clips of those numbers, each under every condition."""
    return [ClipPlan(part=part, number=number, condition=condition) for number in numbers for condition in conditions]


def plan_quiet(part: Part, first: int, hours: float, conditions: Sequence[Condition]) -> list[ClipPlan]:
    """Clips without any event for so many camera-hours, over the conditions in turn."""
    count = max(1, round(hours * 3600 / QUIET_CLIP_S))
    return [
        ClipPlan(part=part, number=first + index, condition=conditions[index % len(conditions)], seconds=QUIET_CLIP_S,
                 quiet=True, fps=FPS / 2)
        for index in range(count)
    ]  # fmt: skip


def read_numbers(text: str) -> list[int]:
    """Numbers of `1,4,7-9`. Raises ValueError."""
    numbers: list[int] = []
    for item in text.split(","):
        first, _, last = item.strip().partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _restarts(plan: ClipPlan, chance: random.Random) -> list[tuple[float, float]]:
    """When whoever watches goes away, and for how long: in the middle of what happens, shortly and longer."""
    if plan.condition is not Condition.RESTART:
        return []
    count = max(1, round(plan.seconds / 60))
    span_s = plan.seconds / (count + 1)
    return [
        (round(span_s * (i + 1) + chance.uniform(-0.3, 0.3) * span_s, 1), round(chance.choice((2.0, 6.0, 15.0)), 1))
        for i in range(count)
    ]


def _event(stay: Stay, seconds: float) -> dict[str, Any]:
    return {
        "rule": RULE_OF_PLACE["bay" if stay.zone == "no_parking" else stay.zone],
        "category": stay.category, "zone": stay.zone, "cause": stay.cause, "start_s": round(stay.start_s, 2),
        "end_s": round(seconds if stay.end_s is None else stay.end_s, 2), "box": stay.box,
    }  # fmt: skip


def _lookalike(item: Happened, seconds: float) -> dict[str, Any]:
    return {
        "rule": RULE_OF_PLACE[item.place], "zone": ZONE_OF_PLACE.get(item.place, item.place), "kind": item.kind,
        "start_s": round(item.start_s, 2), "end_s": round(seconds if item.end_s is None else item.end_s, 2),
        "counted": item.kind not in AMBIENT,
    }  # fmt: skip
