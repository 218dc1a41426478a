"""Time limits: when an incident is due.

`urgent_hour` and `day` run continuously (GB/T 30428.8 as told in the project's domain notes). `work_hour` and `workday`
follow the State Council's yearly table of working days; no such table is loaded in this version, and a year that is
missing is an error, never a guess.
"""

from datetime import datetime, timedelta

from kernel.types import LimitUnit

_CONTINUOUS = {LimitUnit.URGENT_HOUR: timedelta(hours=1), LimitUnit.DAY: timedelta(days=1)}


class CalendarMissing(LookupError):
    """The limit counts working time of a year whose calendar is not in the database; the text names both."""


def due_at(limit_from: datetime, value: float, unit: LimitUnit) -> datetime:
    """The instant at which a limit of `value` units that began at `limit_from` is used up.

    Raises CalendarMissing for work hours and workdays, ValueError for a value that is not positive.
    """
    if not value > 0:
        raise ValueError(f"a limit of {value} {unit}")
    step = _CONTINUOUS.get(unit)
    if step is None:
        raise CalendarMissing(f"no calendar of working days for {limit_from.year}: a limit in {unit} cannot be counted")
    return limit_from + step * value
