"""docs/workflow.md names what the code can say."""

import re
from pathlib import Path

from dispatch.diagram import update
from dispatch.model import _STATUS, Action, Happening, OperatorNeed, Outcome, PushKind
from dispatch.proof import DOUBTS

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "workflow.md").read_text("utf-8")


def test_every_code_is_explained() -> None:
    codes = [*_STATUS, *Action, *Happening, *OperatorNeed, *Outcome, *PushKind, *DOUBTS]
    assert [code for code in codes if f"`{code}`" not in TEXT] == []


def test_the_status_of_every_refusal_is_the_documented_one() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d+) \|", TEXT, re.MULTILINE)
    documented = {code: int(status) for names, status in rows for code in re.findall(r"`(\w+)`", names)}
    assert documented == _STATUS


def test_the_diagram_and_the_table_are_those_of_the_code() -> None:
    assert update(TEXT) == TEXT, "python -m dispatch.diagram"
