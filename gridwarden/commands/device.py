"""`gridwarden device …`"""

import csv
import json
import os
import tomllib
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dashboard.device_check import check_device
from dashboard.registration import NewDevice, change_device, register_device
from dashboard.registration import import_devices as import_list
from devices.credential import issue_key, revoke_key
from devices.importing import find_file_kind, read_list, write_template
from devices.label import Label, draw_sheet
from devices.model import Device
from devices.registry import KINDS
from devices.store import read_device, read_devices, read_state, set_device_settings
from grid.locate import Locator
from gridwarden.broker import wait_for_access
from gridwarden.commands import dead_letter, device_certify, device_command, device_platform, device_way
from gridwarden.session import Session, open_session
from kernel.audit import write_audit
from kernel.settings import load_settings

app = typer.Typer(no_args_is_help=True)
_ACTOR = "command line"
Code = Annotated[str, typer.Argument(help="The device's code.")]
KeyFile = Annotated[Path | None, typer.Option(help="Write the key into this file, readable by you alone.")]
Overlap = Annotated[float, typer.Option(min=0, max=24 * 90, help="How long earlier keys go on.")]


class BrokerKind(StrEnum):
    """Brokers that log-ins and rights can be written for."""

    MOSQUITTO = "mosquitto"
    EMQX = "emqx"


@app.command()
def add(
    code: Annotated[str, typer.Argument(help="Its name in the topics: A-Z a-z 0-9 _ . -")],
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KINDS)}.")],
    lon: Annotated[float, typer.Option(help="Longitude, or easting in a projected system.")],
    lat: Annotated[float, typer.Option(help="Latitude, or northing.")],
    crs: Annotated[str, typer.Option(help="What the position was measured in: EPSG:<n>, gcj02 or bd09.")] = "EPSG:4490",
    name: Annotated[str, typer.Option(help="Name that people read; default: the code.")] = "",
    parent: Annotated[str, typer.Option(help="Code of the gateway it hangs on; it then needs no key of its own.")] = "",
    settings: Annotated[str, typer.Option(help="Thresholds and windows as JSON, see docs/devices.md.")] = "{}",
    url: Annotated[str, typer.Option(help="RTSP address of a camera.")] = "",
    scene: Annotated[Path | None, typer.Option(exists=True, help="Zones of a camera (TOML).")] = None,
    heading: Annotated[float | None, typer.Option(help="Where a camera looks, degrees from north.")] = None,
    fov: Annotated[float | None, typer.Option(help="Its horizontal field of view, degrees.")] = None,
    outside: Annotated[bool, typer.Option("--outside", help="Allow a position in no cell.")] = False,
    key_file: KeyFile = None,
) -> None:
    """Register a device where it hangs, and print how it connects. Its key is shown this once."""
    with open_session() as session:
        new = NewDevice(
            code=code,
            kind=kind,
            name=name or code,
            lon=lon,
            lat=lat,
            crs=crs,
            settings=json.loads(settings),
            parent=parent,
            url=url,
            scene=tomllib.loads(scene.read_text("utf-8")) if scene else None,
            heading_deg=heading,
            fov_deg=fov,
        )
        locator = Locator.load(session.connection)
        device = register_device(session.connection, new, locator, session.settings, session.now, outside=outside)
        login = None if kind == "camera" or parent else _issue(session, device, timedelta(0))
    print(
        f"registered {device.code} ({KINDS[kind].title_zh} / {KINDS[kind].title_en}) in cell {device.cell_code or 'none'}"
    )
    if kind == "camera":
        return
    mqtt = session.settings.mqtt
    print(f"broker   {mqtt.host}:{mqtt.port}   {'log-in of the gateway ' + parent if login is None else ''}")
    if login is not None:
        _tell_key(*login, key_file)
    wait_for_access(session.settings, login[0] if login else parent, "" if login else code)
    print(f"writes   gridwarden/{kind}/{code}/telemetry | event | state | reply")
    print(f"reads    gridwarden/{kind}/{code}/receipt | command")


def _issue(session: Session, device: Device, overlap: timedelta) -> tuple[str, str]:
    user, key = issue_key(session.connection, device, session.now, overlap)
    detail = {"user": user, "overlap_hours": overlap / timedelta(hours=1)}
    write_audit(session.connection, session.now, actor=_ACTOR, action="key_issued", subject=device.code, detail=detail)
    return user, key


