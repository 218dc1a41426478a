"""docs/devices.md: its examples are real messages, and its tables name what the code has."""

import json
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devices.model import TopicKind
from devices.registry import KINDS, describe_schema
from ingest.decode import Decoded, Raw, Reason, decode
from kernel.settings import IngestSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text("utf-8")
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
EXAMPLES: list[tuple[str, str, str]] = [
    (kind, topic, body)
    for kind, topic, body in re.findall(
        r"`gridwarden/([a-z_<>]+)/<device>/([a-z]+)`\n\n```json\n(.*?)```", PAGE, re.DOTALL
    )
]


def test_every_kind_and_topic_has_an_example() -> None:
    described = {(kind, topic) for kind, topic, _ in EXAMPLES}
    wanted = {(kind, str(topic)) for kind in KINDS for topic in TopicKind if topic is not TopicKind.REPLY}
    assert described == wanted | {("<kind>", "reply")}


@pytest.mark.parametrize(("kind", "topic", "body"), EXAMPLES)
def test_an_example_is_taken_as_it_stands(kind: str, topic: str, body: str) -> None:
    name = "door_sensor" if kind == "<kind>" else kind
    raw = Raw(f"gridwarden/{name}/D-1/{topic}", body.encode(), len(body.encode()), NOW)
    decoded = decode(raw, IngestSettings())
    assert isinstance(decoded, Decoded), decoded.detail
    fields = set(type(decoded.message.payload).model_fields)
    assert set(json.loads(body)) <= fields, "the example has a field that the model does not know"
    readings = decoded.kind.readings(decoded.message.payload)
    assert set(readings) <= {metric.name for metric in decoded.kind.metrics}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_samples_are_valid_and_their_readings_are_declared(kind: Any) -> None:
    rng = random.Random(5)
    for topic in TopicKind:
        for _ in range(20):
            sample = json.loads(json.dumps(kind.draw(rng, NOW, topic)))
            payload = kind.payloads[topic].model_validate(sample)
            assert set(kind.readings(payload)) <= {metric.name for metric in kind.metrics}
            assert set(sample) <= set(type(payload).model_fields)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_schema_points_at_the_model_of_each_topic(kind: Any) -> None:
    schema = describe_schema(kind)
    for topic in TopicKind:
        name = schema["x-topics"][str(topic)]["$ref"].removeprefix("#/$defs/")
        model = schema["$defs"][name]
        assert {"v", "id", "at"} <= set(model["required"])
        assert set(model["properties"]) == set(kind.payloads[topic].model_fields)


def test_every_setting_and_reason_is_documented() -> None:
    for kind in KINDS.values():
        for name in kind.settings.model_fields:
            assert f"`{name}`" in PAGE, f"{kind.name}.{name}"
    for reason in Reason:
        assert f"`{reason}`" in PAGE
