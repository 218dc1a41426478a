"""`gridwarden vision …`"""

import json
from pathlib import Path
from typing import Annotated

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
def train(
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder of a data set in YOLO layout, as `sim dataset` writes it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("training"),
    epochs: Annotated[int, typer.Option(min=1)] = 30,
) -> None:
    """Train a detector with ultralytics (the `train` extra; AGPL-3.0); goes on from the last checkpoint in OUT."""
    from vision.training.train import Plan
    from vision.training.train import train as run_training

    run_training(Plan(data=data, out=out, epochs=epochs))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(exists=True, help="A .pt file made by `vision train`.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write; its description goes beside it.")],
) -> None:
    """Export a checkpoint to ONNX (the `train` extra)."""
    from vision.training.export import export as run_export

    run_export(checkpoint, out)


@app.command()
def evaluate(
    data: Annotated[
        Path, typer.Argument(exists=True, help="Folder of a data set in YOLO layout, as `sim dataset` writes it.")
    ],
    model: Annotated[Path | None, typer.Option(help="ONNX model; default: the one in the settings.")] = None,
    part: Annotated[str, typer.Option(help="Folder of pictures below images/.")] = "val",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to FILE.")] = None,
) -> None:
    """Average precision per class, through the runtime's own detector."""
    from vision.training.evaluate import evaluate as run_evaluation

    text = json.dumps(run_evaluation(model or load_settings().vision.model, data, part), ensure_ascii=False, indent=2)
    print(text)
    if json_file is not None:
        json_file.write_text(text + "\n")


@app.command("add-model")
def add_model(
    source: Annotated[str, typer.Argument(help="A file or an https address of an ONNX model.")],
    sha256: Annotated[str, typer.Option(help="The file's SHA-256; anything else is refused.")],
) -> None:
    """Install a real detector (for example YOLOX with COCO weights) into the data directory."""
    from gridwarden.model_install import install_model

    path = install_model(source, sha256, load_settings())
    print(f"installed {path}\nuse it with: GRIDWARDEN_VISION__MODEL={path}")
