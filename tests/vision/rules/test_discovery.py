"""Rules are found in their folder; a broken or doubled one stops the start."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from vision.rules import RuleError, discover

GOOD = "from vision.rules.crowding import RULE\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "extra_rules").mkdir()
    (tmp_path / "extra_rules" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "extra_rules"
    for name in [name for name in sys.modules if name.startswith("extra_rules")]:
        del sys.modules[name]


def package() -> ModuleType:
    return importlib.import_module("extra_rules")


def test_the_rules_are_found_by_name() -> None:
    assert set(discover()) == {"crowding", "illegal_parking", "litter_overflow", "river_gauge"}


def test_a_rule_is_added_by_adding_a_file(folder: Path) -> None:
    (folder / "one.py").write_text(GOOD)
    assert list(discover(package())) == ["crowding"]


def test_two_rules_of_one_name_stop_the_start(folder: Path) -> None:
    (folder / "one.py").write_text(GOOD)
    (folder / "two.py").write_text(GOOD)
    with pytest.raises(RuleError, match="already a rule 'crowding'"):
        discover(package())


def test_a_file_without_a_rule_or_with_an_error_stops_the_start(folder: Path) -> None:
    (folder / "one.py").write_text("x = 1\n")
    with pytest.raises(RuleError, match="has no RULE"):
        discover(package())
    (folder / "one.py").unlink()
    (folder / "two.py").write_text("import no_such_module\n")
    with pytest.raises(ImportError):
        discover(package())
