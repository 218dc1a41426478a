"""Windows of local time in which another limit holds: bus stops, loading bays, streets free by night."""

from __future__ import annotations

from datetime import datetime, time
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kernel.clock import to_local


class Weekday(StrEnum):
    """In the order of `datetime.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


DAYS = tuple(Weekday)


class Window(BaseModel):
    """`begins` to `ends` local time ("07:30") on `days`; one that ends before it begins runs over midnight and belongs
    to the day on which it began. Either standing is allowed (`allow`), or the limit is `dwell_s`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[tuple[Weekday, ...], Field(min_length=1)] = DAYS
    begins: time
    ends: time
    dwell_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    allow: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_midnight(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("ends") == "24:00":
            return {**value, "ends": "00:00"}
        return value

    @model_validator(mode="after")
    def _check(self) -> Window:
        if self.allow == (self.dwell_s is not None):
            raise PydanticCustomError("allow_or_dwell", "either allow = true or dwell_s")
        if self.begins.tzinfo is not None or self.ends.tzinfo is not None:
            raise PydanticCustomError("local_time", "times are local, without an offset")
        return self

    def holds(self, local: datetime) -> bool:
        """True when that local instant lies in it. Equal times are the whole day."""
        day, clock = local.weekday(), local.time()
        today, yesterday = DAYS[day] in self.days, DAYS[day - 1] in self.days
        if self.begins < self.ends:
            return today and self.begins <= clock < self.ends
        return (today and clock >= self.begins) or (yesterday and clock < self.ends)


def window_at(windows: tuple[Window, ...], at: datetime, timezone: str) -> Window | None:
    """The first window that holds at an instant."""
    if not windows:
        return None
    local = to_local(at, timezone)
    return next((window for window in windows if window.holds(local)), None)
