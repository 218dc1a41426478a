"""The two ways to advance a device, message by message and all at once, give the same."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devices.alarms import Advance, advance_device
from devices.model import Device, DeviceState, Message, TopicKind
from devices.registry import KINDS
from devices.rulebook import PLAIN, Plan, RuleBook

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
ZONE = "Asia/Shanghai"
# What makes a sample say something that its rules raise or end.
TURNS: dict[str, list[dict[str, Any]]] = {
    "smoke_alarm": [{"status": "alarm"}, {"status": "normal"}, {"status": "recovered"}],
    "river_sluice": [{"level_m": 9.0}, {"level_m": 1.0}],
    "door_sensor": [{"door": "open"}, {"door": "closed"}],
    "camera": [{"frame_age_s": 99.0}, {"frame_age_s": 0.1}],
}


def draw_messages(data: st.DataObject, kind_name: str) -> list[Message]:
    kind = KINDS[kind_name]
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    found: list[Message] = []
    for n in range(data.draw(st.integers(1, 10))):
        topic = data.draw(st.sampled_from(sorted(kind.payloads)))
        at = NOON + timedelta(seconds=data.draw(st.integers(0, 400)))
        body = kind.draw(rng, at, topic)
        body |= {"id": f"m{n}", "at": at.isoformat()}
        if topic is not TopicKind.REPLY:
            for turn in data.draw(st.lists(st.sampled_from(TURNS.get(kind_name, [{}])), max_size=1)):
                body |= {k: v for k, v in turn.items() if k in kind.payloads[topic].model_fields}
        payload = kind.payloads[topic].model_validate(body)
        found.append(
            Message(
                topic_kind=topic,
                id=payload.id,
                seq=n,
                measured_at=at,
                received_at=at + timedelta(seconds=1),
                payload=payload,
                readings=kind.readings(payload) if n % 2 else None,
            )
        )
    return found


def advance_both_ways(
    device: Device, state: DeviceState, messages: list[Message], now: datetime, book: RuleBook | None
) -> tuple[Advance, Advance]:
    kind, is_plain = KINDS[device.kind], Plan.is_plain
    assert (book or PLAIN).plan(device).is_plain
    quick = advance_device(kind, device, state, messages, now, ZONE, book)
    try:
        Plan.is_plain = property(lambda self: False)  # type: ignore[method-assign, assignment]
        general = advance_device(kind, device, state, messages, now, ZONE, book)
    finally:
        Plan.is_plain = is_plain  # type: ignore[method-assign]
    return quick, general


@hypothesis_settings(max_examples=200, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), with_book=st.booleans(), in_home=st.booleans())
def test_all_at_once_is_the_same_as_message_by_message(
    data: st.DataObject, kind: str, with_book: bool, in_home: bool
) -> None:
    device = Device(id=UUID(int=1), code="D1", kind=kind, name="", lon=120.1, lat=30.2, in_home=in_home)
    state, book = DeviceState(), RuleBook() if with_book else None
    for part in range(data.draw(st.integers(1, 3))):
        messages = draw_messages(data, kind)
        now = NOON + timedelta(seconds=500 + part)
        quick, general = advance_both_ways(device, state, messages, now, book)
        assert quick == general
        state = quick.state


def test_a_rule_that_fails_is_said_for_its_message_in_either_way(monkeypatch: Any) -> None:
    device = Device(id=UUID(int=2), code="D2", kind="river_sluice", name="", lon=120.1, lat=30.2)
    payload = (
        KINDS["river_sluice"]
        .payloads[TopicKind.TELEMETRY]
        .model_validate({"v": 1, "id": "m", "at": NOON.isoformat(), "level_m": 1.0})
    )
    message = Message(
        topic_kind=TopicKind.TELEMETRY, id="m", seq=None, measured_at=NOON, received_at=NOON, payload=payload
    )
    broken = DeviceState(rule_state={"river_level": {"seen_at": "no instant"}})
    quick, general = advance_both_ways(device, broken, [message], NOON, None)
    assert quick == general
    assert [(m.id, f.rule) for m, f in quick.failures if m is not None] == [("m", "river_level")]
    assert quick.state.metrics["level_m"]["value"] == 1.0
