"""The network: yolo26 at three quarters of its nano width, built by ultralytics, with its one-to-many head alone.

The end-to-end head of the same training found less (mean AP50 0.76 against 0.83 after nine epochs), and suppressing
doubles costs the product next to nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from vision.model import LABELS

DEPTH, WIDTH, MAX_CHANNELS = 0.5, 0.1875, 1024

_declared: list[torch.library.Library] = []


def declare_missing_operators() -> None:
    """Declares torchvision's two suppression operators where its own library does not load.

    Some CPU builds of torch cannot load torchvision's library, and then its import fails for want of the two
    signatures. They are only declared, never called: training needs no suppression, and the product has its own.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or _declared:
        return
    for library in Path(found.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            continue
    missing = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(missing)


def build_network(epochs: int) -> Any:
    """A fresh network for LABELS, ready for its loss; `epochs` is what the loss's schedule is told."""
    declare_missing_operators()
    import ultralytics
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import YAML

    plan = YAML.load(Path(ultralytics.__file__).parent / "cfg/models/26/yolo26.yaml")
    plan["scales"] = {"n": [DEPTH, WIDTH, MAX_CHANNELS]}
    plan["scale"] = "n"
    plan["end2end"] = False
    network = DetectionModel(plan, ch=3, nc=len(LABELS), verbose=False)
    network.args = get_cfg(overrides={"epochs": epochs})
    network.names = dict(enumerate(LABELS))
    return network
