"""RTP packets of H.264 (RFC 6184, packetization mode 1) and H.265 (RFC 7798), RTCP sender reports (RFC 3550)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PAYLOAD_TYPE = 96
CLOCK_HZ = 90_000
MAX_PAYLOAD_BYTES = 1400
"""Payload bytes of one packet: with every header below the 1,500 bytes of an Ethernet frame."""

NAL_IDR, NAL_SPS, NAL_PPS, NAL_DELIMITER, NAL_FILLER = 5, 7, 8, 9, 12
H265_VPS, H265_SPS, H265_PPS, H265_DELIMITER, H265_FILLER = 32, 33, 34, 35, 38
_FU_A = 28
_H265_FU = 49
_NTP_EPOCH_S = 2_208_988_800  # 1900-01-01 to 1970-01-01


def nal_type(nal: bytes) -> int:
    """Type of a NAL unit, 0 to 31."""
    return nal[0] & 0x1F


def h265_nal_type(nal: bytes) -> int:
    """Type of an H.265 NAL unit, 0 to 63; 16 to 23 is where decoding may begin."""
    return nal[0] >> 1 & 0x3F


def split_nals(stream: bytes, *, h265: bool = False) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without start codes and without delimiters and fillers."""
    left_out = (H265_DELIMITER, H265_FILLER) if h265 else (NAL_DELIMITER, NAL_FILLER)
    type_of = h265_nal_type if h265 else nal_type
    found: list[bytes] = []
    start = stream.find(b"\x00\x00\x01")
    while start >= 0:
        following = stream.find(b"\x00\x00\x01", start + 3)
        nal = stream[start + 3 : following if following >= 0 else len(stream)].rstrip(b"\x00")
        if nal and type_of(nal) not in left_out:
            found.append(nal)
        start = following
    return found


def split_payloads(nal: bytes, limit: int = MAX_PAYLOAD_BYTES) -> Iterator[bytes]:
    """The RTP payloads of one NAL unit: itself when it fits (5.6), else fragments FU-A (5.8)."""
    if len(nal) <= limit:
        yield nal
        return
    indicator, kind = (nal[0] & 0xE0) | _FU_A, nal[0] & 0x1F
    body = memoryview(nal)[1:]
    step = limit - 2
    for offset in range(0, len(body), step):
        part = body[offset : offset + step]
        first = 0x80 if offset == 0 else 0
        last = 0x40 if offset + step >= len(body) else 0
        yield bytes((indicator, first | last | kind)) + bytes(part)


def split_h265_payloads(nal: bytes, limit: int = MAX_PAYLOAD_BYTES) -> Iterator[bytes]:
    """The RTP payloads of one H.265 NAL unit: itself when it fits (RFC 7798, 4.4.1), else fragments (4.4.3)."""
    if len(nal) <= limit:
        yield nal
        return
    header = bytes(((nal[0] & 0x81) | _H265_FU << 1, nal[1]))
    kind = h265_nal_type(nal)
    body = memoryview(nal)[2:]
    step = limit - 3
    for offset in range(0, len(body), step):
        first = 0x80 if offset == 0 else 0
        last = 0x40 if offset + step >= len(body) else 0
        yield header + bytes((first | last | kind,)) + bytes(body[offset : offset + step])


@dataclass(slots=True)
class Packetizer:
    """Numbers the packets of one stream. `timestamp` is in units of 1/90,000 s and wraps at 32 bits."""

    ssrc: int
    sequence: int
    packet_count: int = 0
    octet_count: int = 0
    h265: bool = False

    def pack(self, nals: Iterable[bytes], timestamp: int) -> list[bytes]:
        """The packets of one access unit; the marker is set on the last (RFC 6184, 5.1)."""
        split = split_h265_payloads if self.h265 else split_payloads
        payloads = [payload for nal in nals for payload in split(nal)]
        packets: list[bytes] = []
        for index, payload in enumerate(payloads):
            marker = 0x80 if index == len(payloads) - 1 else 0
            header = struct.pack(
                "!BBHII", 0x80, marker | PAYLOAD_TYPE, self.sequence, timestamp & 0xFFFFFFFF, self.ssrc
            )
            packets.append(header + payload)
            self.sequence = (self.sequence + 1) & 0xFFFF
            self.octet_count += len(payload)
        self.packet_count += len(packets)
        return packets

    def report(self, unix_s: float, timestamp: int, name: str) -> bytes:
        """A sender report and the canonical name: what ties the RTP clock to the wall's."""
        ntp_s = unix_s + _NTP_EPOCH_S
        whole = int(ntp_s)
        sender = struct.pack(
            "!BBHIIIIII",
            0x80, 200, 6, self.ssrc, whole & 0xFFFFFFFF, int((ntp_s - whole) * 2**32) & 0xFFFFFFFF,
            timestamp & 0xFFFFFFFF, self.packet_count & 0xFFFFFFFF, self.octet_count & 0xFFFFFFFF,
        )  # fmt: skip
        text = name.encode()[:255]
        item = struct.pack("!IBB", self.ssrc, 1, len(text)) + text + b"\x00"
        item += b"\x00" * (-len(item) % 4)
        return sender + struct.pack("!BBH", 0x81, 202, len(item) // 4) + item