def _tell_key(user: str, key: str, key_file: Path | None) -> None:
    if key_file is None:
        print(f"log-in   user {user}   key {key}   (shown this once)")
        return
    _write_private(key_file, key + "\n")
    print(f"log-in   user {user}   key in {key_file}")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


@app.command("list")
def list_devices(
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    status: Annotated[str | None, typer.Option(help="Only ok, alarm, fault, offline or unknown.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only what hangs on this gateway.")] = None,
    text: Annotated[str, typer.Option("--q", help="Only with this in code or name.")] = "",
) -> None:
    """Devices with their state and when they were last heard."""
    with open_session() as session:
        parent_id = read_device(session.connection, parent).id if parent else None
        for device in read_devices(session.connection, kind):
            state = read_state(session.connection, device.id)
            if (parent_id and device.parent_id != parent_id) or (status and state.status != status):
                continue
            if text.lower() not in f"{device.code} {device.name}".lower():
                continue
            seen = f"{(session.now - state.last_seen_at).total_seconds():.0f} s ago" if state.last_seen_at else "never"
            shown = state.status if device.enabled else "off"
            print(f"{device.code:20} {device.kind:14} {shown:8} {seen:>12}  {device.cell_code:16} {device.name}")


@app.command("set")
def set_settings(
    code: Code,
    settings: Annotated[str, typer.Option(help="All its thresholds and windows, as JSON.")],
) -> None:
    """Replace a device's thresholds and windows; taken up within seconds."""
    with open_session() as session:
        set_device_settings(session.connection, code, json.loads(settings), session.now)
        write_audit(session.connection, session.now, actor=_ACTOR, action="device_changed", subject=code,
                    detail={"settings": json.loads(settings)})  # fmt: skip
    print(f"{code}: {settings}")


@app.command("change")
def change(
    code: Code,
    changes: Annotated[str, typer.Option(help='JSON: {"name": …, "parent": …, "enabled": …, "lon": …, "lat": …, …}')],
    outside: Annotated[bool, typer.Option("--outside", help="Allow a position in no cell.")] = False,
) -> None:
    """Change what the register says about a device."""
    with open_session() as session:
        locator = Locator.load(session.connection)
        device = read_device(session.connection, code)
        change_device(session.connection, device, json.loads(changes), locator, session.now, outside=outside)
    print(f"{code}: {changes}")


@app.command("import")
def import_devices(
    file: Annotated[Path | None, typer.Argument(exists=True, help="CSV, Excel (.xlsx) or GeoJSON.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Register them; without it the file is only checked.")] = False,
    crs: Annotated[str, typer.Option(help="Of positions that don't say theirs: EPSG:<n>, gcj02 or bd09.")] = "",
    keys: Annotated[Path | None, typer.Option(help="With --apply: issue keys, and write them here (CSV).")] = None,
    template: Annotated[Path | None, typer.Option(help="Write an empty list (.csv or .xlsx) here and leave.")] = None,
) -> None:
    """Register many devices, all or none, with a row-by-row report of what is wrong."""
    if template is not None:
        template.write_bytes(write_template(find_file_kind(template.name)))
        print(f"an empty list: {template}")
        return
    if file is None:
        raise typer.BadParameter("which file?")
    listed = read_list(file.read_bytes(), find_file_kind(file.name), crs=crs)
    issued: list[tuple[str, str, str]] = []
    with open_session() as session:
        locator = Locator.load(session.connection)
        result = import_list(session.connection, listed, locator, session.settings, session.now, apply=apply)
        if result.applied and keys is not None:
            for row in result.rows:
                device = read_device(session.connection, row.code)
                if device.kind != "camera" and device.parent_id is None:
                    issued.append((row.code, *_issue(session, device, timedelta(0))))
            _write_keys(keys, issued)  # before the commit: a key that could not be written was never issued
    for row in result.rows:
        for problem in row.problems:
            print(f"line {row.line} {row.code}: {problem.field + ': ' if problem.field else ''}{problem.detail}")
    if result.unknown_headings:
        print(f"headings that nobody knows: {', '.join(result.unknown_headings)}")
    done = "registered" if result.applied else "nothing was changed; good rows"
    print(f"{done}: {len(result.rows) - result.bad}, with problems: {result.bad}")
    if issued:
        print(f"{len(issued)} keys in {keys}: hand them out and delete the file")
    if result.bad:
        raise typer.Exit(1)


