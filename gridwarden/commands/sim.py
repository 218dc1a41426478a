"""`gridwarden sim …`: an outside party that speaks MQTT, RTSP and HTTP, against any installation by its addresses."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from gridwarden.role import stop_on_signal

app = typer.Typer(no_args_is_help=True)

Devices = Annotated[
    list[str], typer.Option("--device", help="kind:code of a registered device; may be given several times.")
]
Host = Annotated[str, typer.Option(help="The broker's address.")]
Port = Annotated[int, typer.Option(help="The broker's port.")]
User = Annotated[str, typer.Option(help="Log-in of the gateway on which these devices hang, or of the one device.")]
KeyFile = Annotated[Path | None, typer.Option(exists=True, help="File with the log-in's key.")]


@app.command()
def fleet(
    device: Devices,
    host: Host = "127.0.0.1",
    port: Port = 18830,
    user: User = "SIM",
    key_file: KeyFile = None,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Let simulated devices report until Ctrl-C: telemetry, and events repeated until their receipts."""
    from simulators.command import run_fleet
    from simulators.fleet import DeviceSpec, Login

    specs = [DeviceSpec(code=code, kind=kind) for kind, code in _split(device)]
    login = Login(host=host, port=port, username=user, password=key_file.read_text().strip() if key_file else "")
    run_fleet(stop_on_signal(), print, specs, login, seed=seed)


@app.command()
def load(
    device: Devices,
    rate: Annotated[float, typer.Option(min=0.1, max=5000, help="Messages a second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long.")] = 10.0,
    host: Host = "127.0.0.1",
    port: Port = 18830,
    user: User = "SIM",
    key_file: KeyFile = None,
) -> None:
    """Send a bounded load and count the receipts; exit status 1 when one is missing."""
    from simulators.fleet import Login, run_load

    login = Login(host=host, port=port, username=user, password=key_file.read_text().strip() if key_file else "")
    report = run_load(_split(device), login, rate_per_s=rate, duration_s=seconds)
    print(json.dumps(dataclasses.asdict(report), indent=2))
    if report.lost:
        raise typer.Exit(1)


@app.command()
def camera(
    file: Annotated[Path | None, typer.Option(exists=True, help="A video file to play in a loop.")] = None,
    seed: Annotated[int, typer.Option(help="Without a file: the street to draw.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8554,
) -> None:
    """Serve one RTSP camera (H.264 over TCP and UDP) until Ctrl-C."""
    from simulators.command import serve_camera

    serve_camera(stop_on_signal(), print, file=file, seed=seed, host=host, port=port)


@app.command()
def scenario(
    file: Annotated[str, typer.Argument(help="A scenario (TOML), or the name of one of ours, such as demo.")],
    access: Annotated[Path, typer.Option(exists=True, help="Addresses and log-ins (JSON), see docs/simulators.md.")],
    report: Annotated[Path | None, typer.Option(help="Where to write the score (JSON).")] = None,
) -> None:
    """Play a scripted city against an installation and score it; exit status 0 only when everything was right."""
    import tempfile

    from simulators.stage import run_stage

    changed = json.loads(access.read_text("utf-8")) | {
        "scenario": file,
        "report": str(report.absolute()) if report else "",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as settled:  # 0600: it holds log-ins
        json.dump(changed, settled)
        settled.flush()
        raise typer.Exit(run_stage(Path(settled.name)))


@app.command()
def dataset(
    out: Annotated[Path, typer.Option(help="Folder to write; YOLO layout.")],
    seed: Annotated[int, typer.Option(min=0)] = 1,
    count: Annotated[int, typer.Option(min=1, help="Scenes, a tenth of them for validation.")] = 3000,
    photos: Annotated[
        Path | None, typer.Option(exists=True, help="Real photographs (YOLO layout, garbage) to add.")
    ] = None,
) -> None:
    """Write rendered street scenes with their boxes, split by scene seed."""
    from simulators.dataset import write_dataset

    write_dataset(out, seed=seed, count=count, photos=photos)


@app.command()
def footage(
    out: Annotated[Path, typer.Option(help="Folder to write: clips (H.264) and their truth (JSON).")],
    seeds: Annotated[str, typer.Option(help="Numbers of streets within the part, such as 1,2,5-7.")] = "1-3",
    conditions: Annotated[
        str, typer.Option(help="Of day, night, rain, headlights, bus, queue, restart.")
    ] = "day,night,rain,headlights,bus,queue,restart",
    part: Annotated[str, typer.Option(help="tuning or judging: streets that never meet.")] = "tuning",
    hours: Annotated[
        float | None, typer.Option(min=0.1, help="Instead: so many camera-hours of look-alikes without any event.")
    ] = None,
) -> None:
    """Render street clips with their truth: events that must be reported, look-alikes that must not."""
    from simulators.footage import Part, plan_footage, plan_quiet, read_numbers, write_clip
    from simulators.programme import Condition

    try:
        numbers, chosen = read_numbers(seeds), [Condition(name.strip()) for name in conditions.split(",")]
        which = Part(part)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    plans = plan_footage(which, numbers, chosen) if hours is None else plan_quiet(which, numbers[0], hours, chosen)
    for plan in plans:
        print(write_clip(out, plan))


def _split(devices: list[str]) -> list[tuple[str, str]]:
    pairs = [tuple(device.split(":", 1)) for device in devices]
    if any(len(pair) != 2 for pair in pairs):
        raise typer.BadParameter("a device is given as kind:code, e.g. smoke_alarm:smoke-001")
    return [(pair[0], pair[1]) for pair in pairs]
