"""SL 651-2014 水文监测数据通信规约: frames out of a stream of bytes, reports out of frames, and the platform's confirmation.

Pure; the listener is ingest.ways.stations. Read in the text of the standard (a draft of it with the same tables,
SL/T XXXXX "水文监测数据通信规约", 6.2 to 6.6, annexes A to C) and compared with public programs for stations and centres
(github.com/yu-xiaoyao/sl651-2014-server, aaasoft/Quick.SL651) and with frames printed at toymoban.com/news/detail-686475.
Upward frame, HEX/BCD (tables 20, 22); ASCII (tables 16, 18) has the same fields as characters between SOH and CRC:

    7E7E | centre 1 | station 5 | password 2 | function 1 | direction 4 bits, length 12 bits | STX, or SYN total/number 3 |
    body | ETX or ETB | CRC-16 2 (init FFFF, polynomial A001, high byte first, over everything before it)

`length` counts the bytes between the start character and the end character, so with SYN it includes total and number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SOH_HEX = b"\x7e\x7e"
SOH_ASCII = b"\x01"
STX, ETX, EOT, ENQ, ACK, NAK, SYN, ETB, ESC = 0x02, 0x03, 0x04, 0x05, 0x06, 0x15, 0x16, 0x17, 0x1B
MAX_BODY_BYTES = 4095
_HEX_HEAD_BYTES = 14  # up to and with the start character
_ASCII_HEAD_BYTES = 24
_ASCII_HEAD = re.compile(rb"\x01[0-9A-Fa-f]{22}[\x02\x16]")

KEEP_ALIVE, TEST, UNIFORM, TIMED, EXTRA, HOURLY, MANUAL, PICTURE = 0x2F, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36
QUERY_REALTIME, QUERY_PERIOD, QUERY_MANUAL, QUERY_ELEMENTS = 0x37, 0x38, 0x39, 0x3A


class Encoding(StrEnum):
    """How a frame's fields are written."""

    HEX = "hex"
    ASCII = "ascii"


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One upward frame with a right CRC. `station` and `password` are hexadecimal digits; ASCII bodies are text bytes.

    `total` and `number` (from 1) are those of a report in several packets (SYN), else 1 and 1.
    """

    encoding: Encoding
    centre: int
    station: str
    password: str
    function: int
    total: int
    number: int
    multiple: bool
    body: bytes
    end: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Junk:
    """Bytes that are no frame, and why: `no_frame`, `bad_crc`, `bad_end`."""

    data: bytes
    reason: str


def _shift(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value


_CRC_TABLE = tuple(_shift(byte) for byte in range(256))


def compute_crc(data: bytes) -> int:
    """CRC-16 of annex H.3.2: register FFFF, each byte into the low half, shifted right through A001."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


class FrameReader:
    """Finds frames in a stream that may begin anywhere, be split anywhere and hold anything between frames."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._max_body_bytes = max_body_bytes

    @property
    def pending(self) -> int:
        """Bytes that may be the beginning of a frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame | Junk]:
        """What is complete now, in order. Keeps at most one frame's length."""
        self._buffer += data
        return self._scan(final=False)

    def expire(self) -> list[Frame | Junk]:
        """Give up on the frame that does not go on (a false beginning, or a broken line); what else lies in the buffer."""
        return self._scan(final=True)

    def _scan(self, *, final: bool) -> list[Frame | Junk]:
        found: list[Frame | Junk] = []
        junk = bytearray()
        reason = "no_frame"
        while self._buffer:
            step = self._try_frame()
            if step is None and not final:
                break
            if isinstance(step, Frame):
                if junk:
                    found.append(Junk(bytes(junk), reason))
                    junk.clear()
                    reason = "no_frame"
                found.append(step)
                del self._buffer[: len(step.raw)]
                continue
            if isinstance(step, str) and step != "no_frame":
                reason = step
            skip = self._distance() if step == "no_frame" else 1
            junk += self._buffer[:skip]
            del self._buffer[:skip]
        if junk:
            found.append(Junk(bytes(junk), reason))
        return found

    def _distance(self) -> int:
        """Bytes up to the next place at which a frame may begin."""
        places = [at for soh in (b"\x7e", SOH_ASCII) if (at := self._buffer.find(soh, 1)) > 0]
        return min(places, default=len(self._buffer))

    def _try_frame(self) -> Frame | str | None:
        """A frame at the buffer's beginning; None: more bytes are needed; else the reason why there is none."""
        if self._buffer[:1] == SOH_ASCII:
            return self._try_ascii()
        if self._buffer[:1] != SOH_HEX[:1]:
            return "no_frame"
        if len(self._buffer) < 2:
            return None
        return self._try_hex() if self._buffer[:2] == SOH_HEX else "no_frame"

    def _try_hex(self) -> Frame | str | None:
        head = bytes(self._buffer[:_HEX_HEAD_BYTES])
        if len(head) > 5 and not head[3:6].hex().isdigit():
            return (
                "no_frame"  # the first three bytes of a station's address are decimal digits in every scheme (6.2.3.2)
            )
        if len(head) > 11 and head[11] >> 4:
            return "no_frame"  # not upward
        if len(head) < _HEX_HEAD_BYTES:
            return None
        length = (head[11] & 0x0F) << 8 | head[12]
        if head[13] not in (STX, SYN) or length > self._max_body_bytes:
            return "no_frame"
        stop = _HEX_HEAD_BYTES + length
        if len(self._buffer) < stop + 3:
            return None
        raw = bytes(self._buffer[: stop + 3])
        if raw[stop] not in (ETX, ETB):
            return "bad_end"
        if compute_crc(raw[: stop + 1]) != int.from_bytes(raw[stop + 1 :]):
            return "bad_crc"
        body = raw[_HEX_HEAD_BYTES:stop]
        packets = _read_packets(body[:3].hex()) if head[13] == SYN else (1, 1)
        if packets is None:
            return "no_frame"
        return Frame(
            encoding=Encoding.HEX,
            centre=head[2],
            station=head[3:8].hex().upper(),
            password=head[8:10].hex().upper(),
            function=head[10],
            total=packets[0],
            number=packets[1],
            multiple=head[13] == SYN,
            body=body[3:] if head[13] == SYN else body,
            end=raw[stop],
            raw=raw,
        )

    def _try_ascii(self) -> Frame | str | None:
        head = bytes(self._buffer[:_ASCII_HEAD_BYTES])
        if len(head) < _ASCII_HEAD_BYTES:
            return None if re.fullmatch(rb"\x01[0-9A-Fa-f]*", head) else "no_frame"
        if _ASCII_HEAD.fullmatch(head) is None:
            return "no_frame"
        fields = head[1:-1].decode("ascii").upper()
        length = int(fields[19:22], 16)
        if fields[18] != "0" or length > self._max_body_bytes:
            return "no_frame"
        stop = _ASCII_HEAD_BYTES + length
        if len(self._buffer) < stop + 5:
            return None
        raw = bytes(self._buffer[: stop + 5])
        if raw[stop] not in (ETX, ETB):
            return "bad_end"
        if re.fullmatch(rb"[0-9A-Fa-f]{4}", raw[stop + 1 :]) is None or compute_crc(raw[: stop + 1]) != int(
            raw[stop + 1 :], 16
        ):
            return "bad_crc"
        body = raw[_ASCII_HEAD_BYTES:stop]
        multiple = head[-1] == SYN
        packets = _read_packets(body[:6].decode("ascii", "replace")) if multiple else (1, 1)
        if packets is None:
            return "no_frame"
        return Frame(
            encoding=Encoding.ASCII,
            centre=int(fields[0:2], 16),
            station=fields[2:12],
            password=fields[12:16],
            function=int(fields[16:18], 16),
            total=packets[0],
            number=packets[1],
            multiple=multiple,
            body=body[6:] if multiple else body,
            end=raw[stop],
            raw=raw,
        )


