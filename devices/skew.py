"""How far a device's own clock is off, from the messages it sends anyway.

A message comes some time after it was measured, never before. So the least `received - measured` of the last while is the
clock's offset plus the shortest way here: readings that were kept back for a day make it no worse as long as one comes
live. The least of two windows of a quarter of an hour each follows a clock that was set right within half an hour.
"""

from datetime import datetime
from typing import Any

from devices.model import instant_text, read_state_instant, seconds_between

WINDOW_S = 900.0


def observe_clock(clock: dict[str, Any], lag_s: float, received_at: datetime) -> dict[str, Any]:
    """The device's `clock` after messages whose least `received - measured` is `lag_s` seconds. Pure; JSON in and out.

    `offset_s` > 0: the clock is behind ours. What came later in its own window than `received_at` says is counted in it.
    """
    lag_s = round(lag_s, 3)
    window_at = read_state_instant(clock, "window_at")
    least_s, before_s = clock.get("least_s"), clock.get("before_s")
    if window_at is None or least_s is None:
        window_at, least_s, before_s = received_at, lag_s, None
    elif seconds_between(window_at, received_at) >= WINDOW_S:
        window_at, least_s, before_s = received_at, lag_s, least_s
    elif lag_s >= least_s:
        return clock  # the ordinary case: nothing new is known
    else:
        least_s = lag_s
    return {
        "offset_s": least_s if before_s is None else min(least_s, before_s),
        "window_at": instant_text(window_at),
        "least_s": least_s,
        "before_s": before_s,
    }
