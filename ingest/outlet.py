"""Packets of a camera that is captured already, handed to another process on this machine: from the newest key picture on, at once.

Each camera of a capture process has a Unix socket in `<data_dir>/live`, for the same user only. Whoever connects gets what came
since the newest key picture and then every packet as it comes; is shown out at once where nothing came lately, and when it is
too slow. Nothing is decoded, and a camera nobody looks at costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import Struct

from ingest.packets import LONGEST_GOP_BYTES, CodedPacket, Shape

log = logging.getLogger(__name__)

STALE_S = 3.0
"""What came earlier is not handed out: whoever asks finds out by itself what the camera is about."""
MOST_WAITING_BYTES = 2 * LONGEST_GOP_BYTES
_FIRST_S = 1.0
_SHAPE, _PICTURE, _KEY_PICTURE = range(3)
_HEAD = Struct("<IBqqI")  # bytes that follow, what they are, pts, received in µs since the epoch, run
_NO_PTS = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_PATH = 100  # of a Unix socket, in bytes (108 on Linux, 104 elsewhere)


def outlet_path(data_dir: Path, url: str) -> Path:
    """Where the outlet of the camera at `url` is, if somebody captures it."""
    return data_dir / "live" / hashlib.sha256(url.encode()).hexdigest()[:20]


def _encode(packet: CodedPacket) -> bytes:
    pts = _NO_PTS if packet.pts is None else packet.pts
    kind = _KEY_PICTURE if packet.key else _PICTURE
    return (
        _HEAD.pack(len(packet.data), kind, pts, (packet.received_at - _EPOCH) // _MICROSECOND, packet.run) + packet.data
    )


def _encode_shape(shape: Shape) -> bytes:
    body = shape.codec.encode() + b"\0" + shape.sets
    return _HEAD.pack(len(body), _SHAPE, 0, 0, 0) + body


@contextlib.contextmanager
def _name(path: Path) -> Iterator[str]:
    """The socket's name in the file system; through an open folder where the path is too long for a socket."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class _Listener:
    """Somebody who is connected."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.shape: Shape | None = None

    def put(self, packet: CodedPacket) -> None:
        if packet.shape != self.shape:
            self.shape = packet.shape
            self._add(_encode_shape(packet.shape))
        self._add(_encode(packet))

    def _add(self, data: bytes) -> None:
        self.waiting.append(data)
        self.waiting_bytes += len(data)

    def flush(self) -> bool:
        """Send what can be sent now; False when it has gone."""
        while self.waiting:
            data = self.waiting[0]
            try:
                sent = self.connection.send(data)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.waiting_bytes -= sent
            if sent == len(data):
                self.waiting.popleft()
            else:
                self.waiting[0] = data[sent:]
        return True


class Outlet:
    """One camera's. `put` is called in the thread that reads its packets, and does not wait."""

    def __init__(self, desk: OutletDesk, path: Path, door: socket.socket) -> None:
        self._desk = desk
        self.path = path
        self.door = door
        self.inode = path.stat().st_ino
        self.listeners: list[_Listener] = []
        self.kept: list[CodedPacket] = []
        self._kept_bytes = 0
        self._put_s = 0.0

    def put(self, packet: CodedPacket) -> None:
        """The next packet."""
        with self._desk.lock:
            if packet.key:
                self.kept, self._kept_bytes = [], 0
            if packet.key or self.kept:
                self.kept.append(packet)
                self._kept_bytes += len(packet.data)
                if self._kept_bytes > LONGEST_GOP_BYTES:
                    self.kept = []
            self._put_s = time.monotonic()
            for listener in self.listeners:
                listener.put(packet)
            if not self.listeners:
                return
        self._desk.wake()

    @property
    def is_fresh(self) -> bool:
        """There is something to begin with, and it is of now."""
        return bool(self.kept) and time.monotonic() - self._put_s <= STALE_S

    def close(self) -> None:
        """No more; whoever is connected is shown out."""
        self._desk.forget(self)


