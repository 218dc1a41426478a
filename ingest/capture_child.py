"""The child of ingest/capturing.py: captures the cameras it is told of, until its standard input ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ingest.address import hide_password
from ingest.captured import describe_clip
from ingest.outlet import OutletDesk
from ingest.packets import CodedPacket
from ingest.picture import PictureWriter
from ingest.recording import Recording, folder_of
from ingest.rtsp import Capture, Decode, Frame
from kernel.clock import Clock
from kernel.log import configure_log
from kernel.settings import CameraSettings, ClockSettings, LogSettings

log = logging.getLogger(__name__)

TELL_S = 0.5
CLIPS_S = 0.1
CLOSE_S = 3.5
"""For all cameras together; the parent waits a little longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What all cameras of a child share."""

    camera: CameraSettings
    now: Callable[[], datetime]
    recordings: Path
    folder: Path
    outlets: OutletDesk


@dataclass(kw_only=True)
class Pace:
    """Which pictures are converted: on the average so many a second, no matter how they come."""

    per_s: float
    due_s: float = field(default=0.0)

    def is_due(self, now_s: float) -> bool:
        """Whether the picture that came at `now_s` (monotonic) is one."""
        step_s = 1.0 / self.per_s
        if now_s < self.due_s - 0.25 * step_s:  # a little early beats a whole picture late; the grid keeps the average
            return False
        self.due_s = self.due_s + step_s if now_s < self.due_s + step_s else now_s + step_s
        return True


class Feed:
    """One camera of a child."""

    def __init__(self, number: int, order: dict[str, Any], around: Surroundings) -> None:
        self.number = number
        self._pace = Pace(per_s=float(order["pace"]))
        self._writer = PictureWriter(around.folder, f"{os.getpid()}-{number}", around.camera.picture_width)
        self._told: Path | None = None
        self._recording: Recording | None = None
        self._shown = hide_password(order["url"])
        settings = around.camera
        if settings.recording_minutes > 0:
            self._recording = Recording(
                folder_of(around.recordings, order["code"]),
                minutes=settings.recording_minutes,
                limit_bytes=settings.recording_bytes,
                spare_bytes=settings.recording_spare_bytes,
            )
        self.capture = Capture(
            order["url"],
            allowed_networks=settings.allowed_networks,
            now=around.now,
            transport=settings.transport,
            open_timeout_s=settings.open_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            ring_s=settings.ring_s,
            ring_bytes=settings.ring_bytes,
            on_frame=self._offer,
            on_packet=self._hand_on,
        )
        self.capture.want(Decode(order["decode"]))
        self._outlet = around.outlets.open(order["url"])

    def start(self) -> None:
        """Begin."""
        if self._recording is not None:
            self._recording.start()
        self.capture.start()

    def pace(self, looks_per_s: float) -> None:
        """Convert so many pictures a second."""
        self._pace = Pace(per_s=looks_per_s)

    def _hand_on(self, packet: CodedPacket) -> None:
        if self._outlet is not None:
            self._outlet.put(packet)
        if self._recording is not None:
            self._recording.put(packet)

    def _offer(self, frame: Frame) -> None:
        due = self._pace.is_due(time.monotonic())
        if due or frame.key:
            try:
                self._writer.write(frame, newest=due)
            except OSError as error:  # no memory left for a picture of a new size
                log.error("camera %s: no place for its pictures: %s", self._shown, error)

    def describe(self) -> dict[str, Any]:
        """How it is doing, as JSON; a new place of its pictures is told once."""
        status = self.capture.status()
        path = self._writer.path
        file, self._told = (str(path) if path is not None and path != self._told else None), path
        return {
            "connected": status.connected,
            "fault": status.fault,
            "text": status.text,
            "frames": status.frames,
            "connections": status.connections,
            "newest_at": status.newest_at.astimezone(UTC).isoformat() if status.newest_at else None,
            "fps": round(status.fps, 2),
            "recording_stopped": self._recording.stopped if self._recording is not None else False,
            "ring_bytes": self.capture.ring_bytes,
            "file": file,
        }

    def close(self) -> None:
        """End it; the recording's file in hand is finished."""
        if self._outlet is not None:
            self._outlet.close()
        self.capture.close(timeout_s=1.0)
        if self._recording is not None:
            self._recording.close(timeout_s=2.0)
        self._writer.close()


