"""`gridwarden sim …`: an outside party that speaks MQTT, RTSP and HTTP."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def dataset(
    out: Annotated[Path, typer.Option(help="Folder to write; YOLO layout.")],
    seed: Annotated[int, typer.Option(min=0)] = 1,
    count: Annotated[int, typer.Option(min=1, help="Training scenes; validation scenes come on top.")] = 3000,
    photos: Annotated[
        Path | None, typer.Option(exists=True, help="Real photographs (YOLO layout, garbage) to add.")
    ] = None,
) -> None:
    """Write rendered street scenes with their boxes, split by scene seed."""
    from simulators.dataset import write_dataset

    write_dataset(out, seed=seed, count=count, photos=photos)
