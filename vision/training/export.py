"""Writes a checkpoint's weights as ONNX, with the description that vision.detect reads and the weights that a later
training may begin from beside it.

Needs the extra `train`. Input `images` (1, 3, height, width), RGB 0..1, the picture letterboxed in the middle on grey
114. Output `output0` (1, 10, cells): per cell centre x, centre y, width, height in input pixels and six class scores;
doubles are not suppressed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from vision.model import LABELS, Label
from vision.training.network import build_network
from vision.training.pictures import PAD
from vision.training.train import INPUT_HEIGHT, INPUT_WIDTH

OPSET = 17


def export(checkpoint: Path, out: Path, labels: Collection[Label] = LABELS) -> int:
    """Writes `out`, its .toml and its .pt; returns the number of epochs that the weights have seen.

    `labels`: what the model is to be believed about; of a class that its data never labelled it knows nothing.
    """
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    width, height = state.get("size", (INPUT_WIDTH, INPUT_HEIGHT))
    network = build_network(1)
    network.load_state_dict(state["average"])
    network.eval()
    last: Any = network.model[-1]
    last.export, last.format = True, "onnx"
    network.fuse(verbose=False)
    blank = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        network(blank)
        torch.onnx.export(
            network,
            (blank,),
            str(out),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
        )
    out.with_suffix(".toml").write_text(describe(width, height, labels), encoding="utf-8")
    half = {key: value.half() if value.is_floating_point() else value for key, value in state["average"].items()}
    torch.save({"average": half, "size": [width, height]}, out.with_suffix(".pt"))
    return int(state["epoch"]) + 1


def describe(width: int, height: int, labels: Collection[Label]) -> str:
    """The description file of an exported network."""
    names = ", ".join(f'"{label if label in labels else ""}"' for label in LABELS)
    return (
        "# output (1, 4 + classes, cells): centre x, centre y, width, height in input pixels, class scores\n"
        f'head = "yolo"\ninput_width = {width}\ninput_height = {height}\n'
        'colour = "rgb"\nscale = 0.00392156862745098\nletterbox = "center"\n'
        f"pad = {PAD}\nmin_score = 0.05\nmax_overlap = 0.6\nclasses = [{names}]\n"
    )
