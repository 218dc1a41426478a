"""`gridwarden bench alarm`: from a smoke alarm's publish to 50 signed-in browsers' sockets, with telemetry beside it.

Real processes: Mosquitto, PostgreSQL, ingest, web; the browsers are 50 websocket clients in one process. Each alarm is
committed before anybody sees it. The peer are pages that ask the same web process once a second. The ceiling is a bare
paho subscriber that hears the same publish, and stores nothing. All on the same alarms.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks._installation import (
    Publisher,
    describe_machine,
    environment,
    free_all_cores,
    free_port,
    installation,
)
from dashboard.users import add_user, make_login_link
from devices.model import write_instant
from devices.store import DeviceRecord, add_device
from ingest.client import find_login
from kernel.db import Database, DbRole, conninfo
from kernel.settings import Settings

BROWSERS, ALARMS, GAP_S, RATE, RIVERS = 50, 200, 0.1, 10_000, 500
_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE_S = 15.0


def measure() -> list[dict[str, Any]]:
    """Delays in ms: p50 and p99 over all alarms and browsers.

    Raises AssertionError when an alarm does not reach every browser.
    """
    with installation() as settings:
        free_all_cores(settings)
        settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": free_port()})})
        cookies_of = _prepare(settings)
        with _role(settings, "ingest"), _role(settings, "web"):
            return [_measure(settings, _sign_in(settings, cookies_of))]


def _prepare(settings: Settings) -> list[str]:
    """Devices, and one log-in link for each browser."""
    now = datetime.now(UTC)
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database, database.transaction() as connection:
        for kind, prefix, count in (("river_sluice", "R", RIVERS), ("smoke_alarm", "S", ALARMS + 1)):
            for number in range(count):
                add_device(
                    connection, DeviceRecord(code=f"{prefix}{number}", kind=kind, name="", lon=120.1, lat=30.2), now
                )
        user = add_user(connection, name="bench", roles=("operator",), scope="*", now=now)
        links = [make_login_link(connection, user, "wall", now, settings) for _ in range(BROWSERS)]
    return [link.split("#")[1] for link in links]


@contextlib.contextmanager
def _role(settings: Settings, role: str) -> Iterator[None]:
    env = environment(settings) | {"GRIDWARDEN_WEB__PORT": str(settings.web.port)}
    process = subprocess.Popen([sys.executable, "-m", "gridwarden.role", role], cwd=_ROOT, env=env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def _sign_in(settings: Settings, tokens: list[str]) -> list[str]:
    url, deadline = f"http://127.0.0.1:{settings.web.port}", time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                break
        if time.monotonic() > deadline:
            raise AssertionError("the web process did not start")
        time.sleep(0.1)
    cookies = []
    for token in tokens:
        answer = httpx.post(
            f"{url}/api/v1/login/link", json={"token": token, "seat": "wall"}, headers={"X-Seat": "wall"}
        )
        answer.raise_for_status()
        cookies.append(answer.cookies["gw_wall"])
    return cookies


def _measure(settings: Settings, cookies: list[str]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{settings.web.port}"
    browsers = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._browsers", url, *cookies],
        cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    load = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._load", str(RATE), str(RIVERS)],
        cwd=_ROOT, env=environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert browsers.stdout is not None and browsers.stdin is not None and load.stdin is not None
    arrivals: list[dict[str, Any]] = []
    try:
        if browsers.stdout.readline() != "ready\n":
            raise AssertionError("the browsers did not get their snapshots")
        lines = browsers.stdout
        reader = threading.Thread(target=lambda: arrivals.extend(json.loads(line) for line in lines), daemon=True)
        reader.start()
        bare = _listen(settings)
        _send_alarms(settings, [f"S{ALARMS}"])  # the first one pays for everything that is made once
        time.sleep(3.0)  # the load is even
        before, began = _count_messages(settings), time.monotonic()
        sent = _send_alarms(settings, [f"S{number}" for number in range(ALARMS)])
        beside = (_count_messages(settings) - before - ALARMS) / (time.monotonic() - began)
        deadline = time.monotonic() + _PATIENCE_S
        while sum(a["code"] in sent and a["way"] == "live" for a in list(arrivals)) < BROWSERS * ALARMS:
            if time.monotonic() > deadline:
                raise AssertionError("not every alarm reached every browser")
            time.sleep(0.1)
        time.sleep(1.5)  # the last poll
    finally:
        load.communicate()
        browsers.stdin.close()
        browsers.wait(20)
    delays = {
        way: [1000 * (a["at_s"] - sent[a["code"]]) for a in arrivals if a["way"] == way and a["code"] in sent]
        for way in ("live", "poll")
    }
    ceiling = [1000 * (at - sent[code]) for code, at in bare.items() if code in sent]
    return _describe(delays["live"], delays["poll"], ceiling, beside)


def _listen(settings: Settings) -> dict[str, float]:
    """A bare subscriber: when each alarm's publish was heard, by device."""
    heard: dict[str, float] = {}
    subscribed = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(*find_login(settings))

    def on_message(client: Client, userdata: object, message: MQTTMessage) -> None:
        heard.setdefault(message.topic.split("/")[2], time.monotonic())

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("gridwarden/smoke_alarm/+/event", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    if not subscribed.wait(10):
        raise AssertionError("no subscription")
    return heard


def _send_alarms(settings: Settings, codes: list[str]) -> dict[str, float]:
    """One alarm of each device, `GAP_S` apart; when each was handed to the broker's socket."""
    publisher, sent = Publisher(settings, "bench-smoke"), {}
    for code in codes:
        body = {"v": 1, "id": f"{code}-1", "at": write_instant(datetime.now(UTC)), "status": "alarm"}
        payload = json.dumps(body).encode()
        sent[code] = time.monotonic()
        publisher.send([(f"gridwarden/smoke_alarm/{code}/event", payload)])
        time.sleep(GAP_S)
    publisher.close()
    return sent


def _count_messages(settings: Settings) -> int:
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        row = connection.execute("SELECT count(*) FROM device_message").fetchone()
    assert row is not None
    return int(row[0])


def _describe(live: list[float], polled: list[float], bare: list[float], beside: float) -> dict[str, Any]:
    ours, peer, ceiling = (float(np.median(values)) for values in (live, polled, bare))
    return {
        "name": "alarm",
        "unit": "ms",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "peer_name": "pages that ask once a second",
        "ceiling": round(ceiling, 2),
        "ceiling_name": "publish to a bare paho subscriber, nothing stored",
        "ratio_peer": round(ours / peer, 4),
        "ratio_ceiling": round(ours / ceiling, 2),
        "p50_ms": round(ours, 2),
        "p99_ms": round(float(np.percentile(live, 99)), 2),
        "worst_ms": round(max(live), 2),
        "runs": 1,
        "machine": describe_machine(),
        "browsers": BROWSERS,
        "alarms": ALARMS,
        "messages_beside_per_s": round(beside),
    }
