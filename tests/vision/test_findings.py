"""What a camera found, from the look to the rows: pictures, masks, clips, what becomes of it, how long it is kept."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from devices.model import Device
from devices.store import DeviceRecord, add_camera
from ingest.packets import ClipDone
from ingest.recording import folder_of
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.settings import EvidenceSettings, Settings
from tests.forcing import force_state
from tests.vision.build import at, detections, zone
from vision.casebook import FIRST_LATEST, Casebook, Gathered, Later, name_model
from vision.clip import LATE, Masker
from vision.findings import Studio, settle_clip, write_report, write_update
from vision.hold import HoldError, lift_hold, place_hold
from vision.house import HOUSE_S, STRAY_AFTER, keep_house
from vision.judged import part_of, read_judged, write_judged
from vision.lettering import Lettering
from vision.mask import find_masks, mask_picture
from vision.memory import EVERY, Memory
from vision.model import Box, Category, Detections, Finding, Label, Picture
from vision.rules.illegal_parking import RULE
from vision.sight import Sight
from vision.training.dataset import read_dataset
from vision.watch import Look

ZONE = zone(RULE, name="kerb")
CAR: Box = (0.3, 0.4, 0.6, 0.7)
PERSON: Box = (0.1, 0.3, 0.2, 0.8)


def noise(seed: int = 1, width: int = 640, height: int = 360) -> Picture:
    """A grey picture full of detail that JPEG keeps, so that what was covered can be told."""
    cells = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 1)).astype(np.uint8)
    return np.asarray(cells.repeat(4, 0).repeat(4, 1).repeat(3, 2), np.uint8)


def seen() -> Detections:
    return detections((Label.VEHICLE, CAR, 0.9), (Label.PERSON, PERSON, 0.06))


def finding(key: str = "e1", started_s: float = 0.0, raised_s: float = 10.0, **more: Any) -> Finding:
    return Finding(
        rule="illegal_parking",
        category=Category.ILLEGAL_PARKING,
        zone="kerb",
        key=key,
        started_at=at(started_s),
        raised_at=at(raised_s),
        cleared_at=more.pop("cleared_at", None),
        box=CAR,
        score=0.9,
        **more,
    )


def look(now_s: float, *found: Finding) -> Look:
    return Look(sight=Sight(at=at(now_s), tracks=()), findings=tuple((ZONE, one) for one in found))


class Capture:
    """Cuts clips as the capture does: asked now, answered later."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime, datetime, Path]] = []
        self.done: list[ClipDone] = []

    def save_clip(self, clip_id: str, from_at: datetime, until_at: datetime, path: Path) -> None:
        self.asked.append((clip_id, from_at, until_at, path))

    def take_clips(self) -> list[ClipDone]:
        done, self.done = self.done, []
        return done


def clip_done(clip_id: str, path: Path, *, ok: bool = True, error: str = "") -> ClipDone:
    return ClipDone(id=clip_id, path=path, ok=ok, error=error)


def film(path: Path, seconds: float = 1.0, fps: int = 10) -> None:
    """A short H.264 file in which a bright car and person stand on a plain road."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        checks = (np.indices((180, 320)).sum(axis=0) // 2 % 2 * 255).astype(np.uint8)
        for _ in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(np.repeat(checks[:, :, None], 3, axis=2), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Scripted:
    """Sees the same in every picture."""

    def detect(self, picture: Picture) -> Detections:
        height, width = picture.shape[:2]
        return detections((Label.VEHICLE, CAR, 0.9), width_px=width, height_px=height)


@pytest.fixture
def camera(database: Database) -> Device:
    record = DeviceRecord(code="cam-a", kind="camera", name="天水 a", lon=120.1, lat=30.2, area_code="330105012001")
    with database.transaction("*") as connection:
        return add_camera(connection, record, "rtsp://10.0.0.1/a", at(0), scene={"zones": []})


@pytest.fixture
def studio(settings: Settings, tmp_path: Path) -> Studio:
    """Writes below a folder of this test's own."""
    evidence = EvidenceSettings(dir=str(tmp_path / "evidence"), originals_dir=str(tmp_path / "originals"))
    own = settings.model_copy(update={"evidence": evidence})
    return Studio(settings=own, lettering=Lettering(Path("/nowhere")))


