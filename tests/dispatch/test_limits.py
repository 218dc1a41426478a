"""When an incident is due, and how its light stands."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dispatch.limits import CalendarMissing, due_at, stand_light
from kernel.types import Light, LimitUnit

FROM = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "unit", "after"),
    [(0.5, LimitUnit.URGENT_HOUR, timedelta(minutes=30)), (4, LimitUnit.URGENT_HOUR, timedelta(hours=4)),
     (5, LimitUnit.DAY, timedelta(days=5))],
)  # fmt: skip
def test_urgent_hours_and_days_run_through_nights_and_weekends(value: float, unit: LimitUnit, after: timedelta) -> None:
    assert due_at(FROM, value, unit) == FROM + after


def test_the_zone_of_the_beginning_does_not_matter() -> None:
    assert due_at(FROM.astimezone(ZoneInfo("Asia/Shanghai")), 2, LimitUnit.URGENT_HOUR) == FROM + timedelta(hours=2)


@pytest.mark.parametrize("unit", [LimitUnit.WORK_HOUR, LimitUnit.WORKDAY])
def test_working_time_without_a_calendar_is_an_error_that_names_the_year(unit: LimitUnit) -> None:
    with pytest.raises(CalendarMissing, match="2026"):
        due_at(FROM, 4, unit)


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="limit of"):
        due_at(FROM, value, LimitUnit.DAY)


@pytest.mark.parametrize(
    ("hours", "lamp"),
    [(0.0, Light.GREEN), (80.0, Light.GREEN), (80.001, Light.AMBER), (100.0, Light.AMBER), (100.001, Light.RED)],
)
def test_the_light_is_green_to_80_percent_and_red_beyond_the_limit(hours: float, lamp: Light) -> None:
    amber, due = FROM + timedelta(hours=80), FROM + timedelta(hours=100)
    assert stand_light(amber, due, FROM + timedelta(hours=hours)) is lamp


def test_no_limit_no_light() -> None:
    assert stand_light(None, None, FROM) is None
