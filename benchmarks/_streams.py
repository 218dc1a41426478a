"""Simulated cameras for `bench vision`: `python -m benchmarks._streams FILM COUNT`; prints their addresses, ends with its input."""

import json
import sys
import threading
from pathlib import Path

from benchmarks._installation import wait_for_end
from simulators.rtsp import RtspServer
from simulators.rtsp.media import CopiedFile


def main(film: Path, count: int) -> None:
    """Serve the film's packets under `count` paths, begun at different moments."""
    server = RtspServer()
    server.start()
    ended = threading.Event()
    threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
    for number in range(count):
        server.add_camera(f"c{number}", CopiedFile(film))
        ended.wait(0.11)
    print(json.dumps([server.url_of(f"c{number}") for number in range(count)]), flush=True)
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
