"""For the peer's Python: torchvision may be imported where its own library does not load (some CPU builds of torch)."""

import importlib.util
from pathlib import Path
from typing import Any

_declared: list[Any] = []


def declare_missing_operators() -> None:
    """Declare the signatures that torchvision's import wants, and suppress doubles with OpenCV's compiled function instead."""
    import torch

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
    import torchvision

    torchvision.ops.nms = _suppress


def _suppress(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """As torchvision.ops.nms: indices kept, best first. Compiled too, so that the peer is not slowed down."""
    import cv2
    import numpy as np
    import torch

    corners = boxes.numpy()
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(sides, scores.numpy(), 0.0, iou_threshold)
    return torch.as_tensor(np.asarray(kept, np.int64).reshape(-1))