class Child:
    """Takes orders in one thread and tells in another."""

    def __init__(self, around: Surroundings, outgoing: IO[str]) -> None:
        self._around = around
        self._outgoing = outgoing
        self._feeds: dict[int, Feed] = {}
        self._closing: list[threading.Thread] = []
        self._lock = threading.Lock()

    def obey(self, order: dict[str, Any]) -> None:
        """One order."""
        number = int(order["camera"])
        if order["do"] == "open":
            feed = Feed(number, order, self._around)
            with self._lock:
                self._feeds[number] = feed
            feed.start()
            return
        with self._lock:
            found = self._feeds.pop(number, None) if order["do"] == "close" else self._feeds.get(number)
        if found is None:
            return
        match order["do"]:
            case "close":
                self._begin_close(found)
            case "want":
                found.capture.want(Decode(order["decode"]))
            case "pace":
                found.pace(float(order["pace"]))
            case "clip":
                from_at, until_at = (datetime.fromisoformat(order[name]) for name in ("from_at", "until_at"))
                found.capture.save_clip(order["id"], from_at, until_at, Path(order["path"]))

    def tell(self, *, whole: bool) -> None:
        """Clips that were answered; `whole`: how every camera is, too. Raises OSError when nobody listens."""
        with self._lock:
            feeds = list(self._feeds.values())
        for feed in feeds:
            for done in feed.capture.take_clips():
                self._say({"camera": feed.number, "clip": describe_clip(done)})
        if whole:
            self._say({"cameras": {feed.number: feed.describe() for feed in feeds}})

    def _say(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), file=self._outgoing, flush=True)

    def _begin_close(self, feed: Feed) -> None:
        thread = threading.Thread(target=feed.close, daemon=True)
        with self._lock:
            self._closing = [*(each for each in self._closing if each.is_alive()), thread]
            thread.start()

    def close(self) -> None:
        """End every camera, all at once, and wait for those that are ending already: they finish their recordings."""
        with self._lock:
            feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            self._begin_close(feed)
        deadline_s = time.monotonic() + CLOSE_S
        for thread in self._closing:
            thread.join(max(0.0, deadline_s - time.monotonic()))


def main(incoming: IO[str], outgoing: IO[str]) -> None:
    """Until `incoming` ends: the parent leaves, or was killed."""
    parent = os.getppid()
    beginning = json.loads(incoming.readline())
    configure_log("capture", LogSettings.model_validate(beginning["log"]).level)
    around = Surroundings(
        camera=CameraSettings.model_validate(beginning["camera"]),
        now=Clock.of(ClockSettings.model_validate(beginning["clock"])).now,
        recordings=Path(beginning["recordings"]),
        folder=Path(beginning["folder"]),
        outlets=OutletDesk(Path(beginning["recordings"])),
    )
    child = Child(around, outgoing)
    stop = threading.Event()
    threading.Thread(target=_take_orders, args=(child, incoming, stop), daemon=True).start()
    told_s = 0.0
    while not stop.wait(CLIPS_S):
        whole = time.monotonic() - told_s >= TELL_S
        try:
            child.tell(whole=whole)
        except OSError:
            break
        told_s = time.monotonic() if whole else told_s
    child.close()
    around.outlets.close()
    _tidy(around.folder, parent)


def _tidy(folder: Path, parent: int) -> None:
    """Leave nothing in memory: the parent takes the files' names away, unless it was killed."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{os.getpid()}-*"):
            path.unlink(missing_ok=True)
        if os.getppid() != parent:
            folder.rmdir()


def _take_orders(child: Child, incoming: IO[str], stop: threading.Event) -> None:
    try:
        for line in incoming:
            child.obey(json.loads(line))
    except Exception:  # an order that cannot be carried out: better a new child than one that is half deaf
        log.exception("an order cannot be carried out")
    finally:
        stop.set()


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
