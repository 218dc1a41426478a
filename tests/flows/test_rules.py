"""A rule that an engineer makes on a running system: tried, watched, switched on; it acts within seconds, and can be shelved."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.flows.conftest import System
from tests.waiting import wait_until

RULE = {
    "name": "river_low", "type": "threshold", "title_zh": "水位过低", "title_en": "River too low",
    "scope": {"kind": "river_sluice"}, "severity": 2,
    "parameters": {"metric": "level_m", "side": "lower", "limit": 0.6, "hysteresis": 0.1},
}  # fmt: skip


@pytest.fixture(scope="module")
def engineer(system: System) -> Iterator[httpx.Client]:
    added = system.run("user", "add", "engineer-1", "--role", "operator", "--role", "engineer")
    assert added.returncode == 0, added.stderr
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None
    with httpx.Client(base_url=f"{system.settings.public_url}/api/v1", timeout=20) as client:
        assert client.post("/login/link", json={"token": token[1], "seat": "wall"}).is_success
        yield client


class River:
    """A river station that speaks MQTT."""

    def __init__(self, system: System, code: str) -> None:
        if shutil.which("mosquitto_pub") is None:
            pytest.skip("mosquitto_pub is not installed")
        self.system, self.code, self.sent = system, code, 0
        self.key_path = system.settings.data_dir / f"{code}.key"
        added = system.run(
            "device", "add", code, "river_sluice", "--lon", "120.1715", "--lat", "30.2815", "--key-file",
            str(self.key_path),
        )  # fmt: skip
        assert added.returncode == 0, added.stderr

    def tell(self, level_m: float) -> None:
        self.sent += 1
        at = datetime.now(UTC).isoformat()
        payload = json.dumps({"v": 1, "id": f"m{self.sent}", "at": at, "level_m": level_m})
        mqtt = self.system.settings.mqtt
        subprocess.run(
            ["mosquitto_pub", "-h", mqtt.host, "-p", str(mqtt.port), "-u", self.code, "-P",
             self.key_path.read_text().strip(), "-q", "1", "-s", "-t", f"gridwarden/river_sluice/{self.code}/telemetry"],
            input=payload.encode(), check=True, timeout=20,
        )  # fmt: skip


def device_of(engineer: httpx.Client, code: str) -> dict[str, object]:
    found = engineer.get("/devices").json()
    items = found["items"] if isinstance(found, dict) else found
    return next(device for device in items if device["code"] == code)


def incidents(engineer: httpx.Client) -> list[dict[str, object]]:
    return list(engineer.get("/incidents", params={"state": "open"}).json()["items"])


def test_a_rule_is_tried_watched_and_switched_on_and_a_shelf_holds_it_back(
    system: System, engineer: httpx.Client
) -> None:
    river = River(system, "river-1")
    rule = engineer.post("/rules", json={**RULE, "reason": "boats run aground"}).json()
    assert engineer.post(f"/rules/{rule['id']}/mode", json={"mode": "monitor"}).is_success
    river.tell(0.4)
    wait_until(lambda: engineer.get(f"/rules/{rule['id']}/findings").json(), "a finding of the trial", 30)
    assert incidents(engineer) == []
    result = engineer.post("/rules/back-test", json={"rule": RULE, "days": 1}).json()
    assert result["alarms"] == 1 and result["devices"] == [{"code": "river-1", "count": 1}]

    assert engineer.post(f"/rules/{rule['id']}/mode", json={"mode": "live", "reason": "as expected"}).is_success
    device = device_of(engineer, "river-1")
    shelf = {"reason": "the gauge is being cleaned", "until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert engineer.post(f"/devices/{device['id']}/shelf", json=shelf).status_code == 201
    river.tell(0.4)
    wait_until(lambda: "river_low" in device_of(engineer, "river-1")["alarms"], "the alarm, held back", 30)  # type: ignore[operator]
    assert incidents(engineer) == []
    assert engineer.delete(f"/devices/{device['id']}/shelf").status_code == 204
    # Only absence waits for the grace after a start, and so does what the sweep tells later.
    wait_until(lambda: incidents(engineer), "the alarm, told when the shelf was taken down", 60)
    [incident] = incidents(engineer)
    assert (incident["category"]["id"], incident["severity"]) == ("rule_alarm", 2)  # type: ignore[index]
