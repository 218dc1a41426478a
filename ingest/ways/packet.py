"""MQTT 3.1.1 and 5 as a server speaks it: packets out of a client's bytes, and the server's own packets as bytes.

Only what devices need who publish and wait for commands (OASIS mqtt-v3.1.1 and mqtt-v5.0, chapters 2 and 3). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import pack

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 3, 4, 5, 6, 7
SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, AUTH = 8, 10, 12, 14, 15
PINGRESP = b"\xd0\x00"
_TOPIC_ALIAS_MAXIMUM, _MAXIMUM_PACKET_SIZE, _RETAIN_AVAILABLE = 0x22, 0x27, 0x25
_TOPIC_ALIAS, _SHARED_AVAILABLE = 0x23, 0x2A
# How long the value of each property is: a number of bytes, or what it is made of (mqtt-v5.0, table 2-4).
_PROPERTIES: dict[int, int | str] = {
    0x01: 1, 0x02: 4, 0x03: "text", 0x08: "text", 0x09: "data", 0x0B: "varint", 0x11: 4, 0x12: "text", 0x13: 2,
    0x15: "text", 0x16: "data", 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "text", 0x1C: "text", 0x1F: "text", 0x21: 2, 0x22: 2,
    0x23: 2, 0x24: 1, 0x25: 1, 0x26: "pair", 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip


class Reason(IntEnum):
    """Reason codes of MQTT 5 that we send; for 3.1.1 they are turned into its few return codes."""

    SUCCESS = 0x00
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    BAD_CREDENTIALS = 0x86
    NOT_AUTHORIZED = 0x87
    UNAVAILABLE = 0x88
    BUSY = 0x89
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    TOPIC_INVALID = 0x90
    TOO_LARGE = 0x95
    QUOTA = 0x97
    PAYLOAD_INVALID = 0x99


class PacketError(Exception):
    """What came is not MQTT as the standard has it, or more than is allowed; `reason` is what the client is told."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT. `version`: 3 (MQTT 3.1), 4 (3.1.1) or 5. A last will is read past: nobody else listens here."""

    version: int
    client_id: str
    user: str
    password: str
    keep_alive_s: int


@dataclass(frozen=True, slots=True)
class Publish:
    """PUBLISH. `mid` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE with filters and the QoS asked for."""

    mid: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    mid: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Signal:
    """A packet that says no more than its type, and a packet number where it has one."""

    type: int
    mid: int = 0


Packet = Connect | Publish | Subscribe | Unsubscribe | Signal


