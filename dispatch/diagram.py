"""The diagram and the table of docs/workflow.md, written from the table of transitions: `python -m dispatch.diagram`."""

from collections.abc import Iterable
from pathlib import Path

from dispatch.model import Action, Who
from dispatch.transition import REASON_CODES, TRANSITIONS, Transition
from kernel.types import OPEN_STATES, IncidentState

PATH = Path(__file__).resolve().parent.parent / "docs" / "workflow.md"
BEGIN, END = "<!-- written from dispatch/transition.py -->", "<!-- until here -->"
_ZH = {
    Action.ASK_VERIFICATION: "请人核实",
    Action.VERIFY: "核实",
    Action.FILE: "立案",
    Action.VOID: "作废",
    Action.DISPATCH: "派遣",
    Action.ACCEPT: "接单",
    Action.REFUSE: "拒单",
    Action.EXPIRE: "超时未接",
    Action.ARRIVE: "到场",
    Action.HANDLE: "处置完成",
    Action.SEND_BACK: "回退",
    Action.CHECK: "核查",
    Action.CLOSE: "结案",
    Action.REWORK: "返工",
    Action.REOPEN: "重开",
    Action.ASK_EXTENSION: "申请延期",
    Action.GRANT_EXTENSION: "同意延期",
    Action.REFUSE_EXTENSION: "不同意延期",
    Action.SUSPEND: "挂账",
    Action.RESUME: "恢复",
    Action.SUPERVISE: "督办",
    Action.ESCALATE: "升级",
    Action.APPEAL: "申诉",
    Action.ACCEPT_APPEAL: "申诉成立",
    Action.REJECT_APPEAL: "申诉不成立",
    Action.SUMMON: "吹哨",
    Action.CHECK_IN: "报到",
    Action.RATE: "评价",
    Action.ATTACH: "关联为子案件",
    Action.DETACH: "解除关联",
    Action.MERGE: "合并",
    Action.SPLIT: "拆分",
    Action.ACKNOWLEDGE: "已阅",
}
_WORK = frozenset(OPEN_STATES) - {IncidentState.REPORTED, IncidentState.HANDLED}


def draw() -> str:
    """The states and what leads from one to another, in Mermaid's language."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for line in TRANSITIONS:
        if line.to is None:
            continue
        answer = f" ({line.verdict})" if line.verdict else ""
        for state in IncidentState:
            # What leads from every open state to void is said once, in words.
            if state in line.states and line.to is not IncidentState.VOID:
                names = arrows.setdefault((state, line.to), [])
                if f"{line.action}{answer}" not in names:
                    names.append(f"{line.action}{answer}")
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> reported: open",
            *(f"    {start} --> {to}: {', '.join(names)}" for (start, to), names in arrows.items()),
            "    closed --> [*]",
            "    void --> [*]",
            "```",
        ]
    )


def tabulate() -> str:
    """One row for each line of the table."""
    rows = [
        "| action | 中文 | from | to | who | needs | refused with |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in TRANSITIONS:
        answer = line.verdict or ({True: "found", False: "not found"}[line.found] if line.found is not None else "")
        cells = [
            f"`{line.action}`" + (f" ({answer})" if answer else ""),
            _ZH[line.action],
            _name_states(line.states),
            line.to or "stays",
            ", ".join(who for who in Who if who in line.by),
            ", ".join(line.needs),
            _name_guards(line),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _name_states(states: frozenset[IncidentState]) -> str:
    if states >= frozenset(OPEN_STATES):
        return ", ".join(["any open", *(s for s in IncidentState if s in states and s not in OPEN_STATES)])
    if states == _WORK:
        return "filed to on_site"
    return ", ".join(s for s in IncidentState if s in states)


def _name_guards(line: Transition) -> str:
    return ", ".join(f"`{guard.value}`" for guard in line.guards)


def list_reasons() -> str:
    """The reason codes by action."""
    return "\n".join(f"- `{action}`: {_quote(codes)}" for action, codes in REASON_CODES.items())


def _quote(codes: Iterable[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def describe() -> str:
    """What stands between the marks."""
    return (
        f"{BEGIN}\n\n{draw()}\n\n`void` and `merge` lead from every open state to `void`; where no other state is named, the"
        f" state stays.\n\n{tabulate()}\n\nThe last column names what it is refused with beside the usual"
        f" codes. What is suspended is not worked on.\n\n"
        f"Reason codes, beside or instead of words:\n\n{list_reasons()}\n\n{END}"
    )


def update(text: str) -> str:
    """The page with what stands between the marks written anew. Raises ValueError when the marks are not there."""
    before, after = text.index(BEGIN), text.index(END) + len(END)
    return text[:before] + describe() + text[after:]


if __name__ == "__main__":
    PATH.write_text(update(PATH.read_text("utf-8")), "utf-8")
