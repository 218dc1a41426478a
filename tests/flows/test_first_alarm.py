"""A smoke alarm by MQTT becomes an incident that an operator sees, and bad messages beside it disturb nothing."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ingest.client import find_login
from tests.flows.conftest import ROOT, System
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def operator(system: System) -> Iterator[httpx.Client]:
    """An operator and engineer who logged in by a one-time link."""
    added = system.run("user", "add", "operator-1", "--role", "operator", "--role", "engineer")
    assert added.returncode == 0, added.stderr
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None
    with httpx.Client(base_url=f"{system.settings.public_url}/api/v1", timeout=10) as client:
        assert client.post("/login/link", json={"token": token[1], "seat": "wall"}).is_success
        yield client


def key_path(system: System) -> Path:
    """Where this test has the key of smoke-1 written."""
    return system.settings.data_dir / "smoke-1.key"


def publish(
    system: System,
    kind: str,
    code: str,
    payload: str | bytes,
    topic_kind: str = "event",
    login: tuple[str, str] | None = None,
) -> None:
    """mosquitto_pub, an MQTT client that we did not write; by the log-in of smoke-1 unless told."""
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    user, key = login or ("smoke-1", key_path(system).read_text().strip())
    mqtt = system.settings.mqtt
    subprocess.run(
        ["mosquitto_pub", "-h", mqtt.host, "-p", str(mqtt.port), "-u", user, "-P", key, "-q", "1", "-s",
         "-t", f"gridwarden/{kind}/{code}/{topic_kind}"],
        input=payload if isinstance(payload, bytes) else payload.encode(), check=True, timeout=20,
    )  # fmt: skip


def documented_alarm(message_id: str, at: datetime) -> dict[str, object]:
    """The example payload of a smoke alarm's event in docs/devices.md, dated now."""
    page = (ROOT / "docs" / "devices.md").read_text()
    for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        payload = json.loads(block)
        if payload.get("status") == "alarm":
            return {**payload, "id": message_id, "at": at.isoformat()}
    raise AssertionError("docs/devices.md has no example of a smoke alarm")


def open_incidents(operator: httpx.Client) -> list[dict[str, object]]:
    answer = operator.get("/incidents", params={"state": "open"})
    answer.raise_for_status()
    return list(answer.json()["items"])


def test_a_documented_payload_raises_one_incident_in_its_cell(system: System, operator: httpx.Client) -> None:
    added = system.run(
        "device", "add", "smoke-1", "smoke_alarm", "--lon", "120.1715", "--lat", "30.2815", "--name", "7号楼",
        "--key-file", str(key_path(system)),
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    payload = json.dumps(documented_alarm("alarm-1", datetime.now(UTC)))
    started = time.monotonic()
    publish(system, "smoke_alarm", "smoke-1", payload)
    publish(system, "smoke_alarm", "smoke-1", payload)  # a repeat is the same alarm
    wait_until(lambda: open_incidents(operator), "an incident", 30)
    assert time.monotonic() - started < 10
    time.sleep(1)
    [incident] = open_incidents(operator)
    assert incident["category"]["id"] == "smoke"  # type: ignore[index]
    assert incident["cell_code"] == "330105012001005"  # the middle one of nine: second row, second column
    detail = operator.get(f"/incidents/{incident['id']}").json()
    assert len(detail["reports"]) == 1
    assert detail["reports"][0]["device"]["code"] == "smoke-1"


BAD = {
    "malformed_json": b'{"v": 1, "id": ',
    "not_an_object": b"[1, 2]",
    "too_large": b'{"v":1,"id":"big","pad":"' + b"x" * 1_000_000 + b'"}',
    "too_deep": b'{"v":1,"id":"deep","a":' + b"[" * 200 + b"]" * 200 + b"}",
    "not_finite": b'{"v":1,"id":"nan","at":"2026-11-20T08:00:00Z","status":"alarm","battery_pct":NaN}',
    "unknown_version": b'{"v":9,"id":"v9","at":"2026-11-20T08:00:00Z","status":"alarm"}',
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_message_is_kept_with_its_reason(system: System, operator: httpx.Client, reason: str) -> None:
    publish(system, "smoke_alarm", "smoke-1", BAD[reason])
    wait_until(lambda: reason in dead_letters(operator), f"a dead letter {reason}", 30)


def dead_letters(operator: httpx.Client) -> list[str]:
    answer = operator.get("/dead-letters", params={"limit": 100})
    answer.raise_for_status()
    return [letter["reason"] for letter in answer.json()["items"]]


def test_messages_of_strangers_and_of_the_future_are_kept_apart(system: System, operator: httpx.Client) -> None:
    now = datetime.now(UTC)
    # The broker lets no device write for a stranger; such a message comes by other ways in, here by the platform's own log-in.
    stranger = json.dumps(documented_alarm("x1", now))
    publish(system, "smoke_alarm", "nobody", stranger, login=find_login(system.settings))
    ahead = {**documented_alarm("x2", now + timedelta(days=3)), "status": "normal"}  # an event would be taken as of now
    publish(system, "smoke_alarm", "smoke-1", json.dumps(ahead), "state")
    publish(system, "smoke_alarm", "smoke-1", json.dumps({**documented_alarm("x3", now), "battery_pct": "full"}))
    for reason in ("unknown_device", "future_dated", "bad_payload"):
        wait_until(lambda reason=reason: reason in dead_letters(operator), f"a dead letter {reason}", 30)
    assert len(open_incidents(operator)) == 1  # and nothing was opened by any of them


def test_a_device_outside_the_grid_and_a_camera_that_is_no_address_are_refused(system: System) -> None:
    outside = system.run("device", "add", "far", "smoke_alarm", "--lon", "121.5", "--lat", "31.2")
    assert outside.returncode == 2
    assert "no cell" in outside.stderr
    file = system.run(
        "device", "add", "cam", "camera", "--lon", "120.1715", "--lat", "30.2815", "--url", "file:///etc/passwd"
    )
    assert file.returncode == 2
    assert "rtsp" in file.stderr
