"""Daily windows in a city's local time, which may pass midnight."""

from datetime import UTC, datetime, time, timedelta

from kernel.clock import to_local


def find_window_start(instant: datetime, start: time, end: time, timezone: str) -> datetime | None:
    """When the daily window that `instant` lies in began; None outside. `start` belongs to the window, `end` doesn't.

    With `start` equal to `end` the window is a day long and begins at `start`.
    """
    local = to_local(instant, timezone)
    for days_back in (0, 1):
        day = local.date() - timedelta(days=days_back)
        begins = datetime.combine(day, start, local.tzinfo)
        ends = datetime.combine(day if end > start else day + timedelta(days=1), end, local.tzinfo)
        if begins <= local < ends:
            return begins
    return None


def find_next_start(instant: datetime, start: time, timezone: str) -> datetime:
    """The next instant (UTC) behind `instant` at which the clock on the wall shows `start`."""
    local = to_local(instant, timezone)
    starts = (datetime.combine(local.date() + timedelta(days=d), start, local.tzinfo) for d in (0, 1, 2))
    return next(s for s in starts if s.astimezone(UTC) > instant).astimezone(UTC)
