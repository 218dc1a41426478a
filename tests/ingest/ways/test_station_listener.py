"""Stations of SL 651 over TCP: stored before they are confirmed, confirmed again when they repeat, strangers left without a word."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from devices.model import Device
from ingest.ways.station_store import BindingError, bind_station, find_station, unbind_station
from tests.ingest.ways import frames
from tests.ingest.ways.conftest import Site, wait_until

STATION = "3301050001"


def local(seconds: float = 0.0) -> datetime:
    """The station's wall clock, a minute and `seconds` ago."""
    return datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")) - timedelta(seconds=60 + seconds)


def register(site: Site, code: str = "R1", address: str = STATION) -> Device:
    device, _ = site.register(code, "river_sluice")
    with site.database.transaction() as connection:
        bind_station(connection, device, address, "1234", datetime.now(UTC), 5.0)
    return device


@contextmanager
def line(site: Site, timeout_s: float = 10.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", site.settings.ways.sl651_port), timeout=timeout_s) as connection:
        yield connection


def is_silent(connection: socket.socket, seconds: float = 0.7) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return True


def test_a_report_is_stored_when_its_confirmation_comes(site: Site) -> None:
    device = register(site)
    with line(site) as station:
        station.sendall(frames.extra_report(local()))
        confirmed = station.recv(100)
        assert site.metrics(device)["level_m"] == 2.91  # by then, not some time later
    assert confirmed[:11].hex().upper() == "7E7E" + STATION + "05" + "1234" + "33"
    assert frames.crc(confirmed[:-2]) == confirmed[-2:]
    assert site.rows("SELECT rule FROM report") == [("river_level",)]


def test_a_repeat_is_confirmed_again_and_changes_nothing(site: Site) -> None:
    register(site)
    frame = frames.extra_report(local())
    with line(site) as station:
        for _ in range(3):
            station.sendall(frame)
            assert len(station.recv(100)) == 25
    assert site.rows("SELECT count(*) FROM device_message") == [(1,)]
    assert site.rows("SELECT count(*) FROM report") == [(1,)]


def test_a_frame_in_single_bytes_between_noise_is_confirmed(site: Site) -> None:
    register(site)
    with line(site) as station:
        station.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\x7e\x01OK\r\n" + frames.extra_report(local()) + b"\x00\x7e":
            station.sendall(bytes((byte,)))
        assert len(station.recv(100)) == 25


def test_a_broken_frame_is_not_answered_and_the_next_one_is(site: Site) -> None:
    register(site)
    with line(site) as station:
        good = frames.extra_report(local())
        station.sendall(good[:-1] + bytes((good[-1] ^ 1,)))
        station.sendall(good)
        assert len(station.recv(100)) == 25
        assert is_silent(station)


def test_a_frame_that_never_ends_is_given_up_for_the_next(site: Site) -> None:
    register(site)
    with line(site) as station:
        station.sendall(frames.extra_report(local())[:-9])
        station.sendall(frames.extra_report(local()))
        assert len(station.recv(100)) == 25


def test_strangers_and_wrong_passwords_are_kept_and_not_answered(site: Site) -> None:
    register(site)
    with line(site) as station:
        station.sendall(frames.extra_report(local(), station="3301059999"))
        wait_until(lambda: site.reasons() == ["unknown_device"], "a dead letter of the stranger")
        wrong = frames.extra_report(local())
        wrong = wrong[:8] + b"\x99\x99" + wrong[10:-2]
        station.sendall(wrong + frames.crc(wrong))
        wait_until(lambda: site.reasons() == ["unknown_device", "not_allowed"], "a dead letter of the wrong password")
        assert is_silent(station)
    assert site.rows("SELECT count(*) FROM device_message") == [(0,)]


def test_a_keep_alive_is_not_answered(site: Site) -> None:
    device, _ = site.register("R2", "river_sluice")
    with site.database.transaction() as connection:
        bind_station(connection, device, "12345678", "1234", datetime.now(UTC))
    with line(site) as station:
        station.sendall(frames.KEEP_ALIVE)
        assert is_silent(station)
    assert site.reasons() == []


def test_a_test_report_is_confirmed_and_not_stored(site: Site) -> None:
    device, _ = site.register("R2", "river_sluice")
    with site.database.transaction() as connection:
        bind_station(connection, device, "12345678", "1234", datetime.now(UTC))
    head, tail = frames.TEST_REPORT[:14], frames.TEST_REPORT[14:-2]
    now = local()
    tail = tail.replace(bytes.fromhex("5910111549"), bytes.fromhex(frames.bcd(now, "%y%m%d%H%M")))
    with line(site) as station:
        station.sendall(head + tail + frames.crc(head + tail))
        assert station.recv(100)[10] == 0x30
    assert site.rows("SELECT count(*) FROM device_message") == [(0,)]
    assert site.reasons() == []


def test_a_report_in_packets_is_asked_for_what_is_missing_and_confirmed_once(site: Site) -> None:
    device = register(site)
    now = local()
    parts = [
        part.replace(bytes.fromhex("2611201100"), bytes.fromhex(frames.bcd(now, "%y%m%d%H%M")))
        for part in frames.packets(3)
    ]
    parts = [part[:-2] + frames.crc(part[:-2]) for part in parts]
    with line(site) as station:
        station.sendall(parts[0] + parts[2])
        question = station.recv(100)
        assert question[14:17].hex() == "003002"
        assert question[-3] == 0x15  # NAK
        again = parts[1][:-3] + b"\x03"  # a packet that was asked for ends with ETX
        station.sendall(again + frames.crc(again))
        assert station.recv(100)[-3] == 0x1B
        assert is_silent(station)
    assert site.metrics(device)["ph"] == 7.23


def test_a_report_that_cannot_be_read_is_kept_and_confirmed(site: Site) -> None:
    """Repeating it would change nothing; the dead letter says what is wrong."""
    register(site)
    frame = frames.extra_report(local(), level="00A2910")
    with line(site) as station:
        station.sendall(frame)
        assert len(station.recv(100)) == 25
    assert site.reasons() == ["bad_payload"]
    [(detail,)] = site.rows("SELECT detail FROM dead_letter")
    assert "BCD" in detail


def test_a_line_with_nothing_but_noise_is_closed(site: Site) -> None:
    with line(site) as station:
        with pytest.raises(OSError):
            for _ in range(200):
                station.sendall(b"\x00" * 8192)
            assert station.recv(10) == b""
            raise OSError


def test_a_station_belongs_to_one_device(site: Site) -> None:
    register(site)
    other, _ = site.register("R9", "river_sluice")
    now = datetime.now(UTC)
    with pytest.raises(BindingError, match="another device"), site.database.transaction() as connection:
        bind_station(connection, other, STATION, "1234", now)
    for address, password, code in (
        ("33A1050001", "1234", "bad_address"),
        ("1", "1234", "bad_address"),
        (STATION, "12", "bad_password"),
    ):
        with pytest.raises(BindingError) as refused, site.database.transaction() as connection:
            bind_station(connection, other, address, password, now)
        assert refused.value.code == code
    with site.database.transaction() as connection:
        assert unbind_station(connection, STATION)
        assert find_station(connection, STATION) is None


def test_without_the_database_nothing_is_confirmed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    device = register(site)
    real = site.database.transaction

    def away(*args: object, **more: object) -> object:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(site.database, "transaction", away)
    with line(site) as station:
        station.sendall(frames.extra_report(local()))
        assert is_silent(station)
        monkeypatch.setattr(site.database, "transaction", real)
        station.settimeout(10)
        station.sendall(frames.extra_report(local()))
        assert len(station.recv(100)) == 25
    assert site.metrics(device)["level_m"] == 2.91
