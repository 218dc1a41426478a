"""The few packets of MQTT 3.1.1 that a subscriber at QoS 1 needs, as bytes (OASIS mqtt-v3.1.1, chapter 3).

A client library spends about 20 µs on handing over one message, most of what we have for all of it. Here a buffer full of
messages is taken apart in one loop, and acknowledgements go out as one buffer. QoS 2 is not spoken: we never ask for it.
"""

from collections.abc import Sequence
from struct import pack
from typing import NamedTuple

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 9, 11, 13
PING = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
MAX_PACKET_BYTES = 268_435_455


class ProtocolError(Exception):
    """What came is not MQTT 3.1.1, or nothing that a broker may send to us."""


class Publish(NamedTuple):
    """A message as it came. `mid` is 0 at QoS 0. `payload` may be cut; `payload_bytes` is the length it had."""

    topic: bytes
    payload: bytes
    payload_bytes: int
    mid: int


class Control(NamedTuple):
    """Any other packet: its type (CONNACK, SUBACK, …) and its body."""

    type: int
    body: bytes


def write_connect(client_id: str, user: str, password: str, keepalive_s: int) -> bytes:
    """CONNECT for a session that the broker keeps while we are away."""
    flags = 0xC0 if user else 0x00  # user name and password; clean session stays 0
    body = _text("MQTT") + bytes((4, flags)) + pack(">H", keepalive_s) + _text(client_id)
    return _packet(0x10, body + (_text(user) + _text(password) if user else b""))


def write_subscribe(mid: int, filters: Sequence[str]) -> bytes:
    """SUBSCRIBE to all of `filters` at QoS 1."""
    return _packet(0x82, pack(">H", mid) + b"".join(_text(name) + b"\x01" for name in filters))


def write_unsubscribe(mid: int, filters: Sequence[str]) -> bytes:
    """UNSUBSCRIBE from all of `filters`."""
    return _packet(0xA2, pack(">H", mid) + b"".join(map(_text, filters)))


def write_publish(topic: str, payload: bytes, mid: int) -> bytes:
    """PUBLISH at QoS 1, or at QoS 0 when `mid` is 0."""
    if mid == 0:
        return _packet(0x30, _text(topic) + payload)
    return _packet(0x32, _text(topic) + pack(">H", mid) + payload)


def write_pubacks(mids: Sequence[int]) -> bytes:
    """PUBACK for each of `mids`, in this order, in one buffer."""
    return b"".join(_PUBACKS[mid >> 8][mid & 0xFF] for mid in mids)


_PUBACKS = [[bytes((0x40, 2, high, low)) for low in range(256)] for high in range(256)]


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pack(">H", len(encoded)) + encoded


def _packet(head: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    if rest > MAX_PACKET_BYTES:
        raise ProtocolError(f"a packet of {rest} bytes")
    while True:
        rest, digit = divmod(rest, 128)
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes((head,)) + bytes(length) + body


class Reader:
    """Takes a stream of bytes apart into packets. A message larger than `max_payload_bytes` is cut while it comes in."""

    def __init__(self, max_payload_bytes: int) -> None:
        self._most = max_payload_bytes
        self._buffer = b""
        self._position = 0
        self._cut: Publish | None = None  # a large message of which `_skip` bytes are still to come
        self._skip = 0

    def feed(self, data: bytes) -> None:
        """What came from the socket."""
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:]
        self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def read(self, limit: int) -> tuple[list[Publish], list[Control]]:
        """Whole packets so far, `limit` messages at most; what is behind them stays for the next call.

        Raises ProtocolError; then the connection is of no more use.
        """
        messages: list[Publish] = []
        others: list[Control] = []
        if self._skip == 0 and self._cut is not None and limit > 0:
            messages.append(self._cut)
            self._cut = None
        buffer, position, end = self._buffer, self._position, len(self._buffer)
        while len(messages) < limit and self._cut is None:
            if end - position < 2:
                break
            length, start = buffer[position + 1], position + 2
            if length >= 128:
                found = _read_length(buffer, position + 1)
                if found is None:
                    break
                length, start = found
            stop = start + length
            head = buffer[position]
            if stop > end:
                if head >> 4 == PUBLISH and length > 2 * self._most + 65_537 and end - start > self._most + 65_537:
                    self._cut, self._skip = _read_publish(buffer, head, start, stop, self._most), stop - end
                    position = end
                elif length > 2 * self._most + 65_537 and head >> 4 != PUBLISH:
                    raise ProtocolError(f"a packet of type {head >> 4} with {length} bytes")
                break
            if head >> 4 == PUBLISH:
                messages.append(_read_publish(buffer, head, start, stop, self._most))
            else:
                others.append(Control(head >> 4, buffer[start:stop]))
            position = stop
        self._position = position
        return messages, others

    @property
    def held_bytes(self) -> int:
        """Bytes that came and were not read yet."""
        return len(self._buffer) - self._position


def _read_length(buffer: bytes, position: int) -> tuple[int, int] | None:
    """The remaining length of two to four digits, and where it ends; None: not all of it is there."""
    length = 0
    for place in range(4):
        if position + place >= len(buffer):
            return None
        digit = buffer[position + place]
        length |= (digit & 0x7F) << (7 * place)
        if digit < 128:
            return length, position + place + 1
    raise ProtocolError("a length of more than four digits")


def _read_publish(buffer: bytes, head: int, start: int, stop: int, most: int) -> Publish:
    if stop - start < 2:
        raise ProtocolError("a message without a topic")
    topic_end = start + 2 + (buffer[start] << 8 | buffer[start + 1])
    mid, payload_start = 0, topic_end
    if head & 0x06:
        payload_start += 2
        mid = buffer[topic_end] << 8 | buffer[topic_end + 1] if payload_start <= stop else 0
        if mid == 0 or head & 0x04:
            raise ProtocolError("a message without an id, or at a QoS that was not asked for")
    if payload_start > stop:
        raise ProtocolError("a message whose topic is longer than itself")
    size = stop - payload_start
    payload = buffer[payload_start : stop if size <= most else payload_start + most]
    return Publish(buffer[start + 2 : topic_end], payload, size, mid)
