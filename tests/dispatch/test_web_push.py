"""Web Push against a push service of our own that decrypts as a browser does and checks the VAPID signature."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import http_ece
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dispatch.outbox import Push, Subscription
from dispatch.push.web_push import WebPushChannel, check_endpoint, read_public_key, read_vapid_key
from tests.dispatch.build import START


def to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def to_bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Browser:
    """The receiving end: keys as PushManager.subscribe makes them, and a push service that keeps what comes."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: os.urandom(16))
    status: int = 201
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def subscribe(self) -> Subscription:
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        keys = {"p256dh": to_text(point), "auth": to_text(self.auth)}
        return Subscription(id=uuid4(), channel="web_push", address=f"{self.url}/send/abc", keys=keys)

    def read(self) -> dict[str, Any]:
        """The last message, decrypted (RFC 8291)."""
        headers, body = self.requests[-1]
        assert headers["content-encoding"] == "aes128gcm"
        text = http_ece.decrypt(body, private_key=self.private, auth_secret=self.auth, version="aes128gcm")
        message: dict[str, Any] = json.loads(text)
        return message


@pytest.fixture
def browser() -> Iterator[Browser]:
    browser = Browser()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            browser.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(browser.status)
            self.send_header("Location", f"{browser.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    browser.url = f"http://127.0.0.1:{server.server_port}"
    yield browser
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def channel(tmp_path: Path) -> WebPushChannel:
    return WebPushChannel(key=read_vapid_key(tmp_path), contact="mailto:duty@example.org", public_only=False)


PUSH = Push(
    id=uuid4(), user_id=uuid4(), incident_id=uuid4(), kind="offered", body={"title": "新任务：垃圾箱满溢"}, attempts=1
)  # fmt: skip


def check_vapid(authorization: str, public_key: str) -> dict[str, Any]:
    """RFC 8292: `vapid t=<ES256 JWT>, k=<public key>`; the claims when the signature is of that key."""
    scheme, _, rest = authorization.partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert (scheme, parts["k"]) == ("vapid", public_key)
    head, claims, signature = parts["t"].split(".")
    raw = to_bytes(signature)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), to_bytes(public_key))
    dss = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(dss, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    found: dict[str, Any] = json.loads(to_bytes(claims))
    return found


def test_a_browser_can_read_it_and_the_push_service_knows_whose_it_is(
    channel: WebPushChannel, browser: Browser, tmp_path: Path
) -> None:
    delivery = channel.deliver(PUSH, [browser.subscribe()], START)
    assert (delivery.sent, delivery.error) == (True, None)
    assert browser.read() == PUSH.body
    headers, body = browser.requests[0]
    assert "新任务".encode() not in body
    claims = check_vapid(headers["authorization"], read_public_key(tmp_path))
    assert (claims["aud"], claims["sub"]) == (browser.url, "mailto:duty@example.org")
    assert (headers["urgency"], headers["ttl"]) == ("high", "3600")
    assert len(headers["topic"]) <= 32


def test_the_key_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = read_public_key(tmp_path)
    assert read_public_key(tmp_path) == first
    assert len(to_bytes(first)) == 65
    (file,) = (tmp_path / "secrets").iterdir()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("status", "ended"), [(410, True), (404, True), (503, False), (429, False)])
def test_a_subscription_that_ended_is_said_to_be_gone(
    channel: WebPushChannel, browser: Browser, status: int, ended: bool
) -> None:
    browser.status = status
    subscription = browser.subscribe()
    delivery = channel.deliver(PUSH, [subscription], START)
    assert (delivery.sent, delivery.error) == (False, f"web_push: status {status}")
    assert delivery.gone == ((subscription.id,) if ended else ())


def test_a_push_service_cannot_send_us_elsewhere(channel: WebPushChannel, browser: Browser) -> None:
    browser.status = 307
    delivery = channel.deliver(PUSH, [browser.subscribe()], START)
    assert not delivery.sent
    assert len(browser.requests) == 1


def test_one_dead_browser_of_two_is_no_failure(channel: WebPushChannel, browser: Browser) -> None:
    dead = Subscription(id=uuid4(), channel="web_push", address="http://127.0.0.1:1/x", keys=browser.subscribe().keys)
    delivery = channel.deliver(PUSH, [dead, browser.subscribe()], START)
    assert delivery.sent
    assert delivery.gone == ()


def test_keys_that_are_no_keys_end_the_subscription(channel: WebPushChannel, browser: Browser) -> None:
    for keys in ({}, {"p256dh": "AAAA", "auth": "AAAA"}, {"p256dh": "!", "auth": "!"}):
        broken = Subscription(id=uuid4(), channel="web_push", address=f"{browser.url}/x", keys=keys)
        delivery = channel.deliver(PUSH, [broken], START)
        assert (delivery.sent, delivery.gone) == (False, (broken.id,))
    assert browser.requests == []


@pytest.mark.parametrize(
    ("address", "refusal"),
    [("http://93.184.216.34/x", "not_https"), ("https://127.0.0.1/x", "not_public"), ("https://10.0.0.8/x", "not_public"),
     ("https://[::1]/x", "not_public"), ("https://169.254.169.254/x", "not_public"), ("https:///x", "not_https"),
     ("https://[::ffff:127.0.0.1]/x", "not_public"), ("https://93.184.216.34/x", None), ("nonsense", "not_https")],
)  # fmt: skip
def test_only_public_https_addresses_are_called(address: str, refusal: str | None) -> None:
    assert check_endpoint(address) == refusal
