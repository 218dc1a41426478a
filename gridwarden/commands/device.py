"""`gridwarden device …`"""

import csv
import json
import tomllib
from pathlib import Path
from typing import Annotated

import typer
from psycopg import Rollback

from devices.registry import KINDS
from devices.store import read_devices, read_state, set_device_settings
from grid.locate import Locator
from gridwarden.broker import device_login
from gridwarden.registration import NewDevice, register_device
from gridwarden.session import open_session
from ingest.address import AddressError
from vision.scene import SceneError

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    code: Annotated[str, typer.Argument(help="Its name in the topics: A-Z a-z 0-9 _ . -")],
    kind: Annotated[str, typer.Argument(help="camera, door_sensor, parking_gate, river_sluice or smoke_alarm.")],
    lon: Annotated[float, typer.Option(help="Longitude, or easting in a projected system.")],
    lat: Annotated[float, typer.Option(help="Latitude, or northing.")],
    crs: Annotated[str, typer.Option(help="What the position was measured in: EPSG:<n>, gcj02 or bd09.")] = "EPSG:4490",
    name: Annotated[str, typer.Option(help="Name that people read; default: the code.")] = "",
    settings: Annotated[str, typer.Option(help="Thresholds and windows as JSON, see docs/devices.md.")] = "{}",
    url: Annotated[str, typer.Option(help="RTSP address of a camera.")] = "",
    scene: Annotated[Path | None, typer.Option(exists=True, help="Zones of a camera (TOML).")] = None,
    heading: Annotated[float | None, typer.Option(help="Where a camera looks, degrees from north.")] = None,
    fov: Annotated[float | None, typer.Option(help="Its horizontal field of view, degrees.")] = None,
    outside: Annotated[bool, typer.Option("--outside", help="Allow a position in no cell.")] = False,
) -> None:
    """Register a device where it hangs, and print how it connects."""
    with open_session() as session:
        new = NewDevice(
            code=code,
            kind=kind,
            name=name or code,
            lon=lon,
            lat=lat,
            crs=crs,
            settings=json.loads(settings),
            url=url,
            scene=tomllib.loads(scene.read_text("utf-8")) if scene else None,
            heading_deg=heading,
            fov_deg=fov,
        )
        locator = Locator.load(session.connection)
        device = register_device(session.connection, new, locator, session.settings, session.now, outside=outside)
        user, _ = device_login(session.settings)
        mqtt = session.settings.mqtt
        key_file = session.settings.data_dir / "secrets" / "mqtt-device"
    print(
        f"registered {device.code} ({KINDS[kind].title_zh} / {KINDS[kind].title_en}) in cell {device.cell_code or 'none'}"
    )
    if kind != "camera":
        print(f"broker   {mqtt.host}:{mqtt.port}   user {user}   key in {key_file}")
        print(f"writes   gridwarden/{kind}/{code}/telemetry | event | state | reply")
        print(f"reads    gridwarden/{kind}/{code}/receipt | command")


@app.command("list")
def list_devices(kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None) -> None:
    """Devices with their state and when they were last heard."""
    with open_session() as session:
        for device in read_devices(session.connection, kind):
            state = read_state(session.connection, device.id)
            seen = f"{(session.now - state.last_seen_at).total_seconds():.0f} s ago" if state.last_seen_at else "never"
            print(f"{device.code:20} {device.kind:14} {state.status:8} {seen:>12}  {device.cell_code:16} {device.name}")


@app.command("set")
def set_settings(
    code: Annotated[str, typer.Argument()],
    settings: Annotated[str, typer.Option(help="All its thresholds and windows, as JSON.")],
) -> None:
    """Replace a device's thresholds and windows; taken up within seconds."""
    with open_session() as session:
        set_device_settings(session.connection, code, json.loads(settings), session.now)
    print(f"{code}: {settings}")


@app.command("import")
def import_devices(
    file: Annotated[
        Path, typer.Argument(exists=True, help="CSV with code,kind,name,lon,lat and, if wanted, crs,settings,url.")
    ],
    apply: Annotated[bool, typer.Option("--apply", help="Register them; without it the file is only checked.")] = False,
) -> None:
    """Register many devices, all or none, with a row-by-row report of what is wrong."""
    problems = 0
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    with open_session() as session, session.connection.transaction() as attempt:
        locator = Locator.load(session.connection)
        for number, row in enumerate(rows, start=2):  # line 1 holds the names of the columns
            try:
                with session.connection.transaction():
                    register_device(session.connection, _read_row(row), locator, session.settings, session.now)
            except (ValueError, KeyError, AddressError, SceneError) as error:
                problems += 1
                print(f"line {number}: {'no column ' if isinstance(error, KeyError) else ''}{error}")
        if problems or not apply:
            raise Rollback(attempt)
    done = "registered" if apply and not problems else "nothing was changed; good rows"
    print(f"{done}: {len(rows) - problems}, with problems: {problems}")
    if problems:
        raise typer.Exit(1)


def _read_row(row: dict[str, str]) -> NewDevice:
    return NewDevice(
        code=row["code"],
        kind=row["kind"],
        name=row.get("name") or row["code"],
        lon=float(row["lon"]),
        lat=float(row["lat"]),
        crs=row.get("crs") or "EPSG:4490",
        settings=json.loads(row.get("settings") or "{}"),
        url=row.get("url") or "",
    )
