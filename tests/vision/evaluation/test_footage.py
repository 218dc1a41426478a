"""A few seconds of footage, from the file to the table."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from gridwarden.commands.vision import app
from simulators.choreography import ParkedCar, put_bin
from simulators.city import draw_zone
from simulators.footage import TUNING_SEEDS, encode
from simulators.street import Street
from vision.evaluation.truth import TruthError, read_truth

FPS, SECONDS = 2.5, 24.0


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A car draws up and stands; somebody looks away for two seconds after it was reported. A second car never comes."""
    folder = tmp_path_factory.mktemp("footage")
    street = Street(TUNING_SEEDS.start + 11)
    chance = random.Random(4)
    put_bin(street, chance)
    car = ParkedCar("parked-1", 1001.0, street, chance)

    def draw() -> Iterator[NDArray[np.uint8]]:
        for index in range(round(FPS * SECONDS)):
            now_s = 1000.0 + index / FPS
            if now_s >= car.began_s:
                car.step(street, now_s)
            yield street.render(now_s)

    encode(folder / "day-0001.mp4", draw(), FPS)
    box = next(box for box in street.truth(1000.0 + SECONDS) if box.name == "parked-1/car")
    event = {
        "rule": "illegal_parking", "category": "illegal_parking", "zone": "kerb",
        "box": [box.x1 / 640, box.y1 / 360, box.x2 / 640, box.y2 / 360],
    }  # fmt: skip
    stands_s = car.stands_s - 1000.0
    truth = {
        "version": 1, "condition": "day", "seconds": SECONDS, "fps": FPS, "size": [640, 360],
        "scene": {"zones": [{"name": "kerb", "rule": "illegal_parking", "polygon": draw_zone(street, "no_parking"),
                             "parameters": {"dwell_s": 5}}]},
        "restarts": [{"at_s": round(stands_s + 8.0, 1), "gap_s": 2.0}],
        "events": [{"id": "e0", "start_s": stands_s, "end_s": SECONDS, **event},
                   {"id": "e1", "start_s": 0.0, "end_s": 2.0, **event}],
    }  # fmt: skip
    (folder / "day-0001.truth.json").write_text(json.dumps(truth))
    return folder


def test_a_clip_is_judged_and_its_miss_becomes_a_picture(footage: Path) -> None:
    first = CliRunner().invoke(app, ["evaluate", str(footage)])
    assert first.exit_code == 0, first.output
    assert "day-0001: 1 right, 1 missed, 0 false, 0 twice" in first.output
    report = json.loads((footage / "evaluation.json").read_text())
    figures = report["figures"]["illegal_parking"]["all"]
    assert (figures["events"], figures["right"], figures["missed"], figures["duplicates"]) == (2, 1, 1, 0)
    assert figures["start_error_s"]["worst"] <= 2.0
    assert report["model"]["sha256"]
    picture = cv2.imread(str(footage / "misses" / "day-0001-missed-e1.jpg"))
    assert picture.shape == (720, 1280, 3)
    # a second run says the same, and one that resumes need not look again
    again = CliRunner().invoke(app, ["evaluate", str(footage), "--resume"])
    assert "day-0001:" not in again.output
    assert json.loads((footage / "evaluation.json").read_text()) == report


def test_a_truth_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.truth.json"
    path.write_text('{"version": 1, "seconds": -3, "fps": 5, "size": [4, 4], "scene": {}}')
    with pytest.raises(TruthError, match="seconds"):
        read_truth(path)
