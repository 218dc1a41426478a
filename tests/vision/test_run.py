"""The worker against a real database and real RTSP; only what the detector says is scripted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from PIL import Image

from devices.model import Device
from devices.store import DeviceRecord, add_camera, read_state
from ingest.capturing import CapturePool
from ingest.frame import CaptureStatus
from ingest.picture import SharedFrame
from kernel.db import Database
from kernel.ids import new_id
from kernel.settings import CameraSettings, Settings, VisionSettings
from simulators.rtsp import Fault, RtspServer, SimCamera
from tests.waiting import wait_for
from vision.detect import Detector
from vision.lease import Leases
from vision.lettering import Lettering
from vision.live import LiveCamera
from vision.model import LABELS, Detections, Label
from vision.record import Recorder, Studio
from vision.rules import discover
from vision.run import Inbox, Worker
from vision.store import CameraRow

PARKED = (200.0, 150.0, 320.0, 220.0)


def now() -> datetime:
    return datetime.now(UTC)


class ScriptedDetector:
    """Says what the test puts into `seen`: boxes in pixels of a picture of 640 by 360."""

    def __init__(self) -> None:
        self.seen: list[tuple[Label, tuple[float, float, float, float]]] = []
        self.labels = frozenset(Label)
        self.strong_scores: dict[Label, float] = {}
        self.batch = 1

    def detect_many(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        return [self.detect(picture) for picture in pictures]

    def detect(self, picture: NDArray[np.uint8]) -> Detections:
        seen = list(self.seen)
        return Detections(
            boxes=np.array([box for _, box in seen], np.float32).reshape(-1, 4),
            scores=np.full(len(seen), 0.9, np.float32),
            labels=np.array([LABELS.index(label) for label, _ in seen], np.int64),
            width_px=picture.shape[1],
            height_px=picture.shape[0],
        )


def noisy_street(luma: list[int]) -> Callable[[float], NDArray[np.uint8]]:
    """A picture with edges and the noise of a camera; `luma[0]` may be changed while it runs: 0 is dark, 2 is the same with
    nothing at the place where the scripted car stands."""
    rng = np.random.default_rng(5)
    plan = rng.integers(40, 220, (9, 16, 3)).astype(np.uint8).repeat(40, 0).repeat(40, 1)
    bare = plan.copy()
    bare[145:225, 195:325] = 120

    def draw(now_s: float) -> NDArray[np.uint8]:
        if luma[0] == 0:
            return np.full((360, 640, 3), 3, np.uint8)
        noise = np.random.default_rng(int(now_s * 1000)).normal(0, 4, (360, 640, 1))
        return np.clip((bare if luma[0] == 2 else plan) + noise, 0, 255).astype(np.uint8)

    return draw


@pytest.fixture
def server() -> Iterator[RtspServer]:
    found = RtspServer()
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def live(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("vision.live.SAVE_EVERY_S", 0.3)
    return settings.model_copy(
        update={
            "camera": CameraSettings(allowed_networks=("127.0.0.0/8",), open_timeout_s=2.0, read_timeout_s=1.0),
            "vision": VisionSettings(fps=5.0, idle_fps=5.0, look_s=1.0, reload_s=0.3),
        }
    )


@contextmanager
def working(settings: Settings, database: Database, detector: ScriptedDetector) -> Iterator[Worker]:
    stop = threading.Event()
    recorder = Recorder(database, Studio(settings=settings, lettering=Lettering(Path("/nowhere"))), now)
    recorder.start()
    inbox = Inbox(database, now, settings.vision.reload_s)
    worker = Worker(settings, detector, discover(), recorder, inbox, now)  # type: ignore[arg-type]
    inbox.start(stop)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(5)
        worker.close()
        recorder.close(5)


def scene(*, include_present: bool) -> dict[str, object]:
    zone = {
        "name": "kerb",
        "rule": "illegal_parking",
        "polygon": [[0.1, 0.3], [0.9, 0.3], [0.9, 0.9], [0.1, 0.9]],
        "lon": 120.17,
        "lat": 30.28,
        "parameters": {"dwell_s": 2.0, "clear_s": 1.0, "include_present": include_present},
    }
    return {"zones": [zone]}


def put_camera(database: Database, code: str, url: str, *, include_present: bool = True, **settings: float) -> Device:
    record = DeviceRecord(
        code=code, kind="camera", name=f"天水 {code}", lon=120.1, lat=30.2, area_code="330105012001", settings=settings
    )
    with database.transaction("*") as connection:
        return add_camera(connection, record, url, now(), scene=scene(include_present=include_present))


def reports(database: Database, category: str = "illegal_parking") -> list[tuple[object, ...]]:
    with database.transaction("*") as connection:
        return connection.execute(
            "SELECT source_key, zone, lon, lat, evidence_ids, occurred_at, detail, device_id FROM report"
            " WHERE category = %s ORDER BY id",
            (category,),
        ).fetchall()


def saved_state(database: Database, device: Device, zone: str = "kerb") -> dict[str, object] | None:
    with database.transaction("*") as connection:
        row = connection.execute(
            "SELECT state FROM vision_state WHERE device_id = %s AND zone = %s", (device.id, zone)
        ).fetchone()
    return row[0]["state"] if row else None


def wait_settled(database: Database, device: Device, *, watched_s: float = 0.0, zone: str = "kerb") -> None:
    """Until the zone is watched, and has been for so long (vehicles seen in the first 3 s count as present)."""

    def settled() -> bool:
        state = saved_state(database, device, zone)
        return state is not None and float(str(state["looked_s"])) - float(str(state["began_s"])) >= watched_s

    assert wait_for(settled)


def add_check(database: Database, device: Device, expires_s: float = 30.0, zone: str = "kerb") -> object:
    """An incident that is handled, and dispatch's question to the camera."""
    at = now()
    incident, check = new_id(at), new_id(at)
    with database.transaction("*") as connection:
        connection.execute(
            "INSERT INTO incident (id, number, category, severity, state, dedup_key, cell_code, area_code, lon, lat,"
            " opened_at) VALUES (%s, %s, 'illegal_parking', 3, 'handled', %s, 'c', '330105012001', 120, 30, %s)",
            (incident, str(incident), str(incident), at),
        )
        connection.execute(
            "INSERT INTO check_request (id, incident_id, kind, device_id, rule, zone, requested_at, expires_at)"
            " VALUES (%s, %s, 'camera', %s, 'illegal_parking', %s, %s, %s)",
            (check, incident, device.id, zone, at, at + timedelta(seconds=expires_s)),
        )
    return check


