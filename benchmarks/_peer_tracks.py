"""Run by the peer's Python: ultralytics' trackers on detections that we made. `_peer_tracks.py IN.npz OUT.npz TRACKER HIGH`.

Of this project it needs nothing, so that ultralytics may live in an environment of its own.
"""

import sys

import numpy as np


def main(source: str, target: str, name: str, high: float) -> None:
    """Rows of frame, x1, y1, x2, y2, score, class in; rows of frame, number, x1, y1, x2, y2 out."""
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.track import TRACKER_MAP
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    given = np.load(source)
    rows, (height, width) = given["rows"], given["size"]
    args = IterableSimpleNamespace(**YAML.load(check_yaml(f"{name}.yaml")))
    if high > 0:
        args.track_high_thresh = args.new_track_thresh = high
    tracker = TRACKER_MAP[args.tracker_type](args)
    out = []
    for frame in range(int(given["frames"])):
        mine = rows[rows[:, 0] == frame][:, 1:].astype(np.float32)
        for row in tracker.update(Boxes(mine, (int(height), int(width))), None):
            out.append([frame, row[4], *row[:4]])
    np.savez(target, rows=np.array(out, np.float64).reshape(-1, 6))


if __name__ == "__main__":
    from _peer_torch import declare_missing_operators

    declare_missing_operators()
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
