"""Who is competent for something at a place: rules by category, kind of component, place, surface and owner.

A rule's conditions are texts, '' meaning any. Of the rules that fit, one is set aside when another says all that it says
and more (a longer place, another condition). When those that are left name different units, or none is left, it is
unclear, and territorial duty applies: the street where it lies has it, and the rules that disagree are told.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grid.model import Place


class DutyReason(StrEnum):
    """Why somebody is competent."""

    RULE = "rule"
    NO_RULE = "no_rule"  # territorial: nothing fits
    RULES_DIFFER = "rules_differ"  # territorial: equally particular rules name different units


@dataclass(frozen=True, kw_only=True, slots=True)
class DutyRule:
    """One line of the list. `place_prefix`: a division code or the beginning of one; `surface`: the layer of what lies
    there (road, pavement, water, green, parking_lot …); `owner`: words of the name of whom the component or the ground
    belongs to (权属单位), such as 物业."""

    competent_dept: str
    handling_dept: str
    source: str
    category: str = ""
    component_kind: str = ""
    place_prefix: str = ""
    surface: str = ""
    owner: str = ""

    @property
    def conditions(self) -> tuple[str, str, str, str, str]:
        """What tells it from other rules."""
        return self.category, self.component_kind, self.place_prefix, self.surface, self.owner


@dataclass(frozen=True, kw_only=True, slots=True)
class DutyQuestion:
    """What is asked. `place_code`: the cell's code, or the code of an area."""

    category: str = ""
    component_kind: str = ""
    place_code: str = ""
    surface: str = ""
    owner: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """The answer: 主管部门 and 专业部门. `rules`: the one that decided, or those that differ."""

    competent_dept: str
    handling_dept: str
    reason: DutyReason
    rules: tuple[DutyRule, ...] = ()

    @property
    def territorial(self) -> bool:
        """Whether the street has it for want of a clear rule."""
        return self.reason is not DutyReason.RULE


def decide_duty(rules: Iterable[DutyRule], question: DutyQuestion, street: str) -> Duty:
    """Who is competent. `street`: whose duty it is where no rule is clear (name_street_office)."""
    fitting = [rule for rule in rules if _fits(rule, question)]
    left = [rule for rule in fitting if not any(_outweighs(other, rule) for other in fitting)]
    answers = {(rule.competent_dept, rule.handling_dept) for rule in left}
    told = tuple(sorted(left, key=lambda rule: rule.conditions))
    if len(answers) == 1:
        competent, handling = answers.pop()
        return Duty(competent_dept=competent, handling_dept=handling, reason=DutyReason.RULE, rules=told)
    reason = DutyReason.RULES_DIFFER if answers else DutyReason.NO_RULE
    return Duty(competent_dept=street, handling_dept=street, reason=reason, rules=told)


def name_street_office(place: Place | None) -> str:
    """The office of a street or town, as it is called; its code where it has no name; '' outside every cell."""
    if place is None:
        return ""
    name = place.street_name
    if not name:
        return place.street_code
    return f"{name}办事处" if name.endswith("街道") else f"{name}人民政府" if name.endswith(("镇", "乡")) else name


def check_rules(rows: Sequence[Mapping[str, str]], categories: Iterable[str]) -> tuple[list[DutyRule], list[str]]:
    """The rules of a table (CSV rows by column name), and what is wrong with it, one line for each, in both languages."""
    known, rules, wrong = set(categories), [], []
    seen: dict[tuple[str, ...], int] = {}
    names = tuple(DutyRule.__dataclass_fields__)
    for number, row in enumerate(rows, 2):  # the first line names the columns
        values = {name: (row.get(name) or "").strip() for name in names}
        rule = DutyRule(**values)
        for name in ("competent_dept", "handling_dept", "source"):
            if not values[name]:
                wrong.append(f"第 {number} 行缺少 {name} / line {number} has no {name}")
        if rule.category and rule.category not in known:
            wrong.append(f"第 {number} 行类别 {rule.category} 不存在 / line {number}: no category {rule.category}")
        if rule.place_prefix and not (rule.place_prefix.isascii() and rule.place_prefix.isdigit()):
            wrong.append(
                f"第 {number} 行 place_prefix 应为数字 / line {number}: place_prefix is a division code's digits"
            )
        if (other := seen.setdefault(rule.conditions, number)) != number:
            wrong.append(f"第 {number} 行与第 {other} 行条件相同 / line {number} has the conditions of line {other}")
        rules.append(rule)
    return rules, wrong


def _fits(rule: DutyRule, question: DutyQuestion) -> bool:
    return (
        rule.category in ("", question.category)
        and rule.component_kind in ("", question.component_kind)
        and rule.surface in ("", question.surface)
        and rule.owner in question.owner
        and question.place_code.startswith(rule.place_prefix)
    )


def _outweighs(one: DutyRule, other: DutyRule) -> bool:
    """Whether `one` says all that `other` says, and more. Both fit the same question."""
    return (
        one.conditions != other.conditions
        and other.category in ("", one.category)
        and other.component_kind in ("", one.component_kind)
        and other.surface in ("", one.surface)
        and other.owner in one.owner
        and one.place_prefix.startswith(other.place_prefix)
    )
