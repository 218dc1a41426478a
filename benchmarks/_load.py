"""Telemetry at a rate: `python -m benchmarks._load RATE DEVICES`, until standard input ends; then prints how many were sent."""

import json
import sys
import threading
import time
from datetime import UTC, datetime

from benchmarks._installation import Publisher, wait_for_end
from kernel.settings import load_settings

_TICK_S = 0.02


def send(rate: int, devices: int) -> int:
    """Publish on time as long as the broker keeps up; how many."""
    publisher = Publisher(load_settings(), "bench-load")
    ended = threading.Event()
    threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
    sent, began, mark = 0, time.monotonic(), time.monotonic_ns()
    while not ended.is_set():
        due = min(int((time.monotonic() - began) * rate) - sent, rate)
        at = datetime.now(UTC).isoformat()
        publisher.send(
            [
                (
                    f"gridwarden/river_sluice/R{n % devices}/telemetry",
                    json.dumps(
                        {"v": 1, "id": f"{mark}-{n}", "seq": n, "at": at, "level_m": 1.5, "flow_m3_s": 3.1, "ph": 7.2}
                    ).encode(),
                )
                for n in range(sent, sent + due)
            ]
        )
        sent += due
        ended.wait(max(0.0, _TICK_S - (time.monotonic() - began) % _TICK_S))
    publisher.close()
    return sent


if __name__ == "__main__":
    print(send(int(sys.argv[1]), int(sys.argv[2])), flush=True)
