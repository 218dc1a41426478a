"""Pictures through shared memory: the newest, whole, whatever the writer does meanwhile."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from ingest.picture import PictureReader, PictureWriter
from ingest.rtsp import Frame

BEGIN = datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)


def frame(seq: int, *, key: bool = False, size: tuple[int, int] = (320, 180), grey: int | None = None) -> Frame:
    picture = np.full((size[1], size[0], 3), seq % 200 if grey is None else grey, np.uint8)
    return Frame(
        seq=seq, received_at=BEGIN + timedelta(seconds=seq), pts_s=None if seq == 1 else seq / 10, key=key,
        video_frame=av.VideoFrame.from_ndarray(picture, format="bgr24"),
    )  # fmt: skip


def test_the_newest_and_the_newest_key_picture_come_with_their_times(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path, "a", 1920)
    writer.write(frame(1, key=True), newest=True)
    assert writer.path is not None
    reader = PictureReader(writer.path)
    assert list(tmp_path.iterdir()) == []  # nothing is left if both sides die
    writer.write(frame(2), newest=True)
    writer.write(frame(3, key=True), newest=False)
    newest, key = reader.newest(), reader.newest_key()
    assert newest is not None and (newest.seq, newest.key, newest.pts_s) == (2, False, 0.2)
    assert newest.received_at == BEGIN + timedelta(seconds=2) and newest.image.shape == (180, 320, 3)
    assert np.all(newest.picture() == 2)
    assert key is not None and (key.seq, key.key) == (3, True) and reader.counts == (2, 2)


def test_wide_pictures_are_made_narrower_and_another_size_is_another_file(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path, "a", 640)
    writer.write(frame(1, size=(1280, 720)), newest=True)
    first = writer.path
    assert first is not None
    wide = PictureReader(first).newest()
    assert wide is not None and wide.image.shape == (360, 640, 3)
    writer.write(frame(2, size=(322, 182)), newest=True)
    assert writer.path is not None and writer.path != first
    odd = PictureReader(writer.path).newest()
    assert odd is not None and odd.image.shape == (182, 322, 3) and odd.pts_s == pytest.approx(0.2)


def test_a_file_that_nobody_took_up_goes_with_its_size(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path, "a", 640)
    for seq, size in enumerate(((320, 180), (160, 90)), start=1):
        writer.write(frame(seq, size=size), newest=True)
        assert list(tmp_path.iterdir()) == [writer.path]
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_no_picture_is_ever_torn(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path, "a", 1920)
    frames = [frame(seq, key=seq % 5 == 0, size=(640, 360)) for seq in range(1, 60)]
    writer.write(frames[0], newest=True)
    assert writer.path is not None
    reader = PictureReader(writer.path)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for each in frames:
                writer.write(each, newest=True)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen: set[int] = set()
        reads, until_s = 0, time.monotonic() + 30
        while reads < 300 or (len(seen) <= 5 and time.monotonic() < until_s):
            reads += 1
            for found in (reader.newest(), reader.newest_key()):
                if found is not None:  # a writer that is faster than any camera may win every race
                    assert np.all(found.image == found.seq % 200)
                    seen.add(found.seq)
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 5