def answer(database: Database, check: object) -> tuple[str, str, object]:
    found: list[tuple[str, str, object]] = []

    def answered() -> bool:
        with database.transaction("*") as connection:
            row = connection.execute(
                "SELECT verdict, detail, evidence_id FROM check_request WHERE id = %s AND answered_at IS NOT NULL",
                (check,),
            ).fetchone()
        found[:] = [row] if row else []
        return bool(found)

    assert wait_for(answered)
    return found[0]


def steady_answer(database: Database, device: Device, expires_s: float = 30.0) -> tuple[str, str, object]:
    """Of a check whose looks all fall behind a change that was just made: on a busy machine the first may not."""
    for _ in range(5):
        verdict, detail, evidence_id = answer(database, add_check(database, device, expires_s=expires_s))
        if detail != "unsteady":
            break
    return verdict, detail, evidence_id


def test_a_car_that_stays_becomes_one_report_with_its_picture_and_the_zones_position(
    live: Settings, database: Database, server: RtspServer
) -> None:
    server.add_camera("a", noisy_street([1]), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"), include_present=False)
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device, watched_s=3.2)
        arrived_at = now()
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
        time.sleep(2.5)
        state = saved_state(database, device)
    ((key, zone, lon, lat, evidence_ids, occurred_at, detail, device_id),) = reports(database)
    assert state is not None and isinstance(state["slots"], list)
    assert key == f"cam-a:kerb:illegal_parking:{state['slots'][0]['key']}"
    assert state["slots"][0]["raised_s"] is not None  # report and state are of one transaction
    assert (zone, lon, lat, device_id) == ("kerb", 120.17, 30.28, device.id)
    assert isinstance(occurred_at, datetime) and abs((occurred_at - arrived_at).total_seconds()) < 1.0
    assert isinstance(detail, dict) and np.allclose(
        detail["box"], [200 / 640, 150 / 360, 320 / 640, 220 / 360], atol=0.01
    )
    with database.transaction("*") as connection:
        kept = connection.execute(
            "SELECT path, width, height, mime FROM evidence WHERE id = ANY (%s) AND mime = 'image/jpeg'",
            (evidence_ids,),
        ).fetchall()
    assert kept
    for path, width, height, _ in kept:
        assert Image.open(live.evidence_dir / path).size == (width, height)


def test_a_restart_neither_repeats_what_was_reported_nor_forgets_how_long_a_car_has_stood(
    live: Settings, database: Database, server: RtspServer
) -> None:
    server.add_camera("a", noisy_street([1]), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device)
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
    detector.seen = [(Label.VEHICLE, PARKED), (Label.VEHICLE, (400.0, 180.0, 520.0, 260.0))]
    with working(live, database, detector):
        assert wait_for(lambda: len(reports(database)) == 2)  # the second car came while nobody watched
        time.sleep(2.0)
        assert len(reports(database)) == 2