class OutletDesk:
    """The outlets of a process, served by one thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.lock = threading.Lock()
        self._outlets: list[Outlet] = []
        self._closing: list[Outlet] = []
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._thread: threading.Thread | None = None
        self._stopped = False

    def open(self, url: str) -> Outlet | None:
        """The outlet of a camera; None where the system allows none: others then open the camera themselves."""
        path = outlet_path(self._data_dir, url)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a process that was killed
            with _name(path) as name:
                door.bind(name)
            path.chmod(0o600)
            door.listen(16)
            door.setblocking(False)
            outlet = Outlet(self, path, door)
        except OSError as error:
            log.warning("no outlet for live pictures: %s", error)
            door.close()
            return None
        with self.lock:
            self._outlets.append(outlet)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="outlets", daemon=True)
                self._thread.start()
        self.wake()
        return outlet

    def wake(self) -> None:
        """There is something to do."""
        with contextlib.suppress(OSError):  # full: it is awake already
            self._rope.send(b"\0")

    def forget(self, outlet: Outlet) -> None:
        """Close it, in the thread that serves."""
        with self.lock:
            if outlet in self._outlets:
                self._outlets.remove(outlet)
                self._closing.append(outlet)
        self.wake()

    def close(self, timeout_s: float = 1.0) -> None:
        """Close all."""
        with self.lock:
            self._closing += self._outlets
            self._outlets = []
            self._stopped = True
            thread = self._thread
        self.wake()
        if thread is not None:
            thread.join(timeout_s)

    def _serve(self) -> None:
        known: set[Outlet] = set()
        while True:
            with self.lock:
                added, closing = [each for each in self._outlets if each not in known], self._closing
                self._closing = []
                stopped = self._stopped
            for outlet in added:
                known.add(outlet)
                self._selector.register(outlet.door, selectors.EVENT_READ, outlet)
            for outlet in closing:
                self._end(outlet, known)
            if stopped:
                return
            for key, _ in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._bell.recv(4096)
                elif isinstance(key.data, Outlet):
                    self._let_in(key.data)
                else:
                    self._look_after(*key.data)
            for outlet in known:
                self._send(outlet)

    def _let_in(self, outlet: Outlet) -> None:
        try:
            connection, _ = outlet.door.accept()
        except OSError:
            return
        connection.setblocking(False)
        listener = _Listener(connection)
        with self.lock:
            fresh = outlet.is_fresh
            if fresh:
                for packet in outlet.kept:
                    listener.put(packet)
                outlet.listeners.append(listener)
        if fresh:
            self._selector.register(connection, selectors.EVENT_READ, (outlet, listener))
        else:
            connection.close()

    def _look_after(self, outlet: Outlet, listener: _Listener) -> None:
        """A listener says nothing: what can be read is its end. What can be written is sent below."""
        try:
            gone = listener.connection.recv(16) == b""
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            self._drop(outlet, listener)

    def _send(self, outlet: Outlet) -> None:
        with self.lock:
            listeners = list(outlet.listeners)
            alive = [each.waiting_bytes <= MOST_WAITING_BYTES and each.flush() for each in listeners]
        for listener, good in zip(listeners, alive, strict=True):
            if not good:
                self._drop(outlet, listener)
                continue
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if listener.waiting else 0)
            if self._selector.get_key(listener.connection).events != events:
                self._selector.modify(listener.connection, events, (outlet, listener))

    def _drop(self, outlet: Outlet, listener: _Listener) -> None:
        with self.lock:
            if listener not in outlet.listeners:
                return
            outlet.listeners.remove(listener)
        self._selector.unregister(listener.connection)
        listener.connection.close()

    def _end(self, outlet: Outlet, known: set[Outlet]) -> None:
        for listener in list(outlet.listeners):
            self._drop(outlet, listener)
        if outlet in known:
            known.discard(outlet)
            self._selector.unregister(outlet.door)
        with contextlib.suppress(OSError):  # before the door is closed: till then nobody else's can have its inode
            if outlet.path.stat().st_ino == outlet.inode:  # else another process has taken the camera over
                outlet.path.unlink()
        outlet.door.close()


class Tap:
    """The other side: packets of a camera that another process captures."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when nobody captures it here."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._closed = False
        try:
            self._socket.settimeout(_FIRST_S)
            with _name(path) as name:
                self._socket.connect(name)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """End it; whoever reads comes free."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def read(self) -> Iterator[CodedPacket]:
        """Packets, the first a key picture, until it ends or nothing has come for `STALE_S`."""
        shape: Shape | None = None
        with self._socket, contextlib.suppress(OSError, EOFError):
            while not self._closed:
                length, kind, pts, received_us, run = _HEAD.unpack(self._take(_HEAD.size))
                body = self._take(length)
                if kind == _SHAPE:
                    codec, _, sets = body.partition(b"\0")
                    shape = Shape(codec.decode(), sets)
                elif shape is not None:
                    self._socket.settimeout(STALE_S)
                    yield CodedPacket(
                        data=body, pts=None if pts == _NO_PTS else pts, key=kind == _KEY_PICTURE,
                        received_at=_EPOCH + received_us * _MICROSECOND, run=run, shape=shape,
                    )  # fmt: skip

    def _take(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            some = self._socket.recv(count - len(data))
            if not some:
                raise EOFError
            data += some
        return bytes(data)