def book(camera: Device, studio: Studio, capture: object) -> Casebook:
    settings = studio.settings
    return Casebook(camera, [ZONE], capture, settings.evidence, settings.originals_dir)


def raise_one(casebook: Casebook, *, key: str = "e1", from_s: float = 0.0) -> Gathered:
    """Ten seconds of looks, at whose end a car is found to be parked."""
    for second in range(10):
        casebook.see(look(from_s + second), noise(second), seen(), None)
    one = finding(key, started_s=from_s, raised_s=from_s + 10)
    casebook.see(look(from_s + 10, one), noise(10), seen(), name_model(Path(__file__)))
    return casebook.take()


def write(connection: Connection, gathered: Gathered, studio: Studio, now: datetime) -> None:
    for raised in gathered.raised:
        write_report(connection, raised, studio, now)
    for updated in gathered.updated:
        write_update(connection, updated, studio, now)
    for done in gathered.clips:
        settle_clip(connection, done, now)


def rows(database: Database, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    with database.transaction("*") as connection:
        return connection.execute(text, parameters).fetchall()


def change(database: Database, text: str, *parameters: object) -> None:
    with database.transaction("*") as connection:
        connection.execute(text, parameters)


def close(database: Database, incident_id: UUID) -> None:
    with database.transaction("*") as connection:
        force_state(connection, incident_id, "closed")


def test_heads_and_plates_are_covered_and_the_rest_is_left_as_it_is() -> None:
    picture = noise()
    masks = find_masks(seen())
    covered = mask_picture(picture, masks)
    head, plate = covered[100:120, 70:120], covered[220:250, 200:380]
    for place in (head, plate):
        assert len(np.unique(place.reshape(-1, 3), axis=0)) < 40  # a few blocks, of thousands of pixels
    assert np.array_equal(covered[260:, 60:130], picture[260:, 60:130])  # the person's legs
    assert np.array_equal(covered[144:170, 192:384], picture[144:170, 192:384])  # the car's roof
    assert mask_picture(picture, ()) is picture
    faint = detections((Label.VEHICLE, (0.0, 0.0, 1.0, 1.0), 0.2), (Label.VEHICLE, (0.1, 0.1, 0.2, 0.2), 0.05))
    assert len(find_masks(faint)) == 1  # a faint box over everything would hide what the picture is to show


def test_the_memory_is_bounded_in_bytes_and_thins_out_with_age() -> None:
    memory, kept = Memory(300_000), noise(width=64, height=48)
    for second in range(600):
        memory.add(kept, (), at(second))
        assert not memory.add(kept, (), at(second) + EVERY / 2)
    assert memory.size_bytes <= 300_000 and len(memory) > 20
    now = at(600)
    for ago_s in (5, 30, 120, 300):
        found = memory.find(now - timedelta(seconds=ago_s), now)
        assert found is not None and abs((now - found.at).total_seconds() - ago_s) <= max(2.0, 0.1 * ago_s), ago_s
    assert Memory(300_000).find(at(0), now) is None
    assert memory.add(kept, (), at(300)) and memory.find(at(500), at(500)) is None  # the clock was set back


def test_a_finding_brings_its_first_picture_its_reason_and_its_clip(
    database: Database, camera: Device, studio: Studio
) -> None:
    capture = Capture()
    gathered = raise_one(book(camera, studio, capture))
    with database.transaction("*") as connection:
        write(connection, gathered, studio, at(11))
    ((report_id, detail, evidence_ids, occurred_at),) = rows(
        database, "SELECT id, detail, evidence_ids, occurred_at FROM report"
    )
    assert occurred_at == at(0) and detail["threshold_at"] == at(10).isoformat()
    assert detail["polygon"] == [list(point) for point in ZONE.polygon]
    assert detail["rule_parameters"]["dwell_s"] == ZONE.parameters.dwell_s
    assert detail["model"] == {
        "name": "test_findings.py", "sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    }  # fmt: skip
    assert detail["evidence"]["latest"] is None
    assert [str(one) for one in evidence_ids] == [detail["evidence"]["threshold"], detail["evidence"]["first"]]
    ((clip_id, from_at, until_at, _),) = capture.asked
    assert (from_at, until_at) == (at(5), at(15))
    assert detail["clip"]["id"] == clip_id and detail["clip"]["state"] == "wanted"
    for evidence_id, second in zip(evidence_ids, (10, 0), strict=True):
        ((path, digest, masked, taken_at, original, masks),) = rows(
            database,
            "SELECT e.path, e.sha256, e.masked, e.taken_at, o.path, o.masks FROM evidence e"
            " JOIN evidence_original o ON o.evidence_id = e.id WHERE e.id = %s",
            evidence_id,
        )
        shown = studio.settings.evidence_dir / path
        kept = studio.settings.originals_dir / original
        assert hashlib.sha256(shown.read_bytes()).digest() == digest and masked and taken_at == at(second)
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert len(masks) == 2  # the person at 0.06 as well
        assert difference(kept, noise(second)) < 25 < difference(shown, noise(second), masks[0])
    assert report_id is not None


def difference(path: Path, picture: NDArray[np.uint8], where: list[float] | None = None) -> float:
    """Mean of the grey levels by which a stored picture differs from the one that was seen."""
    stored = cv2.imread(str(path))
    assert stored is not None
    x1, y1, x2, y2 = where or (0.0, 0.0, 1.0, 1.0)
    part = (slice(int(y1 * 360), int(y2 * 360)), slice(int(x1 * 640), int(x2 * 640)))
    return float(np.abs(stored[:360][part].astype(int) - picture[part].astype(int)).mean())


def test_what_becomes_of_a_finding_is_kept_with_it_over_a_restart(
    database: Database, camera: Device, studio: Studio
) -> None:
    first = book(camera, studio, None)
    gathered = raise_one(first)
    assert gathered.raised[0].clip is not None and gathered.raised[0].clip.error == "no_capture"
    second = book(camera, studio, None)
    second.load({key: json.loads(json.dumps(value)) for key, value in first.dump().items()})
    later = at(10) + FIRST_LATEST
    second.see(Look(sight=Sight(at=later, tracks=()), findings=()), noise(20), seen(), None)
    grown = finding(update=True, severity=2, detail={"area_m2": 3.5})
    second.see(look(80, grown), noise(21), seen(), None)
    over = finding(cleared_at=at(90))
    second.see(look(95, over), noise(22), seen(), None)
    told = second.take()
    assert [one.kind for one in told.updated] == [Later.LATEST, Later.GREW, Later.CLEARED]
    with database.transaction("*") as connection:
        write(connection, gathered, studio, at(11))
        write(connection, told, studio, at(96))
        assert not write_update(connection, replace(told.updated[1], at=at(99)), studio, at(99))  # it is over
    ((detail, count),) = rows(database, "SELECT detail, cardinality(evidence_ids) FROM report")
    assert detail["measured"] == {"area_m2": 3.5} and detail["cleared_at"] == at(90).isoformat() and count == 5
    assert detail["clip"]["state"] == "failed" and detail["clip"]["error"] == "no_capture"
    assert set(detail["evidence"]) == {"first", "threshold", "latest", "cleared"}
    assert rows(database, "SELECT kind, severity FROM report_update ORDER BY at") == [
        ("latest", None), ("grew", 2), ("cleared", None),
    ]  # fmt: skip


def test_a_finding_that_stays_for_months_goes_on_being_looked_at(camera: Device, studio: Studio) -> None:
    casebook = book(camera, studio, None)
    raise_one(casebook)
    for days in range(0, 60, 10):
        value = casebook.dump()[("", "cases")]
        value["cases"][0]["pictures"] = 10 + 4 * days  # one every six hours
        casebook.load({("", "cases"): value})
        later = at(10) + timedelta(days=1 + days)
        casebook.see(Look(sight=Sight(at=later, tracks=()), findings=()), noise(), seen(), None)
        assert [one.kind for one in casebook.take().updated] == [Later.LATEST]


def test_what_is_back_goes_on_in_its_report_until_the_incident_is_closed(
    database: Database, camera: Device, studio: Studio
) -> None:
    casebook = book(camera, studio, None)
    incident_id = None
    for start in (0, 100, 200):
        again = finding(started_s=start, raised_s=start + 10, update=start > 0)  # as the parking rule tells it
        casebook.see(look(start + 10, again), noise(10), seen(), None)
        with database.transaction("*") as connection:
            write(connection, casebook.take(), studio, at(start + 11))
        incident_id = incident_id or open_incident(database, "filed")
        ((count, over),) = rows(database, "SELECT count(*), bool_or(detail ? 'cleared_at') FROM report")
        assert (count, over) == ((1, False) if start < 200 else (2, True))  # the closed one's report stays over
        casebook.see(look(start + 20, finding(cleared_at=at(start + 20))), noise(22), seen(), None)
        with database.transaction("*") as connection:
            write(connection, casebook.take(), studio, at(start + 21))
        if start == 100:
            close(database, incident_id)
    told = [kind for (kind,) in rows(database, "SELECT kind FROM report_update ORDER BY at")]
    assert told == ["cleared", "back", "cleared", "cleared"]


def test_a_clip_is_shown_masked_and_one_that_cannot_be_had_says_why(
    database: Database, camera: Device, studio: Studio
) -> None:
    capture, settings = Capture(), studio.settings
    casebook = book(camera, studio, capture)
    for number in range(3):
        with database.transaction("*") as connection:
            write(connection, raise_one(casebook, key=f"e{number}", from_s=20.0 * number), studio, at(60))
    (cut, _, _, path), (refused, _, _, where), (lost, _, _, _) = capture.asked
    film(path)
    capture.done = [clip_done(cut, path), clip_done(refused, where, ok=False, error="nothing_kept")]
    with database.transaction("*") as connection:
        write(connection, casebook.take(), studio, at(70))
    now = [at(70)]
    masker = Masker(settings, database, lambda: now[0], Scripted)
    assert masker.work() and not masker.work()
    recording = folder_of(settings.data_dir, camera.code) / f"{at(26):%Y%m%dT%H%M%SZ}.mp4"
    film(recording, 9.0)  # what the ring no longer had was recorded: the second clip's middle is at 30 s
    os.utime(recording, (at(35).timestamp(), at(35).timestamp()))
    now[0] = at(70) + LATE
    assert masker.work()  # the third was never answered, and nothing was recorded then
    recording.unlink()
    states = dict(rows(database, "SELECT detail #>> '{clip,id}', detail -> 'clip' FROM report"))
    assert [states[one]["state"] for one in (cut, refused, lost)] == ["saved", "saved", "failed"]
    assert states[lost]["error"] == "interrupted"
    with av.open(str(where)) as found:
        assert 80 <= sum(1 for _ in found.decode(video=0)) <= 100  # 25 s to 35 s, of which 26 s to 35 s are recorded
    ((kind, mime, shown, digest, listed),) = rows(
        database,
        "SELECT e.kind, e.mime, e.path, e.sha256, e.id = ANY (r.evidence_ids) FROM evidence e"
        " JOIN report r ON r.detail #>> '{clip,id}' = e.id::text WHERE e.id = %s",
        UUID(cut),
    )
    assert (kind, mime, listed) == ("clip", "video/mp4", True)
    masked = settings.evidence_dir / shown
    assert hashlib.sha256(masked.read_bytes()).digest() == digest
    assert sharpness(path, (0.3, 0.55, 0.6, 0.7)) > 10 * sharpness(masked, (0.3, 0.55, 0.6, 0.7))
    assert sharpness(masked, (0.7, 0.1, 0.9, 0.3)) > 0.5 * sharpness(path, (0.7, 0.1, 0.9, 0.3))


def sharpness(path: Path, where: Box) -> float:
    """Mean difference of neighbouring pixels at a place, over all frames of a film."""
    with av.open(str(path)) as film_file:
        pictures = [frame.to_ndarray(format="gray").astype(int) for frame in film_file.decode(video=0)]
    assert len(pictures) == 10
    x1, y1, x2, y2 = (round(value * size) for value, size in zip(where, (320, 180, 320, 180), strict=True))
    return float(np.mean([np.abs(np.diff(picture[y1:y2, x1:x2], axis=1)).mean() for picture in pictures]))


def test_a_clip_that_is_no_film_is_told_and_leaves_no_file(database: Database, camera: Device, studio: Studio) -> None:
    capture = Capture()
    casebook = book(camera, studio, capture)
    with database.transaction("*") as connection:
        write(connection, raise_one(casebook), studio, at(11))
    ((clip_id, _, _, path),) = capture.asked
    path.write_bytes(b"no film at all")
    capture.done = [clip_done(clip_id, path)]
    with database.transaction("*") as connection:
        write(connection, casebook.take(), studio, at(20))
    Masker(studio.settings, database, lambda: at(21), Scripted).work()
    assert rows(database, "SELECT state, error FROM clip") == [("failed", "masking_failed")]
    assert list(path.parent.glob("*.mp4")) == []


def test_a_clip_that_a_detector_stumbles_over_is_told_and_not_tried_for_ever(
    database: Database, camera: Device, studio: Studio
) -> None:
    class Stumbling:
        def detect(self, picture: Picture) -> Detections:
            raise ValueError("no such picture")

    capture = Capture()
    casebook = book(camera, studio, capture)
    with database.transaction("*") as connection:
        write(connection, raise_one(casebook), studio, at(11))
    ((clip_id, _, _, path),) = capture.asked
    film(path)
    capture.done = [clip_done(clip_id, path)]
    with database.transaction("*") as connection:
        write(connection, casebook.take(), studio, at(20))
    assert Masker(studio.settings, database, lambda: at(21), Stumbling).work()
    assert rows(database, "SELECT state, error FROM clip") == [("failed", "masking_failed")]
    assert list(path.parent.glob("*.mp4")) == []


class Fuse:
    """A connection that dies at one of its statements."""

    def __init__(self, connection: Connection, statement: int) -> None:
        self.left = statement
        self._connection = connection

    def execute(self, *given: Any, **named: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self._connection.execute(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_kill_at_any_statement_leaves_no_row_without_its_file_and_the_rest_is_done_again(
    database: Database, camera: Device, studio: Studio
) -> None:
    gathered = raise_one(book(camera, studio, Capture()))
    statement, done = 0, False
    while not done:
        try:
            with database.transaction("*") as connection:
                write(Fuse(connection, statement), gathered, studio, at(11))  # type: ignore[arg-type]
                done = True
        except KeyboardInterrupt:
            assert rows(database, "SELECT (SELECT count(*) FROM report), (SELECT count(*) FROM evidence)") == [(0, 0)]
        statement += 1
    assert statement > 6
    for path, original in rows(
        database, "SELECT e.path, o.path FROM evidence e JOIN evidence_original o ON o.evidence_id = e.id"
    ):
        assert (studio.settings.evidence_dir / path).exists() and (studio.settings.originals_dir / original).exists()
    assert rows(database, "SELECT (SELECT count(*) FROM report), (SELECT count(*) FROM clip)") == [(1, 1)]


def open_incident(database: Database, state: str) -> UUID:
    incident_id = new_id(at(0))
    change(
        database,
        "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat, opened_at)"
        " VALUES (%s, %s, 'illegal_parking', 3, %s, %s, 'c', '330105012001', 120, 30, %s)",
        incident_id, str(incident_id), state, str(incident_id), at(0),
    )  # fmt: skip
    change(database, "UPDATE report SET incident_id = %s WHERE incident_id IS NULL", incident_id)
    return incident_id


def test_originals_go_after_their_days_pictures_after_theirs_and_nothing_that_is_needed(
    database: Database, camera: Device, studio: Studio
) -> None:
    settings = studio.settings
    with database.transaction("*") as connection:
        write(connection, raise_one(book(camera, studio, None)), studio, at(11))
    incident_id = open_incident(database, "dispatched")
    kept = "SELECT count(*) FILTER (WHERE deleted_at IS NULL), (SELECT count(*) FROM evidence_original) FROM evidence"

    def files(folder: Path) -> int:
        return len(list(folder.rglob("*.jpg")))

    def house(days: float) -> list[tuple[Any, ...]]:
        keep_house(database, settings, at(0) + timedelta(days=days))
        ((shown, originals),) = counts = rows(database, kept)
        assert (files(settings.evidence_dir), files(settings.originals_dir)) == (shown, originals)  # rows and files
        return counts

    assert house(400) == [(2, 2)]  # the incident is open
    close(database, incident_id)
    with database.transaction("*") as connection:
        place_hold(connection, str(incident_id), "申诉", at(0) + timedelta(days=50), at(1))
    assert house(49) == [(2, 2)]  # somebody appeals
    with database.transaction("*") as connection:
        lift_hold(connection, str(incident_id), at(2))
        with pytest.raises(HoldError):
            lift_hold(connection, str(incident_id), at(2))
    change(database, "UPDATE camera SET evidence_days = 90")
    assert house(80) == [(2, 2)]  # a named site
    assert house(91) == [(2, 0)]
    assert house(366) == [(0, 0)]
    assert rows(database, "SELECT count(*) FROM evidence WHERE length(sha256) = 32") == [(2,)]  # that it was, is known


def test_a_file_that_no_row_knows_is_swept_up_a_day_later(
    database: Database, settings: Settings, studio: Studio
) -> None:
    own = studio.settings
    now = datetime.fromtimestamp(0, at(0).tzinfo) + timedelta(days=20_000)
    for folder in (own.evidence_dir, own.originals_dir):
        stray = folder / f"{now:%Y/%m/%d}" / f"{new_id(now)}.jpg"
        stray.parent.mkdir(parents=True)
        stray.write_bytes(b"killed before the commit")
        half = stray.with_name(f".{stray.name}.1234")
        half.write_bytes(b"killed in the middle")
        os.utime(half, (now.timestamp(), now.timestamp()))
        os.utime(stray, (now.timestamp(), now.timestamp()))
    assert "strays" not in keep_house(database, own, now + STRAY_AFTER / 2)
    assert keep_house(database, own, now + STRAY_AFTER * 1.1)["strays"] == 4
    for days in (5, 90):  # housekeeping was away for so long
        old = own.evidence_dir / f"{now - timedelta(days=days):%Y/%m/%d}" / f"{new_id(now)}.jpg"
        old.parent.mkdir(parents=True)
        old.write_bytes(b"killed before the commit")
        os.utime(old, (now.timestamp() - 200_000, now.timestamp() - 200_000))
    rounds = [keep_house(database, own, now + timedelta(seconds=HOUSE_S * turn)) for turn in range(2)]
    assert [done.get("strays") for done in rounds] == [1, 1]


def test_judged_findings_become_a_data_set_split_by_camera(
    database: Database, camera: Device, studio: Studio, tmp_path: Path
) -> None:
    casebook = book(camera, studio, None)
    for number, why in enumerate(("as_reported", "nothing_there", "moving", "bad_picture")):
        with database.transaction("*") as connection:
            write(connection, raise_one(casebook, key=f"e{number}", from_s=20.0 * number), studio, at(90))
            connection.execute(
                "INSERT INTO finding_judgement (report_id, is_right, why, judge, judged_at)"
                " SELECT id, %s, %s, '值班员', %s FROM report ORDER BY received_at DESC, id DESC LIMIT 1",
                (why == "as_reported", why, at(100)),
            )
            connection.execute("UPDATE report SET received_at = received_at - interval '1 hour'")
    out = tmp_path / "set"
    with database.transaction("*") as connection:
        assert len(read_judged(connection, at(1_000))) == 0
        summary = write_judged(connection, studio.settings.originals_dir, out, now=at(200))
    assert (summary.boxes, summary.background, summary.not_told, summary.no_picture) == (2, 1, 1, 0)
    labels = sorted(path.read_text() for path in (out / "labels" / part_of("cam-a")).iterdir())
    assert labels == ["", *2 * ["1 0.45000 0.55000 0.30000 0.30000\n"]]
    assert rows(database, "SELECT action, detail -> 'masked' FROM audit") == [("judged_exported", True)]
    assert read_dataset(out).known == frozenset(Label)
