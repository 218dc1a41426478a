"""Groups of cameras in processes of their own: as good as a capture here, and one that dies is nobody else's business."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import av
import psutil
import pytest

from ingest.attempt import Attempt
from ingest.capturing import CapturePool
from ingest.packets import ClipDone, write_clip
from ingest.recording import folder_of, list_segments
from ingest.rtsp import Capture, CaptureFault, Decode
from kernel.settings import CameraSettings, Settings, VisionSettings
from simulators.rtsp import RtspServer, open_file
from tests.ingest.test_packets import coded
from tests.ingest.test_rtsp import HOME, draw, now, server, wait_for

__all__ = ["server"]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CapturePool]:
    camera = CameraSettings(allowed_networks=HOME, open_timeout_s=1, read_timeout_s=1, recording_spare_bytes=0)
    made = CapturePool(Settings(data_dir=tmp_path, camera=camera, vision=VisionSettings(fps=5.0, group_size=1)))
    yield made
    pids = [group.pid for group in made.groups]
    made.close()
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)


def test_pictures_clips_and_recordings_come_and_a_dead_process_harms_no_other(
    pool: CapturePool, server: RtspServer, tmp_path: Path
) -> None:
    for path in ("a", "b"):
        server.add_camera(path, draw, fps=10, size=(160, 120))
    one, other = (pool.open(path, server.url_of(path)) for path in ("a", "b"))
    assert one.status().connections == 0 and len(pool.groups) == 2
    wait_for(lambda: one.newest() and other.newest() and one.newest_key(), 30)
    frame = one.newest()
    assert frame is not None and frame.picture().shape == (120, 160, 3)
    assert abs((now() - frame.received_at).total_seconds()) < 1.0
    wait_for(lambda: one.status().connected and one.status().fps > 5)

    at = now()
    one.save_clip("clip-1", at - timedelta(seconds=0.5), at + timedelta(seconds=0.5), tmp_path / "clip.mp4")
    done: list[ClipDone] = []
    wait_for(lambda: done.extend(one.take_clips()) or done)  # type: ignore[func-returns-value]
    assert done[0].ok and done[0].id == "clip-1" and done[0].codec == "h264" and done[0].width == 160
    assert done[0].began_at is not None and done[0].began_at <= at and (tmp_path / "clip.mp4").stat().st_size > 500

    before, seq = other.status().connections, frame.seq
    group = next(group for group in pool.groups if group.pid and one in group.cameras)
    pid = group.pid
    assert pid is not None
    one.save_clip("clip-2", at, now() + timedelta(seconds=60), tmp_path / "never.mp4")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: one.status().fault is CaptureFault.BROKEN)
    assert [(each.id, each.ok, each.error) for each in one.take_clips()] == [("clip-2", False, "capture_ended")]
    killed_at = now()
    wait_for(lambda: (found := one.newest()) is not None and found.received_at > killed_at and found.seq > seq, 30)
    assert group.restarts == 1
    assert other.status().connections == before and other.status().fault is None
    pool.close()
    assert list_segments(folder_of(tmp_path, "b"))


def test_a_password_is_in_no_argument_and_no_text(pool: CapturePool, server: RtspServer) -> None:
    capture = pool.open("a", server.url_of("a").replace("rtsp://", "rtsp://user:s3cret@"))
    wait_for(lambda: capture.status().fault is CaptureFault.NOT_FOUND, 30)
    pid = pool.groups[0].pid
    assert pid is not None and "s3cret" not in " ".join(psutil.Process(pid).cmdline()) + capture.status().text
    capture.close()
    wait_for(lambda: not psutil.pid_exists(pid))
    assert pool.groups == []


def test_the_last_camera_of_a_process_leaves_a_finished_recording_and_no_memory(
    pool: CapturePool, server: RtspServer, tmp_path: Path
) -> None:
    server.add_camera("a", draw, fps=10, size=(160, 120))
    capture = pool.open("a", server.url_of("a"))
    folder = folder_of(tmp_path, "a")
    wait_for(lambda: list(folder.glob(".*.mp4.part")), 30)
    pid = pool.groups[0].pid
    assert pid is not None
    capture.close()
    wait_for(lambda: not psutil.pid_exists(pid))
    assert len(list_segments(folder)) == 1 and not list(folder.glob(".*"))


def test_only_what_is_wanted_is_decoded_and_more_again_when_it_is_wanted(
    server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.rtsp.media.GOP_S", 0.5)
    server.add_camera("a", draw, fps=20, size=(160, 120))
    with Capture(server.url_of("a"), allowed_networks=HOME, now=now, ring_s=5) as capture:
        wait_for(lambda: capture.status().frames > 3)
        capture.want(Decode.KEY)
        first = capture.newest_key()
        wait_for(lambda: (key := capture.newest_key()) is not None and first is not None and key.seq > first.seq)
        decoded = capture.status().frames
        newest = capture.newest()
        assert newest is not None and newest.key and newest.pts_s is not None
        wait_for(lambda: capture.status().frames > decoded)
        assert capture.status().fps > 10 and capture.ring_bytes > 0  # what is not decoded is kept all the same
        capture.want(Decode.ALL)
        decoded = capture.status().frames
        wait_for(lambda: capture.status().frames > decoded + 10)


def test_a_connection_that_was_left_behind_and_comes_free_disturbs_no_later_one(tmp_path: Path) -> None:
    write_clip(coded(), tmp_path / "film.mp4")
    capture = Capture("rtsp://127.0.0.1/a", allowed_networks=HOME, now=now, ring_s=5)
    for left_behind in (False, True):
        attempt = Attempt()
        if left_behind:
            attempt.abandon()
        capture._demux(attempt, av.open(str(tmp_path / "film.mp4")))
        assert capture._intake._run == 1


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_h265_comes_in_and_goes_out_as_it_came(transport: str, server: RtspServer, tmp_path: Path) -> None:
    coded_pictures = coded("hevc", seconds=3.0, b_frames=2, size=(640, 352))
    assert len(coded_pictures[0].data) > 3000  # more than one datagram
    write_clip(coded_pictures, tmp_path / "film.mp4")
    server.add_camera("a", open_file(tmp_path / "film.mp4"))
    with Capture(server.url_of("a"), allowed_networks=HOME, now=now, ring_s=5, transport=transport) as capture:
        frame = capture.wait(0, 10)
        assert frame is not None and frame.picture().shape == (352, 640, 3)
        at = now()
        capture.save_clip("clip", at, at + timedelta(seconds=0.8), tmp_path / "clip.mp4")
        done: list[ClipDone] = []
        wait_for(lambda: done.extend(capture.take_clips()) or done)  # type: ignore[func-returns-value]
    assert done[0].ok and (done[0].codec, done[0].width, done[0].height) == ("hevc", 640, 352)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 6
