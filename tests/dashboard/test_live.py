"""The live socket: a snapshot, then every change once and in order, whatever happens to writers, readers or database."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dashboard.users import find_user, set_roles
from kernel.change import ChangeKind, note_change
from kernel.db import Database, DbRole, conninfo
from kernel.ids import new_id
from tests.dashboard.conftest import (
    STREET_A,
    STREET_B,
    Server,
    SignIn,
    now,
    open_incident,
    put_device,
    tell_state,
    user_id_of,
)
from tests.forcing import force_state


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every five seconds happens more often, so that the tests need not wait for it."""
    monkeypatch.setattr("dashboard.hub._PING_S", 1.0)
    monkeypatch.setattr("dashboard.hub._RECHECK_S", 0.5)


@contextmanager
def watch(server: Server, client: httpx.Client, since: int | None = None, **headers: str) -> Iterator[ClientConnection]:
    seat, token = next((name[3:], value) for name, value in client.cookies.items() if name.startswith("gw_"))
    query = f"?seat={seat}" + (f"&since={since}" if since is not None else "")
    with connect(
        server.live_url + query, additional_headers={"Cookie": f"gw_{seat}={token}", **headers}, max_size=None
    ) as live:
        yield live


def hear(live: ClientConnection, kind: str, timeout_s: float = 8.0) -> dict[str, Any]:
    """The next message of that type; pings and others in between are passed over."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        message: dict[str, Any] = json.loads(live.recv(timeout=max(0.01, deadline_s - time.monotonic())))
        if message["type"] == kind:
            return message


def changed_ids(message: dict[str, Any]) -> list[str]:
    return [change["id"] for change in message["changes"]]


def close_code(live: ClientConnection, timeout_s: float = 10.0) -> int | None:
    deadline_s = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline_s:
            live.recv(timeout=deadline_s - time.monotonic())
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("the socket was not closed")


def test_a_snapshot_comes_first_and_then_what_changes(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        first = open_incident(connection)
        door = put_device(connection, "door-1")
    client = sign_in()
    with watch(server, client) as live:
        snapshot = json.loads(live.recv(timeout=8))
        assert snapshot["type"] == "snapshot"
        assert [incident["id"] for incident in snapshot["incidents"]] == [str(first)]
        assert [device["id"] for device in snapshot["devices"]] == [str(door)]
        assert snapshot["summary"]["devices"] == 1 and snapshot["summary"]["cameras"] == 0
        with database.transaction() as connection:
            second = open_incident(connection)
        delta = hear(live, "delta")
        assert delta["seq"] > snapshot["seq"] and changed_ids(delta) == [str(second)]
        assert delta["changes"][0]["data"]["state"] == "filed"
        with database.transaction() as connection:
            force_state(connection, second, "closed", now())
            note_change(connection, ChangeKind.INCIDENT, second, STREET_A + "001", now())
        assert hear(live, "delta")["changes"][0]["data"]["state"] == "closed"


def test_a_change_is_on_the_screen_soon_after_its_commit(server: Server, database: Database, sign_in: SignIn) -> None:
    with watch(server, sign_in()) as live:
        hear(live, "snapshot")
        delays_s = []
        for _ in range(5):
            with database.transaction() as connection:
                open_incident(connection)
            began_s = time.monotonic()
            hear(live, "delta")
            delays_s.append(time.monotonic() - began_s)
    assert sorted(delays_s)[2] < 0.2  # by NOTIFY; the poll alone would take up to a quarter of a second


def test_nothing_is_lost_with_writers_at_once_and_readers_that_come_and_go(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in()
    written: list[str] = []
    done = threading.Event()

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(25):
            with database.transaction() as connection:
                incident_id = open_incident(connection)
                time.sleep(rng.random() * 0.02)  # commits come in another order than inserts
            written.append(str(incident_id))

    writers = [threading.Thread(target=write, args=(n,)) for n in range(5)]

    def read(reconnect: bool, seen: set[str]) -> None:
        since, quiet_since_s = None, time.monotonic()
        while not (done.is_set() and time.monotonic() - quiet_since_s > 2.5):
            with watch(server, client, since) as live:
                for _ in range(15 if reconnect else 60):
                    message = json.loads(live.recv(timeout=8))  # a ping at least
                    since = message.get("seq", since)
                    if message["type"] in ("snapshot", "delta"):
                        quiet_since_s = time.monotonic()
                        seen.update(incident["id"] for incident in message.get("incidents", []))
                        seen.update(changed_ids(message) if message["type"] == "delta" else [])
                    elif done.is_set() and time.monotonic() - quiet_since_s > 2.5:
                        return

    seen: list[set[str]] = [set(), set(), set()]
    readers = [threading.Thread(target=read, args=(n > 0, seen[n])) for n in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join(30)
    assert len(written) == 125
    for each in seen:
        assert set(written) <= each


def test_a_snapshot_is_shared_only_while_nothing_has_changed(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in()
    for _ in range(5):
        with watch(server, client) as first:
            hear(first, "snapshot")
            with database.transaction() as connection:
                incident_id = str(open_incident(connection))
            hear(first, "delta")
            with watch(server, client) as second:  # at once: within the time that a snapshot is kept
                assert incident_id in {incident["id"] for incident in hear(second, "snapshot")["incidents"]}


def test_numbers_rise_and_each_change_is_told_once(server: Server, database: Database, sign_in: SignIn) -> None:
    with watch(server, sign_in()) as live:
        last = hear(live, "snapshot")["seq"]
        told: list[str] = []
        for _ in range(20):
            with database.transaction() as connection:
                open_incident(connection)
        while len(told) < 20:
            delta = hear(live, "delta")
            assert delta["seq"] > last
            last = delta["seq"]
            told += changed_ids(delta)
        assert len(told) == len(set(told)) == 20


def test_a_reader_that_was_away_gets_what_it_missed_and_no_snapshot(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in()
    with watch(server, client) as live:
        seq = hear(live, "snapshot")["seq"]
    with database.transaction() as connection:
        missed = open_incident(connection)
    time.sleep(0.6)
    with watch(server, client, since=seq) as live:
        message = json.loads(live.recv(timeout=8))
        assert message["type"] == "delta" and changed_ids(message) == [str(missed)]
    with watch(server, client, since=message["seq"]) as live:
        assert json.loads(live.recv(timeout=8))["type"] == "ping"


def test_a_reader_from_too_long_ago_or_another_world_gets_a_snapshot(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in()
    with database.transaction() as connection:
        for _ in range(5):
            open_incident(connection)
    with watch(server, client) as live:
        seen = hear(live, "snapshot")
        while seen["seq"] < 6:  # five incidents, and the person who was added
            seen = hear(live, "delta")
    with database.transaction() as connection:
        connection.execute("DELETE FROM change WHERE seq < 5")
    cookie = {"Cookie": f"gw_wall={client.cookies['gw_wall']}"}
    for since in ("1", "1000000", "x'1", "9" * 30):
        with connect(f"{server.live_url}?seat=wall&since={since}", additional_headers=cookie) as live:
            assert json.loads(live.recv(timeout=8))["type"] == "snapshot"
    with watch(server, client, since=4) as live:
        assert json.loads(live.recv(timeout=8))["type"] == "delta"  # what it has not seen is all still there


def test_a_street_hears_nothing_of_its_neighbour(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        other = open_incident(connection, STREET_B + "001")
        put_device(connection, "door-b", area_code=STREET_B + "001")
    client = sign_in(scope=STREET_A)
    with watch(server, client) as live:
        snapshot = hear(live, "snapshot")
        assert snapshot["incidents"] == [] and snapshot["devices"] == [] and snapshot["summary"]["devices"] == 0
        with database.transaction() as connection:
            note_change(connection, ChangeKind.INCIDENT, other, STREET_B + "001", now())
            open_incident(connection, STREET_B + "002")
            # even a change that names the wrong area shows nothing of the object itself
            note_change(connection, ChangeKind.INCIDENT, other, STREET_A + "001", now())
            own = open_incident(connection, STREET_A + "001")
        delta = hear(live, "delta")
        assert {change["id"]: change["data"] and change["data"]["id"] for change in delta["changes"]} == {
            str(other): None,
            str(own): str(own),
        }
        ping = hear(live, "ping")
        assert ping["seq"] >= delta["seq"]  # the number goes on, so that a quiet street can resume


def test_telemetry_comes_in_one_message_a_second_with_the_newest_value(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    with database.transaction() as connection:
        door = put_device(connection, "door-1")
    with watch(server, sign_in()) as live:
        hear(live, "snapshot")
        for battery in range(90, 60, -1):
            with database.transaction() as connection:
                tell_state(connection, door, battery_pct=float(battery))
        heard = []
        while not heard or heard[-1] != 61.0:
            message = hear(live, "live")
            heard.append(message["devices"][0]["metrics"]["battery_pct"]["value"])
        assert len(heard) <= 4 and message["devices"][0]["id"] == str(door)
        with pytest.raises(TimeoutError):
            hear(live, "live", timeout_s=2.5)  # what has been told is not told again


def test_positions_of_staff_are_for_those_who_watch(server: Server, database: Database, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",), STREET_A, on_duty=True)
    operator = sign_in("lin", ("operator",), STREET_A)
    with watch(server, operator) as wall, watch(server, worker) as phone:
        assert [person["name"] for person in hear(wall, "snapshot")["staff"]] == ["chen"]
        assert hear(phone, "snapshot")["staff"] == []
        here = {"lon": 120.171, "lat": 30.281, "accuracy_m": 8, "measured_at": now().isoformat()}
        assert worker.post("/api/v1/me/position", json=here).status_code == 204
        told = hear(wall, "live")["staff"]
        assert told[0]["lon"] == 120.171 and told[0]["id"] == str(user_id_of(worker))
        worker.patch("/api/v1/me", json={"on_duty": False})
        off = hear(wall, "delta")["changes"][0]["data"]
        assert off["on_duty"] is False and off["lon"] is None
        assert worker.post("/api/v1/me/position", json=here).json()["code"] == "off_duty"
        for _ in range(3):
            assert json.loads(phone.recv(timeout=8))["type"] == "ping"  # and nothing else in all that time


def test_a_task_reaches_the_person_until_the_receipt(server: Server, database: Database, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",), STREET_A, on_duty=True)
    other = sign_in("wang", ("grid_worker",), STREET_A, on_duty=True)
    push_id = new_id(now())
    with database.transaction() as connection:
        incident_id = open_incident(connection, state="dispatched", assignee_id=user_id_of(worker), offered_at=now())
        connection.execute(
            "INSERT INTO push_outbox (id, user_id, incident_id, kind, body, queued_at, next_attempt_at)"
            " VALUES (%s, %s, %s, 'offered', %s, %s, %s)",
            (push_id, user_id_of(worker), incident_id, Jsonb({}), now(), now()),
        )
    expected = {"type": "task", "incident_id": str(incident_id), "kind": "offered", "push_id": str(push_id)}
    with watch(server, worker) as live, watch(server, other) as elsewhere:
        assert hear(live, "task") == expected
        with pytest.raises(TimeoutError):
            hear(elsewhere, "task", timeout_s=1.0)
    with watch(server, worker) as live:  # it was not confirmed: told again
        assert hear(live, "task") == expected
        live.send(json.dumps({"type": "receipt", "push_id": str(push_id)}))
        deadline_s = time.monotonic() + 5
        row: Any = (None,)
        while row[0] is None and time.monotonic() < deadline_s:
            with database.transaction() as connection:
                row = connection.execute("SELECT received_at FROM push_outbox").fetchone()
        assert row[0] is not None
    with watch(server, worker) as live, pytest.raises(TimeoutError):
        hear(live, "task", timeout_s=1.0)


def test_an_offer_that_went_to_somebody_else_is_not_told(server: Server, database: Database, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",), STREET_A, on_duty=True)
    with database.transaction() as connection:
        incident_id = open_incident(connection)  # filed: the offer was taken back
        connection.execute(
            "INSERT INTO push_outbox (id, user_id, incident_id, kind, body, queued_at, next_attempt_at)"
            " VALUES (%s, %s, %s, 'offered', '{}', %s, %s)",
            (new_id(now()), user_id_of(worker), incident_id, now(), now()),
        )
    with watch(server, worker) as live, pytest.raises(TimeoutError):
        hear(live, "task", timeout_s=1.5)


def test_signing_out_closes_the_socket_at_once(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    with watch(server, client) as live:
        hear(live, "snapshot")
        client.post("/api/v1/logout")
        assert close_code(live, 3.0) == 4401


def test_a_session_taken_away_elsewhere_is_noticed(server: Server, database: Database, sign_in: SignIn) -> None:
    with watch(server, sign_in()) as live:
        hear(live, "snapshot")
        with database.transaction() as connection:
            connection.execute("DELETE FROM session")
        assert close_code(live) == 4401


def test_a_person_whose_roles_changed_must_come_back(server: Server, database: Database, sign_in: SignIn) -> None:
    with watch(server, sign_in("lin")) as live:
        hear(live, "snapshot")
        with database.transaction() as connection:
            set_roles(connection, find_user(connection, "lin"), ["grid_worker"], now())
        assert close_code(live) == 1012


def test_strangers_and_pages_of_other_sites_are_turned_away(server: Server, sign_in: SignIn) -> None:
    with connect(server.live_url) as live:
        assert close_code(live) == 4401
    with watch(server, sign_in(), Origin="https://evil.example") as live:
        assert close_code(live) == 4403
    with watch(server, sign_in("wang"), Origin=server.url) as live:
        assert hear(live, "snapshot")


def test_a_socket_that_talks_nonsense_is_closed(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    receipts = [f'{{"type": "receipt", "push_id": {push_id}}}' for push_id in ('"?"', "7", "null")]
    for said in ("{}", "[" * 3000, "x" * 10_000, "x" * 100_000, *receipts):
        with watch(server, client) as live:
            hear(live, "snapshot")
            live.send(said)
            assert close_code(live) in (1008, 1009)


def _never_reads(server: Server, client: httpx.Client) -> socket.socket:
    """A browser that opens the socket and then takes nothing."""
    raw = socket.create_connection(("127.0.0.1", server.settings.web.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(
        (
            f"GET /api/v1/live?seat=wall HTTP/1.1\r\nHost: 127.0.0.1:{server.settings.web.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Cookie: gw_wall={client.cookies['gw_wall']}\r\n\r\n"
        ).encode()
    )
    return raw


def test_a_browser_that_does_not_read_is_dropped_and_holds_nobody_up(
    server: Server, database: Database, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.listener.BYTE_LIMIT", 200_000)
    client = sign_in()
    raw = _never_reads(server, client)
    dropped = server.web.metrics.dropped
    with watch(server, client) as live:
        hear(live, "snapshot")
        deadline_s = time.monotonic() + 20
        while dropped._value.get() == 0 and time.monotonic() < deadline_s:
            with database.transaction() as connection:
                ids = [open_incident(connection, place="x" * 2000) for _ in range(100)]
            while str(ids[-1]) not in changed_ids(hear(live, "delta")):
                pass
        assert dropped._value.get() == 1
        assert server.web.metrics.sockets._value.get() == 1
        with database.transaction() as connection:
            after = open_incident(connection)
        assert changed_ids(hear(live, "delta")) == [str(after)]
    raw.close()


def test_the_wall_catches_up_by_itself_after_the_database_was_away(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    client = sign_in()
    with watch(server, client) as live:
        hear(live, "snapshot")
        owner = psycopg.connect(conninfo(server.settings, DbRole.OWNER), autocommit=True)
        with owner:
            for role in ("gw_app", "gw_worker"):
                owner.execute(f"ALTER ROLE {role} NOLOGIN")
            try:
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('gw_app', 'gw_worker')"
                )
                assert hear(live, "degraded", 20)["since"] is not None
                assert hear(live, "ping")["degraded_since"] is not None  # the socket itself stays
                answer = client.get("/api/v1/devices")
                assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            finally:
                for role in ("gw_app", "gw_worker"):
                    owner.execute(f"ALTER ROLE {role} LOGIN")
        assert hear(live, "degraded", 20)["since"] is None
        missed = _open_when_back(database)
        assert str(missed) in changed_ids(hear(live, "delta", 20))


def _open_when_back(database: Database) -> UUID:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            with database.transaction() as connection:
                return open_incident(connection)
        except psycopg.Error:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
