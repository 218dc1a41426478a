"""Live video of cameras without transcoding: one pull per camera and stream, shared by its viewers, ended soon after the last.

All of it lives in the event loop but the reading threads, which hand over one picture at a time. A viewer begins at the newest
key picture; one who is slow loses what waits and goes on with the next key picture, so nobody is shown the past.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from dashboard.store import JsonObject, write_json
from ingest.broadcast import Broadcast, Piece
from ingest.fault import CaptureFault
from ingest.fragment import Opening
from ingest.outlet import outlet_path
from kernel.settings import CameraSettings

log = logging.getLogger(__name__)
_LINGER_S = 5.0
_SILENCE_S = 8.0
_MOST_PULLS = 64
_MOST_WAITING_S = 5.0  # how long a picture may wait for one viewer
_MOST_WAITING_BYTES = 12_000_000
_MOST_KEPT = 1500  # pictures since the last key picture; a camera that sends fewer key pictures makes newcomers wait
_MOST_KEPT_BYTES = 6_000_000
_LOOK_EVERY_S = 0.05
_DRIFT = 0.002  # seconds a second by which the clocks may part


class VideoRefused(Exception):
    """This camera cannot be shown as video now. `away`: it may come back; else only pictures can be had.

    `code`: h265, unknown_codec, too_many_streams, camera_unreachable; `fault` says why it is unreachable.
    """

    def __init__(self, code: str, *, away: bool, fault: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.away = away
        self.fault = fault


@dataclass(eq=False)
class Viewer:
    """Somebody who looks. Only the event loop touches it."""

    stream: str
    clock: Callable[[], float] = time.monotonic
    waiting: deque[tuple[str | bytes, float | None]] = field(default_factory=deque)
    """What waits, and since when if it is part of the video: as many pictures as there are since a key picture may come at once."""
    waiting_bytes: int = 0
    cuts: int = 0
    is_cut: bool = False
    _boxes: str | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    over: VideoRefused | None = None
    ended: bool = False  # the process leaves

    def begin(self, opening: Opening, began_at: datetime) -> None:
        """What must be known before the first picture; again when the coding changed."""
        said = {
            "type": "init",
            "mime": opening.mime,
            "width": opening.width,
            "height": opening.height,
            "stream": self.stream,
            "began_at": began_at,
        }
        self._put(write_json(said), video=False)
        self._put(opening.data, video=True)

    def add(self, data: bytes) -> None:
        """A picture since the last key picture, for somebody who begins."""
        self._put(data, video=True)

    def offer(self, data: bytes, *, key: bool) -> None:
        """The next picture."""
        if self.is_cut and not key:
            return
        self.is_cut = False
        oldest_s = next((since_s for _, since_s in self.waiting if since_s is not None), None)
        self._put(data, video=True)
        late = oldest_s is not None and self.clock() - oldest_s > _MOST_WAITING_S
        if late or self.waiting_bytes > _MOST_WAITING_BYTES:
            self._leave_out()

    def show_boxes(self, boxes: JsonObject) -> None:
        """What was detected; the newest only."""
        self._boxes = write_json(boxes)
        self.ready.set()

    def end(self, refused: VideoRefused | None) -> None:
        """No more comes; None: the process leaves."""
        self.over, self.ended = refused, True
        self.ready.set()

    async def next(self) -> str | bytes | None:
        """What to send next; None when no more comes."""
        while not self.ended:
            if self._boxes is not None:
                text, self._boxes = self._boxes, None
                return text
            if self.waiting:
                data, since_s = self.waiting.popleft()
                self.waiting_bytes -= len(data) if since_s is not None else 0
                return data
            self.ready.clear()
            await self.ready.wait()
        return None

    def _put(self, data: str | bytes, *, video: bool) -> None:
        self.waiting.append((data, self.clock() if video else None))
        self.waiting_bytes += len(data) if video else 0
        self.ready.set()

    def _leave_out(self) -> None:
        self.cuts += 1
        self.is_cut = True
        self.waiting = deque(one for one in self.waiting if one[1] is None)
        self.waiting_bytes = 0
        self._put(write_json({"type": "cut", "count": self.cuts}), video=False)


class _Pull:
    """One camera's stream and those who look at it. Only the event loop touches it."""

    def __init__(self, url: str, settings: CameraSettings, now: Callable[[], datetime], outlet: Path | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.broadcast = Broadcast(url, settings, now, self._deliver, outlet)
        self.viewers: set[Viewer] = set()
        self.opening: Opening | None = None
        self.kept: list[Piece] = []  # since the last key picture
        self.kept_bytes = 0
        self.came_s = self.begun_s = self._loop.time()
        self.newest_at: datetime | None = None
        self.began_at: datetime | None = None  # of the medium's clock
        self.changed = asyncio.Event()
        self.leaving: asyncio.TimerHandle | None = None
        self.broadcast.start()

    def _deliver(self, piece: Piece) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.take, piece)

    def take(self, piece: Piece) -> None:
        """One more picture."""
        self._set_clock(piece)
        fragment = piece.fragment
        if piece.opening is not None:
            self.opening, self.kept, self.kept_bytes = piece.opening, [], 0
            assert self.began_at is not None
            for viewer in self.viewers:
                viewer.begin(piece.opening, self.began_at)
        if fragment.key:
            self.kept, self.kept_bytes = [], 0
        if fragment.key or self.kept:
            self.kept.append(piece)
            self.kept_bytes += len(fragment.data)
            if len(self.kept) > _MOST_KEPT or self.kept_bytes > _MOST_KEPT_BYTES:
                self.kept = []
        for viewer in self.viewers:
            viewer.offer(fragment.data, key=fragment.key)
        self.changed.set()

    def _set_clock(self, piece: Piece) -> None:
        """When the medium's clock began, by the packets that came with the least delay."""
        now_s = self._loop.time()
        began_at = piece.received_at - timedelta(seconds=piece.fragment.shown_s)
        if self.began_at is None or piece.opening is not None:
            self.began_at = began_at
        else:
            leak = timedelta(seconds=_DRIFT * (now_s - self.came_s))
            self.began_at = min(self.began_at + leak, began_at)
        self.came_s, self.newest_at = now_s, piece.received_at

    def enter(self, viewer: Viewer) -> None:
        """A viewer joins; it begins at the newest key picture, if one is kept."""
        self.viewers.add(viewer)
        if self.opening is not None and self.began_at is not None:
            viewer.begin(self.opening, self.began_at)
            for piece in self.kept:
                viewer.add(piece.fragment.data)
            viewer.is_cut = not self.kept

    def place(self, boxes: JsonObject) -> JsonObject:
        """Boxes with their place in time: `media_s` on the medium's clock, `behind_s` behind the newest picture."""
        try:
            at = datetime.fromisoformat(str(boxes["at"]))
        except (KeyError, ValueError):
            return boxes
        if self.newest_at is None or self.began_at is None or at.tzinfo is None:
            return boxes
        return {
            **boxes,
            "behind_s": round((self.newest_at - at).total_seconds(), 3),
            "media_s": round((at - self.began_at).total_seconds(), 3),
        }


