"""The demo's installation: settings, grid, devices and people, by the same functions as the ordinary commands."""

import json
import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.registration import NewDevice, register_device
from dashboard.session import Seat
from dashboard.users import add_user, make_login_link
from devices.credential import issue_key
from dispatch.calendar_table import add_plain_years
from grid.importing import import_file
from grid.locate import Locator
from grid.model import Level
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings, load_settings

# What the demo changes, all of it ordinary settings: limits short enough to watch, cameras on this machine allowed.
ACCEPT = "GRIDWARDEN_DISPATCH__ACCEPT_TIMEOUT_S"
SHORTENED = {
    ACCEPT: "12",
    "GRIDWARDEN_DISPATCH__CHECK_TIMEOUT_S": "30",
    "GRIDWARDEN_INGEST__RESTART_GRACE_S": "5",
    "GRIDWARDEN_CAMERA__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
    "GRIDWARDEN_VISION__LOOK_S": "3",
    "GRIDWARDEN_WEB__LINK_MINUTES": "240",
}


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def make_environment(
    folder: Path, web_host: str, web_port: int, tls: tuple[Path, Path] | None, *, by_hand: bool
) -> dict[str, str]:
    """The settings of this demo as environment variables, which every child inherits. `by_hand`: a person plays along,
    who gets longer to accept a task than the simulated staff."""
    changed = {
        "GRIDWARDEN_DATA_DIR": str(folder / "data"),
        "GRIDWARDEN_MQTT__PORT": str(free_port()),
        "GRIDWARDEN_WEB__HOST": web_host,
        "GRIDWARDEN_WEB__PORT": str(web_port or free_port()),
        "GRIDWARDEN_LOG__LEVEL": os.environ.get("GRIDWARDEN_LOG__LEVEL", "warning"),
        **{key: os.environ.get(key, value) for key, value in SHORTENED.items()},
    }
    if by_hand and ACCEPT not in os.environ:
        changed[ACCEPT] = "60"
    if tls is not None:
        changed["GRIDWARDEN_WEB__TLS_CERT"], changed["GRIDWARDEN_WEB__TLS_KEY"] = map(str, tls)
        changed["GRIDWARDEN_WEB__PUBLIC_URL"] = f"https://{web_host}:{changed['GRIDWARDEN_WEB__PORT']}"
    return changed


def load_demo_settings(changed: Mapping[str, str]) -> Settings:
    """Set the variables for this process and its children, and read the settings."""
    os.environ.update(changed)
    return load_settings()


def empty_folder(folder: Path) -> None:
    """A demo begins anew each time: yesterday's city is not today's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)


# Whoever looks at the demo: at the wall an operator who is an engineer too, and on the phone the worker of the plan who is
# played by hand.
VISITOR = {"name": "operator", "display_name": "值班员", "roles": ["operator", "engineer"], "scope": "*"}
GATEWAY = "SIM"
LEVELS = ("district", "street", "community", "grid", "cell", "feature")


def import_district(settings: Settings, folder: Path) -> int:
    """`gridwarden grid import` for each of the district's files; how many cells."""
    now = Clock.of(settings.clock).now()
    with closing(Database(settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        for level in LEVELS:
            import_file(
                connection, folder / f"{level}.geojson", level=Level(level), crs="EPSG:4490", repair=False, now=now
            )
        add_plain_years(connection, now, "simulated: plain weeks, no holidays")
        return len(Locator.load(connection).codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """What the simulation is told. `people`: one-time tokens of everybody in it, [{name, tokens: {seat: token}}];
    `visitor`: those of whoever looks, who plays an operator (and engineer) and a worker, `wall` and `phone`, and `demo_wall`,
    `demo_phone` for the page with both; `gateway`: user name and password of the gateway that all simulated devices hang on."""

    people: list[dict[str, Any]]
    visitor: dict[str, str]
    gateway: dict[str, str]


def register_plan(settings: Settings, plan: Mapping[str, Any]) -> Registered:
    """Devices, cameras and people of the city's plan, and the gateway `SIM` with every device that speaks MQTT."""
    now = Clock.of(settings.clock).now()
    with closing(Database(settings, DbRole.WORKER)) as database, database.transaction("*") as connection:
        locator = Locator.load(connection)
        first = plan["devices"][0]
        place = {name: first[name] for name in ("lon", "lat", "source_crs") if name in first}
        gateway = _new_device({"code": GATEWAY, "kind": "gateway", "name": "模拟网关", **place})
        user, key = issue_key(connection, register_device(connection, gateway, locator, settings, now), now)
        for entry in plan["devices"]:
            register_device(connection, _new_device({**entry, "parent": GATEWAY}), locator, settings, now)
        for entry in plan["cameras"]:
            register_device(connection, _new_device(entry), locator, settings, now)
        ids = {}
        for entry in (*plan["people"], VISITOR):
            ids[entry["name"]] = add_user(
                connection,
                name=entry["name"],
                display_name=entry.get("display_name", ""),
                roles=entry["roles"],
                scope=entry["scope"],
                responsibility_grid_code=entry.get("responsibility_grid_code"),
                now=now,
            )

        def token(name: str, seat: Seat) -> str:
            return make_login_link(connection, ids[name], seat, now, settings).rpartition("#")[2]

        seats = {e["name"]: Seat.PHONE if "grid_worker" in e["roles"] else Seat.WALL for e in plan["people"]}
        worker = next(entry["name"] for entry in plan["people"] if entry["by_hand"])
        visitor = {"wall": token("operator", Seat.WALL), "phone": token(worker, Seat.PHONE)}
        visitor |= {"demo_wall": token("operator", Seat.WALL), "demo_phone": token(worker, Seat.PHONE)}
        simulated = [{"name": name, "tokens": {seat.value: token(name, seat)}} for name, seat in seats.items()]
        return Registered(people=simulated, visitor=visitor, gateway={"username": user, "password": key})


def _new_device(entry: Mapping[str, Any]) -> NewDevice:
    return NewDevice(
        code=entry["code"],
        kind=entry["kind"],
        name=entry["name"],
        lon=entry["lon"],
        lat=entry["lat"],
        crs=entry.get("source_crs", "EPSG:4490"),
        settings=entry.get("settings", {}),
        parent=entry.get("parent", ""),
        url=entry.get("url", ""),
        scene=entry.get("scene"),
        heading_deg=entry.get("heading_deg"),
        fov_deg=entry.get("fov_deg"),
        range_m=entry.get("range_m"),
    )


def write_private(path: Path, value: object) -> None:
    """JSON that only we may read: it holds log-in tokens."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(value, ensure_ascii=False))
