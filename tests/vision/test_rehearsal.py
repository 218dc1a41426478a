"""A scene is tried on recordings as if it had been live; a rehearsal that is left behind is taken up again, and not for ever."""

import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import av
import numpy as np
import pytest
from psycopg.types.json import Jsonb

from devices.store import DeviceRecord, add_camera
from ingest.recording import find_segments, folder_of
from kernel.db import Database
from kernel.ids import new_id
from kernel.settings import Settings
from vision.model import LABELS, Detections, Label, Picture
from vision.rehearsal import MOST_ATTEMPTS, SILENT, Cancelled, Course, RehearsalDesk, rehearse
from vision.rules import discover
from vision.scene import parse_scene

BEGAN_AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
SCENE = {
    "zones": [
        {"name": "kerb", "rule": "illegal_parking", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]],
         "parameters": {"dwell_s": 10}}
    ]
}  # fmt: skip


def film_car(path: Path, seconds: int, from_s: float, until_s: float) -> None:
    """A recording at 5 fps of an empty grey street in which a bright car comes, stands and goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 320, 180, "yuv420p", Fraction(1, 5)
        stream.options = {"preset": "ultrafast"}
        rng = np.random.default_rng(3)
        blocks = rng.integers(20, 150, (9, 16, 1)).repeat(20, 0).repeat(20, 1)  # a view that is known again
        street = np.asarray(blocks.repeat(3, 2), np.uint8)
        for index in range(seconds * 5):
            at_s = index / 5
            picture = street.copy()
            x = 120 if from_s <= at_s - 2 and at_s <= until_s else round(120 - (from_s + 2 - at_s) * 50)
            if at_s > until_s:
                x = round(120 + (at_s - until_s) * 80)
            if at_s >= from_s and 0 <= x < 260:
                picture[80:120, x : x + 60] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


class SeesWhite:
    """A detector of white cars."""

    strong_scores: dict[Label, float] = {}  # noqa: RUF012

    def detect(self, picture: Picture) -> Detections:
        ys, xs = np.nonzero(picture.min(axis=2) > 200)
        if len(xs) < 200:
            return Detections.empty(320, 180)
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        label = np.array([list(LABELS).index(Label.VEHICLE)], np.int64)
        return Detections(boxes=box, scores=np.array([0.9], np.float32), labels=label, width_px=320, height_px=180)


def test_what_stood_too_long_in_the_recordings_is_found_at_the_time_it_stood_there(
    tmp_path: Path, settings_free: Settings
) -> None:
    folder = folder_of(tmp_path, "cam-1")
    film_car(folder / "20261120T080000Z.mp4", 40, 6.0, 30.0)
    (folder / "20261120T080040Z.mp4").write_bytes(b"cut off by a power failure")
    for path, seconds in (("20261120T080000Z.mp4", 40), ("20261120T080040Z.mp4", 60)):
        ended_s = (BEGAN_AT + timedelta(seconds=seconds)).timestamp()

        os.utime(folder / path, (ended_s, ended_s))
    segments = find_segments(folder, BEGAN_AT, BEGAN_AT + timedelta(hours=1))
    rules = dict(discover())
    scene = parse_scene(SCENE, rules)
    course = rehearse(scene, segments, SeesWhite(), settings_free, rules, keep=lambda *_: 7)
    assert [(f["rule"], f["zone"], f["picture"]) for f in course.findings] == [("illegal_parking", "kerb", 7)]
    started_s = (datetime.fromisoformat(course.findings[0]["started_at"]) - BEGAN_AT).total_seconds()
    assert started_s == pytest.approx(8.0, abs=1.5)
    assert course.findings[0]["cleared_at"] is not None
    assert course.progress == 1.0 and 5 < course.looks < 200  # the quiet street is looked at less

    def cancel(course: Course) -> None:
        raise Cancelled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vision.rehearsal.TELL_S", 0.0)
        with pytest.raises(Cancelled):
            rehearse(scene, segments, SeesWhite(), settings_free, rules, tell=cancel)


@pytest.fixture
def settings_free() -> Settings:
    return Settings()


def ask(database: Database, now: datetime, count: int = 1) -> Sequence[UUID]:
    record = DeviceRecord(code="cam-1", kind="camera", name="天水-07", lon=120.17, lat=30.28)
    ids = [new_id(now) for _ in range(count)]
    with database.transaction() as connection:
        camera = add_camera(connection, record, "rtsp://127.0.0.1/a", now)
        for rehearsal_id in ids:
            connection.execute(
                "INSERT INTO rehearsal (id, device_id, scene, minutes, requested_by, requested_at) VALUES (%s, %s, %s, 60, 'lin', %s)",
                (rehearsal_id, camera.id, Jsonb(SCENE), now),
            )
    return ids


def state_of(database: Database, rehearsal_id: UUID) -> tuple[str, str | None]:
    with database.transaction() as connection:
        row = connection.execute("SELECT state, error FROM rehearsal WHERE id = %s", (rehearsal_id,)).fetchone()
    assert row is not None
    return row[0], row[1]


def test_one_that_was_left_behind_is_taken_up_again_and_given_up_after_the_third_time(
    settings: Settings, database: Database
) -> None:
    at = BEGAN_AT
    (rehearsal_id,) = ask(database, at)
    desk = RehearsalDesk(settings, database, lambda: at)
    for _ in range(MOST_ATTEMPTS):
        assert desk.claim() == rehearsal_id and desk.claim() is None  # nobody else takes it while it is heard
        at += SILENT + timedelta(seconds=1)
    assert desk.claim() is None and state_of(database, rehearsal_id) == ("failed", "interrupted")
    at += timedelta(days=2)
    desk.sweep()
    with database.transaction() as connection:
        assert connection.execute("SELECT FROM rehearsal").fetchone() is None


def test_without_recordings_it_fails_and_says_so(settings: Settings, database: Database) -> None:
    (rehearsal_id,) = ask(database, datetime.now(UTC))
    stop = threading.Event()
    desk = RehearsalDesk(settings, database, lambda: datetime.now(UTC))
    thread = threading.Thread(target=desk.run, args=(stop,), daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 60
    while state_of(database, rehearsal_id)[0] in ("waiting", "running") and time.monotonic() < deadline_s:
        time.sleep(0.1)
    stop.set()
    thread.join(10)
    assert state_of(database, rehearsal_id) == ("failed", "no_recordings")
