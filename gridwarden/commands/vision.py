"""`gridwarden vision …`"""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import numpy as np
import typer

from kernel.settings import load_settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def run(
    source: Annotated[str, typer.Argument(help="A video file or an RTSP address.")],
    scene: Annotated[Path, typer.Option(exists=True, help="The camera's zones (TOML).")],
    model: Annotated[Path | None, typer.Option(help="ONNX model; default: the one in the settings.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a summary with people counts (JSON).")] = None,
    snapshots: Annotated[Path | None, typer.Option(help="Folder for the findings' pictures.")] = None,
    fps: Annotated[float | None, typer.Option(help="True frame rate of a file whose container says otherwise.")] = None,
) -> None:
    """Run one file or stream through the real pipeline; findings are JSON lines on standard output."""
    from vision.offline import run_file

    run_file(source, scene, settings=load_settings(), model=model, report=report, snapshot_dir=snapshots, fps=fps)


@app.command()
def view(
    picture: Annotated[Path, typer.Argument(exists=True, help="A picture (JPEG or PNG) that a camera took there.")],
) -> None:
    """Print the view in a picture, as a preset of a moving camera's scene holds it."""
    import cv2

    from vision.health import take_view

    image = cv2.imread(str(picture))
    if image is None:
        raise typer.BadParameter(f"{picture}: not a picture")
    print(take_view(np.asarray(image, np.uint8)))


_Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class", metavar="NAME=LABEL", help="What a class of the data set is called here; NAME= leaves it out."
    ),
]


def _read_classes(classes: list[str] | None) -> dict[str, str]:
    for text in classes or []:
        if "=" not in text:
            raise typer.BadParameter(f"{text!r}: write NAME=LABEL", param_hint="--class")
    return dict(text.split("=", 1) for text in classes or [])


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(exists=True, help="Folders of data sets in YOLO layout.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("training"),
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    minutes: Annotated[float | None, typer.Option(help="End after that long at the latest.")] = None,
    start: Annotated[str, typer.Option(help="Weights to begin from (.pt): a file, or `bundled`; default: none.")] = "",
    teacher: Annotated[
        Path | None, typer.Option(exists=True, help="ONNX detector that labels what a data set has no labels for.")
    ] = None,
    size: Annotated[tuple[int, int], typer.Option(help="Width and height of the input, multiples of 32.")] = (512, 288),
    learning_rate: Annotated[float, typer.Option(min=1e-6)] = 1.5e-3,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    classes: _Classes = None,
) -> None:
    """Train a detector with ultralytics (the `train` extra; AGPL-3.0); goes on from the last checkpoint in OUT."""
    from vision.training.dataset import read_dataset
    from vision.training.teacher import make_teacher

    sets = tuple(read_dataset(folder, _read_classes(classes)) for folder in data)
    taught = make_teacher(teacher) if teacher is not None else None
    try:
        from vision.training.train import Plan
        from vision.training.train import train as run_training
    except ImportError as error:
        raise typer.BadParameter(
            f"training needs the extra `train`: pip install '.[train]' ({error.name} is missing)"
        ) from None
    bundled = load_settings().vision.model.parent / "bundled.pt"
    run_training(
        Plan(
            data=sets,
            out=out,
            epochs=epochs,
            minutes=minutes,
            start=(bundled if start == "bundled" else Path(start)) if start else None,
            teacher=taught,
            width=size[0],
            height=size[1],
            learning_rate=learning_rate,
            batch=batch,
            threads=threads,
        )
    )


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(exists=True, help="A .pt file made by `vision train`.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write; description and weights go beside it.")],
    label: Annotated[
        list[str] | None, typer.Option(help="What it is to be believed about; default: all it has an output for.")
    ] = None,
) -> None:
    """Export a checkpoint to ONNX (the `train` extra)."""
    from vision.model import LABELS, Label
    from vision.training.export import export as run_export

    wanted = [Label(name) for name in label] if label else LABELS
    print(f"{out}: weights after {run_export(checkpoint, out, wanted)} epochs")


@app.command()
def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            exists=True, help="A data set in YOLO layout (`sim dataset`), or clips with truth (`sim footage`)."
        ),
    ],
    model: Annotated[Path | None, typer.Option(help="ONNX model; default: the one in the settings.")] = None,
    part: Annotated[str, typer.Option(help="Folder of pictures below images/.")] = "val",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to FILE.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Footage: take what the same model and code made of a clip before.")
    ] = False,
    classes: _Classes = None,
) -> None:
    """Judge a detector on a data set (average precision per class), or the whole pipeline on footage (events)."""
    from vision.evaluation.truth import find_truths

    if find_truths(data):
        from vision.evaluation.footage import evaluate_footage

        report = evaluate_footage(data, settings=load_settings(), model=model, resume=resume)
        if json_file is not None:
            json_file.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
        return
    from vision.training.dataset import read_dataset
    from vision.training.evaluate import evaluate as run_evaluation
    from vision.training.evaluate import render

    pictures = read_dataset(data, _read_classes(classes))
    figures = run_evaluation(model or load_settings().vision.model, pictures, part)
    print(render(figures))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")


@app.command("add-model")
def add_model(
    source: Annotated[str, typer.Argument(help="A file or an https address of an ONNX model.")],
    sha256: Annotated[str, typer.Option(help="The file's SHA-256; anything else is refused.")],
) -> None:
    """Install a real detector (for example YOLOX with COCO weights) into the data directory."""
    from gridwarden.model_install import install_model

    path = install_model(source, sha256, load_settings())
    print(f"installed {path}\nuse it with: GRIDWARDEN_VISION__MODEL={path}")


@app.command()
def judged(
    out: Annotated[Path, typer.Option(help="Folder for the data set; must be empty or not there.")],
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only findings from that day on.")
    ] = None,
    unmasked_because: Annotated[
        str, typer.Option(metavar="REASON", help="Leave faces and plates visible, for this reason; audited.")
    ] = "",
) -> None:
    """Write what operators judged as a data set: findings with their boxes, false alarms as background."""
    from gridwarden.session import open_session
    from vision.judged import write_judged

    with open_session() as session:
        if since is not None:
            since = since.replace(tzinfo=ZoneInfo(session.settings.city.timezone))
        try:
            summary = write_judged(
                session.connection,
                session.settings.originals_dir,
                out,
                now=session.now,
                since=since,
                unmasked_because=unmasked_because,
            )
        except FileExistsError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from None
    print(json.dumps(asdict(summary), indent=1))


@app.command()
def hold(
    number: Annotated[str, typer.Argument(help="The incident's number, e.g. 20261120-000012.")],
    reason: Annotated[str, typer.Option(help="Why: an appeal, a lawsuit.")] = "",
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day; without: until lifted.")
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End the hold.")] = False,
) -> None:
    """Keep all pictures and clips of an incident, whatever their age; audited."""
    from gridwarden.session import open_session
    from vision.hold import HoldError, lift_hold, place_hold

    with open_session() as session:
        ends_at = until.replace(tzinfo=ZoneInfo(session.settings.city.timezone)) + timedelta(days=1) if until else None
        try:
            if lift:
                lift_hold(session.connection, number, session.now)
            else:
                place_hold(session.connection, number, reason, ends_at, session.now)
        except HoldError as error:
            raise typer.BadParameter(str(error)) from None
    print(f"{number}: {'no longer held' if lift else 'held'}")