class _Body:
    """Reads a packet's body from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if self.left < count:
            raise PacketError(Reason.MALFORMED, "a packet ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def data(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            text = self.data().decode("utf-8")
        except UnicodeDecodeError:
            raise PacketError(Reason.MALFORMED, "a text is not UTF-8") from None
        if "\x00" in text:
            raise PacketError(Reason.MALFORMED, "a text holds U+0000")
        return text

    def varint(self) -> int:
        value = 0
        for shift in range(0, 28, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise PacketError(Reason.MALFORMED, "a length has too many bytes")

    def properties(self) -> set[int]:
        """Read past the properties; which there were."""
        inner = _Body(self.take(self.varint()))
        seen: set[int] = set()
        while inner.left:
            identifier = inner.varint()
            form = _PROPERTIES.get(identifier)
            if form is None:
                raise PacketError(Reason.MALFORMED, f"no property {identifier}")
            seen.add(identifier)
            if isinstance(form, int):
                inner.take(form)
            elif form == "varint":
                inner.varint()
            elif form == "data":
                inner.data()
            else:
                inner.text()
                if form == "pair":
                    inner.text()
        return seen


class PacketReader:
    """Takes a client's stream apart, split anywhere. The version is known from CONNECT, which has to come first."""

    def __init__(self, max_packet_bytes: int) -> None:
        self._buffer = bytearray()
        self._max_packet_bytes = max_packet_bytes
        self.version = 0

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete now. Raises PacketError; the connection is to be closed then."""
        self._buffer += data
        packets: list[Packet] = []
        while (size := self._measure()) is not None and len(self._buffer) >= size[0] + size[1]:
            head, length = size
            first = self._buffer[0]
            body = bytes(self._buffer[head : head + length])
            del self._buffer[: head + length]
            packets.append(self._read(first, _Body(body)))
        return packets

    def _measure(self) -> tuple[int, int] | None:
        """Bytes of the fixed header and of the body; None when the header is not complete."""
        length = 0
        for at in range(1, 5):
            if len(self._buffer) <= at:
                return None
            length |= (self._buffer[at] & 0x7F) << 7 * (at - 1)
            if self._buffer[at] < 0x80:
                if length > self._max_packet_bytes:
                    raise PacketError(Reason.TOO_LARGE, f"{length} bytes, {self._max_packet_bytes} are allowed")
                if not self.version and self._buffer[0] != CONNECT << 4:
                    raise PacketError(Reason.PROTOCOL_ERROR, "CONNECT has to come first")
                return at + 1, length
        raise PacketError(Reason.MALFORMED, "a length has too many bytes")

    def _read(self, first: int, body: _Body) -> Packet:
        kind, flags = first >> 4, first & 0x0F
        if kind == PUBLISH:
            return self._read_publish(flags, body)
        if flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
            raise PacketError(Reason.MALFORMED, "reserved bits are set")
        if kind == CONNECT:
            return self._read_connect(body)
        if kind == SUBSCRIBE:
            return self._read_subscribe(body)
        if kind == UNSUBSCRIBE:
            mid = self._read_mid(body)
            filters: list[str] = []
            while body.left:
                filters.append(body.text())
            return Unsubscribe(mid, tuple(filters))
        if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            return Signal(kind, body.number(2))
        if kind in (PINGREQ, DISCONNECT):
            return Signal(kind)
        raise PacketError(Reason.PROTOCOL_ERROR, f"no packet of type {kind} may come from a client")

    def _read_mid(self, body: _Body) -> int:
        mid = body.number(2)
        if mid == 0:
            raise PacketError(Reason.PROTOCOL_ERROR, "packet number 0")
        if self.version == 5:
            body.properties()
        return mid

    def _read_connect(self, body: _Body) -> Connect:
        if self.version:
            raise PacketError(Reason.PROTOCOL_ERROR, "CONNECT came twice")
        name, version = body.text(), body.number(1)
        if (name, version) not in (("MQIsdp", 3), ("MQTT", 4), ("MQTT", 5)):
            raise PacketError(Reason.UNSUPPORTED_VERSION, f"{name[:10]} {version}")
        flags, keep_alive_s = body.number(1), body.number(2)
        if flags & 0x01:
            raise PacketError(Reason.MALFORMED, "reserved bits are set")
        self.version = version
        if version == 5:
            body.properties()
        client_id = body.text()
        if flags & 0x04:
            if version == 5:
                body.properties()
            body.text()
            body.data()
        user = body.text() if flags & 0x80 else ""
        password = body.data().decode("utf-8", "surrogateescape") if flags & 0x40 else ""
        return Connect(version, client_id, user, password, keep_alive_s)

    def _read_publish(self, flags: int, body: _Body) -> Publish:
        qos = flags >> 1 & 0x03
        if qos == 3:
            raise PacketError(Reason.MALFORMED, "QoS 3")
        topic = body.text()
        mid = body.number(2) if qos else 0
        if qos and not mid:
            raise PacketError(Reason.PROTOCOL_ERROR, "packet number 0")
        if self.version == 5 and _TOPIC_ALIAS in body.properties():
            raise PacketError(Reason.PROTOCOL_ERROR, "a topic alias, and none was offered")
        if not topic or "#" in topic or "+" in topic:
            raise PacketError(Reason.TOPIC_INVALID, "a topic is empty or holds a wildcard")
        return Publish(topic, body.take(body.left), qos, mid, bool(flags & 0x08))

    def _read_subscribe(self, body: _Body) -> Subscribe:
        mid = self._read_mid(body)
        filters: list[tuple[str, int]] = []
        while body.left:
            filters.append((body.text(), body.number(1) & 0x03))
        if not filters or len(filters) > 100:
            raise PacketError(Reason.PROTOCOL_ERROR, "1 to 100 filters are wanted")
        return Subscribe(mid, tuple(filters))


_RETURN_CODES = {Reason.SUCCESS: 0, Reason.UNSUPPORTED_VERSION: 1, Reason.BAD_CREDENTIALS: 4, Reason.NOT_AUTHORIZED: 5}


def write_connack(version: int, reason: Reason, max_packet_bytes: int) -> bytes:
    """The answer to CONNECT; no session is ever kept, so `session present` is 0."""
    if version != 5:
        return bytes((0x20, 2, 0, _RETURN_CODES.get(reason, 3)))
    properties = b""
    if reason is Reason.SUCCESS:
        properties = bytes((_MAXIMUM_PACKET_SIZE,)) + pack(">I", max_packet_bytes)
        properties += bytes((_RETAIN_AVAILABLE, 0, _SHARED_AVAILABLE, 0, _TOPIC_ALIAS_MAXIMUM, 0, 0))
    return _packet(0x20, bytes((0, reason)) + _varint(len(properties)) + properties)


def write_publish(version: int, topic: str, payload: bytes, qos: int, mid: int) -> bytes:
    """A message to the client."""
    name = topic.encode()
    head = pack(">H", len(name)) + name + (pack(">H", mid) if qos else b"") + (b"\x00" if version == 5 else b"")
    return _packet(0x30 | qos << 1, head + payload)


def write_ack(kind: int, mid: int, reason: Reason = Reason.SUCCESS) -> bytes:
    """PUBACK, PUBREC or PUBCOMP; one with success is the same in every version, others are for version 5."""
    if reason is Reason.SUCCESS:
        return bytes((kind << 4, 2)) + pack(">H", mid)
    return bytes((kind << 4, 3)) + pack(">H", mid) + bytes((reason,))


def write_suback(version: int, mid: int, granted: Sequence[int]) -> bytes:
    """The answer to SUBSCRIBE: the QoS granted, or 0x80 and above for a filter that is refused."""
    codes = bytes(code if version == 5 or code < 0x80 else 0x80 for code in granted)
    return _packet(0x90, pack(">H", mid) + (b"\x00" if version == 5 else b"") + codes)


def write_unsuback(version: int, mid: int, count: int) -> bytes:
    """The answer to UNSUBSCRIBE."""
    return _packet(0xB0, pack(">H", mid) + (b"\x00" + bytes(count) if version == 5 else b""))


def write_disconnect(version: int, reason: Reason) -> bytes:
    """Why the server ends the connection; MQTT 3 has no such packet, so b"" there."""
    return bytes((0xE0, 1, reason)) if version == 5 else b""


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    data = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        data.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(data)
