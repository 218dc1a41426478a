"""The fleet speaks the documented contract over a real broker: valid messages, events until the receipt, real causes."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.model import TopicKind
from devices.registry import KINDS
from ingest.client import find_login
from kernel.settings import Settings
from simulators.fleet import DeviceSpec, Fleet, Login, run_load
from tests.conftest import field_login
from tests.waiting import wait_for

CODES = {"smoke_alarm": "SMK-01", "door_sensor": "DOR-01", "river_sluice": "RIV-01", "parking_gate": "GAT-01"}


class Listener:
    """The platform's side: hears everything, and answers with receipts when it is told to."""

    def __init__(self, settings: Settings) -> None:
        self.heard: list[tuple[float, str, dict[str, Any]]] = []
        self.answers = True
        self._lock = threading.Lock()
        subscribed = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set(*find_login(settings))
        client.on_message = self._hear
        client.on_subscribe = lambda *_: subscribed.set()
        client.connect(settings.mqtt.host, settings.mqtt.port)
        for kind in ("telemetry", "event", "state"):
            client.subscribe(f"gridwarden/+/+/{kind}", qos=1)
        client.loop_start()
        assert subscribed.wait(5)
        self.client = client

    def _hear(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        body = json.loads(message.payload)
        with self._lock:
            self.heard.append((time.monotonic(), message.topic, body))
        if self.answers and not message.topic.endswith("/telemetry"):
            self.answer(message.topic, body)

    def answer(self, topic: str, body: dict[str, Any], **extra: str) -> None:
        receipt = {"v": 1, "id": body["id"], "at": datetime.now(UTC).isoformat(), **extra}
        self.client.publish(topic.rpartition("/")[0] + "/receipt", json.dumps(receipt), qos=1)

    def events(self, code: str) -> list[dict[str, Any]]:
        with self._lock:
            return [body for _, topic, body in self.heard if topic.split("/")[2] == code and topic.endswith("/event")]

    def telemetry(self, code: str) -> list[dict[str, Any]]:
        with self._lock:
            return [
                body for _, topic, body in self.heard if topic.split("/")[2] == code and topic.endswith("/telemetry")
            ]


def login(settings: Settings) -> Login:
    user, password = field_login(settings)
    return Login(host=settings.mqtt.host, port=settings.mqtt.port, username=user, password=password)


@pytest.fixture
def listener(broker: Settings) -> Iterator[Listener]:
    listener = Listener(broker)
    yield listener
    listener.client.disconnect()
    listener.client.loop_stop()


@pytest.fixture
def fleet(broker: Settings, listener: Listener) -> Iterator[Fleet]:
    fleet = Fleet(
        [DeviceSpec(code=code, kind=kind, telemetry_s=1.0) for kind, code in CODES.items()], login(broker), seed=3
    )
    fleet.start()
    try:
        assert wait_for(lambda: fleet.is_connected)
        time.sleep(0.2)  # the subscription to receipts follows the connection
        yield fleet
    finally:
        fleet.stop()


def test_every_message_fits_its_kinds_schema(fleet: Fleet, listener: Listener) -> None:
    fleet.alarm_smoke("SMK-01")
    fleet.open_door("DOR-01", closes_after_s=0.2)
    fleet.pass_gate("GAT-01", closes_after_s=0.2)
    fleet.set_river("RIV-01", 3.0, 1.0)
    assert wait_for(lambda: len(listener.events("DOR-01")) == 2 and len(listener.events("GAT-01")) == 2)
    assert wait_for(lambda: all(listener.telemetry(code) for code in CODES.values()))
    for _, topic, body in listener.heard:
        _, kind, _, topic_kind = topic.split("/")
        KINDS[kind].payloads[TopicKind(topic_kind)].model_validate(body)
    ids = [(topic.split("/")[2], body["id"]) for _, topic, body in listener.heard]
    assert len(ids) == len(set(ids))


def test_an_event_is_repeated_at_growing_intervals_until_its_receipt(fleet: Fleet, listener: Listener) -> None:
    listener.answers = False
    fleet.alarm_smoke("SMK-01")
    assert wait_for(lambda: len(listener.events("SMK-01")) == 3, 8.0)
    heard = [(at_s, body) for at_s, topic, body in listener.heard if topic.endswith("SMK-01/event")]
    assert len({body["id"] for _, body in heard}) == 1
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(heard)]
    assert 0.8 < gaps[0] < 1.6 and 1.6 < gaps[1] < 3.0
    assert fleet.waiting_count == 1
    listener.answer("gridwarden/smoke_alarm/SMK-01/event", heard[0][1])
    assert wait_for(lambda: fleet.waiting_count == 0)
    assert fleet.counts.receipts == 1 and fleet.counts.refused == 0


def test_a_refusal_ends_the_repeating_too(fleet: Fleet, listener: Listener) -> None:
    listener.answers = False
    fleet.test_smoke("SMK-01")
    assert wait_for(lambda: listener.events("SMK-01"))
    listener.answer("gridwarden/smoke_alarm/SMK-01/event", listener.events("SMK-01")[0], refused="unknown_device")
    assert wait_for(lambda: fleet.waiting_count == 0)
    assert fleet.counts.refused == 1


def test_told_twice_is_the_very_same_message_twice(fleet: Fleet, listener: Listener) -> None:
    fleet.alarm_smoke("SMK-01", twice=True)
    assert wait_for(lambda: len(listener.events("SMK-01")) == 2)
    first, second = listener.events("SMK-01")
    assert first == second and first["status"] == "alarm"


