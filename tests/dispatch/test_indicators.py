"""Indicators: hand-counted cases, and what must hold for any."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatch.indicators import COUNTS, INDICATORS, Case, Period, tally

BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
WEEK = Period(from_at=BEGIN, until_at=BEGIN + timedelta(days=7), as_of=BEGIN + timedelta(days=7))


def hour(n: float) -> datetime:
    return BEGIN + timedelta(hours=n)


def make_case(
    reported: float,
    due: float | None = None,
    handled: float | None = None,
    closed: float | None = None,
    *,
    departments: str = "城管",
    **more: object,
) -> Case:
    """Hours since the beginning; filed when reported if it has a limit."""
    return Case(
        category="bin_overflow", area_code="330103001001", department=departments.split()[0] if departments else "",
        person="甲", reported_at=hour(reported), filed_at=None if due is None else hour(reported),
        due_at=None if due is None else hour(due), handled_at=None if handled is None else hour(handled),
        closed_at=None if closed is None else hour(closed), departments=frozenset(departments.split()), **more,  # type: ignore[arg-type]
    )  # fmt: skip


SAMPLE = [
    make_case(1, 5, 3, 4),  # handled and closed in time
    make_case(2, 6, 5, 8),  # handled in time, closed late
    make_case(3, 7, 9, 10),  # late
    make_case(4, 8, 9, 10, is_exempt=True),  # late, and an appeal was accepted
    make_case(5, 9, 7, 8, departments="城管 保洁"),  # in time, by the second department
    make_case(6, 10, 8, 9, reworks=2),  # in time, after two reworks
    make_case(7, 11),  # nobody did anything
    make_case(8, 12, is_suspended=True),  # its clock stands: not due
    make_case(9, 13, is_void=True),  # was no case
    make_case(10),  # waits for verification
    make_case(160, 200),  # due next week
    make_case(-20, 2, -10, -9),  # reported and closed the week before, due in this one
    make_case(-30, -20, -22, 3),  # closed in this week, the rest before
]


def test_a_week_counted_by_hand() -> None:
    total, _ = tally(SAMPLE, WEEK)
    assert total.counts == {
        "reported": 11, "valid": 10, "filed": 10,
        "due": 7, "due_closed": 6, "due_closed_on_time": 4, "due_handled_on_time": 5,
        "due_raw": 8, "due_raw_handled_on_time": 5, "exempt": 1,
        "closed": 7, "closed_dispatched": 7, "closed_rightly_dispatched": 6, "closed_wrongly_dispatched": 1,
        "closed_reworked": 1,
    }  # fmt: skip
    assert total.rates == {
        "closure_rate": 6 / 7, "on_time_closure_rate": 4 / 7, "on_time_handling_rate": 5 / 7,
        "raw_on_time_handling_rate": 5 / 8, "valid_report_rate": 10 / 11, "filing_rate": 10 / 11,
        "dispatch_accuracy": 6 / 7, "rework_rate": 1 / 7,
    }  # fmt: skip


def test_nothing_below_the_line_is_no_rate_neither_0_nor_100() -> None:
    total, _ = tally([make_case(10)], WEEK)
    assert total.rates["valid_report_rate"] == 1.0
    assert total.rates["filing_rate"] == 0.0
    assert {name for name, rate in total.rates.items() if rate is None} == {
        "closure_rate", "on_time_closure_rate", "on_time_handling_rate", "raw_on_time_handling_rate",
        "dispatch_accuracy", "rework_rate",
    }  # fmt: skip


def test_what_is_due_later_today_is_not_due_yet() -> None:
    noon = Period(from_at=WEEK.from_at, until_at=WEEK.until_at, as_of=hour(6))
    total, _ = tally([make_case(1, 5), make_case(2, 6), make_case(3, 7)], noon)
    assert (total.counts["due"], total.counts["due_closed"]) == (2, 0)


hours = st.none() | st.integers(-100, 300)
cases = st.builds(
    make_case, st.integers(-100, 300), hours, hours, hours, departments=st.sampled_from(["", "城管", "城管 保洁"]),
    is_void=st.booleans(), is_suspended=st.booleans(), is_exempt=st.booleans(), reworks=st.integers(0, 2),
)  # fmt: skip


@given(st.lists(cases, max_size=20), st.integers(1, 300))
def test_no_rate_leaves_0_to_1_and_groups_add_up_to_all(found: list[Case], seen: int) -> None:
    period = Period(from_at=BEGIN, until_at=hour(168), as_of=hour(min(seen, 168)))
    total, groups = tally(found, period, lambda case: case.department)
    for one in INDICATORS:
        assert total.counts[one.numerator] <= total.counts[one.denominator], one.id
    assert {name: sum(group.counts[name] for group in groups.values()) for name in COUNTS} == total.counts
