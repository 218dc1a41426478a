"""MQTT's packets: whatever the pieces a stream comes in, the same messages come out; what is no MQTT is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.wire import (
    PING,
    PUBACK,
    ProtocolError,
    Publish,
    Reader,
    write_connect,
    write_pubacks,
    write_publish,
    write_subscribe,
    write_unsubscribe,
)

MOST = 1000
messages = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40),
        st.binary(max_size=400),
        st.integers(0, 65_535),
    ),
    max_size=12,
)


def read_all(reader: Reader, limit: int = 1000) -> list[Publish]:
    return reader.read(limit)[0]


@given(sent=messages, cuts=st.lists(st.integers(1, 90), min_size=1, max_size=40), limit=st.integers(1, 5))
def test_a_stream_in_any_pieces_gives_the_same_messages_in_order(
    sent: list[tuple[str, bytes, int]], cuts: list[int], limit: int
) -> None:
    stream = b"".join(write_publish(topic, payload, mid) + PING for topic, payload, mid in sent)
    reader, found, others, piece = Reader(MOST), [], 0, 0
    while stream:
        size = cuts[piece % len(cuts)]
        reader.feed(stream[:size])
        stream, piece = stream[size:], piece + 1
        while True:
            some, controls = reader.read(limit)
            assert len(some) <= limit
            found += some
            others += len(controls)
            if len(some) < limit:
                break
    assert [(m.topic.decode(), m.payload, m.mid) for m in found] == sent
    assert all(m.payload_bytes == len(m.payload) for m in found)
    assert others == len(sent)
    assert reader.held_bytes == 0


@pytest.mark.parametrize("size", [MOST, MOST + 1, 70_000, 500_000, 3_000_000])
def test_a_large_message_is_cut_and_what_follows_is_whole(size: int) -> None:
    stream = write_publish("a/b", b"x" * size, 7) + write_publish("c", b"next", 8)
    reader, found = Reader(MOST), []
    most_held = 0
    for start in range(0, len(stream), 50_000):
        reader.feed(stream[start : start + 50_000])
        found += read_all(reader)
        most_held = max(most_held, reader.held_bytes)
    assert [(m.topic, len(m.payload), m.payload_bytes, m.mid) for m in found] == [
        (b"a/b", min(size, MOST), size, 7),
        (b"c", 4, 4, 8),
    ]
    assert most_held < 200_000  # it is not kept while it comes in


def test_reading_stops_at_the_limit_and_goes_on_without_new_bytes() -> None:
    reader = Reader(MOST)
    reader.feed(b"".join(write_publish("t", bytes([n]), n + 1) for n in range(5)))
    assert [len(read_all(reader, 2)) for _ in range(4)] == [2, 2, 1, 0]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_packets_or_a_protocol_error(stream: bytes) -> None:
    reader = Reader(MOST)
    reader.feed(stream)
    try:
        reader.read(1000)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "stream",
    [
        b"\x32\x01\x00",  # no topic
        b"\x32\x03\x00\x01a",  # QoS 1 without an id
        b"\x32\x05\x00\x01a\x00\x00",  # an id of 0
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2, which was not asked for
        b"\x30\x03\x00\x09a",  # a topic longer than the message
        b"\x30\xff\xff\xff\xff\x01",  # a length of five digits
        b"\x90\xff\xff\x7f",  # an endless packet that is no message
    ],
)
def test_what_a_broker_may_not_send_ends_the_connection(stream: bytes) -> None:
    reader = Reader(MOST)
    reader.feed(stream)
    with pytest.raises(ProtocolError):
        reader.read(10)


def test_packets_are_those_of_the_standard() -> None:
    """Bytes as chapter 3 of MQTT 3.1.1 lays them out."""
    assert write_connect("c", "u", "p", 30) == b"\x10\x13\x00\x04MQTT\x04\xc0\x00\x1e\x00\x01c\x00\x01u\x00\x01p"
    assert write_subscribe(10, ["a/b", "c"]) == b"\x82\x0c\x00\x0a\x00\x03a/b\x01\x00\x01c\x01"
    assert write_unsubscribe(2, ["a"]) == b"\xa2\x05\x00\x02\x00\x01a"
    assert write_pubacks([1, 0xABCD]) == b"\x40\x02\x00\x01\x40\x02\xab\xcd"
    assert write_publish("a", b"z" * 200, 0)[:3] == b"\x30\xcb\x01"
    reader = Reader(MOST)
    reader.feed(write_pubacks([5]))
    assert reader.read(1)[1] == [(PUBACK, b"\x00\x05")]
