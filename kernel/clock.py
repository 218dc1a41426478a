"""The one clock. Every role reads it; no SQL calls now(). Offset and speed are settings, so a drill can move time."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from kernel.settings import ClockSettings


@dataclass(frozen=True, slots=True)
class Clock:
    """UTC instants from the system clock, shifted by `offset_s` and running `speed` times as fast since `epoch_at`."""

    offset_s: float = 0.0
    speed: float = 1.0
    epoch_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def of(cls, settings: ClockSettings) -> "Clock":
        """The clock that the settings describe."""
        return cls(offset_s=settings.offset_s, speed=settings.speed, epoch_at=settings.epoch_at)

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        real = datetime.fromtimestamp(time.time(), UTC)
        if self.speed == 1.0:
            return real + timedelta(seconds=self.offset_s)
        return self.epoch_at + (real - self.epoch_at) * self.speed + timedelta(seconds=self.offset_s)


def to_local(instant: datetime, timezone: str) -> datetime:
    """`instant` as wall-clock time in the city's zone, e.g. Asia/Shanghai."""
    return instant.astimezone(ZoneInfo(timezone))
