"""ThingsBoard's topics, spoken by clients we did not write: logged in by token, acknowledged after the commit, called once."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psycopg
import pytest

from devices.credential import revoke_key
from devices.store import set_device_enabled
from gridwarden.demo.authority import make_certificate
from ingest.client import find_login
from ingest.mapping import Mapping
from ingest.mapping_store import add_mapping, use_mapping
from ingest.ways.listening import Ways
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import empty_tables
from tests.ingest.ways.conftest import Site, open_site, wait_until, ways_settings

ME = "v1/devices/me/"


@dataclass
class Thing:
    """A device with paho's client."""

    client: paho.Client
    connected: threading.Event = field(default_factory=threading.Event)
    reason: Any = None
    acknowledged: list[int] = field(default_factory=list)
    received: list[tuple[str, Any]] = field(default_factory=list)
    reasons: list[Any] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def send(self, topic: str, document: Any, qos: int = 1) -> int:
        payload = document if isinstance(document, bytes) else json.dumps(document)
        return self.client.publish(topic, payload, qos=qos).mid

    def send_and_wait(self, topic: str, document: Any, qos: int = 1) -> None:
        mid = self.send(topic, document, qos)
        wait_until(lambda: mid in self.acknowledged, "the acknowledgement")


@contextmanager
def thing(
    site: Site, user: str, key: str | None = None, version: paho.MQTTProtocolVersion = paho.MQTTv311
) -> Iterator[Thing]:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="it", protocol=version)
    client.username_pw_set(user, key)
    client.max_inflight_messages_set(200)
    it = Thing(client)

    def on_connect(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        it.reason = reason
        it.connected.set()

    def on_publish(_: Any, __: Any, mid: int, reason: Any, ___: Any) -> None:
        it.reasons.append(reason)
        it.acknowledged.append(mid)

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.on_message = lambda _, __, m: it.received.append((m.topic, json.loads(m.payload)))
    client.on_disconnect = lambda *_: it.gone.set()
    client.connect("127.0.0.1", site.settings.ways.thingsboard_port)
    client.loop_start()
    try:
        assert it.connected.wait(10)
        yield it
    finally:
        client.disconnect()
        client.loop_stop()


VERSIONS = pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5], ids=["3.1.1", "5"])


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_telemetry_is_stored_when_it_is_acknowledged(site: Site, version: paho.MQTTProtocolVersion, qos: int) -> None:
    device, token = site.register("S1")
    with thing(site, token, version=version) as it:
        assert not it.reason.is_failure
        it.send_and_wait(ME + "telemetry", {"status": "normal", "temperature_c": 21.5}, qos)
        assert site.metrics(device)["temperature_c"] == 21.5  # by then, not some time later
    assert site.reasons() == []


@VERSIONS
def test_user_and_key_log_in_too_and_wrong_ones_do_not(site: Site, version: paho.MQTTProtocolVersion) -> None:
    device, key = site.register("S1")
    site.register("S2")
    with thing(site, "S1", key, version) as it:
        assert not it.reason.is_failure
    for user, wrong in (("S1", "nonsense"), ("S2", key), ("nobody", "x"), ("", None), (key + "x", None)):
        with thing(site, user, wrong, version) as it:
            assert it.reason.is_failure, (user, wrong)
    with site.database.transaction() as connection:
        set_device_enabled(connection, device.code, False, datetime.now(UTC))
    with thing(site, key, version=version) as it:
        assert it.reason.is_failure


def test_dated_values_arrays_and_repeats(site: Site) -> None:
    device, token = site.register("R1", "river_sluice")
    now_ms = int(time.time() * 1000)
    old = {"ts": now_ms - 60_000, "values": {"level_m": 1.2}}
    with thing(site, token) as it:
        it.send_and_wait(ME + "telemetry", [old, {"ts": now_ms - 30_000, "values": {"level_m": 1.4}}])
        it.send_and_wait(ME + "telemetry", old)  # a repeat, and late: changes nothing
    assert site.metrics(device) == {"level_m": 1.4}
    assert site.rows("SELECT count(*) FROM reading") == [(2,)]


