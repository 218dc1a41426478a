"""The live console against a real broker: what comes, raw and decoded, why it was refused, and who may look."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dashboard.console import Viewer
from dashboard.users import find_user, set_roles
from devices.store import set_device_enabled
from ingest.client import find_login
from ingest.run import run as run_ingest
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import free_port
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, put_device, serve


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights are looked at more often, so that the tests need not wait for it."""
    monkeypatch.setattr("dashboard.console_api.RECHECK_S", 0.5)


@pytest.fixture
def server(web_settings: Settings, broker: Settings) -> Iterator[Server]:
    """A running web process whose broker is the real one."""
    with serve(web_settings.model_copy(update={"mqtt": broker.mqtt})) as running:
        yield running


@pytest.fixture
def device_side(broker: Settings) -> Iterator[mqtt.Client]:
    """A connection to the broker that may write anything."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(*find_login(broker))
    client.connect(broker.mqtt.host, broker.mqtt.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def engineer(sign_in: SignIn) -> httpx.Client:
    return sign_in("gao", ("engineer",))


@contextmanager
def watch(server: Server, client: httpx.Client | None, path: str, **headers: str) -> Iterator[ClientConnection]:
    url = server.url.replace("http", "ws", 1) + "/api/v1" + path
    if client is not None:
        headers["Cookie"] = f"gw_wall={client.cookies['gw_wall']}"
    with connect(url, additional_headers=headers) as console:
        yield console


def hear(console: ClientConnection, kind: str = "message", timeout_s: float = 10.0) -> dict[str, Any]:
    deadline_s = time.monotonic() + timeout_s
    while True:
        message: dict[str, Any] = json.loads(console.recv(timeout=max(0.01, deadline_s - time.monotonic())))
        if message["type"] == kind:
            return message


def wait_until_listening(console: ClientConnection, side: mqtt.Client, code: str) -> None:
    """Publish until the console shows it: only then its subscription is known to stand."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        side.publish(f"gridwarden/probe/{code}/telemetry", b"probe", qos=1)
        try:
            hear(console, timeout_s=0.5)
        except TimeoutError:
            continue
        drain(console)
        return
    raise AssertionError("the console never heard anything")


def drain(console: ClientConnection) -> None:
    try:
        while True:
            console.recv(timeout=0.3)
    except TimeoutError:
        pass


def close_code(console: ClientConnection, timeout_s: float = 10.0) -> int:
    try:
        while True:
            console.recv(timeout=timeout_s)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def body(id: str, **fields: Any) -> bytes:
    return json.dumps({"v": 1, "id": id, "at": now().isoformat(), **fields}).encode()


def test_messages_are_shown_raw_and_decoded_and_refused_ones_with_their_reason(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "R1", "river_sluice")
    topic = "gridwarden/river_sluice/R1/telemetry"
    with watch(server, engineer, f"/devices/{device_id}/console?seat=wall") as console:
        wait_until_listening(console, device_side, "R1")
        device_side.publish(topic, body("m1", level_m=1.25), qos=1)
        good = hear(console)
        assert (good["topic"], good["way"], good["direction"], good["refused"]) == (topic, "mqtt", "in", None)
        assert json.loads(good["raw"])["level_m"] == 1.25
        assert good["decoded"][0]["readings"] == {"level_m": 1.25} and good["decoded"][0]["id"] == "m1"
        for sent, to, reason in (
            (body("m2", level_m="high"), topic, "bad_payload"),
            (b"{not json", topic, "malformed_json"),
            (b'{"v": 1, "id": "m"' + b" " * 70_000, topic, "too_large"),
            (b"[" * 100, topic, "too_deep"),
            (b"\xff\xfe", topic, "malformed_json"),
            (body("m3", status="alarm"), "gridwarden/smoke_alarm/R1/event", "kind_mismatch"),
            (body("m4"), "gridwarden/toaster/R1/event", "unknown_kind"),
            (body("m5"), "gridwarden/river_sluice/R1/telemetry/more", "bad_topic"),
        ):
            device_side.publish(to, sent, qos=1)
            shown = hear(console)
            assert (shown["refused"], shown["topic"]) == (reason, to)
            assert shown["detail"]
            assert shown["bytes"] == len(sent)
            assert shown["raw"] is not None or bytes.fromhex(shown["raw_hex"]) == sent
        with database.transaction() as connection:
            set_device_enabled(connection, "R1", False, now())
        device_side.publish(topic, body("m6", level_m=1.0), qos=1)
        off = hear(console)
        assert off["refused"] == "disabled_device" and off["decoded"][0]["readings"] == {"level_m": 1.0}


