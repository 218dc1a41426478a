"""Writes a checkpoint's weights as ONNX with the description that vision.detect reads beside it.

    python -m vision.training.export CHECKPOINT OUT.onnx

Needs the extra `train`. Input `images` (1, 3, 288, 512), RGB 0..1, the picture letterboxed in the middle on grey
114. Output `output0` (1, 10, 3024): per cell centre x, centre y, width, height in input pixels and six class scores;
doubles are not suppressed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from vision.training.network import CLASSES, build_network
from vision.training.pictures import PAD
from vision.training.train import INPUT_HEIGHT, INPUT_WIDTH, say

OPSET = 17


def export(checkpoint: Path, out: Path) -> int:
    """Writes `out` and its .toml; returns the number of epochs that the weights have seen."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    network = build_network(1)
    network.load_state_dict(state["average"])
    network.eval()
    last: Any = network.model[-1]
    last.export, last.format = True, "onnx"
    network.fuse(verbose=False)
    blank = torch.zeros(1, 3, INPUT_HEIGHT, INPUT_WIDTH)
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
    out.with_suffix(".toml").write_text(describe(), encoding="utf-8")
    return int(state["epoch"]) + 1


def describe() -> str:
    """The description file of an exported network."""
    names = ", ".join(f'"{name}"' for name in CLASSES)
    return (
        "# Bundled detector: trained on rendered scenes (and photographs of garbage); weights AGPL-3.0, see README.md\n"
        "# output (1, 4 + classes, cells): centre x, centre y, width, height in input pixels, class scores\n"
        f'head = "yolo"\ninput_width = {INPUT_WIDTH}\ninput_height = {INPUT_HEIGHT}\n'
        'colour = "rgb"\nscale = 0.00392156862745098\nletterbox = "center"\n'
        f"pad = {PAD}\nmin_score = 0.05\nmax_overlap = 0.6\nclasses = [{names}]\n"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    epochs = export(args.checkpoint, args.out)
    say(f"{args.out}: weights after {epochs} epochs")


if __name__ == "__main__":
    main()
