"""Does a camera's clock run? Its stream's own time stamps against the time at which they come.

What can be had honestly: the rate and the jumps of the camera's clock. The time of day drawn into its picture is not read, and
RTP does not say it; a camera whose clock runs rightly but shows the wrong hour is not found here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

EVERY_S = 1.0
WINDOW_S = 60.0
MIN_WINDOW_S = 20.0
GAP_S = 5.0
"""A longer time without frames, or a jump of the stamps by more, is a new connection: it begins anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceState:
    """Instants of arrival and time stamps of the last minute."""

    samples: tuple[tuple[datetime, float], ...] = ()


def measure_pace(state: PaceState, received_at: datetime, pts_s: float | None) -> tuple[PaceState, float | None]:
    """The new state, and by how many seconds the stamps have run ahead (behind: negative) in the last minute; None while
    too little is known."""
    if pts_s is None:
        return PaceState(), None
    samples = state.samples
    if samples:
        last_at, last_s = samples[-1]
        wall_s = (received_at - last_at).total_seconds()
        if 0 <= wall_s < EVERY_S and pts_s >= last_s:
            return state, _error(samples, received_at, pts_s)
        if not 0 <= wall_s <= GAP_S or pts_s < last_s or pts_s - last_s > wall_s + GAP_S:
            samples = ()
    samples = (*samples, (received_at, pts_s))
    while (received_at - samples[0][0]).total_seconds() > WINDOW_S:
        samples = samples[1:]
    return PaceState(samples=samples), _error(samples, received_at, pts_s)


def _error(samples: tuple[tuple[datetime, float], ...], received_at: datetime, pts_s: float) -> float | None:
    first_at, first_s = samples[0]
    wall_s = (received_at - first_at).total_seconds()
    return None if wall_s < MIN_WINDOW_S else (pts_s - first_s) - wall_s
