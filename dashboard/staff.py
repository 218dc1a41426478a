"""Routes about people who go out: the list with duty and open tasks, and where each of them is."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field, FiniteFloat

from dashboard.auth import CurrentUser, CurrentWeb, require
from dashboard.errors import Problem
from dashboard.session import User
from dashboard.store import STAFF_ROLES, JsonObject, read_staff, write_position
from dashboard.view import StaffView
from grid.coordinates import CGCS2000, CoordinateError, CrsError, to_cgcs2000
from kernel.types import Role

router = APIRouter(tags=["people"])
WATCHERS = (Role.OPERATOR, Role.ENGINEER, Role.ADMIN)
_FUTURE_TOLERANCE = timedelta(minutes=5)


class Position(BaseModel):
    """Where a phone is. `crs`: what the coordinates are in; a browser's geolocation is EPSG:4326."""

    lon: FiniteFloat
    lat: FiniteFloat
    accuracy_m: Annotated[FiniteFloat, Field(ge=0)] | None = None
    heading_deg: Annotated[FiniteFloat, Field(ge=0, le=360)] | None = None
    measured_at: AwareDatetime
    crs: Annotated[str, Field(max_length=20)] = CGCS2000


def convert_position(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """CGCS2000 degrees. Raises Problem 422 `unknown_crs`, `bad_position`."""
    try:
        lon, lat = to_cgcs2000(lon, lat, crs)
    except CrsError:
        raise Problem(422, "unknown_crs", "Unknown coordinate system", crs=crs) from None
    except CoordinateError:
        raise Problem(422, "bad_position", "These coordinates are nowhere in that system") from None
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise Problem(422, "bad_position", "These coordinates are nowhere on earth")
    return lon, lat


def check_instant(measured_at: datetime, now: datetime) -> None:
    """Raises Problem 422 `future_dated` for what a wrong clock says has not happened yet."""
    if measured_at > now + _FUTURE_TOLERANCE:
        raise Problem(422, "future_dated", "This is dated in the future; check the clock", now=now.isoformat())


@router.post("/me/position", status_code=204)
def take_position(body: Position, user: CurrentUser, web: CurrentWeb) -> None:
    """Keep where I am. 409 `off_duty`: nobody is followed off duty."""
    now = web.now()
    check_instant(body.measured_at, now)
    lon, lat = convert_position(body.lon, body.lat, body.crs)
    position = body.model_dump(exclude={"crs"}) | {"lon": lon, "lat": lat}
    with web.worker_database.transaction() as connection:
        area_code = web.places.area_code_at(connection, lon, lat)
        kept = write_position(connection, user.id, position, area_code, now)
    if not kept:
        raise Problem(409, "off_duty", "Positions are kept on duty only")


@router.get("/users", response_model=list[StaffView])
def list_users(
    user: Annotated[User, Depends(require(*WATCHERS))], web: CurrentWeb, role: Annotated[Role | None, Query()] = None
) -> list[JsonObject]:
    """People of my scope: those who go out, or those with `role`."""
    with web.transaction(user) as connection:
        return read_staff(connection, roles=[role] if role else STAFF_ROLES)
