"""`gridwarden device import-wvp`"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dashboard.platform_import import Login, Placing, import_channels, read_channels
from grid.locate import Locator
from gridwarden.session import open_session
from ingest.source import Platform, make_platform_url


def import_wvp(
    url: Annotated[str, typer.Argument(help="The gateway's address: http(s)://host:port")],
    user: Annotated[str, typer.Option(help="Log-in there.")],
    password_file: Annotated[
        Path | None, typer.Option(exists=True, help="File with its password; without it you are asked.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Register them; without it they are only listed.")] = False,
    crs: Annotated[str, typer.Option(help="Of the gateway's positions: EPSG:<n>, gcj02 or bd09.")] = "EPSG:4326",
    lon: Annotated[float | None, typer.Option(help="Longitude of cameras that it gives no position for.")] = None,
    lat: Annotated[float | None, typer.Option(help="Latitude of those.")] = None,
    outside: Annotated[bool, typer.Option("--outside", help="Allow positions in no cell.")] = False,
) -> None:
    """Register the cameras behind a GB/T 28181 gateway (WVP-PRO). Their streams' addresses are asked for when they are opened."""
    if password_file is not None:
        password = password_file.read_text("utf-8").rstrip("\r\n")
    else:
        password = typer.prompt("password", hide_input=True)
    # The gateway takes the MD5 of the password, so that is all that is kept here.
    login = Login(url.rstrip("/"), user, hashlib.md5(password.encode(), usedforsecurity=False).hexdigest())
    with open_session() as session:
        settings = session.settings
        address = make_platform_url(login.base, login.user, login.secret)
        platform = Platform(
            address, settings.camera.allowed_networks, timeout_s=max(10.0, settings.camera.open_timeout_s)
        )
        channels = list(read_channels(platform))
        placing = Placing(crs=crs, lon=lon, lat=lat, outside=outside)
        locator = Locator.load(session.connection)
        done = import_channels(
            session.connection, login, channels, placing, locator, settings, session.now, apply=apply
        )
    for one in done:
        print(f"{one.channel_id}  {one.outcome:12} {one.name}  {one.detail}".rstrip())
    counts = Counter(one.outcome for one in done)
    print(f"{len(done)} cameras: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'none'}")
    if not apply:
        print("nothing was changed; --apply registers them")
    if set(counts) - {"added", "renewed", "kept"}:
        raise typer.Exit(1)
