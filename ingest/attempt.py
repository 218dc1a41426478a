"""One connection to a camera, as the thread that watches it from outside sees it."""

from __future__ import annotations

import threading
import time

from ingest.fault import CaptureError
from ingest.relay import Relay


class Attempt:
    """One connection: opened, read, closed in its own thread. Left behind when it hangs."""

    def __init__(self) -> None:
        self.abandoned = threading.Event()
        self.progress_s = time.monotonic()
        self.got_frame = False
        self.error: CaptureError | None = None
        self.relay: Relay | None = None

    def step(self) -> None:
        self.progress_s = time.monotonic()

    def abandon(self) -> None:
        """Leave it behind. Where there is a relay the library finds its connection closed, and may come free."""
        self.abandoned.set()
        if self.relay is not None:
            self.relay.close()
