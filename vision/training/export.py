"""Writes a checkpoint's weights as ONNX with the description that vision.detect reads beside it.

    python -m vision.training.export CHECKPOINT OUT.onnx [--head yolo|yolo26-e2e]

Needs the extra `train`. Input `images` (1, 3, 288, 512), RGB 0..1, the picture letterboxed in the middle on grey
114. Output of head `yolo`: (1, 10, 3024), per cell centre x, centre y, width, height in input pixels and six class
scores, doubles not suppressed. Of `yolo26-e2e`: (1, 100, 6), x1 y1 x2 y2 in input pixels, score, class, best first.
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
MOST_FOUND = 100
LAYOUTS = {
    "yolo": "output (1, 4 + classes, cells): centre x, centre y, width, height in input pixels, class scores",
    "yolo26-e2e": f"output (1, {MOST_FOUND}, 6): x1 y1 x2 y2 in input pixels, score, class; no suppression needed",
}


def export(checkpoint: Path, out: Path, head: str = "yolo") -> int:
    """Writes `out` and its .toml; returns the number of epochs that the weights have seen."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    network = build_network(1)
    network.load_state_dict(state["average"])
    network.eval()
    last: Any = network.model[-1]
    last.end2end = head == "yolo26-e2e"
    last.export, last.format, last.max_det = True, "onnx", MOST_FOUND
    network.fuse(verbose=False)
    last.fuse()
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
    out.with_suffix(".toml").write_text(describe(head), encoding="utf-8")
    return int(state["epoch"]) + 1


def describe(head: str) -> str:
    """The description file of an exported network."""
    names = ", ".join(f'"{name}"' for name in CLASSES)
    return (
        "# Bundled detector: trained on rendered scenes (and photographs of garbage); weights AGPL-3.0, see README.md\n"
        f"# {LAYOUTS[head]}\n"
        f'head = "{head}"\ninput_width = {INPUT_WIDTH}\ninput_height = {INPUT_HEIGHT}\n'
        'colour = "rgb"\nscale = 0.00392156862745098\nletterbox = "center"\n'
        f"pad = {PAD}\nmin_score = 0.05\nmax_overlap = 0.6\nclasses = [{names}]\n"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--head", choices=list(LAYOUTS), default="yolo")
    args = parser.parse_args()
    epochs = export(args.checkpoint, args.out, args.head)
    say(f"{args.out}: weights after {epochs} epochs")


if __name__ == "__main__":
    main()
