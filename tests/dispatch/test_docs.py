"""docs/workflow.md names what the code can say."""

import re
from pathlib import Path

from dispatch.model import _STATUS, Action, Happening, Need, OperatorNeed, Outcome, PushKind
from dispatch.policy import TRANSITIONS

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "workflow.md").read_text("utf-8")


def test_every_code_is_explained() -> None:
    codes = [*_STATUS, *Action, *Happening, *OperatorNeed, *Outcome, *PushKind]
    assert [code for code in codes if f"`{code}`" not in TEXT] == []


def test_the_status_of_every_refusal_is_the_documented_one() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d+) \|", TEXT, re.MULTILINE)
    documented = {code: int(status) for names, status in rows for code in re.findall(r"`(\w+)`", names)}
    assert documented == _STATUS


def test_the_table_of_actions_says_what_each_needs() -> None:
    for action in Action:
        row = re.findall(rf"^\| `{action}` \|(?:[^|\n]*\|){{5}}$", TEXT, re.MULTILINE)[0]
        needs = {need for line in TRANSITIONS if line.action is action for need in line.needs}
        assert {need for need in Need if need in row.rsplit("|", 2)[1]} == needs, action


def test_every_reason_for_a_choice_is_explained() -> None:
    source = (ROOT / "dispatch" / "policy.py").read_text("utf-8")
    body = source[source.index("def _why(") :]
    codes = set(re.findall(r'"([a-z_]+)"', body))
    assert len(codes) >= 9
    assert [code for code in sorted(codes) if f"`{code}`" not in TEXT] == []
