"""Routes about what devices measured: curves, the water's class, the level's forecast."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.auth import CurrentUser, CurrentWeb
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.view import WaterView
from devices.forecast import STEP_S, TRAINED_ON, TooLittleDataError, forecast_level
from devices.kinds.river_sluice import KIND as RIVER
from devices.model import DeviceSettings, Metric
from devices.reading import MAX_POINTS, POINT_LIMIT, Series, SeriesError, query_series, series_json
from devices.registry import KINDS
from devices.water import describe_water
from kernel.db import Connection

router = APIRouter(tags=["devices"])
_FORECAST_METHOD = "damped_holt"
_FORECAST_METRICS = ("level_m", "upstream_level_m", "downstream_level_m")


class PointView(BaseModel):
    """One reading, or a bucket: its beginning, mean, least and greatest value, and how many readings it holds."""

    at: datetime
    value: float
    least: float
    greatest: float
    n: int


class GapView(BaseModel):
    """A time without readings, longer than this device usually pauses."""

    model_config = ConfigDict(populate_by_name=True)
    from_at: datetime = Field(alias="from")
    to_at: datetime = Field(alias="to")


class Readings(BaseModel):
    """A metric over time, oldest first. `bucket_s` null: every reading; `gap_s`: a longer pause is a gap."""

    metric: str
    unit: str
    bucket_s: float | None
    gap_s: float
    points: list[PointView]
    gaps: list[GapView]


class ForecastPointView(BaseModel):
    """One step ahead; four of five past errors of this step lay between `low` and `high`, `error_m` is their mean size."""

    at: datetime
    value: float
    low: float
    high: float
    error_m: float


class TrainedOn(BaseModel):
    """The record that the forecast knows: from, to and how many steps of ten minutes."""

    model_config = ConfigDict(populate_by_name=True)
    from_at: datetime = Field(alias="from")
    to_at: datetime = Field(alias="to")
    steps: int


class ForecastView(BaseModel):
    """The next hours, with the errors the same method would have made until now; `persistence_error_m`: of saying "as now"."""

    method: str
    metric: str
    points: list[ForecastPointView]
    mean_absolute_error_m: float
    persistence_error_m: float
    trained_on: TrainedOn


@router.get("/devices/{device_id}/readings", response_model=Readings)
def list_readings(
    device_id: UUID,
    user: CurrentUser,
    web: CurrentWeb,
    metric: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")],
    from_at: Annotated[datetime | None, Query(alias="from")] = None,
    to_at: Annotated[datetime | None, Query(alias="to")] = None,
    bucket_s: Annotated[float | None, Query(ge=0, le=366 * 86_400)] = None,
    hours: Annotated[float, Query(gt=0, le=24 * 366 * 5)] = 24.0,
    max_points: Annotated[int, Query(ge=10, le=POINT_LIMIT)] = MAX_POINTS,
) -> dict[str, Any]:
    """What a device measured from `from` to `to` (now), or in the last `hours`: every reading where they are few, else buckets.

    `bucket_s` asks for buckets of that length, 0 for every reading. 404 `unknown_metric`; 422 `bad_span`, `bad_bucket`,
    `too_many_points`.
    """
    now = web.now()
    end_at = _as_utc(to_at) if to_at else now + timedelta(seconds=1)
    begin_at = _as_utc(from_at) if from_at else end_at - timedelta(hours=hours)
    with web.transaction(user) as connection:
        kind, settings = _find_device(connection, device_id)
        known = {m.name: m for m in _metrics(kind)}
        if metric not in known:
            raise Problem(404, "unknown_metric", "This kind of device has no such metric", metrics=sorted(known))
        series = _query(
            connection, web, device_id, metric, begin_at, end_at, bucket_s, _offline_after_s(kind, settings), max_points
        )
    return series_json(series, known[metric].unit)


@router.get("/devices/{device_id}/water", response_model=WaterView)
def show_water(device_id: UUID, user: CurrentUser, web: CurrentWeb) -> dict[str, Any]:
    """The class of the water at a river station. 404 `no_water` for other devices; 409 `too_little_data` before any item came."""
    with web.transaction(user) as connection:
        _, settings = _find_device(connection, device_id, river=True)
        row = connection.execute("SELECT metrics FROM device_state WHERE device_id = %s", (device_id,)).fetchone()
    found = describe_water(row[0] if row else {}, "lake" if settings.get("water_body") == "lake" else "river")
    if found is None:
        raise Problem(409, "too_little_data", "No item of the standard has been measured", has=0, needs=1)
    return found


@router.get("/devices/{device_id}/forecast")
def show_forecast(
    device_id: UUID,
    user: CurrentUser,
    web: CurrentWeb,
    metric: Annotated[str, Query(max_length=100)] = "level_m",
    hours: Annotated[float, Query(gt=0, le=12)] = 6.0,
) -> ForecastView:
    """A level for the next hours. 404 `unknown_metric`, `no_water`; 409 `too_little_data` with what is there and needed."""
    now = web.now()
    with web.transaction(user) as connection:
        kind, settings = _find_device(connection, device_id, river=True)
        if metric not in _FORECAST_METRICS:
            raise Problem(404, "unknown_metric", "Only levels are forecast", metrics=list(_FORECAST_METRICS))
        begin_at = now - TRAINED_ON
        offline_after_s = _offline_after_s(kind, settings)
        series = _query(connection, web, device_id, metric, begin_at, now, STEP_S, offline_after_s, MAX_POINTS)
    try:
        forecast = forecast_level(series.points, hours, now)
    except TooLittleDataError as error:
        raise Problem(
            409, "too_little_data", "The record is too short for a forecast", has=error.has, needs=error.needs,
            step_s=STEP_S,
        ) from None  # fmt: skip
    return ForecastView(
        method=_FORECAST_METHOD,
        metric=metric,
        points=[
            ForecastPointView(at=p.at, value=p.value, low=p.low, high=p.high, error_m=p.error) for p in forecast.points
        ],
        mean_absolute_error_m=forecast.mean_absolute_error,
        persistence_error_m=forecast.persistence_error,
        trained_on=TrainedOn.model_validate({"from": forecast.from_at, "to": forecast.to_at, "steps": forecast.steps}),
    )


def _query(
    connection: Connection,
    web: Web,
    device_id: UUID,
    metric: str,
    begin_at: datetime,
    end_at: datetime,
    bucket_s: float | None,
    offline_after_s: float,
    max_points: int,
) -> Series:
    now = web.now()
    kept_from = (now - timedelta(days=web.settings.database.reading_retention_days)).astimezone(UTC)
    try:
        return query_series(
            connection,
            device_id,
            metric,
            begin_at,
            end_at,
            bucket_s,
            now=now,
            offline_after_s=offline_after_s,
            raw_from_at=kept_from.replace(hour=0, minute=0, second=0, microsecond=0),
            timezone=web.settings.city.timezone,
            max_points=max_points,
        )
    except SeriesError as error:
        raise Problem(422, error.code, str(error)) from None


def _find_device(connection: Connection, device_id: UUID, *, river: bool = False) -> tuple[str, dict[str, Any]]:
    """(kind, settings) of a device in scope and in use. Raises Problem 404."""
    row = connection.execute("SELECT kind, settings FROM device WHERE id = %s AND enabled", (device_id,)).fetchone()
    if row is None:
        raise Problem(404, "unknown_device", "There is no such device in your scope")
    if river and row[0] != RIVER.name:
        raise Problem(404, "no_water", "Only river stations know the water")
    return row[0], row[1]


def _metrics(kind: str) -> tuple[Metric, ...]:
    return KINDS[kind].metrics if kind in KINDS else ()


def _settings(kind: str, settings: dict[str, Any]) -> DeviceSettings:
    """The device's settings, or the kind's defaults when they do not fit."""
    if kind not in KINDS:
        return DeviceSettings()
    try:
        return KINDS[kind].settings.model_validate(settings)
    except ValidationError:
        return KINDS[kind].settings()


def _offline_after_s(kind: str, settings: dict[str, Any]) -> float:
    return _settings(kind, settings).offline_after_s


def _as_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise Problem(422, "invalid_value", "An instant needs its offset from UTC")
    return instant.astimezone(UTC)
