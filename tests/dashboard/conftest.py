"""A real web process in a thread, people who sign in, and things for them to see."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import shapely
from psycopg.types.json import Jsonb

from dashboard.context import Web
from dashboard.run import make_server
from dashboard.users import add_user, make_login_link
from devices.store import DeviceRecord, add_device
from grid.model import GridCell
from grid.store import write_cells
from kernel.change import ChangeKind, note_change
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.settings import Settings
from tests.conftest import free_port

PASSWORD = "correct horse battery"
STREET_A, STREET_B = "330105012", "330105013"


def now() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


@dataclass
class Server:
    """A running web process."""

    settings: Settings
    url: str
    web: Web
    stop: threading.Event
    thread: threading.Thread
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, seat: str = "wall", **headers: str) -> httpx.Client:
        """Somebody who is not signed in."""
        client = httpx.Client(base_url=self.url, headers={"X-Seat": seat, **headers}, timeout=20)
        self.clients.append(client)
        return client

    @property
    def live_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/api/v1/live"


@contextlib.contextmanager
def serve(settings: Settings) -> Iterator[Server]:
    """Run the web role on a free port."""
    port = free_port()
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": port})})
    stop = threading.Event()
    server = make_server(settings, stop)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 15
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline_s, "the web process did not start"
        time.sleep(0.01)
    running = Server(settings, f"http://127.0.0.1:{port}", server.config.app.state.web, stop, thread)
    try:
        yield running
    finally:
        for client in running.clients:
            client.close()
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "the web process did not leave within ten seconds"


@pytest.fixture
def dist_dir(tmp_path: Path) -> Path:
    """Front ends as a build would leave them, very small."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    for name in ("index", "wall", "phone"):
        (folder / f"{name}.html").write_text(f"<!doctype html><title>{name}</title>")
    (folder / "sw.js").write_text("// service worker\n")
    (folder / "phone.webmanifest").write_text("{}")
    (folder / "assets" / "wall-1234.js").write_text("export const words = 'network';\n" * 200)
    (folder / "secret.pem").write_text("not for anybody")
    return folder


@pytest.fixture
def web_settings(settings: Settings, tmp_path: Path, dist_dir: Path) -> Settings:
    """Settings whose evidence and front ends lie in this test's folder."""
    return settings.model_copy(
        update={
            "evidence": settings.evidence.model_copy(
                update={"dir": str(tmp_path / "evidence"), "max_upload_bytes": 400_000, "max_pixels": 4_000_000}
            ),
            "web": settings.web.model_copy(update={"dist_dir": dist_dir}),
        }
    )


@pytest.fixture
def server(web_settings: Settings) -> Iterator[Server]:
    """A running web process."""
    with serve(web_settings) as running:
        yield running


SignIn = Callable[..., httpx.Client]


@pytest.fixture
def sign_in(server: Server, database: Database) -> SignIn:
    """`sign_in(name, roles, scope)`: a person is added and signs in by a one-time link; a client with their cookie."""

    def enter(name: str = "lin", roles: tuple[str, ...] = ("operator",), scope: str = "*", **more: Any) -> httpx.Client:
        seat = "phone" if roles == ("grid_worker",) else "wall"
        with database.transaction() as connection:
            user_id = add_user(connection, name=name, roles=roles, scope=scope, now=now(), **more)
            link = make_login_link(connection, user_id, seat, now(), server.settings)
        client = server.client(seat)
        answer = client.post("/api/v1/login/link", json={"token": link.split("#")[1], "seat": seat})
        assert answer.status_code == 200, answer.text
        return client

    return enter


def user_id_of(client: httpx.Client) -> UUID:
    """Who a client is."""
    return UUID(client.get("/api/v1/me").json()["id"])


def open_incident(connection: Connection, area_code: str = STREET_A + "001", **more: Any) -> UUID:
    """A filed incident in that community, with its change noted."""
    incident_id = new_id(now())
    row = {
        "id": incident_id,
        "number": str(incident_id),
        "category": "exposed_garbage",
        "severity": 3,
        "state": "filed",
        "dedup_key": str(incident_id),
        "cell_code": area_code + "001",
        "area_code": area_code,
        "lon": 120.17,
        "lat": 30.28,
        "opened_at": now(),
        "filed_at": now(),
        "limit_from": now(),
        "due_at": now() + timedelta(hours=4),
        **more,
    }
    columns = ", ".join(row)
    connection.execute(
        f"INSERT INTO incident ({columns}) VALUES ({', '.join(f'%({c})s' for c in row)})",  # type: ignore[arg-type]
        row,
    )
    note_change(connection, ChangeKind.INCIDENT, incident_id, area_code, now())
    return incident_id


def put_device(connection: Connection, code: str, kind: str = "door_sensor", area_code: str = STREET_A + "001") -> UUID:
    """A registered device."""
    record = DeviceRecord(
        code=code,
        kind=kind,
        name=f"门磁 {code}",
        lon=120.17,
        lat=30.28,
        cell_code=area_code + "001",
        area_code=area_code,
    )
    return add_device(connection, record, now()).id


def tell_state(connection: Connection, device_id: UUID, **metrics: float) -> None:
    """The device measured this."""
    at = now()
    values = {name: {"value": value, "at": at.isoformat()} for name, value in metrics.items()}
    connection.execute(
        "UPDATE device_state SET metrics = metrics || %s, status = 'ok', last_seen_at = %s, updated_at = %s"
        " WHERE device_id = %s",
        (Jsonb(values), at, at, device_id),
    )


@pytest.fixture
def cells(database: Database) -> None:
    """Two cells side by side: 120.165 to 120.175 E in street A, from there to 120.185 E in street B."""
    with database.transaction() as connection:
        write_cells(
            connection,
            [
                GridCell(
                    id=new_id(now()),
                    code=street + "001001",
                    responsibility_grid_code=street + "001",
                    lon=west + 0.005,
                    lat=30.28,
                    geom_wkb=shapely.to_wkb(shapely.box(west, 30.27, west + 0.01, 30.29)),
                    source_crs="EPSG:4490",
                    imported_at=now(),
                )
                for street, west in ((STREET_A, 120.165), (STREET_B, 120.175))
            ],
        )
