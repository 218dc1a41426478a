"""RTP packets of H.264 and RTSP messages: what leaves can be put together again, and nonsense is refused."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.rtsp.message import BadRequest, Request, parse_head, read_message, read_transport
from simulators.rtsp.rtp import MAX_PAYLOAD_BYTES, Packetizer, split_nals, split_payloads

# A NAL unit never holds three bytes that look like a start code, and doesn't end in zero (emulation prevention).
NALS = st.binary(min_size=2, max_size=6000).map(lambda b: bytes([0x65]) + b.replace(b"\x00", b"\x01"))


def join(payloads: list[bytes]) -> bytes:
    """A receiver's part of RFC 6184: single units as they are, FU-A fragments joined."""
    if len(payloads) == 1:
        return payloads[0]
    head = bytes([(payloads[0][0] & 0xE0) | (payloads[0][1] & 0x1F)])
    return head + b"".join(payload[2:] for payload in payloads)


@given(NALS)
def test_fragments_join_to_the_unit_they_came_from(nal: bytes) -> None:
    payloads = list(split_payloads(nal))
    assert join(payloads) == nal
    assert all(len(payload) <= MAX_PAYLOAD_BYTES for payload in payloads)
    if len(payloads) > 1:
        assert [bool(p[1] & 0x80) for p in payloads] == [True] + [False] * (len(payloads) - 1)
        assert [bool(p[1] & 0x40) for p in payloads] == [False] * (len(payloads) - 1) + [True]


@given(st.lists(NALS, min_size=1, max_size=5), st.integers(0, 2**33))
def test_packets_count_up_and_mark_the_last_of_a_picture(nals: list[bytes], timestamp: int) -> None:
    packetizer = Packetizer(ssrc=7, sequence=65_534)
    packets = packetizer.pack(nals, timestamp)
    heads = [struct.unpack("!BBHII", packet[:12]) for packet in packets]
    assert [head[2] for head in heads] == [(65_534 + i) & 0xFFFF for i in range(len(packets))]
    assert [bool(head[1] & 0x80) for head in heads] == [False] * (len(packets) - 1) + [True]
    assert {head[3] for head in heads} == {timestamp & 0xFFFFFFFF}
    assert {head[4] for head in heads} == {7}


@given(st.lists(NALS, max_size=6), st.booleans())
def test_a_byte_stream_falls_into_its_units(nals: list[bytes], long_codes: bool) -> None:
    code = b"\x00\x00\x00\x01" if long_codes else b"\x00\x00\x01"
    assert split_nals(b"".join(code + nal for nal in nals)) == nals


def test_delimiters_and_fillers_are_left_out() -> None:
    assert split_nals(b"\x00\x00\x01\x09\xf0\x00\x00\x01\x65\x88\x00\x00\x01\x0c\xff\x80") == [b"\x65\x88"]


def test_a_sender_report_ties_the_rtp_clock_to_the_walls() -> None:
    report = Packetizer(ssrc=9, sequence=0, packet_count=3, octet_count=400).report(
        1_700_000_000.5, 90_000, "gridwarden/a"
    )
    kind, words, ssrc, seconds, fraction, timestamp, packets, octets = struct.unpack("!xBHIIIIII", report[:28])
    assert (kind, words, ssrc, timestamp, packets, octets) == (200, 6, 9, 90_000, 3, 400)
    assert seconds - 2_208_988_800 == 1_700_000_000
    assert fraction == 2**31
    assert len(report) % 4 == 0
    assert b"gridwarden/a" in report


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_request_or_refused(head: bytes) -> None:
    try:
        request = parse_head(head)
    except BadRequest as error:
        assert error.status in (400, 505)
    else:
        assert isinstance(request, Request)


def read(data: bytes) -> Request | bytes | None:
    async def run() -> Request | bytes | None:
        reader = asyncio.StreamReader(limit=8192)
        reader.feed_data(data)
        reader.feed_eof()
        return await read_message(reader)

    return asyncio.run(run())


def test_a_request_is_read_with_its_body() -> None:
    request = read(b"GET_PARAMETER rtsp://h/a RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 3\r\n\r\nabc")
    assert isinstance(request, Request)
    assert (request.method, request.path, request.headers["cseq"], request.body) == ("GET_PARAMETER", "a", "4", b"abc")


def test_interleaved_frames_are_told_from_requests() -> None:
    assert read(b"$\x01\x00\x04abcdOPTIONS") == b"abcd"


def test_an_endless_head_is_refused() -> None:
    with pytest.raises(BadRequest) as refusal:
        read(b"OPTIONS * RTSP/1.0\r\n" + b"X: y\r\n" * 4000)
    assert refusal.value.status == 413


@pytest.mark.parametrize(("length", "status"), [("99999999", 413), ("-1", 413), ("many", 400)])
def test_a_body_of_impossible_length_is_refused(length: str, status: int) -> None:
    with pytest.raises(BadRequest) as refusal:
        read(f"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {length}\r\n\r\n".encode())
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=2-3", ("tcp", (2, 3))),
        ("RTP/AVP;unicast;client_port=5000-5001", ("udp", (5000, 5001))),
        ("RTP/AVP;multicast;client_port=5000-5001,RTP/AVP/TCP;interleaved=0-1", ("tcp", (0, 1))),
        ("RTP/AVP;unicast;client_port=5000", ("udp", (5000, 5001))),
        ("RTP/AVP;unicast;client_port=99999-100000", None),
        ("RTP/AVP;multicast", None),
        ("", None),
    ],
)
def test_the_first_transport_that_we_know_is_taken(header: str, found: tuple[str, tuple[int, int]] | None) -> None:
    assert read_transport(header) == found