def test_what_the_platform_answers_and_what_other_ways_take_are_shown_too(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "R1", "river_sluice")
    told = {"at": now().isoformat(), "way": "sl651", "raw_hex": "7e7e01", "decoded": [{"id": "x"}], "refused": None}
    with watch(server, engineer, f"/devices/{device_id}/console") as console:
        wait_until_listening(console, device_side, "R1")
        device_side.publish("gridwarden/river_sluice/R1/receipt", b'{"v": 1, "id": "m1"}', qos=1)
        receipt = hear(console)
        assert (receipt["direction"], receipt["refused"], receipt["decoded"]) == ("out", None, None)
        device_side.publish("gridwarden-console/R1", json.dumps(told), qos=0)
        other = hear(console)
        assert (other["way"], other["raw_hex"], other["decoded"]) == ("sl651", "7e7e01", [{"id": "x"}])
        for nonsense in (b"[" * 1000, b"7", b"\xff", b'{"way": 7, "decoded": "x", "refused": {}}'):
            device_side.publish("gridwarden-console/R1", nonsense, qos=0)
            assert hear(console)["way"] == "unknown"


def test_two_who_look_at_one_device_share_a_subscription_and_other_devices_stay_out(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with database.transaction() as connection:
        one, other = put_device(connection, "R1", "river_sluice"), put_device(connection, "R2", "river_sluice")
    with watch(server, engineer, f"/devices/{one}/console") as first:
        wait_until_listening(first, device_side, "R1")
        with (
            watch(server, engineer, f"/devices/{one}/console") as second,
            watch(server, engineer, f"/devices/{other}/console") as third,
        ):
            wait_until_listening(third, device_side, "R2")
            assert server.web.console.watched == 2
            device_side.publish("gridwarden/river_sluice/R1/telemetry", body("m1", level_m=1.0), qos=1)
            assert hear(first)["decoded"][0]["id"] == hear(second)["decoded"][0]["id"] == "m1"
            with pytest.raises(TimeoutError):
                hear(third, timeout_s=1.0)
    deadline_s = time.monotonic() + 10
    while server.web.console.watched and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert server.web.console.watched == 0


def test_a_code_that_nobody_registered_can_be_watched_by_its_name(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with watch(server, engineer, f"/console?code={quote('R1-typo')}") as console:
        wait_until_listening(console, device_side, "R1-typo")
        device_side.publish("gridwarden/river_sluice/R1-typo/telemetry", body("m1", level_m=1.0), qos=1)
        shown = hear(console)
        assert shown["refused"] == "unknown_device" and shown["decoded"][0]["readings"] == {"level_m": 1.0}
    for code in ("", "a/b", "%23", "%2B", "a" * 65):
        with watch(server, engineer, f"/console?code={code}") as console:
            assert close_code(console) == 4404, code


def test_only_engineers_with_the_device_in_scope_may_look(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "R1", "river_sluice", STREET_A + "001")
    path = f"/devices/{device_id}/console?seat=wall"
    operator, elsewhere = sign_in("lin", ("operator",)), sign_in("wang", ("engineer",), STREET_B)
    for client, where, headers, code in (
        (None, path, {}, 4401),
        (operator, path, {}, 4403),
        (sign_in("gao", ("engineer",)), path, {"Origin": "https://evil.example"}, 4403),
        (elsewhere, path, {}, 4404),
        (elsewhere, "/console?code=R1", {}, 4404),
        (elsewhere, "/devices/nonsense/console", {}, 4404),
    ):
        with watch(server, client, where, **headers) as console:
            assert close_code(console) == code, (where, code)


def test_a_console_is_closed_when_the_right_to_look_ends(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "R1", "river_sluice")
    engineer = sign_in("gao", ("engineer",))
    with watch(server, engineer, f"/devices/{device_id}/console") as console:
        hear(console, "state")
        with database.transaction() as connection:
            set_roles(connection, find_user(connection, "gao"), ["operator"], now())
        assert close_code(console) == 1012
    boss = sign_in("zhou", ("admin",))
    with watch(server, boss, f"/devices/{device_id}/console") as console:
        hear(console, "state")
        boss.post("/api/v1/logout")
        assert close_code(console) == 4401
    talker = sign_in("sun", ("engineer",))
    with watch(server, talker, f"/devices/{device_id}/console") as console:
        hear(console, "state")
        console.send("hello")
        assert close_code(console) == 1008


def test_a_test_message_goes_out_as_the_device_would_send_it_and_is_seen(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "R1", "river_sluice")
    with watch(server, engineer, f"/devices/{device_id}/console") as console:
        wait_until_listening(console, device_side, "R1")
        sent = engineer.post(f"/api/v1/devices/{device_id}/test").json()
        assert sent["topic"] == "gridwarden/river_sluice/R1/telemetry" and sent["payload"]["test"] is True
        shown = hear(console)
        assert shown["refused"] is None and shown["decoded"][0]["id"] == sent["id"]
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM audit WHERE action = 'test_message_sent'").fetchone() == (1,)


def test_the_platform_answers_a_test_message_and_stores_nothing(
    server: Server, database: Database, engineer: httpx.Client, device_side: mqtt.Client
) -> None:
    with database.transaction() as connection:
        # Not R1: what other tests sent for that one may wait in the broker for the ingest that starts here.
        device_id = put_device(connection, "R7", "river_sluice")
    stop = threading.Event()
    ingest = threading.Thread(target=run_ingest, args=(server.settings, stop), daemon=True)
    ingest.start()
    try:
        with watch(server, engineer, f"/devices/{device_id}/console") as console:
            wait_until_listening(console, device_side, "R7")
            receipt: dict[str, Any] = {}
            sent_ids = set()
            deadline_s = time.monotonic() + 30  # until ingest has subscribed, nobody answers
            while receipt.get("id") not in sent_ids and time.monotonic() < deadline_s:
                sent_ids.add(engineer.post(f"/api/v1/devices/{device_id}/test").json()["id"])
                with contextlib.suppress(TimeoutError):
                    while (shown := hear(console, timeout_s=2.0))["direction"] == "in":
                        pass
                    receipt = json.loads(shown["raw"])
            assert receipt.get("id") in sent_ids and receipt["test"] is True and "refused" not in receipt
    finally:
        stop.set()
        ingest.join(15)
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM device_message").fetchone() == (0,)


def test_a_broker_that_is_away_is_said(web_settings: Settings, database: Database, sign_in: SignIn) -> None:
    gone = web_settings.mqtt.model_copy(update={"port": free_port()})
    with serve(web_settings.model_copy(update={"mqtt": gone})) as server:
        engineer = sign_in("gao", ("engineer",))
        with database.transaction() as connection:
            device_id = put_device(connection, "R1", "river_sluice")
        client = server.client()
        client.cookies = engineer.cookies
        answer = client.post(f"/api/v1/devices/{device_id}/test")
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_unreachable")
        with watch(server, engineer, f"/devices/{device_id}/console") as console:
            assert hear(console, "state")["connected"] is False


async def test_a_viewer_who_is_slow_loses_the_oldest_and_is_told_how_many() -> None:
    viewer = Viewer()
    for number in range(1_200):
        viewer.offer(json.dumps({"type": "message", "n": number}))
    assert json.loads(await viewer.next()) == {"type": "dropped", "count": 700}
    assert json.loads(await viewer.next())["n"] == 700
    assert len(viewer.texts) == 499
    viewer.offer("x" * 2_000_000)
    assert json.loads(await viewer.next())["count"] == 499 and len(await viewer.next()) == 2_000_000
    assert viewer.waiting_bytes == 0
