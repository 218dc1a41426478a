"""Moving cameras: zones per taught view, and none while the camera turns or shows a view that nobody taught."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from simulators.street.scene import Light
from simulators.street.street import Street
from tests.vision.build import at, detections
from vision.health import Blindness, pack_view, take_view, unpack_view
from vision.model import Label, Picture
from vision.rules import discover
from vision.scene import SceneError, parse_scene
from vision.watch import Watch

KERB, SQUARE = Street(11), Street(34)
CAR = (0.4, 0.4, 0.6, 0.6)


def scene(**changes: Any) -> dict[str, Any]:
    polygon = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
    parameters = {"dwell_s": 8, "include_present": True}
    zones = [
        {"name": name, "rule": "illegal_parking", "polygon": polygon, "preset": name, "parameters": parameters}
        for name in ("kerb", "square")
    ]
    presets = [
        {"name": "kerb", "view": take_view(KERB.render(1.0))},
        {"name": "square", "view": take_view(SQUARE.render(1.0))},
    ]
    return {"zones": zones, "presets": presets} | changes


def look_at(watch: Watch, picture: Picture, now_s: float) -> list[str]:
    """One picture with a car in it; the zones of which something is raised or over."""
    watch.judge(picture, at(now_s), key=False)
    if watch.blind is not None:
        return []
    look = watch.look(detections((Label.VEHICLE, CAR, 0.9)), at(now_s), watch.view(picture))
    return [zone.name for zone, _ in look.findings]


def turning(share: float) -> Picture:
    """On the way from one view to the other."""
    cut = int(640 * share)
    return np.asarray(np.hstack([KERB.render(2.0)[:, cut:], SQUARE.render(2.0)[:, :cut]]), np.uint8)


def test_only_the_zones_of_the_view_it_shows_are_watched_and_none_while_it_turns() -> None:
    rules = discover()
    watch = Watch(scene=parse_scene(scene(), rules), rules=rules)
    found: list[tuple[float, str]] = []
    shown: dict[float, str | None] = {}
    for index in range(100):
        now_s = index * 0.5
        if now_s < 20:
            picture = KERB.render(now_s)
        elif now_s < 24:
            picture = turning((now_s - 20) / 4)
        elif now_s < 38:
            picture = SQUARE.render(now_s)
        else:  # a view that nobody taught
            picture = np.asarray(cv2.flip(SQUARE.render(now_s), 0), np.uint8)
        found += [(now_s, name) for name in look_at(watch, picture, now_s)]
        shown[now_s] = watch.turn.preset
        if 20.5 <= now_s < 24 or now_s > 38:
            assert watch.blind is Blindness.TURNING
    assert shown[10.0] == "kerb" and shown[22.0] is None and shown[30.0] == "square" and shown[45.0] is None
    assert [name for _, name in found] == ["kerb", "square"]
    assert 9 <= found[0][0] <= 13 and 33 <= found[1][0] <= 37


def test_a_taught_view_is_known_by_night() -> None:
    rules = discover()
    watch = Watch(scene=parse_scene(scene(), rules), rules=rules)
    night = Street(34, light=Light.NIGHT)
    for index in range(8):
        look_at(watch, night.render(index / 2), index / 2)
    assert watch.turn.preset == "square" and watch.blind is None


def test_a_scene_whose_presets_do_not_fit_is_refused() -> None:
    good, rules = scene(), discover()
    lost = [good["zones"][0] | {"preset": "roof"}]
    loose = [good["zones"][0] | {"preset": ""}]
    for value, reason in (
        (scene(zones=lost), "there is no preset 'roof'"),
        (scene(zones=loose), "must say to which preset"),
        (scene(presets=[]), "there is no preset 'kerb'"),
        (scene(presets=[good["presets"][0]] * 2), "two of this name"),
        (scene(presets=[{"name": "kerb", "view": "AAAA"}]), "not a view"),
    ):
        with pytest.raises(SceneError, match=reason):
            parse_scene(value, rules)


def test_a_view_is_the_same_after_having_been_text() -> None:
    text = take_view(KERB.render(1.0))
    assert pack_view(unpack_view(text)) == text and len(text) < 4096
