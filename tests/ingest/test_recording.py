"""The last hour on disk: minutes, found again by time, the oldest gone; a full disk stops the recording and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import av
import pytest

from ingest.packets import CodedPacket
from ingest.recording import Recording, find_segments, list_segments, sweep_all
from tests.ingest.test_packets import BEGIN, coded
from tests.ingest.test_rtsp import now, wait_for

MINUTE = timedelta(minutes=1)


def stream(seconds: int) -> Iterator[CodedPacket]:
    """One second of video again and again."""
    group = coded()[:10]
    for second in range(seconds):
        for packet in group:
            yield CodedPacket(
                packet.data, packet.pts + second * 90_000, packet.key,  # type: ignore[operator]
                packet.received_at + timedelta(seconds=second), 1, packet.shape,
            )  # fmt: skip


def record(folder: Path, seconds: int, *, minutes: float = 60, limit_bytes: int = 10**9) -> Recording:
    recording = Recording(folder, minutes=minutes, limit_bytes=limit_bytes, spare_bytes=0)
    recording.start()
    for packet in stream(seconds):
        recording.put(packet)
    recording.close(20)
    return recording


def test_minutes_are_files_that_are_found_by_their_time_and_play(tmp_path: Path) -> None:
    record(tmp_path / "cam", 150)
    segments = list_segments(tmp_path / "cam")
    assert [each.began_at for each in segments] == [BEGIN, BEGIN + MINUTE, BEGIN + 2 * MINUTE]
    assert all(abs((each.ended_at - each.began_at).total_seconds() - 60) < 0.2 for each in segments[:2])
    found = find_segments(tmp_path / "cam", BEGIN + timedelta(seconds=70), BEGIN + timedelta(seconds=100))
    assert found == segments[1:2]
    with av.open(str(found[0].path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == 600 and times[-1] == pytest.approx(59.9, abs=0.01)


def test_the_oldest_go_by_time_and_by_room(tmp_path: Path) -> None:
    record(tmp_path / "time", 301, minutes=2)
    assert list_segments(tmp_path / "time")[0].began_at >= BEGIN + 2 * MINUTE
    size = sum(len(packet.data) for packet in stream(60))
    record(tmp_path / "room", 301, limit_bytes=int(1.5 * size))
    assert len(list_segments(tmp_path / "room")) <= 3
    (tmp_path / "recordings").mkdir()
    shutil.move(tmp_path / "time", tmp_path / "recordings" / "gone")
    sweep_all(tmp_path, 60, BEGIN + timedelta(hours=2))
    assert list_segments(tmp_path / "recordings" / "gone") == []


def test_what_nobody_finished_is_not_kept_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "recordings" / "gone"
    folder.mkdir(parents=True)
    old, present = folder / ".20260301T080000Z.mp4.part", folder / ".20260301T100000Z.mp4.part"
    for path, age_s in ((old, 3700), (present, 100)):
        path.write_bytes(b"pictures")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    sweep_all(tmp_path, 60, now())
    assert list(folder.iterdir()) == [present]


def test_a_camera_that_goes_leaves_a_finished_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.recording.IDLE_S", 0.1)
    recording = Recording(tmp_path / "cam", minutes=60, limit_bytes=10**9, spare_bytes=0)
    recording.start()
    for packet in stream(3):
        recording.put(packet)
    wait_for(lambda: list_segments(tmp_path / "cam"))
    recording.close(10)
    assert not list((tmp_path / "cam").glob(".*"))


def test_a_full_disk_stops_the_recording_which_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [0]
    monkeypatch.setattr("ingest.recording.RETRY_S", 0.0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: namedtuple("Usage", "free")(free[0]))
    recording = Recording(tmp_path / "cam", minutes=60, limit_bytes=10**9, spare_bytes=1000)
    recording.start()
    packets = stream(6)
    for _, packet in zip(range(31), packets, strict=False):
        recording.put(packet)
    wait_for(lambda: recording.stopped and recording.left_out == 3)
    assert list_segments(tmp_path / "cam") == []
    free[0] = 10**9
    for packet in packets:
        recording.put(packet)
    recording.close(10)
    assert not recording.stopped
    assert [each.began_at for each in list_segments(tmp_path / "cam")] == [BEGIN + timedelta(seconds=3)]


def test_what_a_killed_process_was_writing_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    folder = tmp_path / "cam"
    killed = Recording(folder, minutes=60, limit_bytes=10**9, spare_bytes=0)
    killed.start()
    for packet in stream(20):
        killed.put(packet)
    part = folder / ".20260301T080000Z.mp4.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 10_000)
    again = tmp_path / "again"  # what lies on the disk when a process is killed
    again.mkdir()
    shutil.copy(part, again)
    killed.close(10)
    recording = Recording(again, minutes=60, limit_bytes=10**9, spare_bytes=0)
    recording.start()
    recording.close(10)
    with av.open(str(list_segments(again)[0].path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10
