"""Packets handed on to another process: from the newest key picture on, never of the past, and no harm by whoever listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ingest import outlet
from ingest.broadcast import Broadcast, Piece
from ingest.outlet import Outlet, OutletDesk, Tap, outlet_path
from ingest.packets import CodedPacket
from ingest.poster import take_poster
from kernel.settings import CameraSettings
from tests.ingest.test_packets import coded
from tests.ingest.test_rtsp import now
from tests.waiting import wait_until

URL = "rtsp://user:secret@127.0.0.1:9/none"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutletDesk]:
    monkeypatch.setattr(outlet, "STALE_S", 60.0)  # a busy machine may take longer than three seconds for the next step
    monkeypatch.setattr(outlet, "_FIRST_S", 60.0)
    made = OutletDesk(tmp_path)
    yield made
    made.close()
    assert not list((tmp_path / "live").glob("*"))


def put_all(into: Outlet, packets: Sequence[CodedPacket]) -> list[CodedPacket]:
    """As if the last of them came just now."""
    late = now() - packets[-1].received_at
    put = [replace(packet, received_at=packet.received_at + late) for packet in packets]
    for packet in put:
        into.put(packet)
    return put


def test_who_comes_in_the_middle_begins_at_once_with_the_newest_key_picture(desk: OutletDesk, tmp_path: Path) -> None:
    feed = desk.open(URL)
    assert feed is not None
    path = outlet_path(tmp_path, URL)
    assert "secret" not in str(path) and path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0
    packets = coded(seconds=4)
    keys = [index for index, packet in enumerate(packets) if packet.key]
    put = put_all(feed, packets[: keys[-1] + 5])
    pieces: list[Piece] = []
    broadcast = Broadcast(URL, CameraSettings(), now, pieces.append, path)
    broadcast.start()
    wait_until(lambda: len(pieces) == 5, "the pictures since the key picture")
    assert pieces[0].opening is not None and pieces[0].fragment.key
    assert [piece.received_at for piece in pieces] == [packet.received_at for packet in put[-5:]]
    feed.put(replace(packets[keys[-1] + 5], received_at=now()))
    wait_until(lambda: len(pieces) == 6, "the next picture")
    poster = take_poster(path)
    assert poster is not None and poster[1] == put[-5].received_at
    assert poster[0].width == pieces[0].opening.width
    broadcast.close()


def test_nobody_is_shown_the_past_or_waits_where_there_is_nothing(
    desk: OutletDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = outlet_path(tmp_path, URL)
    with pytest.raises(OSError):
        Tap(path)
    feed = desk.open(URL)
    assert feed is not None
    assert list(Tap(path).read()) == []  # nothing came yet
    put_all(feed, coded(seconds=1))
    monkeypatch.setattr(outlet, "STALE_S", -1.0)
    assert list(Tap(path).read()) == [] and take_poster(path) is None  # what came is old


def test_who_does_not_read_is_dropped_and_the_camera_goes_on(
    desk: OutletDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_WAITING_BYTES", 50_000)
    feed = desk.open(URL)
    assert feed is not None
    packets = put_all(feed, coded(seconds=1))
    idle, busy = Tap(outlet_path(tmp_path, URL)), Tap(outlet_path(tmp_path, URL))
    seen: list[CodedPacket] = []
    reader = threading.Thread(target=lambda: seen.extend(busy.read()), daemon=True)
    reader.start()
    wait_until(lambda: len(feed.listeners) == 2, "both listen")
    large = replace(packets[0], data=b"\0" * 20_000)
    for count in range(1, 100):
        feed.put(replace(large, received_at=now() + timedelta(microseconds=count)))
        wait_until(lambda count=count: len(seen) >= count + len(packets), "who reads has it")  # type: ignore[misc]
    wait_until(lambda: len(feed.listeners) == 1, "who does not read is dropped")
    busy.close()
    reader.join(10)
    idle.close()
    assert not reader.is_alive()
