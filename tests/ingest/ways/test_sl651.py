"""SL 651: frames written by hand are read as the standard means them, whatever lies between and however they are cut."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.registry import KINDS
from ingest.ways.sl651 import (
    ACK,
    ESC,
    NAK,
    Assembly,
    Encoding,
    Frame,
    FrameReader,
    Junk,
    compute_crc,
    is_station_address,
    write_answer,
)
from ingest.ways.sl651_report import Report, ReportError, decode_report, make_messages
from tests.ingest.ways import frames

SHANGHAI = ZoneInfo("Asia/Shanghai")
SENT_AT = datetime(2026, 11, 20, 16, 0, 30)
ALL = [
    frames.KEEP_ALIVE, frames.TEST_REPORT, frames.TIMED_REPORT, frames.extra_report(SENT_AT), frames.hourly_report(),
    frames.uniform_report(), frames.ascii_report(), *frames.packets(),
]  # fmt: skip


def read(data: bytes) -> list[Frame | Junk]:
    return FrameReader().feed(data)


def one(data: bytes) -> Frame:
    [frame] = read(data)
    assert isinstance(frame, Frame)
    return frame


def report_of(data: bytes) -> Report:
    frame = one(data)
    return decode_report(frame, frame.body)


def payloads(report: Report, base_m: float = 0.0) -> list[dict[str, object]]:
    return [message.payload for message in make_messages(report, KINDS["river_sluice"], SHANGHAI, base_m)]


def test_the_crc_is_that_of_printed_frames() -> None:
    assert compute_crc(frames.TEST_REPORT[:-2]) == 0x20FA
    assert compute_crc(frames.TIMED_REPORT[:-2]) == 0xA421
    assert compute_crc(frames.KEEP_ALIVE[:-2]) == 0x6BCA


def test_a_printed_report_is_read() -> None:
    frame = one(frames.TIMED_REPORT)
    assert (frame.centre, frame.station, frame.password, frame.function) == (5, "0011223344", "03E8", 0x32)
    report = decode_report(frame, frame.body)
    assert report.serial == 0x34
    [observation] = report.observations
    assert observation.observed_at == datetime(2017, 7, 18, 11, 0)
    assert observation.values == {"PJ": 4.0, "PT": 4.0, "Z": 10.49, "VT": 10.99}


@pytest.mark.parametrize(
    ("report", "confirmed", "sent_at"),
    [
        (frames.TEST_REPORT, frames.TEST_CONFIRMED, datetime(2059, 10, 11, 15, 49, 47)),
        (frames.TIMED_REPORT, frames.TIMED_CONFIRMED, datetime(2017, 7, 18, 11, 0, 16)),
    ],
)
def test_the_confirmation_is_the_one_that_is_printed(report: bytes, confirmed: bytes, sent_at: datetime) -> None:
    frame = one(report)
    serial = decode_report(frame, frame.body).serial
    assert write_answer(frame, serial, sent_at, ESC) == confirmed


def test_an_extra_report_becomes_an_event_with_every_element_in_our_units() -> None:
    [message] = make_messages(report_of(frames.extra_report(SENT_AT)), KINDS["river_sluice"], SHANGHAI)
    assert message.topic_kind == "event"
    assert message.payload["at"] == "2026-11-20T08:00:00.000Z"  # the station's 16:00, to the minute as it says it
    fields = {k: v for k, v in message.payload.items() if k not in ("v", "id", "seq", "at")}
    assert fields == {"level_m": 2.91, "gate_opening_m": 0.45, "open_holes": 2, "voltage_v": 12.9}


def test_a_repeat_has_the_same_id_and_another_report_has_not() -> None:
    first, again = (payloads(report_of(frames.extra_report(SENT_AT)))[0]["id"] for _ in range(2))
    later = payloads(report_of(frames.extra_report(SENT_AT.replace(second=59))))[0][
        "id"
    ]  # sent again, by its clock later
    other = payloads(report_of(frames.extra_report(SENT_AT, serial="0008")))[0]["id"]
    assert first == again == later
    assert other != first


def test_a_test_report_is_a_test_message_and_a_keep_alive_none() -> None:
    [payload] = payloads(report_of(frames.TEST_REPORT))
    assert payload["test"] is True
    assert payloads(report_of(frames.KEEP_ALIVE)) == []


def test_an_hourly_report_gives_each_group_its_own_instant() -> None:
    messages = payloads(report_of(frames.hourly_report()), base_m=5.0)
    assert [m["at"] for m in messages[:2]] == ["2026-11-20T00:05:00.000Z", "2026-11-20T00:10:00.000Z"]
    assert [m.get("level_m") for m in messages] == [
        7.5,
        7.51,
        7.52,
        7.53,
        7.54,
        7.55,
        7.56,
        7.57,
        7.58,
        7.59,
        7.6,
        None,
    ]
    assert [m.get("rain_5min_mm") for m in messages[:4]] == [0.0, 0.5, 1.0, 0.0]
    assert messages[0]["rain_total_mm"] == 12.3
    assert messages[-1]["at"] == "2026-11-20T01:00:00.000Z"
    assert messages[-1]["voltage_v"] == 12.65


def test_uniform_intervals_skip_what_is_missing_and_know_what_is_below_the_datum() -> None:
    messages = payloads(report_of(frames.uniform_report()))
    assert [(m["at"], m["level_m"]) for m in messages] == [
        ("2026-11-20T00:00:00.000Z", 1.234),
        ("2026-11-20T01:00:00.000Z", -0.05),
        ("2026-11-20T01:30:00.000Z", 1.3),
    ]


def test_ascii_frames_say_the_same_and_two_gates_are_two_messages() -> None:
    frame = one(frames.ascii_report())
    assert frame.encoding is Encoding.ASCII
    first, second = payloads(decode_report(frame, frame.body))
    assert {**first, "id": ""} == {
        "v": 1, "id": "", "seq": 16, "at": "2026-11-20T00:00:00.000Z", "upstream_level_m": 3.215,
        "downstream_level_m": 2.87, "gate_number": 1, "gate_opening_m": 0.45,
    }  # fmt: skip
    assert (second["gate_number"], second["gate_opening_m"], second["pumps_running"]) == (2, 0.6, 3)
    assert (second["flow_m3_s"], second["voltage_v"]) == (-12.5, 12.9)
    answer = write_answer(frame, 0x10, SENT_AT, ESC)
    assert answer[:1] == b"\x01"
    assert answer[1:29] == b"3301050001051234328010\x020010" + b"2"
    assert answer[-5:-4] == b"\x1b"
    assert answer[-4:] == frames.crc(answer[:-4]).hex().upper().encode()


def test_packets_are_put_together_in_any_order_and_answered_once() -> None:
    parts = [one(data) for data in frames.packets(3)]
    assert [(p.total, p.number) for p in parts] == [(3, 1), (3, 2), (3, 3)]
    assembly = Assembly()
    assert assembly.add(parts[1]) is None
    assert assembly.add(parts[0]) is None
    whole = assembly.add(parts[2])
    assert whole is not None
    body, missing = whole
    assert missing == []
    [payload] = payloads(decode_report(parts[2], body))
    assert (payload["ph"], payload["dissolved_oxygen_mg_l"], payload["conductivity_us_cm"]) == (7.23, 6.4, 410.0)
    assert (payload["turbidity_ntu"], payload["codmn_mg_l"], payload["ammonia_nitrogen_mg_l"]) == (18.0, 4.1, 0.62)
    assert (payload["total_phosphorus_mg_l"], payload["status_word"]) == (0.12, 5)
    confirmed = write_answer(parts[2], 0x0104, SENT_AT, ESC)
    assert (
        confirmed[11:17].hex().upper() == "800B16" + "003003"
    )  # SYN, total 3, number of the last; then serial and time
    assert confirmed[17:19].hex() == "0104"


def test_a_packet_that_is_missing_is_asked_for_by_its_number() -> None:
    parts = [one(data) for data in frames.packets(3)]
    assembly = Assembly()
    assert assembly.add(parts[0]) is None
    assert assembly.add(parts[2]) == (b"", [2])
    question = write_answer(parts[2], 0, SENT_AT, NAK, number=2)
    assert question[14:17].hex() == "003002"
    assert question[-3] == 0x15
    whole = assembly.add(parts[1])
    assert whole is not None and whole[1] == []
    assert write_answer(parts[0], 1, SENT_AT, ACK)[-3] == 0x06


@pytest.mark.parametrize("data", ALL, ids=lambda data: data[:20].hex())
def test_a_frame_may_be_cut_anywhere(data: bytes) -> None:
    for cut in range(len(data)):
        reader = FrameReader()
        assert reader.feed(data[:cut]) == []
        assert reader.feed(data[cut:]) == [one(data)]


@given(st.lists(st.tuples(st.binary(max_size=30), st.sampled_from(ALL)), min_size=1, max_size=5), st.integers(1, 7))
def test_frames_between_noise_are_all_found(parts: list[tuple[bytes, bytes]], step: int) -> None:
    stream = b"".join(noise + data for noise, data in parts)
    reader = FrameReader()
    found: list[Frame | Junk] = []
    for at in range(0, len(stream), step):
        found += reader.feed(stream[at : at + step])
    while reader.pending:
        found += reader.expire()
    raws = [item.raw for item in found if isinstance(item, Frame)]
    for _, data in parts:
        assert data in raws
    assert b"".join(item.raw if isinstance(item, Frame) else item.data for item in found) == stream


@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise_and_none_is_lost(data: bytes) -> None:
    reader = FrameReader()
    found = reader.feed(data) + reader.expire()
    assert b"".join(item.raw if isinstance(item, Frame) else item.data for item in found) == data
    assert reader.pending == 0


@given(st.sampled_from([frames.TIMED_REPORT, frames.ascii_report()]), st.binary(max_size=120))
def test_arbitrary_bodies_are_read_or_refused_with_words(data: bytes, body: bytes) -> None:
    frame = one(data)
    try:
        report = decode_report(frame, body)
    except ReportError as error:
        assert str(error)
    else:
        make_messages(report, KINDS["river_sluice"], SHANGHAI)


@given(st.sampled_from(ALL), st.data())
def test_one_wrong_bit_is_never_taken_for_a_frame(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    bit = draw.draw(st.integers(0, 7))
    wrong = bytearray(data)
    wrong[place] ^= 1 << bit
    reader = FrameReader()
    found = reader.feed(bytes(wrong)) + reader.expire()
    spoilt = [item for item in found if isinstance(item, Frame)]
    # Hexadecimal digits of an ASCII frame's CRC may be small or large letters: that bit says the same.
    assert spoilt == [] or bytes(wrong[-4:]).upper() == data[-4:].upper()


def test_a_wrong_crc_is_junk_that_says_so_and_the_next_frame_is_found() -> None:
    wrong = frames.TIMED_REPORT[:-1] + b"\x00"
    junk, frame = read(wrong + frames.KEEP_ALIVE)
    assert junk == Junk(wrong, "bad_crc")
    assert isinstance(frame, Frame)


def test_a_false_beginning_that_goes_nowhere_frees_the_frame_inside_it() -> None:
    """7E7E with a plausible head and a length that never comes: after the time-out what came behind it is read."""
    false = bytes.fromhex("7E7E 05 3301050001 1234 32 0FFF 02".replace(" ", ""))
    reader = FrameReader()
    assert reader.feed(false + frames.TIMED_REPORT) == []
    assert [item for item in reader.expire() if isinstance(item, Frame)] == [one(frames.TIMED_REPORT)]


def test_addresses_are_those_of_the_standard() -> None:
    assert is_station_address("0012345678")
    assert is_station_address("330105EA60")  # the other scheme: three decimal bytes, two binary
    assert not is_station_address("33010A0001")
    assert not is_station_address("12345678")
