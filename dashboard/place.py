"""Routes about a position: what it is called, and who is competent for something there."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, FiniteFloat

from dashboard.auth import CurrentUser, CurrentWeb
from dashboard.errors import Problem
from dashboard.staff import convert_position
from grid.coordinates import BD09, CGCS2000, GCJ02, CoordinateError, from_cgcs2000
from grid.duty import DutyQuestion, DutyReason, decide_duty, name_street_office
from grid.duty_store import read_duty_rules
from grid.surroundings import Named, Surroundings

router = APIRouter(tags=["map"])
OWNER_LIMIT_M = 5.0
"""A component nearer than this is taken for the one that is meant: its owner and kind count."""

Crs = Annotated[str, Query(max_length=20, description="What lon and lat are in: EPSG:<n>, gcj02, bd09.")]


class AreaName(BaseModel):
    """An area: its code, and its name or ''."""

    code: str
    name: str


class NearComponent(BaseModel):
    """The nearest component, within 50 m."""

    standard: str
    kind: str
    code: str
    name: str
    owner: str
    distance_m: float


class NearFeature(BaseModel):
    """A road within 150 m, or another named place within 100 m; distance 0: the position is in it."""

    name: str
    layer: str
    distance_m: float


class Address(BaseModel):
    """The position in words."""

    zh: str
    en: str


class PlaceView(BaseModel):
    """What a position is called. `lon`, `lat`: CGCS2000; `positions`: the same place in other systems, [x, y]."""

    lon: float
    lat: float
    positions: dict[str, tuple[float, float]]
    cell_code: str | None
    grid: AreaName | None
    community: AreaName | None
    street: AreaName | None
    district: AreaName | None
    component: NearComponent | None
    road: NearFeature | None
    landmark: NearFeature | None
    surface: str
    address: Address


class DutyRuleView(BaseModel):
    """A rule that decided, or one of those that differ."""

    category: str
    component_kind: str
    place_prefix: str
    surface: str
    owner: str
    competent_dept: str
    handling_dept: str
    source: str


class DutyView(BaseModel):
    """Who is competent (主管部门) and who handles (专业部门) at a place. `territorial`: no rule is clear, the street has it."""

    competent_dept: str
    handling_dept: str
    territorial: bool
    reason: DutyReason
    rules: list[DutyRuleView] = Field(description="The rule that decided, or those that differ.")
    surface: str
    owner: str
    component_kind: str
    cell_code: str | None


@router.get("/locate")
def locate(user: CurrentUser, web: CurrentWeb, lon: FiniteFloat, lat: FiniteFloat, crs: Crs = CGCS2000) -> PlaceView:
    """Cell, areas, nearest component and address of a position. Outside every cell the codes are null."""
    found = _survey(user, web, lon, lat, crs)
    place, beside = found.place, found.component
    return PlaceView(
        lon=found.lon,
        lat=found.lat,
        positions=_show_positions(found.lon, found.lat, web.settings.city.metric_crs),
        cell_code=place.cell_code if place else None,
        grid=AreaName(code=place.grid_code, name=place.grid_name) if place and place.grid_code else None,
        community=AreaName(code=place.community_code, name=place.community_name) if place else None,
        street=AreaName(code=place.street_code, name=place.street_name) if place else None,
        district=AreaName(code=place.district_code, name=place.district_name) if place else None,
        component=NearComponent(
            standard=beside.component.standard,
            kind=beside.component.kind,
            code=beside.component.code,
            name=beside.component.name,
            owner=beside.component.owner,
            distance_m=round(beside.distance_m, 2),
        )
        if beside
        else None,
        road=_show_feature(found.road),
        landmark=_show_feature(found.landmark),
        surface=found.surface,
        address=Address(zh=found.address("zh-CN"), en=found.address("en")),
    )


@router.get("/duty")
def show_duty(
    user: CurrentUser,
    web: CurrentWeb,
    category: Annotated[str, Query(max_length=64)],
    lon: FiniteFloat,
    lat: FiniteFloat,
    crs: Crs = CGCS2000,
    surface: Annotated[str | None, Query(max_length=32)] = None,
    owner: Annotated[str | None, Query(max_length=100)] = None,
    component_kind: Annotated[str | None, Query(max_length=32)] = None,
) -> DutyView:
    """Who is competent for a category at a position. `surface`, `owner`, `component_kind`: what is known better than the
    map says; owner and kind are else those of a component within 5 m. 404 `outside_grid`, `unknown_category`."""
    found = _survey(user, web, lon, lat, crs)
    if found.place is None:
        raise Problem(404, "outside_grid", "This position lies in no cell")
    with web.transaction(user) as connection:
        if connection.execute("SELECT FROM category WHERE id = %s", (category,)).fetchone() is None:
            raise Problem(404, "unknown_category", "There is no such category")
        rules = read_duty_rules(connection)
    near = found.component.component if found.component and found.component.distance_m <= OWNER_LIMIT_M else None
    question = DutyQuestion(
        category=category,
        component_kind=component_kind if component_kind is not None else near.kind if near else "",
        place_code=found.place.cell_code,
        surface=surface if surface is not None else found.surface,
        owner=owner if owner is not None else near.owner if near else "",
    )
    duty = decide_duty(rules, question, name_street_office(found.place))
    return DutyView(
        competent_dept=duty.competent_dept,
        handling_dept=duty.handling_dept,
        territorial=duty.territorial,
        reason=duty.reason,
        rules=[
            DutyRuleView(
                category=rule.category,
                component_kind=rule.component_kind,
                place_prefix=rule.place_prefix,
                surface=rule.surface,
                owner=rule.owner,
                competent_dept=rule.competent_dept,
                handling_dept=rule.handling_dept,
                source=rule.source,
            )
            for rule in duty.rules
        ],
        surface=question.surface,
        owner=question.owner,
        component_kind=question.component_kind,
        cell_code=found.place.cell_code,
    )


def _survey(user: CurrentUser, web: CurrentWeb, lon: float, lat: float, crs: str) -> Surroundings:
    """Raises Problem 422 `unknown_crs`, `bad_position`."""
    lon, lat = convert_position(lon, lat, crs)
    with web.transaction(user) as connection:
        surveyor = web.places.surveyor(connection)
    return surveyor.survey(lon, lat)


def _show_feature(found: Named | None) -> NearFeature | None:
    if found is None:
        return None
    return NearFeature(name=found.name, layer=found.layer, distance_m=round(found.distance_m, 1))


def _show_positions(lon: float, lat: float, metric_crs: str) -> dict[str, tuple[float, float]]:
    """The position in every system people here use; metres with millimetres, degrees with seven decimals."""
    shown = {}
    for crs in dict.fromkeys((CGCS2000, metric_crs, GCJ02, BD09)):
        try:
            x, y = from_cgcs2000(lon, lat, crs)
        except CoordinateError:
            continue  # a projection that cannot hold it
        digits = 7 if max(abs(x), abs(y)) <= 360 else 3
        shown[crs] = (round(x, digits), round(y, digits))
    return shown
