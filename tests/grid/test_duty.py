"""Who is competent: the most particular rule decides, and where none is clear the street has it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from grid.duty import DutyQuestion, DutyReason, DutyRule, decide_duty, name_street_office
from grid.duty_store import DutyRefusedError, export_duty_rules, import_duty_rules, read_duty_rules
from grid.model import Place
from kernel.db import Database

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STREET = "天水街道办事处"


def rule(dept: str, **conditions: str) -> DutyRule:
    """A rule that names one unit for both."""
    return DutyRule(competent_dept=dept, handling_dept=dept, source="test", **conditions)


RULES = [
    rule("城管", category="illegal_parking", surface="pavement"),
    rule("交警", category="illegal_parking", surface="road"),
    rule("物业", category="illegal_parking", owner="物业"),
    rule("环卫", category="bin_overflow"),
    rule("景区环卫", category="bin_overflow", place_prefix="330105012"),
    rule("景区一社区环卫", category="bin_overflow", place_prefix="330105012001"),
    rule("路灯所", component_kind="0402"),
]


@pytest.mark.parametrize(
    ("question", "dept", "reason"),
    [
        (DutyQuestion(category="illegal_parking", surface="pavement"), "城管", DutyReason.RULE),
        (DutyQuestion(category="illegal_parking", surface="road"), "交警", DutyReason.RULE),
        (DutyQuestion(category="illegal_parking", surface="green"), STREET, DutyReason.NO_RULE),
        (DutyQuestion(category="illegal_parking", owner="绿城物业服务"), "物业", DutyReason.RULE),
        (DutyQuestion(category="illegal_parking", surface="road", owner="绿城物业"), STREET, DutyReason.RULES_DIFFER),
        (DutyQuestion(category="bin_overflow", place_code="330105013001001"), "环卫", DutyReason.RULE),
        (DutyQuestion(category="bin_overflow", place_code="330105012002001"), "景区环卫", DutyReason.RULE),
        (DutyQuestion(category="bin_overflow", place_code="330105012001001"), "景区一社区环卫", DutyReason.RULE),
        (DutyQuestion(category="cable_down", component_kind="0402"), "路灯所", DutyReason.RULE),
        (DutyQuestion(category="bin_overflow", component_kind="0402"), STREET, DutyReason.RULES_DIFFER),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_most_particular_rule_decides_and_contradictions_go_to_the_street(
    question: DutyQuestion, dept: str, reason: DutyReason, order: int
) -> None:
    duty = decide_duty(RULES[::order], question, STREET)
    assert (duty.competent_dept, duty.handling_dept, duty.reason) == (dept, dept, reason)
    assert duty.territorial is (reason is not DutyReason.RULE)
    assert len(duty.rules) == {DutyReason.RULE: 1, DutyReason.NO_RULE: 0, DutyReason.RULES_DIFFER: 2}[reason]


def test_two_rules_that_say_the_same_are_no_contradiction() -> None:
    rules = [rule("环卫", category="bin_overflow", surface="road"), rule("环卫", category="bin_overflow", owner="市政")]
    question = DutyQuestion(category="bin_overflow", surface="road", owner="市政公司")
    assert decide_duty(rules, question, STREET).reason is DutyReason.RULE


def test_a_street_has_an_office_a_town_a_government_and_a_nameless_one_its_code() -> None:
    def place(name: str) -> Place:
        return Place(
            cell_code="330105012001001", grid_code="", community_code="330105012001", street_code="330105012",
            district_code="330105", street_name=name,
        )  # fmt: skip

    names = [name_street_office(place(name)) for name in ("天水街道", "塘栖镇", "")] + [name_street_office(None)]
    assert names == ["天水街道办事处", "塘栖镇人民政府", "330105012", ""]


def test_rules_go_out_as_a_table_and_come_back_and_a_bad_table_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    good = tmp_path / "duty.csv"
    good.write_text(
        "category,component_kind,place_prefix,surface,owner,competent_dept,handling_dept,source\n"
        "bin_overflow,,330105,,,区城市管理局,环卫保洁作业单位,试点\n,0402,,,,区城市管理局,路灯所,试点\n",
        "gb18030",
    )
    with database.transaction() as connection:
        assert import_duty_rules(connection, good, NOW, "test") == 2
        before = read_duty_rules(connection)
        assert export_duty_rules(connection, tmp_path / "out.csv") == 2
        assert import_duty_rules(connection, tmp_path / "out.csv", NOW, "test") == 2
        assert read_duty_rules(connection) == before
        out = (tmp_path / "out.csv").read_text("utf-8-sig")
        (tmp_path / "bad.csv").write_text(out.replace("bin_overflow", "no_such") + ",0402,,,,x,,y\n", "utf-8")
        with pytest.raises(DutyRefusedError) as refused:
            import_duty_rules(connection, tmp_path / "bad.csv", NOW, "test")
        assert [str(refused.value).count(part) for part in ("no_such", "handling_dept", "条件相同")] == [2, 2, 1]
        assert read_duty_rules(connection) == before
        (audited,) = (
            connection.execute("SELECT count(*) FROM audit WHERE action = 'duty_rules_replaced'").fetchone() or ()
        )
        assert audited == 2
