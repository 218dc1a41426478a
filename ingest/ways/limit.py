"""Limits on what senders may cost: failed log-ins by address, messages by device."""

import time
from collections import OrderedDict
from collections.abc import Callable

_KEPT = 10_000


class Attempts:
    """Failed log-ins by address: after `most` within `span_s` an address has to wait for the rest of the span."""

    def __init__(self, most: int = 20, span_s: float = 60.0, read_s: Callable[[], float] = time.monotonic) -> None:
        self._most, self._span_s, self._read_s = most, span_s, read_s
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def may_try(self, address: str) -> bool:
        """Whether this address may try again now."""
        began_s, count = self._failures.get(address, (0.0, 0))
        return count < self._most or self._read_s() - began_s >= self._span_s

    def note_failure(self, address: str) -> None:
        """It failed."""
        now_s = self._read_s()
        began_s, count = self._failures.pop(address, (now_s, 0))
        self._failures[address] = (began_s, count + 1) if now_s - began_s < self._span_s else (now_s, 1)
        if len(self._failures) > _KEPT:
            self._failures.popitem(last=False)


class Rate:
    """So many per minute and name, with a burst of as many; the least recently seen names are forgotten."""

    def __init__(self, per_minute: int, read_s: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._read_s = per_minute, read_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, count: int = 1) -> float:
        """0.0 when `count` more are allowed, else the seconds to wait for one."""
        now_s = self._read_s()
        at_s, left = self._buckets.pop(name, (now_s, float(self._per_minute)))
        left = min(float(self._per_minute), left + (now_s - at_s) * self._per_minute / 60)
        allowed = left >= min(count, self._per_minute)
        self._buckets[name] = (now_s, max(0.0, left - count) if allowed else left)
        if len(self._buckets) > _KEPT:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else max(1.0, (1 - left) * 60 / self._per_minute)
