"""Addresses that a GB/T 28181 gateway gives: asked for anew, checked like any other, its password nowhere.

The gateway is a stand-in written from WVP-PRO's published sources and API reference (log-in with MD5, `access-token`,
`{code, msg, data}`, `StreamContent.rtsp`); no real one was here.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingest.address import AddressError
from ingest.fault import CaptureError
from ingest.source import Platform, check_source, find_address, make_platform_url

DEVICE, CHANNEL = "34020000001110000001", "34020000001320000001"
LOCAL = ("127.0.0.0/8",)
SECRET = hashlib.md5(b"pa55").hexdigest()


class Gateway(ThreadingHTTPServer):
    """Answers as WVP-PRO does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stream_host = "127.0.0.1"
        self.log_ins = self.plays = 0
        self.token = "t0"
        self.channels: list[dict[str, Any]] = []
        self.redirect = ""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, query: dict[str, list[str]], token: str | None) -> tuple[int, Any]:
        if path == "/api/user/login":
            if query["username"] != ["admin"] or query["password"] != [SECRET]:
                return 200, {"code": 100, "msg": "用户名或密码错误", "data": None}
            self.log_ins += 1
            self.token = f"t{self.log_ins}"
            return 200, {"code": 0, "msg": "成功", "data": {"accessToken": self.token, "username": "admin"}}
        if token != self.token:
            return 200, {"code": 401, "msg": "请登录后重新请求", "data": None}
        page = int(query.get("page", ["1"])[0])
        if path == "/api/device/query/devices":
            listed = [{"deviceId": DEVICE, "name": "NVR", "manufacturer": "Hikvision", "model": "DS-7816"}]
            return 200, {"code": 0, "msg": "成功", "data": {"list": listed if page == 1 else [], "total": 1}}
        if path == f"/api/device/query/devices/{DEVICE}/channels":
            return 200, {"code": 0, "data": {"list": self.channels if page == 1 else [], "total": len(self.channels)}}
        if path == f"/api/play/start/{DEVICE}/{CHANNEL}":
            self.plays += 1
            stream = f"rtsp://{self.stream_host}:8554/rtp/{DEVICE}_{CHANNEL}?sign={self.plays}"
            return 200, {"code": 0, "msg": "成功", "data": {"app": "rtp", "rtsp": stream, "ws_flv": "ws://127.0.0.1/x"}}
        return 200, {"code": 404, "msg": "设备不存在"}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        gateway = self.server
        assert isinstance(gateway, Gateway)
        parts = urlsplit(self.path)
        if gateway.redirect:
            self.send_response(302)
            self.send_header("Location", gateway.redirect)
            self.end_headers()
            return
        status, document = gateway.answer(parts.path, parse_qs(parts.query), self.headers.get("access-token"))
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def camera_of(gateway: Gateway, secret: str = SECRET) -> str:
    return make_platform_url(gateway.base, "admin", secret, f"{DEVICE}/{CHANNEL}")


def test_each_connection_asks_for_a_fresh_address_and_an_old_log_in_is_renewed(gateway: Gateway) -> None:
    first = find_address(camera_of(gateway), LOCAL)
    assert first.url.endswith("?sign=1") and (first.ip, first.port) == ("127.0.0.1", 8554)
    gateway.token = "another: the old one's time is over"
    assert find_address(camera_of(gateway), LOCAL).url.endswith("?sign=2")
    assert find_address(camera_of(gateway), LOCAL).url.endswith("?sign=3")
    assert gateway.log_ins == 2
    assert find_address("rtsp://127.0.0.1:8554/a", LOCAL).url == "rtsp://127.0.0.1:8554/a"


def test_neither_the_gateway_nor_what_it_answers_leads_into_a_network_that_nobody_named(gateway: Gateway) -> None:
    for url in (camera_of(gateway), make_platform_url("http://169.254.169.254", "admin", SECRET)):
        with pytest.raises(AddressError) as refused:
            check_source(url, ())
        assert refused.value.fault == "forbidden_network" and SECRET not in str(refused.value)
    gateway.stream_host = "169.254.169.254"
    with pytest.raises(AddressError):
        find_address(camera_of(gateway), LOCAL)
    gateway.redirect = "http://169.254.169.254/latest"
    with pytest.raises(CaptureError) as broken:
        find_address(camera_of(gateway), LOCAL)
    assert SECRET not in str(broken.value)


def test_what_the_gateway_refuses_is_said_without_its_password(gateway: Gateway) -> None:
    with pytest.raises(CaptureError) as wrong:
        find_address(camera_of(gateway, "0" * 32), LOCAL)
    assert wrong.value.fault == "unauthorised" and "0" * 32 not in str(wrong.value)
    other = camera_of(gateway).replace(CHANNEL, "34020000001320000009")
    with pytest.raises(CaptureError) as missing:
        find_address(other, LOCAL)
    assert missing.value.fault == "not_found" and SECRET not in str(missing.value)
    gateway.shutdown()
    gateway.server_close()
    with pytest.raises(CaptureError) as away:
        Platform(camera_of(gateway), LOCAL, timeout_s=1).ask("/api/device/query/devices")
    assert away.value.fault in ("refused", "timed_out")


@pytest.mark.parametrize("path", ["", "1/2", f"{DEVICE}", f"{DEVICE}/{CHANNEL}/x", f"{DEVICE}/../{CHANNEL}"])
def test_an_address_of_a_gateway_names_two_codes(path: str) -> None:
    with pytest.raises(AddressError):
        check_source(f"wvp+http://admin:x@127.0.0.1:18080/{path}", LOCAL)
