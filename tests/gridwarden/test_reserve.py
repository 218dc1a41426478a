"""Room held back for a full disk."""

import shutil
from pathlib import Path

import pytest

from gridwarden.postgres import keep_reserve


def set_free(monkeypatch: pytest.MonkeyPatch, megabytes: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=megabytes * 2**20)
    monkeypatch.setattr("gridwarden.postgres.shutil.disk_usage", lambda path: usage)


def test_room_is_held_back_while_there_is_plenty_and_given_up_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = tmp_path / "home" / "reserve"
    set_free(monkeypatch, 1_000)
    keep_reserve(reserve.parent)
    assert not reserve.exists()  # a small disk is not filled by us
    set_free(monkeypatch, 10_000)
    keep_reserve(reserve.parent)
    assert reserve.stat().st_size == 128 * 2**20
    for megabytes, there in ((1_000, True), (100, True), (10, False), (130, False), (10_000, True)):
        set_free(monkeypatch, megabytes)
        keep_reserve(reserve.parent)
        assert reserve.exists() == there, megabytes
