"""The network: yolo26 at three quarters of its nano width, built by ultralytics, with two heads trained side by side.

The one-to-many head is the one that is shipped: after the same nine epochs it found more than the end-to-end head
(mean AP50 0.83 against 0.76 on 150 scenes), and suppressing doubles costs the product next to nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

CLASSES = ("person", "vehicle", "two_wheeler", "bin", "bin_overflow", "garbage")
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
    """A fresh network for CLASSES, ready for its loss; `epochs` is what the loss's schedule is told."""
    declare_missing_operators()
    import ultralytics
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import YAML

    plan = YAML.load(Path(ultralytics.__file__).parent / "cfg/models/26/yolo26.yaml")
    plan["scales"] = {"n": [DEPTH, WIDTH, MAX_CHANNELS]}
    plan["scale"] = "n"
    network = DetectionModel(plan, ch=3, nc=len(CLASSES), verbose=False)
    network.args = get_cfg(overrides={"epochs": epochs})
    network.names = dict(enumerate(CLASSES))
    return network
