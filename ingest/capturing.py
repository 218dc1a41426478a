"""Cameras captured in processes of their own, a group to each: one that hangs or dies takes its own cameras along for a moment.

Used so: `pool = CapturePool(settings)`, then for each camera `capture = pool.open(code, url)` in place of
`Capture(...); capture.start()`. What comes back has `newest() -> SharedFrame | None`, `newest_key()`, `status()`, `close()` as
`ingest.rtsp.Capture` has (its frames have `seq`, `received_at`, `pts_s`, `key` and `picture()`; annotate `Frame | SharedFrame`), and
besides `want(Decode)`, `pace(looks_per_s)` (pictures are converted no more often than that; at first `settings.vision.fps`),
`save_clip(...)`, `take_clips()` and `recording_stopped`. At the end `pool.close()`. None of these waits for a child.

The child, `python -m ingest.capture_child`, reads lines of JSON from its standard input (settings, addresses, what is wanted; passwords are
never in its arguments) and says every half second on its standard output how its cameras are. One that says nothing for
five seconds is killed and replaced. Pictures come through shared memory (ingest/picture.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from ingest.captured import CameraCapture
from ingest.offspring import Offspring, Process
from ingest.picture import memory_folder
from ingest.recording import sweep_all
from kernel.clock import Clock
from kernel.settings import Settings

log = logging.getLogger(__name__)

SILENCE_S = 5.0
FIRST_WORD_S = 30.0
"""A child may take longer to begin than it may be silent later."""
_STOP_S = 4.0
_SWEEP_S = 300.0


class CaptureGroup:
    """The parent's side of one child process and its cameras."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._cameras: dict[int, CameraCapture] = {}
        self._numbers = 0
        self._child = Offspring(
            "ingest.capture_child",
            name="capture-group",
            describe=lambda: f"the capture process of {len(self._cameras)} cameras",
            greet=self._greet,
            attend=self._listen,
            lost=self._lose,
            environment={"MALLOC_ARENA_MAX": "2"},  # threads must not each keep a heap of their own
        )
        self._lock = self._child.lock
        self._child.start()

    def __len__(self) -> int:
        return len(self._cameras)

    @property
    def cameras(self) -> list[CameraCapture]:
        """Its cameras."""
        with self._lock:
            return list(self._cameras.values())

    @property
    def pid(self) -> int | None:
        """Process id of the child while it runs."""
        return self._child.pid

    @property
    def restarts(self) -> int:
        """How often the child was started again."""
        return self._child.restarts

    def add(self, code: str, url: str, pace: float) -> CameraCapture | None:
        """Begin to capture a camera; None when it has no room any more."""
        with self._lock:
            if self.stopping or len(self._cameras) >= self._settings.vision.group_size:
                return None
            self._numbers += 1
            camera = CameraCapture(self.tell, self.remove, self._numbers, code, url, pace)
            self._cameras[camera.number] = camera
            self.tell(camera.opening())
            return camera

    def remove(self, camera: CameraCapture) -> None:
        """Capture it no more; a group without cameras ends."""
        with self._lock:
            if self._cameras.pop(camera.number, None) is None:
                return
            self.tell({"do": "close", "camera": camera.number})
            if not self._cameras:
                self.begin_stop()
        camera.lose_clips()

    def begin_stop(self) -> None:
        """Tell the child to leave."""
        self._child.begin_stop()

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """Let it finish what it writes; kill it after `timeout_s`."""
        self._child.stop(timeout_s)

    @property
    def stopping(self) -> bool:
        """It takes no more cameras."""
        return self._child.stopping

    def tell(self, order: dict[str, Any]) -> bool:
        """Say something to the child. One that does not listen is killed; the next is told everything anew."""
        line = (json.dumps(order) + "\n").encode()
        with self._lock:
            process = self._child.process
            if process is None or process.stdin is None or process.stdin.closed:
                return False
            try:
                written = os.write(process.stdin.fileno(), line)
            except OSError:
                written = 0
            if written != len(line):
                process.kill()
                return False
            return True

    def _greet(self, process: Process) -> None:
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        self.tell(self._beginning())
        for camera in self._cameras.values():
            self.tell(camera.opening())

    def _lose(self) -> None:
        with self._lock:
            cameras = list(self._cameras.values())
            self._child.process = None
        for camera in cameras:
            camera.lose_child()

    def _beginning(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "camera": settings.camera.model_dump(mode="json"),
            "clock": settings.clock.model_dump(mode="json"),
            "log": settings.log.model_dump(mode="json"),
            "recordings": str(settings.data_dir),
            "folder": str(self._folder),
        }

    def _listen(self, process: Process) -> None:
        """Until the child ends, or is silent for too long."""
        assert process.stdout is not None
        rest = b""
        patience_s = FIRST_WORD_S
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(patience_s):
                    if self.stopping:
                        return
                    log.error("the capture process %d says nothing for %.0f s and is killed", process.pid, patience_s)
                    return
                some = os.read(process.stdout.fileno(), 1 << 16)
                if not some:
                    return
                patience_s = SILENCE_S
                *lines, rest = (rest + some).split(b"\n")
                for line in lines:
                    self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            with self._lock:
                cameras = dict(self._cameras)
            for number, of_camera in said.get("cameras", {}).items():
                if int(number) in cameras:
                    cameras[int(number)].hear(of_camera)
            if "clip" in said and said["camera"] in cameras:
                cameras[said["camera"]].hear_clip(said["clip"])
        except (ValueError, KeyError, TypeError):  # cut off by its end
            log.warning("a capture process said what cannot be read")


class CapturePool:
    """All cameras of a process, in groups. Any thread may open, one thread closes the pool."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._groups: list[CaptureGroup] = []
        self._folder = memory_folder()
        self._stop = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="recordings", daemon=True)
        self._sweeper.start()

    @property
    def groups(self) -> list[CaptureGroup]:
        """Those that have cameras."""
        with self._lock:
            self._groups = [group for group in self._groups if not group.stopping]
            return list(self._groups)

    def open(self, code: str, url: str) -> CameraCapture:
        """Begin to capture the camera `code` at `url`; returns at once."""
        pace = self._settings.vision.fps
        for group in self.groups:
            found = group.add(code, url, pace)
            if found is not None:
                return found
        group = CaptureGroup(self._settings, self._folder)
        made = group.add(code, url, pace)
        assert made is not None
        with self._lock:
            self._groups.append(group)
        return made

    def close(self) -> None:
        """End every child; what they write is finished."""
        self._stop.set()
        with self._lock:
            groups, self._groups = self._groups, []
        for group in groups:
            group.begin_stop()
        deadline_s = time.monotonic() + _STOP_S
        for group in groups:
            group.stop(max(0.1, deadline_s - time.monotonic()))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Recordings of cameras that are no longer captured grow old too."""
        while True:
            with contextlib.suppress(OSError):
                now = Clock.of(self._settings.clock).now()
                sweep_all(self._settings.data_dir, self._settings.camera.recording_minutes, now)
            if self._stop.wait(_SWEEP_S):
                return
