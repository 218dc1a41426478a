"""HTTP routes of limits, the calendar, emergencies and indicators. Reading is for operators, engineers and administrators;
what holds for the whole city is changed by those whose scope is the whole city."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dispatch import calendar_table, emergency, limit_store
from dispatch.calendar import ShiftError
from dispatch.indicator_store import By, make_period, read_indicators, write_csv
from dispatch.limit_store import LimitRule
from dispatch.model import ActionRefused, Actor, JsonObject
from dispatch.shape import text_of
from kernel.clock import Clock
from kernel.db import Connection
from kernel.settings import Settings
from kernel.types import LimitUnit, Role

Transaction = Callable[[Actor], AbstractContextManager[Connection]]
_READERS = (Role.OPERATOR, Role.ENGINEER, Role.ADMIN)
_Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
_Word = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LimitPlace(_Body):
    """Which limit: "" and 0 stand for any, set "normal" for no emergency."""

    category: _Word
    condition: _Word = ""
    severity: int = Field(default=0, ge=0, le=4)
    set_name: _Word = limit_store.NORMAL


class LimitBody(LimitPlace):
    """A limit as it is set, and where the figure comes from."""

    value: float = Field(gt=0, lt=100_000, allow_inf_nan=False)
    unit: LimitUnit
    source: _Text


class YearBody(_Body):
    """A year's table: lines `date,kind,name`, kind workday or rest."""

    csv: str = Field(max_length=100_000)
    source: _Text = Field(min_length=1)


class ShiftBody(_Body):
    """When a department ("": all that have none of their own) works, from a day on, in minutes of the local day."""

    department: _Word = ""
    from_day: date
    periods: list[tuple[int, int]] = Field(min_length=1, max_length=20)


class EnterBody(_Body):
    """Which emergency, and why."""

    name: _Word
    reason: _Text


class LeaveBody(_Body):
    """Why it is over."""

    reason: _Text


class GroupOut(_Body):
    """Counts, and rates from 0 to 1 (null where nothing stands below the line)."""

    counts: dict[str, int]
    rates: dict[str, float | None]


class GroupRow(GroupOut):
    """One group, and its name."""

    key: str
    name: dict[Literal["zh", "en"], str]


class IndicatorsOut(_Body):
    """Indicators of a period. `indicators` says which count each divides by which."""

    from_: str = Field(alias="from")
    to: str
    as_of: str
    area: str
    by: By | None
    total: GroupOut
    rows: list[GroupRow]
    indicators: list[dict[str, str]]