def test_an_alarm_raises_one_report_however_often_it_is_said(site: Site) -> None:
    _, token = site.register("S1")
    with thing(site, token) as it:
        for _ in range(3):
            it.send_and_wait(ME + "telemetry", {"status": "alarm", "smoke_density_db_m": 0.6})
    assert site.rows("SELECT rule FROM report") == [("smoke",)]


@VERSIONS
def test_what_cannot_be_used_is_kept_with_its_reason_and_acknowledged(
    site: Site, version: paho.MQTTProtocolVersion
) -> None:
    _, token = site.register("S1")
    with thing(site, token, version=version) as it:
        it.send_and_wait(ME + "telemetry", b"{broken")
        it.send_and_wait(ME + "telemetry", [1, 2])
        it.send_and_wait(ME + "telemetry", {"status": "melted"})
        it.send_and_wait("some/where", {"status": "normal"})
        it.send_and_wait(ME + "telemetry", {"status": "normal"})
    assert site.reasons() == ["malformed_json", "bad_payload", "bad_payload", "bad_topic"]
    if version == paho.MQTTv5:  # which can say it: payload format invalid
        assert [reason.value for reason in it.reasons] == [0x99, 0x99, 0x99, 0x99, 0]


def test_attributes_are_kept_and_the_firmware_shown(site: Site) -> None:
    device, token = site.register("S1")
    with thing(site, token) as it:
        it.client.subscribe(ME + "attributes/response/+", qos=1)
        it.send_and_wait(ME + "attributes", {"fw_version": "2.1.7", "rssi": -91, "nested": {"a": 1}})
        it.send(ME + "attributes/request/4", {"clientKeys": "rssi,nested"})
        wait_until(lambda: it.received, "the answer")
    assert it.received == [(ME + "attributes/response/4", {"client": {"rssi": -91, "nested": {"a": 1}}, "shared": {}})]
    assert site.rows("SELECT firmware FROM device WHERE id = %s", device.id) == [("2.1.7",)]


def test_a_gateway_speaks_for_its_children_and_for_nobody_else(site: Site) -> None:
    gateway, token = site.register("GW")
    child, _ = site.register("C1", parent=gateway)
    stranger, _ = site.register("X1")
    with thing(site, token) as it:
        it.send_and_wait("v1/gateway/connect", {"device": "C1"})
        now_ms = int(time.time() * 1000)
        document = {
            "C1": [{"ts": now_ms, "values": {"status": "normal", "temperature_c": 20.0}}],
            "X1": [{"ts": now_ms, "values": {"status": "alarm"}}],
            "none": [{"ts": now_ms, "values": {"status": "alarm"}}],
        }
        it.send_and_wait("v1/gateway/telemetry", document)
        it.send_and_wait("v1/gateway/attributes", {"C1": {"fw_version": "9"}})
    assert site.metrics(child)["temperature_c"] == 20.0
    assert site.metrics(stranger) == {}
    assert site.reasons() == ["not_allowed", "not_allowed"]
    assert site.rows("SELECT firmware FROM device WHERE id = %s", child.id) == [("9",)]


