"""One session with a real Mosquitto: over TLS, with pauses, broken connections and a broker that refuses."""

import contextlib
import os
import pwd
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gridwarden.broker import find_mosquitto
from gridwarden.demo.authority import make_certificate
from ingest.session import Address, Session, Subscription
from ingest.wire import Publish
from kernel.clock import Clock
from tests.conftest import free_port
from tests.waiting import wait_until


class Broker:
    """A Mosquitto with a plain and a TLS listener, open to everybody."""

    def __init__(self, folder: Path) -> None:
        program = find_mosquitto()
        if program is None:
            pytest.skip("mosquitto is not installed (scripts/setup --dev installs it)")
        self.plain, self.tls = free_port(), free_port()
        certificate, key, authority = make_certificate(folder, "127.0.0.1", datetime.now(UTC))
        self.authority = authority
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.plain} 127.0.0.1\nlistener {self.tls} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
            f"allow_anonymous true\nmax_queued_messages 0\nuser {pwd.getpwuid(os.geteuid()).pw_name}\nlog_type error\n"
        )
        self._command = [program, "-c", str(config)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def address(self, client_id: str, *, tls: bool = False) -> Address:
        return Address(
            host="127.0.0.1", port=self.tls if tls else self.plain, user="", password="", client_id=client_id, tls=tls,
            ca_file=str(self.authority) if tls else "",
        )  # fmt: skip


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    try:
        yield broker
    finally:
        broker.stop()


class Ear:
    """A session that keeps what it hears; `room` says how much more it takes."""

    def __init__(self, address: Address, *, acknowledges: bool = True) -> None:
        self.heard: list[Publish] = []
        self.room = 1_000_000
        self.acknowledges = acknowledges
        self.session = Session(
            address, Subscription(wanted=["in/#"], unwanted=["old/#"]), Clock(),
            receive=self._receive, room=lambda: self.room, max_payload_bytes=65_536,
        )  # fmt: skip

    def _receive(self, messages: list[Publish], connection: int) -> None:
        assert len(messages) <= self.room
        self.heard += messages
        self.room -= len(messages)
        if self.acknowledges:
            self.session.acknowledge([message.mid for message in messages], connection)


@contextlib.contextmanager
def listening(ear: Ear) -> Iterator[Ear]:
    ear.session.start()
    try:
        wait_until(lambda: ear.session.listening_since, "a subscription")
        yield ear
    finally:
        ear.session.stop(5.0)


@contextlib.contextmanager
def speaking(broker: Broker) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    wait_until(lambda: _connects(client, broker), "the broker")
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _connects(client: Client, broker: Broker) -> bool:
    with contextlib.suppress(OSError):
        client.connect("127.0.0.1", broker.plain)
        return True
    return False


@pytest.mark.parametrize("tls", [False, True])
def test_everything_comes_in_order_and_what_is_published_arrives(mosquitto: Broker, tls: bool) -> None:
    with speaking(mosquitto) as field, listening(Ear(mosquitto.address("a", tls=tls))) as ear:
        answers: list[bytes] = []
        field.on_message = lambda client, userdata, message: answers.append(message.payload)
        subscribed = threading.Event()
        field.on_subscribe = lambda *_: subscribed.set()
        field.subscribe("out", 1)
        assert subscribed.wait(5)
        payloads = [b"%d " % n + b"x" * (n * 7 % 3000) for n in range(1500)]
        for payload in payloads:
            field.publish("in/1", payload, qos=1)
        wait_until(lambda: len(ear.heard) == len(payloads), "every message", 30)
        assert [message.payload for message in ear.heard] == payloads
        assert ear.session.publish([("out", b"%d" % n) for n in range(300)])
        wait_until(lambda: len(answers) == 300, "every answer")
        assert answers == [b"%d" % n for n in range(300)]


def test_what_was_acknowledged_does_not_come_again_and_the_rest_does(mosquitto: Broker) -> None:
    with speaking(mosquitto) as field:
        with listening(Ear(mosquitto.address("a"), acknowledges=False)) as ear:
            for n in range(10):
                field.publish("in/1", b"%d" % n, qos=1)
            wait_until(lambda: len(ear.heard) == 10, "every message")
            ours = ear.session.connection
            ear.session.acknowledge([message.mid for message in ear.heard[:4]], ours)
            ear.session.acknowledge([message.mid for message in ear.heard], ours + 7)  # of another connection: nothing
        with listening(Ear(mosquitto.address("a"))) as again:
            wait_until(lambda: len(again.heard) == 6, "the others")
            time.sleep(0.2)
            assert [message.payload for message in again.heard] == [b"%d" % n for n in range(4, 10)]


def test_without_room_reading_stops_and_the_connection_lives_on(
    mosquitto: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than the broker would wait for a client that says nothing."""
    monkeypatch.setattr("ingest.session._KEEPALIVE_S", 1)
    with speaking(mosquitto) as field, listening(Ear(mosquitto.address("a"))) as ear:
        since = ear.session.listening_since
        ear.room = 5
        for n in range(50):
            field.publish("in/1", b"%d" % n, qos=1)
        wait_until(lambda: len(ear.heard) == 5, "as many as there is room for")
        time.sleep(3.5)
        assert len(ear.heard) == 5
        assert ear.session.listening_since == since
        ear.room = 1000
        ear.session.wake()
        wait_until(lambda: len(ear.heard) == 50, "the rest")
        assert [message.payload for message in ear.heard] == [b"%d" % n for n in range(50)]


def test_it_comes_back_when_the_broker_does(mosquitto: Broker) -> None:
    with listening(Ear(mosquitto.address("a"))) as ear:
        mosquitto.stop()
        wait_until(lambda: ear.session.listening_since is None, "the break")
        assert not ear.session.publish([("out", b"lost")])
        mosquitto.start()
        wait_until(lambda: ear.session.listening_since, "the new connection")
        with speaking(mosquitto) as field:
            field.publish("in/1", b"after", qos=1)
            wait_until(lambda: [message.payload for message in ear.heard] == [b"after"], "a message")


def test_a_certificate_of_somebody_else_is_not_trusted(mosquitto: Broker, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    address = mosquitto.address("a", tls=True)
    _, _, stranger = make_certificate(other, "127.0.0.1", datetime.now(UTC))
    ear = Ear(
        Address(
            host=address.host, port=address.port, user="", password="", client_id="a", tls=True, ca_file=str(stranger)
        )
    )
    ear.session.start()
    time.sleep(1.0)
    assert ear.session.listening_since is None
    ear.session.stop(5.0)
