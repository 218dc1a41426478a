"""Live video: a camera's own packets as fragmented MP4 over a socket, one pull for all viewers, never an old picture."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import av
import httpx
import numpy as np
import psycopg
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from dashboard import live_video, live_video_api
from dashboard.live_video import VideoRefused, Viewer
from dashboard.opening import Openings
from dashboard.users import add_user, make_login_link
from kernel.db import Database
from kernel.settings import Settings
from simulators.rtsp.media import CopiedFile
from tests.conftest import free_port
from tests.dashboard.conftest import STREET_B, Server, SignIn, now, serve
from tests.dashboard.test_camera import Street, put_camera, server, street
from tests.waiting import wait_for
from vision.model import Label, Track
from vision.telling import Teller, describe_look

__all__ = ["server", "street"]


@contextmanager
def watch(server: Server, client: httpx.Client, camera_id: str, query: str = "") -> Iterator[Connection]:
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    url = f"{server.url.replace('http', 'ws', 1)}/api/v1/cameras/{camera_id}/live?seat=wall{query}"
    with connect(
        url, additional_headers={"Cookie": cookies}, max_size=None, max_queue=None, compression=None
    ) as socket:
        yield socket


def take(socket: Connection, pictures: int) -> tuple[dict[str, Any], bytes, float]:
    """The opening message, the bytes up to so many pictures, and the seconds until the first picture was there."""
    began_s, first_s = time.monotonic(), 0.0
    init: dict[str, Any] = {}
    parts: list[bytes] = []
    while len(parts) < pictures + 1:
        data = socket.recv(10)
        if isinstance(data, str):
            message = json.loads(data)
            if message["type"] == "init":
                init = message
            continue
        parts.append(data)
        if len(parts) == 2:
            first_s = time.monotonic() - began_s
    return init, b"".join(parts), first_s


def closed_with(socket: Connection) -> tuple[int, list[dict[str, Any]]]:
    """The close code, and what was said before."""
    said = []
    try:
        while True:
            data = socket.recv(15)
            if isinstance(data, str):
                said.append(json.loads(data))
    except ConnectionClosed as end:
        assert end.rcvd is not None
        return end.rcvd.code, said


def test_viewers_share_one_pull_and_each_gets_a_film_that_can_be_decoded_from_its_first_picture(
    server: Server, database: Database, sign_in: SignIn, street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_video, "_LINGER_S", 0.3)
    camera_id = put_camera(database, street.url)
    client = sign_in()
    with watch(server, client, camera_id) as first, watch(server, client, camera_id) as second:
        init, film, _ = take(first, 20)
        _, later_film, second_s = take(second, 5)
        assert len(street.rtsp.sessions) == 1 and server.web.video.running == 1
    assert init["mime"].startswith('video/mp4; codecs="avc1.') and (init["width"], init["height"]) == (640, 360)
    assert init["stream"] == "main" and abs((now() - datetime.fromisoformat(init["began_at"])).total_seconds()) < 30
    for data, least in ((film, 18), (later_film, 4)):
        with av.open(io.BytesIO(data), "r") as container:
            frames = list(container.decode(video=0))
        assert len(frames) >= least and frames[0].key_frame
        assert frames[0].to_ndarray(format="rgb24")[200, 320][1] > 150
    assert second_s < 1.0
    deadline_s = time.monotonic() + 8
    while (server.web.video.running or street.rtsp.sessions) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert server.web.video.running == 0 and not street.rtsp.sessions
    with database.transaction() as connection:
        opened = connection.execute("SELECT actor, subject FROM audit WHERE action = 'live_view_opened'").fetchall()
        encoder = connection.execute("SELECT encoder FROM camera").fetchone()
    assert opened == [("lin", "cam-1")]  # the second opening within the minute belongs to the first
    assert encoder is not None and encoder[0]["main"]["codec"] == "h264" and encoder[0]["main"]["width"] == 640


def test_a_camera_that_is_away_another_streets_and_a_stranger_are_told_apart(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    away = put_camera(database, f"rtsp://admin:pa55@127.0.0.1:{free_port()}/green")
    client = sign_in()
    with watch(server, client, away) as socket:
        code, said = closed_with(socket)
    assert code == 4503 and said == [
        {"type": "refused", "code": "camera_unreachable", "fault": "refused", "fallback": None}
    ]
    elsewhere = sign_in("wang", scope=STREET_B)
    for viewer, camera_id, wanted in (
        (elsewhere, away, 4404),
        (client, "nonsense", 4404),
        (server.client(), away, 4401),
    ):
        with watch(server, viewer, camera_id) as socket:
            assert closed_with(socket)[0] == wanted
    with watch(server, client, put_camera(database, street.url, "cam-2")) as socket:
        take(socket, 1)
        socket.send("hello")
        assert closed_with(socket)[0] == 1008


def write_h265(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx265", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = {"preset": "ultrafast", "x265-params": "log-level=error:keyint=5:repeat-headers=1:pools=1"}
        for index in range(15):
            picture = np.full((180, 320, 3), index * 10, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))


def test_h265_is_refused_with_a_way_out_and_the_substream_played_where_there_is_one(
    server: Server, database: Database, sign_in: SignIn, street: Street, tmp_path: Path
) -> None:
    write_h265(tmp_path / "h265.mp4")
    street.rtsp.add_camera("modern", CopiedFile(tmp_path / "h265.mp4"))
    camera_id = put_camera(database, street.rtsp.url_of("modern"))
    client = sign_in()
    with watch(server, client, camera_id) as socket:
        code, said = closed_with(socket)
    assert code == 4415 and said[-1]["code"] == "h265"
    assert client.get("/api/v1/cameras").json()[0]["live"]["mode"] == "jpeg"
    assert client.get(said[-1]["fallback"].replace("live.mjpg", "still.jpg")).status_code == 200
    with database.transaction() as connection:
        connection.execute("UPDATE camera SET substream_url = %s", (street.url,))
    with watch(server, client, camera_id) as socket:
        init, _, _ = take(socket, 2)
    assert init["stream"] == "sub" and init["width"] == 640
    wait_for(lambda: client.get("/api/v1/cameras").json()[0]["live"]["codec"] == "h264")
    live = client.get("/api/v1/cameras").json()[0]["live"]
    assert (live["mode"], live["codec"], live["reason"]) == ("mse", "h264", "h265")


def test_boxes_come_beside_the_video_with_their_place_in_time(
    broker: Settings, web_settings: Settings, database: Database, street: Street
) -> None:
    """What vision tells by MQTT reaches whoever looks, the newest only."""
    teller = Teller(broker)
    teller.start()
    camera = {"allowed_networks": ("127.0.0.0/8",), "open_timeout_s": 3.0}
    settings = web_settings.model_copy(
        update={"mqtt": broker.mqtt, "camera": web_settings.camera.model_copy(update=camera)}
    )
    try:
        with serve(settings) as server:
            camera_id = put_camera(database, street.url)
            client = server.client()
            with database.transaction() as connection:
                user_id = add_user(connection, name="lin", roles=("operator",), scope="*", now=now())
                link = make_login_link(connection, user_id, "wall", now(), server.settings)
            client.post("/api/v1/login/link", json={"token": link.split("#")[1], "seat": "wall"})
            with watch(server, client, camera_id) as socket:
                boxes: list[dict[str, Any]] = []
                while not boxes:
                    teller.tell("cam-1", tell_look)
                    teller.tell("cam-2", tell_look)
                    data = socket.recv(10)
                    if isinstance(data, str) and json.loads(data)["type"] == "boxes":
                        boxes.append(json.loads(data))
    finally:
        teller.close()
    assert boxes[0]["tracks"][0]["label"] == "vehicle" and boxes[0]["zones"] == []
    assert abs(boxes[0]["behind_s"]) < 5 and boxes[0]["media_s"] > -5


def tell_look() -> dict[str, Any]:
    car = Track(
        id=7, label=Label.VEHICLE, box=(0.1, 0.2, 0.3, 0.4), score=0.9, born_at=now(), still_since_at=None, missed_s=0.0
    )
    return describe_look(at=now(), seq=1, width=640, height=360, tracks=[car], zones=[])


def test_a_viewer_who_is_slow_goes_on_with_the_next_key_picture() -> None:
    at_s = [100.0]
    viewer = Viewer("main", clock=lambda: at_s[0])
    for _ in range(700):  # a long group of pictures may come at once
        viewer.offer(b"old", key=False)
    assert viewer.cuts == 0
    at_s[0] += live_video._MOST_WAITING_S + 0.1
    viewer.offer(b"too late", key=False)
    viewer.offer(b"needs what was left out", key=False)
    viewer.offer(b"key", key=True)
    viewer.offer(b"next", key=False)

    async def read() -> list[str | bytes | None]:
        viewer.show_boxes({"type": "boxes", "seq": 1})
        viewer.show_boxes({"type": "boxes", "seq": 2})
        return [await viewer.next() for _ in range(4)]

    boxes, cut, *pictures = asyncio.run(read())
    assert pictures == [b"key", b"next"] and json.loads(str(boxes))["seq"] == 2
    assert json.loads(str(cut)) == {"type": "cut", "count": 1}


def make_web(transaction: Any) -> tuple[Any, Any]:
    """As much of the web process as an opening needs, and a person."""
    database = SimpleNamespace(transaction=transaction)
    web = SimpleNamespace(now=now, openings=Openings(), app_database=database)
    return web, SimpleNamespace(id=uuid4(), scope="*", name="op")


def test_two_openings_at_the_same_moment_are_one_line_of_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    began = threading.Barrier(2)

    @contextmanager
    def transaction(scope: str) -> Iterator[None]:
        with suppress(threading.BrokenBarrierError):
            began.wait(0.2)  # the other one, if it got as far as this too
        yield

    monkeypatch.setattr(live_video_api, "write_audit", lambda *_, subject, **__: noted.append(subject))
    web, user = make_web(transaction)
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: live_video_api.note_opening(web, user, "cam-a"), range(2)))
    assert noted == ["cam-a"]


def test_an_opening_that_could_not_be_noted_is_noted_when_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    away = [True]

    @contextmanager
    def transaction(scope: str) -> Iterator[None]:
        if away.pop():
            raise psycopg.OperationalError
        yield

    monkeypatch.setattr(live_video_api, "write_audit", lambda *_, subject, **__: noted.append(subject))
    web, user = make_web(transaction)
    with pytest.raises(psycopg.OperationalError):
        live_video_api.note_opening(web, user, "cam-a")
    away.append(False)
    live_video_api.note_opening(web, user, "cam-a")
    live_video_api.note_opening(web, user, "cam-a")  # goes on with that opening
    assert noted == ["cam-a"]


def test_pictures_are_offered_where_only_the_substream_is_away() -> None:
    async def refuse(camera_id: object, stream: str, url: str) -> Viewer:
        if stream == "sub":
            raise VideoRefused("camera_unreachable", away=True)
        raise VideoRefused("unknown_codec", away=False)

    camera = live_video_api._Camera(uuid4(), "cam-a", "330105", "rtsp://main", "rtsp://sub", {})
    web: Any = SimpleNamespace(video=SimpleNamespace(watch=refuse))
    with pytest.raises(VideoRefused) as refused:
        asyncio.run(live_video_api._open(web, camera, "sub"))
    assert refused.value.code == "unknown_codec" and not refused.value.away
