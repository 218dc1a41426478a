"""A sluice is moved over HTTP by two people, through a real broker, and verified by read-back; and ingest dies in between."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from devices.credential import issue_key
from devices.store import read_device
from kernel.db import Database, DbRole
from simulators.fleet import DeviceSpec, Fleet, Login
from tests.flows.conftest import System
from tests.waiting import wait_until

CODE = "flow-sluice"


def sign_in(system: System, name: str) -> httpx.Client:
    added = system.run("user", "add", name, "--role", "operator")
    token = re.search(r"#(\S+)", added.stdout)
    assert token is not None, added.stderr
    client = httpx.Client(base_url=f"{system.settings.public_url}/api/v1", timeout=20)
    assert client.post("/login/link", json={"token": token[1], "seat": "wall"}).is_success
    return client


@pytest.fixture(scope="module")
def station(system: System) -> Iterator[Fleet]:
    """A registered station with its own key, reporting."""
    added = system.run("device", "add", CODE, "river_sluice", "--lon", "120.1715", "--lat", "30.2815")
    assert added.returncode == 0, added.stderr
    now = datetime.now(UTC)
    with closing(Database(system.settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        user, key = issue_key(connection, read_device(connection, CODE), now, timedelta(hours=1))
    mqtt = system.settings.mqtt
    login = Login(host=mqtt.host, port=mqtt.port, username=user, password=key)
    fleet = Fleet([DeviceSpec(code=CODE, kind="river_sluice", telemetry_s=1.0)], login, seed=7)
    fleet.start()
    try:
        wait_until(lambda: fleet.is_connected, "the station's log-in is good", 30)
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture(scope="module")
def people(system: System) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two operators."""
    lin, zhou = sign_in(system, "lin"), sign_in(system, "zhou")
    yield lin, zhou
    lin.close()
    zhou.close()


def device_id(client: httpx.Client) -> str:
    return next(str(device["id"]) for device in client.get("/devices").json() if device["code"] == CODE)


def is_ready(client: httpx.Client) -> bool:
    found = client.get(f"/devices/{device_id(client)}/commands").json()["available"]
    return all(interlock["ok"] for command in found for interlock in command["interlocks"])


def ask(client: httpx.Client, opening_m: float) -> str:
    body = {"name": "set_gate_opening", "parameters": {"opening_m": opening_m}, "reason": "防汛预降"}
    answer = client.post(f"/devices/{device_id(client)}/commands", json=body)
    assert answer.status_code == 201 and answer.json()["state"] == "requested", answer.text
    return str(answer.json()["id"])


def state(client: httpx.Client, command_id: str) -> str:
    return str(client.get(f"/commands/{command_id}").json()["state"])


def test_two_people_move_a_sluice_and_see_it_verified(
    station: Fleet, people: tuple[httpx.Client, httpx.Client]
) -> None:
    lin, zhou = people
    wait_until(lambda: is_ready(lin), "every interlock is ok", 30)
    command_id = ask(lin, 0.9)
    assert lin.post(f"/commands/{command_id}/approve").status_code == 403
    assert zhou.post(f"/commands/{command_id}/approve").status_code == 200
    wait_until(lambda: state(lin, command_id) == "verified", "the read-back shows it", 60)
    command = lin.get(f"/commands/{command_id}").json()
    seen = [event["state"] for event in command["events"]]
    assert [one for n, one in enumerate(seen) if n == 0 or seen[n - 1] != one] == [
        "requested", "approved", "sent", "acknowledged", "verified",
    ]  # fmt: skip
    assert command["requested_by"]["name"] != command["approved_by"]["name"]
    firmware = station.devices[CODE].firmware
    assert firmware is not None and firmware.executed == [command_id]
    shown = lin.get(f"/devices/{device_id(lin)}").json()["metrics"]["gate_opening_m"]["value"]
    assert shown == pytest.approx(0.9, abs=0.02)


def test_ingest_dies_between_sending_and_answer_and_nothing_is_lost_or_done_twice(
    system: System, station: Fleet, people: tuple[httpx.Client, httpx.Client]
) -> None:
    lin, zhou = people
    wait_until(lambda: is_ready(lin), "every interlock is ok", 60)
    firmware = station.devices[CODE].firmware
    assert firmware is not None
    station.lose_replies(CODE)
    command_id = ask(lin, 0.3)
    assert zhou.post(f"/commands/{command_id}/approve").status_code == 200
    wait_until(lambda: command_id in firmware.executed, "the station has the command", 30)
    assert state(lin, command_id) == "sent"
    system.kill("ingest")
    station.lose_replies(CODE, lost=False)
    wait_until(lambda: state(lin, command_id) == "verified", "it ends verified all the same", 90)
    assert firmware.executed.count(command_id) == 1


def test_the_command_line_asks_and_an_operator_approves(
    system: System, station: Fleet, people: tuple[httpx.Client, httpx.Client]
) -> None:
    lin, _ = people
    wait_until(lambda: is_ready(lin), "every interlock is ok", 60)
    asked = system.run(
        "device", "command", CODE, "set_gate_opening", "--parameters", '{"opening_m": 0.5}', "--reason", "test"
    )
    assert asked.returncode == 0 and "waits for a second person" in asked.stdout, asked.stdout + asked.stderr
    command_id = asked.stdout.split()[0]
    assert lin.post(f"/commands/{command_id}/approve").status_code == 200
    wait_until(lambda: state(lin, command_id) == "verified", "the read-back shows it", 60)
    too_far = system.run(
        "device", "command", CODE, "set_gate_opening", "--parameters", '{"opening_m": 9}', "--reason", "test"
    )
    assert too_far.returncode == 1 and "NOT OK  opening_possible" in too_far.stdout
