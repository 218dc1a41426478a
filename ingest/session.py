"""One lasting connection to the broker: it subscribes, hands over what comes, writes what it is given, and comes back by itself.

A thread of its own does all reading and writing. It stops reading while nobody has room for more; the broker then holds
the rest. The broker keeps the session (clean session 0), so what was not acknowledged comes again after a reconnect.
"""

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.wire import (
    CONNACK,
    DISCONNECT,
    PING,
    PINGRESP,
    SUBACK,
    Control,
    ProtocolError,
    Publish,
    Reader,
    write_connect,
    write_pubacks,
    write_publish,
    write_subscribe,
    write_unsubscribe,
)
from kernel.clock import Clock

log = logging.getLogger(__name__)
_KEEPALIVE_S = 30
_CHUNK_BYTES = 262_144
_WAITING_BYTES = 16_000_000  # of what is to be sent; receipts beyond it are dropped, and the device asks again
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.25, 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where the broker is, and as whom to go there."""

    host: str
    port: int
    user: str
    password: str
    client_id: str
    tls: bool = False
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Address({self.host}:{self.port}, {self.client_id})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What to ask for, and what an earlier setting may have left in the session the broker keeps."""

    wanted: Sequence[str]
    unwanted: Sequence[str]


class Session:
    """See the module. `receive(messages, connection)` is called in the network thread, with no more than `room()` messages."""

    def __init__(
        self,
        address: Address,
        subscription: Subscription,
        clock: Clock,
        *,
        receive: Callable[[list[Publish], int], None],
        room: Callable[[], int],
        max_payload_bytes: int,
    ) -> None:
        self._address, self._subscription, self._clock = address, subscription, clock
        self._receive, self._room, self._max_payload_bytes = receive, room, max_payload_bytes
        self._lock = threading.Lock()
        self._out = bytearray()
        self._connection = 0  # a later one knows no message id of an earlier one
        self._connected = False
        self._socket: socket.socket | None = None
        self._last_mid = 0
        self._listening_since: datetime | None = None
        self._leave = threading.Event()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=address.client_id, daemon=True)

    def start(self) -> None:
        """Connect, now or as soon as the broker is there."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what waits (acknowledgements, receipts), say good-bye and leave, all within `timeout_s`."""
        self._leave.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def listening_since(self) -> datetime | None:
        """Since when messages could come without a break; None while disconnected."""
        return self._listening_since

    @property
    def connection(self) -> int:
        """Number of the connection; a later one has a higher."""
        return self._connection

    def wake(self) -> None:
        """Look again: there is room, or something to send."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it has left
            self._waker.send(b"\x00")

    def acknowledge(self, mids: Sequence[int], connection: int) -> None:
        """Acknowledge messages of that connection; of an earlier one: nothing, the broker sends them again anyway."""
        with self._lock:
            if connection != self._connection or not self._connected:
                return
            self._out += write_pubacks(mids)
        self.wake()

    def publish(self, messages: Sequence[tuple[str, bytes]], *, qos: int = 1) -> bool:
        """Send (topic, payload)s once; False when there is no connection, or too much waits already."""
        with self._lock:
            if not self._connected or len(self._out) > _WAITING_BYTES:
                return False
            for topic, payload in messages:
                self._out += write_publish(topic, payload, self._next_mid() if qos else 0)
        self.wake()
        return True

    def _next_mid(self) -> int:
        self._last_mid = self._last_mid % 65_535 + 1
        return self._last_mid

    # ---------------------------------------------------------------- network thread

    def _run(self) -> None:
        pause_s = _PAUSE_FIRST_S
        while not self._leave.is_set():
            since = time.monotonic()
            try:
                with self._open() as connection:
                    self._socket = connection
                    self._serve(connection)
            except (OSError, ProtocolError) as error:
                if not self._leave.is_set():
                    log.warning("the broker's connection ended: %s", error, extra={"client": self._address.client_id})
            finally:
                with self._lock:
                    self._connection += 1
                    self._connected = False
                    self._out.clear()
                self._listening_since, self._socket = None, None
            pause_s = _PAUSE_FIRST_S if time.monotonic() - since > _KEEPALIVE_S else min(pause_s * 2, _PAUSE_MOST_S)
            self._leave.wait(pause_s)
        self._waker.close()
        self._woken.close()

    def _open(self) -> socket.socket:
        address = self._address
        connection = socket.create_connection((address.host, address.port), timeout=5.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls:
            context = ssl.create_default_context(cafile=address.ca_file or None)
            connection = context.wrap_socket(connection, server_hostname=address.host)
        connection.sendall(write_connect(address.client_id, address.user, address.password, _KEEPALIVE_S))
        connection.setblocking(False)
        return connection

    def _serve(self, connection: socket.socket) -> None:
        reader = Reader(self._max_payload_bytes)
        selector = selectors.DefaultSelector()
        selector.register(self._woken, selectors.EVENT_READ)
        selector.register(connection, selectors.EVENT_READ)
        heard = sent = time.monotonic()
        with selector:
            while True:
                self._hand_over(reader)
                moment = time.monotonic()
                paused = self._room() <= 0
                if paused:
                    heard = moment  # nobody listens, so nothing can be missed
                elif moment - heard > 1.5 * _KEEPALIVE_S:
                    raise TimeoutError(f"nothing heard for {moment - heard:.0f} s")
                if moment - sent > _KEEPALIVE_S / 2:
                    with self._lock:
                        self._out += PING
                if self._send(connection):
                    sent = moment
                if self._leave.is_set() and not self._out:
                    connection.sendall(DISCONNECT)
                    return
                wanted = (0 if paused else selectors.EVENT_READ) | (selectors.EVENT_WRITE if self._out else 0)
                self._wait(selector, connection, wanted)
                if not paused and self._read(connection, reader):
                    heard = time.monotonic()

    def _wait(self, selector: selectors.BaseSelector, connection: socket.socket, wanted: int) -> None:
        """Until there is something to do, a second at most. TLS may hold bytes that no selector sees."""
        if isinstance(connection, ssl.SSLSocket) and connection.pending() and wanted & selectors.EVENT_READ:
            return
        if connection in selector.get_map():
            if wanted:
                selector.modify(connection, wanted)
            else:
                selector.unregister(connection)
        elif wanted:
            selector.register(connection, wanted)
        selector.select(1.0)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _read(self, connection: socket.socket, reader: Reader) -> bool:
        try:
            data = connection.recv(_CHUNK_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not data:
            raise ConnectionResetError("closed by the broker")
        reader.feed(data)
        return True

    def _send(self, connection: socket.socket) -> bool:
        with self._lock:
            if not self._out:
                return False
            try:
                count = connection.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            del self._out[:count]
            return True

    def _hand_over(self, reader: Reader) -> None:
        """Everything that was read and that there is room for."""
        while (room := max(0, self._room())) or not self._connected:
            messages, others = reader.read(max(room, 1))
            for packet in others:
                self._answer(packet)
            if messages:
                self._receive(messages, self._connection)
            if len(messages) < room or not room:
                return

    def _answer(self, packet: Control) -> None:
        if packet.type == CONNACK:
            if len(packet.body) != 2 or packet.body[1] != 0:
                raise ProtocolError(f"the broker refused the log-in: {packet.body.hex()}")
            self._subscribe()
            log.info("connected to the broker", extra={"session_present": bool(packet.body[0] & 1)})
        elif packet.type == SUBACK:
            if any(code & 0x80 for code in packet.body[2:]):
                log.error("the broker refused a subscription", extra={"topics": list(self._subscription.wanted)})
            else:
                self._listening_since = self._clock.now()
        elif packet.type == PINGRESP:
            return

    def _subscribe(self) -> None:
        with self._lock:
            self._connected = True
            if self._subscription.unwanted:
                self._out += write_unsubscribe(self._next_mid(), self._subscription.unwanted)
            self._out += write_subscribe(self._next_mid(), self._subscription.wanted)