def _read_packets(digits: str) -> tuple[int, int] | None:
    """Total and number, twelve bits each (table 22); None when they contradict each other."""
    try:
        total, number = int(digits[:3], 16), int(digits[3:6], 16)
    except ValueError:
        return None
    return (total, number) if len(digits) == 6 and 1 <= number <= total else None


class Assembly:
    """Puts the packets of long reports together, per station; bounded, and forgotten when a report does not go on."""

    def __init__(self, max_bytes: int = 200_000) -> None:
        self._max_bytes = max_bytes
        self._parts: dict[tuple[str, int], dict[int, Frame]] = {}

    def add(self, frame: Frame) -> tuple[bytes, list[int]] | None:
        """The whole body and no missing numbers; or b"" and the numbers to ask for; None: wait for more.

        Missing packets are known when one that ends the report (ETX) came and others have not. A packet that was asked
        for comes again with ETX too, so the question is asked anew until none is missing.
        """
        if not frame.multiple:
            return frame.body, []
        key = (frame.station, frame.function)
        parts = self._parts.setdefault(key, {})
        if parts and next(iter(parts.values())).total != frame.total:
            parts.clear()
        parts[frame.number] = frame
        if sum(len(part.body) for part in parts.values()) > self._max_bytes:
            del self._parts[key]
            return None
        missing = [number for number in range(1, frame.total + 1) if number not in parts] if frame.end == ETX else None
        if len(parts) == frame.total:
            del self._parts[key]
            return b"".join(parts[number].body for number in range(1, frame.total + 1)), []
        return (b"", missing[:10]) if missing else None


def write_answer(frame: Frame, serial: int, sent_at: datetime, end: int, *, number: int | None = None) -> bytes:
    """The platform's downward frame to a report (tables 17, 19, 21, 23; body table 29): serial and time.

    `sent_at` is the city's wall clock. `end`: ACK while more packets follow, ESC to keep the line, EOT to end it, NAK to ask
    for packet `number` again.
    """
    body = f"{serial & 0xFFFF:04X}{sent_at:%y%m%d%H%M%S}"
    if frame.multiple:
        body = f"{frame.total:03X}{frame.total if number is None else number:03X}{body}"
    start = SYN if frame.multiple else STX
    head = f"{frame.station}{frame.centre:02X}{frame.password}{frame.function:02X}"
    if frame.encoding is Encoding.ASCII:
        data = (
            SOH_ASCII
            + f"{head}8{len(body):03X}".encode("ascii")
            + bytes((start,))
            + body.encode("ascii")
            + bytes((end,))
        )
        return data + f"{compute_crc(data):04X}".encode("ascii")
    data = (
        SOH_HEX + bytes.fromhex(f"{head}8{len(body) // 2:03X}") + bytes((start,)) + bytes.fromhex(body) + bytes((end,))
    )
    return data + compute_crc(data).to_bytes(2)


def is_station_address(text: str) -> bool:
    """Ten hexadecimal digits of which the first six are decimal (6.2.3.2)."""
    return re.fullmatch(r"[0-9]{6}[0-9A-F]{4}", text) is not None


def join_junk(items: Sequence[Frame | Junk]) -> bytes:
    """All bytes that were no frame."""
    return b"".join(item.data for item in items if isinstance(item, Junk))
