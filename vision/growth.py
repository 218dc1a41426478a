"""Something reported that grows: when it is told of again, and when it is more severe."""

from __future__ import annotations

from dataclasses import dataclass, replace

GROWN = 1.5
GROWN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """How large something was when it was last told of: square metres, or a share of the picture."""

    told: float = 0.0
    severity: int | None = None
    since_s: float | None = None
    """Since when it is much larger than that."""


UNTOLD = Growth()
"""Of what was not told of yet."""


def grow(
    growth: Growth, size: float, severity: int | None, now_s: float, *, least: float, hold_s: float
) -> tuple[Growth, bool]:
    """The new growth, and whether it is to be told of again: half as large again (by `least` at least), or severe now and not
    before; for some seconds.

    `severity`: that of the new size; what was severe once stays so. `hold_s`: no longer than this is waited.
    """
    worse = severity is not None and growth.severity is None
    if not worse and size < max(GROWN * growth.told, growth.told + least):
        return replace(growth, since_s=None), False
    since_s = now_s if growth.since_s is None else growth.since_s
    if now_s - since_s < min(GROWN_S, hold_s):
        return replace(growth, since_s=since_s), False
    return Growth(told=size, severity=growth.severity if growth.severity is not None else severity), True
