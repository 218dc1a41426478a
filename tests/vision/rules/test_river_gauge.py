"""River gauge: the water line on a rendered staff, and the finding when it stays above the limit."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from simulators.river import River
from simulators.street import Light, Weather
from tests.vision.build import BEGAN_AT, cleared, raised, updates
from vision.model import Category, Finding, Picture, Presence
from vision.rule import AnyZone, ZoneState
from vision.rules.river_gauge import RULE, GaugeParameters
from vision.scene import parse_scene
from vision.sight import Sight
from vision.view import View


def gauge(river: River, **parameters: Any) -> AnyZone:
    """The zone that an engineer would draw: the staff, four marks clicked with an unsteady hand."""
    asked = {"marks": river.marks(1.0, 2.0, 3.0, 3.8, slip_px=0.7), "limit_m": 2.5, "smooth_s": 4, **parameters}
    value = {"name": "gauge", "rule": "river_gauge", "polygon": river.outline(0.2, 3.9), "parameters": asked}
    return parse_scene({"zones": [value]}, {"river_gauge": RULE}).zones[0]


def sent(picture: Picture) -> Picture:
    """As it comes out of a camera that must save bandwidth."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 55])[1], 1), np.uint8)


def watch(
    river: River, zone: AnyZone, *, from_s: float, looks: int, every_s: float = 0.5, state: Any = None
) -> tuple[Any, list[Finding], Sight]:
    """Three pictures in turn: rendering is what takes time here."""
    pictures = [sent(river.render(from_s + index * 0.4)) for index in range(3)]
    state, found = RULE.fresh() if state is None else state, []
    sight = Sight(at=BEGAN_AT, tracks=())
    for index in range(looks):
        now_s = from_s + index * every_s
        view = View(picture=pictures[index % 3])
        sight = Sight(at=BEGAN_AT + timedelta(seconds=now_s), tracks=(), view=view)
        state, findings = RULE.step(RULE.load(RULE.dump(state)), sight, zone)
        found += findings
    return state, found, sight


@pytest.mark.parametrize(
    ("seed", "light", "weather", "level_m"),
    [
        (11, Light.DAY, Weather.CLEAR, 1.37),
        (12, Light.OVERCAST, Weather.RAIN, 2.62),
        (13, Light.NIGHT, Weather.CLEAR, 0.91),
    ],
)
def test_the_level_is_read_to_five_centimetres(seed: int, light: Light, weather: Weather, level_m: float) -> None:
    river = River(seed, light=light, weather=weather, level_m=level_m)
    zone = gauge(river)
    state, findings, _ = watch(river, zone, from_s=0, looks=8)
    assert findings == []
    assert RULE.status(state, zone).value == pytest.approx(level_m, abs=0.05)


def test_a_river_above_its_limit_is_told_once_risen_further_again_and_cleared_once() -> None:
    river = River(14, light=Light.OVERCAST, level_m=2.2)
    zone = gauge(river, hold_s=2)
    state, findings, _ = watch(river, zone, from_s=0, looks=8)
    assert findings == []
    told: list[Finding] = []
    for start_s, level_m in ((5, 2.7), (16, 3.15), (27, 2.46), (38, 2.1)):
        river.level_m = level_m
        kept = json.dumps(RULE.dump(RULE.brief(state)))  # a restart
        assert len(kept) < 2_000
        state = RULE.load(json.loads(kept))
        state, findings, sight = watch(river, zone, from_s=start_s, looks=10, every_s=1.0, state=state)
        told += findings
        if level_m == 2.46:
            assert RULE.status(state, zone).state is ZoneState.RAISED
            assert RULE.judge(state, sight, zone, Category.RIVER_LEVEL) is Presence.THERE
    assert RULE.judge(state, sight, zone, Category.RIVER_LEVEL) is Presence.GONE
    (up,), (more,), (down,) = raised(told), updates(told), cleared(told)
    assert up.category is Category.RIVER_LEVEL and up.key == more.key == down.key
    assert up.detail["level_m"] == pytest.approx(2.7, abs=0.05)
    assert more.detail["level_m"] == pytest.approx(3.15, abs=0.05)
    assert down.detail["highest_m"] == pytest.approx(3.15, abs=0.06)


def test_a_covered_staff_gives_no_level_at_all() -> None:
    river = River(15, level_m=3.0)
    zone = gauge(river)
    picture = river.render(0.0)
    picture[:] = cv2.GaussianBlur(picture, (0, 0), 40)
    state = RULE.fresh()
    for index in range(6):
        noisy = np.clip(picture + np.random.default_rng(index).normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
        sight = Sight(at=BEGAN_AT + timedelta(seconds=index), tracks=(), view=View(picture=noisy))
        state, findings = RULE.step(state, sight, zone)
        assert findings == ()
    assert RULE.status(state, zone).value is None
    assert RULE.judge(state, sight, zone, Category.RIVER_LEVEL) is Presence.HIDDEN


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ([[0.5, 0.2, 1.0]], "at least 2 items"),
        ([[0.5, 0.2, 1.0], [0.5, 0.8, 1.05]], "0.1 m apart"),
        ([[0.5, 0.2, 1.0], [0.5, 0.2, 2.0]], "one place"),
        ([[0.5, 0.2, 3.0], [0.5, 0.5, 1.0], [0.5, 0.8, 2.0]], "must rise"),
    ],
)
def test_marks_that_fix_no_height_are_refused(marks: list[list[float]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GaugeParameters.model_validate({"marks": marks, "limit_m": 2.0})