def make_time_router(get_actor: Callable[..., Actor], transaction: Transaction, settings: Settings) -> APIRouter:
    """The routes. `get_actor` and `transaction` as for `dispatch.api.make_router`. Raise ActionRefused."""
    router = APIRouter(tags=["limits and indicators"])
    clock = Clock.of(settings.clock)

    def reader(actor: Annotated[Actor, Depends(get_actor)]) -> Actor:
        return _require(actor, _READERS)

    def governor(actor: Annotated[Actor, Depends(get_actor)]) -> Actor:
        return _require(actor, (Role.ADMIN,), whole_city=True)

    def commander(actor: Annotated[Actor, Depends(get_actor)]) -> Actor:
        return _require(actor, (Role.OPERATOR, Role.ADMIN), whole_city=True)

    Reader = Annotated[Actor, Depends(reader)]
    Governor = Annotated[Actor, Depends(governor)]
    Commander = Annotated[Actor, Depends(commander)]
    From = Annotated[AwareDatetime, Query(alias="from")]
    To = Annotated[AwareDatetime, Query()]
    Area = Annotated[str, Query(pattern=r"^\d{0,12}$")]

    def look(actor: Actor, from_at: datetime, until_at: datetime, by: By | None, area: str) -> JsonObject:
        period = make_period(from_at, until_at, clock.now())
        with transaction(actor) as connection:
            return read_indicators(connection, period, by, area)

    @router.get("/indicators", response_model=None, responses={200: {"model": IndicatorsOut}})
    def list_indicators(actor: Reader, from_at: From, to: To, by: By | None = None, area: Area = "") -> JSONResponse:
        """Indicators of the incidents in my scope: of all, and of each group."""
        return JSONResponse(look(actor, from_at, to, by, area))

    @router.get("/indicators.csv", response_class=Response)
    def export_indicators(
        actor: Reader, from_at: From, to: To, by: By | None = None, area: Area = "", language: Literal["zh-CN", "en"] = "zh-CN"
    ) -> Response:  # fmt: skip
        """The same as a table for a spreadsheet."""
        text = write_csv(look(actor, from_at, to, by, area), language)
        heads = {"Content-Disposition": 'attachment; filename="indicators.csv"', "Cache-Control": "no-store"}
        return Response(text, media_type="text/csv; charset=utf-8", headers=heads)

    @router.get("/limits", response_model=None, responses={200: {"model": list[LimitBody]}})
    def list_limits(actor: Reader) -> JSONResponse:
        """Every limit: the categories' own, and the narrower ones."""
        with transaction(actor) as connection:
            return JSONResponse([asdict(rule) for rule in limit_store.read_rules(connection)])

    @router.put("/limits", status_code=204)
    def set_limit(actor: Governor, body: LimitBody) -> None:
        """Set a limit; open incidents are counted anew."""
        with transaction(actor) as connection:
            limit_store.write_rule(connection, LimitRule(**body.model_dump()), actor.name, clock.now())

    @router.delete("/limits", status_code=204)
    def delete_limit(actor: Governor, place: Annotated[LimitPlace, Query()]) -> None:
        """Take a narrower limit away; open incidents are counted anew."""
        rule = LimitRule(**place.model_dump(), value=1, unit=LimitUnit.DAY, source="")
        with transaction(actor) as connection:
            limit_store.delete_rule(connection, rule, actor.name, clock.now())

    @router.get("/calendar")
    def read_calendar(actor: Reader) -> dict[str, Any]:
        """The years that have a table, those that are missing soon, and the shifts."""
        with transaction(actor) as connection:
            years = calendar_table.read_years(connection)
            shifts = calendar_table.read_shifts(connection)
        missing = calendar_table.missing_years([year.year for year in years], clock.now().date())
        return {"years": [asdict(year) for year in years], "missing": missing, "shifts": shifts}

    @router.put("/calendar/{year}", status_code=204)
    def import_year(actor: Governor, year: int, body: YearBody) -> None:
        """Put a year's table in place of what is there; open incidents are counted anew."""
        with transaction(actor) as connection:
            try:
                days = calendar_table.parse_days(body.csv, year)
            except calendar_table.CalendarError as error:
                raise ActionRefused("bad_calendar", text=str(error)) from None
            calendar_table.write_year(connection, year, days, source=body.source, by=actor.name, now=clock.now())

    @router.put("/shifts", status_code=204)
    def set_shift(actor: Governor, body: ShiftBody) -> None:
        """Set when a department works; open incidents of its are counted anew."""
        with transaction(actor) as connection:
            try:
                calendar_table.write_shift(
                    connection, body.department, body.from_day, body.periods, by=actor.name, now=clock.now()
                )
            except ShiftError as error:
                raise ActionRefused("bad_calendar", text=str(error)) from None

    @router.get("/emergencies")
    def list_emergencies(actor: Reader) -> dict[str, Any]:
        """The emergencies, the one that lasts first, and the sets of limits there are."""
        with transaction(actor) as connection:
            found = emergency.read_emergencies(connection)
            return {"items": [_tell(one) for one in found], "sets": emergency.read_sets(connection)}

    @router.post("/emergencies", status_code=201)
    def enter(actor: Commander, body: EnterBody) -> dict[str, Any]:
        """Enter an emergency: its limits hold from now on."""
        with transaction(actor) as connection:
            return _tell(emergency.enter_emergency(connection, body.name, body.reason, actor.name, clock.now()))

    @router.post("/emergencies/leave")
    def leave(actor: Commander, body: LeaveBody) -> dict[str, Any]:
        """Leave the emergency that lasts."""
        with transaction(actor) as connection:
            return _tell(emergency.leave_emergency(connection, body.reason, actor.name, clock.now()))

    return router


def _require(actor: Actor, roles: Collection[Role], *, whole_city: bool = False) -> Actor:
    if not actor.roles & set(roles) or (whole_city and actor.scope != "*"):
        raise ActionRefused("not_your_role")
    return actor


def _tell(one: emergency.Emergency) -> dict[str, Any]:
    return {name: text_of(value) for name, value in asdict(one).items()}
