"""One camera that another process captures, as its parent sees it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.address import hide_password
from ingest.fault import CaptureFault
from ingest.packets import ClipDone
from ingest.picture import PictureReader, SharedFrame
from ingest.rtsp import CaptureStatus, Decode

_NOTHING_YET = CaptureStatus(
    connected=False, fault=None, text="", frames=0, connections=0, newest_at=None, fps=0.0
)  # fmt: skip


class CameraCapture:
    """One camera as its parent sees it. Made by `ingest.capturing.CapturePool.open`."""

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], bool],
        leave: Callable[[CameraCapture], None],
        number: int,
        code: str,
        url: str,
        pace: float,
    ) -> None:
        """`tell` says something to the process that captures it, if there is one; `leave` ends this."""
        self.shown = hide_password(url)
        self._tell = tell
        self._leave = leave
        self.number = number
        self._code = code
        self._url = url
        self._lock = threading.Lock()
        self._reader: PictureReader | None = None
        self._seen: tuple[int, int] = (0, 0)
        self._newest: SharedFrame | None = None
        self._newest_key: SharedFrame | None = None
        self._status = _NOTHING_YET
        self._before_frames = self._before_connections = 0
        self._wanted = Decode.REFERENCED
        self._pace = pace
        self._clips: dict[str, Path] = {}
        self._done: list[ClipDone] = []
        self.recording_stopped = False
        """The disk is full or failed; watching goes on."""
        self.ring_bytes = 0

    def newest(self) -> SharedFrame | None:
        """The newest picture that was converted, however old."""
        with self._lock:
            self._look()
            return self._newest

    def newest_key(self) -> SharedFrame | None:
        """The newest key picture."""
        with self._lock:
            self._look()
            return self._newest_key

    def _look(self) -> None:
        reader = self._reader
        if reader is None:
            return
        counts = reader.counts
        if counts[0] != self._seen[0]:
            found = reader.newest()
            if found is not None:
                self._newest = replace(found, seq=found.seq + self._before_frames)
        if counts[1] != self._seen[1]:
            found = reader.newest_key()
            if found is not None:
                self._newest_key = replace(found, seq=found.seq + self._before_frames)
        self._seen = counts

    def status(self) -> CaptureStatus:
        """How it is doing, as its process said last."""
        with self._lock:
            return replace(
                self._status,
                frames=self._status.frames + self._before_frames,
                connections=self._status.connections + self._before_connections,
            )

    def want(self, decode: Decode) -> None:
        """Decode more or less from now on."""
        if decode is not self._wanted:
            self._wanted = decode
            self._tell({"do": "want", "camera": self.number, "decode": decode})

    def pace(self, looks_per_s: float) -> None:
        """Convert pictures so often from now on."""
        if looks_per_s != self._pace:
            self._pace = looks_per_s
            self._tell({"do": "pace", "camera": self.number, "pace": looks_per_s})

    def save_clip(self, clip_id: str, from_at: datetime, until_at: datetime, path: Path) -> None:
        """Write what comes or came between two instants as an MP4, from the key picture before on; see `take_clips`."""
        with self._lock:
            self._clips[clip_id] = path
        told = self._tell(
            {
                "do": "clip", "camera": self.number, "id": clip_id, "path": str(path),
                "from_at": from_at.isoformat(), "until_at": until_at.isoformat(),
            }
        )  # fmt: skip
        if not told:
            self.lose_clips()

    def take_clips(self) -> list[ClipDone]:
        """Clips that were written, or could not be, since the last time."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def close(self, timeout_s: float = 0.0) -> None:
        """Stop it. Does not wait."""
        self._leave(self)

    def opening(self) -> dict[str, Any]:
        """What a child is told to begin with this camera."""
        return {
            "do": "open", "camera": self.number, "code": self._code, "url": self._url, "decode": self._wanted,
            "pace": self._pace,
        }  # fmt: skip

    def hear(self, said: dict[str, Any]) -> None:
        """What the child says of it."""
        with self._lock:
            self._status = CaptureStatus(
                connected=bool(said["connected"]),
                fault=CaptureFault(said["fault"]) if said["fault"] else None,
                text=str(said["text"]),
                frames=int(said["frames"]),
                connections=int(said["connections"]),
                newest_at=datetime.fromisoformat(said["newest_at"]) if said["newest_at"] else self._status.newest_at,
                fps=float(said["fps"]),
            )
            self.recording_stopped = bool(said["recording_stopped"])
            self.ring_bytes = int(said["ring_bytes"])
            if said["file"]:
                with contextlib.suppress(OSError):
                    self._reader = PictureReader(Path(said["file"]))
                    self._seen = (0, 0)

    def hear_clip(self, said: dict[str, Any]) -> None:
        """A clip was answered."""
        said = {**said, "path": Path(said["path"])}
        if said["began_at"]:
            said["began_at"] = datetime.fromisoformat(said["began_at"])
        with self._lock:
            if self._clips.pop(said["id"], None) is not None:
                self._done.append(ClipDone(**said))

    def lose_child(self) -> None:
        """The process is gone: no more pictures until the next one has some."""
        with self._lock:
            status = self._status
            self._before_frames = max(
                self._before_frames + status.frames,
                *(each.seq for each in (self._newest, self._newest_key) if each is not None), 0,
            )  # fmt: skip
            self._before_connections += status.connections
            self._status = replace(
                _NOTHING_YET,
                fault=CaptureFault.BROKEN,
                text=f"{self.shown}: the capture process ended",
                newest_at=status.newest_at,
            )
            self._reader = None
            self._seen = (0, 0)
        self.lose_clips()

    def lose_clips(self) -> None:
        """Nobody is left to write them."""
        with self._lock:
            self._done += [
                ClipDone(id=clip_id, path=path, ok=False, error="capture_ended")
                for clip_id, path in self._clips.items()
            ]
            self._clips.clear()


def describe_clip(done: ClipDone) -> dict[str, Any]:
    """As JSON."""
    return {
        **asdict(done),
        "path": str(done.path),
        "began_at": done.began_at.astimezone(UTC).isoformat() if done.began_at else None,
    }
