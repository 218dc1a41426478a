"""Run by the peer's Python: `ultralytics track` over a film. `_peer_track.py MODEL_DIR FILM TRACKER HEIGHT WIDTH`; prints JSON.

Seconds are CPU time of the whole process, as for ours (_looks.py).
"""

import json
import sys
import time

WARM_FRAMES = 20


def main(model: str, film: str, tracker: str, height: int, width: int) -> None:
    """Every frame tracked, nothing drawn, saved or printed."""
    import cv2
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = YOLO(model, task="detect").track(
        source=film, stream=True, tracker=f"{tracker}.yaml", imgsz=(height, width), device="cpu", verbose=False
    )
    began_s, frames, boxes = 0.0, 0, 0
    for result in found:
        if frames == WARM_FRAMES:
            began_s = time.process_time()
        frames += 1
        boxes += len(result.boxes)
    print(json.dumps({"frames": frames - WARM_FRAMES, "seconds": time.process_time() - began_s, "boxes": boxes}))


if __name__ == "__main__":
    from _peer_torch import declare_missing_operators

    declare_missing_operators()
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