def test_the_camera_looks_again_and_says_clear_only_when_the_car_is_gone(
    live: Settings, database: Database, server: RtspServer
) -> None:
    luma = [1]
    server.add_camera("a", noisy_street(luma), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device)
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
        verdict, _, evidence_id = answer(database, add_check(database, device))
        assert verdict == "not_clear" and evidence_id is not None
        detector.seen, luma[0] = [], 2
        verdict, detail, evidence_id = steady_answer(database, device)
        assert (verdict, detail) == ("clear", "") and evidence_id is not None


@pytest.mark.parametrize("fault", ["dark", "offline"])
def test_a_camera_that_cannot_see_answers_inconclusive_and_never_clear(
    fault: str, live: Settings, database: Database, server: RtspServer
) -> None:
    luma = [1]
    camera: SimCamera = server.add_camera("a", noisy_street(luma), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device)
        if fault == "dark":
            luma[0] = 0
        else:
            camera.set_fault(Fault.GONE)
        time.sleep(0.8)
        verdict, detail, _ = steady_answer(database, device, expires_s=5.0)
        assert (verdict, detail) == ("inconclusive", fault)


def test_a_check_of_a_zone_or_camera_that_is_not_there_is_answered_at_once(
    live: Settings, database: Database, server: RtspServer
) -> None:
    server.add_camera("a", noisy_street([1]), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    gone = put_camera(database, "cam-b", server.url_of("b"))
    with database.transaction("*") as connection:
        connection.execute("UPDATE device SET enabled = false WHERE id = %s", (gone.id,))
    with working(live, database, ScriptedDetector()):
        assert answer(database, add_check(database, device, zone="nowhere"))[:2] == ("inconclusive", "no_such_zone")
        assert answer(database, add_check(database, gone))[:2] == ("inconclusive", "no_such_camera")


def test_a_clock_that_is_set_back_stops_neither_the_looking_nor_what_is_said_of_the_camera(settings: Settings) -> None:
    began_at = now()
    device = Device(
        id=new_id(began_at), code="cam-a", kind="camera", name="", lon=120.1, lat=30.2, cell_code="", area_code=""
    )
    shown: list[SharedFrame] = []
    capture = SimpleNamespace(
        newest=lambda: shown[-1],
        newest_key=lambda: None,
        want=lambda decode: None,
        status=lambda: CaptureStatus(
            connected=True, fault=None, text="", frames=1, connections=1, newest_at=shown[-1].received_at, fps=5.0
        ),
    )
    pool = cast(CapturePool, SimpleNamespace(open=lambda code, url: capture))
    row = CameraRow(device=device, url="rtsp://10.0.0.1/a", scene={"zones": []})
    camera = LiveCamera(row, {}, discover(), settings, now, pool)
    detector = cast(Detector, ScriptedDetector())
    for seq, at in enumerate((began_at, began_at - timedelta(hours=1)), start=1):
        image = np.full((180, 320, 3), 90, np.uint8)
        shown.append(SharedFrame(seq=seq, received_at=at, pts_s=None, key=False, image=image))
        assert camera.prepare()
        writing = camera.collect(detector, at)
        assert writing is not None and writing.health is not None


def test_a_covered_lens_and_a_lost_stream_become_camera_faults_and_recover(
    live: Settings, database: Database, server: RtspServer
) -> None:
    luma = [1]
    server.add_camera("a", noisy_street(luma), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"), hold_s=1.0, clear_s=1.0, gone_s=4.0)

    def state() -> str:
        with database.transaction("*") as connection:
            return str(read_state(connection, device.id).status)

    with working(live, database, ScriptedDetector()):
        assert wait_for(lambda: state() == "ok")
        luma[0] = 0
        assert wait_for(lambda: state() == "fault")
        luma[0] = 1
        assert wait_for(lambda: state() == "ok")
    reasons = [report[6]["reason"] for report in reports(database, "camera_fault")]  # type: ignore[index]
    # on a busy machine it may have been found gone before its first picture came
    assert [reason for reason in reasons if reason != "gone"] == ["black"]


def test_a_camera_that_cannot_be_opened_disturbs_no_other(
    live: Settings, database: Database, server: RtspServer
) -> None:
    server.add_camera("good", noisy_street([1]), fps=5)
    device = put_camera(database, "good", server.url_of("good"))
    put_camera(database, "refused", "rtsp://127.0.0.1:1/x", gone_s=1.0)
    put_camera(database, "forbidden", "rtsp://169.254.169.254/latest", gone_s=1.0)
    put_camera(database, "nonsense", "file:///etc/passwd", gone_s=1.0)
    with database.transaction("*") as connection:
        connection.execute(
            'UPDATE camera SET scene = \'{"zones": [{"name": 1}]}\''
            " WHERE device_id = (SELECT id FROM device WHERE code = 'nonsense')"
        )
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device)
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
        assert wait_for(lambda: len(reports(database, "camera_fault")) == 3)


def test_a_zone_drawn_anew_is_taken_up_while_running(live: Settings, database: Database, server: RtspServer) -> None:
    server.add_camera("a", noisy_street([1]), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    detector = ScriptedDetector()
    with working(live, database, detector):
        wait_settled(database, device)
        with database.transaction("*") as connection:
            connection.execute(
                "UPDATE camera SET scene = jsonb_set(scene, '{zones,0,name}', '\"north\"') WHERE device_id = %s",
                (device.id,),
            )
        wait_settled(database, device, zone="north")
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
    assert reports(database)[0][1] == "north"


def test_a_camera_that_cannot_be_watched_and_one_whose_picture_breaks_the_detector_disturb_no_other(
    live: Settings, database: Database, server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stumbling(ScriptedDetector):
        def detect_many(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
            if any(picture.shape[1] == 320 for picture in pictures):
                raise RuntimeError("a picture that no network takes")
            return super().detect_many(pictures)

    class Odd(LiveCamera):
        def __init__(self, row: CameraRow, *rest: Any) -> None:
            if row.device.code == "odd":
                raise RuntimeError("a row that nobody thought of")
            super().__init__(row, *rest)

    monkeypatch.setattr("vision.run.LiveCamera", Odd)
    server.add_camera("good", noisy_street([1]), fps=5)
    small = noisy_street([1])
    server.add_camera("bad", lambda now_s: np.ascontiguousarray(small(now_s)[::2, ::2]), fps=5, size=(320, 180))
    ill = {put_camera(database, code, server.url_of("bad")).id for code in ("odd", "bad")}
    device = put_camera(database, "good", server.url_of("good"))
    detector = Stumbling()
    detector.batch = 2  # one batch holds both
    with working(live, database, detector) as worker:
        wait_settled(database, device)
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
        assert wait_for(lambda: worker._sick_until.keys() >= ill)


def test_a_detector_that_fails_at_everything_ends_the_role_so_that_a_new_process_tries(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ScriptedDetector):
        def detect_many(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Detections]:
            raise RuntimeError("the device is gone")

    monkeypatch.setattr("vision.run.DETECTOR_PATIENCE_S", 0.0)
    key, camera = (
        new_id(now()),
        SimpleNamespace(row=SimpleNamespace(device=SimpleNamespace(code="cam-a")), pending=None),
    )
    recorder, inbox = cast(Recorder, None), cast(Inbox, None)
    worker = Worker(settings, cast(Detector, Broken()), {}, recorder, inbox, now)
    try:
        worker._cameras[key] = cast(LiveCamera, camera)
        pictures = {key: np.zeros((36, 64, 3), np.uint8)}
        assert worker._detect(pictures) == {} and key in worker._sick_until  # once is no reason
        with pytest.raises(RuntimeError, match="gone"):
            worker._detect(pictures)
    finally:
        worker._cameras.clear()
        worker.close()


def test_a_camera_is_watched_by_one_process_and_taken_over_when_that_is_gone(
    live: Settings, database: Database
) -> None:
    device = put_camera(database, "cam-a", "rtsp://127.0.0.1:1/a")
    first, second = Leases(live), Leases(live)
    standing_by = Inbox(database, now, 0.0, second)
    try:
        assert first.hold({device.id}) == {device.id} == first.hold({device.id})
        check = add_check(database, device)
        standing_by.read()
        news = standing_by.take()
        assert news is not None and list(news.rows) == [] and news.checks[0].id == check  # not refused: it is another's
        first.close()  # as the server does with the session of one that was killed
        assert wait_for(lambda: second.hold({device.id}) == {device.id})
        standing_by.read()
        news = standing_by.take()
        assert news is not None and [row.device.id for row in news.rows] == [device.id]
        third = Leases(live)
        assert third.hold({device.id}) == set()
        assert second.hold(set()) == set()  # no longer wanted: let go
        assert third.hold({device.id}) == {device.id}
        third.close()
    finally:
        first.close()
        second.close()


def test_leases_are_lost_with_their_session_and_taken_anew(live: Settings, database: Database) -> None:
    device = put_camera(database, "cam-a", "rtsp://127.0.0.1:1/a")
    leases = Leases(live)
    assert leases.hold({device.id}) == {device.id}
    assert leases._connection is not None
    with database.transaction("*") as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (leases._connection.info.backend_pid,))

    def taken_anew() -> bool:
        try:
            return leases.hold({device.id}) == {device.id}
        except psycopg.OperationalError:
            return False

    assert wait_for(taken_anew)
    leases.close()
