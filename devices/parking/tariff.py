"""What a stay costs, in integer fen. Data of each lot, with the instant from which it holds. Pure."""

from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_DAY_MIN = 24 * 60


class Tariff(BaseModel):
    """Free minutes, a price per hour charged in begun steps, and a most for each 24 hours from the entry.

    A stay of at most `free_min` costs nothing; a longer one is charged from its first minute, unless `deduct_free`.
    The values are examples of this project, to be replaced by what the lot's board says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    free_min: int = Field(default=30, ge=0, le=_DAY_MIN)
    fen_per_hour: int = Field(default=500, ge=0, le=1_000_000)
    step_min: int = Field(default=60, ge=1, le=_DAY_MIN, description="a begun step counts whole")
    daily_cap_fen: int | None = Field(default=4_000, ge=0, le=10_000_000)
    deduct_free: bool = False

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        if self.fen_per_hour * self.step_min % 60:
            raise ValueError("the price of one step is no whole number of fen")
        return self

    @property
    def fen_per_step(self) -> int:
        """Price of one begun step."""
        return self.fen_per_hour * self.step_min // 60


def charge(tariff: Tariff, entered_at: datetime, left_at: datetime) -> int:
    """Fen for a stay, counted in whole minutes (a begun minute is the driver's); 0 when it ends before it began."""
    stay_min = max(0, (left_at - entered_at) // timedelta(minutes=1))
    if stay_min <= tariff.free_min:
        return 0
    billed_min = stay_min - (tariff.free_min if tariff.deduct_free else 0)
    days, rest_min = divmod(billed_min, _DAY_MIN)
    return days * _charge_day(tariff, _DAY_MIN) + _charge_day(tariff, rest_min)


def _charge_day(tariff: Tariff, minutes: int) -> int:
    fen = -(-minutes // tariff.step_min) * tariff.fen_per_step
    return fen if tariff.daily_cap_fen is None else min(fen, tariff.daily_cap_fen)