def _write_keys(path: Path, issued: list[tuple[str, str, str]]) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="") as file:
        csv.writer(file).writerows([("code", "user", "key"), *issued])


@app.command("rotate-key")
def rotate_key(code: Code, overlap_hours: Overlap = 24.0, key_file: KeyFile = None) -> None:
    """Issue a device's (or gateway's) next key; the earlier ones end after the overlap."""
    with open_session() as session:
        device = read_device(session.connection, code)
        user, key = _issue(session, device, timedelta(hours=overlap_hours))
    _tell_key(user, key, key_file)
    wait_for_access(session.settings, user)
    print(f"earlier keys end in {overlap_hours:g} h")


@app.command("revoke-key")
def end_key(code: Code, number: Annotated[int, typer.Argument(help="Which key: 1 is the first.")]) -> None:
    """End a key at once; the embedded broker is told within seconds."""
    with open_session() as session:
        device = read_device(session.connection, code)
        ended = revoke_key(session.connection, device, number, session.now)
        write_audit(
            session.connection,
            session.now,
            actor=_ACTOR,
            action="key_revoked",
            subject=code,
            detail={"user": ended.username},
        )
    print(f"revoked {ended.username}")


@app.command()
def check(code: Code) -> None:
    """What is missing for a device that does not appear; exit status 1 when something is."""
    with open_session() as session:
        items = check_device(session.connection, code, session.settings.mqtt, session.now)
        chinese = session.settings.city.language == "zh-CN"
    for item in items:
        mark = {True: "✓", False: "✗", None: "·"}[item.ok]
        print(f"{mark} {item.check:10} {item.text_zh if chinese else item.text_en}")
        if item.mend_en:
            print(f"{'':13}→ {item.mend_zh if chinese else item.mend_en}")
    if any(item.ok is False for item in items):
        raise typer.Exit(1)


@app.command()
def labels(
    out: Annotated[Path, typer.Option(help="Where to write the sheet (HTML; print it on A4).")],
    codes: Annotated[list[str] | None, typer.Argument(help="Which devices; default: all.")] = None,
) -> None:
    """A sheet of labels with QR codes, 21 on each A4 page."""
    with open_session() as session:
        found = [device for device in read_devices(session.connection) if not codes or device.code in codes]
        made = [
            Label(code=device.code, name=device.name, kind=KINDS[device.kind].title_zh, cell_code=device.cell_code,
                  url=f"{session.settings.public_url}/device/{device.code}")
            for device in found
        ]  # fmt: skip
        out.write_text(draw_sheet(made, session.settings.city.name), "utf-8")
    print(f"{len(made)} labels in {out}")


@app.command()
def access(
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    broker: Annotated[BrokerKind, typer.Option("--for", help="Which broker.")] = BrokerKind.MOSQUITTO,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and write them anew whenever something changes.")
    ] = False,
    after: Annotated[str, typer.Option(help="Shell command to run after a change, e.g. to reload the broker.")] = "",
) -> None:
    """Write log-ins and rights for a broker of your own: Mosquitto's files, or EMQX's settings (which ask the database)."""
    from gridwarden.access import export_emqx, export_mosquitto
    from gridwarden.role import stop_on_signal

    if broker is BrokerKind.EMQX:
        written = export_emqx(load_settings(), out)
        print("\n".join(f"wrote {path}" for path in written))
        return
    settings = load_settings()
    export_mosquitto(settings, out, after=after, stop=stop_on_signal() if watch else None, say=print)


app.command("certify")(device_certify.certify)
app.command("command")(device_command.ask)
app.command("dead-letters")(dead_letter.browse)
app.command("bind-station")(device_way.bind_station)
app.command("bind-number")(device_way.bind_number)
app.command("use-mapping")(device_way.use_mapping_file)
app.command("import-wvp")(device_platform.import_wvp)
