"""MQTT as a server reads it: split anywhere, nonsense refused with a reason, and what paho writes understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.ways import packet as mqtt
from ingest.ways.packet import Connect, PacketError, PacketReader, Publish, Reason, Signal, Subscribe, Unsubscribe

# Written by hand from OASIS mqtt-v3.1.1 and mqtt-v5.0, chapter 3.
CONNECT_4 = bytes.fromhex(
    "10 19"  # CONNECT, 25 bytes
    "0004 4D515454 04"  # "MQTT", level 4
    "C2 003C"  # user name, password, clean session; keep-alive 60 s
    "0003 646576"  # client id "dev"
    "0003 746F6B"  # user "tok"
    "0003 6B6579"  # password "key"
)
CONNECT_5 = bytes.fromhex(
    "10 1A"
    "0004 4D515454 05"
    "82 000A"  # user name, clean start; keep-alive 10 s
    "05 11 0000003C"  # properties: session expiry interval 60
    "0003 646576"
    "0003 746F6B"
)
PUBLISH_1 = bytes.fromhex("32 09 0003 612F62 0007 7B7D")  # QoS 1, "a/b", number 7, "{}"


def feed(*parts: bytes) -> list[mqtt.Packet]:
    reader = PacketReader(1000)
    return [packet for part in parts for packet in reader.feed(part)]


def test_connect_of_both_versions() -> None:
    assert feed(CONNECT_4) == [Connect(4, "dev", "tok", "key", 60)]
    assert feed(CONNECT_5) == [Connect(5, "dev", "tok", "", 10)]


def test_a_last_will_is_read_past() -> None:
    body = bytes.fromhex("0004 4D515454 04 86 003C 0003 646576 0003 772F74 0004 676F6E65 0003 746F6B")
    assert feed(b"\x10" + bytes((len(body),)) + body) == [Connect(4, "dev", "tok", "", 60)]


def test_packets_may_be_cut_anywhere() -> None:
    stream = CONNECT_4 + PUBLISH_1 + bytes.fromhex("82 08 0001 0003 782F79 01") + bytes.fromhex("C000 E000")
    whole = feed(stream)
    assert whole[1:] == [
        Publish("a/b", b"{}", 1, 7, False),
        Subscribe(1, (("x/y", 1),)),
        Signal(mqtt.PINGREQ),
        Signal(mqtt.DISCONNECT),
    ]
    for cut in range(len(stream)):
        assert feed(stream[:cut], stream[cut:]) == whole


def test_version_5_packets_have_properties_that_are_read_past() -> None:
    publish = bytes.fromhex("32 11 0003 612F62 0007 07 26 0001 6B 0001 76 7B7D")  # one user property k=v
    subscribe = bytes.fromhex("82 0A 0001 00 0003 782F79 2D") + b""
    unsubscribe = bytes.fromhex("A2 08 0002 00 0003 782F79")
    subscribe = bytes.fromhex("82 09 0001 00 0003 782F79 2D")  # options: retain handling and no local beside QoS 1
    assert feed(CONNECT_5, publish, subscribe, unsubscribe)[1:] == [
        Publish("a/b", b"{}", 1, 7, False),
        Subscribe(1, (("x/y", 1),)),
        Unsubscribe(2, ("x/y",)),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("32 09 0003 612F62 0007 7B7D", Reason.PROTOCOL_ERROR),  # before CONNECT
        ("10 FFFFFFFF7F", Reason.MALFORMED),
        ("10 FF7F", Reason.TOO_LARGE),
        ("10 07 0004 4D515454 09", Reason.UNSUPPORTED_VERSION),
    ],
)
def test_nonsense_is_refused_before_it_is_read(data: str, reason: Reason) -> None:
    with pytest.raises(PacketError) as refused:
        feed(bytes.fromhex(data))
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("36 05 0003 612F62", Reason.MALFORMED),  # QoS 3
        ("30 05 0003 612F23", Reason.TOPIC_INVALID),  # a/#
        ("30 02 0000", Reason.TOPIC_INVALID),
        ("32 07 0003 612F62 0000", Reason.PROTOCOL_ERROR),  # number 0
        ("30 05 0009 612F62", Reason.MALFORMED),  # a length beyond the packet
        ("30 03 0001 FF", Reason.MALFORMED),  # no UTF-8
        ("80 08 0001 0003 782F79 01", Reason.MALFORMED),  # reserved bits
        ("20 02 0000", Reason.PROTOCOL_ERROR),  # CONNACK from a client
        (CONNECT_4.hex(), Reason.PROTOCOL_ERROR),  # twice
    ],
)
def test_nonsense_after_connect_is_refused(data: str, reason: Reason) -> None:
    with pytest.raises(PacketError) as refused:
        feed(CONNECT_4, bytes.fromhex(data))
    assert refused.value.reason is reason


@given(st.binary(max_size=300), st.sampled_from([b"", CONNECT_4, CONNECT_5]))
def test_arbitrary_bytes_are_packets_or_one_error(data: bytes, before: bytes) -> None:
    try:
        feed(before, data)
    except PacketError as error:
        assert str(error)


@given(
    st.text(max_size=50).filter(lambda t: "\x00" not in t and t.isprintable()),
    st.binary(max_size=300),
    st.integers(0, 1),
)
def test_what_we_write_reads_back_as_what_a_client_would_read(topic: str, payload: bytes, qos: int) -> None:
    """PUBLISH has the same form in both directions."""
    if not topic or "#" in topic or "+" in topic:
        return
    for before, version in ((CONNECT_4, 4), (CONNECT_5, 5)):
        data = mqtt.write_publish(version, topic, payload, qos, 9)
        assert feed(before, data)[1:] == [Publish(topic, payload, qos, 9 if qos else 0, False)]


def test_answers_are_the_bytes_of_the_standard() -> None:
    assert mqtt.write_connack(4, Reason.SUCCESS, 1000).hex() == "20020000"
    assert mqtt.write_connack(4, Reason.BAD_CREDENTIALS, 0).hex() == "20020004"
    assert mqtt.write_connack(4, Reason.NOT_AUTHORIZED, 0).hex() == "20020005"
    assert mqtt.write_connack(5, Reason.BAD_CREDENTIALS, 0).hex() == "2003008600"
    assert mqtt.write_ack(mqtt.PUBACK, 7).hex() == "40020007"
    assert mqtt.write_ack(mqtt.PUBACK, 7, Reason.PAYLOAD_INVALID).hex() == "4003000799"
    assert mqtt.write_suback(4, 1, [1, Reason.NOT_AUTHORIZED]).hex() == "900400010180"
    assert mqtt.write_suback(5, 1, [1, Reason.NOT_AUTHORIZED]).hex() == "90050001000187"
    assert mqtt.write_unsuback(4, 2, 1).hex() == "b0020002"
    assert mqtt.write_unsuback(5, 2, 1).hex() == "b00400020000"
    assert mqtt.write_disconnect(5, Reason.NOT_AUTHORIZED).hex() == "e00187"
    assert mqtt.write_disconnect(4, Reason.NOT_AUTHORIZED) == b""
