"""A relay on this machine between the video library and a camera, because the library follows redirections.

An address is checked before it is opened (ingest/address.py). A server could answer it with another one (RTSP 302), and the library
would open that without asking anybody. Over TCP it therefore speaks to us: until it plays we read each answer, and an answer that
redirects becomes a refusal. To a camera this looks like a forwarded port. Closing the relay frees a library that hangs.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from urllib.parse import urlsplit

from ingest.address import CameraAddress

_CHUNK_BYTES = 65_536
_MOST_BYTES = 200_000
"""Of one answer; the library's own buffers are smaller."""


class Relay:
    """One connection to a camera. The library opens `url`, once. Raises OSError when the camera cannot be reached."""

    def __init__(self, address: CameraAddress, timeout_s: float) -> None:
        parts = urlsplit(address.url)
        self._camera: socket.socket = socket.create_connection((address.ip, address.port), timeout=timeout_s)
        try:
            if parts.scheme == "rtsps":
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # cameras sign their own
                self._camera = context.wrap_socket(self._camera)
            self._camera.settimeout(None)
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        except BaseException:
            self._camera.close()
            raise
        self._listener.settimeout(timeout_s)
        login = parts.netloc.rpartition("@")[0]
        place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"rtsp://{login + '@' if login else ''}{place}{parts.path}{'?' + parts.query if parts.query else ''}"
        self.redirected = False
        """The camera tried to send us elsewhere."""
        self._library: socket.socket | None = None
        self._plays = False
        self._waiting = b""
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def close(self) -> None:
        """End both connections. From any thread, more than once."""
        self._closed.set()
        for each in (self._listener, self._library, self._camera):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _run(self) -> None:
        try:
            self._library, _ = self._listener.accept()
            self._listener.close()
            self._library.settimeout(None)
            self._library.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pass_on(self._library)
        except (OSError, ValueError):
            pass
        finally:
            self.close()

    def _pass_on(self, library: socket.socket) -> None:
        """Both ways in one thread: a TLS connection is not for two at once."""
        with selectors.DefaultSelector() as selector:
            selector.register(library, selectors.EVENT_READ)
            selector.register(self._camera, selectors.EVENT_READ)
            while not self._closed.is_set():
                for ready, _ in selector.select(2.0):  # sockets that are closed meanwhile wake nobody
                    source = ready.fileobj
                    assert isinstance(source, socket.socket)
                    some = source.recv(_CHUNK_BYTES)
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        some += source.recv(_CHUNK_BYTES)
                    if not some:
                        return
                    if source is library:
                        self._send_up(some)
                    else:
                        self._send_down(library, some)

    def _send_up(self, some: bytes) -> None:
        if some.startswith(b"PLAY "):  # the library has connected, and heeds no redirection any more
            self._plays = True
        self._camera.sendall(some)

    def _send_down(self, library: socket.socket, some: bytes) -> None:
        if self._plays and not self._waiting:
            library.sendall(some)
            return
        self._waiting += some
        while self._waiting and (length := message_length(self._waiting)) is not None:
            message, self._waiting = self._waiting[:length], self._waiting[length:]
            library.sendall(message if self._plays else self._censor(message))
        if len(self._waiting) > _MOST_BYTES:
            raise ValueError("an endless answer")

    def _censor(self, message: bytes) -> bytes:
        if not is_redirection(message):
            return message
        self.redirected = True
        number = next((line for line in _lines(message) if line.lower().startswith(b"cseq:")), b"CSeq: 0")
        return b"RTSP/1.0 403 Forbidden\r\n" + number + b"\r\n\r\n"


def message_length(buffer: bytes) -> int | None:
    """Bytes of the first message in a buffer: an answer with its body, or an interleaved packet; None when it is not whole.

    As the library reads (libavformat, ff_rtsp_read_reply): lines end with LF, CR means nothing. Raises ValueError.
    """
    if buffer[:1] == b"$":
        if len(buffer) < 4:
            return None
        length = 4 + int.from_bytes(buffer[2:4], "big")
        return length if len(buffer) >= length else None
    at = 0
    body = 0
    while (end := buffer.find(b"\n", at)) >= 0:
        line = buffer[at:end].replace(b"\r", b"")
        at = end + 1
        if not line:
            return at + body if len(buffer) >= at + body else None
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            body = int(value)
            if not 0 <= body <= _MOST_BYTES:
                raise ValueError("an endless answer")
    return None


def is_redirection(message: bytes) -> bool:
    """Is this an RTSP answer that sends us elsewhere? One whose status is not plainly another is taken for one."""
    words = _lines(message)[0].split()
    if not words or not words[0].startswith(b"RTSP/"):
        return False
    status = words[1] if len(words) > 1 else b""
    return len(status) != 3 or not status.isdigit() or status.startswith(b"3")


def is_redirected(address: CameraAddress, timeout_s: float) -> bool:
    """Ask for a description once, without a password: does this camera send whoever asks elsewhere? For UDP, which no relay
    can carry; a server that redirects only after a log-in, or only the second asker, is not found out. Raises OSError."""
    url = urlsplit(address.url)
    target = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}{'?' + url.query if url.query else ''}"
    with socket.create_connection((address.ip, address.port), timeout=timeout_s) as connection:
        connection.sendall(f"DESCRIBE {target} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
        return is_redirection(connection.recv(_CHUNK_BYTES))


def _lines(message: bytes) -> list[bytes]:
    return [line.replace(b"\r", b"") for line in message.split(b"\n")]