def _judge_coding(broadcast: Broadcast) -> VideoRefused | None:
    """What comes now cannot be played by browsers."""
    if broadcast.codec == "hevc":
        return VideoRefused("h265", away=False)
    if broadcast.unreadable or broadcast.is_other_codec():
        return VideoRefused("unknown_codec", away=False)
    return None


class LiveVideo:
    """The pulls that are running. For the event loop."""

    def __init__(self, settings: CameraSettings, now: Callable[[], datetime], data_dir: Path | None = None) -> None:
        """`data_dir`: where cameras that are captured on this machine hand on their packets; None: each is opened."""
        self._settings = settings
        self._now = now
        self._data_dir = data_dir
        self._pulls: dict[tuple[UUID, str], _Pull] = {}
        self._closed = False

    @property
    def running(self) -> int:
        """How many streams are being pulled."""
        return len(self._pulls)

    async def watch(self, camera_id: UUID, stream: str, url: str) -> Viewer:
        """A new viewer of the camera's stream. Raises VideoRefused, while the camera is asked for its first picture."""
        key = (camera_id, url)
        pull = self._pulls.get(key)
        if pull is None:
            if len(self._pulls) >= _MOST_PULLS or self._closed:
                raise VideoRefused("too_many_streams", away=True)
            outlet = outlet_path(self._data_dir, url) if self._data_dir is not None else None
            pull = self._pulls[key] = _Pull(url, self._settings, self._now, outlet)
        elif pull.leaving is not None:
            pull.leaving.cancel()
            pull.leaving = None
        viewer = Viewer(stream)
        pull.enter(viewer)
        try:
            await self._wait_for_first(pull)
        except BaseException:
            self.leave(camera_id, url, viewer)
            raise
        return viewer

    async def _wait_for_first(self, pull: _Pull) -> None:
        limit_s = self._settings.open_timeout_s + self._settings.read_timeout_s
        until_s = self._asked_s() + limit_s
        while pull.opening is None:
            refused = self._judge(pull, until_s)
            if refused is not None:
                raise refused
            pull.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pull.changed.wait(), _LOOK_EVERY_S)

    def _judge(self, pull: _Pull, until_s: float) -> VideoRefused | None:
        broadcast = pull.broadcast
        refused = _judge_coding(broadcast)
        if refused is not None:
            return refused
        fault = broadcast.fault()
        if fault is None and self._asked_s() > until_s:
            fault = CaptureFault.TIMED_OUT
        return VideoRefused("camera_unreachable", away=True, fault=fault) if fault is not None else None

    def _asked_s(self) -> float:
        return asyncio.get_running_loop().time()

    def check(self, camera_id: UUID, url: str) -> None:
        """End the viewers of a camera that has gone silent, or whose coding became another. Called now and then."""
        pull = self._pulls.get((camera_id, url))
        if pull is None:
            return
        refused = _judge_coding(pull.broadcast)
        if refused is None and self._asked_s() - pull.came_s > _SILENCE_S:
            refused = VideoRefused(
                "camera_unreachable", away=True, fault=pull.broadcast.fault() or CaptureFault.TIMED_OUT
            )
        if refused is not None:
            for viewer in pull.viewers:
                viewer.end(refused)

    def show_boxes(self, camera_id: UUID, url: str, viewer: Viewer, boxes: JsonObject) -> None:
        """Hand a look of the detector to a viewer, placed in time."""
        pull = self._pulls.get((camera_id, url))
        if pull is not None:
            viewer.show_boxes({"type": "boxes", **pull.place(boxes)})

    def read_opening(self, camera_id: UUID, url: str) -> Opening | None:
        """What is known of a running stream's coding."""
        pull = self._pulls.get((camera_id, url))
        return pull.opening if pull is not None else None

    def leave(self, camera_id: UUID, url: str, viewer: Viewer) -> None:
        """The viewer goes; some seconds after the last one the pull ends."""
        key = (camera_id, url)
        pull = self._pulls.get(key)
        if pull is None or viewer not in pull.viewers:
            return
        pull.viewers.discard(viewer)
        if not pull.viewers:
            pull.leaving = asyncio.get_running_loop().call_later(
                0.0 if pull.opening is None else _LINGER_S, self._end, key
            )

    def _end(self, key: tuple[UUID, str]) -> None:
        pull = self._pulls.get(key)
        if pull is None or pull.viewers:
            return
        del self._pulls[key]
        # Joining the reading thread may take a moment, and the loop must not wait for a camera that hangs.
        asyncio.get_running_loop().run_in_executor(None, pull.broadcast.close)

    def close(self) -> None:
        """End every pull; their viewers are told that the process leaves."""
        self._closed = True
        for key, pull in list(self._pulls.items()):
            for viewer in pull.viewers:
                viewer.end(None)
            if pull.leaving is not None:
                pull.leaving.cancel()
            del self._pulls[key]
            pull.broadcast.close(timeout_s=0.0)
