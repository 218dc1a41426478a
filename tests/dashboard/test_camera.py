"""Live pictures of cameras: from a real RTSP server, shared by the viewers, ended after them, never with an address."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dashboard import camera
from devices.store import DeviceRecord, add_camera
from kernel.db import Database
from kernel.settings import Settings
from simulators.rtsp.server import RtspServer
from tests.conftest import free_port
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, serve


@dataclass
class Street:
    """An RTSP server with a camera that shows plain green."""

    rtsp: RtspServer
    url: str


def show_green(now_s: float) -> NDArray[np.uint8]:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[:, :, 1] = 200
    frame[:20, : int(now_s * 50) % 640] = 255
    return frame


@pytest.fixture
def street() -> Iterator[Street]:
    rtsp = RtspServer("127.0.0.1", 0)
    rtsp.start()
    rtsp.add_camera("green", show_green)
    try:
        yield Street(rtsp, rtsp.url_of("green"))
    finally:
        rtsp.stop()


@pytest.fixture
def server(web_settings: Settings) -> Iterator[Server]:
    """A web process that may open cameras on this machine."""
    allowed = web_settings.camera.model_copy(update={"allowed_networks": ("127.0.0.0/8",), "open_timeout_s": 3.0})
    with serve(web_settings.model_copy(update={"camera": allowed})) as running:
        yield running


def put_camera(database: Database, url: str, code: str = "cam-1", street: str = STREET_A) -> str:
    record = DeviceRecord(
        code=code,
        kind="camera",
        name="天水-07",
        lon=120.17,
        lat=30.28,
        cell_code=street + "001001",
        area_code=street + "001",
    )
    scene = {"zones": [{"name": "north kerb", "rule": "illegal_parking", "polygon": [[0, 0], [1, 0], [1, 1]]}]}
    with database.transaction() as connection:
        return str(add_camera(connection, record, url, now(), scene=scene, heading_deg=90.0).id)


def read_parts(answer: httpx.Response, count: int) -> list[bytes]:
    """The first pictures of a multipart stream."""
    buffer, found = b"", []
    for chunk in answer.iter_bytes():
        buffer += chunk
        while b"\r\n\r\n" in buffer:
            head, rest = buffer.split(b"\r\n\r\n", 1)
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            if len(rest) < length + 2:
                break
            found.append(rest[:length])
            buffer = rest[length + 2 :]
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


def test_viewers_share_one_pull_which_ends_after_the_last(
    server: Server, database: Database, sign_in: SignIn, street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "_LINGER_S", 0.5)
    camera_id = put_camera(database, street.url)
    client = sign_in()
    path = f"/api/v1/cameras/{camera_id}/live.mjpg"
    with client.stream("GET", path) as first, client.stream("GET", path) as second:
        assert first.headers["content-type"].startswith("multipart/x-mixed-replace")
        pictures = read_parts(first, 3)
        assert read_parts(second, 2)
        assert len(street.rtsp.sessions) == 1 and server.web.cameras.running == 1
    seen = Image.open(io.BytesIO(pictures[-1]))
    red, green, blue = seen.convert("RGB").getpixel((320, 200))  # type: ignore[misc]
    assert seen.size == (640, 360) and green > 150 and red < 60 and blue < 60
    deadline_s = time.monotonic() + 8
    while server.web.cameras.running and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert server.web.cameras.running == 0


def test_a_still_is_of_this_moment(server: Server, database: Database, sign_in: SignIn, street: Street) -> None:
    answer = sign_in().get(f"/api/v1/cameras/{put_camera(database, street.url)}/still.jpg")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(answer.content)).size == (640, 360)


def test_an_engineer_teaches_a_preset_the_view_of_this_moment(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    camera_id = put_camera(database, street.url)
    engineer = sign_in(roles=("engineer",))
    view = engineer.get(f"/api/v1/cameras/{camera_id}/view").json()["view"]
    scene = engineer.get(f"/api/v1/cameras/{camera_id}/scene").json()["scene"]
    scene["zones"][0]["preset"] = "north"
    taught = {**scene, "presets": [{"name": "north", "view": view}]}
    assert engineer.put(f"/api/v1/cameras/{camera_id}/scene", json={"scene": taught}).status_code == 200
    assert sign_in("eve", roles=("operator",)).get(f"/api/v1/cameras/{camera_id}/view").status_code == 403


def test_a_camera_that_is_not_there_is_said_to_be_unreachable_and_why(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    client = sign_in()
    addresses = {
        "refused": f"rtsp://admin:pa55@127.0.0.1:{free_port()}/green",
        "not_found": street.url.replace("green", "nothing"),
        "forbidden_network": "rtsp://169.254.169.254/latest",
        "scheme": "file:///etc/passwd",
    }
    for number, (fault, url) in enumerate(addresses.items()):
        camera_id = put_camera(database, url, f"cam-{number}")
        for name in ("live.mjpg", "still.jpg"):
            answer = client.get(f"/api/v1/cameras/{camera_id}/{name}")
            assert answer.status_code == 503 and answer.json()["code"] == "camera_unreachable"
            assert answer.json()["params"] == {"fault": fault} and "pa55" not in answer.text


def test_addresses_and_passwords_of_cameras_are_shown_nowhere(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    camera_id = put_camera(database, "rtsp://admin:pa55@camera.example/1")
    client = sign_in(roles=("admin",))
    listed = client.get("/api/v1/devices")
    assert listed.json()[0]["camera"]["zones"][0]["rule"] == "illegal_parking"
    for answer in (listed, client.get(f"/api/v1/devices/{camera_id}"), client.get("/metrics")):
        assert answer.status_code == 200
        assert "rtsp" not in answer.text and "pa55" not in answer.text and "camera.example" not in answer.text


def test_another_streets_camera_is_not_shown(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    camera_id = put_camera(database, street.url)
    answer = sign_in(scope=STREET_B).get(f"/api/v1/cameras/{camera_id}/live.mjpg")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_camera")
    assert not street.rtsp.sessions


def test_a_stream_ends_when_its_viewer_may_look_no_more(
    server: Server, database: Database, sign_in: SignIn, street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.device._RECHECK_S", 0.3)
    camera_id = put_camera(database, street.url)
    client = sign_in()
    with client.stream("GET", f"/api/v1/cameras/{camera_id}/live.mjpg") as answer:
        parts = answer.iter_bytes()
        next(parts)
        with database.transaction() as connection:
            connection.execute("DELETE FROM session")
        deadline_s = time.monotonic() + 8
        for _ in parts:
            assert time.monotonic() < deadline_s


def test_the_web_process_leaves_at_once_while_somebody_watches(
    server: Server, database: Database, sign_in: SignIn, street: Street
) -> None:
    camera_id = put_camera(database, street.url)
    client = sign_in()
    with client.stream("GET", f"/api/v1/cameras/{camera_id}/live.mjpg") as answer:
        parts = answer.iter_bytes()
        next(parts)
        server.stop.set()
        server.thread.join(20)
        assert not server.thread.is_alive()
