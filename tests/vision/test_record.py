"""What waits to be written while the database is away or the disk is full: bounded, and no finding is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from devices.model import Device
from kernel.db import Connection, Database
from tests.vision.build import at
from tests.vision.test_findings import (
    Capture,
    Scripted,
    book,
    camera,
    clip_done,
    film,
    finding,
    look,
    noise,
    raise_one,
    rows,
    seen,
    studio,
)
from tests.waiting import wait_until
from vision.casebook import Later
from vision.clip import CLAIM, Masker, mask_clip
from vision.findings import Studio
from vision.live import Writing
from vision.record import Recorder, lighten, merge, weigh, write

__all__ = ["camera", "studio"]  # fixtures


class AwayDatabase:
    """A database that comes back when it is told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.back = threading.Event()
        self.asked = threading.Semaphore(0)

    @contextmanager
    def transaction(self, scope: str = "") -> Iterator[Connection]:
        self.asked.release()
        if not self.back.is_set():
            raise psycopg.OperationalError("away")
        with self._database.transaction(scope) as connection:
            yield connection


def writing_of(device: Device, gathered: Any) -> Writing:
    return Writing(device=device, raised=gathered.raised, updated=gathered.updated, clips=gathered.clips)


def test_while_the_database_is_away_pictures_are_bounded_and_every_finding_is_kept(
    database: Database, camera: Device, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision.record.RETRY_S", 0.05)
    away = AwayDatabase(database)
    one_picture = noise().nbytes
    recorder = Recorder(cast(Database, away), studio, lambda: at(500), waiting_bytes=3 * one_picture)
    recorder.start()
    cases = book(camera, studio, None)
    for number in range(6):
        recorder.put(writing_of(camera, raise_one(cases, key=f"e{number}", from_s=20.0 * number)))
        assert away.asked.acquire(timeout=30)  # tried, and kept
    away.back.set()
    wait_until(lambda: rows(database, "SELECT count(*) FROM report") == [(6,)], "six reports")
    recorder.close(10)
    details = [row[0] for row in rows(database, "SELECT detail FROM report ORDER BY occurred_at")]
    with_picture = [detail["evidence"]["threshold"] is not None for detail in details]
    assert 1 <= sum(with_picture) <= 3 and with_picture[-1], with_picture
    assert details[0]["missing"] == {"first": "not_kept", "threshold": "not_kept"}
    assert rows(database, "SELECT cardinality(evidence_ids) FROM report ORDER BY occurred_at LIMIT 1") == [(0,)]


def test_later_pictures_go_first_and_what_they_tell_stays(camera: Device, studio: Studio) -> None:
    cases = book(camera, studio, None)
    raised = raise_one(cases)
    cases.see(look(80, finding(update=True, detail={"area_m2": 3.5})), noise(2), seen(), None)
    cases.see(look(90, finding(update=True, detail={"area_m2": 4.5})), noise(2), seen(), None)
    cases.see(look(95, finding(cleared_at=at(95))), noise(3), seen(), None)
    whole = merge(writing_of(camera, raised), writing_of(camera, cases.take()))
    assert [one.kind for one in whole.updated] == [Later.GREW, Later.CLEARED]
    assert [one.finding.detail for one in whole.updated] == [{"area_m2": 4.5}, {}]  # of growths the newest
    less = lighten(whole, weigh(whole) - 1)
    assert [one.picture is None for one in less.updated] == [True, False]
    assert less.raised[0].picture is not None
    least = lighten(whole, 0)
    assert weigh(least) == 0 and len(least.raised) == 1 and len(least.updated) == 2


def test_a_full_disk_leaves_no_half_written_evidence_and_delays_a_finding_only_so_long(
    database: Database, camera: Device, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Semaphore(0)

    def full(*_: object) -> None:
        tries.release()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vision.findings.write_evidence", full)  # the original before it still fitted
    monkeypatch.setattr("vision.record.RETRY_S", 0.05)
    recorder = Recorder(database, studio, lambda: at(500))
    recorder.put(writing_of(camera, raise_one(book(camera, studio, None))))
    recorder.start()
    for _ in range(2):
        assert tries.acquire(timeout=30)
    monkeypatch.setattr("vision.record.DISK_PATIENCE_S", 0.0)
    wait_until(lambda: rows(database, "SELECT count(*) FROM report") == [(1,)], "the report without its pictures")
    recorder.close(10)
    ((detail,),) = rows(database, "SELECT detail FROM report")
    assert detail["missing"]["threshold"] == "not_kept"
    assert list(Path(studio.settings.originals_dir).rglob("*.jpg")) == []


def test_a_clip_that_finds_the_disk_full_waits_with_its_original_and_is_masked_later(
    database: Database, camera: Device, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = Capture()
    casebook = book(camera, studio, capture)
    gathered = raise_one(casebook)
    ((clip_id, _, _, path),) = capture.asked
    film(path)
    with pytest.raises(OSError, match="no room"):
        mask_clip(path, Path("/dev/full"), Scripted())
    capture.done = [clip_done(clip_id, path)]
    with database.transaction("*") as connection:
        write(connection, writing_of(camera, gathered), studio, at(11))
        write(connection, writing_of(camera, casebook.take()), studio, at(20))
    now = [at(21)]
    masker = Masker(studio.settings, database, lambda: now[0], Scripted)
    with monkeypatch.context() as full:
        full.setattr(
            "vision.clip.mask_clip", lambda source, target, _: mask_clip(source, Path("/dev/full"), Scripted())
        )
        assert not masker.work()
    assert rows(database, "SELECT state, error FROM clip") == [("cut", "")] and path.is_file()
    assert not masker.work()  # not again at once
    now[0] += 2 * CLAIM
    assert masker.work()
    assert rows(database, "SELECT state, error FROM clip") == [("saved", "")]