def test_smoke_lasts_in_the_telemetry_until_it_is_cleared(fleet: Fleet, listener: Listener) -> None:
    fleet.alarm_smoke("SMK-01")
    assert wait_for(lambda: any(body["status"] == "alarm" for body in listener.telemetry("SMK-01")))
    fleet.clear_smoke("SMK-01")
    assert wait_for(lambda: listener.events("SMK-01")[-1]["status"] == "recovered")
    assert wait_for(lambda: listener.telemetry("SMK-01")[-1]["status"] == "normal")


def test_a_river_rises_to_its_target_in_steps_and_falls_again(fleet: Fleet, listener: Listener) -> None:
    fleet.set_river("RIV-01", 3.0, 0.8)
    assert wait_for(lambda: any(body["level_m"] > 2.9 for body in listener.telemetry("RIV-01")), 8.0)
    levels = [body["level_m"] for body in listener.telemetry("RIV-01")]
    assert max(levels) < 3.1
    assert len([level for level in levels if 1.7 < level < 2.8]) >= 1
    fleet.set_river("RIV-01", 1.4, 1.5)
    assert wait_for(lambda: listener.telemetry("RIV-01")[-1]["level_m"] < 1.5, 8.0)


def test_a_door_used_regularly_opens_again_and_again_until_it_is_left(fleet: Fleet, listener: Listener) -> None:
    fleet.use_door("DOR-01", every_s=0.5)
    assert wait_for(lambda: sum(body["open"] for body in listener.events("DOR-01")) >= 3)
    left_at = fleet.leave_door("DOR-01")
    time.sleep(2.6)  # the last opening's closing comes 2 s after it
    openings = [datetime.fromisoformat(body["at"]) for body in listener.events("DOR-01") if body["open"]]
    assert abs((max(openings) - left_at).total_seconds()) < 0.01
    assert not max(listener.events("DOR-01"), key=lambda body: body["seq"])["open"]


def test_a_stuck_barrier_stays_open_and_a_repaired_one_closes(fleet: Fleet, listener: Listener) -> None:
    fleet.stick_gate("GAT-01")
    assert wait_for(lambda: any(body["barrier"] == "open" for body in listener.telemetry("GAT-01")))
    fleet.repair_gate("GAT-01")
    assert wait_for(lambda: listener.telemetry("GAT-01")[-1]["barrier"] == "closed")
    assert listener.events("GAT-01")[-1]["barrier"] == "closed"


def test_events_outlast_a_fleet_without_connection(broker: Settings, listener: Listener) -> None:
    fleet = Fleet([DeviceSpec(code="SMK-09", kind="smoke_alarm")], login(broker), seed=1)
    fleet.alarm_smoke("SMK-09")
    assert fleet.waiting_count == 1
    fleet.start()
    try:
        assert wait_for(lambda: listener.events("SMK-09"))
        assert wait_for(lambda: fleet.waiting_count == 0)
    finally:
        fleet.stop()


def test_a_load_counts_its_receipts_and_what_was_lost(broker: Settings, listener: Listener) -> None:
    report = run_load(list(CODES.items()), login(broker), rate_per_s=50, duration_s=1.0)
    assert 0 < report.sent <= 55  # fewer where the machine is busy
    assert report.receipts == report.sent and report.lost == 0
    assert report.p50_s is not None and report.p50_s > 0
    listener.answers = False
    silent = run_load([("smoke_alarm", "SMK-01")], login(broker), rate_per_s=10, duration_s=0.5, drain_s=0.5)
    assert silent.lost == silent.sent > 0
    assert silent.p50_s is None


def test_a_load_without_a_broker_says_so() -> None:
    with pytest.raises(ValueError, match="at least one"):
        run_load([], Login(port=1), rate_per_s=1, duration_s=1)


def command_to(listener: Listener, code: str, number: int, name: str, **parameters: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    body = {
        "v": 1, "id": f"{code}-{number}", "seq": number, "nonce": f"nonce-{number:06d}", "at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=30)).isoformat(), "name": name, "parameters": parameters,
    }  # fmt: skip
    kind = next(kind for kind, one in CODES.items() if one == code)
    listener.client.publish(f"gridwarden/{kind}/{code}/command", json.dumps(body), qos=1)
    return body


def replies(listener: Listener, code: str) -> list[tuple[str, str]]:
    with listener._lock:
        heard = [body for _, topic, body in listener.heard if topic.split("/")[2:] == [code, "reply"]]
    return [(body["command_id"], body["result"]) for body in heard]


def test_a_sluice_obeys_a_command_and_reports_while_it_moves(fleet: Fleet, listener: Listener) -> None:
    listener.client.subscribe("gridwarden/+/+/reply", qos=1)
    code = CODES["river_sluice"]
    time.sleep(0.2)
    began_m = fleet.devices[code].fields["gate_opening_m"]
    command = command_to(listener, code, 1, "set_gate_opening", opening_m=began_m + 0.2)
    assert wait_for(lambda: (command["id"], "done") in replies(listener, code), 30)
    assert (command["id"], "accepted") in replies(listener, code)
    assert wait_for(
        lambda: listener.telemetry(code)[-1]["gate_opening_m"] == pytest.approx(began_m + 0.2, abs=0.01), 30
    )
    seen = {body["gate_opening_m"] for body in listener.telemetry(code)}
    assert len(seen) >= 3, "it was seen on its way"


def test_answers_that_are_lost_are_repeated(fleet: Fleet, listener: Listener) -> None:
    listener.client.subscribe("gridwarden/+/+/reply", qos=1)
    code = CODES["parking_gate"]
    time.sleep(0.2)
    fleet.lose_replies(code)
    command = command_to(listener, code, 1, "hold_open")
    assert wait_for(lambda: fleet.devices[code].fields["barrier"] == "open", 30)
    assert replies(listener, code) == []
    fleet.lose_replies(code, lost=False)
    assert wait_for(lambda: (command["id"], "done") in replies(listener, code), 30)