def publish_command(settings: Settings, kind: str, code: str, command: dict[str, Any]) -> None:
    """As the platform does it."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(*find_login(settings))
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    client.publish(f"gridwarden/{kind}/{code}/command", json.dumps(command), qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def make_command(command_id: str, ends_in_s: float = 30.0) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "v": 1, "id": command_id, "seq": 1, "nonce": "n-1", "at": now.isoformat(), "name": "set_gate_opening",
        "expires_at": (now + timedelta(seconds=ends_in_s)).isoformat(), "parameters": {"opening_m": 0.8},
    }  # fmt: skip


def reply_of(site: Site) -> list[tuple[Any, ...]]:
    return site.rows("SELECT message_id, topic_kind FROM device_message WHERE topic_kind = 'reply'")


@VERSIONS
def test_a_command_reaches_the_device_once_and_its_answer_is_our_reply(
    site: Site, version: paho.MQTTProtocolVersion
) -> None:
    _, token = site.register("R1", "river_sluice")
    with thing(site, token, version=version) as it:
        it.client.subscribe(ME + "rpc/request/+", qos=1)
        wait_until(lambda: "R1" in site.ways.things._sessions, "the subscription")  # type: ignore[union-attr]
        for _ in range(3):  # the platform repeats a command until it is answered; this device could not tell
            publish_command(site.settings, "river_sluice", "R1", make_command("c-1"))
        publish_command(site.settings, "river_sluice", "R1", make_command("c-2", ends_in_s=-1))
        publish_command(site.settings, "river_sluice", "R1", make_command("c-3"))
        wait_until(lambda: len(it.received) >= 2, "both calls")
        time.sleep(0.3)
        calls = site.rows("SELECT number, command_id, nonce FROM rpc_call ORDER BY number")
        assert [(c, n) for _, c, n in calls] == [("c-1", "n-1"), ("c-3", "n-1")]
        assert [topic for topic, _ in it.received] == [f"{ME}rpc/request/{number}" for number, _, _ in calls]
        assert it.received[0][1] == {"method": "set_gate_opening", "params": {"opening_m": 0.8}}
        it.send_and_wait(f"{ME}rpc/response/{calls[0][0]}", {"result": "done"})
        it.send_and_wait(f"{ME}rpc/response/999999", {"result": "done"})  # never asked
    assert len(reply_of(site)) == 1
    assert site.reasons() == []


def test_a_reconnected_device_is_not_called_twice_and_may_answer_late(site: Site) -> None:
    _, token = site.register("R1", "river_sluice")
    with thing(site, token) as it:
        it.client.subscribe(ME + "rpc/request/+", qos=1)
        wait_until(lambda: "R1" in site.ways.things._sessions, "the subscription")  # type: ignore[union-attr]
        publish_command(site.settings, "river_sluice", "R1", make_command("c-1"))
        wait_until(lambda: it.received, "the call")
        [(topic, _)] = it.received
    wait_until(lambda: "R1" not in site.ways.things._sessions, "the end of it")  # type: ignore[union-attr]
    with thing(site, token) as it:
        it.client.subscribe(ME + "rpc/request/+", qos=1)
        wait_until(lambda: "R1" in site.ways.things._sessions, "the subscription")  # type: ignore[union-attr]
        publish_command(site.settings, "river_sluice", "R1", make_command("c-1"))
        publish_command(site.settings, "river_sluice", "R1", make_command("c-2"))
        wait_until(lambda: it.received, "the other call")
        assert it.received[0][0] != topic
        it.send_and_wait(topic.replace("request", "response"), {"success": False, "error": "jammed"})
    assert len(reply_of(site)) == 1


def test_a_gateways_child_is_called_through_it(site: Site) -> None:
    gateway, token = site.register("GW")
    site.register("C1", "river_sluice", parent=gateway)
    with thing(site, token) as it:
        it.client.subscribe("v1/gateway/rpc", qos=1)
        it.send_and_wait("v1/gateway/connect", {"device": "C1"})
        publish_command(site.settings, "river_sluice", "C1", make_command("c-1"))
        wait_until(lambda: it.received, "the call")
        [(topic, call)] = it.received
        assert topic == "v1/gateway/rpc"
        assert call["device"] == "C1"
        assert call["data"]["method"] == "set_gate_opening"
        it.send_and_wait(
            "v1/gateway/rpc",
            {"device": "C1", "id": call["data"]["id"], "data": {"result": "refused", "detail": "local"}},
        )
    assert len(reply_of(site)) == 1


def test_other_topics_cannot_be_listened_to(site: Site) -> None:
    _, token = site.register("S1")
    granted: list[list[Any]] = []
    with thing(site, token) as it:
        it.client.on_subscribe = lambda _, __, ___, reasons, ____: granted.append(reasons)
        it.client.subscribe(
            [("#", 1), ("gridwarden/+/+/command", 1), (ME + "attributes", 0), (ME + "rpc/request/+", 2)]
        )
        wait_until(lambda: granted, "the answer")
    assert [reason.is_failure for reason in granted[0]] == [True, True, False, False]
    assert granted[0][3].value == 1  # QoS 2 is granted as 1


def test_a_device_with_a_mapping_sends_its_own_keys(site: Site) -> None:
    device, token = site.register("S1")
    mapping = Mapping.model_validate(
        {"name": "tb", "kind": "smoke_alarm", "constants": {"status": "normal"},
         "fields": [{"from": "values.t", "to": "temperature_c", "scale": 0.1}], "time": {"path": "ts", "format": "ms"}}
    )  # fmt: skip
    now = datetime.now(UTC)
    with site.database.transaction() as connection:
        use_mapping(connection, device, add_mapping(connection, mapping, "me", now).id, now)
    ts = int(time.time() * 1000)
    with thing(site, token) as it:
        it.send_and_wait(ME + "telemetry", [{"ts": ts - 1000, "values": {"t": 205}}, {"ts": ts, "values": {"t": 215}}])
        it.send_and_wait(ME + "telemetry", {"ts": ts + 1, "values": {"hot": 1}})
    assert site.metrics(device)["temperature_c"] == 21.5
    assert site.rows("SELECT topic, reason FROM dead_letter") == [("gridwarden/smoke_alarm/S1/raw", "not_mapped")]


def test_many_messages_at_once_are_acknowledged_in_their_order(site: Site) -> None:
    device, token = site.register("R1", "river_sluice")
    with thing(site, token) as it:
        start = int(time.time() * 1000)
        mids = [it.send(ME + "telemetry", {"ts": start + i, "values": {"level_m": i / 1000}}) for i in range(300)]
        wait_until(lambda: len(it.acknowledged) == 300, "all acknowledgements", 30)
    assert it.acknowledged == mids
    assert site.metrics(device)["level_m"] == 0.299


def test_a_silent_client_and_one_that_never_logs_in_are_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = site.register("S1")
    monkeypatch.setattr("ingest.ways.thingsboard_listener._LOGIN_WITHIN_S", 0.3)
    with socket.create_connection(("127.0.0.1", site.settings.ways.thingsboard_port), timeout=10) as stranger:
        assert stranger.recv(10) == b""
    body = bytes.fromhex("0004 4D515454 04 82 0001 0000") + len(token).to_bytes(2) + token.encode()
    with socket.create_connection(("127.0.0.1", site.settings.ways.thingsboard_port), timeout=10) as client:
        client.sendall(b"\x10" + bytes((len(body),)) + body)
        assert client.recv(10).hex() == "20020000"
        began_s = time.monotonic()
        assert client.recv(10) == b""  # after 1.5 times its keep-alive of a second
        assert 1.0 < time.monotonic() - began_s < 8


def test_a_revoked_key_ends_the_connection(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.ways.thingsboard_listener._LOOK_AGAIN_S", 0.1)
    device, token = site.register("S1")
    with thing(site, token, version=paho.MQTTv5) as it:
        it.send_and_wait(ME + "telemetry", {"status": "normal"})
        with site.database.transaction() as connection:
            revoke_key(connection, device, 1, datetime.now(UTC))
        time.sleep(0.2)
        it.send(ME + "telemetry", {"status": "normal"})
        assert it.gone.wait(10)


def test_without_the_database_nothing_is_acknowledged_and_afterwards_everything_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, token = site.register("S1")
    real = site.database.transaction

    def away(*args: object, **more: object) -> object:
        raise psycopg.OperationalError("away")

    with thing(site, token) as it:
        it.send_and_wait(ME + "telemetry", {"status": "normal", "temperature_c": 1.0})
        monkeypatch.setattr(site.database, "transaction", away)
        mid = it.send(ME + "telemetry", {"status": "normal", "temperature_c": 2.0})
        time.sleep(0.6)
        assert mid not in it.acknowledged
        monkeypatch.setattr(site.database, "transaction", real)
        wait_until(lambda: mid in it.acknowledged, "the acknowledgement")
    assert site.metrics(device)["temperature_c"] == 2.0


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_speaks_to_it(site: Site, version: str) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    device, token = site.register("S1")
    subprocess.run(
        ["mosquitto_pub", "-V", version, "-h", "127.0.0.1", "-p", str(site.settings.ways.thingsboard_port), "-u", token,
         "-q", "1", "-t", ME + "telemetry", "-m", '{"status":"normal","battery_pct":77}'],
        check=True, timeout=20,
    )  # fmt: skip
    assert site.metrics(device)["battery_pct"] == 77.0


def test_an_engineer_sees_what_came_by_which_way_and_why_it_was_refused(site: Site) -> None:
    device, token = site.register("S1")
    mapping = Mapping.model_validate({"name": "m", "kind": "smoke_alarm", "fields": [{"from": "s", "to": "status"}]})
    seen: list[dict[str, Any]] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(*find_login(site.settings))
    client.on_message = lambda _, __, m: seen.append(json.loads(m.payload))
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(site.settings.mqtt.host, site.settings.mqtt.port)
    client.loop_start()
    client.subscribe("gridwarden-console/S1")
    assert subscribed.wait(10)
    try:
        with thing(site, token) as it:
            it.send_and_wait(ME + "telemetry", {"status": "normal", "temperature_c": 20.5})
            it.send_and_wait(ME + "telemetry", {"status": "melted"})
        wait_until(lambda: len(seen) == 2, "both")
        with site.database.transaction() as connection:
            use_mapping(
                connection, device, add_mapping(connection, mapping, "me", datetime.now(UTC)).id, datetime.now(UTC)
            )
        client.publish("gridwarden/smoke_alarm/S1/raw", json.dumps({"s": "self_test"}), qos=1)
        wait_until(lambda: len(seen) == 3, "the raw one")
    finally:
        client.disconnect()
        client.loop_stop()
    good, bad, raw = seen
    assert (good["way"], good["refused"], good["decoded"][0]["readings"]) == (
        "thingsboard",
        None,
        {"temperature_c": 20.5},
    )
    assert (bad["refused"], bad["decoded"]) == ("bad_payload", [])
    assert "status" in bad["detail"]
    assert (raw["way"], raw["raw"], raw["decoded"][0]["fields"]["status"]) == ("raw", '{"s": "self_test"}', "self_test")


def test_with_a_certificate_it_speaks_tls_and_nothing_else(
    broker: Settings, database: Database, tmp_path: Path
) -> None:
    empty_tables(broker)
    certificate, key_file, authority = make_certificate(tmp_path, "127.0.0.1", datetime.now(UTC))
    with open_site(ways_settings(broker, tls_cert=str(certificate), tls_key=str(key_file)), database) as site:
        device, token = site.register("S1")
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set(token)
        client.tls_set(ca_certs=str(authority))
        client.connect("127.0.0.1", site.settings.ways.thingsboard_port)
        client.loop_start()
        client.publish(
            ME + "telemetry", json.dumps({"status": "normal", "temperature_c": 3.5}), qos=1
        ).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        assert site.metrics(device) == {"temperature_c": 3.5}
        with socket.create_connection(("127.0.0.1", site.settings.ways.thingsboard_port), timeout=10) as clear:
            clear.sendall(bytes.fromhex("100C00044D5154540402003C0000"))
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = clear.recv(10)
            assert answer[:1] != b"\x20"  # a TLS alert at most, no CONNACK
    with pytest.raises(OSError, match="No such file"):
        Ways(ways_settings(broker, tls_cert=str(tmp_path / "none.pem")), database, Clock.of(broker.clock))
